//! Clocks and memory of a process that is being measured.
#![allow(dead_code, reason = "each program uses its own part")]

use std::time::Instant;

/// The least time on the clock and the least time of processors that one of `rounds` calls takes,
/// after one that is not timed, in milliseconds: what the machine does when nothing else runs.
pub fn best<T, E>(rounds: usize, mut call: impl FnMut() -> Result<T, E>) -> Result<(f64, f64), E> {
    call()?;
    let mut best = (f64::INFINITY, f64::INFINITY);
    for _ in 0..rounds {
        let (start, busy) = (Instant::now(), processor_ms());
        call()?;
        best.0 = best.0.min(start.elapsed().as_secs_f64() * 1000.0);
        best.1 = best.1.min(processor_ms() - busy);
    }
    Ok(best)
}

/// Milliseconds that processors have spent on this process's threads; NaN where the system does
/// not tell.
fn processor_ms() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return f64::NAN;
    };
    threads
        .flatten()
        .filter_map(|thread| {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<f64>().ok()
        })
        .sum::<f64>()
        / 1e6
}

/// Bytes that the process has in memory now, and that it had at most since [`forget_peak`]; zeros
/// where the system does not tell.
pub fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// From now on the peak is counted anew.
pub fn forget_peak() {
    // Where it cannot be done, the peak is that of the whole process, which is no less.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
