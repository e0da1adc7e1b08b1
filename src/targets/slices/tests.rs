use std::sync::Arc;

use super::*;
use crate::cluster::discovery::{DiscoveredContainer, DiscoveredPort, Metadata};

fn named(name: &str) -> Metadata {
    Metadata {
        namespace: "llm".into(),
        name: name.into(),
        ..Metadata::default()
    }
}

/// A slice with one endpoint, a pod's.
fn slice() -> DiscoveredSlice {
    DiscoveredSlice {
        metadata: Metadata {
            labels: [("kubernetes.io/service-name".into(), "vllm".into())].into(),
            ..named("vllm-abc")
        },
        address_type: "IPv4".into(),
        ports: vec![SlicePort {
            name: Some("http".into()),
            number: Some(8000),
            protocol: Some("TCP".into()),
            app_protocol: Some("http".into()),
        }],
        endpoints: vec![DiscoveredEndpoint {
            addresses: vec!["10.0.0.7".into()],
            ready: Some(true),
            serving: Some(true),
            terminating: Some(false),
            hostname: Some("vllm-0".into()),
            node_name: Some("gpu-1".into()),
            zone: Some("a".into()),
            topology: [("topology.kubernetes.io/region".into(), "eu".into())].into(),
            target: Some(("Pod".into(), "llm".into(), "vllm-0".into())),
        }],
    }
}

fn pod() -> DiscoveredPod {
    let container = |name: &str, init, number| DiscoveredContainer {
        name: name.into(),
        image: "vllm:1".into(),
        init,
        ports: vec![DiscoveredPort {
            name: format!("of-{name}"),
            number,
            protocol: "TCP".into(),
        }],
        ..DiscoveredContainer::default()
    };
    DiscoveredPod {
        metadata: named("vllm-0"),
        uid: "u1".into(),
        ip: "10.0.0.7".into(),
        ready: "true".into(),
        phase: "Running".into(),
        containers: vec![
            container("server", false, 8000),
            container("metrics", false, 9000),
        ],
        ..DiscoveredPod::default()
    }
}

fn service(primary: Option<&str>) -> DiscoveredService {
    DiscoveredService {
        metadata: Metadata {
            labels: [("app".into(), "vllm".into())].into(),
            ..named("vllm")
        },
        primary_family: primary.map(str::to_owned),
    }
}

fn built(slice: &DiscoveredSlice, others: Vec<Discovered>) -> Vec<LabelMap> {
    let objects: Objects = Arc::new(others.into_iter().map(Arc::new).collect());
    candidates(slice, &Around::new(&objects, &objects))
}

fn text(labels: &LabelMap) -> Vec<String> {
    let short = |(name, value): (&String, &String)| {
        format!("{}={value}", name.replace("__meta_kubernetes_", ""))
    };
    labels.iter().map(short).collect()
}

#[test]
fn a_slice_alone_has_the_labels_that_prometheus_gives_it() {
    let found = built(&slice(), vec![]);
    let [labels] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(
        text(labels),
        [
            "__address__=10.0.0.7:8000",
            "endpointslice_address_target_kind=Pod",
            "endpointslice_address_target_name=vllm-0",
            "endpointslice_address_type=IPv4",
            "endpointslice_endpoint_conditions_ready=true",
            "endpointslice_endpoint_conditions_serving=true",
            "endpointslice_endpoint_conditions_terminating=false",
            "endpointslice_endpoint_hostname=vllm-0",
            "endpointslice_endpoint_node_name=gpu-1",
            "endpointslice_endpoint_topology_present_topology_kubernetes_io_region=true",
            "endpointslice_endpoint_topology_topology_kubernetes_io_region=eu",
            "endpointslice_endpoint_zone=a",
            "endpointslice_label_kubernetes_io_service_name=vllm",
            "endpointslice_labelpresent_kubernetes_io_service_name=true",
            "endpointslice_name=vllm-abc",
            "endpointslice_port=8000",
            "endpointslice_port_app_protocol=http",
            "endpointslice_port_name=http",
            "endpointslice_port_protocol=TCP",
            "namespace=llm",
        ]
    );
}

#[test]
fn the_pod_and_the_service_behind_a_slice_add_their_labels_and_further_ports() {
    let others = vec![Discovered::Pod(pod()), Discovered::Service(service(None))];
    let found = built(&slice(), others);
    let [own, further] = found.as_slice() else {
        panic!("{found:?}")
    };
    let has = |labels: &LabelMap, wanted: &[&str]| {
        let text = text(labels);
        for line in wanted {
            assert!(text.iter().any(|it| it == line), "{line} in {text:#?}");
        }
    };
    let of_both = [
        "service_name=vllm",
        "service_label_app=vllm",
        "service_labelpresent_app=true",
        "pod_name=vllm-0",
        "pod_uid=u1",
        "pod_ready=true",
        "endpointslice_name=vllm-abc",
        "namespace=llm",
    ];
    has(own, &of_both);
    has(further, &of_both);
    has(
        own,
        &[
            "__address__=10.0.0.7:8000",
            "pod_container_name=server",
            "pod_container_port_name=of-server",
            "pod_container_port_number=8000",
            "pod_container_init=false",
        ],
    );
    has(
        further,
        &[
            "__address__=10.0.0.7:9000",
            "pod_container_name=metrics",
            "pod_container_port_number=9000",
        ],
    );
    assert!(
        !further.contains_key("__meta_kubernetes_endpointslice_port"),
        "it is not in the slice"
    );
}

#[test]
fn what_refers_to_no_pod_that_is_known_is_a_target_all_the_same() {
    let mut node = slice();
    node.endpoints[0].target = Some(("Node".into(), String::new(), "vllm-0".into()));
    let mut elsewhere = slice();
    elsewhere.endpoints[0].target = Some(("Pod".into(), "other".into(), "vllm-0".into()));
    let mut nothing = slice();
    nothing.endpoints[0].target = None;
    for slice in [node, elsewhere, nothing] {
        let found = built(&slice, vec![Discovered::Pod(pod())]);
        assert_eq!(found.len(), 1, "{slice:?}");
        assert!(!found[0].contains_key("__meta_kubernetes_pod_name"));
    }
}

#[test]
fn every_address_has_every_port_and_a_port_without_number_is_no_port() {
    let mut slice = slice();
    slice.endpoints[0].target = None;
    slice.endpoints[0].addresses.push("fd00::7".into());
    slice.ports.push(SlicePort::default());
    let found = built(&slice, vec![]);
    let addresses: Vec<&str> = found.iter().map(|it| it["__address__"].as_str()).collect();
    let expected = ["10.0.0.7:8000", "[fd00::7]:8000", "10.0.0.7", "fd00::7"];
    assert_eq!(addresses, expected);
    slice.ports.clear();
    assert!(built(&slice, vec![]).is_empty());
}

#[test]
fn the_second_family_of_a_dual_stack_service_is_left_out() {
    for (primary, expected) in [(None, 1), (Some("IPv4"), 1), (Some("IPv6"), 0)] {
        let found = built(&slice(), vec![Discovered::Service(service(primary))]);
        assert_eq!(found.len(), expected, "{primary:?}");
    }
}
