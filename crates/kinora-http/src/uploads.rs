//! Files that come in: pictures whose settings are wanted or that a request starts from, and prompt
//! lists. Raw, or as a form.

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Multipart, RawQuery, Request, State},
    http::{HeaderMap, header},
    response::Response,
    routing::post,
};
use kinora_app::{bulk::decode_text, commands, inputs};
use kinora_core::{Code, Problem};
use serde_json::{Map, Value};

use crate::{
    answer::{Refusal, bad_body, done, no_route, wrong_method},
    query::decode,
    rest::{LIST_LIMIT, answer},
    server::Shared,
};

/// The longest picture that is read for its settings, in bytes.
const PICTURE_LIMIT: usize = 256 << 20;

/// What a form adds to the file in it, at most.
const FORM_OVERHEAD: usize = 64 << 10;

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route(
            "/api/metadata",
            post(read_metadata)
                .fallback(wrong_method)
                .layer(DefaultBodyLimit::max(PICTURE_LIMIT)),
        )
        .route(
            "/api/inputs",
            post(keep_input)
                .fallback(wrong_method)
                .layer(DefaultBodyLimit::max(inputs::MAX_BYTES + FORM_OVERHEAD)),
        )
        .route(
            "/api/bulk/file",
            post(read_list)
                .fallback(wrong_method)
                .layer(DefaultBodyLimit::max(LIST_LIMIT)),
        )
}

/// `POST /api/metadata`: a picture as the body, or as the part `file` of a form.
async fn read_metadata(
    State(server): State<Shared>,
    request: Request,
) -> Result<Response, Refusal> {
    let upload = Upload::read(request, PICTURE_LIMIT).await?;
    Ok(done(server.app.read_metadata(upload.file).await?))
}

/// `POST /api/inputs`: a picture that requests can start from, as the body or as the part `file` of
/// a form. The answer's `reference` is what requests name it by.
async fn keep_input(State(server): State<Shared>, request: Request) -> Result<Response, Refusal> {
    let upload = Upload::read(request, inputs::MAX_BYTES + FORM_OVERHEAD).await?;
    Ok(done(server.app.keep_input(upload.file).await?))
}

/// `POST /api/bulk/file`: a prompt list as the body (its name in `?name=`), or as the part `file` of
/// a form whose part `options` may hold the other members of a bulk input as JSON. Checked only,
/// unless `?submit=true`.
async fn read_list(
    State(server): State<Shared>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    let (mut name, mut is_submit) = (None, false);
    for pair in query
        .as_deref()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        match pair.split_once('=') {
            Some(("name", value)) => name = Some(decode(value)?),
            Some(("submit", "true" | "1")) => is_submit = true,
            Some(("submit", "false" | "0")) => is_submit = false,
            _ => {
                return Err(Problem::new(
                    Code::InvalidInput,
                    "the address has an unknown member",
                    "There are name and submit (true or false).",
                )
                .into());
            }
        }
    }
    let upload = Upload::read(request, LIST_LIMIT).await?;
    let mut input = upload.options;
    input.insert("text".to_owned(), Value::String(decode_text(&upload.file)?));
    if let Some(name) = name.or(upload.name) {
        input.insert("name".to_owned(), Value::String(name));
    }
    let command = if is_submit {
        "bulk_submit"
    } else {
        "bulk_check"
    };
    let command = commands::find(command).ok_or_else(no_route)?;
    answer(&server, command, Value::Object(input)).await
}

/// A file that came in.
struct Upload {
    file: Bytes,
    name: Option<String>,
    options: Map<String, Value>,
}

impl Upload {
    async fn read(request: Request, limit: usize) -> Result<Self, Refusal> {
        if !is_form(request.headers()) {
            let body = Bytes::from_request(request, &()).await;
            let file = body.map_err(|rejection| bad_body(rejection.status(), limit))?;
            return Ok(Self {
                file,
                name: None,
                options: Map::new(),
            });
        }
        let form = Multipart::from_request(request, &()).await;
        let mut form = form.map_err(|rejection| bad_body(rejection.status(), limit))?;
        let mut found = None;
        let mut options = Map::new();
        loop {
            let part = form.next_field().await;
            let Some(part) = part.map_err(|error| bad_body(error.status(), limit))? else {
                break;
            };
            let (key, name) = (
                part.name().map(str::to_owned),
                part.file_name().map(str::to_owned),
            );
            let bytes = part
                .bytes()
                .await
                .map_err(|error| bad_body(error.status(), limit))?;
            match key.as_deref() {
                Some("file") => found = Some((bytes, name)),
                Some("options") => {
                    options = serde_json::from_slice(&bytes).map_err(|error| {
                        Problem::in_field(
                            "options",
                            format!("the options are no JSON object: {error}"),
                            "Send an object, such as {\"combine\": \"zip\"}.",
                        )
                    })?;
                }
                _ => {
                    return Err(Problem::new(
                        Code::InvalidInput,
                        "the form has an unknown part",
                        "There are file and options.",
                    )
                    .into());
                }
            }
        }
        let (file, name) = found.ok_or_else(|| {
            Problem::in_field(
                "file",
                "the form has no file",
                "Send the file as the part named file.",
            )
        })?;
        Ok(Self {
            file,
            name,
            options,
        })
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.to_lowercase().starts_with("multipart/form-data"))
}
