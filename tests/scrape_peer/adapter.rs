//! The adapter that scrapes: its own jobs, store and query API, without a cluster.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use gpu_metrics_adapter::app::{Core, Front, Opened, Tasks, open};
use gpu_metrics_adapter::auth::{
    Authenticator, Authorizer, Decision, HEALTH_PATHS, RequestAttributes, ReviewError, Reviewer,
    User,
};
use gpu_metrics_adapter::cluster::StaticMapper;
use gpu_metrics_adapter::config::Config;
use gpu_metrics_adapter::model::objects::NoObjects;
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::server::pki::Authority;
use gpu_metrics_adapter::server::{Admission, Listen, ServerMetrics, ServingCertificate};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::compare::Peer;

/// Nobody may anything.
struct Nobody;

impl Reviewer for Nobody {
    fn token_review<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<User>, ReviewError>> {
        ready(Ok(None)).boxed()
    }

    fn subject_access_review<'a>(
        &'a self,
        _: &'a User,
        _: &'a RequestAttributes,
    ) -> BoxFuture<'a, Result<Decision, ReviewError>> {
        ready(Ok(Decision {
            allowed: false,
            reason: String::new(),
        }))
        .boxed()
    }
}

pub(crate) struct Adapter {
    pub(crate) peer: Peer,
    _opened: Opened,
    _cancel: DropGuard,
}

impl Adapter {
    /// Starts one with these jobs, in YAML.
    pub(crate) async fn start(jobs: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = format!(
            "scrape:\n  interval: 1s\n  timeout: 1s\n  presets: []\n  scrape_configs:\n{jobs}"
        );
        let config = Config::parse(&config).unwrap_or_else(|error| panic!("{error}\n{config}"));
        let core = Core::build(&config, Arc::new(NoObjects), Arc::new(StaticMapper)).unwrap();
        let tasks = Tasks::default();
        core.start(None, &tasks);
        let life = Duration::from_secs(3_600);
        let authority = Authority::generate("test-ca", life, Timestamp::now()).unwrap();
        let pair = authority
            .serving(&["127.0.0.1"], life, Timestamp::now())
            .unwrap();
        let (chain, key) = (pair.certificate.as_bytes(), pair.key.as_bytes());
        let reviewer: Arc<dyn Reviewer> = Arc::new(Nobody);
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let front = Front {
            listen: Listen {
                address: loopback,
                certificate: ServingCertificate::from_pem(chain, key).unwrap(),
                admission: Admission::default(),
                draining: CancellationToken::new(),
                metrics: ServerMetrics::default(),
            },
            authenticator: Arc::new(Authenticator::new(Arc::clone(&reviewer))),
            authorizer: Arc::new(Authorizer::new(reviewer, HEALTH_PATHS)),
            checks: Vec::new(),
            reloads: None,
            schedules: None,
            fallback: None,
            audit: None,
            debug_address: Some(loopback),
        };
        let opened = open(&core, front).await.unwrap();
        let url = format!("http://{}", opened.debug_address().unwrap());
        Self {
            peer: Peer::at(&url),
            _opened: opened,
            _cancel: tasks.token().drop_guard(),
        }
    }
}
