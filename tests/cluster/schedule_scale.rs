//! What many schedules take: 2,000 objects with ten jobs each. A measurement and not a test: `make bench-schedules`.

#![expect(
    clippy::print_stdout,
    reason = "a measurement tells what it has measured"
)]

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::adapter::Adapter;
use crate::control_plane::free_ports;
use crate::cron::{crons, daily_at, in_seconds, until};
use crate::proc::{cpu_time, memory};
use crate::scene::Scene;
use crate::wait::eventually;

const OBJECTS: i64 = 2_000;
const JOBS: i64 = 10;

/// Over how many seconds the first jobs are spread.
const SPREAD: i64 = 60;

/// How many requests of the test itself are under way at a time.
const AT_ONCE: usize = 16;

const PATIENCE: Duration = Duration::from_secs(300);

/// Something that nobody but its schedule cares about.
const WIDGETS: &str = r#"{
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"},
        "versions": [{
            "name": "v1", "served": true, "storage": true,
            "subresources": {"scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
                "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}}}
        }]
    }
}"#;

#[tokio::test]
#[ignore = "a measurement: make bench-schedules"]
async fn measured_two_thousand_objects_with_ten_jobs_each() {
    let scene = Scene::new("cron-scale").await;
    let file = scene.plane.workspace.write("widgets.json", WIDGETS);
    scene
        .plane
        .kubectl(&["apply", "-f", &file])
        .await
        .expect("kubectl apply");
    let [debug] = free_ports();
    let adapter =
        Adapter::start_with_schedules_and(&scene, &[format!("--debug-address=127.0.0.1:{debug}")])
            .await;
    let metrics = format!("http://127.0.0.1:{debug}/metrics");
    let gvk = GroupVersionKind::gvk("example.com", "v1", "Widget");
    let widgets: Api<DynamicObject> = Api::namespaced_with(
        scene.client.clone(),
        scene.namespace,
        &ApiResource::from_gvk(&gvk),
    );
    let crons = crons(&scene);
    eventually("widgets", PATIENCE, async || {
        widgets.list(&ListParams::default()).await.map(drop)
    })
    .await;

    println!(
        "adapter without objects: {:.1} MiB",
        resident_mebibytes(&adapter)
    );
    let begun = Timestamp::now();
    // Time to make them, and a minute at rest before the first is due.
    let first = in_seconds(150);
    let burst = Timestamp::from_second(first.as_second() + SPREAD + 30).expect("in range");
    let make = |index: i64| {
        let (widgets, crons) = (widgets.clone(), crons.clone());
        async move {
            let name = format!("widget-{index}");
            let widget = object(json!({
                "apiVersion": "example.com/v1", "kind": "Widget",
                "metadata": {"name": name}, "spec": {"replicas": 1},
            }));
            widgets
                .create(&PostParams::default(), &widget)
                .await
                .expect("a widget");
            let mut jobs = vec![
                json!({"name": "spread", "schedule": daily_at(after(first, index % SPREAD)), "targetSize": 2}),
                json!({"name": "burst", "schedule": daily_at(burst), "targetSize": 3}),
            ];
            for job in 2..JOBS {
                let at = after(burst, 3600 + job * 3600 + index % 3600);
                jobs.push(json!({"name": format!("job-{job}"), "schedule": daily_at(at), "targetSize": job}));
            }
            let cron = object(json!({
                "apiVersion": "autoscaling.alibabacloud.com/v1beta1", "kind": "CronHorizontalPodAutoscaler",
                "metadata": {"name": name},
                "spec": {"scaleTargetRef": {"apiVersion": "example.com/v1", "kind": "Widget", "name": name}, "jobs": jobs},
            }));
            crons
                .create(&PostParams::default(), &cron)
                .await
                .expect("an object");
        }
    };
    stream::iter(0..OBJECTS)
        .map(make)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
    let all = async |job: usize, state: &str| {
        let objects = crons
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let is = |it: &&DynamicObject| it.data["status"]["conditions"][job]["state"] == state;
        let count = i64::try_from(objects.items.iter().filter(is).count()).expect("few");
        (count == OBJECTS)
            .then_some(())
            .ok_or_else(|| format!("{count} are {state}"))
    };
    eventually("all taken up", PATIENCE, async || {
        sleep(Duration::from_secs(1)).await;
        all(0, "Submitted").await
    })
    .await;
    println!(
        "made and taken up within {:#}",
        begun.until(Timestamp::now()).expect("in range")
    );

    let rest = Duration::from_secs(60);
    let before = cpu_seconds(&adapter);
    sleep(rest).await;
    assert!(Timestamp::now() < first, "no time was left to rest");
    let used = cpu_seconds(&adapter) - before;
    println!(
        "at rest: {:.4} cores, {:.1} MiB",
        used / rest.as_secs_f64(),
        resident_mebibytes(&adapter)
    );

    let mut told = Vec::new();
    for (job, name, due) in [
        (0, "spread over a minute", after(first, SPREAD)),
        (1, "all in one second", burst),
    ] {
        let before = cpu_seconds(&adapter);
        until(due).await;
        eventually("all run", PATIENCE, async || {
            sleep(Duration::from_secs(1)).await;
            all(job, "Succeed").await
        })
        .await;
        let text = reqwest::get(&metrics)
            .await
            .expect("an answer")
            .text()
            .await
            .expect("text");
        let now = lateness(&text);
        let buckets: Vec<String> = now
            .iter()
            .map(|(limit, count)| {
                let before = told
                    .iter()
                    .find(|(other, _)| other == limit)
                    .map_or(0, |(_, count)| *count);
                format!("{} within {limit} s", count - before)
            })
            .collect();
        println!(
            "{name}: {}; {:.2} CPU seconds, {:.1} MiB",
            buckets.join(", "),
            cpu_seconds(&adapter) - before,
            resident_mebibytes(&adapter)
        );
        told = now;
    }
    adapter.remove_external(&scene).await;
}

fn cpu_seconds(adapter: &Adapter) -> f64 {
    cpu_time(adapter.process_id()).as_secs_f64()
}

fn resident_mebibytes(adapter: &Adapter) -> f64 {
    let kibibytes =
        u32::try_from(memory(adapter.process_id(), "VmRSS") >> 10).expect("below 4 TiB");
    f64::from(kibibytes) / 1024.0
}

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).expect("an object")
}

fn after(time: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_second(time.as_second() + seconds).expect("in range")
}

/// The buckets of the histogram of lateness: limit and count up to it.
fn lateness(text: &str) -> Vec<(String, u64)> {
    let buckets = text.lines().filter_map(|line| {
        let rest =
            line.strip_prefix("gpu_metrics_adapter_schedule_lateness_seconds_bucket{le=\"")?;
        let (limit, count) = rest.split_once("\"} ")?;
        Some((limit.to_owned(), count.parse().ok()?))
    });
    buckets.collect()
}
