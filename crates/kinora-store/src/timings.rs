//! How long finished jobs took on this machine: what estimates are made from.

use kinora_core::{ModelId, Size, Timings};
use rusqlite::{Connection, Row, Transaction, params};

use crate::{Result, codec};

pub(crate) const V1: &str = "
CREATE TABLE timings (
    seq INTEGER PRIMARY KEY,
    model TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    steps INTEGER NOT NULL,
    json TEXT NOT NULL
) STRICT;
CREATE INDEX timings_kind ON timings (model, width, height);
";

/// Clips: their frames. Runs of before count as pictures, and say nothing about clips.
pub(crate) const V3: &str = "
ALTER TABLE timings ADD COLUMN frames INTEGER NOT NULL DEFAULT 1;
DROP INDEX timings_kind;
CREATE INDEX timings_kind ON timings (model, width, height, frames);
";

/// Runs that are kept per model, size and length; older ones say little about today's machine.
pub const KEPT: u32 = 32;

/// One finished run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Catalogue entry.
    pub model: ModelId,
    /// Pixels.
    pub size: Size,
    /// Frames of a clip that a step works through, more than it has where it goes through windows;
    /// 1 for a picture.
    pub frames: u32,
    /// Denoising steps of the plan.
    pub steps: u32,
    /// Where the time went.
    pub timings: Timings,
}

/// Adds a run, and forgets the oldest of its kind beyond [`KEPT`].
pub fn add(tx: &Transaction<'_>, run: &Run) -> Result<()> {
    let (model, width, height) = (run.model.as_str(), run.size.width, run.size.height);
    tx.prepare_cached(
        "INSERT INTO timings (model, width, height, steps, json, frames)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        model,
        width,
        height,
        run.steps,
        codec::to_json(&run.timings)?,
        run.frames,
    ])?;
    tx.prepare_cached(
        "DELETE FROM timings WHERE seq IN (
             SELECT seq FROM timings WHERE model = ?1 AND width = ?2 AND height = ?3 AND frames = ?4
             ORDER BY seq DESC LIMIT -1 OFFSET ?5)",
    )?
    .execute(params![model, width, height, run.frames, KEPT])?;
    Ok(())
}

/// Every kept run, oldest first.
pub fn all(db: &Connection) -> Result<Vec<Run>> {
    let mut statement = db.prepare_cached("SELECT * FROM timings ORDER BY seq")?;
    let rows = statement.query_map([], run)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    Ok(Run {
        model: ModelId::new(row.get::<_, String>("model")?),
        size: Size {
            width: row.get("width")?,
            height: row.get("height")?,
        },
        frames: row.get("frames")?,
        steps: row.get("steps")?,
        timings: codec::json(row, "json")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn only_the_latest_runs_of_a_kind_are_kept() {
        let store = Store::open_in_memory().unwrap();
        let run = |width, generating_ms| Run {
            model: ModelId::new("m"),
            size: Size { width, height: 64 },
            frames: 1,
            steps: 4,
            timings: Timings {
                generating_ms,
                ..Timings::default()
            },
        };
        store
            .write(|tx| {
                add(tx, &run(128, 1.0))?;
                for i in 0..KEPT + 3 {
                    add(tx, &run(64, f64::from(i)))?;
                }
                let all = all(tx)?;
                assert_eq!(all.len() as u32, KEPT + 1);
                assert_eq!(all[0], run(128, 1.0));
                assert_eq!(all[1], run(64, 3.0));
                assert_eq!(all[KEPT as usize], run(64, f64::from(KEPT + 2)));
                Ok(())
            })
            .unwrap();
    }
}
