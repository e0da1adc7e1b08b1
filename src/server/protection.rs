//! What keeps one request, or many, from harming the others.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::{Router, response::Response};
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;

use super::metrics::{Refusal, ServerMetrics};
use crate::api::status::{Details, failure, negotiated};
use crate::auth::HEALTH_PATHS;

/// Bounds on requests.
#[derive(Clone, Debug)]
pub struct Protection {
    /// Requests that may be worked on at a time; more get 429. Health probes are let through.
    pub in_flight: usize,
    /// How long a request may take until its response begins.
    pub deadline: Duration,
    /// The longest path and query, in bytes.
    pub uri_bytes: usize,
    /// The largest request body, in bytes.
    pub body_bytes: usize,
}

impl Default for Protection {
    fn default() -> Self {
        Self {
            in_flight: 512,
            deadline: Duration::from_secs(30),
            uri_bytes: 32 * 1024,
            body_bytes: 64 * 1024,
        }
    }
}

struct Gate {
    bounds: Protection,
    slots: Semaphore,
    metrics: ServerMetrics,
}

/// The router behind the bounds. To be applied last, so that nothing is outside of them.
pub fn protected(router: Router, bounds: Protection, metrics: &ServerMetrics) -> Router {
    let panics = metrics.clone();
    let on_panic = move |panic: Box<dyn Any + Send>| {
        panics.count(Refusal::Panic);
        let said = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!(
            panic = said.unwrap_or("not text"),
            "request handler panicked"
        );
        internal_error("the handler of this request failed")
    };
    let body_limit = RequestBodyLimitLayer::new(bounds.body_bytes);
    let gate = Arc::new(Gate {
        slots: Semaphore::new(bounds.in_flight),
        bounds,
        metrics: metrics.clone(),
    });
    router
        .layer(body_limit)
        .layer(CatchPanicLayer::custom(on_panic))
        .layer(middleware::from_fn_with_state(gate, admit))
        .layer(middleware::from_fn(negotiated))
}

/// A 500 whose cause stays in the log.
pub(super) fn internal_error(public: &str) -> Response {
    failure(
        StatusCode::INTERNAL_SERVER_ERROR,
        "InternalError",
        &format!("Internal error occurred: {public}"),
        Some(Details::default()),
    )
}

async fn admit(State(gate): State<Arc<Gate>>, request: Request<Body>, next: Next) -> Response {
    let Gate {
        bounds,
        slots,
        metrics,
    } = &*gate;
    let refuse = |refusal, code, reason, message: &str| {
        metrics.count(refusal);
        failure(code, reason, message, Some(Details::default()))
    };
    let target = request.uri().path_and_query();
    if target.is_some_and(|target| target.as_str().len() > bounds.uri_bytes) {
        let message = format!(
            "the request URI passed the limit of {} bytes",
            bounds.uri_bytes
        );
        return refuse(Refusal::UriLength, StatusCode::URI_TOO_LONG, "", &message);
    }
    if announced_length(&request).is_some_and(|length| length > bounds.body_bytes as u64) {
        let message = format!("limit is {}", bounds.body_bytes);
        let code = StatusCode::PAYLOAD_TOO_LARGE;
        return refuse(Refusal::BodySize, code, "RequestEntityTooLarge", &message);
    }
    let _slot = match slots.try_acquire() {
        Ok(slot) => Some(slot),
        // A probe that fails under load would have the kubelet kill the one who bears the load.
        Err(_) if HEALTH_PATHS.contains(&request.uri().path()) => None,
        Err(_) => {
            let message = "too many requests, please try again later";
            let code = StatusCode::TOO_MANY_REQUESTS;
            return refuse(Refusal::InFlight, code, "TooManyRequests", message);
        }
    };
    match tokio::time::timeout(bounds.deadline, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!(
                "Timeout: request did not complete within {:?}",
                bounds.deadline
            );
            refuse(
                Refusal::Deadline,
                StatusCode::GATEWAY_TIMEOUT,
                "Timeout",
                &message,
            )
        }
    }
}

fn announced_length(request: &Request<Body>) -> Option<u64> {
    request
        .headers()
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use axum::routing::get;
    use tokio::sync::Notify;
    use tower::ServiceExt;

    use super::*;

    fn request(uri: &str) -> Request<Body> {
        Request::get(uri).body(Body::empty()).unwrap()
    }

    async fn text(response: Response) -> (u16, String) {
        assert!(!response.headers().contains_key(http::header::RETRY_AFTER));
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 4096)
            .await
            .unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_request_that_is_one_too_many_gets_429_and_a_probe_does_not() {
        let metrics = ServerMetrics::default();
        let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let busy = {
            let (entered, release) = (entered.clone(), release.clone());
            get(async move || {
                entered.notify_one();
                release.notified().await;
            })
        };
        let router = Router::new()
            .route("/busy", busy)
            .route("/readyz", get(async || "ok"));
        let bounds = Protection {
            in_flight: 1,
            ..Protection::default()
        };
        let router = protected(router, bounds, &metrics);
        let first = tokio::spawn(router.clone().oneshot(request("/busy")));
        entered.notified().await;
        let second = router.clone().oneshot(request("/busy")).await.unwrap();
        assert_eq!(
            text(second).await,
            (
                429,
                concat!(
                    r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
                    r#""message":"too many requests, please try again later","reason":"TooManyRequests","details":{},"code":429}"#,
                    "\n"
                )
                .to_owned()
            )
        );
        let probe = router.clone().oneshot(request("/readyz")).await.unwrap();
        assert_eq!(text(probe).await.0, 200);
        release.notify_one();
        assert_eq!(first.await.unwrap().unwrap().status(), 200);
        assert_eq!(metrics.refused(Refusal::InFlight), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_ends_at_its_deadline() {
        let metrics = ServerMetrics::default();
        let router = Router::new().route("/", get(std::future::pending::<()>));
        let router = protected(router, Protection::default(), &metrics);
        let (status, body) = text(router.oneshot(request("/")).await.unwrap()).await;
        assert_eq!(status, 504);
        assert!(
            body.contains("request did not complete within 30s"),
            "{body}"
        );
        assert_eq!(metrics.refused(Refusal::Deadline), 1);
    }

    #[tokio::test]
    async fn a_panic_is_a_500_that_says_nothing_of_the_inside() {
        async fn panics() {
            panic!("secret detail");
        }
        let metrics = ServerMetrics::default();
        let router = Router::new().route("/", get(panics));
        let router = protected(router, Protection::default(), &metrics);
        let (status, body) = text(router.oneshot(request("/")).await.unwrap()).await;
        assert_eq!(status, 500);
        assert!(
            body.contains("InternalError") && !body.contains("secret"),
            "{body}"
        );
        assert_eq!(metrics.refused(Refusal::Panic), 1);
    }

    #[tokio::test]
    async fn long_uris_and_large_bodies_are_refused() {
        let metrics = ServerMetrics::default();
        let router = Router::new().route("/", get(async || ()).post(async |_: String| ()));
        let bounds = Protection {
            uri_bytes: 16,
            body_bytes: 16,
            ..Protection::default()
        };
        let router = protected(router, bounds, &metrics);
        let ask = async |request| text(router.clone().oneshot(request).await.unwrap()).await.0;
        assert_eq!(ask(request("/?long=enough123")).await, 200);
        assert_eq!(ask(request("/?long=enough1234")).await, 414);
        let post = |body: Body| Request::post("/").body(body).unwrap();
        let mut announced = post(Body::from("x".repeat(17)));
        announced
            .headers_mut()
            .insert(CONTENT_LENGTH, http::HeaderValue::from_static("17"));
        assert_eq!(ask(announced).await, 413);
        let chunks = (0..17).map(|_| Ok::<_, std::io::Error>("x"));
        let unannounced = Body::from_stream(futures_util::stream::iter(chunks));
        assert_eq!(ask(post(unannounced)).await, 413);
        assert_eq!(ask(post(Body::from("x".repeat(16)))).await, 200);
    }
}
