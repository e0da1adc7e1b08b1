//! Our APIServices: kube-apiserver must know the CA of our serving certificate.
//!
//! Each is watched by name; `spec.caBundle` is set whenever it differs from our CA. An APIService that points to another
//! Service belongs to another adapter and is never touched. Creating them is the manifests' business.

use std::fmt;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::Event;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::follow::{Follow, named};
use super::request::{bounded, describe};

/// The time between two attempts to change one APIService. kube-apiserver makes its connections to us anew after each,
/// and two installations that disagree about the CA must not keep it busy with that.
const PAUSE: Duration = Duration::from_secs(5);

/// The time after a conflict. kube-apiserver writes the status of a new APIService just when we see it first, and the
/// watch has the newer version in a moment.
const PAUSE_AFTER_CONFLICT: Duration = Duration::from_millis(200);

/// A Service, as an APIService refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// `namespace/name`.
impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Keeps the CA of our APIServices right; does nothing until it is run.
pub struct Registration {
    client: Client,
    names: Vec<String>,
    service: ServiceName,
    ca: watch::Receiver<Option<Vec<u8>>>,
}

impl Registration {
    /// For the APIServices `names` (such as `v1beta2.custom.metrics.k8s.io`) that point to `service`. `ca` holds the PEM
    /// of our CA, or of the old and the new one during a rotation; nothing is done while it is `None`.
    pub fn new(
        client: Client,
        names: Vec<String>,
        service: ServiceName,
        ca: watch::Receiver<Option<Vec<u8>>>,
    ) -> Self {
        Self {
            client,
            names,
            service,
            ca,
        }
    }

    /// Watches and patches until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        let each = self.names.iter().map(|name| {
            let one = One {
                follow: Follow::new(
                    format!("apiservice {name}"),
                    Api::all(self.client.clone()),
                    named(name),
                ),
                api: Api::all(self.client.clone()),
                name: name.clone(),
                service: &self.service,
                ca: self.ca.clone(),
                known: None,
                said: None,
                due: None,
                rest_until: Instant::now(),
            };
            cancel.run_until_cancelled(one.run())
        });
        futures_util::future::join_all(each).await;
    }
}

/// One APIService.
struct One<'a> {
    follow: Follow<APIService>,
    api: Api<APIService>,
    name: String,
    service: &'a ServiceName,
    ca: watch::Receiver<Option<Vec<u8>>>,
    /// As last seen; the outer `None` until the first full list.
    known: Option<Option<APIService>>,
    said: Option<Standing>,
    /// When to patch, if there is a reason to.
    due: Option<Instant>,
    /// Not to patch before then.
    rest_until: Instant,
}

impl One<'_> {
    async fn run(mut self) {
        let mut listed = None;
        let mut ca_kept = true;
        loop {
            let due = self.due.unwrap_or_else(Instant::now);
            tokio::select! {
                event = self.follow.next() => match event {
                    Event::Init => listed = None,
                    Event::InitApply(found) => listed = Some(found),
                    Event::InitDone => self.known = Some(listed.take()),
                    Event::Apply(found) => self.known = Some(Some(found)),
                    Event::Delete(_) => self.known = Some(None),
                },
                changed = self.ca.changed(), if ca_kept => ca_kept = changed.is_ok(),
                () = sleep_until(due), if self.due.is_some() => {
                    self.due = None;
                    self.patch().await;
                }
            }
            self.look();
        }
    }

    /// Says how things stand if that has changed, and plans a patch if one is needed.
    fn look(&mut self) {
        let Some(standing) = self.standing() else {
            return;
        };
        self.due = match standing {
            Standing::Differs(_) => Some(self.rest_until),
            _ => None,
        };
        let apiservice = &self.name;
        if self.said.as_ref() == Some(&standing) {
            return;
        }
        match &standing {
            Standing::Missing => {
                warn!(%apiservice, "no such APIService; its metrics are served once it exists");
            }
            Standing::Foreign(owner) => {
                warn!(%apiservice, %owner, ours = %self.service, "APIService belongs to another Service; left alone");
            }
            Standing::Current => info!(%apiservice, "APIService trusts our CA"),
            Standing::Differs(_) => {}
        }
        self.said = Some(standing);
    }

    async fn patch(&mut self) {
        let Some(Standing::Differs(patch)) = self.standing() else {
            return;
        };
        let params = PatchParams::default();
        let patch = Patch::Merge(patch);
        let answer = bounded(|| self.api.patch(&self.name, &params, &patch)).await;
        let mut pause = PAUSE;
        match answer {
            Ok(patched) => {
                debug!(apiservice = %self.name, "caBundle set");
                self.known = Some(Some(patched));
            }
            // Another was first: the watch tells what it is now.
            Err(error)
                if error
                    .refusal()
                    .is_some_and(|s| s.is_conflict() || s.is_not_found()) =>
            {
                pause = PAUSE_AFTER_CONFLICT;
            }
            Err(error) => {
                let error = describe(&error);
                warn!(apiservice = self.name, %error, "cannot set caBundle; trying again");
            }
        }
        self.rest_until = Instant::now() + pause;
    }

    fn standing(&self) -> Option<Standing> {
        let known = self.known.as_ref()?;
        let ca = self.ca.borrow();
        Some(stand(known.as_ref(), self.service, ca.as_deref()?))
    }
}

/// How one APIService stands.
#[derive(Clone, Debug, PartialEq)]
enum Standing {
    Missing,
    /// It points elsewhere: to this Service, or to kube-apiserver itself.
    Foreign(String),
    Current,
    /// It is ours, and this merge patch puts it right.
    Differs(Value),
}

fn stand(found: Option<&APIService>, ours: &ServiceName, ca: &[u8]) -> Standing {
    let Some(found) = found else {
        return Standing::Missing;
    };
    let spec = found.spec.as_ref();
    let owner = spec
        .and_then(|spec| spec.service.as_ref())
        .map(|service| ServiceName {
            namespace: service.namespace.clone().unwrap_or_default(),
            name: service.name.clone().unwrap_or_default(),
        });
    match owner {
        Some(owner) if owner == *ours => {}
        Some(owner) => return Standing::Foreign(owner.to_string()),
        None => return Standing::Foreign("kube-apiserver itself".to_owned()),
    }
    let known = spec.and_then(|spec| spec.ca_bundle.as_ref());
    let insecure = spec.and_then(|spec| spec.insecure_skip_tls_verify) == Some(true);
    if !insecure && known.is_some_and(|known| known.0 == ca) {
        return Standing::Current;
    }
    let mut change = json!({"caBundle": ByteString(ca.to_vec())});
    if insecure {
        // The API server refuses a caBundle beside it.
        change["insecureSkipTLSVerify"] = Value::Null;
    }
    // With the version, a patch cannot hit an APIService that has meanwhile been given to another.
    Standing::Differs(json!({
        "metadata": {"resourceVersion": found.metadata.resource_version},
        "spec": change,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fake_api::{Answer, FakeApi, soon};

    const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
    const NAME: &str = "v1beta2.custom.metrics.k8s.io";
    /// `our CA` in base64.
    const OURS: &str = "b3VyIENB";

    fn ours() -> ServiceName {
        ServiceName {
            namespace: "gpu".to_owned(),
            name: "adapter".to_owned(),
        }
    }

    fn object(service: &str, more: Value) -> Value {
        let mut object = json!({
            "metadata": {"name": NAME},
            "spec": {
                "group": "custom.metrics.k8s.io", "version": "v1beta2",
                "groupPriorityMinimum": 100, "versionPriority": 200,
                "service": {"namespace": "gpu", "name": service, "port": 443},
            },
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            object["spec"][key] = value.clone();
        }
        object
    }

    fn standing(object: Value) -> Standing {
        let found: APIService = serde_json::from_value(object).expect("an APIService");
        stand(Some(&found), &ours(), b"our CA")
    }

    #[test]
    fn only_our_own_apiservice_is_patched_and_only_if_it_differs() {
        assert_eq!(stand(None, &ours(), b"our CA"), Standing::Missing);
        let current = object("adapter", json!({"caBundle": OURS}));
        assert_eq!(standing(current), Standing::Current);
        let foreign = object("prometheus-adapter", json!({}));
        let owner = "gpu/prometheus-adapter".to_owned();
        assert_eq!(standing(foreign), Standing::Foreign(owner));
        let local = object("adapter", json!({"service": null}));
        assert!(matches!(standing(local), Standing::Foreign(_)));
        let mut old = object("adapter", json!({"caBundle": "b2xk"}));
        old["metadata"]["resourceVersion"] = json!("7");
        assert_eq!(
            standing(old),
            Standing::Differs(
                json!({"metadata": {"resourceVersion": "7"}, "spec": {"caBundle": OURS}})
            )
        );
    }

    #[test]
    fn skipped_verification_is_turned_on_again() {
        let insecure = object("adapter", json!({"insecureSkipTLSVerify": true}));
        let Standing::Differs(patch) = standing(insecure) else {
            panic!("not patched");
        };
        let spec = json!({"caBundle": OURS, "insecureSkipTLSVerify": null});
        assert_eq!(patch["spec"], spec);
    }

    fn running(
        api: &FakeApi,
        ca: Option<&str>,
    ) -> (watch::Sender<Option<Vec<u8>>>, CancellationToken) {
        let sender = watch::Sender::new(ca.map(|ca| ca.as_bytes().to_vec()));
        let names = vec![NAME.to_owned()];
        let registration = Registration::new(api.client(), names, ours(), sender.subscribe());
        let cancel = CancellationToken::new();
        tokio::spawn(registration.run(cancel.clone()));
        (sender, cancel)
    }

    fn bundle(api: &FakeApi) -> Option<Value> {
        Some(api.get(SERVICES, NAME)?["spec"]["caBundle"].clone())
    }

    fn patches(api: &FakeApi) -> usize {
        let requests = api.requests();
        requests.iter().filter(|r| r.starts_with("PATCH")).count()
    }

    #[tokio::test]
    async fn an_apiservice_that_comes_late_gets_our_ca_once() {
        let api = FakeApi::start().await;
        let (sender, cancel) = running(&api, None);
        soon("the watch", || api.requests().len() >= 2).await;
        api.put(SERVICES, object("adapter", json!({})));
        sender.send_replace(Some(b"our CA".to_vec()));
        soon("the patch", || bundle(&api) == Some(json!(OURS))).await;
        // A change by another that leaves the CA alone is answered by nothing.
        api.put(
            SERVICES,
            object("adapter", json!({"caBundle": OURS, "versionPriority": 1})),
        );
        sender.send_replace(Some(b"new CA".to_vec()));
        soon("the rotation", || bundle(&api) == Some(json!("bmV3IENB"))).await;
        assert_eq!(patches(&api), 2);
        let spec = &api.get(SERVICES, NAME).expect("it")["spec"];
        assert_eq!(spec["versionPriority"], 1, "more than the CA was changed");
        cancel.cancel();
    }

    #[tokio::test]
    async fn another_adapters_apiservice_is_left_until_it_is_given_to_us() {
        let api = FakeApi::start().await;
        api.put(SERVICES, object("prometheus-adapter", json!({})));
        let (_sender, cancel) = running(&api, Some("our CA"));
        soon("the watch", || api.requests().len() >= 2).await;
        assert_eq!(patches(&api), 0);
        api.put(
            SERVICES,
            object("adapter", json!({"insecureSkipTLSVerify": true})),
        );
        soon("the patch", || bundle(&api) == Some(json!(OURS))).await;
        let spec = &api.get(SERVICES, NAME).expect("it")["spec"];
        assert_eq!(spec.get("insecureSkipTLSVerify"), None);
        cancel.cancel();
    }

    #[tokio::test]
    async fn a_conflict_costs_no_long_pause() {
        let api = FakeApi::start().await;
        api.put(SERVICES, object("adapter", json!({})));
        let path = format!("{SERVICES}/{NAME}");
        api.answer(&path, Answer::Status(409, "Conflict"), 1);
        let (_sender, cancel) = running(&api, Some("our CA"));
        soon("the conflict", || patches(&api) == 1).await;
        let conflict = Instant::now();
        soon("the second attempt", || bundle(&api) == Some(json!(OURS))).await;
        assert!(conflict.elapsed() < PAUSE);
        cancel.cancel();
    }

    #[tokio::test]
    async fn a_refused_patch_is_tried_again() {
        let api = FakeApi::start().await;
        api.put(SERVICES, object("adapter", json!({})));
        api.answer(
            &format!("{SERVICES}/{NAME}"),
            Answer::Status(403, "Forbidden"),
            1,
        );
        let (_sender, cancel) = running(&api, Some("our CA"));
        soon("the second attempt", || bundle(&api) == Some(json!(OURS))).await;
        assert_eq!(patches(&api), 2);
        cancel.cancel();
    }
}
