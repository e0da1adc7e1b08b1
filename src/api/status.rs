//! Failures as Kubernetes clients read them: `metav1.Status`, its fields in the order in which Go writes them.
//!
//! [`failure`] makes one, in JSON, wherever something fails. On its way out it passes [`negotiated`], and gets the form that its client
//! asked for.

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::list::Empty;
use super::negotiation::{Encoding, Offered, choose, wants_pretty};
use super::protobuf;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    status: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
    code: u16,
}

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

impl Status<'_> {
    /// `Status{1 ListMeta, 2 status, 3 message, 4 reason, 5 details, 6 code}`, with
    /// `StatusDetails{1 name, 2 group, 3 kind, 5 retryAfterSeconds, 6 uid}`.
    fn protobuf(&self) -> Vec<u8> {
        protobuf::object(self.api_version, self.kind, |status| {
            status.list_meta(1);
            status.text(2, self.status);
            status.text(3, self.message);
            status.text(4, self.reason);
            if let Some(about) = self.details {
                status.message(5, |details| {
                    details.text(1, about.name);
                    details.text(2, about.group);
                    details.text(3, about.kind);
                    details.number(5, 0);
                    details.text(6, "");
                });
            }
            status.number(6, self.code.into());
        })
    }
}

/// The other forms of a failure. Failures are few and short, so that making them all costs less than keeping what they are made of.
#[derive(Clone)]
struct OtherForms {
    pretty: Bytes,
    protobuf: Bytes,
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
        metadata: Empty {},
        status: "Failure",
        message,
        reason,
        details,
        code: code.as_u16(),
    };
    const IS_JSON: &str = "a struct of strings is JSON";
    let mut body = serde_json::to_string(&status).expect(IS_JSON);
    body.push('\n');
    let mut pretty = serde_json::to_string_pretty(&status).expect(IS_JSON);
    pretty.push('\n');
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = code;
    response.extensions_mut().insert(OtherForms {
        pretty: pretty.into(),
        protobuf: status.protobuf().into(),
    });
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

/// A layer around everything that can fail: gives a failure the form that the client asked for. One that takes neither JSON nor protobuf
/// gets JSON: what went wrong is not to hide behind it (apiserver `responsewriters/writers.go`, `WriteObjectNegotiated`).
pub async fn negotiated(request: Request, next: Next) -> Response<Body> {
    let accept = request.headers().get(ACCEPT);
    let accept = accept.and_then(|value| value.to_str().ok());
    let encoding = choose(accept.unwrap_or_default(), Offered::PROTOBUF);
    let pretty = wants_pretty(request.uri().query(), request.headers());
    let mut response = next.run(request).await;
    let Some(forms) = response.extensions_mut().remove::<OtherForms>() else {
        return response;
    };
    let (body, content_type) = match (encoding, pretty) {
        (Some(Encoding::Protobuf), _) => (forms.protobuf, protobuf::MEDIA_TYPE),
        (_, true) => (forms.pretty, "application/json"),
        (_, false) => return response,
    };
    *response.body_mut() = Body::from(body);
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
