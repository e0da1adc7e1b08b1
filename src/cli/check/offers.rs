//! What each rule offers over the series of a page or of a cluster.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::{Instant, sleep};

use crate::app::trial::Trial;
use crate::app::{Core, Tasks};
use crate::config::Config;
use crate::exposition::{Format, ParsedSample, Sink, parse};
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::time::Timestamp;

/// How long the targets of a cluster may take to be found and scraped once.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether they have been.
const LOOK: Duration = Duration::from_millis(250);

/// How long a set of targets stays as it is until it is taken for whole.
const SETTLED: Duration = Duration::from_secs(3);

/// By rule: what it offers, a line for each metric.
pub(super) type Offers = BTreeMap<String, Vec<String>>;

/// What is offered over the samples of a page, as an exporter or a recording has them.
pub(super) async fn of_page(config: &Config, path: &Path) -> anyhow::Result<Offers> {
    let page = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let format = if page.trim_ascii_end().ends_with(b"# EOF") {
        Format::OpenMetrics
    } else {
        Format::Text
    };
    let mut series = Series::default();
    let report = parse(&page, format, &mut series);
    ensure!(
        !series.0.is_empty(),
        "{} has no samples{}",
        path.display(),
        report
            .example
            .map(|(reason, line)| format!(": {reason}: {line}"))
            .unwrap_or_default()
    );
    let mut trial = Trial::new(config, Vec::new(), config.scrape.interval)?;
    let now = Timestamp::now();
    for labels in &series.0 {
        trial.write(now, labels, Some(0.0));
    }
    trial.core().provider.refresh(now).await;
    Ok(offers(trial.core()))
}

#[derive(Default)]
struct Series(Vec<Labels>);

impl Sink for Series {
    fn sample(&mut self, sample: &ParsedSample<'_>) {
        let labels = sample
            .labels
            .iter()
            .map(|(name, value)| (&**name, &**value));
        let name = [(METRIC_NAME, sample.name)];
        self.0.push(Labels::new(labels.chain(name)));
    }
}

/// What is offered over what the targets of a cluster show now. Each is scraped once, as `serve` would.
pub(super) async fn of_cluster(core: &Core, client: kube::Client) -> Offers {
    let tasks = Tasks::default();
    core.start(Some(client), &tasks);
    let end = Instant::now() + PATIENCE;
    let (mut known, mut since) = (0, Instant::now());
    while Instant::now() < end {
        sleep(LOOK).await;
        let targets = core.scraping.store.targets();
        if targets.len() != known {
            (known, since) = (targets.len(), Instant::now());
        }
        let scraped = targets
            .iter()
            .all(|it| it.health.last_success.is_some() || it.health.down.is_some());
        if scraped && since.elapsed() > SETTLED {
            break;
        }
    }
    core.provider.refresh(Timestamp::now()).await;
    let offers = offers(core);
    let targets = core.scraping.store.targets();
    let down = targets.iter().filter(|it| it.health.down.is_some()).count();
    anstream::println!("{} targets, {down} of them down", targets.len());
    tasks.stop().await;
    offers
}

fn offers(core: &Core) -> Offers {
    let catalog = core.provider.catalog();
    let mut by_rule: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for offer in catalog.offers() {
        let metrics = by_rule.entry(offer.rule.id.to_string()).or_default();
        let line = metrics.entry(offer.metric.to_string()).or_default();
        let separator = if line.is_empty() { "" } else { ", " };
        let (resource, label) = (&offer.kind.resource, &offer.object_label);
        let _ = write!(line, "{separator}{resource} by {label}");
        match (&offer.unusable, &offer.namespace_label) {
            (Some(reason), _) => {
                let _ = write!(line, " (cannot be answered: {reason})");
            }
            (None, Some(namespace)) if offer.kind.namespaced => {
                let _ = write!(line, " in {namespace}");
            }
            _ => {}
        }
    }
    for offer in catalog.external_offers() {
        let metrics = by_rule.entry(offer.rule.id.to_string()).or_default();
        let line = match (&offer.unusable, &offer.namespace_label) {
            (Some(reason), _) => format!("external (cannot be answered: {reason})"),
            (None, Some(namespace)) => format!("external in {namespace}"),
            (None, None) => "external, the same for all namespaces".to_owned(),
        };
        metrics.insert(offer.metric.to_string(), line);
    }
    let lines = |metrics: BTreeMap<String, String>| {
        let metrics = metrics.into_iter();
        metrics
            .map(|(metric, line)| format!("{metric}: {line}"))
            .collect()
    };
    by_rule
        .into_iter()
        .map(|(rule, metrics)| (rule, lines(metrics)))
        .collect()
}
