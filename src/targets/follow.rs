//! Keeps the set of targets up to date with the cluster and with files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::cluster::discovery::{Discovery, Objects, Query};

use super::files::Files;
use super::job::Job;
use super::set::{self, Found, Origins, TargetSet, assemble_found};

/// How long changes are gathered before a new set is made: a rollout changes many pods in a moment.
const SETTLE: Duration = Duration::from_millis(250);

/// How long a set that is there already is kept while the watches of its successor list their objects.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// Publishes the targets of `jobs`, at most `limit`, until `cancel`; then all its watches have ended.
///
/// `client` is needed for jobs that discover objects of the cluster; without it they have no targets, and that is logged. A set that is in
/// `out` already, from an earlier configuration, stays until the new watches know their objects: a reload stops no scrape
/// that goes on after it.
pub async fn run(
    jobs: Vec<Job>,
    limit: usize,
    client: Option<kube::Client>,
    out: Arc<watch::Sender<Arc<TargetSet>>>,
    cancel: CancellationToken,
) {
    let mut watches = JoinSet::new();
    let mut watched = start(&jobs, client.as_ref(), &mut watches, &cancel);
    let sds = jobs.iter().flat_map(|job| &job.written.file_sd_configs);
    let files = Arc::new(Mutex::new(Files::new(sds)));
    let every = files.lock().every();
    read(&files, every).await;
    let mut look_at = every.map(|every| Instant::now() + every);
    let take_over = Instant::now() + TAKE_OVER;
    if !out.borrow().targets.is_empty() {
        for receiver in watched.values_mut() {
            // An error says that the time is over or the watch has ended: then what is known counts.
            let _ = cancel
                .run_until_cancelled(timeout_at(take_over, receiver.changed()))
                .await;
        }
    }
    let mut open: BTreeSet<Query> = watched.keys().cloned().collect();
    while !cancel.is_cancelled() {
        let known: BTreeMap<&Query, Objects> = watched
            .iter_mut()
            .map(|(query, receiver)| (query, receiver.borrow_and_update().clone()))
            .collect();
        let mut new = assemble_found(
            &jobs,
            &Found {
                objects: |query: &Query| known.get(query).cloned().unwrap_or_default(),
                files: &files.lock(),
            },
            limit,
        );
        new.origins = Origins {
            objects: known
                .into_iter()
                .map(|(it, objects)| (it.clone(), objects))
                .collect(),
            files: Arc::clone(&files),
        };
        publish(&out, new);
        let ended = loop {
            tokio::select! {
                () = cancel.cancelled() => break None,
                ended = changed(&mut watched, &open) => break ended,
                () = until(look_at) => {
                    let differ = read(&files, every).await;
                    look_at = every.map(|every| Instant::now() + every);
                    if differ {
                        break None;
                    }
                }
            }
        };
        if let Some(query) = ended {
            error!(
                ?query,
                "watch of objects to scrape ended; those known so far stay"
            );
            open.remove(&query);
        }
        cancel.run_until_cancelled(sleep(SETTLE)).await;
    }
    while watches.join_next().await.is_some() {}
}

/// Waits for this time; for ever where there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Reads the files, if there are any, where waiting for the disk holds up nothing else; says whether they differ.
async fn read(files: &Arc<Mutex<Files>>, every: Option<Duration>) -> bool {
    if every.is_none() {
        return false;
    }
    let files = Arc::clone(files);
    // Only a panic is an error here: then what was known stays.
    tokio::task::spawn_blocking(move || files.lock().read())
        .await
        .unwrap_or(false)
}

/// Starts one watch for each different query.
fn start(
    jobs: &[Job],
    client: Option<&kube::Client>,
    watches: &mut JoinSet<()>,
    cancel: &CancellationToken,
) -> BTreeMap<Query, watch::Receiver<Objects>> {
    let mut watched = BTreeMap::new();
    for job in jobs {
        for sd in &job.written.kubernetes_sd_configs {
            let Some(client) = client else {
                let job = &job.settings.job;
                warn!(
                    job,
                    "this job discovers objects of a cluster, and there is none"
                );
                break;
            };
            for query in set::queries(sd) {
                watched.entry(query.clone()).or_insert_with(|| {
                    let (discovery, receiver) = Discovery::new(client.clone(), query);
                    watches.spawn(discovery.run(cancel.clone()));
                    receiver
                });
            }
        }
    }
    watched
}

/// Waits for a change of any of the `open` queries; `Some` if it is that this one's watch has ended.
async fn changed(
    watched: &mut BTreeMap<Query, watch::Receiver<Objects>>,
    open: &BTreeSet<Query>,
) -> Option<Query> {
    let waits: Vec<_> = watched
        .iter_mut()
        .filter(|(query, _)| open.contains(query))
        .map(|(query, receiver)| {
            Box::pin(async move { receiver.changed().await.err().map(|_| query.clone()) })
        })
        .collect();
    if waits.is_empty() {
        return std::future::pending().await;
    }
    select_all(waits).await.0
}

/// Publishes a set, tells those who wait if it differs, and says what keeps some targets out of it when that changes.
fn publish(out: &watch::Sender<Arc<TargetSet>>, new: TargetSet) {
    let (old, new) = (out.borrow().clone(), Arc::new(new));
    out.send_if_modified(|set| {
        *set = Arc::clone(&new);
        old != new
    });
    if new.over_limit > 0 && old.over_limit == 0 {
        warn!(
            left_out = new.over_limit,
            "more targets than the limits allow"
        );
    }
    if new.faults != old.faults {
        for fault in &new.faults {
            let (job, what, reason) = (&fault.job, &fault.what, &fault.reason);
            warn!(job, what, reason, "this cannot be scraped");
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::targets::compile;

    #[tokio::test(start_paused = true)]
    async fn without_a_cluster_the_static_targets_are_there_at_once() {
        let text = "{presets: [dcgm-exporter], scrape_configs: [{job_name: a, static_configs: [{targets: ['127.0.0.1:1']}]}]}";
        let jobs = compile(&serde_saphyr::from_str(text).unwrap()).unwrap();
        let (out, mut sets) = watch::channel(Arc::default());
        let cancel = CancellationToken::new();
        let run = tokio::spawn(run(jobs, 10, None, Arc::new(out), cancel.clone()));
        let targets = sets
            .wait_for(|set| !set.targets.is_empty())
            .await
            .unwrap()
            .clone();
        assert_eq!(
            targets.targets[0].url.as_str(),
            "http://127.0.0.1:1/metrics"
        );
        cancel.cancel();
        run.await.unwrap();
    }
}
