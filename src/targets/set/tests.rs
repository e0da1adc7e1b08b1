use super::*;
use crate::cluster::discovery::{
    DiscoveredContainer, DiscoveredNode, DiscoveredPod, DiscoveredPort, Metadata,
};
use crate::targets::compile;

fn jobs(text: &str) -> Vec<Job> {
    compile(&serde_saphyr::from_str(text).expect(text)).expect(text)
}

/// The targets where each query finds these objects, as far as they are of its kind.
fn found(jobs: &[Job], objects: &[Discovered], limit: usize) -> TargetSet {
    let objects = |query: &Query| -> Objects {
        let meant = |object: &&Discovered| match object {
            Discovered::Pod(_) => query.kind == Kind::Pod,
            Discovered::Node(_) => query.kind == Kind::Node,
            Discovered::Service(_) => query.kind == Kind::Service,
            Discovered::Slice(_) => query.kind == Kind::EndpointSlice,
        };
        let objects = objects.iter().filter(meant);
        Arc::new(objects.cloned().map(Arc::new).collect())
    };
    assemble(jobs, objects, limit)
}

fn statics(text: &str) -> TargetSet {
    found(&jobs(text), &[], 1_000)
}

/// A dcgm-exporter pod as NVIDIA's Helm chart makes it, on the node `gpu-1`.
fn dcgm_pod() -> DiscoveredPod {
    DiscoveredPod {
        metadata: Metadata {
            namespace: "monitoring".into(),
            name: "dcgm-exporter-x2x4f".into(),
            labels: [
                ("app.kubernetes.io/name".into(), "dcgm-exporter".into()),
                ("app.kubernetes.io/component".into(), "dcgm-exporter".into()),
            ]
            .into(),
            ..Metadata::default()
        },
        uid: "0b1c".into(),
        ip: "10.0.3.9".into(),
        host_ip: "192.168.0.4".into(),
        node_name: "gpu-1".into(),
        phase: "Running".into(),
        ready: "true".into(),
        controller: Some(("DaemonSet".into(), "dcgm-exporter".into())),
        containers: vec![DiscoveredContainer {
            name: "exporter".into(),
            id: String::new(),
            image: "nvcr.io/nvidia/k8s/dcgm-exporter:4.4.1-4.5.2-ubuntu22.04".into(),
            init: false,
            ports: vec![port("metrics", 9400)],
        }],
    }
}

fn port(name: &str, number: u16) -> DiscoveredPort {
    DiscoveredPort {
        name: name.to_owned(),
        number,
        protocol: "TCP".to_owned(),
    }
}

/// The targets of the preset dcgm-exporter where every one of its queries finds `pods`.
fn preset(pods: &[DiscoveredPod]) -> TargetSet {
    let pods: Vec<_> = pods.iter().cloned().map(Discovered::Pod).collect();
    found(&jobs("{presets: [dcgm-exporter]}"), &pods, 1_000)
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
    let jobs = jobs(
        "presets: [dcgm-exporter]\nscrape_configs: [{job_name: mine, static_configs: [{targets: ['10.0.3.9:9400']}]}]",
    );
    let found = found(&jobs, &[Discovered::Pod(dcgm_pod())], 1_000);
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
    let found = found(&jobs(text), &[], 3);
    let ports: Vec<_> = found.targets.iter().map(|it| it.url.port()).collect();
    assert_eq!(ports, [Some(1), Some(2), Some(5)]);
    assert_eq!(found.over_limit, 2);
}

fn kubelets(node: DiscoveredNode) -> Vec<String> {
    kubelets_by("", node)
}

fn kubelets_by(options: &str, node: DiscoveredNode) -> Vec<String> {
    let found = found(
        &jobs(&format!("presets: [kubelet]\nkubelet: {{{options}}}")),
        &[Discovered::Node(node)],
        1_000,
    );
    let target = |it: &Arc<Target>| format!("{} {}", it.url, it.labels);
    found.targets.iter().map(target).collect()
}

#[test]
fn the_preset_scrapes_the_kubelet_of_each_node() {
    let node = DiscoveredNode {
        metadata: Metadata {
            name: "gpu-1".into(),
            ..Metadata::default()
        },
        addresses: vec![
            ("Hostname".into(), "gpu-1.local".into()),
            ("InternalIP".into(), "10.0.0.1".into()),
        ],
        kubelet_port: 10251,
        ..DiscoveredNode::default()
    };
    let labels = r#"{instance="gpu-1", job="kubelet", node="gpu-1"}"#;
    assert_eq!(
        kubelets(node.clone()),
        [format!("https://10.0.0.1:10251/metrics/resource {labels}")]
    );
    let silent = DiscoveredNode {
        kubelet_port: 0,
        ..node
    };
    assert_eq!(
        kubelets(silent),
        [format!("https://10.0.0.1:10250/metrics/resource {labels}")]
    );
}

#[test]
fn kubelets_are_reached_as_metrics_server_would_reach_them() {
    let address = |(kind, address): &(&str, &str)| ((*kind).into(), (*address).into());
    let node = |addresses: &[(&str, &str)], annotations: &[(&str, &str)]| DiscoveredNode {
        metadata: Metadata {
            name: "n".into(),
            annotations: annotations.iter().map(address).collect(),
            ..Metadata::default()
        },
        addresses: addresses.iter().map(address).collect(),
        kubelet_port: 10251,
        ..DiscoveredNode::default()
    };
    let all = [
        ("Hostname", "h"),
        ("InternalIP", "10.0.0.1"),
        ("ExternalIP", "fd00::1"),
    ];
    let path = [("metrics.k8s.io/resource-metrics-path", "/own/path")];
    let order = "preferred_address_types: [ExternalDNS, ExternalIP, Hostname]";
    for (options, node, expected) in [
        ("", node(&all, &[]), "10.0.0.1:10251/metrics/resource"),
        (order, node(&all, &[]), "[fd00::1]:10251/metrics/resource"),
        (order, node(&all[..2], &[]), "h:10251/metrics/resource"),
        // None of the wanted types: better than nothing.
        (
            order,
            node(&all[1..2], &[]),
            "10.0.0.1:10251/metrics/resource",
        ),
        ("port: 9", node(&all, &[]), "10.0.0.1:9/metrics/resource"),
        (
            "port: 9",
            node(&all[2..], &[]),
            "[fd00::1]:9/metrics/resource",
        ),
        ("", node(&all, &path), "10.0.0.1:10251/own/path"),
    ] {
        let found = kubelets_by(options, node);
        let expected = format!("https://{expected} ");
        assert!(found[0].starts_with(&expected), "{options}: {found:?}");
    }
}

#[test]
fn a_kubelet_is_believed_by_the_clusters_authority_unless_another_is_named() {
    let job = |options: &str| {
        let section = format!("presets: [kubelet]\nkubelet: {{{options}}}");
        jobs(&section).remove(0).written
    };
    let plain = job("");
    let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let authorization = plain.authorization.expect("the token");
    assert_eq!(
        authorization.credentials_file.as_deref(),
        Some(token.as_ref())
    );
    let cluster = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
    assert_eq!(plain.tls_config.ca_file.as_deref(), Some(cluster.as_ref()));
    let own = job("tls_config: {ca_file: /ca, server_name: kubelet}");
    assert_eq!(own.tls_config.ca_file.as_deref(), Some("/ca".as_ref()));
    let certified = job("tls_config: {cert_file: /c, key_file: /k}, node_selector: gpu=true");
    assert_eq!(
        certified.tls_config.ca_file.as_deref(),
        Some(cluster.as_ref())
    );
    let selector = &certified.kubernetes_sd_configs[0].selectors[0];
    assert_eq!(selector.label.as_deref(), Some("gpu=true"));
    let faulty = "scrape_interval: 1s, scrape_timeout: 2s, port: 0, preferred_address_types: [a b], tls_config: {cert: x}";
    let section: crate::config::scrape::ScrapeConfig =
        serde_saphyr::from_str(&format!("kubelet: {{{faulty}}}")).expect("the form");
    let places: Vec<String> = section.validate().into_iter().map(|it| it.path).collect();
    assert_eq!(
        places,
        [
            "kubelet.port",
            "kubelet.preferred_address_types[0]",
            "kubelet.scrape_timeout",
            "kubelet.tls_config"
        ]
    );
}

/// A pod with containers and their ports, with a label or annotation of each pair.
fn pod(annotations: &[(&str, &str)], containers: &[(&str, &[(&str, u16)])]) -> DiscoveredPod {
    let (labels, annotations): (Vec<_>, Vec<_>) = annotations
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .partition(|(name, _)| name.starts_with("serving.kserve.io/"));
    DiscoveredPod {
        metadata: Metadata {
            namespace: "llm".into(),
            name: "vllm-0".into(),
            labels: labels.into_iter().collect(),
            annotations: annotations.into_iter().collect(),
        },
        ip: "10.0.0.7".into(),
        node_name: "gpu-1".into(),
        phase: "Running".into(),
        containers: containers
            .iter()
            .map(|(name, ports)| DiscoveredContainer {
                name: (*name).to_owned(),
                ports: ports.iter().map(|(name, it)| port(name, *it)).collect(),
                ..DiscoveredContainer::default()
            })
            .collect(),
        ..DiscoveredPod::default()
    }
}

#[test]
fn the_preset_scrapes_an_inference_pod_once_where_its_port_is_known() {
    const KSERVE: (&str, &str) = ("serving.kserve.io/inferenceservice", "qwen");
    const SCRAPE: (&str, &str) = ("prometheus.io/scrape", "true");
    const PORT: (&str, &str) = ("prometheus.io/port", "8000");
    type Containers<'a> = &'a [(&'a str, &'a [(&'a str, u16)])];
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let table: &[(Pairs<'_>, Containers<'_>, &str)] = &[
        // KServe: the port that is declared, or KServe's own; not another container's, not gRPC's.
        (
            &[KSERVE],
            &[("kserve-container", &[])],
            "http://10.0.0.7:8080/metrics kserve-container",
        ),
        (
            &[KSERVE],
            &[("kserve-container", &[("http1", 8085)])],
            "http://10.0.0.7:8085/metrics kserve-container",
        ),
        (
            &[KSERVE],
            &[
                ("kserve-container", &[("h2c", 9000), ("http1", 8085)]),
                ("agent", &[("agent-port", 9081)]),
            ],
            "http://10.0.0.7:8085/metrics kserve-container",
        ),
        (
            &[
                KSERVE,
                ("prometheus.kserve.io/port", "8082"),
                ("prometheus.kserve.io/path", "/m"),
            ],
            &[("kserve-container", &[("", 8080)])],
            "http://10.0.0.7:8082/m kserve-container",
        ),
        // By annotation: once, as the container that declares the port.
        (
            &[SCRAPE, PORT],
            &[("a-sidecar", &[("x", 9000)]), ("server", &[("http", 8000)])],
            "http://10.0.0.7:8000/metrics server",
        ),
        (
            &[
                SCRAPE,
                PORT,
                ("prometheus.io/path", "/stats"),
                ("prometheus.io/scheme", "https"),
            ],
            &[("server", &[])],
            "https://10.0.0.7:8000/stats server",
        ),
        (
            &[SCRAPE],
            &[("server", &[("http", 8000), ("http-metrics", 8001)])],
            "http://10.0.0.7:8001/metrics server",
        ),
        (
            &[KSERVE, SCRAPE, PORT],
            &[("kserve-container", &[("", 8080)])],
            "http://10.0.0.7:8000/metrics kserve-container",
        ),
        // No port is known, or nobody asks.
        (&[SCRAPE], &[("server", &[("http", 8000)])], ""),
        (
            &[("prometheus.io/scrape", "false"), PORT],
            &[("server", &[("http", 8000)])],
            "",
        ),
        (&[PORT], &[("server", &[("http", 8000)])], ""),
    ];
    let jobs = jobs("presets: [inference-pods]");
    for (marks, containers, expected) in table {
        let set = found(&jobs, &[Discovered::Pod(pod(marks, containers))], 1_000);
        let target = |it: &Arc<Target>| format!("{} {}", it.url, it.labels.value("container"));
        let targets: Vec<String> = set.targets.iter().map(target).collect();
        assert_eq!(targets.join(", "), *expected, "{marks:?} {containers:?}");
        assert_eq!(set.faulty, 0);
    }
}

#[test]
fn an_inference_pod_can_only_speak_of_itself() {
    let marks = [
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/port", "8000"),
    ];
    let set = found(
        &jobs("presets: [inference-pods]"),
        &[Discovered::Pod(pod(&marks, &[("server", &[])]))],
        1_000,
    );
    let target = &set.targets[0];
    assert_eq!(
        target.labels.to_string(),
        r#"{container="server", instance="10.0.0.7:8000", job="inference-pods", namespace="llm", node="gpu-1", pod="vllm-0"}"#
    );
    assert!(!target.settings.honor_labels);
    for (name, kept) in [
        ("vllm:num_requests_waiting", true),
        ("DCGM_CUSTOM_PROCESS_SM_UTIL", false),
        ("container_memory_working_set_bytes", false),
    ] {
        let mut labels = LabelMap::from([("__name__".to_owned(), name.to_owned())]);
        let keeps = target.settings.metric_relabeling.apply(&mut labels);
        assert_eq!(keeps, kept, "{name}");
    }
}

#[test]
fn an_inference_pod_that_does_not_run_is_no_target() {
    let marks = [
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/port", "8000"),
    ];
    let jobs = jobs("presets: [inference-pods]");
    for phase in ["Pending", "Succeeded", "Failed", "Unknown"] {
        let mut ended = pod(&marks, &[("server", &[])]);
        ended.phase = phase.into();
        assert!(
            found(&jobs, &[Discovered::Pod(ended)], 10)
                .targets
                .is_empty(),
            "{phase}"
        );
    }
}

#[test]
fn a_page_that_one_preset_reads_is_left_alone_by_the_next() {
    let mut exporter = dcgm_pod();
    for (name, value) in [("scrape", "true"), ("port", "9400")] {
        let name = format!("prometheus.io/{name}");
        exporter.metadata.annotations.insert(name, value.to_owned());
    }
    let set = found(
        &jobs("presets: [dcgm-exporter, inference-pods]"),
        &[Discovered::Pod(exporter)],
        10,
    );
    let jobs: Vec<_> = set
        .targets
        .iter()
        .map(|it| it.labels.value("job"))
        .collect();
    assert_eq!(jobs, ["dcgm-exporter"]);
}

#[test]
fn a_pod_that_takes_anothers_name_and_address_is_another_target() {
    let with = |uid: &str| {
        let mut pod = dcgm_pod();
        pod.uid = uid.into();
        preset(&[pod]).targets
    };
    assert_eq!(with("1"), with("1"));
    assert_ne!(with("1"), with("2"), "its series would go on");
}
