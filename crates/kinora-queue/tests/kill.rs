//! Processes that die: a child of this very program runs a queue with a fake backend and is killed,
//! by itself at every edge between two durable writes, and with SIGKILL at random moments; each
//! time, another child goes on. In the end every job is done exactly once, no picture is there
//! twice, and no file is left over.
//!
//! The test brings its own main, because it is two programs: `kill child FOLDER [EDGE COUNT]` is
//! the one that dies.

mod common;

use std::{
    collections::HashSet,
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use kinora_core::{Backend, BatchKind, Event, JobState};
use kinora_queue::{
    AssetFilter, AssetSort, JobFilter, NewBatch, NewJob, Page, Queue,
    failpoints::{self, Edge},
};
use kinora_testkit::{FakeBackend, plan};

const JOBS: usize = 120;
const RANDOM_KILLS: u32 = 40;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["child", folder, ref plan @ ..] => child(Path::new(folder), plan),
        // What test runners ask.
        ref other if other.contains(&"--list") => {
            if !other.contains(&"--ignored") {
                println!("jobs_survive_kill_nine: test");
                println!("jobs_survive_a_crash_at_every_edge: test");
            }
        }
        ref other => {
            let is_wanted = |name: &str| {
                let mut names = other
                    .iter()
                    .filter(|word| !word.starts_with('-'))
                    .peekable();
                names.peek().is_none() || names.any(|wanted| name.contains(wanted))
            };
            if is_wanted("jobs_survive_a_crash_at_every_edge") {
                jobs_survive_a_crash_at_every_edge();
                println!("test jobs_survive_a_crash_at_every_edge ... ok");
            }
            if is_wanted("jobs_survive_kill_nine") {
                jobs_survive_kill_nine();
                println!("test jobs_survive_kill_nine ... ok");
            }
        }
    }
}

/// Runs what is queued until nothing is left, telling the parent of every step on the way; with a
/// plan, dies at the given edge when it is reached for the given time.
fn child(folder: &Path, plan: &[&str]) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let backend: Arc<dyn Backend> = Arc::new(FakeBackend::new().with_limit(3));
        let store = common::open_store(folder);
        let queue = Queue::open(store, common::folders(folder), vec![backend]).unwrap();
        let (edge, count) = match plan {
            [edge, count] => (*edge, count.parse().unwrap()),
            _ => ("", 0),
        };
        let edge = edge.to_owned();
        let reached = AtomicU32::new(0);
        failpoints::set(
            &queue,
            Arc::new(move |at| {
                let name = format!("{at:?}");
                tell(&name);
                if name == edge && reached.fetch_add(1, Ordering::SeqCst) + 1 == count {
                    std::process::abort();
                }
                Ok(())
            }),
        );
        let mut events = queue.events();
        queue.start();
        loop {
            let counts = queue.status().await.unwrap().counts;
            if counts.queued + counts.running == 0 {
                break;
            }
            if let Event::JobProgress { progress } = common::next(&mut events, |event| {
                matches!(event, Event::JobProgress { .. } | Event::JobChanged { .. })
            })
            .await
            {
                tell(&format!("{:?}", progress.stage));
            }
        }
        // The sweep at start may still be under way.
        queue.sweep().await.unwrap();
        let patience = std::time::Duration::from_secs(60);
        queue.shutdown(patience).await.unwrap();
        tell("over");
    });
}

fn tell(what: &str) {
    // A parent that is gone does not matter.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{what}").and_then(|()| out.flush());
}

fn spawn(folder: &Path, plan: &[String]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .arg("child")
        .arg(folder)
        .args(plan)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads what a child tells until it is over (true), dies (false), or has told `limit` lines, when
/// it is killed (false).
fn follow(mut child: Child, limit: usize) -> bool {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for (index, line) in lines.enumerate() {
        match line {
            Ok(line) if line == "over" => {
                assert!(child.wait().unwrap().success());
                return true;
            }
            Ok(_) if index + 1 >= limit => break,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    false
}

/// Queues the jobs, four of which share a stem.
fn prepare(folder: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let backend: Arc<dyn Backend> = Arc::new(FakeBackend::new());
        let store = common::open_store(folder);
        let queue = Queue::open(store, common::folders(folder), vec![backend]).unwrap();
        let jobs = (0..JOBS).map(|index| {
            let mut plan = plan(&format!("prompt {index}"));
            plan.output.stem = format!("{}/{}", index % 3, index / 4);
            plan.steps = 2 + (index % 2) as u32;
            NewJob::new(plan)
        });
        let batch = NewBatch {
            kind: BatchKind::List,
            title: "list".into(),
            session: None,
            jobs: jobs.collect(),
        };
        queue.enqueue(batch).await.unwrap();
    });
}

/// Every job is done once, under its own name, and there is nothing else.
fn check(folder: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = common::open_store(folder);
        let queue = Queue::open(store, common::folders(folder), Vec::new()).unwrap();
        let page = Page::first(1_000);
        let jobs = queue.list(JobFilter::default(), None, page).await.unwrap();
        assert_eq!(jobs.total, JOBS as u64);
        let mut assets: HashSet<kinora_core::AssetId> = HashSet::new();
        for job in &jobs.rows {
            assert_eq!(job.state, JobState::Done, "{job:#?}");
            assert_eq!(job.deaths, 0, "a dead application is not the job's fault");
            assert_eq!(job.assets.len(), 1, "{job:#?}");
            assets.extend(job.assets.iter().copied());
        }
        assert_eq!(assets.len(), JOBS, "each has its own picture");
        let filter = AssetFilter::default();
        let stored = queue.assets(filter, AssetSort::Oldest, page).await.unwrap();
        assert_eq!(stored.total, JOBS as u64);
        let mut paths: Vec<_> = stored.rows.iter().map(|asset| asset.path.clone()).collect();
        paths.sort();
        assert_eq!(paths, common::names(&folder.join("outputs")), "no orphan");
        for asset in &stored.rows {
            let file = fs::metadata(queue.folders().output(&asset.path)).unwrap();
            assert_eq!(file.len(), asset.bytes);
        }
        let folders = common::names(&folder.join("data/jobs"));
        assert_eq!(folders, Vec::<String>::new(), "no folder of a job is left");
        assert_eq!(
            common::names(&folder.join("data/trash")),
            Vec::<String>::new()
        );
    });
}

fn jobs_survive_a_crash_at_every_edge() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let mut crashes = 0;
    for edge in Edge::ALL {
        if matches!(edge, Edge::TrashNoted | Edge::TrashMoved) {
            continue; // Nobody deletes pictures here; the tests of the trash do.
        }
        for count in [1, 2] {
            let plan = [format!("{edge:?}"), count.to_string()];
            let is_over = follow(spawn(folder.path(), &plan), usize::MAX);
            assert!(!is_over, "{edge:?} was not reached");
            crashes += 1;
        }
    }
    assert_eq!(crashes, 12);
    assert!(follow(spawn(folder.path(), &[]), usize::MAX));
    check(folder.path());
}

fn jobs_survive_kill_nine() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    // Random moments, the same ones in every run as far as the scheduler allows: some lines later.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut kills = 0;
    while kills < RANDOM_KILLS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let limit = 1 + (random % 16) as usize;
        let is_over = follow(spawn(folder.path(), &[]), limit);
        assert!(!is_over, "every job was done after {kills} kills");
        kills += 1;
    }
    assert!(follow(spawn(folder.path(), &[]), usize::MAX));
    check(folder.path());
    println!("{kills} kills");
}
