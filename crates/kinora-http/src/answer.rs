//! Answers in the one form that errors have on the wire: a status, and [`Problems`] as JSON.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use kinora_core::{Code, Problem, Problems};
use serde_json::Value;

/// The status that a class of errors travels under.
pub(crate) fn status_of(code: Code) -> StatusCode {
    match code {
        Code::InvalidInput => StatusCode::BAD_REQUEST,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Conflict | Code::DataFolderInUse | Code::NewerData => StatusCode::CONFLICT,
        Code::UnsupportedFile => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::UnknownModel | Code::ModelNotInstalled | Code::BadWeights => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Code::OutOfMemory | Code::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        Code::EngineUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::EngineLost | Code::Poison | Code::BadResult | Code::Io | Code::Internal => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// A refusal on its way out.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    /// Boxed: results are passed around far more often than refusals.
    problems: Box<Problems>,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Problem::new(code, message, hint).into()
    }

    /// The same refusal under a status that says more than its class does.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        Self {
            status: status_of(problems.first.code),
            problems: Box::new(problems),
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Problems::from(problem).into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.problems)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CACHE_CONTROL,
            header::HeaderValue::from_static("no-store"),
        );
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// A command's result: never cached, because events tell when it is stale.
pub(crate) fn done(value: Value) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(value)).into_response()
}

/// There is no such route.
pub(crate) fn no_route() -> Refusal {
    Refusal::new(
        Code::NotFound,
        "there is no such route",
        "GET /api/openapi.json lists every route.",
    )
}

/// The route exists, under another method.
pub(crate) async fn wrong_method() -> Refusal {
    Refusal::new(
        Code::InvalidInput,
        "the route does not take this method",
        "GET /api/openapi.json lists every route with its methods.",
    )
    .with_status(StatusCode::METHOD_NOT_ALLOWED)
}

/// The body could not be taken: too long, or cut off.
pub(crate) fn bad_body(status: StatusCode, limit: usize) -> Refusal {
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        Refusal::new(
            Code::InvalidInput,
            format!("the request is longer than {} MiB", limit >> 20),
            "Send less at once.",
        )
        .with_status(status)
    } else {
        Refusal::new(
            Code::InvalidInput,
            "the request's body was cut off",
            "Send it again.",
        )
    }
}
