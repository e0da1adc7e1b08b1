//! Kubelets that fail: each is named, and the others are unharmed.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::adapter::{Adapter, get};
use crate::control_plane::NODES;
use crate::kubelet::{Kubelets, Mood};
use crate::pki::Authority;
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

/// The faulty nodes, each with an address of loopback and with words of its reason.
const FAULTY: [(&str, &str, &str); 4] = [
    ("stranger", "127.0.0.2", "certificate"),
    ("hanging", "127.0.0.1", "no answer"),
    ("half", "127.0.0.1", "its kubelet is down since"),
    ("late", "127.0.0.1", "s old"),
];

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn a_kubelet_that_fails_is_named_and_harms_no_other() {
    let scene = Scene::new("kubelet-faults").await;
    scene.install_accounts().await;
    let mut kubelets = Kubelets::start(&scene, &NODES).await;
    let stranger = Authority::new("somebody else");
    kubelets.listen("127.0.0.2", &stranger).await;
    let nodes: Api<Node> = Api::all(scene.client.clone());
    for (name, address, _) in FAULTY {
        let node = serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}},
            "spec": {"unschedulable": true},
            // kwok takes away all addresses of a node that lacks one of the two.
            "status": {"addresses": [
                {"type": "InternalIP", "address": address},
                {"type": "Hostname", "address": name},
            ]},
        }));
        let node: Node = node.expect("a node");
        nodes
            .create(&PostParams::default(), &node)
            .await
            .expect("a node");
        kubelets.add(&scene, name).await;
    }
    kubelets.mood("hanging", Mood::Hangs);
    kubelets.mood("half", Mood::HalfPage);
    kubelets.mood("late", Mood::Clock(-3600));
    let (configuration, flags) = kubelets.settings(&scene);
    let adapter = Adapter::start_with_resource_metrics(&scene, &configuration, &flags).await;

    let admin = scene.plane.client();
    eventually(
        "the nodes that are well, and no others",
        PATIENCE,
        async || {
            let text = get(&admin, "/apis/metrics.k8s.io/v1beta1/nodes").await?;
            let list: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            let items = list["items"].as_array().ok_or("no items")?;
            let names: Vec<&str> = items
                .iter()
                .filter_map(|item| item["metadata"]["name"].as_str())
                .collect();
            if names == NODES { Ok(()) } else { Err(text) }
        },
    )
    .await;

    // Its own health and metrics, as an administrator with a client certificate sees them.
    let identity = scene
        .plane
        .cluster_ca
        .issue("admin", &["system:masters"], &[]);
    let client = adapter.direct(&adapter.ca, Some(&identity));
    let fetch = async |path: &str| -> Result<String, String> {
        let response = client.get(adapter.url(path)).send().await;
        let response = response.map_err(|error| error.to_string())?;
        let response = response
            .error_for_status()
            .map_err(|error| error.to_string())?;
        response.text().await.map_err(|error| error.to_string())
    };
    eventually("each fault with its reason", PATIENCE, async || {
        let text = fetch("/readyz?verbose").await?;
        let line = text
            .lines()
            .find(|line| line.starts_with("[+]resource-metrics ok: 2 of 6 nodes are measured; "))
            .ok_or_else(|| text.clone())?;
        for (name, _, reason) in FAULTY {
            let told = line.split("; ").find(|part| part.starts_with(name));
            let told = told.ok_or_else(|| format!("{name}: {line}"))?;
            if !told.contains(reason) {
                return Err(format!("{name}: {told}"));
            }
        }
        Ok(())
    })
    .await;
    let metrics = fetch("/metrics").await.expect("metrics");
    for line in [
        "gpu_metrics_adapter_nodes_missing 4",
        "gpu_metrics_adapter_node_missing{node=\"late\"} 1",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} in {metrics}");
    }

    // What fails does not take the others' time: they are still fresh.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let text = get(&admin, "/apis/metrics.k8s.io/v1beta1/nodes").await;
    let list: Value = serde_json::from_str(&text.expect("a list")).expect("JSON");
    for item in list["items"].as_array().expect("items") {
        let time: jiff::Timestamp = item["timestamp"]
            .as_str()
            .expect("text")
            .parse()
            .expect("a time");
        let age = jiff::Timestamp::now().duration_since(time).as_secs();
        assert!((-1..=4).contains(&age), "{age} s old");
    }

    // A kubelet that is well again is told of again.
    for name in ["hanging", "half", "late"] {
        kubelets.mood(name, Mood::Good);
    }
    eventually("the nodes that have recovered", PATIENCE, async || {
        let text = fetch("/readyz?verbose").await?;
        let recovered = text.contains("5 of 6 nodes are measured; stranger: ");
        recovered.then_some(()).ok_or(text)
    })
    .await;
    for (name, ..) in FAULTY {
        nodes
            .delete(name, &DeleteParams::default())
            .await
            .expect("a deletion");
    }
}
