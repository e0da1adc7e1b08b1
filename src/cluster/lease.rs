//! Which replica acts: a Lease, as client-go's `tools/leaderelection` takes and renews it.
//!
//! Clocks of other machines are not believed: another's lease has run out when it has not been *seen* to change for as long as
//! it says. Every write names the version that it replaces, so of two replicas that reach for it one gets it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::core::{ObjectMeta, Status};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::request::{RequestError, describe};

/// How long others wait for a renewal before they take the lease (`LeaseDuration`; 15 s in every Kubernetes controller).
const DURATION: Duration = Duration::from_secs(15);

/// For how long after its last renewal a replica acts (`RenewDeadline`). It is shorter, so that one stops before another
/// begins.
const ACTS: Duration = Duration::from_secs(10);

/// How often the lease is renewed, or looked at (`RetryPeriod`).
const PERIOD: Duration = Duration::from_secs(2);

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// The election of one replica among those that share a Lease.
pub struct Election {
    leases: Api<Lease>,
    name: String,
    identity: String,
    /// The lease as it was last read or written, and since when it has looked like that.
    seen: Option<(Lease, Instant)>,
    acts: watch::Sender<Option<Instant>>,
    failing: bool,
}

/// Whether this replica is the one that acts.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<Option<Instant>>);

impl Leadership {
    /// Whether it may act now. It is to be asked before each act.
    pub fn holds(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until that is no longer as it `was`, and gives how it is.
    pub async fn changed(&mut self, was: bool) -> bool {
        // An error says that the election is over.
        if self.0.wait_for(|it| it.is_some() != was).await.is_err() {
            std::future::pending::<()>().await;
        }
        !was
    }
}

impl Election {
    /// An election over the Lease `namespace/name`. `identity` is this process's among the replicas.
    pub fn new(client: Client, namespace: &str, name: &str, identity: String) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity,
            seen: None,
            acts: watch::Sender::new(None),
            failing: false,
        }
    }

    /// Whether this replica acts, now and later.
    pub fn leadership(&self) -> Leadership {
        Leadership(self.acts.subscribe())
    }

    /// Takes part until `cancel`; then the lease is given back, so that another replica need not wait for it.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            let began = Instant::now();
            let round = in_time(self.round());
            match cancel.run_until_cancelled(round).await {
                None => break,
                Some(Ok(outcome)) => {
                    self.report(None);
                    match outcome {
                        Outcome::Held => self.acts(Some(began + ACTS)),
                        Outcome::Others => self.acts(None),
                        Outcome::Raced => {}
                    }
                }
                Some(Err(error)) => self.report(Some(error)),
            }
            let until = *self.acts.borrow();
            if until.is_some_and(|until| until <= Instant::now()) {
                self.acts(None);
            }
            if cancel.run_until_cancelled(sleep(PERIOD)).await.is_none() {
                break;
            }
        }
        let held = self.acts.borrow().is_some();
        self.acts(None);
        if held && let Err(error) = in_time(self.release()).await {
            self.report(Some(error));
        }
    }

    fn acts(&self, until: Option<Instant>) {
        let before = self.acts.send_replace(until);
        if before.is_some() != until.is_some() {
            info!(lease = self.name, leads = until.is_some(), "leader changed");
        }
    }

    /// Logs where failures begin and end.
    fn report(&mut self, error: Option<String>) {
        match &error {
            Some(error) if !self.failing => {
                warn!(lease = self.name, %error, "cannot read or renew the lease");
            }
            None if self.failing => info!(lease = self.name, "lease recovered"),
            _ => {}
        }
        self.failing = error.is_some();
    }

    /// Renews or takes the lease, if that may be done.
    async fn round(&mut self) -> Result<Outcome, RequestError> {
        // What was written last is renewed without being read again; where another has written since, that is told.
        let lease = match &self.seen {
            Some((lease, _)) if self.is_ours(lease) => lease.clone(),
            _ => match self.leases.get_opt(&self.name).await? {
                Some(lease) => lease,
                None => {
                    let lease = self.renewed(Lease {
                        metadata: ObjectMeta {
                            name: Some(self.name.clone()),
                            ..ObjectMeta::default()
                        },
                        spec: None,
                    });
                    let created = self.leases.create(&PostParams::default(), &lease).await;
                    return self.written(created);
                }
            },
        };
        let version = &lease.metadata.resource_version;
        let since = match &self.seen {
            Some((seen, since)) if seen.metadata.resource_version == *version => *since,
            _ => Instant::now(),
        };
        self.seen = Some((lease.clone(), since));
        let free = holder(&lease).is_empty() || since.elapsed() >= duration(&lease);
        if !self.is_ours(&lease) && !free {
            return Ok(Outcome::Others);
        }
        let renewed = self.renewed(lease);
        let params = PostParams::default();
        let replaced = self.leases.replace(&self.name, &params, &renewed).await;
        self.written(replaced)
    }

    fn written(&mut self, answer: kube::Result<Lease>) -> Result<Outcome, RequestError> {
        match answer {
            Ok(lease) => {
                self.seen = Some((lease, Instant::now()));
                Ok(Outcome::Held)
            }
            Err(kube::Error::Api(status)) if is_race(&status) => {
                self.seen = None;
                Ok(Outcome::Raced)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The lease with us as its holder, from now on.
    fn renewed(&self, mut lease: Lease) -> Lease {
        let now = MicroTime(Timestamp::now());
        let ours = self.is_ours(&lease);
        let transitions = match &lease.spec {
            None => 0,
            Some(spec) => spec.lease_transitions.unwrap_or(0).saturating_add(1),
        };
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if !ours {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(transitions);
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        lease
    }

    /// As client-go does it (`LeaderElector.release`): no holder, for a second.
    async fn release(&mut self) -> Result<(), RequestError> {
        let Some((mut lease, _)) = self.seen.take().filter(|(lease, _)| self.is_ours(lease)) else {
            return Ok(());
        };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        let params = PostParams::default();
        match self.leases.replace(&self.name, &params, &lease).await {
            Err(kube::Error::Api(status)) if is_race(&status) => Ok(()),
            answer => Ok(answer.map(|_| ())?),
        }
    }

    fn is_ours(&self, lease: &Lease) -> bool {
        holder(lease) == self.identity
    }
}

/// What came of it, or in words why there is no answer.
async fn in_time<T>(work: impl Future<Output = Result<T, RequestError>>) -> Result<T, String> {
    match timeout(PATIENCE, work).await {
        Ok(answer) => answer.map_err(|error| describe(&error)),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}

/// What came of a round.
enum Outcome {
    /// The lease is ours.
    Held,
    /// Another has it.
    Others,
    /// Another wrote it in between; whose it is shows the next time.
    Raced,
}

fn holder(lease: &Lease) -> &str {
    let holder = lease
        .spec
        .as_ref()
        .and_then(|it| it.holder_identity.as_deref());
    holder.unwrap_or_default()
}

fn duration(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|it| it.lease_duration_seconds);
    let seconds = seconds.and_then(|it| u64::try_from(it).ok());
    seconds.map_or(DURATION, Duration::from_secs)
}

fn is_race(status: &Status) -> bool {
    status.is_conflict() || status.is_already_exists() || status.is_not_found()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::fake_api::{Answer, FakeApi, soon};

    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/us/leases";

    struct Replica {
        leadership: Leadership,
        cancel: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    fn replica(api: &FakeApi, identity: &str) -> Replica {
        let election = Election::new(api.client(), "us", "schedules", identity.to_owned());
        let (leadership, cancel) = (election.leadership(), CancellationToken::new());
        let task = tokio::spawn(election.run(cancel.clone()));
        Replica {
            leadership,
            cancel,
            task,
        }
    }

    fn holder_of(api: &FakeApi) -> Option<String> {
        let lease = api.get(LEASES, "us/schedules")?;
        Some(lease["spec"]["holderIdentity"].as_str()?.to_owned())
    }

    #[tokio::test]
    async fn one_replica_acts_and_the_other_when_it_is_gone() {
        let api = FakeApi::start().await;
        let first = replica(&api, "first");
        soon("a leader", || first.leadership.holds()).await;
        let second = replica(&api, "second");
        soon("the other to look", || {
            let looked = |it: &String| it.starts_with("GET") && it.contains(LEASES);
            api.requests().iter().filter(|it| looked(it)).count() >= 2
        })
        .await;
        assert!(!second.leadership.holds());
        first.cancel.cancel();
        first.task.await.expect("no panic");
        assert!(!first.leadership.holds());
        assert_eq!(holder_of(&api).as_deref(), Some(""));
        soon("the other to act", || second.leadership.holds()).await;
        assert_eq!(holder_of(&api).as_deref(), Some("second"));
    }

    #[tokio::test]
    async fn a_lease_that_another_renews_is_left_to_it_whatever_its_clock_says() {
        let api = FakeApi::start().await;
        let spec = json!({"holderIdentity": "other", "leaseDurationSeconds": 3, "renewTime": "2001-01-01T00:00:00.000000Z"});
        let lease = json!({"metadata": {"namespace": "us", "name": "schedules"}, "spec": spec});
        api.put(LEASES, lease.clone());
        let replica = replica(&api, "late");
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            api.put(LEASES, lease.clone());
            assert!(!replica.leadership.holds());
            sleep(Duration::from_millis(500)).await;
        }
        // It is renewed no more, so it runs out.
        soon("the lease to run out", || replica.leadership.holds()).await;
        let lease = api.get(LEASES, "us/schedules").expect("a lease");
        assert_eq!(lease["spec"]["leaseTransitions"], 1);
    }

    #[tokio::test]
    async fn one_that_is_overtaken_stops_and_one_that_cannot_renew_soon_does() {
        let api = FakeApi::start().await;
        let replica = replica(&api, "first");
        soon("a leader", || replica.leadership.holds()).await;
        let mut lease = api.get(LEASES, "us/schedules").expect("a lease");
        api.answer(
            &format!("{LEASES}/schedules"),
            Answer::Status(500, "InternalError"),
            2,
        );
        lease["spec"]["holderIdentity"] = json!("thief");
        api.put(LEASES, lease);
        // Two failures leave it leading, for its time is not over.
        assert!(replica.leadership.holds());
        let mut leadership = replica.leadership.clone();
        timeout(Duration::from_secs(10), leadership.changed(true))
            .await
            .expect("the loss is told");
        assert_eq!(holder_of(&api).as_deref(), Some("thief"));
    }
}
