//! What a request will cost before it runs: time, memory, disk.

use std::collections::{HashMap, HashSet};

use kinora_core::{
    ClipFormat, DraftOf, FileFormat, ImageFormat, JobState, Mode, ModelId, Plan, Priority, Problem,
    Size, VideoPlan,
};
use kinora_queue::{JobFilter, JobSort, Page};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{app::App, bytes::format_bytes, decide::Decisions, error::Result, jobs::Note, system};

/// Jobs that the wait is added up from; behind so many, the queue's own sum is close enough.
const SUMMED_JOBS: u32 = 200;

/// What pictures will cost on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// Seconds that the work takes once it begins; None: nothing like it ever ran here.
    pub seconds: Option<f64>,
    /// How far off `seconds` may be, in seconds: half the spread of the runs that it rests on.
    pub margin_seconds: Option<f64>,
    /// Runs that the estimate rests on.
    pub runs: u32,
    /// Seconds until the work begins, from what is queued before it; None: not known.
    pub wait_seconds: Option<f64>,
    /// Bytes of memory that model and work need at their peak.
    pub memory_needed: u64,
    /// Bytes of memory that the machine can give.
    pub memory_available: u64,
    /// Bytes that the files will take, roughly.
    pub disk_needed: u64,
    /// Bytes free on the outputs folder's disk.
    pub disk_available: u64,
}

/// The answer to "what would happen if I asked for this".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Preflight {
    /// Why it would be refused; empty: it would be accepted.
    pub problems: Vec<Problem>,
    /// What would be decided differently than asked.
    pub notes: Vec<Note>,
    /// How many pictures it would make; 0 when refused.
    pub pictures: u32,
    /// File names of the first pictures, below the outputs folder, without ending.
    pub outputs: Vec<String>,
    /// What the first of them would be; None when refused.
    pub outline: Option<Outline>,
    /// What it would cost; None when refused.
    pub estimate: Option<Estimate>,
}

/// What a picture or a clip would be, with every default filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outline {
    /// Which model makes it.
    pub model: ModelId,
    /// Kind of work.
    pub mode: Mode,
    /// Pixels.
    pub size: Size,
    /// Denoising steps.
    pub steps: u32,
    /// What only clips have. None: a picture.
    pub video: Option<VideoPlan>,
    /// What it is a draft of. None: it is no draft.
    pub draft: Option<DraftOf>,
}

impl Outline {
    /// The outline of a plan.
    pub fn of(plan: &Plan) -> Self {
        Self {
            model: plan.model.id.clone(),
            mode: plan.mode,
            size: plan.size,
            steps: plan.steps,
            video: plan.video,
            draft: plan.draft,
        }
    }
}

/// What plans cost together when they are queued now.
pub(crate) async fn of_plans<'a>(
    app: &App,
    decisions: &Decisions,
    plans: impl Iterator<Item = &'a Plan>,
    priority: Priority,
) -> Result<Estimate> {
    let mut kinds: HashMap<_, (&Plan, u32)> = HashMap::new();
    let mut disk_needed = 0_u64;
    let mut memory_needed = 0_u64;
    for plan in plans {
        let kind = (
            plan.model.id.as_str(),
            plan.size,
            plan.video
                .map(|video| (video.frames, video.worked_frames())),
            plan.steps,
            plan.true_cfg.is_some(),
            plan.step_cache.map(f32::to_bits),
        );
        let (_, count) = kinds.entry(kind).or_insert((plan, 0));
        if *count == 0 {
            memory_needed = memory_needed.max(decisions.memory_needed(plan));
        }
        *count += 1;
        disk_needed = disk_needed.saturating_add(file_bytes(plan));
    }
    let loaded = app.engine_status().models;
    let mut seconds = Some(0.0);
    let mut margin = 0.0;
    let mut runs = u32::MAX;
    let mut seen = HashSet::new();
    for (plan, count) in kinds.values() {
        let Some(each) = app.queue().estimate(plan) else {
            seconds = None;
            break;
        };
        let count = f64::from(*count);
        let is_new = seen.insert(plan.model.id.as_str());
        let load = if is_new && !loaded.contains(&plan.model.name) {
            each.load_seconds
        } else {
            0.0
        };
        seconds = seconds.map(|sum| sum + each.seconds * count + load);
        margin += each.spread_seconds * count;
        runs = runs.min(u32::try_from(each.runs).unwrap_or(u32::MAX));
    }
    let outputs = system::disk_space(app.outputs_dir());
    Ok(Estimate {
        seconds,
        margin_seconds: seconds.map(|_| margin),
        runs: if seconds.is_some() && runs != u32::MAX {
            runs
        } else {
            0
        },
        wait_seconds: wait(app, priority).await?,
        memory_needed,
        memory_available: decisions.memory_available.unwrap_or(0),
        disk_needed,
        disk_available: outputs.map_or(0, |disk| disk.free),
    })
}

/// Seconds until a new job of this priority begins: the rest of what runs, and what is queued
/// before it. None where some of that never ran here.
async fn wait(app: &App, priority: Priority) -> Result<Option<f64>> {
    let filter = JobFilter {
        states: vec![JobState::Running, JobState::Queued],
        ..JobFilter::default()
    };
    let page = Page::first(SUMMED_JOBS);
    let listed = app.queue().list(filter, Some(JobSort::Run), page).await?;
    if listed.total > u64::from(SUMMED_JOBS) && priority == Priority::Bulk {
        return Ok(app.queue().status().await?.eta_seconds);
    }
    let mut sum = 0.0;
    for job in &listed.rows {
        let left = match job.state {
            JobState::Running => {
                let progress = job.progress.as_ref();
                progress
                    .and_then(|progress| progress.eta_seconds)
                    .map(f64::from)
            }
            _ if job.priority < priority => continue,
            _ => None,
        };
        let left = left.or_else(|| app.queue().estimate(&job.plan).map(|each| each.seconds));
        let Some(left) = left else {
            return Ok(None);
        };
        sum += left;
    }
    Ok(Some(sum))
}

/// A rough size of a plan's file, from what pictures of networks usually take.
fn file_bytes(plan: &Plan) -> u64 {
    let per_hundred_pixels = match plan.output.format {
        FileFormat::Image(ImageFormat::Png) => 160,
        FileFormat::Image(ImageFormat::Jpeg) => 40,
        FileFormat::Image(ImageFormat::Webp) => 30,
        FileFormat::Clip(ClipFormat::Mp4) => 4,
        FileFormat::Clip(ClipFormat::Mp4H265 | ClipFormat::Mp4Av1 | ClipFormat::Webm) => 3,
        FileFormat::Clip(ClipFormat::Gif) => 60,
        FileFormat::Clip(ClipFormat::AnimatedWebp) => 15,
        FileFormat::Clip(ClipFormat::Frames) => 160,
    };
    let frames = plan.video.map_or(1, |video| u64::from(video.frames));
    plan.size.pixels() * frames * per_hundred_pixels / 100 + 4_096
}

/// Says that the disk will be full before the work is done.
pub(crate) fn disk_note(estimate: &Estimate) -> Option<Note> {
    (estimate.disk_needed > estimate.disk_available).then(|| Note {
        field: None,
        line: None,
        message: format!(
            "the files will take about {}, and the disk has {} left",
            format_bytes(estimate.disk_needed),
            format_bytes(estimate.disk_available)
        ),
    })
}
