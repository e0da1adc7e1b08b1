//! CronHorizontalPodAutoscalers, and the times of their jobs.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::scene::Scene;

/// The API of the objects in the test's namespace.
pub(crate) fn crons(scene: &Scene) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk(
        "autoscaling.alibabacloud.com",
        "v1beta1",
        "CronHorizontalPodAutoscaler",
    );
    let resource = ApiResource::from_gvk(&gvk);
    Api::namespaced_with(scene.client.clone(), scene.namespace, &resource)
}

/// A whole second, this many seconds from now.
pub(crate) fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + seconds).expect("in range")
}

/// The schedule that is due at this second of every day, in UTC.
pub(crate) fn daily_at(time: Timestamp) -> String {
    let time = TimeZone::UTC.to_datetime(time);
    format!("{} {} {} * * *", time.second(), time.minute(), time.hour())
}

/// An object over a target of `apps/v1` or `autoscaling/v2`.
pub(crate) fn cron(name: &str, kind: &str, target: &str, spec: Value) -> Value {
    let api_version = if kind == "HorizontalPodAutoscaler" {
        "autoscaling/v2"
    } else {
        "apps/v1"
    };
    let mut object = json!({
        "apiVersion": "autoscaling.alibabacloud.com/v1beta1",
        "kind": "CronHorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {"scaleTargetRef": {"apiVersion": api_version, "kind": kind, "name": target}},
    });
    for (key, value) in spec.as_object().expect("a specification") {
        object["spec"][key] = value.clone();
    }
    object
}

/// A job.
pub(crate) fn job(name: &str, at: Timestamp, size: i32) -> Value {
    json!({"name": name, "schedule": daily_at(at), "targetSize": size})
}

/// Makes an object, or changes it to this.
pub(crate) async fn put(scene: &Scene, object: Value) {
    let name = object["metadata"]["name"].as_str().expect("a name");
    let file = scene
        .plane
        .workspace
        .write(&format!("{name}.json"), &object.to_string());
    let arguments = ["apply", "--namespace", scene.namespace, "-f", &file];
    scene
        .plane
        .kubectl(&arguments)
        .await
        .expect("kubectl apply");
}

/// Makes an object that is not to be changed by `kubectl apply` later.
pub(crate) async fn create(scene: &Scene, object: Value) {
    let object: DynamicObject = serde_json::from_value(object).expect("an object");
    crons(scene)
        .create(&PostParams::default(), &object)
        .await
        .expect("an object that the API server accepts");
}

/// The status of an object.
pub(crate) async fn status(scene: &Scene, name: &str) -> Result<Value, String> {
    let object = crons(scene).get(name).await;
    let object = object.map_err(|error| error.to_string())?;
    Ok(object.data["status"].clone())
}

/// The condition of a job.
pub(crate) async fn condition(scene: &Scene, name: &str, job: &str) -> Result<Value, String> {
    let status = status(scene, name).await?;
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let mut of_job = conditions.filter(|it| it["name"] == job);
    of_job.next().cloned().ok_or_else(|| status.to_string())
}

/// The condition of a job once it is in this state.
pub(crate) async fn state(
    scene: &Scene,
    name: &str,
    job: &str,
    state: &str,
) -> Result<Value, String> {
    let condition = condition(scene, name, job).await?;
    if condition["state"] == state {
        Ok(condition)
    } else {
        Err(condition.to_string())
    }
}

/// Scales a Deployment as people do.
pub(crate) async fn scale(scene: &Scene, name: &str, replicas: i32) {
    let patch = json!({"spec": {"replicas": replicas}});
    scene
        .api::<Deployment>()
        .patch_scale(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .expect("a scale");
}

/// Waits until a time has come.
pub(crate) async fn until(time: Timestamp) {
    let left = time.duration_since(Timestamp::now());
    sleep(Duration::try_from(left).unwrap_or_default()).await;
}

/// The messages of an object's events.
pub(crate) async fn events(scene: &Scene, name: &str) -> Vec<(String, String)> {
    let all: Api<k8s_openapi::api::core::v1::Event> = scene.api();
    let about = kube::api::ListParams::default().fields(&format!(
        "involvedObject.kind=CronHorizontalPodAutoscaler,involvedObject.name={name}"
    ));
    let events = all.list(&about).await.expect("the events");
    let told = |event: k8s_openapi::api::core::v1::Event| {
        let source = event.source.and_then(|source| source.component);
        assert_eq!(source.as_deref(), Some("CronHorizontalPodAutoscaler"));
        let reason = event.reason.unwrap_or_default();
        (reason, event.message.unwrap_or_default())
    };
    events.items.into_iter().map(told).collect()
}
