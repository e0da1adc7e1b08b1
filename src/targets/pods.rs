//! A pod's possible targets, with the labels Prometheus gives them (`discovery/kubernetes/pod.go`, `buildPod`).

use std::net::IpAddr;

use crate::cluster::discovery::{DiscoveredContainer, DiscoveredPod, DiscoveredPort};

use super::relabel::{LabelMap, set};

/// One set of labels per declared port, and one per container that declares none. None at all for a pod that has no address
/// (yet) or has ended.
pub(super) fn candidates(pod: &DiscoveredPod) -> Vec<LabelMap> {
    let ended = matches!(pod.phase.as_str(), "Succeeded" | "Failed");
    let Ok(ip) = pod.ip.parse() else {
        return Vec::new();
    };
    if ended {
        return Vec::new();
    }
    let common = pod_labels(pod);
    let of_container = |container: &DiscoveredContainer| -> Vec<LabelMap> {
        let mut labels = common.clone();
        put(&mut labels, "container_name", &container.name);
        put(&mut labels, "container_image", &container.image);
        put(&mut labels, "container_init", &container.init.to_string());
        if container.ports.is_empty() {
            set(&mut labels, "__address__", &*pod.ip);
            return vec![labels];
        }
        let with_port = |port| port_labels(labels.clone(), ip, port);
        container.ports.iter().map(with_port).collect()
    };
    pod.containers.iter().flat_map(of_container).collect()
}

fn pod_labels(pod: &DiscoveredPod) -> LabelMap {
    let mut labels = LabelMap::new();
    set(&mut labels, "__meta_kubernetes_namespace", &*pod.namespace);
    put(&mut labels, "name", &pod.name);
    put(&mut labels, "ip", &pod.ip);
    put(&mut labels, "ready", &pod.ready);
    put(&mut labels, "phase", &pod.phase);
    put(&mut labels, "node_name", &pod.node_name);
    put(&mut labels, "host_ip", &pod.host_ip);
    put(&mut labels, "uid", &pod.uid);
    if let Some((kind, name)) = &pod.controller {
        put(&mut labels, "controller_kind", kind);
        put(&mut labels, "controller_name", name);
    }
    for (what, pairs) in [("label", &pod.labels), ("annotation", &pod.annotations)] {
        for (name, value) in pairs {
            let name = sanitised(name);
            put(&mut labels, &format!("{what}_{name}"), value);
            put(&mut labels, &format!("{what}present_{name}"), "true");
        }
    }
    labels
}

fn port_labels(mut labels: LabelMap, ip: IpAddr, port: &DiscoveredPort) -> LabelMap {
    let address = std::net::SocketAddr::new(ip, port.number).to_string();
    set(&mut labels, "__address__", address);
    put(&mut labels, "container_port_name", &port.name);
    let number = port.number.to_string();
    put(&mut labels, "container_port_number", &number);
    put(&mut labels, "container_port_protocol", &port.protocol);
    labels
}

fn put(labels: &mut LabelMap, name: &str, value: &str) {
    set(labels, format!("__meta_kubernetes_pod_{name}"), value);
}

/// A Kubernetes label's name as a label name of Prometheus.
fn sanitised(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> DiscoveredPod {
        let port = |name: &str, number| DiscoveredPort {
            name: name.to_owned(),
            number,
            protocol: "TCP".to_owned(),
        };
        DiscoveredPod {
            namespace: "llm".into(),
            name: "vllm-0".into(),
            uid: "u1".into(),
            ip: "10.0.0.7".into(),
            node_name: "gpu-1".into(),
            phase: "Running".into(),
            ready: "true".into(),
            labels: [("app.kubernetes.io/name".into(), "vllm".into())].into(),
            controller: Some(("StatefulSet".into(), "vllm".into())),
            containers: vec![
                DiscoveredContainer {
                    name: "server".into(),
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
