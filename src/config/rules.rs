//! The `rules:`, `externalRules:` and `resourceRules:` sections: prometheus-adapter's, field for field
//! (`pkg/config/config.go`), with a few optional fields of our own.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::scrape::units;

/// One rule: which series, which objects they belong to, what the metric is called, and the query that answers for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct DiscoveryRule {
    /// The PromQL series selector that finds the rule's series, such as `{__name__=~"^DCGM_.*",pod!=""}`.
    pub series_query: String,
    /// Further conditions on the metric's name; all must hold.
    pub series_filters: Vec<RegexFilter>,
    /// Which labels name which Kubernetes objects.
    pub resources: ResourceMapping,
    /// What the metric is called in the API. Default: as the series.
    pub name: NameMapping,
    /// The query template, in Go's template syntax with `<<` and `>>`, such as
    /// `avg(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)`.
    pub metrics_query: String,
    /// Ours: the age past which a sample of this rule does not count. Default: the configuration's `maxAge`.
    #[serde(deserialize_with = "units::some_duration")]
    pub max_age: Option<Duration>,
    /// Ours: who answers, a backend by its name or `embedded`. Default: the first of `prometheus`, or `embedded` where
    /// there is none.
    pub engine: Option<String>,
}

/// A condition on a metric's name: exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RegexFilter {
    /// The name matches this expression (not anchored).
    pub is: String,
    /// The name does not match this expression (not anchored).
    pub is_not: String,
}

/// How labels and Kubernetes resources belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ResourceMapping {
    /// A label name made from a resource, such as `kube_<<.Resource>>`.
    pub template: String,
    /// Label names and the resource each of them names. Of two labels for one resource the first counts.
    #[serde(deserialize_with = "in_order")]
    pub overrides: Vec<(String, GroupResource)>,
    /// Only for external rules: whether the request's namespace becomes a matcher. Default: true.
    pub namespaced: Option<bool>,
    /// Ours: whether a metric of pods that is asked for on a Deployment, a Job or whatever else controls pods, and that no
    /// label names, is answered over those pods. Default: true.
    pub owners: Option<bool>,
}

/// A resource in any of its names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct GroupResource {
    /// The API group; empty for the core group, or where the name alone is clear.
    pub group: String,
    /// Plural or singular, in any case.
    pub resource: String,
}

/// How a series' name becomes a metric's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NameMapping {
    /// An expression (not anchored) on the series' name; series that do not match are left out. Default: `.*`.
    pub matches: String,
    /// What the metric is called, with `$1` or `${name}` from `matches`. Default: `$1` where `matches` has one group, else
    /// `$0`.
    #[serde(rename = "as")]
    pub as_: String,
}

/// The queries behind `metrics.k8s.io`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ResourceRules {
    /// CPU.
    pub cpu: ResourceRule,
    /// Memory.
    pub memory: ResourceRule,
    /// The time that answers say their CPU is the mean of, where the CPU's query does not look back itself. Default `1m`.
    #[serde(deserialize_with = "units::some_duration")]
    pub window: Option<Duration>,
}

/// The queries for one of CPU and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ResourceRule {
    /// The query template for the containers of pods.
    pub container_query: String,
    /// The query template for nodes.
    pub node_query: String,
    /// Which labels name which Kubernetes objects.
    pub resources: ResourceMapping,
    /// The label that names the container.
    pub container_label: String,
}

/// A mapping in the order of the file. A key that is there twice is refused by the reader of YAML.
fn in_order<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(String, GroupResource)>, D::Error> {
    struct InOrder;

    impl<'de> Visitor<'de> for InOrder {
        type Value = Vec<(String, GroupResource)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a mapping from labels to resources")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = map.next_entry()? {
                entries.push(entry);
            }
            Ok(entries)
        }
    }

    deserializer.deserialize_map(InOrder)
}
