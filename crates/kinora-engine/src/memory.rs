//! What this process and its machine have in use: for post-mortems, and so that a GPU which shares
//! the machine's memory leaves enough of it.

use std::{
    fs::{self, File},
    path::Path,
    time::Instant,
};

use kinora_core::{MemorySample, engine::Device};

/// Samples kept: every second one is forgotten when there are more.
const SAMPLE_LIMIT: usize = 120;

/// Memory over one run, thinned out as it gets longer.
#[derive(Debug)]
pub struct MemoryCurve {
    began: Instant,
    samples: Vec<MemorySample>,
    interval_ms: u64,
}

impl MemoryCurve {
    /// A curve that begins now, with a sample.
    pub fn start() -> Self {
        let mut curve = Self {
            began: Instant::now(),
            samples: Vec::new(),
            interval_ms: 250,
        };
        curve.sample();
        curve
    }

    /// Takes a sample unless the last one is fresh.
    pub fn sample(&mut self) {
        let at_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let is_due =
            (self.samples.last()).is_none_or(|last| at_ms >= last.at_ms + self.interval_ms);
        if !is_due {
            return;
        }
        if self.samples.len() == SAMPLE_LIMIT {
            let mut place = 0;
            self.samples.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.interval_ms *= 2;
        }
        self.samples.push(MemorySample {
            at_ms,
            resident: read_resident(),
            available: read_available(),
        });
    }

    /// The curve so far, oldest first.
    pub fn samples(&self) -> Vec<MemorySample> {
        self.samples.clone()
    }
}

/// Resident memory of this process in bytes.
pub fn read_resident() -> u64 {
    read_kilobytes("/proc/self/status", "VmRSS:")
}

/// What a program can still get on this machine without swapping, in bytes.
pub fn read_available() -> u64 {
    read_kilobytes("/proc/meminfo", "MemAvailable:")
}

/// All memory of this machine in bytes.
pub fn read_total() -> u64 {
    read_kilobytes("/proc/meminfo", "MemTotal:")
}

/// Bytes that must stay available while a device works that takes its memory from the machine's
/// without the kernel being able to end it for that: below it the whole machine may stop answering.
/// 0: the kernel sees to it.
pub fn floor_of(device: &Device) -> u64 {
    if device.is_unified && device.kind != "cpu" {
        device.memory / 32
    } else {
        0
    }
}

/// Gives back the memory in which the kernel keeps a copy of a file that was read, where it can.
pub fn forget_pages(path: &Path) {
    let forgotten = File::open(path).and_then(|file| {
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        Ok(())
    });
    if let Err(error) = forgotten {
        // It is a matter of room only, and the kernel will take it when it must.
        tracing::debug!(path = %path.display(), %error, "its pages stay in memory");
    }
}

/// A field of one of the kernel's tables, in bytes; 0 where there is none.
fn read_kilobytes(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gpu_that_shares_the_machines_memory_has_to_leave_some() {
        let device = |kind: &str, is_unified| Device {
            kind: kind.to_owned(),
            name: "it".to_owned(),
            is_unified,
            memory: 128 << 30,
        };
        assert_eq!(floor_of(&device("cpu", true)), 0);
        assert_eq!(floor_of(&device("cuda", false)), 0);
        assert_eq!(floor_of(&device("cuda", true)), 4 << 30);
    }

    #[test]
    fn a_file_is_whole_after_its_pages_were_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        fs::write(&path, vec![7; 1 << 20]).unwrap();
        forget_pages(&path);
        forget_pages(&folder.path().join("none"));
        assert_eq!(fs::read(&path).unwrap(), vec![7; 1 << 20]);
    }

    #[test]
    fn this_process_and_this_machine_can_be_read() {
        assert!(read_resident() > 1 << 20);
        assert!(read_available() > 0 && read_available() <= read_total());
        let curve = MemoryCurve::start();
        assert_eq!(curve.samples().len(), 1);
        assert!(curve.samples()[0].resident > 0);
    }
}
