//! The trash: there, back, and gone for good, with a crash at each edge.

mod common;

use std::{fs, io::ErrorKind, sync::Arc};

use common::{Studio, names};
use kinora_core::{AssetId, JobId, JobState, Timestamp};
use kinora_queue::{
    AssetFilter, AssetSort, Error, Page,
    failpoints::{self, Edge},
};
use kinora_testkit::FakeBackend;

async fn with_picture() -> (Studio, JobId, AssetId) {
    let studio = Studio::start(FakeBackend::new());
    let jobs = studio.add(&["a"]).await;
    studio.wait_state(jobs[0], JobState::Done).await;
    let asset = studio.only_asset(jobs[0]).await;
    (studio, jobs[0], asset)
}

async fn totals(studio: &Studio) -> (u64, u64) {
    let mut totals = Vec::new();
    for is_trashed in [false, true] {
        let filter = AssetFilter {
            is_trashed,
            search: Some("a".into()),
            ..AssetFilter::default()
        };
        let listed = studio
            .queue
            .assets(filter, AssetSort::Newest, Page::first(10))
            .await
            .unwrap();
        assert_eq!(listed.rows.len() as u64, listed.total);
        totals.push(listed.total);
    }
    (totals[0], totals[1])
}

fn trash_files(studio: &Studio) -> usize {
    names(&studio.queue.folders().trash()).len()
}

#[tokio::test]
async fn a_picture_goes_to_the_trash_and_comes_back() {
    let (studio, job, asset) = with_picture().await;
    let before = fs::read(studio.outputs().join("a.png")).unwrap();
    studio.queue.trash_assets(vec![asset]).await.unwrap();
    assert_eq!((totals(&studio).await, trash_files(&studio)), ((0, 1), 1));
    assert_eq!(names(&studio.outputs()), Vec::<String>::new());
    assert!(matches!(
        studio.queue.trash_assets(vec![asset]).await,
        Err(Error::WrongPlace {
            is_trashed: true,
            ..
        })
    ));

    studio.queue.restore_assets(vec![asset]).await.unwrap();
    assert_eq!((totals(&studio).await, trash_files(&studio)), ((1, 0), 0));
    assert_eq!(fs::read(studio.outputs().join("a.png")).unwrap(), before);
    assert_eq!(studio.job(job).await.assets, [asset]);
    for refused in [
        studio.queue.restore_assets(vec![asset]).await,
        studio.queue.purge_assets(vec![asset]).await,
    ] {
        assert!(matches!(
            refused,
            Err(Error::WrongPlace {
                is_trashed: false,
                ..
            })
        ));
    }
}

#[tokio::test]
async fn a_picture_whose_name_was_taken_comes_back_under_the_next() {
    let (studio, _, first) = with_picture().await;
    studio.queue.trash_assets(vec![first]).await.unwrap();
    // Its name is free again: the next picture of the stem gets it, or a stranger's file.
    fs::write(studio.outputs().join("a.png"), "mine").unwrap();
    studio.queue.restore_assets(vec![first]).await.unwrap();
    assert_eq!(studio.queue.asset(first).await.unwrap().path, "a-2.png");
    assert_eq!(names(&studio.outputs()), ["a-2.png", "a.png"]);
    assert_eq!(fs::read(studio.outputs().join("a.png")).unwrap(), b"mine");
}

#[tokio::test]
async fn a_purged_picture_is_gone_and_its_job_stays() {
    let (studio, job, asset) = with_picture().await;
    studio.queue.trash_assets(vec![asset]).await.unwrap();
    studio.queue.purge_assets(vec![asset]).await.unwrap();
    assert_eq!((totals(&studio).await, trash_files(&studio)), ((0, 0), 0));
    assert!(matches!(
        studio.queue.asset(asset).await,
        Err(Error::NoAsset(_))
    ));
    let job = studio.job(job).await;
    assert_eq!((job.state, job.assets.len()), (JobState::Done, 0));
}

#[tokio::test]
async fn only_what_is_old_is_purged_by_age() {
    let (studio, _, asset) = with_picture().await;
    studio.queue.trash_assets(vec![asset]).await.unwrap();
    let trashed = studio.queue.asset(asset).await.unwrap().trashed_at.unwrap();
    let purge = |time| studio.queue.purge_assets_older_than(Timestamp(time));
    assert_eq!(purge(trashed.0).await.unwrap(), 0);
    assert_eq!(studio.queue.sweep().await.unwrap().assets, 0);
    assert_eq!(purge(trashed.0 + 1).await.unwrap(), 1);
    assert_eq!(trash_files(&studio), 0);
}

#[tokio::test]
async fn every_move_that_a_crash_interrupts_is_finished_at_start() {
    for at in [Edge::TrashNoted, Edge::TrashMoved] {
        let (mut studio, _, asset) = with_picture().await;
        // (what is done, pictures outside and inside the trash afterwards)
        for (index, after) in [(1, (0, 1)), (2, (1, 0)), (3, (0, 1)), (4, (0, 0))] {
            let crash = move |edge| match edge == at {
                true => Err(ErrorKind::Interrupted.into()),
                false => Ok(()),
            };
            failpoints::set(&studio.queue, Arc::new(crash));
            let ids = vec![asset];
            let result = match index {
                2 => studio.queue.restore_assets(ids).await,
                4 => studio.queue.purge_assets(ids).await,
                _ => studio.queue.trash_assets(ids).await,
            };
            assert!(result.is_err(), "{at:?} {index}");
            studio = studio.reopen(FakeBackend::new()).await;
            assert_eq!(totals(&studio).await, after, "{at:?} {index}");
            let files = (
                names(&studio.outputs()).len() as u64,
                trash_files(&studio) as u64,
            );
            assert_eq!(files, after, "{at:?} {index}: no orphan");
        }
    }
}

#[tokio::test]
async fn a_new_picture_under_the_name_of_a_half_trashed_one_is_left_alone() {
    let (studio, _, asset) = with_picture().await;
    let crash = |edge| match edge == Edge::TrashMoved {
        true => Err(ErrorKind::Interrupted.into()),
        false => Ok(()),
    };
    failpoints::set(&studio.queue, Arc::new(crash));
    assert!(studio.queue.trash_assets(vec![asset]).await.is_err());
    // The process goes on, and makes the same picture again: the same name, the same bytes.
    let again = studio.add(&["a"]).await;
    studio.wait_state(again[0], JobState::Done).await;
    let studio = studio.reopen(FakeBackend::new()).await;
    assert_eq!((totals(&studio).await, trash_files(&studio)), ((1, 1), 1));
    assert_eq!(names(&studio.outputs()).len(), 1);
}
