//! What answers: targets are scraped into the store, rules are evaluated over it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::rules::DiscoveryRule;
use crate::config::scrape::Preset;
use crate::config::{Config, Fault};
use crate::engine::embedded::{Embedded, longest_range, selectors};
use crate::engine::query::{Origin, QueryService};
use crate::model::names::NeededNames;
use crate::model::objects::{ObjectLister, ResourceMapper};
use crate::model::time::Timestamp;
use crate::provider::Provider;
use crate::rules::{DCGM_EXPORTER_PRESET, INFERENCE_PODS_PRESET, KUBELET_PRESET, Rule};
use crate::scrape::{KeptMetrics, Scraping};
use crate::store::{Limits, Store};
use crate::targets::relabel::LabelMap;
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
    /// The samples, and what brings them.
    pub scraping: Scraping,
    /// The answers.
    pub provider: Arc<Provider>,
    /// The answers to PromQL that no rule asks.
    pub queries: Arc<QueryService>,
    jobs: Vec<targets::Job>,
    targets: Arc<watch::Sender<Arc<TargetSet>>>,
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
        let scraping = Scraping {
            limits: config.scrape.limits.clone(),
            kept: Arc::new(kept_metrics(config, &rules)),
            ..Scraping::into(Arc::clone(&store))
        };
        let demand = Arc::clone(&scraping.demand);
        let engine = Embedded::new(Arc::clone(&store)).refreshed_by(demand);
        let targets = Arc::new(watch::Sender::new(Arc::default()));
        let queries = QueryService::over(store)
            .with_metadata(Arc::clone(&scraping.metadata))
            .with_origins(origins(&targets, &jobs));
        let provider = Provider::new(rules, default_max_age, Arc::new(engine), lister, mapper);
        let provider = Arc::new(provider.fresh_within(config.fresh_within()));
        Ok(Self {
            scraping,
            provider,
            queries: Arc::new(queries),
            jobs,
            targets,
        })
    }

    /// Starts to find targets, to scrape them, and to keep the catalog. `client` finds the targets that are Kubernetes
    /// objects.
    pub fn start(&self, client: Option<kube::Client>, tasks: &Tasks) {
        let targets = self.targets.subscribe();
        let finding = targets::run(
            self.jobs.clone(),
            self.scraping.limits.targets,
            client,
            Arc::clone(&self.targets),
            tasks.token(),
        );
        tasks.spawn("targets", finding);
        tasks.spawn("scrape", self.scraping.clone().run(targets, tasks.token()));
        let (provider, cancel) = (Arc::clone(&self.provider), tasks.token());
        tasks.spawn("catalog", async move {
            let mut ticks = tokio::time::interval(CATALOG_INTERVAL);
            while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
                provider.refresh(Timestamp::now()).await;
            }
        });
    }
}

/// Tells what the targets were found as. Parameters may hold a token.
fn origins(
    targets: &Arc<watch::Sender<Arc<TargetSet>>>,
    jobs: &[targets::Job],
) -> impl Fn() -> Vec<Origin> + Send + Sync + 'static {
    let (targets, jobs) = (Arc::clone(targets), jobs.to_vec());
    move || {
        let set = Arc::clone(&targets.borrow());
        let origin = |(target, mut discovered): (targets::Target, LabelMap)| {
            discovered.retain(|name, _| !name.starts_with("__param_"));
            Origin {
                job: target.settings.job.clone(),
                url: target.shown_url(),
                labels: target.labels,
                discovered,
            }
        };
        set.discovered(&jobs).into_iter().map(origin).collect()
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

/// What is kept of each job.
fn kept_metrics(config: &Config, rules: &[Rule]) -> KeptMetrics {
    let scrape = &config.scrape;
    // The jobs of the presets give no metric another name.
    let presets = scrape.presets.iter();
    let presets = presets.map(|it| (it.name(), scrape.keep, &[][..]));
    let written = scrape.scrape_configs.iter();
    let written = written.map(|job| (&*job.job_name, job.keep, &*job.metric_relabel_configs));
    KeptMetrics::new(needed_names(rules), presets.chain(written))
}

/// The metrics that these rules need. A rule whose query cannot be evaluated needs its series all the same: its metrics are
/// offered, and say what it lacks.
fn needed_names(rules: &[Rule]) -> NeededNames {
    NeededNames::new(rules.iter().flat_map(|rule| {
        let series = selectors(&rule.series_query).unwrap_or_default();
        let queried = selectors(&rule.query_for_names()).unwrap_or_default();
        let needed = series.first().map(|series| rule.needed(series, &queried));
        needed.unwrap_or_default()
    }))
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

    fn needed(rule: &str) -> NeededNames {
        let text = format!("scrape: {{presets: []}}\nrules: [{rule}]");
        let (rules, faults) = rules(&Config::parse(&text).expect("the form is right"));
        assert_eq!(faults, [], "{rule}");
        needed_names(&rules)
    }

    #[test]
    fn a_rule_needs_its_series_and_the_metrics_that_its_query_names() {
        let plain = "metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)'";
        for (rule, needs, needs_not) in [
            (
                format!("{{seriesQuery: 'util{{pod!=\"\"}}', {plain}}}"),
                &["util"][..],
                &["util2", "other"][..],
            ),
            (
                format!("{{seriesQuery: '{{__name__=~\"^DCGM_.*\"}}', {plain}}}"),
                &["DCGM_FI_DEV_GPU_UTIL"],
                &["xDCGM_", "vllm:x"],
            ),
            (
                format!(
                    "{{seriesQuery: '{{__name__=~\"DCGM_.*\"}}', seriesFilters: [{{isNot: _TOTAL$}}, {{is: UTIL}}], name: {{matches: ^DCGM_FI_}}, {plain}}}"
                ),
                &["DCGM_FI_UTIL"],
                &["DCGM_FI_UTIL_TOTAL", "DCGM_FI_CLOCK", "DCGM_UTIL"],
            ),
            (
                format!("{{seriesQuery: '{{pod!=\"\"}}', {plain}}}"),
                &["anything"],
                &[],
            ),
            (
                "{seriesQuery: a, metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>}) / on() group_left sum(rate({__name__=~\"b|c\"}[1m])) + d offset 5m'}".to_owned(),
                &["a", "b", "c", "d"],
                &["bc", "e"],
            ),
            (
                "{seriesQuery: '{__name__=~\"wait|run\"}', metricsQuery: 'sum(rate(<<.Series>>_sum{<<.LabelMatchers>>}[2m])) / sum(rate(<<.Series>>_count{<<.LabelMatchers>>}[2m]))'}".to_owned(),
                &["wait", "run", "wait_sum", "run_count"],
                &["wait_bucket", "other_sum"],
            ),
            (
                "{seriesQuery: a, metricsQuery: 'sum({__name__=~\"old_<<.Series>>|<<.Series>>\",<<.LabelMatchers>>})'}".to_owned(),
                &["a", "old_a"],
                &[],
            ),
            (
                "{seriesQuery: a, metricsQuery: 'sum({<<.LabelMatchers>>})'}".to_owned(),
                &["anything"],
                &[],
            ),
            // The embedded engine does not evaluate it, and offers the metric with the reason.
            (
                "{seriesQuery: a, metricsQuery: 'info(<<.Series>>{<<.LabelMatchers>>})'}".to_owned(),
                &["a"],
                &["b"],
            ),
        ] {
            let names = needed(&rule);
            for name in needs {
                assert!(names.contains(name), "{rule}: {name}");
            }
            for name in needs_not {
                assert!(!names.contains(name), "{rule}: {name}");
            }
        }
    }

    #[test]
    fn the_presets_rules_need_a_few_metrics_of_an_exporter() {
        let (rules, _) = rules(&Config::default());
        let names = needed_names(&rules);
        let page = include_str!("../../tests/fixtures/pages/dcgm8.txt");
        let of_page = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let of_page = of_page.filter_map(|line| line.split(' ').next());
        let needed: Vec<&str> = of_page.filter(|name| names.contains(name)).collect();
        assert_eq!(needed.len(), 11, "{needed:?}");
        assert!(needed.contains(&"DCGM_FI_DEV_GPU_UTIL"));
        assert!(names.contains("DCGM_CUSTOM_PROCESS_SM_UTIL"));
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
