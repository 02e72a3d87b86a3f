//! How Rust values become columns: ids are 16-byte blobs, unit enums their wire words, structures
//! JSON text.

use kinora_core::{AssetId, BatchId, JobId, JobState, Priority, SessionId};
use rusqlite::{
    Row, RowIndex,
    types::{FromSqlError, Type},
};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::Result;

/// An id as a column.
pub(crate) trait Key: Copy {
    fn key(self) -> [u8; 16];
    fn from_key(key: [u8; 16]) -> Self;
}

macro_rules! key {
    ($($id:ty),*) => {$(
        impl Key for $id {
            fn key(self) -> [u8; 16] {
                self.uuid().into_bytes()
            }

            fn from_key(key: [u8; 16]) -> Self {
                Uuid::from_bytes(key).into()
            }
        }
    )*};
}

key!(JobId, BatchId, SessionId, AssetId);

/// Reads an id.
pub(crate) fn id<I: Key>(row: &Row<'_>, column: &str) -> rusqlite::Result<I> {
    row.get(column).map(I::from_key)
}

/// Reads an id that may be absent.
pub(crate) fn optional_id<I: Key>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<I>> {
    Ok(row.get::<_, Option<[u8; 16]>>(column)?.map(I::from_key))
}

/// Writes a structure.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<String> {
    Ok(serde_json::to_string(value)?)
}

/// Reads a structure.
pub(crate) fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let index = row.as_ref().column_index(column)?;
    let text = row.get_ref(index)?.as_str().map_err(|e| bad(index, e))?;
    serde_json::from_str(text).map_err(|e| bad(index, e))
}

/// Reads a structure that may be absent.
pub(crate) fn optional_json<T: DeserializeOwned>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<Option<T>> {
    match row.get_ref(column)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => json(row, column).map(Some),
    }
}

/// The wire word of a unit variant.
pub(crate) fn to_word<T: Serialize>(value: &T) -> Result<String> {
    match serde_json::to_value(value)? {
        serde_json::Value::String(word) => Ok(word),
        other => Ok(other.to_string()),
    }
}

/// Reads a unit variant from its wire word.
pub(crate) fn word<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let index = row.as_ref().column_index(column)?;
    let text: String = row.get(index)?;
    serde_json::from_value(serde_json::Value::String(text)).map_err(|e| bad(index, e))
}

/// Reads a job's state.
pub(crate) fn state(row: &Row<'_>, column: &str) -> rusqlite::Result<JobState> {
    let index = row.as_ref().column_index(column)?;
    let text: String = row.get(index)?;
    JobState::ALL
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| bad(index, FromSqlError::InvalidType))
}

/// A priority as a column: larger goes first.
pub(crate) fn priority_rank(priority: Priority) -> i64 {
    match priority {
        Priority::Bulk => 0,
        Priority::Interactive => 1,
        Priority::Urgent => 2,
    }
}

/// Reads a priority.
pub(crate) fn priority(row: &Row<'_>, column: &str) -> rusqlite::Result<Priority> {
    let index = row.as_ref().column_index(column)?;
    match row.get(index)? {
        0 => Ok(Priority::Bulk),
        1 => Ok(Priority::Interactive),
        2 => Ok(Priority::Urgent),
        other => Err(bad(index, FromSqlError::OutOfRange(other))),
    }
}

/// Reads a number that is never negative: a count, a size.
pub(crate) fn natural<I: RowIndex>(row: &Row<'_>, column: I) -> rusqlite::Result<u64> {
    let index = column.idx(row.as_ref())?;
    let value: i64 = row.get(index)?;
    u64::try_from(value).map_err(|e| bad(index, e))
}

/// Writes a number that SQLite keeps as a signed one; more than there are bytes on any disk is cut.
pub(crate) fn to_natural(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn bad(index: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error))
}
