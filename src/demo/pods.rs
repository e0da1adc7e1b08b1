//! The simulated Deployment's pods: where they run, when they are ready, how busy their GPUs are.
//!
//! The demo's loop moves time forward and scales; exporters, the API server and the view read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::load::{self, mixed};
use crate::hpa;
use crate::model::objects::{GroupResource, ListError, ObjectLabels, ObjectLister, ObjectRef};
use crate::model::selector::Selector;

/// The namespace of all simulated pods.
pub const NAMESPACE: &str = "default";
/// The simulated Deployment, as KServe names the one of an `InferenceService` called `qwen`.
pub const DEPLOYMENT: &str = "qwen-predictor";
/// The container of its pods.
pub const CONTAINER: &str = "kserve-container";
/// What the Deployment's scale says its selector is.
pub const SELECTOR: &str = "app=isvc.qwen-predictor";
/// From a pod's creation until it serves requests.
pub const STARTUP: Duration = Duration::from_secs(4);

const TEMPLATE_HASH: &str = "578cbd4cdd";
/// Kubernetes draws name suffixes from these (apimachinery `pkg/util/rand/rand.go`).
const SUFFIX_LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A pod as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// The node and the GPU it has; `None` while all are taken.
    pub place: Option<Place>,
    /// Whether it serves requests.
    pub ready: bool,
    /// SM utilisation of its GPU in percent; 0 until it is ready.
    pub utilization: f64,
    serial: u64,
    created: Duration,
}

/// One GPU of one node, both counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The node.
    pub node: usize,
    /// The GPU on that node.
    pub gpu: usize,
}

/// The pods, shared by all who look at them.
#[derive(Clone, Debug)]
pub struct Pods {
    state: Arc<Mutex<State>>,
    places: Arc<[Place]>,
    labels: Arc<ObjectLabels>,
}

#[derive(Debug, Default)]
struct State {
    pods: Vec<Pod>,
    next_serial: u64,
}

impl Pods {
    /// No pods yet, and room for one on each GPU.
    pub fn new(nodes: usize, gpus_per_node: usize) -> Self {
        let places = (0..gpus_per_node)
            .flat_map(|gpu| (0..nodes).map(move |node| Place { node, gpu }))
            .collect();
        let labels = [
            ("app", "isvc.qwen-predictor"),
            ("component", "predictor"),
            ("pod-template-hash", TEMPLATE_HASH),
            ("serving.kserve.io/inferenceservice", "qwen"),
        ];
        let labels: BTreeMap<_, _> = labels
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Self {
            state: Arc::default(),
            places,
            labels: Arc::new(labels),
        }
    }

    /// Creates or deletes pods until there are `replicas`; the newest go first. No more than twice as many as there are GPUs
    /// are created.
    pub fn scale(&self, replicas: usize, elapsed: Duration) {
        let mut state = self.state.lock();
        state.pods.truncate(replicas);
        while state.pods.len() < replicas.min(2 * self.places.len()) {
            let serial = state.next_serial;
            state.next_serial += 1;
            state.pods.push(Pod {
                name: format!("{DEPLOYMENT}-{TEMPLATE_HASH}-{}", suffix(serial)),
                place: None,
                ready: false,
                utilization: 0.0,
                serial,
                created: elapsed,
            });
        }
        self.place(&mut state.pods);
    }

    /// Gives each pod without a GPU the first free one: one node after the other, as the scheduler spreads them.
    fn place(&self, pods: &mut [Pod]) {
        let mut free: Vec<Place> = self.places.to_vec();
        free.retain(|place| pods.iter().all(|pod| pod.place != Some(*place)));
        let waiting = pods.iter_mut().filter(|pod| pod.place.is_none());
        for (pod, place) in waiting.zip(free) {
            pod.place = Some(place);
        }
    }

    /// Moves on to `elapsed` with so many requests in flight: pods become ready, and the ready ones share the requests.
    pub fn advance(&self, elapsed: Duration, requests: f64) {
        let mut state = self.state.lock();
        for pod in &mut state.pods {
            pod.ready |= pod.place.is_some() && elapsed >= pod.created + STARTUP;
        }
        let ready = state.pods.iter().filter(|pod| pod.ready).count();
        for pod in state.pods.iter_mut().filter(|pod| pod.ready) {
            pod.utilization = load::sm_utilization(requests, ready, pod.serial, elapsed);
        }
    }

    /// The pods as they are now, oldest first.
    pub fn now(&self) -> Vec<Pod> {
        self.state.lock().pods.clone()
    }

    /// The same as the autoscaler sees it: pending until ready.
    pub fn for_hpa(&self) -> Vec<hpa::Pod> {
        let pods = self.now().into_iter();
        pods.map(|pod| hpa::Pod {
            name: pod.name,
            phase: if pod.ready {
                hpa::PodPhase::Running
            } else {
                hpa::PodPhase::Pending
            },
            deleted: false,
        })
        .collect()
    }
}

impl ObjectLister for Pods {
    fn list(
        &self,
        resource: &GroupResource,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<ObjectRef>, ListError> {
        if *resource != GroupResource::core("pods") {
            return Err(ListError::NotWatched(resource.clone()));
        }
        if namespace.is_some_and(|name| name != NAMESPACE) || !selector.matches(&self.labels) {
            return Ok(Vec::new());
        }
        let mut found: Vec<ObjectRef> = self
            .now()
            .into_iter()
            .map(|pod| ObjectRef {
                namespace: Some(NAMESPACE.into()),
                name: pod.name.into(),
            })
            .collect();
        found.sort();
        Ok(found)
    }
}

fn suffix(serial: u64) -> String {
    let mut bits = mixed(serial);
    (0..5)
        .map(|_| {
            let letter = usize::try_from(bits % 27).map_or(b'x', |index| SUFFIX_LETTERS[index]);
            bits /= 27;
            char::from(letter)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_new_pod_has_a_gpu_at_once_and_work_only_when_it_is_ready() {
        let pods = Pods::new(2, 2);
        pods.scale(1, Duration::ZERO);
        pods.advance(STARTUP, 24.0);
        pods.scale(2, STARTUP);
        pods.advance(STARTUP + SECOND, 24.0);
        let [old, new] = &pods.now()[..] else {
            panic!("two pods");
        };
        assert!(old.ready && old.utilization > 90.0);
        assert!(!new.ready && new.utilization == 0.0);
        assert_eq!(old.place, Some(Place { node: 0, gpu: 0 }));
        assert_eq!(new.place, Some(Place { node: 1, gpu: 0 }));
        let phases: Vec<_> = pods.for_hpa().into_iter().map(|pod| pod.phase).collect();
        assert_eq!(phases, [hpa::PodPhase::Running, hpa::PodPhase::Pending]);
        pods.advance(2 * STARTUP, 24.0);
        assert!(
            pods.now()
                .iter()
                .all(|pod| pod.ready && pod.utilization < 51.0)
        );
    }

    #[test]
    fn scaling_down_deletes_the_newest_and_frees_its_gpu() {
        let pods = Pods::new(1, 2);
        pods.scale(3, Duration::ZERO);
        let before = pods.now();
        assert_eq!(before[2].place, None);
        pods.advance(Duration::from_secs(60), 1.0);
        assert!(!pods.now()[2].ready);
        pods.scale(1, SECOND);
        assert_eq!(pods.now()[0].name, before[0].name);
        pods.scale(2, SECOND);
        let after = pods.now();
        assert_eq!(after[1].place, before[1].place);
        assert_ne!(after[1].name, before[1].name);
        pods.scale(usize::MAX, SECOND);
        assert_eq!(pods.now().len(), 4);
    }

    #[test]
    fn the_lister_answers_by_namespace_and_selector() {
        let pods = Pods::new(3, 8);
        pods.scale(3, Duration::ZERO);
        let all = GroupResource::core("pods");
        let count = |namespace, selector: &str| {
            let selector = Selector::parse(selector).expect("a selector");
            pods.list(&all, namespace, &selector).expect("pods").len()
        };
        assert_eq!(count(Some(NAMESPACE), SELECTOR), 3);
        assert_eq!(count(None, "serving.kserve.io/inferenceservice=qwen"), 3);
        assert_eq!(count(Some("other"), SELECTOR), 0);
        assert_eq!(count(Some(NAMESPACE), "app=other"), 0);
        let nodes = GroupResource::core("nodes");
        let refused = pods.list(&nodes, None, &Selector::default());
        assert_eq!(refused, Err(ListError::NotWatched(nodes)));
        let names = pods.list(&all, None, &Selector::default()).expect("pods");
        assert!(names.is_sorted());
        let name = &names[0].name;
        assert!(
            name.starts_with("qwen-predictor-578cbd4cdd-") && name.len() == 31,
            "{name}"
        );
    }
}
