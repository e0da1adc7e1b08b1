//! A node's one possible target, with the labels Prometheus gives it (`discovery/kubernetes/node.go`, `buildNode`).

use crate::cluster::discovery::DiscoveredNode;

use super::meta::{put, put_metadata, sanitised, with_port};
use super::relabel::{LabelMap, set};

/// Which of a node's addresses counts, best first.
const BEST: [&str; 6] = [
    "InternalIP",
    "InternalDNS",
    "ExternalIP",
    "ExternalDNS",
    "LegacyHostIP",
    "Hostname",
];

/// The kubelet's address. None for a node that has no address of a known type.
pub(super) fn candidates(node: &DiscoveredNode) -> Vec<LabelMap> {
    let of_type = |wanted: &&str| node.addresses.iter().find(|(kind, _)| kind == wanted);
    let Some((_, address)) = BEST.iter().find_map(of_type) else {
        return Vec::new();
    };
    let mut labels = LabelMap::new();
    put_metadata(&mut labels, "node", &node.metadata);
    put(&mut labels, "node_provider_id", &node.provider_id);
    for (kind, status) in &node.conditions {
        let name = format!("node_condition_{}", sanitised(&kind.to_lowercase()));
        put(&mut labels, &name, &status.to_lowercase());
    }
    // Backwards: of several addresses of a type, the first stays.
    for (kind, address) in node.addresses.iter().rev() {
        let name = format!("node_address_{}", sanitised(kind));
        put(&mut labels, &name, address);
    }
    set(
        &mut labels,
        "__address__",
        with_port(address, node.kubelet_port),
    );
    set(&mut labels, "instance", &*node.metadata.name);
    vec![labels]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::discovery::Metadata;

    fn node(addresses: &[(&str, &str)]) -> DiscoveredNode {
        let pairs = addresses.iter();
        DiscoveredNode {
            metadata: Metadata {
                name: "gpu-1".into(),
                labels: [("topology.kubernetes.io/zone".into(), "a".into())].into(),
                annotations: [("example.com/empty".into(), String::new())].into(),
                ..Metadata::default()
            },
            provider_id: "aws:///a/i-1".into(),
            addresses: pairs.map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            conditions: [("Ready".into(), "True".into())].into(),
            kubelet_port: 10250,
        }
    }

    #[test]
    fn the_best_address_of_a_node_is_its_target() {
        type Addresses<'a> = &'a [(&'a str, &'a str)];
        let table: &[(Addresses<'_>, Option<&str>)] = &[
            (
                &[("Hostname", "h"), ("InternalIP", "10.0.0.1")],
                Some("10.0.0.1:10250"),
            ),
            (
                &[("InternalIP", "10.0.0.1"), ("InternalIP", "10.0.0.2")],
                Some("10.0.0.1:10250"),
            ),
            (
                &[("ExternalIP", "1.2.3.4"), ("InternalDNS", "i")],
                Some("i:10250"),
            ),
            (
                &[("ExternalDNS", "e"), ("ExternalIP", "1.2.3.4")],
                Some("1.2.3.4:10250"),
            ),
            (&[("Hostname", "h"), ("ExternalDNS", "e")], Some("e:10250")),
            (
                &[("Hostname", "h"), ("LegacyHostIP", "10.9.9.9")],
                Some("10.9.9.9:10250"),
            ),
            (&[("Hostname", "h")], Some("h:10250")),
            (&[("InternalIP", "fd00::1")], Some("[fd00::1]:10250")),
            (&[("Unheard", "x")], None),
            (&[], None),
        ];
        for (addresses, expected) in table {
            let found = candidates(&node(addresses));
            let address = found.first().map(|it| it["__address__"].as_str());
            assert_eq!(address, *expected, "{addresses:?}");
        }
    }

    #[test]
    fn a_node_has_the_labels_that_prometheus_gives_it() {
        let found = candidates(&node(&[
            ("InternalIP", "10.0.0.1"),
            ("InternalIP", "10.0.0.2"),
            ("Hostname", "gpu-1.local"),
        ]));
        let [labels] = found.as_slice() else {
            panic!("{found:?}")
        };
        let text: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            text,
            [
                "__address__=10.0.0.1:10250",
                "__meta_kubernetes_node_address_Hostname=gpu-1.local",
                "__meta_kubernetes_node_address_InternalIP=10.0.0.1",
                "__meta_kubernetes_node_annotationpresent_example_com_empty=true",
                "__meta_kubernetes_node_condition_ready=true",
                "__meta_kubernetes_node_label_topology_kubernetes_io_zone=a",
                "__meta_kubernetes_node_labelpresent_topology_kubernetes_io_zone=true",
                "__meta_kubernetes_node_name=gpu-1",
                "__meta_kubernetes_node_provider_id=aws:///a/i-1",
                "instance=gpu-1",
            ]
        );
    }
}
