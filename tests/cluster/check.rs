//! `check --kubeconfig`: what the rules would offer in a cluster as it is.

use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use crate::exporter::{Exporter, sm_util_page};
use crate::kserve;
use crate::scene::Scene;
use crate::wait::PATIENCE;

const RULES: &str = r#"
scrape: {presets: [dcgm-exporter]}
rules:
- seriesQuery: '{__name__=~"^DCGM_CUSTOM_.*_UTIL$"}'
  resources: {overrides: {NamespaceName: {resource: namespace}, PodName: {resource: pod}}}
  metricsQuery: avg(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
- seriesQuery: 'queue_length'
  resources: {template: <<.Resource>>}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
- seriesQuery: 'nobody_has_it'
  resources: {template: <<.Resource>>}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
"#;

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn check_tells_what_the_targets_of_a_cluster_would_offer() {
    let scene = Scene::new("checked").await;
    let exporter = Exporter::hanging(&scene, "exporter").await;
    let page = sm_util_page(scene.namespace, &[("model".to_owned(), 50.0)]);
    // A kind that only this cluster's own discovery knows.
    exporter.show(
        page + "queue_length{namespace=\"checked\",inferenceservice=\"qwen\",shelf=\"a\"} 1\n",
    );
    let _dead = Exporter::dead(&scene, "dead").await;
    kserve::install(&scene).await;
    let file = scene.plane.workspace.write("checked.yaml", RULES);
    let mut check = Command::new(env!("CARGO_BIN_EXE_gpu-metrics-adapter"));
    check
        .args(["check", &file, "--kubeconfig"])
        .arg(scene.plane.admin_kubeconfig())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(PATIENCE, check.output()).await;
    let output = output.expect("it ends").expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = "\
2 targets, 1 of them down
preset dcgm-exporter[0]: ok
  DCGM_CUSTOM_PROCESS_SM_UTIL: nodes by NodeName
preset dcgm-exporter[1]: ok
  no series for it
rules[0]: ok
  DCGM_CUSTOM_PROCESS_SM_UTIL: namespaces by NamespaceName, pods by PodName in NamespaceName
rules[1]: ok
  queue_length: namespaces by namespace, nodes by node, jobs.batch by job in namespace, inferenceservices.serving.kserve.io by inferenceservice in namespace
rules[2]: ok
  no series for it
";
    assert_eq!(said, expected);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaints}", output.status);
}
