//! Sessions: named stretches of work that a user comes back to.

use kinora_core::{Event, Problem, Session, SessionId, SessionKind, Timestamp};
use kinora_queue::{AssetFilter, AssetSort, JobFilter, Page};
use kinora_store::sessions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    error::{Error, Result},
    jobs::PAGE_ROWS,
};

/// Longest title in characters.
const TITLE_CHARS: usize = 200;

/// Which sessions to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionQuery {
    /// Of one kind.
    pub kind: Option<SessionKind>,
    /// How many to skip.
    pub offset: u64,
    /// How many to answer with, at most 1,000. None: 100.
    pub limit: Option<u32>,
}

/// One page of sessions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionPage {
    /// The sessions of this page.
    pub sessions: Vec<Session>,
    /// How many there are in all.
    pub total: u64,
}

/// A session to begin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewSession {
    /// What it is about.
    pub kind: SessionKind,
    /// Title; empty: taken from the first prompt.
    pub title: String,
}

/// A new title.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameSession {
    /// Which session.
    pub id: SessionId,
    /// 1 to 200 characters.
    pub title: String,
}

/// A session to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveSession {
    /// Which session.
    pub id: SessionId,
    /// Move its pictures to the trash as well.
    #[serde(default)]
    pub with_assets: bool,
}

/// What went with a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionRemoved {
    /// Unfinished jobs that were cancelled.
    pub cancelled_jobs: u64,
    /// Pictures that are in the trash now.
    pub trashed_assets: u64,
}

/// Sessions, most recently used first.
pub async fn list(app: &App, input: SessionQuery) -> Result<SessionPage> {
    let limit = input.limit.unwrap_or(PAGE_ROWS);
    let Some(kind) = input.kind else {
        let page = Page {
            offset: input.offset,
            limit,
        };
        let listed = app.store().read(|db| sessions::list(db, page))?;
        return Ok(SessionPage {
            sessions: listed.rows,
            total: listed.total,
        });
    };
    // A person has few sessions, so that those of one kind are picked out of all.
    let mut found = Vec::new();
    let mut offset = 0;
    loop {
        let page = Page {
            offset,
            limit: Page::MAX_LIMIT,
        };
        let listed = app.store().read(|db| sessions::list(db, page))?;
        offset += listed.rows.len() as u64;
        let is_last = listed.rows.is_empty() || offset >= listed.total;
        found.extend(
            listed
                .rows
                .into_iter()
                .filter(|session| session.kind == kind),
        );
        if is_last {
            break;
        }
    }
    let total = found.len() as u64;
    let offset = usize::try_from(input.offset).unwrap_or(usize::MAX);
    let limit = limit.min(Page::MAX_LIMIT) as usize;
    Ok(SessionPage {
        sessions: found.into_iter().skip(offset).take(limit).collect(),
        total,
    })
}

/// Begins a session.
pub async fn create(app: &App, input: NewSession) -> Result<Session> {
    if !input.title.is_empty() {
        check_title(&input.title)?;
    }
    begin(app, input.kind, &input.title)
}

/// Gives a session another title.
pub async fn rename(app: &App, input: RenameSession) -> Result<Session> {
    check_title(&input.title)?;
    let renamed = app.store().write(|tx| {
        sessions::rename(tx, input.id, &input.title, Timestamp::now())?;
        sessions::get(tx, input.id)
    })?;
    tell(app, renamed, input.id)
}

/// Removes a session: cancels what is unfinished, and trashes its pictures if asked.
pub async fn remove(app: &App, input: RemoveSession) -> Result<SessionRemoved> {
    let id = input.id;
    if app.store().read(|db| sessions::get(db, id))?.is_none() {
        return Err(Error::not_found(format_args!("session {id}")));
    }
    let filter = JobFilter {
        session: Some(id),
        ..JobFilter::default()
    };
    let cancelled_jobs = app.queue().cancel_where(filter).await?;
    let trashed_assets = if input.with_assets {
        trash_assets(app, id).await?
    } else {
        0
    };
    forget(app, id)?;
    Ok(SessionRemoved {
        cancelled_jobs,
        trashed_assets,
    })
}

/// Trashes the pictures of a session; how many they were.
async fn trash_assets(app: &App, id: SessionId) -> Result<u64> {
    let mut trashed = 0;
    loop {
        let filter = AssetFilter {
            session: Some(id),
            ..AssetFilter::default()
        };
        let page = Page::first(Page::MAX_LIMIT);
        let listed = app.queue().assets(filter, AssetSort::Newest, page).await?;
        if listed.rows.is_empty() {
            return Ok(trashed);
        }
        let ids: Vec<_> = listed.rows.into_iter().map(|asset| asset.id).collect();
        trashed += ids.len() as u64;
        app.queue().trash_assets(ids).await?;
    }
}

/// Begins a session; without a title it takes the first prompt that is queued in it.
pub(crate) fn begin(app: &App, kind: SessionKind, title: &str) -> Result<Session> {
    let title: String = title.chars().take(TITLE_CHARS).collect();
    let (id, session) = app.store().write(|tx| {
        let id = sessions::create(tx, kind, &title, Timestamp::now())?;
        Ok((id, sessions::get(tx, id)?))
    })?;
    tell(app, session, id)
}

/// Takes a session out of the database; what belongs to it stays, without a session.
pub(crate) fn forget(app: &App, id: SessionId) -> Result<()> {
    app.store().write(|tx| sessions::remove(tx, id))?;
    app.queue().tell(Event::SessionRemoved { session: id });
    Ok(())
}

fn tell(app: &App, session: Option<Session>, id: SessionId) -> Result<Session> {
    let session = session.ok_or_else(|| Error::not_found(format_args!("session {id}")))?;
    app.queue().tell(Event::SessionChanged {
        session: session.clone(),
    });
    Ok(session)
}

fn check_title(title: &str) -> Result<()> {
    let length = title.trim().chars().count();
    if length == 0 || length > TITLE_CHARS {
        let message = format!("a title has 1 to {TITLE_CHARS} characters, this one {length}");
        return Err(Problem::in_field("title", message, "Use another title.").into());
    }
    Ok(())
}
