//! Assets: stored pictures and clips, and the full-text index that finds them.
//!
//! An asset is written unpublished, with the name under which its file waits and the name that it
//! will have. Nothing but the queue's publication sees it until it is published, in the transaction
//! that ends its job.

use kinora_core::{
    Artifact, Asset, AssetId, AssetKind, BatchId, JobId, ModelId, Recipe, SessionId, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::{
    Listed, Page, Result,
    codec::{self, Key},
    lineage,
    planned_models::{self, Models},
};

pub(crate) const V1: &str = "
CREATE TABLE assets (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    job BLOB REFERENCES jobs (id) ON DELETE SET NULL,
    batch BLOB REFERENCES batches (id) ON DELETE SET NULL,
    session BLOB REFERENCES sessions (id) ON DELETE SET NULL,
    kind TEXT NOT NULL,
    format TEXT NOT NULL,
    path TEXT NOT NULL,
    -- Where the file is while the asset is not published.
    staging TEXT,
    published INTEGER NOT NULL CHECK (published IN (0, 1)),
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    model INTEGER NOT NULL REFERENCES planned_models (id),
    recipe TEXT NOT NULL,
    -- What is searched, besides the path.
    prompt TEXT NOT NULL,
    model_name TEXT NOT NULL,
    seed TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    trashed_at INTEGER,
    CHECK (published = (staging IS NULL))
) STRICT;

CREATE UNIQUE INDEX assets_path ON assets (path) WHERE trashed_at IS NULL;
CREATE INDEX assets_job ON assets (job);
CREATE INDEX assets_batch ON assets (batch);
CREATE INDEX assets_session ON assets (session);
CREATE INDEX assets_live ON assets (seq) WHERE published = 1 AND trashed_at IS NULL;
CREATE INDEX assets_batch_live ON assets (batch) WHERE published = 1 AND trashed_at IS NULL;
CREATE INDEX assets_session_live ON assets (session) WHERE published = 1 AND trashed_at IS NULL;
CREATE INDEX assets_unpublished ON assets (seq) WHERE published = 0;
CREATE INDEX assets_trashed ON assets (trashed_at) WHERE trashed_at IS NOT NULL;

-- The filters of lists are words of the index too, so that a search never looks at the table. They
-- begin with U+E000, a letter to the index which neither a prompt nor a search can bring in.
CREATE VIRTUAL TABLE assets_text USING fts5 (
    prompt, model, seed, file, facets,
    content = '', contentless_delete = 1, prefix = '2 3', tokenize = 'unicode61'
);

CREATE TRIGGER assets_text_delete AFTER DELETE ON assets WHEN OLD.published = 1 BEGIN
    DELETE FROM assets_text WHERE rowid = OLD.seq;
END;
CREATE TRIGGER assets_text_update
AFTER UPDATE OF published, path, trashed_at, session, batch ON assets WHEN NEW.published = 1 BEGIN
    DELETE FROM assets_text WHERE rowid = OLD.seq AND OLD.published = 1;
    INSERT INTO assets_text (rowid, prompt, model, seed, file, facets) VALUES (
        NEW.seq, replace(NEW.prompt, char(0xE000), ' '),
        NEW.model_name || ' '
            || (SELECT json_extract(json, '$.name') FROM planned_models WHERE id = NEW.model),
        NEW.seed, replace(NEW.path, char(0xE000), ' '),
        char(0xE000) || CASE WHEN NEW.trashed_at IS NULL THEN 'live' ELSE 'trashed' END
            || ' ' || char(0xE000) || 'm' || hex(NEW.model_name)
            || coalesce(' ' || char(0xE000) || 's' || hex(NEW.session), '')
            || coalesce(' ' || char(0xE000) || 'b' || hex(NEW.batch), '')
    );
END;
";

/// Clips: what they are beyond their size, as JSON, and the kind among the words of the index. The
/// last statement writes the index anew.
pub(crate) const V2: &str = "
ALTER TABLE assets ADD COLUMN clip TEXT;
DROP TRIGGER assets_text_update;
CREATE TRIGGER assets_text_update
AFTER UPDATE OF published, path, trashed_at, session, batch ON assets WHEN NEW.published = 1 BEGIN
    DELETE FROM assets_text WHERE rowid = OLD.seq AND OLD.published = 1;
    INSERT INTO assets_text (rowid, prompt, model, seed, file, facets) VALUES (
        NEW.seq, replace(NEW.prompt, char(0xE000), ' '),
        NEW.model_name || ' '
            || (SELECT json_extract(json, '$.name') FROM planned_models WHERE id = NEW.model),
        NEW.seed, replace(NEW.path, char(0xE000), ' '),
        char(0xE000) || CASE WHEN NEW.trashed_at IS NULL THEN 'live' ELSE 'trashed' END
            || ' ' || char(0xE000) || 'k' || NEW.kind
            || ' ' || char(0xE000) || 'm' || hex(NEW.model_name)
            || coalesce(' ' || char(0xE000) || 's' || hex(NEW.session), '')
            || coalesce(' ' || char(0xE000) || 'b' || hex(NEW.batch), '')
    );
END;
UPDATE assets SET published = published WHERE published = 1;
";

/// A result to be stored.
pub(crate) struct NewAsset<'a> {
    pub job: JobId,
    pub batch: Option<BatchId>,
    pub session: Option<SessionId>,
    pub artifact: &'a Artifact,
    pub path: &'a str,
    pub staging: &'a str,
}

/// Stores a result, unpublished.
pub(crate) fn add(tx: &Transaction<'_>, new: NewAsset<'_>, now: Timestamp) -> Result<AssetId> {
    let mut recipe: Recipe = new.artifact.recipe.clone();
    let model = planned_models::take(&mut recipe.plan);
    let model_row = planned_models::intern(tx, &model)?;
    let id = AssetId::new();
    tx.prepare_cached(
        "INSERT INTO assets (id, job, batch, session, kind, format, path, staging, published,
             width, height, bytes, sha256, model, recipe, prompt, model_name, seed, created_at,
             clip)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17,
             ?18, ?19)",
    )?
    .execute(params![
        id.key(),
        new.job.key(),
        new.batch.map(Key::key),
        new.session.map(Key::key),
        codec::to_word(&new.artifact.kind)?,
        codec::to_word(&new.artifact.format)?,
        new.path,
        new.staging,
        new.artifact.width,
        new.artifact.height,
        codec::to_natural(new.artifact.bytes),
        new.artifact.sha256,
        model_row,
        codec::to_json(&recipe)?,
        recipe.plan.prompt,
        model.id.as_str(),
        recipe.plan.seed.to_string(),
        now.0,
        new.artifact.clip.as_ref().map(codec::to_json).transpose()?,
    ])?;
    lineage::add(tx, id, &new.artifact.recipe.plan)?;
    Ok(id)
}

/// The file of a published asset, for adding up and comparing with the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Path below the outputs folder; where it was, for assets in the trash.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// When it went to the trash.
    pub trashed_at: Option<Timestamp>,
}

/// The files of all published assets, in the trash or not.
pub fn files(db: &Connection) -> Result<Vec<StoredFile>> {
    let mut statement =
        db.prepare_cached("SELECT path, bytes, trashed_at FROM assets WHERE published = 1")?;
    let rows = statement.query_map([], |row| {
        Ok(StoredFile {
            path: row.get("path")?,
            bytes: codec::natural(row, 1)?,
            trashed_at: row.get::<_, Option<i64>>("trashed_at")?.map(Timestamp),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Whether an asset outside the trash has this path, published or not.
pub fn is_taken(db: &Connection, path: &str) -> Result<bool> {
    Ok(db
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM assets WHERE path = ?1 AND trashed_at IS NULL)",
        )?
        .query_row([path], |row| row.get(0))?)
}

/// An asset whose file still has its staging name, or was just renamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpublished {
    /// Which.
    pub asset: AssetId,
    /// The job that made it.
    pub job: Option<JobId>,
    /// Where the file is, below the outputs folder.
    pub staging: String,
    /// Where it will be, below the outputs folder.
    pub path: String,
    /// Size of the file.
    pub bytes: u64,
}

/// The assets that a crash has left between their commit and their publication.
pub fn unpublished(db: &Connection) -> Result<Vec<Unpublished>> {
    let mut statement = db.prepare_cached(
        "SELECT id, job, staging, path, bytes FROM assets WHERE published = 0 ORDER BY seq",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Unpublished {
            asset: codec::id(row, "id")?,
            job: codec::optional_id(row, "job")?,
            staging: row.get("staging")?,
            path: row.get("path")?,
            bytes: codec::natural(row, "bytes")?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Marks an asset's file as being at its path.
pub(crate) fn publish(tx: &Transaction<'_>, asset: AssetId) -> Result<bool> {
    let changed = tx
        .prepare_cached(
            "UPDATE assets SET published = 1, staging = NULL WHERE id = ?1 AND published = 0",
        )?
        .execute([asset.key()])?;
    Ok(changed > 0)
}

/// Gives an asset another path; false when another asset has it.
pub fn set_path(tx: &Transaction<'_>, asset: AssetId, path: &str) -> Result<bool> {
    if is_taken(tx, path)? {
        return Ok(false);
    }
    tx.execute(
        "UPDATE assets SET path = ?2 WHERE id = ?1",
        params![asset.key(), path],
    )?;
    Ok(true)
}

/// One asset, published.
pub fn get(db: &Connection, id: AssetId) -> Result<Option<Asset>> {
    let seq: Option<i64> = db
        .prepare_cached("SELECT seq FROM assets WHERE id = ?1 AND published = 1")?
        .query_row([id.key()], |row| row.get(0))
        .optional()?;
    seq.map(|seq| read(db, seq, &mut Models::default()))
        .transpose()
}

/// The published assets of one job.
pub(crate) fn ids_of_job(db: &Connection, job: JobId) -> Result<Vec<AssetId>> {
    let mut statement =
        db.prepare_cached("SELECT id FROM assets WHERE job = ?1 AND published = 1 ORDER BY seq")?;
    let rows = statement.query_map([job.key()], |row| codec::id(row, "id"))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(crate) fn count_of_session(db: &Connection, session: SessionId) -> Result<u64> {
    Ok(db
        .prepare_cached(
            "SELECT count(*) FROM assets
             WHERE session = ?1 AND published = 1 AND trashed_at IS NULL",
        )?
        .query_row([session.key()], |row| codec::natural(row, 0))?)
}

/// Which assets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssetFilter {
    /// Words, or beginnings of words, that all occur in the prompt, the model's name, the seed or
    /// the file's path.
    pub search: Option<String>,
    /// Only of this kind.
    pub kind: Option<AssetKind>,
    /// Only of this model.
    pub model: Option<ModelId>,
    /// Only of this session.
    pub session: Option<SessionId>,
    /// Only of this batch.
    pub batch: Option<BatchId>,
    /// Those in the trash instead of those that are not.
    pub is_trashed: bool,
}

/// In which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AssetSort {
    /// The newest first.
    #[default]
    Newest,
    /// The oldest first.
    Oldest,
}

/// One page of published assets.
pub fn list(
    db: &Connection,
    filter: &AssetFilter,
    sort: AssetSort,
    page: Page,
) -> Result<Listed<Asset>> {
    let (seqs, total) = match filter.to_plain() {
        Some(condition) => select(db, filter, condition, sort, page)?,
        None => search(db, filter, sort, page)?,
    };
    let mut models = Models::default();
    let rows = seqs
        .into_iter()
        .map(|seq| read(db, seq, &mut models))
        .collect::<Result<_>>()?;
    Ok(Listed { rows, total })
}

/// A page through an index of the table, and the length of the whole.
fn select(
    db: &Connection,
    filter: &AssetFilter,
    condition: &str,
    sort: AssetSort,
    page: Page,
) -> Result<(Vec<i64>, u64)> {
    let from = format!("FROM assets {condition} AND published = 1 AND trashed_at IS NULL");
    let key = filter
        .batch
        .map(Key::key)
        .or_else(|| filter.session.map(Key::key));
    let total = db
        .prepare_cached(&format!("SELECT count(*) {from}"))?
        .query_row([key], |row| codec::natural(row, 0))?;
    let order = match sort {
        AssetSort::Newest => "seq DESC",
        AssetSort::Oldest => "seq",
    };
    let mut statement = db.prepare_cached(&format!(
        "SELECT seq {from} ORDER BY {order} LIMIT ?2 OFFSET ?3"
    ))?;
    let rows = statement.query_map(params![key, page.sql_limit(), page.sql_offset()], |row| {
        row.get(0)
    })?;
    Ok((rows.collect::<rusqlite::Result<_>>()?, total))
}

/// A page of what the full-text index finds, and the length of the whole, in one pass.
fn search(
    db: &Connection,
    filter: &AssetFilter,
    sort: AssetSort,
    page: Page,
) -> Result<(Vec<i64>, u64)> {
    let order = match sort {
        AssetSort::Newest => "rowid DESC",
        AssetSort::Oldest => "rowid",
    };
    let mut statement = db.prepare_cached(&format!(
        "SELECT rowid FROM assets_text WHERE assets_text MATCH ?1 ORDER BY {order}"
    ))?;
    let mut rows = statement.query([filter.to_match()])?;
    let (mut seqs, mut total) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        if total >= page.offset && total - page.offset < page.limit() {
            seqs.push(row.get(0)?);
        }
        total += 1;
    }
    Ok((seqs, total))
}

impl AssetFilter {
    /// The filter as a condition that an index of the table serves, when there is one. Its parameter
    /// is the batch or the session.
    fn to_plain(&self) -> Option<&'static str> {
        let has_facet = self.is_trashed || self.kind.is_some() || self.model.is_some();
        if has_facet || self.words().next().is_some() {
            return None;
        }
        match (self.batch, self.session) {
            (Some(_), Some(_)) => None,
            (Some(_), None) => Some("INDEXED BY assets_batch_live WHERE batch = ?1"),
            (None, Some(_)) => Some("INDEXED BY assets_session_live WHERE session = ?1"),
            (None, None) => Some("INDEXED BY assets_live WHERE ?1 IS NULL"),
        }
    }

    /// The filter as an FTS5 query.
    fn to_match(&self) -> String {
        let mut words = vec![if self.is_trashed { "trashed" } else { "live" }.to_owned()];
        match self.kind {
            None => {}
            Some(AssetKind::Image) => words.push("kimage".to_owned()),
            Some(AssetKind::Video) => words.push("kvideo".to_owned()),
        }
        if let Some(model) = &self.model {
            words.push(format!("m{}", hex(model.as_str().as_bytes())));
        }
        if let Some(session) = self.session {
            words.push(format!("s{}", hex(&session.key())));
        }
        if let Some(batch) = self.batch {
            words.push(format!("b{}", hex(&batch.key())));
        }
        for word in &mut words {
            *word = format!("\"\u{e000}{word}\"");
        }
        words.extend(self.words().map(|word| format!("\"{word}\" *")));
        words.join(" AND ")
    }

    /// The words of the search: what is between them is what the index does not keep either.
    fn words(&self) -> impl Iterator<Item = &str> {
        self.search
            .iter()
            .flat_map(|text| text.split(|c: char| !c.is_alphanumeric()))
            .filter(|word| !word.is_empty())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(db: &Connection, seq: i64, models: &mut Models) -> Result<Asset> {
    let (mut asset, model) = db
        .prepare_cached("SELECT * FROM assets WHERE seq = ?1")?
        .query_row([seq], |row| Ok((bare_asset(row)?, row.get("model")?)))?;
    asset.recipe.plan.model = models.get(db, model)?;
    Ok(asset)
}

fn bare_asset(row: &Row<'_>) -> rusqlite::Result<Asset> {
    Ok(Asset {
        id: codec::id(row, "id")?,
        job: codec::optional_id(row, "job")?,
        batch: codec::optional_id(row, "batch")?,
        session: codec::optional_id(row, "session")?,
        kind: codec::word(row, "kind")?,
        format: codec::word(row, "format")?,
        path: row.get("path")?,
        width: row.get("width")?,
        height: row.get("height")?,
        bytes: codec::natural(row, "bytes")?,
        sha256: row.get("sha256")?,
        clip: codec::optional_json(row, "clip")?,
        recipe: codec::json(row, "recipe")?,
        created_at: Timestamp(row.get("created_at")?),
        trashed_at: row.get::<_, Option<i64>>("trashed_at")?.map(Timestamp),
    })
}

/// Assets for the tests of this module and of lineage.
#[cfg(test)]
pub(crate) mod fixtures {
    use kinora_core::{
        ClipFormat, ClipInfo, Family, ImageFormat, Mode, OutputPlan, Plan, PlannedModel, Rng,
        Sampler, Schedule, Seed, Size,
    };

    use super::*;

    pub fn artifact(name: &str, clip: Option<ClipInfo>) -> Artifact {
        let is_clip = clip.is_some();
        Artifact {
            kind: if is_clip {
                AssetKind::Video
            } else {
                AssetKind::Image
            },
            format: if is_clip {
                ClipFormat::AnimatedWebp.into()
            } else {
                ImageFormat::Webp.into()
            },
            width: 64,
            height: 32,
            bytes: 9,
            sha256: "0".repeat(64),
            clip,
            recipe: Recipe {
                recipe: 1,
                kinora: "0.1.0".into(),
                plan: Plan {
                    version: kinora_core::plan::PLAN_VERSION,
                    numerics: "1".into(),
                    mode: Mode::TextToImage,
                    model: PlannedModel {
                        components: Default::default(),
                        parts: Default::default(),
                        id: ModelId::new("m"),
                        name: "M".into(),
                        family: Family::Flux,
                        variant: "schnell".into(),
                        root: Default::default(),
                        weights: Vec::new(),
                    },
                    prompt: name.into(),
                    template: None,
                    negative_prompt: String::new(),
                    source: None,
                    draft: None,
                    parent: None,
                    loras: Vec::new(),
                    video: None,
                    size: Size {
                        width: 64,
                        height: 32,
                    },
                    steps: 4,
                    guidance: None,
                    true_cfg: None,
                    step_cache: None,
                    seed: Seed(7),
                    rng: Rng::Cpu,
                    text_tokens: 64,
                    sampler: Sampler::Euler,
                    schedule: Schedule::FlowMatch,
                    output: OutputPlan {
                        stem: name.into(),
                        format: ImageFormat::Webp.into(),
                    },
                },
                device: "cpu".into(),
                dtype: "f32".into(),
                timings: None,
                created_at: None,
            },
        }
    }

    pub fn store(db: &mut Connection, artifact: &Artifact) -> AssetId {
        let tx = db.transaction().unwrap();
        let path = artifact.recipe.plan.prompt.clone();
        let new = NewAsset {
            job: JobId::new(),
            batch: None,
            session: None,
            artifact,
            path: &path,
            staging: ".part",
        };
        let id = add(&tx, new, Timestamp(1)).unwrap();
        publish(&tx, id).unwrap();
        tx.commit().unwrap();
        id
    }

    pub fn database() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        // These assets have no jobs.
        db.pragma_update(None, "foreign_keys", false).unwrap();
        db
    }
}

#[cfg(test)]
mod tests {
    use kinora_core::{ClipFormat, ClipInfo, FrameRate, ImageFormat};

    use super::{
        fixtures::{artifact, database, store},
        *,
    };
    use crate::migrations;

    #[test]
    fn clips_and_pictures_are_told_apart_and_kept_whole() {
        let mut db = database();
        migrations::apply(&mut db, 0).unwrap();
        let clip = ClipInfo {
            frames: 81,
            rate: FrameRate::whole(16),
            duration_ms: 5063,
            has_sound: true,
            codec: "webp".into(),
        };
        let picture = store(&mut db, &artifact("fox one", None));
        let video = store(&mut db, &artifact("fox two", Some(clip.clone())));
        let find = |kind, search: Option<&str>| {
            let filter = AssetFilter {
                kind,
                search: search.map(str::to_owned),
                ..AssetFilter::default()
            };
            let page = Page::first(100);
            let listed = list(&db, &filter, AssetSort::Oldest, page).unwrap();
            listed.rows.iter().map(|row| row.id).collect::<Vec<_>>()
        };
        assert_eq!(find(None, None), [picture, video]);
        assert_eq!(find(Some(AssetKind::Image), None), [picture]);
        assert_eq!(find(Some(AssetKind::Video), Some("fox")), [video]);
        assert!(find(Some(AssetKind::Video), Some("one")).is_empty());
        let page = Page::first(100);
        let all = list(&db, &AssetFilter::default(), AssetSort::Oldest, page).unwrap();
        assert_eq!(all.rows[0].clip, None);
        assert_eq!(all.rows[0].format, ImageFormat::Webp.into());
        assert_eq!(all.rows[1].clip, Some(clip));
        assert_eq!(all.rows[1].format, ClipFormat::AnimatedWebp.into());
    }

    #[test]
    fn pictures_from_before_there_were_clips_are_found_by_their_kind() {
        let mut db = database();
        migrations::apply_until(&mut db, 0, 1).unwrap();
        db.execute_batch(
            "INSERT INTO planned_models (json) VALUES ('{\"name\": \"M\"}');
             INSERT INTO assets (id, kind, format, path, published, width, height, bytes, sha256,
                 model, recipe, prompt, model_name, seed, created_at)
             VALUES (x'01', 'image', 'png', 'a.png', 1, 1, 1, 1, '', 1, '{}', 'a fox', 'm', '7', 1);",
        )
        .unwrap();
        migrations::apply(&mut db, 1).unwrap();
        let count = |filter: &AssetFilter| -> i64 {
            let sql = "SELECT count(*) FROM assets_text WHERE assets_text MATCH ?1";
            db.query_row(sql, [filter.to_match()], |row| row.get(0))
                .unwrap()
        };
        let mut filter = AssetFilter {
            kind: Some(AssetKind::Image),
            search: Some("fox".into()),
            ..AssetFilter::default()
        };
        assert_eq!(count(&filter), 1);
        filter.kind = Some(AssetKind::Video);
        assert_eq!(count(&filter), 0);
    }
}
