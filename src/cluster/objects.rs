//! The cluster's objects: watched as metadata only, listed from memory. Pods and namespaces always; running pods and nodes
//! where their CPU and memory are served; others from the first question for them until nobody has asked for a while.

mod others;

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::follow::{Follow, Health, everything};
use super::index::{Index, IndexWriter, Traits, index};
use crate::model::objects::{
    GroupResource, LabelledObject, ListError, MeteredObjects, ObjectLister, ObjectRef, Owner,
    ResourceKind,
};
use crate::model::selector::Selector;

use others::{Others, OthersWatches};

/// Objects as last known. A list makes no request.
pub struct Objects {
    pods: Watched,
    namespaces: Watched,
    others: Others,
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
    pods: Filling<PartialObjectMeta<Pod>>,
    namespaces: Filling<PartialObjectMeta<Namespace>>,
    others: OthersWatches,
}

/// The watches that fill a [`Metered`]; they do nothing until they are run.
pub struct MeteredWatches {
    pods: Filling<PartialObjectMeta<Pod>>,
    nodes: Filling<PartialObjectMeta<Node>>,
}

struct Filling<K> {
    follow: Follow<K>,
    writer: IndexWriter,
}

/// The objects that `client` may see in all namespaces, and the watches that keep them current.
pub fn watch_objects(client: Client) -> (Arc<Objects>, ObjectWatches) {
    let core = GroupResource::core;
    let pods = Api::all(client.clone());
    let (pods, filling_pods) = watched(core("pods"), pods, everything());
    let namespaces = Api::all(client.clone());
    let (namespaces, filling_namespaces) = watched(core("namespaces"), namespaces, everything());
    let (others, other_watches) = others::others(client);
    let watches = ObjectWatches {
        pods: filling_pods,
        namespaces: filling_namespaces,
        others: other_watches,
    };
    let objects = Objects {
        pods,
        namespaces,
        others,
    };
    (Arc::new(objects), watches)
}

/// The running pods and the nodes, and the watches that keep them current. Metadata has no phase, so the API server selects by
/// it: a pod that ends leaves this watch.
pub fn watch_metered(client: Client) -> (Arc<Metered>, MeteredWatches) {
    let core = GroupResource::core;
    let running = everything().fields("status.phase=Running");
    let (pods, filling_pods) = watched(core("pods"), Api::all(client.clone()), running);
    let (nodes, filling_nodes) = watched(core("nodes"), Api::all(client), everything());
    let watches = MeteredWatches {
        pods: filling_pods,
        nodes: filling_nodes,
    };
    (Arc::new(Metered { pods, nodes }), watches)
}

fn watched<K>(
    resource: GroupResource,
    api: Api<K>,
    config: watcher::Config,
) -> (Watched, Filling<K>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let follow = Follow::new(resource.to_string(), api, config);
    let (writer, index) = index();
    let watched = Watched {
        resource,
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
            Box::pin(self.namespaces.run(&cancel)),
            Box::pin(self.others.run(&cancel)),
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

impl<K> Filling<PartialObjectMeta<K>>
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

impl Watched {
    fn list(
        &self,
        namespace: Option<&str>,
        matches: impl FnMut(&Traits) -> bool,
    ) -> Result<Vec<ObjectRef>, ListError> {
        let found = self.index.list(namespace, matches);
        found.ok_or_else(|| self.not_known())
    }

    fn labelled(
        &self,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<LabelledObject>, ListError> {
        let matches = |traits: &Traits| selector.matches(&traits.labels);
        let found = self.index.list_labelled(namespace, matches);
        found.ok_or_else(|| self.not_known())
    }

    /// Why there is no first list.
    fn not_known(&self) -> ListError {
        let resource = self.resource.clone();
        match &*self.health.borrow() {
            Health::Failing { error, .. } => ListError::Failing {
                resource,
                reason: error.clone(),
            },
            Health::Starting | Health::Live => ListError::NotSynced(resource),
        }
    }

    /// Returns when the first list has come, or the watch fails.
    async fn settled(&self) {
        let mut health = self.health.clone();
        // An error would mean that the watch is gone, and nothing more comes.
        let failing = health.wait_for(|health| matches!(health, Health::Failing { .. }));
        tokio::select! {
            () = self.index.wait_until_synced() => {}
            _ = failing => {}
        }
    }
}

impl Objects {
    /// Whether the first lists of pods and namespaces have come. Once true, it stays true.
    pub fn synced(&self) -> bool {
        self.pods.index.synced() && self.namespaces.index.synced()
    }

    async fn pods_below(
        &self,
        kind: &ResourceKind,
        namespace: &str,
        name: &str,
    ) -> Result<Vec<ObjectRef>, ListError> {
        let mut owners = HashSet::from([Owner {
            group: kind.resource.group.clone(),
            kind: kind.kind.clone(),
            name: name.to_owned(),
        }]);
        for between in others::between(kind) {
            self.others.prepare(&between).await;
            let owned = |traits: &Traits| traits.is_owned_by(&owners);
            let found = self
                .others
                .list(&between.resource, Some(namespace), owned)?;
            owners.extend(found.iter().map(|object| Owner {
                group: between.resource.group.clone(),
                kind: between.kind.clone(),
                name: object.name.to_string(),
            }));
        }
        self.pods
            .list(Some(namespace), |traits| traits.is_owned_by(&owners))
    }
}

impl Metered {
    /// Whether both first lists have come. Once true, it stays true.
    pub fn synced(&self) -> bool {
        self.pods.index.synced() && self.nodes.index.synced()
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
        let matches = |traits: &Traits| selector.matches(&traits.labels);
        match resource {
            pods if *pods == self.pods.resource => self.pods.list(namespace, matches),
            // They are in no namespace, whichever was asked for.
            namespaces if *namespaces == self.namespaces.resource => {
                self.namespaces.list(None, matches)
            }
            other => self.others.list(other, namespace, matches),
        }
    }

    fn prepare<'a>(&'a self, kind: &'a ResourceKind) -> BoxFuture<'a, ()> {
        async move {
            if kind.resource != self.pods.resource && kind.resource != self.namespaces.resource {
                self.others.prepare(kind).await;
            }
        }
        .boxed()
    }

    fn pods_of<'a>(
        &'a self,
        kind: &'a ResourceKind,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Vec<ObjectRef>, ListError>> {
        self.pods_below(kind, namespace, name).boxed()
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
        matches!(*objects.pods.health.borrow(), Health::Failing { .. })
    }

    #[tokio::test]
    async fn pods_are_listed_from_memory_as_they_come_and_go() {
        let api = FakeApi::start().await;
        api.put(PODS, pod("prod", "b"));
        api.put(PODS, pod("other", "x"));
        let (objects, cancel) = watching(&api).await;
        let unsynced = objects.list(&GroupResource::core("pods"), None, &Selector::default());
        assert!(matches!(unsynced, Err(ListError::NotSynced(_))));
        soon("the first lists", || objects.synced()).await;
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
        let before = api.requests().len();
        for _ in 0..100 {
            assert_eq!(pods(&objects, "prod"), ["a"]);
        }
        assert_eq!(api.requests().len(), before, "nothing is asked for a list");
        cancel.cancel();
    }

    #[tokio::test]
    async fn what_is_known_survives_an_outage_and_is_caught_up_after_it() {
        let api = FakeApi::start().await;
        api.put(PODS, pod("prod", "a"));
        let (objects, cancel) = watching(&api).await;
        soon("the first lists", || objects.synced()).await;
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
        soon("the first lists", || objects.synced()).await;
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
        let pods = GroupResource::core("pods");
        let error = objects.list(&pods, None, &Selector::default());
        assert_eq!(
            error.expect_err("not known").to_string(),
            "the watch of pods fails: 403 Forbidden: told so"
        );
        assert!(!objects.synced());
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
}
