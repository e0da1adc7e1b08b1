//! CPU and memory of pods and nodes: what `metrics.k8s.io` answers, from kubelets or from the queries of `resourceRules`.
//!
//! A pod that does not run, or of whose containers one lacks a value, is left out, and never has a 0 for it: the HPA is careful
//! about missing pods by itself.

mod kubelets;
mod points;
mod queries;

use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::engine::{Engine, EngineError, Scraped};
use crate::model::objects::{LabelledObject, ListError, MeteredObjects, ObjectRef, ResourceMapper};
use crate::model::quantity::Quantity;
use crate::model::selector::Selector;
use crate::model::time::Timestamp;
use crate::rules::{ResourceRules, UsageError};

use kubelets::Kubelets;
use queries::Queries;

pub use kubelets::needed as needed_of_kubelets;

/// The longest that an answer from queries may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// What something uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Cores.
    pub cpu: Quantity,
    /// The working set in bytes.
    pub memory: Quantity,
    /// Bytes of swap, where the source tells.
    pub swap: Option<Quantity>,
}

/// What a pod uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodUsage {
    /// The pod.
    pub pod: LabelledObject,
    /// The time of the container that was measured first.
    pub timestamp: Timestamp,
    /// The time that its CPU is the mean of, which ends then.
    pub window: Duration,
    /// All its containers, in the order of their names.
    pub containers: Vec<(ArcStr, Usage)>,
}

/// What a node uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeUsage {
    /// The node.
    pub node: LabelledObject,
    /// When it was measured.
    pub timestamp: Timestamp,
    /// The time that its CPU is the mean of, which ends then.
    pub window: Duration,
    /// What it uses in all.
    pub usage: Usage,
}

/// A node without usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub node: Arc<str>,
    /// Why it has none.
    pub reason: String,
}

/// Which objects are asked about.
#[derive(Clone, Copy)]
pub struct ResourceQuestion<'a> {
    /// The namespace of the pods; `None`: all.
    pub namespace: Option<&'a str>,
    /// The condition on labels.
    pub selector: &'a Selector,
    /// The condition on namespace and name.
    pub keep: &'a (dyn Fn(&ObjectRef) -> bool + Sync),
}

/// Why there is no answer, as opposed to one without values.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// The objects are not known.
    #[error(transparent)]
    Objects(#[from] ListError),
    /// There is no such object, or it is a pod that does not run.
    #[error("{resource} {name:?} not found")]
    NotFound {
        /// `pods` or `nodes`.
        resource: &'static str,
        /// The object's name.
        name: String,
    },
    /// The object is there, and has no usage.
    #[error("{resource} {name:?} not found")]
    NoUsage {
        /// `podmetrics.metrics.k8s.io` or `nodemetrics.metrics.k8s.io`.
        resource: &'static str,
        /// The object's name, that of a pod after its namespace.
        name: String,
    },
    /// `resourceRules` do not say by which label.
    #[error(transparent)]
    Label(#[from] UsageError),
    /// A query of `resourceRules` has no answer.
    #[error("{rule} cannot be evaluated: {reason}")]
    Query {
        /// Which query, such as `resourceRules.cpu.containerQuery`.
        rule: String,
        /// Why not.
        reason: EngineError,
    },
    /// The queries took too long.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
}

/// Most answers about the pods of all namespaces that are made at one time. Each takes the memory of all pods, about a kilobyte
/// for one.
const WHOLE: usize = 2;

/// From how many objects on an answer takes so long that the thread's other tasks must not wait for it.
const MANY: usize = 5_000;

/// Answers questions about CPU and memory.
pub struct ResourceMetrics {
    objects: Arc<dyn MeteredObjects>,
    source: Source,
    whole: Semaphore,
}

enum Source {
    Kubelets(Kubelets),
    Queries(Box<Queries>),
}

impl ResourceMetrics {
    /// Answers from the kubelets that the targets of `job` are, which are scraped every `resolution`. A point older than
    /// `max_age` does not count.
    pub fn of_kubelets(
        objects: Arc<dyn MeteredObjects>,
        scraped: Arc<dyn Scraped>,
        job: &'static str,
        resolution: Duration,
        max_age: Duration,
    ) -> Self {
        let kubelets = Kubelets::new(scraped, job, resolution, max_age);
        Self::of(objects, Source::Kubelets(kubelets))
    }

    /// How old the points are, at most, that an answer from kubelets with this age limit is made of.
    pub fn looks_back(max_age: Duration) -> Duration {
        points::looks_back(max_age)
    }

    /// Answers by the queries of `rules`.
    pub fn of_rules(
        objects: Arc<dyn MeteredObjects>,
        engine: Arc<dyn Engine>,
        mapper: Arc<dyn ResourceMapper>,
        rules: ResourceRules,
        max_age: Duration,
    ) -> Self {
        let queries = Queries::new(engine, mapper, rules, max_age);
        Self::of(objects, Source::Queries(Box::new(queries)))
    }

    fn of(objects: Arc<dyn MeteredObjects>, source: Source) -> Self {
        Self {
            objects,
            source,
            whole: Semaphore::new(WHOLE),
        }
    }

    /// Waits for a turn to answer about the pods of all namespaces; to be held until the answer is written.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // An error would mean that it is closed, which nobody does.
        self.whole.acquire().await.ok()
    }

    /// The pods that have a usage, by namespace, then name.
    ///
    /// # Errors
    /// Where the pods are not known, or a query fails.
    pub async fn pods(
        &self,
        question: &ResourceQuestion<'_>,
        now: Timestamp,
    ) -> Result<Vec<PodUsage>, ResourceError> {
        let mut pods = self
            .objects
            .running_pods(question.namespace, question.selector)?;
        pods.retain(|pod| (question.keep)(&pod.object));
        if pods.is_empty() {
            return Ok(Vec::new());
        }
        match &self.source {
            Source::Kubelets(kubelets) => Ok(aside(pods.len(), || {
                kubelets.pods(question.namespace, pods, now)
            })),
            Source::Queries(queries) => in_time(queries.pods(pods, now)).await,
        }
    }

    /// The nodes that have a usage, in the order of their names.
    ///
    /// # Errors
    /// As [`ResourceMetrics::pods`].
    pub async fn nodes(
        &self,
        question: &ResourceQuestion<'_>,
        now: Timestamp,
    ) -> Result<Vec<NodeUsage>, ResourceError> {
        let mut nodes = self.objects.nodes(question.selector)?;
        nodes.retain(|node| (question.keep)(&node.object));
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        match &self.source {
            Source::Kubelets(kubelets) => Ok(kubelets.nodes(nodes, now).0),
            Source::Queries(queries) => in_time(queries.nodes(nodes, now)).await,
        }
    }

    /// One pod.
    ///
    /// # Errors
    /// Also where it does not run, or has no usage.
    pub async fn pod(
        &self,
        namespace: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<PodUsage, ResourceError> {
        let everything = Selector::default();
        let question = ResourceQuestion {
            namespace: Some(namespace),
            selector: &everything,
            keep: &|object| &*object.name == name,
        };
        let mut found = self.pods(&question, now).await?;
        if let Some(pod) = found.pop() {
            return Ok(pod);
        }
        let mut known = self.objects.running_pods(Some(namespace), &everything)?;
        known.retain(|pod| &*pod.object.name == name);
        Err(if known.is_empty() {
            ResourceError::NotFound {
                resource: "pods",
                name: name.to_owned(),
            }
        } else {
            ResourceError::NoUsage {
                resource: "podmetrics.metrics.k8s.io",
                name: format!("{namespace}/{name}"),
            }
        })
    }

    /// One node.
    ///
    /// # Errors
    /// Also where it is not there, or has no usage.
    pub async fn node(&self, name: &str, now: Timestamp) -> Result<NodeUsage, ResourceError> {
        let everything = Selector::default();
        let question = ResourceQuestion {
            namespace: None,
            selector: &everything,
            keep: &|object| &*object.name == name,
        };
        let mut found = self.nodes(&question, now).await?;
        if let Some(node) = found.pop() {
            return Ok(node);
        }
        let mut known = self.objects.nodes(&everything)?;
        known.retain(|node| &*node.object.name == name);
        let name = name.to_owned();
        Err(if known.is_empty() {
            let resource = "nodes";
            ResourceError::NotFound { resource, name }
        } else {
            let resource = "nodemetrics.metrics.k8s.io";
            ResourceError::NoUsage { resource, name }
        })
    }

    /// How many nodes there are, and those of them that no kubelet's page tells of, with the reason. Nothing where the source is
    /// not kubelets, or the nodes are not known yet.
    pub fn missing(&self, now: Timestamp) -> (usize, Vec<Missing>) {
        let Source::Kubelets(kubelets) = &self.source else {
            return (0, Vec::new());
        };
        let nodes = self.objects.nodes(&Selector::default()).unwrap_or_default();
        (nodes.len(), kubelets.nodes(nodes, now).1)
    }
}

/// Does work on so many objects; where they are many, the thread's other tasks go on elsewhere meanwhile.
pub fn aside<T>(objects: usize, work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|it| it.runtime_flavor());
    if objects >= MANY && matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

async fn in_time<T>(
    answer: impl Future<Output = Result<T, ResourceError>>,
) -> Result<T, ResourceError> {
    let answer = tokio::time::timeout(DEADLINE, answer).await;
    answer.unwrap_or(Err(ResourceError::Deadline(DEADLINE)))
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
