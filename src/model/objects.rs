//! Kubernetes objects as this program needs them: what kind there is, which one, and with which labels.
//!
//! The traits are the seam between those who answer metric questions and those who watch the cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};

use super::selector::Selector;

/// A resource and its API group, as it stands in a request path: `pods`, `deployments.apps`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupResource {
    /// The API group; empty for the core group.
    pub group: String,
    /// The plural, lower-case resource name.
    pub resource: String,
}

impl GroupResource {
    /// A resource of the core group.
    pub fn core(resource: impl Into<String>) -> Self {
        Self {
            group: String::new(),
            resource: resource.into(),
        }
    }

    /// What stands in a path: `resource` or `resource.group`.
    pub fn parse(text: &str) -> Self {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Self {
            group: group.to_ascii_lowercase(),
            resource: resource.to_ascii_lowercase(),
        }
    }
}

/// `resource` for the core group, else `resource.group`.
impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

/// What the cluster's discovery says about a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceKind {
    /// Group and plural name.
    pub resource: GroupResource,
    /// The preferred version, such as `v1`.
    pub version: String,
    /// The kind, such as `Pod`.
    pub kind: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl ResourceKind {
    /// `group/version`, and `/v1` for the core group, as every Go metrics adapter writes it
    /// (custom-metrics-apiserver `pkg/provider/helpers/helpers.go`).
    pub fn api_version(&self) -> String {
        format!("{}/{}", self.resource.group, self.version)
    }
}

/// One object, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its namespace; `None` for objects outside namespaces.
    pub namespace: Option<Arc<str>>,
    /// Its name.
    pub name: Arc<str>,
}

/// Who controls an object (`metadata.ownerReferences`, the one with `controller: true`); it is in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its API group; empty for the core group.
    pub group: String,
    /// Its kind, such as `ReplicaSet`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// Why objects cannot be listed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The watch has not yet delivered its first full list.
    #[error("the watch of {0} has not delivered its first list yet")]
    NotSynced(GroupResource),
    /// The watch fails.
    #[error("the watch of {resource} fails: {reason}")]
    Failing {
        /// What is watched.
        resource: GroupResource,
        /// The API server's words.
        reason: String,
    },
    /// Nobody watches this resource.
    #[error("{0} are not watched")]
    NotWatched(GroupResource),
}

/// Finds objects by label selector, from memory.
pub trait ObjectLister: Send + Sync {
    /// Names of the objects of `resource` in `namespace` (`None`: all namespaces, or none for cluster-scoped kinds) whose
    /// labels match, in the order of their names.
    ///
    /// # Errors
    /// Where the objects are not known, as opposed to known to be none.
    fn list(
        &self,
        resource: &GroupResource,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<ObjectRef>, ListError>;

    /// Returns when the objects of this kind are known or cannot be; those that nobody asked for before are watched from
    /// now on.
    fn prepare<'a>(&'a self, kind: &'a ResourceKind) -> BoxFuture<'a, ()> {
        let _ = kind;
        ready(()).boxed()
    }

    /// The pods that an object controls, by itself or through others that it controls, in the order of their names.
    ///
    /// # Errors
    /// Where they are not known, as opposed to known to be none.
    fn pods_of<'a>(
        &'a self,
        kind: &'a ResourceKind,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Vec<ObjectRef>, ListError>> {
        let _ = (namespace, name);
        ready(Err(ListError::NotWatched(kind.resource.clone()))).boxed()
    }
}

/// Knows no objects: there is no cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObjects;

impl ObjectLister for NoObjects {
    fn list(
        &self,
        resource: &GroupResource,
        _: Option<&str>,
        _: &Selector,
    ) -> Result<Vec<ObjectRef>, ListError> {
        Err(ListError::NotWatched(resource.clone()))
    }
}

/// An object with its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledObject {
    /// Which one.
    pub object: ObjectRef,
    /// Its labels; objects that have the same ones share them.
    pub labels: Arc<ObjectLabels>,
}

/// Lists what CPU and memory are told of, from memory.
pub trait MeteredObjects: Send + Sync {
    /// The pods in `namespace` (`None`: in all) that run and whose labels match, by namespace, then name.
    ///
    /// # Errors
    /// Where they are not known, as opposed to known to be none.
    fn running_pods(
        &self,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<LabelledObject>, ListError>;

    /// The nodes whose labels match, in the order of their names.
    ///
    /// # Errors
    /// As [`MeteredObjects::running_pods`].
    fn nodes(&self, selector: &Selector) -> Result<Vec<LabelledObject>, ListError>;
}

/// Knows the cluster's resources by any of their names.
pub trait ResourceMapper: Send + Sync {
    /// The resource that `name` means: plural or singular, any case, with or without its group.
    fn resolve(&self, name: &GroupResource) -> Option<ResourceKind>;

    /// A number that changes when names come to mean something else.
    fn generation(&self) -> u64 {
        0
    }
}

/// An object's labels, as selectors see them.
pub type ObjectLabels = BTreeMap<String, String>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_resource_and_group() {
        assert_eq!(GroupResource::parse("Pods"), GroupResource::core("pods"));
        let ingresses = GroupResource::parse("ingresses.networking.k8s.io");
        assert_eq!(ingresses.group, "networking.k8s.io");
        assert_eq!(ingresses.to_string(), "ingresses.networking.k8s.io");
    }
}
