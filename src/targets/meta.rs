//! What the labels of all Kubernetes roles have in common (`discovery/kubernetes/kubernetes.go`, `addObjectMetaLabels`).

use std::net::IpAddr;

use crate::cluster::discovery::Metadata;

use super::relabel::{LabelMap, set};

/// Sets `__meta_kubernetes_NAME`.
pub(super) fn put(labels: &mut LabelMap, name: &str, value: &str) {
    set(labels, format!("__meta_kubernetes_{name}"), value);
}

/// Name, labels and annotations of an object, under its role's name.
pub(super) fn put_metadata(labels: &mut LabelMap, role: &str, metadata: &Metadata) {
    put(labels, &format!("{role}_name"), &metadata.name);
    for (what, pairs) in [
        ("label", &metadata.labels),
        ("annotation", &metadata.annotations),
    ] {
        for (name, value) in pairs {
            let name = sanitised(name);
            put(labels, &format!("{role}_{what}_{name}"), value);
            put(labels, &format!("{role}_{what}present_{name}"), "true");
        }
    }
}

/// A Kubernetes name as (a part of) a label name of Prometheus.
pub(super) fn sanitised(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(plain).collect()
}

/// An address with a port, an IPv6 address in brackets.
pub(super) fn with_port(address: &str, port: impl std::fmt::Display) -> String {
    match address.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{address}:{port}"),
    }
}
