//! Schedules where something is wrong: a leader that dies, objects that cannot work, a schema from before.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::{Value, json};

use crate::adapter::{Adapter, LEASE, NAMESPACE};
use crate::cron::{condition, create, cron, events, in_seconds, job, put, state, until};
use crate::scaled::{create_deployment, replicas_are};
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

/// A lease that is not renewed, 15 s, a look at it each 2 s, and a slow machine.
const TAKE_OVER: Duration = Duration::from_secs(40);

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn a_leader_killed_a_second_before_a_job_is_due_loses_and_doubles_nothing() {
    let scene = Scene::new("cron-leader").await;
    let leader = Adapter::start_with_schedules(&scene).await;
    create_deployment(&scene, "web", 1).await;
    let first = holder(&scene).await;
    let other = leader.replica(&scene).await;
    let due = in_seconds(6);
    let spec = json!({"jobs": [job("up", due, 3)]});
    put(&scene, cron("web", "Deployment", "web", spec)).await;
    eventually("a condition", PATIENCE, async || {
        condition(&scene, "web", "up").await
    })
    .await;
    until(in_seconds(0).max(due.checked_sub(Duration::from_secs(1)).expect("in range"))).await;
    assert!(
        Timestamp::now() < due,
        "the machine is too slow for this test"
    );
    drop(leader);

    let ran = eventually("the job, run by the other", TAKE_OVER, async || {
        state(&scene, "web", "up", "Succeed").await
    })
    .await;
    replicas_are(&scene, "web", 3)
        .await
        .expect("the job's size");
    assert_ne!(holder(&scene).await, first);
    let probed: Timestamp = serde_json::from_value(ran["lastProbeTime"].clone()).expect("a time");
    assert!(probed > due, "{probed} is not after {due}");

    // Whoever leads next knows that it was run: what people do since is left alone.
    crate::cron::scale(&scene, "web", 2).await;
    drop(other);
    let third = Adapter::start_with_schedules(&scene).await;
    let later = in_seconds(5);
    let spec = json!({"jobs": [job("up", due, 3), job("next", later, 4)]});
    put(&scene, cron("web", "Deployment", "web", spec)).await;
    until(later).await;
    eventually("the next job", TAKE_OVER, async || {
        state(&scene, "web", "next", "Succeed").await
    })
    .await;
    let told: Vec<String> = events(&scene, "web")
        .await
        .into_iter()
        .map(|it| it.1)
        .collect();
    let run = |job: &str, from: i32, to: i32| {
        format!(
            "cron hpa job {job} executed successfully. current replicas:{from}, desired replicas:{to}."
        )
    };
    assert_eq!(told, [run("up", 1, 3), run("next", 2, 4)]);
    third.remove_external(&scene).await;
}

/// Its name, its target, its jobs, and what is told of the last of them.
type Fault = (&'static str, [&'static str; 3], Value, &'static str);

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn objects_that_cannot_work_say_why_and_touch_no_other() {
    let scene = Scene::new("cron-faults").await;
    // They were made while nothing was checked; then the schema of today is applied over it.
    let before =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cronhpa/crd-before.yaml");
    let before = before.to_str().expect("a UTF-8 path");
    scene
        .plane
        .kubectl(&["apply", "--server-side", "--force-conflicts", "-f", before])
        .await
        .expect("kubectl apply");
    let known = ["apps/v1", "Deployment", "web"];
    let one = |schedule: &str, size: i32| json!([{"name": "it", "schedule": schedule, "targetSize": size}]);
    let faults: [Fault; 6] = [
        (
            "four-fields",
            known,
            one("30 9 * *", 2),
            "Failed to create cron hpa job it,because of expected 5 to 6 fields (second minute hour day month [weekday]), found 4: \"30 9 * *\"",
        ),
        (
            "day-seven",
            known,
            one("0 0 9 * * 7", 2),
            "Failed to create cron hpa job it,because of weekday \"7\": is out of range",
        ),
        (
            "negative",
            known,
            one("0 0 9 * * *", -1),
            "Failed to create cron hpa job it,because of targetSize must not be negative: -1",
        ),
        (
            "twins",
            known,
            json!([
                {"name": "it", "schedule": "0 0 9 * * *", "targetSize": 1},
                {"name": "it", "schedule": "0 0 10 * * *", "targetSize": 2},
            ]),
            "Failed to create cron hpa job it,because of another job has the name \"it\"",
        ),
        (
            // The old controller crashed over it, and with it everybody's schedules.
            "no-group",
            ["apps/v1/deployments", "Deployment", "web"],
            one("0 0 9 * * *", 2),
            "Failed to create cron hpa job it,because of apiVersion \"apps/v1/deployments\" of the target is neither GROUP/VERSION nor a version",
        ),
        (
            "no-kind",
            ["argoproj.io/v1alpha1", "Rollout", "web"],
            one("@every 1s", 2),
            "cron hpa failed to execute, because of failed to scale Rollout web in cron-faults namespace to 2 after retrying 4 times and exit,because of the cluster has no kind Rollout in the group \"argoproj.io\"",
        ),
    ];
    eventually("the old kind", PATIENCE, async || {
        crate::cron::crons(&scene)
            .list(&kube::api::ListParams::default())
            .await
            .map(drop)
    })
    .await;
    for (name, [api_version, kind, target], jobs, _) in &faults {
        let mut object = cron(name, kind, target, json!({"jobs": jobs}));
        object["spec"]["scaleTargetRef"]["apiVersion"] = json!(api_version);
        create(&scene, object).await;
    }

    let adapter = Adapter::start_with_schedules(&scene).await;
    create_deployment(&scene, "web", 1).await;
    let due = in_seconds(4);
    let spec = json!({"jobs": [job("up", due, 2)]});
    put(&scene, cron("good", "Deployment", "web", spec)).await;
    until(due).await;
    eventually("the good one on time", Duration::from_secs(2), async || {
        replicas_are(&scene, "web", 2).await
    })
    .await;
    for (name, _, jobs, told) in &faults {
        let last = jobs.as_array().map_or(0, Vec::len) - 1;
        eventually(
            &format!("what is wrong with {name}"),
            PATIENCE,
            async || {
                let status = crate::cron::status(&scene, name).await?;
                let condition = &status["conditions"][last];
                let told = condition["message"] == *told && condition["state"] == "Failed";
                told.then_some(()).ok_or_else(|| status.to_string())
            },
        )
        .await;
    }
    // The first of two twins works.
    let status = crate::cron::status(&scene, "twins")
        .await
        .expect("a status");
    assert_eq!(status["conditions"][0]["state"], "Submitted");

    // Today, what can be seen without the clock is refused at once.
    for (jobs, refusal) in [
        (one("0 0 9 * * *", -1), "greater than or equal to 0"),
        (
            json!([
                {"name": "it", "schedule": "0 0 9 * * *", "targetSize": 1},
                {"name": "it", "schedule": "0 0 10 * * *", "targetSize": 2},
            ]),
            "two jobs have the same name",
        ),
    ] {
        let object = cron("refused", "Deployment", "web", json!({"jobs": jobs}));
        let file = scene
            .plane
            .workspace
            .write("refused.json", &object.to_string());
        let arguments = ["apply", "--namespace", scene.namespace, "-f", &file];
        let error = scene.plane.kubectl(&arguments).await.expect_err("refused");
        assert!(error.contains(refusal), "{error}");
    }
    adapter.remove_external(&scene).await;
}

/// Which replica acts, once one does.
async fn holder(scene: &Scene) -> String {
    let leases: Api<Lease> = Api::namespaced(scene.client.clone(), NAMESPACE);
    eventually("a leader", PATIENCE, async || {
        let lease = leases.get(LEASE).await.map_err(|error| error.to_string())?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity);
        holder
            .filter(|it| !it.is_empty())
            .ok_or_else(|| "nobody".to_owned())
    })
    .await
}
