//! The `scrape:` section of the configuration: Prometheus's own syntax for scrape jobs, under our own limits.
//!
//! Plain values as the file has them. What they mean is the business of [`crate::targets`] and [`crate::scrape`].

mod discovery;
pub mod http;
mod job;
mod kubelet;
mod refused;
mod relabel;
pub mod units;

use std::time::Duration;

use serde::Deserialize;

pub use super::Fault;
pub use discovery::{
    FileSd, KubernetesSd, Namespaces, Role, RoleSelector, SelectorRole, StaticTargets,
};
pub use job::{Job, Scheme};
pub use kubelet::KubeletOptions;
pub use relabel::{Action, Relabel, anchored};

/// What to scrape, how often, and within which bounds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScrapeConfig {
    /// How often targets are scraped, unless their job says otherwise. Default `15s`.
    #[serde(deserialize_with = "units::duration")]
    pub interval: Duration,
    /// How long one scrape may take, unless the job says otherwise. Default `10s`; never more than the interval.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// Jobs that come with this program, by name. Default: all of them. A preset leaves out a URL that one of
    /// `scrape_configs`, or a preset before it, scrapes already.
    pub presets: Vec<Preset>,
    /// Where the preset dcgm-exporter looks for exporters. Default: in all namespaces. Whoever may create pods there decides what the GPUs
    /// of all namespaces are said to do, since an exporter names the pods it tells of: name the exporters' own namespaces
    /// where tenants are not trusted.
    pub preset_namespaces: Vec<String>,
    /// Which metrics are kept of the exporters that the presets find: `needed` (the default), those that a rule's
    /// `seriesQuery`, `seriesFilters` and `name` let through and those that its `metricsQuery` names; or `all`.
    pub keep: Keep,
    /// How the preset kubelet reaches kubelets.
    pub kubelet: KubeletOptions,
    /// Jobs in Prometheus's syntax (`scrape_configs` of a `prometheus.yml`).
    pub scrape_configs: Vec<Job>,
    /// Bounds on what scraping may cost.
    pub limits: ScrapeLimits,
}

impl Default for ScrapeConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(15),
            timeout: Duration::from_secs(10),
            presets: Preset::ALL.to_vec(),
            preset_namespaces: Vec::new(),
            keep: Keep::Needed,
            kubelet: KubeletOptions::default(),
            scrape_configs: Vec::new(),
            limits: ScrapeLimits::default(),
        }
    }
}

/// Which metrics of a page are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Those that some rule needs. The lines of others are passed over unread.
    Needed,
    /// All that `metric_relabel_configs` leave.
    All,
}

/// A job that comes with this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Preset {
    /// NVIDIA's dcgm-exporter (its Helm chart, the GPU operator) and Alibaba's exporter, which speaks the same.
    DcgmExporter,
    /// The CPU and memory of containers, as every node's kubelet tells it.
    Kubelet,
    /// vLLM, SGLang, TGI, Triton and NIM, in pods that KServe labels or that ask to be scraped.
    InferencePods,
}

impl Preset {
    /// All of them, in the order of their jobs.
    pub const ALL: [Self; 3] = [Self::DcgmExporter, Self::Kubelet, Self::InferencePods];

    /// Its name, which is the name of its job.
    pub fn name(self) -> &'static str {
        match self {
            Self::DcgmExporter => "dcgm-exporter",
            Self::Kubelet => "kubelet",
            Self::InferencePods => "inference-pods",
        }
    }
}

impl TryFrom<String> for Preset {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|it| it.name() == name);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no preset {name:?}; there are {names}")
        })
    }
}

/// Bounds that hold for every target. A job's own limit replaces the one here for its targets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScrapeLimits {
    /// Most scrapes at one time; the others wait for their turn. Default 1000.
    pub concurrency: usize,
    /// Most memory for the pages being read, of all scrapes together: one half for pages of up to 256 KB, one for larger
    /// ones. Default `256MB`.
    #[serde(deserialize_with = "units::size")]
    pub buffers: u64,
    /// Most targets of all jobs together. Default 20000.
    pub targets: usize,
    /// Largest page, both as sent and decompressed; a larger one fails the scrape. Default `16MB`.
    #[serde(deserialize_with = "units::size")]
    pub body_size: u64,
    /// Most samples of one scrape after `metric_relabel_configs`; more fail the scrape. Default 50000.
    pub samples: usize,
    /// Most labels of a sample; one with more is dropped. Default 64.
    pub labels: usize,
    /// Longest label name in bytes; a sample with a longer one is dropped. Default 256.
    pub label_name_length: usize,
    /// Longest label value in bytes; a sample with a longer one is dropped. Default 2048.
    pub label_value_length: usize,
}

impl Default for ScrapeLimits {
    fn default() -> Self {
        Self {
            concurrency: 1_000,
            buffers: 256 << 20,
            targets: 20_000,
            body_size: 16 << 20,
            samples: 50_000,
            labels: 64,
            label_name_length: 256,
            label_value_length: 2_048,
        }
    }
}

impl ScrapeConfig {
    /// All that is wrong with these values, in the order of the file.
    pub fn validate(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (path, zero) in [
            ("interval", self.interval.is_zero()),
            ("timeout", self.timeout.is_zero()),
            ("limits.concurrency", self.limits.concurrency == 0),
            ("limits.buffers", self.limits.buffers == 0),
            ("limits.targets", self.limits.targets == 0),
            ("limits.body_size", self.limits.body_size == 0),
            ("limits.samples", self.limits.samples == 0),
            ("limits.labels", self.limits.labels == 0),
            (
                "limits.label_name_length",
                self.limits.label_name_length == 0,
            ),
            (
                "limits.label_value_length",
                self.limits.label_value_length == 0,
            ),
        ] {
            if zero {
                faults.push(Fault::new(path, "must be more than 0"));
            }
        }
        let buffers = self.limits.buffers;
        if self.limits.body_size > buffers / 2 {
            let message = format!("is more than half of limits.buffers ({buffers} bytes)");
            faults.push(Fault::new("limits.body_size", message));
        }
        self.kubelet.validate(self, &mut faults);
        for (index, job) in self.scrape_configs.iter().enumerate() {
            let path = format!("scrape_configs[{index}]");
            job.validate(self, &path, &mut faults);
            let before = &self.scrape_configs[..index];
            if before.iter().any(|other| other.job_name == job.job_name)
                || self.presets.iter().any(|it| it.name() == job.job_name)
            {
                let message = format!("another job is called {:?} too", job.job_name);
                faults.push(Fault::new(format!("{path}.job_name"), message));
            }
        }
        faults
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
