//! Which metrics are offered, of objects and outside of any, by which rule.
//!
//! Written by [`Kept::refresh`], one at a time; read as a snapshot by every request and by discovery. A rule whose lookup
//! fails keeps its last good list, and a metric whose series are gone is kept for a while: a target that is restarted, or
//! a model that is scaled to nothing, does not make the metric unknown.

mod kept;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arcstr::ArcStr;

use crate::model::objects::{GroupResource, ResourceKind};
use crate::model::time::Timestamp;
use crate::rules::Rule;

pub(super) use kept::{Kept, NO_NAMESPACE, example};

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
    pub series: ArcStr,
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

/// A metric of `external.metrics.k8s.io`, which is of no object.
#[derive(Clone, Debug)]
pub struct ExternalOffer {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The metric's name in the API.
    pub metric: Arc<str>,
    /// The series it comes from.
    pub series: ArcStr,
    /// The label that keeps a query inside the request's namespace; `None` where the rule is not to.
    pub namespace_label: Option<String>,
    /// Why it cannot be answered, if it cannot.
    pub unusable: Option<Arc<str>>,
    /// When its series were last there.
    last_seen: Timestamp,
}

/// A snapshot of everything that is offered.
#[derive(Debug, Default)]
pub struct Catalog {
    offers: BTreeMap<GroupResource, BTreeMap<Arc<str>, Arc<Offer>>>,
    external: BTreeMap<Arc<str>, Arc<ExternalOffer>>,
    /// The names of external metrics that are not in lower case, by what they are in lower case.
    lowered: HashMap<String, Arc<str>>,
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

    /// The offer of an external metric. The name may be in lower case, as the HPA asks for it, whatever it is otherwise
    /// (client-go `rest/request.go` takes it for a resource's name).
    pub fn find_external(&self, metric: &str) -> Option<Arc<ExternalOffer>> {
        let known = self.external.get(metric);
        known
            .or_else(|| self.external.get(self.lowered.get(metric)?))
            .cloned()
    }

    /// All offers of objects' metrics, by resource and name.
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

    /// All offers of external metrics, by name.
    pub fn external_offers(&self) -> impl Iterator<Item = &Arc<ExternalOffer>> {
        self.external.values()
    }

    /// The names of the external metrics, sorted.
    pub fn external_metrics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.external.keys()
    }

    /// How the rules' lookups went, in the order of the rules, those of external metrics last.
    pub fn rules(&self) -> &[RuleStatus] {
        &self.rules
    }
}
