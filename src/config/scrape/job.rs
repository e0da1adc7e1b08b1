//! Scrape jobs, as the file has them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::discovery::{FileSd, KubernetesSd, StaticTargets};
use super::http::{Authorization, BasicAuth, HttpConfig, TlsConfig};
use super::refused::Refusing;
use super::{Fault, Keep, Relabel, ScrapeConfig, units};

/// One of `scrape_configs`, in Prometheus's syntax. What Prometheus knows and this program does not is refused by name.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub struct Job {
    /// The job's name: the label `job` of its targets. No two jobs share one.
    pub job_name: String,
    /// How often. Default: `interval` of the section.
    #[serde(deserialize_with = "units::some_duration")]
    pub scrape_interval: Option<Duration>,
    /// How long one scrape may take, at most the interval. Default: `timeout` of the section, cut to the interval.
    #[serde(deserialize_with = "units::some_duration")]
    pub scrape_timeout: Option<Duration>,
    /// The page's path. Default `/metrics`.
    pub metrics_path: String,
    /// `http` (the default) or `https`.
    pub scheme: Scheme,
    /// User name and password for the targets.
    pub basic_auth: Option<BasicAuth>,
    /// The header `Authorization` for the targets.
    pub authorization: Option<Authorization>,
    /// For `https`: authorities, a certificate of ours, the target's name. Default: the system's authorities.
    pub tls_config: TlsConfig,
    /// Whether HTTP/2 is offered to targets behind TLS. Default `true`.
    pub enable_http2: bool,
    /// Whether redirects are followed; never to another host. Default `true`.
    pub follow_redirects: bool,
    /// Query parameters of the URL.
    pub params: BTreeMap<String, Vec<String>>,
    /// Whether to offer gzip to the target. Default `true`.
    pub enable_compression: bool,
    /// Targets by address.
    pub static_configs: Vec<StaticTargets>,
    /// Targets by address, in files of their own that are followed.
    pub file_sd_configs: Vec<FileSd>,
    /// Targets found in the cluster.
    pub kubernetes_sd_configs: Vec<KubernetesSd>,
    /// Rules that change or drop targets before they are scraped.
    pub relabel_configs: Vec<Relabel>,
    /// Rules that change or drop samples before they are kept.
    pub metric_relabel_configs: Vec<Relabel>,
    /// Ours: which metrics are kept. `all` (the default): what `metric_relabel_configs` leave; `needed`: of these only
    /// what a rule needs.
    pub keep: Keep,
    /// Whose label counts where both the page and the target have one. Not written, the page's counts: a GPU exporter's
    /// `pod` and `namespace` are the workload's, and nothing is ever called `exported_pod`. Written `false`, the target's
    /// counts and the page's is renamed to `exported_…`, as in Prometheus, whose default that is.
    pub honor_labels: Option<bool>,
    /// Whether a timestamp on the page counts, rather than the time of the scrape. Default `true`.
    pub honor_timestamps: bool,
    /// Most samples of one scrape after `metric_relabel_configs`; more fail the scrape. 0: `limits.samples`.
    pub sample_limit: usize,
    /// Most labels of a sample; one with more is dropped and counted. 0: `limits.labels`.
    pub label_limit: usize,
    /// Longest label name in bytes; a sample with a longer one is dropped. 0: `limits.label_name_length`.
    pub label_name_length_limit: usize,
    /// Longest label value in bytes; a sample with a longer one is dropped. 0: `limits.label_value_length`.
    pub label_value_length_limit: usize,
    /// Largest page; a larger one fails the scrape. 0: `limits.body_size`.
    #[serde(deserialize_with = "units::size")]
    pub body_size_limit: u64,
    /// Most targets of this job after `relabel_configs`; those beyond it, in the order of their URLs, are left out.
    /// 0: no limit but `limits.targets`.
    pub target_limit: usize,
}

impl Default for Job {
    fn default() -> Self {
        Self {
            job_name: String::new(),
            scrape_interval: None,
            scrape_timeout: None,
            metrics_path: "/metrics".to_owned(),
            scheme: Scheme::Http,
            basic_auth: None,
            authorization: None,
            tls_config: TlsConfig::default(),
            enable_http2: true,
            follow_redirects: true,
            params: BTreeMap::new(),
            enable_compression: true,
            static_configs: Vec::new(),
            file_sd_configs: Vec::new(),
            kubernetes_sd_configs: Vec::new(),
            relabel_configs: Vec::new(),
            metric_relabel_configs: Vec::new(),
            keep: Keep::All,
            honor_labels: None,
            honor_timestamps: true,
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            body_size_limit: 0,
            target_limit: 0,
        }
    }
}

impl<'de> Deserialize<'de> for Job {
    fn deserialize<D: Deserializer<'de>>(inner: D) -> Result<Self, D::Error> {
        let refused = REFUSED_IN_JOB;
        Self::deserialize(Refusing { inner, refused })
    }
}

/// How a target is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain HTTP.
    #[default]
    Http,
    /// HTTP over TLS.
    Https,
}

/// What a `scrape_configs` entry of Prometheus 3 may have besides.
const REFUSED_IN_JOB: &[&str] = &[
    "always_scrape_classic_histograms",
    "aws_sd_configs",
    "azure_sd_configs",
    "bearer_token",
    "bearer_token_file",
    "consul_sd_configs",
    "convert_classic_histograms_to_nhcb",
    "digitalocean_sd_configs",
    "dns_sd_configs",
    "docker_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "ecs_sd_configs",
    "elasticache_sd_configs",
    "eureka_sd_configs",
    "extra_scrape_metrics",
    "fallback_scrape_protocol",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "http_headers",
    "http_sd_configs",
    "ionos_sd_configs",
    "keep_dropped_targets",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "metric_name_escaping_scheme",
    "metric_name_validation_scheme",
    "msk_sd_configs",
    "native_histogram_bucket_limit",
    "native_histogram_min_bucket_factor",
    "nerve_sd_configs",
    "no_proxy",
    "nomad_sd_configs",
    "oauth2",
    "oci_sd_configs",
    "openstack_sd_configs",
    "ovhcloud_sd_configs",
    "proxy_connect_header",
    "proxy_from_environment",
    "proxy_url",
    "puppetdb_sd_configs",
    "rds_sd_configs",
    "scaleway_sd_configs",
    "scrape_failure_log_file",
    "scrape_native_histograms",
    "scrape_protocols",
    "serverset_sd_configs",
    "stackit_sd_configs",
    "track_timestamps_staleness",
    "triton_sd_configs",
    "uyuni_sd_configs",
    "vultr_sd_configs",
];

impl Job {
    /// The job's interval and timeout under the section's defaults.
    pub fn timing(&self, section: &ScrapeConfig) -> (Duration, Duration) {
        let interval = self.scrape_interval.unwrap_or(section.interval);
        let timeout = self.scrape_timeout.unwrap_or(section.timeout);
        (interval, timeout.min(interval))
    }

    /// How its targets are spoken to.
    pub fn http(&self) -> HttpConfig {
        HttpConfig {
            basic_auth: self.basic_auth.clone(),
            authorization: self.authorization.clone(),
            tls: self.tls_config.clone(),
            http2: self.enable_http2,
            follow_redirects: self.follow_redirects,
        }
    }

    /// Adds all that is wrong with this job; `path` is its place.
    pub(super) fn validate(&self, section: &ScrapeConfig, path: &str, faults: &mut Vec<Fault>) {
        let mut fault = |field: &str, message: String| {
            faults.push(Fault::new(format!("{path}.{field}"), message));
        };
        if self.job_name.is_empty() {
            fault("job_name", "a job needs a name".into());
        }
        let interval = self.scrape_interval.unwrap_or(section.interval);
        if self.scrape_interval.is_some_and(|it| it.is_zero()) {
            fault("scrape_interval", "must be more than 0".into());
        }
        match self.scrape_timeout {
            Some(Duration::ZERO) => fault("scrape_timeout", "must be more than 0".into()),
            Some(timeout) if timeout > interval => {
                let message = format!("{timeout:?} is more than the interval of {interval:?}");
                fault("scrape_timeout", message);
            }
            _ => {}
        }
        if self.metrics_path.is_empty() {
            fault("metrics_path", "must not be empty".into());
        }
        if self.body_size_limit > section.limits.buffers / 2 {
            let buffers = section.limits.buffers;
            let message = format!("is more than half of limits.buffers ({buffers})");
            fault("body_size_limit", message);
        }
        self.http().validate(path, faults);
        for (index, group) in self.static_configs.iter().enumerate() {
            group.validate(&format!("{path}.static_configs[{index}]"), faults);
        }
        for (index, sd) in self.file_sd_configs.iter().enumerate() {
            sd.validate(&format!("{path}.file_sd_configs[{index}]"), faults);
        }
        for (index, sd) in self.kubernetes_sd_configs.iter().enumerate() {
            sd.validate(&format!("{path}.kubernetes_sd_configs[{index}]"), faults);
        }
        for (field, rules) in [
            ("relabel_configs", &self.relabel_configs),
            ("metric_relabel_configs", &self.metric_relabel_configs),
        ] {
            for (index, rule) in rules.iter().enumerate() {
                rule.validate(&format!("{path}.{field}[{index}]"), faults);
            }
        }
    }
}
