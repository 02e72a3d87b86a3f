//! The trash: files move into the data folder and back, each move written down before it is made,
//! so that a crash leaves neither a file without an asset nor an asset without a file.

use std::io::ErrorKind;

use kinora_core::{AssetId, Timestamp};
use kinora_store::{
    assets,
    trash::{self, Entry, Step},
};

use crate::{
    Error, Result,
    failpoints::Edge,
    files,
    publish::{io_error, is_there},
    queue::Inner,
};

impl Inner {
    /// Moves an asset's file into the trash.
    pub fn trash(&self, id: AssetId) -> Result<()> {
        let asset = self
            .store
            .read(|db| assets::get(db, id))?
            .ok_or(Error::NoAsset(id))?;
        let name = format!("{id}.{}", asset.format.extension());
        let now = Timestamp::now();
        let begun = self
            .store
            .write(|tx| trash::begin_trashing(tx, id, &name, now))?;
        if !begun {
            return Err(wrong_place(id, true, "delete"));
        }
        self.go_on(id)
    }

    /// Moves an asset's file back to its path, or to the next free name when that was taken.
    pub fn restore(&self, id: AssetId) -> Result<()> {
        let asset = self
            .store
            .read(|db| assets::get(db, id))?
            .ok_or(Error::NoAsset(id))?;
        // No new picture takes the name between the look and the move.
        let _names = self.lock_names();
        let (stem, ending) = asset.path.rsplit_once('.').unwrap_or((&asset.path, ""));
        let mut number = 1;
        let mut path = asset.path.clone();
        let begun = loop {
            let free = path.clone();
            let outcome = self.store.write(|tx| {
                if is_there(&self.folders.output(&free)) || assets::is_taken(tx, &free)? {
                    return Ok(None);
                }
                trash::begin_restoring(tx, id, &free).map(Some)
            })?;
            match outcome {
                Some(begun) => break begun,
                None => {
                    number += 1;
                    path = format!("{stem}-{number}.{ending}");
                }
            }
        };
        if !begun {
            return Err(wrong_place(id, false, "restore"));
        }
        self.go_on(id)
    }

    /// Deletes an asset in the trash, with its file, for good.
    pub fn purge(&self, id: AssetId) -> Result<()> {
        if self.store.read(|db| assets::get(db, id))?.is_none() {
            return Err(Error::NoAsset(id));
        }
        if !self.store.write(|tx| trash::begin_purging(tx, id))? {
            return Err(wrong_place(id, false, "delete for good"));
        }
        self.go_on(id)
    }

    /// Deletes what went to the trash before `time`; how many pictures that were.
    pub fn purge_older_than(&self, time: Timestamp) -> Result<u64> {
        let old = self.store.read(|db| trash::older_than(db, time))?;
        let mut purged = 0;
        for id in old {
            match self.purge(id) {
                Ok(()) => purged += 1,
                // Restored or deleted in the meantime, or its way in is not finished.
                Err(Error::WrongPlace { .. } | Error::NoAsset(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(purged)
    }

    /// Finishes what a crash has interrupted.
    pub fn finish_trash(&self) -> Result<()> {
        for entry in self.store.read(trash::unfinished)? {
            if let Err(error) = self.finish(&entry) {
                tracing::error!(%error, asset = %entry.asset, "cannot finish a move of the trash");
            }
        }
        Ok(())
    }

    fn go_on(&self, id: AssetId) -> Result<()> {
        if let Some(entry) = self.store.read(|db| trash::get(db, id))? {
            self.finish(&entry)?;
        }
        self.tell_asset(id)
    }

    /// Makes the move that is written down, and crosses it out. Repeatable at every point.
    fn finish(&self, entry: &Entry) -> Result<()> {
        let inside = self.folders.trash().join(&entry.name);
        let mut outside = self.folders.output(&entry.path);
        self.reach(Edge::TrashNoted)
            .map_err(|e| io_error(&inside, e))?;
        match entry.step {
            Step::Trashed => return Ok(()),
            // Moved before, or deleted by hand: there is nothing to move.
            Step::Trashing if !is_there(&outside) => {}
            Step::Trashing => {
                // Moved before, when what has its path now is another asset's or a stranger's.
                let is_others = self.store.read(|db| assets::is_taken(db, &entry.path))?;
                if !is_others {
                    match files::move_new(&outside, &inside) {
                        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                        result => result.map_err(|e| io_error(&outside, e))?,
                    }
                }
            }
            Step::Restoring if !is_there(&inside) => {}
            Step::Restoring => loop {
                if let Some(folder) = outside.parent() {
                    files::create_folder(folder).map_err(|e| io_error(folder, e))?;
                }
                match files::move_new(&inside, &outside) {
                    Ok(()) => break,
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        let path = self.rename_asset(entry.asset, &entry.path)?;
                        outside = self.folders.output(&path);
                    }
                    Err(error) => return Err(io_error(&outside, error)),
                }
            },
            Step::Purging => {
                files::remove(&inside).map_err(|e| io_error(&inside, e))?;
            }
        }
        self.reach(Edge::TrashMoved)
            .map_err(|e| io_error(&inside, e))?;
        self.store.write(|tx| trash::end(tx, entry.asset))?;
        Ok(())
    }
}

fn wrong_place(asset: AssetId, is_trashed: bool, wanted: &'static str) -> Error {
    Error::WrongPlace {
        asset,
        is_trashed,
        wanted,
    }
}
