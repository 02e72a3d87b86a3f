//! The UI's files, embedded in the program (in a debug build they are read from `ui/dist`).

use axum::{
    extract::Request,
    http::StatusCode,
    http::{HeaderMap, HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use rust_embed::{Embed, EmbeddedFile};

use crate::{
    answer::{no_route, wrong_method},
    range::is_unchanged,
};

#[derive(Embed)]
#[folder = "$CARGO_MANIFEST_DIR/../../ui/dist"]
struct Dist;

/// Everything that no other route answers: a file of the UI, or its page for addresses that the UI
/// resolves by itself.
pub(crate) async fn serve(request: Request) -> Response {
    let path = request.uri().path();
    let is_of_the_server = ["/api", "/ws", "/media", "/docs"].iter().any(|root| {
        path == *root
            || path
                .strip_prefix(root)
                .is_some_and(|rest| rest.starts_with('/'))
    });
    if is_of_the_server {
        return no_route().into_response();
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return wrong_method().await.into_response();
    }
    let name = path.trim_start_matches('/');
    let name = if name.is_empty() { "index.html" } else { name };
    if let Some(file) = Dist::get(name) {
        return send(name, file, request.headers());
    }
    // A missing file is missing; only addresses that look like pages become the page.
    let is_page = !name.rsplit('/').next().unwrap_or_default().contains('.');
    match Dist::get("index.html").filter(|_| is_page) {
        Some(file) => send("index.html", file, request.headers()),
        None => no_route().into_response(),
    }
}

fn send(name: &str, file: EmbeddedFile, asked: &HeaderMap) -> Response {
    let hash = file.metadata.sha256_hash();
    let tag: String = hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let tag = format!("\"{tag}\"");
    let mut response = if is_unchanged(asked, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        file.data.into_owned().into_response()
    };
    let headers = response.headers_mut();
    let media_type = media_type(name);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    // The bundler puts a hash into the names of everything below `assets`.
    let caching = if name.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    if media_type.starts_with("text/html")
        && let Ok(policy) = HeaderValue::from_str(&policy(asked))
    {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Scripts only from here, and nothing from anywhere else. Styles may stand in place: the editor and
/// the dialogs set theirs so. The socket's address is spelled out for browsers that do not count it
/// as `'self'`; the guard has checked the host.
fn policy(asked: &HeaderMap) -> String {
    let host = asked.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_plain = |host: &&str| {
        host.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b))
    };
    let sockets = host
        .filter(is_plain)
        .map(|host| format!(" ws://{host} wss://{host}"))
        .unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; \
         img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'{sockets}; \
         manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'"
    )
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
