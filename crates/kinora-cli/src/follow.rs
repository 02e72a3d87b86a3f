//! Following jobs to their end: bars on a terminal, plain lines anywhere else.

use std::{
    collections::HashMap,
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use kinora_core::{Event, Job, JobId, JobState, Progress, Stage, WaitReason};

use crate::{
    connection::{Connection, Refusal},
    output, text,
};

/// Follows jobs until each is in a final state, or Ctrl+C. Returns them in the order given.
///
/// # Errors
/// When the connection is lost.
pub async fn follow(
    connection: &Connection,
    ids: &[JobId],
    is_quiet: bool,
) -> Result<Vec<Job>, Refusal> {
    // Listen first, look second: what happens in between is told twice rather than never.
    let mut events = connection.events().await?;
    let mut watch = Watch::new(ids, is_quiet);
    watch.reread(connection, ids).await?;
    while watch.unfinished > 0 {
        let event = tokio::select! {
            event = events.next() => event?,
            () = interrupted() => return Err(Refusal::Interrupted),
        };
        match event {
            Event::JobChanged { job } => watch.changed(*job),
            Event::JobProgress { progress } => watch.progressed(&progress),
            Event::JobRemoved { job } => watch.removed(job),
            Event::JobsChanged { .. } | Event::Lagged => {
                watch.reread(connection, ids).await?;
                watch.tell_if_stuck();
            }
            _ => {}
        }
    }
    watch.screen.finish();
    Ok(ids.iter().filter_map(|id| watch.jobs.remove(id)).collect())
}

async fn interrupted() {
    // Where the signal cannot be listened to, Ctrl+C ends the program in its default way.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What is known of the followed jobs.
struct Watch {
    jobs: HashMap<JobId, Job>,
    wanted: std::collections::HashSet<JobId>,
    unfinished: usize,
    screen: Screen,
    /// The disk was full the last time.
    was_stuck: bool,
}

impl Watch {
    fn new(ids: &[JobId], is_quiet: bool) -> Self {
        let wanted: std::collections::HashSet<_> = ids.iter().copied().collect();
        Self {
            jobs: HashMap::new(),
            unfinished: wanted.len(),
            screen: Screen::new(wanted.len(), is_quiet),
            was_stuck: false,
            wanted,
        }
    }

    async fn reread(&mut self, connection: &Connection, ids: &[JobId]) -> Result<(), Refusal> {
        for job in connection.jobs(ids).await? {
            self.changed(job);
        }
        Ok(())
    }

    fn changed(&mut self, job: Job) {
        if !self.wanted.contains(&job.id) {
            return;
        }
        let was_final = self
            .jobs
            .get(&job.id)
            .is_some_and(|known| known.state.is_final());
        if job.state.is_final() && !was_final {
            self.unfinished -= 1;
            self.screen.finished(&job);
        }
        self.jobs.insert(job.id, job);
    }

    /// Says once that jobs wait for room on the disk: without a word it would look like a stall.
    fn tell_if_stuck(&mut self) {
        let mut waiting = self.jobs.values().filter_map(|job| job.waiting.as_ref());
        let is_stuck = waiting.any(|reason| *reason == WaitReason::DiskFull);
        if is_stuck && !self.was_stuck {
            self.screen
                .tell("the disk is full: nothing is lost, and the jobs go on when there is room");
        }
        self.was_stuck = is_stuck;
    }

    fn removed(&mut self, id: JobId) {
        if self.wanted.remove(&id) && !self.jobs.get(&id).is_some_and(|job| job.state.is_final()) {
            self.unfinished -= 1;
        }
    }

    fn progressed(&mut self, progress: &Progress) {
        if let Some(job) = self.jobs.get(&progress.job) {
            self.screen.progressed(job, progress);
        }
    }
}

/// Where progress is shown.
enum Screen {
    /// Two lines that are painted over: all jobs, and the current one.
    Bars {
        all: ProgressBar,
        current: ProgressBar,
    },
    /// One line for each finished job.
    Lines {
        done: usize,
        of: usize,
        began: Instant,
    },
    /// Nothing.
    Quiet,
}

impl Screen {
    fn new(jobs: usize, is_quiet: bool) -> Self {
        if is_quiet {
            return Self::Quiet;
        }
        if !stderr().is_terminal() {
            return Self::Lines {
                done: 0,
                of: jobs,
                began: Instant::now(),
            };
        }
        let bars = MultiProgress::new();
        let all = bars.add(ProgressBar::new(jobs as u64));
        all.set_style(style(
            "{bar:32.cyan/blue} {pos}/{len} pictures  {elapsed} gone, {eta} left  {msg}",
        ));
        all.enable_steady_tick(Duration::from_millis(250));
        let current = bars.add(ProgressBar::new(1000));
        current.set_style(style("{bar:32.green/blue} {msg}"));
        Self::Bars { all, current }
    }

    fn progressed(&self, job: &Job, progress: &Progress) {
        if let Self::Bars { current, .. } = self {
            current.set_position((progress.fraction * 1000.0) as u64);
            current.set_message(format!(
                "{}  {}",
                stage(progress),
                text::shorten(&job.plan.prompt, 56)
            ));
        }
    }

    fn finished(&mut self, job: &Job) {
        let line = outcome(job);
        match self {
            Self::Bars { all, .. } => {
                if job.state != JobState::Done {
                    all.suspend(|| output::tell(line));
                }
                all.inc(1);
            }
            Self::Lines { done, of, began } => {
                *done += 1;
                output::tell(format!(
                    "[{done}/{of}] {:>7.1} s  {line}",
                    began.elapsed().as_secs_f64()
                ));
            }
            Self::Quiet => {}
        }
    }

    fn tell(&self, text: &str) {
        match self {
            Self::Bars { all, .. } => all.suspend(|| output::tell(text)),
            Self::Lines { .. } => output::tell(text),
            Self::Quiet => {}
        }
    }

    fn finish(&self) {
        if let Self::Bars { all, current } = self {
            current.finish_and_clear();
            all.finish();
        }
    }
}

/// A style from a template of this file.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn stage(progress: &Progress) -> String {
    let name = match progress.stage {
        Stage::Loading => "loading",
        Stage::Encoding => "reading the prompt",
        Stage::Generating => "generating",
        Stage::Decoding => "decoding",
        Stage::Saving => "saving",
    };
    if progress.steps > 0 {
        format!("{name} {}/{}", progress.step, progress.steps)
    } else {
        name.to_owned()
    }
}

/// One finished job in one line.
fn outcome(job: &Job) -> String {
    let place = job
        .line
        .map(|line| format!("line {line}: "))
        .unwrap_or_default();
    let prompt = text::shorten(&job.plan.prompt, 60);
    match (job.state, &job.failure) {
        (JobState::Failed, Some(failure)) => {
            format!(
                "{place}failed to {}. {}  ({prompt})",
                failure.message, failure.hint
            )
        }
        (state, _) => format!(
            "{place}{}  seed {}  {prompt}",
            state.as_str(),
            job.plan.seed
        ),
    }
}
