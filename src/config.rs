//! The configuration file: types, validation, defaults. Its field docs are the reference.
//!
//! One YAML file, strict: a key that is not known is an error. prometheus-adapter's keys are taken field for field.

pub mod fallback;
pub mod prometheus;
pub mod rules;
pub mod schedules;
pub mod scrape;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use fallback::ExternalFallback;
use prometheus::Backend;
use rules::{DiscoveryRule, ResourceRules};
use schedules::Schedules;
use scrape::{Preset, ScrapeConfig, units};

/// The whole file. Every key has a default, so that an empty file serves the GPU metrics of a dcgm-exporter.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// What is scraped, and how often.
    pub scrape: ScrapeConfig,
    /// Servers with Prometheus's HTTP API. Where there are any, the file's rules are asked of the first, unless their
    /// `engine` says otherwise. The rules of presets are always answered inside.
    pub prometheus: Vec<Backend>,
    /// Rules for `custom.metrics.k8s.io`, as in prometheus-adapter. They come after those of the presets; of two rules that
    /// offer the same metric for the same resource the later one counts.
    pub rules: Vec<DiscoveryRule>,
    /// Whose values they are like, where they differ from ours.
    pub compat: Option<Compat>,
    /// Whether `rules` are rules for `external.metrics.k8s.io` too, as in Alibaba Cloud's adapter.
    pub rules_serve_external: bool,
    /// Rules for `external.metrics.k8s.io`, of the same form.
    pub external_rules: Vec<DiscoveryRule>,
    /// Another adapter that external metrics are had from which no rule here offers.
    pub external_fallback: Option<ExternalFallback>,
    /// Whether `metrics.k8s.io` is served, in place of metrics-server: CPU and memory of pods and nodes, from the preset kubelet
    /// or, where there are `resourceRules`, by those. Default `false`.
    pub resource_metrics: bool,
    /// The queries behind `metrics.k8s.io`, as in prometheus-adapter. Without them kubelets are the source.
    pub resource_rules: Option<ResourceRules>,
    /// CronHorizontalPodAutoscalers.
    pub schedules: Schedules,
    /// The age past which a sample does not count, for rules that do not say otherwise. Default: two and a half intervals of
    /// the slowest scrape job, but at least `45s`.
    #[serde(deserialize_with = "units::some_duration")]
    pub max_age: Option<Duration>,
    /// How long ago the targets behind an answer may have been scraped: older ones are scraped when they are asked about, and
    /// regularly just before. Their scrapes become no more than a tenth more. Default `5s`; `0s` turns it off.
    #[serde(deserialize_with = "units::some_duration")]
    pub fresh_within: Option<Duration>,
}

/// A place in the configuration, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Fault {
    /// The place, such as `rules[2].metricsQuery`.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

impl Fault {
    /// A fault at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is not YAML of the right form. The text has line and column.
    #[error("{path}: {message}")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        message: String,
    },
}

/// An adapter whose way with values can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// Thousandths cut off, NaN as 0, overflow as the least number, the time of the request, the last of several values.
    PrometheusAdapter,
}

impl Config {
    /// Reads a file. Whether its values make sense is found out when it is put to work, all faults at once.
    ///
    /// # Errors
    /// Where it cannot be read, or is not of the right form.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|message| ConfigError::Form {
            path: path.to_owned(),
            message,
        })
    }

    /// Reads the form of a configuration, without validating its values. An empty text is the default.
    ///
    /// # Errors
    /// A message with line and column.
    pub fn parse(text: &str) -> Result<Self, String> {
        // Without the lines around the fault: there may be a password in them.
        let config: Option<Self> =
            serde_saphyr::from_str(text).map_err(|error| error.without_snippet().to_string())?;
        Ok(config.unwrap_or_default())
    }

    /// What is wrong with the values at the top; sections and rules are judged where they are compiled.
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = prometheus::validate(&self.prometheus);
        if self.max_age.is_some_and(|age| age.is_zero()) {
            faults.push(Fault::new("maxAge", "must be more than 0"));
        }
        let kubelets = self.scrape.presets.contains(&Preset::Kubelet);
        if self.resource_metrics && self.resource_rules.is_none() && !kubelets {
            let message = "needs kubelet in scrape.presets, or resourceRules";
            faults.push(Fault::new("resourceMetrics", message));
        }
        faults.extend(self.schedules.zone().err());
        let fallback = self.external_fallback.iter();
        faults.extend(fallback.flat_map(ExternalFallback::validate));
        faults
    }

    /// How long ago the targets behind an answer may have been scraped; zero turns scrapes on demand off.
    pub fn fresh_within(&self) -> Duration {
        self.fresh_within.unwrap_or(Duration::from_secs(5))
    }

    /// The age limit of rules that have none of their own, where the slowest job scrapes every `slowest`.
    pub fn default_max_age(&self, slowest: Duration) -> Duration {
        self.max_age
            .unwrap_or_else(|| slowest.mul_f64(2.5).max(Duration::from_secs(45)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        for text in ["", "\n# nothing\n", "{}"] {
            assert_eq!(
                Config::parse(text).expect("valid"),
                Config::default(),
                "{text:?}"
            );
        }
        assert_eq!(
            Config::default().default_max_age(Duration::from_secs(15)),
            Duration::from_secs(45)
        );
        assert_eq!(
            Config::default().default_max_age(Duration::from_secs(30)),
            Duration::from_secs(75)
        );
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let error = Config::parse("rules:\n- seriesQuery: x\n  metricsQery: y\n")
            .expect_err("a typing error");
        assert!(
            error.contains("metricsQery") && error.contains("line 3"),
            "{error}"
        );
    }

    #[test]
    fn a_file_of_prometheus_adapter_is_read_whole() {
        let config = Config::parse(
            r#"
"rules":
- "seriesQuery": 'http_requests_total{namespace!="",pod!=""}'
  "seriesFilters": [{"isNot": "^container_.*"}]
  "resources": {"template": "<<.Resource>>", "namespaced": false}
  "name": {"matches": "^(.*)_total$", "as": ""}
  "metricsQuery": sum(rate(<<.Series>>{<<.LabelMatchers>>}[5m])) by (<<.GroupBy>>)
"externalRules": []
"resourceRules":
  "cpu":
    "containerQuery": sum by (<<.GroupBy>>) (irate(x{<<.LabelMatchers>>}[4m]))
    "nodeQuery": sum by (<<.GroupBy>>) (y{<<.LabelMatchers>>})
    "resources": {"overrides": {"namespace": {"resource": "namespace"}}}
    "containerLabel": container
  "memory": {}
  "window": 5m
"#,
        )
        .expect("prometheus-adapter's own form");
        assert_eq!(config.rules[0].name.matches, "^(.*)_total$");
        assert_eq!(
            config.resource_rules.expect("read").window,
            Some(Duration::from_secs(300))
        );
    }

    #[test]
    fn faults_say_where() {
        let config = Config::parse("maxAge: 0s").expect("the form is right");
        let faults: Vec<String> = config.validate().iter().map(Fault::to_string).collect();
        assert_eq!(faults, ["maxAge: must be more than 0"]);
    }
}
