//! A real Prometheus on loopback that holds the data of both eras and answers queries.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use form_urlencoded::Serializer;
use gpu_metrics_adapter::model::labels::Labels;
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::promql::Range;
use reqwest::Client;
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::answer::{Answer, Outcome, Refusal};
use crate::data::{self, Series};
use crate::era::Era;
use crate::process::{Process, Workspace};
use crate::programs::{VERSION, programs};
use crate::wait::{PATIENCE, eventually};
use crate::{openmetrics, remote_write};

/// The running server, and the runtime that its requests run on.
pub(crate) struct Prometheus {
    pub(crate) runtime: Runtime,
    client: Client,
    url: String,
    process: Process,
    _workspace: Workspace,
}

/// The one server of this test binary, started by whoever needs it first.
pub(crate) static PROMETHEUS: LazyLock<Prometheus> = LazyLock::new(Prometheus::start);

impl Prometheus {
    fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let runtime = Runtime::new().expect("a runtime");
        let programs = programs();
        let workspace = Workspace::create("promql");
        let all = data::generate();
        let page = workspace.write(
            "recorded.om",
            &openmetrics::write(&Era::Recorded.place(&all)),
        );
        create_blocks(&programs, &page, &workspace.path("storage"));

        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let configuration = workspace.write("prometheus.yml", "global: {}\n");
        let storage = workspace.path("storage");
        let arguments = [
            format!("--config.file={configuration}"),
            format!("--storage.tsdb.path={}", storage.display()),
            // From 1970 until today.
            "--storage.tsdb.retention.time=100y".to_owned(),
            format!("--web.listen-address={address}"),
            "--web.enable-remote-write-receiver".to_owned(),
            "--enable-feature=promql-experimental-functions".to_owned(),
            "--log.level=warn".to_owned(),
        ];
        let process = workspace.spawn("prometheus", &programs.join("prometheus"), &arguments);
        let this = Self {
            runtime,
            client: Client::builder()
                .timeout(PATIENCE)
                .no_proxy()
                .build()
                .expect("a client"),
            url: format!("http://{address}"),
            process,
            _workspace: workspace,
        };
        this.runtime.block_on(async {
            this.await_ready().await;
            this.receive(&Era::Received.place(&all)).await;
        });
        this
    }

    /// Waits until it answers, and makes sure that it is the one we mean.
    async fn await_ready(&self) {
        eventually("ready Prometheus", PATIENCE, async || {
            self.process.assert_running();
            let ready = self
                .client
                .get(format!("{}/-/ready", self.url))
                .send()
                .await;
            ready.and_then(reqwest::Response::error_for_status)
        })
        .await;
        let url = format!("{}/api/v1/status/buildinfo", self.url);
        let answer = self.client.get(url).send().await.expect("an answer");
        let build: Value = answer.json().await.expect("JSON");
        assert_eq!(build["data"]["version"], VERSION);
    }

    /// Sends all samples by remote write, in the order of their time.
    async fn receive(&self, all: &[Series]) {
        for body in remote_write::requests(all) {
            let request = self
                .client
                .post(format!("{}/api/v1/write", self.url))
                .header("content-type", "application/x-protobuf")
                .header("content-encoding", "snappy")
                .header("x-prometheus-remote-write-version", "0.1.0")
                .body(body);
            let answer = request.send().await.expect("an answer");
            let status = answer.status();
            let text = answer.text().await.unwrap_or_default();
            assert!(
                status.is_success(),
                "remote write: {status} {text}\n{}",
                self.process.tail(10)
            );
        }
    }

    /// What it answers to a path, with its code.
    pub(crate) async fn body(&self, path: &str) -> (u16, String) {
        let request = self.client.get(format!("{}{path}", self.url));
        let answer = request.send().await.expect("an answer");
        let code = answer.status().as_u16();
        (code, answer.text().await.expect("text"))
    }

    pub(crate) async fn instant(&self, query: &str, at: Timestamp) -> Outcome {
        self.ask("query", &[("query", query), ("time", &seconds(at))])
            .await
    }

    pub(crate) async fn range(&self, query: &str, range: Range) -> Outcome {
        let step = range.step.as_secs_f64().to_string();
        let (start, end) = (seconds(range.start), seconds(range.end));
        let parameters = [
            ("query", query),
            ("start", &start),
            ("end", &end),
            ("step", &step),
        ];
        self.ask("query_range", &parameters).await
    }

    async fn ask(&self, endpoint: &str, parameters: &[(&str, &str)]) -> Outcome {
        let body = Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish();
        let request = self
            .client
            .post(format!("{}/api/v1/{endpoint}", self.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        let answer = request.send().await.unwrap_or_else(|error| {
            self.process.assert_running();
            panic!("{endpoint} {parameters:?}: {error}")
        });
        let envelope: Envelope = answer.json().await.expect("the envelope of the HTTP API");
        match (envelope.data, envelope.error_type.as_deref()) {
            (Some(data), None) => Ok(data.into_answer()),
            (_, Some("bad_data")) => Err(Refusal::Query(envelope.error)),
            (_, Some("execution")) => Err(Refusal::Execution(envelope.error)),
            (_, kind) => Err(Refusal::Failure(format!("{kind:?}: {}", envelope.error))),
        }
    }
}

fn create_blocks(programs: &Path, page: &str, storage: &Path) {
    let output = Command::new(programs.join("promtool"))
        .args(["tsdb", "create-blocks-from", "openmetrics", page])
        .arg(storage)
        .output()
        .expect("promtool");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "promtool: {}\n{text}",
        output.status
    );
}

/// As the API takes a time: seconds with a fraction.
fn seconds(time: Timestamp) -> String {
    let millis = time.as_millis();
    let sign = if millis < 0 { "-" } else { "" };
    let millis = millis.unsigned_abs();
    format!("{sign}{}.{:03}", millis / 1_000, millis % 1_000)
}

#[derive(Deserialize)]
struct Envelope {
    data: Option<Data>,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Scalar((f64, String)),
    String((f64, String)),
    Vector(Vec<PointData>),
    Matrix(Vec<SeriesData>),
}

#[derive(Deserialize)]
struct PointData {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

#[derive(Deserialize)]
struct SeriesData {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

impl Data {
    fn into_answer(self) -> Answer {
        match self {
            Self::Scalar((_, value)) => Answer::Scalar(number(&value)),
            Self::String((_, value)) => Answer::String(value),
            Self::Vector(points) => {
                let point = |point: PointData| (Labels::new(point.metric), number(&point.value.1));
                Answer::Vector(points.into_iter().map(point).collect())
            }
            Self::Matrix(series) => {
                let sample = |(time, value): &(f64, String)| (millis(*time), number(value));
                let one = |series: SeriesData| {
                    let samples = series.values.iter().map(sample).collect();
                    (Labels::new(series.metric), samples)
                };
                Answer::Matrix(series.into_iter().map(one).collect())
            }
        }
    }
}

/// Prometheus writes the shortest text that is read as the same number, and `+Inf`, `-Inf`, `NaN`.
fn number(text: &str) -> f64 {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no number"))
}

#[expect(clippy::cast_possible_truncation, reason = "a time of ours, rounded")]
fn millis(seconds: f64) -> i64 {
    (seconds * 1_000.0).round() as i64
}
