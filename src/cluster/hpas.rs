//! HorizontalPodAutoscalers (`autoscaling/v2`): their bounds, and which of them scale what.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::Value;

use super::request::{RequestError, bounded};

/// How many are asked for at a time.
const PAGE: u32 = 500;

/// The HorizontalPodAutoscalers of a cluster.
pub struct Hpas {
    client: Client,
}

impl Hpas {
    /// Those of this client's cluster.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// One of them.
    ///
    /// # Errors
    /// Where the API server does not tell.
    pub async fn get(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<HorizontalPodAutoscaler>, RequestError> {
        let api = self.api(Some(namespace));
        bounded(|| api.get_opt(name)).await
    }

    /// All in a namespace, or in the cluster (`None`).
    ///
    /// # Errors
    /// Where the API server does not tell.
    pub async fn list(
        &self,
        namespace: Option<&str>,
    ) -> Result<Vec<HorizontalPodAutoscaler>, RequestError> {
        let api = self.api(namespace);
        let mut all = Vec::new();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = bounded(|| api.list(&params)).await?;
            all.extend(page.items);
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return Ok(all);
            }
        }
    }

    /// Changes one by a merge patch. One that names `metadata.resourceVersion` is refused as a conflict where another has
    /// changed it.
    ///
    /// # Errors
    /// Where that was not done.
    pub async fn patch(
        &self,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<(), RequestError> {
        let api = self.api(Some(namespace));
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        bounded(|| api.patch(name, &params, &patch)).await.map(drop)
    }

    fn api(&self, namespace: Option<&str>) -> Api<HorizontalPodAutoscaler> {
        match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}
