//! Simulated kubelets: `/metrics/resource` over TLS, in the real format, with counters and times that move as time does.
//!
//! Many nodes share one server, each at a path of its own, which its annotation names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::json;
use std::net::{SocketAddr, TcpListener};

use crate::adapter::{NAME, NAMESPACE, token};
use crate::pki::Authority;
use crate::scene::Scene;

/// How a kubelet answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Mood {
    /// As it should.
    #[default]
    Good,
    /// Never.
    Hangs,
    /// With the first half of its page, and the end of the connection in the middle of a line.
    HalfPage,
    /// With times that are this many seconds off.
    Clock(i64),
}

/// Something that uses CPU and memory.
#[derive(Clone, Debug)]
struct Meter {
    started: Timestamp,
    cores: f64,
    bytes: u64,
    /// CPU seconds up to `read`.
    used: f64,
    read: Timestamp,
}

impl Meter {
    fn new(now: Timestamp) -> Self {
        Self {
            started: now,
            cores: 0.0,
            bytes: 0,
            used: 0.001,
            read: now,
        }
    }

    /// The counter at `now`.
    fn run(&mut self, now: Timestamp) -> f64 {
        self.used += self.cores * now.duration_since(self.read).as_secs_f64();
        self.read = now;
        self.used
    }

    fn set(&mut self, now: Timestamp, cores: f64, bytes: u64) {
        self.run(now);
        (self.cores, self.bytes) = (cores, bytes);
    }
}

#[derive(Debug)]
struct NodePage {
    mood: Mood,
    node: Meter,
    /// By namespace, pod and container.
    containers: BTreeMap<(String, String, String), Meter>,
}

impl NodePage {
    fn text(&mut self) -> String {
        // The time on the page is that of the counter, to the millisecond.
        let now = Timestamp::from_millisecond(Timestamp::now().as_millisecond()).expect("now");
        let shift = match self.mood {
            Mood::Clock(seconds) => seconds * 1000,
            _ => 0,
        };
        let time = now.as_millisecond() + shift;
        let (mut cpu, mut memory, mut started) = (String::new(), String::new(), String::new());
        for ((namespace, pod, container), meter) in &mut self.containers {
            let labels =
                format!("{{container=\"{container}\",namespace=\"{namespace}\",pod=\"{pod}\"}}");
            let used = meter.run(now);
            let start = meter.started.as_millisecond() as f64 / 1e3 + shift as f64 / 1e3;
            let _ = writeln!(
                cpu,
                "container_cpu_usage_seconds_total{labels} {used} {time}"
            );
            let bytes = meter.bytes;
            let _ = writeln!(
                memory,
                "container_memory_working_set_bytes{labels} {bytes} {time}"
            );
            let _ = writeln!(started, "container_start_time_seconds{labels} {start}");
        }
        let (node, bytes) = (self.node.run(now), self.node.bytes);
        format!(
            "# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds\n\
             # TYPE container_cpu_usage_seconds_total counter\n{cpu}\
             # HELP container_memory_working_set_bytes [STABLE] Current working set of the container in bytes\n\
             # TYPE container_memory_working_set_bytes gauge\n{memory}\
             # HELP container_start_time_seconds [STABLE] Start time of the container since unix epoch in seconds\n\
             # TYPE container_start_time_seconds gauge\n{started}\
             # HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the node in core-seconds\n\
             # TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total {node} {time}\n\
             # HELP node_memory_working_set_bytes [STABLE] Current working set of the node in bytes\n\
             # TYPE node_memory_working_set_bytes gauge\nnode_memory_working_set_bytes {bytes} {time}\n\
             # HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise\n\
             # TYPE resource_scrape_error gauge\nresource_scrape_error 0\n"
        )
    }
}

type Pages = Arc<Mutex<BTreeMap<String, NodePage>>>;

/// A server of kubelets, and what the adapter needs to be let in.
pub(crate) struct Kubelets {
    pages: Pages,
    token: Arc<str>,
    handles: Vec<Handle<SocketAddr>>,
    port: u16,
    /// The file with the token that the kubelets take.
    token_file: String,
}

impl Drop for Kubelets {
    fn drop(&mut self) {
        self.handles.iter().for_each(Handle::shutdown);
    }
}

impl Kubelets {
    /// Kubelets of these nodes at 127.0.0.1, with a certificate of the cluster's CA. They take the adapter's token alone.
    pub(crate) async fn start(scene: &Scene, nodes: &[&str]) -> Self {
        let token = token(&scene.client, NAMESPACE, NAME).await;
        let token_file = scene.plane.workspace.write("kubelet-token", &token);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mut this = Self {
            pages: Pages::default(),
            token: token.into(),
            handles: Vec::new(),
            port,
            token_file,
        };
        this.serve(listener, &scene.plane.cluster_ca).await;
        for node in nodes {
            this.add(scene, node).await;
        }
        this
    }

    /// A further address of loopback, where a kubelet shows a certificate of `authority`.
    pub(crate) async fn listen(&mut self, address: &str, authority: &Authority) {
        let listener = TcpListener::bind((address, self.port)).expect("the same port");
        self.serve(listener, authority).await;
    }

    async fn serve(&mut self, listener: TcpListener, authority: &Authority) {
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address").ip().to_string();
        let identity = authority.issue("system:node:simulated", &["system:nodes"], &[&address]);
        let config = RustlsConfig::from_pem(identity.certificate.into(), identity.key.into());
        let acceptor = RustlsAcceptor::new(config.await.expect("a certificate"));
        let handle = Handle::new();
        let router = Router::new()
            .route("/nodes/{node}/metrics/resource", get(page))
            .with_state((self.pages.clone(), self.token.clone()));
        let server = axum_server::from_tcp(listener)
            .expect("a listener")
            .acceptor(acceptor)
            .handle(handle.clone())
            .serve(router.into_make_service());
        tokio::spawn(server);
        self.handles.push(handle);
    }

    /// A node, which says by its annotation where its page is.
    pub(crate) async fn add(&mut self, scene: &Scene, node: &str) {
        let now = Timestamp::now();
        let mut meter = Meter::new(now);
        meter.set(now, 1.4995, 8 << 30);
        let page = NodePage {
            mood: Mood::Good,
            node: meter,
            containers: BTreeMap::new(),
        };
        self.pages.lock().insert(node.to_owned(), page);
        let path = format!("/nodes/{node}/metrics/resource");
        let annotation =
            json!({"metadata": {"annotations": {"metrics.k8s.io/resource-metrics-path": path}}});
        Api::<Node>::all(scene.client.clone())
            .patch(node, &PatchParams::default(), &Patch::Merge(&annotation))
            .await
            .expect("a node");
    }

    pub(crate) fn mood(&self, node: &str, mood: Mood) {
        let mut pages = self.pages.lock();
        pages.get_mut(node).expect("a node of these").mood = mood;
    }

    /// Has the pages tell of the running pods of the scene's namespace, and of no others: each of their containers uses what `usage`
    /// says for so many pods, in cores and bytes.
    pub(crate) async fn report(&self, scene: &Scene, usage: impl Fn(usize) -> (f64, u64)) {
        let pods = scene.api::<Pod>().list(&ListParams::default()).await;
        let mut pods = pods.expect("the pods").items;
        pods.retain(|pod| {
            let status = pod.status.as_ref();
            status.is_some_and(|status| status.phase.as_deref() == Some("Running"))
                && pod.metadata.deletion_timestamp.is_none()
        });
        let (cores, bytes) = usage(pods.len().max(1));
        let now = Timestamp::now();
        let mut pages = self.pages.lock();
        let mut told = Vec::new();
        for pod in pods {
            let name = pod.name_any();
            let spec = pod.spec.unwrap_or_default();
            let Some(page) = pages.get_mut(&spec.node_name.unwrap_or_default()) else {
                continue;
            };
            for container in spec.containers {
                let key = (scene.namespace.to_owned(), name.clone(), container.name);
                let meter = page.containers.entry(key.clone());
                let meter = meter.or_insert_with(|| Meter::new(now));
                meter.set(now, cores, bytes);
                told.push(key);
            }
        }
        for page in pages.values_mut() {
            page.containers.retain(|key, _| told.contains(key));
        }
    }

    /// What makes the adapter read them every second, as its flags and its configuration have it.
    pub(crate) fn settings(&self, scene: &Scene) -> (String, Vec<String>) {
        let configuration = format!(
            "scrape: {{interval: 1s, presets: [kubelet], kubelet: {{authorization: {{credentials_file: {}}}}}}}\nmaxAge: 5s\n",
            self.token_file
        );
        let authority = scene.plane.workspace.path("cluster-ca.crt");
        let flags = vec![
            format!("--kubelet-port={}", self.port),
            format!("--kubelet-certificate-authority={}", authority.display()),
            "--kubelet-preferred-address-types=InternalIP,Hostname".to_owned(),
            "--metric-resolution=1s".to_owned(),
        ];
        (configuration, flags)
    }
}

async fn page(
    State((pages, token)): State<(Pages, Arc<str>)>,
    Path(node): Path<String>,
    headers: HeaderMap,
) -> Response {
    let shown = headers.get(header::AUTHORIZATION);
    let expected = format!("Bearer {token}");
    if shown.is_none_or(|shown| shown.as_bytes() != expected.as_bytes()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let (mood, text) = {
        let mut pages = pages.lock();
        let Some(page) = pages.get_mut(&node) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        (page.mood, page.text())
    };
    match mood {
        Mood::Good | Mood::Clock(_) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
        }
        Mood::Hangs => std::future::pending().await,
        Mood::HalfPage => {
            let half = text[..text.len() / 2].to_owned();
            let cut = futures_util::stream::iter([
                Ok(half),
                Err(std::io::Error::other("the connection ends here")),
            ]);
            axum::body::Body::from_stream(cut).into_response()
        }
    }
}
