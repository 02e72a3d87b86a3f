//! What this process and its machine have in use, for post-mortems.

use std::{fs, time::Instant};

use kinora_core::MemorySample;

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
    fn this_process_and_this_machine_can_be_read() {
        assert!(read_resident() > 1 << 20);
        assert!(read_available() > 0 && read_available() <= read_total());
        let curve = MemoryCurve::start();
        assert_eq!(curve.samples().len(), 1);
        assert!(curve.samples()[0].resident > 0);
    }
}
