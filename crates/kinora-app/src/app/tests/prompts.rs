//! Prompts with choices, and the lists that they draw from.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn prompts_draw_from_wildcards_and_say_what_they_become() {
    let folder = tempfile::tempdir().unwrap();
    let app = open(folder.path(), FakeBackend::new().with_limit(8));
    let list = json!({ "name": "animals/birds", "text": "owl\nhen\n" });
    assert_eq!(call(&app, "wildcards_save", list).await["options"], 2);
    let prompt = "a {red|blue} <wildcard:animals/birds>";

    let input = json!({ "prompt": prompt, "expansion": "combinations", "limit": 3 });
    let preview = call(&app, "prompts_preview", input).await;
    assert_eq!(
        (&preview["total"], &preview["is_plain"]),
        (&json!(4), &json!(false))
    );
    let texts: Vec<&str> = preview["expansions"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|text| text["prompt"].as_str())
        .collect();
    assert_eq!(texts, ["a red owl", "a red hen", "a blue owl"]);

    // A preview with a seed shows the very words that its pictures get.
    let input = json!({ "prompt": prompt, "seed": 7, "limit": 6 });
    let preview = call(&app, "prompts_preview", input).await;
    let mut request = small(prompt);
    request["copies"] = json!(6);
    let submitted = submit(&app, request).await;
    let jobs = finish(&app, submitted.batch).await;
    for (job, shown) in jobs.iter().zip(preview["expansions"].as_array().unwrap()) {
        assert_eq!(job.plan.prompt, shown["prompt"]);
        assert_eq!(json!(job.plan.seed), shown["seed"]);
        assert_eq!(job.plan.template.as_ref().unwrap().prompt, prompt);
        // The file says what was painted, and nothing of where the words came from.
        let asset = app.queue().asset(job.assets[0]).await.unwrap();
        assert_eq!(asset.recipe.plan.template, job.plan.template);
        assert_eq!(asset.recipe.for_file().plan.template, None);
        let run = json!({ "recipe": asset.recipe, "output_name": "again-{seed}" });
        let again: Submitted =
            serde_json::from_value(call(&app, "recipes_run", run).await).unwrap();
        assert_eq!(
            finish(&app, again.batch).await[0].plan.prompt,
            job.plan.prompt
        );
    }

    let mut request = small(prompt);
    request["expansion"] = json!("combinations");
    assert_eq!(
        call(&app, "jobs_preflight", request.clone()).await["pictures"],
        4
    );
    assert_eq!(submit(&app, request).await.pictures, 4);

    let mistake = json!({ "prompt": "x\n{a|b", "negative_prompt": "<wildcard:animals/bird>" });
    let preview = call(&app, "prompts_preview", mistake.clone()).await;
    let problems = preview["problems"].as_array().unwrap();
    assert_eq!(
        (&problems[0]["line"], &problems[0]["column"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(problems[1]["field"], "negative_prompt");
    assert!(
        problems[1]["hint"]
            .as_str()
            .unwrap()
            .contains("animals/birds")
    );
    let refused = refuse(&app, "jobs_submit", json!({ "prompt": "x\n{a|b" })).await;
    assert_eq!(
        refused.first.message,
        "line 2, column 1: the choice that begins here is not closed"
    );

    // In a list, columns come first; plain choices are combined, the rest is drawn.
    let rows = "prompt,animal\n\"a {red|blue} {animal} {2$$x|{animal}} {{y}}\",fox\n";
    let input = json!({ "text": rows, "defaults": { "seed": 3 } });
    let check = call(&app, "bulk_check", input.clone()).await;
    assert_eq!(check["problems"], json!([]));
    assert_eq!(
        (&check["total_rows"], &check["pictures"]),
        (&json!(2), &json!(2))
    );
    let listed: Submitted = serde_json::from_value(call(&app, "bulk_submit", input).await).unwrap();
    let prompts: Vec<String> = finish(&app, listed.batch)
        .await
        .into_iter()
        .map(|job| job.plan.prompt)
        .collect();
    assert_eq!(prompts, ["a red fox x, fox {y}", "a blue fox x, fox {y}"]);
    let input = json!({
        "text": "a <wildcard:animals/birds> {x|y}\n<wildcard:nothing>\n",
        "defaults": { "expansion": "combinations" }
    });
    let check = call(&app, "bulk_check", input).await;
    assert_eq!(check["problems"][0]["line"], 2);
    assert_eq!(check["total_rows"], 3);

    let gone = call(&app, "wildcards_remove", json!({ "name": "animals/birds" })).await;
    assert_eq!(gone["text"], "owl\nhen\n");
    refuse(&app, "jobs_submit", small(prompt)).await;
    app.shutdown().await;
}
