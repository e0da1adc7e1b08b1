//! The cluster's pods and namespaces, and on demand its running pods and its nodes: watched as metadata only, listed from memory.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::follow::{Follow, Health, everything};
use super::index::{Index, IndexWriter, index};
use crate::model::objects::{
    GroupResource, LabelledObject, ListError, MeteredObjects, ObjectLister, ObjectRef,
};
use crate::model::selector::Selector;

/// Pods and namespaces, as last known. A list takes no lock and makes no request.
#[derive(Debug)]
pub struct Objects {
    pods: Watched,
    namespaces: Watched,
}

/// Running pods and nodes, as last known: what resource metrics are told of. A list takes no lock and makes no request.
#[derive(Debug)]
pub struct Metered {
    pods: Watched,
    nodes: Watched,
}

#[derive(Debug)]
struct Watched {
    resource: GroupResource,
    index: Arc<Index>,
    health: watch::Receiver<Health>,
}

/// The watches that fill an [`Objects`]; they do nothing until they are run.
pub struct ObjectWatches {
    pods: Filling<Pod>,
    namespaces: Filling<Namespace>,
}

/// The watches that fill a [`Metered`]; they do nothing until they are run.
pub struct MeteredWatches {
    pods: Filling<Pod>,
    nodes: Filling<Node>,
}

struct Filling<K> {
    follow: Follow<PartialObjectMeta<K>>,
    writer: IndexWriter,
}

/// A watch has not delivered its first list in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{resource} are not known yet: {}", reason(.health))]
pub struct NotSynced {
    /// What is missing.
    pub resource: GroupResource,
    /// How its watch does.
    pub health: Health,
}

fn reason(health: &Health) -> &str {
    match health {
        Health::Starting | Health::Live => "the API server has not answered",
        Health::Failing { error, .. } => error,
    }
}

/// The objects that `client` may see in all namespaces, and the watches that keep them current.
pub fn watch_objects(client: Client) -> (Arc<Objects>, ObjectWatches) {
    let (pods, filling_pods) = watched("pods", Api::all(client.clone()), everything());
    let (namespaces, filling_namespaces) = watched("namespaces", Api::all(client), everything());
    let watches = ObjectWatches {
        pods: filling_pods,
        namespaces: filling_namespaces,
    };
    (Arc::new(Objects { pods, namespaces }), watches)
}

/// The running pods and the nodes, and the watches that keep them current. Metadata has no phase, so the API server selects by
/// it: a pod that ends leaves this watch.
pub fn watch_metered(client: Client) -> (Arc<Metered>, MeteredWatches) {
    let running = everything().fields("status.phase=Running");
    let (pods, filling_pods) = watched("pods", Api::all(client.clone()), running);
    let (nodes, filling_nodes) = watched("nodes", Api::all(client), everything());
    let watches = MeteredWatches {
        pods: filling_pods,
        nodes: filling_nodes,
    };
    (Arc::new(Metered { pods, nodes }), watches)
}

fn watched<K>(
    resource: &str,
    api: Api<PartialObjectMeta<K>>,
    config: watcher::Config,
) -> (Watched, Filling<K>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + 'static,
    PartialObjectMeta<K>: Resource<DynamicType = ()> + DeserializeOwned,
{
    let follow = Follow::new(resource, api, config);
    let (writer, index) = index();
    let watched = Watched {
        resource: GroupResource::core(resource),
        index,
        health: follow.health(),
    };
    (watched, Filling { follow, writer })
}

impl ObjectWatches {
    /// Watches until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        tokio::join!(
            Box::pin(self.pods.run(&cancel)),
            Box::pin(self.namespaces.run(&cancel))
        );
    }
}

impl MeteredWatches {
    /// Watches until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        tokio::join!(
            Box::pin(self.pods.run(&cancel)),
            Box::pin(self.nodes.run(&cancel))
        );
    }
}

impl<K> Filling<K>
where
    PartialObjectMeta<K>: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    async fn run(mut self, cancel: &CancellationToken) {
        while let Some(event) = cancel.run_until_cancelled(self.follow.next()).await {
            match event {
                Event::Init => self.writer.begin(),
                Event::InitApply(object) => self.writer.stage(object.metadata),
                Event::InitDone => self.writer.finish(),
                Event::Apply(object) => self.writer.apply(object.metadata),
                Event::Delete(object) => self.writer.delete(&object.metadata),
            }
        }
    }
}

impl Objects {
    /// Whether all first lists have come. Once true, it stays true.
    pub fn synced(&self) -> bool {
        self.all().iter().all(|watched| watched.index.synced())
    }

    /// Waits until [`Objects::synced`].
    ///
    /// # Errors
    /// After `patience`, which watch is not there and why.
    pub async fn wait_until_synced(&self, patience: Duration) -> Result<(), NotSynced> {
        let end = Instant::now() + patience;
        for watched in self.all() {
            if timeout_at(end, watched.index.wait_until_synced())
                .await
                .is_err()
            {
                return Err(NotSynced {
                    resource: watched.resource.clone(),
                    health: watched.health.borrow().clone(),
                });
            }
        }
        Ok(())
    }

    /// Each watched resource: how its watch does, and how many objects are known.
    pub fn watches(&self) -> impl Iterator<Item = (&GroupResource, Health, usize)> {
        self.all().into_iter().map(|watched| {
            let health = watched.health.borrow().clone();
            (&watched.resource, health, watched.index.len())
        })
    }

    fn all(&self) -> [&Watched; 2] {
        [&self.pods, &self.namespaces]
    }
}

impl Metered {
    /// Whether both first lists have come. Once true, it stays true.
    pub fn synced(&self) -> bool {
        self.pods.index.synced() && self.nodes.index.synced()
    }
}

impl Watched {
    fn labelled(
        &self,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<LabelledObject>, ListError> {
        self.index
            .list_labelled(namespace, |labels| selector.matches(labels))
            .ok_or_else(|| ListError::NotSynced(self.resource.clone()))
    }
}

impl MeteredObjects for Metered {
    fn running_pods(
        &self,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<LabelledObject>, ListError> {
        self.pods.labelled(namespace, selector)
    }

    fn nodes(&self, selector: &Selector) -> Result<Vec<LabelledObject>, ListError> {
        self.nodes.labelled(None, selector)
    }
}

impl ObjectLister for Objects {
    fn list(
        &self,
        resource: &GroupResource,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<ObjectRef>, ListError> {
        let (watched, namespace) = match resource {
            pods if *pods == self.pods.resource => (&self.pods, namespace),
            // They are in no namespace, whichever was asked for.
            namespaces if *namespaces == self.namespaces.resource => (&self.namespaces, None),
            other => return Err(ListError::NotWatched(other.clone())),
        };
        watched
            .index
            .list(namespace, |labels| selector.matches(labels))
            .ok_or_else(|| ListError::NotSynced(resource.clone()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::fake_api::{Answer, FakeApi, soon};

    const PODS: &str = "/api/v1/pods";

    fn pod(namespace: &str, name: &str) -> serde_json::Value {
        json!({"metadata": {"namespace": namespace, "name": name, "labels": {"app": "llm"}}})
    }

    fn pods(objects: &Objects, namespace: &str) -> Vec<String> {
        let list = objects.list(
            &GroupResource::core("pods"),
            Some(namespace),
            &Selector::default(),
        );
        let list = list.unwrap_or_default().into_iter();
        list.map(|pod| pod.name.to_string()).collect()
    }

    async fn watching(api: &FakeApi) -> (Arc<Objects>, CancellationToken) {
        let (objects, watches) = watch_objects(api.client());
        let cancel = CancellationToken::new();
        tokio::spawn(watches.run(cancel.clone()));
        (objects, cancel)
    }

    fn failing(objects: &Objects) -> bool {
        objects
            .watches()
            .any(|(_, health, _)| matches!(health, Health::Failing { .. }))
    }

    #[tokio::test]
    async fn pods_are_listed_from_memory_as_they_come_and_go() {
        let api = FakeApi::start().await;
        api.put(PODS, pod("prod", "b"));
        api.put(PODS, pod("other", "x"));
        let (objects, cancel) = watching(&api).await;
        let unsynced = objects.list(&GroupResource::core("pods"), None, &Selector::default());
        assert!(matches!(unsynced, Err(ListError::NotSynced(_))));
        objects
            .wait_until_synced(Duration::from_secs(10))
            .await
            .expect("synced");
        assert_eq!(pods(&objects, "prod"), ["b"]);
        let other = Selector::parse("app=other").expect("a selector");
        assert_eq!(
            objects.list(&GroupResource::core("pods"), None, &other),
            Ok(vec![])
        );
        api.put(PODS, pod("prod", "a"));
        soon("the new pod", || pods(&objects, "prod") == ["a", "b"]).await;
        api.delete(PODS, "prod/b");
        soon("the deletion", || pods(&objects, "prod") == ["a"]).await;
        let metadata_only = "as=PartialObjectMetadata";
        assert!(
            api.requests()
                .iter()
                .all(|request| request.contains(metadata_only)),
            "{:?}",
            api.requests()
        );
        cancel.cancel();
    }

    #[tokio::test]
    async fn what_is_known_survives_an_outage_and_is_caught_up_after_it() {
        let api = FakeApi::start().await;
        api.put(PODS, pod("prod", "a"));
        let (objects, cancel) = watching(&api).await;
        objects
            .wait_until_synced(Duration::from_secs(10))
            .await
            .expect("synced");
        api.answer(PODS, Answer::Status(503, "ServiceUnavailable"), usize::MAX);
        api.cut_watches();
        soon("the failure", || failing(&objects)).await;
        api.put(PODS, pod("prod", "b"));
        assert_eq!(pods(&objects, "prod"), ["a"]);
        api.answer(PODS, Answer::Status(503, "ServiceUnavailable"), 0);
        soon("the recovery", || pods(&objects, "prod") == ["a", "b"]).await;
        assert!(!failing(&objects));
        cancel.cancel();
    }

    #[tokio::test]
    async fn a_version_that_is_gone_is_listed_anew() {
        let api = FakeApi::start().await;
        api.put(PODS, pod("prod", "a"));
        let (objects, cancel) = watching(&api).await;
        objects
            .wait_until_synced(Duration::from_secs(10))
            .await
            .expect("synced");
        // The deletion happens while nobody watches, and its event is forgotten.
        api.answer(PODS, Answer::Status(410, "Expired"), 1);
        api.cut_watches();
        api.delete(PODS, "prod/a");
        api.forget_events();
        soon("the new list", || pods(&objects, "prod").is_empty()).await;
        cancel.cancel();
    }

    #[tokio::test]
    async fn a_missing_role_is_told_with_the_api_servers_words() {
        let api = FakeApi::start().await;
        api.answer(PODS, Answer::Status(403, "Forbidden"), usize::MAX);
        let (objects, cancel) = watching(&api).await;
        soon("the failure", || failing(&objects)).await;
        let error = objects
            .wait_until_synced(Duration::from_millis(50))
            .await
            .expect_err("not synced");
        assert_eq!(error.resource, GroupResource::core("pods"));
        assert!(matches!(
            error.health,
            Health::Failing {
                forbidden: true,
                ..
            }
        ));
        assert_eq!(
            error.to_string(),
            "pods are not known yet: 403 Forbidden: told so"
        );
        cancel.cancel();
    }

    #[tokio::test]
    async fn what_is_measured_is_the_pods_that_run_and_the_nodes_with_their_labels() {
        let api = FakeApi::start().await;
        api.put(PODS, pod("prod", "a"));
        let node = json!({"metadata": {"name": "gpu-1", "labels": {"zone": "a"}}});
        api.put("/api/v1/nodes", node);
        let (metered, watches) = watch_metered(api.client());
        let everything = Selector::default();
        assert!(matches!(
            metered.nodes(&everything),
            Err(ListError::NotSynced(_))
        ));
        let cancel = CancellationToken::new();
        tokio::spawn(watches.run(cancel.clone()));
        soon("the lists", || metered.synced()).await;
        let pods = metered.running_pods(Some("prod"), &everything);
        let pods = pods.expect("synced");
        assert_eq!((pods.len(), &*pods[0].labels["app"]), (1, "llm"));
        let zone = |it| Selector::parse(it).expect("a selector");
        let nodes = |selector| metered.nodes(&selector).expect("synced").len();
        assert_eq!((nodes(zone("zone=a")), nodes(zone("zone=b"))), (1, 0));
        // Whether a pod runs is the API server's to say.
        let of_pods = |request: &&String| request.contains(PODS);
        let requests = api.requests();
        let mut of_pods = requests.iter().filter(of_pods);
        let first = of_pods.next().expect("a list");
        assert!(
            first.contains("fieldSelector=status.phase%3DRunning"),
            "{first}"
        );
        cancel.cancel();
    }

    #[tokio::test]
    async fn nothing_else_is_watched() {
        let api = FakeApi::start().await;
        let (objects, _watches) = watch_objects(api.client());
        let nodes = GroupResource::core("nodes");
        assert_eq!(
            objects.list(&nodes, None, &Selector::default()),
            Err(ListError::NotWatched(nodes))
        );
        assert!(!objects.synced());
    }
}
