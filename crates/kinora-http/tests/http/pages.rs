//! The UI, the documentation page, health, compression, and the end of the server.

use crate::fake::Site;

#[tokio::test]
async fn the_ui_is_at_the_root_and_at_its_own_addresses() {
    let site = Site::open().await;
    for path in ["/", "/index.html", "/gallery", "/sessions/some-id"] {
        let answer = site.get(path, &[]).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, "text/html; charset=utf-8"),
            "{path}"
        );
        assert_eq!(answer.header("cache-control"), "no-cache");
        let text = String::from_utf8_lossy(&answer.body);
        assert!(
            text.to_lowercase().contains("<!doctype html>") && text.contains("Kinora"),
            "{path}"
        );
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("script-src 'self';"), "{policy}");
        assert!(
            policy.contains(&format!("ws://{}", site.server.address())),
            "{policy}"
        );
        let again = site
            .get(path, &[("If-None-Match", answer.header("etag"))])
            .await;
        assert_eq!((again.status, again.body.len()), (304, 0));
    }
    for path in [
        "/assets/missing.js",
        "/favicon.missing",
        "/ws/x",
        "/docs/missing.html",
        "/media",
    ] {
        let answer = site.get(path, &[]).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, "not_found"),
            "{path}"
        );
    }
    assert_eq!(site.ask("POST", "/", &[], "").await.status, 405);
    let health = site.get("/healthz", &[]).await;
    assert_eq!(
        (health.status, health.body.as_slice()),
        (200, b"ok".as_slice())
    );
}

#[tokio::test]
async fn the_documentation_page_needs_nothing_from_elsewhere() {
    let site = Site::open().await;
    assert_eq!(site.get("/docs", &[]).await.header("location"), "/docs/");
    let page = site.get("/docs/", &[]).await;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    assert_eq!(page.status, 200);
    let mut files = 0;
    for part in text
        .split(['"', '\''])
        .filter(|part| part.ends_with(".js") || part.ends_with(".css"))
    {
        assert!(!part.contains("//"), "{part} comes from elsewhere");
        let file = site
            .get(&format!("/docs/{}", part.trim_start_matches("./")), &[])
            .await;
        assert_eq!(file.status, 200, "{part}");
        assert!(file.body.len() > 10, "{part}");
        files += 1;
    }
    assert!(files >= 3, "{text}");
    assert!(
        !text.contains("<script>"),
        "the policy forbids scripts in place"
    );
    let start = site.get("/docs/swagger-initializer.js", &[]).await;
    assert!(String::from_utf8_lossy(&start.body).contains("/api/openapi.json"));
}

#[tokio::test]
async fn long_texts_are_compressed_for_those_who_can() {
    let site = Site::open().await;
    let plain = site.get("/api/openapi.json", &[]).await;
    let packed = site
        .get("/api/openapi.json", &[("Accept-Encoding", "gzip")])
        .await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.body.len() * 3 < plain.body.len());
}

#[tokio::test]
async fn a_stopped_server_answers_no_more() {
    let site = Site::open().await;
    let (address, url) = (site.server.address(), site.url("/healthz"));
    // A connection that is kept alive does not keep the server.
    let client = reqwest::Client::new();
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    site.server.stop().await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
