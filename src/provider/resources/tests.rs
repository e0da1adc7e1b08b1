use super::fixture::{Cluster, Kubelets};
use super::*;
use crate::config::rules as config;
use crate::engine::embedded::{Embedded, longest_range};
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::objects::{GroupResource, ResourceKind};
use crate::provider::fixture::at;
use crate::store::{Limits, Store, TargetInfo};

/// The pods of namespace `demo`: name, window in seconds, and containers with cpu and memory.
async fn demo(metrics: &ResourceMetrics, now: Timestamp) -> Vec<String> {
    let question = ResourceQuestion {
        namespace: Some("demo"),
        selector: &Selector::default(),
        keep: &|_| true,
    };
    let pods = metrics.pods(&question, now).await.expect("an answer");
    pods.iter().map(in_words).collect()
}

fn in_words(pod: &PodUsage) -> String {
    let mut text = format!("{} {}s:", pod.pod.object.name, pod.window.as_secs());
    for (name, usage) in &pod.containers {
        text.push_str(&format!(" {name} {} {}", usage.cpu, usage.memory));
        if let Some(swap) = usage.swap {
            text.push_str(&format!(" {swap}"));
        }
    }
    text
}

#[tokio::test]
async fn a_pod_is_told_of_once_all_its_containers_have_two_points() {
    let (mut kubelets, metrics) = Kubelets::of(&["n1"]);
    kubelets.usual(
        "n1",
        at(0),
        10.0,
        &[("web-0", "a", 5.0), ("gone", "a", 1.0)],
    );
    assert!(demo(&metrics, at(1)).await.is_empty(), "first scrape");
    kubelets.usual(
        "n1",
        at(15),
        20.0,
        &[("web-0", "a", 12.5), ("gone", "a", 1.0)],
    );
    assert_eq!(
        demo(&metrics, at(16)).await,
        ["web-0 15s: a 500m 20148Ki"],
        "a pod that does not run is not told of"
    );
    // A container more, which has one point.
    let both = [("web-0", "b", 1.0), ("web-0", "a", 20.0)];
    kubelets.usual("n1", at(30), 30.0, &both);
    assert!(demo(&metrics, at(31)).await.is_empty());
    let both = [("web-0", "b", 4.0), ("web-0", "a", 27.5)];
    kubelets.usual("n1", at(45), 40.0, &both);
    let told = ["web-0 15s: a 500m 20148Ki b 200m 20148Ki"];
    assert_eq!(demo(&metrics, at(46)).await, told);
    // A container that has ended keeps nobody out.
    kubelets.usual("n1", at(60), 50.0, &[("web-0", "b", 7.0)]);
    assert_eq!(demo(&metrics, at(61)).await, ["web-0 15s: b 200m 20148Ki"]);
}

#[tokio::test]
async fn the_same_point_twice_and_a_failed_scrape_lose_nothing() {
    let (mut kubelets, metrics) = Kubelets::of(&["n1"]);
    kubelets.usual("n1", at(0), 10.0, &[("web-0", "a", 5.0)]);
    kubelets.usual("n1", at(15), 20.0, &[("web-0", "a", 12.5)]);
    let told = ["web-0 15s: a 500m 20148Ki"];
    let page = |cpu, time| {
        const OF: &[(&str, &str)] = &[("namespace", "demo"), ("pod", "web-0"), ("container", "a")];
        [
            ("container_cpu_usage_seconds_total", OF, cpu, Some(time)),
            (
                "container_memory_working_set_bytes",
                OF,
                20_631_552.0,
                Some(time),
            ),
        ]
    };
    kubelets.page("n1", at(30), &page(12.5, at(15)));
    assert_eq!(
        demo(&metrics, at(31)).await,
        told,
        "cAdvisor has not measured anew"
    );
    kubelets.fails("n1", at(45), "connection refused");
    assert_eq!(demo(&metrics, at(46)).await, told, "one failed scrape");
    kubelets.page("n1", at(60), &page(35.0, at(60)));
    assert_eq!(
        demo(&metrics, at(60)).await,
        ["web-0 45s: a 500m 20148Ki"],
        "the point before the failure still counts"
    );
}

#[tokio::test]
async fn a_pod_without_a_value_for_cpu_or_memory_is_left_out() {
    const OF: &[(&str, &str)] = &[("namespace", "demo"), ("pod", "web-0"), ("container", "a")];
    for (what, cpu, memory) in [
        ("no memory", Some(1.0), None),
        ("no cpu", None, Some(1e6)),
        ("memory is 0", Some(1.0), Some(0.0)),
        ("cpu is 0", Some(0.0), Some(1e6)),
        ("memory is no number", Some(1.0), Some(f64::NAN)),
    ] {
        let (mut kubelets, metrics) = Kubelets::of(&["n1"]);
        for round in 0..2_u64 {
            let time = at(15 * round);
            let grown = cpu.map(|cpu: f64| cpu * (1 + round) as f64);
            let mut lines = Vec::new();
            lines.extend(grown.map(|it| ("container_cpu_usage_seconds_total", OF, it, Some(time))));
            lines.extend(
                memory.map(|it| ("container_memory_working_set_bytes", OF, it, Some(time))),
            );
            kubelets.page("n1", time, &lines);
        }
        assert!(demo(&metrics, at(16)).await.is_empty(), "{what}");
    }
}

#[tokio::test]
async fn only_targets_of_the_kubelets_job_are_believed() {
    let (mut kubelets, metrics) = Kubelets::of(&["n1"]);
    let mut liar = kubelets.store.register(TargetInfo {
        job: "inference-pods".into(),
        url: "http://10.0.0.9:8080/metrics".into(),
        object: Some("pod demo/liar".into()),
        interval: Duration::from_secs(15),
    });
    for (round, cpu) in [(0, 1.0), (15, 1000.0)] {
        let mut scrape = liar.begin(at(round));
        for (metric, value) in [
            ("container_cpu_usage_seconds_total", cpu),
            ("container_memory_working_set_bytes", 1.0),
        ] {
            let labels = Labels::new([
                (METRIC_NAME, metric),
                ("job", "kubelet"),
                ("namespace", "demo"),
                ("pod", "web-0"),
                ("container", "a"),
            ]);
            scrape.add(&labels, value, None).expect("within limits");
        }
        scrape.commit();
    }
    assert!(demo(&metrics, at(16)).await.is_empty());
    kubelets.usual("n1", at(0), 10.0, &[("web-0", "a", 5.0)]);
    kubelets.usual("n1", at(15), 20.0, &[("web-0", "a", 12.5)]);
    assert_eq!(demo(&metrics, at(16)).await, ["web-0 15s: a 500m 20148Ki"]);
}

#[tokio::test]
async fn a_pod_that_moved_is_told_of_by_its_new_node() {
    let (mut kubelets, metrics) = Kubelets::of(&["n1", "n2"]);
    for (time, cpu) in [(0, 100.0), (15, 107.5)] {
        kubelets.usual("n1", at(time), 10.0, &[("web-0", "a", cpu)]);
    }
    kubelets.fails("n1", at(30), "connection refused");
    for (time, cpu) in [(25, 1.0), (40, 2.5)] {
        kubelets.usual("n2", at(time), 10.0, &[("web-0", "a", cpu)]);
    }
    assert_eq!(demo(&metrics, at(41)).await, ["web-0 15s: a 100m 20148Ki"]);
}

#[tokio::test]
async fn swap_is_told_of_where_the_kubelet_does() {
    const OF: &[(&str, &str)] = &[("namespace", "demo"), ("pod", "web-0"), ("container", "a")];
    let (mut kubelets, metrics) = Kubelets::of(&["n1"]);
    for (time, cpu, swap) in [(0, 1.0, 0.0), (15, 2.5, 4096.0)] {
        let time = at(time);
        let lines = [
            ("container_cpu_usage_seconds_total", OF, cpu, Some(time)),
            ("container_memory_working_set_bytes", OF, 1024.0, Some(time)),
            ("container_swap_usage_bytes", OF, swap, Some(time)),
        ];
        kubelets.page("n1", time, &lines);
    }
    assert_eq!(demo(&metrics, at(16)).await, ["web-0 15s: a 100m 1Ki 4Ki"]);
}

#[tokio::test]
async fn a_node_is_told_of_or_named_with_the_reason() {
    let (mut kubelets, metrics) = Kubelets::of(&["n1", "n2"]);
    kubelets.usual("n1", at(0), 10.0, &[]);
    kubelets.usual("n1", at(15), 25.0, &[]);
    kubelets.fails("n2", at(1), "certificate is not of the CA");
    let question = ResourceQuestion {
        namespace: None,
        selector: &Selector::default(),
        keep: &|_| true,
    };
    let told = |nodes: Vec<NodeUsage>| -> Vec<String> {
        let words = |it: &NodeUsage| {
            format!(
                "{} {} {}",
                it.node.object.name, it.usage.cpu, it.usage.memory
            )
        };
        nodes.iter().map(words).collect()
    };
    let nodes = metrics.nodes(&question, at(16)).await.expect("an answer");
    assert_eq!(told(nodes), ["n1 1 20148Ki"]);
    let missing = |now| -> Vec<String> {
        let (all, missing) = metrics.missing(now);
        assert_eq!(all, 3);
        missing
            .iter()
            .map(|it| format!("{} {}", it.node, it.reason))
            .collect()
    };
    let n2 = "n2 its kubelet is down since 2026-11-23T20:00:01Z (certificate is not of the CA)";
    assert_eq!(missing(at(16)), [n2, "n3 its kubelet is not scraped"]);
    // An hour later, with a page whose clock stood still, or one that is fast.
    let old = missing(at(3615));
    assert_eq!(old[0], "n1 memory: the latest point is 3600 s old");
    kubelets.usual("n2", at(3600), 10.0, &[]);
    let one = missing(at(3601));
    assert_eq!(one[1], "n2 cpu: there is one point so far");
    kubelets.usual("n2", at(3900), 40.0, &[]);
    assert_eq!(missing(at(3615))[1], "n2 memory: its clock is 285 s ahead");
}

#[tokio::test]
async fn one_object_is_found_or_it_is_said_what_is_missing() {
    let (mut kubelets, metrics) = Kubelets::of(&["n1"]);
    kubelets.usual("n1", at(0), 10.0, &[("web-0", "a", 5.0)]);
    kubelets.usual("n1", at(15), 25.0, &[("web-0", "a", 12.5)]);
    let found = metrics.pod("demo", "web-0", at(16)).await.expect("there");
    assert_eq!(in_words(&found), "web-0 15s: a 500m 20148Ki");
    metrics.node("n1", at(16)).await.expect("there");
    let no = |error: ResourceError| error.to_string();
    for (said, expected) in [
        (
            metrics.pod("demo", "x", at(16)).await.map(drop),
            "pods \"x\" not found",
        ),
        (
            metrics.pod("demo", "web-1", at(16)).await.map(drop),
            "podmetrics.metrics.k8s.io \"demo/web-1\" not found",
        ),
        (
            metrics.node("x", at(16)).await.map(drop),
            "nodes \"x\" not found",
        ),
        (
            metrics.node("n2", at(16)).await.map(drop),
            "nodemetrics.metrics.k8s.io \"n2\" not found",
        ),
    ] {
        assert_eq!(said.map_err(no), Err(expected.to_owned()));
    }
}

struct Mapper;

impl ResourceMapper for Mapper {
    fn resolve(&self, name: &GroupResource) -> Option<ResourceKind> {
        let plural = match &*name.resource {
            "pod" | "pods" => "pods",
            "node" | "nodes" => "nodes",
            "namespace" | "namespaces" => "namespaces",
            _ => return None,
        };
        Some(ResourceKind {
            resource: GroupResource::core(plural),
            version: "v1".to_owned(),
            kind: String::new(),
            namespaced: plural == "pods",
        })
    }
}

/// prometheus-adapter's own `resourceRules`, with gauges where it has rates.
const RULES: &str = "
cpu:
  containerQuery: sum by (<<.GroupBy>>) (cpu{<<.LabelMatchers>>,container!=\"\"})
  nodeQuery: sum by (<<.GroupBy>>) (node_cpu{<<.LabelMatchers>>})
  resources:
    overrides:
      instance: {resource: node}
      namespace: {resource: namespace}
      pod: {resource: pod}
  containerLabel: container
memory:
  containerQuery: sum by (<<.GroupBy>>) (memory{<<.LabelMatchers>>})
  nodeQuery: sum by (<<.GroupBy>>) (node_memory{<<.LabelMatchers>>})
  resources: {template: '<<.Resource>>', overrides: {instance: {resource: nodes}}}
  containerLabel: container
window: 5m
";

fn rules(text: &str) -> ResourceRules {
    let section: config::ResourceRules = serde_saphyr::from_str(text).expect("the form");
    ResourceRules::compile(&section, longest_range).expect("no fault")
}

#[tokio::test]
async fn resource_rules_are_asked_with_their_labels() {
    let store = Store::new(Limits::default());
    let mut target = store.register(TargetInfo {
        job: "a".into(),
        url: "http://a/metrics".into(),
        object: None,
        interval: Duration::from_secs(15),
    });
    let mut scrape = target.begin(at(0));
    let mut add = |metric: &str, labels: &str, value: f64| {
        let pairs = labels.split(' ').filter_map(|it| it.split_once('='));
        let labels = Labels::new(pairs.chain([(METRIC_NAME, metric)]));
        scrape.add(&labels, value, None).expect("within limits");
    };
    for (pod, container, cpu, memory) in [
        ("web-0", "a", 0.25, 1e6),
        ("web-0", "b", 0.5, 2048.0),
        // Missing is missing: prometheus-adapter would say 0.
        ("web-1", "a", f64::NAN, 1024.0),
        ("web-1", "b", 1.0, 1024.0),
    ] {
        let labels = format!("namespace=demo pod={pod} container={container}");
        add("cpu", &labels, cpu);
        add("memory", &labels, memory);
    }
    let labels = "namespace=other pod=db-0 container=a";
    add("cpu", labels, 1.0);
    add("node_cpu", "instance=n1", 2.0);
    add("node_memory", "instance=n1", 4096.0);
    add("node_cpu", "instance=n2", -1.0);
    add("node_memory", "instance=n2", 4096.0);
    scrape.commit();

    let metrics = ResourceMetrics::of_rules(
        Arc::new(Cluster),
        Arc::new(Embedded::new(store)),
        Arc::new(Mapper),
        rules(RULES),
        Duration::from_secs(45),
    );
    let everything = ResourceQuestion {
        namespace: None,
        selector: &Selector::default(),
        keep: &|_| true,
    };
    let pods = metrics.pods(&everything, at(5)).await.expect("an answer");
    let words: Vec<String> = pods.iter().map(in_words).collect();
    assert_eq!(words, ["web-0 300s: a 250m 1000000 b 500m 2Ki"]);
    assert_eq!(pods[0].timestamp, at(0));
    let nodes = metrics.nodes(&everything, at(5)).await.expect("an answer");
    assert_eq!(nodes.len(), 1);
    assert_eq!(
        (
            nodes[0].usage.cpu.to_string(),
            nodes[0].usage.memory.to_string()
        ),
        ("2".into(), "4Ki".into())
    );
}

#[tokio::test]
async fn a_query_that_fails_is_no_empty_answer() {
    let metrics = ResourceMetrics::of_rules(
        Arc::new(Cluster),
        Arc::new(Embedded::new(Store::new(Limits::default()))),
        Arc::new(Mapper),
        rules(&RULES.replace("sum by (<<.GroupBy>>) (memory{", "info(memory{")),
        Duration::from_secs(45),
    );
    let error = metrics
        .pod("demo", "web-0", at(0))
        .await
        .expect_err("it fails");
    let text = error.to_string();
    assert!(
        text.starts_with("resourceRules.memory.containerQuery cannot be evaluated"),
        "{text}"
    );
}

#[test]
fn the_window_is_that_of_the_query() {
    assert_eq!(rules(RULES).window, Duration::from_secs(300));
    let rated = RULES.replace(
        "(cpu{<<.LabelMatchers>>,container!=\"\"})",
        "(rate(cpu{<<.LabelMatchers>>}[2m]))",
    );
    assert_eq!(rules(&rated).window, Duration::from_secs(120));
    let section = serde_saphyr::from_str("{cpu: {containerQuery: x}}").expect("the form");
    let faults = ResourceRules::compile(&section, longest_range).expect_err("faulty");
    let paths: Vec<&str> = faults.iter().map(|fault| &*fault.path).collect();
    assert_eq!(
        paths,
        [
            "resourceRules.cpu.nodeQuery",
            "resourceRules.cpu.containerLabel",
            "resourceRules.memory.containerQuery",
            "resourceRules.memory.nodeQuery",
            "resourceRules.memory.containerLabel",
        ]
    );
}
