//! Schedules and HPAs: bounds that follow the clock and come back, and windows under the load.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::adapter::Adapter;
use crate::cron::{cron, crons, events, in_seconds, job, put, state, status, until};
use crate::exporter::Exporter;
use crate::kserve;
use crate::scaled::{create_deployment, replicas_are, show_utilisation};
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

/// Two stabilisation windows of 10 s, some rounds of the HPA, and a slow machine.
const LONG: Duration = Duration::from_secs(90);

/// An HPA, the replicas of its Deployment, the size of a job, and what comes of it.
struct Row {
    name: &'static str,
    bounds: (i32, i32),
    current: i32,
    size: i32,
    after: (i32, i32),
    replicas: i32,
}

const fn row(
    name: &'static str,
    bounds: (i32, i32),
    (size, current): (i32, i32),
    after: (i32, i32),
    replicas: i32,
) -> Row {
    Row {
        name,
        bounds,
        current,
        size,
        after,
        replicas,
    }
}

/// Where the old controller left `1/10`: in the first two rows and the last.
const TABLE: [Row; 6] = [
    row("equal", (1, 10), (5, 5), (5, 10), 5),
    row("below-current", (1, 10), (4, 5), (4, 10), 5),
    row("raise-min", (1, 10), (6, 5), (6, 10), 6),
    row("lower-min", (5, 10), (4, 5), (4, 10), 5),
    row("raise-both", (5, 10), (11, 5), (11, 11), 11),
    row("far-above", (1, 10), (5, 8), (5, 10), 8),
];

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn the_bounds_of_an_hpa_follow_the_jobs_and_come_back() {
    let scene = Scene::new("cron-hpa").await;
    let adapter = Adapter::start_with_schedules(&scene).await;
    for row in &TABLE {
        create_deployment(&scene, row.name, row.current).await;
        // Without metrics it keeps its bounds and does no more.
        scene
            .create::<HorizontalPodAutoscaler>(hpa(row.name, row.name, row.bounds, cpu()))
            .await;
    }
    // Not before the Deployments have their replicas: the HPA looks at those that are there.
    eventually("the HPAs", PATIENCE, async || {
        for row in &TABLE {
            let status = get(&scene, row.name).await?.status;
            let current = status.and_then(|status| status.current_replicas);
            if current != Some(row.current) {
                return Err(format!("{}: {current:?}", row.name));
            }
        }
        Ok(())
    })
    .await;
    let due = in_seconds(8);
    for row in &TABLE {
        let spec = json!({"jobs": [job("it", due, row.size)]});
        put(
            &scene,
            cron(row.name, "HorizontalPodAutoscaler", row.name, spec),
        )
        .await;
    }
    for row in &TABLE {
        eventually(row.name, PATIENCE, async || {
            state(&scene, row.name, "it", "Succeed").await?;
            bounds(&scene, row.name, row.after).await?;
            replicas_are(&scene, row.name, row.replicas).await
        })
        .await;
    }
    // What the old controller said where it left the rest to the HPA.
    let left = state(&scene, "far-above", "it", "Succeed")
        .await
        .expect("run");
    let skipped = "cron hpa job it executed successfully. Skip scale replicas because HPA far-above in namespace cron-hpa current replicas:8 >= desired replicas:5.";
    assert_eq!(left["message"], skipped);
    assert_eq!(events(&scene, "far-above").await.len(), 1);

    // A lower job takes the maximum down again, which the old controller never did.
    let later = in_seconds(3);
    let spec = json!({"jobs": [job("it", due, 11), job("low", later, 4)]});
    put(
        &scene,
        cron("raise-both", "HorizontalPodAutoscaler", "raise-both", spec),
    )
    .await;
    eventually("the maximum back", PATIENCE, async || {
        bounds(&scene, "raise-both", (4, 10)).await
    })
    .await;
    // And what people gave comes back with the end of the object.
    crons(&scene)
        .delete("raise-both", &DeleteParams::default())
        .await
        .expect("a deletion");
    eventually("the bounds back", PATIENCE, async || {
        bounds(&scene, "raise-both", (5, 10)).await?;
        let annotations = get(&scene, "raise-both").await?.annotations().clone();
        let kept = annotations
            .keys()
            .any(|key| key.contains("gpu-metrics-adapter"));
        (!kept)
            .then_some(())
            .ok_or_else(|| format!("{annotations:?}"))
    })
    .await;
    adapter.remove_external(&scene).await;
}

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn an_hpa_that_kserve_keeps_is_recognised() {
    let scene = Scene::new("cron-kserve").await;
    let adapter = Adapter::start_with_schedules(&scene).await;
    create_deployment(&scene, "iris-predictor", 1).await;
    let mut kept = hpa("iris-predictor", "iris-predictor", (1, 3), cpu());
    kserve::install(&scene).await;
    kept["metadata"]["ownerReferences"] = kserve::inference_service(&scene, "iris").await;
    scene.create::<HorizontalPodAutoscaler>(kept).await;
    let due = in_seconds(3);
    let spec = json!({"jobs": [job("up", due, 2)]});
    for (name, kind) in [
        ("on-deployment", "Deployment"),
        ("on-hpa", "HorizontalPodAutoscaler"),
    ] {
        put(&scene, cron(name, kind, "iris-predictor", spec.clone())).await;
    }
    for (name, told) in [
        (
            "on-deployment",
            "HorizontalPodAutoscaler iris-predictor, which KServe keeps, scales the same target and will undo this: annotate InferenceService iris with serving.kserve.io/autoscalerClass: external.",
        ),
        (
            "on-hpa",
            "HorizontalPodAutoscaler iris-predictor is kept by KServe, which sets its bounds back: set minReplicas of InferenceService iris instead",
        ),
    ] {
        let condition = eventually(name, PATIENCE, async || {
            state(&scene, name, "up", "Succeed").await
        })
        .await;
        let message = condition["message"].as_str().expect("a message");
        assert!(message.contains(told), "{message}");
    }
    adapter.remove_external(&scene).await;
}

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn a_window_is_a_floor_under_gpu_utilisation() {
    let scene = Scene::new("cron-gpu").await;
    let exporter = Exporter::hanging(&scene, "exporter").await;
    exporter.show(String::new());
    let adapter = Adapter::start_with_schedules(&scene).await;
    create_deployment(&scene, "qwen", 1).await;
    let metrics = json!([
        {"type": "Pods", "pods": {
            "metric": {"name": "DCGM_CUSTOM_PROCESS_SM_UTIL"},
            "target": {"type": "AverageValue", "averageValue": "50"},
        }},
        {"type": "External", "external": {
            "metric": {"name": "schedule_desired_replicas", "selector": {"matchLabels": {"name": "qwen"}}},
            "target": {"type": "AverageValue", "averageValue": "1"},
        }},
    ]);
    scene
        .create::<HorizontalPodAutoscaler>(hpa("qwen", "qwen", (1, 4), metrics))
        .await;
    let window = |start: String, end: String| {
        let window = json!({"name": "peak", "start": start, "end": end, "replicas": 2});
        cron("qwen", "Deployment", "qwen", json!({"windows": [window]}))
    };
    let far = "2100-01-01T00:00:00Z".to_owned();
    put(
        &scene,
        window(far.clone(), "2100-01-02T00:00:00Z".to_owned()),
    )
    .await;
    let with_load = async |percent: f64, wanted: i32| {
        show_utilisation(&scene, &exporter, "app=qwen", percent).await;
        replicas_are(&scene, "qwen", wanted).await?;
        active(&scene).await
    };
    eventually("one replica before the window", LONG, async || {
        with_load(5.0, 1).await
    })
    .await;

    let start = in_seconds(1);
    put(&scene, window(start.to_string(), far.clone())).await;
    eventually("the floor in the window", LONG, async || {
        with_load(5.0, 2).await
    })
    .await;
    eventually("the load above the floor", LONG, async || {
        with_load(95.0, 4).await
    })
    .await;
    eventually("the floor again", LONG, async || with_load(5.0, 2).await).await;
    // The floor is the HPA's affair alone here.
    let status = status(&scene, "qwen").await.expect("a status");
    assert_eq!(
        status["windows"],
        json!([{"name": "peak", "replicas": 2, "message": ""}])
    );
    assert_eq!(
        (&status["floor"], events(&scene, "qwen").await.len()),
        (&Value::Null, 0)
    );

    let end = in_seconds(1);
    put(&scene, window(start.to_string(), end.to_string())).await;
    until(end).await;
    eventually("one replica after the window", LONG, async || {
        with_load(5.0, 1).await
    })
    .await;
    adapter.remove_external(&scene).await;
}

fn hpa(name: &str, target: &str, (min, max): (i32, i32), metrics: Value) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
            "minReplicas": min,
            "maxReplicas": max,
            "metrics": metrics,
        },
    })
}

fn cpu() -> Value {
    json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}])
}

async fn get(scene: &Scene, name: &str) -> Result<HorizontalPodAutoscaler, String> {
    let hpa = scene.api::<HorizontalPodAutoscaler>().get(name).await;
    hpa.map_err(|error| error.to_string())
}

async fn bounds(scene: &Scene, name: &str, wanted: (i32, i32)) -> Result<(), String> {
    let spec = get(scene, name).await?.spec.ok_or("no specification")?;
    let bounds = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
    (bounds == wanted)
        .then_some(())
        .ok_or_else(|| format!("{bounds:?}"))
}

/// Whether the HPA has both of its metrics.
async fn active(scene: &Scene) -> Result<(), String> {
    let status = get(scene, "qwen").await?.status.unwrap_or_default();
    for condition in status.conditions.unwrap_or_default() {
        if condition.type_ == "ScalingActive" && condition.status != "True" {
            return Err(condition.message.unwrap_or_default());
        }
    }
    let metrics = status.current_metrics.unwrap_or_default().len();
    (metrics == 2)
        .then_some(())
        .ok_or_else(|| format!("{metrics} metrics"))
}
