//! The catalog as it is kept: what each rule offered last, and how long ago.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use arcstr::ArcStr;
use futures_util::future::{join, join_all};
use tokio::sync::Mutex;

use crate::engine::{EngineError, Engines, ResultType, SeriesShape};
use crate::model::objects::{GroupResource, ResourceMapper};
use crate::model::time::Timestamp;
use crate::provider::{RuleSet, plan};
use crate::rules::{Rule, TemplateError};

use super::{Catalog, ExternalOffer, Offer, RuleStatus};

/// How long a metric is offered after its last series has gone.
const GRACE: Duration = Duration::from_secs(600);

/// The most metrics of one rule: a rule that takes everything must not take all memory.
const OFFERS_PER_RULE: usize = 20_000;

/// What an external rule lacks that is to be kept inside a namespace, and names none.
pub(in crate::provider) const NO_NAMESPACE: &str = "it does not say which label names the namespace: give it `resources.overrides`, or `resources.namespaced: false` for a metric that is the same for all";

/// The catalog and what it is made from.
pub(in crate::provider) struct Kept {
    current: ArcSwap<Catalog>,
    state: Mutex<State>,
}

struct State {
    rules: Vec<RuleOffers<(GroupResource, Arc<str>), Offer>>,
    external: Vec<RuleOffers<Arc<str>, ExternalOffer>>,
}

/// What the two kinds of offers have in common.
trait Offered {
    fn last_seen(&self) -> Timestamp;
    fn is_usable(&self) -> bool;
    /// The same of a rule that is the same and may stand elsewhere.
    fn by(&self, rule: &Arc<Rule>) -> Self;
}

impl Offered for Offer {
    fn by(&self, rule: &Arc<Rule>) -> Self {
        let rule = Arc::clone(rule);
        Self {
            rule,
            ..self.clone()
        }
    }

    fn last_seen(&self) -> Timestamp {
        self.last_seen
    }

    fn is_usable(&self) -> bool {
        self.unusable.is_none()
    }
}

impl Offered for ExternalOffer {
    fn by(&self, rule: &Arc<Rule>) -> Self {
        let rule = Arc::clone(rule);
        Self {
            rule,
            ..self.clone()
        }
    }

    fn last_seen(&self) -> Timestamp {
        self.last_seen
    }

    fn is_usable(&self) -> bool {
        self.unusable.is_none()
    }
}

/// The last good list of one rule.
struct RuleOffers<K, O> {
    rule: Arc<Rule>,
    offers: HashMap<K, Arc<O>>,
    error: Option<Arc<str>>,
    /// What the offers were made from.
    made_from: Option<Origin>,
    /// What is known of the rule's query for a series and the label of its objects: it takes parsing to find out.
    judged: HashMap<(ArcStr, String), Judgement>,
}

/// What a rule's offers are made from, to see whether they have to be made anew.
struct Origin {
    /// The engine's, where it has one, and the mapper's.
    generations: (Option<u64>, u64),
    shapes: Arc<[SeriesShape]>,
}

/// What the engine said, and what it and the mapper were when it was asked.
struct Found {
    generations: (Option<u64>, u64),
    shapes: Result<Arc<[SeriesShape]>, EngineError>,
}

/// How a rule's query can be asked.
#[derive(Clone, Debug)]
struct Judgement {
    batched: bool,
    unusable: Option<Arc<str>>,
}

impl Kept {
    pub(in crate::provider) fn new(rules: &RuleSet) -> Self {
        let state = State {
            rules: rules.custom.iter().map(RuleOffers::new).collect(),
            external: rules.external.iter().map(RuleOffers::new).collect(),
        };
        Self {
            current: ArcSwap::default(),
            state: Mutex::new(state),
        }
    }

    pub(in crate::provider) fn current(&self) -> Arc<Catalog> {
        self.current.load_full()
    }

    /// Takes over what the same rules offered in `before`, until a refresh finds what there is now: metrics in their grace,
    /// and the last good list of a rule whose engine does not answer.
    pub(in crate::provider) async fn inherit(&self, before: &Self) {
        let before = before.state.lock().await;
        let mut state = self.state.lock().await;
        for rule in &mut state.rules {
            rule.inherit(&before.rules);
        }
        for rule in &mut state.external {
            rule.inherit(&before.external);
        }
    }

    /// Asks the engines anew, unless they say that nothing has changed. Those who ask at the same time share the work.
    /// `anew`: somebody waits for a metric that is not known yet.
    pub(in crate::provider) async fn refresh(
        &self,
        engines: &Engines,
        mapper: &dyn ResourceMapper,
        anew: bool,
        now: Timestamp,
    ) {
        let before = self.current();
        let mut state = self.state.lock().await;
        if !Arc::ptr_eq(&before, &self.current()) {
            return;
        }
        let lookup = Lookup {
            engines,
            mapper,
            anew,
            now,
        };
        // Together: a backend that takes its time takes it once.
        let custom = join_all(state.rules.iter().map(|rule| rule.find(&lookup)));
        let external = join_all(state.external.iter().map(|rule| rule.find(&lookup)));
        let (custom, external) = join(custom, external).await;
        let mut changed = false;
        for (rule, found) in state.rules.iter_mut().zip(custom) {
            changed |= found.is_some_and(|it| rule.renew(it, &lookup, RuleOffers::of_objects));
        }
        for (rule, found) in state.external.iter_mut().zip(external) {
            changed |= found.is_some_and(|it| rule.renew(it, &lookup, RuleOffers::external));
        }
        if changed {
            self.current.store(Arc::new(state.catalog()));
        }
    }
}

/// What offers are made with.
struct Lookup<'a> {
    engines: &'a Engines,
    mapper: &'a dyn ResourceMapper,
    anew: bool,
    now: Timestamp,
}

impl State {
    fn catalog(&self) -> Catalog {
        let mut catalog = Catalog::default();
        for rule in &self.rules {
            catalog.rules.push(rule.status());
            for ((resource, metric), offer) in &rule.offers {
                let metrics = catalog.offers.entry(resource.clone()).or_default();
                metrics.insert(Arc::clone(metric), Arc::clone(offer));
            }
        }
        for rule in &self.external {
            catalog.rules.push(rule.status());
            let offers = rule.offers.iter();
            let offers = offers.map(|(metric, offer)| (Arc::clone(metric), Arc::clone(offer)));
            catalog.external.extend(offers);
        }
        for metric in catalog.external.keys() {
            let lowered = metric.to_lowercase();
            if *lowered != **metric {
                // Of two names that differ in case only, the first counts, always.
                let first = catalog.lowered.entry(lowered);
                first.or_insert_with(|| Arc::clone(metric));
            }
        }
        catalog
    }
}

impl<K: Clone + Eq + Hash, O: Offered> RuleOffers<K, O> {
    fn inherit(&mut self, before: &[Self]) {
        let same = before.iter().find(|it| it.rule.is_defined_as(&self.rule));
        let offers = same.into_iter().flat_map(|it| &it.offers);
        self.offers = offers
            .map(|(key, offer)| (key.clone(), Arc::new(offer.by(&self.rule))))
            .collect();
    }

    fn new(rule: &Arc<Rule>) -> Self {
        Self {
            rule: Arc::clone(rule),
            offers: HashMap::new(),
            error: None,
            made_from: None,
            judged: HashMap::new(),
        }
    }

    fn status(&self) -> RuleStatus {
        RuleStatus {
            id: Arc::clone(&self.rule.id),
            offers: self.offers.len(),
            error: self.error.clone(),
        }
    }

    /// Asks the rule's engine, unless that says that nothing has changed.
    async fn find(&self, lookup: &Lookup<'_>) -> Option<Found> {
        let engine = lookup.engines.of(self.rule.engine.as_deref());
        let generations = (engine.generation(), lookup.mapper.generation());
        let unchanged = |origin: &Origin| {
            generations.0.is_some()
                && origin.generations == generations
                && !self.has_expired(lookup.now)
        };
        if self.made_from.as_ref().is_some_and(unchanged) {
            return None;
        }
        let shapes = engine.series(&self.rule.series_query, lookup.anew).await;
        Some(Found {
            generations,
            shapes,
        })
    }

    /// Whether an offer has outlived its grace; a lookup then forgets it.
    fn has_expired(&self, now: Timestamp) -> bool {
        self.offers
            .values()
            .any(|offer| now.since(offer.last_seen()) > GRACE)
    }

    /// Takes what the engine has now, and keeps what it had until its grace is over; after an error it keeps all. `make` makes
    /// the offers of one metric. Whether anything is different now.
    fn renew(
        &mut self,
        found: Found,
        lookup: &Lookup<'_>,
        make: impl Fn(&mut Self, &SeriesShape, Arc<str>, &Lookup<'_>) -> Vec<(K, O)>,
    ) -> bool {
        let generations = found.generations;
        let shapes = match found.shapes {
            Ok(shapes) => shapes,
            Err(error) => {
                let error: Arc<str> = error.to_string().into();
                let is_new = self.error.as_ref() != Some(&error);
                self.error = Some(error);
                // What it says next counts, even if that is what it said before.
                self.made_from = None;
                return is_new;
            }
        };
        let same = |origin: &Origin| {
            Arc::ptr_eq(&origin.shapes, &shapes) && origin.generations == generations
        };
        if self.made_from.as_ref().is_some_and(same) && !self.has_expired(lookup.now) {
            return false;
        }
        self.error = None;
        let mut offers: HashMap<K, Arc<O>> = HashMap::new();
        for shape in shapes.iter() {
            let Some(metric) = self.rule.metric_name(&shape.metric) else {
                continue;
            };
            let made = make(self, shape, metric.into(), lookup);
            if offers.len() + made.len() > OFFERS_PER_RULE {
                let message =
                    format!("offers more than {OFFERS_PER_RULE} metrics; the others are left out");
                self.error = Some(message.into());
                break;
            }
            for (key, offer) in made {
                // One odd series must not take the metric away from those that are as they should be.
                let spoils = |known: &Arc<O>| known.is_usable() && !offer.is_usable();
                if !offers.get(&key).is_some_and(spoils) {
                    offers.insert(key, Arc::new(offer));
                }
            }
        }
        for (key, offer) in self.offers.drain() {
            if lookup.now.since(offer.last_seen()) <= GRACE {
                offers.entry(key).or_insert(offer);
            }
        }
        self.offers = offers;
        self.made_from = Some(Origin {
            generations,
            shapes,
        });
        if self.judged.len() > OFFERS_PER_RULE {
            self.judged.clear();
        }
        true
    }

    /// How the rule's query can be asked for this series; found out once. `object_label` is empty for external metrics.
    fn judge(&mut self, series: &ArcStr, object_label: &str, lookup: &Lookup<'_>) -> Judgement {
        let key = (series.clone(), object_label.to_owned());
        if let Some(known) = self.judged.get(&key) {
            return known.clone();
        }
        let engine = lookup.engines.of(self.rule.engine.as_deref());
        let unusable = match example(&self.rule, series, object_label) {
            Ok((example, wanted)) => engine.check(&example, wanted).err().map(|e| e.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let judgement = Judgement {
            batched: !object_label.is_empty()
                && plan::is_batchable(&self.rule, series, object_label),
            unusable: unusable.map(Arc::from),
        };
        self.judged.insert(key, judgement.clone());
        judgement
    }
}

/// A query as the rule would make it, and what kind of answer it has to give.
pub(in crate::provider) fn example(
    rule: &Rule,
    series: &str,
    object_label: &str,
) -> Result<(String, ResultType), TemplateError> {
    if object_label.is_empty() {
        let query = rule.render(series, "label=\"x\"", "")?;
        Ok((query, ResultType::Scalar))
    } else {
        let matcher = format!("{object_label}=\"x\"");
        let query = rule.render(series, &matcher, object_label)?;
        Ok((query, ResultType::Vector))
    }
}

impl RuleOffers<(GroupResource, Arc<str>), Offer> {
    /// A metric is offered for each resource that the labels of its series name.
    fn of_objects(
        &mut self,
        shape: &SeriesShape,
        metric: Arc<str>,
        lookup: &Lookup<'_>,
    ) -> Vec<((GroupResource, Arc<str>), Offer)> {
        let resources = self.rule.resources(&shape.labels, lookup.mapper);
        let namespace = resources.iter().find(|(kind, _)| kind.kind == "Namespace");
        let namespace_label = namespace.map(|(_, label)| label.clone());
        let mut offers = Vec::with_capacity(resources.len());
        for (kind, object_label) in resources {
            let judgement = self.judge(&shape.metric, &object_label, lookup);
            let unusable = if kind.namespaced && namespace_label.is_none() {
                let series = &shape.metric;
                Some(format!("no label of the series {series} names its namespace").into())
            } else {
                judgement.unusable
            };
            let offer = Offer {
                rule: Arc::clone(&self.rule),
                metric: Arc::clone(&metric),
                series: shape.metric.clone(),
                batched: judgement.batched,
                unusable,
                namespace_label: namespace_label.clone(),
                object_label,
                last_seen: lookup.now,
                kind: kind.clone(),
            };
            offers.push(((kind.resource, Arc::clone(&metric)), offer));
        }
        offers
    }
}

impl RuleOffers<Arc<str>, ExternalOffer> {
    fn external(
        &mut self,
        shape: &SeriesShape,
        metric: Arc<str>,
        lookup: &Lookup<'_>,
    ) -> Vec<(Arc<str>, ExternalOffer)> {
        let judgement = self.judge(&shape.metric, "", lookup);
        let namespaced = self.rule.is_namespaced();
        let label = namespaced.then(|| self.rule.namespace_label(lookup.mapper));
        let namespace_label = label.flatten();
        let unusable = if namespaced && namespace_label.is_none() {
            Some(NO_NAMESPACE.into())
        } else {
            judgement.unusable
        };
        let offer = ExternalOffer {
            rule: Arc::clone(&self.rule),
            metric: Arc::clone(&metric),
            series: shape.metric.clone(),
            namespace_label,
            unusable,
            last_seen: lookup.now,
        };
        vec![(metric, offer)]
    }
}
