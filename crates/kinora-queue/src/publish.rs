//! How a picture becomes an asset, in an order that every crash in between leaves repairable:
//!
//! 1. the backend leaves the file complete and synced under its staging name;
//! 2. one transaction stores the asset, unpublished, with both names; the job never runs again;
//! 3. the file is renamed, which never replaces another, and the folder synced;
//! 4. one transaction publishes the asset and ends the job, and everyone is told.
//!
//! After a crash before 2 the job runs again; after 2, steps 3 and 4 are repeated at start.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{MutexGuard, PoisonError},
};

use kinora_core::{Artifact, AssetId, Timestamp};
use kinora_store::{
    assets::{self, Unpublished},
    jobs::{self, Done, Stored},
    timings::Run,
};

use crate::{Error, Result, failpoints::Edge, files, folders, queue::Inner, watch::Running};

/// The number from which on the search for the next one does not start from the first.
const REMEMBERED_FROM: u32 = 64;
/// Stems whose last number is remembered.
const REMEMBERED_STEMS: usize = 10_000;

/// A picture between its commit and its final name.
pub(crate) struct Publication {
    pub asset: AssetId,
    pub staging: String,
    pub path: String,
    pub bytes: u64,
}

impl From<Unpublished> for Publication {
    fn from(found: Unpublished) -> Self {
        Self {
            asset: found.asset,
            staging: found.staging,
            path: found.path,
            bytes: found.bytes,
        }
    }
}

impl Inner {
    /// Stores the result of an attempt. None when it is not the job's any more.
    pub fn commit(&self, running: &Running, artifact: &Artifact) -> Result<Option<Publication>> {
        let staging = folders::staging(&running.stem, running.job, running.epoch);
        let file = self.folders.output(&staging);
        check_size(&file, artifact.bytes)?;
        self.reach(Edge::Staged).map_err(|e| io_error(&file, e))?;
        let mut timings = artifact.recipe.timings.unwrap_or_default();
        timings.queued_ms = running.queued_ms;
        let mut numbers = self.lock_names();
        loop {
            let path = self.free_name(&mut numbers, &running.stem, artifact)?;
            let done = Done {
                artifact,
                path: &path,
                staging: &staging,
                timings,
            };
            let now = Timestamp::now();
            let stored = self
                .store
                .write(|tx| jobs::keep_result(tx, running.job, running.epoch, &done, now))?;
            match stored {
                Stored::PathTaken => continue,
                Stored::Late => {
                    files::remove(&file).map_err(|e| io_error(&file, e))?;
                    return Ok(None);
                }
                Stored::Asset(asset) => {
                    let plan = &artifact.recipe.plan;
                    let run = Run {
                        model: plan.model.id.clone(),
                        size: plan.size,
                        frames: plan.video.map_or(1, |video| video.worked_frames()),
                        steps: plan.steps,
                        timings,
                    };
                    self.history
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .add(run);
                    return Ok(Some(Publication {
                        asset,
                        staging,
                        path,
                        bytes: artifact.bytes,
                    }));
                }
            }
        }
    }

    /// Gives a committed picture its final name. Repeatable at every point.
    pub fn publish(&self, publication: &Publication) -> Result<()> {
        let staging = self.folders.output(&publication.staging);
        self.reach(Edge::Committed)
            .map_err(|e| io_error(&staging, e))?;
        let mut path = publication.path.clone();
        loop {
            let target = self.folders.output(&path);
            match files::rename_new(&staging, &target) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // Somebody else's file came in between: take the next name.
                    path = self.rename_asset(publication.asset, &path)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && !staging.exists() => {
                    // Renamed before, by a run that came no further. Nothing else takes the
                    // path: it was free when it was stored, and is this asset's since.
                    check_size(&target, publication.bytes)?;
                    break;
                }
                Err(error) => return Err(io_error(&target, error)),
            }
        }
        let target = self.folders.output(&path);
        if let Some(folder) = target.parent() {
            files::sync_folder(folder).map_err(|e| io_error(folder, e))?;
        }
        self.reach(Edge::Renamed)
            .map_err(|e| io_error(&target, e))?;
        let now = Timestamp::now();
        self.store
            .write(|tx| jobs::finish_done(tx, publication.asset, now))?;
        self.reach(Edge::Published)
            .map_err(|e| io_error(&target, e))
    }

    /// Ends the job of a picture that cannot have its name before the next start.
    pub fn give_up_naming(&self, publication: &Publication) -> Result<()> {
        let now = Timestamp::now();
        Ok(self
            .store
            .write(|tx| jobs::finish_unnamed(tx, publication.asset, now))?)
    }

    /// Held from the look for a free name until the name is taken.
    pub fn lock_names(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first name of a stem that neither a file nor an asset has.
    fn free_name(
        &self,
        numbers: &mut HashMap<String, u32>,
        stem: &str,
        artifact: &Artifact,
    ) -> Result<String> {
        let key = format!("{stem}.{}", artifact.format.extension());
        let mut number = numbers.get(&key).copied().unwrap_or(0);
        let path = self.store.read(|db| {
            loop {
                number += 1;
                let path = folders::name(stem, number, artifact.format);
                if !is_there(&self.folders.output(&path)) && !assets::is_taken(db, &path)? {
                    return Ok(path);
                }
            }
        })?;
        // Short searches start afresh each time, so that names that came free are used again.
        if number >= REMEMBERED_FROM {
            if numbers.len() >= REMEMBERED_STEMS {
                numbers.clear();
            }
            numbers.insert(key, number - 1);
        }
        Ok(path)
    }

    /// Stores the next free name after `path` for an asset.
    pub fn rename_asset(&self, asset: AssetId, path: &str) -> Result<String> {
        let (stem, ending) = path.rsplit_once('.').unwrap_or((path, ""));
        let mut number = 1;
        loop {
            number += 1;
            let next = format!("{stem}-{number}.{ending}");
            if !is_there(&self.folders.output(&next))
                && self.store.write(|tx| assets::set_path(tx, asset, &next))?
            {
                return Ok(next);
            }
        }
    }
}

/// Whether anything has this name, a dangling link included.
pub(crate) fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn check_size(path: &Path, bytes: u64) -> Result<()> {
    let found = path.metadata().map_err(|e| io_error(path, e))?.len();
    if found != bytes {
        let reason = format!("it has {found} bytes instead of {bytes}");
        return Err(io_error(path, io::Error::other(reason)));
    }
    Ok(())
}

pub(crate) fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}
