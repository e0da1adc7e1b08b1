//! Usage from the pages of kubelets (`/metrics/resource`), as the preset kubelet has them scraped.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;

use crate::engine::{Scraped, Wanted};
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::matcher::Matcher;
use crate::model::names::NameCondition;
use crate::model::objects::LabelledObject;
use crate::model::quantity::Quantity;
use crate::model::sample::Sample;
use crate::model::time::Timestamp;

use super::points::{Bounds, Lacking, Rate, cpu, memory};
use super::{Missing, NodeUsage, PodUsage, Usage};

/// The series of a page, of containers and of their node.
const CONTAINER: Names = Names {
    started: Some("container_start_time_seconds"),
    cpu: "container_cpu_usage_seconds_total",
    memory: "container_memory_working_set_bytes",
    swap: "container_swap_usage_bytes",
};
const NODE: Names = Names {
    started: None,
    cpu: "node_cpu_usage_seconds_total",
    memory: "node_memory_working_set_bytes",
    swap: "node_swap_usage_bytes",
};

struct Names {
    started: Option<&'static str>,
    cpu: &'static str,
    memory: &'static str,
    swap: &'static str,
}

/// The metrics that are needed of kubelets.
pub fn needed() -> impl Iterator<Item = NameCondition> {
    let names = [CONTAINER, NODE].into_iter().flat_map(|names| {
        let all = [Some(names.cpu), Some(names.memory), Some(names.swap)];
        all.into_iter().chain([names.started]).flatten()
    });
    names.map(|name| NameCondition::of(&[Matcher::equal(METRIC_NAME, name)]))
}

/// Kubelets, scraped into memory.
pub(super) struct Kubelets {
    scraped: Arc<dyn Scraped>,
    job: &'static str,
    bounds: Bounds,
}

/// What is known of a container or a node.
#[derive(Debug)]
struct Measured {
    name: ArcStr,
    started: Option<Timestamp>,
    cpu: Result<Rate, Lacking>,
    memory: Result<Quantity, Lacking>,
    swap: Option<Quantity>,
}

impl Measured {
    fn new(name: ArcStr) -> Self {
        Self {
            name,
            started: None,
            cpu: Err(Lacking::Sample),
            memory: Err(Lacking::Sample),
            swap: None,
        }
    }

    fn usage(&self) -> Result<(Rate, Usage), (&'static str, Lacking)> {
        // First, since its latest point is known however old it is.
        let memory = self.memory.map_err(|lacking| ("memory", lacking))?;
        let rate = self.cpu.map_err(|lacking| ("cpu", lacking))?;
        let usage = Usage {
            cpu: Quantity::from_nanos(rate.nanocores),
            memory,
            swap: self.swap,
        };
        Ok((rate, usage))
    }
}

/// The containers of a pod on one node. The same name may be on two, where a node is lost and its StatefulSet's pod was made anew.
#[derive(Debug)]
struct OnNode {
    node: Option<ArcStr>,
    containers: Vec<Measured>,
}

impl Kubelets {
    pub(super) fn new(
        scraped: Arc<dyn Scraped>,
        job: &'static str,
        resolution: Duration,
        max_age: Duration,
    ) -> Self {
        let bounds = Bounds {
            resolution,
            max_age,
        };
        Self {
            scraped,
            job,
            bounds,
        }
    }

    /// The usage of those of `pods` that have one, in their order. `namespace` is that of all of them.
    pub(super) fn pods(
        &self,
        namespace: Option<&str>,
        pods: Vec<LabelledObject>,
        now: Timestamp,
    ) -> Vec<PodUsage> {
        let mut matchers = Vec::new();
        matchers.extend(namespace.map(|namespace| Matcher::equal("namespace", namespace)));
        if let [pod] = pods.as_slice() {
            matchers.push(Matcher::equal("pod", &*pod.object.name));
        }
        let mut places: HashMap<(&str, &str), usize> = HashMap::with_capacity(pods.len());
        for (place, pod) in pods.iter().enumerate() {
            let namespace = pod.object.namespace.as_deref();
            places.extend(namespace.map(|namespace| ((namespace, &*pod.object.name), place)));
        }
        // By the pod's place.
        let mut known: Vec<Vec<OnNode>> = pods.iter().map(|_| Vec::new()).collect();
        self.read(&CONTAINER, &matchers, now, |labels, measure| {
            let label = |name| labels.others().get(name);
            let (Some(namespace), Some(pod), Some(container)) =
                (label("namespace"), label("pod"), label("container"))
            else {
                return;
            };
            let Some(place) = places.get(&(namespace.as_str(), pod.as_str())) else {
                return;
            };
            let node = label("instance");
            let nodes = &mut known[*place];
            let place = nodes.iter().position(|it| it.node.as_ref() == node);
            let place = place.unwrap_or_else(|| {
                nodes.push(OnNode {
                    node: node.cloned(),
                    containers: Vec::new(),
                });
                nodes.len() - 1
            });
            measure(entry(&mut nodes[place].containers, container));
        });
        let known = pods.into_iter().zip(known);
        known
            .filter_map(|(pod, nodes)| pod_usage(pod, &nodes))
            .collect()
    }

    /// The usage of those of `nodes` that have one, in their order, and why the others have none.
    pub(super) fn nodes(
        &self,
        nodes: Vec<LabelledObject>,
        now: Timestamp,
    ) -> (Vec<NodeUsage>, Vec<Missing>) {
        let mut known: HashMap<ArcStr, Vec<Measured>> = HashMap::with_capacity(nodes.len());
        let mut matchers = Vec::new();
        if let [node] = nodes.as_slice() {
            matchers.push(Matcher::equal("node", &*node.object.name));
        }
        self.read(&NODE, &matchers, now, |labels, measure| {
            if let Some(name) = labels.others().get("node") {
                let found = known.entry(name.clone()).or_default();
                measure(entry(found, name));
            }
        });
        let (mut found, mut missing) = (Vec::with_capacity(nodes.len()), Vec::new());
        for node in nodes {
            let measured = known
                .get(&*node.object.name)
                .and_then(|measured| measured.first());
            match measured.map(Measured::usage) {
                Some(Ok((rate, usage))) => found.push(NodeUsage {
                    node,
                    timestamp: rate.at,
                    window: rate.window,
                    usage,
                }),
                Some(Err((what, lacking))) => missing.push(Missing {
                    node: node.object.name,
                    reason: format!("{what}: {lacking}"),
                }),
                None => missing.push(Missing {
                    node: node.object.name,
                    reason: "nothing is known of it".to_owned(),
                }),
            }
        }
        if !missing.is_empty() {
            self.explain(&mut missing);
        }
        (found, missing)
    }

    /// Where a node's target is down, that is the reason.
    fn explain(&self, missing: &mut [Missing]) {
        let targets = self.scraped.targets_of(self.job);
        let mut down = HashMap::new();
        for target in &targets {
            let name = target
                .object
                .as_deref()
                .and_then(|it| it.strip_prefix("node "));
            down.extend(name.map(|name| (name, &target.down)));
        }
        for it in missing {
            match down.get(&*it.node) {
                Some(Some((since, why))) => {
                    it.reason = format!("its kubelet is down since {since} ({why})");
                }
                Some(None) => {}
                None => "its kubelet is not scraped".clone_into(&mut it.reason),
            }
        }
    }

    /// Calls `place` with each series that is not over: it finds out whose it is, and has that measured.
    fn read(
        &self,
        names: &Names,
        matchers: &[Matcher],
        now: Timestamp,
        mut place: impl FnMut(&Labels, &mut dyn FnMut(&mut Measured)),
    ) {
        let latest = Wanted::Latest(Timestamp::MAX);
        let points = Wanted::Between {
            after: self.bounds.after(now),
            until: Timestamp::MAX,
        };
        let bounds = &self.bounds;
        type Measure<'a> = &'a dyn Fn(&mut Measured, &[Sample]);
        let mut visit = |name: &str, wanted, measure: Measure<'_>| {
            let mut of_name = matchers.to_vec();
            of_name.push(Matcher::equal(METRIC_NAME, name));
            let scraped = &self.scraped;
            scraped.visit_job(self.job, &of_name, wanted, &mut |labels, samples| {
                if samples.last().is_some_and(|last| !last.is_stale_marker()) {
                    place(labels, &mut |measured| measure(measured, samples));
                }
            });
        };
        // First, since the CPU depends on it.
        if let Some(started) = names.started {
            visit(started, latest, &|measured, samples| {
                measured.started = samples.last().map(|it| start(it.value));
            });
        }
        visit(names.cpu, points, &|measured, samples| {
            measured.cpu = cpu(samples, measured.started, now, bounds);
        });
        visit(names.memory, latest, &|measured, samples| {
            measured.memory = memory(samples.last(), now, bounds);
        });
        // No swap used is 0 and said so.
        visit(names.swap, latest, &|measured, samples| {
            measured.swap = match memory(samples.last(), now, bounds) {
                Err(Lacking::Nothing) => Some(Quantity::from_bytes(0)),
                other => other.ok(),
            };
        });
    }
}

/// A time in seconds.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a start that does not fit saturates, and is then later than every point"
)]
fn start(seconds: f64) -> Timestamp {
    Timestamp::from_millis((seconds * 1e3) as i64)
}

fn entry<'a>(all: &'a mut Vec<Measured>, name: &ArcStr) -> &'a mut Measured {
    let place = all.iter().position(|it| it.name == *name);
    let place = place.unwrap_or_else(|| {
        all.push(Measured::new(name.clone()));
        all.len() - 1
    });
    &mut all[place]
}

/// A pod's usage, from the node that saw it last; none where one of its containers has none.
fn pod_usage(pod: LabelledObject, nodes: &[OnNode]) -> Option<PodUsage> {
    let latest = |on: &&OnNode| {
        let times = on.containers.iter();
        times.filter_map(|it| it.cpu.ok().map(|rate| rate.at)).max()
    };
    let measured = &nodes.iter().max_by_key(latest)?.containers;
    let mut containers = Vec::with_capacity(measured.len());
    let mut earliest: Option<Rate> = None;
    for container in measured {
        let (rate, usage) = container.usage().ok()?;
        containers.push((container.name.clone(), usage));
        if earliest.is_none_or(|earliest| rate.at < earliest.at) {
            earliest = Some(rate);
        }
    }
    let earliest = earliest?;
    containers.sort_by(|(a, _), (b, _)| a.cmp(b));
    Some(PodUsage {
        pod,
        timestamp: earliest.at,
        window: earliest.window,
        containers,
    })
}
