//! Objects of any other kind, watched while somebody asks for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::cluster::follow::everything;
use crate::cluster::index::Traits;
use crate::cluster::mapper::api_resource;
use crate::model::objects::{GroupResource, ListError, ObjectRef, ResourceKind};

use super::{Filling, Watched, watched};

/// The most kinds that are watched at once: each is memory here and a watch at the API server.
const MOST: usize = 16;

/// After how long without a question a watch ends.
const IDLE: Duration = Duration::from_secs(1800);

/// Kinds that are watched on demand.
pub(super) struct Others {
    client: Client,
    known: Arc<Mutex<Known>>,
    start: mpsc::UnboundedSender<Start>,
}

type Known = HashMap<GroupResource, Demanded>;

#[derive(Debug)]
struct Demanded {
    watched: Arc<Watched>,
    asked: Instant,
    end: CancellationToken,
}

/// A watch to run until the token ends it. At most [`MOST`] of them are under way.
struct Start {
    filling: Filling<PartialObjectMeta<DynamicObject>>,
    end: CancellationToken,
}

/// Runs the watches that are demanded.
pub(super) struct OthersWatches {
    known: Arc<Mutex<Known>>,
    started: mpsc::UnboundedReceiver<Start>,
}

pub(super) fn others(client: Client) -> (Others, OthersWatches) {
    let known = Arc::default();
    let (start, started) = mpsc::unbounded_channel();
    let watches = OthersWatches {
        known: Arc::clone(&known),
        started,
    };
    let others = Others {
        client,
        known,
        start,
    };
    (others, watches)
}

/// The kinds between an object and its pods, in the order in which they are gone through: a KServe InferenceService has a
/// Deployment, which has ReplicaSets, which have pods; a StatefulSet or a Job has its pods itself.
pub(super) fn between(kind: &ResourceKind) -> Vec<ResourceKind> {
    let apps = |plural: &str, kind: &str| ResourceKind {
        resource: GroupResource {
            group: "apps".to_owned(),
            resource: plural.to_owned(),
        },
        version: "v1".to_owned(),
        kind: kind.to_owned(),
        namespaced: true,
    };
    let deployments = apps("deployments", "Deployment");
    let replica_sets = apps("replicasets", "ReplicaSet");
    match (&*kind.resource.group, &*kind.resource.resource) {
        ("apps", "deployments") => vec![replica_sets],
        ("apps" | "batch", _) => Vec::new(),
        _ => vec![deployments, replica_sets],
    }
}

impl Others {
    /// Returns when this kind is watched and known, or cannot be.
    pub(super) async fn prepare(&self, kind: &ResourceKind) {
        let watched = self.demand(kind);
        watched.settled().await;
    }

    fn demand(&self, kind: &ResourceKind) -> Arc<Watched> {
        let mut known = self.known.lock();
        let now = Instant::now();
        if let Some(demanded) = known.get_mut(&kind.resource) {
            demanded.asked = now;
            return Arc::clone(&demanded.watched);
        }
        while known.len() >= MOST {
            let idlest = known.iter().min_by_key(|(_, demanded)| demanded.asked);
            let idlest = idlest.map(|(resource, _)| resource.clone());
            if let Some(ended) = idlest.and_then(|resource| known.remove(&resource)) {
                ended.end.cancel();
            }
        }
        info!(resource = %kind.resource, "asked for; watched from now on");
        let resource = api_resource(kind);
        let api = Api::all_with(self.client.clone(), &resource);
        let (watched, filling) = watched(kind.resource.clone(), api, everything());
        let watched = Arc::new(watched);
        let end = CancellationToken::new();
        // Without a receiver the program is stopping.
        let _ = self.start.send(Start {
            filling,
            end: end.clone(),
        });
        let demanded = Demanded {
            watched: Arc::clone(&watched),
            asked: now,
            end,
        };
        known.insert(kind.resource.clone(), demanded);
        watched
    }

    pub(super) fn list(
        &self,
        resource: &GroupResource,
        namespace: Option<&str>,
        matches: impl FnMut(&Traits) -> bool,
    ) -> Result<Vec<ObjectRef>, ListError> {
        let known = self.known.lock();
        let watched = known.get(resource).map(|it| Arc::clone(&it.watched));
        drop(known);
        watched
            .ok_or_else(|| ListError::NotWatched(resource.clone()))?
            .list(namespace, matches)
    }
}

impl OthersWatches {
    pub(super) async fn run(mut self, cancel: &CancellationToken) {
        let mut running = FuturesUnordered::new();
        let mut ticks = tokio::time::interval(IDLE / 10);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                Some(start) = self.started.recv() => {
                    running.push(async move { start.filling.run(&start.end).await });
                }
                Some(()) = running.next(), if !running.is_empty() => {}
                _ = ticks.tick() => self.known.lock().retain(|resource, demanded| {
                    let idle = demanded.asked.elapsed() > IDLE;
                    if idle {
                        info!(%resource, "not asked for any more; no longer watched");
                        demanded.end.cancel();
                    }
                    !idle
                }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::fake_api::{Answer, FakeApi};
    use crate::cluster::{Objects, watch_objects};
    use crate::model::objects::ObjectLister as _;
    use crate::model::selector::Selector;

    fn kind(group: &str, plural: &str, kind: &str) -> ResourceKind {
        ResourceKind {
            resource: GroupResource {
                group: group.to_owned(),
                resource: plural.to_owned(),
            },
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            namespaced: true,
        }
    }

    fn owned(name: &str, owner: Option<(&str, &str, &str)>) -> Value {
        let references: Vec<Value> = owner
            .iter()
            .map(|(api_version, kind, name)| {
                json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": "u", "controller": true})
            })
            .collect();
        json!({"metadata": {
            "namespace": "prod", "name": name, "labels": {"app": "llm"}, "ownerReferences": references,
        }})
    }

    fn watching(api: &FakeApi) -> Arc<Objects> {
        let (objects, watches) = watch_objects(api.client());
        tokio::spawn(watches.run(CancellationToken::new()));
        objects
    }

    fn names(objects: &[ObjectRef]) -> Vec<&str> {
        objects.iter().map(|object| &*object.name).collect()
    }

    const QUEUES: &str = "/apis/rabbit.io/v1/queues";

    #[tokio::test]
    async fn a_kind_is_watched_from_the_first_question_on() {
        let api = FakeApi::start().await;
        api.put(QUEUES, owned("orders", None));
        let objects = watching(&api);
        let queues = kind("rabbit.io", "queues", "Queue");
        let list = || objects.list(&queues.resource, Some("prod"), &Selector::default());
        assert_eq!(list(), Err(ListError::NotWatched(queues.resource.clone())));
        assert!(!api.requests().iter().any(|it| it.contains(QUEUES)));
        objects.prepare(&queues).await;
        assert_eq!(names(&list().expect("known")), ["orders"]);
        let requests = api.requests();
        let mut of_queues = requests.iter().filter(|it| it.contains(QUEUES));
        assert!(of_queues.all(|it| it.contains("as=PartialObjectMetadata")));
    }

    #[tokio::test]
    async fn a_kind_that_may_not_be_watched_says_so_in_the_api_servers_words() {
        let api = FakeApi::start().await;
        api.answer(QUEUES, Answer::Status(403, "Forbidden"), usize::MAX);
        let objects = watching(&api);
        let queues = kind("rabbit.io", "queues", "Queue");
        objects.prepare(&queues).await;
        let list = objects.list(&queues.resource, Some("prod"), &Selector::default());
        assert_eq!(
            list.expect_err("not known").to_string(),
            "the watch of queues.rabbit.io fails: 403 Forbidden: told so"
        );
    }

    #[tokio::test]
    async fn pods_are_found_below_their_owners_owners() {
        let api = FakeApi::start().await;
        let service = ("serving.kserve.io/v1beta1", "InferenceService", "qwen");
        let deployment = ("apps/v1", "Deployment", "predictor");
        let replicas = ("apps/v1", "ReplicaSet", "predictor-1");
        let deployments = "/apis/apps/v1/deployments";
        api.put(deployments, owned("predictor", Some(service)));
        for (name, owner) in [
            ("predictor-1", deployment),
            ("other-1", ("apps/v1", "Deployment", "other")),
            // Another kind of the same name.
            ("twin-1", ("argoproj.io/v1", "Deployment", "predictor")),
        ] {
            api.put("/apis/apps/v1/replicasets", owned(name, Some(owner)));
        }
        for (name, owner) in [
            ("b", Some(replicas)),
            ("a", Some(replicas)),
            ("of-other", Some(("apps/v1", "ReplicaSet", "other-1"))),
            ("of-twin", Some(("apps/v1", "ReplicaSet", "twin-1"))),
            ("job", Some(("batch/v1", "Job", "predictor"))),
            ("free", None),
        ] {
            api.put("/api/v1/pods", owned(name, owner));
        }
        let objects = watching(&api);
        objects.pods.settled().await;
        let services = kind("serving.kserve.io", "inferenceservices", "InferenceService");
        let replica_sets = kind("apps", "replicasets", "ReplicaSet");
        let deployments = kind("apps", "deployments", "Deployment");
        let jobs = kind("batch", "jobs", "Job");
        for (kind, name, expected) in [
            (&replica_sets, "predictor-1", &["a", "b"][..]),
            (&deployments, "predictor", &["a", "b"]),
            (&services, "qwen", &["a", "b"]),
            (&jobs, "predictor", &["job"]),
            (&deployments, "nobody", &[]),
        ] {
            let pods = objects.pods_of(kind, "prod", name).await.expect("known");
            assert_eq!(names(&pods), expected, "{} {name}", kind.kind);
        }
    }
}
