//! Answers one metric question: which rule offers it, which query answers it, which objects have a value.
//!
//! Knows no HTTP and no Kubernetes client: objects come from an [`ObjectLister`], names from a [`ResourceMapper`], samples
//! from an [`Engine`]. The [`Catalog`] of what is offered is kept fresh by [`Provider::refresh`] and read without waiting.

mod catalog;
mod error;
mod external;
mod floors;
mod owned;
mod plan;
pub mod resources;
mod values;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::engine::prometheus::Prometheus;
use crate::engine::{Asked, Diagnosis, Engine, Engines, InstantQuery, Point, Usage};
use crate::model::freshness::Freshness;
use crate::model::objects::{GroupResource, ObjectLister, ObjectRef, ResourceKind, ResourceMapper};
use crate::model::quantity::Quantity;
use crate::model::selector::Selector;
use crate::model::time::Timestamp;
use crate::rules::{QueryRequest, Rule, Warning};
use crate::schedule::Floors;

pub use catalog::{Catalog, ExternalOffer, Offer, RuleStatus};
pub use error::ProviderError;
pub use external::{ExternalAnswer, ExternalQuestion, ExternalValue};
pub use plan::asks_once_for_all;
pub use values::ValueStyle;
use values::{UnusablePoints, pick};

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

/// The rules; of two that offer the same metric the later one counts.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    /// Those of `custom.metrics.k8s.io`.
    pub custom: Vec<Arc<Rule>>,
    /// Those of `external.metrics.k8s.io`.
    pub external: Vec<Arc<Rule>>,
}

/// What the configuration says of answers.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The rules.
    pub rules: RuleSet,
    /// The age past which a sample does not count, for rules that do not say.
    pub default_max_age: Duration,
    /// How long ago the targets behind an answer may have been scraped before they are scraped first; zero: it does not
    /// matter.
    pub fresh_within: Duration,
    /// What rules may be asked of instead of the engine inside.
    pub backends: Vec<Arc<Prometheus>>,
    /// How points become values.
    pub style: ValueStyle,
}

/// Answers metric questions.
pub struct Provider {
    current: ArcSwap<Ruling>,
    engine: Arc<dyn Engine>,
    lister: Arc<dyn ObjectLister>,
    mapper: Arc<dyn ResourceMapper>,
    floors: OnceLock<Arc<Floors>>,
}

/// The settings and what is offered by them.
struct Ruling {
    settings: Settings,
    engines: Engines,
    catalog: catalog::Kept,
}

impl Ruling {
    fn new(settings: Settings, embedded: Arc<dyn Engine>) -> Self {
        Self {
            catalog: catalog::Kept::new(&settings.rules),
            engines: Engines::new(embedded, settings.backends.clone()),
            settings,
        }
    }

    fn engine(&self, rule: &Rule) -> &dyn Engine {
        self.engines.of(rule.engine.as_deref())
    }

    fn max_age(&self, rule: &Rule) -> Duration {
        rule.max_age.unwrap_or(self.settings.default_max_age)
    }
}

impl Provider {
    /// A provider with these settings. `engine` is the one inside.
    pub fn new(
        settings: Settings,
        engine: Arc<dyn Engine>,
        lister: Arc<dyn ObjectLister>,
        mapper: Arc<dyn ResourceMapper>,
    ) -> Self {
        Self {
            current: ArcSwap::from_pointee(Ruling::new(settings, Arc::clone(&engine))),
            engine,
            lister,
            mapper,
            floors: OnceLock::new(),
        }
    }

    /// Answers by these settings from now on. What they offer is looked up before they count, so that no metric is unknown
    /// for a moment; rules that stay as they were keep what they offered, as they would without this.
    pub async fn replace(&self, settings: Settings, now: Timestamp) {
        let ruling = Ruling::new(settings, Arc::clone(&self.engine));
        let before = self.current.load_full();
        ruling.catalog.inherit(&before.catalog).await;
        self.look_up(&ruling, false, now).await;
        self.current.store(Arc::new(ruling));
    }

    /// The backends that rules are asked of, in the order of the configuration.
    pub fn backends(&self) -> Vec<Arc<Prometheus>> {
        self.current.load().settings.backends.clone()
    }

    /// How the engines are used, by their names.
    pub fn usage(&self) -> Vec<(String, Usage)> {
        self.current.load().engines.usage()
    }

    /// What is offered now.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.current.load().catalog.current()
    }

    /// Looks up anew what the rules offer. Cheap where nothing has changed since the last time.
    pub async fn refresh(&self, now: Timestamp) {
        let ruling = self.current.load_full();
        self.look_up(&ruling, false, now).await;
    }

    async fn look_up(&self, ruling: &Ruling, anew: bool, now: Timestamp) {
        ruling
            .catalog
            .refresh(&ruling.engines, self.mapper.as_ref(), anew, now)
            .await;
    }

    /// Whether the engine can look up and evaluate each rule, in their order; where not, why.
    pub fn check_rules(&self) -> Vec<(Arc<str>, Option<String>)> {
        let ruling = self.current.load();
        let check = |rule: &Arc<Rule>, object_label: &str| {
            let engine = ruling.engine(rule);
            let query = || match catalog::example(rule, "series", object_label) {
                Ok((query, wanted)) => {
                    let problem = engine.check(&query, wanted).err();
                    problem.map(|error| error.to_string())
                }
                Err(error) => Some(error.to_string()),
            };
            let found = engine.check_selector(&rule.series_query);
            let problem = found.err().map(|error| error.to_string()).or_else(query);
            (Arc::clone(&rule.id), problem)
        };
        let rules = &ruling.settings.rules;
        let custom = rules.custom.iter().map(|rule| check(rule, "label"));
        let external = rules.external.iter().map(|rule| check(rule, ""));
        custom.chain(external).collect()
    }

    /// What is seldom meant in the rules, where their targets are scraped every `interval`.
    pub fn lint(&self, interval: Duration) -> Vec<Warning> {
        let ruling = self.current.load();
        let rules = &ruling.settings.rules;
        let [custom, external] =
            [&rules.custom, &rules.external].map(|it| it.iter().map(Arc::as_ref));
        let mut warnings = crate::rules::lint(custom, interval, asks_once_for_all);
        // An external metric is of no object: there is nothing to be asked about one by one.
        warnings.extend(crate::rules::lint(external.clone(), interval, |_| true));
        let mapper = self.mapper.as_ref();
        let nowhere =
            external.filter(|rule| rule.is_namespaced() && rule.namespace_label(mapper).is_none());
        warnings.extend(nowhere.map(|rule| Warning {
            rule: Arc::clone(&rule.id),
            path: format!("{}.resources", rule.id),
            message: format!("{}; each request for it is refused", catalog::NO_NAMESPACE),
        }));
        warnings
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
        let answer = self.answer_in_time(question, now);
        within(DEADLINE, &question.metric, answer).await
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
        let ruling = self.current.load_full();
        let offer = match self.offer(&ruling, &kind, question, now).await? {
            Offered::Here(offer) => offer,
            Offered::ForPods(offer) => {
                return self
                    .answer_over_pods(&ruling, &kind, question, &offer, now)
                    .await;
            }
        };
        let objects = self.objects(&kind, question).await?;
        let names: Vec<&str> = objects.iter().map(|object| object.name.as_ref()).collect();
        let max_age = ruling.max_age(&offer.rule);
        let text = offer.rule.query(&QueryRequest {
            series: &offer.series,
            namespace: namespace_matcher(&kind, question, &offer),
            objects: if offer.batched { &[] } else { &names },
            object_label: &offer.object_label,
            selector: &question.metric_selector,
        })?;
        let query = InstantQuery {
            text,
            at: now,
            max_age,
        };
        let wanted = Asked {
            label: &offer.object_label,
            // A query that names them gives no others.
            names: if offer.batched { &names } else { &[] },
        };
        let (query, points) = self.points(&ruling, &offer.rule, query, wanted).await?;
        let style = ruling.settings.style;
        let label = &offer.object_label;
        let (values, unusable) = pick(objects, &points, label, style, query.at);
        if values.is_empty() {
            let diagnosis = ruling.engine(&offer.rule).diagnose(&query).await;
            return Err(ProviderError::missing(
                question, &kind, &offer, max_age, unusable, &diagnosis,
            ));
        }
        Ok(MetricAnswer { kind, values })
    }

    /// What a rule's query gives, of data that is brought up to date before; and the query with the time it was asked for.
    async fn points(
        &self,
        ruling: &Ruling,
        rule: &Rule,
        mut query: InstantQuery,
        wanted: Asked<'_>,
    ) -> Result<(InstantQuery, Vec<Point>), ProviderError> {
        let within = ruling.settings.fresh_within;
        let engine = ruling.engine(rule);
        query.at = freshen(engine, within, &query, wanted).await;
        match engine.query(&query).await {
            Ok(points) => Ok((query, points)),
            Err(reason) => Err(ProviderError::Engine {
                rule: Arc::clone(&rule.id),
                reason,
            }),
        }
    }

    /// The offer for this question. A metric that is not known yet is looked up at once, so that a new one works within
    /// one sync of the HPA.
    async fn offer(
        &self,
        ruling: &Ruling,
        kind: &ResourceKind,
        question: &MetricQuestion,
        now: Timestamp,
    ) -> Result<Offered, ProviderError> {
        let find = || {
            let here = ruling.catalog.current();
            if let Some(offer) = here.find(&kind.resource, &question.metric) {
                return Some(usable(offer).map(Offered::Here));
            }
            let offer = Self::offer_for_pods(ruling, kind, &question.metric)?;
            Some(Ok(Offered::ForPods(offer)))
        };
        if let Some(offer) = find() {
            return offer;
        }
        self.look_up(ruling, true, now).await;
        if let Some(offer) = find() {
            return offer;
        }
        let rules = &ruling.settings.rules.custom;
        let candidate = self.candidate(ruling, rules, &question.metric, now).await;
        let catalog = ruling.catalog.current();
        let error = ProviderError::unknown(question, kind, &catalog, candidate, rules.len());
        Err(error)
    }

    /// The rule that would offer a metric that nobody offers, and what its series are waiting for.
    async fn candidate(
        &self,
        ruling: &Ruling,
        rules: &[Arc<Rule>],
        metric: &str,
        now: Timestamp,
    ) -> Option<(Arc<str>, Diagnosis)> {
        // The later rule counts, so it is the one to explain.
        let mut latest_first = rules.iter().rev();
        let rule = latest_first.find(|rule| plan::may_offer(rule, metric))?;
        let query = InstantQuery {
            text: rule.series_query.clone(),
            at: now,
            max_age: ruling.max_age(rule),
        };
        let diagnosis = ruling.engine(rule).diagnose(&query).await;
        Some((Arc::clone(&rule.id), diagnosis))
    }

    /// The objects asked about, in the order of their names.
    async fn objects(
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
                self.lister.prepare(kind).await;
                let objects = self.lister.list(&kind.resource, namespace, selector)?;
                if objects.is_empty() {
                    return Err(ProviderError::no_objects(question, kind, selector));
                }
                Ok(objects)
            }
        }
    }
}

/// Has the data of a query brought up to date, if it is too old. The time to ask the query for, which is later than it
/// was by the time that this took.
async fn freshen(
    engine: &dyn Engine,
    within: Duration,
    query: &InstantQuery,
    wanted: Asked<'_>,
) -> Timestamp {
    if within.is_zero() {
        return query.at;
    }
    let freshness = Freshness {
        within,
        patience: PATIENCE,
    };
    let Some(scrapes) = engine.freshen(query, wanted, freshness) else {
        return query.at;
    };
    let started = tokio::time::Instant::now();
    let latest = scrapes.await;
    let now = query.at.plus(started.elapsed());
    // Times are cut to milliseconds: the scrape just waited for must not lie ahead.
    latest.map_or(now, |latest| now.max(latest))
}

/// An answer, or the error that there was none in time.
async fn within<T>(
    deadline: Duration,
    metric: &str,
    answer: impl Future<Output = Result<T, ProviderError>>,
) -> Result<T, ProviderError> {
    let late = |_| ProviderError::Deadline {
        metric: metric.to_owned(),
        deadline,
    };
    tokio::time::timeout(deadline, answer)
        .await
        .unwrap_or_else(|elapsed| Err(late(elapsed)))
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

/// Who answers a question.
enum Offered {
    /// An offer for the resource itself.
    Here(Arc<Offer>),
    /// One for pods, over those that the objects control.
    ForPods(Arc<Offer>),
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

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
