//! Errors of the libraries as failures of jobs: a class, words, a hint, and what would help.

use std::io;

use kinora_core::{Code, Failure, Fix};
use kinora_diffusion::Error;

/// What to do about an error that stopped a run.
#[derive(Debug)]
pub enum Verdict {
    /// The run needs more memory than there is; a thriftier one may fit.
    OutOfMemory(Box<Failure>),
    /// The jobs without a picture have an unusable result; the others of their group are fine.
    BadResult(Box<Failure>),
    /// What was kept of an earlier attempt does not fit; without it the job can be done.
    BadCheckpoint(Box<Failure>),
    /// The jobs fail, the engine is well.
    Fail(Box<Failure>),
    /// The device is lost; the engine has to end.
    Lost(Box<Failure>),
}

impl Verdict {
    /// Judges an error; `is_gpu` tells whether the device can be lost at all.
    pub fn of(error: &Error, is_gpu: bool) -> Self {
        let message = error.to_string();
        match error {
            Error::OutOfMemory { needed, available } => {
                Verdict::OutOfMemory(Box::new(out_of_memory(*needed, *available)))
            }
            Error::NotFinite { .. } => Verdict::BadResult(boxed(
                Code::BadResult,
                message,
                "Try another seed, size or number of steps.",
            )),
            Error::BadWeights { .. } => Verdict::Fail(Box::new(bad_weights(message))),
            Error::Weights(error) => Verdict::Fail(Box::new(weights_failure(error))),
            Error::BadRequest(_) => Verdict::Fail(boxed(
                Code::InvalidInput,
                message,
                "Change the settings and submit again.",
            )),
            Error::BadCheckpoint(_) => {
                Verdict::BadCheckpoint(boxed(Code::Internal, message, "Try again from the start."))
            }
            Error::Io { source, .. } => Verdict::Fail(Box::new(io_failure(source, message))),
            Error::Device(_) if is_memory_message(&message) => Verdict::OutOfMemory(boxed(
                Code::OutOfMemory,
                message,
                "Close other programs that use the GPU, or use a smaller size or model.",
            )),
            Error::Device(_) if is_gpu => Verdict::Lost(Box::new(Failure {
                fix: Some(Fix::Retry),
                ..Failure::new(
                    Code::EngineLost,
                    message,
                    "The engine starts anew. If it happens again, look at the driver's log.",
                )
            })),
            // On the processor this is arithmetic on the wrong shapes, and nothing is lost.
            Error::Device(_) | Error::Shape(_) => Verdict::Fail(boxed(
                Code::Internal,
                message,
                "This is a defect of Kinora; please report it with the log.",
            )),
        }
    }
}

fn boxed(code: Code, message: String, hint: &str) -> Box<Failure> {
    Box::new(Failure::new(code, message, hint))
}

/// A plan that does not fit, with both numbers.
pub fn out_of_memory(needed: u64, available: u64) -> Failure {
    Failure::new(
        Code::OutOfMemory,
        format!(
            "fit into memory: {} are needed, and {} may be used",
            format_bytes(needed),
            format_bytes(available)
        ),
        "Close other programs, or use a smaller size or model.",
    )
}

/// A run that is ended before the machine is: its memory, which the GPU shares, is nearly used up.
pub fn short_of_memory(available: u64, floor: u64) -> Failure {
    Failure::new(
        Code::OutOfMemory,
        format!(
            "go on: {} of this machine's memory are left, and below {} it may stop answering",
            format_bytes(available),
            format_bytes(floor)
        ),
        "Close other programs, then try again: it goes on where it was. Or use a smaller size or \
         model.",
    )
}

/// Weights that cannot be used.
pub fn bad_weights(message: String) -> Failure {
    Failure {
        fix: Some(Fix::RepairModel),
        ..Failure::new(
            Code::BadWeights,
            message,
            "Put the model's files right (download them again), then try again.",
        )
    }
}

/// Weights that cannot be read.
pub fn weights_failure(error: &kinora_weights::Error) -> Failure {
    match error {
        // A file that is not there is a matter of the model; one that cannot be read, of the disk.
        kinora_weights::Error::Io { source, .. } if source.kind() != io::ErrorKind::NotFound => {
            io_failure(source, error.to_string())
        }
        _ => bad_weights(error.to_string()),
    }
}

/// A failed read or write.
pub fn io_failure(error: &io::Error, message: String) -> Failure {
    if is_disk_full(error) {
        return Failure {
            fix: Some(Fix::FreeDisk { bytes: None }),
            ..Failure::new(
                Code::DiskFull,
                message,
                "Free some room on that disk, then try again.",
            )
        };
    }
    Failure {
        fix: Some(Fix::Retry),
        ..Failure::new(
            Code::Io,
            message,
            "Look whether the folder is there and writable, then try again.",
        )
    }
}

/// Whether a write failed for want of room: on the disk, in the quota, or below a file-size limit.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::WriteZero
    )
}

/// How drivers say that there is no memory left.
fn is_memory_message(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("out of memory") || message.contains("out_of_memory")
}

/// Bytes for people: `1.4 GiB`.
pub fn format_bytes(bytes: u64) -> String {
    const MIB: f64 = 1_048_576.0;
    let mib = bytes as f64 / MIB;
    if mib >= 1024.0 {
        format!("{:.1} GiB", mib / 1024.0)
    } else {
        format!("{mib:.1} MiB")
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write};

    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_trouble() {
        // The device that is always full, by the kernel's own account.
        let full = File::create("/dev/full")
            .unwrap()
            .write_all(b"x")
            .unwrap_err();
        let failure = io_failure(&full, full.to_string());
        assert_eq!(failure.code, Code::DiskFull);
        assert_eq!(failure.fix, Some(Fix::FreeDisk { bytes: None }));
        let absent = File::open("/nowhere/at/all").unwrap_err();
        assert_eq!(io_failure(&absent, String::new()).code, Code::Io);
    }

    #[test]
    fn errors_have_their_classes() {
        let device = |text: &str| Error::Device(candle_core::Error::Msg(text.to_owned()));
        let class = |error: &Error, is_gpu| match Verdict::of(error, is_gpu) {
            Verdict::OutOfMemory(failure) => ("memory", failure.code),
            Verdict::BadResult(failure) => ("result", failure.code),
            Verdict::BadCheckpoint(failure) => ("checkpoint", failure.code),
            Verdict::Fail(failure) => ("fail", failure.code),
            Verdict::Lost(failure) => ("lost", failure.code),
        };
        let memory = Error::OutOfMemory {
            needed: 3 << 30,
            available: 1 << 29,
        };
        assert_eq!(class(&memory, false), ("memory", Code::OutOfMemory));
        let lost = device("CUDA_ERROR_ILLEGAL_ADDRESS");
        assert_eq!(class(&lost, true), ("lost", Code::EngineLost));
        assert_eq!(class(&lost, false), ("fail", Code::Internal));
        let no_memory = device("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
        assert_eq!(class(&no_memory, true), ("memory", Code::OutOfMemory));
        let weights = Error::bad_weights("a.safetensors", "cut off");
        assert_eq!(class(&weights, false), ("fail", Code::BadWeights));
        let flat = Error::NotFinite {
            stage: "picture",
            fault: "one constant value",
        };
        assert_eq!(class(&flat, true), ("result", Code::BadResult));

        let Verdict::OutOfMemory(failure) = Verdict::of(&memory, false) else {
            panic!("not out of memory");
        };
        assert!(failure.message.contains("3.0 GiB") && failure.message.contains("512.0 MiB"));
    }
}
