//! The whole promise: a KServe predictor and the HPA that arena makes for it, scaled by what a GPU exporter says.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition,
};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::adapter::{AUDIT, Adapter};
use crate::exporter::Exporter;
use crate::fixtures;
use crate::scaled::show_utilisation;
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

const DEPLOYMENT: &str = "qwen-predictor";
const HPA: &str = "qwen-hpa";
const SELECTOR: &str = "app=isvc.qwen-predictor";

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn the_hpa_scales_qwen_on_gpu_utilisation_and_back() {
    let scene = Scene::new("qwen").await;
    let mut exporter = Exporter::hanging(&scene, "exporter").await;
    exporter.show(String::new());
    let _adapter = Adapter::start(&scene).await;
    submit_qwen(&scene).await;

    // Load: above the target of 50, so to the maximum of 2.
    eventually("second replica under load", PATIENCE, async || {
        show_utilisation(&scene, &exporter, SELECTOR, 95.0).await;
        replicas(&scene, 2).await?;
        active(&scene).await
    })
    .await;
    eventually("load in kubectl describe", PATIENCE, async || {
        show_utilisation(&scene, &exporter, SELECTOR, 95.0).await;
        described(&scene, "95 / 50").await
    })
    .await;

    // A dead exporter is no idle GPU: the replicas stay, and the HPA says what is wrong.
    exporter.down().await;
    let down = Timestamp::now();
    let reason = format!(
        "target {} (pod {}/exporter) is down since ",
        exporter.url(),
        scene.namespace
    );
    let condition = eventually("reason in the HPA", PATIENCE, async || {
        let condition = scaling_active(&scene).await?;
        let message = condition.message.clone().unwrap_or_default();
        if condition.status == "False" && message.contains(&reason) {
            Ok(condition)
        } else {
            Err(format!("{}: {message}", condition.status))
        }
    })
    .await;
    assert_eq!(condition.reason.as_deref(), Some("FailedGetPodsMetric"));
    let message = condition.message.unwrap_or_default();
    let (_, since) = message.split_once(&reason).expect("the reason");
    let since: Timestamp = since
        .split(' ')
        .next()
        .expect("a word")
        .parse()
        .expect("a time");
    // The first scrape that failed, to the whole second, came within an interval of 1 s and a time-out.
    let late = since.duration_since(down).as_secs();
    assert!((-1..=3).contains(&late), "down at {down}: {message}");

    // Longer than the window for scaling down (10 s) and two syncs: a wrong 0 would show.
    let end = Instant::now() + Duration::from_secs(14);
    while Instant::now() < end {
        replicas(&scene, 2).await.expect("the replicas stay");
        sleep(Duration::from_millis(500)).await;
    }

    exporter.up().await;
    eventually("recovery", PATIENCE, async || active(&scene).await).await;
    replicas(&scene, 2).await.expect("still under load");

    // Idle: back to the minimum, after the window for scaling down.
    eventually("single replica when idle", PATIENCE, async || {
        show_utilisation(&scene, &exporter, SELECTOR, 5.0).await;
        replicas(&scene, 1).await?;
        described(&scene, "5 / 50").await
    })
    .await;
    active(&scene).await.expect("an active HPA");

    // The HPA controller asked for protobuf all along, and got it.
    let log = scene.plane.workspace.path(AUDIT);
    let log = std::fs::read_to_string(log).expect("an audit log");
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let user = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
    let asked: Vec<Value> = lines
        .filter(|line| line["user"] == user && line["namespace"] == scene.namespace)
        .filter(|line| line["code"] == 200)
        .collect();
    assert!(!asked.is_empty(), "{log}");
    for line in asked {
        for field in ["asked", "answered"] {
            let encoding = line[field].as_str().unwrap_or_default();
            assert!(encoding.contains("protobuf"), "{line}");
        }
    }
}

/// The Deployment as KServe made it and the HPA as arena made it, with the model's volume bound.
async fn submit_qwen(scene: &Scene) {
    let volume: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": "llm-model"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadOnlyMany"],
            "hostPath": {"path": "/models"},
            "claimRef": {"namespace": scene.namespace, "name": "llm-model"},
        },
    }))
    .expect("a volume");
    Api::all(scene.client.clone())
        .create(&PostParams::default(), &volume)
        .await
        .expect("a volume");
    scene
        .create::<PersistentVolumeClaim>(json!({
            "metadata": {"name": "llm-model"},
            "spec": {
                "accessModes": ["ReadOnlyMany"],
                "resources": {"requests": {"storage": "1Gi"}},
                "storageClassName": "",
                "volumeName": "llm-model",
            },
        }))
        .await;
    let deployment = fixtures::object("kserve/deployment-qwen-predictor.yaml");
    scene.create::<Deployment>(deployment).await;
    let hpa = fixtures::object("kserve/hpa-qwen-hpa.yaml");
    scene.create::<HorizontalPodAutoscaler>(hpa).await;
}

/// Whether the predictor is meant to have, and has, this many ready replicas.
async fn replicas(scene: &Scene, wanted: i32) -> Result<(), String> {
    let deployment = scene.api::<Deployment>().get(DEPLOYMENT).await;
    let deployment = deployment.map_err(|error| error.to_string())?;
    let meant = deployment.spec.and_then(|spec| spec.replicas);
    let ready = deployment.status.and_then(|status| status.ready_replicas);
    if meant == Some(wanted) && ready == Some(wanted) {
        Ok(())
    } else {
        Err(format!(
            "{meant:?} meant and {ready:?} ready; {}",
            hpa_says(scene).await
        ))
    }
}

async fn active(scene: &Scene) -> Result<(), String> {
    match scaling_active(scene).await? {
        condition if condition.status == "True" => Ok(()),
        condition => Err(condition.message.unwrap_or_default()),
    }
}

async fn scaling_active(scene: &Scene) -> Result<HorizontalPodAutoscalerCondition, String> {
    let hpa = scene.api::<HorizontalPodAutoscaler>().get(HPA).await;
    let status = hpa.map_err(|error| error.to_string())?.status;
    status
        .and_then(|status| status.conditions)
        .unwrap_or_default()
        .into_iter()
        .find(|condition| condition.type_ == "ScalingActive")
        .ok_or_else(|| "no condition ScalingActive yet".to_owned())
}

async fn hpa_says(scene: &Scene) -> String {
    match scaling_active(scene).await {
        Ok(condition) => condition.message.unwrap_or_default(),
        Err(error) => error,
    }
}

async fn described(scene: &Scene, values: &str) -> Result<(), String> {
    let arguments = ["describe", "hpa", HPA, "--namespace", scene.namespace];
    let text = scene.plane.kubectl(&arguments).await?;
    let line = text
        .lines()
        .find(|line| line.contains("\"DCGM_CUSTOM_PROCESS_SM_UTIL\" on pods:"))
        .ok_or_else(|| text.clone())?;
    line.trim_end()
        .ends_with(&format!(" {values}"))
        .then_some(())
        .ok_or_else(|| line.to_owned())
}
