//! Which resource a name means.
//!
//! For a name without a group any group will do, in kube-apiserver's order of preference; a group counts exactly, else as a
//! prefix (`networking` is `networking.k8s.io`), as in client-go's `DefaultRESTMapper`.

mod discovered;

use kube::core::{ApiResource, GroupVersionKind};

use crate::model::objects::{GroupResource, ResourceKind, ResourceMapper};

pub use discovered::{DiscoveredMapper, Discovery, discover, discover_once};

/// The resources that metrics are asked about most, as a fixed table: all there is where no cluster is at hand.
#[derive(Clone, Copy, Debug, Default)]
pub struct StaticMapper;

struct Row {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    /// The singular, and what kubectl takes for short.
    others: [&'static str; 2],
    namespaced: bool,
}

/// In the order of preference for names without a group.
const TABLE: [Row; 8] = [
    row("", "Pod", "pods", ["pod", "po"], true),
    row("", "Namespace", "namespaces", ["namespace", "ns"], false),
    row("", "Node", "nodes", ["node", "no"], false),
    row("", "Service", "services", ["service", "svc"], true),
    row(
        "apps",
        "Deployment",
        "deployments",
        ["deployment", "deploy"],
        true,
    ),
    row(
        "apps",
        "StatefulSet",
        "statefulsets",
        ["statefulset", "sts"],
        true,
    ),
    row(
        "apps",
        "ReplicaSet",
        "replicasets",
        ["replicaset", "rs"],
        true,
    ),
    row("batch", "Job", "jobs", ["job", "job"], true),
];

const fn row(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    others: [&'static str; 2],
    namespaced: bool,
) -> Row {
    Row {
        group,
        version: "v1",
        kind,
        plural,
        others,
        namespaced,
    }
}

impl ResourceMapper for StaticMapper {
    fn resolve(&self, name: &GroupResource) -> Option<ResourceKind> {
        let is_named = |row: &Row, name: &str| row.plural == name || row.others.contains(&name);
        let row = choose(name, &TABLE, is_named, |row| row.group)?;
        Some(ResourceKind {
            resource: GroupResource {
                group: row.group.to_owned(),
                resource: row.plural.to_owned(),
            },
            version: row.version.to_owned(),
            kind: row.kind.to_owned(),
            namespaced: row.namespaced,
        })
    }
}

/// What kube asks a kind's objects by.
pub(super) fn api_resource(kind: &ResourceKind) -> ApiResource {
    let gvk = GroupVersionKind::gvk(&kind.resource.group, &kind.version, &kind.kind);
    ApiResource::from_gvk_with_plural(&gvk, &kind.resource.resource)
}

/// The first row that this means, of rows in the order of preference.
fn choose<'a, R>(
    wanted: &GroupResource,
    rows: &'a [R],
    is_named: impl Fn(&R, &str) -> bool,
    group_of: impl Fn(&R) -> &str,
) -> Option<&'a R> {
    let resource = wanted.resource.to_ascii_lowercase();
    let group = wanted.group.to_ascii_lowercase();
    let named = || rows.iter().filter(|row| is_named(row, &resource));
    named()
        .find(|row| group.is_empty() || group_of(row) == group)
        .or_else(|| named().find(|row| group_of(row).starts_with(&group)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Option<(String, String, bool)> {
        let kind = StaticMapper.resolve(&GroupResource::parse(text))?;
        Some((kind.resource.to_string(), kind.kind, kind.namespaced))
    }

    #[test]
    fn a_resource_has_many_names() {
        for (names, resource, kind, namespaced) in [
            ("pods pod po POD Pods", "pods", "Pod", true),
            ("namespaces namespace ns", "namespaces", "Namespace", false),
            ("nodes node no", "nodes", "Node", false),
            ("services service svc", "services", "Service", true),
            (
                "deployments deployment deploy deployments.apps deploy.app",
                "deployments.apps",
                "Deployment",
                true,
            ),
            (
                "statefulsets sts sts.apps",
                "statefulsets.apps",
                "StatefulSet",
                true,
            ),
            ("rs ReplicaSet", "replicasets.apps", "ReplicaSet", true),
            ("jobs job jobs.batch job.BATCH", "jobs.batch", "Job", true),
        ] {
            for name in names.split(' ') {
                let expected = (resource.to_owned(), kind.to_owned(), namespaced);
                assert_eq!(resolve(name), Some(expected), "{name}");
            }
        }
    }

    #[test]
    fn a_wrong_group_or_name_is_nothing() {
        for name in [
            "pods.apps",
            "deployments.apps.io",
            "jobs.b4tch",
            "queues",
            "",
        ] {
            assert_eq!(resolve(name), None, "{name}");
        }
    }

    #[test]
    fn upper_case_counts_as_lower_case_in_the_group_too() {
        let name = GroupResource {
            group: "APPS".to_owned(),
            resource: "Deploy".to_owned(),
        };
        let kind = StaticMapper.resolve(&name).expect("deployments");
        assert_eq!(kind.api_version(), "apps/v1");
    }
}
