//! Which encoding a client gets (apiserver `pkg/endpoints/handlers/negotiation/negotiate.go`).

use http::HeaderMap;
use http::header::USER_AGENT;

use super::protobuf::MEDIA_TYPE;

/// An encoding that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Protobuf,
    /// A `Table` of `meta.k8s.io`, in JSON.
    Table(TableVersion),
}

/// A version of `meta.k8s.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableVersion {
    V1,
    V1Beta1,
}

impl TableVersion {
    pub(super) const fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// What there is besides JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offered {
    pub(super) protobuf: bool,
    pub(super) table: bool,
}

impl Offered {
    pub(super) const JSON: Self = Self {
        protobuf: false,
        table: false,
    };
    pub(super) const PROTOBUF: Self = Self {
        protobuf: true,
        table: false,
    };
    pub(super) const EVERYTHING: Self = Self {
        protobuf: true,
        table: true,
    };
}

/// One clause of an `Accept` header.
struct Clause<'a> {
    media_type: &'a str,
    quality: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Clause<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    }
}

/// The encoding for this `Accept`: the client's first clause that is served. An empty header takes anything, and so does one
/// that takes all types: JSON. A clause that asks for a transformation (`as=Table`) which is not offered is passed over.
pub(super) fn choose(accept: &str, offered: Offered) -> Option<Encoding> {
    if accept.trim().is_empty() {
        return Some(Encoding::Json);
    }
    let served = |clause: &Clause<'_>| match (clause.media_type, clause.parameter("as")) {
        ("application/json" | "application/*" | "*/*", None) => Some(Encoding::Json),
        (MEDIA_TYPE, None) => offered.protobuf.then_some(Encoding::Protobuf),
        ("application/json", Some("Table")) if offered.table => {
            let version = match (clause.parameter("g")?, clause.parameter("v")?) {
                ("meta.k8s.io", "v1") => TableVersion::V1,
                ("meta.k8s.io", "v1beta1") => TableVersion::V1Beta1,
                _ => return None,
            };
            Some(Encoding::Table(version))
        }
        _ => None,
    };
    clauses(accept).iter().find_map(served)
}

/// Whether the client prefers the aggregated discovery document (`APIGroupDiscoveryList`, v2).
pub(super) fn wants_aggregated_discovery(accept: &str) -> bool {
    let is_v2 = |clause: &Clause<'_>| {
        clause.media_type == "application/json"
            && clause.parameter("as") == Some("APIGroupDiscoveryList")
            && clause.parameter("g") == Some("apidiscovery.k8s.io")
            && clause.parameter("v") == Some("v2")
    };
    clauses(accept)
        .iter()
        .find(|clause| is_v2(clause) || clause.parameter("as").is_none())
        .is_some_and(is_v2)
}

/// Whether the answer is for eyes: `?pretty=1`, or a browser or a download tool (negotiate.go, `isPrettyPrint`).
pub(super) fn wants_pretty(query: Option<&str>, headers: &HeaderMap) -> bool {
    let parameter = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .find(|(key, _)| key == "pretty");
    if let Some((_, value)) = parameter {
        return matches!(value.as_ref(), "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers
        .get(USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"]
        .iter()
        .any(|prefix| agent.starts_with(prefix))
}

/// Whether an `Accept-Encoding` names gzip.
pub(super) fn takes_gzip(accept_encoding: &str) -> bool {
    clauses(accept_encoding)
        .iter()
        .any(|clause| clause.media_type == "gzip")
}

/// The clauses, the most wanted first; among equals in the order they stand in. Those with `q=0` are left out.
fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = accept
        .split(',')
        .map(clause)
        .filter(|clause| clause.quality > 0.0)
        .collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    clauses
}

fn clause(text: &str) -> Clause<'_> {
    let mut parts = text.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
    let quality = parameters
        .iter()
        .find(|(key, _)| *key == "q")
        .and_then(|(_, value)| value.parse().ok());
    Clause {
        media_type,
        quality: quality.unwrap_or(1.0),
        parameters,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

    #[test]
    fn json_is_found_in_what_kubernetes_clients_send() {
        for accept in [
            "",
            "application/json",
            "application/json, */*",
            "application/vnd.kubernetes.protobuf, */*",
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
        ] {
            let chosen = choose(accept, Offered::JSON);
            assert_eq!(chosen, Some(Encoding::Json), "{accept}");
        }
        for accept in [
            "application/vnd.kubernetes.protobuf",
            "text/html",
            "application/json;as=Table",
            "*/*;q=0",
        ] {
            assert_eq!(choose(accept, Offered::JSON), None, "{accept}");
        }
    }

    #[test]
    fn of_what_is_offered_the_most_wanted_is_given() {
        const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let protobuf =
            |q| format!("application/vnd.kubernetes.protobuf;q={q},application/json;q=0.5");
        for (accept, offered, expected) in [
            (
                "application/vnd.kubernetes.protobuf, */*",
                Offered::PROTOBUF,
                Some(Encoding::Protobuf),
            ),
            ("application/vnd.kubernetes.protobuf", Offered::JSON, None),
            (
                &protobuf("0.9"),
                Offered::PROTOBUF,
                Some(Encoding::Protobuf),
            ),
            (
                &protobuf("0.5"),
                Offered::PROTOBUF,
                Some(Encoding::Protobuf),
            ),
            (&protobuf("0.4"), Offered::PROTOBUF, Some(Encoding::Json)),
            (&protobuf("0"), Offered::PROTOBUF, Some(Encoding::Json)),
            ("*/*", Offered::EVERYTHING, Some(Encoding::Json)),
            (
                KUBECTL,
                Offered::EVERYTHING,
                Some(Encoding::Table(TableVersion::V1)),
            ),
            (KUBECTL, Offered::PROTOBUF, Some(Encoding::Json)),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
                Offered::EVERYTHING,
                Some(Encoding::Table(TableVersion::V1Beta1)),
            ),
            (
                "application/json;as=Table;v=v2;g=meta.k8s.io",
                Offered::EVERYTHING,
                None,
            ),
            (
                "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
                Offered::EVERYTHING,
                None,
            ),
        ] {
            assert_eq!(choose(accept, offered), expected, "{accept} of {offered:?}");
        }
    }

    #[test]
    fn aggregated_discovery_is_given_to_those_who_prefer_it() {
        assert!(wants_aggregated_discovery(DISCOVERY));
        assert!(wants_aggregated_discovery(&format!(
            "{DISCOVERY},application/json;q=0.9"
        )));
        assert!(!wants_aggregated_discovery(&format!(
            "application/json,{DISCOVERY};q=0.9"
        )));
        assert!(!wants_aggregated_discovery(""));
        assert!(!wants_aggregated_discovery("application/json"));
    }

    #[test]
    fn people_get_it_indented() {
        let headers = HeaderMap::from_iter([(USER_AGENT, "curl/8.0".parse().expect("a header"))]);
        assert!(wants_pretty(None, &headers));
        assert!(!wants_pretty(Some("pretty=0"), &headers));
        assert!(wants_pretty(Some("x=y&pretty=true"), &HeaderMap::new()));
    }
}
