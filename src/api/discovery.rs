//! What is served: groups, versions, resources, in Kubernetes' old and aggregated forms.
//!
//! Made from the catalog, once for each of its states, and kept. Only `get` is ever listed: with `list` or `watch` the
//! garbage collector and the namespace controller would come and ask for more.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use crate::provider::{Catalog, Offer};

use super::negotiation::wants_aggregated_discovery;
use super::path::{GROUP, Target, Version};
use super::{Api, Reply, respond as reply_with};

/// The content type of the aggregated document, without which kube-apiserver falls back to the old one.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Discovery documents, kept until the catalog changes.
#[derive(Default)]
pub struct Discovery {
    kept: ArcSwapOption<Documents>,
}

struct Documents {
    catalog: Arc<Catalog>,
    aggregated: Bytes,
    etag: HeaderValue,
    resources: Vec<Resource>,
}

impl Discovery {
    fn documents(&self, catalog: Arc<Catalog>) -> Arc<Documents> {
        if let Some(kept) = self.kept.load_full()
            && Arc::ptr_eq(&kept.catalog, &catalog)
        {
            return kept;
        }
        let documents = Arc::new(Documents::new(catalog));
        self.kept.store(Some(Arc::clone(&documents)));
        documents
    }
}

impl Documents {
    fn new(catalog: Arc<Catalog>) -> Self {
        let mut body =
            serde_json::to_vec(&GroupDiscoveryList::new(&catalog)).expect("our own types are JSON");
        body.push(b'\n');
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let etag = format!("\"{:016x}\"", hasher.finish());
        let resource = |offer: &Arc<Offer>| Resource {
            name: format!("{}/{}", offer.kind.resource, offer.metric),
            singular_name: "",
            namespaced: offer.kind.namespaced,
            kind: "MetricValueList",
            verbs: ["get"],
        };
        Self {
            resources: catalog.offers().map(resource).collect(),
            aggregated: body.into(),
            etag: HeaderValue::from_str(&etag).expect("hexadecimal digits in quotes"),
            catalog,
        }
    }
}

pub(super) fn respond(
    api: &Api,
    target: &Target,
    reply: &Reply<'_>,
    headers: &HeaderMap,
) -> Response {
    match target {
        Target::Paths => reply.json(StatusCode::OK, &Paths { paths: PATHS }),
        Target::Groups if wants_aggregated_discovery(reply.accept) => {
            aggregated(&api.discovery.documents(api.provider.catalog()), headers)
        }
        Target::Groups => {
            let list = GroupList {
                kind: "APIGroupList",
                api_version: "v1",
                groups: [Group::served()],
            };
            let mut response = reply.json(StatusCode::OK, &list);
            response
                .headers_mut()
                .insert(VARY, HeaderValue::from_static("Accept"));
            response
        }
        Target::GroupVersion(version) => {
            let documents = api.discovery.documents(api.provider.catalog());
            let list = ResourceList {
                kind: "APIResourceList",
                api_version: "v1",
                group_version: version.group_version(),
                resources: &documents.resources,
            };
            reply.json(StatusCode::OK, &list)
        }
        _ => reply.json(
            StatusCode::OK,
            &Group {
                kind: Some("APIGroup"),
                api_version: Some("v1"),
                ..Group::served()
            },
        ),
    }
}

/// The aggregated document, or 304 where the client has it (aggregator `handler_discovery.go` asks once a minute).
fn aggregated(documents: &Documents, headers: &HeaderMap) -> Response {
    let known = headers
        .get(IF_NONE_MATCH)
        .is_some_and(|tag| tag == documents.etag);
    let (code, body) = if known {
        (StatusCode::NOT_MODIFIED, Bytes::new())
    } else {
        (StatusCode::OK, documents.aggregated.clone())
    };
    let mut response = reply_with(code, HeaderValue::from_static(AGGREGATED), body);
    let headers = response.headers_mut();
    headers.insert(ETAG, documents.etag.clone());
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

/// Everything that can be asked without a name in it.
const PATHS: &[&str] = &[
    "/apis",
    "/apis/custom.metrics.k8s.io",
    "/apis/custom.metrics.k8s.io/v1beta1",
    "/apis/custom.metrics.k8s.io/v1beta2",
    "/healthz",
    "/livez",
    "/metrics",
    "/readyz",
    "/version",
];

#[derive(Serialize)]
struct Paths {
    paths: &'static [&'static str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupList {
    kind: &'static str,
    api_version: &'static str,
    groups: [Group; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    /// Only where the group stands alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<&'static str>,
    name: &'static str,
    versions: [GroupVersion; 2],
    preferred_version: GroupVersion,
}

impl Group {
    fn served() -> Self {
        let versions = Version::ALL.map(|version| GroupVersion {
            group_version: version.group_version(),
            version: version.name(),
        });
        let preferred_version = versions[0];
        Self {
            kind: None,
            api_version: None,
            name: GROUP,
            versions,
            preferred_version,
        }
    }
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupVersion {
    group_version: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceList<'a> {
    kind: &'static str,
    api_version: &'static str,
    group_version: &'static str,
    resources: &'a [Resource],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    name: String,
    singular_name: &'static str,
    namespaced: bool,
    kind: &'static str,
    verbs: [&'static str; 1],
}

/// `APIGroupDiscoveryList` (`k8s.io/api/apidiscovery/v2`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupDiscoveryList<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Metadata,
    items: [GroupDiscovery<'a>; 1],
}

#[derive(Serialize)]
struct Metadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
}

#[derive(Serialize)]
struct GroupDiscovery<'a> {
    metadata: Metadata,
    versions: Vec<VersionDiscovery<'a>>,
}

#[derive(Serialize)]
struct VersionDiscovery<'a> {
    version: &'static str,
    resources: Vec<ResourceDiscovery<'a>>,
    freshness: &'static str,
}

/// A resource that exists only for its subresources, the metrics.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceDiscovery<'a> {
    resource: String,
    response_kind: ResponseKind,
    scope: &'static str,
    singular_resource: &'static str,
    verbs: [&'static str; 0],
    subresources: Vec<SubresourceDiscovery<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SubresourceDiscovery<'a> {
    subresource: &'a str,
    response_kind: ResponseKind,
    verbs: [&'static str; 1],
}

#[derive(Serialize)]
struct ResponseKind {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
}

impl<'a> GroupDiscoveryList<'a> {
    fn new(catalog: &'a Catalog) -> Self {
        let version = |version: Version| VersionDiscovery {
            version: version.name(),
            resources: resources(catalog),
            freshness: "Current",
        };
        let versions = Version::ALL.map(version).into();
        Self {
            kind: "APIGroupDiscoveryList",
            api_version: "apidiscovery.k8s.io/v2",
            metadata: Metadata { name: None },
            items: [GroupDiscovery {
                metadata: Metadata { name: Some(GROUP) },
                versions,
            }],
        }
    }
}

fn resources(catalog: &Catalog) -> Vec<ResourceDiscovery<'_>> {
    let response = |kind| ResponseKind {
        group: "",
        version: "",
        kind,
    };
    let mut resources = BTreeMap::new();
    for offer in catalog.offers() {
        let resource = resources
            .entry(&offer.kind.resource)
            .or_insert_with(|| ResourceDiscovery {
                resource: offer.kind.resource.to_string(),
                response_kind: response(""),
                scope: if offer.kind.namespaced {
                    "Namespaced"
                } else {
                    "Cluster"
                },
                singular_resource: "",
                verbs: [],
                subresources: Vec::new(),
            });
        resource.subresources.push(SubresourceDiscovery {
            subresource: &offer.metric,
            response_kind: response("MetricValueList"),
            verbs: ["get"],
        });
    }
    resources.into_values().collect()
}
