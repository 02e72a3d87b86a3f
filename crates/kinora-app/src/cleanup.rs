//! Giving disk space back: work files of jobs, caches, old trash. Pictures that are not in the
//! trash are never touched.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use kinora_core::{Code, JobId, JobState, Problem, Timestamp};
use kinora_store::{
    assets::{self, StoredFile},
    jobs, pictures,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    commands::NoInput,
    error::{Error, Result},
    system,
};

/// Folders below each other that are looked into.
const DEEPEST: usize = 16;

/// Files of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskUsage {
    /// Files, or pictures.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What takes how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CleanupStatus {
    /// Pictures in the gallery.
    pub pictures: DiskUsage,
    /// Pictures in the trash.
    pub trash: DiskUsage,
    /// Previews and checkpoints of jobs; the count is of jobs.
    pub work: DiskUsage,
    /// Thumbnails, contact sheets and encoded prompts, made again when needed.
    pub caches: DiskUsage,
    /// Pictures that were handed in.
    pub inputs: DiskUsage,
    /// The database.
    pub database: DiskUsage,
    /// Files below the outputs folder that no picture of the gallery names.
    pub unknown_files: DiskUsage,
    /// Pictures of the gallery whose file is gone.
    pub missing_files: u64,
    /// Bytes free on the outputs folder's disk.
    pub disk_free: u64,
}

/// The work folder of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkFolder {
    /// Which job.
    pub job: JobId,
    /// Where it stands; None: the job is forgotten.
    pub state: Option<JobState>,
    /// Bytes.
    pub bytes: u64,
    /// When something was last written there.
    pub changed_at: Timestamp,
}

/// Every work folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkFolders {
    /// Largest first.
    pub folders: Vec<WorkFolder>,
}

/// What to delete. Exactly one of `hours`, `job` and `all` is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CleanupInput {
    /// Work files of finished jobs, and trash, both older than this many hours.
    pub hours: Option<u32>,
    /// Work files of one job that is not running.
    pub job: Option<JobId>,
    /// Work files of all finished jobs, caches, and the whole trash.
    pub all: bool,
    /// Only say what would go.
    pub dry_run: bool,
}

/// What was deleted, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CleanupReport {
    /// Whether nothing was deleted because only the answer was wanted.
    pub dry_run: bool,
    /// Work files; the count is of jobs.
    pub work: DiskUsage,
    /// Pictures that were in the trash.
    pub trash: DiskUsage,
    /// Thumbnails, contact sheets and encoded prompts.
    pub caches: DiskUsage,
    /// Pictures that were handed in, that no job and no result speaks of, and that nobody wanted
    /// for a day.
    pub inputs: DiskUsage,
}

/// How much disk everything takes, and what could go.
pub async fn status(app: &Arc<App>, _: NoInput) -> Result<CleanupStatus> {
    let app = Arc::clone(app);
    run_aside(move || {
        let stored = app.store().read(assets::files)?;
        let mut status = CleanupStatus {
            pictures: DiskUsage::default(),
            trash: DiskUsage::default(),
            work: DiskUsage::default(),
            caches: measure_caches(&app),
            inputs: measure_inputs(&app),
            database: measure_database(&app),
            unknown_files: DiskUsage::default(),
            missing_files: 0,
            disk_free: system::disk_space(app.outputs_dir()).map_or(0, |disk| disk.free),
        };
        let mut on_disk: HashMap<PathBuf, u64> = HashMap::new();
        walk(app.outputs_dir(), DEEPEST, &mut |path, bytes| {
            on_disk.insert(path.to_owned(), bytes);
        });
        for file in &stored {
            if file.trashed_at.is_some() {
                status.trash.add(file.bytes);
            } else {
                status.pictures.add(file.bytes);
                let path = app.outputs_dir().join(&file.path);
                if on_disk.remove(&path).is_none() && !path.exists() {
                    status.missing_files += 1;
                }
            }
        }
        for bytes in on_disk.into_values() {
            status.unknown_files.add(bytes);
        }
        for folder in read_work_folders(&app)? {
            status.work.add(folder.bytes);
        }
        Ok(status)
    })
    .await
}

/// The work folder of every job, largest first.
pub async fn list(app: &Arc<App>, _: NoInput) -> Result<WorkFolders> {
    let app = Arc::clone(app);
    run_aside(move || {
        let mut folders = read_work_folders(&app)?;
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.bytes));
        Ok(WorkFolders { folders })
    })
    .await
}

/// Deletes work files and old trash, or only says what would go.
pub async fn run(app: &Arc<App>, input: CleanupInput) -> Result<CleanupReport> {
    let scope = Scope::read(&input)?;
    let aside = Arc::clone(app);
    let dry_run = input.dry_run;
    let mut report = run_aside(move || clean_files(&aside, scope, dry_run)).await?;
    if let Some(before) = scope.trash_before() {
        let stored = app.store().read(assets::files)?;
        let is_old = |file: &&StoredFile| file.trashed_at.is_some_and(|at| at < before);
        for file in stored.iter().filter(is_old) {
            report.trash.add(file.bytes);
        }
        if !dry_run {
            report.trash.count = app.queue().purge_assets_older_than(before).await?;
        }
    }
    Ok(report)
}

/// What a cleanup is about.
#[derive(Clone, Copy)]
enum Scope {
    /// What is older than this point in time.
    Before(Timestamp),
    /// One job.
    Job(JobId),
    /// Everything that can be made again or was thrown away.
    All,
}

impl Scope {
    fn read(input: &CleanupInput) -> Result<Self> {
        match (input.hours, input.job, input.all) {
            (Some(hours), None, false) => {
                let age = i64::from(hours) * 60 * 60 * 1_000;
                Ok(Scope::Before(Timestamp(Timestamp::now().0 - age)))
            }
            (None, Some(job), false) => Ok(Scope::Job(job)),
            (None, None, true) => Ok(Scope::All),
            _ => Err(Problem::in_field(
                "hours",
                "a cleanup takes exactly one of hours, job and all",
                "Name one of them.",
            )
            .into()),
        }
    }

    fn trash_before(self) -> Option<Timestamp> {
        match self {
            Scope::Before(time) => Some(time),
            Scope::Job(_) => None,
            // The clock may have been set back since something was trashed.
            Scope::All => Some(Timestamp(i64::MAX)),
        }
    }

    /// Whether a work folder goes. One of an unfinished job holds what it resumes from; that goes
    /// only when the job is named, and never while it runs.
    fn takes(self, folder: &WorkFolder) -> bool {
        let is_over = folder.state.is_none_or(JobState::is_final);
        match self {
            Scope::Before(time) => is_over && folder.changed_at < time,
            Scope::Job(job) => folder.job == job,
            Scope::All => is_over,
        }
    }
}

fn clean_files(app: &App, scope: Scope, dry_run: bool) -> Result<CleanupReport> {
    let mut report = CleanupReport {
        dry_run,
        ..CleanupReport::default()
    };
    if let Scope::Job(job) = scope {
        let state = app.store().read(|db| jobs::state(db, job))?;
        if state == Some(JobState::Running) {
            return Err(Problem::new(
                Code::Conflict,
                "the job is running",
                "Cancel or pause it first.",
            )
            .into());
        }
        if state.is_none() && !app.job_folder(job).exists() {
            return Err(Error::not_found(format_args!("job {job}")));
        }
    }
    for folder in read_work_folders(app)? {
        if !scope.takes(&folder) {
            continue;
        }
        if !dry_run {
            remove_folder(&app.job_folder(folder.job))?;
        }
        report.work.add(folder.bytes);
    }
    if !matches!(scope, Scope::Job(_)) {
        let used = app.store().read(pictures::in_use)?;
        let (count, bytes) = app.inputs().remove_unused(&used, dry_run)?;
        report.inputs = DiskUsage { count, bytes };
    }
    if matches!(scope, Scope::All) {
        report.caches = measure_caches(app);
        if !dry_run {
            for folder in caches(app) {
                remove_folder(&folder)?;
            }
        }
    }
    Ok(report)
}

fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", folder, &error))
        }
        _ => Ok(()),
    }
}

fn caches(app: &App) -> [PathBuf; 3] {
    let config = app.config();
    [
        config.thumbnails_dir(),
        config.sheets_dir(),
        config.texts_dir(),
    ]
}

fn measure_caches(app: &App) -> DiskUsage {
    let mut usage = DiskUsage::default();
    for folder in caches(app) {
        walk(&folder, DEEPEST, &mut |_, bytes| usage.add(bytes));
    }
    usage
}

fn measure_inputs(app: &App) -> DiskUsage {
    let mut usage = DiskUsage::default();
    walk(&app.config().inputs_dir(), 0, &mut |_, bytes| {
        usage.add(bytes)
    });
    usage
}

/// The database with its write-ahead log and backups.
fn measure_database(app: &App) -> DiskUsage {
    let database = app.config().database();
    let name = database.file_name().unwrap_or_default().to_os_string();
    let mut usage = DiskUsage::default();
    walk(&app.config().data_dir, 0, &mut |path, bytes| {
        let file = path.file_name().unwrap_or_default();
        if file.as_encoded_bytes().starts_with(name.as_encoded_bytes()) {
            usage.add(bytes);
        }
    });
    usage
}

fn read_work_folders(app: &App) -> Result<Vec<WorkFolder>> {
    let jobs_dir = app.config().jobs_dir();
    let entries = match fs::read_dir(&jobs_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", &jobs_dir, &error)),
    };
    let mut folders = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(job) = name.to_str().and_then(|name| name.parse::<JobId>().ok()) else {
            continue;
        };
        let mut bytes = 0_u64;
        let mut changed = modified(&entry.path());
        walk(&entry.path(), DEEPEST, &mut |path, size| {
            bytes = bytes.saturating_add(size);
            changed = changed.max(modified(path));
        });
        folders.push(WorkFolder {
            job,
            state: app.store().read(|db| jobs::state(db, job))?,
            bytes,
            changed_at: changed,
        });
    }
    Ok(folders)
}

fn modified(path: &Path) -> Timestamp {
    let time = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    let since = time
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let ms = since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    });
    Timestamp(ms)
}

/// Every file below a folder, without following links. What cannot be read is passed over.
fn walk(folder: &Path, depth: usize, found: &mut impl FnMut(&Path, u64)) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if metadata.is_file() {
            found(&entry.path(), metadata.len());
        } else if metadata.is_dir() && depth > 0 {
            walk(&entry.path(), depth - 1, found);
        }
    }
}

async fn run_aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::internal)?
}

impl DiskUsage {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}
