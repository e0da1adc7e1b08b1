//! A Deployment that an HPA scales.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::exporter::{Exporter, sm_util_page};
use crate::scene::Scene;

/// One of a single replica, whose pods have the label `app`.
pub(crate) fn deployment(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "worker", "image": "worker"}],
                },
            },
        },
    })
}

/// Makes one of this many replicas.
pub(crate) async fn create_deployment(scene: &Scene, name: &str, replicas: i32) {
    let mut object = deployment(name);
    object["spec"]["replicas"] = json!(replicas);
    scene.create::<Deployment>(object).await;
}

/// Shows the same utilisation for every pod of these labels that there is now.
pub(crate) async fn show_utilisation(
    scene: &Scene,
    exporter: &Exporter,
    selector: &str,
    percent: f64,
) {
    let selected = ListParams::default().labels(selector);
    let pods = scene.api::<Pod>().list(&selected).await.expect("the pods");
    let lines: Vec<(String, f64)> = pods.iter().map(|pod| (pod.name_any(), percent)).collect();
    exporter.show(sm_util_page(scene.namespace, &lines));
}

/// Whether a Deployment is meant to have this many replicas; if not, what its HPA of the same name says, if there is one.
pub(crate) async fn replicas_are(scene: &Scene, name: &str, wanted: i32) -> Result<(), String> {
    let deployment = scene.api::<Deployment>().get(name).await;
    let deployment = deployment.map_err(|error| error.to_string())?;
    let meant = deployment.spec.and_then(|spec| spec.replicas);
    if meant == Some(wanted) {
        return Ok(());
    }
    let hpa = scene.api::<HorizontalPodAutoscaler>().get_opt(name).await;
    let hpa = hpa.map_err(|error| error.to_string())?;
    let conditions = hpa.and_then(|hpa| hpa.status?.conditions);
    let said: Vec<String> = conditions
        .unwrap_or_default()
        .into_iter()
        .filter_map(|condition| condition.message)
        .collect();
    Err(format!("{name}: {meant:?} replicas; {}", said.join("; ")))
}
