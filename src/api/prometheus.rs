//! The read part of Prometheus's HTTP API (`web/api/v1/api.go`) over the samples held here, for people and their tools:
//! curl, Grafana's Prometheus data source, promtool.
//!
//! The HPA's answers come first: a question is worked on away from the threads that answer the HPA, few at a time.
//!
//! To Kubernetes these are paths that are no resources. A user may ask by a ClusterRole with `nonResourceURLs:
//! ["/api/v1/*"]` and `verbs: [get, post]`; it lets them read the metrics of all namespaces.

mod answer;
mod endpoint;
mod parameters;
mod questions;
mod values;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{Method, Request, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::engine::query::QueryService;
use crate::model::time::Timestamp;

use super::path::{self, Target};
use answer::{Answer, Refused};
pub(super) use endpoint::Endpoint;
use parameters::Parameters;

/// Bounds on what is asked.
#[derive(Clone, Debug)]
pub struct QueryLimits {
    /// How long an answer may take, waiting included; less where the request says so.
    pub timeout: Duration,
    /// Most samples of one query that may be in memory at a time.
    pub samples: usize,
    /// Questions that are worked on at a time.
    pub running: usize,
    /// Questions that may wait for that; more are refused.
    pub waiting: usize,
}

/// 25 s, so that what takes longer is told so before the request's own deadline of 30 s; 5,000,000 samples (80 MB), two at a
/// time; 30 that wait.
impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(25),
            samples: 5_000_000,
            running: 2,
            waiting: 30,
        }
    }
}

/// What the Prometheus API answers from.
#[derive(Debug)]
pub struct QueryApi {
    service: Arc<QueryService>,
    limits: QueryLimits,
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    questions: Family<Labels, Counter>,
}

/// What became of a question: `success`, or the kind of its error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

impl QueryApi {
    /// The API over `service`, within `limits`.
    pub fn new(service: Arc<QueryService>, limits: QueryLimits) -> Self {
        Self {
            service,
            places: Arc::new(Semaphore::new(limits.running + limits.waiting)),
            turns: Arc::new(Semaphore::new(limits.running)),
            limits,
            questions: Family::default(),
        }
    }

    /// Registers the counter of what was asked.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Questions to the query API";
        registry.register("queries", help, self.questions.clone());
    }

    /// Waits for its turn and answers on a thread of its own.
    async fn answer(
        &self,
        endpoint: Endpoint,
        parameters: Parameters,
        now: Timestamp,
    ) -> Result<Answer, Refused> {
        let question = questions::Question::new(endpoint, &parameters, now)?;
        let timeout = self.limits.timeout.min(question.timeout());
        let deadline = Instant::now() + timeout;
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Refused::too_many())?;
        let turn = tokio::time::timeout(timeout, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn
            .map_err(|_| Refused::timed_out("query queue"))?
            .map_err(|_| Refused::internal())?;
        let (service, samples) = (Arc::clone(&self.service), self.limits.samples);
        // A client that goes away does not end the work; its turn is over when the work is.
        let work = move || {
            let _held: [OwnedSemaphorePermit; 2] = [place, turn];
            question.answer(&service, samples, deadline)
        };
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| {
                tracing::error!(%error, "a query has panicked");
                Err(Refused::internal())
            })
    }
}

/// The API alone, as [`super::router`] has it among others; time stands still at `now`.
pub fn router(queries: Arc<QueryApi>, now: Timestamp) -> Router {
    let handle = move |State(queries): State<Arc<QueryApi>>, request: Request<Body>| async move {
        let target = path::parse(request.uri().path());
        let endpoint = match target {
            Ok(Target::Prometheus(endpoint)) => endpoint,
            _ => Endpoint::Unknown,
        };
        respond(&queries, endpoint, request, now).await
    };
    Router::new().fallback(handle).with_state(queries)
}

pub(super) async fn respond(
    queries: &QueryApi,
    endpoint: Endpoint,
    request: Request<Body>,
    now: Timestamp,
) -> Response {
    let known = !matches!(endpoint, Endpoint::Unknown);
    let form = endpoint.takes_forms();
    let method = request.method();
    if known && method != Method::GET && !(form && method == Method::POST) {
        let allowed = if form { "GET, POST" } else { "GET" };
        return answer::method_not_allowed(allowed);
    }
    let answered = match Parameters::read(request).await {
        Ok(parameters) => queries.answer(endpoint, parameters, now).await,
        Err(refused) => Err(refused),
    };
    let outcome = answered.as_ref().map_or_else(Refused::kind, |_| "success");
    queries.questions.get_or_create(&Labels { outcome }).inc();
    match answered {
        Ok(answer) => answer::respond(StatusCode::OK, answer.body()),
        Err(refused) => answer::respond(refused.code(), refused.body()),
    }
}
