//! From jobs, and what is found for them, to the set of targets: one pure step.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cluster::discovery::{Discovered, Kind, Objects, Query};
use crate::config::scrape::{KubernetesSd, Role, SelectorRole};

use super::files::Files;
use super::job::{Job, Target};
use super::relabel::{LabelMap, set};
use super::slices::{self, Around};
use super::{nodes, pods};

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
    pub(super) origins: Origins,
}

/// What a set was made of. Two sets of the same targets are the same, whatever they were made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins {
    pub(super) objects: BTreeMap<Query, Objects>,
    pub(super) files: Arc<Mutex<Files>>,
}

impl PartialEq for Origins {
    fn eq(&self, _: &Self) -> bool {
        true
    }
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

/// The targets of these jobs, in which `objects` says what a query has found, and no file is read. There are at most `limit`.
pub fn assemble(jobs: &[Job], objects: impl Fn(&Query) -> Objects, limit: usize) -> TargetSet {
    let files = &Files::default();
    assemble_found(jobs, &Found { objects, files }, limit)
}

/// What there is to make targets of.
pub(super) struct Found<'a, F> {
    /// What a query has found.
    pub(super) objects: F,
    /// What the files say.
    pub(super) files: &'a Files,
}

/// The targets of these jobs. There are at most `limit`.
pub(super) fn assemble_found<F: Fn(&Query) -> Objects>(
    jobs: &[Job],
    found: &Found<'_, F>,
    limit: usize,
) -> TargetSet {
    let mut set = TargetSet::default();
    let mut earlier_urls = HashSet::new();
    for job in jobs {
        // Each with whether it is the port that its candidate was for.
        let mut targets: Vec<(Target, bool)> = Vec::new();
        for (candidate, object) in candidates(job, found) {
            let address = candidate.get("__address__").cloned();
            match job.target(candidate, object.clone()) {
                Ok(Some(target)) => {
                    let own = address.as_deref() == Some(target.labels.value("instance"));
                    targets.push((target, own));
                }
                Ok(None) => set.dropped += 1,
                Err(reason) => set.fault(job, object.or(address).unwrap_or_default(), reason),
            }
        }
        for sd in &job.written.file_sd_configs {
            for (what, reason) in found.files.faults(sd) {
                set.fault(job, what, reason);
            }
        }
        targets.sort_by(|(a, own_a), (b, own_b)| {
            (&a.url, !own_a, &a.labels).cmp(&(&b.url, !own_b, &b.labels))
        });
        if job.preset {
            // A preset reads a page once, whoever leads to it.
            let before = targets.len();
            targets.dedup_by(|(a, _), (b, _)| a.url == b.url);
            targets.retain(|(target, _)| !earlier_urls.contains(&target.url));
            set.dropped += before - targets.len();
        } else {
            targets.sort_by(|(a, _), (b, _)| (&a.url, &a.labels).cmp(&(&b.url, &b.labels)));
            targets.dedup_by(|(a, _), (b, _)| (&a.url, &a.labels) == (&b.url, &b.labels));
        }
        let targets: Vec<Target> = targets.into_iter().map(|(target, _)| target).collect();
        earlier_urls.extend(targets.iter().map(|target| target.url.clone()));
        set.take(targets, job.written.target_limit, limit);
    }
    set
}

impl TargetSet {
    /// The targets with their labels before the rules of `jobs`, made anew of what is known now. There may be more than in the
    /// set: limits are not looked at, and a preset's page that is there already.
    pub fn discovered(&self, jobs: &[Job]) -> Vec<(Target, LabelMap)> {
        let (objects, files) = (&self.origins.objects, self.origins.files.lock());
        let found = Found {
            objects: |query: &Query| objects.get(query).cloned().unwrap_or_default(),
            files: &files,
        };
        let mut all = Vec::new();
        for job in jobs {
            for (candidate, object) in candidates(job, &found) {
                let labels = job.discovered(candidate);
                if let Ok(Some(target)) = job.relabelled(labels.clone(), object) {
                    all.push((target, labels));
                }
            }
        }
        all
    }

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

/// All that a job may scrape, before its rules, each with the object behind it.
fn candidates<F: Fn(&Query) -> Objects>(
    job: &Job,
    found: &Found<'_, F>,
) -> Vec<(LabelMap, Option<String>)> {
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
    for sd in &job.written.file_sd_configs {
        let labels = found.files.candidates(sd).into_iter();
        all.extend(labels.map(|labels| (labels, None)));
    }
    for sd in &job.written.kubernetes_sd_configs {
        in_cluster(sd, &found.objects, &mut all);
    }
    all
}

fn in_cluster(
    sd: &KubernetesSd,
    objects: impl Fn(&Query) -> Objects,
    all: &mut Vec<(LabelMap, Option<String>)>,
) {
    let main = objects(&query(sd, sd.role.into()));
    let (pods, services) = match sd.role {
        Role::EndpointSlice => (
            objects(&query(sd, SelectorRole::Pod)),
            objects(&query(sd, SelectorRole::Service)),
        ),
        Role::Pod | Role::Node => Default::default(),
    };
    let around = Around::new(&pods, &services);
    for object in main.iter() {
        let (kind, labels) = match &**object {
            Discovered::Pod(pod) => ("pod", pods::candidates(pod)),
            Discovered::Node(node) => ("node", nodes::candidates(node)),
            Discovered::Slice(slice) => ("endpointslice", slices::candidates(slice, &around)),
            Discovered::Service(_) => continue,
        };
        let metadata = object.metadata();
        let name = match metadata.namespace.as_str() {
            "" => format!("{kind} {}", metadata.name),
            namespace => format!("{kind} {namespace}/{}", metadata.name),
        };
        let named = |labels| (labels, Some(name.clone()));
        all.extend(labels.into_iter().map(named));
    }
}

/// What the API server is asked for on behalf of `sd`.
pub(super) fn queries(sd: &KubernetesSd) -> Vec<Query> {
    let roles: &[SelectorRole] = match sd.role {
        Role::Pod => &[SelectorRole::Pod],
        Role::Node => &[SelectorRole::Node],
        Role::EndpointSlice => &[
            SelectorRole::EndpointSlice,
            SelectorRole::Pod,
            SelectorRole::Service,
        ],
    };
    roles.iter().map(|role| query(sd, *role)).collect()
}

fn query(sd: &KubernetesSd, role: SelectorRole) -> Query {
    let selector = sd.selectors.iter().find(|it| it.role == role);
    let kind = match role {
        SelectorRole::Pod => Kind::Pod,
        SelectorRole::Node => Kind::Node,
        SelectorRole::EndpointSlice => Kind::EndpointSlice,
        SelectorRole::Service => Kind::Service,
    };
    let namespaces = match kind {
        Kind::Node => Vec::new(),
        _ => sd.namespaces.names.clone(),
    };
    Query {
        kind,
        namespaces,
        label_selector: selector.and_then(|it| it.label.clone()),
        field_selector: selector.and_then(|it| it.field.clone()),
        annotated: sd.annotated.clone(),
    }
}

#[cfg(test)]
mod tests;
