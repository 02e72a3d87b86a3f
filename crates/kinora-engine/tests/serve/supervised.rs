//! The compiled engine under the application's supervisor.

use std::{
    collections::HashMap,
    fs,
    sync::Mutex,
    time::{Duration, Instant},
};

use kinora_app::engine::{EngineConfig, EngineState, LocalBackend};
use kinora_core::{
    Artifact, Backend, BoxFuture, Code, Fix, JobId, Outcome, Progress, Stage, Watch, Work,
};
use tokio::sync::Notify;

use crate::{
    PROMPT,
    process::{next_attempt, plan, starter, work},
};

/// Longest that any run may take here.
const PATIENCE: Duration = Duration::from_secs(120);

/// Remembers outcomes, and wakes up once a job has done so many denoising steps.
struct Record {
    outcomes: Mutex<HashMap<JobId, Outcome>>,
    awaited_step: u32,
    reached: Notify,
}

impl Record {
    fn awaiting(awaited_step: u32) -> Self {
        Self {
            outcomes: Mutex::default(),
            awaited_step,
            reached: Notify::new(),
        }
    }

    fn outcome(&self, work: &Work) -> Outcome {
        self.outcomes.lock().unwrap()[&work.job].clone()
    }

    fn artifact(&self, work: &Work) -> Artifact {
        match self.outcome(work) {
            Outcome::Done(artifact) => *artifact,
            other => panic!("not done: {other:?}"),
        }
    }
}

impl Watch for Record {
    fn progress(&self, progress: Progress) {
        if progress.stage == Stage::Generating && progress.step >= self.awaited_step {
            self.reached.notify_one();
        }
    }

    fn is_cancelled(&self, _: JobId) -> bool {
        false
    }

    fn next_cancelled(&self) -> BoxFuture<'_, JobId> {
        Box::pin(std::future::pending())
    }

    fn finish(&self, job: JobId, outcome: Outcome) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.outcomes.lock().unwrap().insert(job, outcome);
        })
    }
}

fn backend() -> LocalBackend {
    LocalBackend::new(EngineConfig {
        program: Some(env!("CARGO_BIN_EXE_kinora-engine").into()),
        arguments: ["serve", "--device", "cpu", "--checkpoint-steps", "4"]
            .map(Into::into)
            .to_vec(),
        ..EngineConfig::default()
    })
}

#[tokio::test]
async fn an_engine_killed_in_the_middle_is_replaced_and_the_job_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend();
    let plan = plan(&starter(), PROMPT, 60);
    let run = async |works: &[Work]| {
        let record = Record::awaiting(u32::MAX);
        tokio::time::timeout(PATIENCE, backend.run(works.to_vec(), &record))
            .await
            .expect("it takes too long");
        record
    };
    let unbroken = work(folder.path(), plan.clone());
    let made = run(std::slice::from_ref(&unbroken))
        .await
        .artifact(&unbroken);
    assert_eq!(backend.status().models, ["image"]);
    let first_pid = backend.status().pid.unwrap();

    let broken = work(folder.path(), plan);
    let record = Record::awaiting(17);
    let kill = async {
        record.reached.notified().await;
        let kill = std::process::Command::new("kill")
            .args(["-9", &first_pid.to_string()])
            .status();
        assert!(kill.unwrap().success());
    };
    let works = vec![broken.clone()];
    tokio::time::timeout(PATIENCE, async {
        tokio::join!(backend.run(works, &record), kill)
    })
    .await
    .expect("it takes too long");
    let Outcome::Interrupted(failure) = record.outcome(&broken) else {
        panic!("not interrupted: {:?}", record.outcome(&broken));
    };
    assert_eq!(
        (failure.code, failure.fix),
        (Code::EngineLost, Some(Fix::Retry))
    );
    assert!(
        failure.log.iter().any(|line| line.contains("ready")),
        "{:?}",
        failure.log
    );

    let again = next_attempt(&broken);
    let record = Record::awaiting(17);
    let begun = Instant::now();
    let mut running_after = Duration::MAX;
    let clock = async {
        record.reached.notified().await;
        running_after = begun.elapsed();
    };
    let works = vec![again.clone()];
    tokio::time::timeout(PATIENCE, async {
        tokio::join!(backend.run(works, &record), clock)
    })
    .await
    .expect("it takes too long");
    eprintln!("running again {running_after:?} after the group was handed in");
    let resumed = record.artifact(&again);
    assert!(resumed.recipe.timings.unwrap().resumed_steps >= 16);
    assert_eq!(resumed.sha256, made.sha256);
    assert_eq!(
        fs::read(&again.staging).unwrap(),
        fs::read(&unbroken.staging).unwrap()
    );
    let status = backend.status();
    assert_eq!((status.state, status.starts), (EngineState::Idle, 2));
    assert_ne!(status.pid, Some(first_pid));
    backend.shutdown().await;
    assert_eq!(backend.status().pid, None);
}
