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

/// What of `expected` is missing or other in `ours`, and what is there beyond it.
pub(crate) fn difference(expected: &Answer, ours: &Answer) -> Option<String> {
    let mut lines = Vec::new();
    for (series, value) in expected {
        match ours.get(series) {
            None => lines.push(format!("- {series} {value}")),
            Some(other) if other != value => {
                lines.push(format!("! {series} {other} instead of {value}"))
            }
            Some(_) => {}
        }
    }
    let beyond = ours
        .iter()
        .filter(|(series, _)| !expected.contains_key(*series));
    lines.extend(beyond.map(|(series, value)| format!("+ {series} {value}")));
    let count = lines.len();
    lines.truncate(6);
    (count > 0).then(|| format!("{count} differences\n    {}", lines.join("\n    ")))
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
