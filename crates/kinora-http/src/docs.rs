//! The OpenAPI document, and the page that lets people try it. Both are in the program: nothing is
//! fetched from anywhere.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use kinora_core::Code;
use utoipa_swagger_ui::Config;

use crate::{
    answer::{Refusal, no_route, wrong_method},
    server::Shared,
};

/// Generated from the command table; a test of `xtask` fails when it drifts.
const DOCUMENT: &str = include_str!("../../../docs/openapi.json");

/// Scripts only from here; styles in place, which the page's own code sets.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/openapi.json", get(document).fallback(wrong_method))
        .route(
            "/docs",
            get(|| async { Redirect::permanent("/docs/") }).fallback(wrong_method),
        )
        .route(
            "/docs/",
            get(|| async { file("index.html") }).fallback(wrong_method),
        )
        .route(
            "/docs/{*path}",
            get(|State(_): State<Shared>, Path(path): Path<String>| async move { file(&path) })
                .fallback(wrong_method),
        )
}

async fn document() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, DOCUMENT).into_response()
}

fn file(path: &str) -> Result<Response, Refusal> {
    let config = Arc::new(
        Config::from("/api/openapi.json")
            .use_base_layout()
            .try_it_out_enabled(true)
            .default_models_expand_depth(0)
            .display_request_duration(true),
    );
    let file = utoipa_swagger_ui::serve(path, config).map_err(|error| {
        Refusal::new(
            Code::Internal,
            format!("the page could not be made: {error}"),
            "Report this.",
        )
    })?;
    let file = file.ok_or_else(no_route)?;
    let mut response = (
        [
            (header::CONTENT_TYPE, file.content_type),
            (header::CACHE_CONTROL, "no-cache".to_owned()),
        ],
        [(header::CONTENT_SECURITY_POLICY, POLICY)],
        file.bytes.into_owned(),
    )
        .into_response();
    if file.gzpipped {
        let encoding = header::HeaderValue::from_static("gzip");
        response
            .headers_mut()
            .insert(header::CONTENT_ENCODING, encoding);
    }
    Ok(response)
}
