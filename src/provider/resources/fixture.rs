//! For tests: kubelets' targets in a real store, and the objects of a small cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::ResourceMetrics;
use crate::engine::embedded::Embedded;
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::objects::{LabelledObject, ListError, MeteredObjects, ObjectRef};
use crate::model::selector::Selector;
use crate::model::time::Timestamp;
use crate::store::{Limits, Store, TargetInfo, TargetWriter};

/// The kubelets' job.
pub(crate) const JOB: &str = "kubelet";

/// Nodes `n1`, `n2` and `n3`, and pods that run: `web-0` and `web-1` of namespace `demo` (label `app=web`), `db-0` of `other`.
pub(crate) struct Cluster;

fn labelled(namespace: Option<&str>, name: &str, labels: &[(&str, &str)]) -> LabelledObject {
    let labels = labels.iter();
    LabelledObject {
        object: ObjectRef {
            namespace: namespace.map(Arc::from),
            name: name.into(),
        },
        labels: Arc::new(labels.map(|(k, v)| ((*k).into(), (*v).into())).collect()),
    }
}

impl MeteredObjects for Cluster {
    fn running_pods(
        &self,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<LabelledObject>, ListError> {
        let mut pods = vec![
            labelled(Some("demo"), "web-0", &[("app", "web")]),
            labelled(Some("demo"), "web-1", &[("app", "web")]),
            labelled(Some("other"), "db-0", &[]),
        ];
        pods.retain(|pod| {
            namespace.is_none_or(|it| pod.object.namespace.as_deref() == Some(it))
                && selector.matches(&pod.labels)
        });
        Ok(pods)
    }

    fn nodes(&self, selector: &Selector) -> Result<Vec<LabelledObject>, ListError> {
        let mut nodes: Vec<_> = ["n1", "n2", "n3"]
            .map(|name| labelled(None, name, &[("zone", name)]))
            .into();
        nodes.retain(|node| selector.matches(&node.labels));
        Ok(nodes)
    }
}

/// Kubelets that are scraped every 15 s.
pub(crate) struct Kubelets {
    pub(crate) store: Arc<Store>,
    targets: BTreeMap<&'static str, TargetWriter>,
}

/// A line of a page: the metric, its labels, the value, and its own time where it has one.
pub(crate) type Line<'a> = (&'a str, &'a [(&'a str, &'a str)], f64, Option<Timestamp>);

impl Kubelets {
    /// The kubelets of these nodes, and what answers from them.
    pub(crate) fn of(nodes: &[&'static str]) -> (Self, ResourceMetrics) {
        let store = Store::new(Limits::default());
        let info = |node: &str| TargetInfo {
            job: JOB.into(),
            url: format!("https://{node}:10250/metrics/resource"),
            object: Some(format!("node {node}")),
            interval: Duration::from_secs(15),
        };
        let nodes = nodes.iter();
        let this = Self {
            targets: nodes
                .map(|node| (*node, store.register(info(node))))
                .collect(),
            store,
        };
        let metrics = ResourceMetrics::of_kubelets(
            Arc::new(Cluster),
            Arc::new(Embedded::new(Arc::clone(&this.store))),
            JOB,
            Duration::from_secs(15),
            Duration::from_secs(45),
        );
        (this, metrics)
    }

    /// A good scrape of a node's kubelet at this time.
    pub(crate) fn page(&mut self, node: &'static str, at: Timestamp, lines: &[Line<'_>]) {
        let target = self.targets.get_mut(node).expect("a node of this cluster");
        let mut scrape = target.begin(at);
        for (metric, labels, value, time) in lines {
            let own = [(METRIC_NAME, *metric), ("instance", node), ("node", node)];
            let labels = Labels::new(own.iter().chain(*labels).copied());
            scrape.add(&labels, *value, *time).expect("within limits");
        }
        scrape.commit();
    }

    /// A scrape that failed.
    pub(crate) fn fails(&mut self, node: &'static str, at: Timestamp, reason: &str) {
        let target = self.targets.get_mut(node).expect("a node of this cluster");
        target.failed(at, reason, &[]);
    }

    /// A node's own lines and those of these containers (`pod`, `container`, CPU seconds) of namespace `demo`, all measured at `at`,
    /// and scraped then.
    pub(crate) fn usual(
        &mut self,
        node: &'static str,
        at: Timestamp,
        node_cpu: f64,
        containers: &[(&str, &str, f64)],
    ) {
        let labels: Vec<[(&str, &str); 3]> = containers
            .iter()
            .map(|(pod, container, _)| {
                [
                    ("namespace", "demo"),
                    ("pod", pod),
                    ("container", container),
                ]
            })
            .collect();
        let mut lines: Vec<Line<'_>> = vec![
            ("node_cpu_usage_seconds_total", &[], node_cpu, Some(at)),
            ("node_memory_working_set_bytes", &[], 20_631_552.0, Some(at)),
        ];
        for (labels, (.., cpu)) in labels.iter().zip(containers) {
            lines.extend([
                (
                    "container_cpu_usage_seconds_total",
                    &labels[..],
                    *cpu,
                    Some(at),
                ),
                (
                    "container_memory_working_set_bytes",
                    &labels[..],
                    20_631_552.0,
                    Some(at),
                ),
                (
                    "container_start_time_seconds",
                    &labels[..],
                    1_795_460_000.0,
                    None,
                ),
            ]);
        }
        self.page(node, at, &lines);
    }
}
