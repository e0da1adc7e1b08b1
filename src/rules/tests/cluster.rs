//! A cluster's resources, and what rules offer of some series, as `provider` asks for it.

use super::*;
use crate::model::objects::GroupResource;

/// Group, plural, singular, kind, whether it lives in namespaces; in the order in which a bare name is looked up.
const RESOURCES: &[(&str, &str, &str, &str, bool)] = &[
    ("", "pods", "pod", "Pod", true),
    ("", "services", "service", "Service", true),
    ("", "namespaces", "namespace", "Namespace", false),
    ("", "nodes", "node", "Node", false),
    (
        "",
        "persistentvolumes",
        "persistentvolume",
        "PersistentVolume",
        false,
    ),
    ("apps", "deployments", "deployment", "Deployment", true),
    (
        "extensions",
        "deployments",
        "deployment",
        "Deployment",
        true,
    ),
    ("extensions", "ingresses", "ingress", "Ingress", true),
    ("networking.k8s.io", "ingresses", "ingress", "Ingress", true),
    ("batch", "jobs", "job", "Job", true),
    ("cheese.io", "brands", "brand", "Brand", true),
    ("rabbit-mq.example.com", "queues", "queue", "Queue", false),
];

/// Knows [`RESOURCES`], by exact group, or by how a group begins.
pub(super) struct Mapper;

impl ResourceMapper for Mapper {
    fn resolve(&self, name: &GroupResource) -> Option<ResourceKind> {
        let named = |(_, plural, singular, _, _): &&(&str, &str, &str, &str, bool)| {
            name.resource == *plural || name.resource == *singular
        };
        let named = || RESOURCES.iter().filter(named);
        let exact = named().find(|(group, ..)| *group == name.group);
        let found = match exact {
            Some(found) if !name.group.is_empty() => Some(found),
            _ => named().find(|(group, ..)| group.starts_with(name.group.as_str())),
        };
        found.map(|(group, plural, _, kind, namespaced)| ResourceKind {
            resource: GroupResource {
                group: (*group).into(),
                resource: (*plural).into(),
            },
            version: "v1".into(),
            kind: (*kind).into(),
            namespaced: *namespaced,
        })
    }
}

pub(super) fn rule(yaml: &str) -> Result<Rule, Vec<Fault>> {
    let config: DiscoveryRule = serde_saphyr::from_str(yaml).expect("the rule's form is right");
    Rule::compile("rules[0]", &config)
}

pub(super) fn rules(yaml: &str) -> Vec<Rule> {
    let configs: Vec<DiscoveryRule> = serde_saphyr::from_str(yaml).expect("valid YAML");
    configs
        .iter()
        .map(|config| Rule::compile("rules", config).expect("valid"))
        .collect()
}

pub(super) fn labels(names: &[&str]) -> Vec<ArcStr> {
    let mut names: Vec<ArcStr> = names.iter().map(|name| ArcStr::from(*name)).collect();
    names.sort();
    names
}

/// `resource label`, of each resource that the labels name.
pub(super) fn named(rule: &Rule, names: &[&str]) -> Vec<String> {
    let kinds = rule.resources(&labels(names), &Mapper);
    let named = kinds.iter();
    named
        .map(|(kind, label)| format!("{} {label}", kind.resource))
        .collect()
}

/// A series with its labels.
pub(super) type Series = (&'static str, &'static [&'static str]);

/// What these rules offer of these series: the metric and the resource, the rule and the series; the later one counts.
pub(super) fn offers<'a>(rules: &[(&'a Rule, &[Series])]) -> Vec<(String, &'a Rule, Series)> {
    let mut offers: Vec<(String, &Rule, Series)> = Vec::new();
    for (rule, all) in rules {
        for (series, names) in *all {
            let Some(metric) = rule.metric_name(series) else {
                continue;
            };
            for (kind, _) in rule.resources(&labels(names), &Mapper) {
                let root = if kind.namespaced { "" } else { " (root)" };
                let offer = format!("{} {metric}{root}", kind.resource);
                offers.retain(|(known, ..)| *known != offer);
                offers.push((offer, rule, (series, names)));
            }
        }
    }
    offers.sort_by(|a, b| a.0.cmp(&b.0));
    offers
}

/// The query for objects of a resource, by the labels that the series has for them.
pub(super) fn query(
    (rule, (series, names)): (&Rule, Series),
    resource: &str,
    namespace: Option<&str>,
    objects: &[&str],
    selector: &str,
) -> Result<String, RequestError> {
    let resources = rule.resources(&labels(names), &Mapper);
    let resource = Mapper
        .resolve(&GroupResource::parse(resource))
        .expect("known")
        .resource;
    let label_of = |resource: &GroupResource| {
        let found = resources
            .iter()
            .find(|(kind, _)| kind.resource == *resource);
        found.map(|(_, label)| label.as_str())
    };
    let namespace_label = label_of(&GroupResource::core("namespaces"));
    rule.query(&QueryRequest {
        series,
        namespace: namespace_label.zip(namespace),
        objects,
        object_label: label_of(&resource).expect("a label names it"),
        selector: &Selector::parse(selector).expect("a selector"),
    })
}

/// The query of an external metric.
pub(super) fn external(
    rule: &Rule,
    series: &str,
    namespace: &str,
    selector: &str,
) -> Result<String, RequestError> {
    let label = rule
        .is_namespaced()
        .then(|| rule.namespace_label(&Mapper))
        .flatten();
    let selector = Selector::parse(selector).expect("a selector");
    rule.query_external(
        series,
        label.as_deref().map(|label| (label, namespace)),
        &selector,
    )
}
