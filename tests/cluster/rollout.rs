//! Under load, through the real aggregator: what its callers notice of a reload, a new authority, a rollout, and a death.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::server::pki::{Authority, Pair};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::adapter::{Adapter, NAMESPACE, SECRET, api_services, get};
use crate::balancer::Balancer;
use crate::exporter::Exporter;
use crate::scaled::{create_deployment, show_utilisation};
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

/// 200 requests a second.
const CALLERS: u64 = 20;
const PAUSE: Duration = Duration::from_millis(100);

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

const CONFIGURATION: &str = "scrape: {interval: 1s, presets: [dcgm-exporter]}\nmaxAge: 10s\n";

/// Callers that ask again and again, and what became of it.
struct Load {
    sent: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    callers: JoinSet<Option<String>>,
}

impl Load {
    fn start(client: &Client, path: &str) -> Self {
        let (sent, failed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let stop = Arc::<AtomicBool>::default();
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (client, path) = (client.clone(), path.to_owned());
            let (sent, failed, stop) = (Arc::clone(&sent), Arc::clone(&failed), Arc::clone(&stop));
            callers.spawn(async move {
                let mut ticks = interval(PAUSE);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let mut first = None;
                while !stop.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    sent.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = get(&client, &path).await {
                        failed.fetch_add(1, Ordering::Relaxed);
                        first.get_or_insert(error);
                    }
                }
                first
            });
        }
        Self {
            sent,
            failed,
            stop,
            callers,
        }
    }

    /// Ends it; gives how many requests were sent, how many of them failed, and how the first of those did.
    async fn end(mut self) -> (usize, usize, Option<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut first = None;
        while let Some(caller) = self.callers.join_next().await {
            first = first.or(caller.expect("no panic"));
        }
        let [sent, failed] = [self.sent, self.failed].map(|it| it.load(Ordering::Relaxed));
        (sent, failed, first)
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the control plane: make test"]
async fn a_reload_a_new_authority_and_a_rollout_cost_no_request() {
    let scene = Scene::new("rollout").await;
    let exporter = Exporter::hanging(&scene, "exporter").await;
    exporter.show(String::new());
    let mut first = Adapter::start_with(&scene, CONFIGURATION).await;
    let mut second = first.replica(&scene).await;
    let balancer = Balancer::among([first.port(), second.port()]).await;
    first.reached_at(&scene, balancer.port).await;
    create_deployment(&scene, "qwen", 1).await;
    let path = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/rollout/pods/*/DCGM_CUSTOM_PROCESS_SM_UTIL?labelSelector=app%3Dqwen";
    eventually("a value", PATIENCE, async || {
        show_utilisation(&scene, &exporter, "app=qwen", 50.0).await;
        let text = get(&scene.client, path).await?;
        text.contains("\"value\":\"50\"").then_some(()).ok_or(text)
    })
    .await;

    let load = Load::start(&scene.client, path);
    first.configure(&scene, &format!("{CONFIGURATION}freshWithin: 2s\n"));
    let known = reissue(&scene).await;
    for adapter in [&mut first, &mut second] {
        eventually("the new certificate", PATIENCE * 2, async || {
            // Who trusts the new authority only does not get through before it is shown.
            let client = adapter.direct(&known, None);
            let answer = client.get(adapter.url("/readyz")).send().await;
            answer.and_then(reqwest::Response::error_for_status)
        })
        .await;
        adapter.ca.push_str(&known);
    }
    first.again(&scene).await;
    second.again(&scene).await;
    let (sent, failed, error) = load.end().await;
    assert_eq!((failed, error), (0, None), "of {sent} requests");
    assert!(sent > 500, "{sent} requests are no load");

    // A replica that dies takes with it what was under way, and no more.
    let load = Load::start(&scene.client, path);
    let begun = Instant::now();
    eventually("a load", PATIENCE, async || {
        let sent = load.sent.load(Ordering::Relaxed);
        (sent > 200).then_some(()).ok_or(sent.to_string())
    })
    .await;
    drop(second);
    let after = load.sent.load(Ordering::Relaxed) + 1000;
    eventually("more load", PATIENCE, async || {
        let sent = load.sent.load(Ordering::Relaxed);
        (sent > after).then_some(()).ok_or(sent.to_string())
    })
    .await;
    let (sent, failed, error) = load.end().await;
    eprintln!(
        "killed under load: {failed} of {sent} requests failed in {:?}: {error:?}",
        begun.elapsed()
    );
    assert!(
        failed <= usize::try_from(CALLERS).expect("few"),
        "{failed} of {sent}: {error:?}"
    );
}

/// Puts another authority and a certificate of it into the Secret, as a replica does that renews them, and into one APIService's
/// bundle; gives the authority.
async fn reissue(scene: &Scene) -> String {
    let now = Timestamp::now();
    let authority = Authority::generate("gpu-metrics-adapter-ca", YEAR, now).expect("an authority");
    let hosts = [
        "gpu-metrics-adapter.gpu-metrics-adapter.svc",
        "gpu-metrics-adapter.gpu-metrics-adapter.svc.cluster.local",
        "gpu-metrics-adapter.gpu-metrics-adapter",
        "localhost",
    ];
    let Pair { certificate, key } = authority.serving(&hosts, YEAR, now).expect("a certificate");
    let ca = authority.certificate().to_owned();
    let bytes = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
    let data = json!({"data": {
        "tls.crt": bytes(&certificate), "tls.key": bytes(&key),
        "ca.crt": bytes(&ca), "ca.key": bytes(&authority.key()),
    }});
    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), NAMESPACE);
    let params = PatchParams::default();
    let written = secrets.patch(SECRET, &params, &Patch::Merge(&data)).await;
    written.expect("the Secret");
    let services = api_services(&scene.client);
    let name = "v1beta1.custom.metrics.k8s.io";
    let service = services.get(name).await.expect("an APIService");
    let before = crate::adapter::ca_bundle(&service).expect("a bundle");
    let both: Value = bytes(&format!("{before}{ca}"));
    let bundle = json!({"spec": {"caBundle": both}});
    let written = services.patch(name, &params, &Patch::Merge(&bundle)).await;
    written.expect("an APIService");
    ca
}
