//! The possible targets of an EndpointSlice, with the labels Prometheus gives them
//! (`discovery/kubernetes/endpointslice.go`, `buildEndpointSlice`).

use std::collections::BTreeMap;

use crate::cluster::discovery::{
    Discovered, DiscoveredEndpoint, DiscoveredPod, DiscoveredService, DiscoveredSlice, Objects,
    SlicePort,
};

use super::meta::{put, put_metadata, sanitised, with_port};
use super::pods::{put_container, put_pod, put_port};
use super::relabel::{LabelMap, set};

/// The objects that slices refer to, by namespace and name.
pub(super) struct Around<'a> {
    pods: BTreeMap<(&'a str, &'a str), &'a DiscoveredPod>,
    services: BTreeMap<(&'a str, &'a str), &'a DiscoveredService>,
}

impl<'a> Around<'a> {
    pub(super) fn new(pods: &'a Objects, services: &'a Objects) -> Self {
        let pods = pods.iter().filter_map(|object| match &**object {
            Discovered::Pod(pod) => {
                let of = &pod.metadata;
                Some(((of.namespace.as_str(), of.name.as_str()), pod))
            }
            _ => None,
        });
        let services = services.iter().filter_map(|object| match &**object {
            Discovered::Service(service) => {
                let of = &service.metadata;
                Some(((of.namespace.as_str(), of.name.as_str()), service))
            }
            _ => None,
        });
        Self {
            pods: pods.collect(),
            services: services.collect(),
        }
    }
}

/// One set of labels for each address and port; then one for each further port that the pods behind it declare. None of a
/// slice that has the second address family of its Service, which would be the same targets again.
pub(super) fn candidates(slice: &DiscoveredSlice, around: &Around<'_>) -> Vec<LabelMap> {
    let namespace = slice.metadata.namespace.as_str();
    let mut common = LabelMap::new();
    put(&mut common, "namespace", namespace);
    put(
        &mut common,
        "endpointslice_address_type",
        &slice.address_type,
    );
    put_metadata(&mut common, "endpointslice", &slice.metadata);
    let service = slice.metadata.labels.get("kubernetes.io/service-name");
    let service = service.and_then(|name| around.services.get(&(namespace, name.as_str())));
    if let Some(service) = service {
        put_metadata(&mut common, "service", &service.metadata);
        let family = service.primary_family.as_ref();
        if family.is_some_and(|family| *family != slice.address_type) {
            return Vec::new();
        }
    }
    let mut found = Vec::new();
    // Each pod behind the slice, with the ports that it has a target for.
    let mut seen: Vec<(&DiscoveredPod, Vec<i32>)> = Vec::new();
    for endpoint in &slice.endpoints {
        let pod = endpoint.target.as_ref().and_then(|(kind, space, name)| {
            let key = (space.as_str(), name.as_str());
            around.pods.get(&key).filter(|_| kind == "Pod").copied()
        });
        for port in &slice.ports {
            for address in &endpoint.addresses {
                let mut labels = common.clone();
                put_endpoint(&mut labels, endpoint, port);
                let address = match port.number {
                    Some(number) => with_port(address, number),
                    None => address.clone(),
                };
                set(&mut labels, "__address__", address);
                if let Some(pod) = pod {
                    put_pod(&mut labels, pod);
                    put_matching_container(&mut labels, pod, port.number);
                    let at = seen.iter().position(|(it, _)| it.metadata == pod.metadata);
                    let at = at.unwrap_or_else(|| {
                        seen.push((pod, Vec::new()));
                        seen.len() - 1
                    });
                    seen[at].1.extend(port.number);
                }
                found.push(labels);
            }
        }
    }
    for (pod, ports) in seen {
        found.extend(further_ports(&common, pod, &ports));
    }
    found
}

fn put_endpoint(labels: &mut LabelMap, endpoint: &DiscoveredEndpoint, port: &SlicePort) {
    let number = port.number.map(|it| it.to_string());
    let (kind, name) = match &endpoint.target {
        Some((kind, _, name)) => (Some(kind), Some(name)),
        None => (None, None),
    };
    let conditions = [endpoint.ready, endpoint.serving, endpoint.terminating];
    let [ready, serving, terminating] = conditions.map(|it| it.map(|it| it.to_string()));
    for (label, value) in [
        ("port_name", port.name.as_ref()),
        ("port_protocol", port.protocol.as_ref()),
        ("port", number.as_ref()),
        ("port_app_protocol", port.app_protocol.as_ref()),
        ("endpoint_conditions_ready", ready.as_ref()),
        ("endpoint_conditions_serving", serving.as_ref()),
        ("endpoint_conditions_terminating", terminating.as_ref()),
        ("endpoint_hostname", endpoint.hostname.as_ref()),
        ("address_target_kind", kind),
        ("address_target_name", name),
        ("endpoint_node_name", endpoint.node_name.as_ref()),
        ("endpoint_zone", endpoint.zone.as_ref()),
    ] {
        let value = value.map_or("", String::as_str);
        put(labels, &format!("endpointslice_{label}"), value);
    }
    for (name, value) in &endpoint.topology {
        let name = sanitised(name);
        let prefix = "endpointslice_endpoint_topology";
        put(labels, &format!("{prefix}_{name}"), value);
        put(labels, &format!("{prefix}_present_{name}"), "true");
    }
}

/// The container that declares the port; the last one if several do, as in Prometheus.
fn put_matching_container(labels: &mut LabelMap, pod: &DiscoveredPod, number: Option<i32>) {
    for container in &pod.containers {
        let mut ports = container.ports.iter();
        if let Some(port) = ports.find(|it| Some(i32::from(it.number)) == number) {
            put_container(labels, container);
            put_port(labels, port);
        }
    }
}

fn further_ports(common: &LabelMap, pod: &DiscoveredPod, known: &[i32]) -> Vec<LabelMap> {
    if pod.ip.is_empty() {
        return Vec::new();
    }
    pod.containers
        .iter()
        .flat_map(|container| container.ports.iter().map(move |port| (container, port)))
        .filter(|(_, port)| !known.contains(&i32::from(port.number)))
        .map(|(container, port)| {
            let mut labels = common.clone();
            put_pod(&mut labels, pod);
            put_container(&mut labels, container);
            put_port(&mut labels, port);
            set(&mut labels, "__address__", with_port(&pod.ip, port.number));
            labels
        })
        .collect()
}

#[cfg(test)]
mod tests;
