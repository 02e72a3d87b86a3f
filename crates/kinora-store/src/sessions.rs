//! Sessions: named stretches of work.

use kinora_core::{Session, SessionId, SessionKind, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::{
    Listed, Page, Result,
    codec::{self, Key},
    counts,
};

pub(crate) const V1: &str = "
CREATE TABLE sessions (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_updated ON sessions (updated_at);
";

/// Letters of a prompt that make a title.
const TITLE_CHARS: usize = 60;

/// Begins a session. With an empty title it takes the first prompt that is queued in it.
pub fn create(
    tx: &Transaction<'_>,
    kind: SessionKind,
    title: &str,
    now: Timestamp,
) -> Result<SessionId> {
    let id = SessionId::new();
    tx.prepare_cached(
        "INSERT INTO sessions (id, kind, title, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?4)",
    )?
    .execute(params![
        id.key(),
        codec::to_word(&kind)?,
        title.trim(),
        now.0
    ])?;
    Ok(id)
}

/// One session.
pub fn get(db: &Connection, id: SessionId) -> Result<Option<Session>> {
    let bare = db
        .prepare_cached("SELECT * FROM sessions WHERE id = ?1")?
        .query_row([id.key()], bare_session)
        .optional()?;
    bare.map(|session| complete(db, session)).transpose()
}

/// Sessions, the latest used first.
pub fn list(db: &Connection, page: Page) -> Result<Listed<Session>> {
    let total = db
        .prepare_cached("SELECT count(*) FROM sessions")?
        .query_row([], |row| codec::natural(row, 0))?;
    let bare = db
        .prepare_cached(
            "SELECT * FROM sessions ORDER BY updated_at DESC, seq DESC LIMIT ?1 OFFSET ?2",
        )?
        .query_map([page.sql_limit(), page.sql_offset()], bare_session)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let rows = bare
        .into_iter()
        .map(|session| complete(db, session))
        .collect::<Result<_>>()?;
    Ok(Listed { rows, total })
}

/// Gives a session a name; whether it exists.
pub fn rename(tx: &Transaction<'_>, id: SessionId, title: &str, now: Timestamp) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE sessions SET title = ?2, updated_at = ?3 WHERE id = ?1",
        params![id.key(), title.trim(), now.0],
    )?;
    Ok(changed > 0)
}

/// Forgets a session; whether it existed. Its jobs, batches and assets stay, without a session.
pub fn remove(tx: &Transaction<'_>, id: SessionId) -> Result<bool> {
    let removed = tx.execute("DELETE FROM sessions WHERE id = ?1", [id.key()])?;
    tx.execute("DELETE FROM counts WHERE scope = ?1", [id.key()])?;
    Ok(removed > 0)
}

/// Notes that something happened in a session, and names it after `prompt` when it has no name;
/// whether it exists.
pub(crate) fn touch(
    tx: &Transaction<'_>,
    id: SessionId,
    prompt: Option<&str>,
    now: Timestamp,
) -> Result<bool> {
    let title = prompt.map(title_from);
    let changed = tx
        .prepare_cached(
            "UPDATE sessions SET updated_at = ?3,
                 title = CASE WHEN title = '' THEN coalesce(?2, '') ELSE title END
             WHERE id = ?1",
        )?
        .execute(params![id.key(), title, now.0])?;
    Ok(changed > 0)
}

/// A title from a prompt: one line, cut at a word.
fn title_from(prompt: &str) -> String {
    let line = prompt.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= TITLE_CHARS {
        return line;
    }
    let cut: String = line.chars().take(TITLE_CHARS - 1).collect();
    let cut = match cut.rfind(' ') {
        Some(space) if space > TITLE_CHARS / 2 => &cut[..space],
        _ => &cut,
    };
    format!("{}…", cut.trim_end_matches([',', '.', ';', ':', ' ']))
}

fn bare_session(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        id: codec::id(row, "id")?,
        kind: codec::word(row, "kind")?,
        title: row.get("title")?,
        counts: Default::default(),
        assets: 0,
        created_at: Timestamp(row.get("created_at")?),
        updated_at: Timestamp(row.get("updated_at")?),
    })
}

fn complete(db: &Connection, mut session: Session) -> Result<Session> {
    session.counts = counts::of_session(db, session.id)?;
    session.assets = crate::assets::count_of_session(db, session.id)?;
    Ok(session)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn a_title_is_one_line_cut_at_a_word() {
        assert_eq!(title_from("  a\nred\t fox "), "a red fox");
        let long = "a lighthouse on a cliff above a stormy sea, oil painting, dramatic light";
        assert_eq!(
            title_from(long),
            "a lighthouse on a cliff above a stormy sea, oil painting…"
        );
        assert_eq!(title_from(&"é".repeat(100)).chars().count(), TITLE_CHARS);
    }

    #[test]
    fn the_latest_used_comes_first_and_a_removed_one_is_gone() {
        let store = Store::open_in_memory().unwrap();
        store
            .write(|tx| {
                let a = create(tx, SessionKind::Image, "a", Timestamp(1))?;
                let b = create(tx, SessionKind::Bulk, "", Timestamp(2))?;
                let order = |tx: &Transaction<'_>| -> Result<Vec<SessionId>> {
                    Ok(list(tx, Page::first(10))?
                        .rows
                        .iter()
                        .map(|s| s.id)
                        .collect())
                };
                assert_eq!(order(tx)?, [b, a]);
                assert!(rename(tx, a, "A", Timestamp(3))?);
                assert_eq!(order(tx)?, [a, b]);
                assert!(touch(tx, b, Some("a red fox"), Timestamp(4))?);
                assert!(touch(tx, b, Some("another"), Timestamp(5))?);
                assert_eq!(get(tx, b)?.unwrap().title, "a red fox");
                assert!(remove(tx, a)?);
                assert!(!remove(tx, a)?);
                assert_eq!(get(tx, a)?, None);
                assert_eq!(list(tx, Page::first(10))?.total, 1);
                Ok(())
            })
            .unwrap();
    }
}
