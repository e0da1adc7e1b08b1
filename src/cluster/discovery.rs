//! Watches objects that may be scraped, cut down to what scrape targets are made of.
//!
//! One writer ([`Discovery::run`]) for each different [`Query`]; readers hold a `watch::Receiver` of the last whole state.
//! When the watch fails, that state stays until the next full list, since objects do not vanish with the API server.

mod object;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures_util::stream::{self, SelectAll};
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::Resource;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::follow::{Follow, everything};
pub use object::{
    Discovered, DiscoveredContainer, DiscoveredEndpoint, DiscoveredNode, DiscoveredPod,
    DiscoveredPort, DiscoveredService, DiscoveredSlice, Metadata, SlicePort,
};

/// A kind of objects that can be watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Pods.
    #[default]
    Pod,
    /// Nodes, which have no namespace.
    Node,
    /// Services.
    Service,
    /// EndpointSlices.
    EndpointSlice,
}

/// Which objects to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Query {
    /// Their kind.
    pub kind: Kind,
    /// The namespaces to look in, one watch each. Empty: all namespaces, in one watch.
    pub namespaces: Vec<String>,
    /// A label selector for the API server.
    pub label_selector: Option<String>,
    /// A field selector for the API server.
    pub field_selector: Option<String>,
    /// An annotation that must be `true`. The API server cannot select by it, so the others come and are not kept.
    pub annotated: Option<String>,
}

/// All objects of a query, in the order of namespaces and names.
pub type Objects = Arc<Vec<Arc<Discovered>>>;

/// The task behind a query's objects.
pub struct Discovery {
    client: kube::Client,
    query: Query,
    state: State,
    objects: watch::Sender<Objects>,
}

impl Discovery {
    /// A discovery that has yet to [`run`](Self::run), and where its objects appear: none before the first full list.
    pub fn new(client: kube::Client, query: Query) -> (Self, watch::Receiver<Objects>) {
        let (objects, receiver) = watch::channel(Objects::default());
        let state = State::default();
        let discovery = Self {
            client,
            query,
            state,
            objects,
        };
        (discovery, receiver)
    }

    /// Watches until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut events = SelectAll::new();
        for (scope, changes) in self.query.changes(&self.client).into_iter().enumerate() {
            events.push(changes.map(move |change| (scope, change)).boxed());
        }
        while let Some(Some((scope, change))) = cancel.run_until_cancelled(events.next()).await {
            let change = self.query.narrowed(change);
            if change.is_some_and(|change| self.state.apply(scope, change)) {
                self.objects.send_replace(self.state.objects());
            }
        }
    }
}

type Changes = stream::BoxStream<'static, Event<Discovered>>;

impl Query {
    /// One watch for each namespace, or one for all of them.
    fn changes(&self, client: &kube::Client) -> Vec<Changes> {
        match self.kind {
            Kind::Pod => self.in_namespaces::<Pod>(client),
            Kind::Service => self.in_namespaces::<Service>(client),
            Kind::EndpointSlice => self.in_namespaces::<EndpointSlice>(client),
            Kind::Node => self.in_cluster::<Node>(client),
        }
    }

    fn in_namespaces<K>(&self, client: &kube::Client) -> Vec<Changes>
    where
        K: Watched + Resource<Scope = NamespaceResourceScope>,
    {
        if self.namespaces.is_empty() {
            let api = Api::<K>::all(client.clone());
            return vec![changes_of(Follow::new(self.what(), api, self.config()))];
        }
        let each = self.namespaces.iter().map(|namespace| {
            let api = Api::<K>::namespaced(client.clone(), namespace);
            let what = format!("{}, namespace {namespace}", self.what());
            changes_of(Follow::new(what, api, self.config()))
        });
        each.collect()
    }

    fn in_cluster<K>(&self, client: &kube::Client) -> Vec<Changes>
    where
        K: Watched + Resource<Scope = ClusterResourceScope>,
    {
        let api = Api::<K>::all(client.clone());
        vec![changes_of(Follow::new(self.what(), api, self.config()))]
    }

    fn config(&self) -> watcher::Config {
        let mut config = everything();
        config.label_selector.clone_from(&self.label_selector);
        config.field_selector.clone_from(&self.field_selector);
        config
    }

    /// What the log calls the watch.
    fn what(&self) -> String {
        let kind = match self.kind {
            Kind::Pod => "pods",
            Kind::Node => "nodes",
            Kind::Service => "services",
            Kind::EndpointSlice => "endpointslices",
        };
        let mut what = format!("{kind} to scrape");
        let selectors = [&self.label_selector, &self.field_selector, &self.annotated];
        for selector in selectors.into_iter().flatten() {
            what = format!("{what}, {selector}");
        }
        what
    }

    /// A change as it concerns this query: an object without the annotation is not listed, or has lost it.
    fn narrowed(&self, change: Event<Discovered>) -> Option<Event<Discovered>> {
        let Some(annotation) = &self.annotated else {
            return Some(change);
        };
        let wanted = |object: &Discovered| {
            object
                .metadata()
                .annotations
                .get(annotation)
                .is_some_and(|value| value == "true")
        };
        match change {
            Event::InitApply(object) if !wanted(&object) => None,
            Event::Apply(object) if !wanted(&object) => Some(Event::Delete(object)),
            other => Some(other),
        }
    }
}

/// What a kind of object must be to be watched here.
trait Watched:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Into<Discovered> + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Into<Discovered>
        + 'static
{
}

/// All that a watch tells, for ever, cut down at once.
fn changes_of<K: Watched>(follow: Follow<K>) -> Changes {
    events_of(follow)
        .map(|event| match event {
            Event::Init => Event::Init,
            Event::InitApply(object) => Event::InitApply(object.into()),
            Event::InitDone => Event::InitDone,
            Event::Apply(object) => Event::Apply(object.into()),
            Event::Delete(object) => Event::Delete(object.into()),
        })
        .boxed()
}

fn events_of<K: Watched>(follow: Follow<K>) -> impl Stream<Item = Event<K>> + Send {
    stream::unfold(follow, async |mut follow| {
        Some((follow.next().await, follow))
    })
}

type Scope = BTreeMap<(String, String), Arc<Discovered>>;

/// The objects of each watch: as known, and of a list that is not complete yet.
#[derive(Default)]
struct State {
    known: BTreeMap<usize, Scope>,
    listing: BTreeMap<usize, Scope>,
}

impl State {
    /// Takes in an event of one watch; says whether the known objects changed.
    fn apply(&mut self, scope: usize, event: Event<Discovered>) -> bool {
        match event {
            Event::Init => {
                self.listing.insert(scope, Scope::new());
                false
            }
            Event::InitApply(object) => {
                self.listing
                    .entry(scope)
                    .or_default()
                    .insert(object.key(), Arc::new(object));
                false
            }
            Event::InitDone => {
                let listed = self.listing.remove(&scope).unwrap_or_default();
                // The first list counts as a change even if it is empty: now it is known that there is nothing.
                let changed = self.known.get(&scope) != Some(&listed);
                self.known.insert(scope, listed);
                changed
            }
            Event::Apply(object) => {
                let object = Arc::new(object);
                let before = self
                    .known
                    .entry(scope)
                    .or_default()
                    .insert(object.key(), object.clone());
                before != Some(object)
            }
            Event::Delete(object) => {
                let known = self.known.entry(scope).or_default();
                known.remove(&object.key()).is_some()
            }
        }
    }

    fn objects(&self) -> Objects {
        let mut all: Vec<_> = self.known.values().flatten().collect();
        all.sort_by_key(|(key, _)| *key);
        Arc::new(all.into_iter().map(|(_, object)| object.clone()).collect())
    }
}

#[cfg(test)]
mod tests;
