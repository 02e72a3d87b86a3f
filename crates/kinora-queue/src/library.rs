//! The stored pictures: finding them, the trash, and sweeping.

use kinora_core::{Asset, AssetId, Relative, Timestamp};
use kinora_store::{
    Listed, Page,
    assets::{self, AssetFilter, AssetSort},
    lineage,
};

use crate::{Error, Queue, Result, Swept, queue::Inner};

impl Queue {
    /// One picture, in the trash or not.
    pub async fn asset(&self, id: AssetId) -> Result<Asset> {
        self.blocking(move |inner| {
            inner
                .store
                .read(|db| assets::get(db, id))?
                .ok_or(Error::NoAsset(id))
        })
        .await
    }

    /// One page of pictures.
    pub async fn assets(
        &self,
        filter: AssetFilter,
        sort: AssetSort,
        page: Page,
    ) -> Result<Listed<Asset>> {
        self.blocking(move |inner| {
            Ok(inner
                .store
                .read(|db| assets::list(db, &filter, sort, page))?)
        })
        .await
    }

    /// What a picture was made from, and what was made from it.
    pub async fn relatives(&self, id: AssetId) -> Result<(Vec<Relative>, Vec<Relative>)> {
        self.blocking(move |inner| {
            inner
                .store
                .read(|db| {
                    if assets::get(db, id)?.is_none() {
                        return Ok(None);
                    }
                    Ok(Some((
                        lineage::parents(db, id)?,
                        lineage::children(db, id)?,
                    )))
                })?
                .ok_or(Error::NoAsset(id))
        })
        .await
    }

    /// Moves pictures into the trash, one after another; stops at the first that cannot go.
    pub async fn trash_assets(&self, ids: Vec<AssetId>) -> Result<()> {
        self.each(ids, Inner::trash).await
    }

    /// Takes pictures out of the trash, back to their paths, or to the next free names.
    pub async fn restore_assets(&self, ids: Vec<AssetId>) -> Result<()> {
        self.each(ids, Inner::restore).await
    }

    /// Deletes pictures in the trash for good.
    pub async fn purge_assets(&self, ids: Vec<AssetId>) -> Result<()> {
        self.each(ids, Inner::purge).await
    }

    /// Deletes what went to the trash before `time` for good; how many pictures that were.
    pub async fn purge_assets_older_than(&self, time: Timestamp) -> Result<u64> {
        self.blocking(move |inner| inner.purge_older_than(time))
            .await
    }

    /// Deletes what nothing refers to any more: unfinished files, folders of jobs that are over,
    /// and what was in the trash for [`TRASH_DAYS`](crate::TRASH_DAYS). Runs by itself at start.
    pub async fn sweep(&self) -> Result<Swept> {
        self.blocking(Inner::sweep).await
    }

    async fn each(
        &self,
        ids: Vec<AssetId>,
        act: impl Fn(&Inner, AssetId) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        self.blocking(move |inner| ids.into_iter().try_for_each(|id| act(inner, id)))
            .await
    }
}
