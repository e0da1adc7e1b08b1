//! An aggregated API that is down blocks the deletion of every namespace of the cluster: ours never depends on data.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::adapter::{API_SERVICES, Adapter, api_services};
use crate::exporter::Exporter;
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn before_the_first_scrape_and_with_every_exporter_dead_the_apiservices_are_available_and_a_namespace_can_be_deleted()
 {
    let scene = Scene::new("doomed").await;
    // The one never answers, the other's port is closed: no scrape has ever succeeded.
    let _hanging = Exporter::hanging(&scene, "hanging").await;
    let _dead = Exporter::dead(&scene, "dead").await;
    let _adapter = Adapter::start(&scene).await;
    for name in API_SERVICES {
        let service = api_services(&scene.client).get(name).await;
        let conditions = service.expect("an APIService").status.expect("a status");
        let available = conditions.conditions.unwrap_or_default();
        assert!(
            available
                .iter()
                .any(|condition| condition.type_ == "Available" && condition.status == "True"),
            "{name}: {available:?}"
        );
    }

    scene
        .create::<ConfigMap>(json!({"metadata": {"name": "content"}}))
        .await;
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    namespaces
        .delete(scene.namespace, &DeleteParams::default())
        .await
        .expect("a deletion that begins");
    eventually("end of the namespace", PATIENCE, async || match namespaces
        .get_opt(scene.namespace)
        .await
    {
        Ok(None) => Ok(()),
        Ok(Some(namespace)) => Err(format!("{:?}", namespace.status)),
        Err(error) => Err(error.to_string()),
    })
    .await;
}
