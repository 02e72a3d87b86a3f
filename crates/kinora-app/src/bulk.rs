//! Prompt lists: a table of prompts and settings in, a batch of jobs out.
//!
//! ```text
//! encoding.rs   bytes of a file → text
//! table.rs      text → columns and rows (separated.rs reads CSV and TSV, jsonl.rs JSON lines)
//! columns.rs    which headings there are and what their cells hold
//! template.rs   prompts with {variables} and {a|b} choices
//! expand.rs     rows → requests
//! plan.rs       requests → plans, one per picture
//! ```
//!
//! Not here: the order in which the pictures are made. The queue takes jobs of a loaded model, and
//! of one shape, together; results keep the order of the list.

mod columns;
mod encoding;
mod expand;
mod jsonl;
mod plan;
mod separated;
mod table;
mod template;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kinora_core::{PictureRef, Priority, Problem, Request};
use kinora_queue::{BatchKind, NewJob};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    capabilities::ListLimits,
    decide::Decisions,
    error::{Error, Result},
    estimate::{self, Estimate},
    jobs::{Note, Submission, Submitted, enqueue},
    resolve::Context,
};

pub use encoding::decode_text;
pub use plan::Picture;

/// Problems that are answered at most; a list with more is not the list that was meant.
const MAX_PROBLEMS: usize = 10_000;

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ListFormat {
    /// One prompt per line.
    Lines,
    /// Comma-separated (or semicolon-separated) with a heading.
    Csv,
    /// Tab-separated with a heading, as spreadsheets copy it.
    Tsv,
    /// One JSON object per line.
    Jsonl,
}

/// What becomes of a row with several values in several columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// Every combination.
    #[default]
    Product,
    /// First with first, second with second; all lists of a row are equally long.
    Zip,
}

/// A prompt list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkInput {
    /// The list itself.
    pub text: String,
    /// Name of its file, or a title; also tells the format by its ending.
    #[serde(default)]
    pub name: Option<String>,
    /// How it is written; None: found out.
    #[serde(default)]
    pub format: Option<ListFormat>,
    /// What empty cells and missing columns mean. A prompt here is for rows without one.
    #[serde(default)]
    pub defaults: Request,
    /// What becomes of several values in several columns.
    #[serde(default)]
    pub combine: Combine,
    /// The pictures that cells name, by the name of their file.
    #[serde(default)]
    pub pictures: BTreeMap<String, PictureRef>,
    /// How many rows the check answers with, at most 10,000. None: 1,000.
    #[serde(default)]
    pub rows_limit: Option<u32>,
}

/// One row of a list, after its variables were put in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BulkRow {
    /// Line of the list, counted from 1 as an editor does.
    pub line: u32,
    /// What the row asks for.
    pub request: Request,
    /// How many pictures it makes.
    pub pictures: u32,
    /// File name of its first picture, below the outputs folder, without ending.
    pub output: Option<String>,
}

/// A list, read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BulkCheck {
    /// How it is written.
    pub format: ListFormat,
    /// Its columns, by their headings.
    pub columns: Vec<String>,
    /// Its rows: one per line and combination of values. Only the first ones of a long list.
    pub rows: Vec<BulkRow>,
    /// How many rows there are in all.
    pub total_rows: u64,
    /// Everything that is wrong, by line and column; empty: it would be accepted.
    pub problems: Vec<Problem>,
    /// What would be decided differently than asked; at most 100.
    pub notes: Vec<Note>,
    /// How many pictures it makes.
    pub pictures: u64,
    /// What they cost; None when there are problems.
    pub estimate: Option<Estimate>,
}

/// How long and wide a list may be.
pub fn limits() -> ListLimits {
    ListLimits {
        bytes: table::MAX_BYTES as u64,
        rows: table::MAX_ROWS as u64,
        columns: table::MAX_COLUMNS as u64,
    }
}

/// A list, read and resolved.
#[derive(Debug)]
pub struct Reading {
    /// How it is written.
    pub format: ListFormat,
    /// Its columns, by their headings.
    pub columns: Vec<String>,
    /// Its rows.
    pub rows: Vec<BulkRow>,
    /// Its pictures in the order of the list; empty when there are problems.
    pub pictures: Vec<Picture>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// What was decided differently than asked.
    pub notes: Vec<Note>,
}

/// The picture files that a list names, each once, for whoever hands them in with it.
pub fn picture_names(text: &str, name: Option<&str>, format: Option<ListFormat>) -> Vec<String> {
    let mut table = table::read(text, name, format, &mut Vec::new());
    let mut names = BTreeSet::new();
    for cell in table.pictures_mut() {
        let named = cell.trim();
        if !named.is_empty() && named.parse::<PictureRef>().is_err() {
            names.insert(named.to_owned());
        }
    }
    names.into_iter().collect()
}

/// Puts the pictures that were handed in where cells name their files.
fn name_pictures(table: &mut table::Table, pictures: &BTreeMap<String, PictureRef>) {
    if pictures.is_empty() {
        return;
    }
    let file = |name: &str| name.rsplit(['/', '\\']).next().unwrap_or(name).to_owned();
    for cell in table.pictures_mut() {
        let named = cell.trim();
        // The name as it is written; else that of the file, wherever it lay.
        let found = pictures.get(named).or_else(|| {
            let wanted = file(named);
            let mut same = pictures.iter().filter(|(name, _)| file(name) == wanted);
            same.next().map(|(_, reference)| reference)
        });
        if let Some(reference) = found {
            *cell = reference.to_string();
        }
    }
}

/// Reads and resolves a list; `batch` is the random word for names of its files.
pub fn read(input: &BulkInput, batch: &str, context: &Context<'_>) -> Reading {
    let mut problems = Vec::new();
    let name = input.name.as_deref();
    let mut table = table::read(&input.text, name, input.format, &mut problems);
    name_pictures(&mut table, &input.pictures);
    let entries = expand::expand(
        &table,
        &input.defaults,
        &context.settings.output_template,
        input.combine,
        &mut problems,
    );
    if table.rows.is_empty() && problems.is_empty() {
        problems.push(Problem::in_field(
            "text",
            "the list has no rows",
            "Write one prompt per line, or a table with the column prompt.",
        ));
    }
    let list = name.map_or("", file_stem);
    let planned = plan::plan(&entries, &table, list, batch, context, &mut problems);
    if planned.pictures.len() > table::MAX_ROWS {
        let most = table::MAX_ROWS;
        problems.push(Problem::in_field(
            "text",
            format!(
                "the list makes {} pictures; at most {most} are possible",
                planned.pictures.len()
            ),
            "Split it into several lists.",
        ));
    }
    problems.sort_by_key(|problem| problem.line);
    if problems.len() > MAX_PROBLEMS {
        let more = problems.len() - MAX_PROBLEMS;
        problems.truncate(MAX_PROBLEMS);
        problems.push(Problem::in_field(
            "text",
            format!("{more} more problems are not listed"),
            "Correct those that are listed first.",
        ));
    }
    // Entries and plans stand side by side only where every entry has its plans.
    let is_whole = planned.entries.len() == entries.len();
    let rows = entries.into_iter().enumerate().map(|(place, entry)| {
        let made = if is_whole {
            planned.entries.get(place)
        } else {
            None
        };
        let first = made.and_then(|(_, first)| planned.pictures.get(*first));
        BulkRow {
            line: entry.line,
            pictures: made.map_or(0, |(count, _)| *count),
            output: first.map(|picture| picture.plan.output.stem.clone()),
            request: entry.request,
        }
    });
    Reading {
        format: table.format.unwrap_or(ListFormat::Lines),
        columns: table
            .columns
            .iter()
            .map(|heading| heading.text.clone())
            .collect(),
        rows: rows.collect(),
        pictures: if problems.is_empty() {
            planned.pictures
        } else {
            Vec::new()
        },
        problems,
        notes: planned.notes,
    }
}

/// Reads a prompt list and names every bad row, without queueing anything.
pub async fn check(app: &Arc<App>, input: BulkInput) -> Result<BulkCheck> {
    let decisions = Arc::new(Decisions::gather(app));
    let limit = input.rows_limit.unwrap_or(1_000).min(10_000) as usize;
    let priority = input.defaults.priority.unwrap_or(Priority::Bulk);
    let mut reading = read_aside(&decisions, input).await?;
    let total_rows = reading.rows.len() as u64;
    let pictures = reading.pictures.len() as u64;
    let mut estimate = None;
    if reading.problems.is_empty() {
        let plans = reading.pictures.iter().map(|picture| &picture.plan);
        let cost = estimate::of_plans(app, &decisions, plans, priority).await?;
        reading.notes.extend(estimate::disk_note(&cost));
        estimate = Some(cost);
    }
    reading.rows.truncate(limit);
    Ok(BulkCheck {
        format: reading.format,
        columns: reading.columns,
        rows: reading.rows,
        total_rows,
        problems: reading.problems,
        notes: reading.notes,
        pictures,
        estimate,
    })
}

/// Queues the pictures of a prompt list, or says everything that is wrong with it.
pub async fn submit(app: &Arc<App>, input: BulkInput) -> Result<Submitted> {
    let decisions = Arc::new(Decisions::gather(app));
    let session = input.defaults.session;
    let name = input.name.as_deref().map(str::trim).unwrap_or_default();
    let mut title = name.to_owned();
    let reading = read_aside(&decisions, input).await?;
    if !reading.problems.is_empty() {
        return Err(Error::from_list(reading.problems));
    }
    if let Some(first) = reading.pictures.first().filter(|_| title.is_empty()) {
        title.clone_from(&first.plan.prompt);
    }
    let jobs = reading.pictures.into_iter().map(|picture| NewJob {
        priority: picture.priority,
        line: Some(picture.line),
        copy: picture.copy,
        ..NewJob::new(picture.plan)
    });
    let submission = Submission {
        kind: BatchKind::List,
        title,
        session,
        jobs: jobs.collect(),
        notes: reading.notes,
    };
    enqueue(app, submission).await
}

/// Reads a list on a thread for long work: the longest ones take seconds.
async fn read_aside(decisions: &Arc<Decisions>, input: BulkInput) -> Result<Reading> {
    let decisions = Arc::clone(decisions);
    let work = move || decisions.with(|context| read(&input, decisions.batch_tag(), context));
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::internal)
}

/// A file's name without its folder and ending.
fn file_stem(name: &str) -> &str {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => name,
    }
}

#[cfg(test)]
mod tests;
