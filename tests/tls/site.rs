//! A real server on loopback with certificates made for the test, a kube-apiserver that is faked, and its clients.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Extension, Request};
use axum::routing::get;
use futures_util::future::{self, BoxFuture, FutureExt};
use gpu_metrics_adapter::auth::{
    Authenticator, Authorizer, Decision, HEALTH_PATHS, RequestAttributes, ReviewError, Reviewer,
    Trust, User,
};
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::server::pki::{Authority, Pair};
use gpu_metrics_adapter::server::{
    Admission, Audit, AuditLog, Listen, Protection, Running, ServerMetrics, ServingCertificate,
    guarded, observed, protected, serve,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// No wait in these tests may be longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The name the aggregator would call the server by.
pub(crate) const HOST: &str = "adapter.custom-metrics.svc";

const LIFE: Duration = Duration::from_secs(3600);

pub(crate) const FRONT_PROXY_CA: &str = "requestheader-client-ca-file";
pub(crate) const CLIENT_CA: &str = "client-ca-file";

/// Knows the token `good`, lets `alice` and every authenticated user but `mallory` do all, and counts the questions.
#[derive(Default)]
pub(crate) struct KubeApiserver {
    pub(crate) token_reviews: AtomicUsize,
    pub(crate) access_reviews: AtomicUsize,
}

impl Reviewer for KubeApiserver {
    fn token_review<'a>(
        &'a self,
        token: &'a str,
    ) -> BoxFuture<'a, Result<Option<User>, ReviewError>> {
        self.token_reviews.fetch_add(1, Ordering::SeqCst);
        let answer = match token {
            "good" => Ok(Some(User {
                name: "token-user".to_owned(),
                groups: vec!["tokens".to_owned()],
                ..User::default()
            })),
            "unlucky" => Err(ReviewError::Failed("connection refused".into())),
            _ => Ok(None),
        };
        future::ready(answer).boxed()
    }

    fn subject_access_review<'a>(
        &'a self,
        user: &'a User,
        _: &'a RequestAttributes,
    ) -> BoxFuture<'a, Result<Decision, ReviewError>> {
        self.access_reviews.fetch_add(1, Ordering::SeqCst);
        let answer = match user.name.as_str() {
            "mallory" => Err(ReviewError::Failed("connection refused".into())),
            _ => Ok(Decision {
                allowed: user
                    .groups
                    .iter()
                    .any(|group| group == "system:authenticated"),
                reason: String::new(),
            }),
        };
        future::ready(answer).boxed()
    }
}

/// A server, everything it trusts, and everything that is to be trusted of it.
pub(crate) struct Site {
    pub(crate) running: Option<Running>,
    pub(crate) address: SocketAddr,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) kube_apiserver: Arc<KubeApiserver>,
    pub(crate) serving: ServingCertificate,
    pub(crate) serving_ca: Authority,
    pub(crate) cluster_ca: Authority,
    pub(crate) front_proxy_ca: Authority,
    pub(crate) metrics: ServerMetrics,
    pub(crate) draining: CancellationToken,
    /// A request to `/gate` counts itself in here …
    pub(crate) waiting: Arc<Semaphore>,
    /// … and ends when it gets a permit from here.
    pub(crate) gate: Arc<Semaphore>,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::start_with(Admission::default()).await
    }

    pub(crate) async fn start_with(admission: Admission) -> Self {
        Self::start_audited(admission, None).await
    }

    /// As [`Site::start_with`], with a line in this file for each request.
    pub(crate) async fn start_audited(admission: Admission, log: Option<&Path>) -> Self {
        // reqwest takes the process's provider; a second test finds it installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let [serving_ca, cluster_ca, front_proxy_ca] =
            ["serving-ca", "cluster-ca", "front-proxy-ca"].map(authority);
        let kube_apiserver = Arc::new(KubeApiserver::default());
        let authenticator = Arc::new(Authenticator::new(kube_apiserver.clone()));
        authenticator.set_trust(trust(&[
            (CLIENT_CA, cluster_ca.certificate()),
            (FRONT_PROXY_CA, front_proxy_ca.certificate()),
        ]));
        let authorizer = Arc::new(Authorizer::new(kube_apiserver.clone(), HEALTH_PATHS));
        let serving = serving(&serving_ca);
        let metrics = ServerMetrics::default();
        let draining = CancellationToken::new();
        let (waiting, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let wait = {
            let (waiting, gate) = (waiting.clone(), gate.clone());
            async move || {
                waiting.add_permits(1);
                gate.acquire().await.unwrap().forget();
                "through"
            }
        };
        let router = Router::new()
            .route("/readyz", get(async || "ok"))
            .route("/gate", get(wait))
            .fallback(who_am_i);
        let router = guarded(router, authenticator.clone(), authorizer, &metrics);
        let router = protected(router, Protection::default(), &metrics);
        let log = log.map(|path| AuditLog::File(path.to_owned()));
        let audit = log.map(|log| Audit::open(&log, &metrics).unwrap());
        let router = observed(router, &metrics, audit);
        let listen = Listen {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            certificate: serving.clone(),
            admission,
            draining: draining.clone(),
            metrics: metrics.clone(),
        };
        let running = serve(listen, router).await.unwrap();
        Self {
            address: running.address(),
            running: Some(running),
            authenticator,
            kube_apiserver,
            serving,
            serving_ca,
            cluster_ca,
            front_proxy_ca,
            metrics,
            draining,
            waiting,
            gate,
        }
    }

    /// The certificate with which a kube-apiserver's aggregator comes.
    pub(crate) fn front_proxy(&self) -> Pair {
        client(&self.front_proxy_ca, "front-proxy-client", None)
    }

    /// A client that believes the server's authority and shows the certificate, if there is one.
    pub(crate) fn client(&self, identity: Option<&Pair>, http2: bool) -> reqwest::Client {
        self.client_trusting(&self.serving_ca, identity, http2)
    }

    /// One that calls from another address of loopback.
    pub(crate) fn client_at(&self, address: &str, http2: bool) -> reqwest::Client {
        let builder = self.builder(&self.serving_ca, None, http2);
        let address = address.parse::<IpAddr>().unwrap();
        builder.local_address(address).build().unwrap()
    }

    pub(crate) fn client_trusting(
        &self,
        authority: &Authority,
        identity: Option<&Pair>,
        http2: bool,
    ) -> reqwest::Client {
        self.builder(authority, identity, http2).build().unwrap()
    }

    fn builder(
        &self,
        authority: &Authority,
        identity: Option<&Pair>,
        http2: bool,
    ) -> reqwest::ClientBuilder {
        let root = reqwest::Certificate::from_pem(authority.certificate().as_bytes()).unwrap();
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .resolve(HOST, self.address)
            .timeout(PATIENCE)
            .tls_certs_only([root]);
        if let Some(pair) = identity {
            let pem = format!("{}{}", pair.certificate, pair.key);
            builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
        }
        if !http2 {
            builder = builder.http1_only();
        }
        builder
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{HOST}:{}{path}", self.address.port())
    }

    /// Status and body of a GET with the given headers.
    pub(crate) async fn get(
        &self,
        client: &reqwest::Client,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (u16, Value) {
        let mut request = client.get(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or(Value::Null))
    }
}

/// A folder of this test alone, gone afterwards.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Answers with everything the door let through.
async fn who_am_i(
    Extension(user): Extension<User>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> axum::Json<Value> {
    let mut headers: Vec<_> = request.headers().keys().map(|name| name.as_str()).collect();
    headers.sort_unstable();
    axum::Json(json!({
        "user": user.name,
        "uid": user.uid,
        "groups": user.groups,
        "extra": user.extra,
        "headers": headers,
        "connection": peer.port(),
        "version": format!("{:?}", request.version()),
    }))
}

pub(crate) fn authority(name: &str) -> Authority {
    Authority::generate(name, LIFE, Timestamp::now()).unwrap()
}

pub(crate) fn client(authority: &Authority, name: &str, group: Option<&str>) -> Pair {
    authority
        .client(name, group, LIFE, Timestamp::now())
        .unwrap()
}

pub(crate) fn serving_pair(authority: &Authority) -> Pair {
    authority.serving(&[HOST], LIFE, Timestamp::now()).unwrap()
}

pub(crate) fn serving(authority: &Authority) -> ServingCertificate {
    let pair = serving_pair(authority);
    ServingCertificate::from_pem(pair.certificate.as_bytes(), pair.key.as_bytes()).unwrap()
}

/// Trust in the given authorities, the rest as a kube-apiserver writes it.
pub(crate) fn trust(authorities: &[(&str, &str)]) -> Trust {
    let standard = [
        ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#),
        ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
        (
            "requestheader-extra-headers-prefix",
            r#"["X-Remote-Extra-"]"#,
        ),
    ];
    let data: BTreeMap<_, _> = standard
        .iter()
        .chain(authorities)
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    Trust::from_config_map(&data).unwrap()
}

/// A TLS configuration of one version, for clients that are not reqwest's.
pub(crate) fn tls(
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
    identity: Option<(&Pair, &str)>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(der(authority.certificate())).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => config.with_no_client_auth(),
        // Set directly, as the builder would look whether the key is the certificate's.
        Some((pair, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            let key = provider.key_provider.load_private_key(key).unwrap();
            let shown = rustls::sign::CertifiedKey::new(vec![der(&pair.certificate)], key);
            config.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)))
        }
    };
    Arc::new(config)
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// Waits until the condition holds; it is asked again and again, as nothing tells when it changes.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, poll).await;
    assert!(in_time.is_ok(), "never happened: {what}");
}
