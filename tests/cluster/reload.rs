//! The configuration's file is changed under a running adapter.

use serde_json::Value;

use crate::adapter::{Adapter, get};
use crate::exporter::Exporter;
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

/// Rules for these series of the exporter.
fn configuration(exporter: &Exporter, series: &[&str]) -> String {
    let rules = series.iter().map(|series| {
        format!("- {{seriesQuery: '{series}', resources: {{template: <<.Resource>>}}, metricsQuery: 'sum(<<.Series>>{{<<.LabelMatchers>>}}) by (<<.GroupBy>>)'}}\n")
    });
    let rules: String = rules.collect();
    let address = exporter.address();
    format!(
        "scrape:\n  interval: 1s\n  timeout: 1s\n  presets: []\n  scrape_configs: [{{job_name: load, static_configs: [{{targets: ['{address}']}}]}}]\nrules:\n{rules}"
    )
}

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn a_changed_file_is_put_to_work_without_a_gap_and_a_bad_one_changes_nothing() {
    let scene = Scene::new("reload").await;
    let exporter = Exporter::hanging(&scene, "load").await;
    let of = |metric: &str, value| format!("{metric}{{namespace=\"reload\",pod=\"p\"}} {value}\n");
    exporter.show(of("load", 1) + &of("backlog", 2));
    let adapter = Adapter::start_with(&scene, &configuration(&exporter, &["load"])).await;
    eventually("the first metric", PATIENCE, async || {
        is(&scene, "load", "1").await
    })
    .await;
    let unknown = value(&scene, "backlog")
        .await
        .expect_err("no rule offers it");
    assert!(unknown.contains("backlog"), "{unknown}");

    adapter.configure(&scene, &configuration(&exporter, &["load", "backlog"]));
    eventually("the second metric", PATIENCE, async || {
        is(&scene, "load", "1")
            .await
            .expect("the first, all the time");
        is(&scene, "backlog", "2").await
    })
    .await;
    says(&adapter, "[+]config ok: the file is in use").await;

    adapter.configure(&scene, "rules:\n- {seriesQuery: load, metricQuery: x}\n");
    let refusal = "[+]config ok: the file is not in use since it changed at ";
    let said = says(&adapter, refusal).await;
    assert!(
        said.contains("metricQuery") && said.contains("line 2"),
        "{said}"
    );
    for (metric, expected) in [("load", "1"), ("backlog", "2")] {
        is(&scene, metric, expected).await.expect("as before");
    }

    adapter.configure(&scene, &configuration(&exporter, &["backlog"]));
    says(&adapter, "[+]config ok: the file is in use").await;
    is(&scene, "backlog", "2").await.expect("still there");
    let gone = value(&scene, "load").await.expect_err("its rule is gone");
    assert!(gone.contains("load"), "{gone}");
}

/// Waits until the adapter is ready and says this in the detail; gives all of it.
async fn says(adapter: &Adapter, part: &str) -> String {
    let client = adapter.direct(&adapter.ca, None);
    eventually(part, PATIENCE, async || {
        let answer = client.get(adapter.url("/readyz?verbose")).send().await;
        let answer = answer.map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        assert!(status.is_success(), "{status}: {text}");
        if text.contains(part) {
            Ok(text)
        } else {
            Err(text)
        }
    })
    .await
}

async fn is(scene: &Scene, metric: &str, expected: &str) -> Result<(), String> {
    let value = value(scene, metric).await?;
    (value == expected).then_some(()).ok_or(value)
}

/// The value of the pod `p`, asked for as the HPA does.
async fn value(scene: &Scene, metric: &str) -> Result<String, String> {
    let namespace = scene.namespace;
    let path =
        format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/pods/p/{metric}");
    let list: Value = serde_json::from_str(&get(&scene.client, &path).await?)
        .map_err(|error| error.to_string())?;
    list["items"][0]["value"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| list.to_string())
}
