//! Where a job's targets come from, as the file has it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::refused::Refusing;
use super::relabel::is_label_name;
use super::{Fault, units};

/// Targets by address, with labels that all of them get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticTargets {
    /// Addresses: `host:port`.
    pub targets: Vec<String>,
    /// Labels of these targets.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl StaticTargets {
    /// Adds all that is wrong with this group; `path` is its place.
    pub(crate) fn validate(&self, path: &str, faults: &mut Vec<Fault>) {
        for (at, address) in self.targets.iter().enumerate() {
            if address.is_empty() || address.contains(['/', '@', ' ']) {
                let message = format!("{address:?} is not host:port");
                faults.push(Fault::new(format!("{path}.targets[{at}]"), message));
            }
        }
        for name in self.labels.keys().filter(|name| !is_label_name(name)) {
            let message = format!("{name:?} is not a label name");
            faults.push(Fault::new(format!("{path}.labels"), message));
        }
    }
}

/// Targets in files, which are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSd {
    /// Absolute paths that end in `.json`, `.yml` or `.yaml`, with at most one `*`, in the last element. A file is a list of
    /// groups as in `static_configs`.
    pub files: Vec<String>,
    /// How often the files are read, at most. They are read every 5 s in any case, where this is not less.
    #[serde(default = "five_minutes", deserialize_with = "units::duration")]
    pub refresh_interval: Duration,
}

fn five_minutes() -> Duration {
    Duration::from_secs(300)
}

impl FileSd {
    /// Adds all that is wrong with these values (`discovery/file/file.go`, `SDConfig.UnmarshalYAML`).
    pub(super) fn validate(&self, path: &str, faults: &mut Vec<Fault>) {
        if self.files.is_empty() {
            let message = "needs at least one path";
            faults.push(Fault::new(format!("{path}.files"), message));
        }
        if self.refresh_interval.is_zero() {
            let message = "must be more than 0";
            faults.push(Fault::new(format!("{path}.refresh_interval"), message));
        }
        for (at, file) in self.files.iter().enumerate() {
            let mut fault = |message: String| {
                faults.push(Fault::new(format!("{path}.files[{at}]"), message));
            };
            let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
            let extension = name.rsplit_once('.').map(|(_, extension)| extension);
            let known = ["json", "yml", "yaml", "JSON", "YML", "YAML"];
            if !extension.is_some_and(|it| known.contains(&it)) {
                fault(format!("{file:?} does not end in .json, .yml or .yaml"));
            } else if folder.contains('*') || name.matches('*').count() > 1 {
                fault(format!("{file:?} may have one *, in its last element"));
            } else if !Path::new(file).is_absolute() {
                fault(format!("{file:?} is not an absolute path"));
            }
        }
    }
}

/// Targets found in the cluster this program runs in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct KubernetesSd {
    /// Which objects become targets.
    pub role: Role,
    /// Where to look. Default: all namespaces.
    #[serde(default)]
    pub namespaces: Namespaces,
    /// Which objects to ask the API server for. Default: all, which in a large cluster is a lot: say which.
    #[serde(default)]
    pub selectors: Vec<RoleSelector>,
    /// Not written in a file: an annotation that must be `true`, which a preset sets so that other pods are not kept.
    #[serde(skip)]
    pub(crate) annotated: Option<String>,
}

impl<'de> Deserialize<'de> for KubernetesSd {
    fn deserialize<D: Deserializer<'de>>(inner: D) -> Result<Self, D::Error> {
        let refused = REFUSED_IN_KUBERNETES_SD;
        Self::deserialize(Refusing { inner, refused })
    }
}

impl KubernetesSd {
    /// Adds all that is wrong with these values (`discovery/kubernetes/kubernetes.go`, `SDConfig.UnmarshalYAML`).
    pub(super) fn validate(&self, path: &str, faults: &mut Vec<Fault>) {
        let allowed: &[SelectorRole] = match self.role {
            Role::Pod => &[SelectorRole::Pod],
            Role::Node => &[SelectorRole::Node],
            Role::EndpointSlice => &[
                SelectorRole::EndpointSlice,
                SelectorRole::Service,
                SelectorRole::Pod,
            ],
        };
        for (index, selector) in self.selectors.iter().enumerate() {
            let role = selector.role;
            let before = &self.selectors[..index];
            let message = if !allowed.contains(&role) {
                format!("a selector for {role:?} has no effect with this role")
            } else if before.iter().any(|it| it.role == role) {
                format!("another selector is for {role:?} too")
            } else {
                continue;
            };
            let place = format!("{path}.selectors[{index}]");
            faults.push(Fault::new(place, message.to_lowercase()));
        }
    }
}

/// Kinds of objects that become targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Role {
    /// Each declared port of each container of a pod.
    Pod,
    /// The kubelet of each node.
    Node,
    /// Each address and port of each EndpointSlice, and the other ports of the pods behind it.
    EndpointSlice,
}

impl TryFrom<String> for Role {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "pod" => Ok(Self::Pod),
            "node" => Ok(Self::Node),
            "endpointslice" => Ok(Self::EndpointSlice),
            "service" | "endpoints" | "ingress" => Err(format!(
                "role {text} is a Prometheus role that is not supported here; pod, node and endpointslice are"
            )),
            _ => Err(format!(
                "there is no role {text:?}; there are pod, node and endpointslice"
            )),
        }
    }
}

impl From<Role> for SelectorRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Pod => Self::Pod,
            Role::Node => Self::Node,
            Role::EndpointSlice => Self::EndpointSlice,
        }
    }
}

/// Namespaces to look in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, remote = "Self")]
pub struct Namespaces {
    /// Their names. Empty: all of them.
    pub names: Vec<String>,
}

impl<'de> Deserialize<'de> for Namespaces {
    fn deserialize<D: Deserializer<'de>>(inner: D) -> Result<Self, D::Error> {
        let refused = &["own_namespace"];
        Self::deserialize(Refusing { inner, refused })
    }
}

/// What the API server is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSelector {
    /// The kind of object that this selector is for: at most one selector for each that the discovery looks at.
    pub role: SelectorRole,
    /// A label selector, such as `app=vllm`.
    #[serde(default)]
    pub label: Option<String>,
    /// A field selector, such as `spec.nodeName=gpu-1`.
    #[serde(default)]
    pub field: Option<String>,
}

/// Kinds of objects that a discovery looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SelectorRole {
    /// Pods.
    Pod,
    /// Nodes.
    Node,
    /// EndpointSlices.
    EndpointSlice,
    /// The Services that EndpointSlices belong to.
    Service,
}

const REFUSED_IN_KUBERNETES_SD: &[&str] = &[
    "api_server",
    "attach_metadata",
    "authorization",
    "basic_auth",
    "bearer_token",
    "bearer_token_file",
    "enable_http2",
    "follow_redirects",
    "http_headers",
    "kubeconfig_file",
    "no_proxy",
    "oauth2",
    "proxy_connect_header",
    "proxy_from_environment",
    "proxy_url",
    "tls_config",
];
