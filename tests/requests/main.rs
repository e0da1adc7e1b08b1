//! Requests that nobody would send: paths, queries and headers, made up of what means something here and of what does not.
//!
//! `fuzz/fuzz_targets/request.rs` is its twin, and looks for more.

mod world;

use proptest::prelude::*;

use world::{METRIC, World};

/// What stands between slashes.
fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec![
            "apis", "custom.metrics.k8s.io", "external.metrics.k8s.io", "metrics.k8s.io", "v1beta1", "v1beta2", "v1",
            "namespaces", "open", "closed", "open%2Fpods", "open%2f..%2fclosed", "..", "%2e%2e", ".", "", "pods", "Pods",
            "pods.", "nodes", "metrics", "*", "%2A", "%252A", "a", METRIC, "status", "finalize", "openapi", "v2", "v3",
            "api", "healthz", "readyz", "version", "%00", "%ff", "%", "proxy", "watch", "gpu-1",
        ])
        .prop_map(str::to_owned),
        1 => "[!-~]{0,12}",
        1 => "[%a-f0-9]{0,9}",
    ]
}

/// Nearly a path of a metric, one segment of it perhaps another.
fn path() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec!["open", "closed"]).prop_flat_map(|namespace| {
        let path = vec![
            "apis",
            "custom.metrics.k8s.io",
            "v1beta2",
            "namespaces",
            namespace,
            "pods",
            "*",
            METRIC,
        ];
        let length = path.len();
        (Just(path), 0..2 * length, segment()).prop_map(move |(path, at, other)| {
            let mut path: Vec<String> = path.into_iter().map(str::to_owned).collect();
            if at < length {
                path[at] = other;
            } else if at % 5 == 0 {
                path.insert(at - length, other);
            }
            path.join("/")
        })
    });
    let usage = prop_oneof![
        Just("nodes".to_owned()),
        Just("nodes/gpu-1".to_owned()),
        Just("pods".to_owned()),
        prop::sample::select(vec!["open", "closed"]).prop_flat_map(|namespace| {
            segment().prop_map(move |pod| format!("namespaces/{namespace}/pods/{pod}"))
        }),
    ];
    let version = prop::sample::select(vec!["v1", "v1beta1"]);
    let usage = (version, usage)
        .prop_map(|(version, path)| format!("apis/metrics.k8s.io/{version}/{path}"));
    prop_oneof![
        3 => known,
        1 => usage,
        1 => prop::collection::vec(segment(), 0..9).prop_map(|path| path.join("/")),
    ]
    .prop_map(|path| format!("/{path}"))
}

fn query() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "labelSelector",
        "metricLabelSelector",
        "fieldSelector",
        "watch",
        "pretty",
        "hash",
        "verbose",
        "exclude",
        "limit",
        "x",
    ]);
    let value = prop_oneof![
        "[a-z=!,()<>+ ]{0,24}",
        "(a|b|app)(=|==|!=|%3D)[a-z]{0,3}",
        "(a|!b) ?(in|notin|exists)? ?[(]?[a-z,]{0,6}[)]?",
        "[ -~]{0,12}",
        "metadata[.](name|namespace)=[a-z]{0,6}",
    ];
    let pair = (key, value).prop_map(|(key, value)| {
        format!("{key}={}", value.replace([' ', '"', '<', '>', '#'], "+"))
    });
    prop::collection::vec(pair, 0..4).prop_map(|pairs| match pairs.is_empty() {
        true => String::new(),
        false => format!("?{}", pairs.join("&")),
    })
}

fn header() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "accept",
        "accept-encoding",
        "if-none-match",
        "user-agent",
        "authorization",
        "x-remote-user",
        "x-remote-group",
        "x-remote-uid",
        "x-remote-extra-a%2fb",
        "impersonate-user",
        "content-length",
        "host",
        "cookie",
        "x-forwarded-for",
    ]);
    let value = prop_oneof![
        prop::sample::select(vec![
            "application/json",
            "application/vnd.kubernetes.protobuf, */*",
            "*/*;q=0",
            "application/json;as=Table;v=v1;g=meta.k8s.io",
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            "gzip",
            "curl/8",
            "system:masters",
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            "admin",
            "Bearer x",
            "*",
        ])
        .prop_map(str::to_owned),
        "[!-~ ]{0,30}",
        "[a-z/*]{1,12}(;q=[0-9.eE+-]{0,5})?(,[a-z/*]{1,6};[a-z]=[0-9nai]{0,4})?",
    ];
    (name, value).prop_map(|(name, value)| format!("{name}: {value}"))
}

fn request() -> impl Strategy<Value = String> {
    let method = prop_oneof![9 => Just("GET"), 1 => prop::sample::select(vec!["HEAD", "POST", "DELETE", "OPTIONS", "BREW"])];
    let headers = prop::collection::vec(header(), 0..4).prop_map(|headers| headers.join("\n"));
    (method, path(), query(), headers)
        .prop_map(|(method, path, query, headers)| format!("{method} {path}{query}\n{headers}"))
}

#[test]
fn what_is_asked_rightly_is_answered() {
    let world = World::new();
    let metric = |namespace: &str| {
        format!("GET /apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/pods/%2A/{METRIC}")
    };
    assert_eq!(world.check(&metric("open")), Some([200; 3]));
    assert_eq!(world.check(&metric("closed")), Some([403; 3]));
    let forged = format!(
        "{}\nX-Remote-User: admin\nX-Remote-Group: system:masters",
        metric("closed")
    );
    assert_eq!(world.check(&forged), Some([403; 3]));
    assert_eq!(world.proxied(&forged), Some(200));
    let named = format!("{}\nX-Remote-User: admin", metric("closed"));
    assert_eq!(world.proxied(&named), Some(403));
    let usage = "GET /apis/metrics.k8s.io/v1beta1";
    for (path, codes) in [
        ("/namespaces/open/pods/a", [200; 3]),
        ("/namespaces/closed/pods", [403; 3]),
        ("/pods", [403; 3]),
        ("/nodes", [200; 3]),
    ] {
        assert_eq!(
            world.check(&format!("{usage}{path}")),
            Some(codes),
            "{path}"
        );
    }
    assert_eq!(world.check("GET /openapi/v2"), Some([200, 200, 406]));
}

#[test]
fn any_request_is_answered_or_refused_and_nothing_is_told_that_may_not_be() {
    let world = World::new();
    let config = ProptestConfig {
        cases: 2_000,
        ..ProptestConfig::default()
    };
    proptest!(config, |(request in request())| {
        let _ = world.check(&request);
    });
}
