//! Schedules without an HPA: the object of the old controller does what it did there, and more where that failed.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use crate::adapter::Adapter;
use crate::cron::{condition, cron, daily_at, events, in_seconds, job, put, state, status, until};
use crate::fixtures;
use crate::scaled::{create_deployment, replicas_are};
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

const NAME: &str = "qwen-cronhpa";
const DEPLOYMENT: &str = "qwen-cronhpa-predictor";

/// From when a job is due to when it is seen to have been run.
const ON_TIME: Duration = Duration::from_secs(2);

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn qwen_is_scaled_by_the_clock_as_the_old_controller_did_it() {
    let scene = Scene::new("cron").await;
    let adapter = Adapter::start_with_schedules(&scene).await;
    let predictor = "kserve/deployment-qwen-cronhpa-predictor.yaml";
    scene
        .create::<Deployment>(fixtures::object(predictor))
        .await;
    replicas_are(&scene, DEPLOYMENT, 1)
        .await
        .expect("as KServe made it");

    // The mission's object, a few seconds from now.
    let (up, down) = (in_seconds(6), in_seconds(11));
    let mut object = fixtures::object_whole("cronhpa/cronhpa-as-applied.yaml");
    object["metadata"]["namespace"] = json!(scene.namespace);
    for (index, at) in [up, down].into_iter().enumerate() {
        object["spec"]["jobs"][index]["schedule"] = json!(daily_at(at));
    }
    put(&scene, object).await;
    eventually("a condition", ON_TIME, async || {
        state(&scene, NAME, "scale-up", "Submitted").await
    })
    .await;
    let columns = ["get", "cronhpa", "--namespace", scene.namespace];
    let table = scene.plane.kubectl(&columns).await.expect("kubectl get");
    let line = table.lines().nth(1).unwrap_or_default();
    for shown in ["Deployment", DEPLOYMENT, "scale-up", &up.to_string()] {
        assert!(line.contains(shown), "{table}");
    }

    until(up).await;
    eventually("two replicas on time", ON_TIME, async || {
        replicas_are(&scene, DEPLOYMENT, 2).await
    })
    .await;
    let ran = eventually("its condition", ON_TIME, async || {
        state(&scene, NAME, "scale-up", "Succeed").await
    })
    .await;
    // As the old controller wrote it, but for the times and the name of the job's version.
    let captured = fixtures::object_whole("cronhpa/cronhpa-after-scale-up.yaml");
    for (index, name) in ["scale-up", "scale-down"].into_iter().enumerate() {
        let mut expected = captured["status"]["conditions"][index].clone();
        let mut found = condition(&scene, NAME, name).await.expect("a condition");
        for field in ["jobId", "lastProbeTime", "schedule"] {
            for condition in [&mut expected, &mut found] {
                let value = condition.as_object_mut().expect("fields").remove(field);
                assert!(value.is_some_and(|it| it.is_string()), "{name} {field}");
            }
        }
        assert_eq!(found, expected, "{name}");
    }
    let probed: Timestamp = serde_json::from_value(ran["lastProbeTime"].clone()).expect("a time");
    assert!(
        (0..=1).contains(&probed.duration_since(up).as_secs()),
        "{probed} {up}"
    );

    until(down).await;
    eventually("one replica on time", ON_TIME, async || {
        replicas_are(&scene, DEPLOYMENT, 1).await
    })
    .await;
    eventually("its condition", ON_TIME, async || {
        state(&scene, NAME, "scale-down", "Succeed").await
    })
    .await;
    let told = |job: &str, from: i32, to: i32| {
        let message = format!(
            "cron hpa job {job} executed successfully. current replicas:{from}, desired replicas:{to}."
        );
        ("Succeed".to_owned(), message)
    };
    let mut expected = vec![told("scale-up", 1, 2), told("scale-down", 2, 1)];
    let mut found = events(&scene, NAME).await;
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let table = scene.plane.kubectl(&columns).await.expect("kubectl get");
    assert!(table.contains("scale-down Succeed"), "{table}");
    let describe = ["describe", "cronhpa", NAME, "--namespace", scene.namespace];
    let text = scene
        .plane
        .kubectl(&describe)
        .await
        .expect("kubectl describe");
    let line = text
        .lines()
        .find(|line| line.contains("Succeed") && line.contains("Normal"));
    assert!(
        line.is_some_and(|it| it.contains("CronHorizontalPodAutoscaler")),
        "{text}"
    );
    adapter.remove_external(&scene).await;
}

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn a_target_that_is_gone_is_told_in_the_old_words_and_scaled_when_it_is_back() {
    let scene = Scene::new("cron-missing").await;
    let adapter = Adapter::start_with_schedules(&scene).await;
    let due = in_seconds(3);
    let spec = json!({"jobs": [job("scale-up", due, 2)]});
    put(&scene, cron(NAME, "Deployment", DEPLOYMENT, spec)).await;
    let failed = eventually("a failure", PATIENCE, async || {
        state(&scene, NAME, "scale-up", "Failed").await
    })
    .await;
    let message = failed["message"].as_str().expect("a message");
    let captured = "cron hpa failed to execute, because of failed to scale Deployment qwen-cronhpa-predictor in cron-missing namespace to 2 after retrying 4 times and exit,because of failed to find source target Deployment qwen-cronhpa-predictor in cron-missing namespace";
    assert_eq!(message, captured);
    let told = events(&scene, NAME).await;
    assert_eq!(told, [("Failed".to_owned(), captured.to_owned())]);

    // The old controller would wait for tomorrow.
    create_deployment(&scene, DEPLOYMENT, 1).await;
    eventually("the job made up for", Duration::from_secs(60), async || {
        replicas_are(&scene, DEPLOYMENT, 2).await
    })
    .await;
    eventually("its condition", ON_TIME, async || {
        state(&scene, NAME, "scale-up", "Succeed").await
    })
    .await;
    adapter.remove_external(&scene).await;
}

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn a_window_holds_a_deployment_that_has_no_hpa_and_lets_it_go() {
    let scene = Scene::new("cron-window").await;
    let adapter = Adapter::start_with_schedules(&scene).await;
    create_deployment(&scene, "web", 1).await;
    let (start, end) = (in_seconds(4), in_seconds(10));
    let window =
        json!({"name": "peak", "start": start.to_string(), "end": daily_at(end), "replicas": 3});
    let spec = json!({"windows": [window]});
    put(&scene, cron("web", "Deployment", "web", spec)).await;
    let floor = async || {
        let path = format!(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/schedule_desired_replicas?labelSelector=name%3Dweb",
            scene.namespace
        );
        let text = crate::adapter::get(&scene.client, &path).await?;
        let list: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        Ok::<_, String>(list["items"][0]["value"].clone())
    };
    let before = eventually("the floor before", PATIENCE, floor).await;
    assert_eq!(before, "0");
    until(start).await;
    eventually("the floor kept", ON_TIME, async || {
        replicas_are(&scene, "web", 3).await
    })
    .await;
    assert_eq!(floor().await, Ok(json!("3")));
    let status = eventually("the floor told", ON_TIME, async || {
        let status = status(&scene, "web").await?;
        let told = status["floor"] == json!({"replicas": 3, "base": 1});
        told.then(|| status.clone())
            .ok_or_else(|| status.to_string())
    })
    .await;
    assert_eq!(
        status["windows"],
        json!([{"name": "peak", "replicas": 3, "message": ""}])
    );
    until(end).await;
    eventually("the end", ON_TIME, async || {
        replicas_are(&scene, "web", 1).await
    })
    .await;
    assert_eq!(floor().await, Ok(json!("0")));
    let told: Vec<String> = events(&scene, "web")
        .await
        .into_iter()
        .map(|it| it.1)
        .collect();
    assert_eq!(
        told,
        [
            "floor of windows: 3. current replicas:1, desired replicas:3.",
            "floor of windows: 0. current replicas:3, desired replicas:1.",
        ]
    );
    adapter.remove_external(&scene).await;
}
