//! `query`: PromQL against a running adapter, or against a recording in a file.
//!
//! Both are asked through the same HTTP API, the recording's within this process, so that `-o json` is what the API answers.

mod recording;
mod table;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::body::{Body, to_bytes};
use clap::{Args, ValueEnum};
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use tower::ServiceExt as _;

use crate::api::prometheus::{QueryApi, QueryLimits, router};
use crate::engine::query::QueryService;
use crate::model::time::Timestamp;

const FORM: &str = "application/x-www-form-urlencoded";

/// How long an adapter may take; its own limit is shorter.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a recording's query may take.
const RECORDING_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Most samples of a recording that may be in memory at a time, as Prometheus has it (`--query.max-samples`).
const RECORDING_SAMPLES: usize = 50_000_000;

/// Most bytes of an answer.
const ANSWER_BYTES: usize = 1 << 30;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gpu-metrics-adapter query 'avg(DCGM_FI_DEV_GPU_UTIL) by (pod)'
  gpu-metrics-adapter query --from recorded.om --start 1795464000 --end 1795464300 --step 15s 'rate(requests_total[1m])'")]
pub(super) struct Query {
    /// The query, in PromQL.
    promql: String,
    /// The running adapter: what its --debug-address serves.
    #[arg(long, default_value = "http://127.0.0.1:9090", conflicts_with = "from")]
    url: reqwest::Url,
    /// A file in OpenMetrics text with timestamps to ask instead, as promtool reads and writes it.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// The time to ask for, in seconds since 1970 or as 2026-11-23T20:00:00Z. Default: now; with --from, the time of the
    /// file's newest sample.
    #[arg(long, conflicts_with_all = ["start", "end", "step"])]
    time: Option<String>,
    /// The first time of a range; written as --time.
    #[arg(long, requires_all = ["end", "step"])]
    start: Option<String>,
    /// The last time of a range.
    #[arg(long, requires_all = ["start", "step"])]
    end: Option<String>,
    /// The time between two values of a range, such as 15s.
    #[arg(long, requires_all = ["start", "end"])]
    step: Option<String>,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For eyes.
    Table,
    /// The answer of Prometheus's HTTP API.
    Json,
}

impl Query {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let runtime = super::runtime()?;
        let (code, body) = match &self.from {
            Some(path) => {
                let recorded = recording::read(path)?;
                let newest = recorded.newest().unwrap_or_default();
                let service = QueryService::over_recording(recorded);
                runtime.block_on(self.ask_recording(service, newest))?
            }
            None => runtime.block_on(self.ask_adapter())?,
        };
        if self.output == Output::Json {
            anstream::println!("{body}");
        }
        let answer = table::Answer::parse(&body)
            .with_context(|| format!("answered {code}, and not as Prometheus does: {body:.200}"))?;
        for warning in &answer.warnings {
            anstream::eprintln!("warning: {warning}");
        }
        if let Some(error) = answer.error {
            bail!("{error}");
        }
        if self.output == Output::Table {
            anstream::print!("{}", answer.table()?);
        }
        Ok(())
    }

    /// The path to ask and the form to send there.
    fn request(&self) -> (&'static str, String) {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("query", &self.promql);
        for (name, value) in [
            ("time", &self.time),
            ("start", &self.start),
            ("end", &self.end),
            ("step", &self.step),
        ] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        let path = if self.step.is_some() {
            "/api/v1/query_range"
        } else {
            "/api/v1/query"
        };
        (path, form.finish())
    }

    async fn ask_recording(
        &self,
        service: QueryService,
        now: Timestamp,
    ) -> anyhow::Result<(StatusCode, String)> {
        let limits = QueryLimits {
            timeout: RECORDING_PATIENCE,
            samples: RECORDING_SAMPLES,
            ..QueryLimits::default()
        };
        let router = router(Arc::new(QueryApi::new(Arc::new(service), limits)), now);
        let (path, form) = self.request();
        let request = Request::post(path)
            .header(CONTENT_TYPE, FORM)
            .body(Body::from(form))?;
        let response = router.oneshot(request).await?;
        let code = response.status();
        let body = to_bytes(response.into_body(), ANSWER_BYTES).await?;
        Ok((code, String::from_utf8(body.to_vec())?))
    }

    async fn ask_adapter(&self) -> anyhow::Result<(StatusCode, String)> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("gpu-metrics-adapter/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .timeout(PATIENCE)
            .build()?;
        let (path, form) = self.request();
        let url = format!("{}{path}", self.url.as_str().trim_end_matches('/'));
        let request = client.post(url).header(CONTENT_TYPE, FORM).body(form);
        let mut response = request.send().await.with_context(|| {
            let url = &self.url;
            format!(
                "no answer from {url}; an adapter answers there if started with --debug-address"
            )
        })?;
        let code = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            anyhow::ensure!(
                body.len() <= ANSWER_BYTES,
                "the answer passed the limit of {ANSWER_BYTES} bytes"
            );
        }
        Ok((code, String::from_utf8(body)?))
    }
}
