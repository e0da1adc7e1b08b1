//! What is served: groups, versions, resources, in Kubernetes' old and aggregated forms.
//!
//! Made from the catalog, once for each of its states, and kept. Of metrics only `get` is listed, of CPU and memory `list` too, which
//! kubectl needs: with `watch` or `delete` the garbage collector and the namespace controller would come and ask for more.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::response::Response;
use http::header::VARY;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use crate::provider::{Catalog, Offer};

use super::document::Document;
use super::negotiation::wants_aggregated_discovery;
use super::openapi::{OpenApi, OpenApiPath};
use super::path::{RESOURCE_GROUP, Target, Version, groups};
use super::protobuf::{self, Message};
use super::{Api, Reply, not_found};

/// The content type of the aggregated document, without which kube-apiserver falls back to the old one.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The kinds of the lists that metrics are answered with.
pub(super) const CUSTOM_LIST: &str = "MetricValueList";
pub(super) const EXTERNAL_LIST: &str = "ExternalMetricValueList";

/// Discovery documents, kept until the catalog changes.
#[derive(Default)]
pub struct Discovery {
    kept: ArcSwapOption<Documents>,
}

struct Documents {
    catalog: Arc<Catalog>,
    /// What the fallback offers.
    theirs: Arc<Vec<Arc<str>>>,
    aggregated: Document,
    openapi: OpenApi,
    custom: Vec<Resource>,
    external: Vec<Resource>,
    resource: Vec<Resource>,
}

impl Discovery {
    fn documents(&self, api: &Api) -> Arc<Documents> {
        let catalog = api.provider.catalog();
        let theirs = api
            .fallback
            .as_ref()
            .map(|it| it.names())
            .unwrap_or_default();
        if let Some(kept) = self.kept.load_full()
            && Arc::ptr_eq(&kept.catalog, &catalog)
            && *kept.theirs == *theirs
        {
            return kept;
        }
        let mut external = api.provider.external_metrics();
        external.extend(theirs.iter().cloned());
        external.sort_unstable();
        external.dedup();
        // Where another adapter owns the group, kube-apiserver would take either's description of it, by chance
        // (`kube-aggregator/pkg/controllers/openapiv3/aggregator/aggregator.go`). The group itself is there all the same: an
        // APIService that points here has to have an answer.
        let describes_external = api.provider.has_external_metrics() || api.fallback.is_some();
        let resource_metrics = api.resources.is_some();
        let described = served(resource_metrics)
            .flat_map(|(_, versions)| versions.iter().copied())
            .filter(|version| describes_external || *version != Version::ExternalV1Beta1);
        let openapi = OpenApi::new(described, &external);
        let documents = Documents::new(catalog, theirs, &external, resource_metrics, openapi);
        let documents = Arc::new(documents);
        self.kept.store(Some(Arc::clone(&documents)));
        documents
    }
}

impl Documents {
    fn new(
        catalog: Arc<Catalog>,
        theirs: Arc<Vec<Arc<str>>>,
        external: &[Arc<str>],
        resource_metrics: bool,
        openapi: OpenApi,
    ) -> Self {
        let custom = |offer: &Arc<Offer>| Resource {
            name: format!("{}/{}", offer.kind.resource, offer.metric),
            singular_name: "",
            namespaced: offer.kind.namespaced,
            kind: CUSTOM_LIST,
            verbs: &["get"],
        };
        let of_none = |metric: &Arc<str>| Resource {
            name: metric.to_string(),
            singular_name: "",
            namespaced: true,
            kind: EXTERNAL_LIST,
            verbs: &["get"],
        };
        let resource = |(name, kind, namespaced): (&str, _, _)| Resource {
            name: name.to_owned(),
            singular_name: "",
            namespaced,
            kind,
            verbs: &["get", "list"],
        };
        Self {
            custom: catalog.offers().map(custom).collect(),
            external: external.iter().map(of_none).collect(),
            resource: METERED.map(resource).into(),
            aggregated: Document::new(&GroupDiscoveryList::new(
                &catalog,
                external,
                resource_metrics,
            )),
            openapi,
            catalog,
            theirs,
        }
    }
}

pub(super) fn respond(
    api: &Api,
    target: &Target,
    reply: &Reply<'_>,
    headers: &HeaderMap,
) -> Response {
    let served = || served(api.resources.is_some());
    let find = |name: &str| served().find(|(group, _)| *group == name);
    match target {
        Target::Paths => {
            let paths = paths(served(), &api.discovery.documents(api).openapi);
            reply.json(StatusCode::OK, &Paths { paths })
        }
        Target::Groups if wants_aggregated_discovery(reply.accept) => {
            let documents = api.discovery.documents(api);
            documents.aggregated.send(headers, AGGREGATED, "public")
        }
        Target::Groups => {
            let list = GroupList {
                kind: "APIGroupList",
                api_version: "v1",
                groups: served().map(|(_, versions)| Group::of(versions)).collect(),
            };
            let mut response = reply.json_or(StatusCode::OK, &list, || list.protobuf());
            response
                .headers_mut()
                .insert(VARY, HeaderValue::from_static("Accept"));
            response
        }
        Target::GroupVersion(version) if find(version.group()).is_some() => {
            let documents = api.discovery.documents(api);
            let list = ResourceList {
                kind: "APIResourceList",
                api_version: "v1",
                group_version: version.group_version(),
                resources: match version {
                    Version::CustomV1Beta1 | Version::CustomV1Beta2 => &documents.custom,
                    Version::ExternalV1Beta1 => &documents.external,
                    Version::ResourceV1Beta1 | Version::ResourceV1 => &documents.resource,
                },
            };
            reply.json_or(StatusCode::OK, &list, || list.protobuf())
        }
        Target::Group(name) => match find(name) {
            Some((_, versions)) => {
                let group = Group {
                    kind: Some("APIGroup"),
                    api_version: Some("v1"),
                    ..Group::of(versions)
                };
                let protobuf = || protobuf::object("v1", "APIGroup", |it| group.write(it));
                reply.json_or(StatusCode::OK, &group, protobuf)
            }
            None => not_found(),
        },
        _ => not_found(),
    }
}

/// One of the OpenAPI documents.
pub(super) fn openapi(
    api: &Api,
    path: OpenApiPath,
    query: Option<&str>,
    reply: &Reply<'_>,
    headers: &HeaderMap,
) -> Response {
    let documents = api.discovery.documents(api);
    documents
        .openapi
        .respond(path, query, reply.accept, headers)
}

/// The groups that are served, each with its versions; that of CPU and memory where it is asked for.
fn served(resource_metrics: bool) -> impl Iterator<Item = (&'static str, &'static [Version])> {
    groups().filter(move |(group, _)| resource_metrics || *group != RESOURCE_GROUP)
}

/// Everything that can be asked without a name in it.
fn paths<'a>(
    groups: impl Iterator<Item = (&'a str, &'a [Version])>,
    openapi: &OpenApi,
) -> Vec<String> {
    let mut paths = vec!["/apis".to_owned()];
    for (group, versions) in groups {
        paths.push(format!("/apis/{group}"));
        for version in versions {
            let name = version.group_version();
            paths.push(format!("/apis/{name}"));
            if openapi.describes(*version) {
                paths.push(format!("/openapi/v3/apis/{name}"));
            }
        }
    }
    let others = [
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ];
    paths.extend(others.map(str::to_owned));
    paths.sort_unstable();
    paths
}

/// The resources of `metrics.k8s.io`: name, kind, whether it is in namespaces.
const METERED: [(&str, &str, bool); 2] = [
    ("nodes", "NodeMetrics", false),
    ("pods", "PodMetrics", true),
];

#[derive(Serialize)]
struct Paths {
    paths: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupList {
    kind: &'static str,
    api_version: &'static str,
    groups: Vec<Group>,
}

impl GroupList {
    /// `APIGroupList{1 groups}`.
    fn protobuf(&self) -> Vec<u8> {
        protobuf::object(self.api_version, self.kind, |list| {
            for group in &self.groups {
                list.message(1, |message| group.write(message));
            }
        })
    }
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
    versions: Vec<GroupVersion>,
    preferred_version: GroupVersion,
}

impl Group {
    /// The group of these versions, of which the first is preferred.
    fn of(versions: &[Version]) -> Self {
        let version = |version: &Version| GroupVersion {
            group_version: version.group_version(),
            version: version.name(),
        };
        Self {
            kind: None,
            api_version: None,
            name: versions[0].group(),
            versions: versions.iter().map(version).collect(),
            preferred_version: version(&versions[0]),
        }
    }

    /// `APIGroup{1 name, 2 versions, 3 preferredVersion}`.
    fn write(&self, message: &mut Message) {
        message.text(1, self.name);
        for version in &self.versions {
            message.message(2, |message| version.write(message));
        }
        message.message(3, |message| self.preferred_version.write(message));
    }
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupVersion {
    group_version: &'static str,
    version: &'static str,
}

impl GroupVersion {
    /// `GroupVersionForDiscovery{1 groupVersion, 2 version}`.
    fn write(&self, message: &mut Message) {
        message.text(1, self.group_version);
        message.text(2, self.version);
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceList<'a> {
    kind: &'static str,
    api_version: &'static str,
    group_version: &'static str,
    resources: &'a [Resource],
}

impl ResourceList<'_> {
    /// `APIResourceList{1 groupVersion, 2 resources}`.
    fn protobuf(&self) -> Vec<u8> {
        protobuf::object(self.api_version, self.kind, |list| {
            list.text(1, self.group_version);
            for resource in self.resources {
                list.message(2, |message| resource.write(message));
            }
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    name: String,
    singular_name: &'static str,
    namespaced: bool,
    kind: &'static str,
    verbs: &'static [&'static str],
}

impl Resource {
    /// `APIResource{1 name, 2 namespaced, 3 kind, 4 verbs, 6 singularName, 8 group, 9 version, 10 storageVersionHash}`.
    fn write(&self, message: &mut Message) {
        message.text(1, &self.name);
        message.number(2, self.namespaced.into());
        message.text(3, self.kind);
        message.message(4, |verbs| {
            for verb in self.verbs {
                verbs.text(1, verb);
            }
        });
        message.text(6, self.singular_name);
        for empty in 8..=10 {
            message.text(empty, "");
        }
    }
}

/// `APIGroupDiscoveryList` (`k8s.io/api/apidiscovery/v2`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupDiscoveryList<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Metadata,
    items: Vec<GroupDiscovery<'a>>,
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

/// A resource. One of custom metrics exists only for its subresources, the metrics; an external metric is one itself.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceDiscovery<'a> {
    resource: String,
    response_kind: ResponseKind,
    scope: &'static str,
    singular_resource: &'static str,
    verbs: &'static [&'static str],
    #[serde(skip_serializing_if = "Vec::is_empty")]
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
    fn new(catalog: &'a Catalog, metrics: &[Arc<str>], resource_metrics: bool) -> Self {
        let version = |version: &Version| VersionDiscovery {
            version: version.name(),
            resources: match version {
                Version::CustomV1Beta1 | Version::CustomV1Beta2 => of_objects(catalog),
                Version::ExternalV1Beta1 => external(metrics),
                Version::ResourceV1Beta1 | Version::ResourceV1 => METERED.map(metered).into(),
            },
            freshness: "Current",
        };
        let group = |(name, versions): (&'static str, &[Version])| GroupDiscovery {
            metadata: Metadata { name: Some(name) },
            versions: versions.iter().map(version).collect(),
        };
        Self {
            kind: "APIGroupDiscoveryList",
            api_version: "apidiscovery.k8s.io/v2",
            metadata: Metadata { name: None },
            items: served(resource_metrics).map(group).collect(),
        }
    }
}

const fn response(kind: &'static str) -> ResponseKind {
    ResponseKind {
        group: "",
        version: "",
        kind,
    }
}

fn metered((name, kind, namespaced): (&str, &'static str, bool)) -> ResourceDiscovery<'static> {
    ResourceDiscovery {
        resource: name.to_owned(),
        response_kind: response(kind),
        scope: if namespaced { "Namespaced" } else { "Cluster" },
        singular_resource: "",
        verbs: &["get", "list"],
        subresources: Vec::new(),
    }
}

fn external(metrics: &[Arc<str>]) -> Vec<ResourceDiscovery<'static>> {
    let resource = |metric: &Arc<str>| ResourceDiscovery {
        resource: metric.to_string(),
        response_kind: response(EXTERNAL_LIST),
        scope: "Namespaced",
        singular_resource: "",
        verbs: &["get"],
        subresources: Vec::new(),
    };
    metrics.iter().map(resource).collect()
}

fn of_objects(catalog: &Catalog) -> Vec<ResourceDiscovery<'_>> {
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
                verbs: &[],
                subresources: Vec::new(),
            });
        resource.subresources.push(SubresourceDiscovery {
            subresource: &offer.metric,
            response_kind: response(CUSTOM_LIST),
            verbs: ["get"],
        });
    }
    resources.into_values().collect()
}
