//! The engine over the samples that this process scraped.
//!
//! Queries are compiled once and kept; an evaluation reads the store and waits for nothing.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use moka::sync::Cache;

use crate::model::freshness::{Freshness, Refresher};
use crate::model::labels::Labels;
use crate::model::lookups::Lookups;
use crate::model::matcher::Matcher;
use crate::model::sample::Sample;
use crate::model::time::Timestamp;
use crate::promql::{self, Query, QueryError, ResultType, SeriesReader, Wanted};
use crate::store::{Samples, Store, TargetInfo, TargetStatus};

use super::usage::{Queries, Usage};
use super::{
    Asked, Diagnosis, Engine, EngineError, InstantQuery, Point, Scraped, ScrapedTarget,
    SeriesShape, Source,
};

/// Most memory for compiled queries, in bytes: one per rule, metric and namespace is the usual need, but texts come from
/// requests too.
const COMPILED_BYTES: u64 = 64 << 20;

/// About how many bytes a byte of a query's text becomes, without a regular expression in it and with one: classes of
/// Unicode characters are large.
const PLAIN_FACTOR: usize = 32;
const EXPRESSION_FACTOR: usize = 1500;

/// The most sources that a diagnosis names.
const NAMED_SOURCES: usize = 3;

/// Most memory for what is known of the targets behind questions, in bytes.
const BEHIND_BYTES: u64 = 16 << 20;

/// Up to how many objects the targets behind them are looked up one by one; for more, all targets behind the query count.
const SINGLE_OBJECTS: usize = 64;

/// How far back this query looks, ranges, offsets and subqueries together; nothing where it cannot be compiled. The store
/// must keep samples as long.
pub fn longest_range(query: &str) -> Duration {
    Query::compile(query).map_or(Duration::ZERO, |query| query.longest_range())
}

pub use crate::promql::parse_selector;

/// The matchers of each selector of a query; `None` where the embedded engine does not evaluate it.
pub fn selectors(query: &str) -> Option<Vec<Vec<Matcher>>> {
    let query = Query::compile(query).ok()?;
    Some(
        query
            .selectors()
            .into_iter()
            .map(<[Matcher]>::to_vec)
            .collect(),
    )
}

/// PromQL over the store.
#[derive(Debug)]
pub struct Embedded {
    store: Arc<Store>,
    queries: Queries,
    compiled: Cache<String, Arc<Query>>,
    compiled_lookups: Lookups,
    refresher: Option<Arc<dyn Refresher>>,
    /// The targets behind a question, by the question's hash: should two ever share one, a target is asked for too many.
    behind: Cache<u64, Arc<Behind>>,
    behind_lookups: Lookups,
    hashes: RandomState,
}

/// The targets behind a question, as long as no series appears or goes.
#[derive(Debug)]
struct Behind {
    generation: u64,
    targets: Box<[u64]>,
}

#[expect(clippy::ptr_arg, reason = "the cache hands out its own key type")]
fn weight(text: &String, _: &Arc<Query>) -> u32 {
    let factor = if text.contains("=~") || text.contains("!~") {
        EXPRESSION_FACTOR
    } else {
        PLAIN_FACTOR
    };
    u32::try_from(text.len() * factor).unwrap_or(u32::MAX)
}

impl Embedded {
    /// An engine that reads `store`.
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            queries: Queries::default(),
            compiled: Cache::builder()
                .weigher(weight)
                .max_capacity(COMPILED_BYTES)
                .build(),
            compiled_lookups: Lookups::default(),
            refresher: None,
            behind: Cache::builder()
                .weigher(|_, behind: &Arc<Behind>| {
                    u32::try_from(128 + behind.targets.len() * 8).unwrap_or(u32::MAX)
                })
                .max_capacity(BEHIND_BYTES)
                .build(),
            behind_lookups: Lookups::default(),
            hashes: RandomState::new(),
        }
    }

    /// The same, and `refresher` brings the targets behind a query up to date where that is wanted.
    #[must_use]
    pub fn refreshed_by(mut self, refresher: Arc<dyn Refresher>) -> Self {
        self.refresher = Some(refresher);
        self
    }

    /// The targets whose samples this query reads for these objects.
    fn behind(&self, query: &InstantQuery, wanted: Asked<'_>) -> Option<Arc<Behind>> {
        let key = self
            .hashes
            .hash_one((&query.text, wanted.label, wanted.names));
        // Before the search: what changes meanwhile is then searched for again.
        let generation = self.store.generation();
        let known = self.behind.get(&key);
        let known = known.filter(|known| known.generation == generation);
        self.behind_lookups.count(known.is_some());
        if known.is_some() {
            return known;
        }
        let compiled = self.compiled(&query.text).ok()?;
        let mut targets = Vec::new();
        let mut search = |matchers: &[Matcher]| {
            targets.extend(self.store.origins(matchers).iter().map(|target| target.id));
        };
        for matchers in compiled.selectors() {
            if wanted.names.is_empty() || wanted.names.len() > SINGLE_OBJECTS {
                search(matchers);
                continue;
            }
            for name in wanted.names {
                let mut matchers = matchers.to_vec();
                matchers.push(Matcher::equal(wanted.label, *name));
                search(&matchers);
            }
        }
        targets.sort_unstable();
        targets.dedup();
        let behind = Arc::new(Behind {
            generation,
            targets: targets.into(),
        });
        self.behind.insert(key, Arc::clone(&behind));
        Some(behind)
    }

    fn compiled(&self, text: &str) -> Result<Arc<Query>, QueryError> {
        let known = self.compiled.get(text);
        self.compiled_lookups.count(known.is_some());
        if let Some(query) = known {
            return Ok(query);
        }
        let query = Arc::new(Query::compile(text)?);
        self.compiled.insert(text.to_owned(), Arc::clone(&query));
        Ok(query)
    }

    /// The query, or, where it is a number, the same as a vector: so it keeps the time of the samples that went into it.
    fn compiled_vector(&self, text: &str) -> Result<Arc<Query>, QueryError> {
        let query = self.compiled(text)?;
        match query.result_type() {
            ResultType::Scalar => self.compiled(&format!("vector({text}\n)")),
            _ => Ok(query),
        }
    }

    fn shapes(&self, selector: &str) -> Result<Vec<SeriesShape>, QueryError> {
        let matchers = promql::parse_selector(selector)?;
        let mut shapes = HashSet::new();
        self.store.select(&matchers, |labels, _| {
            if let Some(metric) = labels.metric() {
                shapes.insert(SeriesShape {
                    metric: metric.clone(),
                    labels: labels.others().names().to_vec(),
                });
            }
        });
        let mut shapes: Vec<SeriesShape> = shapes.into_iter().collect();
        shapes.sort();
        Ok(shapes)
    }

    fn diagnosis(&self, query: &InstantQuery) -> Diagnosis {
        let Ok(compiled) = self.compiled(&query.text) else {
            return Diagnosis::default();
        };
        let mut origins: Vec<TargetStatus> = Vec::new();
        for matchers in compiled.selectors() {
            origins.extend(self.store.origins(matchers));
        }
        // Several selectors of a query may read the same target.
        origins.sort_by(|a, b| a.info.url.cmp(&b.info.url));
        origins.dedup_by(|later, first| {
            let is_same = later.info == first.info;
            if is_same {
                first.newest = first.newest.max(later.newest);
            }
            is_same
        });
        let all = self.store.targets();
        let known_sources = all.len();
        let matched = !origins.is_empty();
        let mut behind = if matched { origins } else { all };
        if !matched {
            // One of each job: which job has the series is not known, and a thousand kubelets must not hide an exporter.
            let mut jobs = HashSet::new();
            behind.retain(|target| {
                target.health.down.is_some() && jobs.insert(target.info.job.clone())
            });
        }
        // Those that are down explain most.
        behind.sort_by_key(|target| target.health.down.is_none());
        behind.truncate(NAMED_SOURCES);
        Diagnosis {
            matched,
            sources: behind.into_iter().map(source).collect(),
            known_sources,
        }
    }
}

fn source(target: TargetStatus) -> Source {
    let object = target
        .info
        .object
        .map(|object| format!(" ({object})"))
        .unwrap_or_default();
    Source {
        description: format!("target {}{object}", target.info.url),
        newest: target.newest,
        down: target.health.down.map(|down| (down.since, down.reason)),
    }
}

impl Engine for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn check(&self, query: &str, wanted: ResultType) -> Result<(), EngineError> {
        let reason = match (Query::compile(query)?.result_type(), wanted) {
            (ResultType::Vector, _) | (ResultType::Scalar, ResultType::Scalar) => return Ok(()),
            (_, ResultType::Scalar) => "an instant vector or a number is needed here",
            _ => "an instant vector is needed here, with labels that name objects",
        };
        Err(EngineError::from(QueryError::Type {
            query: query.to_owned(),
            reason: reason.to_owned(),
        }))
    }

    fn check_selector(&self, selector: &str) -> Result<(), EngineError> {
        promql::parse_selector(selector)?;
        Ok(())
    }

    fn query<'a>(
        &'a self,
        query: &'a InstantQuery,
    ) -> BoxFuture<'a, Result<Vec<Point>, EngineError>> {
        let answer = self
            .compiled_vector(&query.text)
            .map_err(EngineError::from)
            .and_then(|compiled| {
                Ok(compiled.instant(&Reader(&self.store), query.at, query.max_age)?)
            });
        ready(self.queries.count(answer)).boxed()
    }

    fn freshen(
        &self,
        query: &InstantQuery,
        wanted: Asked<'_>,
        freshness: Freshness,
    ) -> Option<BoxFuture<'static, Option<Timestamp>>> {
        let refresher = self.refresher.as_ref()?;
        let behind = self.behind(query, wanted)?;
        refresher.refresh(&behind.targets, freshness)
    }

    fn series<'a>(
        &'a self,
        selector: &'a str,
        _anew: bool,
    ) -> BoxFuture<'a, Result<Arc<[SeriesShape]>, EngineError>> {
        let shapes = self.shapes(selector).map(Arc::from);
        ready(shapes.map_err(EngineError::from)).boxed()
    }

    fn diagnose<'a>(&'a self, query: &'a InstantQuery) -> BoxFuture<'a, Diagnosis> {
        ready(self.diagnosis(query)).boxed()
    }

    fn generation(&self) -> Option<u64> {
        Some(self.store.generation())
    }

    fn usage(&self) -> Usage {
        let compiled = self.compiled.entry_count();
        let behind = self.behind.entry_count();
        self.queries.with_caches(vec![
            self.compiled_lookups.of("compiled", compiled),
            self.behind_lookups.of("targets", behind),
        ])
    }
}

impl Scraped for Embedded {
    fn visit_job(
        &self,
        job: &str,
        matchers: &[Matcher],
        wanted: Wanted,
        visit: &mut dyn FnMut(&Labels, &[Sample]),
    ) {
        // Copies: a list of all pods takes a while.
        let copy = |series: Samples<'_>, into: &mut Vec<Sample>| read(series, wanted, into);
        let of_job = |target: &TargetInfo| target.job == job;
        self.store.select_copies(of_job, matchers, copy, visit);
    }

    fn targets_of(&self, job: &str) -> Vec<ScrapedTarget> {
        let targets = self.store.targets().into_iter();
        let of_job = targets.filter(|target| target.info.job == job);
        of_job
            .map(|target| ScrapedTarget {
                object: target.info.object,
                down: target.health.down.map(|down| (down.since, down.reason)),
            })
            .collect()
    }
}

/// The store as an evaluation sees it.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a Store);

impl SeriesReader for Reader<'_> {
    fn select(
        &self,
        matchers: &[Matcher],
        wanted: Wanted,
        visit: &mut dyn FnMut(&Labels, &[Sample]),
    ) {
        let mut samples = Vec::new();
        self.0.select(matchers, |labels, series| {
            samples.clear();
            read(series, wanted, &mut samples);
            visit(labels, &samples);
        });
    }
}

/// Appends what is wanted of a series.
pub(super) fn read(series: Samples<'_>, wanted: Wanted, into: &mut Vec<Sample>) {
    match wanted {
        Wanted::Latest(at) => into.extend(series.latest(at)),
        Wanted::Between { after, until } => series.between(after, until, into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Timestamp;
    use crate::store::Limits;

    #[test]
    fn many_dead_targets_of_one_job_do_not_hide_that_of_another() {
        let store = Store::new(Limits::default());
        let down = |job: &str, url: String| {
            let mut writer = store.register(TargetInfo {
                job: job.to_owned(),
                url,
                object: None,
                interval: Duration::from_secs(15),
            });
            writer.failed(Timestamp::from_millis(1), "connection refused", &[]);
            writer
        };
        let mut writers: Vec<_> = (0..9)
            .map(|it| down("kubelet", format!("https://10.0.0.{it}:10250/")))
            .collect();
        writers.push(down("dcgm-exporter", "http://10.1.0.1:9400/".to_owned()));
        let engine = Embedded::new(Arc::clone(&store));
        let diagnosis = engine.diagnosis(&InstantQuery {
            text: "x".to_owned(),
            at: Timestamp::from_millis(2),
            max_age: Duration::from_secs(45),
        });
        let named: Vec<&str> = diagnosis
            .sources
            .iter()
            .map(|it| &*it.description)
            .collect();
        assert_eq!(
            named,
            [
                "target https://10.0.0.0:10250/",
                "target http://10.1.0.1:9400/"
            ]
        );
        assert_eq!(diagnosis.known_sources, 10);
    }
}
