//! The presets kubelet and inference-pods, from objects of a cluster over pages in their exporters' formats to values as an HPA
//! asks for them: the presets' own jobs and rules, found, scraped, evaluated and answered by the real thing.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum_server::tls_rustls::RustlsConfig;
use gpu_metrics_adapter::api::prometheus::{QueryApi, QueryLimits};
use gpu_metrics_adapter::api::{self, Api, Discovery, Health};
use gpu_metrics_adapter::app::{Core, Tasks};
use gpu_metrics_adapter::cluster::StaticMapper;
use gpu_metrics_adapter::config::Config;
use gpu_metrics_adapter::model::objects::{GroupResource, ListError, ObjectLister, ObjectRef};
use gpu_metrics_adapter::model::selector::Selector;
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::rules::KUBELET_PRESET;
use http::{HeaderMap, Request, StatusCode, Uri};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

const DEADLINE: Duration = Duration::from_secs(30);

/// The pods of each namespace, as the HPA's selector finds them.
struct Pods(&'static [(&'static str, &'static str)]);

impl ObjectLister for Pods {
    fn list(
        &self,
        _: &GroupResource,
        namespace: Option<&str>,
        _: &Selector,
    ) -> Result<Vec<ObjectRef>, ListError> {
        let object = |(namespace, name): &(&str, &str)| ObjectRef {
            namespace: Some(Arc::from(*namespace)),
            name: Arc::from(*name),
        };
        let of_namespace = self.0.iter().filter(|it| Some(it.0) == namespace);
        Ok(of_namespace.map(object).collect())
    }
}

/// A cluster with these nodes and pods in which nothing changes, and the adapter's API in it.
struct Adapter {
    router: Router,
    tasks: Tasks,
}

impl Adapter {
    async fn start(config: &str, objects: Vec<Value>, pods: Pods) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let of = |kind: &str| {
            let of_kind = objects.iter().filter(|it| it["kind"] == kind);
            Arc::new(of_kind.cloned().collect::<Vec<_>>())
        };
        let (nodes, listed) = (of("Node"), of("Pod"));
        let answer = |kind: &'static str, items: Arc<Vec<Value>>| {
            get(move |uri: Uri| list(kind, items, uri))
        };
        let cluster = Router::new()
            .route("/api/v1/nodes", answer("NodeList", nodes))
            .route("/api/v1/pods", answer("PodList", listed));
        let url = format!("http://{}", serve(cluster).await);
        let client = kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();

        let config = Config::parse(config).expect("valid");
        let core = Core::build(&config, Arc::new(pods), Arc::new(StaticMapper)).expect("valid");
        let tasks = Tasks::default();
        core.start(Some(client), &tasks);
        let queries = QueryApi::new(Arc::clone(&core.queries), QueryLimits::default());
        let router = api::router(Arc::new(Api {
            provider: Arc::clone(&core.provider),
            queries: Arc::new(queries),
            health: Health::new(Vec::new()),
            own_metrics: Box::new(String::new),
            fallback: None,
            resources: None,
            now: Box::new(Timestamp::now),
            discovery: Discovery::default(),
        }));
        Self { router, tasks }
    }

    /// The values of a metric for the pods of a namespace, and their times.
    async fn ask(
        &self,
        namespace: &str,
        metric: &str,
    ) -> Result<BTreeMap<String, (String, Timestamp)>, String> {
        let uri = format!(
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/pods/%2A/{metric}?labelSelector=app%3Da"
        );
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, body) = (response.status(), response.into_body());
        let body = to_bytes(body, 1 << 20).await.unwrap();
        if !status.is_success() {
            return Err(String::from_utf8_lossy(&body).into_owned());
        }
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let items = answer["items"].as_array().unwrap().iter();
        Ok(items
            .map(|it| {
                let time: jiff::Timestamp = text(&it["timestamp"]).parse().unwrap();
                let time = Timestamp::from_millis(time.as_millisecond());
                (
                    text(&it["describedObject"]["name"]),
                    (text(&it["value"]), time),
                )
            })
            .collect())
    }

    /// Asks until each of these pods has its value.
    async fn until(&self, namespace: &str, metric: &str, expected: &[(&str, &str)]) {
        let mut seen = Err("nothing".to_owned());
        let asking = async {
            loop {
                seen = self.ask(namespace, metric).await;
                let values: Vec<_> = seen
                    .iter()
                    .flatten()
                    .map(|(pod, (value, _))| (&**pod, &**value))
                    .collect();
                if values == expected {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let asked = tokio::time::timeout(DEADLINE, asking).await;
        assert!(
            asked.is_ok(),
            "{metric}: {expected:?} expected, have {seen:?}"
        );
    }
}

/// A list of an API server, or a watch in which nothing happens.
async fn list(kind: &str, items: Arc<Vec<Value>>, uri: Uri) -> Response {
    let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let query: BTreeMap<_, _> = query.into_owned().collect();
    if query.contains_key("watch") {
        std::future::pending::<()>().await;
    }
    let selector = query.get("labelSelector");
    let meets =
        |it: &&Value| selector.is_none_or(|label| !it["metadata"]["labels"][label].is_null());
    let items: Vec<_> = items.iter().filter(meets).collect();
    let list = json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items});
    axum::Json(list).into_response()
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// How far apart a kubelet's measurements are.
const STEP_MS: i64 = 15_000;

/// The kubelet's page after its measurement number `step`, of which number 0 is made at `now`. A container `c0` uses half a core,
/// its sidecar and other containers a quarter. Each has a time of its own within a second, as theirs differ.
fn kubelet_page(step: i64, now: Timestamp) -> String {
    let mut page = String::new();
    for line in include_str!("fixtures/pages/resource.txt").lines() {
        let mut fields = line.rsplitn(3, ' ');
        let (time, value, series) = (fields.next(), fields.next(), fields.next());
        // Without a time: a comment, `container_start_time_seconds`, `resource_scrape_error`.
        let (Some(Ok(time)), Some(Ok(value)), Some(series)) = (
            time.map(str::parse::<i64>),
            value.map(str::parse::<f64>),
            series,
        ) else {
            page = page + line + "\n";
            continue;
        };
        let cores = match series.split_once('{') {
            Some(("container_cpu_usage_seconds_total", labels)) if labels.contains("\"c0\"") => 0.5,
            Some(("container_cpu_usage_seconds_total", _)) => 0.25,
            _ => 0.0,
        };
        let measured = step * STEP_MS;
        let time = now.as_millis() + measured - time % 1_000;
        let passed = f64::from(i32::try_from(measured).unwrap()) / 1_000.0;
        writeln!(page, "{series} {} {time}", value + cores * passed).unwrap();
        if series.contains("\"c0\"") {
            let (sidecar, cores) = (series.replace("\"c0\"", "\"sidecar\""), cores / 2.0);
            writeln!(page, "{sidecar} {} {time}", value + cores * passed).unwrap();
        }
    }
    page
}

#[tokio::test]
async fn a_kubelets_page_becomes_cores_and_bytes_of_pods() {
    let folder = std::env::temp_dir().join(format!("presets-kubelet-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(parameters, authority).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let serving = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let serving = serving.signed_by(&key, &authority).unwrap();
    std::fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
    std::fs::write(folder.join("token"), "the-token\n").unwrap();

    // The page moves on with each scrape, up to now: then there are two minutes of measurements.
    let (now, step) = (Timestamp::now(), Arc::new(AtomicI64::new(-9)));
    let page = move |headers: HeaderMap| async move {
        if headers
            .get("authorization")
            .is_none_or(|it| it != "Bearer the-token")
        {
            return (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
        }
        let next = |step: i64| (step < 0).then_some(step + 1);
        let step = step.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        (StatusCode::OK, kubelet_page(step.unwrap_or(0), now))
    };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(serving.der().to_vec())],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = RustlsConfig::from_config(Arc::new(tls));
    let app = Router::new().route("/metrics/resource", get(page));
    let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
    let server = tokio::spawn(server.serve(app.into_make_service()));

    // The preset's job and rules as they stand, but for where a pod's credentials lie.
    let job = include_str!("../src/targets/presets/kubelet.yaml")
        .replace(
            "/var/run/secrets/kubernetes.io/serviceaccount",
            folder.to_str().unwrap(),
        )
        .replace('\n', "\n    ");
    let config = format!(
        "scrape:\n  interval: 200ms\n  presets: []\n  scrape_configs:\n  -\n    {job}\n    keep: needed\nmaxAge: 45s\nrules:\n{KUBELET_PRESET}"
    );
    let node = json!({
        "kind": "Node", "apiVersion": "v1", "metadata": {"name": "gpu-1", "resourceVersion": "1"},
        "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}},
    });
    let pods = Pods(&[
        ("ns-1", "svc-1-6f5c9d7b8-28169"),
        ("ns-1", "svc-1-6f5c9d7b8-31303"),
    ]);
    let adapter = Adapter::start(&config, vec![node], pods).await;
    let [one, two] = ["svc-1-6f5c9d7b8-28169", "svc-1-6f5c9d7b8-31303"];
    let cores = [(one, "250m"), (two, "750m")];
    adapter.until("ns-1", "container_cpu_usage", &cores).await;
    let (metric, bytes) = (
        "container_memory_working_set_bytes",
        [(one, "587391300"), (two, "1624375400")],
    );
    adapter.until("ns-1", metric, &bytes).await;
    // The time is the kubelet's, of when it measured.
    for (_, time) in adapter.ask("ns-1", metric).await.unwrap().into_values() {
        assert!(
            time <= now && now.minus(Duration::from_secs(2)) < time,
            "{time:?} {now:?}"
        );
    }
    adapter.tasks.stop().await;
    server.abort();
    std::fs::remove_dir_all(folder).unwrap();
}

/// A pod whose server has its page under `path`.
fn inference_pod(name: &str, labels: Value, address: &str, path: &str) -> Value {
    let port = address.rsplit(':').next().unwrap();
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"namespace": "llm", "name": name, "uid": name, "resourceVersion": "1", "labels": labels,
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": port, "prometheus.io/path": path}},
        "spec": {"nodeName": "gpu-1", "containers": [{"name": "kserve-container"}]},
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    })
}

#[tokio::test]
async fn the_pages_of_inference_servers_become_values_of_their_pods() {
    // A second engine, as with data parallelism, and what vLLM has had since 0.24.
    let vllm = include_str!("fixtures/pages/vllm.txt");
    let second: String = [("running", 3.0), ("waiting", 4.0)]
        .map(|(what, value)| {
            format!("vllm:num_requests_{what}{{engine=\"1\",model_name=\"m\"}} {value}\n")
        })
        .concat();
    let vllm = format!(
        "{vllm}{second}vllm:kv_cache_usage_perc{{engine=\"1\",model_name=\"m\"}} 0.349\n\
         vllm:num_requests_waiting_by_reason{{engine=\"0\",model_name=\"m\",reason=\"capacity\"}} 2.914\n"
    );
    // Names that the servers' documentation has; the pages around them are ours.
    let pages = [
        ("/vllm", vllm),
        // It says that it is another pod, and is not believed.
        ("/liar", "vllm:num_requests_waiting{engine=\"0\",namespace=\"llm\",pod=\"vllm-0\"} 1000\n".to_owned()),
        ("/sglang", "sglang:num_queue_reqs{model_name=\"m\"} 5.0\nsglang:num_running_reqs{model_name=\"m\"} 6.0\nsglang:token_usage{model_name=\"m\"} 0.28\n".to_owned()),
        ("/tgi", "tgi_queue_size 7\ntgi_batch_current_size 8\ntgi_batch_current_max_tokens 4096\n".to_owned()),
        ("/nim", "num_requests_waiting{model_name=\"m\"} 9\nnum_requests_running{model_name=\"m\"} 10\ngpu_cache_usage_perc{model_name=\"m\"} 0.5\n".to_owned()),
        (
            "/triton",
            "nv_inference_pending_request_count{model=\"a\",version=\"1\"} 1\nnv_inference_pending_request_count{model=\"b\",version=\"1\"} 2\n\
             nv_trt_llm_request_metrics{model=\"a\",request_type=\"waiting\",version=\"1\"} 11\nnv_trt_llm_request_metrics{model=\"a\",request_type=\"active\",version=\"1\"} 12\n\
             nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"fraction\",model=\"a\",version=\"1\"} 0.75\n\
             nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"max\",model=\"a\",version=\"1\"} 100\n".to_owned(),
        ),
    ];
    let mut servers = Router::new();
    for (path, page) in pages {
        servers = servers.route(path, get(move || async { page }));
    }
    let address = serve(servers).await;
    let plain = json!({"app": "a"});
    let kserve = json!({"app": "a", "serving.kserve.io/inferenceservice": "qwen"});
    let objects = ["liar", "sglang", "tgi", "nim", "triton"]
        .map(|it| inference_pod(it, plain.clone(), &address, &format!("/{it}")))
        .into_iter()
        .chain([inference_pod("vllm-0", kserve, &address, "/vllm")]);
    let pods = Pods(&[
        ("llm", "liar"),
        ("llm", "nim"),
        ("llm", "sglang"),
        ("llm", "tgi"),
        ("llm", "triton"),
        ("llm", "vllm-0"),
    ]);
    let config = "scrape: {presets: [inference-pods], interval: 200ms}\nmaxAge: 45s\n";
    let adapter = Adapter::start(config, objects.collect(), pods).await;
    let table: &[(&str, &[(&str, &str)])] = &[
        (
            "vllm_num_requests_waiting",
            &[("liar", "1k"), ("vllm-0", "6914m")],
        ),
        ("vllm_num_requests_running", &[("vllm-0", "4870m")]),
        ("vllm_kv_cache_usage_perc", &[("vllm-0", "3500m")]),
        ("sglang_num_queue_reqs", &[("sglang", "5")]),
        ("sglang_num_running_reqs", &[("sglang", "6")]),
        ("sglang_token_usage", &[("sglang", "280m")]),
        ("tgi_queue_size", &[("tgi", "7")]),
        ("tgi_batch_current_size", &[("tgi", "8")]),
        ("tgi_batch_current_max_tokens", &[("tgi", "4096")]),
        ("num_requests_waiting", &[("nim", "9")]),
        ("num_requests_running", &[("nim", "10")]),
        ("gpu_cache_usage_perc", &[("nim", "500m")]),
        ("nv_inference_pending_request_count", &[("triton", "3")]),
        ("nv_trt_llm_requests_waiting", &[("triton", "11")]),
        ("nv_trt_llm_requests_running", &[("triton", "12")]),
        ("nv_trt_llm_kv_cache_usage", &[("triton", "750m")]),
    ];
    for (metric, expected) in table {
        adapter.until("llm", metric, expected).await;
    }
    let refused = adapter
        .ask("llm", "vllm_num_requests_waiting_by_reason")
        .await;
    assert!(
        refused.unwrap_err().contains("none of the"),
        "no metric of its own"
    );
    adapter.tasks.stop().await;
}
