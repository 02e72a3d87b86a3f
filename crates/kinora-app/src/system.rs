//! What this machine is, and what is going on in it.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    sync::PoisonError,
    time::{Duration, Instant},
};

use kinora_catalog::memory::MachineMemory;
use kinora_core::engine::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::{
    app::App,
    commands::NoInput,
    error::{Error, Result},
};

/// How long what `nvidia-smi` said counts as current.
const GPU_FRESH: Duration = Duration::from_secs(2);
/// How long `nvidia-smi` may take before it is given up.
const GPU_PATIENCE: Duration = Duration::from_secs(2);
/// Most that is read from it.
const GPU_BYTES: u64 = 64 * 1024;

/// The processor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CpuInfo {
    /// Name of its maker.
    pub name: String,
    /// Logical cores.
    pub cores: u32,
    /// Share in use since the last question, 0 to 1.
    pub used: f32,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryInfo {
    /// What the machine has.
    pub total: u64,
    /// What programs could still get.
    pub available: u64,
    /// What this process occupies.
    pub process: u64,
}

/// A graphics card, as `nvidia-smi` tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuInfo {
    /// Name of its maker.
    pub name: String,
    /// Version of the driver.
    pub driver: Option<String>,
    /// Share in use, 0 to 1.
    pub used: Option<f32>,
    /// Bytes; None on machines whose GPU shares the main memory.
    pub memory_total: Option<u64>,
    /// Bytes.
    pub memory_used: Option<u64>,
    /// Degrees Celsius.
    pub temperature: Option<f32>,
    /// Watts.
    pub power: Option<f32>,
}

/// A folder and the disk under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FolderInfo {
    /// What it is for: `data`, `models`, `outputs`.
    pub name: String,
    /// Where it lies.
    pub path: String,
    /// Bytes free on its disk.
    pub free: u64,
    /// Size of its disk in bytes.
    pub total: u64,
}

/// What the engine is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineState {
    /// It is not running; the next job starts it.
    #[default]
    Stopped,
    /// It is starting.
    Starting,
    /// It waits for jobs.
    Idle,
    /// It runs jobs.
    Running,
    /// It could not be started.
    Unavailable,
}

/// The engine as it is now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EngineStatus {
    /// What it is doing.
    pub state: EngineState,
    /// Process id while there is a process.
    pub pid: Option<u32>,
    /// Version of the program, once it has told.
    pub version: Option<String>,
    /// What it computes on; stays known after it has stopped.
    pub device: Option<Device>,
    /// Loaded models, most recently used first.
    pub models: Vec<String>,
    /// Bytes of their weights.
    pub model_bytes: u64,
    /// Resident memory of the process in bytes.
    pub resident: u64,
    /// How often it was started.
    pub starts: u32,
    /// How it ended the last time, where that was not as asked.
    pub last_failure: Option<String>,
}

/// The machine and the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SystemInfo {
    /// Version of Kinora.
    pub version: String,
    /// Name of the machine.
    pub host: String,
    /// Operating system and its release.
    pub os: String,
    /// Processor architecture: `x86_64`, `aarch64`.
    pub arch: String,
    /// Seconds since the application started.
    pub uptime_seconds: f64,
    /// The processor.
    pub cpu: CpuInfo,
    /// Memory.
    pub memory: MemoryInfo,
    /// Graphics cards; empty: none that `nvidia-smi` knows.
    pub gpus: Vec<GpuInfo>,
    /// The engine process.
    pub engine: EngineStatus,
    /// Folders and the disks under them.
    pub folders: Vec<FolderInfo>,
}

/// What is measured between two questions.
pub(crate) struct Probe {
    /// None on systems that cannot be asked.
    system: Option<System>,
    gpus: Vec<GpuInfo>,
    gpus_at: Option<Instant>,
    /// Set once `nvidia-smi` turned out not to be there; it is not asked again.
    has_no_gpu: bool,
}

impl Probe {
    pub fn new() -> Self {
        let mut system = System::new().ok();
        if let Some(system) = &mut system {
            // Shares in use are told since the last look; this is the first.
            system.refresh_cpu_all();
        }
        Self {
            system,
            gpus: Vec::new(),
            gpus_at: None,
            has_no_gpu: false,
        }
    }

    fn cpu(&mut self) -> CpuInfo {
        let Some(system) = &mut self.system else {
            return CpuInfo::default();
        };
        system.refresh_cpu_usage();
        let cpus = system.cpus();
        let brand = cpus.first().map_or("", |cpu| cpu.brand().trim());
        CpuInfo {
            name: brand.to_owned(),
            cores: u32::try_from(cpus.len()).unwrap_or(u32::MAX),
            used: (system.global_cpu_usage() / 100.0).clamp(0.0, 1.0),
        }
    }

    fn memory(&mut self) -> MemoryInfo {
        let machine = MachineMemory::read();
        let process = self.system.as_mut().map_or(0, |system| {
            let pid = Pid::from_u32(std::process::id());
            system.refresh_processes_specifics(
                ProcessesToUpdate::Some(&[pid]),
                false,
                ProcessRefreshKind::nothing().with_memory(),
            );
            system.process(pid).map_or(0, |process| process.memory())
        });
        MemoryInfo {
            total: machine.map_or(0, |memory| memory.total),
            available: machine.map_or(0, |memory| memory.available),
            process,
        }
    }

    fn gpus(&mut self) -> Vec<GpuInfo> {
        let is_fresh = self.gpus_at.is_some_and(|at| at.elapsed() < GPU_FRESH);
        if !self.has_no_gpu && !is_fresh {
            match ask_nvidia() {
                Ok(gpus) => self.gpus = gpus,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    self.has_no_gpu = true;
                }
                Err(error) => {
                    tracing::debug!(%error, "nvidia-smi does not answer");
                    self.gpus.clear();
                }
            }
            self.gpus_at = Some(Instant::now());
        }
        self.gpus.clone()
    }
}

fn ask_nvidia() -> std::io::Result<Vec<GpuInfo>> {
    let fields =
        "name,driver_version,utilization.gpu,memory.total,memory.used,temperature.gpu,power.draw";
    let mut child = Command::new("nvidia-smi")
        .arg(format!("--query-gpu={fields}"))
        .arg("--format=csv,noheader,nounits")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let begun = Instant::now();
    // A driver in trouble can hang the program for minutes.
    while child.try_wait()?.is_none() {
        if begun.elapsed() > GPU_PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut text = String::new();
    if let Some(output) = child.stdout.take() {
        output.take(GPU_BYTES).read_to_string(&mut text)?;
    }
    Ok(text.lines().filter_map(parse_gpu).collect())
}

/// A line of `nvidia-smi`. Figures that a card does not have read `[N/A]`: on a DGX Spark these are
/// the memory's, which it shares with the processor.
fn parse_gpu(line: &str) -> Option<GpuInfo> {
    const MIB: f64 = 1_048_576.0;
    let mut cells = line.split(',').map(str::trim);
    let name = cells.next()?.to_owned();
    let driver = Some(cells.next()?.to_owned());
    let mut number = || {
        cells
            .next()?
            .parse::<f64>()
            .ok()
            .filter(|number| *number >= 0.0)
    };
    let used = number().map(|percent| (percent / 100.0) as f32);
    Some(GpuInfo {
        name,
        driver,
        used,
        memory_total: number().map(|mib| (mib * MIB) as u64),
        memory_used: number().map(|mib| (mib * MIB) as u64),
        temperature: number().map(|degrees| degrees as f32),
        power: number().map(|watts| watts as f32),
    })
}

/// Room on a disk, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskSpace {
    pub free: u64,
    pub total: u64,
}

/// The disk under a folder; None where that cannot be told.
pub(crate) fn disk_space(folder: &Path) -> Option<DiskSpace> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(DiskSpace {
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

/// What this machine is, what runs on it, and what is free.
pub async fn info(app: &std::sync::Arc<App>, _: NoInput) -> Result<SystemInfo> {
    let app = std::sync::Arc::clone(app);
    let read = move || {
        let (cpu, memory, gpus) = {
            let mut probe = app.probe().lock().unwrap_or_else(PoisonError::into_inner);
            (probe.cpu(), probe.memory(), probe.gpus())
        };
        let config = app.config();
        let folders = [
            ("data", &config.data_dir),
            ("models", &config.models_dir),
            ("outputs", &config.outputs_dir),
        ];
        SystemInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: System::host_name().unwrap_or_default(),
            os: System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.to_owned()),
            arch: std::env::consts::ARCH.to_owned(),
            uptime_seconds: app.started().elapsed().as_secs_f64(),
            cpu,
            memory,
            gpus,
            engine: app.engine_status(),
            folders: folders
                .into_iter()
                .map(|(name, path)| {
                    let disk = disk_space(path);
                    FolderInfo {
                        name: name.to_owned(),
                        path: path.display().to_string(),
                        free: disk.map_or(0, |disk| disk.free),
                        total: disk.map_or(0, |disk| disk.total),
                    }
                })
                .collect(),
        }
    };
    tokio::task::spawn_blocking(read)
        .await
        .map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_read_with_the_figures_that_they_have() {
        let card = parse_gpu("NVIDIA H100 80GB HBM3, 580.95, 37, 81559, 1024, 41, 118.25").unwrap();
        assert_eq!(card.name, "NVIDIA H100 80GB HBM3");
        assert_eq!(card.used, Some(0.37));
        assert_eq!(card.memory_total, Some(81_559 << 20));
        assert_eq!(card.power, Some(118.25));
        let spark = parse_gpu("NVIDIA GB10, 580.95, 3, [N/A], [N/A], 44, 12.5").unwrap();
        assert_eq!((spark.memory_total, spark.memory_used), (None, None));
        assert_eq!(spark.temperature, Some(44.0));
        assert_eq!(parse_gpu(""), None);
        assert_eq!(parse_gpu("No devices were found"), None);
    }

    #[test]
    fn disks_are_measured() {
        let disk = disk_space(Path::new("/")).unwrap();
        assert!(disk.free <= disk.total && disk.total > 0);
        assert!(disk_space(Path::new("/no/such/folder")).is_none());
    }
}
