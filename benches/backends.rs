//! What a backend costs: memory for the lookup of 400,000 series, CPU per request, and how often the backend is asked.
//!
//! The backend is simulated in a process of its own: this program, started with `serve`.
#![expect(clippy::print_stdout, reason = "the report")]

#[path = "../tests/support/proc.rs"]
mod proc;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{any, get};
use futures_util::stream;
use gpu_metrics_adapter::app::Core;
use gpu_metrics_adapter::cluster::StaticMapper;
use gpu_metrics_adapter::config::Config;
use gpu_metrics_adapter::model::objects::{GroupResource, NoObjects};
use gpu_metrics_adapter::model::selector::Selector;
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::provider::{MetricQuestion, Objects};

use proc::cpu_time;

const SERIES: usize = 400_000;
const METRICS: usize = 1_720;
const NAMESPACES: usize = 200;
const PODS: usize = 8;
const REQUESTS: usize = 100_000;

/// The promise.
const MOST_GROWTH: usize = 100 << 20;

fn main() {
    if std::env::args().any(|argument| argument == "serve") {
        serve();
        return;
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let backend = Backend::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(lookup(&backend.url));
    runtime.block_on(requests(&backend.url));
}

/// A configuration whose rule asks the backend for series at this path.
fn core(url: &str, path: &str) -> Core {
    let config = format!(
        "freshWithin: 1h
scrape: {{presets: []}}
prometheus: [{{url: '{url}/{path}'}}]
rules:
- seriesQuery: '{{pod!=\"\"}}'
  resources: {{overrides: {{namespace: {{resource: namespace}}, pod: {{resource: pod}}}}}}
  metricsQuery: sum(<<.Series>>{{<<.LabelMatchers>>}}) by (<<.GroupBy>>)
"
    );
    let config = Config::parse(&config).expect("the form is right");
    Core::build(&config, Arc::new(NoObjects), Arc::new(StaticMapper)).expect("valid")
}

async fn lookup(url: &str) {
    let core = core(url, "many");
    let before = proc::memory("self", "VmRSS");
    let (begun, cpu) = (Instant::now(), cpu_time("self"));
    while core.provider.catalog().offers().count() == 0 {
        core.provider.refresh(Timestamp::now()).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(begun.elapsed() < Duration::from_secs(60), "no catalog");
    }
    let (took, cpu) = (begun.elapsed(), cpu_time("self") - cpu);
    let growth = proc::memory("self", "VmHWM").saturating_sub(before);
    println!(
        "{SERIES} series, {} MB of JSON, {} metrics offered: {took:.1?}, {cpu:.1?} of CPU, {:.1} MiB more at the peak",
        series_bytes() / 1_000_000,
        core.provider.catalog().offers().count(),
        growth as f64 / f64::from(1 << 20),
    );
    assert!(growth < MOST_GROWTH, "grew by {growth} bytes");
}

async fn requests(url: &str) {
    let core = core(url, "few");
    core.provider.refresh(Timestamp::now()).await;
    let question = |index: usize| MetricQuestion {
        resource: GroupResource::core("pods"),
        namespace: Some(format!("ns{}", index % NAMESPACES)),
        objects: Objects::Named(format!("p{}", index / NAMESPACES % PODS)),
        metric: "util".to_owned(),
        metric_selector: Selector::default(),
    };
    let (begun, cpu) = (Instant::now(), cpu_time("self"));
    for index in 0..REQUESTS {
        let question = question(index);
        let answer = core.provider.answer(&question, Timestamp::now()).await;
        answer.expect("a value");
    }
    let (took, cpu) = (begun.elapsed(), cpu_time("self") - cpu);
    let client = reqwest::Client::builder().no_proxy().build();
    let client = client.expect("a client");
    let count = client.get(format!("{url}/count")).send().await;
    let count = count.expect("an answer").text().await.expect("a number");
    println!(
        "{REQUESTS} requests in {NAMESPACES} namespaces: {:.0} a second, {:.1} µs of CPU each, {count} queries sent",
        REQUESTS as f64 / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / REQUESTS as f64,
    );
    assert_eq!(count, NAMESPACES.to_string(), "one for each namespace");
}

/// The process with the simulated backend; it ends when this is dropped.
struct Backend {
    process: Child,
    url: String,
}

impl Backend {
    fn start() -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut process = Command::new(program)
            .arg("serve")
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program");
        let mut url = String::new();
        let output = process.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut url).expect("a line");
        let url = url.trim().to_owned();
        Self { process, url }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// About as long as those of a kube-state-metrics or a cAdvisor.
fn series(index: usize) -> String {
    let (metric, pod) = (index % METRICS, index / METRICS);
    format!(
        "{{\"__name__\":\"container_metric_{metric}_seconds_total\",\"namespace\":\"namespace-{}\",\"pod\":\"qwen-predictor-7c9d8f6b5-{pod:05}\",\"container\":\"kserve-container\",\"id\":\"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6c1a3b0e_9d4f_4a27_8f55_{pod:012}.slice/cri-containerd-0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566778899aabbcc{pod:08}.scope\",\"image\":\"registry.example.com/serving/vllm-openai:v0.11.0\",\"instance\":\"10.0.{}.{}:10250\",\"job\":\"kubelet\",\"node\":\"gpu-{}\"}}",
        pod % 50,
        pod % 256,
        pod / 256,
        pod % 400
    )
}

fn series_bytes() -> usize {
    (0..SERIES).map(|index| series(index).len() + 1).sum()
}

fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let count = Arc::new(AtomicUsize::new(0));
    let many = || async {
        let piece = |first: usize| {
            let rows: Vec<String> = (first..first + 400).map(series).collect();
            let comma = if first == 0 { "" } else { "," };
            Bytes::from(format!("{comma}{}", rows.join(",")))
        };
        let pieces = (0..SERIES).step_by(400).map(piece);
        let start = [Bytes::from_static(b"{\"status\":\"success\",\"data\":[")];
        let end = [Bytes::from_static(b"]}")];
        let all = start.into_iter().chain(pieces).chain(end);
        Body::from_stream(stream::iter(all.map(Ok::<_, std::io::Error>)))
    };
    let counted = Arc::clone(&count);
    let query = move || async move {
        counted.fetch_add(1, Ordering::Relaxed);
        let pods = (0..PODS)
            .map(|pod| format!("{{\"metric\":{{\"pod\":\"p{pod}\"}},\"value\":[1,\"7.5\"]}}"));
        let pods: Vec<String> = pods.collect();
        format!(
            "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{}]}}}}",
            pods.join(",")
        )
    };
    let few = "{\"status\":\"success\",\"data\":[{\"__name__\":\"util\",\"namespace\":\"ns0\",\"pod\":\"p0\"}]}";
    let router = Router::new()
        .route("/many/api/v1/series", any(many))
        .route("/few/api/v1/series", any(move || async move { few }))
        .route("/few/api/v1/query", any(query))
        .route(
            "/count",
            get(move || async move { count.load(Ordering::Relaxed).to_string() }),
        );
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        println!("http://{}", listener.local_addr().expect("an address"));
        axum::serve(listener, router).await.expect("it serves");
    });
}
