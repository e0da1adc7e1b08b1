//! CPU and memory without metrics-server: kubectl, and a KServe predictor that the HPA scales on them.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::adapter::Adapter;
use crate::control_plane::NODES;
use crate::fixtures;
use crate::kubelet::Kubelets;
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

const NAME: &str = "sklearn-iris-predictor";

/// Two periods of the HPA's scaling policy, 15 s each, and a slow machine.
const LONG: Duration = Duration::from_secs(90);

const MEBIBYTE: u64 = 1 << 20;

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn kubectl_top_and_get_show_what_the_kubelets_tell() {
    let scene = Scene::new("top").await;
    let (kubelets, _adapter) = adapter_and(&scene).await;
    let pods = fixtures::object("kserve/deployment-sklearn-iris-predictor.yaml");
    scene.create::<Deployment>(pods).await;
    let usage = |_| (0.2495, 100 * MEBIBYTE);

    let top = [
        "top",
        "pods",
        "--containers",
        "--namespace",
        scene.namespace,
    ];
    let text = eventually("the pod in kubectl top", PATIENCE, async || {
        kubelets.report(&scene, usage).await;
        let text = scene.plane.kubectl(&top).await?;
        text.contains("250m").then_some(text.clone()).ok_or(text)
    })
    .await;
    let lines: Vec<Vec<&str>> = text.lines().map(words).collect();
    assert_eq!(lines[0], ["POD", "NAME", "CPU(cores)", "MEMORY(bytes)"]);
    assert!(lines[1][0].starts_with(NAME), "{text}");
    assert_eq!(
        lines[1][1..],
        ["kserve-container", "250m", "100Mi"],
        "{text}"
    );
    assert_eq!(lines.len(), 2, "{text}");

    let text = eventually("the nodes in kubectl top", PATIENCE, async || {
        let text = scene.plane.kubectl(&["top", "nodes"]).await?;
        // Each kubelet's second point comes in its own time.
        let measured = |node| {
            let line = text.lines().find(|line| line.starts_with(node));
            line.is_some_and(|line| !line.contains("<unknown>"))
        };
        let all = NODES.into_iter().all(measured);
        if all { Ok(text) } else { Err(text) }
    })
    .await;
    for node in NODES {
        let line = text.lines().map(words).find(|line| line[0] == node);
        let line = line.unwrap_or_else(|| panic!("{node} in {text}"));
        assert_eq!(line[1..], ["1500m", "1%", "8192Mi", "0%"], "{text}");
    }

    let get = ["get", "podmetrics", "--namespace", scene.namespace];
    let text = scene.plane.kubectl(&get).await.expect("a table");
    let lines: Vec<Vec<&str>> = text.lines().map(words).collect();
    assert_eq!(lines[0], ["NAME", "CPU", "MEMORY", "WINDOW"], "{text}");
    assert_eq!(lines[1][2], "100Mi", "{text}");

    // A pod that is not there, and one page for all: the other version, by the selector, and no watch.
    let nobody = ["top", "pod", "nobody", "--namespace", scene.namespace];
    let missing = scene.plane.kubectl(&nobody);
    let error = missing.await.expect_err("there is none");
    assert!(error.contains("pods \"nobody\" not found"), "{error}");
    let path = "/apis/metrics.k8s.io/v1/pods?labelSelector=app%3Disvc.sklearn-iris-predictor";
    let text = scene
        .plane
        .kubectl(&["get", "--raw", path])
        .await
        .expect("a list");
    let list: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{text}");
    assert_eq!(
        list["items"][0]["metadata"]["labels"]["chart"],
        "kserve-0.1.0"
    );
}

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn the_hpa_scales_sklearn_iris_on_cpu_and_memory_and_back() {
    let scene = Scene::new("sklearn").await;
    let (kubelets, _adapter) = adapter_and(&scene).await;
    let deployment = fixtures::object("kserve/deployment-sklearn-iris-predictor.yaml");
    scene.create::<Deployment>(deployment).await;
    let hpa = fixtures::object("kserve/hpa-sklearn-iris-predictor.yaml");
    scene.create::<HorizontalPodAutoscaler>(hpa).await;
    let story = Story {
        scene: &scene,
        kubelets: &kubelets,
    };

    // All pods together use as many cores, of which each requests one, and is to use a tenth: ten pods. The HPA adds four pods or
    // doubles them, whichever is more, and again after 15 s.
    let load = |cores: f64| move |pods: usize| (cores / pods as f64, 50 * MEBIBYTE);
    assert_eq!(story.scale(1, load(0.05)).await, [1]);
    let seen = story.scale(10, load(0.95)).await;
    assert_eq!(seen, [1, 5, 10]);
    let seen = story.scale(1, load(0.02)).await;
    assert_eq!(seen.last(), Some(&1));
    assert!(seen.is_sorted_by(|a, b| a > b), "only down: {seen:?}");

    // 200 MiB are requested.
    story
        .measure(json!([{"type": "Resource", "resource": {
            "name": "memory",
            "target": {"type": "Utilization", "averageUtilization": 50},
        }}]))
        .await;
    let memory = |mebibytes: u64| move |pods: usize| (0.01, mebibytes * MEBIBYTE / pods as u64);
    assert_eq!(story.scale(3, memory(280)).await, [1, 3]);
    assert_eq!(story.scale(1, memory(20)).await.last(), Some(&1));

    story
        .measure(json!([{"type": "ContainerResource", "containerResource": {
            "name": "cpu",
            "container": "kserve-container",
            "target": {"type": "Utilization", "averageUtilization": 10},
        }}]))
        .await;
    assert_eq!(story.scale(4, load(0.38)).await, [1, 4]);
    assert_eq!(story.scale(1, load(0.02)).await.last(), Some(&1));
}

/// Kubelets of all nodes, and an adapter that serves what they tell.
pub(crate) async fn adapter_and(scene: &Scene) -> (Kubelets, Adapter) {
    // The adapter's ServiceAccount must be there before its token.
    scene.install_accounts().await;
    let kubelets = Kubelets::start(scene, &NODES).await;
    let (configuration, flags) = kubelets.settings(scene);
    let adapter = Adapter::start_with_resource_metrics(scene, &configuration, &flags).await;
    (kubelets, adapter)
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

struct Story<'a> {
    scene: &'a Scene,
    kubelets: &'a Kubelets,
}

impl Story<'_> {
    /// Has the pods use what `usage` says until there are `wanted` of them and the HPA agrees: the numbers of replicas that were meant.
    async fn scale(&self, wanted: i32, usage: impl Fn(usize) -> (f64, u64) + Copy) -> Vec<i32> {
        let mut seen = Vec::new();
        eventually(&format!("{wanted} replicas"), LONG, async || {
            self.kubelets.report(self.scene, usage).await;
            let deployment = self.scene.api::<Deployment>().get(NAME).await;
            let deployment = deployment.map_err(|error| error.to_string())?;
            let meant = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(0);
            if seen.last() != Some(&meant) {
                seen.push(meant);
            }
            let ready = deployment.status.and_then(|it| it.ready_replicas);
            let says = self.hpa_says().await?;
            if meant == wanted && ready == Some(wanted) && says.is_none() {
                return Ok(());
            }
            Err(format!("{seen:?} meant, {ready:?} ready; {says:?}"))
        })
        .await;
        seen
    }

    /// Nothing, where the HPA has a value and does not want to scale.
    async fn hpa_says(&self) -> Result<Option<String>, String> {
        let hpa = self.scene.api::<HorizontalPodAutoscaler>().get(NAME).await;
        let status = hpa.map_err(|error| error.to_string())?.status;
        let status = status.ok_or("no status yet")?;
        let conditions = status.conditions.unwrap_or_default();
        let active = conditions
            .iter()
            .find(|condition| condition.type_ == "ScalingActive")
            .ok_or("no condition yet")?;
        if active.status != "True" {
            return Ok(active.message.clone());
        }
        let (current, desired) = (status.current_replicas, status.desired_replicas);
        let differ = current != Some(desired);
        Ok(differ.then(|| format!("{current:?} to {desired}")))
    }

    async fn measure(&self, metrics: Value) {
        let patch = json!({"spec": {"metrics": metrics}});
        let hpas = self.scene.api::<HorizontalPodAutoscaler>();
        hpas.patch(NAME, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .expect("an HPA");
    }
}
