//! Objects of the cluster, cut down to what scrape targets are made of: no change of the rest is a change here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// An object of any of the kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovered {
    /// A pod.
    Pod(DiscoveredPod),
    /// A node.
    Node(DiscoveredNode),
    /// A Service.
    Service(DiscoveredService),
    /// An EndpointSlice.
    Slice(DiscoveredSlice),
}

/// What all objects have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Its namespace; empty for a node.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations, without kubectl's copy of the whole object.
    pub annotations: BTreeMap<String, String>,
}

/// A pod, as far as it matters for scraping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveredPod {
    /// Namespace, name, labels, annotations.
    pub metadata: Metadata,
    /// Its UID: another pod of the same name has another one.
    pub uid: String,
    /// Its address; empty until it has one.
    pub ip: String,
    /// The address of its node.
    pub host_ip: String,
    /// Its node's name; empty until it is scheduled.
    pub node_name: String,
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// The status of its condition `Ready`: `true`, `false` or `unknown`.
    pub ready: String,
    /// Kind and name of the owner that controls it.
    pub controller: Option<(String, String)>,
    /// Its containers, the ordinary ones first.
    pub containers: Vec<DiscoveredContainer>,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveredContainer {
    /// Its name.
    pub name: String,
    /// Its ID, with the runtime's name: `containerd://…`. Empty until it was started.
    pub id: String,
    /// Its image, as the pod names it.
    pub image: String,
    /// Whether it is an init container.
    pub init: bool,
    /// The ports that it declares.
    pub ports: Vec<DiscoveredPort>,
}

/// A port that a container declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveredPort {
    /// Its name; may be empty.
    pub name: String,
    /// Its number.
    pub number: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// A node, as far as it matters for scraping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveredNode {
    /// Name, labels, annotations.
    pub metadata: Metadata,
    /// Its ID at the cloud provider; may be empty.
    pub provider_id: String,
    /// Type and address, in the node's order.
    pub addresses: Vec<(String, String)>,
    /// Type and status of its conditions. Their times are not kept: a heartbeat is no change.
    pub conditions: BTreeMap<String, String>,
    /// The kubelet's port; 0 where the node does not say.
    pub kubelet_port: i32,
}

/// A Service, as far as it matters for scraping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveredService {
    /// Namespace, name, labels, annotations.
    pub metadata: Metadata,
    /// `IPv4` or `IPv6`: the family whose slices count, of a Service that has both.
    pub primary_family: Option<String>,
}

/// An EndpointSlice, as far as it matters for scraping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveredSlice {
    /// Namespace, name, labels, annotations.
    pub metadata: Metadata,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// Its ports; each is one of every endpoint.
    pub ports: Vec<SlicePort>,
    /// Its endpoints.
    pub endpoints: Vec<DiscoveredEndpoint>,
}

/// A port of an EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlicePort {
    /// Its name.
    pub name: Option<String>,
    /// Its number; none: every port.
    pub number: Option<i32>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Option<String>,
    /// What is spoken there.
    pub app_protocol: Option<String>,
}

/// An endpoint of an EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveredEndpoint {
    /// Its addresses, of the slice's type.
    pub addresses: Vec<String>,
    /// Whether it is ready.
    pub ready: Option<bool>,
    /// Whether it serves.
    pub serving: Option<bool>,
    /// Whether it ends.
    pub terminating: Option<bool>,
    /// Its host name.
    pub hostname: Option<String>,
    /// Its node.
    pub node_name: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
    /// The topology labels that the API had before v1.
    pub topology: BTreeMap<String, String>,
    /// Kind, namespace and name of the object behind it.
    pub target: Option<(String, String, String)>,
}

impl Discovered {
    /// Namespace and name.
    pub fn key(&self) -> (String, String) {
        let metadata = self.metadata();
        (metadata.namespace.clone(), metadata.name.clone())
    }

    /// What all objects have.
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Pod(it) => &it.metadata,
            Self::Node(it) => &it.metadata,
            Self::Service(it) => &it.metadata,
            Self::Slice(it) => &it.metadata,
        }
    }
}

impl From<ObjectMeta> for Metadata {
    fn from(meta: ObjectMeta) -> Self {
        let mut annotations = meta.annotations.unwrap_or_default();
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        Self {
            namespace: meta.namespace.unwrap_or_default(),
            name: meta.name.unwrap_or_default(),
            labels: meta.labels.unwrap_or_default(),
            annotations,
        }
    }
}

impl From<Pod> for Discovered {
    fn from(mut pod: Pod) -> Self {
        let (spec, status) = (pod.spec.unwrap_or_default(), pod.status.unwrap_or_default());
        let uid = pod.metadata.uid.take().unwrap_or_default();
        let owners = pod.metadata.owner_references.take().unwrap_or_default();
        let mut conditions = status.conditions.unwrap_or_default().into_iter();
        let ready = conditions.find(|it| it.type_ == "Ready");
        let running = status.container_statuses.unwrap_or_default();
        let initial = status.init_container_statuses.unwrap_or_default();
        let containers = spec.containers.into_iter();
        let init = spec.init_containers.into_iter().flatten();
        Self::Pod(DiscoveredPod {
            metadata: pod.metadata.into(),
            uid,
            ip: status.pod_ip.unwrap_or_default(),
            host_ip: status.host_ip.unwrap_or_default(),
            node_name: spec.node_name.unwrap_or_default(),
            phase: status.phase.unwrap_or_default(),
            ready: ready.map_or("unknown".to_owned(), |it| it.status.to_lowercase()),
            controller: owners
                .into_iter()
                .find(|owner| owner.controller == Some(true))
                .map(|owner| (owner.kind, owner.name)),
            containers: containers
                .map(|it| DiscoveredContainer::new(false, it, &running))
                .chain(init.map(|it| DiscoveredContainer::new(true, it, &initial)))
                .collect(),
        })
    }
}

impl DiscoveredContainer {
    fn new(init: bool, container: Container, statuses: &[ContainerStatus]) -> Self {
        let ports = container.ports.unwrap_or_default().into_iter();
        let status = statuses.iter().find(|it| it.name == container.name);
        Self {
            id: status
                .and_then(|it| it.container_id.clone())
                .unwrap_or_default(),
            name: container.name,
            image: container.image.unwrap_or_default(),
            init,
            ports: ports
                .filter_map(|port| {
                    Some(DiscoveredPort {
                        name: port.name.unwrap_or_default(),
                        number: u16::try_from(port.container_port).ok()?,
                        protocol: port.protocol.unwrap_or_else(|| "TCP".to_owned()),
                    })
                })
                .collect(),
        }
    }
}

impl From<Node> for Discovered {
    fn from(node: Node) -> Self {
        let status = node.status.unwrap_or_default();
        let endpoint = status
            .daemon_endpoints
            .and_then(|endpoints| endpoints.kubelet_endpoint);
        Self::Node(DiscoveredNode {
            metadata: node.metadata.into(),
            provider_id: node.spec.and_then(|it| it.provider_id).unwrap_or_default(),
            addresses: status
                .addresses
                .unwrap_or_default()
                .into_iter()
                .map(|it| (it.type_, it.address))
                .collect(),
            conditions: status
                .conditions
                .unwrap_or_default()
                .into_iter()
                .map(|it| (it.type_, it.status))
                .collect(),
            kubelet_port: endpoint.map_or(0, |it| it.port),
        })
    }
}

impl From<Service> for Discovered {
    fn from(service: Service) -> Self {
        let spec = service.spec.unwrap_or_default();
        let dual = matches!(
            spec.ip_family_policy.as_deref(),
            Some("PreferDualStack" | "RequireDualStack")
        );
        let mut families = spec.ip_families.unwrap_or_default().into_iter();
        Self::Service(DiscoveredService {
            metadata: service.metadata.into(),
            primary_family: families.next().filter(|_| dual),
        })
    }
}

impl From<EndpointSlice> for Discovered {
    fn from(slice: EndpointSlice) -> Self {
        let ports = slice.ports.unwrap_or_default().into_iter();
        let endpoints = slice.endpoints.into_iter();
        Self::Slice(DiscoveredSlice {
            metadata: slice.metadata.into(),
            address_type: slice.address_type,
            ports: ports
                .map(|port| SlicePort {
                    name: port.name,
                    number: port.port,
                    protocol: port.protocol,
                    app_protocol: port.app_protocol,
                })
                .collect(),
            endpoints: endpoints
                .map(|endpoint| {
                    let conditions = endpoint.conditions.unwrap_or_default();
                    DiscoveredEndpoint {
                        addresses: endpoint.addresses,
                        ready: conditions.ready,
                        serving: conditions.serving,
                        terminating: conditions.terminating,
                        hostname: endpoint.hostname,
                        node_name: endpoint.node_name,
                        zone: endpoint.zone,
                        topology: endpoint.deprecated_topology.unwrap_or_default(),
                        target: endpoint.target_ref.map(|it| {
                            let text = Option::unwrap_or_default;
                            (text(it.kind), text(it.namespace), text(it.name))
                        }),
                    }
                })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_cut_down_to_what_matters() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": "gpu", "name": "a",
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "dcgm", "uid": "u", "controller": true}]},
            "spec": {"nodeName": "n1",
                "containers": [{"name": "c", "image": "dcgm:4", "ports": [{"containerPort": 9400, "name": "metrics"}, {"containerPort": 70000}]}],
                "initContainers": [{"name": "i"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "c", "containerID": "containerd://1", "image": "", "imageID": "", "ready": true, "restartCount": 0}]},
        }))
        .expect("a pod");
        let Discovered::Pod(found) = Discovered::from(pod) else {
            panic!("a pod")
        };
        assert_eq!(
            found.controller,
            Some(("DaemonSet".to_owned(), "dcgm".to_owned()))
        );
        assert_eq!(
            (found.ready.as_str(), found.node_name.as_str()),
            ("true", "n1")
        );
        assert_eq!(found.metadata.annotations.len(), 1);
        let ports: Vec<u16> = found.containers[0]
            .ports
            .iter()
            .map(|it| it.number)
            .collect();
        assert_eq!(ports, [9400], "a number that is no port is left out");
        assert_eq!(found.containers[0].id, "containerd://1");
        assert!(found.containers[1].init);
    }

    #[test]
    fn a_heartbeat_is_no_change_of_a_node() {
        let node = |time: &str| -> Discovered {
            let node: Node = serde_json::from_value(serde_json::json!({
                "metadata": {"name": "n"},
                "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": time}],
                    "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}},
            }))
            .expect("a node");
            node.into()
        };
        let first = node("2026-01-01T00:00:00Z");
        assert_eq!(first, node("2026-01-01T00:00:10Z"));
        let Discovered::Node(found) = first else {
            panic!("a node")
        };
        assert_eq!(found.kubelet_port, 10250);
    }
}
