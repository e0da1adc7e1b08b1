//! A pod's possible targets, with the labels Prometheus gives them (`discovery/kubernetes/pod.go`, `buildPod`).

use crate::cluster::discovery::{DiscoveredContainer, DiscoveredPod, DiscoveredPort};

use super::meta::{put, put_metadata, with_port};
use super::relabel::{LabelMap, set};

/// One set of labels per declared port, and one per container that declares none. None at all for a pod that has no address
/// (yet) or, other than in Prometheus, has ended.
pub(super) fn candidates(pod: &DiscoveredPod) -> Vec<LabelMap> {
    let ended = matches!(pod.phase.as_str(), "Succeeded" | "Failed");
    if ended || pod.ip.is_empty() {
        return Vec::new();
    }
    let mut common = LabelMap::new();
    put(&mut common, "namespace", &pod.metadata.namespace);
    put_pod(&mut common, pod);
    let of_container = |container: &DiscoveredContainer| -> Vec<LabelMap> {
        let mut labels = common.clone();
        put_container(&mut labels, container);
        put(&mut labels, "pod_container_id", &container.id);
        if container.ports.is_empty() {
            set(&mut labels, "__address__", &*pod.ip);
            return vec![labels];
        }
        let of_port = |port| {
            let mut labels = labels.clone();
            put_port(&mut labels, port);
            set(&mut labels, "__address__", with_port(&pod.ip, port.number));
            labels
        };
        container.ports.iter().map(of_port).collect()
    };
    pod.containers.iter().flat_map(of_container).collect()
}

/// What is known of a pod, but for its namespace (`podLabels`).
pub(super) fn put_pod(labels: &mut LabelMap, pod: &DiscoveredPod) {
    put_metadata(labels, "pod", &pod.metadata);
    put(labels, "pod_ip", &pod.ip);
    put(labels, "pod_ready", &pod.ready);
    put(labels, "pod_phase", &pod.phase);
    put(labels, "pod_node_name", &pod.node_name);
    put(labels, "pod_host_ip", &pod.host_ip);
    put(labels, "pod_uid", &pod.uid);
    if let Some((kind, name)) = &pod.controller {
        put(labels, "pod_controller_kind", kind);
        put(labels, "pod_controller_name", name);
    }
}

pub(super) fn put_container(labels: &mut LabelMap, container: &DiscoveredContainer) {
    put(labels, "pod_container_name", &container.name);
    put(labels, "pod_container_image", &container.image);
    put(labels, "pod_container_init", &container.init.to_string());
}

pub(super) fn put_port(labels: &mut LabelMap, port: &DiscoveredPort) {
    put(labels, "pod_container_port_name", &port.name);
    let number = port.number.to_string();
    put(labels, "pod_container_port_number", &number);
    put(labels, "pod_container_port_protocol", &port.protocol);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::discovery::Metadata;

    fn pod() -> DiscoveredPod {
        let port = |name: &str, number| DiscoveredPort {
            name: name.to_owned(),
            number,
            protocol: "TCP".to_owned(),
        };
        DiscoveredPod {
            metadata: Metadata {
                namespace: "llm".into(),
                name: "vllm-0".into(),
                labels: [("app.kubernetes.io/name".into(), "vllm".into())].into(),
                ..Metadata::default()
            },
            uid: "u1".into(),
            ip: "10.0.0.7".into(),
            node_name: "gpu-1".into(),
            phase: "Running".into(),
            ready: "true".into(),
            controller: Some(("StatefulSet".into(), "vllm".into())),
            containers: vec![
                DiscoveredContainer {
                    name: "server".into(),
                    id: "containerd://a1".into(),
                    ports: vec![port("http", 8000), port("", 9000)],
                    ..DiscoveredContainer::default()
                },
                DiscoveredContainer {
                    name: "fetch".into(),
                    init: true,
                    ..DiscoveredContainer::default()
                },
            ],
            ..DiscoveredPod::default()
        }
    }

    #[test]
    fn a_pod_has_a_candidate_per_port_and_one_per_container_without() {
        let found = candidates(&pod());
        let addresses: Vec<&str> = found.iter().map(|it| it["__address__"].as_str()).collect();
        assert_eq!(addresses, ["10.0.0.7:8000", "10.0.0.7:9000", "10.0.0.7"]);
        let meta = |name: &str| found[0][&format!("__meta_kubernetes_{name}")].as_str();
        assert_eq!(meta("namespace"), "llm");
        assert_eq!(meta("pod_label_app_kubernetes_io_name"), "vllm");
        assert_eq!(meta("pod_labelpresent_app_kubernetes_io_name"), "true");
        assert_eq!(meta("pod_controller_kind"), "StatefulSet");
        assert_eq!(meta("pod_container_port_name"), "http");
        assert_eq!(meta("pod_container_init"), "false");
        assert_eq!(meta("pod_container_id"), "containerd://a1");
        assert_eq!(found[2]["__meta_kubernetes_pod_container_init"], "true");
    }

    #[test]
    fn a_pod_without_address_or_after_its_end_has_none() {
        let nowhere = DiscoveredPod {
            ip: String::new(),
            ..pod()
        };
        assert!(candidates(&nowhere).is_empty());
        for phase in ["Succeeded", "Failed"] {
            let ended = DiscoveredPod {
                phase: phase.into(),
                ..pod()
            };
            assert!(candidates(&ended).is_empty(), "{phase}");
        }
    }

    #[test]
    fn an_ipv6_address_is_bracketed_before_its_port() {
        let six = DiscoveredPod {
            ip: "fd00::7".into(),
            ..pod()
        };
        assert_eq!(candidates(&six)[0]["__address__"], "[fd00::7]:8000");
    }
}
