//! The command table as routes. Path, query and JSON body together make up a command's input.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, RawPathParams, RawQuery, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::Response,
    routing::{MethodFilter, MethodRouter, on},
};
use kinora_app::commands::{COMMANDS, Command, Method};
use kinora_core::{Code, Problem};
use serde_json::{Map, Value};

use crate::{
    answer::{Refusal, bad_body, done, wrong_method},
    query::{InputShape, given_twice},
    server::Shared,
};

/// The longest body of a command that takes a prompt list, in bytes.
pub(crate) const LIST_LIMIT: usize = 64 << 20;
/// The longest body of any other command, in bytes: a hundred thousand ids.
const BODY_LIMIT: usize = 8 << 20;

/// A route per command.
pub(crate) fn routes() -> Router<Shared> {
    let mut by_path: BTreeMap<&str, MethodRouter<Shared>> = BTreeMap::new();
    for command in COMMANDS {
        let route = by_path.remove(command.path).unwrap_or_default();
        by_path.insert(command.path, route.merge(route_of(command)));
    }
    let mut router = Router::new();
    for (path, route) in by_path {
        router = router.route(path, route.fallback(wrong_method));
    }
    router
}

fn route_of(command: &'static Command) -> MethodRouter<Shared> {
    let filter = match command.method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Patch => MethodFilter::PATCH,
        Method::Delete => MethodFilter::DELETE,
    };
    let limit = if command.path.starts_with("/api/bulk") {
        LIST_LIMIT
    } else {
        BODY_LIMIT
    };
    let shape = Arc::new(InputShape::of(command));
    let handler = move |State(server): State<Shared>,
                        path: RawPathParams,
                        RawQuery(query): RawQuery,
                        headers: HeaderMap,
                        body: Result<Bytes, BytesRejection>| async move {
        let body = body.map_err(|rejection| bad_body(rejection.status(), limit))?;
        let mut input = shape.read(query.as_deref().unwrap_or_default())?;
        if command.method.has_body() {
            for (name, value) in read_body(&headers, &body)? {
                if input.insert(name.clone(), value).is_some() {
                    return Err(given_twice(&name).into());
                }
            }
        }
        for (name, text) in &path {
            input.insert(name.to_owned(), shape.read_member(name, text));
        }
        answer(&server, command, Value::Object(input)).await
    };
    on(filter, handler).layer(DefaultBodyLimit::max(limit))
}

/// Runs a command.
pub(crate) async fn answer(
    server: &Shared,
    command: &'static Command,
    input: Value,
) -> Result<Response, Refusal> {
    Ok(done(server.app.call(command, input).await?))
}

/// The members of a JSON body; an empty body has none. The media type has to be said: a foreign page
/// cannot say it without asking first.
fn read_body(headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = kind
        .and_then(|kind| kind.split(';').next())
        .unwrap_or_default()
        .trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Refusal::new(
            Code::InvalidInput,
            "the body is not declared as JSON",
            "Send the header Content-Type: application/json.",
        )
        .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Problem::new(
            Code::InvalidInput,
            "the body is JSON, but no object",
            "Send an object, such as {}.",
        )
        .into()),
        Err(error) => Err(Problem::new(
            Code::InvalidInput,
            format!("the body is not JSON: {error}"),
            "Check quotes, commas and brackets at that place.",
        )
        .into()),
    }
}
