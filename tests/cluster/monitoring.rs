//! What manifests/monitoring installs, held against the kinds of Prometheus's operator.

use crate::programs::built;
use crate::scene::Scene;

const KINDS: [&str; 2] = [
    "servicemonitors.monitoring.coreos.com",
    "prometheusrules.monitoring.coreos.com",
];

#[tokio::test]
#[ignore = "needs the control plane and the kinds of Prometheus's operator: make test"]
async fn the_monitoring_manifests_are_what_prometheus_operator_knows() {
    let scene = Scene::new("monitoring").await;
    scene.install_accounts().await;
    let crds = built("tests/monitoring/build.sh");
    let crds = crds.to_str().expect("a UTF-8 path");
    let apply = ["apply", "--server-side", "-f", crds];
    scene.plane.kubectl(&apply).await.expect("kubectl apply");
    for kind in KINDS {
        let crd = format!("crd/{kind}");
        let wait = ["wait", "--for=condition=Established", "--timeout=30s", &crd];
        scene.plane.kubectl(&wait).await.expect("an installed kind");
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/monitoring");
    let told = strictly(&scene, "-k", folder).await.expect("accepted");
    for (kind, _) in KINDS.map(|kind| kind.split_once('.').expect("kind.group")) {
        let kind = kind.trim_end_matches('s');
        assert!(
            told.contains(&format!("{kind}.monitoring.coreos.com/gpu-metrics-adapter")),
            "{told}"
        );
    }

    // It would not be, were a field misspelt.
    let file = format!("{folder}/servicemonitor.yaml");
    let text = std::fs::read_to_string(&file).expect("a manifest");
    let misspelt = text.replace("serverName:", "servername:");
    assert_ne!(misspelt, text);
    let file = scene.plane.workspace.write("misspelt.yaml", &misspelt);
    let refused = strictly(&scene, "-f", &file).await.expect_err("refused");
    assert!(refused.contains("servername"), "{refused}");
}

/// Applies what is there; the API server refuses a field that it does not know.
async fn strictly(scene: &Scene, flag: &str, path: &str) -> Result<String, String> {
    let apply = ["apply", "--server-side", "--validate=strict", flag, path];
    scene.plane.kubectl(&apply).await
}
