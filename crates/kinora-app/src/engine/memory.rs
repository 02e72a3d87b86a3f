//! Memory admission: what the engine may occupy, what a plan needs at least, and the refusal with both
//! numbers. The engine plans exactly, knowing the network; this is the rule that runs before it is
//! asked, from file sizes and pixels alone.

use std::{fs, path::PathBuf};

use kinora_catalog::memory::{MEMINFO, MachineMemory};
use kinora_core::{Code, Failure, Fix, Plan, Size, Stage, engine::Device};

use super::EngineConfig;
use crate::bytes::format_bytes;

const MIB: u64 = 1 << 20;

/// Where the machine's memory is read: the kernel's own files.
///
/// On machines whose GPU shares the memory this is also the GPU's; a driver's "free memory" counts
/// the page cache as used there, so it is never asked.
#[derive(Clone, Debug)]
pub struct MemorySource {
    /// `/proc/meminfo`.
    pub meminfo: PathBuf,
    /// `/proc/vmstat`.
    pub vmstat: PathBuf,
}

impl Default for MemorySource {
    fn default() -> Self {
        Self {
            meminfo: MEMINFO.into(),
            vmstat: "/proc/vmstat".into(),
        }
    }
}

impl MemorySource {
    /// All memory, and how much a program can still get without swapping.
    pub(super) fn read(&self) -> Option<MachineMemory> {
        MachineMemory::read_from(&self.meminfo)
    }

    /// How many programs the kernel has killed for want of memory since it started.
    pub(super) fn count_kernel_kills(&self) -> Option<u64> {
        read_field(&fs::read_to_string(&self.vmstat).ok()?, "oom_kill ")
    }
}

/// The number after a name at the beginning of a line.
fn read_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Resident memory of a process in bytes; 0 when it is gone.
pub(super) fn resident_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    read_field(&status, "VmRSS:")
        .unwrap_or(0)
        .saturating_mul(1024)
}

/// What a plan needs at least, from file sizes and pixels alone.
#[derive(Clone, Copy, Debug)]
pub struct MemoryRule {
    /// Bytes needed by any run, whatever its size.
    pub base: u64,
    /// Bytes per pixel of one picture in the denoiser.
    pub denoise_per_pixel: u64,
    /// Bytes per pixel of one picture, or of one tile, in the decoder.
    pub decode_per_pixel: u64,
    /// Pixels from which on the decoder works in tiles.
    pub tile_pixels: u64,
}

impl Default for MemoryRule {
    fn default() -> Self {
        Self {
            base: 192 * MIB,
            denoise_per_pixel: 768,
            decode_per_pixel: 2048,
            tile_pixels: 512 * 512,
        }
    }
}

impl MemoryRule {
    /// Bytes that a group of plans like this one needs, weights included.
    pub fn estimate(&self, plan: &Plan, jobs: usize) -> u64 {
        let weights =
            (plan.model.weights.iter()).fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
        weights.saturating_add(self.estimate_work(plan.size, jobs))
    }

    fn estimate_work(&self, size: Size, jobs: usize) -> u64 {
        let pixels = size.pixels();
        let denoise = pixels
            .saturating_mul(self.denoise_per_pixel)
            .saturating_mul(jobs as u64);
        let decode = pixels
            .min(self.tile_pixels)
            .saturating_mul(self.decode_per_pixel);
        self.base.saturating_add(denoise).saturating_add(decode)
    }

    /// The largest size of the same shape whose work fits beside the weights.
    fn find_fitting_size(&self, plan: &Plan, budget: u64) -> Option<Size> {
        const GRID: u32 = 16;
        const SMALLEST: u32 = 64;
        (1..16_u32).rev().find_map(|sixteenths| {
            let shrink =
                |pixels: u32| (u64::from(pixels) * u64::from(sixteenths) / 16) as u32 / GRID * GRID;
            let size = Size {
                width: shrink(plan.size.width),
                height: shrink(plan.size.height),
            };
            let smaller = Plan {
                size,
                ..plan.clone()
            };
            let fits = size.width >= SMALLEST
                && size.height >= SMALLEST
                && self.estimate(&smaller, 1) <= budget;
            fits.then_some(size)
        })
    }
}

/// Bytes that models and work may occupy together: what is available and what the engine already
/// holds, less what is left to the rest of the machine.
pub(super) fn budget(config: &EngineConfig, device: Option<&Device>, resident: u64) -> u64 {
    let limit = config.memory_limit.unwrap_or(u64::MAX);
    if let Some(device) = device.filter(|device| device.kind != "cpu" && !device.is_unified) {
        // Memory of its own: the machine's figures say nothing about it.
        return (device.memory - device.memory / 12).min(limit);
    }
    let Some(memory) = config.memory.read() else {
        return limit;
    };
    let reserve = config.memory_reserve.unwrap_or_else(|| memory.reserve());
    memory.budget_above(reserve, resident).min(limit)
}

/// How many jobs like this one are worth running as one group: as many as fit, and not so many that
/// the first picture, or an urgent job behind them, has to wait long.
pub(super) fn limit_group(
    config: &EngineConfig,
    device: Option<&Device>,
    plan: &Plan,
    resident: u64,
) -> usize {
    let is_cpu = device.is_none_or(|device| device.kind == "cpu");
    let (most, pixels) = if is_cpu {
        (4, 1024 * 1024)
    } else {
        (8, 8 * 1024 * 1024)
    };
    let most = config.group_limit.unwrap_or(most);
    let by_size = usize::try_from(pixels / plan.size.pixels().max(1)).unwrap_or(most);
    let budget = budget(config, device, resident);
    let largest = most.min(by_size).max(1);
    (2..=largest)
        .rev()
        .find(|&jobs| config.memory_rule.estimate(plan, jobs) <= budget)
        .unwrap_or(1)
}

/// Refuses a plan that cannot fit, with both numbers and, where there is one, the size that does.
pub(super) fn refuse(rule: &MemoryRule, plan: &Plan, budget: u64) -> Option<Failure> {
    let needed = rule.estimate(plan, 1);
    if needed <= budget {
        return None;
    }
    let smaller = rule.find_fitting_size(plan, budget);
    let hint = match smaller {
        Some(Size { width, height }) => {
            format!("Close other programs, or use {width}×{height}, which fits.")
        }
        None => "Close other programs, or choose a smaller model.".to_owned(),
    };
    let message = format!(
        "run {} at {}×{}: it needs {} of memory, and {} may be used",
        plan.model.name,
        plan.size.width,
        plan.size.height,
        format_bytes(needed),
        format_bytes(budget)
    );
    Some(Failure {
        stage: Some(Stage::Loading),
        fix: smaller.map(|Size { width, height }| Fix::Resize { width, height }),
        ..Failure::new(Code::OutOfMemory, message, hint)
    })
}

#[cfg(test)]
mod tests {
    use kinora_core::{
        Family, ImageFormat, Mode, ModelId, OutputPlan, PlannedModel, Rng, Sampler, Schedule, Seed,
        WeightFile, plan,
    };

    use super::*;

    const GIB: u64 = 1 << 30;

    fn plan(width: u32, height: u32, weights: u64) -> Plan {
        Plan {
            version: plan::PLAN_VERSION,
            numerics: plan::NUMERICS.to_owned(),
            mode: Mode::TextToImage,
            model: PlannedModel {
                components: Default::default(),
                parts: Default::default(),
                id: ModelId::new("m"),
                name: "Model".to_owned(),
                family: Family::Flux,
                variant: "schnell".to_owned(),
                root: PathBuf::new(),
                weights: vec![WeightFile {
                    component: "transformer".to_owned(),
                    file: "t.safetensors".to_owned(),
                    bytes: weights,
                    sha256: None,
                }],
            },
            prompt: String::new(),
            template: None,
            negative_prompt: String::new(),
            source: None,
            draft: None,
            parent: None,
            loras: Vec::new(),
            video: None,
            size: Size { width, height },
            steps: 4,
            guidance: None,
            true_cfg: None,
            step_cache: None,
            seed: Seed(1),
            rng: Rng::Cpu,
            text_tokens: 64,
            sampler: Sampler::Euler,
            schedule: Schedule::FlowMatch,
            output: OutputPlan {
                stem: "a".to_owned(),
                format: ImageFormat::Png.into(),
            },
        }
    }

    #[test]
    fn a_refusal_names_both_numbers_and_the_size_that_fits() {
        let rule = MemoryRule::default();
        let plan = plan(1024, 1024, GIB);
        let needed = rule.estimate(&plan, 1);
        assert_eq!(refuse(&rule, &plan, needed), None);

        let budget = needed - 300 * MIB;
        let refusal = refuse(&rule, &plan, budget).unwrap();
        assert_eq!(refusal.code, Code::OutOfMemory);
        assert!(
            refusal.message.contains(&format_bytes(needed)),
            "{}",
            refusal.message
        );
        assert!(
            refusal.message.contains(&format_bytes(budget)),
            "{}",
            refusal.message
        );
        let Some(Fix::Resize { width, height }) = refusal.fix else {
            panic!("no smaller size: {refusal:?}");
        };
        assert!(width == height && width < 1024 && width.is_multiple_of(16));
        let smaller = Plan {
            size: Size { width, height },
            ..plan.clone()
        };
        assert_eq!(refuse(&rule, &smaller, budget), None);

        // Weights alone are too much: no size helps.
        let refusal = refuse(&rule, &plan, GIB / 2).unwrap();
        assert_eq!(refusal.fix, None);
    }

    #[test]
    fn the_budget_counts_what_the_engine_holds_and_leaves_the_reserve() {
        let folder = tempfile::tempdir().unwrap();
        let meminfo = folder.path().join("meminfo");
        fs::write(
            &meminfo,
            "MemTotal:       10485760 kB\nMemFree:  1 kB\nMemAvailable:    4194304 kB\n",
        )
        .unwrap();
        let mut config = EngineConfig {
            memory: MemorySource {
                meminfo,
                ..MemorySource::default()
            },
            ..EngineConfig::default()
        };
        assert_eq!(budget(&config, None, GIB), 4 * GIB + GIB - GIB);
        config.memory_reserve = Some(5 * GIB);
        assert_eq!(budget(&config, None, 0), 0);
        config.memory_reserve = Some(0);
        config.memory_limit = Some(GIB);
        assert_eq!(budget(&config, None, 0), GIB);

        // A card with memory of its own is not limited by the machine's.
        config.memory_limit = None;
        let card = Device {
            kind: "cuda".to_owned(),
            name: "card".to_owned(),
            is_unified: false,
            memory: 24 * GIB,
        };
        assert_eq!(budget(&config, Some(&card), 0), 22 * GIB);
    }

    #[test]
    fn groups_are_limited_by_size_memory_and_the_setting() {
        let folder = tempfile::tempdir().unwrap();
        let meminfo = folder.path().join("meminfo");
        fs::write(&meminfo, "MemTotal: 8388608 kB\nMemAvailable: 8388608 kB\n").unwrap();
        let config = EngineConfig {
            memory: MemorySource {
                meminfo,
                ..MemorySource::default()
            },
            memory_reserve: Some(0),
            ..EngineConfig::default()
        };
        let limit = |config: &EngineConfig, width, height, weights| {
            limit_group(config, None, &plan(width, height, weights), 0)
        };
        let rule = config.memory_rule;
        let exact = rule.estimate(&plan(256, 256, GIB), 3);
        let tight = EngineConfig {
            memory_limit: Some(exact),
            ..config.clone()
        };
        let wide = EngineConfig {
            group_limit: Some(7),
            ..config.clone()
        };
        assert_eq!(limit(&config, 256, 256, MIB), 4);
        assert_eq!(limit(&config, 1024, 1024, MIB), 1);
        assert_eq!(limit(&tight, 256, 256, GIB), 3);
        assert_eq!(limit(&wide, 256, 256, MIB), 7);
        assert_eq!(limit(&config, 256, 256, 64 * GIB), 1);
    }

    #[test]
    fn this_machine_can_be_read() {
        let memory = MemorySource::default().read().unwrap();
        assert!(memory.available > 0 && memory.available <= memory.total);
        assert!(resident_of(std::process::id()) > MIB);
        assert_eq!(resident_of(u32::MAX), 0);
    }
}
