//! The metric APIs, discovery, health, Prometheus's query API, and their errors, as an axum router.
//!
//! Discovery and health are answered from memory and wait for nothing: a group that does not answer blocks the deletion
//! of every namespace in the cluster. Who asks, and whether they may, is decided before a request gets here.

mod compression;
mod custom_metrics;
mod discovery;
mod document;
mod external_metrics;
mod health;
mod list;
mod negotiation;
mod openapi;
mod parameters;
mod path;
pub mod prometheus;
mod protobuf;
mod refusal;
mod resource_metrics;
pub mod status;
mod version;

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::middleware::from_fn;
use axum::response::Response;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, StatusCode};
use serde::{Serialize, Serializer};

use crate::auth::User;
use crate::fallback::{Fallback, PASSED_ON};
use crate::model::time::Timestamp;
use crate::provider::Provider;
use crate::provider::resources::ResourceMetrics;

pub use health::{Check, Health, Note};
use negotiation::{Encoding, Offered, wants_pretty};
use path::Target;
use prometheus::QueryApi;
use status::{Details, failure};

/// What the API answers from.
pub struct Api {
    /// Metric values and the catalog of what is offered.
    pub provider: Arc<Provider>,
    /// Where external metrics are had from that no rule offers, if there is such a place.
    pub fallback: Option<Arc<Fallback>>,
    /// CPU and memory of pods and nodes, where `metrics.k8s.io` is served.
    pub resources: Option<Arc<ResourceMetrics>>,
    /// Prometheus's API.
    pub queries: Arc<QueryApi>,
    /// What `/livez` and `/readyz` check.
    pub health: Health,
    /// The process's own metrics in OpenMetrics text.
    pub own_metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// The clock.
    pub now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    /// Discovery documents made from the catalog.
    pub discovery: Discovery,
}

pub use discovery::Discovery;

/// All paths of the API. They are told apart by [`path::Target`], on the segments as decoded: the HPA's `*` arrives as `%2A`.
pub fn router(api: Arc<Api>) -> Router {
    let compressed = from_fn(compression::compressed);
    Router::new()
        .fallback(handle)
        .layer(compressed)
        .with_state(api)
}

/// What may be asked for debugging without proof of identity: Prometheus's API, the own metrics, health. It is to be served
/// on loopback only, and answers only who calls it by such a name: else any web page could have a browser ask it, under a
/// name of the page's own that resolves to loopback.
pub fn debug_router(api: Arc<Api>) -> Router {
    Router::new().fallback(handle_debug).with_state(api)
}

async fn handle_debug(State(api): State<Arc<Api>>, request: Request<Body>) -> Response {
    if !names_loopback(&request) {
        let message = "this port answers only under the names of loopback, such as localhost";
        return failure(StatusCode::FORBIDDEN, "Forbidden", message, None);
    }
    match path::parse(request.uri().path()) {
        Ok(Target::Prometheus(_) | Target::OwnMetrics | Target::Health(_)) => {
            handle(State(api), request).await
        }
        _ => {
            let message = "the server could not find the requested resource";
            failure(StatusCode::NOT_FOUND, "NotFound", message, None)
        }
    }
}

/// Whether the host that the client called is `localhost` or an address of loopback.
fn names_loopback(request: &Request<Body>) -> bool {
    let header = request.headers().get(HOST);
    let host = match header.map(|value| value.to_str()) {
        Some(Ok(host)) => host.parse::<Authority>().ok(),
        Some(Err(_)) => None,
        // HTTP/2 has it in the URI.
        None => request.uri().authority().cloned(),
    };
    let Some(host) = host else { return false };
    let name = host.host().trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

async fn handle(State(api): State<Arc<Api>>, request: Request<Body>) -> Response {
    let target = match path::parse(request.uri().path()) {
        Ok(Target::Prometheus(endpoint)) => {
            return prometheus::respond(&api.queries, endpoint, request, (api.now)()).await;
        }
        target => target,
    };
    let method = request.method();
    if method != Method::GET && method != Method::HEAD {
        let message =
            format!("the server does not allow the method {method} on the requested resource");
        let mut response = failure(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            &message,
            None,
        );
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let uri = request.uri();
    let target = match target {
        Ok(target) => target,
        Err(error) => return bad_request(&error.to_string()),
    };
    let reply = Reply {
        accept: request
            .headers()
            .get(ACCEPT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default(),
        pretty: wants_pretty(uri.query(), request.headers()),
    };
    match target {
        Target::Health(probe) => health::respond(&api.health, probe, uri.query()),
        Target::OwnMetrics => own_metrics(&api),
        Target::Version => reply.json(StatusCode::OK, &version::info()),
        Target::Groups | Target::Group(_) | Target::GroupVersion(_) | Target::Paths => {
            discovery::respond(&api, &target, &reply, request.headers())
        }
        Target::OpenApi(path) => {
            discovery::openapi(&api, path, uri.query(), &reply, request.headers())
        }
        Target::CustomMetrics { version, question } => {
            custom_metrics::respond(&api, version, &question, uri.query(), &reply).await
        }
        Target::ExternalMetric { namespace, metric } => {
            let asked = external_metrics::Asked {
                namespace: &namespace,
                metric: &metric,
                query: uri.query(),
                caller: request.extensions().get::<User>(),
                passed_on: request.headers().contains_key(PASSED_ON),
            };
            external_metrics::respond(&api, &asked, &reply).await
        }
        Target::ResourceMetrics { version, question } => match &api.resources {
            Some(source) => {
                resource_metrics::respond(&api, source, version, &question, uri.query(), &reply)
                    .await
            }
            None => not_found(),
        },
        Target::BadMetricPath => bad_request("invalid request path"),
        Target::Prometheus(_) | Target::Unknown => not_found(),
    }
}

fn not_found() -> Response {
    let message = "the server could not find the requested resource";
    let details = Some(Details::default());
    failure(StatusCode::NOT_FOUND, "NotFound", message, details)
}

/// In the extensions of a response: the time of the oldest sample in it.
#[derive(Clone, Copy, Debug)]
pub struct OldestSample(pub Timestamp);

/// The response, with the oldest of these times noted.
fn dated(mut response: Response, times: impl Iterator<Item = Timestamp>) -> Response {
    if let Some(oldest) = times.min() {
        response.extensions_mut().insert(OldestSample(oldest));
    }
    response
}

/// How the client wants its answer.
struct Reply<'a> {
    accept: &'a str,
    pretty: bool,
}

impl Reply<'_> {
    /// The object as JSON, or 406 where the client takes none.
    fn json(&self, code: StatusCode, object: &impl Serialize) -> Response {
        match negotiation::choose(self.accept, Offered::JSON) {
            Some(_) => json(code, object, self.pretty),
            None => not_acceptable(Offered::JSON),
        }
    }

    /// The object as JSON, or as what `protobuf` makes; 406 where the client takes neither.
    fn json_or(
        &self,
        code: StatusCode,
        object: &impl Serialize,
        protobuf: impl FnOnce() -> Vec<u8>,
    ) -> Response {
        match negotiation::choose(self.accept, Offered::PROTOBUF) {
            Some(Encoding::Protobuf) => {
                let media_type = HeaderValue::from_static(protobuf::MEDIA_TYPE);
                respond(code, media_type, protobuf())
            }
            Some(_) => json(code, object, self.pretty),
            None => not_acceptable(Offered::PROTOBUF),
        }
    }
}

fn not_acceptable(offered: Offered) -> Response {
    let message = if offered.protobuf {
        "only the following media types are accepted: application/json, application/vnd.kubernetes.protobuf"
    } else {
        "only the following media types are accepted: application/json"
    };
    failure(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message, None)
}

fn bad_request(message: &str) -> Response {
    failure(StatusCode::BAD_REQUEST, "BadRequest", message, None)
}

/// A JSON body as Go's API servers write it: ended by a newline, not to be cached.
fn json(code: StatusCode, object: &impl Serialize, pretty: bool) -> Response {
    let encoded = if pretty {
        serde_json::to_vec_pretty(object)
    } else {
        serde_json::to_vec(object)
    };
    let mut body = encoded.expect("our own types have string keys and no failing serializers");
    body.push(b'\n');
    respond(code, HeaderValue::from_static("application/json"), body)
}

fn respond(code: StatusCode, content_type: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// For fields whose text is what `Display` gives.
fn as_text<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn own_metrics(api: &Api) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    respond(
        StatusCode::OK,
        HeaderValue::from_static(content_type),
        (api.own_metrics)(),
    )
}

#[cfg(test)]
mod tests;
