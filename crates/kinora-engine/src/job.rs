//! One job of a running group: how far it is, where its time went, what is in its folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use kinora_core::{Failure, FrameRate, Progress, Stage, StagePart, Timings, Work};
use kinora_media::ClipWriter;

use crate::{
    hashes::last_change,
    memory::MemoryCurve,
    runner::{Checkpoint, RgbImage, Sound},
};

/// The file that a job's latents are kept in between its steps.
const CHECKPOINT: &str = "checkpoint.safetensors";

/// The file that shows what is emerging; of a clip its middle.
const PREVIEW: &str = "preview.jpg";

/// The file that shows how an emerging clip moves.
const MOVING_PREVIEW: &str = "preview.webp";

/// Pictures of a moving preview at most; of a longer clip some are left out.
const MOVING_PICTURES: usize = 48;

/// Previews of one attempt before those of the next; keeps revisions rising over attempts.
const PREVIEWS_PER_ATTEMPT: u32 = 100_000;

/// Quality of previews, of 100.
const PREVIEW_QUALITY: u8 = 80;

/// A clip while its frames come.
pub struct Clip {
    /// The file.
    pub writer: ClipWriter,
    /// The first pixel of the first frame.
    pub first: Option<[u8; 3]>,
    /// Whether every pixel so far has that colour.
    pub is_flat: bool,
}

/// A job while its group runs.
pub struct JobRun {
    /// What to do.
    pub work: Work,
    /// It was answered, and is over for this engine.
    pub is_answered: bool,
    /// The pipeline was told to drop it.
    pub is_leaving: bool,
    /// Current stage.
    pub stage: Stage,
    /// Steps done in it.
    pub step: u32,
    /// Steps of it.
    pub steps: u32,
    /// Which part of the stage, where it has parts.
    pub part: Option<StagePart>,
    /// The last step of the denoiser, and of how many.
    pub denoised: Option<(u32, u32)>,
    /// Where the time went so far.
    pub timings: Timings,
    /// Memory so far.
    pub memory: MemoryCurve,
    /// When the denoiser began with it, and at which step.
    pub generating_from: Option<(Instant, u32)>,
    /// When its decoding began.
    pub decoding_from: Option<Instant>,
    /// The clip that is being written. Dropped, it leaves no file.
    pub clip: Option<Clip>,
    /// The sound of the clip until its first frame comes.
    pub sound: Option<Sound>,
    fraction: f32,
    preview: u32,
    previewed_at: Option<Instant>,
    checkpointed: (Instant, u32),
}

impl JobRun {
    /// A job at its beginning.
    pub fn new(work: Work) -> Self {
        Self {
            work,
            is_answered: false,
            is_leaving: false,
            stage: Stage::Loading,
            step: 0,
            steps: 0,
            part: None,
            denoised: None,
            timings: Timings::default(),
            memory: MemoryCurve::start(),
            generating_from: None,
            decoding_from: None,
            clip: None,
            sound: None,
            fraction: 0.0,
            preview: 0,
            previewed_at: None,
            checkpointed: (Instant::now(), 0),
        }
    }

    /// Notes where the job is.
    pub fn advance(&mut self, stage: Stage, step: u32, steps: u32) {
        if stage == Stage::Generating && self.generating_from.is_none() {
            self.generating_from = Some((Instant::now(), step));
            self.checkpointed = (Instant::now(), step);
            self.timings.resumed_steps = step;
        }
        (self.stage, self.step, self.steps) = (stage, step, steps);
        match stage {
            Stage::Generating => self.denoised = Some((step, steps)),
            Stage::Decoding => {
                self.part = None;
                self.decoding_from.get_or_insert_with(Instant::now);
            }
            Stage::Saving => self.part = None,
            Stage::Loading | Stage::Encoding => {}
        }
        self.memory.sample();
    }

    /// Begins another attempt: what was measured of the broken one does not count.
    pub fn restart(&mut self) {
        (self.generating_from, self.decoding_from) = (None, None);
        (self.part, self.denoised) = (None, None);
        self.clip = None;
        self.sound = None;
    }

    /// The progress to tell. The share that is done never shrinks.
    pub fn progress(&mut self, has_loading: bool, eta_seconds: Option<f32>) -> Progress {
        let fraction = crate::pace::fraction(self.stage, self.step, self.steps, has_loading);
        self.fraction = self.fraction.max(fraction);
        Progress {
            job: self.work.job,
            epoch: self.work.epoch,
            stage: self.stage,
            step: self.step,
            steps: self.steps,
            fraction: self.fraction,
            eta_seconds,
            preview: self.preview,
            part: self.part,
        }
    }

    /// A failure with what is known about this job.
    pub fn describe(&self, failure: Failure, log: Vec<String>) -> Failure {
        Failure {
            stage: failure.stage.or(Some(self.stage)),
            step: failure.step.or(Some(self.step)),
            log,
            memory: self.memory.samples(),
            ..failure
        }
    }

    /// Whether the last preview is old enough.
    pub fn wants_preview(&self, interval: Duration) -> bool {
        self.previewed_at.is_none_or(|at| at.elapsed() >= interval)
    }

    /// Shows what is emerging. A preview that cannot be written is not worth a job.
    pub fn show_preview(&mut self, rgb: &[u8], width: u32, height: u32) {
        let encoded = kinora_media::encode_jpeg(rgb, width, height, PREVIEW_QUALITY);
        if self.write_preview(PREVIEW, encoded) {
            self.count_preview();
        }
    }

    /// Shows how a clip is going to move: its pictures in order, all of one size, as long as the clip
    /// will be. Who wants none of that is shown the middle.
    pub fn show_moving_preview(&mut self, pictures: &[RgbImage]) {
        let Some(middle) = pictures.get(pictures.len() / 2) else {
            return;
        };
        let size = (middle.width, middle.height);
        let every = pictures.len().div_ceil(MOVING_PICTURES);
        let shown: Vec<&[u8]> = (pictures.iter().step_by(every))
            .map(|picture| picture.rgb.as_slice())
            .collect();
        let seconds = self.work.plan.video.map_or(1.0, |video| video.seconds());
        let rate = FrameRate::from_f64(shown.len() as f64 / seconds.max(0.1));
        let rate = rate.unwrap_or(FrameRate::whole(4));
        let moving = kinora_media::encode_animation(&shown, size, rate, PREVIEW_QUALITY);
        let still = kinora_media::encode_jpeg(&middle.rgb, size.0, size.1, PREVIEW_QUALITY);
        if self.write_preview(MOVING_PREVIEW, moving) && self.write_preview(PREVIEW, still) {
            self.count_preview();
        }
    }

    /// Whether the file is there, whole.
    fn write_preview(&self, name: &str, encoded: kinora_media::Result<Vec<u8>>) -> bool {
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err(error) => {
                tracing::warn!(%error, "could not encode a preview");
                return false;
            }
        };
        let path = self.work.scratch.join(name);
        let part = path.with_extension("part");
        // Not synced: it is of no use after a power cut.
        if let Err(error) = fs::write(&part, encoded).and_then(|()| fs::rename(&part, &path)) {
            remove_if_there(&part);
            tracing::warn!(%error, "could not write a preview");
            return false;
        }
        true
    }

    fn count_preview(&mut self) {
        let first = (self.work.epoch.saturating_sub(1)).saturating_mul(PREVIEWS_PER_ATTEMPT);
        self.preview = self.preview.max(first).saturating_add(1);
        self.previewed_at = Some(Instant::now());
    }

    /// Whether it is time to keep the latents: because so much time or so many steps have passed.
    pub fn wants_checkpoint(&self, interval: Duration, steps: u32) -> bool {
        let (at, step) = self.checkpointed;
        // Decoding a clip takes long: it begins where the last step ended.
        let is_last_of_clip = self.work.plan.video.is_some() && self.step == self.steps;
        is_last_of_clip || at.elapsed() >= interval || self.step.saturating_sub(step) >= steps
    }

    /// Keeps the latents. Without them a killed job begins anew, which is not worth failing it now.
    pub fn keep(&mut self, checkpoint: &Checkpoint) {
        match checkpoint.save(&self.checkpoint_path()) {
            Ok(()) => tracing::debug!(job = %self.work.job, step = self.step, "checkpoint"),
            Err(error) => tracing::warn!(%error, "could not keep a checkpoint"),
        }
        self.checkpointed = (Instant::now(), self.step);
    }

    /// The latents that an earlier attempt kept.
    pub fn find_checkpoint(&self) -> Option<Checkpoint> {
        let path = self.checkpoint_path();
        let kept_at = match fs::metadata(&path).and_then(|meta| meta.modified()) {
            Ok(kept_at) => kept_at,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, "could not look for a checkpoint");
                return None;
            }
        };
        // It was made by these very weights only if they have not been touched since.
        if last_change(&self.work.plan.model).is_none_or(|changed| changed >= kept_at) {
            tracing::info!("the weights are newer than a checkpoint; it is not used");
            self.forget_checkpoint();
            return None;
        }
        match Checkpoint::load(&path) {
            Ok(checkpoint) => Some(checkpoint),
            Err(error) => {
                tracing::warn!(%error, "a checkpoint is of no use");
                self.forget_checkpoint();
                None
            }
        }
    }

    /// Removes the checkpoint.
    pub fn forget_checkpoint(&self) {
        remove_if_there(&self.checkpoint_path());
    }

    fn checkpoint_path(&self) -> PathBuf {
        self.work.scratch.join(CHECKPOINT)
    }
}

fn remove_if_there(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, path = %path.display(), "could not remove a file"),
    }
}
