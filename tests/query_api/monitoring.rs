//! What the adapter is watched with: every alert and every panel asks for metrics and labels that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use promql_parser::parser::{self, Expr, LabelModifier};
use promql_parser::util::{ExprVisitor, walk_expr};
use regex::Regex;
use serde_json::Value;

use crate::door::Site;

/// Prometheus's own, and the labels that it gives to whatever it scrapes.
const UP: &str = "up";
const OF_TARGETS: [&str; 2] = ["instance", "job"];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(path).unwrap()
}

/// Each expression with where it stands.
fn expressions() -> Vec<(String, String)> {
    let rules: Value =
        serde_saphyr::from_str(&read("manifests/monitoring/prometheusrule.yaml")).unwrap();
    let mut found = Vec::new();
    for group in rules["spec"]["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            let name = rule["alert"].as_str().unwrap();
            found.push((name.to_owned(), rule["expr"].as_str().unwrap().to_owned()));
            let severity = rule["labels"]["severity"].as_str().unwrap();
            assert!(["warning", "critical"].contains(&severity), "{name}");
            for text in ["summary", "description"] {
                assert!(rule["annotations"][text].is_string(), "{name}: {text}");
            }
        }
    }
    let alerts = found.len();
    let dashboard: Value =
        serde_json::from_str(&read("manifests/monitoring/dashboard.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            // Grafana puts a duration there.
            let text = target["expr"].as_str().unwrap();
            let text = text.replace("$__rate_interval", "5m");
            found.push((panel["title"].as_str().unwrap().to_owned(), text));
        }
    }
    assert!(alerts > 10 && found.len() > alerts + 15, "{}", found.len());
    found
}

/// The metrics that an expression asks for, each with its matchers, and the labels that it groups by.
#[derive(Default)]
struct Asked {
    metrics: Vec<(String, Vec<(String, String)>)>,
    grouped: BTreeSet<String>,
}

impl ExprVisitor for Asked {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Self::Error> {
        let selector = match expression {
            Expr::VectorSelector(selector) => Some(selector),
            Expr::MatrixSelector(matrix) => Some(&matrix.vs),
            Expr::Aggregate(aggregate) => {
                if let Some(LabelModifier::Include(labels)) = &aggregate.modifier {
                    self.grouped.extend(labels.labels.iter().cloned());
                }
                None
            }
            _ => None,
        };
        if let Some(selector) = selector {
            let matchers = selector.matchers.matchers.iter();
            let matchers = matchers.map(|it| (it.name.clone(), it.value.clone()));
            let name = selector.name.clone().expect("a metric by its name");
            self.metrics.push((name, matchers.collect()));
        }
        Ok(true)
    }
}

/// The names of the samples in OpenMetrics text by its types, and the values of each label that those with samples have.
fn shown(text: &str) -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let kind = Regex::new(r"(?m)^# TYPE (\S+) (\S+)$").unwrap();
    let sample = Regex::new(r"(?m)^(\w+)(?:\{(.*)\})? \S+$").unwrap();
    let label = Regex::new(r#"(\w+)="([^"]*)""#).unwrap();
    let mut names: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for found in kind.captures_iter(text) {
        let suffixes: &[&str] = match &found[2] {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            "gauge" => &[""],
            other => panic!("{}: {other}", &found[1]),
        };
        for suffix in suffixes {
            names.entry(format!("{}{suffix}", &found[1])).or_default();
        }
    }
    for found in sample.captures_iter(text) {
        let labels = names.get_mut(&found[1]);
        let labels = labels.unwrap_or_else(|| panic!("{} has no type", &found[1]));
        for pair in label.captures_iter(found.get(2).map_or("", |it| it.as_str())) {
            let values = labels.entry(pair[1].to_owned()).or_default();
            values.insert(pair[2].to_owned());
        }
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let site = Site::open().await;
    let client = site.client();
    site.wait_for_value(&client).await;
    // Refused, and so there is one of what is counted by group and code.
    let path = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/a/pods/*/util";
    let refused = client.get(site.secure(path)).send().await.unwrap();
    assert_eq!(refused.status(), 403);
    let text = site.wait_for_failure(&client).await;
    let shown = shown(&text);

    for (place, expression) in expressions() {
        let parsed = parser::parse(&expression);
        let parsed = parsed.unwrap_or_else(|error| panic!("{place}: {error}: {expression}"));
        let mut asked = Asked::default();
        let Ok(_) = walk_expr(&mut asked, &parsed);
        let mut labels: BTreeSet<&str> = OF_TARGETS.into();
        for (metric, matchers) in &asked.metrics {
            let known = shown.get(metric);
            assert!(known.is_some() || metric == UP, "{place}: no {metric}");
            let known = known.cloned().unwrap_or_default();
            for (name, value) in matchers {
                let of_target = OF_TARGETS.contains(&name.as_str());
                assert!(
                    of_target || known.contains_key(name),
                    "{place}: {metric} has no {name}"
                );
                // Reasons are counted from 0 on; a pattern here is a list of them.
                if name == "reason" {
                    for value in value.split('|') {
                        assert!(known[name].contains(value), "{place}: no {value}");
                    }
                }
            }
            labels.extend(
                shown
                    .get(metric)
                    .into_iter()
                    .flatten()
                    .map(|it| it.0.as_str()),
            );
        }
        for name in &asked.grouped {
            assert!(labels.contains(name.as_str()), "{place}: no label {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_has_every_metric_that_is_shown() {
    let site = Site::open().await;
    let client = site.client();
    let text = client.get(site.debug("/metrics")).send().await.unwrap();
    let text = text.text().await.unwrap();
    let reference = read("docs/configuration.md");
    let (_, section) = reference.split_once("\n## Own metrics").unwrap();
    let words: BTreeSet<&str> = section.split(['`', '{', ' ', ',']).collect();
    for name in shown(&text).keys() {
        let name = name.strip_prefix("gpu_metrics_adapter_").unwrap_or(name);
        let base = ["_bucket", "_sum", "_count"].iter();
        let base = base.fold(name, |name, end| name.strip_suffix(end).unwrap_or(name));
        assert!(
            words.contains(base),
            "{base} is not in docs/configuration.md"
        );
    }
}
