//! From a picture to a draft, and from the draft to the whole.

use super::*;

/// A picture of 256 × 256 pixels in the gallery.
async fn picture(app: &Arc<App>, prompt: &str) -> Value {
    let submitted = submit(app, small(prompt)).await;
    json!(finish(app, submitted.batch).await[0].assets[0])
}

async fn animate(app: &Arc<App>, input: Value) -> Submitted {
    serde_json::from_value(call(app, "clips_animate", input).await).unwrap()
}

fn reference(asset: &Value) -> String {
    format!("asset:{}", asset.as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_becomes_a_draft_and_the_draft_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path(), FakeBackend::new());
    let fox = picture(&app, "a red fox").await;
    let drafted = animate(&app, json!({ "images": [reference(&fox)] })).await;
    assert_eq!(drafted.pictures, 1);
    assert!(
        drafted.notes.iter().any(|note| note.message
            == "a draft: 448×448, 33 frames, 4 steps; in full 880×880, 81 frames, 4 steps"),
        "{:?}",
        drafted.notes
    );
    let job = finish(&app, drafted.batch).await.remove(0);
    let draft = &job.plan;
    assert_eq!(
        (draft.prompt.as_str(), draft.model.id.as_str()),
        ("a red fox", "mover")
    );
    assert_eq!(draft.video.unwrap().frames, 33);
    let of = draft.draft.unwrap();
    assert_eq!(
        (of.size.width, of.steps, of.frames),
        (880, 4, Some(81)),
        "{of:?}"
    );

    // The picture may be thrown away for good meanwhile.
    let draft_id = job.assets[0];
    for name in ["assets_trash", "assets_purge"] {
        call(&app, name, json!({ "ids": [fox] })).await;
    }
    let full = call(&app, "clips_make_full", json!({ "ids": [draft_id] })).await;
    let full: Submitted = serde_json::from_value(full).unwrap();
    assert_eq!(full.session, drafted.session);
    let job = finish(&app, full.batch).await.remove(0);
    let plan = &job.plan;
    assert_eq!((plan.size, plan.steps), (of.size, of.steps));
    assert_eq!(plan.video.unwrap().frames, 81);
    assert_eq!((plan.seed, &plan.prompt), (draft.seed, &draft.prompt));
    assert_eq!(
        plan.source.as_ref().unwrap().image.sha256,
        draft.source.as_ref().unwrap().image.sha256
    );
    assert_eq!((plan.draft, plan.parent), (None, Some(draft_id)));

    let relatives = call(&app, "assets_relatives", json!({ "id": job.assets[0] })).await;
    assert_eq!(relatives["parents"][0]["role"], "draft");
    assert_eq!(relatives["parents"][0]["asset"]["id"], json!(draft_id));
    assert_eq!(relatives["parents"].as_array().unwrap().len(), 1);
    let relatives = call(&app, "assets_relatives", json!({ "id": draft_id })).await;
    assert_eq!(
        relatives["children"][0]["asset"]["id"],
        json!(job.assets[0])
    );
    // What is no draft cannot be made full, and the recipe of a draft makes a draft again.
    let problems = refuse(&app, "clips_make_full", json!({ "ids": job.assets })).await;
    assert_eq!(problems.first.code, Code::Conflict);
    let asset = call(&app, "assets_get", json!({ "id": draft_id })).await;
    let again = call(&app, "recipes_run", json!({ "recipe": asset["recipe"] })).await;
    let again: Submitted = serde_json::from_value(again).unwrap();
    let job = finish(&app, again.batch).await.remove(0);
    assert_eq!((job.plan.draft, job.plan.parent), (Some(of), None));
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_picture_gets_a_clip_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path(), FakeBackend::new());
    let (fox, owl) = (picture(&app, "a fox").await, picture(&app, "an owl").await);
    let images = json!([reference(&fox), reference(&owl)]);
    let input = json!({ "images": images, "full": true, "seed": 3 });
    let submitted = animate(&app, input).await;
    let jobs = finish(&app, submitted.batch).await;
    let prompts: Vec<&str> = jobs.iter().map(|job| job.plan.prompt.as_str()).collect();
    assert_eq!(prompts, ["a fox", "an owl"]);
    assert!(jobs.iter().all(|job| job.plan.draft.is_none()));
    assert!(jobs.iter().all(|job| job.plan.seed.0 == 3));
    // Words are not needed; the file has a name all the same.
    let input = json!({ "images": [reference(&fox)], "prompt": "" });
    let submitted = animate(&app, input).await;
    let job = finish(&app, submitted.batch).await.remove(0);
    assert_eq!(job.plan.prompt, "");
    assert!(
        !job.plan.output.stem.ends_with('/'),
        "{:?}",
        job.plan.output
    );
    let relatives = call(&app, "assets_relatives", json!({ "id": fox })).await;
    assert_eq!(relatives["children"].as_array().unwrap().len(), 2);
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_move_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path(), FakeBackend::new());
    let fox = picture(&app, "a fox").await;
    let image = reference(&fox);
    for (input, code, field) in [
        (json!({}), Code::InvalidInput, "images"),
        (
            json!({ "images": [image], "model": "fast" }),
            Code::InvalidInput,
            "image",
        ),
        (
            json!({ "images": [image], "model": "nope" }),
            Code::UnknownModel,
            "model",
        ),
        (
            json!({ "images": [format!("input:{}", "0".repeat(64))] }),
            Code::NotFound,
            "image",
        ),
    ] {
        let problems = refuse(&app, "clips_animate", input).await;
        assert_eq!(problems.first.code, code, "{problems}");
        assert_eq!(problems.first.field.as_deref(), Some(field), "{problems}");
    }
    let problems = refuse(&app, "settings_update", json!({ "clip_model": "fast" })).await;
    assert_eq!(problems.first.field.as_deref(), Some("clip_model"));
    let settings = call(&app, "settings_update", json!({ "clip_model": "mover" })).await;
    assert_eq!(settings["clip_model"], "mover");
    let missing = json!({ "ids": [kinora_core::AssetId::new()] });
    let problems = refuse(&app, "clips_make_full", missing).await;
    assert_eq!(problems.first.code, Code::NotFound);
    app.shutdown().await;
}
