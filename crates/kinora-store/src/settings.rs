//! Settings: JSON values by key. What they mean is the application's business.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::Value;

use crate::{Result, codec};

pub(crate) const V1: &str = "
CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
";

/// The value of one key.
pub fn get(db: &Connection, key: &str) -> Result<Option<Value>> {
    Ok(db
        .prepare_cached("SELECT value FROM settings WHERE key = ?1")?
        .query_row([key], |row| codec::json(row, "value"))
        .optional()?)
}

/// Every key with its value.
pub fn all(db: &Connection) -> Result<BTreeMap<String, Value>> {
    let mut statement = db.prepare_cached("SELECT key, value FROM settings")?;
    let rows = statement.query_map([], |row| Ok((row.get("key")?, codec::json(row, "value")?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Writes the value of one key.
pub fn set(tx: &Transaction<'_>, key: &str, value: &Value) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO settings (key, value) VALUES (?1, ?2)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )?
    .execute(params![key, codec::to_json(value)?])?;
    Ok(())
}

/// Forgets one key; whether it was there.
pub fn remove(tx: &Transaction<'_>, key: &str) -> Result<bool> {
    let removed = tx.execute("DELETE FROM settings WHERE key = ?1", [key])?;
    Ok(removed > 0)
}
