//! Failures as Kubernetes clients read them: `metav1.Status` in JSON, its fields in the order in which Go writes them.

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Metadata,
    status: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
    code: u16,
}

#[derive(Serialize)]
struct Metadata {}

/// What the refused request was about; written as `{}` when all is empty, as Go does.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Details<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    /// The object.
    pub name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    /// The API group.
    pub group: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    /// The resource.
    pub kind: &'a str,
}

/// A response that says why not. It never carries `Retry-After`: client-go would block an HPA worker on it.
pub fn failure(
    code: StatusCode,
    reason: &str,
    message: &str,
    details: Option<Details<'_>>,
) -> Response<Body> {
    let status = Status {
        kind: "Status",
        api_version: "v1",
        metadata: Metadata {},
        status: "Failure",
        message,
        reason,
        details,
        code: code.as_u16(),
    };
    let mut body = serde_json::to_string(&status).expect("a struct of strings is JSON");
    body.push('\n');
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = code;
    for (name, value) in [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-cache, private"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
