//! The envelope: `{"status":"success","data":…}`, or an error with its type and code.

use axum::response::Response;
use http::header::ALLOW;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::engine::query::{EvalError, QueryError, QueryFailure};

/// A good answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// JSON.
    pub(super) data: String,
    /// Whether `limit` left something out.
    pub(super) truncated: bool,
}

impl Answer {
    /// All of it.
    pub(super) fn whole(data: &impl Serialize) -> Self {
        Self::limited(data, false)
    }

    pub(super) fn limited(data: &impl Serialize, truncated: bool) -> Self {
        Self {
            data: serde_json::to_string(data).expect("our own types have string keys"),
            truncated,
        }
    }

    pub(super) fn body(&self) -> String {
        let warnings = if self.truncated {
            r#","warnings":["results truncated due to limit"]"#
        } else {
            ""
        };
        format!(r#"{{"status":"success","data":{}{warnings}}}"#, self.data)
    }
}

/// What kind of a no it is, and its code (`web/api/v1/api.go`, `getDefaultErrorCode`).
#[derive(Clone, Copy, Debug)]
struct Kind(&'static str, StatusCode);

const BAD_DATA: Kind = Kind("bad_data", StatusCode::BAD_REQUEST);
const EXECUTION: Kind = Kind("execution", StatusCode::UNPROCESSABLE_ENTITY);
const TIMEOUT: Kind = Kind("timeout", StatusCode::SERVICE_UNAVAILABLE);
const INTERNAL: Kind = Kind("internal", StatusCode::INTERNAL_SERVER_ERROR);
const NOT_FOUND: Kind = Kind("not_found", StatusCode::NOT_FOUND);
/// There a 500; here it is for what works again by itself.
const UNAVAILABLE: Kind = Kind("unavailable", StatusCode::SERVICE_UNAVAILABLE);

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Refused {
    kind: Kind,
    error: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody<'a> {
    status: &'static str,
    error_type: &'static str,
    error: &'a str,
}

impl Refused {
    fn new(kind: Kind, error: impl Into<String>) -> Self {
        Self {
            kind,
            error: error.into(),
        }
    }

    pub(super) fn bad_data(error: impl Into<String>) -> Self {
        Self::new(BAD_DATA, error)
    }

    pub(super) fn parameter(name: &str, error: impl std::fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter {name:?}: {error}"))
    }

    pub(super) fn not_found() -> Self {
        Self::new(NOT_FOUND, "this is not one of the paths served here")
    }

    pub(super) fn timed_out(place: &str) -> Self {
        Self::new(TIMEOUT, format!("query timed out in {place}"))
    }

    pub(super) fn too_many() -> Self {
        Self::new(UNAVAILABLE, "too many queries, try again later")
    }

    pub(super) fn internal() -> Self {
        Self::new(INTERNAL, "the query failed inside the server")
    }

    /// Of a selector or query that cannot be compiled; `parameter` is where it stood.
    pub(super) fn compile(parameter: &str, error: &QueryError) -> Self {
        match error {
            QueryError::Syntax { reason, .. } | QueryError::Type { reason, .. } => {
                Self::parameter(parameter, reason)
            }
            QueryError::Unsupported { .. } => Self::new(EXECUTION, error.to_string()),
        }
    }

    /// The kind's name.
    pub(super) fn kind(&self) -> &'static str {
        self.kind.0
    }

    pub(super) fn code(&self) -> StatusCode {
        self.kind.1
    }

    pub(super) fn body(&self) -> String {
        let body = ErrorBody {
            status: "error",
            error_type: self.kind(),
            error: &self.error,
        };
        serde_json::to_string(&body).expect("a struct of strings is JSON")
    }
}

impl From<QueryFailure> for Refused {
    fn from(failure: QueryFailure) -> Self {
        match failure {
            QueryFailure::Compile(error) => Self::compile("query", &error),
            QueryFailure::Evaluate(error @ EvalError::Timeout) => {
                Self::new(TIMEOUT, error.to_string())
            }
            QueryFailure::Evaluate(error) => Self::new(EXECUTION, error.to_string()),
        }
    }
}

pub(super) fn respond(code: StatusCode, body: String) -> Response {
    super::super::respond(code, HeaderValue::from_static("application/json"), body)
}

pub(super) fn method_not_allowed(allowed: &'static str) -> Response {
    let refused = Refused::bad_data(format!("only these methods are allowed here: {allowed}"));
    let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, refused.body());
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    response
}
