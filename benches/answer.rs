//! What one question of the HPA costs inside the process: from the HTTP request to the bytes of the answer, without TLS.
//!
//! `cargo bench --bench answer`. The namespace asked about holds 8 to 10,000 pods with one GPU each; 1,000 other pods in
//! ten other namespaces are there in every case, so that the cost of what does not match shows. In JSON and in protobuf, as the
//! HPA asks; for each it is printed how large the answer is and how often memory was allocated for it.
//!
//! And what CPU and memory cost: 150,000 pods on 5,000 nodes, all of them and one namespace of 30.

#![expect(clippy::print_stdout, reason = "it prints what it counts")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gpu_metrics_adapter::api::prometheus::{QueryApi, QueryLimits};
use gpu_metrics_adapter::api::{self, Api, Discovery, Health};
use gpu_metrics_adapter::cluster::StaticMapper;
use gpu_metrics_adapter::config::rules::DiscoveryRule;
use gpu_metrics_adapter::engine::embedded::Embedded;
use gpu_metrics_adapter::engine::query::QueryService;
use gpu_metrics_adapter::model::labels::{Labels, METRIC_NAME};
use gpu_metrics_adapter::model::objects::{
    GroupResource, LabelledObject, ListError, MeteredObjects, ObjectLister, ObjectRef,
};
use gpu_metrics_adapter::model::selector::Selector;
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::provider::resources::ResourceMetrics;
use gpu_metrics_adapter::provider::{Provider, RuleSet, Settings, ValueStyle};
use gpu_metrics_adapter::rules::{DCGM_EXPORTER_PRESET, Rule};
use gpu_metrics_adapter::store::{Limits, Store, TargetInfo, TargetWriter};
use http::Request;
use tower::ServiceExt as _;

/// What clients accept: those that read JSON, and the HPA.
const ENCODINGS: [(&str, &str); 2] = [
    ("json", "application/json"),
    ("protobuf", "application/vnd.kubernetes.protobuf, */*"),
];

const METRIC: &str = "DCGM_CUSTOM_PROCESS_SM_UTIL";
const NOW: Timestamp = Timestamp::from_millis(1_795_464_000_000);

/// Pods of one namespace, all with the same labels.
struct Pods {
    names: Vec<Arc<str>>,
    labels: BTreeMap<String, String>,
}

impl ObjectLister for Pods {
    fn list(
        &self,
        _: &GroupResource,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<ObjectRef>, ListError> {
        let namespace: Option<Arc<str>> = namespace.map(Arc::from);
        let matching = self.names.iter().filter(|_| selector.matches(&self.labels));
        Ok(matching
            .map(|name| ObjectRef {
                namespace: namespace.clone(),
                name: Arc::clone(name),
            })
            .collect())
    }
}

fn pod(index: usize) -> String {
    format!("qwen-predictor-578cbd4cdd-{index:05}")
}

/// A scrape of `pods` pods of `namespace`.
fn scrape(store: &Arc<Store>, namespace: &str, pods: usize) -> TargetWriter {
    let mut target = store.register(TargetInfo {
        job: "bench".into(),
        url: format!("http://{namespace}/metrics"),
        object: None,
        interval: Duration::from_secs(15),
    });
    let mut scrape = target.begin(NOW);
    for index in 0..pods {
        let (pod, gpu) = (pod(index), (index % 8).to_string());
        let labels = Labels::new([
            (METRIC_NAME, METRIC),
            ("NamespaceName", namespace),
            ("PodName", pod.as_str()),
            ("NodeName", "gpu-node-0042"),
            ("UUID", pod.as_str()),
            ("gpu", gpu.as_str()),
        ]);
        scrape.add(&labels, 42.5, None).expect("within the limits");
    }
    scrape.commit();
    target
}

fn answers(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let mut group = c.benchmark_group("answer");
    for pods in [8, 100, 1_000, 10_000] {
        let store = Store::new(Limits::default());
        let mut targets = vec![scrape(&store, "default", pods)];
        targets.extend((0..10).map(|index| scrape(&store, &format!("other-{index}"), 100)));
        let rules: Vec<DiscoveryRule> =
            serde_saphyr::from_str(DCGM_EXPORTER_PRESET).expect("valid");
        let rules = rules
            .iter()
            .map(|rule| Arc::new(Rule::compile("preset", rule).expect("valid")))
            .collect();
        let rules = RuleSet {
            custom: rules,
            external: Vec::new(),
        };
        let lister = Pods {
            names: (0..pods).map(|index| pod(index).into()).collect(),
            labels: BTreeMap::from([("app".to_owned(), "isvc.qwen-predictor".to_owned())]),
        };
        let queries = QueryApi::new(
            Arc::new(QueryService::over(Arc::clone(&store))),
            QueryLimits::default(),
        );
        let provider = Arc::new(Provider::new(
            Settings {
                rules,
                default_max_age: Duration::from_secs(45),
                fresh_within: Duration::ZERO,
                style: ValueStyle::default(),
                backends: Vec::new(),
            },
            Arc::new(Embedded::new(store)),
            Arc::new(lister),
            Arc::new(StaticMapper),
        ));
        runtime.block_on(provider.refresh(NOW));
        let router = api::router(Arc::new(Api {
            fallback: None,
            provider,
            resources: None,
            queries: Arc::new(queries),
            health: Health::new(Vec::new()),
            own_metrics: Box::new(String::new),
            now: Box::new(|| NOW),
            discovery: Discovery::default(),
        }));
        let uri = format!(
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/%2A/{METRIC}?labelSelector=app%3Disvc.qwen-predictor"
        );
        group.throughput(Throughput::Elements(pods as u64));
        for (encoding, accept) in ENCODINGS {
            let ask = || {
                runtime.block_on(async {
                    let request = Request::get(uri.as_str())
                        .header("accept", accept)
                        .body(Body::empty())
                        .expect("a request");
                    let response = router.clone().oneshot(request).await.expect("infallible");
                    assert!(response.status().is_success());
                    to_bytes(response.into_body(), 1 << 24)
                        .await
                        .expect("a body")
                })
            };
            let bytes = ask().len();
            let allocated = allocation_counter::measure(|| drop(ask()));
            println!(
                "{pods} pods in {encoding}: {bytes} bytes, {:.0} a pod; {} allocations, {:.1} a pod, of {} bytes in all",
                bytes as f64 / pods as f64,
                allocated.count_total,
                allocated.count_total as f64 / pods as f64,
                allocated.bytes_total,
            );
            group.bench_function(BenchmarkId::new(encoding, pods), |b| {
                b.iter(|| black_box(ask()));
            });
        }
        drop(targets);
    }
    group.finish();
}

const NODES: usize = 5_000;
const PODS_OF_NODE: usize = 30;

/// Pods that run, by namespace, then name: 30 in each namespace, on as many nodes.
struct Running(Vec<LabelledObject>);

impl MeteredObjects for Running {
    fn running_pods(
        &self,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<LabelledObject>, ListError> {
        let found = match namespace {
            None => &*self.0,
            Some(namespace) => {
                let namespace = Some(namespace);
                let all = &self.0;
                let start = all.partition_point(|it| it.object.namespace.as_deref() < namespace);
                let end = all.partition_point(|it| it.object.namespace.as_deref() <= namespace);
                &self.0[start..end]
            }
        };
        let matching = found.iter().filter(|it| selector.matches(&it.labels));
        Ok(matching.cloned().collect())
    }

    fn nodes(&self, _: &Selector) -> Result<Vec<LabelledObject>, ListError> {
        Ok(Vec::new())
    }
}

fn namespace(pod: usize) -> String {
    format!("team-{:04}", pod % NODES)
}

/// The kubelets' targets after five scrapes.
fn kubelets(store: &Arc<Store>) -> Vec<TargetWriter> {
    (0..NODES)
        .map(|node| {
            let name = format!("node-{node:04}");
            let mut target = store.register(TargetInfo {
                job: "kubelet".into(),
                url: format!("https://{name}:10250/metrics/resource"),
                object: Some(format!("node {name}")),
                interval: Duration::from_secs(15),
            });
            for round in 0..5_u32 {
                let at = NOW.minus(Duration::from_secs(15) * (4 - round));
                let mut scrape = target.begin(at);
                for index in node * PODS_OF_NODE..(node + 1) * PODS_OF_NODE {
                    for (metric, value) in [
                        (
                            "container_cpu_usage_seconds_total",
                            100.0 + 7.123 * f64::from(round),
                        ),
                        ("container_memory_working_set_bytes", 123_457_536.0),
                        ("container_start_time_seconds", 1_795_000_000.0),
                    ] {
                        let labels = Labels::new([
                            (METRIC_NAME, metric),
                            ("container", "kserve-container"),
                            ("instance", &name),
                            ("job", "kubelet"),
                            ("namespace", &namespace(index)),
                            ("node", &name),
                            ("pod", &pod(index)),
                        ]);
                        scrape.add(&labels, value, Some(at)).expect("within limits");
                    }
                }
                scrape.commit();
            }
            target
        })
        .collect()
}

fn usage(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let store = Store::new(Limits::default());
    let targets = kubelets(&store);
    let labels = Arc::new(BTreeMap::from([
        ("app".to_owned(), "isvc.sklearn-iris-predictor".to_owned()),
        ("component".to_owned(), "predictor".to_owned()),
        ("pod-template-hash".to_owned(), "578cbd4cdd".to_owned()),
    ]));
    let mut pods: Vec<LabelledObject> = (0..NODES * PODS_OF_NODE)
        .map(|index| LabelledObject {
            object: ObjectRef {
                namespace: Some(namespace(index).into()),
                name: pod(index).into(),
            },
            labels: Arc::clone(&labels),
        })
        .collect();
    pods.sort_by(|a, b| a.object.cmp(&b.object));
    let engine = Arc::new(Embedded::new(Arc::clone(&store)));
    let resources = ResourceMetrics::of_kubelets(
        Arc::new(Running(pods)),
        Arc::clone(&engine) as _,
        "kubelet",
        Duration::from_secs(15),
        Duration::from_secs(45),
    );
    let nobody = Pods {
        names: Vec::new(),
        labels: BTreeMap::new(),
    };
    let router = api::router(Arc::new(Api {
        fallback: None,
        provider: Arc::new(Provider::new(
            Settings::default(),
            engine,
            Arc::new(nobody),
            Arc::new(StaticMapper),
        )),
        resources: Some(Arc::new(resources)),
        queries: Arc::new(QueryApi::new(
            Arc::new(QueryService::over(store)),
            QueryLimits::default(),
        )),
        health: Health::new(Vec::new()),
        own_metrics: Box::new(String::new),
        now: Box::new(|| NOW),
        discovery: Discovery::default(),
    }));
    let mut group = c.benchmark_group("usage");
    group.sample_size(10);
    for (pods, path) in [(30, "/namespaces/team-0042/pods"), (150_000, "/pods")] {
        for (encoding, accept) in ENCODINGS {
            group.throughput(Throughput::Elements(pods));
            group.bench_function(BenchmarkId::new(encoding, pods), |b| {
                b.iter(|| {
                    runtime.block_on(async {
                        let request = Request::get(format!("/apis/metrics.k8s.io/v1beta1{path}"))
                            .header("accept", accept)
                            .body(Body::empty())
                            .expect("a request");
                        let response = router.clone().oneshot(request).await.expect("infallible");
                        assert!(response.status().is_success());
                        let body = to_bytes(response.into_body(), 1 << 28)
                            .await
                            .expect("a body");
                        assert!(body.len() as u64 > pods * 100, "{} bytes", body.len());
                        black_box(body)
                    })
                });
            });
        }
    }
    group.finish();
    drop(targets);
}

criterion_group!(benches, answers, usage);
criterion_main!(benches);
