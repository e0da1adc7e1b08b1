//! What a request path means.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::model::objects::GroupResource;

use super::health::Probe;
use super::openapi::OpenApiPath;
use super::prometheus::Endpoint;

/// The group of CPU and memory, which is served where that is asked for.
pub(super) const RESOURCE_GROUP: &str = "metrics.k8s.io";

/// Whose CPU and memory a path asks for; without a name, of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ResourcePath {
    Nodes {
        name: Option<String>,
    },
    Pods {
        /// Always there with a name.
        namespace: Option<String>,
        name: Option<String>,
    },
}

/// A version of a group that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    CustomV1Beta2,
    CustomV1Beta1,
    ExternalV1Beta1,
    ResourceV1Beta1,
    ResourceV1,
}

impl Version {
    /// Those of a group stand together, the preferred one first; for CPU and memory it is the one that the HPA asks.
    pub(super) const ALL: [Self; 5] = [
        Self::CustomV1Beta2,
        Self::CustomV1Beta1,
        Self::ExternalV1Beta1,
        Self::ResourceV1Beta1,
        Self::ResourceV1,
    ];

    /// `GROUP/VERSION`.
    pub(super) const fn group_version(self) -> &'static str {
        match self {
            Self::CustomV1Beta2 => "custom.metrics.k8s.io/v1beta2",
            Self::CustomV1Beta1 => "custom.metrics.k8s.io/v1beta1",
            Self::ExternalV1Beta1 => "external.metrics.k8s.io/v1beta1",
            Self::ResourceV1Beta1 => "metrics.k8s.io/v1beta1",
            Self::ResourceV1 => "metrics.k8s.io/v1",
        }
    }

    fn split(self) -> (&'static str, &'static str) {
        let both = self.group_version().split_once('/');
        both.expect("written so above")
    }

    pub(super) fn group(self) -> &'static str {
        self.split().0
    }

    pub(super) fn name(self) -> &'static str {
        self.split().1
    }

    /// What a path is below this version that has too few or too many segments. CPU and memory are Kubernetes' own kind of
    /// resources, which are then not found.
    fn bad_path(self) -> Target {
        match self {
            Self::ResourceV1Beta1 | Self::ResourceV1 => Target::Unknown,
            _ => Target::BadMetricPath,
        }
    }

    fn parse(group: &str, name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|version| version.split() == (group, name))
    }
}

/// The groups that are served, each with its versions.
pub(super) fn groups() -> impl Iterator<Item = (&'static str, &'static [Version])> {
    Version::ALL
        .chunk_by(|a, b| a.group() == b.group())
        .map(|versions| (versions[0].group(), versions))
}

/// Which value of which object a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MetricPath {
    pub(super) resource: GroupResource,
    /// `None` for what is not in a namespace, namespaces themselves included.
    pub(super) namespace: Option<String>,
    /// The object's name, or `*`.
    pub(super) name: String,
    pub(super) metric: String,
}

/// What a path is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `/`: the list of paths.
    Paths,
    Health(Probe),
    OwnMetrics,
    Version,
    OpenApi(OpenApiPath),
    /// `/apis`.
    Groups,
    /// `/apis/GROUP`, for a group that is served.
    Group(&'static str),
    /// `/apis/GROUP/VERSION`.
    GroupVersion(Version),
    CustomMetrics {
        version: Version,
        question: MetricPath,
    },
    ExternalMetric {
        namespace: String,
        metric: String,
    },
    ResourceMetrics {
        version: Version,
        question: ResourcePath,
    },
    /// Below a served version, and with too few or too many segments.
    BadMetricPath,
    /// `/api/v1/…`: Prometheus's API. Kubernetes' own core API has this prefix too, and is not ours.
    Prometheus(Endpoint),
    Unknown,
}

/// A path that is not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request path is not UTF-8 when decoded")]
pub(super) struct NotText;

pub(super) fn parse(path: &str) -> Result<Target, NotText> {
    let decode = |segment| {
        percent_decode_str(segment)
            .decode_utf8()
            .map_err(|_| NotText)
    };
    let segments: Vec<Cow<'_, str>> = path
        .trim_matches('/')
        .split('/')
        .map(decode)
        .collect::<Result<_, _>>()?;
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    Ok(match segments.as_slice() {
        [""] => Target::Paths,
        ["healthz"] => Target::Health(Probe::Healthz),
        ["livez"] => Target::Health(Probe::Livez),
        ["readyz"] => Target::Health(Probe::Readyz),
        ["metrics"] => Target::OwnMetrics,
        ["version"] => Target::Version,
        ["openapi", "v2"] => Target::OpenApi(OpenApiPath::V2),
        ["openapi", "v3"] => Target::OpenApi(OpenApiPath::Root),
        ["openapi", "v3", "apis", group, version] => Version::parse(group, version)
            .map_or(Target::Unknown, |version| {
                Target::OpenApi(OpenApiPath::Of(version))
            }),
        ["api", "v1", rest @ ..] => Target::Prometheus(Endpoint::parse(rest)),
        ["apis"] => Target::Groups,
        ["apis", group] => groups()
            .find(|(served, _)| served == group)
            .map_or(Target::Unknown, |(served, _)| Target::Group(served)),
        ["apis", group, version, rest @ ..] => match (Version::parse(group, version), rest) {
            (None, _) => Target::Unknown,
            (Some(version), []) => Target::GroupVersion(version),
            (Some(version), rest) => metric(version, rest).unwrap_or(version.bad_path()),
        },
        _ => Target::Unknown,
    })
}

/// What stands below a version.
fn metric(version: Version, segments: &[&str]) -> Option<Target> {
    if segments.iter().any(|segment| segment.is_empty()) {
        return None;
    }
    match (version, segments) {
        (Version::ExternalV1Beta1, ["namespaces", namespace, metric]) => {
            Some(Target::ExternalMetric {
                namespace: (*namespace).to_owned(),
                metric: (*metric).to_owned(),
            })
        }
        (Version::ExternalV1Beta1, _) => None,
        (Version::ResourceV1Beta1 | Version::ResourceV1, segments) => {
            let question = resource_path(segments)?;
            Some(Target::ResourceMetrics { version, question })
        }
        (version, segments) => {
            let question = metric_path(segments)?;
            Some(Target::CustomMetrics { version, question })
        }
    }
}

fn resource_path(segments: &[&str]) -> Option<ResourcePath> {
    let text = |part: &&str| Some((*part).to_owned());
    Some(match segments {
        ["nodes"] => ResourcePath::Nodes { name: None },
        ["nodes", name] => ResourcePath::Nodes { name: text(name) },
        ["pods"] => ResourcePath::Pods {
            namespace: None,
            name: None,
        },
        ["namespaces", namespace, "pods"] => ResourcePath::Pods {
            namespace: text(namespace),
            name: None,
        },
        ["namespaces", namespace, "pods", name] => ResourcePath::Pods {
            namespace: text(namespace),
            name: text(name),
        },
        _ => return None,
    })
}

/// custom-metrics-apiserver `pkg/apiserver/installer/cmhandlers.go`: on namespaces, in a namespace, outside namespaces.
fn metric_path(segments: &[&str]) -> Option<MetricPath> {
    let (resource, namespace, name, metric) = match segments {
        ["namespaces", name, "metrics", metric] => ("namespaces", None, name, metric),
        ["namespaces", namespace, resource, name, metric] => {
            (*resource, Some(*namespace), name, metric)
        }
        [resource, name, metric] => (*resource, None, name, metric),
        _ => return None,
    };
    Some(MetricPath {
        resource: GroupResource::parse(resource),
        namespace: namespace.map(str::to_owned),
        name: (*name).to_owned(),
        metric: (*metric).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metric(path: &str) -> Option<(String, Option<String>, String, String)> {
        match parse(&format!("/apis/custom.metrics.k8s.io/v1beta2/{path}")).expect("text") {
            Target::CustomMetrics { question, .. } => Some((
                question.resource.to_string(),
                question.namespace,
                question.name,
                question.metric,
            )),
            Target::BadMetricPath => None,
            other => panic!("{path}: {other:?}"),
        }
    }

    fn expected(
        resource: &str,
        namespace: Option<&str>,
        name: &str,
        metric: &str,
    ) -> Option<(String, Option<String>, String, String)> {
        Some((
            resource.into(),
            namespace.map(str::to_owned),
            name.into(),
            metric.into(),
        ))
    }

    #[test]
    fn a_star_is_the_same_encoded_or_not() {
        let all = expected("pods", Some("demo"), "*", "sm_util");
        assert_eq!(metric("namespaces/demo/pods/%2A/sm_util"), all);
        assert_eq!(metric("namespaces/demo/pods/*/sm_util"), all);
        assert_eq!(metric("namespaces/demo/Pods/%2a/sm_util/"), all);
    }

    #[test]
    fn metrics_are_asked_on_namespaces_in_them_and_outside() {
        assert_eq!(
            metric("namespaces/demo/metrics/m"),
            expected("namespaces", None, "demo", "m")
        );
        assert_eq!(
            metric("namespaces/demo/ingresses.networking.k8s.io/i/m"),
            expected("ingresses.networking.k8s.io", Some("demo"), "i", "m")
        );
        assert_eq!(metric("nodes/n/m"), expected("nodes", None, "n", "m"));
        for bad in [
            "pods",
            "namespaces/demo",
            "namespaces/demo/pods/a/b/c",
            "namespaces//pods/a/b",
        ] {
            assert_eq!(metric(bad), None, "{bad}");
        }
    }

    #[test]
    fn other_paths_are_told_apart() {
        let cases = [
            ("/", Target::Paths),
            ("/apis", Target::Groups),
            ("/apis/", Target::Groups),
            (
                "/apis/custom.metrics.k8s.io",
                Target::Group("custom.metrics.k8s.io"),
            ),
            (
                "/apis/custom.metrics.k8s.io/v1beta1",
                Target::GroupVersion(Version::CustomV1Beta1),
            ),
            (
                "/apis/external.metrics.k8s.io/v1beta1/",
                Target::GroupVersion(Version::ExternalV1Beta1),
            ),
            (
                "/apis/external.metrics.k8s.io/v1beta1/namespaces/demo/queue%2Flen",
                Target::ExternalMetric {
                    namespace: "demo".into(),
                    metric: "queue/len".into(),
                },
            ),
            (
                "/apis/external.metrics.k8s.io/v1beta1/namespaces/demo/queue/x",
                Target::BadMetricPath,
            ),
            (
                "/apis/external.metrics.k8s.io/v1beta1/queue",
                Target::BadMetricPath,
            ),
            (
                "/apis/external.metrics.k8s.io/v1beta2/namespaces/demo/queue",
                Target::Unknown,
            ),
            ("/apis/custom.metrics.k8s.io/v1", Target::Unknown),
            ("/apis/custom.metrics.k8s.io/v1/pods/a/b", Target::Unknown),
            ("/apis/metrics.k8s.io", Target::Group(RESOURCE_GROUP)),
            (
                "/apis/metrics.k8s.io/v1",
                Target::GroupVersion(Version::ResourceV1),
            ),
            ("/apis/metrics.k8s.io/v2", Target::Unknown),
            ("/apis/metrics.k8s.io/v1beta1/pods/a", Target::Unknown),
            ("/apis/metrics.k8s.io/v1beta1/nodes/a/b", Target::Unknown),
            (
                "/apis/metrics.k8s.io/v1beta1/nodes/n1",
                Target::ResourceMetrics {
                    version: Version::ResourceV1Beta1,
                    question: ResourcePath::Nodes {
                        name: Some("n1".into()),
                    },
                },
            ),
            (
                "/apis/metrics.k8s.io/v1beta1/namespaces/demo/pods",
                Target::ResourceMetrics {
                    version: Version::ResourceV1Beta1,
                    question: ResourcePath::Pods {
                        namespace: Some("demo".into()),
                        name: None,
                    },
                },
            ),
            ("/api", Target::Unknown),
            ("/openapi/v2", Target::OpenApi(OpenApiPath::V2)),
            ("/openapi/v3", Target::OpenApi(OpenApiPath::Root)),
            (
                "/openapi/v3/apis/metrics.k8s.io/v1",
                Target::OpenApi(OpenApiPath::Of(Version::ResourceV1)),
            ),
            ("/openapi/v3/apis/metrics.k8s.io/v2", Target::Unknown),
            ("/openapi/v3/api/v1", Target::Unknown),
            ("/api/v1/query", Target::Prometheus(Endpoint::Query)),
            (
                "/api/v1/label/http%2Fstatus/values",
                Target::Prometheus(Endpoint::LabelValues("http/status".into())),
            ),
            ("/api/v1/pods", Target::Prometheus(Endpoint::Unknown)),
            ("/readyz", Target::Health(Probe::Readyz)),
        ];
        for (path, target) in cases {
            assert_eq!(parse(path), Ok(target), "{path}");
        }
        assert_eq!(parse("/apis/%ff"), Err(NotText));
    }

    proptest! {
        #[test]
        fn any_path_is_parsed_without_a_panic(path in "(/apis/(custom|external).metrics.k8s.io/v1beta[12])?/[ -~é%/*]{0,60}") {
            let _ = parse(&path);
        }
    }
}
