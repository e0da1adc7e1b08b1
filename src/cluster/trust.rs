//! The ConfigMap in which kube-apiserver says whom an aggregated API server is to trust.
//!
//! `kube-system/extension-apiserver-authentication` holds the CAs of clients and of the front proxy, and the proxy's
//! header names. It comes seconds after the API server is ready and changes when a CA is rotated.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::Event;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::follow::{Follow, Health, named};

/// Where the ConfigMap is.
pub const NAMESPACE: &str = "kube-system";
/// What it is called.
pub const NAME: &str = "extension-apiserver-authentication";

/// The ConfigMap's data: keys such as `client-ca-file`, each with a PEM bundle or a JSON list.
pub type TrustMap = BTreeMap<String, String>;

/// The trust ConfigMap, as last known.
#[derive(Clone, Debug)]
pub struct Trust {
    data: watch::Receiver<Option<TrustMap>>,
    presence: watch::Receiver<Presence>,
    health: watch::Receiver<Health>,
}

/// What became of the ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustState {
    /// The API server has not answered yet.
    Unknown,
    /// It is there, and what is known of it is current.
    Present,
    /// There is none: kube-apiserver runs without request-header authentication, or has only just started.
    Missing,
    /// We may not read it: the RoleBinding to `extension-apiserver-authentication-reader` in `kube-system` is missing.
    Forbidden(String),
    /// The API server cannot be reached; what is known may be old.
    Failing(String),
}

/// Why it is not known whom to trust. The watch goes on, and may learn it later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The RoleBinding is missing. Go's servers exit, unless `--authentication-tolerate-lookup-failure` is given.
    #[error(
        "may not read the ConfigMap {NAMESPACE}/{NAME}: bind the Role extension-apiserver-authentication-reader in {NAMESPACE} to this ServiceAccount ({0})"
    )]
    Forbidden(String),
    /// The API server has not answered.
    #[error("cannot read the ConfigMap {NAMESPACE}/{NAME}: {0}")]
    Unreachable(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Unknown,
    Present,
    Missing,
}

/// The watch that keeps a [`Trust`] current; it does nothing until it is run.
pub struct TrustWatch {
    follow: Follow<ConfigMap>,
    data: watch::Sender<Option<TrustMap>>,
    presence: watch::Sender<Presence>,
}

/// The trust ConfigMap and the watch of it.
pub fn watch_trust(client: Client) -> (Trust, TrustWatch) {
    let api = Api::namespaced(client, NAMESPACE);
    let watch = TrustWatch {
        follow: Follow::new(format!("configmap {NAMESPACE}/{NAME}"), api, named(NAME)),
        data: watch::Sender::new(None),
        presence: watch::Sender::new(Presence::Unknown),
    };
    let trust = Trust {
        data: watch.data.subscribe(),
        presence: watch.presence.subscribe(),
        health: watch.follow.health(),
    };
    (trust, watch)
}

impl Trust {
    /// The data, now and after each change; `None` until it is first seen.
    pub fn data(&self) -> watch::Receiver<Option<TrustMap>> {
        self.data.clone()
    }

    /// Where it stands now.
    pub fn state(&self) -> TrustState {
        match &*self.health.borrow() {
            Health::Failing {
                forbidden: true,
                error,
                ..
            } => return TrustState::Forbidden(error.clone()),
            Health::Failing { error, .. } => return TrustState::Failing(error.clone()),
            Health::Starting | Health::Live => {}
        }
        match *self.presence.borrow() {
            Presence::Unknown => TrustState::Unknown,
            Presence::Present => TrustState::Present,
            Presence::Missing => TrustState::Missing,
        }
    }

    /// The data as soon as it is there. `Ok(None)`: the API server says that there is none, even after `patience`;
    /// then only tokens and anonymous requests can be authenticated.
    ///
    /// # Errors
    /// After `patience`, why it is not known.
    pub async fn first(&self, patience: Duration) -> Result<Option<TrustMap>, TrustError> {
        let mut data = self.data.clone();
        if let Ok(Ok(map)) = timeout(patience, data.wait_for(Option::is_some)).await {
            return Ok(map.clone());
        }
        match self.state() {
            TrustState::Forbidden(error) => Err(TrustError::Forbidden(error)),
            TrustState::Failing(error) => Err(TrustError::Unreachable(error)),
            TrustState::Unknown => Err(TrustError::Unreachable("no answer yet".to_owned())),
            TrustState::Missing | TrustState::Present => Ok(self.data.borrow().clone()),
        }
    }
}

impl TrustWatch {
    /// Watches until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut listed = None;
        while let Some(event) = cancel.run_until_cancelled(self.follow.next()).await {
            match event {
                Event::Init => listed = None,
                Event::InitApply(map) => listed = Some(map),
                Event::InitDone => self.learn(listed.take()),
                Event::Apply(map) => self.learn(Some(map)),
                Event::Delete(_) => self.learn(None),
            }
        }
    }

    /// A deleted ConfigMap leaves the last trust in force, as in Go's servers
    /// (`apiserver/pkg/authentication/request/headerrequest/requestheader_controller.go`): kube-apiserver puts it back
    /// within a minute, and until then nobody should be locked out.
    fn learn(&self, map: Option<ConfigMap>) {
        let presence = match &map {
            Some(_) => Presence::Present,
            None => Presence::Missing,
        };
        if let Some(map) = map {
            let new = Some(map.data.unwrap_or_default());
            self.data.send_if_modified(|known| {
                let changed = *known != new;
                *known = new;
                changed
            });
        }
        let before = self.presence.send_replace(presence);
        if presence == Presence::Missing && before != Presence::Missing {
            warn!(
                configmap = NAME,
                namespace = NAMESPACE,
                "the trust ConfigMap is missing; what was known of it stays"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::fake_api::{Answer, FakeApi, soon};

    const MAPS: &str = "/api/v1/namespaces/kube-system/configmaps";
    const PATIENCE: Duration = Duration::from_secs(10);

    fn map(ca: &str) -> serde_json::Value {
        json!({"metadata": {"namespace": NAMESPACE, "name": NAME}, "data": {"client-ca-file": ca}})
    }

    fn watching(api: &FakeApi) -> (Trust, CancellationToken) {
        let (trust, watch) = watch_trust(api.client());
        let cancel = CancellationToken::new();
        tokio::spawn(watch.run(cancel.clone()));
        (trust, cancel)
    }

    fn ca(trust: &Trust) -> Option<String> {
        trust
            .data()
            .borrow()
            .as_ref()
            .and_then(|map| map.get("client-ca-file").cloned())
    }

    #[tokio::test]
    async fn it_is_taken_up_when_it_comes_late_and_when_it_changes() {
        let api = FakeApi::start().await;
        let (trust, cancel) = watching(&api);
        soon("the empty list", || trust.state() == TrustState::Missing).await;
        assert_eq!(trust.first(Duration::from_millis(10)).await, Ok(None));
        api.put(MAPS, map("one"));
        let first = trust.first(PATIENCE).await.expect("readable");
        assert_eq!(first.expect("present")["client-ca-file"], "one");
        api.put(MAPS, map("two"));
        soon("the rotation", || ca(&trust).as_deref() == Some("two")).await;
        assert_eq!(trust.state(), TrustState::Present);
        assert!(
            api.requests()
                .iter()
                .all(|r| r.contains(&format!("fieldSelector=metadata.name%3D{NAME}"))),
            "{:?}",
            api.requests()
        );
        cancel.cancel();
    }

    #[tokio::test]
    async fn deleting_it_locks_nobody_out() {
        let api = FakeApi::start().await;
        api.put(MAPS, map("one"));
        let (trust, cancel) = watching(&api);
        trust.first(PATIENCE).await.expect("readable");
        api.delete(MAPS, &format!("{NAMESPACE}/{NAME}"));
        soon("the deletion", || trust.state() == TrustState::Missing).await;
        assert_eq!(ca(&trust).as_deref(), Some("one"));
        cancel.cancel();
    }

    #[tokio::test]
    async fn a_missing_role_binding_is_not_a_missing_config_map() {
        let api = FakeApi::start().await;
        api.answer(MAPS, Answer::Status(403, "Forbidden"), usize::MAX);
        let (trust, cancel) = watching(&api);
        soon("the refusal", || {
            matches!(trust.state(), TrustState::Forbidden(_))
        })
        .await;
        let error = trust.first(Duration::from_millis(10)).await;
        assert!(matches!(error, Err(TrustError::Forbidden(_))), "{error:?}");
        api.put(MAPS, map("one"));
        api.answer(MAPS, Answer::Status(403, "Forbidden"), 0);
        let first = trust.first(PATIENCE).await;
        assert!(matches!(first, Ok(Some(_))), "never tried again");
        cancel.cancel();
    }
}
