//! Stored pictures: finding them, trashing them, getting them back.

use kinora_core::{Asset, AssetId, AssetKind, BatchId, ModelId, SessionId};
use kinora_queue::{AssetFilter, Page};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{app::App, error::Result, jobs::PAGE_ROWS};

/// Names a stored picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssetRef {
    /// Which.
    pub id: AssetId,
}

/// Names stored pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssetIds {
    /// Which.
    pub ids: Vec<AssetId>,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AssetSort {
    /// Newest first.
    #[default]
    Newest,
    /// Oldest first.
    Oldest,
}

/// Which pictures to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AssetQuery {
    /// Words that occur in prompt, model name, or seed.
    pub search: Option<String>,
    /// Only pictures, or only clips.
    pub kind: Option<AssetKind>,
    /// Of one model.
    pub model: Option<ModelId>,
    /// Of one session.
    pub session: Option<SessionId>,
    /// Of one batch.
    pub batch: Option<BatchId>,
    /// What is in the trash, instead of what is not.
    pub trashed: bool,
    /// Order.
    pub sort: AssetSort,
    /// How many to skip.
    pub offset: u64,
    /// How many to answer with, at most 1,000. None: 100.
    pub limit: Option<u32>,
}

/// One page of pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AssetPage {
    /// The pictures of this page.
    pub assets: Vec<Asset>,
    /// How many there are in all.
    pub total: u64,
}

/// How many pictures an action changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AssetCount {
    /// Pictures.
    pub assets: u64,
}

/// Stored pictures, searched, filtered and paged.
pub async fn list(app: &App, input: AssetQuery) -> Result<AssetPage> {
    let filter = AssetFilter {
        search: input.search,
        kind: input.kind,
        model: input.model,
        session: input.session,
        batch: input.batch,
        is_trashed: input.trashed,
    };
    let sort = match input.sort {
        AssetSort::Newest => kinora_queue::AssetSort::Newest,
        AssetSort::Oldest => kinora_queue::AssetSort::Oldest,
    };
    let page = Page {
        offset: input.offset,
        limit: input.limit.unwrap_or(PAGE_ROWS),
    };
    let listed = app.queue().assets(filter, sort, page).await?;
    Ok(AssetPage {
        assets: listed.rows,
        total: listed.total,
    })
}

/// One stored picture with its whole recipe.
pub async fn get(app: &App, input: AssetRef) -> Result<Asset> {
    Ok(app.queue().asset(input.id).await?)
}

/// Moves pictures to the trash.
pub async fn trash(app: &App, input: AssetIds) -> Result<AssetCount> {
    let count = input.count();
    app.queue().trash_assets(input.ids).await?;
    Ok(count)
}

/// Takes pictures out of the trash.
pub async fn restore(app: &App, input: AssetIds) -> Result<AssetCount> {
    let count = input.count();
    app.queue().restore_assets(input.ids).await?;
    Ok(count)
}

/// Deletes trashed pictures for good.
pub async fn purge(app: &App, input: AssetIds) -> Result<AssetCount> {
    let count = input.count();
    app.queue().purge_assets(input.ids).await?;
    Ok(count)
}

impl AssetIds {
    fn count(&self) -> AssetCount {
        AssetCount {
            assets: self.ids.len() as u64,
        }
    }
}
