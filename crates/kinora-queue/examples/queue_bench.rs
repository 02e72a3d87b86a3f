//! Times the queue at a hundred thousand jobs and pictures, on a database on disk with every commit
//! synced, and prints a Markdown table.
//!
//! `cargo run --release -p kinora-queue --example queue_bench [FOLDER]`: the folder decides which
//! disk is measured.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use kinora_core::{
    Backend, BatchKind, JobId, JobState, LaneId, Priority, Seed, SessionKind, Timestamp,
};
use kinora_queue::{
    AssetFilter, AssetSort, Folders, JobFilter, JobSort, NewBatch, NewJob, Page, Queue, Store,
};
use kinora_store::{jobs, sessions};
use kinora_testkit::{FakeBackend, plan, write_picture};

const JOBS: usize = 100_000;
const CLAIMS: usize = 1_000;
const PAGES: usize = 400;
const GROUP: usize = 4;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Row {
    what: &'static str,
    times: Vec<Duration>,
    /// Processor time of the whole program, its checkpoints included.
    processor: Duration,
    /// At most: of a single time itself, of many the 99th percentile.
    limit: Option<Duration>,
}

fn main() -> Result<()> {
    let folder = match std::env::args_os().nth(1) {
        Some(folder) => tempfile::tempdir_in(PathBuf::from(folder))?,
        None => tempfile::tempdir()?,
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let mut rows = Vec::new();
    runtime.block_on(measure(&folder, &mut rows))?;
    println!("| what | median | 99th percentile | longest | processor, mean | limit | |");
    println!("|---|---|---|---|---|---|---|");
    let mut is_good = true;
    for row in &mut rows {
        row.times.sort_unstable();
        let at = |share: f64| {
            let index = ((row.times.len() - 1) as f64 * share).ceil() as usize;
            row.times[index]
        };
        let verdict = match row.limit {
            Some(limit) if at(0.99) <= limit => "holds",
            Some(_) => {
                is_good = false;
                "MISSED"
            }
            None => "",
        };
        let limit = row.limit.map(show).unwrap_or_default();
        let [median, late, longest] = [at(0.5), at(0.99), at(1.0)].map(show);
        let what = row.what;
        let mean = show(row.processor / row.times.len() as u32);
        println!("| {what} | {median} | {late} | {longest} | {mean} | {limit} | {verdict} |");
    }
    if !is_good {
        return Err("a limit was missed".into());
    }
    Ok(())
}

/// Processor time so far, in the kernel's ticks of a hundredth of a second.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in parentheses: user and system time are the 12th and 13th fields.
    let fields = text
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(10 * ticks)
}

fn show(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.2} s"),
        seconds => format!("{:.2} ms", seconds * 1e3),
    }
}

async fn measure(folder: &tempfile::TempDir, rows: &mut Vec<Row>) -> Result<()> {
    let folders = Folders::new(folder.path().join("data"), folder.path().join("outputs"));
    std::fs::create_dir_all(folders.data())?;
    let store = Store::open(&folders.data().join("kinora.db"))?;
    // Not started: the claims are made below, one by one, as a worker makes them.
    let backend: Arc<dyn Backend> = Arc::new(FakeBackend::new());
    let queue = Queue::open(store.clone(), folders.clone(), vec![backend])?;
    let session =
        store.write(|tx| sessions::create(tx, SessionKind::Bulk, "", Timestamp::now()))?;

    let batch = NewBatch {
        kind: BatchKind::List,
        title: "bench.csv".into(),
        session: Some(session),
        jobs: (0..JOBS).map(new_job).collect(),
    };
    let before = processor_time();
    let start = Instant::now();
    let (batch, ids) = queue.enqueue(batch).await?;
    rows.push(Row {
        what: "queue 100,000 jobs in one call",
        times: vec![start.elapsed()],
        processor: processor_time() - before,
        limit: Some(Duration::from_secs(5)),
    });

    let lane = LaneId::local();
    let mut claimed = Vec::new();
    let before = processor_time();
    let mut claims = Vec::with_capacity(CLAIMS);
    for _ in 0..CLAIMS {
        let start = Instant::now();
        let head = store
            .read(|db| jobs::head(db, &lane, Priority::Bulk))?
            .ok_or("the queue ran dry")?;
        let group = store.write(|tx| jobs::claim(tx, head.seq, GROUP, Timestamp::now()))?;
        claims.push(start.elapsed());
        claimed.extend(group);
    }
    rows.push(Row {
        what: "claim a group of 4, synced to disk",
        times: claims,
        processor: processor_time() - before,
        limit: Some(Duration::from_millis(20)),
    });

    let page_limit = Some(Duration::from_millis(50));
    let filters: [(&'static str, JobFilter, Option<JobSort>); 5] = [
        (
            "list 100 active jobs as they run, any page",
            JobFilter {
                active: true,
                ..JobFilter::default()
            },
            None,
        ),
        ("list 100 newest jobs, any page", JobFilter::default(), None),
        (
            "list 100 jobs of the batch, any page",
            JobFilter::of_batch(batch),
            None,
        ),
        (
            "list 100 queued jobs of the session, any page",
            JobFilter {
                states: vec![JobState::Queued],
                session: Some(session),
                ..JobFilter::default()
            },
            None,
        ),
        (
            "list 100 first active jobs",
            JobFilter {
                active: true,
                ..JobFilter::default()
            },
            Some(JobSort::Run),
        ),
    ];
    for (what, filter, sort) in filters {
        let before = processor_time();
        let mut times = Vec::with_capacity(PAGES);
        for index in 0..PAGES {
            let offset = match sort {
                Some(_) => 0,
                None => (index * (JOBS - 5_000) / PAGES) as u64,
            };
            let start = Instant::now();
            let listed = queue
                .list(filter.clone(), sort, Page { offset, limit: 100 })
                .await?;
            times.push(start.elapsed());
            assert_eq!(listed.rows.len(), 100);
        }
        rows.push(Row {
            what,
            times,
            processor: processor_time() - before,
            limit: page_limit,
        });
    }
    let before = processor_time();
    let mut times = Vec::new();
    for _ in 0..PAGES {
        let start = Instant::now();
        let status = queue.status().await?;
        times.push(start.elapsed());
        assert_eq!(status.counts.total(), JOBS as u64);
    }
    rows.push(Row {
        what: "status of the queue, with its time left",
        times,
        processor: processor_time() - before,
        limit: page_limit,
    });
    let before = processor_time();
    let mut times = Vec::new();
    for index in 0..CLAIMS {
        let (job, before) = (ids[JOBS - 1 - index], ids[JOBS / 2 + index]);
        let start = Instant::now();
        queue.move_before(job, Some(before)).await?;
        times.push(start.elapsed());
    }
    rows.push(Row {
        what: "move a job to the middle, synced to disk",
        times,
        processor: processor_time() - before,
        limit: None,
    });

    fill_with_pictures(&store, folder, &claimed[0], &ids)?;
    let searches: [(&'static str, AssetFilter); 5] = [
        (
            "list 100 of 100,000 pictures, any page",
            AssetFilter::default(),
        ),
        (
            "search pictures: one word of every prompt",
            AssetFilter {
                search: Some("lighthouse".into()),
                ..AssetFilter::default()
            },
        ),
        (
            "search pictures: beginnings of two words, in a session",
            AssetFilter {
                search: Some("light sto".into()),
                session: Some(session),
                ..AssetFilter::default()
            },
        ),
        (
            "search pictures: a seed",
            AssetFilter {
                search: Some("77777".into()),
                ..AssetFilter::default()
            },
        ),
        (
            "search pictures: a colour and a model",
            AssetFilter {
                search: Some("violet".into()),
                model: Some(kinora_core::ModelId::new("fake")),
                ..AssetFilter::default()
            },
        ),
    ];
    for (what, filter) in searches {
        let before = processor_time();
        let mut times = Vec::with_capacity(PAGES);
        let mut total = 0;
        for index in 0..PAGES {
            let offset = index as u64 * total / PAGES as u64;
            let start = Instant::now();
            let listed = queue
                .assets(
                    filter.clone(),
                    AssetSort::Newest,
                    Page { offset, limit: 100 },
                )
                .await?;
            times.push(start.elapsed());
            total = listed.total.saturating_sub(100);
            assert!(!listed.rows.is_empty());
        }
        rows.push(Row {
            what,
            times,
            processor: processor_time() - before,
            limit: page_limit,
        });
    }

    let again = NewBatch {
        kind: BatchKind::List,
        title: "again.csv".into(),
        session: Some(session),
        jobs: (0..JOBS).map(new_job).collect(),
    };
    let (again, _) = queue.enqueue(again).await?;
    let before = processor_time();
    let start = Instant::now();
    let cancelled = queue.cancel_where(JobFilter::of_batch(again)).await?;
    rows.push(Row {
        what: "cancel 100,000 jobs in one call",
        times: vec![start.elapsed()],
        processor: processor_time() - before,
        limit: None,
    });
    assert_eq!(cancelled, JOBS as u64);
    Ok(())
}

fn new_job(index: usize) -> NewJob {
    let colour = ["red", "green", "blue", "violet", "golden"][index % 5];
    let mut plan = plan(&format!(
        "a {colour} lighthouse on a cliff above a stormy sea, number {index}, oil painting"
    ));
    plan.output.stem = format!("bench/{index:06}");
    plan.seed = Seed(index as u64);
    // Four kinds of work, alternating.
    plan.steps = 4 + (index % 2) as u32;
    plan.size.width = 64 * (1 + (index / 2 % 2) as u32);
    NewJob {
        priority: Priority::Bulk,
        line: Some(index as u32 + 1),
        ..NewJob::new(plan)
    }
}

/// Ends jobs with pictures, whose files are left out: the database is what is measured.
fn fill_with_pictures(
    store: &Store,
    folder: &tempfile::TempDir,
    sample: &kinora_core::Job,
    ids: &[JobId],
) -> Result<()> {
    let mut artifact = write_picture(&folder.path().join("sample.png"), &sample.plan)?;
    store.write(|tx| {
        tx.execute(
            "UPDATE jobs SET state = 'running', epoch = epoch + 1 WHERE state = 'queued'",
            [],
        )?;
        for (index, id) in ids.iter().enumerate() {
            let Some((JobState::Running, epoch)) = jobs::attempt(tx, *id)? else {
                continue;
            };
            artifact.recipe.plan = new_job(index).plan;
            let path = format!("bench/{index:06}.png");
            let done = jobs::Done {
                artifact: &artifact,
                path: &path,
                staging: &path,
                timings: Default::default(),
            };
            let stored = jobs::keep_result(tx, *id, epoch, &done, Timestamp::now())?;
            if let jobs::Stored::Asset(asset) = stored {
                jobs::finish_done(tx, asset, Timestamp::now())?;
            }
        }
        Ok(())
    })?;
    Ok(())
}
