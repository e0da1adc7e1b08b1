//! Watches pods that may be scraped: whole pods, cut down to what scrape targets are made of.
//!
//! One writer ([`PodDiscovery::run`]); readers hold a `watch::Receiver` of the last whole state. When the watch fails,
//! that state stays until the next full list, since pods do not vanish with the API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::{self, SelectAll};
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::Api;
use kube::runtime::watcher::Event;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::follow::{Follow, everything};

/// Which pods to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodQuery {
    /// The namespaces to look in, one watch each. Empty: all namespaces, in one watch.
    pub namespaces: Vec<String>,
    /// A label selector for the API server.
    pub label_selector: Option<String>,
    /// A field selector for the API server.
    pub field_selector: Option<String>,
}

/// A pod, as far as it matters for scraping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveredPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: another pod of the same name has another one.
    pub uid: String,
    /// Its address; empty until it has one.
    pub ip: String,
    /// The address of its node.
    pub host_ip: String,
    /// Its node's name; empty until it is scheduled.
    pub node_name: String,
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// The status of its condition `Ready`: `true`, `false` or `unknown`.
    pub ready: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Kind and name of the owner that controls it.
    pub controller: Option<(String, String)>,
    /// Its containers, the ordinary ones first.
    pub containers: Vec<DiscoveredContainer>,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveredContainer {
    /// Its name.
    pub name: String,
    /// Its image, as the pod names it.
    pub image: String,
    /// Whether it is an init container.
    pub init: bool,
    /// The ports that it declares.
    pub ports: Vec<DiscoveredPort>,
}

/// A port that a container declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveredPort {
    /// Its name; may be empty.
    pub name: String,
    /// Its number.
    pub number: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// All pods of a query, in the order of namespaces and names.
pub type Pods = Arc<Vec<Arc<DiscoveredPod>>>;

/// The task behind a query's pods.
pub struct PodDiscovery {
    client: kube::Client,
    query: PodQuery,
    state: State,
    pods: watch::Sender<Pods>,
}

impl PodDiscovery {
    /// A discovery that has yet to [`run`](Self::run), and where its pods appear: none before the first full list.
    pub fn new(client: kube::Client, query: PodQuery) -> (Self, watch::Receiver<Pods>) {
        let (pods, receiver) = watch::channel(Pods::default());
        let state = State::default();
        let discovery = Self {
            client,
            query,
            state,
            pods,
        };
        (discovery, receiver)
    }

    /// Watches until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut events = SelectAll::new();
        for (scope, follow) in self.query.follows(&self.client).into_iter().enumerate() {
            events.push(events_of(follow).map(move |event| (scope, event)).boxed());
        }
        while let Some(Some((scope, event))) = cancel.run_until_cancelled(events.next()).await {
            if self.state.apply(scope, event) {
                self.pods.send_replace(self.state.pods());
            }
        }
    }
}

impl PodQuery {
    /// One watch for each namespace, or one for all of them.
    fn follows(&self, client: &kube::Client) -> Vec<Follow<Pod>> {
        let mut config = everything();
        config.label_selector.clone_from(&self.label_selector);
        config.field_selector.clone_from(&self.field_selector);
        let mut what = "pods to scrape".to_owned();
        let selectors = [&self.label_selector, &self.field_selector];
        for selector in selectors.into_iter().flatten() {
            what = format!("{what}, {selector}");
        }
        let follow = |what, api| Follow::new(what, api, config.clone());
        if self.namespaces.is_empty() {
            return vec![follow(what, Api::all(client.clone()))];
        }
        let each = self.namespaces.iter().map(|namespace| {
            let api = Api::namespaced(client.clone(), namespace);
            follow(format!("{what}, namespace {namespace}"), api)
        });
        each.collect()
    }
}

/// All that a watch tells, for ever.
fn events_of(follow: Follow<Pod>) -> impl Stream<Item = Event<Pod>> + Send {
    stream::unfold(follow, async |mut follow| {
        Some((follow.next().await, follow))
    })
}

type Scope = BTreeMap<(String, String), Arc<DiscoveredPod>>;

/// The pods of each watch: as known, and of a list that is not complete yet.
#[derive(Default)]
struct State {
    known: BTreeMap<usize, Scope>,
    listing: BTreeMap<usize, Scope>,
}

impl State {
    /// Takes in an event of one watch; says whether the known pods changed.
    fn apply(&mut self, scope: usize, event: Event<Pod>) -> bool {
        match event {
            Event::Init => {
                self.listing.insert(scope, Scope::new());
                false
            }
            Event::InitApply(pod) => {
                let pod = DiscoveredPod::from(pod);
                self.listing
                    .entry(scope)
                    .or_default()
                    .insert(pod.key(), Arc::new(pod));
                false
            }
            Event::InitDone => {
                let listed = self.listing.remove(&scope).unwrap_or_default();
                // The first list counts as a change even if it is empty: now it is known that there is no pod.
                let changed = self.known.get(&scope) != Some(&listed);
                self.known.insert(scope, listed);
                changed
            }
            Event::Apply(pod) => {
                let pod = Arc::new(DiscoveredPod::from(pod));
                let before = self
                    .known
                    .entry(scope)
                    .or_default()
                    .insert(pod.key(), pod.clone());
                before != Some(pod)
            }
            Event::Delete(pod) => {
                let key = DiscoveredPod::from(pod).key();
                let known = self.known.entry(scope).or_default();
                known.remove(&key).is_some()
            }
        }
    }

    fn pods(&self) -> Pods {
        let mut pods: Vec<_> = self.known.values().flat_map(Scope::values).collect();
        pods.sort_by_key(|pod| (&pod.namespace, &pod.name));
        Arc::new(pods.into_iter().cloned().collect())
    }
}

impl DiscoveredPod {
    fn key(&self) -> (String, String) {
        (self.namespace.clone(), self.name.clone())
    }
}

impl From<Pod> for DiscoveredPod {
    fn from(pod: Pod) -> Self {
        let (meta, spec) = (pod.metadata, pod.spec.unwrap_or_default());
        let status = pod.status.unwrap_or_default();
        let owners = meta.owner_references.unwrap_or_default();
        let mut conditions = status.conditions.unwrap_or_default().into_iter();
        let ready = conditions.find(|it| it.type_ == "Ready");
        let mut annotations = meta.annotations.unwrap_or_default();
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        let containers = spec.containers.into_iter().map(|it| (false, it));
        let init = spec.init_containers.into_iter().flatten();
        Self {
            namespace: meta.namespace.unwrap_or_default(),
            name: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
            ip: status.pod_ip.unwrap_or_default(),
            host_ip: status.host_ip.unwrap_or_default(),
            node_name: spec.node_name.unwrap_or_default(),
            phase: status.phase.unwrap_or_default(),
            ready: ready.map_or("unknown".to_owned(), |it| it.status.to_lowercase()),
            labels: meta.labels.unwrap_or_default(),
            annotations,
            controller: owners
                .into_iter()
                .find(|owner| owner.controller == Some(true))
                .map(|owner| (owner.kind, owner.name)),
            containers: containers
                .chain(init.map(|it| (true, it)))
                .map(|(init, container)| DiscoveredContainer::new(init, container))
                .collect(),
        }
    }
}

impl DiscoveredContainer {
    fn new(init: bool, container: Container) -> Self {
        let ports = container.ports.unwrap_or_default().into_iter();
        Self {
            name: container.name,
            image: container.image.unwrap_or_default(),
            init,
            ports: ports
                .filter_map(|port| {
                    Some(DiscoveredPort {
                        name: port.name.unwrap_or_default(),
                        number: u16::try_from(port.container_port).ok()?,
                        protocol: port.protocol.unwrap_or_else(|| "TCP".to_owned()),
                    })
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, ip: &str) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": "gpu", "name": name, "resourceVersion": ip,
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "dcgm", "uid": "u", "controller": true}]},
            "spec": {"nodeName": "n1",
                "containers": [{"name": "c", "image": "dcgm:4", "ports": [{"containerPort": 9400, "name": "metrics"}, {"containerPort": 70000}]}],
                "initContainers": [{"name": "i"}]},
            "status": {"podIP": ip, "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .expect("a pod")
    }

    fn names(state: &State) -> Vec<String> {
        let name = |pod: &Arc<DiscoveredPod>| format!("{}@{}", pod.name, pod.ip);
        state.pods().iter().map(name).collect()
    }

    #[test]
    fn a_pod_is_cut_down_to_what_matters() {
        let found = DiscoveredPod::from(pod("a", "10.0.0.1"));
        assert_eq!(
            found.controller,
            Some(("DaemonSet".to_owned(), "dcgm".to_owned()))
        );
        assert_eq!(
            (found.ready.as_str(), found.node_name.as_str()),
            ("true", "n1")
        );
        let ports: Vec<u16> = found.containers[0]
            .ports
            .iter()
            .map(|it| it.number)
            .collect();
        assert_eq!(ports, [9400], "a number that is no port is left out");
        assert!(found.containers[1].init);
    }

    #[test]
    fn a_list_counts_when_it_is_complete() {
        let mut state = State::default();
        assert!(!state.apply(0, Event::Init));
        assert!(!state.apply(0, Event::InitApply(pod("a", "1"))));
        assert!(names(&state).is_empty());
        assert!(state.apply(0, Event::InitDone));
        assert_eq!(names(&state), ["a@1"]);

        // A second list, broken off: what is known stays.
        state.apply(0, Event::Init);
        assert_eq!(names(&state), ["a@1"]);
        state.apply(0, Event::Init);
        state.apply(0, Event::InitApply(pod("b", "2")));
        assert!(state.apply(0, Event::InitDone));
        assert_eq!(names(&state), ["b@2"], "a vanished while nobody watched");
    }

    #[test]
    fn only_a_change_that_matters_is_a_change() {
        let mut state = State::default();
        assert!(state.apply(0, Event::Apply(pod("a", "1"))));
        let mut again = pod("a", "1");
        again.metadata.resource_version = Some("77".to_owned());
        assert!(!state.apply(0, Event::Apply(again)));
        assert!(state.apply(1, Event::Apply(pod("b", "2"))));
        assert_eq!(names(&state), ["a@1", "b@2"]);
        assert!(state.apply(0, Event::Delete(pod("a", "1"))));
        assert!(!state.apply(0, Event::Delete(pod("a", "1"))));
        assert_eq!(names(&state), ["b@2"]);
    }
}
