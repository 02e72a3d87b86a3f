//! Putting right what a crash has left, at the start; and sweeping what no crash names.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::PoisonError,
};

use kinora_core::{JobId, JobState, Timestamp};
use kinora_store::{assets, jobs};

use crate::{
    Result, files, folders,
    folders::TRASH_DAYS,
    publish::{Publication, io_error, is_there},
    queue::Inner,
};

/// How deep the outputs folder is searched for left-over parts.
const DEEPEST: usize = 32;

/// What a sweep has deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Unfinished files of attempts that will never end.
    pub parts: u64,
    /// Folders of jobs that are done, cancelled or removed.
    pub folders: u64,
    /// Pictures that were in the trash for longer than [`TRASH_DAYS`].
    pub assets: u64,
}

impl Inner {
    /// Finishes what the last process was in the middle of. No worker runs yet.
    pub fn recover(&self) -> Result<()> {
        let interrupted = self.store.read(jobs::interrupted)?;
        for job in &interrupted {
            let path = folders::staging(&job.stem, job.job, job.epoch);
            if let Err(error) = files::remove(&self.folders.output(&path)) {
                tracing::warn!(%error, path, "cannot remove an unfinished picture yet");
            }
        }
        if !interrupted.is_empty() {
            let now = Timestamp::now();
            self.store.write(|tx| {
                for job in &interrupted {
                    jobs::release(tx, job.job, job.epoch, now)?;
                }
                Ok(())
            })?;
            tracing::info!(jobs = interrupted.len(), "interrupted jobs wait again");
        }
        for found in self.store.read(assets::unpublished)? {
            let publication = Publication::from(found);
            if let Err(error) = self.publish(&publication) {
                tracing::error!(%error, path = publication.path, "cannot name a picture yet");
                self.give_up_naming(&publication)?;
            }
        }
        self.finish_trash()
    }

    /// Lets go of the jobs that this process still holds when it ends.
    pub fn release_abandoned(&self) -> Result<()> {
        let abandoned: Vec<_> = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.values().cloned().collect()
        };
        for running in abandoned {
            // From here on, whatever the backend still says is late.
            if !running.take_finish() {
                continue;
            }
            let path = folders::staging(&running.stem, running.job, running.epoch);
            let file = self.folders.output(&path);
            files::remove(&file).map_err(|e| io_error(&file, e))?;
            let now = Timestamp::now();
            self.store
                .write(|tx| jobs::release(tx, running.job, running.epoch, now))?;
            self.forget_running(&running);
        }
        Ok(())
    }

    /// Deletes what nothing refers to any more. Safe beside running jobs: an attempt that ended
    /// once never begins again, since epochs only grow.
    pub fn sweep(&self) -> Result<Swept> {
        let mut swept = Swept::default();
        let mut parts = Vec::new();
        self.find_parts(self.folders.outputs(), DEEPEST, &mut parts)
            .map_err(|e| io_error(self.folders.outputs(), e))?;
        if !parts.is_empty() {
            // Read after the files were listed: an attempt that began since has none among them.
            let unpublished = self.store.read(assets::unpublished)?;
            for (path, job, epoch) in parts {
                if self.ending.is_cancelled() {
                    return Ok(swept);
                }
                let is_published = !unpublished
                    .iter()
                    .any(|found| self.folders.output(&found.staging) == path);
                // Parts of unknown jobs may belong to another data folder with the same outputs.
                let Some((state, last)) = self.store.read(|db| jobs::attempt(db, job))? else {
                    continue;
                };
                let is_running = state == JobState::Running && last == epoch;
                if is_published && !is_running && epoch <= last && is_there(&path) {
                    files::remove(&path).map_err(|e| io_error(&path, e))?;
                    swept.parts += 1;
                }
            }
        }
        let jobs_folder = self.folders.jobs();
        for entry in fs::read_dir(&jobs_folder).map_err(|e| io_error(&jobs_folder, e))? {
            let entry = entry.map_err(|e| io_error(&jobs_folder, e))?;
            if self.ending.is_cancelled() {
                return Ok(swept);
            }
            let Some(job) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<JobId>().ok())
            else {
                continue;
            };
            let state = self.store.read(|db| jobs::state(db, job))?;
            if matches!(state, None | Some(JobState::Done | JobState::Cancelled)) {
                let path = entry.path();
                files::remove_folder(&path).map_err(|e| io_error(&path, e))?;
                swept.folders += 1;
            }
        }
        let month = i64::from(TRASH_DAYS) * 24 * 60 * 60 * 1_000;
        swept.assets = self.purge_older_than(Timestamp(Timestamp::now().0 - month))?;
        Ok(swept)
    }

    /// Staging names below a folder, without following links.
    fn find_parts(
        &self,
        folder: &Path,
        depth: usize,
        parts: &mut Vec<(PathBuf, JobId, u32)>,
    ) -> io::Result<()> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            // Gone, or none of our business.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if self.ending.is_cancelled() {
                break;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() && depth > 0 {
                self.find_parts(&entry.path(), depth - 1, parts)?;
            } else if kind.is_file()
                && let Some((job, epoch)) =
                    entry.file_name().to_str().and_then(folders::parse_staging)
            {
                parts.push((entry.path(), job, epoch));
            }
        }
        Ok(())
    }
}
