//! From jobs and pods to the set of targets: one pure step.

use std::collections::HashSet;
use std::sync::Arc;

use crate::cluster::discovery::{PodQuery, Pods};
use crate::config::scrape::KubernetesSd;

use super::job::{Job, Target};
use super::pods;
use super::relabel::{LabelMap, set};

/// Most faults that a set lists; [`TargetSet::faulty`] counts all.
const FAULTS: usize = 20;

/// All targets at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetSet {
    /// The targets, job by job, in the order of their URLs.
    pub targets: Vec<Arc<Target>>,
    /// Candidates that a job's rules dropped, or a preset left to a written job.
    pub dropped: usize,
    /// Targets beyond a `target_limit` or `limits.targets`.
    pub over_limit: usize,
    /// Candidates that cannot be scraped.
    pub faulty: usize,
    /// Why, for the first of them.
    pub faults: Vec<TargetFault>,
}

/// Why something found is no target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFault {
    /// The job that it would belong to.
    pub job: String,
    /// The object or address.
    pub what: String,
    /// The reason.
    pub reason: String,
}

/// The targets of these jobs, in which `pods` says what a query has found. There are at most `limit`.
pub fn assemble(jobs: &[Job], pods: impl Fn(&PodQuery) -> Pods, limit: usize) -> TargetSet {
    let mut found = TargetSet::default();
    let mut written_urls = HashSet::new();
    for job in jobs {
        let mut targets: Vec<Target> = Vec::new();
        for (candidate, object) in candidates(job, &pods) {
            let what = object
                .clone()
                .or_else(|| candidate.get("__address__").cloned());
            match job.target(candidate, object) {
                Ok(Some(target)) => targets.push(target),
                Ok(None) => found.dropped += 1,
                Err(reason) => found.fault(job, what.unwrap_or_default(), reason),
            }
        }
        targets.sort_by(|a, b| (&a.url, &a.labels).cmp(&(&b.url, &b.labels)));
        targets.dedup_by(|a, b| (&a.url, &a.labels) == (&b.url, &b.labels));
        if job.preset {
            let before = targets.len();
            targets.retain(|target| !written_urls.contains(&target.url));
            found.dropped += before - targets.len();
        } else {
            written_urls.extend(targets.iter().map(|target| target.url.clone()));
        }
        found.take(targets, job.written.target_limit, limit);
    }
    found
}

impl TargetSet {
    fn fault(&mut self, job: &Job, what: String, reason: String) {
        self.faulty += 1;
        if self.faults.len() < FAULTS {
            let job = job.settings.job.clone();
            self.faults.push(TargetFault { job, what, reason });
        }
    }

    fn take(&mut self, mut targets: Vec<Target>, job_limit: usize, limit: usize) {
        let room = limit - self.targets.len();
        let most = if job_limit == 0 {
            room
        } else {
            room.min(job_limit)
        };
        self.over_limit += targets.len().saturating_sub(most);
        targets.truncate(most);
        self.targets.extend(targets.into_iter().map(Arc::new));
    }
}

/// All that a job may scrape, before its rules.
fn candidates(job: &Job, pods: impl Fn(&PodQuery) -> Pods) -> Vec<(LabelMap, Option<String>)> {
    let mut all = Vec::new();
    for group in &job.written.static_configs {
        for address in &group.targets {
            let mut labels = LabelMap::new();
            for (name, value) in &group.labels {
                set(&mut labels, name, value);
            }
            set(&mut labels, "__address__", address);
            all.push((labels, None));
        }
    }
    for sd in &job.written.kubernetes_sd_configs {
        for pod in pods(&query(sd)).iter() {
            let object = format!("pod {}/{}", pod.namespace, pod.name);
            let labels = pods::candidates(pod).into_iter();
            all.extend(labels.map(|labels| (labels, Some(object.clone()))));
        }
    }
    all
}

/// What the API server is asked for on behalf of `sd`.
pub(super) fn query(sd: &KubernetesSd) -> PodQuery {
    let selector = sd.selectors.first();
    PodQuery {
        namespaces: sd.namespaces.names.clone(),
        label_selector: selector.and_then(|it| it.label.clone()),
        field_selector: selector.and_then(|it| it.field.clone()),
    }
}

#[cfg(test)]
mod tests;
