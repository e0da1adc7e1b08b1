//! Keeps the set of targets up to date with the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::cluster::discovery::{PodDiscovery, PodQuery, Pods};

use super::job::Job;
use super::set::{self, TargetSet, assemble};

/// How long changes are gathered before a new set is made: a rollout changes many pods in a moment.
const SETTLE: Duration = Duration::from_millis(250);

/// How long a set that is there already is kept while the watches of its successor list their pods.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// Publishes the targets of `jobs`, at most `limit`, until `cancel`; then all its watches have ended.
///
/// `client` is needed for jobs that discover pods; without it they have no targets, and that is logged. A set that is in
/// `out` already, from an earlier configuration, stays until the new watches know their pods: a reload stops no scrape
/// that goes on after it.
pub async fn run(
    jobs: Vec<Job>,
    limit: usize,
    client: Option<kube::Client>,
    out: Arc<watch::Sender<Arc<TargetSet>>>,
    cancel: CancellationToken,
) {
    let mut watches = JoinSet::new();
    let mut pods = start(&jobs, client.as_ref(), &mut watches, &cancel);
    let take_over = Instant::now() + TAKE_OVER;
    if !out.borrow().targets.is_empty() {
        for receiver in pods.values_mut() {
            // An error says that the time is over or the watch has ended: then what is known counts.
            let _ = cancel
                .run_until_cancelled(timeout_at(take_over, receiver.changed()))
                .await;
        }
    }
    let mut open: BTreeSet<PodQuery> = pods.keys().cloned().collect();
    while !cancel.is_cancelled() {
        let known: BTreeMap<&PodQuery, Pods> = pods
            .iter_mut()
            .map(|(query, receiver)| (query, receiver.borrow_and_update().clone()))
            .collect();
        let new = assemble(
            &jobs,
            |query| known.get(query).cloned().unwrap_or_default(),
            limit,
        );
        publish(&out, new);
        let ended = tokio::select! {
            () = cancel.cancelled() => break,
            ended = changed(&mut pods, &open) => ended,
        };
        if let Some(query) = ended {
            error!(
                ?query,
                "watch of pods to scrape ended; the pods known so far stay"
            );
            open.remove(&query);
        }
        cancel.run_until_cancelled(sleep(SETTLE)).await;
    }
    while watches.join_next().await.is_some() {}
}

/// Starts one watch for each different query.
fn start(
    jobs: &[Job],
    client: Option<&kube::Client>,
    watches: &mut JoinSet<()>,
    cancel: &CancellationToken,
) -> BTreeMap<PodQuery, watch::Receiver<Pods>> {
    let mut pods = BTreeMap::new();
    for job in jobs {
        for sd in &job.written.kubernetes_sd_configs {
            let Some(client) = client else {
                let job = &job.settings.job;
                warn!(job, "this job discovers pods, but there is no cluster");
                break;
            };
            let query = set::query(sd);
            pods.entry(query.clone()).or_insert_with(|| {
                let (discovery, receiver) = PodDiscovery::new(client.clone(), query);
                watches.spawn(discovery.run(cancel.clone()));
                receiver
            });
        }
    }
    pods
}

/// Waits for a change of any of the `open` queries; `Some` if it is that this one's watch has ended.
async fn changed(
    pods: &mut BTreeMap<PodQuery, watch::Receiver<Pods>>,
    open: &BTreeSet<PodQuery>,
) -> Option<PodQuery> {
    let waits: Vec<_> = pods
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

/// Publishes a set that differs, and says what keeps some targets out of it when that changes.
fn publish(out: &watch::Sender<Arc<TargetSet>>, new: TargetSet) {
    let old = out.borrow().clone();
    if *old == new {
        return;
    }
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
    out.send_replace(Arc::new(new));
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
