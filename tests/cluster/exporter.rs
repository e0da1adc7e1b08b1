//! A GPU exporter whose page a test writes, found by the adapter through a real Pod.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::control_plane::{NODES, free_ports};
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

/// Selects the exporters' pods, as NVIDIA's Helm chart labels them.
pub(crate) const SELECTOR: &str = "app.kubernetes.io/name=dcgm-exporter";

/// What the exporter answers; `None`: it takes the request and never answers.
type Page = Arc<Mutex<Option<String>>>;

/// An exporter on 127.0.0.1 and its Pod, which has that address because it is on its node's network.
pub(crate) struct Exporter {
    port: u16,
    page: Page,
    serving: Option<Serving>,
}

struct Serving {
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl Exporter {
    /// A Pod and nothing behind it: its port is closed.
    pub(crate) async fn dead(scene: &Scene, name: &str) -> Self {
        let [port] = free_ports();
        create_pod(scene, name, port).await;
        Self {
            port,
            page: Page::default(),
            serving: None,
        }
    }

    /// A Pod and an exporter that hangs until a page is shown.
    pub(crate) async fn hanging(scene: &Scene, name: &str) -> Self {
        let mut exporter = Self::dead(scene, name).await;
        exporter.up().await;
        exporter
    }

    pub(crate) fn show(&self, page: String) {
        *self.page.lock() = Some(page);
    }

    /// Host and port.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where the adapter finds it.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/metrics", self.port)
    }

    /// Listens again, on the same port.
    pub(crate) async fn up(&mut self) {
        let address = ("127.0.0.1", self.port);
        let listener = eventually("free exporter port", PATIENCE, async || {
            TcpListener::bind(address).await
        })
        .await;
        let router = Router::new()
            .route("/metrics", get(answer))
            .with_state(self.page.clone());
        let stop = CancellationToken::new();
        let serve = axum::serve(listener, router)
            .with_graceful_shutdown(stop.clone().cancelled_owned())
            .into_future();
        let task = tokio::spawn(serve);
        self.serving = Some(Serving { stop, task });
    }

    /// Stops listening and closes every connection.
    pub(crate) async fn down(&mut self) {
        let serving = self.serving.take().expect("an exporter that is up");
        serving.stop.cancel();
        timeout(Duration::from_secs(10), serving.task)
            .await
            .expect("the last request ends")
            .expect("no panic")
            .expect("no error");
    }
}

async fn answer(State(page): State<Page>) -> String {
    let shown = page.lock().clone();
    match shown {
        Some(text) => text,
        None => std::future::pending().await,
    }
}

async fn create_pod(scene: &Scene, name: &str, port: u16) {
    let (key, value) = SELECTOR.split_once('=').expect("key=value");
    scene
        .create::<Pod>(json!({
            "metadata": {"name": name, "labels": {key: value}},
            "spec": {
                "nodeName": NODES[0],
                "hostNetwork": true,
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "exporter",
                    "image": "dcgm-exporter",
                    "ports": [{"name": "metrics", "containerPort": port}],
                }],
            },
        }))
        .await;
    eventually(
        "exporter pod with a loopback address",
        PATIENCE,
        async || {
            let pod = scene.api::<Pod>().get(name).await;
            let status = pod.map_err(|error| error.to_string())?.status;
            let address = status.and_then(|status| status.pod_ip);
            (address.as_deref() == Some("127.0.0.1"))
                .then_some(())
                .ok_or_else(|| format!("{address:?}"))
        },
    )
    .await;
}

/// The page of Alibaba's exporter: the SM utilisation (in percent) of one process in each pod of `namespace`, by pod name.
pub(crate) fn sm_util_page(namespace: &str, pods: &[(String, f64)]) -> String {
    let mut page = String::from(
        "# HELP DCGM_CUSTOM_PROCESS_SM_UTIL SM utilization of the process\n\
         # TYPE DCGM_CUSTOM_PROCESS_SM_UTIL gauge\n",
    );
    for (gpu, (pod, percent)) in pods.iter().enumerate() {
        writeln!(
            page,
            "DCGM_CUSTOM_PROCESS_SM_UTIL{{AllocateMode=\"exclusive\",ContainerName=\"kserve-container\",\
             NamespaceName=\"{namespace}\",NodeName=\"{node}\",PodName=\"{pod}\",ProcessId=\"{pid}\",\
             ProcessName=\"python3\",ProcessType=\"C\",UUID=\"GPU-{gpu}\",device=\"nvidia{gpu}\",gpu=\"{gpu}\",\
             modelName=\"NVIDIA H200\"}} {percent}",
            node = NODES[0],
            pid = 1000 + gpu,
        )
        .expect("a string takes everything");
    }
    page
}
