//! The engine over a server with Prometheus's HTTP API: Prometheus itself, Thanos, Mimir, VictoriaMetrics.
//!
//! A query is sent once for all who ask the same within a freshness interval. What is wrong with a server is kept with its
//! replica, and told to whoever gets no answer.

mod answer;
mod body;
mod error;
mod lookups;
mod replica;
mod replicas;
mod token;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use moka::future::Cache;
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{self, Expr};

use crate::config::prometheus::Backend;
use crate::model;
use crate::model::labels::METRIC_NAME;
use crate::model::time::Timestamp;
use crate::promql::QueryError;

use super::embedded::selectors;
use super::usage::{Queries, Usage};
use super::{Diagnosis, Engine, EngineError, InstantQuery, Point, ResultType, SeriesShape, Source};
use answer::QueryData;
pub use error::{BackendError, Fault, ReplicaFault};
use lookups::{Lookups, seconds};
use replicas::{Question, Replicas};

/// Most memory for answers that may be asked for again, in bytes.
const ANSWERS_BYTES: u64 = 32 << 20;

/// About how much memory a point takes, with a few labels.
const POINT_BYTES: usize = 256;

type Answers = Cache<(String, Duration), Arc<[Point]>>;

/// PromQL over one backend.
pub struct Prometheus {
    config: Backend,
    fresh_within: Duration,
    replicas: Arc<Replicas>,
    queries: Queries,
    answers: Answers,
    answer_lookups: model::lookups::Lookups,
    lookups: Lookups,
}

impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prometheus")
            .field("name", &self.config.name)
            .finish_non_exhaustive()
    }
}

impl Prometheus {
    /// An engine that asks `config`, and answers again for `fresh_within` what it was told.
    pub fn new(config: Backend, fresh_within: Duration) -> Self {
        let weight = |(text, _): &(String, Duration), points: &Arc<[Point]>| {
            u32::try_from(text.len() + points.len() * POINT_BYTES).unwrap_or(u32::MAX)
        };
        let Backend {
            series_interval,
            series_max_age,
            series_timeout,
            ..
        } = config;
        Self {
            replicas: Arc::new(Replicas::new(&config)),
            queries: Queries::default(),
            answer_lookups: model::lookups::Lookups::default(),
            answers: Cache::builder()
                .weigher(weight)
                .max_capacity(ANSWERS_BYTES)
                // Zero keeps none; those who ask at the same time share one all the same.
                .time_to_live(fresh_within)
                .build(),
            lookups: Lookups::new(series_interval, series_max_age, series_timeout),
            config,
            fresh_within,
        }
    }

    /// Whether it was made from this.
    pub fn is_of(&self, config: &Backend, fresh_within: Duration) -> bool {
        self.config == *config && self.fresh_within == fresh_within
    }

    /// Its name.
    pub fn backend(&self) -> &str {
        &self.config.name
    }

    /// The servers, and how they are doing.
    pub fn replicas(&self) -> Vec<Source> {
        let source = |replica: &replica::Replica| Source {
            description: format!("backend {} at {}", self.config.name, replica.shown()),
            newest: None,
            down: replica
                .down()
                .map(|(since, fault)| (since, fault.to_string())),
        };
        self.replicas.all().iter().map(source).collect()
    }

    /// How many requests were sent.
    pub fn requests(&self) -> u64 {
        self.replicas
            .sent
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    async fn ask(&self, query: &InstantQuery) -> Result<Arc<[Point]>, BackendError> {
        let time = seconds(query.at);
        let lookback = seconds(Timestamp::from_millis(0).plus(query.max_age));
        let timeout = seconds(Timestamp::from_millis(0).plus(self.config.timeout));
        let question = Question {
            path: "api/v1/query",
            parameters: vec![
                ("query", &query.text),
                ("time", &time),
                ("timeout", &timeout),
                // Prometheus, Thanos and Mimir; then VictoriaMetrics.
                ("lookback_delta", &lookback),
                ("max_lookback", &lookback),
                // VictoriaMetrics answers for half a minute ago unless it is told not to.
                ("nocache", "1"),
                // Thanos, then VictoriaMetrics: rather no answer than sums of what is at hand.
                ("partial_response", "false"),
                ("deny_partial_response", "1"),
            ],
            budget: self.config.timeout,
            limit: self.config.body_size_limit,
        };
        let data: QueryData = self.replicas.query(&question).await?;
        let points = data
            .points(query.at)
            .map_err(|fault| self.replicas.error(&fault))?;
        Ok(points.into())
    }

    /// Whether the last lookup of any rule's series saw one that this query reads.
    fn matches(&self, query: &str) -> bool {
        let Some(selectors) = selectors(query) else {
            // What cannot be read here may well be there.
            return true;
        };
        selectors.iter().any(|matchers| {
            let of_name: Vec<_> = matchers
                .iter()
                .filter(|matcher| matcher.name == METRIC_NAME)
                .collect();
            self.lookups
                .any(|shape| of_name.iter().all(|matcher| matcher.matches(&shape.metric)))
        })
    }
}

impl Engine for Prometheus {
    fn name(&self) -> &str {
        &self.config.name
    }

    /// What cannot be parsed here is left to the server, which may know more than Prometheus does.
    fn check(&self, query: &str, wanted: ResultType) -> Result<(), EngineError> {
        let Ok(expr) = parser::parse(query) else {
            return Ok(());
        };
        let fits = match expr.value_type() {
            ValueType::Vector => true,
            ValueType::Scalar => wanted == ResultType::Scalar,
            ValueType::Matrix | ValueType::String => false,
        };
        if fits {
            return Ok(());
        }
        Err(EngineError::from(QueryError::Type {
            query: query.to_owned(),
            reason: "an instant vector is needed here".to_owned(),
        }))
    }

    fn check_selector(&self, selector: &str) -> Result<(), EngineError> {
        match parser::parse(selector) {
            Ok(Expr::VectorSelector(_)) | Err(_) => Ok(()),
            Ok(_) => Err(EngineError::from(QueryError::Type {
                query: selector.to_owned(),
                reason: "a series selector is needed here".to_owned(),
            })),
        }
    }

    fn query<'a>(
        &'a self,
        query: &'a InstantQuery,
    ) -> BoxFuture<'a, Result<Vec<Point>, EngineError>> {
        async move {
            let key = (query.text.clone(), query.max_age);
            let answer = self.answers.entry(key);
            let answer = answer.or_try_insert_with(self.ask(query)).await;
            // Who shared an answer with others that asked at the same time was spared a request, too.
            let spared = answer.as_ref().is_ok_and(|it| !it.is_fresh());
            self.answer_lookups.count(spared);
            let answer = self.queries.count(answer);
            let answer = answer.map_err(|error| BackendError::clone(&error))?;
            Ok(answer.value().to_vec())
        }
        .boxed()
    }

    fn series<'a>(
        &'a self,
        selector: &'a str,
        anew: bool,
    ) -> BoxFuture<'a, Result<Arc<[SeriesShape]>, EngineError>> {
        let found = self.lookups.find(&self.replicas, selector, anew);
        found.map(|found| Ok(found?)).boxed()
    }

    fn diagnose<'a>(&'a self, query: &'a InstantQuery) -> BoxFuture<'a, Diagnosis> {
        let sources = self.replicas();
        ready(Diagnosis {
            matched: self.matches(&query.text),
            known_sources: sources.len(),
            sources,
        })
        .boxed()
    }

    fn generation(&self) -> Option<u64> {
        None
    }

    fn usage(&self) -> Usage {
        let answers = self.answers.entry_count();
        let answers = self.answer_lookups.of("answers", answers);
        self.queries.with_caches(vec![answers])
    }
}
