//! Batches: jobs that were asked for together, their results table and their contact sheet.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use kinora_core::{Asset, AssetKind, Batch, BatchId, Job, JobId, SessionId};
use kinora_media::{Picture, SheetStyle};
use kinora_queue::{AssetFilter, AssetSort, JobFilter, JobSort, Page};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    app::App,
    bytes::{read_bounded, write_whole},
    error::{Error, Result},
    jobs::PAGE_ROWS,
    naming::to_words,
};

/// Quality of contact sheets.
const SHEET_QUALITY: u8 = 90;
/// Letters of a prompt below its picture.
const CAPTION_CHARS: usize = 80;

/// Names a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRef {
    /// Which.
    pub id: BatchId,
}

/// Which batches to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BatchQuery {
    /// Of one session.
    pub session: Option<SessionId>,
    /// How many to skip.
    pub offset: u64,
    /// How many to answer with, at most 1,000. None: 100.
    pub limit: Option<u32>,
}

/// One page of batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchPage {
    /// The batches of this page.
    pub batches: Vec<Batch>,
    /// How many there are in all.
    pub total: u64,
}

/// A format of results tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableFormat {
    /// Comma-separated, RFC 4180.
    #[default]
    Csv,
    /// Tab-separated.
    Tsv,
    /// One JSON object per line.
    Jsonl,
}

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableQuery {
    /// Which batch.
    pub id: BatchId,
    /// How to write it.
    #[serde(default)]
    pub format: TableFormat,
}

/// A results table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TableFile {
    /// A file name that fits.
    pub name: String,
    /// Media type of the text.
    pub media_type: String,
    /// The table: line, copy, state, prompt, negative, model, seed, width, height, steps, guidance,
    /// file, seconds, error. Cells that a spreadsheet would run as a formula are made harmless.
    pub text: String,
}

/// A contact sheet on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContactSheet {
    /// The file on this machine.
    pub path: String,
    /// Where hosts serve it, below their root.
    pub url: String,
    /// Pictures on it.
    pub pictures: u32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// Batches, newest first.
pub async fn list(app: &App, input: BatchQuery) -> Result<BatchPage> {
    let page = Page {
        offset: input.offset,
        limit: input.limit.unwrap_or(PAGE_ROWS),
    };
    let listed = app.queue().batches(input.session, page).await?;
    Ok(BatchPage {
        batches: listed.rows,
        total: listed.total,
    })
}

/// One batch and its counts.
pub async fn get(app: &App, input: BatchRef) -> Result<Batch> {
    Ok(app.queue().batch(input.id).await?)
}

/// The results of a batch as a table, one line per picture.
pub async fn table(app: &App, input: TableQuery) -> Result<TableFile> {
    let batch = app.queue().batch(input.id).await?;
    let entries = read_entries(app, input.id).await?;
    let text = match input.format {
        TableFormat::Csv => write_separated(&entries, b','),
        TableFormat::Tsv => write_separated(&entries, b'\t'),
        TableFormat::Jsonl => Ok(write_jsonl(&entries)),
    }?;
    let (ending, media_type) = match input.format {
        TableFormat::Csv => ("csv", "text/csv"),
        TableFormat::Tsv => ("tsv", "text/tab-separated-values"),
        TableFormat::Jsonl => ("jsonl", "application/x-ndjson"),
    };
    Ok(TableFile {
        name: format!("{}-results.{ending}", file_title(&batch.title)),
        media_type: media_type.to_owned(),
        text,
    })
}

/// A batch's title as a part of a file name: without its ending, and not too long.
fn file_title(title: &str) -> String {
    let stem = title.rsplit_once('.').map_or(title, |(stem, _)| stem);
    let words: String = to_words(stem).chars().take(60).collect();
    if words.is_empty() {
        "batch".to_owned()
    } else {
        words
    }
}

/// The latest attempt at one picture, and the picture where there is one.
struct Entry {
    job: Job,
    asset: Option<Asset>,
}

/// One entry per picture in the order of the list. An attempt that was tried again is left out.
async fn read_entries(app: &App, batch: BatchId) -> Result<Vec<Entry>> {
    let mut jobs = Vec::new();
    loop {
        let page = Page {
            offset: jobs.len() as u64,
            limit: Page::MAX_LIMIT,
        };
        let filter = JobFilter::of_batch(batch);
        let listed = app.queue().list(filter, Some(JobSort::Oldest), page);
        let listed = listed.await?;
        let is_last = listed.rows.len() < page.limit as usize;
        jobs.extend(listed.rows);
        if is_last {
            break;
        }
    }
    let retried: HashSet<JobId> = jobs.iter().filter_map(|job: &Job| job.retry_of).collect();
    jobs.retain(|job| !retried.contains(&job.id));
    // Second attempts come after the jobs of the list; line and copy put them in their place.
    jobs.sort_by_key(|job| (job.line, job.copy));

    let mut assets: HashMap<JobId, Asset> = HashMap::new();
    for is_trashed in [true, false] {
        let mut offset = 0;
        loop {
            let filter = AssetFilter {
                batch: Some(batch),
                is_trashed,
                ..AssetFilter::default()
            };
            let page = Page {
                offset,
                limit: Page::MAX_LIMIT,
            };
            let listed = app.queue().assets(filter, AssetSort::Oldest, page).await?;
            let is_last = listed.rows.len() < page.limit as usize;
            offset += listed.rows.len() as u64;
            let found = listed.rows.into_iter();
            assets.extend(found.filter_map(|asset| Some((asset.job?, asset))));
            if is_last {
                break;
            }
        }
    }
    Ok(jobs
        .into_iter()
        .map(|job| Entry {
            asset: assets.remove(&job.id),
            job,
        })
        .collect())
}

const HEADINGS: [&str; 14] = [
    "line", "copy", "state", "prompt", "negative", "model", "seed", "width", "height", "steps",
    "guidance", "file", "seconds", "error",
];

impl Entry {
    fn file(&self) -> Option<&str> {
        let kept = |asset: &&Asset| asset.trashed_at.is_none();
        let asset = self.asset.as_ref().filter(kept);
        asset.map(|asset| asset.path.as_str())
    }

    /// Seconds that the picture itself took, without waiting.
    fn seconds(&self) -> Option<f64> {
        self.job.timings.map(|timings| {
            let ms = timings.loading_ms
                + timings.encoding_ms
                + timings.generating_ms
                + timings.decoding_ms
                + timings.saving_ms;
            (ms / 10.0).round() / 100.0
        })
    }

    fn error(&self) -> Option<&str> {
        let failure = self.job.failure.as_ref();
        failure.map(|failure| failure.message.as_str())
    }

    fn cells(&self) -> [String; 14] {
        let plan = &self.job.plan;
        let or_empty = |value: Option<String>| value.unwrap_or_default();
        [
            or_empty(self.job.line.map(|line| line.to_string())),
            (u64::from(self.job.copy) + 1).to_string(),
            self.job.state.as_str().to_owned(),
            make_harmless(&plan.prompt),
            make_harmless(&plan.negative_prompt),
            make_harmless(plan.model.id.as_str()),
            plan.seed.to_string(),
            plan.size.width.to_string(),
            plan.size.height.to_string(),
            plan.steps.to_string(),
            or_empty(plan.guidance.map(|scale| scale.to_string())),
            make_harmless(self.file().unwrap_or_default()),
            or_empty(self.seconds().map(|seconds| seconds.to_string())),
            make_harmless(self.error().unwrap_or_default()),
        ]
    }
}

/// A text that no spreadsheet runs as a formula.
fn make_harmless(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

fn write_separated(entries: &[Entry], separator: u8) -> Result<String> {
    let mut writer = csv::WriterBuilder::new()
        .delimiter(separator)
        .from_writer(Vec::new());
    writer.write_record(HEADINGS).map_err(Error::internal)?;
    for entry in entries {
        let written = writer.write_record(entry.cells());
        written.map_err(Error::internal)?;
    }
    let bytes = writer.into_inner().map_err(Error::internal)?;
    String::from_utf8(bytes).map_err(Error::internal)
}

fn write_jsonl(entries: &[Entry]) -> String {
    let lines = entries.iter().map(|entry| {
        let plan = &entry.job.plan;
        let line = json!({
            "line": entry.job.line,
            "copy": u64::from(entry.job.copy) + 1,
            "state": entry.job.state,
            "prompt": plan.prompt,
            "negative": plan.negative_prompt,
            "model": plan.model.id,
            "seed": plan.seed,
            "width": plan.size.width,
            "height": plan.size.height,
            "steps": plan.steps,
            "guidance": plan.guidance,
            "file": entry.file(),
            "seconds": entry.seconds(),
            "error": entry.error(),
        });
        format!("{line}\n")
    });
    lines.collect()
}

/// Draws the pictures of a batch onto one sheet; a place stays empty where none is done yet.
pub async fn contact_sheet(app: &Arc<App>, input: BatchRef) -> Result<ContactSheet> {
    let batch = app.queue().batch(input.id).await?;
    let entries = read_entries(app, input.id).await?;
    let app = Arc::clone(app);
    let draw = move || draw_sheet(&app, &batch, &entries);
    tokio::task::spawn_blocking(draw)
        .await
        .map_err(Error::internal)?
}

fn draw_sheet(app: &App, batch: &Batch, entries: &[Entry]) -> Result<ContactSheet> {
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let mut sheet = kinora_media::ContactSheet::new(&batch.title, count, SheetStyle::default())?;
    let mut pictures = 0;
    for entry in entries {
        let picture = entry.asset.as_ref().and_then(|asset| {
            let path = app.asset_file(asset);
            match read_picture(&path, asset.kind) {
                Ok(picture) => Some(picture),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a sheet lacks a picture");
                    None
                }
            }
        });
        pictures += u32::from(picture.is_some());
        sheet.add(picture, &caption(&entry.job))?;
    }
    let Picture { width, height, rgb } = sheet.finish();
    let bytes = kinora_media::encode_jpeg(&rgb, width, height, SHEET_QUALITY)?;
    let path = app.config().sheets_dir().join(format!("{}.jpg", batch.id));
    write_whole(&path, &bytes).map_err(|e| Error::io("write", &path, &e))?;
    Ok(ContactSheet {
        path: path.display().to_string(),
        url: format!("/media/sheets/{}", batch.id),
        pictures,
        width,
        height,
    })
}

fn caption(job: &Job) -> String {
    let prompt: String = job.plan.prompt.chars().take(CAPTION_CHARS).collect();
    match job.line {
        Some(line) => format!("{line}: {prompt}"),
        None => prompt,
    }
}

/// A picture, or the first frame of a clip.
fn read_picture(path: &Path, kind: AssetKind) -> Result<Picture> {
    if kind == AssetKind::Video {
        return Ok(kinora_media::poster(path)?);
    }
    let bytes = read_bounded(path).map_err(|e| Error::io("read", path, &e))?;
    Ok(kinora_media::decode(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_made_harmless() {
        for text in ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"] {
            assert_eq!(make_harmless(text), format!("'{text}"));
        }
        assert_eq!(make_harmless("a = b"), "a = b");
        assert_eq!(file_title("my list.csv"), "my_list");
        assert_eq!(file_title("///"), "batch");
    }
}
