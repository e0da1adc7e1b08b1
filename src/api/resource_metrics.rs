//! `metrics.k8s.io`: CPU and memory of pods and nodes, in the shapes of v1beta1 and v1, which are the same
//! (`k8s.io/metrics/pkg/apis/metrics`), and as a table for `kubectl get`.

mod bodies;
mod table;

use axum::response::Response;
use http::{HeaderValue, StatusCode};

use crate::model::objects::ObjectRef;
use crate::model::selector::Selector;
use crate::provider::resources::{ResourceError, ResourceMetrics, ResourceQuestion, aside};

use super::negotiation::{Encoding, Offered, choose};
use super::path::{RESOURCE_GROUP, ResourcePath, Version};
use super::protobuf;
use super::status::{Details, failure};
use super::{Api, Reply, bad_request, dated, not_acceptable, parameters, respond as reply_with};
use bodies::{Item, Kind};

/// Answers one question. `source` is what the API answers from.
pub(super) async fn respond(
    api: &Api,
    source: &ResourceMetrics,
    version: Version,
    path: &ResourcePath,
    query: Option<&str>,
    reply: &Reply<'_>,
) -> Response {
    let (kind, namespace, name) = match path {
        ResourcePath::Nodes { name } => (Kind::Node, None, name.as_deref()),
        ResourcePath::Pods { namespace, name } => {
            (Kind::Pod, namespace.as_deref(), name.as_deref())
        }
    };
    let parameters = match Parameters::parse(query) {
        Ok(parameters) => parameters,
        Err(message) => return bad_request(&message),
    };
    if parameters.watch {
        let resource = kind.resource();
        let message =
            format!("watch is not supported on resources of kind \"{resource}.{RESOURCE_GROUP}\"");
        let code = StatusCode::METHOD_NOT_ALLOWED;
        return failure(code, "MethodNotAllowed", &message, None);
    }
    let Some(encoding) = choose(reply.accept, Offered::EVERYTHING) else {
        return not_acceptable(Offered::EVERYTHING);
    };
    let now = (api.now)();
    let keep = |object: &ObjectRef| parameters.fields.iter().all(|field| field.meets(object));
    let question = ResourceQuestion {
        namespace,
        selector: &parameters.selector,
        keep: &keep,
    };
    let encode = |items: &[Item<'_>]| {
        let single = name.is_some().then(|| &items[0]);
        match encoding {
            Encoding::Json => match single {
                Some(item) => super::json(StatusCode::OK, &item.json(version, now), reply.pretty),
                None => {
                    let list = bodies::list(kind, version, items, now);
                    super::json(StatusCode::OK, &list, reply.pretty)
                }
            },
            Encoding::Table(version) => {
                let table = table::of(version, items, now);
                super::json(StatusCode::OK, &table, reply.pretty)
            }
            Encoding::Protobuf => {
                let body = match single {
                    Some(item) => item.protobuf(version, now),
                    None => bodies::protobuf_list(kind, version, items, now),
                };
                let media_type = HeaderValue::from_static(protobuf::MEDIA_TYPE);
                reply_with(StatusCode::OK, media_type, body)
            }
        }
    };
    let answer = |items: &[Item<'_>]| dated(encode(items), items.iter().map(|it| it.timestamp));
    let answered = match (kind, namespace, name) {
        (Kind::Pod, Some(namespace), Some(name)) => source
            .pod(namespace, name, now)
            .await
            .map(|pod| answer(&[Item::pod(&pod)])),
        (Kind::Pod, ..) => {
            let _turn = match namespace {
                None => source.turn().await,
                Some(_) => None,
            };
            let pods = source.pods(&question, now).await;
            pods.map(|pods| {
                aside(pods.len(), || {
                    answer(&pods.iter().map(Item::pod).collect::<Vec<_>>())
                })
            })
        }
        (Kind::Node, _, Some(name)) => source
            .node(name, now)
            .await
            .map(|node| answer(&[Item::node(&node)])),
        (Kind::Node, ..) => {
            let nodes = source.nodes(&question, now).await;
            nodes.map(|nodes| answer(&nodes.iter().map(Item::node).collect::<Vec<_>>()))
        }
    };
    answered.unwrap_or_else(|error| refuse(&error))
}

fn refuse(error: &ResourceError) -> Response {
    let (code, reason, details) = match error {
        ResourceError::NotFound { resource, name } | ResourceError::NoUsage { resource, name } => {
            let (kind, group) = resource.split_once('.').unwrap_or((*resource, ""));
            let details = Details { name, group, kind };
            (StatusCode::NOT_FOUND, "NotFound", Some(details))
        }
        ResourceError::Objects(_) | ResourceError::Deadline(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", None)
        }
        ResourceError::Label(_) | ResourceError::Query { .. } => {
            (StatusCode::INTERNAL_SERVER_ERROR, "InternalError", None)
        }
    };
    failure(code, reason, &error.to_string(), details)
}

/// What stands behind the path.
struct Parameters {
    selector: Selector,
    fields: Vec<Field>,
    watch: bool,
}

impl Parameters {
    fn parse(query: Option<&str>) -> Result<Self, String> {
        let fields = parameters::first(query, "fieldSelector").unwrap_or_default();
        let fields = fields.split(',').map(str::trim).filter(|it| !it.is_empty());
        let watch = parameters::first(query, "watch");
        Ok(Self {
            selector: parameters::selector(query, "labelSelector")?,
            fields: fields.map(Field::parse).collect::<Result<_, _>>()?,
            watch: watch.is_some_and(|it| !matches!(&*it.to_ascii_lowercase(), "false" | "0")),
        })
    }
}

/// A condition of a field selector.
#[derive(Debug, PartialEq, Eq)]
struct Field {
    /// The name, or the namespace.
    of_name: bool,
    value: String,
    equal: bool,
}

impl Field {
    /// apimachinery `pkg/fields/selector.go`, and `DefaultMetaV1FieldSelectorConversion` for the fields there are.
    fn parse(term: &str) -> Result<Self, String> {
        let (field, rest) = term
            .find(['=', '!'])
            .map_or((term, ""), |at| term.split_at(at));
        let (equal, value) = if let Some(value) = rest.strip_prefix("!=") {
            (false, value)
        } else if let Some(value) = rest.strip_prefix("==").or(rest.strip_prefix('=')) {
            (true, value)
        } else {
            return Err(format!(
                "invalid field selector: {term:?}; can't understand it"
            ));
        };
        let of_name = match field.trim() {
            "metadata.name" => true,
            "metadata.namespace" => false,
            other => {
                return Err(format!(
                    "{other:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                ));
            }
        };
        Ok(Self {
            of_name,
            value: value.trim().to_owned(),
            equal,
        })
    }

    fn meets(&self, object: &ObjectRef) -> bool {
        let actual = match self.of_name {
            true => &*object.name,
            false => object.namespace.as_deref().unwrap_or_default(),
        };
        (actual == self.value) == self.equal
    }
}

#[cfg(test)]
mod tests;
