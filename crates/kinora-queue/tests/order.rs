//! Who runs when: priorities, order, groups, and which model is loaded.

mod common;

use common::Studio;
use kinora_core::{JobState, ModelId, Plan, Priority, WaitReason};
use kinora_queue::{PASSES_PER_HEAD, TURNS_PER_LOWER_PRIORITY};
use kinora_testkit::{FakeBackend, plan};

fn plan_on(model: &str, prompt: &str) -> Plan {
    let mut plan = plan(prompt);
    plan.model.id = ModelId::new(model);
    plan
}

fn plans(model: &str, prefix: &str, count: usize) -> Vec<Plan> {
    (1..=count)
        .map(|i| plan_on(model, &format!("{prefix}{i}")))
        .collect()
}

/// Runs everything, and shows the prompts of the groups in order.
async fn run(studio: &Studio) -> String {
    studio.queue.start();
    let mut events = studio.queue.events();
    while studio.queue.status().await.unwrap().counts.done
        < studio.queue.status().await.unwrap().counts.total()
    {
        common::next(&mut events, |event| event.job().is_some()).await;
    }
    let calls = studio.prompts_of_calls();
    let groups: Vec<_> = calls.iter().map(|group| group.join("+")).collect();
    groups.join(" ")
}

#[tokio::test]
async fn interactive_goes_before_bulk_and_bulk_does_not_starve() {
    let studio = Studio::open(FakeBackend::new());
    studio.enqueue(plans("m", "bulk", 3), Priority::Bulk).await;
    let turns = TURNS_PER_LOWER_PRIORITY as usize;
    studio
        .enqueue(plans("m", "i", 2 * turns), Priority::Interactive)
        .await;
    studio.enqueue(plans("m", "u", 1), Priority::Urgent).await;
    let order = run(&studio).await;
    assert_eq!(
        order,
        "u1 i1 i2 i3 i4 i5 i6 i7 bulk1 i8 i9 i10 i11 i12 i13 i14 i15 bulk2 i16 bulk3"
    );
}

#[tokio::test]
async fn groups_hold_what_is_batchable_in_order() {
    let studio = Studio::open(FakeBackend::new().with_limit(3));
    let mut list = plans("m", "a", 7);
    list[1].steps = 5;
    list[2].size.width = 128;
    list[4].steps = 5;
    studio.enqueue(list, Priority::Interactive).await;
    assert_eq!(run(&studio).await, "a1+a4+a6 a2+a5 a3 a7");
}

#[tokio::test]
async fn a_list_loads_each_of_its_models_once() {
    let studio = Studio::open(FakeBackend::new().with_limit(2));
    let list = (1..=12)
        .map(|i| {
            plan_on(
                ["m", "n", "o"][i % 3],
                &format!("{}{i}", ["m", "n", "o"][i % 3]),
            )
        })
        .collect();
    studio.enqueue(list, Priority::Bulk).await;
    assert_eq!(run(&studio).await, "n1+n4 n7+n10 o2+o5 o8+o11 m3+m6 m9+m12");
}

#[tokio::test]
async fn other_batches_pass_a_waiting_model_only_so_often() {
    let studio = Studio::open(FakeBackend::new());
    studio
        .enqueue(plans("m", "m", 1), Priority::Interactive)
        .await;
    studio
        .enqueue(plans("n", "n", 1), Priority::Interactive)
        .await;
    studio
        .enqueue(plans("m", "later", 6), Priority::Interactive)
        .await;
    assert_eq!(PASSES_PER_HEAD, 4);
    assert_eq!(
        run(&studio).await,
        "m1 later1 later2 later3 later4 n1 later5 later6"
    );
}

#[tokio::test]
async fn what_the_user_has_moved_is_not_passed() {
    let studio = Studio::open(FakeBackend::new());
    let list = vec![
        plan_on("m", "m1"),
        plan_on("m", "m2"),
        plan_on("m", "m3"),
        plan_on("n", "n1"),
    ];
    let (_, jobs) = studio.enqueue(list, Priority::Interactive).await;
    let moved = studio
        .queue
        .move_before(jobs[3], Some(jobs[1]))
        .await
        .unwrap();
    assert_eq!(moved.waiting, Some(WaitReason::Behind { jobs: 1 }));
    assert_eq!(run(&studio).await, "m1 n1 m2 m3");
}

#[tokio::test]
async fn moving_and_priorities_change_the_order() {
    let studio = Studio::open(FakeBackend::new());
    let (_, jobs) = studio
        .enqueue(plans("m", "a", 5), Priority::Interactive)
        .await;
    studio
        .queue
        .move_before(jobs[4], Some(jobs[0]))
        .await
        .unwrap();
    studio.queue.move_before(jobs[1], None).await.unwrap();
    studio
        .queue
        .set_priority(jobs[3], Priority::Urgent)
        .await
        .unwrap();
    studio
        .queue
        .set_priority(jobs[0], Priority::Bulk)
        .await
        .unwrap();
    studio.queue.pause(jobs[2]).await.unwrap();
    insta::assert_snapshot!(studio.snapshot().await);
    studio.queue.start();
    for job in [0, 1, 3, 4] {
        studio.wait_state(jobs[job], JobState::Done).await;
    }
    assert_eq!(studio.prompts_of_calls(), [["a4"], ["a5"], ["a2"], ["a1"]]);
    studio.queue.resume(jobs[2]).await.unwrap();
    studio.wait_state(jobs[2], JobState::Done).await;
}
