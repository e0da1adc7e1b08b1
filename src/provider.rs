//! Answers one metric question: which rule offers it, which query answers it, which objects have a value.
//!
//! Knows no HTTP and no Kubernetes client: objects come from an [`ObjectLister`], names from a [`ResourceMapper`], samples
//! from an [`Engine`]. The [`Catalog`] of what is offered is kept fresh by [`Provider::refresh`] and read without waiting.

mod catalog;
mod error;
mod plan;
pub mod resources;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Asked, Engine, InstantQuery, Point};
use crate::model::freshness::Freshness;
use crate::model::objects::{GroupResource, ObjectLister, ObjectRef, ResourceKind, ResourceMapper};
use crate::model::quantity::Quantity;
use crate::model::selector::Selector;
use crate::model::time::Timestamp;
use crate::rules::{QueryRequest, Rule};

pub use catalog::{Catalog, Offer, RuleStatus};
pub use error::ProviderError;

/// The longest that an answer may take; the HPA's own patience is a minute, during which a fifth of it stands still.
const DEADLINE: Duration = Duration::from_secs(2);

/// The longest that an answer waits for fresher data; the rest of [`DEADLINE`] is for the answer itself.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which objects are asked about.
#[derive(Clone, Debug)]
pub enum Objects {
    /// One, by name.
    Named(String),
    /// All whose labels match.
    Matching(Selector),
}

/// A question of the custom metrics API.
#[derive(Clone, Debug)]
pub struct MetricQuestion {
    /// The resource as it stood in the path.
    pub resource: GroupResource,
    /// The namespace; `None` for cluster-scoped resources, and for questions about namespaces themselves.
    pub namespace: Option<String>,
    /// Which objects.
    pub objects: Objects,
    /// The metric's name.
    pub metric: String,
    /// The selector on the series' own labels.
    pub metric_selector: Selector,
}

/// An answer: at least one value.
#[derive(Clone, Debug)]
pub struct MetricAnswer {
    /// What kind of objects the values are of.
    pub kind: ResourceKind,
    /// The values, in the order of the objects' names.
    pub values: Vec<MetricValue>,
}

/// The value of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricValue {
    /// The object.
    pub object: ObjectRef,
    /// The value.
    pub value: Quantity,
    /// The time of the oldest sample that went into it.
    pub timestamp: Timestamp,
}

/// Answers metric questions.
pub struct Provider {
    rules: Vec<Arc<Rule>>,
    default_max_age: Duration,
    /// How long ago the targets behind an answer may have been scraped; zero: it does not matter.
    fresh_within: Duration,
    engine: Arc<dyn Engine>,
    lister: Arc<dyn ObjectLister>,
    mapper: Arc<dyn ResourceMapper>,
    catalog: catalog::Kept,
}

impl Provider {
    /// A provider with these rules; of two that offer the same metric the later one counts.
    pub fn new(
        rules: Vec<Rule>,
        default_max_age: Duration,
        engine: Arc<dyn Engine>,
        lister: Arc<dyn ObjectLister>,
        mapper: Arc<dyn ResourceMapper>,
    ) -> Self {
        let rules: Vec<Arc<Rule>> = rules.into_iter().map(Arc::new).collect();
        let catalog = catalog::Kept::new(&rules);
        Self {
            rules,
            default_max_age,
            fresh_within: Duration::ZERO,
            engine,
            lister,
            mapper,
            catalog,
        }
    }

    /// The same, which has targets scraped before it answers where they were last scraped longer ago than this. Zero turns
    /// that off, as it is at first.
    #[must_use]
    pub fn fresh_within(mut self, fresh_within: Duration) -> Self {
        self.fresh_within = fresh_within;
        self
    }

    /// What is offered now.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.current()
    }

    /// Looks up anew what the rules offer. Cheap where nothing has changed since the last time.
    pub async fn refresh(&self, now: Timestamp) {
        self.catalog
            .refresh(self.engine.as_ref(), self.mapper.as_ref(), now)
            .await;
    }

    /// Whether the engine can look up and evaluate each rule, in their order; where not, why.
    pub fn check_rules(&self) -> Vec<(Arc<str>, Option<String>)> {
        let check = |rule: &Arc<Rule>| {
            let example = rule.render("series", "label=\"x\"", "label");
            let found = self.engine.check_selector(&rule.series_query);
            let problem = found.and_then(|()| self.engine.check(&example)).err();
            (Arc::clone(&rule.id), problem.map(|error| error.to_string()))
        };
        self.rules.iter().map(check).collect()
    }

    /// Answers a question, within two seconds.
    ///
    /// # Errors
    /// Where there is no value at all; the error's text says why, for whoever reads the HPA's conditions.
    pub async fn answer(
        &self,
        question: &MetricQuestion,
        now: Timestamp,
    ) -> Result<MetricAnswer, ProviderError> {
        tokio::time::timeout(DEADLINE, self.answer_in_time(question, now))
            .await
            .unwrap_or_else(|_| {
                Err(ProviderError::Deadline {
                    metric: question.metric.clone(),
                    deadline: DEADLINE,
                })
            })
    }

    async fn answer_in_time(
        &self,
        question: &MetricQuestion,
        now: Timestamp,
    ) -> Result<MetricAnswer, ProviderError> {
        let kind = self
            .mapper
            .resolve(&question.resource)
            .ok_or_else(|| ProviderError::UnknownResource(question.resource.clone()))?;
        let question = &*within_namespace(&kind, question)?;
        let offer = self.offer(&kind, question, now).await?;
        let objects = self.objects(&kind, question)?;
        let names: Vec<&str> = objects.iter().map(|object| object.name.as_ref()).collect();
        let max_age = offer.rule.max_age.unwrap_or(self.default_max_age);
        let text = offer.rule.query(&QueryRequest {
            series: &offer.series,
            namespace: namespace_matcher(&kind, question, &offer),
            objects: if offer.batched { &[] } else { &names },
            object_label: &offer.object_label,
            selector: &question.metric_selector,
        })?;
        let mut query = InstantQuery {
            text,
            at: now,
            max_age,
        };
        let wanted = Asked {
            label: &offer.object_label,
            // A query that names them gives no others.
            names: if offer.batched { &names } else { &[] },
        };
        query.at = self.freshen(&query, wanted).await;
        let points = self
            .engine
            .query(&query)
            .await
            .map_err(|reason| ProviderError::Engine {
                rule: Arc::clone(&offer.rule.id),
                reason,
            })?;
        let (values, unusable) = pick(objects, &points, &offer.object_label);
        if values.is_empty() {
            let diagnosis = self.engine.diagnose(&query).await;
            return Err(ProviderError::missing(
                question, &kind, &offer, max_age, unusable, &diagnosis,
            ));
        }
        Ok(MetricAnswer { kind, values })
    }

    /// Has the data of a query brought up to date, if it is too old. The time to ask the query for, which is later than it
    /// was by the time that this took.
    async fn freshen(&self, query: &InstantQuery, wanted: Asked<'_>) -> Timestamp {
        if self.fresh_within.is_zero() {
            return query.at;
        }
        let freshness = Freshness {
            within: self.fresh_within,
            patience: PATIENCE,
        };
        let Some(scrapes) = self.engine.freshen(query, wanted, freshness) else {
            return query.at;
        };
        let started = tokio::time::Instant::now();
        let latest = scrapes.await;
        let now = query.at.plus(started.elapsed());
        // Times are cut to milliseconds: the scrape just waited for must not lie ahead.
        latest.map_or(now, |latest| now.max(latest))
    }

    /// The offer for this question. A metric that is not known yet is looked up at once, so that a new one works within
    /// one sync of the HPA.
    async fn offer(
        &self,
        kind: &ResourceKind,
        question: &MetricQuestion,
        now: Timestamp,
    ) -> Result<Arc<Offer>, ProviderError> {
        if let Some(offer) = self.catalog().find(&kind.resource, &question.metric) {
            return usable(offer);
        }
        self.catalog
            .refresh(self.engine.as_ref(), self.mapper.as_ref(), now)
            .await;
        match self.catalog().find(&kind.resource, &question.metric) {
            Some(offer) => usable(offer),
            None => Err(self.unknown_metric(kind, question, now).await),
        }
    }

    /// Why a metric is not offered: the rule that would offer it and what its series are waiting for.
    async fn unknown_metric(
        &self,
        kind: &ResourceKind,
        question: &MetricQuestion,
        now: Timestamp,
    ) -> ProviderError {
        // The later rule counts, so it is the one to explain.
        let candidate = match self
            .rules
            .iter()
            .rfind(|rule| plan::may_offer(rule, &question.metric))
        {
            Some(rule) => {
                let query = InstantQuery {
                    text: rule.series_query.clone(),
                    at: now,
                    max_age: self.default_max_age,
                };
                Some((Arc::clone(&rule.id), self.engine.diagnose(&query).await))
            }
            None => None,
        };
        ProviderError::unknown(question, kind, &self.catalog(), candidate, self.rules.len())
    }

    /// The objects asked about, in the order of their names.
    fn objects(
        &self,
        kind: &ResourceKind,
        question: &MetricQuestion,
    ) -> Result<Vec<ObjectRef>, ProviderError> {
        let namespace = if kind.namespaced {
            question.namespace.as_deref()
        } else {
            None
        };
        match &question.objects {
            // As in prometheus-adapter, a name is not looked up: a series that carries it is proof enough.
            Objects::Named(name) => Ok(vec![ObjectRef {
                namespace: namespace.map(Arc::from),
                name: name.as_str().into(),
            }]),
            Objects::Matching(selector) => {
                let objects = self.lister.list(&kind.resource, namespace, selector)?;
                if objects.is_empty() {
                    return Err(ProviderError::no_objects(question, kind, selector));
                }
                Ok(objects)
            }
        }
    }
}

/// The question kept inside what its path says, which is what the caller was authorized for: objects in namespaces are
/// asked in one namespace, and below a namespace there is no other namespace.
fn within_namespace<'a>(
    kind: &ResourceKind,
    question: &'a MetricQuestion,
) -> Result<Cow<'a, MetricQuestion>, ProviderError> {
    match &question.namespace {
        None if kind.namespaced => Err(ProviderError::NoNamespace(kind.resource.clone())),
        Some(namespace) if kind.kind == "Namespace" => match &question.objects {
            Objects::Named(name) if name != namespace => Err(ProviderError::no_objects(
                question,
                kind,
                &Selector::default(),
            )),
            _ => {
                let objects = Objects::Named(namespace.clone());
                Ok(Cow::Owned(MetricQuestion {
                    objects,
                    namespace: None,
                    ..question.clone()
                }))
            }
        },
        _ => Ok(Cow::Borrowed(question)),
    }
}

/// An offer, unless its rule cannot be evaluated.
fn usable(offer: Arc<Offer>) -> Result<Arc<Offer>, ProviderError> {
    match &offer.unusable {
        None => Ok(offer),
        Some(reason) => Err(ProviderError::Unusable {
            rule: Arc::clone(&offer.rule.id),
            reason: Arc::clone(reason),
        }),
    }
}

/// The matcher that keeps a query inside the request's namespace.
fn namespace_matcher<'a>(
    kind: &ResourceKind,
    question: &'a MetricQuestion,
    offer: &'a Offer,
) -> Option<(&'a str, &'a str)> {
    if !kind.namespaced {
        return None;
    }
    offer
        .namespace_label
        .as_deref()
        .zip(question.namespace.as_deref())
}

/// Points that belong to an object that was asked about and still give it no value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct UnusablePoints {
    /// Their value is NaN or infinite.
    not_finite: usize,
    /// There is more than one for the object, and no rule says which counts.
    ambiguous: usize,
}

/// The objects' values. An object without exactly one finite value is left out: the HPA treats it as missing.
fn pick(
    objects: Vec<ObjectRef>,
    points: &[Point],
    label: &str,
) -> (Vec<MetricValue>, UnusablePoints) {
    let mut by_name: HashMap<&str, Option<&Point>> = HashMap::with_capacity(points.len());
    for point in points {
        by_name
            .entry(point.labels.value(label))
            .and_modify(|only| *only = None)
            .or_insert(Some(point));
    }
    let mut unusable = UnusablePoints::default();
    let mut values = Vec::with_capacity(objects.len());
    for object in objects {
        match by_name.get(object.name.as_ref()) {
            None => {}
            Some(None) => unusable.ambiguous += 1,
            Some(Some(point)) => match Quantity::from_f64(point.value) {
                Some(value) => values.push(MetricValue {
                    object,
                    value,
                    timestamp: point.oldest,
                }),
                None => unusable.not_finite += 1,
            },
        }
    }
    (values, unusable)
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
