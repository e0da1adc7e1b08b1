//! The API behind its door, for requests that nobody would send; the fuzz target `request` uses it too.
//!
//! It holds a metric, CPU and memory of two pods in the namespace `open`, and of one in `closed`, about which nobody may ask but
//! `system:masters`; and a node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum_server::tls::TlsInfo;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use gpu_metrics_adapter::api::prometheus::{QueryApi, QueryLimits};
use gpu_metrics_adapter::api::{self, Api, Discovery, Health};
use gpu_metrics_adapter::auth::{
    Authenticator, Authorizer, Decision, HEALTH_PATHS, RequestAttributes, ReviewError, Reviewer,
    Trust, User,
};
use gpu_metrics_adapter::cluster::StaticMapper;
use gpu_metrics_adapter::config::rules::DiscoveryRule;
use gpu_metrics_adapter::engine::embedded::Embedded;
use gpu_metrics_adapter::engine::query::QueryService;
use gpu_metrics_adapter::model::labels::{Labels, METRIC_NAME};
use gpu_metrics_adapter::model::objects::{
    GroupResource, LabelledObject, ListError, MeteredObjects, ObjectLister, ObjectRef,
};
use gpu_metrics_adapter::model::selector::Selector;
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::provider::resources::ResourceMetrics;
use gpu_metrics_adapter::provider::{Provider, RuleSet, Settings, ValueStyle};
use gpu_metrics_adapter::rules::{DCGM_EXPORTER_PRESET, Rule};
use gpu_metrics_adapter::server::pki::Authority;
use gpu_metrics_adapter::server::{Protection, ServerMetrics, guarded, protected};
use gpu_metrics_adapter::store::{Limits, Store, TargetInfo, TargetWriter};
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use parking_lot::Mutex;
use prost::Message as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

pub(crate) const METRIC: &str = "DCGM_CUSTOM_PROCESS_SM_UTIL";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const HIDDEN: &str = "hidden-pod";
const NODE: &str = "gpu-1";
const PROXY: &str = "front-proxy-client";
const KUBELET: &str = "kubelet";
const INTERVAL: Duration = Duration::from_secs(15);
const MAX_AGE: Duration = Duration::from_secs(45);
const NOW: Timestamp = Timestamp::from_millis(1_795_464_000_000);

/// The pods of a namespace.
fn pods(namespace: &str) -> &'static [&'static str] {
    match namespace {
        "open" => &["a", "b"],
        "closed" => &[HIDDEN],
        _ => &[],
    }
}

struct Pods;

impl ObjectLister for Pods {
    fn list(
        &self,
        _: &GroupResource,
        namespace: Option<&str>,
        _: &Selector,
    ) -> Result<Vec<ObjectRef>, ListError> {
        let object = |name: &&str| ObjectRef {
            namespace: namespace.map(Arc::from),
            name: (*name).into(),
        };
        Ok(pods(namespace.unwrap_or_default())
            .iter()
            .map(object)
            .collect())
    }
}

impl MeteredObjects for Pods {
    fn running_pods(
        &self,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<LabelledObject>, ListError> {
        let namespaces = ["closed", "open"].into_iter();
        let asked = namespaces.filter(|it| namespace.is_none_or(|namespace| namespace == *it));
        let objects = asked.flat_map(|namespace| {
            let pods = pods(namespace).iter();
            pods.map(move |pod| labelled(Some(namespace), pod))
        });
        Ok(objects.filter(|it| selector.matches(&it.labels)).collect())
    }

    fn nodes(&self, selector: &Selector) -> Result<Vec<LabelledObject>, ListError> {
        let node = [labelled(None, NODE)].into_iter();
        Ok(node.filter(|it| selector.matches(&it.labels)).collect())
    }
}

fn labelled(namespace: Option<&str>, name: &str) -> LabelledObject {
    LabelledObject {
        object: ObjectRef {
            namespace: namespace.map(Arc::from),
            name: name.into(),
        },
        labels: Arc::new(BTreeMap::from([("app".to_owned(), "b".to_owned())])),
    }
}

/// Everybody may ask about the namespace `open`, nodes, and what is of no resource. Who is none of `named` is anonymous, whatever
/// they say.
#[derive(Clone, Default)]
struct Door {
    named: Arc<Mutex<Vec<String>>>,
}

impl Reviewer for Door {
    fn token_review<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<User>, ReviewError>> {
        ready(Ok(None)).boxed()
    }

    fn subject_access_review<'a>(
        &'a self,
        user: &'a User,
        attributes: &'a RequestAttributes,
    ) -> BoxFuture<'a, Result<Decision, ReviewError>> {
        let is_named = self.named.lock().contains(&user.name);
        assert!(
            is_named || user == &User::anonymous(),
            "an identity from nowhere: {user:?}"
        );
        let allowed = match attributes {
            RequestAttributes::Resource {
                namespace,
                resource,
                ..
            } => namespace == "open" || (namespace.is_empty() && resource == "nodes"),
            // Prometheus's API tells of all namespaces.
            RequestAttributes::NonResource { path, .. } => {
                !path.trim_start_matches('/').starts_with("api/")
            }
        };
        let reason = String::new();
        ready(Ok(Decision { allowed, reason })).boxed()
    }
}

/// The API, and what its series live in.
pub(crate) struct World {
    runtime: Runtime,
    router: Router,
    door: Door,
    /// The front proxy's certificate.
    proxy: Arc<TlsInfo>,
    _targets: [TargetWriter; 2],
}

struct Answer {
    code: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl World {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let store = Store::new(Limits::default());
        let target = |job: &str| {
            store.register(TargetInfo {
                job: job.into(),
                url: format!("http://{job}/metrics"),
                object: Some(format!("node {NODE}")),
                interval: INTERVAL,
            })
        };
        let (mut target, kubelet) = (target("fuzz"), measured(target(KUBELET)));
        let mut scrape = target.begin(NOW);
        for namespace in ["open", "closed"] {
            for pod in pods(namespace) {
                let labels = Labels::new([
                    (METRIC_NAME, METRIC),
                    ("NamespaceName", namespace),
                    ("PodName", pod),
                ]);
                scrape.add(&labels, 42.5, None).expect("within the limits");
            }
        }
        scrape.commit();
        let rules: Vec<DiscoveryRule> =
            serde_saphyr::from_str(DCGM_EXPORTER_PRESET).expect("valid");
        let rules = rules
            .iter()
            .map(|rule| Rule::compile("preset", rule).expect("valid"));
        let settings = Settings {
            rules: RuleSet {
                custom: rules.map(Arc::new).collect(),
                external: Vec::new(),
            },
            default_max_age: MAX_AGE,
            fresh_within: Duration::ZERO,
            style: ValueStyle::default(),
            backends: Vec::new(),
        };
        let engine = Arc::new(Embedded::new(Arc::clone(&store)));
        let resources = ResourceMetrics::of_kubelets(
            Arc::new(Pods),
            Arc::clone(&engine) as _,
            KUBELET,
            INTERVAL,
            MAX_AGE,
        );
        let provider = Provider::new(settings, engine, Arc::new(Pods), Arc::new(StaticMapper));
        runtime.block_on(provider.refresh(NOW));
        let queries = Arc::new(QueryService::over(store));
        let router = api::router(Arc::new(Api {
            fallback: None,
            provider: Arc::new(provider),
            resources: Some(Arc::new(resources)),
            queries: Arc::new(QueryApi::new(queries, QueryLimits::default())),
            health: Health::new(Vec::new()),
            own_metrics: Box::new(String::new),
            now: Box::new(|| NOW),
            discovery: Discovery::default(),
        }));
        let metrics = ServerMetrics::default();
        let door = Door::default();
        let authenticator = Arc::new(Authenticator::new(Arc::new(door.clone())));
        let (trust, proxy) = front_proxy();
        authenticator.set_trust(trust);
        let authorizer = Arc::new(Authorizer::new(Arc::new(door.clone()), HEALTH_PATHS));
        let router = guarded(router, authenticator, authorizer, &metrics);
        Self {
            runtime,
            router: protected(router, Protection::default(), &metrics),
            door,
            proxy: Arc::new(proxy),
            _targets: [target, kubelet],
        }
    }

    /// Sends a request in both encodings and as it is. `text` is a line with method and URI, and one for each header. Gives the
    /// codes, or nothing where HTTP has no such request.
    pub(crate) fn check(&self, text: &str) -> Option<[u16; 3]> {
        let (method, uri, headers) = read(text)?;
        let answer = |accept: Option<&'static str>| {
            let mut headers = headers.clone();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            let answer = self.ask(&method, &uri, headers, None);
            assert!(!answer.tells(HIDDEN) || text.contains(HIDDEN), "{text:?}");
            check_answer(&uri, &answer, text);
            answer
        };
        let (given, json, protobuf) = (
            answer(None),
            answer(Some("application/json")),
            answer(Some(PROTOBUF)),
        );
        // What there is in JSON only is refused, in protobuf.
        if json.is("application/json") && protobuf.code != StatusCode::NOT_ACCEPTABLE {
            assert!(protobuf.is(PROTOBUF), "{text:?}");
            assert_eq!(json.code, protobuf.code, "{text:?}");
            assert_eq!(json.items(), protobuf.items(), "{text:?}");
        }
        self.check_proxied(&method, &uri, &headers, text);
        Some([given.code, json.code, protobuf.code].map(|code| code.as_u16()))
    }

    /// Sends it as the front proxy, whose word on who asks is believed. Gives the code.
    fn check_proxied(&self, method: &Method, uri: &Uri, headers: &HeaderMap, text: &str) -> u16 {
        let values = |name| {
            let values = headers.get_all(name).iter();
            values.filter_map(|value| value.to_str().ok())
        };
        *self.door.named.lock() = values("x-remote-user").map(str::to_owned).collect();
        let answer = self.ask(method, uri, headers.clone(), Some(Arc::clone(&self.proxy)));
        self.door.named.lock().clear();
        let may_see_all = values("x-remote-group").any(|group| group == "system:masters");
        assert!(
            !answer.tells(HIDDEN) || may_see_all || text.contains(HIDDEN),
            "{text:?}"
        );
        check_answer(uri, &answer, text);
        answer.code.as_u16()
    }

    /// The code of a request as the front proxy passes it on.
    pub(crate) fn proxied(&self, text: &str) -> Option<u16> {
        let (method, uri, headers) = read(text)?;
        Some(self.check_proxied(&method, &uri, &headers, text))
    }

    fn ask(
        &self,
        method: &Method,
        uri: &Uri,
        headers: HeaderMap,
        tls: Option<Arc<TlsInfo>>,
    ) -> Answer {
        let mut request = Request::new(Body::empty());
        if let Some(tls) = tls {
            request.extensions_mut().insert(tls);
        }
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        self.runtime.block_on(async {
            let response = self
                .router
                .clone()
                .oneshot(request)
                .await
                .expect("infallible");
            let (head, body) = response.into_parts();
            let body = to_bytes(body, 1 << 24).await.expect("a body");
            Answer {
                code: head.status,
                headers: head.headers,
                body: body.to_vec(),
            }
        })
    }
}

/// As its client reads it.
fn check_answer(uri: &Uri, answer: &Answer, request: &str) {
    let Answer {
        code,
        headers,
        body,
    } = answer;
    assert_ne!(
        *code,
        StatusCode::INTERNAL_SERVER_ERROR,
        "{request:?}: {:?}",
        String::from_utf8_lossy(body)
    );
    assert!(!headers.contains_key(RETRY_AFTER), "{request:?}");
    if headers.contains_key(CONTENT_ENCODING) || body.is_empty() {
        return;
    }
    if answer.is(PROTOBUF) {
        let kind = answer.unknown().type_meta.expect("a kind").kind;
        assert_eq!(
            kind == "Status",
            code.is_client_error(),
            "{request:?}: {kind}"
        );
    } else if answer.is("application/json") {
        let value: Value = serde_json::from_slice(body).expect("JSON");
        let of_kubernetes = uri.path().starts_with("/apis/");
        if of_kubernetes && code.is_client_error() {
            assert_eq!(
                (&value["kind"], &value["code"]),
                (&"Status".into(), &code.as_u16().into())
            );
        }
    }
}

/// A front proxy's certificate, and trust in it.
fn front_proxy() -> (Trust, TlsInfo) {
    let (now, life) = (Timestamp::now(), Duration::from_secs(24 * 3600));
    let authority = Authority::generate("proxies", life, now).expect("an authority");
    let pair = authority.client(PROXY, None, life, now).expect("a pair");
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("PEM");
    let trust = Trust::from_config_map(&BTreeMap::from(
        [
            ("requestheader-client-ca-file", authority.certificate()),
            ("requestheader-allowed-names", &format!("[{PROXY:?}]")),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-uid-headers", r#"["X-Remote-Uid"]"#),
            (
                "requestheader-extra-headers-prefix",
                r#"["X-Remote-Extra-"]"#,
            ),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    ));
    let mut info = TlsInfo::default();
    info.peer_certificates.push(certificate.to_vec());
    (trust.expect("as a kube-apiserver writes it"), info)
}

/// A kubelet that was scraped twice: of each pod a container, and the node.
fn measured(mut kubelet: TargetWriter) -> TargetWriter {
    for round in [0_u32, 1] {
        let at = NOW.minus(INTERVAL * (2 - round));
        let cpu = 100.0 + 7.5 * f64::from(round);
        let mut scrape = kubelet.begin(at);
        let mut add = |metric: &str, labels: &[(&str, &str)], value: f64| {
            let own = [(METRIC_NAME, metric), ("instance", NODE), ("node", NODE)];
            let labels = Labels::new(own.iter().chain(labels).copied());
            let added = scrape.add(&labels, value, Some(at));
            added.expect("within the limits");
        };
        add("node_cpu_usage_seconds_total", &[], 2.0 * cpu);
        add("node_memory_working_set_bytes", &[], 2e9);
        for namespace in ["open", "closed"] {
            for pod in pods(namespace) {
                let labels = [("namespace", namespace), ("pod", pod), ("container", "c")];
                add("container_cpu_usage_seconds_total", &labels, cpu);
                add("container_memory_working_set_bytes", &labels, 1e8);
                add("container_start_time_seconds", &labels, 1_795_000_000.0);
            }
        }
        scrape.commit();
    }
    kubelet
}

impl Answer {
    fn tells(&self, text: &str) -> bool {
        let mut pieces = self.body.windows(text.len());
        pieces.any(|it| it == text.as_bytes())
    }

    fn is(&self, media_type: &str) -> bool {
        self.headers
            .get(CONTENT_TYPE)
            .is_some_and(|it| it == media_type)
    }

    fn unknown(&self) -> Unknown {
        let envelope = self.body.strip_prefix(b"k8s\0").expect("the magic number");
        Unknown::decode(envelope).expect("an envelope")
    }

    /// How many items a list has, whatever it is encoded in; of an answer to HEAD nothing is known.
    fn items(&self) -> usize {
        if self.body.is_empty() {
            return 0;
        }
        if self.is(PROTOBUF) {
            let unknown = self.unknown();
            let kind = unknown.type_meta.map(|it| it.kind).unwrap_or_default();
            let is_list =
                kind.ends_with("List") && kind != "APIResourceList" && kind != "APIGroupList";
            let list = is_list.then(|| List::decode(&*unknown.raw).expect("a list"));
            return list.map_or(0, |list| list.items.len());
        }
        let value: Value = serde_json::from_slice(&self.body).expect("JSON");
        value["items"].as_array().map_or(0, Vec::len)
    }
}

fn read(text: &str) -> Option<(Method, Uri, HeaderMap)> {
    let mut lines = text.lines();
    let (method, uri) = lines.next()?.split_once(' ')?;
    let uri: Uri = uri.parse().ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let name: HeaderName = name.parse().ok()?;
        headers.append(name, value.trim().parse().ok()?);
    }
    Some((method.parse().ok()?, uri, headers))
}

/// `runtime.Unknown`, as `k8s.io/apimachinery/pkg/runtime/generated.proto` has it.
#[derive(Clone, PartialEq, prost::Message)]
struct Unknown {
    #[prost(message, optional, tag = "1")]
    type_meta: Option<TypeMeta>,
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
    #[prost(string, tag = "3")]
    content_encoding: String,
    #[prost(string, tag = "4")]
    content_type: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TypeMeta {
    #[prost(string, tag = "1")]
    api_version: String,
    #[prost(string, tag = "2")]
    kind: String,
}

/// Any list of Kubernetes.
#[derive(Clone, PartialEq, prost::Message)]
struct List {
    #[prost(bytes = "vec", repeated, tag = "2")]
    items: Vec<Vec<u8>>,
}
