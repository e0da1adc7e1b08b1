//! What each request was and what became of it: counted, and written to the audit log where there is one.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use tokio::time::Instant;

use super::audit::{Audit, Line};
use super::metrics::{InFlight, Refusal, ServerMetrics};
use crate::api::OldestSample;
use crate::auth::{RequestAttributes, User};
use crate::model::time::Timestamp;

struct Observer {
    metrics: ServerMetrics,
    audit: Option<Audit>,
}

/// The router, every request of which is counted, refused ones too. To be applied last of all.
pub fn observed(router: Router, metrics: &ServerMetrics, audit: Option<Audit>) -> Router {
    let observer = Arc::new(Observer {
        metrics: metrics.clone(),
        audit,
    });
    router.layer(middleware::from_fn_with_state(observer, observe))
}

/// What is known of a request; the rooms inside find it in the request's extensions, and write who it was.
pub(super) struct Seen {
    pub(super) attributes: RequestAttributes,
    caller: OnceLock<Caller>,
}

struct Caller {
    name: String,
    groups: usize,
}

impl Seen {
    pub(super) fn of(request: &Request<Body>) -> Self {
        Self {
            attributes: RequestAttributes::of(request.method(), request.uri()),
            caller: OnceLock::new(),
        }
    }

    pub(super) fn is_of(&self, user: &User) {
        let _ = self.caller.set(Caller {
            name: user.name.clone(),
            groups: user.groups.len(),
        });
    }
}

async fn observe(
    State(observer): State<Arc<Observer>>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let seen = Arc::new(Seen::of(&request));
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let mut observation = Observation {
        asked: observer.audit.as_ref().map(|_| Asked {
            peer: peer.map(|peer| peer.0),
            accept: text(request.headers(), &ACCEPT),
        }),
        _in_flight: observer.metrics.enter(),
        observer,
        seen: Arc::clone(&seen),
        begun: Instant::now(),
        answered: None,
    };
    request.extensions_mut().insert(seen);
    let response = next.run(request).await;
    let oldest = response.extensions().get::<OldestSample>();
    observation.answered = Some(Answered {
        code: response.status().as_u16(),
        content_type: text(response.headers(), &CONTENT_TYPE),
        oldest: oldest.map(|it| it.0),
    });
    response
}

/// One request; it is reported when dropped, so that one which its client does not wait for is reported too.
struct Observation {
    observer: Arc<Observer>,
    seen: Arc<Seen>,
    asked: Option<Asked>,
    begun: Instant,
    answered: Option<Answered>,
    _in_flight: InFlight,
}

/// What only the audit log tells.
struct Asked {
    peer: Option<SocketAddr>,
    accept: String,
}

struct Answered {
    code: u16,
    content_type: String,
    oldest: Option<Timestamp>,
}

impl Drop for Observation {
    fn drop(&mut self) {
        let (now, duration) = (Timestamp::now(), self.begun.elapsed());
        let Observer { metrics, audit } = &*self.observer;
        let oldest = self.answered.as_ref().and_then(|it| it.oldest);
        let age = oldest.map(|oldest| now.since(oldest));
        match &self.answered {
            Some(it) => metrics.answered(&self.seen.attributes, it.code, duration, age),
            None => metrics.count(Refusal::Abandoned),
        }
        if let (Some(audit), Some(asked)) = (audit, &self.asked) {
            let caller = self.seen.caller.get();
            let answered = self.answered.as_ref();
            audit.write(&Line {
                time: now,
                peer: asked.peer,
                user: caller.map(|it| it.name.as_str()),
                groups: caller.map_or(0, |it| it.groups),
                attributes: &self.seen.attributes,
                asked: &asked.accept,
                code: answered.map(|it| it.code),
                answered: answered.map(|it| it.content_type.as_str()),
                age,
                duration,
            });
        }
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}
