//! The scale subresource of anything that has one.

use std::sync::Arc;

use k8s_openapi::api::autoscaling::v1::Scale;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde_json::json;

use crate::model::objects::{GroupResource, ResourceMapper};

use super::mapper::api_resource;
use super::request::{RequestError, bounded};

/// Something with a scale subresource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalable {
    /// Its namespace.
    pub namespace: String,
    /// Its API group; empty for the core group.
    pub group: String,
    /// Its kind, such as `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// Why something cannot be scaled.
#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    /// The cluster does not have this kind.
    #[error("the cluster has no kind {kind} in the group {group:?}")]
    UnknownKind {
        /// The group.
        group: String,
        /// The kind.
        kind: String,
    },
    /// The object is not there, or has no scale subresource. In the words of kubernetes-cronhpa-controller.
    #[error("failed to find source target {kind} {name} in {namespace} namespace")]
    NotFound {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// The namespace.
        namespace: String,
    },
    /// The API server did not do as asked.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// Reads and writes scale subresources.
pub struct Scales {
    client: Client,
    mapper: Arc<dyn ResourceMapper>,
}

impl Scales {
    /// Those of this client's cluster, whose kinds `mapper` knows.
    pub fn new(client: Client, mapper: Arc<dyn ResourceMapper>) -> Self {
        Self { client, mapper }
    }

    /// How many replicas `target` is to have now (`spec.replicas`).
    ///
    /// # Errors
    /// Where that is not known.
    pub async fn replicas(&self, target: &Scalable) -> Result<i32, ScaleError> {
        let api = self.api(target)?;
        let scale = bounded(|| api.get_scale(&target.name)).await;
        let scale = scale.map_err(|error| found(target, error))?;
        Ok(replicas(&scale))
    }

    /// Has `target` scaled.
    ///
    /// # Errors
    /// Where that was not done.
    pub async fn scale(&self, target: &Scalable, replicas: i32) -> Result<(), ScaleError> {
        let api = self.api(target)?;
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let params = PatchParams::default();
        let scaled = bounded(|| api.patch_scale(&target.name, &params, &patch)).await;
        scaled.map(drop).map_err(|error| found(target, error))
    }

    fn api(&self, target: &Scalable) -> Result<Api<DynamicObject>, ScaleError> {
        let name = GroupResource {
            group: target.group.clone(),
            resource: target.kind.to_ascii_lowercase(),
        };
        // The mapper takes the beginning of a group for the group; here it is written out.
        let known = self
            .mapper
            .resolve(&name)
            .filter(|known| known.resource.group == target.group && known.kind == target.kind);
        let known = known.ok_or_else(|| ScaleError::UnknownKind {
            group: target.group.clone(),
            kind: target.kind.clone(),
        })?;
        let resource = api_resource(&known);
        let client = self.client.clone();
        Ok(Api::namespaced_with(client, &target.namespace, &resource))
    }
}

fn replicas(scale: &Scale) -> i32 {
    let spec = scale.spec.as_ref().and_then(|spec| spec.replicas);
    // As in Go, what is left out is 0.
    spec.unwrap_or(0)
}

fn found(target: &Scalable, error: RequestError) -> ScaleError {
    if error.has_code(404) {
        return ScaleError::NotFound {
            kind: target.kind.clone(),
            name: target.name.clone(),
            namespace: target.namespace.clone(),
        };
    }
    error.into()
}
