//! The jobs table by itself: counts, order, claims, epochs. The queue's own tests cover the rest.

use kinora_core::{
    BatchId, BatchKind, Code, Failure, Fix, ImageFormat, Job, JobId, JobState, LaneId, Mode,
    ModelId, OutputPlan, Plan, PlannedModel, Priority, Rng, Sampler, Schedule, Seed, SessionKind,
    Size, StateCounts, Timestamp,
};
use rusqlite::Transaction;

use super::*;
use crate::{Page, Store, batches, counts, sessions};

const NOW: Timestamp = Timestamp(1_000);

fn plan(model: &str, prompt: &str) -> Plan {
    Plan {
        version: kinora_core::plan::PLAN_VERSION,
        numerics: "1".into(),
        mode: Mode::TextToImage,
        model: PlannedModel {
            components: Default::default(),
            parts: Default::default(),
            id: ModelId::new(model),
            name: model.to_uppercase(),
            family: kinora_core::Family::Flux,
            variant: "schnell".into(),
            root: format!("/models/{model}").into(),
            weights: Vec::new(),
        },
        prompt: prompt.into(),
        template: None,
        negative_prompt: String::new(),
        source: None,
        draft: None,
        parent: None,
        loras: Vec::new(),
        video: None,
        size: Size {
            width: 64,
            height: 64,
        },
        steps: 4,
        guidance: None,
        true_cfg: None,
        step_cache: None,
        seed: Seed(7),
        rng: Rng::Cpu,
        text_tokens: 64,
        sampler: Sampler::Euler,
        schedule: Schedule::FlowMatch,
        output: OutputPlan {
            stem: prompt.into(),
            format: ImageFormat::Png.into(),
        },
    }
}

fn queue(tx: &Transaction<'_>, jobs: Vec<NewJob>) -> (BatchId, Vec<JobId>) {
    let batch = NewBatch {
        kind: BatchKind::List,
        title: "list".into(),
        session: None,
        jobs,
    };
    enqueue(tx, batch, NOW).unwrap()
}

fn jobs(prompts: &[&str]) -> Vec<NewJob> {
    prompts
        .iter()
        .map(|prompt| NewJob::new(plan("m", prompt)))
        .collect()
}

fn names(jobs: &[Job]) -> Vec<&str> {
    jobs.iter().map(|job| job.plan.prompt.as_str()).collect()
}

fn run_order(tx: &Transaction<'_>) -> String {
    let filter = JobFilter {
        active: true,
        ..JobFilter::default()
    };
    let listed = list(tx, &filter, JobSort::Run, Page::first(100)).unwrap();
    names(&listed.rows).join(" ")
}

fn claim_first(tx: &Transaction<'_>, limit: usize) -> Vec<Job> {
    let head = head(tx, &LaneId::local(), Priority::Interactive)
        .unwrap()
        .unwrap();
    claim(tx, head.seq, limit, NOW).unwrap()
}

fn in_memory<T>(work: impl FnOnce(&Transaction<'_>) -> T) -> T {
    let store = Store::open_in_memory().unwrap();
    store.write(|tx| Ok(work(tx))).unwrap()
}

/// Counts straight from the rows, to compare those of the triggers with.
fn recount(tx: &Transaction<'_>, scope: &str) -> StateCounts {
    let mut counts = StateCounts::default();
    let mut statement = tx
        .prepare(&format!(
            "SELECT state, count(*) AS jobs FROM jobs WHERE {scope} GROUP BY state"
        ))
        .unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        *counts.get_mut(codec::state(row, "state").unwrap()) = codec::natural(row, "jobs").unwrap();
    }
    counts
}

#[test]
fn a_plan_comes_back_whole() {
    in_memory(|tx| {
        let mut job = NewJob::new(plan("m", "a red fox"));
        job.plan.seed = Seed(u64::MAX);
        job.plan.guidance = Some(3.5);
        job.line = Some(3);
        let (batch, ids) = queue(tx, vec![job.clone()]);
        let stored = get(tx, ids[0]).unwrap().unwrap();
        assert_eq!(stored.plan, job.plan);
        assert_eq!(stored.batch, Some(batch));
        assert_eq!((stored.line, stored.copy), (Some(3), 0));
        assert_eq!(stored.state, JobState::Queued);
        assert_eq!(get(tx, JobId::new()).unwrap(), None);
    });
}

#[test]
fn equal_keys_mean_batchable_plans() {
    let base = plan("m", "a");
    let vary: [fn(&mut Plan); 14] = [
        |_| {},
        |p| p.prompt = "other".into(),
        |p| p.seed = Seed(8),
        |p| p.guidance = Some(1.0),
        |p| p.true_cfg = Some(2.0),
        |p| p.size.width = 128,
        |p| p.size.height = 128,
        |p| p.steps = 5,
        |p| p.text_tokens = 128,
        |p| p.numerics = "2".into(),
        |p| p.model.id = ModelId::new("n"),
        |p| p.model.root = "/elsewhere".into(),
        |p| p.output.stem = "other".into(),
        |p| p.negative_prompt = "other".into(),
    ];
    in_memory(|tx| {
        let plans: Vec<_> = vary
            .iter()
            .map(|vary| {
                let mut plan = base.clone();
                vary(&mut plan);
                plan
            })
            .collect();
        let (_, ids) = queue(tx, plans.iter().cloned().map(NewJob::new).collect());
        let keys: Vec<i64> = ids
            .iter()
            .map(|id| {
                tx.query_row(
                    "SELECT batch_key FROM jobs WHERE id = ?1",
                    [id.key()],
                    |row| row.get(0),
                )
                .unwrap()
            })
            .collect();
        for (a, key_a) in plans.iter().zip(&keys) {
            for (b, key_b) in plans.iter().zip(&keys) {
                assert_eq!(key_a == key_b, a.is_batchable_with(b), "{a:?} {b:?}");
            }
        }
    });
}

#[test]
fn counts_follow_every_change() {
    in_memory(|tx| {
        let session = sessions::create(tx, SessionKind::Bulk, "", NOW).unwrap();
        let batch = NewBatch {
            kind: BatchKind::List,
            title: "list".into(),
            session: Some(session),
            jobs: jobs(&["a", "b", "c", "d", "e", "f"]),
        };
        let (batch, ids) = enqueue(tx, batch, NOW).unwrap();
        queue(tx, jobs(&["x", "y"]));
        let check = |what: &str| {
            let work: u64 = queued_work(tx, &LaneId::local(), None)
                .unwrap()
                .iter()
                .map(|work| work.jobs)
                .sum();
            assert_eq!(work, counts::of_queue(tx).unwrap().queued, "{what}");
            assert_eq!(counts::of_queue(tx).unwrap(), recount(tx, "true"), "{what}");
            let mine = format!("batch = x'{}'", batch.uuid().simple());
            assert_eq!(
                counts::of_batch(tx, batch).unwrap(),
                recount(tx, &mine),
                "{what}"
            );
            let mine = format!("session = x'{}'", session.uuid().simple());
            let of_session = counts::of_session(tx, session).unwrap();
            assert_eq!(of_session, recount(tx, &mine), "{what}");
        };
        check("enqueue");
        assert_eq!(sessions::get(tx, session).unwrap().unwrap().title, "a");
        let group = claim_first(tx, 3);
        assert_eq!(names(&group), ["a", "b", "c"]);
        check("claim");
        finish_failed(tx, ids[0], 1, &Failure::new(Code::Io, "x", ""), NOW).unwrap();
        cancel(tx, ids[1], NOW).unwrap();
        finish_stopped(tx, ids[1], 1, NOW).unwrap();
        pause(tx, ids[3]).unwrap();
        check("finish, pause");
        let counts = batches::get(tx, batch).unwrap().unwrap().counts;
        assert_eq!(counts.total(), 6);
        assert_eq!((counts.failed, counts.cancelled, counts.paused), (1, 1, 1));
        retry(tx, ids[0], false, NOW).unwrap();
        check("retry");
        cancel_where(tx, &JobFilter::of_batch(batch), NOW).unwrap();
        check("cancel all");
        remove_where(tx, &JobFilter::default()).unwrap();
        check("remove");
        sessions::remove(tx, session).unwrap();
        assert_eq!(counts::of_session(tx, session).unwrap().total(), 0);
        assert_eq!(counts::of_queue(tx).unwrap(), recount(tx, "true"));
        let left = list(tx, &JobFilter::default(), JobSort::Oldest, Page::first(9)).unwrap();
        assert_eq!(names(&left.rows), ["c", "x", "y"]);
        assert_eq!(left.total, 3);
        assert!(left.rows.iter().all(|job| job.session.is_none()));
    });
}

#[test]
fn jobs_move_before_others_however_often() {
    in_memory(|tx| {
        let (_, ids) = queue(tx, jobs(&["a", "b", "c", "d"]));
        let moved = move_before(tx, ids[3], Some(ids[1])).unwrap();
        assert_eq!(moved, Change::Now(JobState::Queued));
        assert_eq!(run_order(tx), "a d b c");
        move_before(tx, ids[0], None).unwrap();
        assert_eq!(run_order(tx), "d b c a");
        // Each pair of moves halves the room before c: more of them than the gap has bits.
        for round in 0..40 {
            move_before(tx, ids[0], Some(ids[2])).unwrap();
            move_before(tx, ids[3], Some(ids[2])).unwrap();
            assert_eq!(run_order(tx), "b a d c", "round {round}");
        }
        set_priority(tx, ids[2], Priority::Urgent).unwrap();
        assert_eq!(run_order(tx), "c b a d");
        // Moving before an urgent job makes urgent.
        move_before(tx, ids[3], Some(ids[2])).unwrap();
        assert_eq!(run_order(tx), "d c b a");
        let first = get(tx, ids[3]).unwrap().unwrap();
        assert_eq!(first.priority, Priority::Urgent);
        set_priority(tx, ids[3], Priority::Bulk).unwrap();
        assert_eq!(run_order(tx), "c b a d");
        let ahead: Vec<_> = ahead(tx, &ids).unwrap();
        assert_eq!(ahead, [(ids[2], 0), (ids[1], 1), (ids[0], 2), (ids[3], 3)]);
        assert_eq!(
            move_before(tx, ids[0], Some(JobId::new())).unwrap(),
            Change::Missing
        );
        cancel(tx, ids[1], NOW).unwrap();
        assert_eq!(
            move_before(tx, ids[0], Some(ids[1])).unwrap(),
            Change::Refused(JobState::Cancelled)
        );
    });
}

#[test]
fn a_claim_takes_what_is_batchable_and_counts_the_epoch() {
    in_memory(|tx| {
        let mut list = jobs(&["a", "b", "c", "d", "e"]);
        list[1].plan.steps = 5;
        list[2].priority = Priority::Bulk;
        list[3].lane = LaneId::new("elsewhere");
        queue(tx, list);
        let group = claim_first(tx, 8);
        assert_eq!(names(&group), ["a", "e"]);
        assert!(
            group
                .iter()
                .all(|job| job.epoch == 1 && job.state == JobState::Running)
        );
        assert_eq!(names(&claim_first(tx, 1)), ["b"]);
    });
}

#[test]
fn a_job_under_which_the_engine_died_runs_alone() {
    in_memory(|tx| {
        let (_, ids) = queue(tx, jobs(&["a", "b", "c"]));
        claim_first(tx, 2);
        let failure = Failure::new(Code::EngineLost, "x", "");
        assert_eq!(
            finish_died(tx, ids[0], 1, &failure, NOW).unwrap(),
            Some(JobState::Queued)
        );
        finish_stopped(tx, ids[1], 1, NOW).unwrap();
        assert_eq!(names(&claim_first(tx, 8)), ["a"]);
        assert_eq!(
            finish_died(tx, ids[0], 2, &failure, NOW).unwrap(),
            Some(JobState::Failed)
        );
        let job = get(tx, ids[0]).unwrap().unwrap();
        assert_eq!((job.deaths, job.failure.unwrap().code), (2, Code::Poison));
        assert_eq!(names(&claim_first(tx, 8)), ["b", "c"]);
    });
}

#[test]
fn a_late_write_changes_nothing() {
    in_memory(|tx| {
        let (_, ids) = queue(tx, jobs(&["a"]));
        claim_first(tx, 1);
        finish_stopped(tx, ids[0], 1, NOW).unwrap();
        claim_first(tx, 1);
        let before = get(tx, ids[0]).unwrap();
        let failure = Failure::new(Code::Io, "x", "");
        assert!(!finish_failed(tx, ids[0], 1, &failure, NOW).unwrap());
        assert_eq!(finish_stopped(tx, ids[0], 1, NOW).unwrap(), None);
        assert_eq!(finish_died(tx, ids[0], 1, &failure, NOW).unwrap(), None);
        assert_eq!(get(tx, ids[0]).unwrap(), before);
        assert!(finish_failed(tx, ids[0], 2, &failure, NOW).unwrap());
    });
}

#[test]
fn final_states_never_change() {
    in_memory(|tx| {
        let (_, ids) = queue(tx, jobs(&["a"]));
        cancel(tx, ids[0], NOW).unwrap();
        for state in JobState::ALL {
            let result = tx.execute("UPDATE jobs SET state = ?1", [state.as_str()]);
            assert!(result.is_err(), "{state:?}");
        }
        assert_eq!(
            resume(tx, ids[0]).unwrap(),
            Change::Refused(JobState::Cancelled)
        );
        assert_eq!(
            pause(tx, ids[0]).unwrap(),
            Change::Refused(JobState::Cancelled)
        );
        assert_eq!(cancel(tx, ids[0], NOW).unwrap(), Change::Unchanged);
    });
}

#[test]
fn running_jobs_are_asked_to_stop_and_may_change_their_mind() {
    in_memory(|tx| {
        let (_, ids) = queue(tx, jobs(&["a"]));
        claim_first(tx, 1);
        assert_eq!(pause(tx, ids[0]).unwrap(), Change::Asked);
        assert_eq!(pause(tx, ids[0]).unwrap(), Change::Unchanged);
        assert_eq!(resume(tx, ids[0]).unwrap(), Change::Asked);
        assert_eq!(
            finish_stopped(tx, ids[0], 1, NOW).unwrap(),
            Some(JobState::Queued)
        );
        claim_first(tx, 1);
        pause(tx, ids[0]).unwrap();
        assert_eq!(cancel(tx, ids[0], NOW).unwrap(), Change::Asked);
        assert!(get(tx, ids[0]).unwrap().unwrap().is_cancelling);
        assert_eq!(
            pause(tx, ids[0]).unwrap(),
            Change::Refused(JobState::Running)
        );
        assert_eq!(
            finish_stopped(tx, ids[0], 2, NOW).unwrap(),
            Some(JobState::Cancelled)
        );
    });
}

#[test]
fn a_retry_is_a_new_job_with_the_fix_that_fits() {
    in_memory(|tx| {
        let (batch, ids) = queue(tx, jobs(&["a", "b"]));
        assert_eq!(
            retry(tx, ids[0], true, NOW).unwrap(),
            Retried::Refused(JobState::Queued)
        );
        claim_first(tx, 2);
        let mut failure = Failure::new(Code::OutOfMemory, "x", "");
        failure.fix = Some(Fix::Resize {
            width: 32,
            height: 48,
        });
        for id in &ids {
            finish_failed(tx, *id, 1, &failure, NOW).unwrap();
        }
        assert_eq!(unretried(tx, &JobFilter::of_batch(batch)).unwrap(), ids);
        let Retried::By(fixed) = retry(tx, ids[0], true, NOW).unwrap() else {
            panic!("refused");
        };
        let Retried::By(plain) = retry(tx, ids[1], false, NOW).unwrap() else {
            panic!("refused");
        };
        let fixed = get(tx, fixed).unwrap().unwrap();
        assert_eq!((fixed.plan.size.width, fixed.plan.size.height), (32, 48));
        assert_eq!((fixed.retry_of, fixed.batch), (Some(ids[0]), Some(batch)));
        let plain = get(tx, plain).unwrap().unwrap();
        assert_eq!(plain.plan.size.width, 64);
        assert_eq!(unretried(tx, &JobFilter::default()).unwrap(), []);
        assert_eq!(get(tx, ids[0]).unwrap().unwrap().state, JobState::Failed);
    });
}

#[test]
fn pages_are_merged_from_states_in_every_order() {
    in_memory(|tx| {
        let (batch, ids) = queue(tx, jobs(&["a", "b", "c", "d", "e", "f"]));
        pause(tx, ids[0]).unwrap();
        cancel(tx, ids[1], NOW).unwrap();
        claim_first(tx, 2);
        move_before(tx, ids[5], Some(ids[4])).unwrap();
        let show = |filter: &JobFilter, sort, offset, limit| {
            let page = Page { offset, limit };
            let listed = list(tx, filter, sort, page).unwrap();
            format!("{} of {}", names(&listed.rows).join(" "), listed.total)
        };
        let all = JobFilter::default();
        assert_eq!(show(&all, JobSort::Oldest, 0, 9), "a b c d e f of 6");
        assert_eq!(show(&all, JobSort::Newest, 1, 2), "e d of 6");
        assert_eq!(show(&all, JobSort::Run, 0, 9), "c d f e a b of 6");
        assert_eq!(show(&all, JobSort::Run, 2, 3), "f e a of 6");
        let waiting = JobFilter::in_states(&[JobState::Queued, JobState::Paused]);
        assert_eq!(show(&waiting, JobSort::Oldest, 0, 9), "a e f of 3");
        assert_eq!(
            show(&JobFilter::of_batch(batch), JobSort::Oldest, 4, 9),
            "e f of 6"
        );
        assert_eq!(
            show(&JobFilter::of_batch(BatchId::new()), JobSort::Oldest, 0, 9),
            " of 0"
        );
        let nothing = JobFilter {
            states: vec![JobState::Done],
            active: true,
            ..JobFilter::default()
        };
        assert_eq!(show(&nothing, JobSort::Run, 0, 9), " of 0");
    });
}

#[test]
fn lists_and_claims_use_their_indexes() {
    in_memory(|tx| {
        let detail = |sql: &str| -> String {
            let mut statement = tx.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let mut details = Vec::new();
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next().unwrap() {
                details.push(row.get::<_, String>("detail").unwrap());
            }
            details.join("; ")
        };
        for sql in [
            "SELECT seq FROM jobs WHERE lane = ?1 AND priority = ?2 AND state = 'queued'
             ORDER BY position LIMIT 1",
            "SELECT seq FROM jobs WHERE lane = ?1 AND priority = ?2 AND state = 'queued'
             AND model = ?3 AND (?4 IS NULL OR batch = ?4) ORDER BY position LIMIT 1",
            "SELECT seq FROM jobs WHERE state = 'queued' AND true
             ORDER BY priority DESC, position, seq",
            "SELECT seq FROM jobs INDEXED BY jobs_batch
             WHERE state = 'queued' AND batch = ?1 ORDER BY seq",
            "SELECT seq FROM jobs INDEXED BY jobs_state WHERE state = 'queued' ORDER BY seq DESC",
            "SELECT count(*) FROM jobs INDEXED BY jobs_batchable
             WHERE lane = ?1 AND state = 'queued' AND deaths = 0
             AND priority = ?2 AND batch_key = ?3 AND position >= ?4",
            "SELECT count(*) FROM jobs WHERE lane = ?1 AND priority = ?2 AND state = 'queued'
             AND position >= ?3 AND position < ?4",
            "SELECT id FROM jobs WHERE batch = ?1 AND state = 'queued'
             ORDER BY priority, position DESC LIMIT 1",
        ] {
            let detail = detail(sql);
            assert!(detail.contains("SEARCH jobs USING"), "{sql}: {detail}");
            if sql.contains("count(*)") || sql.starts_with("SELECT seq") {
                assert!(detail.contains("COVERING INDEX"), "{sql}: {detail}");
            }
            assert!(!detail.contains("TEMP B-TREE"), "{sql}: {detail}");
        }
        // The claim looks at its own few rows only.
        let detail = detail(super::claim::CLAIM);
        assert!(
            detail.starts_with("SEARCH jobs USING INTEGER PRIMARY KEY")
                && detail.contains("SEARCH other USING COVERING INDEX jobs_batchable"),
            "{detail}"
        );
    });
}
