//! A group of jobs while it runs: what the pipeline tells and asks at its step boundaries, turned
//! into progress, previews, checkpoints, files and answers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kinora_core::{
    Code, Failure, FileFormat, FrameRate, JobId, Recipe, Stage, StagePart, Timestamp, Work,
    engine::Report, recipe::RECIPE_VERSION,
};
use kinora_diffusion::Result;
use kinora_media::{CLIP_QUALITY, ClipSpec, ClipWriter, SoundSpec};

use crate::{
    control::Control,
    failures::{io_failure, short_of_memory},
    hashes::WeightHashes,
    job::{Clip, JobRun},
    log::LogTail,
    memory::read_available,
    pace::{Cost, Pace},
    reports::Reports,
    runner::{Checkpoint, RgbImage, RunWatch, Sound},
};

/// How often what is kept and shown.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// Longest time without a checkpoint.
    pub checkpoint_interval: Duration,
    /// Most steps without a checkpoint.
    pub checkpoint_steps: u32,
    /// Shortest time between two previews of a job.
    pub preview_interval: Duration,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self {
            checkpoint_interval: Duration::from_secs(2),
            checkpoint_steps: 8,
            preview_interval: Duration::from_millis(250),
        }
    }
}

/// What a group needs of the engine around it.
#[derive(Clone)]
pub struct Surroundings {
    /// Where reports go.
    pub reports: Reports,
    /// What is to be stopped.
    pub control: Arc<Control>,
    /// Hashes for recipes.
    pub hashes: WeightHashes,
    /// Last lines for post-mortems.
    pub log: LogTail,
    /// How often what is kept and shown.
    pub rhythm: Rhythm,
    /// Device for recipes: `cpu`, or the GPU's name.
    pub device: String,
    /// Number format for recipes.
    pub dtype: String,
    /// Bytes of the machine's memory that must stay available; see [`floor_of`](crate::memory::floor_of).
    pub memory_floor: u64,
}

/// What the device is doing right now, and for which jobs: their share of its time is taken when it
/// turns to something else.
struct Activity {
    stage: Stage,
    step: u32,
    places: Vec<usize>,
    since: Instant,
}

/// A group of jobs while it runs.
pub struct GroupRun<'a> {
    around: &'a Surroundings,
    pace: &'a mut Pace,
    jobs: Vec<JobRun>,
    /// Places in `jobs` of those that the pipeline has at the moment.
    selected: Vec<usize>,
    activity: Option<Activity>,
    has_loading: bool,
}

impl<'a> GroupRun<'a> {
    /// Begins a group; each job is told to be loading.
    pub fn begin(works: Vec<Work>, around: &'a Surroundings, pace: &'a mut Pace) -> Self {
        let mut group = Self {
            around,
            pace,
            jobs: works.into_iter().map(JobRun::new).collect(),
            selected: Vec::new(),
            activity: None,
            has_loading: false,
        };
        for place in 0..group.jobs.len() {
            group.enter(place, Stage::Loading, 0, 0);
        }
        group
    }

    /// Jobs without an answer.
    pub fn pending(&self) -> Vec<usize> {
        (0..self.jobs.len())
            .filter(|&place| !self.jobs[place].is_answered)
            .collect()
    }

    /// One job's work.
    pub fn work(&self, place: usize) -> &Work {
        &self.jobs[place].work
    }

    /// A model is being read; `done` is the share that is there, 0 to 1.
    pub fn show_loading(&mut self, done: f32) {
        self.has_loading = true;
        for place in self.pending() {
            let percent = (done.clamp(0.0, 1.0) * 100.0) as u32;
            self.enter(place, Stage::Loading, percent, 100);
        }
    }

    /// Hands these jobs to the pipeline.
    pub fn select(&mut self, places: Vec<usize>) {
        for &place in &places {
            self.jobs[place].restart();
        }
        self.selected = places;
    }

    /// The pipeline has returned: what it dropped is answered, and its time is accounted for.
    pub fn close_attempt(&mut self) {
        self.turn_to(None);
        self.answer_leaving();
    }

    /// Answers the jobs that were cancelled before the pipeline got them.
    pub fn answer_cancelled(&mut self) {
        for place in self.pending() {
            if self.around.control.is_cancelled(self.jobs[place].work.job) {
                self.answer_with_cancelled(place);
            }
        }
    }

    /// A job fails.
    pub fn fail(&mut self, place: usize, failure: Failure) {
        let failure = self.jobs[place].describe(failure, self.around.log.lines());
        tracing::warn!(job = %self.jobs[place].work.job, code = ?failure.code, "failed to {}", failure.message);
        let (job, epoch) = self.close(place);
        self.around.reports.tell(Report::Failed {
            job,
            epoch,
            failure: Box::new(failure),
        });
    }

    /// Removes the checkpoints of jobs that cannot be resumed from them.
    pub fn forget_checkpoints(&self, places: &[usize]) {
        for &place in places {
            self.jobs[place].forget_checkpoint();
        }
    }

    /// The failure that takes the whole engine along, with what the jobs know about it.
    pub fn describe_loss(&self, failure: Failure) -> Failure {
        let log = self.around.log.lines();
        match self.pending().first() {
            Some(&place) => self.jobs[place].describe(failure, log),
            None => Failure { log, ..failure },
        }
    }

    fn close(&mut self, place: usize) -> (JobId, u32) {
        let job = &mut self.jobs[place];
        job.is_answered = true;
        self.around.control.release(job.work.job);
        (job.work.job, job.work.epoch)
    }

    fn answer_with_cancelled(&mut self, place: usize) {
        let (job, epoch) = self.close(place);
        self.around.reports.tell(Report::Cancelled { job, epoch });
    }

    fn answer_leaving(&mut self) {
        for place in self.pending() {
            if self.jobs[place].is_leaving {
                self.answer_with_cancelled(place);
            }
        }
    }

    /// Notes and tells where a job is.
    fn enter(&mut self, place: usize, stage: Stage, step: u32, steps: u32) {
        self.turn_to(Some((place, stage, step)));
        let has_loading = self.has_loading;
        self.jobs[place].advance(stage, step, steps);
        let eta = self.foresee(place);
        let progress = self.jobs[place].progress(has_loading, eta);
        self.around.reports.tell(Report::Progress { progress });
    }

    /// The device turns to something; what it did until now is shared out among those it did it for.
    fn turn_to(&mut self, next: Option<(usize, Stage, u32)>) {
        if let (Some(activity), Some((place, stage, step))) = (&mut self.activity, next)
            && activity.stage == stage
            && activity.step == step
        {
            if !activity.places.contains(&place) {
                activity.places.push(place);
            }
            return;
        }
        if let Some(activity) = self.activity.take() {
            let jobs = activity.places.len().max(1);
            let share = activity.since.elapsed().as_secs_f64() * 1000.0 / jobs as f64;
            for place in activity.places {
                let timings = &mut self.jobs[place].timings;
                match activity.stage {
                    Stage::Loading => timings.loading_ms += share,
                    Stage::Encoding => timings.encoding_ms += share,
                    Stage::Generating => {
                        timings.generating_ms += share;
                        timings.batch = u32::try_from(jobs).unwrap_or(u32::MAX);
                    }
                    Stage::Decoding => timings.decoding_ms += share,
                    Stage::Saving => timings.saving_ms += share,
                }
            }
        }
        self.activity = next.map(|(place, stage, step)| Activity {
            stage,
            step,
            places: vec![place],
            since: Instant::now(),
        });
    }

    /// Seconds until a job is done: from its own steps once there are some, before that from the
    /// last such run.
    fn foresee(&self, place: usize) -> Option<f32> {
        let job = &self.jobs[place];
        let plan = &job.work.plan;
        let together = u32::try_from(self.selected.len().max(1)).unwrap_or(u32::MAX);
        let known = self.pace.get(plan, together);
        if job.stage == Stage::Decoding && job.steps > 1 {
            return foresee_frames(job, known);
        }
        let (step_ms, steps_left) = match job.stage {
            // A second network is read between the steps: what is left of them says enough.
            Stage::Loading => match (job.denoised, known) {
                (Some((step, steps)), Some(known)) => (known.step_ms, steps.saturating_sub(step)),
                _ => return None,
            },
            Stage::Encoding => (known?.step_ms, plan.steps),
            Stage::Generating => {
                let left = job.steps.saturating_sub(job.step);
                let measured = job.generating_from.and_then(|(since, first)| {
                    let steps = job.step.checked_sub(first).filter(|&steps| steps > 0)?;
                    Some(since.elapsed().as_secs_f64() * 1000.0 / f64::from(steps))
                });
                (measured.or(known.map(|known| known.step_ms))?, left)
            }
            Stage::Decoding | Stage::Saving => (0.0, 0),
        };
        // Unknown, a decode costs about as much as a step of one picture.
        let guess = Cost {
            decode_ms: step_ms / f64::from(together),
            ..Cost::default()
        };
        let Cost {
            decode_ms, save_ms, ..
        } = known.unwrap_or(guess);
        // Pictures are decoded one after another, in the order of the group.
        let before = (self.selected.iter())
            .take_while(|&&other| other != place)
            .filter(|&&other| !self.jobs[other].is_answered)
            .count();
        let decodes = match job.stage {
            Stage::Saving => 0.0,
            Stage::Decoding => 1.0,
            _ => before as f64 + 1.0,
        };
        let left_ms = step_ms * f64::from(steps_left) + decodes * (decode_ms + save_ms);
        Some((left_ms / 1000.0) as f32)
    }

    /// Writes a finished picture and answers its job.
    fn save(&mut self, place: usize, picture: &RgbImage) {
        self.enter(place, Stage::Saving, 0, 1);
        match self.write(place, picture) {
            Ok(artifact) => {
                let work = &self.jobs[place].work;
                self.pace.learn(&work.plan, &self.jobs[place].timings);
                let (job, epoch) = self.close(place);
                self.around.reports.tell(Report::Done {
                    job,
                    epoch,
                    artifact: Box::new(artifact),
                });
            }
            Err(failure) => self.fail(place, *failure),
        }
    }

    fn write(
        &mut self,
        place: usize,
        picture: &RgbImage,
    ) -> std::result::Result<kinora_core::Artifact, Box<Failure>> {
        let (pixels, _) = picture.rgb.as_chunks::<3>();
        if pixels.iter().all(|pixel| *pixel == pixels[0]) {
            return Err(flat("picture"));
        }
        let recipe = self.recipe(place)?;
        let output = &self.jobs[place].work.plan.output;
        let FileFormat::Image(format) = output.format else {
            return Err(wrong_kind());
        };
        let mut artifact = kinora_media::write_picture(
            &self.jobs[place].work.staging,
            &picture.rgb,
            picture.width,
            picture.height,
            format,
            &recipe,
        )
        .map_err(|error| write_failure(&error))?;
        self.enter(place, Stage::Saving, 1, 1);
        self.turn_to(None);
        self.complete(place, &mut artifact.recipe);
        Ok(artifact)
    }

    /// How the job's result was made, with the hash of every file.
    fn recipe(&self, place: usize) -> std::result::Result<Recipe, Box<Failure>> {
        let work = &self.jobs[place].work;
        let mut recipe = Recipe {
            recipe: RECIPE_VERSION,
            kinora: env!("CARGO_PKG_VERSION").to_owned(),
            plan: work.plan.clone(),
            device: self.around.device.clone(),
            dtype: self.around.dtype.clone(),
            timings: None,
            created_at: None,
        };
        recipe.plan.model.weights = self.around.hashes.complete(&work.plan.model)?;
        self.around.hashes.complete_loras(&mut recipe.plan.loras)?;
        Ok(recipe.for_file())
    }

    /// The recipe that is stored beside the file: with times, and with the results that the job
    /// started from.
    fn complete(&self, place: usize, recipe: &mut Recipe) {
        let job = &self.jobs[place];
        recipe.timings = Some(job.timings);
        recipe.created_at = Some(Timestamp::now());
        recipe.plan.parent = job.work.plan.parent;
        if let (Some(kept), Some(own)) = (&mut recipe.plan.source, &job.work.plan.source) {
            for (kept, own) in kept.pictures_mut().zip(own.pictures()) {
                kept.asset = own.asset;
            }
        }
    }

    /// Puts a decoded frame into the job's clip, and ends the clip with the last one.
    fn add_frame(
        &mut self,
        place: usize,
        (index, count): (u32, u32),
        picture: &RgbImage,
    ) -> std::result::Result<(), Box<Failure>> {
        if index == 0 {
            // The file of an earlier attempt goes before this one's is begun under the same name.
            self.jobs[place].clip = None;
            let sound = self.jobs[place].sound.take();
            let plan = &self.jobs[place].work.plan;
            let (FileFormat::Clip(format), Some(video)) = (plan.output.format, plan.video) else {
                return Err(wrong_kind());
            };
            let spec = ClipSpec {
                width: picture.width,
                height: picture.height,
                rate: FrameRate::whole(video.fps),
                format,
                quality: CLIP_QUALITY,
                sound: sound.as_ref().map(sound_spec),
                recipe: self.recipe(place)?,
            };
            let mut writer = ClipWriter::create(&self.jobs[place].work.staging, &spec)
                .map_err(|error| write_failure(&error))?;
            if let Some(sound) = &sound {
                (writer.push_sound(&interleave(sound))).map_err(|error| write_failure(&error))?;
            }
            self.jobs[place].clip = Some(Clip {
                writer,
                first: picture.rgb.as_chunks::<3>().0.first().copied(),
                is_flat: true,
            });
        }
        let Some(clip) = &mut self.jobs[place].clip else {
            return Err(wrong_kind());
        };
        let (pixels, _) = picture.rgb.as_chunks::<3>();
        clip.is_flat = clip.is_flat && pixels.iter().all(|pixel| Some(*pixel) == clip.first);
        clip.writer
            .push(&picture.rgb)
            .map_err(|error| write_failure(&error))?;
        if index + 1 < count {
            return Ok(());
        }
        let Some(clip) = self.jobs[place].clip.take() else {
            return Err(wrong_kind());
        };
        if clip.is_flat {
            return Err(flat("clip"));
        }
        self.enter(place, Stage::Saving, 0, 1);
        let mut artifact = clip
            .writer
            .finish()
            .map_err(|error| write_failure(&error))?;
        self.enter(place, Stage::Saving, 1, 1);
        self.turn_to(None);
        self.complete(place, &mut artifact.recipe);
        let work = &self.jobs[place].work;
        self.pace.learn(&work.plan, &self.jobs[place].timings);
        let (job, epoch) = self.close(place);
        self.around.reports.tell(Report::Done {
            job,
            epoch,
            artifact: Box::new(artifact),
        });
        Ok(())
    }

    /// Fails every job that nothing can be done for any more.
    pub fn fail_all(&mut self, places: &[usize], failure: &Failure) {
        for &place in places {
            if !self.jobs[place].is_answered {
                self.fail(place, failure.clone());
            }
        }
    }

    /// Fails the jobs that do not belong into the group of the first one.
    pub fn refuse_strangers(&mut self) {
        for place in 1..self.jobs.len() {
            let (first, other) = (&self.jobs[0].work.plan, &self.jobs[place].work.plan);
            if !first.is_batchable_with(other) {
                self.fail(
                    place,
                    Failure::new(
                        Code::Internal,
                        "run the group: its plans do not go together",
                        "This is a defect of Kinora; please report it with the log.",
                    ),
                );
            }
        }
    }
}

fn sound_spec(sound: &Sound) -> SoundSpec {
    SoundSpec {
        rate: sound.sample_rate,
        // More than there can be are refused by the file.
        channels: u16::try_from(sound.channels.len()).unwrap_or(u16::MAX),
    }
}

/// The samples of all channels in turn.
fn interleave(sound: &Sound) -> Vec<f32> {
    let length = sound.channels.iter().map(Vec::len).min().unwrap_or(0);
    (0..length)
        .flat_map(|at| sound.channels.iter().map(move |channel| channel[at]))
        .collect()
}

/// Seconds until a clip is done whose frames are being decoded, and written as they come: from those
/// that are done, before that from the last such clip.
fn foresee_frames(job: &JobRun, known: Option<Cost>) -> Option<f32> {
    let left = f64::from(job.steps.saturating_sub(job.step));
    let measured = job.decoding_from.filter(|_| job.step > 0).map(|since| {
        let each = since.elapsed().as_secs_f64() * 1000.0 / f64::from(job.step);
        each * left
    });
    let remembered = known.map(|known| known.decode_ms * left / f64::from(job.steps));
    let save_ms = known.map_or(0.0, |known| known.save_ms);
    Some(((measured.or(remembered)? + save_ms) / 1000.0) as f32)
}

/// A result in which nothing is to be seen.
fn flat(what: &str) -> Box<Failure> {
    Box::new(Failure::new(
        Code::BadResult,
        format!("paint the {what}: every pixel has the same colour"),
        "Try another seed, size or number of steps.",
    ))
}

/// A picture for a clip's plan, or the other way round.
fn wrong_kind() -> Box<Failure> {
    Box::new(Failure::new(
        Code::Internal,
        "save the result: it is not of the kind that was planned",
        "This is a defect of Kinora; please report it with the log.",
    ))
}

fn write_failure(error: &kinora_media::Error) -> Box<Failure> {
    Box::new(match error {
        kinora_media::Error::Write { source, .. } => io_failure(source, error.to_string()),
        kinora_media::Error::EncodeClip { .. } => Failure::new(
            Code::InvalidInput,
            error.to_string(),
            "Choose another file format or size.",
        ),
        _ => Failure::new(
            Code::Internal,
            error.to_string(),
            "This is a defect of Kinora; please report it with the log.",
        ),
    })
}

impl RunWatch for GroupRun<'_> {
    fn stage(&mut self, job: usize, stage: Stage, step: u32, steps: u32) {
        self.answer_leaving();
        let place = self.selected[job];
        if !self.jobs[place].is_answered {
            self.enter(place, stage, step, steps);
        }
    }

    fn is_cancelled(&mut self, job: usize) -> bool {
        let place = self.selected[job];
        let job = &self.jobs[place];
        if job.is_answered || self.around.control.is_stopping() {
            return true;
        }
        let floor = self.around.memory_floor;
        if floor > 0 {
            let available = read_available();
            if available < floor {
                self.fail(place, short_of_memory(available, floor));
                return true;
            }
        }
        let job = &mut self.jobs[place];
        if self.around.control.is_cancelled(job.work.job) {
            job.is_leaving = true;
        }
        job.is_leaving
    }

    fn resume(&mut self, job: usize) -> Option<Checkpoint> {
        let job = &mut self.jobs[self.selected[job]];
        let checkpoint = job.find_checkpoint()?;
        // The first step that is told of counts more; after the last one none is.
        job.timings.resumed_steps = checkpoint.step;
        Some(checkpoint)
    }

    fn wants_checkpoint(&mut self, job: usize) -> bool {
        let is_ending = self.is_cancelled(job);
        let job = &self.jobs[self.selected[job]];
        let rhythm = &self.around.rhythm;
        !job.is_answered
            && (is_ending
                || job.wants_checkpoint(rhythm.checkpoint_interval, rhythm.checkpoint_steps))
    }

    fn checkpoint(&mut self, job: usize, checkpoint: &Checkpoint) -> Result<()> {
        let job = &mut self.jobs[self.selected[job]];
        if !job.is_answered {
            job.keep(checkpoint);
        }
        Ok(())
    }

    fn wants_preview(&mut self, job: usize) -> bool {
        // Pictures that emerge together share the time that may go into showing them.
        let share = u32::try_from(self.selected.len().div_ceil(2)).unwrap_or(1);
        let interval = self.around.rhythm.preview_interval * share.max(1);
        let job = &self.jobs[self.selected[job]];
        !job.is_answered && !job.is_leaving && job.wants_preview(interval)
    }

    fn preview(&mut self, job: usize, picture: RgbImage) {
        let place = self.selected[job];
        self.jobs[place].show_preview(&picture.rgb, picture.width, picture.height);
        let has_loading = self.has_loading;
        let eta = self.foresee(place);
        let progress = self.jobs[place].progress(has_loading, eta);
        self.around.reports.tell(Report::Progress { progress });
    }

    fn preview_clip(&mut self, job: usize, frames: Vec<RgbImage>) {
        let place = self.selected[job];
        self.jobs[place].show_moving_preview(&frames);
        let has_loading = self.has_loading;
        let eta = self.foresee(place);
        let progress = self.jobs[place].progress(has_loading, eta);
        self.around.reports.tell(Report::Progress { progress });
    }

    fn part(&mut self, job: usize, part: Option<StagePart>) {
        let place = self.selected[job];
        self.jobs[place].part = part;
    }

    fn frame(&mut self, job: usize, index: u32, count: u32, picture: RgbImage) -> Result<()> {
        let place = self.selected[job];
        if !self.jobs[place].is_answered
            && let Err(failure) = self.add_frame(place, (index, count), &picture)
        {
            self.jobs[place].clip = None;
            self.fail(place, *failure);
        }
        Ok(())
    }

    fn sound(&mut self, job: usize, sound: Sound) -> Result<()> {
        let job = &mut self.jobs[self.selected[job]];
        // A network that makes sound makes it whether it is wanted or not.
        job.sound = (job.work.plan.video)
            .is_some_and(|video| video.sound == Some(true))
            .then_some(sound);
        Ok(())
    }

    fn image(&mut self, job: usize, picture: RgbImage) -> Result<()> {
        let place = self.selected[job];
        if !self.jobs[place].is_answered {
            self.save(place, &picture);
        }
        Ok(())
    }
}
