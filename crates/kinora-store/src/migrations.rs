//! The formats that the database has had. A step is never edited once it was released, only
//! followed by another; a test pins the schema that they add up to.

use rusqlite::Connection;

use crate::{
    Result, assets, batch_keys, batches, counts, flags, jobs, lineage, plan_templates,
    planned_models, sessions, settings, timings, trash,
};

/// `application_id` of Kinora's databases: "Knra".
pub(crate) const APPLICATION_ID: i64 = 0x4b6e_7261;

/// One step per format. Each is the list of its tables' parts, in an order in which every table
/// comes after those that it refers to.
const STEPS: &[&[&str]] = &[
    FIRST,
    &[assets::V2],
    &[lineage::V3, timings::V3],
    &[lineage::V4],
];

const FIRST: &[&str] = &[
    settings::V1,
    flags::V1,
    planned_models::V1,
    batch_keys::V1,
    plan_templates::V1,
    sessions::V1,
    batches::V1,
    counts::V1,
    jobs::V1,
    assets::V1,
    trash::V1,
    timings::V1,
];

/// The newest format.
pub(crate) fn known() -> i64 {
    STEPS.len() as i64
}

/// The format of an open database; 0 for an empty one.
pub(crate) fn found(db: &Connection) -> Result<i64> {
    Ok(db.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

/// Takes the steps from `found` to the newest format, each in its own transaction.
pub(crate) fn apply(db: &mut Connection, found: i64) -> Result<()> {
    apply_until(db, found, STEPS.len())
}

/// The same, up to a format of old, as tests of steps need it.
pub(crate) fn apply_until(db: &mut Connection, found: i64, last: usize) -> Result<()> {
    let done = usize::try_from(found).unwrap_or(0);
    for (index, step) in STEPS.iter().enumerate().take(last).skip(done) {
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for part in *step {
            tx.execute_batch(part)?;
        }
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", index as i64 + 1)?;
        tx.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_what_the_released_steps_made() {
        let mut db = Connection::open_in_memory().unwrap();
        apply(&mut db, 0).unwrap();
        let schema: Vec<String> = db
            .prepare(
                "SELECT sql FROM sqlite_schema
                 WHERE sql IS NOT NULL AND name NOT LIKE 'assets_text_%' ORDER BY rowid",
            )
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap();
        insta::assert_snapshot!(schema.join(";\n\n"));
    }

    #[test]
    fn every_table_is_strict() {
        let mut db = Connection::open_in_memory().unwrap();
        apply(&mut db, 0).unwrap();
        let loose: Vec<String> = db
            .prepare(
                "SELECT name FROM pragma_table_list
                 WHERE type = 'table' AND strict = 0 AND schema = 'main'
                   AND name NOT LIKE 'sqlite_%'",
            )
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap();
        assert_eq!(loose, Vec::<String>::new());
    }
}
