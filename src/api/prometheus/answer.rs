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

/// What kind of a no it is (`web/api/v1/api.go`, `getDefaultErrorCode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum ErrorType {
    BadData,
    Execution,
    Timeout,
    Internal,
    NotFound,
    /// There it is a 500; here it is for what works again by itself.
    Unavailable,
}

/// Why there is no answer.
#[derive(Debug, Serialize)]
pub(super) struct Refused {
    status: &'static str,
    #[serde(rename = "errorType")]
    kind: ErrorType,
    error: String,
}

impl Refused {
    fn new(kind: ErrorType, error: impl Into<String>) -> Self {
        Self {
            status: "error",
            kind,
            error: error.into(),
        }
    }

    pub(super) fn bad_data(error: impl Into<String>) -> Self {
        Self::new(ErrorType::BadData, error)
    }

    pub(super) fn parameter(name: &str, error: impl std::fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter {name:?}: {error}"))
    }

    pub(super) fn not_found() -> Self {
        Self::new(
            ErrorType::NotFound,
            "this is not one of the paths served here",
        )
    }

    pub(super) fn timed_out(place: &str) -> Self {
        Self::new(ErrorType::Timeout, format!("query timed out in {place}"))
    }

    pub(super) fn too_many() -> Self {
        Self::new(ErrorType::Unavailable, "too many queries, try again later")
    }

    pub(super) fn internal() -> Self {
        Self::new(ErrorType::Internal, "the query failed inside the server")
    }

    /// Of a selector or query that cannot be compiled; `parameter` is where it stood.
    pub(super) fn compile(parameter: &str, error: &QueryError) -> Self {
        match error {
            QueryError::Syntax { reason, .. } => Self::parameter(parameter, reason),
            QueryError::Unsupported { .. } => Self::new(ErrorType::Execution, error.to_string()),
        }
    }

    pub(super) fn code(&self) -> StatusCode {
        match self.kind {
            ErrorType::BadData => StatusCode::BAD_REQUEST,
            ErrorType::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorType::Timeout | ErrorType::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorType::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorType::NotFound => StatusCode::NOT_FOUND,
        }
    }

    pub(super) fn body(&self) -> String {
        serde_json::to_string(self).expect("a struct of strings is JSON")
    }
}

impl From<QueryFailure> for Refused {
    fn from(failure: QueryFailure) -> Self {
        match failure {
            QueryFailure::Compile(error) => Self::compile("query", &error),
            QueryFailure::Evaluate(EvalError::Timeout) => Self::timed_out("expression evaluation"),
            QueryFailure::Evaluate(EvalError::TooManySamples) => Self::new(
                ErrorType::Execution,
                "query processing would load too many samples into memory in query execution",
            ),
            QueryFailure::Evaluate(error) => Self::new(ErrorType::Execution, error.to_string()),
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
