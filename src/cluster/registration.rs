//! Our APIServices: kube-apiserver must know the CA of our serving certificate.
//!
//! Each is watched by name; our CA is put into `spec.caBundle` whenever it is not in it. An APIService that points to another
//! Service belongs to another adapter and is never touched. Creating them is the manifests' business.

mod bundle;

use std::fmt;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec};
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
use crate::model::time::Timestamp;
pub use bundle::{Bundles, CA_NAME, Certificates};

/// The time between two attempts to change one APIService. kube-apiserver makes its connections to us anew after each,
/// and two installations that disagree about the CA must not keep it busy with that.
const PAUSE: Duration = Duration::from_secs(5);

/// The time after a conflict. kube-apiserver writes the status of a new APIService just when we see it first, and the
/// watch has the newer version in a moment.
const PAUSE_AFTER_CONFLICT: Duration = Duration::from_millis(200);

/// The time after which it is told again that another takes our CA out.
const TOLD_FOR: Duration = Duration::from_secs(3600);

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

/// An APIService that may be ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its name, such as `v1beta2.custom.metrics.k8s.io`.
    pub name: &'static str,
    /// Whether a cluster without it, or one in which it belongs to another, is worth a warning.
    pub expected: bool,
}

/// Between whoever has the CA and the registration: the CA there, whom the APIServices trust back. Clones share it.
#[derive(Clone, Debug)]
pub struct Link {
    ca: watch::Receiver<Option<Vec<u8>>>,
    bundles: watch::Sender<Bundles>,
}

impl Link {
    /// `ca` holds the PEM of our CA, or of the new and the old one during a rotation; nothing is done while it is `None`.
    pub fn new(ca: watch::Receiver<Option<Vec<u8>>>) -> Self {
        let bundles = watch::Sender::default();
        Self { ca, bundles }
    }

    /// Whom the APIServices trust, now and later.
    pub fn bundles(&self) -> watch::Receiver<Bundles> {
        self.bundles.subscribe()
    }

    /// Notes the `caBundle` of one APIService; `None` if it is not ours, or not there.
    pub(crate) fn note(&self, name: &str, bundle: Option<Vec<u8>>) {
        self.bundles
            .send_if_modified(|Bundles(known)| match bundle {
                Some(new) if known.get(name).and_then(Option::as_ref) == Some(&new) => false,
                Some(new) => {
                    known.insert(name.to_owned(), Some(new));
                    true
                }
                None => known.remove(name).is_some(),
            });
    }
}

/// Keeps the CA of our APIServices right; does nothing until it is run.
pub struct Registration {
    client: Client,
    names: Vec<Registered>,
    service: ServiceName,
    link: Link,
}

impl Registration {
    /// For those of the APIServices `names` that point to `service`.
    pub fn new(client: Client, names: Vec<Registered>, service: ServiceName, link: Link) -> Self {
        let unseen = names.iter().map(|it| (it.name.to_owned(), None)).collect();
        link.bundles.send_replace(Bundles(unseen));
        Self {
            client,
            names,
            service,
            link,
        }
    }

    /// Watches and patches until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        let each = self.names.iter().map(|Registered { name, expected }| {
            let one = One {
                follow: Follow::new(
                    format!("apiservice {name}"),
                    Api::all(self.client.clone()),
                    named(name),
                ),
                api: Api::all(self.client.clone()),
                name,
                expected: *expected,
                service: &self.service,
                link: self.link.clone(),
                known: None,
                said: None,
                held: None,
                robbed: None,
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
    name: &'static str,
    expected: bool,
    service: &'a ServiceName,
    link: Link,
    /// As last seen; the outer `None` until the first full list.
    known: Option<Option<APIService>>,
    said: Option<Standing>,
    /// The CA of ours that it was last seen to trust.
    held: Option<Vec<u8>>,
    /// When it was last told that another took that out.
    robbed: Option<Instant>,
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
                changed = self.link.ca.changed(), if ca_kept => ca_kept = changed.is_ok(),
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
        if let Some(known) = &self.known {
            let ours = known.as_ref().and_then(|it| owned(it, self.service).ok());
            let bundle = ours.map(|spec| spec.ca_bundle.clone().unwrap_or_default().0);
            self.link.note(self.name, bundle);
        }
        let Some(standing) = self.standing() else {
            return;
        };
        self.watch_over(&standing);
        self.due = match standing {
            Standing::Differs(_) => Some(self.rest_until),
            _ => None,
        };
        let apiservice = self.name;
        if self.said.as_ref() == Some(&standing) {
            return;
        }
        match &standing {
            Standing::Missing | Standing::Foreign(_) if !self.expected => {
                debug!(%apiservice, ?standing, "APIService is not ours");
            }
            Standing::Missing => {
                warn!(%apiservice, "no such APIService; its metrics are served once it exists");
            }
            Standing::Foreign(owner) => {
                warn!(%apiservice, %owner, ours = %self.service, "APIService belongs to another Service; left alone");
            }
            // While another takes it out again and again, that is no news.
            Standing::Current if self.told_of_robbery() => {}
            Standing::Current => info!(%apiservice, "APIService trusts our CA"),
            Standing::Differs(_) => {}
        }
        self.said = Some(standing);
    }

    /// Tells of another program that takes our CA out again, lest the two do so for ever and nobody knows why nothing answers.
    fn watch_over(&mut self, standing: &Standing) {
        let ca = self.link.ca.borrow().clone();
        if *standing == Standing::Current {
            self.held = ca;
            return;
        }
        let taken = self.held.take().is_some_and(|held| Some(held) == ca);
        if taken && !self.told_of_robbery() && matches!(standing, Standing::Differs(_)) {
            let found = self.known.iter().flatten().next();
            let by = found.and_then(writer).unwrap_or("unknown");
            warn!(apiservice = self.name, %by, "another program took our CA out of the caBundle; it is put back, and kube-apiserver cannot call us until then. KEDA's operator does this unless it runs with --enable-apiservice-patching=false");
            self.robbed = Some(Instant::now());
        }
    }

    fn told_of_robbery(&self) -> bool {
        self.robbed.is_some_and(|at| at.elapsed() < TOLD_FOR)
    }

    async fn patch(&mut self) {
        let Some(Standing::Differs(patch)) = self.standing() else {
            return;
        };
        let params = PatchParams::default();
        let patch = Patch::Merge(patch);
        let answer = bounded(|| self.api.patch(self.name, &params, &patch)).await;
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
        let ca = self.link.ca.borrow();
        let now = Timestamp::now();
        Some(stand(known.as_ref(), self.service, ca.as_deref()?, now))
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

/// The specification of an APIService of ours; whose it is otherwise.
fn owned<'a>(found: &'a APIService, ours: &ServiceName) -> Result<&'a APIServiceSpec, String> {
    let of = |spec: &APIServiceSpec| {
        let service = spec.service.as_ref()?;
        Some(ServiceName {
            namespace: service.namespace.clone().unwrap_or_default(),
            name: service.name.clone().unwrap_or_default(),
        })
    };
    let spec = found.spec.as_ref();
    match spec.and_then(|spec| Some((spec, of(spec)?))) {
        Some((spec, owner)) if owner == *ours => Ok(spec),
        Some((_, owner)) => Err(owner.to_string()),
        None => Err("kube-apiserver itself".to_owned()),
    }
}

/// Who wrote the `caBundle`, as it named itself to kube-apiserver.
fn writer(found: &APIService) -> Option<&str> {
    let mut entries = found.metadata.managed_fields.iter().flatten();
    let wrote = entries.find(|entry| {
        let fields = entry.fields_v1.as_ref();
        fields.is_some_and(|fields| fields.0["f:spec"].get("f:caBundle").is_some())
    });
    wrote?.manager.as_deref()
}

fn stand(found: Option<&APIService>, ours: &ServiceName, ca: &[u8], now: Timestamp) -> Standing {
    let Some(found) = found else {
        return Standing::Missing;
    };
    let spec = match owned(found, ours) {
        Ok(spec) => spec,
        Err(owner) => return Standing::Foreign(owner),
    };
    let known = spec.ca_bundle.as_ref().map_or(&[][..], |known| &known.0);
    let insecure = spec.insecure_skip_tls_verify == Some(true);
    if !insecure && bundle::contains(known, ca) {
        return Standing::Current;
    }
    let mut change = json!({"caBundle": ByteString(bundle::merged(known, ca, now))});
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
    use crate::server::pki::Authority;

    const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
    const NAME: &str = "v1beta2.custom.metrics.k8s.io";

    /// A CA as a replica makes it.
    fn new_ca() -> String {
        let life = Duration::from_secs(3600);
        let made = Authority::generate(CA_NAME, life, Timestamp::now()).expect("made");
        made.certificate().to_owned()
    }

    /// As it stands in JSON.
    fn base64(text: &str) -> Value {
        json!(ByteString(text.as_bytes().to_vec()))
    }

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

    fn standing(object: Value, ca: &str) -> Standing {
        let found: APIService = serde_json::from_value(object).expect("an APIService");
        stand(Some(&found), &ours(), ca.as_bytes(), Timestamp::now())
    }

    #[test]
    fn only_our_own_apiservice_is_patched_and_only_without_our_ca() {
        let [ca, other] = [new_ca(), new_ca()];
        let none = stand(None, &ours(), ca.as_bytes(), Timestamp::now());
        assert_eq!(none, Standing::Missing);
        for bundle in [ca.clone(), format!("{other}{ca}")] {
            let current = object("adapter", json!({"caBundle": base64(&bundle)}));
            assert_eq!(standing(current, &ca), Standing::Current);
        }
        let foreign = object("prometheus-adapter", json!({}));
        let owner = "gpu/prometheus-adapter".to_owned();
        assert_eq!(standing(foreign, &ca), Standing::Foreign(owner));
        let local = object("adapter", json!({"service": null}));
        assert!(matches!(standing(local, &ca), Standing::Foreign(_)));
        for (bundle, wanted) in [("old", ca.clone()), (&*other, format!("{ca}{other}"))] {
            let mut old = object("adapter", json!({"caBundle": base64(bundle)}));
            old["metadata"]["resourceVersion"] = json!("7");
            let wanted = json!({
                "metadata": {"resourceVersion": "7"},
                "spec": {"caBundle": base64(&wanted)},
            });
            assert_eq!(standing(old, &ca), Standing::Differs(wanted));
        }
    }

    #[test]
    fn who_wrote_the_bundle_is_read_from_its_managed_fields() {
        let mut object = object("adapter", json!({}));
        object["metadata"]["managedFields"] = json!([
            {"manager": "kubectl", "fieldsV1": {"f:spec": {"f:service": {}}}},
            {"manager": "keda", "fieldsV1": {"f:spec": {"f:caBundle": {}}}},
        ]);
        let found: APIService = serde_json::from_value(object).expect("an APIService");
        assert_eq!(writer(&found), Some("keda"));
        assert_eq!(writer(&APIService::default()), None);
    }

    #[test]
    fn skipped_verification_is_turned_on_again() {
        let ca = new_ca();
        for known in [json!(null), base64(&ca)] {
            let insecure = json!({"insecureSkipTLSVerify": true, "caBundle": known});
            let Standing::Differs(patch) = standing(object("adapter", insecure), &ca) else {
                panic!("not patched");
            };
            let spec = json!({"caBundle": base64(&ca), "insecureSkipTLSVerify": null});
            assert_eq!(patch["spec"], spec);
        }
    }

    #[tokio::test]
    async fn replicas_that_differ_about_the_ca_do_not_undo_each_others_work() {
        let api = FakeApi::start().await;
        api.put(SERVICES, object("adapter", json!({})));
        let [old, new, newer] = [new_ca(), new_ca(), new_ca()];
        let (first, cancel) = running(&api, Some(&old));
        soon("the old CA", || bundle(&api) == Some(base64(&old))).await;
        let (second, also_cancel) = running(&api, Some(&new));
        let mut seen = second.link.bundles();
        let both = seen.wait_for(|it| it.trust(new.as_bytes()) && it.trust(old.as_bytes()));
        let patience = Duration::from_secs(10);
        let both = tokio::time::timeout(patience, both).await.expect("in time");
        drop(both.expect("the second replica sees both"));
        // The first one has now to say the same: it sees the new one, and leaves it.
        let mut seen = first.link.bundles();
        let told = seen.wait_for(|it| !it.strangers(old.as_bytes(), Timestamp::now()).is_empty());
        let told = tokio::time::timeout(patience, told).await.expect("in time");
        drop(told.expect("the first replica sees a stranger"));
        first.ca.send_replace(Some(newer.clone().into_bytes()));
        let trusted = |ca: &String| {
            let found = api.get(SERVICES, NAME).expect("it");
            let found: APIService = serde_json::from_value(found).expect("an APIService");
            let found = found.spec.and_then(|it| it.ca_bundle).unwrap_or_default();
            bundle::contains(&found.0, ca.as_bytes())
        };
        soon("the rotation", || {
            [&old, &new, &newer].into_iter().all(trusted)
        })
        .await;
        assert_eq!(patches(&api), 3);
        cancel.cancel();
        also_cancel.cancel();
    }

    /// What a test holds of a registration.
    struct Running {
        ca: watch::Sender<Option<Vec<u8>>>,
        link: Link,
    }

    fn running(api: &FakeApi, ca: Option<&str>) -> (Running, CancellationToken) {
        let sender = watch::Sender::new(ca.map(|ca| ca.as_bytes().to_vec()));
        let names = vec![Registered {
            name: NAME,
            expected: true,
        }];
        let link = Link::new(sender.subscribe());
        let registration = Registration::new(api.client(), names, ours(), link.clone());
        let cancel = CancellationToken::new();
        tokio::spawn(registration.run(cancel.clone()));
        (Running { ca: sender, link }, cancel)
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
        let [ca, new] = [new_ca(), new_ca()];
        let (running, cancel) = running(&api, None);
        soon("the watch", || api.requests().len() >= 2).await;
        api.put(SERVICES, object("adapter", json!({})));
        running.ca.send_replace(Some(ca.clone().into_bytes()));
        soon("the patch", || bundle(&api) == Some(base64(&ca))).await;
        // A change by another that leaves the CA alone is answered by nothing.
        api.put(
            SERVICES,
            object(
                "adapter",
                json!({"caBundle": base64(&ca), "versionPriority": 1}),
            ),
        );
        running.ca.send_replace(Some(new.clone().into_bytes()));
        let both = base64(&format!("{new}{ca}"));
        soon("the rotation", || bundle(&api) == Some(both.clone())).await;
        assert_eq!(patches(&api), 2);
        let spec = &api.get(SERVICES, NAME).expect("it")["spec"];
        assert_eq!(spec["versionPriority"], 1, "more than the CA was changed");
        cancel.cancel();
    }

    #[tokio::test]
    async fn another_adapters_apiservice_is_left_until_it_is_given_to_us() {
        let api = FakeApi::start().await;
        api.put(SERVICES, object("prometheus-adapter", json!({})));
        let ca = new_ca();
        let (_running, cancel) = running(&api, Some(&ca));
        soon("the watch", || api.requests().len() >= 2).await;
        assert_eq!(patches(&api), 0);
        api.put(
            SERVICES,
            object("adapter", json!({"insecureSkipTLSVerify": true})),
        );
        soon("the patch", || bundle(&api) == Some(base64(&ca))).await;
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
        let ca = new_ca();
        let (_running, cancel) = running(&api, Some(&ca));
        soon("the conflict", || patches(&api) == 1).await;
        let conflict = Instant::now();
        soon("the second attempt", || bundle(&api) == Some(base64(&ca))).await;
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
        let ca = new_ca();
        let (_running, cancel) = running(&api, Some(&ca));
        soon("the second attempt", || bundle(&api) == Some(base64(&ca))).await;
        assert_eq!(patches(&api), 2);
        cancel.cancel();
    }
}
