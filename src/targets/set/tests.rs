use super::*;
use crate::cluster::discovery::{DiscoveredContainer, DiscoveredPod, DiscoveredPort};
use crate::targets::compile;

fn jobs(text: &str) -> Vec<Job> {
    compile(&serde_saphyr::from_str(text).expect(text)).expect(text)
}

fn statics(text: &str) -> TargetSet {
    assemble(&jobs(text), |_| Pods::default(), 1_000)
}

/// A dcgm-exporter pod as NVIDIA's Helm chart makes it, on the node `gpu-1`.
fn dcgm_pod() -> DiscoveredPod {
    DiscoveredPod {
        namespace: "monitoring".into(),
        name: "dcgm-exporter-x2x4f".into(),
        uid: "0b1c".into(),
        ip: "10.0.3.9".into(),
        host_ip: "192.168.0.4".into(),
        node_name: "gpu-1".into(),
        phase: "Running".into(),
        ready: "true".into(),
        labels: [
            ("app.kubernetes.io/name".into(), "dcgm-exporter".into()),
            ("app.kubernetes.io/component".into(), "dcgm-exporter".into()),
        ]
        .into(),
        controller: Some(("DaemonSet".into(), "dcgm-exporter".into())),
        containers: vec![DiscoveredContainer {
            name: "exporter".into(),
            image: "nvcr.io/nvidia/k8s/dcgm-exporter:4.4.1-4.5.2-ubuntu22.04".into(),
            init: false,
            ports: vec![port("metrics", 9400)],
        }],
        ..DiscoveredPod::default()
    }
}

fn port(name: &str, number: u16) -> DiscoveredPort {
    DiscoveredPort {
        name: name.to_owned(),
        number,
        protocol: "TCP".to_owned(),
    }
}

/// The preset's targets where every one of its queries finds `pods`.
fn preset(pods: &[DiscoveredPod]) -> TargetSet {
    let pods: Pods = Arc::new(pods.iter().cloned().map(Arc::new).collect());
    assemble(&jobs("{}"), |_| pods.clone(), 1_000)
}

#[test]
fn the_preset_scrapes_a_dcgm_exporter_once_and_knows_its_node() {
    let found = preset(&[dcgm_pod()]);
    let [target] = found.targets.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(target.url.as_str(), "http://10.0.3.9:9400/metrics");
    assert_eq!(
        target.labels.to_string(),
        r#"{instance="10.0.3.9:9400", job="dcgm-exporter", node="gpu-1"}"#,
        "no pod or namespace: those would be the exporter's"
    );
    assert_eq!(
        target.object.as_deref(),
        Some("pod monitoring/dcgm-exporter-x2x4f")
    );
    assert!(target.settings.honor_labels);
}

#[test]
fn the_preset_finds_the_port_that_an_installer_chose() {
    let with = |ports: &[(&str, u16)]| {
        let mut pod = dcgm_pod();
        pod.containers[0].ports = ports.iter().map(|(name, it)| port(name, *it)).collect();
        let urls = preset(&[pod]).targets;
        let urls: Vec<_> = urls.iter().map(|it| it.url.to_string()).collect();
        urls.join(" ")
    };
    assert_eq!(with(&[]), "http://10.0.3.9:9400/metrics");
    assert_eq!(with(&[("", 9400)]), "http://10.0.3.9:9400/metrics");
    assert_eq!(
        with(&[("health", 8080), ("metrics", 9500)]),
        "http://10.0.3.9:9500/metrics"
    );
    assert_eq!(
        with(&[("http-metrics", 9445)]),
        "http://10.0.3.9:9445/metrics"
    );
    assert_eq!(with(&[("health", 8080)]), "");
}

#[test]
fn the_preset_brackets_an_ipv6_address() {
    let mut pod = dcgm_pod();
    pod.ip = "fd00::9".into();
    pod.containers[0].ports.clear();
    let found = preset(&[pod]);
    assert_eq!(
        found.targets[0].url.as_str(),
        "http://[fd00::9]:9400/metrics"
    );
}

#[test]
fn the_preset_leaves_ended_pods_and_init_containers_out() {
    let mut ended = dcgm_pod();
    ended.phase = "Failed".into();
    assert!(preset(&[ended]).targets.is_empty());
    let mut pod = dcgm_pod();
    pod.containers[0].init = true;
    assert!(preset(&[pod]).targets.is_empty());
}

#[test]
fn a_preset_leaves_a_url_to_the_job_that_was_written_for_it() {
    let jobs =
        jobs("scrape_configs: [{job_name: mine, static_configs: [{targets: ['10.0.3.9:9400']}]}]");
    let pods: Pods = Arc::new(vec![Arc::new(dcgm_pod())]);
    let found = assemble(&jobs, |_| pods.clone(), 1_000);
    let jobs: Vec<_> = found
        .targets
        .iter()
        .map(|it| it.labels.value("job"))
        .collect();
    assert_eq!(jobs, ["mine"]);
}

#[test]
fn a_url_is_made_of_the_labels_that_relabelling_leaves() {
    let found = statics(
        r#"
presets: []
scrape_configs:
- job_name: probe
  scrape_interval: 30s
  metrics_path: /probe
  params: {module: [http, tcp], target: [x]}
  static_configs:
  - targets: ["gpu-1", "gpu-2"]
    labels: {rack: r1, __tmp: gone}
  relabel_configs:
  - {source_labels: [__address__], target_label: __param_target}
  - {source_labels: [__address__], target_label: instance}
  - {source_labels: [__address__], regex: gpu-2, target_label: __scrape_interval__, replacement: 5s}
  - {target_label: __address__, replacement: "127.0.0.1:9115"}
"#,
    );
    let [one, two] = found.targets.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(
        one.url.as_str(),
        "http://127.0.0.1:9115/probe?module=http&module=tcp&target=gpu-1"
    );
    assert_eq!(
        one.labels.to_string(),
        r#"{instance="gpu-1", job="probe", rack="r1"}"#
    );
    let seconds = |target: &Target| (target.interval.as_secs(), target.timeout.as_secs());
    assert_eq!((seconds(one), seconds(two)), ((30, 10), (5, 5)));
}

#[test]
fn what_cannot_be_scraped_is_told_and_hurts_no_other() {
    let found = statics(
        r#"
presets: []
scrape_configs:
- job_name: a
  static_configs: [{targets: ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:99999", "127.0.0.1:4"]}]
  relabel_configs:
  - {source_labels: [__address__], regex: ".*:2", target_label: __address__, replacement: ""}
  - {source_labels: [__address__], regex: ".*:4", action: drop}
"#,
    );
    assert_eq!(
        (found.targets.len(), found.dropped, found.faulty),
        (1, 1, 2)
    );
    let reasons: Vec<_> = found.faults.iter().map(|it| it.reason.as_str()).collect();
    assert_eq!(reasons[0], "it has no __address__");
    assert!(reasons[1].contains("invalid port"), "{reasons:?}");
}

#[test]
fn equal_targets_are_one_and_limits_leave_the_rest_out() {
    let text = r#"
presets: []
scrape_configs:
- job_name: a
  target_limit: 2
  static_configs: [{targets: ["127.0.0.1:3", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:1"]}]
- {job_name: b, static_configs: [{targets: ["127.0.0.1:5", "127.0.0.1:6"]}]}
"#;
    let found = assemble(&jobs(text), |_| Pods::default(), 3);
    let ports: Vec<_> = found.targets.iter().map(|it| it.url.port()).collect();
    assert_eq!(ports, [Some(1), Some(2), Some(5)]);
    assert_eq!(found.over_limit, 2);
}
