//! The simulated nodes: one HTTP server on loopback each, where a scraper finds the exporter.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, info_span};

use super::exporter;
use super::pods::Pods;

/// How many nodes there are, and how many GPUs each has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Nodes.
    pub nodes: usize,
    /// GPUs per node.
    pub gpus_per_node: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            nodes: 3,
            gpus_per_node: 8,
        }
    }
}

/// A node and where its exporter listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The node's name, as in the labels of its page.
    pub name: String,
    /// The exporter: `http://ADDRESS/metrics`.
    pub address: SocketAddr,
}

/// The nodes with their running exporters.
#[derive(Debug)]
pub struct Fleet {
    nodes: Vec<Node>,
    pods: Pods,
    stop: CancellationToken,
    servers: TaskTracker,
}

#[derive(Clone)]
struct Exporter {
    node: usize,
    gpus: usize,
    pods: Pods,
    scrapes: Arc<AtomicU64>,
}

impl Fleet {
    /// Starts one exporter per node on a free port of 127.0.0.1, without any pod yet.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start(size: Size) -> std::io::Result<Self> {
        let mut fleet = Self {
            nodes: Vec::with_capacity(size.nodes),
            pods: Pods::new(size.nodes, size.gpus_per_node),
            stop: CancellationToken::new(),
            servers: TaskTracker::new(),
        };
        for node in 0..size.nodes {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let name = exporter::node_name(node);
            let address = listener.local_addr()?;
            let router = Router::new()
                .route("/metrics", get(metrics))
                .route("/health", get(|| async { "OK" }))
                .with_state(Exporter {
                    node,
                    gpus: size.gpus_per_node,
                    pods: fleet.pods.clone(),
                    scrapes: Arc::default(),
                });
            let stopped = fleet.stop.clone().cancelled_owned();
            let span = info_span!("exporter", node = %name, %address);
            let serve = async move {
                let server = axum::serve(listener, router).with_graceful_shutdown(stopped);
                if let Err(error) = server.await {
                    error!(%error, "simulated exporter ended");
                }
            };
            fleet.servers.spawn(serve.instrument(span));
            fleet.nodes.push(Node { name, address });
        }
        fleet.servers.close();
        Ok(fleet)
    }

    /// The nodes, in the order of their numbers.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The pods on them.
    pub fn pods(&self) -> &Pods {
        &self.pods
    }

    /// Stops the exporters once they have answered what they were asked.
    pub async fn stop(self) {
        self.stop.cancel();
        self.servers.wait().await;
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn metrics(State(exporter): State<Exporter>) -> impl IntoResponse {
    let scrape = exporter.scrapes.fetch_add(1, Ordering::Relaxed);
    let pods = exporter.pods.now();
    // dcgm-exporter sets no Content-Type; Go's guess is this one, without a version.
    let content_type = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    let page = exporter::page(exporter.node, exporter.gpus, &pods, scrape);
    (content_type, page)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    async fn get(address: SocketAddr) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        let request = "GET /metrics HTTP/1.1\r\nHost: exporter\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn each_node_serves_the_page_of_its_own_gpus() {
        let fleet = Fleet::start(Size::default()).await.expect("free ports");
        fleet.pods().scale(2, Duration::ZERO);
        fleet.pods().advance(Duration::from_secs(10), 24.0);
        let pods = fleet.pods().now();
        let nodes = fleet.nodes().to_vec();
        assert_eq!(nodes.len(), 3);
        for (index, node) in nodes.iter().enumerate() {
            assert!(node.address.ip().is_loopback());
            let answer = timeout(DEADLINE, get(node.address)).await.expect("in time");
            let answer = answer.expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains("content-type: text/plain; charset=utf-8\r\n"));
            assert_eq!(answer.matches("DCGM_FI_DEV_GPU_UTIL{").count(), 8);
            for pod in &pods {
                let here = pod.place.is_some_and(|place| place.node == index);
                let quoted = format!("PodName=\"{}\"", pod.name);
                assert_eq!(answer.contains(&quoted), here, "{} {index}", pod.name);
            }
            assert!(answer.contains(&format!("Hostname=\"{}\"", node.name)));
        }
        timeout(DEADLINE, fleet.stop()).await.expect("in time");
        get(nodes[0].address).await.expect_err("nobody listens");
    }
}
