//! What was made: the trash, recipes that run again, disk space.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn pictures_go_to_the_trash_and_back_and_with_their_session() {
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path(), FakeBackend::new());
    let submitted = submit(&app, small("a")).await;
    let asset = finish(&app, submitted.batch).await[0].assets[0];
    let file = app.outputs_dir().join("a-1.png");
    let ids = json!({ "ids": [asset] });
    assert_eq!(call(&app, "assets_trash", ids.clone()).await["assets"], 1);
    assert!(!file.exists());
    assert_eq!(
        call(&app, "assets_list", json!({ "trashed": true })).await["total"],
        1
    );
    let stored = app.queue().asset(asset).await.unwrap();
    assert!(app.asset_file(&stored).is_file(), "it is in the trash");
    let problems = refuse(&app, "assets_trash", ids.clone()).await;
    assert_eq!(problems.first.code, Code::Conflict);
    call(&app, "assets_restore", ids.clone()).await;
    assert!(file.is_file());

    let session = submitted.session.unwrap();
    let rename = json!({ "id": session, "title": "  Mine " });
    assert_eq!(call(&app, "sessions_rename", rename).await["title"], "Mine");
    let problems = refuse(
        &app,
        "sessions_rename",
        json!({ "id": session, "title": " " }),
    )
    .await;
    assert_eq!(problems.first.field.as_deref(), Some("title"));
    let created = call(
        &app,
        "sessions_create",
        json!({ "kind": "bulk", "title": "lists" }),
    )
    .await;
    assert_eq!(created["kind"], "bulk");
    let page = call(&app, "sessions_list", json!({ "kind": "bulk" })).await;
    assert_eq!(
        (&page["total"], &page["sessions"][0]["title"]),
        (&json!(1), &json!("lists"))
    );
    let input = json!({ "id": session, "with_assets": true });
    let removed = call(&app, "sessions_remove", input).await;
    assert_eq!(removed, json!({ "cancelled_jobs": 0, "trashed_assets": 1 }));
    let problems = refuse(&app, "sessions_remove", json!({ "id": session })).await;
    assert_eq!(problems.first.code, Code::NotFound);
    call(&app, "assets_purge", ids).await;
    let problems = refuse(&app, "assets_get", json!({ "id": asset })).await;
    assert_eq!(problems.first.code, Code::NotFound);
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_runs_again_and_differences_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = FixedCatalogue::new();
    let parts = Parts {
        catalogue: Arc::clone(&catalogue) as Arc<dyn Catalogue>,
        backends: vec![Arc::new(FakeBackend::new())],
        logs: LogBuffer::default(),
    };
    let app = App::open_with(Config::below(folder.path()).unwrap(), parts).unwrap();
    let submitted = submit(&app, small("a")).await;
    let first = finish(&app, submitted.batch).await[0].assets[0];
    let recipe = call(&app, "assets_get", json!({ "id": first })).await["recipe"].clone();
    let again = call(&app, "recipes_run", json!({ "recipe": recipe })).await;
    let again: Submitted = serde_json::from_value(again).unwrap();
    assert_eq!(again.notes, []);
    let second = finish(&app, again.batch).await[0].assets[0];
    let input = json!({ "asset": first, "against": second });
    let verification = call(&app, "recipes_verify", input).await;
    let part = |verification: &Value, name: &str| {
        let parts = verification["parts"].as_array().unwrap().clone();
        let found = parts.into_iter().find(|part| part["part"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {verification}"))
    };
    for name in [
        "build",
        "numerics",
        "model",
        "weights/transformer",
        "file",
        "plan/steps",
        "plan/seed",
        "pixels",
    ] {
        assert_eq!(part(&verification, name)["is_same"], true, "{name}");
    }

    // A recipe from anywhere is compared in the same way, without a file.
    let input = json!({ "recipe": recipe, "against": second });
    let loose = call(&app, "recipes_verify", input).await;
    assert_eq!(loose["is_same"], true, "{loose}");
    assert_eq!(part(&loose, "plan/seed")["is_same"], true);
    let names = loose["parts"].as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|part| part["part"].as_str().unwrap()).collect();
    assert!(
        !names.contains(&"file") && !names.contains(&"pixels"),
        "{names:?}"
    );
    for input in [json!({}), json!({ "asset": first, "recipe": recipe })] {
        let problems = refuse(&app, "recipes_verify", input).await;
        assert_eq!(problems.first.code, Code::InvalidInput);
        assert_eq!(problems.first.field.as_deref(), Some("asset"));
    }

    // Another seed gives other pixels; other weights are refused unless allowed.
    let other = submit(
        &app,
        json!({ "prompt": "a", "width": 256, "height": 256, "seed": 8 }),
    )
    .await;
    let other = finish(&app, other.batch).await[0].assets[0];
    let verification = call(
        &app,
        "recipes_verify",
        json!({ "asset": first, "against": other }),
    )
    .await;
    assert_eq!(verification["is_same"], false);
    assert_eq!(part(&verification, "plan/seed")["actual"], "8");
    let pixels = part(&verification, "pixels");
    assert_eq!(pixels["is_same"], false);
    let difference = pixels["actual"].as_str().unwrap();
    assert!(
        difference.contains("differ, by at most 1 of 255"),
        "{difference}"
    );
    catalogue
        .are_weights_new
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let problems = refuse(&app, "recipes_run", json!({ "recipe": recipe })).await;
    assert_eq!(problems.first.field.as_deref(), Some("weights/transformer"));
    let input = json!({ "recipe": recipe, "allow_differences": true });
    let allowed = call(&app, "recipes_run", input).await;
    assert_eq!(allowed["notes"].as_array().unwrap().len(), 1);
    std::fs::write(app.outputs_dir().join("a-1.png"), b"changed").unwrap();
    let verification = call(&app, "recipes_verify", json!({ "asset": first })).await;
    assert_eq!(part(&verification, "file")["is_same"], false);
    app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn space_is_measured_and_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path(), FakeBackend::new());
    let submitted = submit(
        &app,
        json!({ "prompt": "x", "copies": 2, "width": 256, "height": 256 }),
    )
    .await;
    let jobs = finish(&app, submitted.batch).await;
    call(&app, "assets_trash", json!({ "ids": [jobs[0].assets[0]] })).await;
    call(
        &app,
        "batches_contact_sheet",
        json!({ "id": submitted.batch }),
    )
    .await;
    std::fs::write(app.outputs_dir().join("mine.txt"), b"12345").unwrap();
    let work = app.job_folder(jobs[0].id);
    std::fs::create_dir_all(&work).unwrap();
    std::fs::write(work.join("preview.jpg"), b"123").unwrap();

    let status = call(&app, "cleanup_status", json!({})).await;
    assert_eq!(
        (&status["pictures"]["count"], &status["trash"]["count"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(status["unknown_files"], json!({ "count": 1, "bytes": 5 }));
    assert_eq!(status["missing_files"], 0);
    assert_eq!(status["caches"]["count"], 1);
    assert!(status["database"]["bytes"].as_u64().unwrap() > 0);
    let list = call(&app, "cleanup_list", json!({})).await;
    assert_eq!(list["folders"][0]["job"], json!(jobs[0].id));
    assert_eq!(list["folders"][0]["state"], "done");

    for input in [json!({}), json!({ "hours": 1, "all": true })] {
        assert_eq!(
            refuse(&app, "cleanup_run", input).await.first.code,
            Code::InvalidInput
        );
    }
    let young = call(&app, "cleanup_run", json!({ "hours": 1 })).await;
    assert_eq!(
        (&young["work"]["count"], &young["trash"]["count"]),
        (&json!(0), &json!(0))
    );
    let dry = call(&app, "cleanup_run", json!({ "all": true, "dry_run": true })).await;
    assert!(work.exists());
    let wet = call(&app, "cleanup_run", json!({ "all": true })).await;
    assert!(!work.exists());
    for part in ["work", "trash", "caches"] {
        assert_eq!(dry[part], wet[part], "{part}");
        assert!(wet[part]["count"].as_u64().unwrap() > 0, "{part}");
    }
    assert!(
        app.outputs_dir().join("mine.txt").is_file(),
        "files of others stay"
    );
    let status = call(&app, "cleanup_status", json!({})).await;
    assert_eq!(
        (&status["pictures"]["count"], &status["trash"]["count"]),
        (&json!(1), &json!(0))
    );
    app.shutdown().await;
}
