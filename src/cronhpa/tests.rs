//! The controller against an API server that is held in memory: what is hard to bring about in a real one.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Controller, Settings, Standing};
use crate::cluster::fake_api::{Answer, FakeApi, soon};
use crate::model::objects::{GroupResource, ResourceKind, ResourceMapper};
use crate::schedule::status::Defaults;

const VERSION: &str = "/apis/autoscaling.alibabacloud.com/v1beta1";
const OBJECTS: &str = "/apis/autoscaling.alibabacloud.com/v1beta1/cronhorizontalpodautoscalers";
const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";
const EVENTS: &str = "/api/v1/events";

/// Deployments are all there is.
struct Deployments;

impl ResourceMapper for Deployments {
    fn resolve(&self, name: &GroupResource) -> Option<ResourceKind> {
        (name.resource == "deployment").then(|| ResourceKind {
            resource: GroupResource {
                group: "apps".to_owned(),
                resource: "deployments".to_owned(),
            },
            version: "v1".to_owned(),
            kind: "Deployment".to_owned(),
            namespaced: true,
        })
    }
}

/// A cluster that has the kind, and a controller that runs until it is dropped.
struct World {
    api: FakeApi,
    standing: Standing,
    cancel: CancellationToken,
}

impl World {
    async fn new() -> Self {
        let api = FakeApi::start().await;
        api.answer(VERSION, Answer::Json(resources()), usize::MAX);
        let world = Self {
            standing: Standing::default(),
            cancel: CancellationToken::new(),
            api,
        };
        world.deployment("web");
        world
    }

    async fn start(mut self) -> Self {
        let settings = Settings {
            namespace: "us".to_owned(),
            identity: "it".to_owned(),
            defaults: Defaults {
                zone: TimeZone::UTC,
                catch_up: Duration::from_secs(600),
            },
        };
        let mut controller = Controller::new(self.api.client(), Arc::new(Deployments), settings);
        controller.look = Duration::from_millis(50);
        self.standing = controller.standing();
        tokio::spawn(controller.run(self.cancel.clone()));
        self
    }

    async fn acting(self) -> Self {
        let world = self.start().await;
        let acts = || world.standing.text().contains("this replica acts");
        soon("a leader", acts).await;
        world
    }

    fn deployment(&self, name: &str) {
        let deployment =
            json!({"metadata": {"namespace": "prod", "name": name}, "spec": {"replicas": 1}});
        self.api.put(DEPLOYMENTS, deployment);
    }

    fn object(&self, name: &str, jobs: &[Value]) {
        self.api.put(OBJECTS, json!({
            "metadata": {"namespace": "prod", "name": name, "uid": name, "creationTimestamp": Timestamp::now().to_string()},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "jobs": jobs,
            },
        }));
    }

    fn replicas(&self) -> Option<i64> {
        let web = self.api.get(DEPLOYMENTS, "prod/web")?;
        web["spec"]["replicas"].as_i64()
    }

    fn condition(&self, name: &str, job: &str) -> Option<Value> {
        let object = self.api.get(OBJECTS, &format!("prod/{name}"))?;
        let conditions = object["status"]["conditions"].as_array()?.clone();
        conditions.into_iter().find(|it| it["name"] == job)
    }

    fn is(&self, name: &str, job: &str, state: &str) -> bool {
        self.condition(name, job)
            .is_some_and(|it| it["state"] == state)
    }

    fn count(&self, what: &str) -> usize {
        self.api
            .requests()
            .iter()
            .filter(|it| it.contains(what))
            .count()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// What the cluster tells of the kind's version.
fn resources() -> Value {
    json!({"groupVersion": "autoscaling.alibabacloud.com/v1beta1", "resources": [
        {"name": "cronhorizontalpodautoscalers", "singularName": "", "namespaced": true, "kind": "CronHorizontalPodAutoscaler", "verbs": ["list"]},
    ]})
}

fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + seconds).expect("in range")
}

fn job(name: &str, at: Timestamp, size: i32) -> Value {
    let at = TimeZone::UTC.to_datetime(at);
    let schedule = format!("{} {} {} * * *", at.second(), at.minute(), at.hour());
    json!({"name": name, "schedule": schedule, "targetSize": size})
}

/// §2.7 points 2 and 8 of the old controller's faults: removal made others late, and removed jobs came back.
#[tokio::test]
async fn what_is_removed_is_not_run_and_makes_nothing_else_late() {
    let world = World::new().await.acting().await;
    let (first, second) = (in_seconds(2), in_seconds(4));
    world.object("stays", &[job("gone", first, 7), job("late", second, 3)]);
    world.object("goes", &[job("gone", first, 8)]);
    soon("conditions", || {
        world.is("stays", "late", "Submitted") && world.is("goes", "gone", "Submitted")
    })
    .await;
    world.object("stays", &[job("late", second, 3)]);
    world.api.delete(OBJECTS, "prod/goes");
    soon("the job", || world.replicas() != Some(1)).await;
    assert_eq!(world.replicas(), Some(3));
    let late = Timestamp::now().duration_since(second).as_millis();
    assert!((0..1000).contains(&late), "{late} ms late");
    assert!(world.condition("stays", "gone").is_none());
}

/// Point 5: what others write at the same time is lost on neither side, and nothing is done twice for it.
#[tokio::test]
async fn a_status_is_written_over_the_version_that_was_read() {
    let world = World::new().await.acting().await;
    world.object("busy", &[job("up", in_seconds(2), 4)]);
    soon("a condition", || world.is("busy", "up", "Submitted")).await;
    let mut written = 0;
    while !world.is("busy", "up", "Succeed") && written < 20_000 {
        // As kubectl does: the object as it is, and one thing more.
        let mut object = world.api.get(OBJECTS, "prod/busy").expect("it is there");
        written += 1;
        object["metadata"]["labels"] = json!({"written": written.to_string()});
        world.api.put(OBJECTS, object);
        sleep(Duration::from_millis(1)).await;
    }
    assert!(world.is("busy", "up", "Succeed"), "after {written} writes");
    assert_eq!(world.replicas(), Some(4));
    let scaled = format!("PATCH {DEPLOYMENTS}")
        .replace("/deployments", "/namespaces/prod/deployments/web/scale");
    assert_eq!(world.count(&scaled), 1);
    let object = world.api.get(OBJECTS, "prod/busy").expect("it is there");
    assert_eq!(object["metadata"]["labels"]["written"], written.to_string());
    let events = world.count(&format!(
        "POST {}",
        EVENTS.replace("/events", "/namespaces/prod/events")
    ));
    assert_eq!(events, 1);
}

#[tokio::test]
async fn a_schema_that_does_not_keep_what_is_new_is_not_written_to_for_ever() {
    let world = World::new().await.acting().await;
    let at = in_seconds(3600);
    world.object("old", &[job("up", at, 4)]);
    soon("a condition", || world.is("old", "up", "Submitted")).await;
    // What an older schema does with each write.
    let mut object = world.api.get(OBJECTS, "prod/old").expect("it is there");
    let status = object["status"].as_object_mut().expect("a status");
    for field in ["nextJob", "nextTime", "lastResult"] {
        status.remove(field);
    }
    world.api.put(OBJECTS, object);
    world.object("later", &[job("up", at, 4)]);
    soon("the other's condition", || {
        world.is("later", "up", "Submitted")
    })
    .await;
    let writes = world.count("PATCH /apis/autoscaling.alibabacloud.com/v1beta1/namespaces/prod/cronhorizontalpodautoscalers/old");
    assert_eq!(writes, 1);
}

#[tokio::test]
async fn an_object_that_cannot_be_read_says_so_and_is_the_only_one() {
    let world = World::new().await.acting().await;
    world.api.put(
        OBJECTS,
        json!({
            "metadata": {"namespace": "prod", "name": "broken", "uid": "u"},
            "spec": {"scaleTargetRef": "web", "jobs": {}},
        }),
    );
    world.object("good", &[job("up", in_seconds(2), 2)]);
    soon("the good one", || world.is("good", "up", "Succeed")).await;
    let told = || {
        world
            .api
            .bodies()
            .iter()
            .any(|it| it.contains("the specification cannot be read"))
    };
    soon("an event", told).await;
}

#[tokio::test]
async fn a_kind_that_is_installed_later_is_noticed_and_one_that_goes_too() {
    let world = World::new().await;
    world.api.answer(VERSION, Answer::Json(json!({})), 0);
    world
        .api
        .answer(VERSION, Answer::Status(404, "NotFound"), usize::MAX);
    let world = world.start().await;
    soon("what is missing", || {
        world.standing.text().contains("is not installed")
    })
    .await;
    world.api.answer(VERSION, Answer::Json(json!({})), 0);
    world
        .api
        .answer(VERSION, Answer::Json(resources()), usize::MAX);
    soon("a leader", || {
        world.standing.text().contains("this replica acts")
    })
    .await;
    world.object("it", &[job("up", in_seconds(2), 2)]);
    soon("its job", || world.is("it", "up", "Succeed")).await;
    // As an API server does that has the kind no more: it ends the watches and knows neither.
    world.api.answer(VERSION, Answer::Json(json!({})), 0);
    world
        .api
        .answer(VERSION, Answer::Status(404, "NotFound"), usize::MAX);
    world
        .api
        .answer(OBJECTS, Answer::Status(404, "NotFound"), usize::MAX);
    world.api.cut_watches();
    soon("what is missing now", || {
        world.standing.text().contains("is not installed")
    })
    .await;
}
