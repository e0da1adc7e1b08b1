//! A metric of pods, asked for on what controls them: the exporter knows pods and nothing above them.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::adapter::Adapter;
use crate::exporter::Exporter;
use crate::kserve;
use crate::scaled::{deployment, replicas_are};
use crate::scene::Scene;
use crate::wait::eventually;

/// The Deployments, with what their HPAs ask for: the Deployment itself, and the InferenceService that has it.
const DIRECT: &str = "direct";
const PREDICTOR: &str = "qwen-predictor";
const SERVICE: &str = "qwen";
/// One without an HPA, whose pods are none of theirs.
const STRANGER: &str = "stranger";

/// Back to one replica takes the window for scaling down, and a sync before and after it.
const LONG: Duration = Duration::from_secs(90);

const RULES: &str = r#"
freshWithin: 1s
maxAge: 5s
scrape:
  interval: 1s
  timeout: 1s
  presets: []
  scrape_configs: [{job_name: load, static_configs: [{targets: ['ADDRESS']}]}]
rules:
- seriesQuery: 'load{namespace!="",pod!=""}'
  resources: {template: <<.Resource>>}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
"#;

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn an_hpa_scales_on_a_metric_of_pods_asked_for_on_what_controls_them() {
    let scene = Scene::new("owners").await;
    let exporter = Exporter::hanging(&scene, "load").await;
    exporter.show(String::new());
    let _adapter =
        Adapter::start_with(&scene, &RULES.replace("ADDRESS", &exporter.address())).await;
    kserve::install(&scene).await;
    let mut predictor = deployment(PREDICTOR);
    predictor["metadata"]["ownerReferences"] = kserve::inference_service(&scene, SERVICE).await;
    for object in [deployment(DIRECT), predictor, deployment(STRANGER)] {
        scene.create::<Deployment>(object).await;
    }
    let direct = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": DIRECT});
    let service = json!({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "name": SERVICE});
    for (name, described) in [(DIRECT, direct), (PREDICTOR, service)] {
        scene
            .create::<HorizontalPodAutoscaler>(hpa(name, described))
            .await;
    }
    for (load, replicas) in [(15, 2), (4, 1)] {
        eventually(&format!("{replicas} replicas"), LONG, async || {
            report(&scene, &exporter, load).await;
            for name in [DIRECT, PREDICTOR] {
                replicas_are(&scene, name, replicas).await?;
            }
            Ok::<(), String>(())
        })
        .await;
    }
}

/// On the load of all pods of `described` together, of which 10 is what one replica is meant to bear.
fn hpa(name: &str, described: Value) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": 1, "maxReplicas": 2,
            "metrics": [{"type": "Object", "object": {
                "describedObject": described,
                "metric": {"name": "load"},
                "target": {"type": "AverageValue", "averageValue": "10"},
            }}],
        },
    })
}

/// Shows this load on each pod of the two, and far too much on the stranger's.
async fn report(scene: &Scene, exporter: &Exporter, load: u32) {
    let namespace = scene.namespace;
    let pods = scene.api::<Pod>().list(&ListParams::default()).await;
    let pods = pods.expect("the pods");
    let lines = pods.iter().map(|pod| {
        let name = pod.name_any();
        let load = if name.starts_with(STRANGER) {
            1000
        } else {
            load
        };
        format!("load{{namespace=\"{namespace}\",pod=\"{name}\"}} {load}\n")
    });
    exporter.show(lines.collect());
}
