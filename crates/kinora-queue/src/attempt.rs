//! The end of an attempt: what a backend said becomes the job's state, once, durably.

use std::{sync::Arc, time::Duration};

use kinora_core::{Code, Failure, Fix, JobState, Outcome, Timestamp};
use kinora_store::jobs;

use crate::{
    Error, Result, error::is_full, files, folders::staging, publish::Publication, queue::Inner,
    watch::Running,
};

/// Rests between attempts to write an end down while the database cannot be written.
const FIRST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(5);
/// Attempts to give a committed picture its name before that is left to the next start; without
/// end while the disk is full.
const PUBLISH_ATTEMPTS: u32 = 3;

/// Attempts to write an end that the database refuses for another reason than a full disk.
const WRITE_ATTEMPTS: u32 = 8;

/// Why a step has to be taken again.
#[derive(Clone, Copy, PartialEq)]
enum Stuck {
    No,
    /// Time may help.
    DiskFull,
    /// Time may help, but not for ever.
    Refused,
}

/// What is still to be done for an attempt.
enum Step {
    End(Outcome),
    Publish(Publication, u32),
    Tidy(Option<JobState>),
    Ended,
}

/// Ends one attempt; returns when that is durable. While the database cannot be written (its disk
/// is full), the attempt waits here: nothing that was computed is thrown away for it.
pub(crate) async fn end(inner: Arc<Inner>, running: Arc<Running>, outcome: Outcome) {
    let mut step = Step::End(outcome);
    let mut rest = FIRST_REST;
    let mut refusals = 0;
    loop {
        let (task, job) = (inner.clone(), running.clone());
        let (next, stuck) = match inner
            .tasks
            .spawn_blocking(move || task.take(&job, step))
            .await
        {
            Ok(result) => result,
            Err(error) => {
                // The job is running in the database; the next start queues it again.
                tracing::error!(job = %running.job, %error, "the end of an attempt panicked");
                break;
            }
        };
        step = next;
        if matches!(step, Step::Ended) {
            break;
        }
        if stuck == Stuck::Refused {
            refusals += 1;
            if refusals >= 2 * WRITE_ATTEMPTS {
                // The job is running in the database; the next start queues it again.
                tracing::error!(job = %running.job, "the end of an attempt could not be written");
                break;
            }
            if refusals == WRITE_ATTEMPTS && matches!(step, Step::End(Outcome::Done(_))) {
                step = Step::End(Outcome::Failed(Box::new(unwritable())));
            }
        }
        if stuck == Stuck::DiskFull {
            inner.note_full_disk();
        }
        if stuck != Stuck::No {
            tokio::select! {
                () = tokio::time::sleep(rest) => rest = (rest * 2).min(LONGEST_REST),
                () = inner.ending.cancelled() => break,
            }
        }
    }
    inner.forget_running(&running);
    let task = inner.clone();
    let job = running.job;
    let told = inner.tasks.spawn_blocking(move || task.tell_job(job)).await;
    if let Ok(Err(error)) = told {
        tracing::warn!(%job, %error, "cannot tell how an attempt ended");
    }
}

impl Inner {
    /// Takes one step; returns the next one, and whether to rest before it.
    fn take(&self, running: &Running, step: Step) -> (Step, Stuck) {
        match step {
            Step::End(outcome) => self.take_end(running, outcome),
            Step::Publish(publication, attempts) => match self.publish(&publication) {
                Ok(()) => {
                    if let Err(error) = self.tell_asset(publication.asset) {
                        tracing::warn!(%error, "cannot tell of a new picture");
                    }
                    (Step::Tidy(Some(JobState::Done)), Stuck::No)
                }
                Err(error) if attempts < PUBLISH_ATTEMPTS || error.is_disk_full() => {
                    tracing::warn!(job = %running.job, %error, "cannot name a picture yet");
                    (
                        Step::Publish(publication, attempts.saturating_add(1)),
                        Stuck::DiskFull,
                    )
                }
                Err(error) => {
                    tracing::error!(
                        job = %running.job, %error, "a picture gets its name at the next start"
                    );
                    if let Err(error) = self.give_up_naming(&publication) {
                        tracing::error!(job = %running.job, %error, "cannot end the job either");
                    }
                    (Step::Ended, Stuck::No)
                }
            },
            Step::Tidy(state) => {
                self.tidy(running, state);
                (Step::Ended, Stuck::No)
            }
            Step::Ended => (Step::Ended, Stuck::No),
        }
    }

    fn take_end(&self, running: &Running, outcome: Outcome) -> (Step, Stuck) {
        let ended = match &outcome {
            Outcome::Done(artifact) => match self.commit(running, artifact) {
                Ok(Some(publication)) => return (Step::Publish(publication, 0), Stuck::No),
                Ok(None) => Ok(None),
                // The picture is whole but cannot be kept: its job failed for the reason why.
                Err(error) if !is_database(&error) || error.is_disk_full() => {
                    return (
                        Step::End(Outcome::Failed(Box::new(failure_of(&error)))),
                        Stuck::No,
                    );
                }
                Err(error) => Err(error),
            },
            Outcome::Failed(failure) => self.end_failed(running, failure),
            Outcome::Cancelled if running.is_stopping() => self.end_stopped(running),
            Outcome::Cancelled => self.end_died(running, &unasked()),
            Outcome::Died(failure) => self.end_died(running, failure),
            Outcome::Interrupted(failure) => self.end_interrupted(running, failure),
        };
        match ended {
            Ok(state) => (Step::Tidy(state), Stuck::No),
            Err(error) => {
                tracing::warn!(job = %running.job, %error, "cannot write an attempt's end yet");
                let stuck = match error.is_disk_full() {
                    true => Stuck::DiskFull,
                    false => Stuck::Refused,
                };
                (Step::End(outcome), stuck)
            }
        }
    }

    fn end_failed(&self, running: &Running, failure: &Failure) -> Result<Option<JobState>> {
        self.discard(running);
        let now = Timestamp::now();
        let is_mine = self
            .store
            .write(|tx| jobs::finish_failed(tx, running.job, running.epoch, failure, now))?;
        Ok(is_mine.then_some(JobState::Failed))
    }

    fn end_stopped(&self, running: &Running) -> Result<Option<JobState>> {
        self.discard(running);
        let now = Timestamp::now();
        Ok(self
            .store
            .write(|tx| jobs::finish_stopped(tx, running.job, running.epoch, now))?)
    }

    fn end_died(&self, running: &Running, failure: &Failure) -> Result<Option<JobState>> {
        self.discard(running);
        let now = Timestamp::now();
        Ok(self
            .store
            .write(|tx| jobs::finish_died(tx, running.job, running.epoch, failure, now))?)
    }

    fn end_interrupted(&self, running: &Running, failure: &Failure) -> Result<Option<JobState>> {
        self.discard(running);
        let now = Timestamp::now();
        Ok(self
            .store
            .write(|tx| jobs::finish_interrupted(tx, running.job, running.epoch, failure, now))?)
    }

    /// Removes what an attempt has left under its staging name. Before its end is written, so that
    /// a crash in between finds the job running and looks for the file again.
    fn discard(&self, running: &Running) {
        let path = staging(&running.stem, running.job, running.epoch);
        if let Err(error) = files::remove(&self.folders.output(&path)) {
            tracing::warn!(path, %error, "cannot remove an unfinished picture");
        }
    }

    /// Removes the folder of a job that is over for good. A failed one keeps it for inspection, a
    /// waiting one for its checkpoint.
    fn tidy(&self, running: &Running, state: Option<JobState>) {
        if matches!(state, Some(JobState::Done | JobState::Cancelled)) {
            let folder = self.folders.scratch(running.job);
            if let Err(error) = files::remove_folder(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "cannot remove a job's folder");
            }
        }
        if state == Some(JobState::Queued) {
            self.wake();
        }
        if state.is_none() {
            tracing::warn!(job = %running.job, epoch = running.epoch, "a late end was thrown away");
        }
    }
}

/// Whether the database is what failed, rather than the outputs folder.
fn is_database(error: &Error) -> bool {
    matches!(error, Error::Store(_))
}

/// A failure of the queue's own as a job's post-mortem.
pub(crate) fn failure_of(error: &Error) -> Failure {
    let stage = Some(kinora_core::Stage::Saving);
    if error.is_disk_full() {
        return Failure {
            stage,
            fix: Some(Fix::FreeDisk { bytes: None }),
            ..Failure::new(
                Code::DiskFull,
                format!("save the picture: the disk is full ({error})"),
                "Make room on the disk, then retry the job; everything else is untouched.",
            )
        };
    }
    let (code, hint) = match error {
        Error::BadName { .. } => (Code::InvalidInput, "Choose another output name."),
        _ => (
            Code::Io,
            "Check that the outputs folder is there and may be written, then retry the job.",
        ),
    };
    Failure {
        stage,
        fix: Some(Fix::Retry),
        ..Failure::new(code, format!("save the picture: failed to {error}"), hint)
    }
}

/// A failure to make the folders of an attempt.
pub(crate) fn failure_of_folder(path: &std::path::Path, error: std::io::Error) -> Failure {
    let is_full = is_full(&error);
    let path = path.to_owned();
    let mut failure = failure_of(&Error::Io {
        path,
        source: error,
    });
    failure.stage = None;
    if !is_full {
        failure.message = failure.message.replace("save the picture", "begin");
    }
    failure
}

/// What becomes of a picture that the database does not take.
fn unwritable() -> Failure {
    Failure::new(
        Code::Internal,
        "save the picture: the database refused it",
        "Look into the log for the reason, then retry the job.",
    )
}

/// What becomes of an attempt that stopped though nobody had asked.
fn unasked() -> Failure {
    Failure::new(
        Code::Internal,
        "run the job: it stopped though nobody had asked it to",
        "Retry the job.",
    )
}

/// What becomes of jobs that a backend forgot.
pub(crate) fn unfinished(panic: Option<&str>) -> Failure {
    let message = match panic {
        Some(message) => format!("run the job: what ran it panicked ({message})"),
        None => "run the job: what ran it returned without an end".into(),
    };
    Failure::new(Code::EngineLost, message, "Retry the job.")
}
