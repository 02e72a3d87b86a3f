//! Files as they lie on the disk: pictures, thumbnails, previews, contact sheets. Streamed, in part
//! where asked, and not at all to a client that has them.

use std::{io, time::UNIX_EPOCH};

use axum::{
    Router,
    body::Body,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use kinora_core::{AssetId, Code, Problem};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};
use tokio_util::io::ReaderStream;

use crate::{
    answer::{Refusal, wrong_method},
    application::{Media, MediaFile},
    query::encode,
    range::{Part, is_unchanged, wanted_part},
    server::Shared,
};

/// How much of a file is in memory at a time, in bytes.
const CHUNK: usize = 64 << 10;

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/media/assets/{id}", get(asset).fallback(wrong_method))
        .route(
            "/media/thumbnails/{id}",
            get(thumbnail).fallback(wrong_method),
        )
        .route("/media/previews/{id}", get(preview).fallback(wrong_method))
        .route("/media/sheets/{id}", get(sheet).fallback(wrong_method))
        .route("/media/inputs/{digest}", get(input).fallback(wrong_method))
}

type Answer = Result<Response, Refusal>;

async fn asset(
    State(server): State<Shared>,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Answer {
    send(&server, Media::Asset(id_of(&id)?), &method, &headers).await
}

async fn thumbnail(
    State(server): State<Shared>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Answer {
    let asset: AssetId = id_of(&id)?;
    let size = query
        .as_deref()
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("size="));
    let longest = match size {
        None => 256,
        Some("256") => 256,
        Some("512") => 512,
        Some(_) => {
            return Err(Problem::in_field(
                "size",
                "thumbnails have no such size",
                "Ask for 256 or 512.",
            )
            .into());
        }
    };
    send(
        &server,
        Media::Thumbnail { asset, longest },
        &method,
        &headers,
    )
    .await
}

async fn preview(
    State(server): State<Shared>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Answer {
    let query = query.as_deref().unwrap_or_default();
    let media = Media::Preview {
        job: id_of(&id)?,
        is_moving: query.split('&').any(|pair| pair == "moving=1"),
    };
    send(&server, media, &method, &headers).await
}

async fn sheet(
    State(server): State<Shared>,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Answer {
    send(&server, Media::Sheet(id_of(&id)?), &method, &headers).await
}

async fn input(
    State(server): State<Shared>,
    Path(digest): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Answer {
    let digest = digest.parse().map_err(|_| {
        Problem::in_field(
            "digest",
            "the address does not end with a SHA-256",
            "Take it from the answer to the upload.",
        )
    })?;
    send(&server, Media::Input(digest), &method, &headers).await
}

/// Routes name things by id and nothing else, so no path from outside ever meets the disk.
fn id_of<T: std::str::FromStr>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|_| {
        Problem::in_field(
            "id",
            "the id is not a UUID",
            "Take it from a list of the API.",
        )
        .into()
    })
}

async fn send(server: &Shared, media: Media, method: &Method, headers: &HeaderMap) -> Answer {
    let found = server.app.find_media(media).await?;
    let refuse = |error: io::Error| {
        if error.kind() == io::ErrorKind::NotFound {
            Refusal::new(
                Code::NotFound,
                "the file is gone from the disk",
                "It was moved or deleted outside of Kinora.",
            )
        } else {
            Refusal::new(
                Code::Io,
                format!("the file could not be read: {error}"),
                "Check the disk and the folder's permissions.",
            )
        }
    };
    let file = File::open(&found.path).await.map_err(refuse)?;
    let metadata = file.metadata().await.map_err(refuse)?;
    if !metadata.is_file() {
        return Err(refuse(io::ErrorKind::NotFound.into()));
    }
    let tag = tag_of(&found, &metadata);
    let mut response = if is_unchanged(headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        send_file(file, metadata.len(), &tag, method, headers)
            .await
            .map_err(refuse)?
    };
    describe(&found, &tag, response.headers_mut());
    Ok(response)
}

async fn send_file(
    mut file: File,
    length: u64,
    tag: &str,
    method: &Method,
    headers: &HeaderMap,
) -> io::Result<Response> {
    // HEAD tells about the whole; a range is for GET alone.
    let part = if method == Method::GET {
        wanted_part(headers, length, tag)
    } else {
        Part::Whole
    };
    let (status, first, count) = match part {
        Part::Whole => (StatusCode::OK, 0, length),
        Part::Bytes { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Part::Outside => {
            let range = [(header::CONTENT_RANGE, format!("bytes */{length}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, range).into_response());
        }
    };
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        file.seek(io::SeekFrom::Start(first)).await?;
        // Never more than was announced, even where the file grows meanwhile.
        Body::from_stream(ReaderStream::with_capacity(file.take(count), CHUNK))
    };
    let mut response = (status, [(header::CONTENT_LENGTH, count)], body).into_response();
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {first}-{}/{length}", first + count - 1);
        if let Ok(range) = HeaderValue::from_str(&range) {
            response.headers_mut().insert(header::CONTENT_RANGE, range);
        }
    }
    Ok(response)
}

/// The version as an entity tag.
fn tag_of(found: &MediaFile, metadata: &std::fs::Metadata) -> String {
    match &found.version {
        Some(version) => format!("\"{version}\""),
        None => {
            let changed = metadata
                .modified()
                .ok()
                .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let nanoseconds = changed.map_or(0, |time| time.as_nanos());
            format!("\"{:x}-{nanoseconds:x}\"", metadata.len())
        }
    }
}

fn describe(found: &MediaFile, tag: &str, headers: &mut HeaderMap) {
    let mut set = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, &found.media_type);
    set(header::ACCEPT_RANGES, "bytes");
    set(header::ETAG, tag);
    // Percent-encoded UTF-8 (RFC 8187), which needs no quoting.
    let name = encode(&found.name);
    set(
        header::CONTENT_DISPOSITION,
        &format!("inline; filename*=UTF-8''{name}"),
    );
    set(
        header::CACHE_CONTROL,
        if found.is_immutable {
            "private, max-age=31536000, immutable"
        } else {
            "private, no-cache"
        },
    );
}
