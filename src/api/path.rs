//! What a request path means.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::model::objects::GroupResource;

use super::health::Probe;
use super::prometheus::Endpoint;

/// The group that is always served.
pub(super) const GROUP: &str = "custom.metrics.k8s.io";

/// The group of CPU and memory, which is served where that is asked for.
pub(super) const RESOURCE_GROUP: &str = "metrics.k8s.io";

/// A version of `metrics.k8s.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResourceVersion {
    V1,
    V1Beta1,
}

impl ResourceVersion {
    /// The preferred one first: it is the one that the HPA asks.
    pub(super) const ALL: [Self; 2] = [Self::V1Beta1, Self::V1];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1Beta1 => "v1beta1",
        }
    }

    pub(super) const fn group_version(self) -> &'static str {
        match self {
            Self::V1 => "metrics.k8s.io/v1",
            Self::V1Beta1 => "metrics.k8s.io/v1beta1",
        }
    }
}

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

/// A version of `custom.metrics.k8s.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1Beta1,
    V1Beta2,
}

impl Version {
    /// The preferred one first.
    pub(super) const ALL: [Self; 2] = [Self::V1Beta2, Self::V1Beta1];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V1Beta1 => "v1beta1",
            Self::V1Beta2 => "v1beta2",
        }
    }

    pub(super) const fn group_version(self) -> &'static str {
        match self {
            Self::V1Beta1 => "custom.metrics.k8s.io/v1beta1",
            Self::V1Beta2 => "custom.metrics.k8s.io/v1beta2",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.name() == name)
    }
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
    /// `/apis/metrics.k8s.io/VERSION`.
    ResourceGroupVersion(ResourceVersion),
    ResourceMetrics {
        version: ResourceVersion,
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
        ["api", "v1", rest @ ..] => Target::Prometheus(Endpoint::parse(rest)),
        ["apis"] => Target::Groups,
        ["apis", GROUP] => Target::Group(GROUP),
        ["apis", RESOURCE_GROUP] => Target::Group(RESOURCE_GROUP),
        ["apis", RESOURCE_GROUP, version, rest @ ..] => resource_target(version, rest),
        ["apis", GROUP, version] => {
            Version::parse(version).map_or(Target::Unknown, Target::GroupVersion)
        }
        ["apis", GROUP, version, rest @ ..] => match Version::parse(version) {
            None => Target::Unknown,
            Some(version) => metric_path(rest).map_or(Target::BadMetricPath, |question| {
                Target::CustomMetrics { version, question }
            }),
        },
        _ => Target::Unknown,
    })
}

fn resource_target(version: &str, rest: &[&str]) -> Target {
    let mut versions = ResourceVersion::ALL.into_iter();
    let Some(version) = versions.find(|it| it.name() == version) else {
        return Target::Unknown;
    };
    let text = |part: &&str| Some((*part).to_owned());
    let question = match rest {
        [] => return Target::ResourceGroupVersion(version),
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
        _ => return Target::Unknown,
    };
    Target::ResourceMetrics { version, question }
}

/// custom-metrics-apiserver `pkg/apiserver/installer/cmhandlers.go`: on namespaces, in a namespace, outside namespaces.
fn metric_path(segments: &[&str]) -> Option<MetricPath> {
    if segments.iter().any(|segment| segment.is_empty()) {
        return None;
    }
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
            ("/apis/custom.metrics.k8s.io", Target::Group(GROUP)),
            (
                "/apis/custom.metrics.k8s.io/v1beta1",
                Target::GroupVersion(Version::V1Beta1),
            ),
            ("/apis/custom.metrics.k8s.io/v1", Target::Unknown),
            ("/apis/custom.metrics.k8s.io/v1/pods/a/b", Target::Unknown),
            ("/apis/metrics.k8s.io", Target::Group(RESOURCE_GROUP)),
            (
                "/apis/metrics.k8s.io/v1",
                Target::ResourceGroupVersion(ResourceVersion::V1),
            ),
            ("/apis/metrics.k8s.io/v2", Target::Unknown),
            ("/apis/metrics.k8s.io/v1beta1/pods/a", Target::Unknown),
            ("/apis/metrics.k8s.io/v1beta1/nodes/a/b", Target::Unknown),
            (
                "/apis/metrics.k8s.io/v1beta1/nodes/n1",
                Target::ResourceMetrics {
                    version: ResourceVersion::V1Beta1,
                    question: ResourcePath::Nodes {
                        name: Some("n1".into()),
                    },
                },
            ),
            (
                "/apis/metrics.k8s.io/v1beta1/namespaces/demo/pods",
                Target::ResourceMetrics {
                    version: ResourceVersion::V1Beta1,
                    question: ResourcePath::Pods {
                        namespace: Some("demo".into()),
                        name: None,
                    },
                },
            ),
            ("/api", Target::Unknown),
            ("/openapi/v2", Target::Unknown),
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
        fn any_path_is_parsed_without_a_panic(path in "(/apis/custom.metrics.k8s.io/v1beta2)?/[ -~é%/*]{0,60}") {
            let _ = parse(&path);
        }
    }
}
