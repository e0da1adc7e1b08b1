//! A configuration, compiled: rules, jobs, and what follows from them for what is scraped and kept.

use std::sync::Arc;
use std::time::Duration;

use crate::config::prometheus::{Backend, EMBEDDED};
use crate::config::rules::DiscoveryRule;
use crate::config::scrape::Preset;
use crate::config::{Compat, Config, Fault};
use crate::engine::embedded::{longest_range, selectors};
use crate::engine::prometheus::Prometheus;
use crate::model::names::{NameCondition, NeededNames};
use crate::provider::resources::{ResourceMetrics, needed_of_kubelets};
use crate::provider::{RuleSet, Settings, ValueStyle};
use crate::rules::{
    DCGM_EXPORTER_PRESET, INFERENCE_PODS_PRESET, KUBELET_PRESET, ResourceRules, Rule,
};
use crate::scrape::KeptMetrics;
use crate::store::Limits;
use crate::targets;

use super::BuildError;

/// The longest that samples are kept, whatever a rule asks for: this is memory.
const LONGEST_RETENTION: Duration = Duration::from_secs(6 * 3600);

/// The most samples of one series, whatever the intervals.
const MOST_SAMPLES: usize = 10_000;

/// A configuration, compiled: what the parts of a [`super::Core`] are told of it.
pub(super) struct Compiled {
    pub(super) settings: Settings,
    pub(super) jobs: Vec<targets::Job>,
    pub(super) kept: KeptMetrics,
    pub(super) limits: Limits,
    pub(super) resource_rules: Option<ResourceRules>,
    pub(super) kubelets: Option<KubeletTiming>,
}

impl Compiled {
    /// `known` are the backends that there are already: those that stay as they are keep what they know.
    pub(super) fn new(config: &Config, known: &[Arc<Prometheus>]) -> Result<Self, BuildError> {
        let (rules, mut faults) = rules(config);
        let jobs = targets::compile(&config.scrape).unwrap_or_else(|more| {
            let in_section =
                |fault: Fault| Fault::new(format!("scrape.{}", fault.path), fault.message);
            faults.extend(more.into_iter().map(in_section));
            Vec::new()
        });
        // Where they are not served, nobody needs to care what is wrong with them.
        let resource_rules = config.resource_rules.as_ref();
        let resource_rules = resource_rules
            .filter(|_| config.resource_metrics)
            .map(|section| ResourceRules::compile(section, longest_range));
        let resource_rules = resource_rules.transpose().unwrap_or_else(|more| {
            faults.extend(more);
            None
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
        let fresh_within = config.fresh_within();
        let backend = |backend: &Backend| {
            let mut known = known.iter();
            let same = known.find(|it| it.is_of(backend, fresh_within)).cloned();
            same.unwrap_or_else(|| Arc::new(Prometheus::new(backend.clone(), fresh_within)))
        };
        let inside = config.prometheus.is_empty();
        let is_inside = |rule: &&Rule| match &rule.engine {
            Some(name) => &**name == EMBEDDED,
            None => inside,
        };
        let usage_queries: Vec<String> = resource_rules
            .iter()
            .filter(|_| inside)
            .flat_map(ResourceRules::examples)
            .map(|(_, query)| query)
            .collect();
        let mut looks_back: Vec<Duration> = usage_queries
            .iter()
            .map(|query| longest_range(query) + default_max_age)
            .collect();
        let kubelets = KubeletTiming::of(config, &jobs);
        looks_back.extend(kubelets.map(|it| ResourceMetrics::looks_back(it.max_age)));
        Ok(Self {
            limits: store_limits(
                all(&rules).filter(is_inside),
                &looks_back,
                &jobs,
                default_max_age,
            ),
            kept: kept_metrics(config, all(&rules).filter(is_inside), &usage_queries),
            jobs,
            resource_rules,
            kubelets,
            settings: Settings {
                rules,
                default_max_age,
                fresh_within,
                style: match config.compat {
                    None => ValueStyle::Honest,
                    Some(Compat::PrometheusAdapter) => ValueStyle::PrometheusAdapter,
                },
                backends: config.prometheus.iter().map(backend).collect(),
            },
        })
    }
}

fn all(rules: &RuleSet) -> impl Iterator<Item = &Rule> {
    rules.custom.iter().chain(&rules.external).map(Arc::as_ref)
}

/// How often kubelets are scraped for `metrics.k8s.io`, and the age limit that follows. Not that of the slowest job, which may be
/// much longer.
#[derive(Clone, Copy, Debug)]
pub(super) struct KubeletTiming {
    pub(super) resolution: Duration,
    pub(super) max_age: Duration,
}

impl KubeletTiming {
    /// Nothing where kubelets are not the source.
    fn of(config: &Config, jobs: &[targets::Job]) -> Option<Self> {
        let name = Preset::Kubelet.name();
        let job = jobs.iter().find(|job| job.name() == name)?;
        let served = config.resource_metrics && config.resource_rules.is_none();
        let resolution = job.interval();
        served.then(|| Self {
            resolution,
            max_age: config.default_max_age(resolution),
        })
    }
}

/// What the store must keep for these rules, and for what else looks back: samples as old as that, of the fastest job too.
fn store_limits<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    looks_back: &[Duration],
    jobs: &[targets::Job],
    default_max_age: Duration,
) -> Limits {
    let needs = |rule: &Rule| {
        let example = rule.render("series", "label=\"x\"", "label");
        longest_range(&example.unwrap_or_default()) + rule.max_age.unwrap_or(default_max_age)
    };
    let mut limits = Limits::default();
    limits.retention = rules
        .map(needs)
        .chain(looks_back.iter().copied())
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
fn kept_metrics<'a>(
    config: &Config,
    rules: impl Iterator<Item = &'a Rule>,
    queries: &[String],
) -> KeptMetrics {
    let scrape = &config.scrape;
    // The jobs of the presets give no metric another name.
    let presets = scrape.presets.iter();
    let presets = presets.map(|it| (it.name(), scrape.keep, &[][..]));
    let written = scrape.scrape_configs.iter();
    let written = written.map(|job| (&*job.job_name, job.keep, &*job.metric_relabel_configs));
    let mut needed = needed_names(rules);
    needed.extend(queries.iter().flat_map(|query| {
        let queried = selectors(query).unwrap_or_default();
        queried.into_iter().map(|it| NameCondition::of(&it))
    }));
    if config.resource_metrics && config.resource_rules.is_none() {
        needed.extend(needed_of_kubelets());
    }
    KeptMetrics::new(NeededNames::new(needed), presets.chain(written))
}

/// The metrics that these rules need. A rule whose query cannot be evaluated needs its series all the same: its metrics are
/// offered, and say what it lacks.
fn needed_names<'a>(rules: impl Iterator<Item = &'a Rule>) -> Vec<NameCondition> {
    let of_rule = |rule: &Rule| {
        let series = selectors(&rule.series_query).unwrap_or_default();
        let queried = rule.query_for_names().unwrap_or_default();
        let queried = selectors(&queried).unwrap_or_default();
        let needed = series.first().map(|series| rule.needed(series, &queried));
        needed.unwrap_or_default()
    };
    rules.flat_map(of_rule).collect()
}

/// The presets' rules and then the file's, which win.
fn rules(config: &Config) -> (RuleSet, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut compile = |section: &str, rules: &[DiscoveryRule]| -> Vec<Arc<Rule>> {
        let mut compiled = Vec::with_capacity(rules.len());
        for (index, rule) in rules.iter().enumerate() {
            if let Some(name) = &rule.engine
                && name != EMBEDDED
                && config.prometheus.iter().all(|it| it.name != *name)
            {
                let place = format!("{section}[{index}].engine");
                let message = format!("there is no backend {name:?} in prometheus");
                faults.push(Fault::new(place, message));
            }
            match Rule::compile(&format!("{section}[{index}]"), rule) {
                Ok(rule) => compiled.push(Arc::new(rule)),
                Err(more) => faults.extend(more),
            }
        }
        compiled
    };
    let mut custom = Vec::new();
    for preset in &config.scrape.presets {
        let text = match preset {
            Preset::DcgmExporter => DCGM_EXPORTER_PRESET,
            Preset::Kubelet => KUBELET_PRESET,
            Preset::InferencePods => INFERENCE_PODS_PRESET,
        };
        let mut rules: Vec<DiscoveryRule> =
            serde_saphyr::from_str(text).expect("a test reads every preset");
        for rule in &mut rules {
            // They are for what the preset scrapes.
            rule.engine = Some(EMBEDDED.to_owned());
        }
        custom.extend(compile(&format!("preset {}", preset.name()), &rules));
    }
    let of_file = compile("rules", &config.rules);
    let both = config.rules_serve_external;
    let mut external = if both { of_file.clone() } else { Vec::new() };
    custom.extend(of_file);
    external.extend(compile("externalRules", &config.external_rules));
    (RuleSet { custom, external }, faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_kept_as_long_as_any_rule_looks_back() {
        let limits = |text: &str| {
            let config = Config::parse(text).expect("the form is right");
            let (rules, faults) = rules(&config);
            assert_eq!(faults, []);
            let jobs = targets::compile(&config.scrape).expect("valid");
            store_limits(all(&rules), &[], &jobs, Duration::from_secs(45))
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
        NeededNames::new(needed_names(all(&rules)))
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
        let names = NeededNames::new(needed_names(all(&rules)));
        let page = include_str!("../../../tests/fixtures/pages/dcgm8.txt");
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
        let error = Compiled::new(&config, &[]).err().expect("faulty");
        let paths: Vec<&str> = error.0.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            paths,
            ["rules[0].metricsQuery", "scrape.interval", "maxAge"]
        );
    }
}
