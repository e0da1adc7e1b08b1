//! Objects of a kind that the cluster may or may not have: whether it does, which there are, and their status.

use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::follow::{Follow, everything};
use super::request::{RequestError, bounded};

/// A kind of object.
#[derive(Clone, Copy, Debug)]
pub struct CustomKind {
    /// Its API group.
    pub group: &'static str,
    /// The version that is read and written.
    pub version: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The plural name.
    pub plural: &'static str,
}

/// The objects of a kind that the cluster has.
pub struct CustomObjects {
    client: Client,
    kind: CustomKind,
    resource: ApiResource,
    has_status: bool,
}

impl CustomObjects {
    /// The objects of `kind`, if the cluster has it now.
    ///
    /// # Errors
    /// Where the cluster does not tell.
    pub async fn find(client: &Client, kind: CustomKind) -> Result<Option<Self>, RequestError> {
        let gvk = GroupVersionKind::gvk(kind.group, kind.version, kind.kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural);
        let listed = bounded(|| client.list_api_group_resources(&resource.api_version)).await;
        let listed = match listed {
            Ok(listed) => listed.resources,
            Err(error) if error.has_code(404) => return Ok(None),
            Err(error) => return Err(error),
        };
        let has = |name: &str| listed.iter().any(|it| it.name == name);
        let found = has(kind.plural).then(|| Self {
            client: client.clone(),
            kind,
            resource,
            has_status: has(&format!("{}/status", kind.plural)),
        });
        Ok(found)
    }

    /// A watch of all of them.
    pub fn follow(&self) -> Follow<DynamicObject> {
        let api = Api::all_with(self.client.clone(), &self.resource);
        Follow::new(self.kind.plural, api, everything())
    }

    /// One of them, as it is now.
    ///
    /// # Errors
    /// Where the API server does not tell.
    pub async fn get(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<DynamicObject>, RequestError> {
        let api = self.api(namespace);
        bounded(|| api.get_opt(name)).await
    }

    /// Replaces the status of one of them, if it is still the version that is named; gives whether it was.
    ///
    /// # Errors
    /// Where it was not written for another reason.
    pub async fn write_status(
        &self,
        namespace: &str,
        name: &str,
        version: &str,
        status: &Value,
    ) -> Result<bool, RequestError> {
        let api = self.api(namespace);
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": version},
            "status": status,
        }));
        let params = PatchParams::default();
        let written = bounded(|| async {
            if self.has_status {
                api.patch_status(name, &params, &patch).await
            } else {
                api.patch(name, &params, &patch).await
            }
        });
        match written.await {
            Ok(_) => Ok(true),
            Err(error) if error.has_code(404) || error.has_code(409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn api(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &self.resource)
    }
}
