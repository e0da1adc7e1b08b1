//! How many questions of HPAs a replica answers over TLS, and what each costs it: 200 namespaces of 8 pods, asked as
//! kube-apiserver's aggregator passes on the requests of the HPA controller.
//!
//! `cargo bench --bench requests`. The server is this program in a process of its own, started with `serve`, with one worker
//! thread; it is the whole of it but the cluster: TLS, authentication by the front proxy, authorization with its cache,
//! bounds, rules, PromQL over the store, protobuf. Then the same with the series in a real Prometheus, where there is one
//! (`make bench`): with the default `freshWithin`, and with none, so that each request asks it.
#![expect(clippy::print_stdout, reason = "it prints what it measures")]

#[path = "../tests/support/proc.rs"]
#[expect(dead_code, reason = "how much memory is of no interest here")]
mod proc;
#[path = "support/prometheus.rs"]
#[expect(dead_code, reason = "another benchmark asks it")]
mod prometheus;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all, ready};
use gpu_metrics_adapter::app::{Core, Front, open};
use gpu_metrics_adapter::auth::{
    Authenticator, Authorizer, Decision, HEALTH_PATHS, RequestAttributes, ReviewError, Reviewer,
    Trust, User,
};
use gpu_metrics_adapter::cluster::StaticMapper;
use gpu_metrics_adapter::config::Config;
use gpu_metrics_adapter::model::labels::{Labels, METRIC_NAME};
use gpu_metrics_adapter::model::objects::{GroupResource, ListError, ObjectLister, ObjectRef};
use gpu_metrics_adapter::model::selector::Selector;
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::server::pki::{Authority, Pair};
use gpu_metrics_adapter::server::{
    Admission, Audit, AuditLog, Listen, ServerMetrics, ServingCertificate,
};
use gpu_metrics_adapter::store::{TargetInfo, TargetWriter};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use proc::cpu_time;
use prometheus::Prometheus;

const NAMESPACES: usize = 200;
const PODS: usize = 8;
const METRIC: &str = "DCGM_CUSTOM_PROCESS_SM_UTIL";
const PROXY: &str = "front-proxy-client";
const HPA: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// How many requests are under way at a time, on how many connections.
const WORKERS: usize = 16;
const CONNECTIONS: usize = 4;
const REQUESTS: usize = 60_000;

/// The preset's rules, for where the preset, which scrapes, is not wanted.
const RULES: &str = include_str!("../src/rules/presets/dcgm-exporter.yaml");

/// How the server is run.
#[derive(Default, Serialize, Deserialize)]
struct Variant {
    /// A configuration with a backend that has the series, in place of its own store.
    backend: Option<String>,
    /// Whether each request is written down, to a file.
    audited: bool,
}

/// What the server tells its client.
#[derive(Serialize, Deserialize)]
struct Opened {
    address: SocketAddr,
    authority: String,
    /// Certificate and key of the front proxy, which end with the processes.
    proxy: String,
}

/// What the server has used so far.
#[derive(Serialize, Deserialize)]
struct Used {
    cpu: Duration,
    /// Requests to its backend.
    upstream: u64,
}

fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut arguments = std::env::args().skip_while(|argument| argument != "serve");
    if arguments.next().is_some() {
        let variant = arguments.next().expect("how to serve");
        runtime.block_on(serve(serde_json::from_str(&variant).expect("JSON")));
        return;
    }
    let embedded = Variant::default();
    runtime.block_on(ask("embedded", REQUESTS, &embedded));
    let audited = Variant {
        audited: true,
        ..Variant::default()
    };
    runtime.block_on(ask("embedded, with an audit log", REQUESTS, &audited));
    let Some(prometheus) = Prometheus::with(&recorded()) else {
        return;
    };
    // Long enough for several intervals of freshness.
    for (fresh, requests) in [("5s", 6 * REQUESTS), ("0s", REQUESTS / 3)] {
        let what = format!("Prometheus, freshWithin: {fresh}");
        let backend = format!(
            "freshWithin: {fresh}\nscrape: {{presets: []}}\nprometheus: [{{url: '{}'}}]\nrules:\n{RULES}",
            prometheus.url()
        );
        let through = Variant {
            backend: Some(backend),
            ..Variant::default()
        };
        let before = cpu_time(prometheus.process());
        runtime.block_on(ask(&what, requests, &through));
        let cpu = cpu_time(prometheus.process()) - before;
        println!("  Prometheus used {cpu:.2?} of CPU for all of it");
    }
}

/// The series as a Prometheus would have scraped them just now.
fn recorded() -> String {
    let mut text = format!("# TYPE {METRIC} gauge\n");
    let now = Timestamp::now().as_seconds();
    for namespace in 0..NAMESPACES {
        for index in 0..PODS {
            let pod = pod(index);
            text += &format!(
                "{METRIC}{{NamespaceName=\"team-{namespace:04}\",PodName=\"{pod}\",UUID=\"{pod}\",gpu=\"{index}\"}} 42.5 {now}\n"
            );
        }
    }
    text + "# EOF\n"
}

async fn serve(Variant { backend, audited }: Variant) {
    let now = Timestamp::now();
    let cluster = Authority::generate("cluster", LIFE, now).expect("an authority");
    let proxies = Authority::generate("proxies", LIFE, now).expect("an authority");
    let serving = cluster.serving(&["localhost"], LIFE, now).expect("a pair");
    let Pair { certificate, key } = proxies.client(PROXY, None, LIFE, now).expect("a pair");
    let source = backend.unwrap_or_else(|| "scrape: {presets: [dcgm-exporter]}\n".to_owned());
    let config = Config::parse(&format!("maxAge: 1d\n{source}")).expect("valid");
    let core = Core::build(&config, Arc::new(Pods), Arc::new(StaticMapper)).expect("valid");
    let _targets: Vec<TargetWriter> = (0..NAMESPACES).map(|it| scrape(&core, it, now)).collect();
    let authenticator = Arc::new(Authenticator::new(Arc::new(Allowed)));
    let list = |name: &str| format!("[{name:?}]");
    let trust = BTreeMap::from([
        (
            "requestheader-client-ca-file".to_owned(),
            proxies.certificate().to_owned(),
        ),
        ("requestheader-allowed-names".to_owned(), list(PROXY)),
        (
            "requestheader-username-headers".to_owned(),
            list("X-Remote-User"),
        ),
        (
            "requestheader-group-headers".to_owned(),
            list("X-Remote-Group"),
        ),
    ]);
    authenticator.set_trust(Trust::from_config_map(&trust).expect("trust"));
    let (chain, private) = (serving.certificate.as_bytes(), serving.key.as_bytes());
    let metrics = ServerMetrics::default();
    let log = audited.then(log_file);
    let audit = log.as_ref().map(|file| {
        let log = AuditLog::File(file.clone());
        Audit::open(&log, &metrics).expect("a file")
    });
    let front = Front {
        listen: Listen {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            certificate: ServingCertificate::from_pem(chain, private).expect("a certificate"),
            admission: Admission::default(),
            draining: CancellationToken::new(),
            metrics,
        },
        authenticator,
        authorizer: Arc::new(Authorizer::new(Arc::new(Allowed), HEALTH_PATHS)),
        checks: Vec::new(),
        reloads: None,
        schedules: None,
        fallback: None,
        audit,
        debug_address: None,
    };
    let running = open(&core, front).await.expect("an open port");
    let opened = Opened {
        address: running.address(),
        authority: cluster.certificate().to_owned(),
        proxy: format!("{certificate}{key}"),
    };
    println!("{}", serde_json::to_string(&opened).expect("JSON"));
    // A line for each line, until its client is gone.
    let backends = core.provider.backends();
    let lines = tokio::task::spawn_blocking(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            let used = Used {
                cpu: cpu_time("self"),
                upstream: backends.iter().map(|backend| backend.requests()).sum(),
            };
            println!("{}", serde_json::to_string(&used).expect("JSON"));
        }
    });
    lines.await.expect("no panic");
    if let Some(file) = log {
        let _ = std::fs::remove_file(file);
    }
}

/// A file of this process's own for the log.
fn log_file() -> PathBuf {
    let name = format!("gpu-metrics-adapter-audit-{}", std::process::id());
    std::env::temp_dir().join(name)
}

fn pod(index: usize) -> String {
    format!("qwen-predictor-578cbd4cdd-{index:05}")
}

fn scrape(core: &Core, namespace: usize, now: Timestamp) -> TargetWriter {
    let namespace = format!("team-{namespace:04}");
    let mut target = core.scraping.store.register(TargetInfo {
        job: "bench".to_owned(),
        url: format!("http://{namespace}/metrics"),
        object: None,
        interval: Duration::from_secs(15),
    });
    let mut scrape = target.begin(now);
    for index in 0..PODS {
        let (pod, gpu) = (pod(index), index.to_string());
        let labels = Labels::new([
            (METRIC_NAME, METRIC),
            ("NamespaceName", namespace.as_str()),
            ("PodName", pod.as_str()),
            ("UUID", pod.as_str()),
            ("gpu", gpu.as_str()),
        ]);
        scrape.add(&labels, 42.5, None).expect("within the limits");
    }
    scrape.commit();
    target
}

/// The same pods in every namespace.
struct Pods;

impl ObjectLister for Pods {
    fn list(
        &self,
        _: &GroupResource,
        namespace: Option<&str>,
        _: &Selector,
    ) -> Result<Vec<ObjectRef>, ListError> {
        let object = |index| ObjectRef {
            namespace: namespace.map(Arc::from),
            name: pod(index).into(),
        };
        Ok((0..PODS).map(object).collect())
    }
}

/// Everybody may everything.
struct Allowed;

impl Reviewer for Allowed {
    fn token_review<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<User>, ReviewError>> {
        ready(Ok(None)).boxed()
    }

    fn subject_access_review<'a>(
        &'a self,
        _: &'a User,
        _: &'a RequestAttributes,
    ) -> BoxFuture<'a, Result<Decision, ReviewError>> {
        let decision = Decision {
            allowed: true,
            reason: String::new(),
        };
        ready(Ok(decision)).boxed()
    }
}

/// The server's process; it ends when this is dropped.
struct Server {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Server {
    fn start(variant: &Variant) -> (Self, Opened) {
        let program = std::env::current_exe().expect("this program");
        let mut process = Command::new(program)
            .arg("serve")
            .arg(serde_json::to_string(variant).expect("JSON"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = process.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(output).lines();
        let opened = lines.next().expect("a line").expect("readable");
        let opened = serde_json::from_str(&opened).expect("JSON");
        (Self { process, lines }, opened)
    }

    fn used(&mut self) -> Used {
        let input = self.process.stdin.as_mut().expect("it is piped");
        writeln!(input).expect("it listens");
        let used = self.lines.next().expect("a line").expect("readable");
        serde_json::from_str(&used).expect("JSON")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends with its input, and tidies up.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

async fn ask(what: &str, requests: usize, variant: &Variant) {
    let (mut server, opened) = Server::start(variant);
    let clients: Vec<reqwest::Client> = (0..CONNECTIONS).map(|_| client(&opened)).collect();
    let port = opened.address.port();
    let next = AtomicUsize::new(0);
    let worker = async |index: usize, requests: usize| {
        let client = &clients[index % CONNECTIONS];
        let mut took = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= requests {
                return took;
            }
            let namespace = number % NAMESPACES;
            let url = format!(
                "https://localhost:{port}/apis/custom.metrics.k8s.io/v1beta2/namespaces/team-{namespace:04}/pods/%2A/{METRIC}?labelSelector=app%3Dqwen"
            );
            let started = Instant::now();
            let request = client.get(url).header("X-Remote-User", HPA);
            let request = request.header(
                "Accept",
                "application/vnd.kubernetes.protobuf,application/json",
            );
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), 200);
            let body = answer.bytes().await.expect("a body");
            assert!(body.len() > PODS * 100, "{} bytes", body.len());
            took.push(started.elapsed());
        }
    };
    join_all((0..WORKERS).map(|index| worker(index, 2 * NAMESPACES))).await;
    next.store(0, Ordering::Relaxed);
    let (before, started) = (server.used(), Instant::now());
    let took = join_all((0..WORKERS).map(|index| worker(index, requests))).await;
    let (elapsed, after) = (started.elapsed(), server.used());
    let (cpu, upstream) = (after.cpu - before.cpu, after.upstream - before.upstream);
    let mut took: Vec<Duration> = took.into_iter().flatten().collect();
    took.sort_unstable();
    let (median, late) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!(
        "{what}: {requests} requests in {NAMESPACES} namespaces of {PODS} pods, {WORKERS} at a time: {:.0} a second, {:.1} µs of the server's CPU each; median {median:.2?}, p99 {late:.2?}; {upstream} requests upstream in {elapsed:.1?}, {:.1} for 1,000",
        requests as f64 / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / requests as f64,
        upstream as f64 * 1e3 / requests as f64,
    );
}

fn client(opened: &Opened) -> reqwest::Client {
    let authority = reqwest::Certificate::from_pem(opened.authority.as_bytes());
    let proxy = reqwest::Identity::from_pem(opened.proxy.as_bytes());
    reqwest::Client::builder()
        .tls_certs_only([authority.expect("a certificate")])
        .identity(proxy.expect("a pair"))
        .no_proxy()
        .http2_prior_knowledge()
        .build()
        .expect("a client")
}
