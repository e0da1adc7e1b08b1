//! KEDA beside the adapter: its own operator and metrics server, whose metrics its HPAs have through the adapter.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use serde_json::{Value, json};

use crate::adapter::{Adapter, NAME, NAMESPACE, get, token};
use crate::exporter::Exporter;
use crate::fallback::{allow, told};
use crate::keda::{HOST, Keda};
use crate::scaled::{create_deployment, replicas_are};
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

const PATH: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// What the adapter offers by a rule of its own.
const OURS: &str = "externalRules:\n- seriesQuery: queue_len\n  resources: {namespaced: false}\n  metricsQuery: max(<<.Series>>{<<.LabelMatchers>>})\n";

/// It is asked for its names every 30 s; and scaling down takes its window of 10 s.
const LONG: Duration = Duration::from_secs(90);

/// The operator may look after its certificates, and not after the APIService, which is not KEDA's here.
const LEAVES_THE_APISERVICE: &[&str] = &["--enable-apiservice-patching=false"];

#[tokio::test]
#[ignore = "needs the control plane and KEDA: make keda"]
async fn kedas_hpas_scale_through_the_adapter_beside_our_own() {
    let scene = Scene::new("keda-beside").await;
    let exporter = Exporter::hanging(&scene, "exporter").await;
    exporter.show(page(3, 4));
    let keda = Keda::install(&scene).await;
    let operator = keda.operator(LEAVES_THE_APISERVICE).await;
    let server = keda.metrics_server().await;
    let adapter = start_adapter(&scene, &keda).await;

    for name in ["ours", "theirs"] {
        create_deployment(&scene, name, 1).await;
    }
    create_our_hpa(&scene).await;
    create_scaled_object(&scene, &exporter).await;
    replicas_become(&scene, [3, 4]).await;
    eventually("both among the names", LONG, async || {
        let text = get(&scene.client, PATH).await?;
        let list: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let resources = list["resources"].as_array().into_iter().flatten();
        let names: Vec<&Value> = resources.map(|it| &it["name"]).collect();
        // KEDA has one name for all of its metrics.
        (names == ["externalmetrics", "queue_len"])
            .then_some(())
            .ok_or(text)
    })
    .await;

    // As the HPA controller asks, and as kubectl does.
    let hpa = scene.api::<HorizontalPodAutoscaler>().get("theirs").await;
    let hpa = serde_json::to_value(hpa.expect("KEDA's HPA")).expect("JSON");
    let metric = &hpa["spec"]["metrics"][0]["external"]["metric"];
    let metric = metric["name"].as_str().expect("a name");
    let named = format!("{PATH}/namespaces/{}/{metric}", scene.namespace);
    let selected = format!("{named}?labelSelector=scaledobject.keda.sh%2Fname%3Dtheirs");
    let text = get(&scene.client, &selected).await.expect("an answer");
    assert!(text.contains("\"value\":\"4\""), "{text}");
    let (content_type, body) = as_protobuf(&scene, &selected).await;
    assert_eq!(content_type, "application/vnd.kubernetes.protobuf");
    assert!(body.starts_with(b"k8s\0"), "{body:?}");
    // A refusal is KEDA's, in its words.
    let refused = get(&scene.client, &named).await.expect_err("refused");
    assert!(
        refused.contains("scaledObject name is not specified"),
        "{refused}"
    );

    exporter.show(page(1, 1));
    replicas_become(&scene, [1, 1]).await;

    // The metrics server without its operator waits for it longer than the adapter does.
    let url = format!("https://127.0.0.1:{}", keda.port);
    drop(operator);
    exporter.show(page(2, 2));
    told(&scene, "theirs", &format!("{url} does not answer")).await;
    replicas_become(&scene, [2, 1]).await;
    drop(server);
    told(&scene, "theirs", &format!("{url} cannot be reached")).await;
    let _operator = keda.operator(LEAVES_THE_APISERVICE).await;
    let _server = keda.metrics_server().await;
    replicas_become(&scene, [2, 2]).await;

    scaled_objects(&scene)
        .delete("theirs", &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    adapter.remove_external(&scene).await;
}

#[tokio::test]
#[ignore = "needs the control plane and KEDA: make keda"]
async fn the_log_names_kedas_operator_where_it_takes_the_apiservice() {
    let scene = Scene::new("keda-takes").await;
    let keda = Keda::install(&scene).await;
    let leaving = keda.operator(LEAVES_THE_APISERVICE).await;
    let adapter = start_adapter(&scene, &keda).await;
    drop(leaving);
    let taking = keda.operator(&[]).await;
    eventually("a warning that names KEDA", PATIENCE, async || {
        taking.assert_running();
        let log = adapter.log();
        let mut lines = log.lines();
        let told = lines.any(|it| it.contains("took our CA out") && it.contains("by=keda"));
        told.then_some(()).ok_or(log)
    })
    .await;
    drop(taking);
    let _leaving = keda.operator(LEAVES_THE_APISERVICE).await;
    eventually("our APIService again", PATIENCE, async || {
        get(&scene.client, PATH).await
    })
    .await;
    adapter.remove_external(&scene).await;
}

/// The adapter as the owner of `external.metrics.k8s.io`, behind it KEDA's metrics server.
async fn start_adapter(scene: &Scene, keda: &Keda<'_>) -> Adapter {
    scene.install_accounts().await;
    allow(scene).await;
    let token = token(&scene.client, NAMESPACE, NAME).await;
    let token = scene.plane.workspace.write("keda-token", &token);
    let (port, ca) = (keda.port, keda.ca());
    let configuration = format!(
        "scrape: {{interval: 1s, presets: [dcgm-exporter], keep: all}}\nmaxAge: 5s\n{OURS}externalFallback:\n  url: https://127.0.0.1:{port}\n  tls_config: {{ca_file: {ca}, server_name: {HOST}}}\n  authorization: {{credentials_file: {token}}}\n"
    );
    Adapter::start_with_external(scene, &configuration, &[]).await
}

/// The lengths of two queues: one that a rule of ours offers, and one that KEDA looks at.
fn page(ours: u32, theirs: u32) -> String {
    format!("queue_len {ours}\nbacklog {theirs}\n")
}

async fn create_our_hpa(scene: &Scene) {
    scene
        .create::<HorizontalPodAutoscaler>(json!({
            "metadata": {"name": "ours"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "ours"},
                "maxReplicas": 5,
                "metrics": [{"type": "External", "external": {
                    "metric": {"name": "queue_len"},
                    "target": {"type": "AverageValue", "averageValue": "1"},
                }}],
            },
        }))
        .await;
}

/// Of which KEDA makes an HPA.
async fn create_scaled_object(scene: &Scene, exporter: &Exporter) {
    let object = json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "theirs"},
        "spec": {
            "scaleTargetRef": {"name": "theirs"},
            "minReplicaCount": 1,
            "maxReplicaCount": 5,
            "pollingInterval": 1,
            "advanced": {"horizontalPodAutoscalerConfig": {"name": "theirs"}},
            "triggers": [{"type": "metrics-api", "metadata": {
                "url": exporter.url(),
                "format": "prometheus",
                "valueLocation": "backlog",
                "targetValue": "1",
            }}],
        },
    });
    let object: DynamicObject = serde_json::from_value(object).expect("an object");
    scaled_objects(scene)
        .create(&PostParams::default(), &object)
        .await
        .expect("a ScaledObject");
}

fn scaled_objects(scene: &Scene) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject");
    let kind = ApiResource::from_gvk(&kind);
    Api::namespaced_with(scene.client.clone(), scene.namespace, &kind)
}

/// Those of `ours` and of `theirs`.
async fn replicas_become(scene: &Scene, [ours, theirs]: [i32; 2]) {
    let what = format!("{ours} and {theirs} replicas");
    eventually(&what, LONG, async || {
        replicas_are(scene, "ours", ours).await?;
        replicas_are(scene, "theirs", theirs).await
    })
    .await;
}

/// What kube-apiserver answers to who would rather have protobuf: of which type, and the body.
async fn as_protobuf(scene: &Scene, path: &str) -> (String, Vec<u8>) {
    let request = http::Request::get(path)
        .header(
            ACCEPT,
            "application/vnd.kubernetes.protobuf,application/json",
        )
        .body(kube::client::Body::empty())
        .expect("a request");
    let response = scene.client.send(request).await.expect("an answer");
    let content_type = response.headers()[CONTENT_TYPE].to_str();
    let content_type = content_type.expect("text").to_owned();
    let body = response.into_body().collect().await.expect("a body");
    (content_type, body.to_bytes().to_vec())
}
