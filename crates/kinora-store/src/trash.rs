//! The journal of the trash: what is about to happen to an asset's file is written down before it
//! happens, so that a crash in the middle is finished at the next start, in the same direction.

use kinora_core::{AssetId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::{
    Result,
    codec::{self, Key},
};

pub(crate) const V1: &str = "
CREATE TABLE trash (
    asset BLOB PRIMARY KEY REFERENCES assets (id) ON DELETE CASCADE,
    step TEXT NOT NULL CHECK (step IN ('trashing', 'trashed', 'restoring', 'purging')),
    -- Name of the file inside the trash folder.
    name TEXT NOT NULL
) STRICT;
CREATE INDEX trash_unfinished ON trash (step) WHERE step <> 'trashed';
";

/// How far an asset is on its way into or out of the trash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its file moves from the outputs folder into the trash folder.
    Trashing,
    /// Its file is in the trash folder.
    Trashed,
    /// Its file moves back, to the asset's path.
    Restoring,
    /// Its file and its row go away.
    Purging,
}

impl Step {
    const ALL: [Step; 4] = [
        Step::Trashing,
        Step::Trashed,
        Step::Restoring,
        Step::Purging,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Step::Trashing => "trashing",
            Step::Trashed => "trashed",
            Step::Restoring => "restoring",
            Step::Purging => "purging",
        }
    }
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which asset.
    pub asset: AssetId,
    /// How far it is.
    pub step: Step,
    /// Name of the file inside the trash folder.
    pub name: String,
    /// Path of the asset below the outputs folder.
    pub path: String,
}

const SELECT: &str = "SELECT t.asset, t.step, t.name, a.path
     FROM trash t JOIN assets a ON a.id = t.asset";

/// The journal's line about one asset.
pub fn get(db: &Connection, asset: AssetId) -> Result<Option<Entry>> {
    Ok(db
        .prepare_cached(&format!("{SELECT} WHERE t.asset = ?1"))?
        .query_row([asset.key()], entry)
        .optional()?)
}

/// What a crash has left in the middle.
pub fn unfinished(db: &Connection) -> Result<Vec<Entry>> {
    let mut statement = db.prepare_cached(&format!(
        "{SELECT} WHERE t.step <> 'trashed' ORDER BY a.seq"
    ))?;
    let rows = statement.query_map([], entry)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The assets that went to the trash before `time`.
pub fn older_than(db: &Connection, time: Timestamp) -> Result<Vec<AssetId>> {
    let mut statement = db.prepare_cached(
        "SELECT id FROM assets WHERE trashed_at IS NOT NULL AND trashed_at < ?1 ORDER BY seq",
    )?;
    let rows = statement.query_map([time.0], |row| codec::id(row, "id"))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Writes down that a published asset goes to the trash; false when it is not there to go.
pub fn begin_trashing(
    tx: &Transaction<'_>,
    asset: AssetId,
    name: &str,
    now: Timestamp,
) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE assets SET trashed_at = ?2
         WHERE id = ?1 AND published = 1 AND trashed_at IS NULL",
        params![asset.key(), now.0],
    )?;
    if changed == 0 {
        return Ok(false);
    }
    tx.execute(
        "INSERT INTO trash (asset, step, name) VALUES (?1, 'trashing', ?2)",
        params![asset.key(), name],
    )?;
    Ok(true)
}

/// Writes down that an asset in the trash comes back, to `path`, which nothing else has; false when
/// it is not in the trash.
pub fn begin_restoring(tx: &Transaction<'_>, asset: AssetId, path: &str) -> Result<bool> {
    if !advance(tx, asset, Step::Trashed, Step::Restoring)? {
        return Ok(false);
    }
    tx.execute(
        "UPDATE assets SET path = ?2 WHERE id = ?1",
        params![asset.key(), path],
    )?;
    Ok(true)
}

/// Writes down that an asset in the trash goes away for good; false when it is not in the trash.
pub fn begin_purging(tx: &Transaction<'_>, asset: AssetId) -> Result<bool> {
    advance(tx, asset, Step::Trashed, Step::Purging)
}

/// Ends the way that [`begin_trashing`], [`begin_restoring`] or [`begin_purging`] began.
pub fn end(tx: &Transaction<'_>, asset: AssetId) -> Result<()> {
    let Some(entry) = get(tx, asset)? else {
        return Ok(());
    };
    match entry.step {
        Step::Trashing => {
            advance(tx, asset, Step::Trashing, Step::Trashed)?;
        }
        Step::Trashed => {}
        Step::Restoring => {
            tx.execute("DELETE FROM trash WHERE asset = ?1", [asset.key()])?;
            tx.execute(
                "UPDATE assets SET trashed_at = NULL WHERE id = ?1",
                [asset.key()],
            )?;
        }
        Step::Purging => {
            tx.execute("DELETE FROM assets WHERE id = ?1", [asset.key()])?;
        }
    }
    Ok(())
}

fn advance(tx: &Transaction<'_>, asset: AssetId, from: Step, to: Step) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE trash SET step = ?3 WHERE asset = ?1 AND step = ?2",
        params![asset.key(), from.as_str(), to.as_str()],
    )?;
    Ok(changed > 0)
}

fn entry(row: &rusqlite::Row<'_>) -> rusqlite::Result<Entry> {
    let step: String = row.get("step")?;
    Ok(Entry {
        asset: codec::id(row, "asset")?,
        step: Step::ALL
            .into_iter()
            .find(|known| known.as_str() == step)
            .unwrap_or(Step::Trashed),
        name: row.get("name")?,
        path: row.get("path")?,
    })
}
