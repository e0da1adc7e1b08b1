//! Who scrapes the fleet, with which configuration.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::INTERVAL;
use crate::adapter::Told;
use crate::pages::Kind;
use crate::processes::{Folder, Memory, Running, metric};
use crate::simulator;

/// Names the folder that `tests/prometheus/build.sh` prints.
const PROMETHEUS: &str = "GPU_METRICS_ADAPTER_PROMETHEUS";
const VICTORIA_METRICS: &str = "victoria-metrics";
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Contestant {
    /// Real Prometheus 3.14.
    Prometheus,
    /// Real VictoriaMetrics, single node.
    VictoriaMetrics,
    /// The adapter, keeping every series.
    Adapter,
    /// The adapter, keeping what the rules of its presets need.
    AdapterNeeded,
    /// No contestant: what reading the pages alone takes.
    Reader,
    /// The adapter in place of metrics-server: kubelets alone, and what metrics.k8s.io needs of them.
    ResourceMetrics,
}

impl Contestant {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prometheus => "Prometheus",
            Self::VictoriaMetrics => "VictoriaMetrics",
            Self::Adapter => "adapter, every series",
            Self::AdapterNeeded => "adapter, needed series",
            Self::Reader => "reading alone",
            Self::ResourceMetrics => "adapter, metrics.k8s.io",
        }
    }

    pub(crate) fn is_adapter(self) -> bool {
        matches!(
            self,
            Self::Adapter | Self::AdapterNeeded | Self::ResourceMetrics
        )
    }

    /// Whether it is this program, which tells what it has done.
    fn is_ours(self) -> bool {
        self.is_adapter() || self == Self::Reader
    }

    /// What it scrapes.
    pub(crate) fn kinds(self) -> &'static [Kind] {
        match self {
            Self::ResourceMetrics => &[Kind::Kubelet],
            _ => &[Kind::Dcgm, Kind::Kubelet],
        }
    }

    /// Starts it on the fleet; `None`, with a hint, where it is not installed.
    pub(crate) fn start(self, nodes: u32) -> Option<Scraper> {
        let folder = Folder::new(&format!("{self:?}"));
        let file = folder.0.join("config.yaml");
        fs::write(&file, self.config(nodes)).expect("room for a file");
        let file = file.to_str().expect("a UTF-8 path");
        let log = folder.0.join("log");
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|it| it.local_addr())
            .expect("a port");
        let mut idle = None;
        let mut process = match self {
            Self::Adapter | Self::AdapterNeeded | Self::ResourceMetrics => {
                Running::role(&["adapter", file])
            }
            Self::Reader => Running::role(&["reader", &nodes.to_string()]),
            Self::Prometheus => {
                let Some(programs) = std::env::var_os(PROMETHEUS).map(PathBuf::from) else {
                    println!(
                        "no Prometheus: {PROMETHEUS} is not set; `make bench-fleet` builds one and sets it"
                    );
                    return None;
                };
                let mut command = Command::new(programs.join("prometheus"));
                command.arg(format!("--config.file={file}"));
                command.arg(format!(
                    "--storage.tsdb.path={}",
                    folder.0.join("data").display()
                ));
                command.args([
                    format!("--web.listen-address={address}"),
                    "--log.level=error".to_owned(),
                ]);
                Running::program(&mut command, &log)
            }
            Self::VictoriaMetrics => {
                let mut present = Command::new(VICTORIA_METRICS);
                present
                    .arg("-version")
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                if present.status().is_err() {
                    println!(
                        "no VictoriaMetrics: there is no {VICTORIA_METRICS} on the PATH; it is a Debian package"
                    );
                    return None;
                }
                let mut command = Command::new(VICTORIA_METRICS);
                command.arg(format!("-promscrape.config={file}"));
                command.arg(format!(
                    "-storageDataPath={}",
                    folder.0.join("data").display()
                ));
                command.args([
                    format!("-httpListenAddr={address}"),
                    "-loggerLevel=ERROR".to_owned(),
                ]);
                Running::program(&mut command, &log)
            }
        };
        if self.is_ours() {
            idle = self.is_adapter().then(|| process.memory());
            let _: Told = process.ask();
        } else {
            let begun = Instant::now();
            while metric(address, "go_goroutines").is_none() {
                assert!(
                    begun.elapsed() < PATIENCE,
                    "{} is not ready: {}",
                    self.name(),
                    fs::read_to_string(&log).unwrap_or_default()
                );
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        Some(Scraper {
            contestant: self,
            process,
            address,
            idle,
            _folder: folder,
        })
    }

    /// The same jobs for all.
    fn config(self, nodes: u32) -> String {
        let seconds = INTERVAL.as_secs();
        let (mut text, indent) = if self.is_adapter() {
            let resource_metrics = self == Self::ResourceMetrics;
            (
                format!(
                    "resourceMetrics: {resource_metrics}\nscrape:\n  interval: {seconds}s\n  timeout: 10s\n  limits: {{concurrency: 1000}}\n"
                ),
                "  ",
            )
        } else {
            (
                format!("global:\n  scrape_interval: {seconds}s\n  scrape_timeout: 10s\n"),
                "",
            )
        };
        let _ = writeln!(text, "{indent}scrape_configs:");
        for kind in self.kinds() {
            let _ = writeln!(
                text,
                "{indent}- job_name: fleet-{}\n{indent}  honor_labels: true\n{indent}  metrics_path: {}",
                kind.name(),
                kind.path()
            );
            if matches!(self, Self::AdapterNeeded | Self::ResourceMetrics) {
                let _ = writeln!(text, "{indent}  keep: needed");
            }
            let _ = writeln!(text, "{indent}  static_configs:\n{indent}  - targets:");
            for node in 0..nodes {
                let _ = writeln!(text, "{indent}    - {}", simulator::address(node, *kind));
            }
        }
        text
    }
}

/// A contestant that scrapes.
pub(crate) struct Scraper {
    contestant: Contestant,
    process: Running,
    address: SocketAddr,
    /// The memory of the adapter before it scraped.
    pub(crate) idle: Option<Memory>,
    _folder: Folder,
}

/// What it says of itself and the kernel says of it, at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) cpu: f64,
    pub(crate) memory: Memory,
    /// Samples taken so far.
    pub(crate) samples: f64,
    pub(crate) series: f64,
    /// Scrapes that failed or did not happen, if it counts them.
    pub(crate) failed: f64,
}

impl Scraper {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(crate) fn read(&mut self) -> Reading {
        let (cpu, memory) = (self.process.cpu(), self.process.memory());
        let of = |name| metric(self.address, name).unwrap_or(f64::NAN);
        let (samples, series, failed) = match self.contestant {
            Contestant::Prometheus => (
                of("prometheus_tsdb_head_samples_appended_total"),
                of("prometheus_tsdb_head_series"),
                f64::NAN,
            ),
            Contestant::VictoriaMetrics => (
                of("vm_promscrape_scraped_samples_sum"),
                of("vm_cache_entries{type=\"storage/hour_metric_ids\"}"),
                of("vm_promscrape_scrapes_failed_total"),
            ),
            Contestant::Adapter
            | Contestant::AdapterNeeded
            | Contestant::ResourceMetrics
            | Contestant::Reader => {
                let told: Told = self.process.ask();
                (
                    told.samples as f64,
                    told.series as f64,
                    (told.failed + told.missed) as f64,
                )
            }
        };
        Reading {
            cpu,
            memory,
            samples,
            series,
            failed,
        }
    }
}
