//! Logs and the process's own metrics.
//!
//! Nothing is counted here: each room counts what it does, and [`OwnMetrics`] reads it when somebody asks.

mod process;
mod reloads;

use std::io::IsTerminal as _;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use tracing_subscriber::EnvFilter;

use crate::model::time::Timestamp;
use crate::provider::Provider;
use crate::provider::resources::{Missing, ResourceMetrics};
use crate::scrape::Statistics;
use crate::store::Store;

use process::Process;
pub use reloads::Reloads;

/// Most nodes that are named as missing: names are the cluster's, and each is a series.
const NAMED_NODES: usize = 50;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For eyes.
    Text,
    /// One JSON object a line.
    Json,
}

/// Begins to log to standard error. `filter` is in tracing's own form, such as `info,gpu_metrics_adapter::scrape=debug`;
/// `silenced` are directives that it does not override.
///
/// # Errors
/// Where the filter cannot be read, with the reason.
pub fn start_logging(format: LogFormat, filter: &str, silenced: &str) -> Result<(), String> {
    let filter =
        EnvFilter::try_new(format!("{filter},{silenced}")).map_err(|error| error.to_string())?;
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A logger that is there already belongs to a test; it stays.
    let _ = match format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// The process's own metrics, in OpenMetrics text.
pub struct OwnMetrics {
    registry: Registry,
}

impl OwnMetrics {
    /// Metrics of these rooms. `register` adds what other rooms keep themselves.
    pub fn new(
        statistics: Arc<Statistics>,
        store: Arc<Store>,
        provider: Arc<Provider>,
        resources: Option<Arc<ResourceMetrics>>,
        register: impl FnOnce(&mut Registry),
    ) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        let ours = registry.sub_registry_with_prefix("gpu_metrics_adapter");
        ours.register_collector(Box::new(Rooms {
            statistics,
            store,
            provider,
            resources,
        }));
        register(ours);
        Self { registry }
    }

    /// All of them, now.
    pub fn text(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("a String takes all, and the names are constants");
        text
    }
}

/// Reads the counts of the rooms that know nothing of metrics.
struct Rooms {
    statistics: Arc<Statistics>,
    store: Arc<Store>,
    provider: Arc<Provider>,
    resources: Option<Arc<ResourceMetrics>>,
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rooms")
    }
}

impl Collector for Rooms {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.statistics.snapshot();
        let targets = self.store.targets();
        let down = targets
            .iter()
            .filter(|target| target.health.down.is_some())
            .count();
        let last = targets
            .iter()
            .filter_map(|target| target.health.last_success)
            .min();
        let catalog = self.provider.catalog();
        let failing = catalog
            .rules()
            .iter()
            .filter(|rule| rule.error.is_some())
            .count();

        let mut encoder = Encoder(&mut encoder);
        encoder.gauge("targets", "Scrape targets", targets.len())?;
        encoder.gauge(
            "targets_down",
            "Scrape targets whose last scrape failed",
            down,
        )?;
        encoder.gauge(
            "series",
            "Series kept, with those that have ended lately",
            self.store.series_count(),
        )?;
        encoder.gauge(
            "offered_metrics",
            "Metrics offered, counted by resource",
            catalog.offers().count(),
        )?;
        encoder.gauge("failing_rules", "Rules whose last lookup failed", failing)?;
        self.backends(&mut encoder)?;
        self.engines(&mut encoder)?;
        if let Some(last) = last {
            let age = Timestamp::now().since(last).as_secs_f64();
            let help = "Age of the oldest last good scrape of a target";
            encoder.with_unit(
                "oldest_scrape_age",
                help,
                Some(&Unit::Seconds),
                &ConstGauge::new(age),
            )?;
        }
        if let Some(resources) = &self.resources {
            let (_, missing) = resources.missing(Timestamp::now());
            let help = "Nodes without CPU and memory in metrics.k8s.io";
            encoder.gauge("nodes_missing", help, missing.len())?;
            encoder.missing_nodes(&missing)?;
        }
        encoder.counter("scrapes", "Scrapes that gave samples", counts.succeeded)?;
        encoder.counter(
            "scrapes_missed",
            "Scrapes skipped because the one before took too long",
            counts.missed,
        )?;
        encoder.counter("samples", "Samples kept", counts.samples)?;
        encoder.counter(
            "lines_skipped",
            "Lines of metrics that no rule needs",
            counts.skipped,
        )?;
        let bytes = ConstCounter::new(counts.bytes);
        encoder.with_unit(
            "scraped",
            "Size of the pages read, decompressed",
            Some(&Unit::Bytes),
            &bytes,
        )?;
        let duration = ConstCounter::new(counts.duration.as_secs_f64());
        encoder.with_unit(
            "scrape_duration",
            "Time that scrapes took together",
            Some(&Unit::Seconds),
            &duration,
        )?;
        encoder.by(
            "cause",
            "scrapes_begun",
            "Scrapes begun: on schedule, or on a request's demand",
            counts.begun,
        )?;
        encoder.by(
            "outcome",
            "scrape_waits",
            "Requests that waited for scrapes, in time or too late",
            counts.waits,
        )?;
        encoder.by_reason(
            "scrapes_failed",
            "Scrapes that gave no samples",
            counts.failed,
        )?;
        encoder.by_reason(
            "samples_dropped",
            "Samples read and not kept",
            counts.dropped,
        )?;
        encoder.by_reason(
            "lines_dropped",
            "Lines of pages that are no samples",
            counts.lines,
        )
    }
}

impl Rooms {
    fn engines(&self, encoder: &mut Encoder<'_, '_>) -> Result<(), std::fmt::Error> {
        let engines = self.provider.usage();
        let queries = engines.iter().flat_map(|(engine, usage)| {
            [("answered", usage.answered), ("failed", usage.failed)]
                .map(|(outcome, count)| ([("engine", &**engine), ("outcome", outcome)], count))
        });
        encoder.counters(
            "engine_queries",
            "Queries that rules asked of an engine, answered with or without values, or failed",
            queries,
        )?;
        let caches = || {
            engines.iter().flat_map(|(engine, usage)| {
                usage.caches.iter().map(move |cache| (&**engine, cache))
            })
        };
        let lookups = caches().flat_map(|(engine, cache)| {
            cache.outcomes().map(|(outcome, count)| {
                let labels = [
                    ("engine", engine),
                    ("cache", cache.name),
                    ("outcome", outcome),
                ];
                (labels, count)
            })
        });
        encoder.counters(
            "engine_cache_lookups",
            "Compiled queries, the targets behind them, and answers that an engine had at hand, or not",
            lookups,
        )?;
        let help = "Entries of an engine's caches, about";
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut family = encoder
            .0
            .encode_descriptor("engine_cache_entries", help, None, kind)?;
        for (engine, cache) in caches() {
            let entries = ConstGauge::new(i64::try_from(cache.entries).unwrap_or(i64::MAX));
            entries.encode(family.encode_family(&[("engine", engine), ("cache", cache.name)])?)?;
        }
        Ok(())
    }

    fn backends(&self, encoder: &mut Encoder<'_, '_>) -> Result<(), std::fmt::Error> {
        let backends = self.provider.backends();
        let help = "Whether the last request to a server of a backend was answered";
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut family = encoder
            .0
            .encode_descriptor("backend_up", help, None, kind)?;
        for backend in &backends {
            for (index, replica) in backend.replicas().into_iter().enumerate() {
                let labels = [
                    ("backend", backend.backend().to_owned()),
                    ("replica", index.to_string()),
                ];
                let up = ConstGauge::new(i64::from(replica.down.is_none()));
                up.encode(family.encode_family(&labels)?)?;
            }
        }
        let sent = backends.iter();
        let sent = sent.map(|backend| ([("backend", backend.backend())], backend.requests()));
        encoder.counters(
            "backend_requests",
            "Requests sent to the servers of a backend, whatever became of them",
            sent,
        )
    }
}

/// Writes single metrics.
struct Encoder<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Encoder<'_, '_> {
    fn gauge(&mut self, name: &str, help: &str, value: usize) -> Result<(), std::fmt::Error> {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.with_unit(name, help, None, &ConstGauge::new(value))
    }

    fn missing_nodes(&mut self, missing: &[Missing]) -> Result<(), std::fmt::Error> {
        let one = ConstGauge::new(1_i64);
        let help = "The first of those nodes, each with 1";
        let kind = one.metric_type();
        let mut family = self.0.encode_descriptor("node_missing", help, None, kind)?;
        for it in missing.iter().take(NAMED_NODES) {
            one.encode(family.encode_family(&[("node", &*it.node)])?)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), std::fmt::Error> {
        self.with_unit(name, help, None, &ConstCounter::new(value))
    }

    fn with_unit(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        metric: &impl EncodeMetric,
    ) -> Result<(), std::fmt::Error> {
        metric.encode(
            self.0
                .encode_descriptor(name, help, unit, metric.metric_type())?,
        )
    }

    fn by_reason(
        &mut self,
        name: &str,
        help: &str,
        counts: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> Result<(), std::fmt::Error> {
        self.by("reason", name, help, counts)
    }

    fn by(
        &mut self,
        label: &'static str,
        name: &str,
        help: &str,
        counts: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> Result<(), std::fmt::Error> {
        let counts = counts.into_iter();
        self.counters(
            name,
            help,
            counts.map(|(value, count)| ([(label, value)], count)),
        )
    }

    /// A counter for each set of labels.
    fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        counts: impl IntoIterator<Item = ([(&'static str, &'l str); N], u64)>,
    ) -> Result<(), std::fmt::Error> {
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, count) in counts {
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
