//! What a request asks to do, in the terms that Kubernetes authorizes.

use http::{Method, Uri};
use percent_encoding::percent_decode_str;

/// What a SubjectAccessReview is asked about; read from the request line alone, before routing.
///
/// Segments are decoded one by one, so an encoded slash never makes two of one: what is authorized is what is routed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RequestAttributes {
    /// Something in an API group: `/apis/GROUP/VERSION/…` with at least one more segment.
    Resource {
        /// `get`, `list`, `watch`, `create`, …; empty for a method that Kubernetes does not know.
        verb: String,
        /// The API group.
        group: String,
        /// The version in the API group.
        version: String,
        /// The namespace, empty for a request at cluster scope.
        namespace: String,
        /// The resource, as it stands in the path (`pods`, `jobs.batch`).
        resource: String,
        /// What stands after the name, empty if nothing does: in custom metrics, the metric's name.
        subresource: String,
        /// The object's name or `*`, empty for all objects.
        name: String,
    },
    /// Any other path.
    NonResource {
        /// The HTTP method in lower case.
        verb: String,
        /// The decoded path.
        path: String,
    },
}

impl RequestAttributes {
    /// As `RequestInfoFactory.NewRequestInfo` reads them (requestinfo.go:127-273), save for the core group and the
    /// `watch` and `proxy` path prefixes, which nothing is served under.
    pub fn of(method: &Method, uri: &Uri) -> Self {
        let path = uri.path().trim_matches('/');
        let segments: Vec<String> = path.split('/').map(decode).collect();
        match segments.as_slice() {
            [apis, group, version, rest @ ..] if apis == "apis" && !rest.is_empty() => {
                Self::resource(method, uri.query().unwrap_or(""), group, version, rest)
            }
            _ => Self::NonResource {
                verb: method.as_str().to_ascii_lowercase(),
                path: decode(uri.path()),
            },
        }
    }

    fn resource(method: &Method, query: &str, group: &str, version: &str, rest: &[String]) -> Self {
        let (namespace, parts) = match rest {
            // `namespaces/NAME/status` and `…/finalize` belong to the namespace itself.
            [first, namespace, third, ..]
                if first == "namespaces" && third != "status" && third != "finalize" =>
            {
                (namespace.as_str(), &rest[2..])
            }
            [first, namespace, ..] if first == "namespaces" => (namespace.as_str(), rest),
            _ => ("", rest),
        };
        let part = |index: usize| parts.get(index).cloned().unwrap_or_default();
        let mut name = part(1);
        let verb = match (method.as_str(), name.is_empty()) {
            ("GET" | "HEAD", false) => "get",
            ("GET" | "HEAD", true) => {
                name = name_selected(query).unwrap_or_default();
                if watches(query) { "watch" } else { "list" }
            }
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", false) => "delete",
            ("DELETE", true) => "deletecollection",
            _ => "",
        };
        Self::Resource {
            verb: verb.to_owned(),
            group: group.to_owned(),
            version: version.to_owned(),
            namespace: namespace.to_owned(),
            resource: part(0),
            subresource: part(2),
            name,
        }
    }

    /// How many bytes of it the client chose.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Resource {
                verb,
                group,
                version,
                namespace,
                resource,
                subresource,
                name,
            } => [verb, group, version, namespace, resource, subresource, name]
                .iter()
                .map(|part| part.len())
                .sum(),
            Self::NonResource { verb, path } => verb.len() + path.len(),
        }
    }
}

/// A path segment without its percent-encoding; as it came if that does not give text.
fn decode(segment: &str) -> String {
    percent_decode_str(segment)
        .decode_utf8()
        .map_or_else(|_| segment.to_owned(), |text| text.into_owned())
}

/// The first value of a query parameter, decoded.
fn parameter(query: &str, wanted: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(&key.replace('+', " ")) == wanted).then(|| decode(&value.replace('+', " ")))
    })
}

fn watches(query: &str) -> bool {
    parameter(query, "watch")
        .is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
}

/// The one name that a field selector asks for, if it does.
fn name_selected(query: &str) -> Option<String> {
    parameter(query, "fieldSelector")?
        .split(',')
        .find_map(|term| {
            let value = term.trim().strip_prefix("metadata.name=")?;
            let name = value.strip_prefix('=').unwrap_or(value);
            let is_segment = !matches!(name, "" | "." | "..") && !name.contains(['/', '%', '\\']);
            is_segment.then(|| name.to_owned())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: Method, uri: &str) -> RequestAttributes {
        RequestAttributes::of(&method, &uri.parse().unwrap())
    }

    /// verb, group, resource, subresource, name, namespace
    fn row(method: Method, uri: &str) -> [String; 6] {
        match of(method, uri) {
            RequestAttributes::Resource {
                verb,
                group,
                namespace,
                resource,
                subresource,
                name,
                ..
            } => [verb, group, resource, subresource, name, namespace],
            other => panic!("{uri} is no resource: {other:?}"),
        }
    }

    #[test]
    fn metric_requests_are_read_as_the_kube_apiserver_reads_them() {
        const CUSTOM: &str = "/apis/custom.metrics.k8s.io/v1beta2";
        const EXTERNAL: &str = "/apis/external.metrics.k8s.io/v1beta1";
        const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";
        let cases: &[(&str, &str, [&str; 5])] = &[
            (
                CUSTOM,
                "/namespaces/ns/pods/*/m",
                ["get", "pods", "m", "*", "ns"],
            ),
            (
                CUSTOM,
                "/namespaces/ns/pods/%2A/m",
                ["get", "pods", "m", "*", "ns"],
            ),
            (
                CUSTOM,
                "/namespaces/ns/jobs.batch/j/m",
                ["get", "jobs.batch", "m", "j", "ns"],
            ),
            (
                CUSTOM,
                "/namespaces/ns/metrics/m",
                ["get", "metrics", "", "m", "ns"],
            ),
            (CUSTOM, "/nodes/n/m", ["get", "nodes", "m", "n", ""]),
            (
                EXTERNAL,
                "/namespaces/ns/m?labelSelector=a%3Db",
                ["list", "m", "", "", "ns"],
            ),
            (
                METRICS,
                "/namespaces/ns/pods",
                ["list", "pods", "", "", "ns"],
            ),
            (METRICS, "/pods", ["list", "pods", "", "", ""]),
            (METRICS, "/nodes/", ["list", "nodes", "", "", ""]),
            (
                METRICS,
                "/namespaces/ns/pods/p",
                ["get", "pods", "", "p", "ns"],
            ),
            (METRICS, "/pods?watch=true", ["watch", "pods", "", "", ""]),
            (METRICS, "/pods?watch=0", ["list", "pods", "", "", ""]),
            (
                METRICS,
                "/pods?fieldSelector=metadata.name%3Dp",
                ["list", "pods", "", "p", ""],
            ),
            (
                METRICS,
                "/pods?fieldSelector=a%3D1%2Cmetadata.name==p",
                ["list", "pods", "", "p", ""],
            ),
            (
                METRICS,
                "/namespaces/ns",
                ["get", "namespaces", "", "ns", "ns"],
            ),
        ];
        for (prefix, rest, [verb, resource, subresource, name, namespace]) in cases {
            let group = prefix.split('/').nth(2).unwrap();
            assert_eq!(
                row(Method::GET, &format!("{prefix}{rest}")),
                [verb, group, resource, subresource, name, namespace],
                "{rest}"
            );
        }
        assert_eq!(row(Method::HEAD, "/apis/g/v/pods/p")[0], "get");
        assert_eq!(row(Method::POST, "/apis/g/v/pods")[0], "create");
        assert_eq!(row(Method::DELETE, "/apis/g/v/pods")[0], "deletecollection");
        assert_eq!(row(Method::OPTIONS, "/apis/g/v/pods")[0], "");
    }

    #[test]
    fn an_encoded_slash_stays_within_its_segment() {
        assert_eq!(
            row(Method::GET, "/apis/g/v/namespaces/mine%2Fpods/pods/p")[5],
            "mine/pods"
        );
    }

    #[test]
    fn short_and_other_paths_are_no_resources() {
        for uri in [
            "/",
            "/apis",
            "/apis/g/v",
            "/apis/g/v/",
            "/openapi/v3/apis/g/v",
            "/metrics",
        ] {
            let expected = RequestAttributes::NonResource {
                verb: "get".to_owned(),
                path: uri.to_owned(),
            };
            assert_eq!(of(Method::GET, uri), expected);
        }
    }
}
