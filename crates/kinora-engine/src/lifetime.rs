//! How this process stands to others: it ends with its parent, it lets others go first, and it is
//! the first to be sacrificed when memory runs out.

use std::fs;

use rustix::process::{Signal, set_parent_process_death_signal, setpriority_process};

/// Asks the kernel to end this process with its parent, however that ends. The end of standard
/// input says the same more gently, but only between two steps.
pub fn end_with_parent() {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        tracing::warn!(%error, "the engine may outlive the application");
    }
}

/// When the machine runs out of memory, the kernel should take this process and not the one that
/// holds the queue, the window or the user's other work.
pub fn offer_to_the_oom_killer() {
    if let Err(error) = fs::write("/proc/self/oom_score_adj", "500") {
        tracing::debug!(%error, "the kernel chooses its victims itself");
    }
}

/// Lets interactive programs go first. Counts for threads that are started later.
pub fn be_nice(niceness: i32) {
    // Never back up: whoever started us nicer had a reason.
    let current = rustix::process::getpriority_process(None).unwrap_or(0);
    if niceness > current
        && let Err(error) = setpriority_process(None, niceness)
    {
        tracing::debug!(%error, "could not lower the priority");
    }
}
