//! The engine's process: it is started, its pipes are pumped, it is waited for, stopped or killed.
//!
//! Its parent is a thread of its own that lives until the process is gone. The engine asks the
//! kernel to be killed with its parent, and the kernel means the *thread*: a thread of an async
//! runtime's pool may end long before the application does.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc as sync_mpsc},
    thread,
    time::Duration,
};

use kinora_core::{
    Code, Failure, Fix,
    engine::{Command, Device, PROTOCOL, Report},
};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    EngineConfig, EngineState, EngineStatus, Exit,
    exit::MemoryEvidence,
    locate::{find_engine, select_environment},
    tail::{Tail, shorten},
};

/// Longest line accepted from the engine, in bytes. A `Done` with a long prompt is some 20 KB.
const LINE_LIMIT: u64 = 8 << 20;

/// How long reports may keep coming after the process has ended.
const DRAIN: Duration = Duration::from_secs(2);

/// Why an engine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program is nowhere.
    #[error("find the engine: there is no such program at {}", list(searched))]
    NotFound {
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// The program is there, and the system would not run it.
    #[error("start the engine {}: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It runs, and did not say that it is ready.
    #[error("start the engine: it was not ready after {} seconds", after.as_secs_f32())]
    Timeout {
        /// How long it was given.
        after: Duration,
    },
    /// It is of another version.
    #[error("start the engine {}: it speaks protocol {theirs}, this program {PROTOCOL}", program.display())]
    Protocol {
        /// The program.
        program: PathBuf,
        /// Its number.
        theirs: u32,
    },
    /// It ended before it was ready.
    #[error("start the engine: {exit}")]
    Ended {
        /// How it ended.
        exit: Exit,
        /// Its last lines.
        log: Vec<String>,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let mut text = String::new();
    for path in paths.iter().take(4) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&path.display().to_string());
    }
    text
}

impl StartError {
    /// Whether another attempt would end the same way.
    pub(super) fn is_permanent(&self) -> bool {
        matches!(
            self,
            StartError::NotFound { .. } | StartError::Protocol { .. } | StartError::Spawn { .. }
        )
    }

    /// The post-mortem of a job that could not begin.
    pub(super) fn to_failure(&self) -> Failure {
        let hint = match self {
            StartError::NotFound { .. } => {
                "Install kinora-engine beside this program, or set KINORA_ENGINE to its path."
            }
            StartError::Protocol { .. } => "Install the engine that came with this program.",
            StartError::Spawn { .. } => "Look whether the program may be run on this machine.",
            StartError::Timeout { .. } | StartError::Ended { .. } => {
                "Try again; the log tells what the engine was doing."
            }
        };
        let mut failure = Failure::new(Code::EngineUnavailable, self.to_string(), hint);
        failure.fix = Some(Fix::Retry);
        if let StartError::Ended { log, .. } = self {
            failure.log.clone_from(log);
        }
        failure
    }
}

/// What comes out of the process, in order. `Exited` is the last.
#[derive(Debug)]
pub(super) enum ChildEvent {
    Report(Report),
    Exited(ExitStatus),
}

/// A running engine that has said it is ready.
pub(super) struct Child {
    pub handle: Handle,
    pub device: Device,
    pub events: mpsc::UnboundedReceiver<ChildEvent>,
    pub tail: Arc<Tail>,
}

/// The part of a [`Child`] that others than its session may use.
#[derive(Clone)]
pub(super) struct Handle {
    pub pid: u32,
    process: Arc<Process>,
    commands: sync_mpsc::Sender<Command>,
}

impl Handle {
    /// Sends a command; an engine that is gone will be noticed by its `Exited`.
    pub fn send(&self, command: Command) {
        // The writer ends only with the process, whose end is an event of its own.
        let _ = self.commands.send(command);
    }

    /// Ends the process at once.
    pub fn kill(&self) {
        self.process.kill();
    }
}

/// The process itself, killed only as long as its id is certainly its own.
struct Process {
    pid: Pid,
    child: Mutex<Option<process::Child>>,
}

impl Process {
    fn kill(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = child.as_mut()
            && let Err(error) = child.kill()
        {
            tracing::warn!(%error, "could not kill the engine");
        }
    }

    /// Waits for the end without holding the lock that `kill` needs.
    fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            // The id stays taken until the status is collected below, so `kill` cannot miss.
            match waitid(
                WaitId::Pid(self.pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            ) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        match child.take() {
            Some(mut child) => child.wait(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Child {
    /// Starts the engine and waits until it is ready.
    pub async fn start(
        config: &EngineConfig,
        status: &Arc<watch::Sender<EngineStatus>>,
    ) -> Result<Self, StartError> {
        let program = match &config.program {
            Some(program) => program.clone(),
            None => find_engine().map_err(|searched| StartError::NotFound { searched })?,
        };
        let (handle, mut events, tail) = spawn(&program, config, status).await?;
        // It is also ended when nobody waits for the start any more.
        let starting = Starting {
            handle,
            is_ready: false,
        };
        let greeting = shake_hands(&program, &mut events, &tail);
        match tokio::time::timeout(config.handshake_timeout, greeting).await {
            Ok(device) => Ok(Self {
                device: device?,
                handle: starting.succeed(),
                events,
                tail,
            }),
            Err(_) => Err(StartError::Timeout {
                after: config.handshake_timeout,
            }),
        }
    }

    /// Whether the process has ended. Reports that nobody waits for any more are dropped.
    pub fn has_ended(&mut self) -> bool {
        loop {
            match self.events.try_recv() {
                Ok(ChildEvent::Exited(_)) | Err(mpsc::error::TryRecvError::Disconnected) => {
                    return true;
                }
                Ok(ChildEvent::Report(_)) => {}
                Err(mpsc::error::TryRecvError::Empty) => return false,
            }
        }
    }

    /// Waits for the end of the process; false when it takes longer than allowed.
    pub async fn wait(&mut self, patience: Duration) -> bool {
        let ended = async {
            while let Some(event) = self.events.recv().await {
                if matches!(event, ChildEvent::Exited(_)) {
                    break;
                }
            }
        };
        tokio::time::timeout(patience, ended).await.is_ok()
    }

    /// Asks the engine to end, and kills it when it does not.
    pub async fn stop(mut self, grace: Duration) {
        self.handle.send(Command::Shutdown);
        if !self.wait(grace).await {
            tracing::warn!(pid = self.handle.pid, "the engine did not end when asked");
            self.handle.kill();
            self.wait(DRAIN).await;
        }
    }
}

/// Waits for the first report, which has to say that the engine is ready and speaks our language.
async fn shake_hands(
    program: &Path,
    events: &mut mpsc::UnboundedReceiver<ChildEvent>,
    tail: &Tail,
) -> Result<Device, StartError> {
    loop {
        match events.recv().await {
            Some(ChildEvent::Report(Report::Ready {
                protocol,
                version,
                device,
                ..
            })) => {
                if protocol != PROTOCOL {
                    return Err(StartError::Protocol {
                        program: program.to_path_buf(),
                        theirs: protocol,
                    });
                }
                if version != env!("CARGO_PKG_VERSION") {
                    tracing::warn!(engine = version, "the engine is of another version");
                }
                return Ok(device);
            }
            Some(ChildEvent::Report(Report::Fatal { failure })) => {
                let exit = Exit::Lost(failure);
                let log = tail.lines();
                return Err(StartError::Ended { exit, log });
            }
            Some(ChildEvent::Report(report)) => {
                tracing::warn!(?report, "the engine reported before it was ready");
            }
            Some(ChildEvent::Exited(status)) => {
                let no_evidence = MemoryEvidence {
                    lowest_available: u64::MAX,
                    total: 0,
                    has_kernel_killed: false,
                };
                let exit = Exit::classify(status, no_evidence);
                let log = tail.lines();
                return Err(StartError::Ended { exit, log });
            }
            None => {
                let exit = Exit::Left { code: -1 };
                let log = tail.lines();
                return Err(StartError::Ended { exit, log });
            }
        }
    }
}

/// A process that is killed unless its start succeeds.
struct Starting {
    handle: Handle,
    is_ready: bool,
}

impl Starting {
    fn succeed(mut self) -> Handle {
        self.is_ready = true;
        self.handle.clone()
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if !self.is_ready {
            self.handle.kill();
        }
    }
}

type Spawned = (Handle, mpsc::UnboundedReceiver<ChildEvent>, Arc<Tail>);

async fn spawn(
    program: &Path,
    config: &EngineConfig,
    status: &Arc<watch::Sender<EngineStatus>>,
) -> Result<Spawned, StartError> {
    let mut command = process::Command::new(program);
    command
        .args(&config.arguments)
        .env_clear()
        .envs(select_environment(std::env::vars_os()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C in a terminal is for the application, which then ends the engine in good order.
        .process_group(0);
    // The AV1 encoder prints a banner for every clip otherwise; 1 is errors alone.
    command.env("SVT_LOG", "1");
    if let Some(filter) = &config.log_filter {
        command.env("KINORA_LOG", filter);
    }
    let (spawned, answer) = oneshot::channel();
    let status = Arc::clone(status);
    let parent = move || match launch(command, &status) {
        Ok((parts, pumps)) => {
            if spawned.send(Ok(parts)).is_err() {
                // Nobody waits for it any more.
                pumps.process.kill();
            }
            pumps.finish(&status);
        }
        Err(error) => {
            let _ = spawned.send(Err(error));
        }
    };
    let fail = |source| StartError::Spawn {
        program: program.to_path_buf(),
        source,
    };
    thread::Builder::new()
        .name("engine-parent".to_owned())
        .spawn(parent)
        .map_err(fail)?;
    match answer.await {
        Ok(answer) => answer.map_err(fail),
        Err(_) => Err(fail(io::Error::other("the thread that starts it ended"))),
    }
}

/// What the parent thread keeps: it waits for the process and tells its end.
struct Pumps {
    process: Arc<Process>,
    events: mpsc::UnboundedSender<ChildEvent>,
    /// Closed once both pipes were read to their ends.
    pipes: sync_mpsc::Receiver<()>,
}

fn launch(
    mut command: process::Command,
    status: &Arc<watch::Sender<EngineStatus>>,
) -> io::Result<(Spawned, Pumps)> {
    let mut child = command.spawn()?;
    let pid = child.id();
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(io::Error::other("it has no pipes"));
    };
    let process = Arc::new(Process {
        pid: Pid::from_child(&child),
        child: Mutex::new(Some(child)),
    });
    let tail = Arc::new(Tail::default());
    status.send_modify(|status| {
        status.pid = Some(pid);
        status.starts += 1;
    });

    let (commands, to_write) = sync_mpsc::channel::<Command>();
    thread::Builder::new()
        .name("engine-stdin".to_owned())
        .spawn(move || {
            for command in to_write {
                if let Err(error) = write_line(&mut stdin, &command) {
                    tracing::debug!(%error, "the engine does not listen any more");
                    break;
                }
            }
        })?;

    // Nothing is ever sent: each reader drops its end when its pipe is empty.
    let (stdout_end, pipes) = sync_mpsc::channel();
    let stderr_end = stdout_end.clone();

    let lines = Arc::clone(&tail);
    thread::Builder::new()
        .name("engine-stderr".to_owned())
        .spawn(move || {
            read_lines(stderr, |line| {
                lines.push(line);
                log_line(line);
            });
            drop(stderr_end);
        })?;

    let (events, received) = mpsc::unbounded_channel();
    let reports = events.clone();
    let shown = Arc::clone(status);
    thread::Builder::new()
        .name("engine-stdout".to_owned())
        .spawn(move || {
            read_lines(stdout, |line| match serde_json::from_str(line) {
                Ok(report) => {
                    show_report(&shown, pid, &report);
                    let _ = reports.send(ChildEvent::Report(report));
                }
                Err(error) => {
                    let line = shorten(line, 200);
                    tracing::warn!(%error, line, "the engine wrote something that is no report");
                }
            });
            drop(stdout_end);
        })?;

    let handle = Handle {
        pid,
        process: Arc::clone(&process),
        commands,
    };
    let pumps = Pumps {
        process,
        events,
        pipes,
    };
    Ok(((handle, received, tail), pumps))
}

impl Pumps {
    /// Waits for the end, lets the last reports and log lines through, and tells it.
    fn finish(self, status: &watch::Sender<EngineStatus>) {
        let pid = self.process.pid.as_raw_nonzero().get().unsigned_abs();
        match self.process.wait() {
            Ok(exit) => {
                tracing::debug!(pid, %exit, "the engine ended");
                // Bounded, for another process may have inherited a pipe.
                let _ = self.pipes.recv_timeout(DRAIN);
                status.send_if_modified(|status| {
                    let is_mine = status.pid == Some(pid);
                    if is_mine {
                        status.pid = None;
                        if status.state != EngineState::Unavailable {
                            status.state = EngineState::Stopped;
                        }
                        status.models.clear();
                        status.model_bytes = 0;
                    }
                    is_mine
                });
                let _ = self.events.send(ChildEvent::Exited(exit));
            }
            Err(error) => tracing::error!(pid, %error, "lost track of the engine"),
        }
    }
}

fn write_line(stdin: &mut process::ChildStdin, command: &Command) -> io::Result<()> {
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    stdin.write_all(&line)?;
    stdin.flush()
}

/// Hands on every line of a pipe until its end. Lines that are too long are cut into pieces, bytes
/// that are no text are replaced: nothing that is written there can stop the reading.
fn read_lines(pipe: impl Read, mut take: impl FnMut(&str)) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader
            .by_ref()
            .take(LINE_LIMIT)
            .read_until(b'\n', &mut line)
        {
            Ok(0) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end();
                if !text.is_empty() {
                    take(text);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::debug!(%error, "a pipe of the engine broke");
                return;
            }
        }
    }
}

/// Passes a line of the engine's log on at the level that it begins with.
fn log_line(line: &str) {
    const TARGET: &str = "kinora_engine";
    let (level, rest) = line.trim_start().split_once(' ').unwrap_or(("", line));
    match level {
        "ERROR" => tracing::error!(target: TARGET, "{rest}"),
        "WARN" => tracing::warn!(target: TARGET, "{rest}"),
        "DEBUG" | "TRACE" => tracing::debug!(target: TARGET, "{rest}"),
        "INFO" => tracing::info!(target: TARGET, "{rest}"),
        _ => tracing::info!(target: TARGET, "{line}"),
    }
}

/// Keeps what hosts are shown up to date, as long as it is about the current process.
fn show_report(status: &watch::Sender<EngineStatus>, pid: u32, report: &Report) {
    status.send_if_modified(|status| {
        if status.pid != Some(pid) {
            return false;
        }
        match report {
            Report::Ready {
                version, device, ..
            } => {
                status.version = Some(version.clone());
                status.device = Some(device.clone());
                true
            }
            Report::Loaded { models, bytes } => {
                status.models.clone_from(models);
                status.model_bytes = *bytes;
                true
            }
            _ => false,
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_on_a_pipe_stops_the_reading() {
        let mut bytes = vec![b'x'; LINE_LIMIT as usize + 3];
        bytes.extend_from_slice(b"\n\n\xff\xfe\nlast");
        let mut lines = Vec::new();
        read_lines(bytes.as_slice(), |line| lines.push(line.to_owned()));
        let lengths: Vec<usize> = lines.iter().map(String::len).collect();
        assert_eq!(lengths, [LINE_LIMIT as usize, 3, 6, 4]);
        assert_eq!(lines[2..], ["\u{fffd}\u{fffd}", "last"]);
    }
}
