//! The resources that the cluster has, from kube-apiserver's aggregated discovery: built-in ones, custom ones, those of
//! other API servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use kube::Client;
use kube::core::discovery::v2::{APIGroupDiscovery, APIResourceDiscovery};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::request::{RequestError, bounded, describe};
use crate::model::objects::{GroupResource, ResourceKind, ResourceMapper};

use super::{StaticMapper, choose};

/// How often the cluster is asked what it has.
const INTERVAL: Duration = Duration::from_secs(300);

/// The shortest time between two questions, where somebody names a resource that is not known: it may be new.
const SHORTEST: Duration = Duration::from_secs(10);

/// The most resources that are kept; a cluster with every operator there is has a few thousand.
const MOST: usize = 20_000;

/// Groups whose resources are metrics and no objects.
const METRICS: [&str; 3] = [
    "custom.metrics.k8s.io",
    "external.metrics.k8s.io",
    "metrics.k8s.io",
];

/// Knows what the cluster has; until it has answered, what every cluster has.
#[derive(Debug)]
pub struct DiscoveredMapper {
    known: ArcSwapOption<Vec<Row>>,
    /// Raised where a name was not known.
    missed: Notify,
    generation: AtomicU64,
}

/// Keeps a [`DiscoveredMapper`] current; does nothing until it is run.
pub struct Discovery {
    client: Client,
    mapper: Arc<DiscoveredMapper>,
    shortest: Duration,
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    kind: ResourceKind,
    /// The singular, and what kubectl takes for short.
    others: Vec<String>,
}

/// A mapper of what this client's cluster has, and what keeps it current.
pub fn discover(client: Client) -> (Arc<DiscoveredMapper>, Discovery) {
    let mapper = Arc::new(DiscoveredMapper {
        known: ArcSwapOption::empty(),
        missed: Notify::new(),
        generation: AtomicU64::new(0),
    });
    let discovery = Discovery {
        client,
        mapper: Arc::clone(&mapper),
        shortest: SHORTEST,
    };
    (mapper, discovery)
}

/// A mapper of what this client's cluster has now.
///
/// # Errors
/// Where the cluster does not tell.
pub async fn discover_once(client: Client) -> Result<Arc<DiscoveredMapper>, RequestError> {
    let (mapper, discovery) = discover(client);
    mapper.known.store(Some(Arc::new(discovery.ask().await?)));
    Ok(mapper)
}

impl ResourceMapper for DiscoveredMapper {
    fn resolve(&self, name: &GroupResource) -> Option<ResourceKind> {
        let known = self.known.load();
        let Some(rows) = known.as_deref() else {
            return StaticMapper.resolve(name);
        };
        let is_named = |row: &Row, name: &str| {
            row.kind.resource.resource == name || row.others.iter().any(|other| other == name)
        };
        let found = choose(name, rows, is_named, |row| &row.kind.resource.group);
        if found.is_none() {
            self.missed.notify_one();
        }
        found.map(|row| row.kind.clone())
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }
}

impl Discovery {
    /// Asks now, then from time to time, and soon after a name that was not known, until `cancel`. What was known stays
    /// where the cluster does not answer.
    pub async fn run(self, cancel: CancellationToken) {
        let mut failing = false;
        loop {
            let asked = Instant::now();
            match cancel.run_until_cancelled(self.ask()).await {
                None => return,
                Some(Ok(rows)) => {
                    if failing {
                        info!("discovery recovered");
                    }
                    failing = false;
                    if self.mapper.known.load().as_deref() != Some(&rows) {
                        self.mapper.known.store(Some(Arc::new(rows)));
                        self.mapper.generation.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Some(Err(error)) => {
                    if !failing {
                        let error = describe(&error);
                        warn!(%error, "cannot discover the cluster's resources; what is known stays");
                    }
                    failing = true;
                }
            }
            let wait = async {
                let missed = self.mapper.missed.notified();
                tokio::select! {
                    () = sleep_until(asked + INTERVAL) => {}
                    () = missed => sleep_until(asked + self.shortest).await,
                }
            };
            if cancel.run_until_cancelled(wait).await.is_none() {
                return;
            }
        }
    }

    async fn ask(&self) -> Result<Vec<Row>, RequestError> {
        let core = bounded(|| self.client.list_core_api_versions_aggregated()).await?;
        let others = bounded(|| self.client.list_api_groups_aggregated()).await?;
        let groups = core.items.iter().chain(&others.items);
        Ok(groups.flat_map(rows).take(MOST).collect())
    }
}

/// The resources of a group, each in the version that the group prefers.
fn rows(group: &APIGroupDiscovery) -> Vec<Row> {
    let name = group.metadata.as_ref().and_then(|it| it.name.as_deref());
    let name = name.unwrap_or_default();
    let mut rows: Vec<Row> = Vec::new();
    if METRICS.contains(&name) {
        return rows;
    }
    for version in &group.versions {
        for resource in &version.resources {
            let version = version.version.as_deref().unwrap_or_default();
            let Some(row) = row(name, version, resource) else {
                continue;
            };
            if !rows.iter().any(|it| it.kind.resource == row.kind.resource) {
                rows.push(row);
            }
        }
    }
    rows
}

fn row(group: &str, version: &str, resource: &APIResourceDiscovery) -> Option<Row> {
    let kind = resource.response_kind.as_ref()?.kind.clone()?;
    let singular = resource.singular_resource.clone();
    let singular = singular.filter(|it| !it.is_empty());
    let singular = singular.unwrap_or_else(|| kind.to_lowercase());
    let short = resource.short_names.iter().cloned();
    Some(Row {
        kind: ResourceKind {
            resource: GroupResource {
                group: group.to_owned(),
                resource: resource.resource.clone()?,
            },
            version: version.to_owned(),
            kind,
            namespaced: resource.scope.as_deref() == Some("Namespaced"),
        },
        others: short.chain([singular]).collect(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::fake_api::{Answer, FakeApi, soon};

    fn resource(plural: &str, kind: &str, scope: &str) -> Value {
        json!({
            "resource": plural, "scope": scope, "singularResource": kind.to_lowercase(), "verbs": ["get"],
            "responseKind": {"group": "", "version": "", "kind": kind},
        })
    }

    fn group(name: &str, versions: &[(&str, &[Value])]) -> Value {
        let versions: Vec<Value> = versions
            .iter()
            .map(|(version, resources)| json!({"version": version, "resources": resources}))
            .collect();
        json!({"metadata": {"name": name}, "versions": versions})
    }

    fn list(groups: &[Value]) -> Answer {
        Answer::Json(json!({
            "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": groups,
        }))
    }

    fn resolve(mapper: &DiscoveredMapper, name: &str) -> Option<(String, String, bool)> {
        let kind = mapper.resolve(&GroupResource::parse(name))?;
        let name = format!("{} {}", kind.api_version(), kind.resource.resource);
        Some((name, kind.kind, kind.namespaced))
    }

    fn found(name: &str, kind: &str, namespaced: bool) -> Option<(String, String, bool)> {
        Some((name.to_owned(), kind.to_owned(), namespaced))
    }

    #[tokio::test]
    async fn custom_resources_are_known_in_their_scope_and_preferred_version() {
        let api = FakeApi::start().await;
        let pods = resource("pods", "Pod", "Namespaced");
        api.answer("/api", list(&[group("", &[("v1", &[pods])])]), usize::MAX);
        let queues = resource("queues", "Queue", "Cluster");
        let old = resource("topics", "Topic", "Namespaced");
        let metrics = resource("queues", "MetricValueList", "Namespaced");
        let groups = [
            group("custom.metrics.k8s.io", &[("v1beta2", &[metrics])]),
            group(
                "rabbit.io",
                &[
                    ("v2", std::slice::from_ref(&queues)),
                    ("v1", &[queues.clone(), old]),
                ],
            ),
        ];
        api.answer("/apis", list(&groups), usize::MAX);
        let (mapper, discovery) = discover(api.client());
        let cancel = CancellationToken::new();
        assert_eq!(resolve(&mapper, "po"), found("/v1 pods", "Pod", true));
        assert_eq!(resolve(&mapper, "queues"), None, "not asked yet");
        tokio::spawn(discovery.run(cancel.clone()));
        let queue = found("rabbit.io/v2 queues", "Queue", false);
        soon("discovery", || resolve(&mapper, "Queue.rabbit") == queue).await;
        let topic = found("rabbit.io/v1 topics", "Topic", true);
        assert_eq!(resolve(&mapper, "topic"), topic);
        assert_eq!(resolve(&mapper, "pod"), found("/v1 pods", "Pod", true));
        assert_eq!(
            resolve(&mapper, "deployments"),
            None,
            "this cluster has none"
        );
        cancel.cancel();
    }

    #[tokio::test]
    async fn a_name_that_is_not_known_is_asked_for_anew_but_not_at_every_question() {
        let api = FakeApi::start().await;
        api.answer("/api", list(&[group("", &[])]), usize::MAX);
        api.answer("/apis", list(&[]), usize::MAX);
        let (mapper, mut discovery) = discover(api.client());
        discovery.shortest = Duration::from_millis(200);
        let cancel = CancellationToken::new();
        tokio::spawn(discovery.run(cancel.clone()));
        soon("discovery", || mapper.generation() == 1).await;
        let queues = resource("queues", "Queue", "Cluster");
        api.answer(
            "/apis",
            list(&[group("rabbit.io", &[("v1", &[queues])])]),
            usize::MAX,
        );
        let asked = api.requests().len();
        let started = Instant::now();
        soon("the new resource", || resolve(&mapper, "queue").is_some()).await;
        let rounds = started.elapsed().as_millis() / 200 + 2;
        let asked = api.requests().len() - asked;
        assert!(
            asked as u128 <= 2 * rounds,
            "{asked} requests in {rounds} rounds"
        );
        assert_eq!(mapper.generation(), 2);
        cancel.cancel();
    }
}
