//! Scrape jobs ready for use, and how one of their candidates becomes a target.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use crate::config::scrape::http::HttpConfig;
use crate::config::scrape::{
    self as config, Fault, Preset, Scheme, ScrapeConfig, ScrapeLimits, units,
};
use crate::model::labels::Labels;

use super::presets;
use super::relabel::{LabelMap, Relabeling, set};

/// A page to scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// What it shares with its job's other targets.
    pub settings: Arc<Settings>,
    /// Where its page is. Contains no credentials.
    pub url: Url,
    /// Labels for its samples, `job` and `instance` among them.
    pub labels: Labels,
    /// The Kubernetes object behind it where there is one, such as `pod monitoring/dcgm-exporter-x2x4f`.
    pub object: Option<String>,
    /// The UID of the pod behind it: a pod that takes another's name and address starts afresh.
    pub uid: Option<String>,
    /// How often it is scraped.
    pub interval: Duration,
    /// How long one scrape may take; at most `interval`.
    pub timeout: Duration,
}

impl Target {
    /// Its URL as users may read it, in logs and in an HPA's conditions: parameters may hold a token.
    pub fn shown_url(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        // Only a URL that cannot have them refuses.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.into()
    }
}

/// How the pages of a job are read.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The job's name.
    pub job: String,
    /// Whether a label of the page counts before one of the target.
    pub honor_labels: bool,
    /// Whether a timestamp of the page counts.
    pub honor_timestamps: bool,
    /// Credentials, TLS and versions of HTTP; one for all of the job's targets.
    pub http: Arc<HttpConfig>,
    /// Whether gzip is offered.
    pub compression: bool,
    /// Most bytes of a page, as sent and decompressed.
    pub body_size: usize,
    /// Most samples of a page after relabelling.
    pub samples: usize,
    /// Most labels of a sample.
    pub labels: usize,
    /// Most bytes of a label's name.
    pub label_name_length: usize,
    /// Most bytes of a label's value.
    pub label_value_length: usize,
    /// Rules for the samples.
    pub metric_relabeling: Relabeling,
}

/// A job of the configuration, ready for use.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub(super) settings: Arc<Settings>,
    pub(super) written: config::Job,
    pub(super) preset: bool,
    relabeling: Relabeling,
    interval: Duration,
    timeout: Duration,
}

/// The section's jobs, ready for use; those of presets last.
///
/// # Errors
/// All that is wrong with the section.
pub fn compile(section: &ScrapeConfig) -> Result<Vec<Job>, Vec<Fault>> {
    let faults = section.validate();
    if !faults.is_empty() {
        return Err(faults);
    }
    let written = section.scrape_configs.iter().cloned().map(|it| (it, false));
    let preset = |it: &Preset| (presets::job(*it, section), true);
    let presets = section.presets.iter().map(preset);
    written
        .chain(presets)
        .map(|(job, preset)| {
            let name = job.job_name.clone();
            Job::new(section, job, preset)
                .map_err(|error| vec![Fault::new(name, error.to_string())])
        })
        .collect()
}

impl Job {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.settings.job
    }

    /// How often its targets are scraped.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    fn new(
        section: &ScrapeConfig,
        written: config::Job,
        preset: bool,
    ) -> Result<Self, regex::Error> {
        let (interval, timeout) = written.timing(section);
        Ok(Self {
            settings: Arc::new(Settings::new(&written, &section.limits)?),
            relabeling: Relabeling::new(&written.relabel_configs)?,
            written,
            preset,
            interval,
            timeout,
        })
    }

    /// The target that a candidate becomes by the job's rules; `None` if they drop it
    /// (`scrape/target.go`, `PopulateLabels`).
    ///
    /// # Errors
    /// Why it cannot be scraped.
    pub(super) fn target(
        &self,
        candidate: LabelMap,
        object: Option<String>,
    ) -> Result<Option<Target>, String> {
        self.relabelled(self.discovered(candidate), object)
    }

    /// A candidate with what the job says of all of them: what its rules work on.
    pub(super) fn discovered(&self, mut labels: LabelMap) -> LabelMap {
        let scheme = match self.written.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let mut default = |name: &str, value: &str| {
            if !labels.contains_key(name) {
                set(&mut labels, name, value);
            }
        };
        default("job", &self.written.job_name);
        default("__scheme__", scheme);
        default("__metrics_path__", &self.written.metrics_path);
        default("__scrape_interval__", &written(self.interval));
        default("__scrape_timeout__", &written(self.timeout));
        for (name, values) in &self.written.params {
            if let Some(first) = values.first() {
                default(&format!("__param_{name}"), first);
            }
        }
        labels
    }

    /// As [`target`](Self::target), of what [`discovered`](Self::discovered) gives.
    pub(super) fn relabelled(
        &self,
        mut labels: LabelMap,
        object: Option<String>,
    ) -> Result<Option<Target>, String> {
        let uid = labels.get("__meta_kubernetes_pod_uid").cloned();
        if !self.relabeling.apply(&mut labels) {
            return Ok(None);
        }
        let Some(address) = labels.get("__address__").cloned() else {
            return Err("it has no __address__".to_owned());
        };
        let interval = duration(&labels, "__scrape_interval__")?;
        let timeout = duration(&labels, "__scrape_timeout__")?;
        let url = self.url(&address, &labels)?;
        if !labels.contains_key("instance") {
            set(&mut labels, "instance", address);
        }
        labels.retain(|name, _| !name.starts_with("__"));
        Ok(Some(Target {
            settings: self.settings.clone(),
            url,
            labels: Labels::new(labels),
            object,
            uid,
            interval,
            timeout: timeout.min(interval),
        }))
    }

    fn url(&self, address: &str, labels: &LabelMap) -> Result<Url, String> {
        let label = |name: &str| labels.get(name).map_or("", String::as_str);
        let scheme = label("__scheme__");
        if !matches!(scheme, "http" | "https") {
            return Err(format!("its __scheme__ is {scheme:?}"));
        }
        if address.contains(['/', '@', '?', '#', '\\', ' ']) {
            return Err(format!("its __address__ is {address:?}, not host:port"));
        }
        let parsed = match address.parse::<Ipv6Addr>() {
            Ok(bare) => Url::parse(&format!("{scheme}://[{bare}]")),
            Err(_) => Url::parse(&format!("{scheme}://{address}")),
        };
        let mut url = parsed.map_err(|error| format!("its __address__ is {address:?}: {error}"))?;
        url.set_path(label("__metrics_path__"));
        let mut params = self.written.params.clone();
        for (name, value) in labels {
            if let Some(name) = name.strip_prefix("__param_") {
                match params.entry(name.to_owned()).or_default().first_mut() {
                    Some(first) => first.clone_from(value),
                    None => {
                        params.insert(name.to_owned(), vec![value.clone()]);
                    }
                }
            }
        }
        for (name, values) in &params {
            for value in values {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        Ok(url)
    }
}

impl Settings {
    fn new(job: &config::Job, limits: &ScrapeLimits) -> Result<Self, regex::Error> {
        let or = |own: usize, general: usize| if own == 0 { general } else { own };
        let body_size = match job.body_size_limit {
            0 => limits.body_size,
            own => own,
        };
        Ok(Self {
            job: job.job_name.clone(),
            honor_labels: job.honor_labels.unwrap_or(true),
            honor_timestamps: job.honor_timestamps,
            http: Arc::new(job.http()),
            compression: job.enable_compression,
            body_size: usize::try_from(body_size).unwrap_or(usize::MAX),
            samples: or(job.sample_limit, limits.samples),
            labels: or(job.label_limit, limits.labels),
            label_name_length: or(job.label_name_length_limit, limits.label_name_length),
            label_value_length: or(job.label_value_length_limit, limits.label_value_length),
            metric_relabeling: Relabeling::new(&job.metric_relabel_configs)?,
        })
    }
}

/// A duration that [`duration`] reads back.
fn written(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}

fn duration(labels: &LabelMap, name: &str) -> Result<Duration, String> {
    let text = labels.get(name).map_or("", String::as_str);
    units::parse_duration(text)
        .filter(|it| !it.is_zero())
        .ok_or_else(|| format!("its {name} is {text:?}"))
}
