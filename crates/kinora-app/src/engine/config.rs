//! How the supervisor runs the engine: which program, how patient, how much memory.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use super::{MemoryRule, MemorySource};

/// Everything that can be set about the engine and its supervision.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The program; None: [`find_engine`](super::find_engine) looks for it at every start.
    pub program: Option<PathBuf>,
    /// Its arguments: `serve`, and what `kinora-engine serve --help` lists.
    pub arguments: Vec<OsString>,
    /// Log filter handed to the engine, such as `info` or `kinora_engine=debug`.
    pub log_filter: Option<String>,
    /// How long a fresh engine may take until its first report. A GPU's driver alone takes seconds.
    pub handshake_timeout: Duration,
    /// How long a running engine may stay silent before it counts as hung. One step of a large
    /// model on a CPU takes minutes, so this is long.
    pub stall_timeout: Duration,
    /// How long an engine may take to end when asked, before it is killed.
    pub stop_grace: Duration,
    /// How often a start is tried before the jobs fail.
    pub start_attempts: u32,
    /// Wait before the second start in a row; doubled each time.
    pub backoff: Duration,
    /// Longest wait before a start.
    pub backoff_limit: Duration,
    /// Idle time after which loaded models are given back; None: never.
    pub idle_unload: Option<Duration>,
    /// Memory left to the rest of the machine, in bytes; None: a tenth of it, at most 8 GiB.
    pub memory_reserve: Option<u64>,
    /// Upper limit of the memory for models and work together, in bytes; None: what is there.
    pub memory_limit: Option<u64>,
    /// What a plan needs.
    pub memory_rule: MemoryRule,
    /// Where the machine's memory is read.
    pub memory: MemorySource,
    /// Most jobs of a group; None: 4 on a CPU, 8 on a GPU.
    pub group_limit: Option<usize>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            program: None,
            arguments: vec!["serve".into()],
            log_filter: None,
            handshake_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(20 * 60),
            stop_grace: Duration::from_secs(3),
            start_attempts: 3,
            backoff: Duration::from_millis(100),
            backoff_limit: Duration::from_secs(5),
            idle_unload: Some(Duration::from_secs(5 * 60)),
            memory_reserve: None,
            memory_limit: None,
            memory_rule: MemoryRule::default(),
            memory: MemorySource::default(),
            group_limit: None,
        }
    }
}

impl EngineConfig {
    /// The wait before a start after so many failures in a row: none before the first.
    pub(super) fn backoff_after(&self, failures: u32) -> Duration {
        match failures {
            0 | 1 => Duration::ZERO,
            more => self
                .backoff
                .saturating_mul(1 << (more - 2).min(16))
                .min(self.backoff_limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_later_ones_wait_up_to_the_limit() {
        let config = EngineConfig::default();
        let waits: Vec<u128> = (0..10)
            .map(|failures| config.backoff_after(failures).as_millis())
            .collect();
        assert_eq!(waits, [0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(config.backoff_after(u32::MAX), config.backoff_limit);
    }
}
