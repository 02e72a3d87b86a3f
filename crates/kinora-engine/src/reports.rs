//! Standard output: one report a line, from one thread, and nothing else ever.

use std::{
    fs::File,
    io::{self, Write},
    thread::{self, JoinHandle},
};

use crossbeam_channel::{Sender, unbounded};
use kinora_core::engine::Report;

/// Where reports are handed in; clones share one output, in the order of handing in.
#[derive(Clone, Debug)]
pub struct Reports(Sender<Report>);

impl Reports {
    /// Reports into a channel, and the thread that writes them. It ends once every clone is gone.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<(Self, JoinHandle<()>)> {
        let (sender, receiver) = unbounded();
        let writer = thread::Builder::new()
            .name("reports".to_owned())
            .spawn(move || {
                let mut out = out;
                for report in receiver {
                    if let Err(error) = write_line(&mut out, &report) {
                        // Nobody listens: the end of standard input ends the engine.
                        tracing::warn!(%error, "could not report");
                        return;
                    }
                }
            })?;
        Ok((Self(sender), writer))
    }

    /// Reports into a channel, for tests.
    #[cfg(test)]
    pub fn collect() -> (Self, crossbeam_channel::Receiver<Report>) {
        let (sender, receiver) = unbounded();
        (Self(sender), receiver)
    }

    /// Tells the application something.
    pub fn tell(&self, report: Report) {
        // A writer that is gone has said why.
        let _ = self.0.send(report);
    }
}

fn write_line(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

/// Takes standard output for the reports. Whatever any library prints from now on goes to standard
/// error, where it harms nobody.
pub fn claim_stdout() -> io::Result<File> {
    let reports = rustix::io::dup(io::stdout())?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(File::from(reports))
}
