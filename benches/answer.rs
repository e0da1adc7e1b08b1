//! What one question of the HPA costs inside the process: from the HTTP request to the bytes of the answer, without TLS.
//!
//! `cargo bench --bench answer`. The namespace asked about holds 8, 100 or 1,000 pods with one GPU each; 1,000 other pods in
//! ten other namespaces are there in every case, so that the cost of what does not match shows.

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
use gpu_metrics_adapter::model::objects::{GroupResource, ListError, ObjectLister, ObjectRef};
use gpu_metrics_adapter::model::selector::Selector;
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::provider::{Provider, RuleSet, Settings};
use gpu_metrics_adapter::rules::{DCGM_EXPORTER_PRESET, Rule};
use gpu_metrics_adapter::store::{Limits, Store, TargetInfo, TargetWriter};
use http::Request;
use tower::ServiceExt as _;

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
    for pods in [8, 100, 1000] {
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
                backends: Vec::new(),
            },
            Arc::new(Embedded::new(store)),
            Arc::new(lister),
            Arc::new(StaticMapper),
        ));
        runtime.block_on(provider.refresh(NOW));
        let router = api::router(Arc::new(Api {
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
        group.bench_function(BenchmarkId::new("pods", pods), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let request = Request::get(uri.as_str())
                        .header("accept", "application/vnd.kubernetes.protobuf, */*")
                        .body(Body::empty())
                        .expect("a request");
                    let response = router.clone().oneshot(request).await.expect("infallible");
                    assert!(response.status().is_success());
                    black_box(
                        to_bytes(response.into_body(), 1 << 20)
                            .await
                            .expect("a body"),
                    )
                })
            });
        });
        drop(targets);
    }
    group.finish();
}

criterion_group!(benches, answers);
criterion_main!(benches);
