//! What the machine has. What a run needs is told by [`kinora_weights::memory`], which the
//! application asks too.

use std::fs;

pub(crate) use kinora_weights::memory::{
    CHUNK, SMALLEST_TILE, activations, decode, unet_activations,
};
pub use kinora_weights::memory::{Estimate, estimate};

/// Bytes that programs can still get without others being swapped out or killed: `MemAvailable`.
/// None where the system does not tell.
pub fn available() -> Option<u64> {
    parse_available(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_table_is_read() {
        let table = "MemTotal:       24676584 kB\nMemFree: 1 kB\nMemAvailable:   23000000 kB\n";
        assert_eq!(parse_available(table), Some(23_000_000 * 1024));
        assert_eq!(parse_available("MemTotal: 5 kB"), None);
        assert_eq!(parse_available("MemAvailable: many kB"), None);
    }
}
