//! A real Prometheus that scrapes.

use std::net::TcpListener;

use crate::compare::Peer;
use crate::process::{Process, Workspace};
use crate::programs::{VERSION, programs};
use crate::wait::{PATIENCE, eventually};

pub(crate) struct Prometheus {
    pub(crate) peer: Peer,
    process: Process,
    _workspace: Workspace,
}

impl Prometheus {
    /// Starts one with these jobs, in YAML.
    pub(crate) async fn start(jobs: &str) -> Self {
        let programs = programs();
        let workspace = Workspace::create("scrape-peer");
        let config =
            format!("global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n{jobs}");
        let config = workspace.write("prometheus.yml", &config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let arguments = [
            format!("--config.file={config}"),
            format!(
                "--storage.tsdb.path={}",
                workspace.path("storage").display()
            ),
            format!("--web.listen-address={address}"),
            "--log.level=warn".to_owned(),
        ];
        let process = workspace.spawn("prometheus", &programs.join("prometheus"), &arguments);
        let this = Self {
            peer: Peer::at(&format!("http://{address}")),
            process,
            _workspace: workspace,
        };
        eventually("ready Prometheus", PATIENCE, async || {
            this.process.assert_running();
            this.peer.get("/api/v1/status/buildinfo").await
        })
        .await;
        let build = this.peer.get("/api/v1/status/buildinfo").await.unwrap();
        assert_eq!(build["data"]["version"], VERSION);
        this
    }
}
