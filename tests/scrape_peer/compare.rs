//! Asks one of the two, and tells two answers apart.

use std::collections::BTreeMap;

use form_urlencoded::byte_serialize;
use reqwest::Client;
use serde_json::Value;

use crate::wait::PATIENCE;

/// One of the two, at its HTTP API.
pub(crate) struct Peer {
    client: Client,
    url: String,
}

/// Series as text, and their values as the API writes them.
pub(crate) type Answer = BTreeMap<String, String>;

impl Peer {
    pub(crate) fn at(url: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self {
            client,
            url: url.to_owned(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, reqwest::Error> {
        let sent = self.client.get(format!("{}{path}", self.url)).send().await;
        sent?.error_for_status()?.json().await
    }

    /// The label sets of the series that a selector finds.
    pub(crate) async fn series(&self, selector: &str) -> Answer {
        let selector: String = byte_serialize(selector.as_bytes()).collect();
        let answer = self
            .get(&format!("/api/v1/series?match[]={selector}"))
            .await;
        let answer = answer.unwrap();
        let all = answer["data"].as_array().unwrap().iter();
        all.map(|labels| (labels.to_string(), String::new()))
            .collect()
    }

    /// The targets that are scraped, by their job: what must be the same of them.
    pub(crate) async fn targets(&self) -> BTreeMap<String, Vec<Value>> {
        let answer = self.get("/api/v1/targets?state=active").await.unwrap();
        let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for target in answer["data"]["activeTargets"].as_array().unwrap() {
            let pool = target["scrapePool"].as_str().unwrap().to_owned();
            let has_error = target["lastError"] != "";
            // What says how native histograms are scraped is only there: these are not read here.
            let mut discovered = target["discoveredLabels"].clone();
            let discovered_labels = discovered.as_object_mut().unwrap();
            discovered_labels.retain(|name, _| !name.contains("_histograms_"));
            let same = serde_json::json!({
                "discoveredLabels": discovered,
                "labels": target["labels"],
                "scrapeUrl": target["scrapeUrl"],
                "scrapeInterval": target["scrapeInterval"],
                "health": target["health"],
                "hasError": has_error,
            });
            all.entry(pool).or_default().push(same);
        }
        all.values_mut()
            .for_each(|it| it.sort_by_key(Value::to_string));
        all
    }

    /// The vector that a query gives now.
    pub(crate) async fn query(&self, query: &str) -> Answer {
        let query: String = byte_serialize(query.as_bytes()).collect();
        let answer = self
            .get(&format!("/api/v1/query?query={query}"))
            .await
            .unwrap();
        let elements = answer["data"]["result"].as_array().unwrap();
        let element = |it: &Value| {
            (
                it["metric"].to_string(),
                it["value"][1].as_str().unwrap().to_owned(),
            )
        };
        let vector: Answer = elements.iter().map(element).collect();
        assert_eq!(
            vector.len(),
            elements.len(),
            "a series is there twice: {answer}"
        );
        vector
    }
}

/// What of `expected` is missing or other in `ours`, and what is there beyond it: a line each, without the labels of the
/// target.
pub(crate) fn differences(expected: &Answer, ours: &Answer) -> Vec<String> {
    let mut lines = Vec::new();
    for (series, value) in expected {
        match ours.get(series) {
            None => lines.push(format!("- {} {value}", of_page(series))),
            Some(other) if other != value => {
                lines.push(format!("! {} {other} instead of {value}", of_page(series)))
            }
            Some(_) => {}
        }
    }
    let beyond = ours
        .iter()
        .filter(|(series, _)| !expected.contains_key(*series));
    lines.extend(beyond.map(|(series, value)| format!("+ {} {value}", of_page(series))));
    lines
}

/// The first of the differences, and how many there are.
pub(crate) fn difference(expected: &Answer, ours: &Answer) -> Option<String> {
    let mut lines = differences(expected, ours);
    let count = lines.len();
    lines.truncate(6);
    (count > 0).then(|| format!("{count} differences\n    {}", lines.join("\n    ")))
}

/// A series with the labels that its page gave it.
fn of_page(series: &str) -> String {
    let Ok(Value::Object(labels)) = serde_json::from_str(series) else {
        return series.to_owned();
    };
    let of_target = ["__name__", "instance", "job", "node", "rack"];
    let own = labels
        .iter()
        .filter(|(name, _)| !of_target.contains(&name.as_str()));
    let own: Vec<String> = own.map(|(name, value)| format!("{name}={value}")).collect();
    let name = labels
        .get("__name__")
        .and_then(Value::as_str)
        .unwrap_or_default();
    match own.is_empty() {
        true => name.to_owned(),
        false => format!("{name}{{{}}}", own.join(",")),
    }
}

/// Whether Prometheus refused the whole page, and the adapter took some of it: a bad line costs no other line here.
pub(crate) fn is_refused_only_there(expected: &Answer, ours: &Answer) -> bool {
    let of = |answer: &Answer, name: &str| {
        let name = format!("\"__name__\":{name:?}");
        let found = answer.iter().find(|(series, _)| series.contains(&name));
        found.map(|(_, value)| value.clone())
    };
    let about = expected.keys().all(|series| ours.contains_key(series));
    about && of(expected, "up").as_deref() == Some("0") && of(ours, "up").as_deref() == Some("1")
}

#[test]
fn every_difference_is_seen() {
    let answer = |pairs: &[(&str, &str)]| -> Answer {
        pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    };
    let expected = answer(&[("a", "1"), ("b", "NaN")]);
    assert_eq!(difference(&expected, &expected), None);
    for other in [
        &[("a", "1")][..],
        &[("a", "1"), ("b", "2")],
        &[("a", "1"), ("b", "NaN"), ("c", "1")],
    ] {
        assert!(difference(&expected, &answer(other)).is_some(), "{other:?}");
    }
}
