//! Which pictures that were handed in are still spoken of: by jobs, and by the recipes of results.

use std::collections::HashSet;

use kinora_core::{Digest, PlannedSource};
use rusqlite::Connection;
use serde::Deserialize;

use crate::{Error, Result};

/// The part of a plan or recipe that names pictures.
#[derive(Deserialize)]
struct Speaking {
    #[serde(default)]
    source: Option<PlannedSource>,
    /// Of a recipe.
    #[serde(default)]
    plan: Option<Box<Speaking>>,
}

/// The content of every picture that some job or result was made from, or will be.
pub fn in_use(db: &Connection) -> Result<HashSet<Digest>> {
    let mut used = HashSet::new();
    for query in [
        "SELECT json FROM plan_templates WHERE json LIKE '%\"source\":{%'",
        "SELECT recipe FROM assets WHERE recipe LIKE '%\"source\":{%'",
    ] {
        let mut statement = db.prepare(query)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let text: String = row.get(0)?;
            let speaking: Speaking = serde_json::from_str(&text).map_err(Error::from)?;
            let inner = speaking.plan.and_then(|plan| plan.source);
            for source in speaking.source.iter().chain(&inner) {
                used.extend(source.pictures().map(|picture| picture.sha256.clone()));
            }
        }
    }
    Ok(used)
}
