//! What is written down of each request, and counted.

use gpu_metrics_adapter::server::{Admission, Refusal};
use serde_json::{Value, json};

use crate::site::{Folder, Site, eventually};

const METRIC: &str =
    "/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/pods/%2A/util?labelSelector=a";

#[tokio::test]
async fn every_request_is_written_down_and_counted_whatever_became_of_it() {
    let folder = Folder::new("audit");
    let file = folder.0.join("audit.log");
    let site = Site::start_audited(Admission::default(), Some(&file)).await;
    let proxy = site.client(Some(&site.front_proxy()), true);
    let alice = [("X-Remote-User", "alice"), ("X-Remote-Group", "staff")];
    let asked = [&alice[..], &[("Accept", "application/json;q=0.5")]].concat();
    assert_eq!(site.get(&proxy, METRIC, &asked).await.0, 200);
    let nobody = site.client(None, true);
    assert_eq!(site.get(&nobody, METRIC, &[]).await.0, 403);
    let bad = [("Authorization", "Bearer bad")];
    assert_eq!(site.get(&nobody, "/metrics", &bad).await.0, 401);
    // One whose client does not wait for the answer.
    let mut request = proxy.get(site.url("/gate"));
    for (name, value) in alice {
        request = request.header(name, value);
    }
    let left = tokio::spawn(request.send());
    site.waiting.acquire().await.unwrap().forget();
    left.abort();

    let lines = async || -> Vec<Value> {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.split_inclusive('\n').filter(|it| it.ends_with('\n'));
        lines.map(|it| serde_json::from_str(it).unwrap()).collect()
    };
    eventually("four lines", async || lines().await.len() == 4).await;
    let of = |line: &Value, keys: &[&str]| -> Vec<Value> {
        keys.iter().map(|key| line[*key].clone()).collect()
    };
    let who = ["user", "groups", "code", "verb"];
    let lines = lines().await;
    assert_eq!(
        of(&lines[0], &who),
        [json!("alice"), json!(2), json!(200), json!("get")]
    );
    let what = [
        "group",
        "version",
        "resource",
        "subresource",
        "namespace",
        "name",
    ];
    let metric = [
        "custom.metrics.k8s.io",
        "v1beta2",
        "pods",
        "util",
        "ns",
        "*",
    ];
    assert_eq!(of(&lines[0], &what), metric.map(Value::from));
    let encodings = ["application/json;q=0.5", "application/json"].map(Value::from);
    assert_eq!(of(&lines[0], &["asked", "answered"]), encodings);
    assert!(lines[0]["durationSeconds"].as_f64().unwrap() > 0.0);
    assert!(lines[0]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    let anonymous = json!("system:anonymous");
    assert_eq!(
        of(&lines[1], &who),
        [anonymous, json!(1), json!(403), json!("get")]
    );
    assert_eq!(
        of(&lines[2], &who),
        [Value::Null, json!(0), json!(401), json!("get")]
    );
    assert_eq!(lines[2]["path"], "/metrics");
    assert!(
        !lines[2].to_string().contains("bad"),
        "no credentials: {}",
        lines[2]
    );
    assert_eq!(
        of(&lines[3], &who),
        [json!("alice"), json!(2), Value::Null, json!("get")]
    );
    assert_eq!(site.metrics.refused(Refusal::Abandoned), 1);
}
