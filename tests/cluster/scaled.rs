//! A Deployment that an HPA scales.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::{Value, json};

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

/// Whether a Deployment is meant to have this many replicas; if not, what its HPA of the same name says.
pub(crate) async fn replicas_are(scene: &Scene, name: &str, wanted: i32) -> Result<(), String> {
    let deployment = scene.api::<Deployment>().get(name).await;
    let deployment = deployment.map_err(|error| error.to_string())?;
    let meant = deployment.spec.and_then(|spec| spec.replicas);
    if meant == Some(wanted) {
        return Ok(());
    }
    let hpa = scene.api::<HorizontalPodAutoscaler>().get(name).await;
    let hpa = hpa.map_err(|error| error.to_string())?;
    let conditions = hpa.status.and_then(|status| status.conditions);
    let said: Vec<String> = conditions
        .unwrap_or_default()
        .into_iter()
        .filter_map(|condition| condition.message)
        .collect();
    Err(format!("{name}: {meant:?} replicas; {}", said.join("; ")))
}
