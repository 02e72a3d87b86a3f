//! Who may ask: hosts, origins, tokens.

use kinora_http::{Error, Options, generate_token, serve};
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest};

use crate::fake::{Fake, Site};

const TOKEN: &str = "a-token&of=the user's";

async fn with_token() -> Site {
    Site::open_with(Options {
        token: Some(TOKEN.to_owned()),
        ..Options::default()
    })
    .await
}

const EVERYWHERE: [&str; 7] = [
    "/",
    "/healthz",
    "/docs/",
    "/api/queue",
    "/ws",
    "/media/assets/x",
    "/pair",
];

#[tokio::test]
async fn foreign_hosts_are_refused_everywhere() {
    let site = Site::open().await;
    let port = site.server.address().port();
    for path in EVERYWHERE {
        for host in [
            "evil.example",
            "evil.example:80",
            "127.0.0.1.evil.example",
            "192.168.7.7",
            "",
            "localhost:port",
        ] {
            let answer = site.get(path, &[("Host", host)]).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (403, "forbidden"),
                "{path} {host}"
            );
        }
    }
    for host in [
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
        "localhost".to_owned(),
        format!("[::1]:{port}"),
    ] {
        assert_eq!(
            site.get("/api/queue", &[("Host", &host)]).await.status,
            200,
            "{host}"
        );
    }
    let answer = site.raw("GET /api/queue HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    assert!([400, 403].contains(&answer.status));
    let answer = site.raw("GET /api/queue HTTP/1.0\r\n\r\n").await;
    assert_eq!(answer.status, 403, "a host has to be named");
    let named = Site::open_with(Options {
        allowed_hosts: vec!["studio.example".to_owned()],
        ..Options::default()
    })
    .await;
    assert_eq!(
        named
            .get("/api/queue", &[("Host", "Studio.example:443")])
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn foreign_pages_are_refused_everywhere() {
    let site = Site::open().await;
    let own = format!("http://{}", site.server.address());
    let other_port = "http://127.0.0.1:1".to_owned();
    for path in EVERYWHERE {
        for origin in [
            "http://evil.example",
            "null",
            "https://evil.example:8030",
            "file://",
            "",
            "tauri://localhost",
            &other_port,
        ] {
            let answer = site.get(path, &[("Origin", origin)]).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (403, "forbidden"),
                "{path} {origin}"
            );
            assert_eq!(answer.header("access-control-allow-origin"), "");
        }
    }
    assert_eq!(
        site.get("/api/queue", &[("Origin", &own)]).await.status,
        200
    );
    // A proxy that speaks TLS keeps the host.
    assert_eq!(
        site.get("/api/queue", &[("Origin", &own.replace("http", "https"))])
            .await
            .status,
        200
    );
    // Pages that embed us without naming themselves are told by the browser.
    for kind in ["cross-site", "same-site"] {
        assert_eq!(
            site.get(
                "/api/queue",
                &[("Sec-Fetch-Site", kind), ("Sec-Fetch-Mode", "no-cors")]
            )
            .await
            .status,
            403
        );
        assert_eq!(
            site.get(
                "/api/queue",
                &[("Sec-Fetch-Site", kind), ("Sec-Fetch-Mode", "navigate")]
            )
            .await
            .status,
            403
        );
        assert_eq!(
            site.get(
                "/",
                &[("Sec-Fetch-Site", kind), ("Sec-Fetch-Mode", "navigate")]
            )
            .await
            .status,
            200,
            "a link may lead here"
        );
    }
    assert_eq!(
        site.get("/api/queue", &[("Sec-Fetch-Site", "same-origin")])
            .await
            .status,
        200
    );
    assert_eq!(
        site.get("/api/queue", &[("Sec-Fetch-Site", "none")])
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_trusted_page_may_ask_and_read() {
    let options = Options {
        trusted_origins: vec!["tauri://localhost".to_owned()],
        token: Some(TOKEN.to_owned()),
        ..Options::default()
    };
    let site = Site::open_with(options).await;
    let origin = ("Origin", "tauri://localhost");
    let answer = site
        .get(
            "/api/queue",
            &[origin, ("Authorization", &format!("Bearer {TOKEN}"))],
        )
        .await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, "tauri://localhost")
    );
    assert_eq!(
        site.get("/api/queue", &[origin]).await.status,
        401,
        "trust is no token"
    );
    let answer = site
        .get(
            "/media/assets/x?token=a-token%26of%3Dthe%20user%27s",
            &[("Sec-Fetch-Site", "cross-site")],
        )
        .await;
    assert_eq!(answer.status, 400, "past the guard");
    assert_eq!(
        answer.header("cross-origin-resource-policy"),
        "cross-origin"
    );
}

#[tokio::test]
async fn the_token_is_asked_for_and_can_be_shown_in_three_ways() {
    let site = with_token().await;
    let encoded = "a-token%26of%3Dthe%20user%27s";
    let bearer = format!("Bearer {TOKEN}");
    let port = site.server.address().port();
    let cookie = format!("other=1; kinora_{port}={encoded}; last=2");
    for path in [
        "/api/queue",
        "/api/nothing",
        "/api/openapi.json",
        "/ws",
        "/media/assets/x",
    ] {
        let wrong: [&[(&str, &str)]; 6] = [
            &[],
            &[("Authorization", "Bearer wrong")],
            &[("Authorization", TOKEN)],
            &[("Authorization", "Basic a-token")],
            &[("Cookie", "kinora_1=wrong")],
            &[("Authorization", "Bearer ")],
        ];
        for headers in wrong {
            let answer = site.get(path, headers).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (401, "unauthorized"),
                "{path} {headers:?}"
            );
            assert_eq!(answer.header("www-authenticate"), "Bearer");
            assert!(!String::from_utf8_lossy(&answer.body).contains("a-token"));
        }
        assert_ne!(
            site.get(path, &[("Authorization", &bearer)]).await.status,
            401,
            "{path}"
        );
        assert_ne!(
            site.get(
                path,
                &[("Authorization", &bearer.replace("Bearer", "bearer"))]
            )
            .await
            .status,
            401,
            "{path}"
        );
        assert_ne!(
            site.get(path, &[("Cookie", &cookie)]).await.status,
            401,
            "{path}"
        );
    }
    // In the address only where a header cannot be sent.
    for (path, status) in [("/ws", 401), ("/media/assets/x", 401), ("/api/queue", 401)] {
        assert_eq!(
            site.get(&format!("{path}?token=wrong"), &[]).await.status,
            status
        );
    }
    assert_ne!(
        site.get(&format!("/ws?token={encoded}"), &[]).await.status,
        401
    );
    assert_ne!(
        site.get(&format!("/media/assets/x?size=256&token={encoded}"), &[])
            .await
            .status,
        401
    );
    assert_eq!(
        site.get(&format!("/api/queue?token={encoded}"), &[])
            .await
            .status,
        401
    );
    // A cookie goes along with any page's requests, so it does not outweigh a foreign page.
    let foreign = [
        ("Cookie", cookie.as_str()),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "no-cors"),
    ];
    assert_eq!(site.get("/api/queue", &foreign).await.status, 403);
    // The UI's own files and the health of the server are nobody's secret.
    for path in ["/", "/healthz", "/docs/"] {
        assert_eq!(site.get(path, &[]).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_pairing_link_leaves_a_cookie() {
    let site = with_token().await;
    assert_eq!(site.server.token(), Some(TOKEN));
    let link = site.server.pairing_link().unwrap();
    assert_eq!(
        link,
        format!(
            "http://{}/pair?token=a-token%26of%3Dthe%20user%27s",
            site.server.address()
        )
    );
    let code = site.server.pairing_code().unwrap();
    assert!(code.lines().count() > 10 && code.contains('█'));
    let path = link
        .split_once(&site.server.address().to_string())
        .unwrap()
        .1;
    let answer = site.get(path, &[]).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/"));
    let cookie = answer.header("set-cookie").to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let pair = cookie.split(';').next().unwrap();
    assert_eq!(
        site.get("/api/queue", &[("Cookie", pair)]).await.status,
        200
    );
    for wrong in ["/pair", "/pair?token=", "/pair?token=wrong"] {
        let answer = site.get(wrong, &[]).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (401, ""));
    }
    // Without a token there is nothing to pair.
    let open = Site::open().await;
    assert_eq!(open.server.pairing_link(), None);
    assert_eq!(open.get("/pair?token=", &[]).await.status, 401);
}

#[tokio::test]
async fn an_address_of_the_network_demands_a_token() {
    let options = |token: Option<&str>| Options {
        host: "0.0.0.0".to_owned(),
        token: token.map(str::to_owned),
        ..Options::default()
    };
    for token in [None, Some("")] {
        let refused = serve(Fake::new(), options(token)).await;
        assert!(
            matches!(refused, Err(Error::TokenRequired { address }) if address.ip().is_unspecified())
        );
    }
    let token = generate_token();
    assert_eq!(token.len(), 64);
    assert_ne!(token, generate_token());
    let site = Site::open_with(options(Some(&token))).await;
    let port = site.server.address().port();
    let bearer = format!("Bearer {token}");
    let host = format!("localhost:{port}");
    assert_eq!(site.get("/api/queue", &[("Host", &host)]).await.status, 401);
    assert_eq!(
        site.get("/api/queue", &[("Host", &host), ("Authorization", &bearer)])
            .await
            .status,
        200
    );
    assert_eq!(
        site.get(
            "/api/queue",
            &[("Host", "evil.example"), ("Authorization", &bearer)]
        )
        .await
        .status,
        403
    );
    let all = [("Host", "0.0.0.0"), ("Authorization", &bearer)];
    assert_eq!(site.get("/api/queue", &all).await.status, 403);
    assert!(
        !site.server.url().contains("0.0.0.0"),
        "the link leads to an address that others can reach"
    );
    let options = format!("{:?}", options(Some(&token)));
    assert!(!options.contains(&token), "tokens stay out of logs");
}

#[tokio::test]
async fn a_taken_port_and_a_bad_host_are_errors() {
    let site = Site::open().await;
    let port = site.server.address().port();
    let refused = serve(
        Fake::new(),
        Options {
            port,
            ..Options::default()
        },
    )
    .await;
    assert!(matches!(refused, Err(Error::Bind { address, .. }) if address.port() == port));
    let refused = serve(
        Fake::new(),
        Options {
            host: "not a host".to_owned(),
            ..Options::default()
        },
    )
    .await;
    assert!(matches!(refused, Err(Error::Resolve { .. })));
}

#[tokio::test]
async fn the_socket_is_guarded_like_the_rest() {
    let site = with_token().await;
    let address = site.server.address();
    let connect = async |path: &str, headers: &[(&str, &str)]| {
        let mut request = format!("ws://{address}{path}")
            .into_client_request()
            .unwrap();
        for (name, value) in headers {
            let name: tungstenite::http::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok(_) => 101,
            Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
            Err(error) => panic!("{error}"),
        }
    };
    let bearer = format!("Bearer {TOKEN}");
    let own = format!("http://{address}");
    let token = ("authorization", bearer.as_str());
    assert_eq!(connect("/ws", &[]).await, 401);
    assert_eq!(connect("/ws", &[token]).await, 101);
    assert_eq!(connect("/ws", &[token, ("origin", &own)]).await, 101);
    assert_eq!(
        connect("/ws", &[token, ("origin", "http://evil.example")]).await,
        403
    );
    assert_eq!(
        connect("/ws", &[token, ("host", "evil.example")]).await,
        403
    );
    assert_eq!(
        connect("/ws?token=a-token%26of%3Dthe%20user%27s", &[]).await,
        101
    );
}

#[tokio::test]
async fn every_answer_tells_the_browser_to_keep_still() {
    let site = Site::open().await;
    for path in [
        "/",
        "/api/queue",
        "/api/nothing",
        "/docs/",
        "/healthz",
        "/media/assets/x",
    ] {
        let answer = site.get(path, &[]).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(
            answer.header("cross-origin-resource-policy"),
            "same-origin",
            "{path}"
        );
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        for hole in ["http:", "https:", "*", "unsafe-eval", "script-src 'unsafe"] {
            assert!(!policy.contains(hole), "{path}: {policy}");
        }
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
}
