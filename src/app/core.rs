//! What answers: targets are scraped into the store, rules are evaluated over it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::error;

use crate::config::rules::DiscoveryRule;
use crate::config::scrape::{Preset, ScrapeLimits};
use crate::config::{Config, Fault};
use crate::engine::embedded::{Embedded, longest_range};
use crate::engine::query::QueryService;
use crate::model::objects::{ObjectLister, ResourceMapper};
use crate::model::time::Timestamp;
use crate::provider::Provider;
use crate::rules::{DCGM_EXPORTER_PRESET, INFERENCE_PODS_PRESET, KUBELET_PRESET, Rule};
use crate::scrape::{self, Statistics};
use crate::store::{Limits, Store};
use crate::targets::{self, TargetSet};

use super::Tasks;

/// How often the catalog looks for new metrics. A metric that is asked for and not there is looked up at once anyway.
const CATALOG_INTERVAL: Duration = Duration::from_secs(5);

/// The longest that samples are kept, whatever a rule asks for: this is memory.
const LONGEST_RETENTION: Duration = Duration::from_secs(6 * 3600);

/// The most samples of one series, whatever the intervals.
const MOST_SAMPLES: usize = 10_000;

/// Why a configuration cannot be put to work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration is faulty:{}", .0.iter().map(|fault| format!("\n  {fault}")).collect::<String>())]
pub struct BuildError(pub Vec<Fault>);

/// Everything that answers, built and not yet running.
pub struct Core {
    /// The samples.
    pub store: Arc<Store>,
    /// The answers.
    pub provider: Arc<Provider>,
    /// The answers to PromQL that no rule asks.
    pub queries: Arc<QueryService>,
    /// What scraping counts.
    pub statistics: Arc<Statistics>,
    jobs: Vec<targets::Job>,
    limits: ScrapeLimits,
}

impl Core {
    /// Compiles the jobs and rules of a configuration.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn build(
        config: &Config,
        lister: Arc<dyn ObjectLister>,
        mapper: Arc<dyn ResourceMapper>,
    ) -> Result<Self, BuildError> {
        let (rules, mut faults) = rules(config);
        let jobs = targets::compile(&config.scrape).unwrap_or_else(|more| {
            let in_section =
                |fault: Fault| Fault::new(format!("scrape.{}", fault.path), fault.message);
            faults.extend(more.into_iter().map(in_section));
            Vec::new()
        });
        faults.extend(config.validate());
        if !faults.is_empty() {
            return Err(BuildError(faults));
        }
        let slowest = jobs
            .iter()
            .map(targets::Job::interval)
            .max()
            .unwrap_or(config.scrape.interval);
        let default_max_age = config.default_max_age(slowest);
        let limits = store_limits(&rules, &jobs, default_max_age);
        let store = Store::new(limits);
        let engine = Arc::new(Embedded::new(Arc::clone(&store)));
        let queries = Arc::new(QueryService::over(Arc::clone(&store)));
        let provider = Arc::new(Provider::new(
            rules,
            default_max_age,
            engine,
            lister,
            mapper,
        ));
        let statistics = Arc::new(Statistics::default());
        Ok(Self {
            store,
            provider,
            queries,
            statistics,
            jobs,
            limits: config.scrape.limits.clone(),
        })
    }

    /// Starts to find targets, to scrape them, and to keep the catalog. `client` finds the targets that are Kubernetes
    /// objects.
    pub fn start(&self, client: Option<kube::Client>, tasks: &Tasks) {
        let (sender, targets) = watch::channel(Arc::new(TargetSet::default()));
        let finding = targets::run(
            self.jobs.clone(),
            self.limits.targets,
            client,
            Arc::new(sender),
            tasks.token(),
        );
        tasks.spawn("targets", finding);
        let scraping = scrape::run(
            Arc::clone(&self.store),
            targets,
            self.limits.clone(),
            Arc::clone(&self.statistics),
            tasks.token(),
        );
        tasks.spawn("scrape", async move {
            if let Err(error) = scraping.await {
                error!(%error, "nothing is scraped: no HTTP client can be made");
            }
        });
        let (provider, cancel) = (Arc::clone(&self.provider), tasks.token());
        tasks.spawn("catalog", async move {
            let mut ticks = tokio::time::interval(CATALOG_INTERVAL);
            while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
                provider.refresh(Timestamp::now()).await;
            }
        });
    }
}

/// What the store must keep for these rules: samples as old as any of them looks back, of the fastest job too.
fn store_limits(rules: &[Rule], jobs: &[targets::Job], default_max_age: Duration) -> Limits {
    let needs = |rule: &Rule| {
        let example = rule.render("series", "label=\"x\"", "label");
        longest_range(&example) + rule.max_age.unwrap_or(default_max_age)
    };
    let mut limits = Limits::default();
    limits.retention = rules
        .iter()
        .map(needs)
        .fold(limits.retention, Duration::max)
        .min(LONGEST_RETENTION);
    let fastest = jobs
        .iter()
        .map(targets::Job::interval)
        .min()
        .unwrap_or(limits.retention);
    let samples = limits.retention.as_millis() / fastest.as_millis().max(1) + 2;
    let samples = usize::try_from(samples)
        .unwrap_or(usize::MAX)
        .min(MOST_SAMPLES);
    limits.samples_per_series = limits.samples_per_series.max(samples);
    limits
}

/// The presets' rules and then the file's, which win.
fn rules(config: &Config) -> (Vec<Rule>, Vec<Fault>) {
    let mut written = Vec::new();
    for preset in &config.scrape.presets {
        let text = match preset {
            Preset::DcgmExporter => DCGM_EXPORTER_PRESET,
            Preset::Kubelet => KUBELET_PRESET,
            Preset::InferencePods => INFERENCE_PODS_PRESET,
        };
        let rules: Vec<DiscoveryRule> =
            serde_saphyr::from_str(text).expect("a test reads every preset");
        let name = preset.name();
        written.extend(
            rules
                .into_iter()
                .enumerate()
                .map(|(index, rule)| (format!("preset {name}[{index}]"), rule)),
        );
    }
    written.extend(
        config
            .rules
            .iter()
            .cloned()
            .enumerate()
            .map(|(index, rule)| (format!("rules[{index}]"), rule)),
    );
    let (mut rules, mut faults) = (Vec::new(), Vec::new());
    for (id, rule) in &written {
        match Rule::compile(id, rule) {
            Ok(rule) => rules.push(rule),
            Err(more) => faults.extend(more),
        }
    }
    (rules, faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::StaticMapper;
    use crate::model::objects::{GroupResource, ListError, ObjectRef};
    use crate::model::selector::Selector;

    struct Nothing;

    impl ObjectLister for Nothing {
        fn list(
            &self,
            _: &GroupResource,
            _: Option<&str>,
            _: &Selector,
        ) -> Result<Vec<ObjectRef>, ListError> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn samples_are_kept_as_long_as_any_rule_looks_back() {
        let limits = |text: &str| {
            let config = Config::parse(text).expect("the form is right");
            let (rules, faults) = rules(&config);
            assert_eq!(faults, []);
            let jobs = targets::compile(&config.scrape).expect("valid");
            store_limits(&rules, &jobs, Duration::from_secs(45))
        };
        assert_eq!(limits(""), Limits::default());
        let rule = "rules: [{seriesQuery: x, metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>}[20m] offset 5m)) by (<<.GroupBy>>)'}]";
        let wide = limits(&format!("scrape: {{interval: 1s}}\n{rule}"));
        assert_eq!(wide.retention, Duration::from_secs(25 * 60 + 45));
        assert_eq!(wide.samples_per_series, 25 * 60 + 45 + 2);
    }

    #[test]
    fn all_faults_of_a_file_are_told_at_once() {
        let text = "maxAge: 0s\nscrape: {interval: 0s}\nrules: [{seriesQuery: x, metricsQuery: '<<.Nope>>'}]";
        let config = Config::parse(text).expect("the form is right");
        let error = Core::build(&config, Arc::new(Nothing), Arc::new(StaticMapper))
            .err()
            .expect("faulty");
        let paths: Vec<&str> = error.0.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            paths,
            ["rules[0].metricsQuery", "scrape.interval", "maxAge"]
        );
    }
}
