//! Inputs from path, query and body, uploads, and everything that is wrong with them.

use serde_json::json;

use crate::fake::Site;

const ID: &str = "01900000-0000-7000-8000-000000000001";
const JSON: (&str, &str) = ("Content-Type", "application/json");

#[tokio::test]
async fn inputs_come_from_path_query_and_body() {
    let site = Site::open().await;
    site.get("/api/jobs?states=queued,running&active=true&limit=5", &[])
        .await;
    site.ask(
        "POST",
        &format!("/api/jobs/{ID}/priority"),
        &[JSON],
        r#"{"priority":"bulk"}"#,
    )
    .await;
    site.ask(
        "DELETE",
        &format!("/api/sessions/{ID}?with_assets=true"),
        &[],
        "",
    )
    .await;
    site.ask(
        "PATCH",
        &format!("/api/sessions/{ID}"),
        &[("Content-Type", "application/JSON; charset=utf-8")],
        r#"{"title":"x"}"#,
    )
    .await;
    site.ask("POST", "/api/queue/pause", &[], "").await;
    site.get("/api/models/a%2Fb%20c", &[]).await;
    site.ask("POST", "/api/cleanup?hours=1", &[], "").await;
    site.ask(
        "POST",
        "/api/cleanup?dry_run=true",
        &[JSON],
        r#"{"hours":2}"#,
    )
    .await;
    let twice = site
        .ask("POST", "/api/cleanup?hours=1", &[JSON], r#"{"hours":2}"#)
        .await;
    assert_eq!(twice.status, 400, "nothing was asked of the application");
    assert_eq!(
        site.app.asked(),
        [
            (
                "jobs_list".to_owned(),
                json!({"states": ["queued", "running"], "active": true, "limit": 5})
            ),
            (
                "jobs_set_priority".to_owned(),
                json!({"id": ID, "priority": "bulk"})
            ),
            (
                "sessions_remove".to_owned(),
                json!({"id": ID, "with_assets": true})
            ),
            (
                "sessions_rename".to_owned(),
                json!({"id": ID, "title": "x"})
            ),
            ("queue_pause".to_owned(), json!({})),
            ("models_get".to_owned(), json!({"id": "a/b c"})),
            ("cleanup_run".to_owned(), json!({"hours": 1})),
            (
                "cleanup_run".to_owned(),
                json!({"hours": 2, "dry_run": true})
            ),
        ]
    );
    // What stands in the path wins over the body.
    let other = ID.replace('1', "2");
    site.ask(
        "POST",
        &format!("/api/jobs/{ID}/move"),
        &[JSON],
        &format!(r#"{{"id":"{other}"}}"#),
    )
    .await;
    assert_eq!(site.app.asked()[0].1, json!({"id": ID}));
}

#[tokio::test]
async fn what_cannot_be_understood_is_refused_as_json() {
    let site = Site::open().await;
    let cases = [
        (
            site.ask("POST", "/api/jobs", &[JSON], "{\"prompt\": ")
                .await,
            400,
            "invalid_input",
        ),
        (
            site.ask("POST", "/api/jobs", &[JSON], "[1]").await,
            400,
            "invalid_input",
        ),
        (
            site.ask("POST", "/api/jobs", &[("Content-Type", "text/plain")], "{}")
                .await,
            415,
            "invalid_input",
        ),
        (
            site.ask("POST", "/api/jobs", &[], "{}").await,
            415,
            "invalid_input",
        ),
        (
            site.ask("PUT", "/api/jobs", &[JSON], "{}").await,
            405,
            "invalid_input",
        ),
        (
            site.ask("POST", "/healthz", &[], "").await,
            405,
            "invalid_input",
        ),
        (
            site.get("/api/jobs?offset=1&offset=2", &[]).await,
            400,
            "invalid_input",
        ),
        (
            site.get("/api/jobs?session=%zz", &[]).await,
            400,
            "invalid_input",
        ),
        (site.get("/api/nothing", &[]).await, 404, "not_found"),
        (site.get("/api", &[]).await, 404, "not_found"),
        (
            site.get("/media/assets/not-an-id", &[]).await,
            400,
            "invalid_input",
        ),
        (
            site.get(&format!("/media/thumbnails/{ID}?size=300"), &[])
                .await,
            400,
            "invalid_input",
        ),
        (
            site.get(&format!("/media/assets/{ID}"), &[]).await,
            404,
            "not_found",
        ),
        (site.get("/ws?job=x", &[]).await, 400, "invalid_input"),
    ];
    for (answer, status, code) in cases {
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{answer:?}"
        );
        assert!(
            answer.json()["hint"]
                .as_str()
                .is_some_and(|hint| !hint.is_empty())
        );
    }
    assert!(
        site.app.asked().is_empty(),
        "nothing of this reaches the application"
    );
}

#[tokio::test]
async fn bodies_have_limits() {
    let site = Site::open().await;
    let long = format!("{{\"prompt\":\"{}\"}}", "x".repeat(9 << 20));
    let client = reqwest::Client::new();
    let send = |path: &str| {
        client
            .post(site.url(path))
            .header("content-type", "application/json")
            .body(long.clone())
            .send()
    };
    let answer = send("/api/jobs").await.unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(
        answer.json::<serde_json::Value>().await.unwrap()["code"],
        "invalid_input"
    );
    assert_eq!(
        send("/api/bulk/check").await.unwrap().status(),
        200,
        "prompt lists may be long"
    );
}

#[tokio::test]
async fn pictures_come_raw_or_in_a_form() {
    use reqwest::multipart::{Form, Part};
    let site = Site::open().await;
    let client = reqwest::Client::new();
    let raw = client
        .post(site.url("/api/metadata"))
        .header("content-type", "application/octet-stream")
        .body(vec![1; 3 << 20]);
    assert_eq!(raw.send().await.unwrap().status(), 200);
    let form = Form::new().part("file", Part::bytes(vec![2; 5000]).file_name("x.png"));
    assert_eq!(
        client
            .post(site.url("/api/metadata"))
            .multipart(form)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(
        site.app.asked(),
        [
            ("metadata".to_owned(), json!(3 << 20)),
            ("metadata".to_owned(), json!(5000))
        ]
    );
    for form in [Form::new(), Form::new().text("picture", "x")] {
        let answer = client
            .post(site.url("/api/metadata"))
            .multipart(form)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 400);
    }
    assert!(site.app.asked().is_empty());
}

#[tokio::test]
async fn lists_come_raw_or_in_a_form_and_are_only_checked_unless_asked() {
    use reqwest::multipart::{Form, Part};
    let site = Site::open().await;
    let client = reqwest::Client::new();
    let url = |query: &str| site.url(&format!("/api/bulk/file{query}"));
    let answer = client
        .post(url("?name=my%20list.csv"))
        .header("content-type", "text/csv")
        .body("\u{feff}prompt\na")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let part = Part::bytes("prompt\nb".as_bytes()).file_name("b.tsv");
    let form = Form::new()
        .part("file", part)
        .text("options", r#"{"combine":"zip"}"#);
    let answer = client
        .post(url("?submit=true"))
        .multipart(form)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        site.app.asked(),
        [
            (
                "bulk_check".to_owned(),
                json!({"text": "prompt\na", "name": "my list.csv"})
            ),
            (
                "bulk_submit".to_owned(),
                json!({"text": "prompt\nb", "name": "b.tsv", "combine": "zip"})
            ),
        ]
    );
    let bad = [
        client.post(url("")).body(vec![0xFF, 0x00, 0xE9]),
        client.post(url("?sumbit=true")).body("x"),
        client
            .post(url(""))
            .multipart(Form::new().text("options", "[]").text("file", "x")),
    ];
    for request in bad {
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_client_error(), "{answer:?}");
    }
    assert!(site.app.asked().is_empty());
}
