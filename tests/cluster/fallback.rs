//! Two owners of external metrics in one cluster: what no rule offers here is had from the other.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::{Value, json};

use crate::adapter::{Adapter, NAME, NAMESPACE, get, token};
use crate::control_plane::free_ports;
use crate::exporter::Exporter;
use crate::scaled::{create_deployment, replicas_are};
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

/// What the other adapter has: the length of a queue, whatever the namespace.
const THEIRS: &str = "scrape: {interval: 1s, presets: [dcgm-exporter], keep: all}\nmaxAge: 5s\nexternalRules:\n- seriesQuery: queue_len\n  resources: {namespaced: false}\n  metricsQuery: max(<<.Series>>{<<.LabelMatchers>>})\n";

/// The other is looked for every 30 s.
const LOOKED_FOR: std::time::Duration = std::time::Duration::from_secs(60);

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn an_hpa_scales_on_a_metric_that_another_adapter_has() {
    let scene = Scene::new("fallback").await;
    let exporter = Exporter::hanging(&scene, "exporter").await;
    exporter.show("queue_len{queue=\"orders\"} 3\n".to_owned());
    create_deployment(&scene, "worker", 1).await;
    scene
        .create::<HorizontalPodAutoscaler>(json!({
            "metadata": {"name": "worker"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"},
                "maxReplicas": 5,
                "metrics": [{"type": "External", "external": {
                    "metric": {"name": "queue_len", "selector": {"matchLabels": {"queue": "orders"}}},
                    "target": {"type": "AverageValue", "averageValue": "1"},
                }}],
            },
        }))
        .await;

    let [theirs] = free_ports();
    scene.install_accounts().await;
    allow(&scene).await;
    let workspace = &scene.plane.workspace;
    let token = workspace.write(
        "fallback-token",
        &token(&scene.client, NAMESPACE, NAME).await,
    );
    // Both are installations of this program, and share its authority.
    let ca = workspace.write("fallback-ca.crt", "");
    let ours = format!(
        "scrape: {{interval: 1s, presets: []}}\nexternalFallback:\n  url: https://127.0.0.1:{theirs}\n  tls_config: {{ca_file: {ca}, server_name: {NAME}.{NAMESPACE}.svc}}\n  authorization: {{credentials_file: {token}}}\n"
    );
    let adapter = Adapter::start_with_external(&scene, &ours, &[]).await;
    workspace.write("fallback-ca.crt", &adapter.ca);

    // While the other is not there, that is what the HPA is told.
    let unreached = format!("the external fallback https://127.0.0.1:{theirs} cannot be reached");
    told(&scene, "worker", &unreached).await;
    replicas_are(&scene, "worker", 1)
        .await
        .expect("nothing is known");

    let other = adapter.beside(&scene, theirs, THEIRS).await;
    eventually("three replicas", LOOKED_FOR, async || {
        replicas_are(&scene, "worker", 3).await
    })
    .await;
    let path = "/apis/external.metrics.k8s.io/v1beta1";
    eventually("their metric among ours", LOOKED_FOR, async || {
        let text = get(&scene.client, path).await?;
        let list: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let resources = list["resources"].as_array().into_iter().flatten();
        let names: Vec<&Value> = resources.map(|it| &it["name"]).collect();
        (names == ["queue_len"]).then_some(()).ok_or(text)
    })
    .await;
    let of_queue = format!("{path}/namespaces/fallback/queue_len?labelSelector=queue%3Dorders");
    let text = get(&scene.client, &of_queue).await.expect("an answer");
    assert!(text.contains("\"value\":\"3\""), "{text}");
    // What neither has is refused by the other, in its words; and what was passed on is not passed on again.
    let nothing = format!("{path}/namespaces/fallback/nothing");
    let refused = get(&scene.client, &nothing).await.expect_err("refused");
    assert!(
        refused.contains("none of the 1 externalRules offers it"),
        "{refused}"
    );
    let passed_on = http::Request::get(&of_queue)
        .header("x-gpu-metrics-adapter-fallback", "1")
        .body(Vec::new())
        .expect("a request");
    let refused = scene
        .client
        .request_text(passed_on)
        .await
        .expect_err("refused");
    assert!(
        refused.to_string().contains("there are no `externalRules`"),
        "{refused}"
    );

    drop(other);
    told(&scene, "worker", &unreached).await;
    replicas_are(&scene, "worker", 3).await.expect("they stay");
    adapter.remove_external(&scene).await;
}

/// Lets the adapter ask the other, as the documentation says.
pub(crate) async fn allow(scene: &Scene) {
    let name = "gpu-metrics-adapter-fallback";
    let role = format!("--clusterrole={name}");
    let account = format!("--serviceaccount={NAMESPACE}:{NAME}");
    let all = "--resource=*.external.metrics.k8s.io";
    for command in [
        ["clusterrole", name, "--verb=list", all],
        ["clusterrolebinding", name, &role, &account],
    ] {
        let create = [&["create"], &command[..]].concat();
        match scene.plane.kubectl(&create).await {
            Err(error) if !error.contains("already exists") => panic!("{error}"),
            _ => {}
        }
    }
}

/// Waits until an HPA says this.
pub(crate) async fn told(scene: &Scene, name: &str, what: &str) {
    eventually(what, PATIENCE, async || {
        let told = condition(scene, name).await?;
        told.contains(what).then_some(()).ok_or(told)
    })
    .await;
}

/// What an HPA says of itself.
async fn condition(scene: &Scene, name: &str) -> Result<String, String> {
    let hpa = scene.api::<HorizontalPodAutoscaler>().get(name).await;
    let status = hpa.map_err(|error| error.to_string())?.status;
    let conditions = status.and_then(|status| status.conditions);
    let conditions = conditions.unwrap_or_default().into_iter();
    let told: Vec<String> = conditions.filter_map(|it| it.message).collect();
    Ok(told.join("; "))
}
