//! Standard input: commands, read by a thread of its own so that a cancellation arrives in the
//! middle of a run.

use std::io::{BufRead, BufReader, Read};

use crossbeam_channel::Sender;
use kinora_core::{Work, engine::Command};

use crate::control::Control;

/// Longest command accepted, in bytes.
const LINE_LIMIT: u64 = 64 << 20;

/// What is left for the GPU thread to do; its end is the end of the channel.
#[derive(Debug)]
pub enum Order {
    /// Run a group.
    Run {
        /// Number of the group.
        group: u64,
        /// The jobs.
        works: Vec<Work>,
        /// Bytes for models and work together.
        memory_budget: u64,
    },
    /// Forget all models.
    Unload,
    /// The application speaks another language; there is no point in going on.
    Nonsense(String),
}

/// Reads commands until the application leaves or asks for the end.
pub fn read(input: impl Read, control: &Control, orders: &Sender<Order>) {
    let mut reader = BufReader::new(input);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader
            .by_ref()
            .take(LINE_LIMIT)
            .read_until(b'\n', &mut line)
        {
            Ok(0) => {
                tracing::info!("the application has gone");
                break;
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::error!(%error, "could not read commands");
                break;
            }
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let order = match serde_json::from_slice(&line) {
            Ok(Command::Run {
                group,
                works,
                memory_budget,
            }) => {
                for work in &works {
                    control.admit(work.job);
                }
                Order::Run {
                    group,
                    works,
                    memory_budget,
                }
            }
            Ok(Command::Cancel { job }) => {
                control.cancel(job);
                continue;
            }
            Ok(Command::Unload) => Order::Unload,
            Ok(Command::Shutdown) => break,
            Err(error) => Order::Nonsense(error.to_string()),
        };
        if orders.send(order).is_err() {
            break;
        }
    }
    control.stop();
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;
    use kinora_core::JobId;

    use super::*;

    #[test]
    fn the_end_of_input_and_shutdown_stop_everything() {
        for input in ["", "{\"type\":\"shutdown\"}\n{\"type\":\"unload\"}\n"] {
            let control = Control::default();
            let (sender, orders) = unbounded();
            read(input.as_bytes(), &control, &sender);
            assert!(control.is_stopping());
            assert!(orders.is_empty());
        }
    }

    #[test]
    fn cancellations_overtake_orders() {
        let control = Control::default();
        let job = JobId::new();
        control.admit(job);
        let (sender, orders) = unbounded();
        let input = format!(
            "\n{{\"type\":\"unload\"}}\n{{\"type\":\"cancel\",\"job\":\"{job}\"}}\nnonsense\n"
        );
        read(input.as_bytes(), &control, &sender);
        assert!(control.is_cancelled(job));
        assert!(matches!(orders.recv(), Ok(Order::Unload)));
        assert!(matches!(orders.recv(), Ok(Order::Nonsense(_))));
    }
}
