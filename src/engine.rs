//! Where queries are answered: on the samples scraped here ([`embedded`]), or by a server elsewhere ([`prometheus`]).
//!
//! Everything above asks through the [`Engine`] trait and does not know which engine it is.

pub mod embedded;
pub mod prometheus;
pub mod query;
pub mod recorded;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;
use futures_util::future::BoxFuture;

use crate::model::freshness::Freshness;
use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::sample::Sample;
use crate::model::time::Timestamp;
pub use crate::promql::{Point, ResultType, Wanted};
pub use usage::Usage;

/// A query at one point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstantQuery {
    /// PromQL.
    pub text: String,
    /// The time it is asked for.
    pub at: Timestamp,
    /// The age past which a sample does not count; it takes the place of Prometheus's look-back.
    pub max_age: Duration,
}

/// The objects that an answer is wanted for, of those that a query gives values for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The label that names them.
    pub label: &'a str,
    /// Their names; none: all.
    pub names: &'a [&'a str],
}

/// A metric that some series have, and the names of the labels they have it with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesShape {
    /// The metric's name.
    pub metric: ArcStr,
    /// The names of the labels, sorted, without `__name__`.
    pub labels: Vec<ArcStr>,
}

/// What stands behind an answer, or is in its way: what a user needs to read when there is no value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// Whether the query's selectors match any series at all, however old.
    pub matched: bool,
    /// The sources of the series that match; where none match, the sources that are down.
    pub sources: Vec<Source>,
    /// How many sources the engine has in all.
    pub known_sources: usize,
}

/// Where series come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What it is, such as `target http://10.0.0.7:9400/metrics (pod monitoring/dcgm-exporter-x2x4f)`.
    pub description: String,
    /// The newest sample among the series that match.
    pub newest: Option<Timestamp>,
    /// Since when it gives none, and why.
    pub down: Option<(Timestamp, String)>,
}

/// Why a query has no answer, as opposed to an empty one.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The query itself is at fault; asking again does not help.
    #[error(transparent)]
    Query(#[from] crate::promql::QueryError),
    /// The query cannot be answered with the samples that there are, or would take too much.
    #[error(transparent)]
    Evaluation(#[from] crate::promql::EvalError),
    /// The backend does not answer, or with something else than data.
    #[error(transparent)]
    Backend(#[from] prometheus::BackendError),
}

/// Answers queries.
pub trait Engine: Send + Sync {
    /// What users call it: `embedded`, or a backend's name.
    fn name(&self) -> &str;

    /// Whether this query can be answered at all, by an instant vector, or (`Scalar`) by that or a number; asked when rules
    /// are loaded.
    ///
    /// # Errors
    /// Where it is wrong, or needs what this engine does not have.
    fn check(&self, query: &str, wanted: ResultType) -> Result<(), EngineError>;

    /// Whether this series selector can be looked up at all; asked when rules are loaded.
    ///
    /// # Errors
    /// Where it is not one.
    fn check_selector(&self, selector: &str) -> Result<(), EngineError>;

    /// The instant vector of a query; a number is one point without labels.
    fn query<'a>(
        &'a self,
        query: &'a InstantQuery,
    ) -> BoxFuture<'a, Result<Vec<Point>, EngineError>>;

    /// Has the samples brought up to date that this query reads for these objects, as far as that can be done. The future,
    /// if there is anything to wait for, gives the time of the latest scrape waited for. An engine that cannot does nothing.
    fn freshen(
        &self,
        query: &InstantQuery,
        wanted: Asked<'_>,
        freshness: Freshness,
    ) -> Option<BoxFuture<'static, Option<Timestamp>>> {
        let _ = (query, wanted, freshness);
        None
    }

    /// Which metrics there are among the series that `selector` matches, each with the label names it comes with. It may be
    /// what was known a moment ago, and is then the same `Arc`; `anew`: somebody waits for a metric that is not known yet.
    fn series<'a>(
        &'a self,
        selector: &'a str,
        anew: bool,
    ) -> BoxFuture<'a, Result<Arc<[SeriesShape]>, EngineError>>;

    /// What is behind this query's series; asked only when values are missing.
    fn diagnose<'a>(&'a self, query: &'a InstantQuery) -> BoxFuture<'a, Diagnosis>;

    /// A number that changes when series appear or go; `None` where the engine cannot tell.
    fn generation(&self) -> Option<u64>;

    /// How it is used; nothing where it does not count.
    fn usage(&self) -> Usage {
        Usage::default()
    }
}

/// Samples as they were scraped, each with its own time and of a target that is known: for what PromQL does not tell apart.
pub trait Scraped: Send + Sync {
    /// Calls `visit` with each series that a target of `job` shows and that meets all `matchers`: its labels, and those of its
    /// samples that are wanted, oldest first. A stale marker among them ends what is before it.
    ///
    /// The job is that of the target, not a label: no page can claim it.
    fn visit_job(
        &self,
        job: &str,
        matchers: &[Matcher],
        wanted: Wanted,
        visit: &mut dyn FnMut(&Labels, &[Sample]),
    );

    /// The targets of `job`.
    fn targets_of(&self, job: &str) -> Vec<ScrapedTarget>;
}

/// A target, and how scraping it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapedTarget {
    /// The Kubernetes object behind it where there is one, such as `node gpu-1`.
    pub object: Option<String>,
    /// Since when it gives no samples, and why.
    pub down: Option<(Timestamp, String)>,
}

/// The engines that rules choose from.
#[derive(Clone)]
pub struct Engines {
    embedded: Arc<dyn Engine>,
    backends: Vec<Arc<prometheus::Prometheus>>,
}

impl Engines {
    /// The engine inside and the backends, of which the first answers for whoever does not say.
    pub fn new(embedded: Arc<dyn Engine>, backends: Vec<Arc<prometheus::Prometheus>>) -> Self {
        Self { embedded, backends }
    }

    /// The engine of this name. A name that there is none of was found when the configuration was compiled.
    pub fn of(&self, name: Option<&str>) -> &dyn Engine {
        let backend = match name {
            None => self.backends.first(),
            Some(name) => self.backends.iter().find(|it| it.name() == name),
        };
        match backend {
            Some(backend) => backend.as_ref(),
            None => self.embedded.as_ref(),
        }
    }

    /// The engine of those who do not say.
    pub fn first(&self) -> Arc<dyn Engine> {
        match self.backends.first() {
            Some(backend) => Arc::clone(backend) as _,
            None => Arc::clone(&self.embedded),
        }
    }

    /// The backends, in their order.
    pub fn backends(&self) -> &[Arc<prometheus::Prometheus>] {
        &self.backends
    }

    /// How each of them is used, by its name; the one inside comes first.
    pub fn usage(&self) -> Vec<(String, Usage)> {
        let backends = self.backends.iter().map(|it| it.as_ref() as &dyn Engine);
        std::iter::once(self.embedded.as_ref())
            .chain(backends)
            .map(|engine| (engine.name().to_owned(), engine.usage()))
            .collect()
    }
}
