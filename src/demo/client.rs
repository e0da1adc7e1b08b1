//! Asks the adapter as the HPA does: through the front proxy, as the HPA's service account.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde::Deserialize;

use crate::model::quantity::Quantity;

use super::METRIC;
use super::pods::{NAMESPACE, SELECTOR};
use super::site::{HPA_USER, Site};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The simulated HPA's way to the adapter.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
}

/// What is read of a `MetricValueList`.
#[derive(Deserialize)]
struct List {
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    described_object: Described,
    value: String,
}

#[derive(Deserialize)]
struct Described {
    name: String,
}

/// What is read of a `Status`.
#[derive(Deserialize)]
struct Status {
    message: String,
}

impl Client {
    pub(super) fn new(site: &Site) -> anyhow::Result<Self> {
        let identity = site.front_proxy();
        let pem = format!("{}{}", identity.certificate, identity.key);
        let mut headers = HeaderMap::new();
        headers.insert("X-Remote-User", HeaderValue::from_static(HPA_USER));
        headers.insert(
            "X-Remote-Group",
            HeaderValue::from_static("system:serviceaccounts"),
        );
        headers.insert(
            ACCEPT,
            // The HPA would rather have protobuf; here the same is read as JSON.
            HeaderValue::from_static("application/json"),
        );
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .default_headers(headers)
            .identity(reqwest::Identity::from_pem(pem.as_bytes())?)
            .tls_certs_only([reqwest::Certificate::from_pem(site.authority().as_bytes())?])
            .build()
            .context("cannot make the autoscaler's client")?;
        Ok(Self {
            http,
            base: format!("https://{}", site.address()),
        })
    }

    /// What is asked for, with the HPA's own encoding.
    pub(super) fn path(&self) -> String {
        let selector: String = form_urlencoded::byte_serialize(SELECTOR.as_bytes()).collect();
        format!(
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{NAMESPACE}/pods/%2A/{METRIC}?labelSelector={selector}"
        )
    }

    /// The pods' values in thousandths, or the text that the HPA would put into its condition.
    pub(super) async fn ask(&self) -> Result<BTreeMap<String, i64>, String> {
        let failed = |error: reqwest::Error| error.to_string();
        let response = self
            .http
            .get(format!("{}{}", self.base, self.path()))
            .send()
            .await
            .map_err(failed)?;
        if !response.status().is_success() {
            let status: Status = response.json().await.map_err(failed)?;
            return Err(status.message);
        }
        let list: List = response.json().await.map_err(failed)?;
        let value = |item: Item| {
            let value: Quantity = item
                .value
                .parse()
                .map_err(|_| format!("not a quantity: {}", item.value))?;
            Ok((item.described_object.name, value.milli_value()))
        };
        list.items.into_iter().map(value).collect()
    }
}
