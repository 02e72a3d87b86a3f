//! What the machine can give to a run: what there is, less a reserve. The one place on this side of
//! the engine's process border that reads it.
//!
//! On unified memory the kernel's `MemAvailable` is the one honest number: the device's own count
//! of free memory leaves out what the page cache would give back.

use std::{fs, path::Path};

/// Memory of the machine. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineMemory {
    /// All of it.
    pub total: u64,
    /// What programs can still get without others being swapped out or killed.
    pub available: u64,
}

/// The kernel's table of memory.
pub const MEMINFO: &str = "/proc/meminfo";

/// At most this much is kept free.
const MAX_RESERVE: u64 = 8 << 30;

impl MachineMemory {
    /// Asks the kernel. None where it does not tell.
    pub fn read() -> Option<Self> {
        Self::read_from(Path::new(MEMINFO))
    }

    /// The same, from a file like the kernel's. None when it cannot be read or says something else.
    pub fn read_from(meminfo: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(meminfo).ok()?)
    }

    /// Reads the text of `/proc/meminfo`.
    pub fn parse(meminfo: &str) -> Option<Self> {
        let number = |name: &str| -> Option<u64> {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            kib.checked_mul(1024)
        };
        Some(Self {
            total: number("MemTotal:")?,
            available: number("MemAvailable:")?,
        })
    }

    /// What is kept free for everything else: a tenth of the machine, at most 8 GiB. A machine
    /// with unified memory that runs out takes the whole desktop with it.
    pub fn reserve(&self) -> u64 {
        (self.total / 10).min(MAX_RESERVE)
    }

    /// What a run may occupy. `held` is what the engine's loaded models occupy already: they are
    /// part of the run, or make room for it.
    pub fn budget(&self, held: u64) -> u64 {
        self.budget_above(self.reserve(), held)
    }

    /// The same, with another reserve.
    pub fn budget_above(&self, reserve: u64, held: u64) -> u64 {
        self.available
            .saturating_add(held)
            .min(self.total)
            .saturating_sub(reserve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "MemTotal:       24676584 kB\nMemFree: 1 kB\nMemAvailable:   23000000 kB\n";
        let memory = MachineMemory::parse(table).unwrap();
        assert_eq!(memory.total, 24_676_584 * 1024);
        assert_eq!(memory.available, 23_000_000 * 1024);
        for bad in [
            "",
            "MemTotal: 5 kB",
            "MemTotal: 5 kB\nMemAvailable: many kB",
            "MemTotal: 5 kB\nMemAvailable: 5",
            "MemTotal: 99999999999999999999 kB\nMemAvailable: 5 kB",
            "MemTotal: 18446744073709551615 kB\nMemAvailable: 5 kB",
        ] {
            assert_eq!(MachineMemory::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_reserve_stays_free() {
        let memory = MachineMemory {
            total: 20 * GB,
            available: 10 * GB,
        };
        assert_eq!(memory.reserve(), 2 * GB);
        assert_eq!(memory.budget(0), 8 * GB);
        assert_eq!(memory.budget_above(GB, 0), 9 * GB);
        // Models that are loaded make room, but no more than there is.
        assert_eq!(memory.budget(3 * GB), 11 * GB);
        assert_eq!(memory.budget(u64::MAX), 18 * GB);
        let large = MachineMemory {
            total: 1 << 40,
            available: 1 << 30,
        };
        assert_eq!(large.reserve(), 8 << 30);
        assert_eq!(large.budget(0), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_tells() {
        let memory = MachineMemory::read().unwrap();
        assert!(memory.available <= memory.total && memory.total > 1 << 27);
    }
}
