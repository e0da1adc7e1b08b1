//! A backend that fails in every way, and a real HPA that must not be misled by it.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::adapter::Adapter;
use crate::backend::{Mode, Server};
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

const NAME: &str = "behind-a-backend";

/// The namespace of the pods that the backend tells of.
const NAMESPACE: &str = "default";

const RULES: &str = "freshWithin: 1s
maxAge: 5s
scrape: {presets: []}
prometheus: [{url: 'URL', body_size_limit: 1MB}]
rules:
- seriesQuery: 'util{namespace!=\"\",pod!=\"\"}'
  resources: {template: <<.Resource>>}
  metricsQuery: avg(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
";

/// What it answers, and what the HPA's condition says then.
const FAULTS: [(Mode, &str); 6] = [
    (
        Mode::Text(503, "text/html", "<html>no</html>"),
        "answers 503",
    ),
    (
        Mode::Text(
            200,
            "application/json",
            r#"{"status":"success","data":null}"#,
        ),
        "\"data\" is null",
    ),
    (
        Mode::Text(
            200,
            "application/json",
            r#"{"status":"success","data":{"resultType":"vector","result":[{"met"#,
        ),
        "breaks off in the middle",
    ),
    // More bytes than a query's answer may have; and the lookup of series, which may have more, breaks off.
    (Mode::Huge, "answers with "),
    (Mode::Hang, "does not answer in time"),
    (Mode::HangInside, "does not answer in time"),
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the control plane: make test"]
async fn a_backend_that_fails_moves_no_replica_and_the_hpa_says_why() {
    let scene = Scene::new("backend-faults").await;
    let mut server = Server::start(Mode::Value(20.0));
    let rules = RULES.replace("URL", &server.url());
    let _adapter = Adapter::start_with(&scene, &rules).await;
    submit(&scene).await;
    // Twice of what one replica is meant to bear.
    eventually("two replicas", PATIENCE, async || {
        stands(&scene, 2, None).await
    })
    .await;
    for (mode, reason) in FAULTS {
        server.set(mode.clone());
        fails(&scene, reason).await;
        server.set(Mode::Value(20.0));
        recovers(&scene, &format!("{mode:?}")).await;
    }
    let address = server.address;
    drop(server);
    fails(&scene, "cannot be reached").await;
    server = Server::start_at(address, Mode::Value(20.0));
    recovers(&scene, "killed").await;
    // It was no stuck value: less load, fewer replicas.
    server.set(Mode::Value(4.0));
    eventually("one replica", Duration::from_secs(60), async || {
        stands(&scene, 1, None).await
    })
    .await;
    delete::<HorizontalPodAutoscaler>(&scene).await;
    delete::<Deployment>(&scene).await;
}

/// The HPA says why, and moves nothing for as long as it takes to scale down, and two syncs.
async fn fails(scene: &Scene, reason: &str) {
    eventually(reason, PATIENCE, async || {
        stands(scene, 2, Some(reason)).await
    })
    .await;
    let end = Instant::now() + Duration::from_secs(14);
    while Instant::now() < end {
        stands(scene, 2, Some(reason))
            .await
            .expect("the replicas stay");
        sleep(Duration::from_millis(500)).await;
    }
}

async fn recovers(scene: &Scene, what: &str) {
    // One sync of an HPA, at its default.
    let sync = Duration::from_secs(15);
    eventually(&format!("recovery: {what}"), sync, async || {
        stands(scene, 2, None).await
    })
    .await;
}

/// Whether there are this many replicas, and the HPA is active, or is not for this reason.
async fn stands(scene: &Scene, replicas: i32, reason: Option<&str>) -> Result<(), String> {
    let hpas: Api<HorizontalPodAutoscaler> = api(scene);
    let hpa = hpas.get(NAME).await.map_err(|error| error.to_string())?;
    let status = hpa.status.unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let active = conditions
        .into_iter()
        .find(|it| it.type_ == "ScalingActive");
    let active = active.ok_or("no condition yet")?;
    let message = active.message.unwrap_or_default();
    let as_said = match reason {
        None => active.status == "True",
        Some(reason) => active.status == "False" && message.contains(reason),
    };
    let deployment = api::<Deployment>(scene).get(NAME).await;
    let deployment = deployment.map_err(|error| error.to_string())?;
    let meant = deployment.spec.and_then(|spec| spec.replicas);
    let text = format!("{meant:?} replicas; {}: {message}", active.status);
    (as_said && meant == Some(replicas))
        .then_some(())
        .ok_or(text)
}

async fn submit(scene: &Scene) {
    let labels = json!({"app": NAME});
    create::<Deployment>(
        scene,
        json!({
            "metadata": {"name": NAME},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "terminationGracePeriodSeconds": 0,
                        "containers": [{"name": "worker", "image": "worker"}],
                    },
                },
            },
        }),
    )
    .await;
    create::<HorizontalPodAutoscaler>(
        scene,
        json!({
            "metadata": {"name": NAME},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
                "minReplicas": 1, "maxReplicas": 2,
                "metrics": [{"type": "Object", "object": {
                    "describedObject": {"apiVersion": "v1", "kind": "Pod", "name": "p0"},
                    "metric": {"name": "util"},
                    "target": {"type": "Value", "value": "10"},
                }}],
            },
        }),
    )
    .await;
}

fn api<K>(scene: &Scene) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(scene.client.clone(), NAMESPACE)
}

async fn create<K>(scene: &Scene, object: Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + DeserializeOwned
        + serde::Serialize
        + Clone
        + std::fmt::Debug,
{
    let object = serde_json::from_value(object).expect("an object");
    let created = api::<K>(scene)
        .create(&PostParams::default(), &object)
        .await;
    created.expect("created");
}

async fn delete<K>(scene: &Scene)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let deleted = api::<K>(scene).delete(NAME, &DeleteParams::default()).await;
    deleted.expect("deleted");
}
