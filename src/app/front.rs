//! What listens: the API behind authentication, authorization and its bounds.

use std::sync::Arc;

use crate::api::{self, Api, Check, Discovery, Health};
use crate::auth::{Authenticator, Authorizer};
use crate::model::time::Timestamp;
use crate::server::{self, Listen, Protection, Running, ServeError};
use crate::telemetry::OwnMetrics;

use super::Core;

/// What the API is opened with.
pub struct Front {
    /// Where, with which certificate.
    pub listen: Listen,
    /// Who is asking.
    pub authenticator: Arc<Authenticator>,
    /// May they.
    pub authorizer: Arc<Authorizer>,
    /// What readiness depends on, besides that the server is not draining.
    pub checks: Vec<Check>,
}

/// Opens the API of `core`.
///
/// # Errors
/// Where the address cannot be taken.
pub async fn open(core: &Core, front: Front) -> Result<Running, ServeError> {
    let Front {
        listen,
        authenticator,
        authorizer,
        mut checks,
    } = front;
    let draining = listen.draining.clone();
    let not_draining = move || {
        if draining.is_cancelled() {
            Err("shutting down".to_owned())
        } else {
            Ok(())
        }
    };
    checks.insert(
        0,
        Check {
            name: "shutdown",
            test: Box::new(not_draining),
        },
    );
    let metrics = listen.metrics.clone();
    let own = OwnMetrics::new(
        Arc::clone(&core.statistics),
        Arc::clone(&core.store),
        Arc::clone(&core.provider),
        |registry| metrics.register(registry.sub_registry_with_prefix("server")),
    );
    let router = api::router(Arc::new(Api {
        provider: Arc::clone(&core.provider),
        health: Health::new(checks),
        own_metrics: Box::new(move || own.text()),
        now: Timestamp::now,
        discovery: Discovery::default(),
    }));
    let guarded = server::guarded(router, authenticator, authorizer, &metrics);
    server::serve(
        listen,
        server::protected(guarded, Protection::default(), &metrics),
    )
    .await
}
