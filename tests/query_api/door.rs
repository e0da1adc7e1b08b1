//! Who gets to the API: behind TLS those that prove who they are and may; on the port for debugging this machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use gpu_metrics_adapter::app::{Core, Front, Opened, Tasks, open};
use gpu_metrics_adapter::auth::{
    Authenticator, Authorizer, Decision, HEALTH_PATHS, RequestAttributes, ReviewError, Reviewer,
    Trust, User,
};
use gpu_metrics_adapter::cluster::StaticMapper;
use gpu_metrics_adapter::config::Config;
use gpu_metrics_adapter::config::scrape::{Job, StaticTargets};
use gpu_metrics_adapter::model::objects::NoObjects;
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::server::pki::Authority;
use gpu_metrics_adapter::server::{
    Admission, Listen, ServeError, ServerMetrics, ServingCertificate, serve_plain,
};
use gpu_metrics_adapter::telemetry::Reloads;
use reqwest::Client;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// No wait may be longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Knows two tokens; `grafana` may do what a ClusterRole for `/api/v1/*` with `get` and `post` allows.
struct KubeApiserver;

impl Reviewer for KubeApiserver {
    fn token_review<'a>(
        &'a self,
        token: &'a str,
    ) -> BoxFuture<'a, Result<Option<User>, ReviewError>> {
        let user = User {
            name: token.to_owned(),
            ..User::default()
        };
        let known = matches!(token, "grafana" | "nobody").then_some(user);
        ready(Ok(known)).boxed()
    }

    fn subject_access_review<'a>(
        &'a self,
        user: &'a User,
        attributes: &'a RequestAttributes,
    ) -> BoxFuture<'a, Result<Decision, ReviewError>> {
        let granted = match attributes {
            RequestAttributes::NonResource { verb, path } => {
                matches!(verb.as_str(), "get" | "post") && path.starts_with("/api/v1/")
            }
            RequestAttributes::Resource { .. } => false,
        };
        ready(Ok(Decision {
            allowed: granted && user.name == "grafana",
            reason: String::new(),
        }))
        .boxed()
    }
}

/// The adapter, scraping an exporter with one page, and one that is down.
pub(crate) struct Site {
    opened: Opened,
    authority: String,
    _cancel: DropGuard,
}

impl Site {
    pub(crate) async fn open() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let exporter = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut config = Config::default();
        config.scrape.interval = Duration::from_secs(1);
        config.scrape.timeout = Duration::from_secs(1);
        config.scrape.scrape_configs = vec![Job {
            job_name: "gpu".to_owned(),
            static_configs: vec![StaticTargets {
                // The second is down: nothing listens on port 1.
                targets: vec![
                    exporter.local_addr().unwrap().to_string(),
                    "127.0.0.1:1".to_owned(),
                ],
                ..StaticTargets::default()
            }],
            ..Job::default()
        }];
        let page = get(async || "util{pod=\"a\"} 40.5\n");
        let pages = Router::new().route("/metrics", page);
        tokio::spawn(async move { axum::serve(exporter, pages).await });

        let core = Core::build(&config, Arc::new(NoObjects), Arc::new(StaticMapper)).unwrap();
        let tasks = Tasks::default();
        core.start(None, &tasks);

        let life = Duration::from_secs(3600);
        let authority = Authority::generate("test-ca", life, Timestamp::now()).unwrap();
        let pair = authority
            .serving(&["127.0.0.1"], life, Timestamp::now())
            .unwrap();
        let (chain, key) = (pair.certificate.as_bytes(), pair.key.as_bytes());
        let reviewer: Arc<dyn Reviewer> = Arc::new(KubeApiserver);
        let authenticator = Authenticator::new(Arc::clone(&reviewer));
        let trust = [(
            "client-ca-file".to_owned(),
            authority.certificate().to_owned(),
        )];
        authenticator.set_trust(Trust::from_config_map(&trust.into()).unwrap());
        let front = Front {
            listen: Listen {
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                certificate: ServingCertificate::from_pem(chain, key).unwrap(),
                admission: Admission::default(),
                draining: CancellationToken::new(),
                metrics: ServerMetrics::default(),
            },
            authenticator: Arc::new(authenticator),
            authorizer: Arc::new(Authorizer::new(reviewer, HEALTH_PATHS)),
            checks: Vec::new(),
            schedules: None,
            fallback: None,
            reloads: Some(Reloads::new(Timestamp::now())),
            audit: None,
            debug_address: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        };
        Self {
            opened: open(&core, front).await.unwrap(),
            authority: authority.certificate().to_owned(),
            _cancel: tasks.token().drop_guard(),
        }
    }

    pub(crate) fn client(&self) -> Client {
        let authority = reqwest::Certificate::from_pem(self.authority.as_bytes()).unwrap();
        Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .tls_certs_only([authority])
            .build()
            .unwrap()
    }

    pub(crate) fn debug(&self, path: &str) -> String {
        format!("http://{}{path}", self.opened.debug_address().unwrap())
    }

    pub(crate) fn secure(&self, path: &str) -> String {
        format!("https://{}{path}", self.opened.address())
    }

    /// Asks until the exporter's value is there.
    pub(crate) async fn wait_for_value(&self, client: &Client) -> serde_json::Value {
        let url = self.debug("/api/v1/query?query=util");
        until(async || {
            let text = client.get(&url).send().await.unwrap().text().await.unwrap();
            let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
            let element = &answer["data"]["result"][0];
            element.is_object().then(|| element.clone())
        })
        .await
    }

    /// Asks for the own metrics until they tell of a scrape that failed.
    pub(crate) async fn wait_for_failure(&self, client: &Client) -> String {
        let url = self.debug("/metrics");
        until(async || {
            let text = client.get(&url).send().await.unwrap().text().await.unwrap();
            let failed = text.contains("gpu_metrics_adapter_scrapes_failed_total{");
            failed.then_some(text)
        })
        .await
    }
}

async fn until<T>(mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = attempt().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_debug_port_serves_queries_metrics_and_health_to_this_machine() {
    let site = Site::open().await;
    let client = site.client();
    let element = site.wait_for_value(&client).await;
    assert_eq!(element["metric"]["pod"], "a");
    assert_eq!(element["value"][1], "40.5");
    let code = async |path: &str| {
        let sent = client.get(site.debug(path)).send().await.unwrap();
        sent.status().as_u16()
    };
    for path in ["/metrics", "/livez", "/readyz", "/api/v1/targets"] {
        assert_eq!(code(path).await, 200, "{path}");
    }
    for path in [
        "/",
        "/apis",
        "/apis/custom.metrics.k8s.io/v1beta2",
        "/version",
    ] {
        assert_eq!(code(path).await, 404, "{path}");
    }
    let sent = client.get(site.debug("/metrics")).send().await.unwrap();
    let metrics = sent.text().await.unwrap();
    let counted = "gpu_metrics_adapter_queries_total{outcome=\"success\"}";
    assert!(metrics.contains(counted), "{metrics}");
    // A page that has its own name resolve to loopback must not read it through a browser.
    for (host, expected) in [
        ("evil.example:9090", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost:9090", 200),
        ("127.0.0.1", 200),
        ("[::1]:9090", 200),
    ] {
        let request = client
            .get(site.debug("/api/v1/labels"))
            .header("host", host);
        let code = request.send().await.unwrap().status().as_u16();
        assert_eq!(code, expected, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_tls_queries_need_identity_and_permission() {
    let site = Site::open().await;
    let client = site.client();
    let ask = async |token: Option<&str>| {
        let mut request = client.post(site.secure("/api/v1/query?query=up"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask(Some("grafana")).await, 200);
    assert_eq!(ask(Some("nobody")).await, 403);
    assert_eq!(ask(Some("forged")).await, 401);
    assert!(matches!(ask(None).await, 401 | 403));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_asks_the_debug_port() {
    let site = Site::open().await;
    site.wait_for_value(&site.client()).await;
    let url = site.debug("");
    let program = env!("CARGO_BIN_EXE_gpu-metrics-adapter");
    let run = async |arguments: &[&str]| {
        let command = tokio::process::Command::new(program)
            .args(["query", "--url", &url])
            .args(arguments)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, command)
            .await
            .unwrap()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (text, output.status.code())
    };
    let (table, code) = run(&["sum(util) by (pod)"]).await;
    assert_eq!(
        (table.as_str(), code),
        ("VALUE  SERIES\n40.5   {pod=\"a\"}\n", Some(0))
    );
    let (json, code) = run(&["up{", "-o", "json"]).await;
    assert!(json.starts_with(r#"{"status":"error","errorType":"bad_data""#));
    assert_eq!(code, Some(1));
}

#[tokio::test]
async fn nothing_but_loopback_is_served_without_tls() {
    let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let metrics = ServerMetrics::default();
    let refused = serve_plain(all, &Admission::default(), metrics, Router::new()).await;
    assert!(matches!(refused, Err(ServeError::NotLoopback(address)) if address == all));
}
