//! What everyone is told: jobs at once and in order, counts gathered, progress thinned out, many
//! jobs as a whole; and the time that is left.

mod common;

use common::{Studio, next};
use kinora_core::{Event, JobState, Priority, Progress, Stage};
use kinora_queue::{AssetFilter, AssetSort, JobFilter, PROGRESS_PER_SECOND, Page};
use kinora_store::sessions;
use kinora_testkit::{FakeBackend, plan};

#[tokio::test]
async fn a_job_is_told_from_queued_to_done_in_order() {
    let studio = Studio::start(FakeBackend::new());
    let mut events = studio.queue.events();
    let jobs = studio.add(&["a"]).await;
    let mut states = Vec::new();
    let mut has_asset = false;
    while states.last() != Some(&JobState::Done) {
        match next(&mut events, |event| event.job() == Some(jobs[0])).await {
            Event::JobChanged { job } => states.push(job.state),
            Event::AssetChanged { asset } => {
                assert_eq!(asset.path, "a.png");
                assert!(studio.outputs().join("a.png").exists());
                has_asset = true;
            }
            _ => {}
        }
    }
    states.dedup();
    // The worker may be quicker than the news of the new job.
    assert!(
        states == [JobState::Queued, JobState::Running, JobState::Done]
            || states == [JobState::Running, JobState::Done],
        "{states:?}"
    );
    assert!(has_asset, "the picture is told before its job is done");
    let Event::QueueChanged { queue } = next(
        &mut events,
        |event| matches!(event, Event::QueueChanged { queue } if queue.counts.done == 1),
    )
    .await
    else {
        unreachable!();
    };
    assert_eq!(queue.counts.total(), 1);
}

#[tokio::test]
async fn many_jobs_are_told_as_a_whole() {
    let studio = Studio::open(FakeBackend::new());
    studio.queue.start();
    studio.queue.pause_queue().await.unwrap();
    let mut events = studio.queue.events();
    let plans = (0..500).map(|i| plan(&format!("p{i}"))).collect();
    let (batch, _) = studio.enqueue(plans, Priority::Bulk).await;
    let mut single = 0;
    loop {
        match next(&mut events, |_| true).await {
            Event::JobChanged { .. } => single += 1,
            Event::BatchChanged { batch: told } if told.id == batch => {
                assert_eq!(told.counts.queued, 500);
                break;
            }
            _ => {}
        }
    }
    assert_eq!(single, 0);
    studio
        .queue
        .cancel_where(JobFilter::of_batch(batch))
        .await
        .unwrap();
    next(
        &mut events,
        |event| matches!(event, Event::JobsChanged { batch: told } if *told == Some(batch)),
    )
    .await;
    let told = next(
        &mut events,
        |event| matches!(event, Event::BatchChanged { batch } if batch.counts.cancelled == 500),
    );
    told.await;
}

#[tokio::test]
async fn a_session_is_told_with_its_counts_and_takes_the_first_prompts_name() {
    let studio = Studio::start(FakeBackend::new());
    let now = kinora_core::Timestamp::now();
    let session = studio
        .queue
        .store()
        .write(|tx| sessions::create(tx, Default::default(), "", now))
        .unwrap();
    let mut events = studio.queue.events();
    let batch = kinora_queue::NewBatch {
        kind: kinora_queue::BatchKind::Copies,
        title: "a fox".into(),
        session: Some(session),
        jobs: vec![kinora_queue::NewJob::new(plan("a fox"))],
    };
    studio.queue.enqueue(batch).await.unwrap();
    let told = next(
        &mut events,
        |event| matches!(event, Event::SessionChanged { session } if session.assets == 1),
    )
    .await;
    let Event::SessionChanged { session: told } = told else {
        unreachable!();
    };
    assert_eq!((told.id, told.title.as_str()), (session, "a fox"));
    assert_eq!(told.counts.done, 1);
}

#[tokio::test]
async fn progress_is_told_ten_times_a_second_and_the_latest_wins() {
    let (backend, gate) = FakeBackend::new().with_gate();
    let studio = Studio::open_in_memory(backend);
    let mut long = plan("long");
    long.steps = 1_000;
    let (_, jobs) = studio.enqueue(vec![long], Priority::Interactive).await;
    let mut events = studio.queue.events();
    studio.queue.start();
    let began = std::time::Instant::now();
    gate.open(500);
    studio.wait_steps(500).await;
    let mut told: Vec<Progress> = Vec::new();
    let last = next(&mut events, |event| {
        if let Event::JobProgress { progress } = event {
            told.push(progress.clone());
        }
        matches!(event, Event::JobProgress { progress } if progress.step == 500)
    });
    // `told` is borrowed by the closure until here.
    let Event::JobProgress { progress: last } = last.await else {
        unreachable!();
    };
    assert_eq!((last.stage, last.steps), (Stage::Generating, 1_000));
    let most = 2.0 + began.elapsed().as_secs_f64() * f64::from(PROGRESS_PER_SECOND);
    assert!(told.len() as f64 <= most, "{} events", told.len());
    assert!(told.len() < 250, "{} events for 500 steps", told.len());
    assert_eq!(studio.queue.progress(jobs[0]).unwrap().step, 500);
    assert_eq!(studio.job(jobs[0]).await.progress.unwrap().step, 500);
    gate.open_wide();
    studio.wait_state(jobs[0], JobState::Done).await;
    assert_eq!(studio.queue.all_progress(), []);
}

#[tokio::test]
async fn the_time_that_is_left_comes_from_this_machines_history() {
    let studio = Studio::start(FakeBackend::new());
    assert_eq!(studio.queue.estimate(&plan("a")), None);
    let jobs = studio.add(&["a"]).await;
    studio.wait_final(&jobs).await;
    // The fake backend says 10 ms of encoding, 100 ms a step, 25 ms of the rest.
    let estimate = studio.queue.estimate(&plan("b")).unwrap();
    assert!((estimate.seconds - 0.435).abs() < 1e-9, "{estimate:?}");
    let studio = studio.reopen(FakeBackend::new()).await;
    assert_eq!(studio.queue.estimate(&plan("b")), Some(estimate));

    let mut large = plan("large");
    large.size.width = 128;
    let plans = vec![plan("b"), plan("c"), large, plan("d")];
    let (batch, jobs) = studio.enqueue(plans, Priority::Interactive).await;
    let first = studio.queue.eta(jobs[0]).await.unwrap().unwrap();
    assert!((first - 0.435).abs() < 1e-9, "{first}");
    let all = 3.0 * 0.435 + (2.0 * 0.425 + 0.01);
    let last = studio.queue.eta(jobs[3]).await.unwrap().unwrap();
    assert!((last - all).abs() < 1e-9, "{last}");
    let batch = studio.queue.batch(batch).await.unwrap();
    assert_eq!(batch.eta_seconds, Some(last));
    let status = studio.queue.status().await.unwrap();
    assert_eq!(status.eta_seconds, Some(last));
    // A job of an unknown model makes the sum unknown.
    let mut unknown = plan("unknown");
    unknown.model.id = kinora_core::ModelId::new("other");
    studio.enqueue(vec![unknown], Priority::Interactive).await;
    assert_eq!(studio.queue.status().await.unwrap().eta_seconds, None);
}

#[tokio::test]
async fn pictures_are_found_by_words_seed_model_and_place() {
    let studio = Studio::start(FakeBackend::new());
    let mut plans = vec![
        plan("a red fox, oil painting"),
        plan("a red lighthouse"),
        plan("ein grüner Leuchtturm"),
    ];
    plans[1].seed = kinora_core::Seed(u64::MAX);
    plans[2].model.id = kinora_core::ModelId::new("other");
    plans[2].model.name = "Nordlicht XL".into();
    plans[2].output.stem = "2026-01-01/turm".into();
    let (batch, jobs) = studio.enqueue(plans, Priority::Interactive).await;
    studio.wait_final(&jobs).await;
    let find = async |filter: AssetFilter| {
        let listed = studio
            .queue
            .assets(filter, AssetSort::Oldest, Page::first(10))
            .await
            .unwrap();
        assert_eq!(listed.rows.len() as u64, listed.total);
        let prompts = listed.rows.iter().map(|asset| {
            let words: Vec<_> = asset.recipe.plan.prompt.split(' ').collect();
            words[words.len().min(3) - 1].trim_matches(',').to_owned()
        });
        prompts.collect::<Vec<_>>().join(" ")
    };
    let search = |text: &str| AssetFilter {
        search: Some(text.into()),
        ..AssetFilter::default()
    };
    assert_eq!(find(search("red")).await, "fox lighthouse");
    assert_eq!(find(search("RED pain")).await, "fox");
    assert_eq!(find(search("18446744073709551615")).await, "lighthouse");
    assert_eq!(find(search("gruner")).await, "Leuchtturm");
    assert_eq!(find(search("nordl")).await, "Leuchtturm");
    assert_eq!(find(search("turm 2026")).await, "Leuchtturm");
    assert_eq!(find(search("")).await, "fox lighthouse Leuchtturm");
    // Nothing that is typed is an error, and no filter's word is found as text.
    for odd in [
        "\"",
        "* OR",
        "NEAR(",
        "a AND",
        "live",
        "--",
        "facets:live",
        "\0",
        "zebra",
    ] {
        assert_eq!(
            find(search(odd)).await,
            if odd == "--" || odd == "\"" || odd == "\0" {
                "fox lighthouse Leuchtturm"
            } else {
                ""
            },
            "{odd}"
        );
    }
    let of_model = AssetFilter {
        model: Some(kinora_core::ModelId::new("other")),
        ..AssetFilter::default()
    };
    assert_eq!(find(of_model).await, "Leuchtturm");
    let of_batch = AssetFilter {
        batch: Some(batch),
        ..search("lighth")
    };
    assert_eq!(find(of_batch).await, "lighthouse");
}
