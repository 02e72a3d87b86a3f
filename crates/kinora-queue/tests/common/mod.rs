//! A queue over real folders and a fake backend, and ways to wait for it without sleeping.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    collections::BTreeSet,
    fmt::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kinora_core::{
    AssetId, Backend, BatchId, BatchKind, Event, Job, JobId, JobState, Plan, Priority, WaitReason,
};
use kinora_queue::{Folders, JobFilter, JobSort, NewBatch, NewJob, Page, Queue, Store};
use kinora_testkit::{FakeBackend, plan};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// Longer than anything takes, so that a test that waits in vain ends.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Studio {
    pub queue: Queue,
    pub backend: Arc<FakeBackend>,
    pub folder: Arc<tempfile::TempDir>,
}

pub fn folders(root: &Path) -> Folders {
    Folders::new(root.join("data"), root.join("outputs"))
}

pub fn open_store(root: &Path) -> Store {
    std::fs::create_dir_all(root.join("data")).unwrap();
    Store::open(&root.join("data/kinora.db")).unwrap()
}

impl Studio {
    /// Opens a queue on disk; not started.
    pub fn open(backend: FakeBackend) -> Self {
        Self::open_in(Arc::new(tempfile::tempdir().unwrap()), backend)
    }

    pub fn open_in(folder: Arc<tempfile::TempDir>, backend: FakeBackend) -> Self {
        let backend = Arc::new(backend);
        let lanes = vec![backend.clone() as Arc<dyn Backend>];
        let store = open_store(folder.path());
        let queue = Queue::open(store, folders(folder.path()), lanes).unwrap();
        Self {
            queue,
            backend,
            folder,
        }
    }

    /// Opens a queue in memory (its files are on disk); not started.
    pub fn open_in_memory(backend: FakeBackend) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let backend = Arc::new(backend);
        let lanes = vec![backend.clone() as Arc<dyn Backend>];
        let store = Store::open_in_memory().unwrap();
        let queue = Queue::open(store, folders(folder.path()), lanes).unwrap();
        Self {
            queue,
            backend,
            folder,
        }
    }

    pub fn start(backend: FakeBackend) -> Self {
        let studio = Self::open(backend);
        studio.queue.start();
        studio
    }

    /// Ends this queue, and opens another one over the same folders; not started.
    pub async fn reopen(self, backend: FakeBackend) -> Self {
        let folder = self.folder.clone();
        self.queue.shutdown(PATIENCE).await.unwrap();
        drop(self);
        Self::open_in(folder, backend)
    }

    pub async fn enqueue(&self, plans: Vec<Plan>, priority: Priority) -> (BatchId, Vec<JobId>) {
        let jobs = plans.into_iter().map(|plan| NewJob {
            priority,
            ..NewJob::new(plan)
        });
        let batch = NewBatch {
            kind: BatchKind::List,
            title: "list".into(),
            session: None,
            jobs: jobs.collect(),
        };
        self.queue.enqueue(batch).await.unwrap()
    }

    /// Queues one job per prompt.
    pub async fn add(&self, prompts: &[&str]) -> Vec<JobId> {
        let plans = prompts.iter().map(|prompt| plan(prompt)).collect();
        self.enqueue(plans, Priority::Interactive).await.1
    }

    pub async fn job(&self, id: JobId) -> Job {
        self.queue.get(id).await.unwrap()
    }

    /// Waits until a job is as wanted.
    pub async fn wait(&self, id: JobId, wanted: impl Fn(&Job) -> bool) -> Job {
        let mut events = self.queue.events();
        let found = self.job(id).await;
        if wanted(&found) {
            return found;
        }
        let waiting = async {
            loop {
                match events.recv().await {
                    Ok(Event::JobChanged { job }) if job.id == id && wanted(&job) => return *job,
                    Ok(Event::JobsChanged { .. }) | Err(RecvError::Lagged(_)) => {
                        let found = self.job(id).await;
                        if wanted(&found) {
                            return found;
                        }
                    }
                    Ok(_) => {}
                    Err(RecvError::Closed) => panic!("the queue has ended"),
                }
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(job) => job,
            Err(_) => panic!("never as wanted: {:#?}", self.job(id).await),
        }
    }

    pub async fn wait_state(&self, id: JobId, state: JobState) -> Job {
        self.wait(id, |job| job.state == state).await
    }

    /// Waits until every one of these jobs is final.
    pub async fn wait_final(&self, ids: &[JobId]) {
        for id in ids {
            self.wait(*id, |job| job.state.is_final()).await;
        }
    }

    pub async fn wait_steps(&self, steps: u64) {
        tokio::time::timeout(PATIENCE, self.backend.wait_for_steps(steps))
            .await
            .expect("the steps are made");
    }

    pub fn prompts_of_calls(&self) -> Vec<Vec<String>> {
        let calls = self.backend.calls();
        calls.into_iter().map(|call| call.prompts).collect()
    }

    /// Everything: the jobs as submitted, the pictures, the folders of jobs.
    pub async fn snapshot(&self) -> String {
        let filter = JobFilter::default();
        let page = Page::first(1_000);
        let listed = self
            .queue
            .list(filter, Some(JobSort::Oldest), page)
            .await
            .unwrap();
        let mut text = String::new();
        for job in &listed.rows {
            write!(text, "{}: {}", job.plan.prompt, job.state.as_str()).unwrap();
            if job.is_cancelling {
                text += " (cancelling)";
            }
            write!(text, ", epoch {}, deaths {}", job.epoch, job.deaths).unwrap();
            if let Some(failure) = &job.failure {
                write!(text, ", {:?}: {}", failure.code, failure.message).unwrap();
            }
            match &job.waiting {
                Some(WaitReason::Behind { jobs }) => write!(text, ", behind {jobs}").unwrap(),
                Some(WaitReason::QueuePaused) => text += ", queue paused",
                _ => {}
            }
            if job.retry_of.is_some() {
                text += ", retry";
            }
            for asset in &job.assets {
                let asset = self.queue.asset(*asset).await.unwrap();
                write!(text, " -> {}", asset.path).unwrap();
                if asset.trashed_at.is_some() {
                    text += " (trash)";
                }
            }
            text.push('\n');
        }
        let mut text = text + "outputs: " + &names(&self.outputs()).join(" ") + "\nfolders:";
        for job in &listed.rows {
            if self.queue.folders().scratch(job.id).exists() {
                write!(text, " {}", job.plan.prompt).unwrap();
            }
        }
        // Names that differ from run to run.
        let mut text = text.replace(self.folder.path().to_str().unwrap(), "…") + "\n";
        for job in &listed.rows {
            text = text.replace(&job.id.to_string(), "ID");
        }
        text
    }

    pub fn outputs(&self) -> PathBuf {
        self.folder.path().join("outputs")
    }

    pub async fn only_asset(&self, job: JobId) -> AssetId {
        let job = self.job(job).await;
        assert_eq!(job.assets.len(), 1);
        job.assets[0]
    }
}

/// Files below a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap();
                found.insert(name.to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(folder, folder, &mut found);
    found.into_iter().collect()
}

/// The next event that is wanted.
pub async fn next(events: &mut Receiver<Event>, mut wanted: impl FnMut(&Event) -> bool) -> Event {
    let waiting = async {
        loop {
            match events.recv().await {
                Ok(event) if wanted(&event) => return event,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => panic!("the queue has ended"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("the event comes")
}
