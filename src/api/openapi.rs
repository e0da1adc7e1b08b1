//! OpenAPI: what the kinds that are served consist of, for `kubectl explain`.
//!
//! One description in two forms: version 3, a document for each version of a group, and version 2, one for all. Of ours only JSON is
//! asked for: by kube-apiserver's aggregator as `system:aggregator`, once a minute (`controllers/openapi/aggregator/downloader.go`,
//! `controllers/openapiv3/aggregator/downloader.go`), and by kubectl (`explain/v2/explain.go`). What kubectl gets in protobuf is
//! the merged document of version 2, which kube-apiserver makes.
//!
//! Types of Kubernetes' own are written out where they are used: under their own names, and not quite the same, they would be renamed
//! in the merged document.

mod kinds;

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::document::Document;
use super::negotiation::{self, Offered};
use super::path::Version;
use super::{not_acceptable, not_found, parameters, respond};
use kinds::{Operation, definition, gvk, reference};

/// Most external metrics that have a path of their own; the document is to stay small.
const NAMED_METRICS: usize = 500;

/// For a document whose URL names its content.
const FOR_EVER: &str = "public, immutable, max-age=31536000";
const ASK_AGAIN: &str = "no-cache, private";

/// Where the schemas are in version 3, and in version 2.
const SCHEMAS: &str = "#/components/schemas/";
const DEFINITIONS: &str = "#/definitions/";

/// The documents.
#[derive(Debug)]
pub(super) struct OpenApi {
    v2: Document,
    root: Document,
    versions: Vec<(Version, Document)>,
}

/// Which of them is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenApiPath {
    /// `/openapi/v2`.
    V2,
    /// `/openapi/v3`: which documents there are.
    Root,
    /// `/openapi/v3/apis/GROUP/VERSION`.
    Of(Version),
}

impl OpenApi {
    /// Those of the served versions. To kubectl an external metric is a resource, so each has a path.
    pub(super) fn new(served: impl Iterator<Item = Version>, external: &[Arc<str>]) -> Self {
        let named = external.iter().take(NAMED_METRICS);
        let external: Vec<&str> = named.map(AsRef::as_ref).collect();
        let mut all = Description::default();
        let mut versions = Vec::new();
        let mut paths = Map::new();
        for version in served {
            let description = Description::of(version, &external);
            let document = Document::new(&description.v3());
            paths.insert(
                format!("apis/{}", version.group_version()),
                json!({"serverRelativeURL": url(version, &document)}),
            );
            versions.push((version, document));
            all.operations.extend(description.operations);
            all.schemas.extend(description.schemas);
        }
        Self {
            v2: Document::new(&all.v2()),
            root: Document::new(&json!({"paths": paths})),
            versions,
        }
    }

    /// Whether there is a document of this version.
    pub(super) fn describes(&self, version: Version) -> bool {
        self.of(version).is_some()
    }

    fn of(&self, version: Version) -> Option<&Document> {
        let mut documents = self.versions.iter();
        let (_, document) = documents.find(|(of, _)| *of == version)?;
        Some(document)
    }

    pub(super) fn respond(
        &self,
        path: OpenApiPath,
        query: Option<&str>,
        accept: &str,
        headers: &HeaderMap,
    ) -> Response {
        if negotiation::choose(accept, Offered::JSON).is_none() {
            return not_acceptable(Offered::JSON);
        }
        let send =
            |document: &Document, caching| document.send(headers, "application/json", caching);
        let version = match path {
            OpenApiPath::V2 => return send(&self.v2, ASK_AGAIN),
            OpenApiPath::Root => return send(&self.root, ASK_AGAIN),
            OpenApiPath::Of(version) => version,
        };
        let Some(document) = self.of(version) else {
            return not_found();
        };
        match parameters::first(query, "hash") {
            None => send(document, ASK_AGAIN),
            Some(hash) if hash == document.hash() => send(document, FOR_EVER),
            // It has changed, or another replica said so: kube-openapi's `pkg/handler3/handler.go` sends the client on, too.
            Some(_) => {
                let plain = HeaderValue::from_static("text/plain");
                let mut response = respond(StatusCode::MOVED_PERMANENTLY, plain, Bytes::new());
                let url = HeaderValue::from_str(&url(version, document));
                let url = url.expect("groups, versions and digits");
                response.headers_mut().insert(LOCATION, url);
                response
            }
        }
    }
}

fn url(version: Version, document: &Document) -> String {
    let (version, hash) = (version.group_version(), document.hash());
    format!("/openapi/v3/apis/{version}?hash={hash}")
}

/// What can be asked, and what the answers consist of.
#[derive(Default)]
struct Description {
    operations: Vec<Operation>,
    schemas: Map<String, Value>,
}

impl Description {
    fn of(version: Version, external_metrics: &[&str]) -> Self {
        let (operations, kinds) = kinds::of(version, external_metrics);
        let schema = |(kind, mut schema): (&str, Value)| {
            schema["x-kubernetes-group-version-kind"] = json!([gvk(version, kind)]);
            (definition(version, kind), schema)
        };
        Self {
            operations,
            schemas: kinds.into_iter().map(schema).collect(),
        }
    }

    fn v3(&self) -> Value {
        let operations = self.operations.iter();
        json!({
            "openapi": "3.0.0",
            "info": info(),
            "paths": operations.map(Operation::v3).collect::<Map<_, _>>(),
            "components": {"schemas": self.schemas},
        })
    }

    fn v2(&self) -> Value {
        let operations = self.operations.iter();
        let document = json!({
            "swagger": "2.0",
            "info": info(),
            "paths": operations.map(Operation::v2).collect::<Map<_, _>>(),
            "definitions": self.schemas,
        });
        let text = document.to_string().replace(SCHEMAS, DEFINITIONS);
        serde_json::from_str(&text).expect("it was written as JSON a line above")
    }
}

impl Operation {
    fn v3(&self) -> (String, Value) {
        let parameter = |(place, name): (&str, &str)| {
            let required = place == "path";
            json!({"name": name, "in": place, "required": required, "schema": {"type": "string"}})
        };
        let answer = |kind| {
            let schema = json!({"schema": reference(self.kind.0, kind)});
            json!({"content": {
                "application/json": schema,
                "application/vnd.kubernetes.protobuf": schema,
            }})
        };
        self.item(parameter, answer)
    }

    fn v2(&self) -> (String, Value) {
        let parameter = |(place, name): (&str, &str)| {
            let required = place == "path";
            json!({"name": name, "in": place, "required": required, "type": "string"})
        };
        let answer = |kind| json!({"schema": reference(self.kind.0, kind)});
        self.item(parameter, answer)
    }

    fn item(
        &self,
        parameter: impl Fn((&str, &str)) -> Value,
        answer: impl Fn(&'static str) -> Value,
    ) -> (String, Value) {
        let in_path = self.path.split(['{', '}']).skip(1).step_by(2);
        let in_path = in_path.map(|name| ("path", name));
        let in_query = self.query.iter().map(|name| ("query", *name));
        let (code, response) = match self.answer {
            Some(kind) => {
                let mut response = answer(kind);
                response["description"] = json!("OK");
                ("200", response)
            }
            None => ("400", json!({"description": "Bad Request"})),
        };
        let item = json!({"get": {
            "description": self.description,
            "parameters": in_path.chain(in_query).map(parameter).collect::<Vec<_>>(),
            "responses": {code: response},
            "x-kubernetes-action": self.action,
            "x-kubernetes-group-version-kind": gvk(self.kind.0, self.kind.1),
        }});
        (
            format!("/apis/{}{}", self.kind.0.group_version(), self.path),
            item,
        )
    }
}

fn info() -> Value {
    json!({"title": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")})
}

#[cfg(test)]
mod tests;
