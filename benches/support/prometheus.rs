//! A real Prometheus on loopback with recorded series in it, for benchmarks that compare.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gpu_metrics_adapter::model::time::Timestamp;
use tokio::runtime::Runtime;

/// Names the folder that `tests/prometheus/build.sh` prints.
const FOLDER: &str = "GPU_METRICS_ADAPTER_PROMETHEUS";

/// How long it may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// The running server; it ends, and its folder goes, when this is dropped.
pub(crate) struct Prometheus {
    process: Child,
    folder: PathBuf,
    url: String,
    client: reqwest::Client,
    runtime: Runtime,
}

impl Prometheus {
    /// A server that holds this OpenMetrics text; `None`, with a hint, where no Prometheus was built.
    pub(crate) fn with(recorded: &str) -> Option<Self> {
        let Some(programs) = std::env::var_os(FOLDER).map(PathBuf::from) else {
            eprintln!(
                "no comparison with Prometheus: {FOLDER} is not set; `make bench` builds one and sets it"
            );
            return None;
        };
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder =
            std::env::temp_dir().join(format!("gpu-metrics-adapter-bench-{}", std::process::id()));
        fs::create_dir(&folder).expect("a folder of our own");
        let (page, storage) = (folder.join("recorded.om"), folder.join("storage"));
        fs::write(&page, recorded).expect("room for the data");
        let loaded = Command::new(programs.join("promtool"))
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&page, &storage])
            .stdout(Stdio::null())
            .status();
        assert!(
            loaded.expect("promtool").success(),
            "promtool has not taken the data"
        );
        Some(Self::start(&programs, folder, &storage))
    }

    fn start(programs: &Path, folder: PathBuf, storage: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let configuration = folder.join("prometheus.yml");
        fs::write(&configuration, "global: {}\n").expect("room for a file");
        let process = Command::new(programs.join("prometheus"))
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", storage.display()))
            .arg("--storage.tsdb.retention.time=100y")
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .spawn()
            .expect("prometheus");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        let this = Self {
            process,
            folder,
            url: format!("http://{address}"),
            client,
            runtime,
        };
        let begun = Instant::now();
        while !this.is_ready() {
            assert!(begun.elapsed() < PATIENCE, "prometheus is not ready");
            std::thread::sleep(Duration::from_millis(100));
        }
        this
    }

    /// Where it is asked.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The number of its process.
    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    fn is_ready(&self) -> bool {
        let ready = self.client.get(format!("{}/-/ready", self.url)).send();
        self.runtime
            .block_on(ready)
            .is_ok_and(|answer| answer.status().is_success())
    }

    /// The body of an instant query's answer.
    pub(crate) fn query(&self, text: &str, at: Timestamp) -> String {
        let time = at.as_seconds().to_string();
        let question = self
            .client
            .get(format!("{}/api/v1/query", self.url))
            .query(&[("query", text), ("time", &time)]);
        self.runtime.block_on(async {
            let answer = question.send().await.expect("an answer");
            assert!(answer.status().is_success(), "{}", answer.status());
            answer.text().await.expect("a body")
        })
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
