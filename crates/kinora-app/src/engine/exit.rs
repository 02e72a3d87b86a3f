//! How an engine ended, and what is told to the jobs that it took along.

use std::{fmt, os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use kinora_core::{Code, Failure, Fix, MemorySample, Outcome};

use crate::bytes::format_bytes;

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// The end of an engine that was not asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Exit {
    /// Killed from outside (SIGKILL), with enough memory left.
    Killed,
    /// Killed by the kernel for want of memory, as far as can be told.
    KilledForMemory {
        /// Least memory that was available in the moments before, in bytes.
        available: u64,
    },
    /// Ended by another signal: it crashed.
    Crashed {
        /// Number of the signal.
        signal: i32,
    },
    /// It ended by itself in the middle of its work.
    Left {
        /// Exit code.
        code: i32,
    },
    /// It said nothing for too long, and was killed.
    Hung {
        /// How long it was silent.
        silent: Duration,
    },
    /// It broke the protocol, and was killed.
    Confused {
        /// What it did.
        what: String,
    },
    /// It reported a lost device before it ended.
    Lost(Box<Failure>),
    /// The application is closing.
    Stopped,
}

/// What was seen of memory around the end of an engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryEvidence {
    /// Least available memory in the last moments, in bytes.
    pub lowest_available: u64,
    /// All memory of the machine, in bytes.
    pub total: u64,
    /// Whether the kernel's count of out-of-memory kills rose.
    pub has_kernel_killed: bool,
}

impl MemoryEvidence {
    /// Below a thirty-second of its memory a machine is in distress: the kernel kills around there.
    fn is_short(&self) -> bool {
        self.has_kernel_killed || self.lowest_available < self.total / 32
    }
}

impl Exit {
    /// Tells the kinds of ends apart by what the kernel reported and what was seen of memory.
    pub(super) fn classify(status: ExitStatus, memory: MemoryEvidence) -> Self {
        match (status.signal(), status.code()) {
            (Some(SIGKILL), _) if memory.is_short() => Exit::KilledForMemory {
                available: memory.lowest_available,
            },
            (Some(SIGKILL), _) => Exit::Killed,
            (Some(signal), _) => Exit::Crashed { signal },
            (None, code) => Exit::Left {
                code: code.unwrap_or(-1),
            },
        }
    }

    /// Whether someone else ended the engine, for reasons of their own.
    pub(super) fn is_from_outside(&self) -> bool {
        match self {
            Exit::Killed | Exit::Stopped => true,
            Exit::Crashed { signal } => matches!(*signal, SIGHUP | SIGINT | SIGTERM),
            _ => false,
        }
    }

    /// How the attempt of a job ends whose engine ended so.
    pub(super) fn into_outcome(self, log: Vec<String>, memory: Vec<MemorySample>) -> Outcome {
        let is_from_outside = self.is_from_outside();
        let failure = Box::new(self.into_failure(log, memory));
        if is_from_outside {
            Outcome::Interrupted(failure)
        } else {
            Outcome::Died(failure)
        }
    }

    /// The post-mortem of a job whose engine ended so.
    pub(super) fn into_failure(self, log: Vec<String>, memory: Vec<MemorySample>) -> Failure {
        let message = self.to_string();
        let mut failure = match self {
            Exit::Lost(failure) => *failure,
            Exit::KilledForMemory { .. } => Failure {
                fix: Some(Fix::Retry),
                ..Failure::new(
                    Code::OutOfMemory,
                    message,
                    "Close other programs or choose a smaller size or model, then try again.",
                )
            },
            Exit::Killed | Exit::Stopped => Failure {
                fix: Some(Fix::Retry),
                ..Failure::new(Code::EngineLost, message, "Try again.")
            },
            Exit::Hung { .. }
            | Exit::Crashed { .. }
            | Exit::Left { .. }
            | Exit::Confused { .. } => Failure {
                fix: Some(Fix::Retry),
                ..Failure::new(
                    Code::EngineLost,
                    message,
                    "Try again. If it happens with other jobs too, look at the log for the cause.",
                )
            },
        };
        if failure.log.is_empty() {
            failure.log = log;
        }
        if failure.memory.is_empty() {
            failure.memory = memory;
        }
        failure
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Killed => f.write_str("finish: the engine was killed from outside"),
            Exit::KilledForMemory { available } => write!(
                f,
                "finish: the engine was killed when the machine had only {} of memory left",
                format_bytes(*available)
            ),
            Exit::Crashed { signal } => {
                write!(f, "finish: the engine crashed ({})", signal_name(*signal))
            }
            Exit::Left { code } => write!(f, "finish: the engine ended with exit code {code}"),
            Exit::Hung { silent } => write!(
                f,
                "finish: the engine did not answer for {} seconds and was stopped",
                silent.as_secs_f32().round()
            ),
            Exit::Confused { what } => {
                write!(f, "finish: the engine broke its protocol ({what})")
            }
            Exit::Lost(failure) => f.write_str(&failure.message),
            Exit::Stopped => f.write_str("finish: the application was closed"),
        }
    }
}

/// The usual names of the signals that end a program which computes.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        4 => "SIGILL, an instruction that this processor does not have",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        11 => "SIGSEGV",
        SIGTERM => "SIGTERM",
        25 => "SIGXFSZ, a file larger than allowed",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: MemoryEvidence = MemoryEvidence {
        lowest_available: 8 << 30,
        total: 16 << 30,
        has_kernel_killed: false,
    };

    fn classify(wait_status: i32, memory: MemoryEvidence) -> Exit {
        Exit::classify(ExitStatus::from_raw(wait_status), memory)
    }

    #[test]
    fn a_kill_is_blamed_on_memory_only_with_evidence() {
        assert_eq!(classify(9, PLENTY), Exit::Killed);
        let short = MemoryEvidence {
            lowest_available: 100 << 20,
            ..PLENTY
        };
        let available = short.lowest_available;
        assert_eq!(classify(9, short), Exit::KilledForMemory { available });
        let counted = MemoryEvidence {
            has_kernel_killed: true,
            ..PLENTY
        };
        assert!(matches!(classify(9, counted), Exit::KilledForMemory { .. }));
        // A crash stays a crash, however little memory there was.
        assert_eq!(classify(11, short), Exit::Crashed { signal: 11 });
        assert_eq!(classify(3 << 8, short), Exit::Left { code: 3 });
    }

    #[test]
    fn jobs_are_blamed_for_crashes_and_not_for_kills_from_outside() {
        let is_blamed = |exit: Exit| matches!(exit.into_outcome(vec![], vec![]), Outcome::Died(_));
        assert!(!is_blamed(Exit::Killed));
        assert!(!is_blamed(Exit::Stopped));
        assert!(!is_blamed(Exit::Crashed { signal: SIGTERM }));
        assert!(is_blamed(Exit::Crashed { signal: 11 }));
        assert!(is_blamed(Exit::KilledForMemory { available: 0 }));
        assert!(is_blamed(Exit::Left { code: 1 }));
        assert!(is_blamed(Exit::Hung {
            silent: Duration::ZERO
        }));
    }

    #[test]
    fn a_post_mortem_has_a_class_a_hint_and_the_last_lines() {
        let log = vec!["last words".to_owned()];
        let sample = MemorySample {
            at_ms: 5,
            resident: 1,
            available: 2,
        };
        let failure = Exit::Crashed { signal: 11 }.into_failure(log.clone(), vec![sample]);
        assert_eq!(failure.code, Code::EngineLost);
        assert!(failure.message.contains("SIGSEGV"));
        assert_eq!((failure.log, failure.memory), (log, vec![sample]));
        let failure = Exit::KilledForMemory { available: 1 << 20 }.into_failure(vec![], vec![]);
        assert_eq!(failure.code, Code::OutOfMemory);
        assert!(failure.message.contains("1.0 MiB"));
    }
}
