//! From an API server's pods to scrape targets, against a small API server of our own on loopback.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use gpu_metrics_adapter::targets::{self, TargetSet};
use parking_lot::Mutex;
use reqwest::Url;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The preset whose exporters these tests are about.
const DCGM: &str = "presets: [dcgm-exporter]";

const DEADLINE: Duration = Duration::from_secs(30);

/// Lists and watches of pods. Every watch gets every event whose pod meets its selector.
struct Api {
    pods: Mutex<Vec<Value>>,
    failing: Mutex<bool>,
    /// Whether the next watch is refused, as from a version that is gone.
    gone: Mutex<bool>,
    asked: Mutex<BTreeSet<String>>,
    events: broadcast::Sender<Event>,
}

/// What a watch sends: the type and the pod. Without a pod the connection ends.
type Event = Option<(&'static str, Value)>;

async fn pods(State(api): State<Arc<Api>>, uri: Uri) -> Response {
    let url = Url::parse("http://api").unwrap().join(&uri.to_string());
    let params: BTreeMap<String, String> = url.unwrap().query_pairs().into_owned().collect();
    let selector = params.get("labelSelector").cloned().unwrap_or_default();
    let asked = format!("{} {selector}", uri.path());
    api.asked.lock().insert(asked);
    if *api.failing.lock() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    if !params.contains_key("watch") {
        let items: Vec<Value> = api.pods.lock().clone();
        let items: Vec<Value> = items
            .into_iter()
            .filter(|it| meets(it, &selector))
            .collect();
        let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items});
        return axum::Json(list).into_response();
    }
    if std::mem::take(&mut *api.gone.lock()) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "too old resource version", "reason": "Expired", "code": 410});
        return (StatusCode::GONE, axum::Json(status)).into_response();
    }
    let lines = stream::unfold(api.events.subscribe(), move |mut events| {
        let selector = selector.clone();
        async move {
            loop {
                let (kind, object) = events.recv().await.ok()??;
                if meets(&object, &selector) {
                    let line = format!("{}\n", json!({"type": kind, "object": object}));
                    return Some((Ok::<_, Infallible>(Bytes::from(line)), events));
                }
            }
        }
    });
    Body::from_stream(lines).into_response()
}

/// Whether a pod has the one label that a selector here names.
fn meets(pod: &Value, selector: &str) -> bool {
    let (name, value) = selector.split_once('=').unwrap_or_default();
    pod["metadata"]["labels"][name] == value
}

fn exporter(name: &str, ip: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"namespace": "gpu-operator", "name": name, "uid": name, "resourceVersion": "2",
            "labels": {"app": "nvidia-dcgm-exporter"}},
        "spec": {"nodeName": format!("node-of-{name}"),
            "containers": [{"name": "e", "ports": [{"name": "metrics", "containerPort": 9400}]}]},
        "status": {"phase": "Running", "podIP": ip},
    })
}

/// Follows the targets of a `scrape:` section.
fn follow(
    section: &str,
    client: &kube::Client,
    out: &Arc<watch::Sender<Arc<TargetSet>>>,
    cancel: &CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let jobs = targets::compile(&serde_saphyr::from_str(section).unwrap()).unwrap();
    targets::run(jobs, 100, Some(client.clone()), out.clone(), cancel.clone())
}

struct Fixture {
    api: Arc<Api>,
    client: kube::Client,
    out: Arc<watch::Sender<Arc<TargetSet>>>,
    sets: watch::Receiver<Arc<TargetSet>>,
    cancel: CancellationToken,
    running: JoinHandle<()>,
    server: JoinHandle<()>,
}

impl Fixture {
    /// The targets of `section` (a `scrape:` section) in a cluster with these pods.
    async fn start(section: &str, present: &[Value]) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let api = Arc::new(Api {
            pods: Mutex::new(present.to_vec()),
            failing: Mutex::default(),
            gone: Mutex::default(),
            asked: Mutex::default(),
            events: broadcast::channel(16).0,
        });
        let router = Router::new().fallback(pods).with_state(api.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let client = kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
        let (out, sets) = watch::channel(Arc::default());
        let (out, cancel) = (Arc::new(out), CancellationToken::new());
        let running = tokio::spawn(follow(section, &client, &out, &cancel));
        Self {
            api,
            client,
            out,
            sets,
            cancel,
            running,
            server,
        }
    }

    async fn until(&mut self, urls: &[&str]) -> Arc<TargetSet> {
        let wanted = |set: &Arc<TargetSet>| {
            let have: Vec<&str> = set.targets.iter().map(|it| it.url.as_str()).collect();
            have == urls
        };
        let waiting = tokio::time::timeout(DEADLINE, self.sets.wait_for(wanted));
        if let Ok(set) = waiting.await {
            return set.expect("the targets are followed").clone();
        }
        panic!("{urls:?} expected, have {:?}", self.sets.borrow());
    }

    fn send(&self, kind: &'static str, pod: Value) {
        // Before its list a watch misses nothing, since the list has it all.
        self.api
            .events
            .send(Some((kind, pod)))
            .expect("somebody watches");
    }

    /// Waits until `count` watches are open.
    async fn until_watched(&self, count: usize) {
        let watched = async {
            while self.api.events.receiver_count() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let watched = tokio::time::timeout(DEADLINE, watched).await;
        watched.unwrap_or_else(|_| panic!("not {count} watches"));
    }

    async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(DEADLINE, self.running)
            .await
            .expect("it ends when it is told to")
            .unwrap();
        self.server.abort();
    }
}

#[tokio::test]
async fn the_preset_follows_the_exporters_of_a_cluster_through_an_outage() {
    let mut cluster = Fixture::start(DCGM, &[exporter("a", "10.0.0.1")]).await;
    let set = cluster.until(&["http://10.0.0.1:9400/metrics"]).await;
    assert_eq!(set.targets[0].labels.value("node"), "node-of-a");
    assert_eq!(set.targets[0].object.as_deref(), Some("pod gpu-operator/a"));
    let asked: Vec<String> = cluster.api.asked.lock().iter().cloned().collect();
    assert_eq!(
        asked,
        [
            "/api/v1/pods app.kubernetes.io/name=dcgm-exporter",
            "/api/v1/pods app=dcgm-exporter",
            "/api/v1/pods app=nvidia-dcgm-exporter",
            "/api/v1/pods k8s-app=ack-prometheus-gpu-exporter",
        ]
    );

    cluster.until_watched(4).await;
    cluster.send("ADDED", exporter("b", "10.0.0.2"));
    let both = [
        "http://10.0.0.1:9400/metrics",
        "http://10.0.0.2:9400/metrics",
    ];
    cluster.until(&both).await;
    cluster.send("DELETED", exporter("a", "10.0.0.1"));
    cluster.until(&both[1..]).await;

    // While the API server fails, what is known stays; afterwards the watches go on.
    *cluster.api.failing.lock() = true;
    cluster.api.asked.lock().clear();
    let _ = cluster.api.events.send(None);
    let asked_again = async {
        while cluster.api.asked.lock().len() < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, asked_again)
        .await
        .expect("it tries again");
    assert_eq!(cluster.sets.borrow().targets.len(), 1);
    assert!(!cluster.sets.has_changed().unwrap());
    *cluster.api.failing.lock() = false;
    cluster.until_watched(4).await;
    cluster.send("ADDED", exporter("c", "10.0.0.3"));
    cluster
        .until(&[both[1], "http://10.0.0.3:9400/metrics"])
        .await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_watch_from_a_version_that_is_gone_lists_again() {
    let section = r#"
presets: []
scrape_configs:
- job_name: a
  kubernetes_sd_configs:
  - {role: pod, selectors: [{role: pod, label: app=nvidia-dcgm-exporter}]}
"#;
    let mut cluster = Fixture::start(section, &[exporter("a", "10.0.0.1")]).await;
    cluster.until(&["http://10.0.0.1:9400/metrics"]).await;
    cluster.until_watched(1).await;
    *cluster.api.pods.lock() = vec![exporter("b", "10.0.0.2")];
    *cluster.api.gone.lock() = true;
    let _ = cluster.api.events.send(None);
    cluster.until(&["http://10.0.0.2:9400/metrics"]).await;
    cluster.stop().await;
}

#[tokio::test]
async fn each_namespace_is_asked_alone() {
    let section = r#"
presets: []
scrape_configs:
- job_name: a
  kubernetes_sd_configs:
  - role: pod
    namespaces: {names: [one, two]}
    selectors: [{role: pod, label: app=nvidia-dcgm-exporter}]
"#;
    let mut cluster = Fixture::start(section, &[exporter("a", "10.0.0.1")]).await;
    cluster.until(&["http://10.0.0.1:9400/metrics"]).await;
    cluster.until_watched(2).await;
    let asked: Vec<String> = cluster.api.asked.lock().iter().cloned().collect();
    assert_eq!(
        asked,
        [
            "/api/v1/namespaces/one/pods app=nvidia-dcgm-exporter",
            "/api/v1/namespaces/two/pods app=nvidia-dcgm-exporter",
        ]
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_reload_takes_no_target_away_that_goes_on() {
    let mut cluster = Fixture::start(DCGM, &[exporter("a", "10.0.0.1")]).await;
    let one = "http://10.0.0.1:9400/metrics";
    cluster.until(&[one]).await;
    cluster.until_watched(4).await;
    let mut sets = cluster.out.subscribe();
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.last() != Some(&2) {
            sets.changed().await.unwrap();
            seen.push(sets.borrow_and_update().targets.len());
        }
        seen
    });

    std::mem::take(&mut cluster.cancel).cancel();
    (&mut cluster.running).await.unwrap();
    let next = follow(DCGM, &cluster.client, &cluster.out, &cluster.cancel);
    cluster.running = tokio::spawn(next);
    let two = "http://10.0.0.2:9400/metrics";
    cluster.api.pods.lock().push(exporter("b", "10.0.0.2"));
    cluster.until(&[one, two]).await;
    let seen = tokio::time::timeout(DEADLINE, seen).await.unwrap().unwrap();
    assert_eq!(seen, [2], "never none");
    cluster.stop().await;
}

#[tokio::test]
async fn what_a_target_was_found_as_is_known_as_it_is_now_and_disturbs_no_target() {
    let mut cluster = Fixture::start(DCGM, &[exporter("a", "10.0.0.1")]).await;
    cluster.until(&["http://10.0.0.1:9400/metrics"]).await;
    cluster.until_watched(4).await;
    let jobs = targets::compile(&serde_saphyr::from_str(DCGM).unwrap()).unwrap();
    let mut labelled = exporter("a", "10.0.0.1");
    labelled["metadata"]["labels"]["team"] = json!("llm");
    cluster.send("MODIFIED", labelled);
    let found = async {
        loop {
            let set = cluster.out.borrow().clone();
            let found = set.discovered(&jobs);
            let (target, labels) = &found[0];
            if labels.contains_key("__meta_kubernetes_pod_label_team") {
                return (target.clone(), labels.clone());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (target, labels) = tokio::time::timeout(DEADLINE, found).await.unwrap();
    assert_eq!(labels["__address__"], "10.0.0.1:9400");
    assert_eq!(labels["__scrape_interval__"], "15s");
    assert!(
        !cluster.sets.has_changed().unwrap(),
        "the target is the same"
    );
    assert_eq!(*cluster.sets.borrow().targets[0], target);
    cluster.stop().await;
}
