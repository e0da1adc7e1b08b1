//! The door: each request passes `auth` here, and goes on with a `User` instead of its credentials.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum_server::tls::TlsInfo;
use http::StatusCode;
use tracing::warn;

use super::metrics::{Refusal, ServerMetrics};
use super::observation::Seen;
use super::protection::internal_error;
use crate::api::status::{Details, failure};
use crate::auth::{
    Authenticator, AuthorizationError, Authorizer, Forbidden, RequestAttributes, User,
};
use crate::model::time::Timestamp;

/// How often at most a refusal is logged: clients repeat themselves, and the counters have them all.
const QUIET: Duration = Duration::from_secs(10);

struct Door {
    authenticator: Arc<Authenticator>,
    authorizer: Arc<Authorizer>,
    metrics: ServerMetrics,
    last_logged: AtomicI64,
}

/// The router behind authentication and authorization, unknown paths included.
///
/// Handlers find the [`User`] in the request's extensions; the headers that proved the identity are gone.
pub fn guarded(
    router: Router,
    authenticator: Arc<Authenticator>,
    authorizer: Arc<Authorizer>,
    metrics: &ServerMetrics,
) -> Router {
    let door = Arc::new(Door {
        authenticator,
        authorizer,
        metrics: metrics.clone(),
        last_logged: AtomicI64::new(i64::MIN),
    });
    router.layer(middleware::from_fn_with_state(door, pass))
}

async fn pass(State(door): State<Arc<Door>>, mut request: Request<Body>, next: Next) -> Response {
    let now = Timestamp::now();
    let seen = request.extensions_mut().remove::<Arc<Seen>>();
    let seen = seen.unwrap_or_else(|| Arc::new(Seen::of(&request)));
    match door.admit(&mut request, &seen, now).await {
        Ok(user) => {
            request.extensions_mut().insert(user);
            next.run(request).await
        }
        Err(refused) => *refused,
    }
}

impl Door {
    async fn admit(
        &self,
        request: &mut Request<Body>,
        seen: &Seen,
        now: Timestamp,
    ) -> Result<User, Box<Response>> {
        let tls = request.extensions().get::<Arc<TlsInfo>>().cloned();
        let chain = tls.as_deref().map_or(&[][..], |tls| &tls.peer_certificates);
        let user = self
            .authenticator
            .authenticate(chain, request.headers_mut(), now)
            .await
            .map_err(|error| {
                self.metrics.count(Refusal::Unauthenticated);
                if self.may_log(now) {
                    warn!(%error, path = request.uri().path(), "request not authenticated");
                }
                Box::new(unauthorized())
            })?;
        seen.is_of(&user);
        let permission = self
            .authorizer
            .authorize(&user, &seen.attributes, now)
            .await;
        permission.map(|()| user).map_err(|error| {
            Box::new(match error {
                AuthorizationError::Forbidden(refusal) => {
                    self.metrics.count(Refusal::Forbidden);
                    forbidden(&refusal)
                }
                AuthorizationError::Review(error) => {
                    self.metrics.count(Refusal::Review);
                    if self.may_log(now) {
                        let source = std::error::Error::source(&*error);
                        warn!(%error, source, "access could not be reviewed, request refused");
                    }
                    internal_error("the kube-apiserver could not be asked whether this is allowed")
                }
            })
        })
    }

    fn may_log(&self, now: Timestamp) -> bool {
        let last = self.last_logged.load(Ordering::Relaxed);
        let due = last == i64::MIN || now.since(Timestamp::from_millis(last)) >= QUIET;
        due && self
            .last_logged
            .compare_exchange(last, now.as_millis(), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

fn unauthorized() -> Response {
    failure(
        StatusCode::UNAUTHORIZED,
        "Unauthorized",
        "Unauthorized",
        None,
    )
}

fn forbidden(refusal: &Forbidden) -> Response {
    let details = match &refusal.attributes {
        RequestAttributes::Resource {
            name,
            group,
            resource,
            ..
        } => Details {
            name,
            group,
            kind: resource,
        },
        RequestAttributes::NonResource { .. } => Details::default(),
    };
    let message = refusal.to_string();
    failure(StatusCode::FORBIDDEN, "Forbidden", &message, Some(details))
}
