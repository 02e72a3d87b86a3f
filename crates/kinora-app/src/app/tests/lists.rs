//! Prompt lists.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_list_becomes_a_batch_with_a_table_and_a_sheet() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Arc::new(FakeBackend::new().with_limit(8));
    let parts = Parts {
        catalogue: FixedCatalogue::new(),
        backends: vec![Arc::clone(&backend) as Arc<dyn Backend>],
        logs: LogBuffer::default(),
    };
    let app = App::open_with(Config::below(folder.path()).unwrap(), parts).unwrap();
    let bad = json!({ "text": "prompt,steps\nx,1\n,2\ny,none\nz,99\n", "name": "bad.csv" });
    let check = call(&app, "bulk_check", bad.clone()).await;
    let lines: Vec<u64> = check["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, [3, 4, 5]);
    assert_eq!(check["estimate"], Value::Null);
    let problems = refuse(&app, "bulk_submit", bad).await;
    assert_eq!(problems.problems.len(), 3);
    assert_eq!(
        call(&app, "queue_status", json!({})).await["counts"]["queued"],
        0
    );

    call(&app, "queue_pause", json!({})).await;
    let text = "prompt,animal,model,size,copies,output\n\
                =a {animal},fox|owl,fast,256x256,,{animal}\n\
                b,,full,256x256,2,b{copy}\n\
                c,,fast,256x256,,c\n";
    let list = json!({ "text": text, "name": "my animals.csv" });
    let check = call(&app, "bulk_check", list.clone()).await;
    assert_eq!(
        (&check["pictures"], &check["total_rows"]),
        (&json!(5), &json!(4))
    );
    assert_eq!(check["rows"][1]["output"], "owl");
    let submitted = call(&app, "bulk_submit", list).await;
    let submitted: Submitted = serde_json::from_value(submitted).unwrap();
    assert_eq!(submitted.pictures, 5);
    call(&app, "queue_resume", json!({})).await;
    let jobs = finish(&app, submitted.batch).await;
    let places: Vec<_> = jobs
        .iter()
        .map(|job| (job.line.unwrap(), job.copy))
        .collect();
    assert_eq!(
        places,
        [(2, 0), (2, 1), (3, 0), (3, 1), (4, 0)],
        "the order of the list"
    );
    let groups: Vec<Vec<String>> = backend
        .calls()
        .into_iter()
        .map(|call| call.prompts)
        .collect();
    assert_eq!(
        groups,
        [vec!["=a fox", "=a owl", "c"], vec!["b", "b"]],
        "each model once"
    );

    let batch = call(&app, "batches_get", json!({ "id": submitted.batch })).await;
    assert_eq!(batch["title"], "my animals.csv");
    assert_eq!(call(&app, "batches_list", json!({})).await["total"], 1);
    let table = call(&app, "batches_table", json!({ "id": submitted.batch })).await;
    assert_eq!(table["name"], "my_animals-results.csv");
    let text = table["text"].as_str().unwrap();
    assert!(
        text.starts_with("line,copy,state,prompt,negative,model,seed,"),
        "{text}"
    );
    assert!(text.contains("\n2,1,done,'=a fox,,fast,"), "{text}");
    assert!(text.contains(",b2.png,"), "{text}");
    let table = call(
        &app,
        "batches_table",
        json!({ "id": submitted.batch, "format": "tsv" }),
    )
    .await;
    assert_eq!(table["text"].as_str().unwrap().lines().count(), 6);

    let sheet = call(
        &app,
        "batches_contact_sheet",
        json!({ "id": submitted.batch }),
    )
    .await;
    assert_eq!(sheet["pictures"], 5);
    let bytes = std::fs::read(sheet["path"].as_str().unwrap()).unwrap();
    let picture = kinora_media::decode(&bytes).unwrap();
    assert_eq!(
        json!([picture.width, picture.height]),
        json!([sheet["width"], sheet["height"]])
    );
    app.shutdown().await;
}
