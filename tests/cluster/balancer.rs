//! What a Service is to kube-apiserver: connections go to its endpoints in turn, also to one that has just died.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A balancer on loopback; it ends when it is dropped.
pub(crate) struct Balancer {
    pub(crate) port: u16,
    refused: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Balancer {
    /// Before the servers at these ports of loopback.
    pub(crate) async fn before(ports: [u16; 2]) -> Self {
        Self::start(ports, false).await
    }

    /// As [`Balancer::before`]; a server that is not there is left out, as by a Service whose endpoints are up to date.
    pub(crate) async fn among(ports: [u16; 2]) -> Self {
        Self::start(ports, true).await
    }

    async fn start(ports: [u16; 2], leaves_out: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let refused = Arc::new(AtomicUsize::new(0));
        let serving = tokio::spawn(serve(listener, ports, leaves_out, Arc::clone(&refused)));
        Self {
            port,
            refused,
            serving,
        }
    }

    /// How many connections have met a server that is not there.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    listener: TcpListener,
    [first, second]: [u16; 2],
    leaves_out: bool,
    refused: Arc<AtomicUsize>,
) {
    let mut connections = JoinSet::new();
    for (port, other) in [(first, second), (second, first)].into_iter().cycle() {
        let Ok((mut client, _)) = listener.accept().await else {
            return;
        };
        let refused = Arc::clone(&refused);
        connections.spawn(async move {
            let mut server = TcpStream::connect(("127.0.0.1", port)).await;
            if server.is_err() && leaves_out {
                server = TcpStream::connect(("127.0.0.1", other)).await;
            }
            match server {
                Ok(mut server) => {
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
                Err(_) => {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
}
