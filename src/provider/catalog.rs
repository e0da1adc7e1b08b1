//! Which metrics are offered for which resources, by which rule.
//!
//! Written by [`Kept::refresh`], one at a time; read as a snapshot by every request and by discovery. A rule whose lookup
//! fails keeps its last good list, and a metric whose series are gone is kept for a while: a target that is restarted, or
//! a model that is scaled to nothing, does not make the metric unknown.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use crate::engine::{Engine, SeriesShape};
use crate::model::objects::{GroupResource, ResourceKind, ResourceMapper};
use crate::model::time::Timestamp;
use crate::rules::Rule;

use super::plan;

/// How long a metric is offered after its last series has gone.
const GRACE: Duration = Duration::from_secs(600);

/// The most metrics of one rule: a rule that takes everything must not take all memory.
const OFFERS_PER_RULE: usize = 20_000;

/// A metric that a rule offers for a resource.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The resource it is offered for.
    pub kind: ResourceKind,
    /// The metric's name in the API.
    pub metric: Arc<str>,
    /// The series it comes from.
    pub series: Arc<str>,
    /// The label that names the objects.
    pub object_label: String,
    /// The label that names their namespaces, where the series have one.
    pub namespace_label: Option<String>,
    /// Whether one query answers for all objects of a namespace.
    pub batched: bool,
    /// Why it cannot be answered, if it cannot.
    pub unusable: Option<Arc<str>>,
    /// When its series were last there.
    last_seen: Timestamp,
}

/// A snapshot of everything that is offered.
#[derive(Debug, Default)]
pub struct Catalog {
    offers: BTreeMap<GroupResource, BTreeMap<Arc<str>, Arc<Offer>>>,
    rules: Vec<RuleStatus>,
}

/// How a rule's lookup went.
#[derive(Clone, Debug)]
pub struct RuleStatus {
    /// The rule.
    pub id: Arc<str>,
    /// How many metrics it offers, counted by resource; those that a later rule took over included.
    pub offers: usize,
    /// Why the last lookup failed, if it did; `offers` are then those of the last good one.
    pub error: Option<Arc<str>>,
}

impl Catalog {
    /// The offer of `metric` for `resource`.
    pub fn find(&self, resource: &GroupResource, metric: &str) -> Option<Arc<Offer>> {
        self.offers.get(resource)?.get(metric).cloned()
    }

    /// All offers, by resource and name.
    pub fn offers(&self) -> impl Iterator<Item = &Arc<Offer>> {
        self.offers.values().flat_map(BTreeMap::values)
    }

    /// The names of the metrics offered for `resource`.
    pub fn metrics(&self, resource: &GroupResource) -> impl Iterator<Item = &Arc<str>> {
        self.offers
            .get(resource)
            .into_iter()
            .flat_map(BTreeMap::keys)
    }

    /// How the rules' lookups went, in the order of the rules.
    pub fn rules(&self) -> &[RuleStatus] {
        &self.rules
    }
}

/// The catalog and what it is made from.
pub(super) struct Kept {
    current: ArcSwap<Catalog>,
    state: Mutex<State>,
}

struct State {
    rules: Vec<RuleOffers>,
    generation: Option<u64>,
}

/// The last good list of one rule.
struct RuleOffers {
    rule: Arc<Rule>,
    offers: HashMap<(GroupResource, Arc<str>), Arc<Offer>>,
    error: Option<Arc<str>>,
    /// What is known of the rule's query for a series and the label of its objects: it takes parsing to find out.
    judged: HashMap<(Arc<str>, String), Judgement>,
}

/// How a rule's query can be asked.
#[derive(Clone, Debug)]
struct Judgement {
    batched: bool,
    unusable: Option<Arc<str>>,
}

impl Kept {
    pub(super) fn new(rules: &[Arc<Rule>]) -> Self {
        let empty = |rule: &Arc<Rule>| RuleOffers {
            rule: Arc::clone(rule),
            offers: HashMap::new(),
            error: None,
            judged: HashMap::new(),
        };
        let state = State {
            rules: rules.iter().map(empty).collect(),
            generation: None,
        };
        Self {
            current: ArcSwap::default(),
            state: Mutex::new(state),
        }
    }

    pub(super) fn current(&self) -> Arc<Catalog> {
        self.current.load_full()
    }

    /// Asks the engine anew, unless it says that nothing has changed. Those who ask at the same time share the work.
    pub(super) async fn refresh(
        &self,
        engine: &dyn Engine,
        mapper: &dyn ResourceMapper,
        now: Timestamp,
    ) {
        let before = self.current();
        let mut state = self.state.lock().await;
        let generation = engine.generation();
        let unchanged =
            generation.is_some() && generation == state.generation && !state.has_expired(now);
        let done_meanwhile = !Arc::ptr_eq(&before, &self.current());
        if unchanged || done_meanwhile {
            return;
        }
        for rule in &mut state.rules {
            match engine.series(&rule.rule.series_query).await {
                Ok(shapes) => rule.replace(&shapes, engine, mapper, now),
                Err(error) => rule.error = Some(error.to_string().into()),
            }
        }
        state.generation = generation;
        self.current.store(Arc::new(state.catalog()));
    }
}

impl State {
    /// Whether an offer has outlived its grace; a lookup then forgets it.
    fn has_expired(&self, now: Timestamp) -> bool {
        self.rules
            .iter()
            .flat_map(|rule| rule.offers.values())
            .any(|offer| now.since(offer.last_seen) > GRACE)
    }

    fn catalog(&self) -> Catalog {
        let mut catalog = Catalog::default();
        for rule in &self.rules {
            catalog.rules.push(RuleStatus {
                id: Arc::clone(&rule.rule.id),
                offers: rule.offers.len(),
                error: rule.error.clone(),
            });
            for ((resource, metric), offer) in &rule.offers {
                let metrics = catalog.offers.entry(resource.clone()).or_default();
                metrics.insert(Arc::clone(metric), Arc::clone(offer));
            }
        }
        catalog
    }
}

impl RuleOffers {
    /// Takes what the engine has now, and keeps what it had until its grace is over.
    fn replace(
        &mut self,
        shapes: &[SeriesShape],
        engine: &dyn Engine,
        mapper: &dyn ResourceMapper,
        now: Timestamp,
    ) {
        self.error = None;
        let mut offers: HashMap<(GroupResource, Arc<str>), Arc<Offer>> = HashMap::new();
        for shape in shapes {
            let Some(metric) = self.rule.metric_name(&shape.metric) else {
                continue;
            };
            let metric: Arc<str> = metric.into();
            let resources = self.rule.resources(&shape.labels, mapper);
            let namespace = resources.iter().find(|(kind, _)| kind.kind == "Namespace");
            let namespace_label = namespace.map(|(_, label)| label.clone());
            if offers.len() + resources.len() > OFFERS_PER_RULE {
                let message =
                    format!("offers more than {OFFERS_PER_RULE} metrics; the others are left out");
                self.error = Some(message.into());
                break;
            }
            for (kind, object_label) in resources {
                let judgement = self.judge(&shape.metric, &object_label, engine);
                let offer = Offer {
                    rule: Arc::clone(&self.rule),
                    metric: Arc::clone(&metric),
                    series: Arc::clone(&shape.metric),
                    batched: judgement.batched,
                    unusable: if kind.namespaced && namespace_label.is_none() {
                        Some(
                            format!(
                                "no label of the series {} names its namespace",
                                shape.metric
                            )
                            .into(),
                        )
                    } else {
                        judgement.unusable
                    },
                    namespace_label: namespace_label.clone(),
                    object_label,
                    last_seen: now,
                    kind: kind.clone(),
                };
                let key = (kind.resource, Arc::clone(&metric));
                // One odd series must not take the metric away from those that are as they should be.
                let spoils =
                    |known: &Arc<Offer>| known.unusable.is_none() && offer.unusable.is_some();
                if !offers.get(&key).is_some_and(spoils) {
                    offers.insert(key, Arc::new(offer));
                }
            }
        }
        for (key, offer) in self.offers.drain() {
            if now.since(offer.last_seen) <= GRACE {
                offers.entry(key).or_insert(offer);
            }
        }
        self.offers = offers;
        if self.judged.len() > OFFERS_PER_RULE {
            self.judged.clear();
        }
    }

    /// How the rule's query can be asked for this series; found out once.
    fn judge(&mut self, series: &Arc<str>, object_label: &str, engine: &dyn Engine) -> Judgement {
        let key = (Arc::clone(series), object_label.to_owned());
        if let Some(known) = self.judged.get(&key) {
            return known.clone();
        }
        let example = self
            .rule
            .render(series, &format!("{object_label}=\"x\""), object_label);
        let judgement = Judgement {
            batched: plan::is_batchable(&self.rule, series),
            unusable: engine
                .check(&example)
                .err()
                .map(|error| error.to_string().into()),
        };
        self.judged.insert(key, judgement.clone());
        judgement
    }
}
