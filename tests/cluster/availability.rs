//! An aggregated API that is down blocks the deletion of every namespace of the cluster: ours depends neither on data nor on
//! one replica.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::adapter::{API_SERVICES, Adapter, api_services, get};
use crate::backend::{Mode, Server};
use crate::balancer::Balancer;
use crate::control_plane::free_ports;
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
    are_available(&scene).await;
    namespace_ends(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the control plane: make test"]
async fn with_every_backend_down_a_namespace_can_be_deleted() {
    let scene = Scene::new("doomed-by-backends").await;
    let hanging = Server::start(Mode::Hang);
    let [closed] = free_ports();
    let rules = format!(
        "scrape: {{presets: []}}
prometheus:
- {{name: hanging, url: '{}'}}
- {{name: closed, url: 'http://127.0.0.1:{closed}'}}
rules:
- {{engine: hanging, seriesQuery: 'a{{namespace!=\"\"}}', resources: {{template: <<.Resource>>}}, metricsQuery: <<.Series>>}}
- {{engine: closed, seriesQuery: 'b{{namespace!=\"\"}}', resources: {{template: <<.Resource>>}}, metricsQuery: <<.Series>>}}
externalRules:
- {{engine: closed, seriesQuery: c, metricsQuery: <<.Series>>}}
",
        hanging.url()
    );
    let _adapter = Adapter::start_with(&scene, &rules).await;
    eventually("a lookup", PATIENCE, async || match hanging.lookups() {
        0 => Err("none yet"),
        _ => Ok(()),
    })
    .await;
    are_available(&scene).await;
    namespace_ends(&scene).await;
}

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn with_one_of_two_replicas_dead_a_namespace_can_be_deleted() {
    let scene = Scene::new("doomed-by-half").await;
    let first = Adapter::start(&scene).await;
    let second = first.replica(&scene).await;
    let ports = [first.port(), second.port()];
    drop(first); // It is killed.
    // The Service goes on sending every other connection there, as it does until the kubelet has told of the death. kube-apiserver
    // asks for all anew, as what the APIServices refer to has changed: nothing that it knew before counts.
    let balancer = Balancer::before(ports).await;
    second.reached_at(&scene, balancer.port).await;
    eventually(
        "a connection to the dead replica",
        PATIENCE,
        async || match balancer.refused() {
            0 => Err("none yet"),
            _ => Ok(()),
        },
    )
    .await;
    namespace_ends(&scene).await;
    are_available(&scene).await;
    let discovery = "/apis/custom.metrics.k8s.io/v1beta2";
    let answer = get(&scene.client, discovery).await;
    answer.expect("an answer of the other replica");
}

async fn are_available(scene: &Scene) {
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
}

/// Deletes the test's namespace and waits for its end.
async fn namespace_ends(scene: &Scene) {
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
