//! The real adapter over the simulated cluster: its own certificates, trust and permissions, on loopback.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use tokio_util::sync::CancellationToken;

use crate::app::{Core, Front, Opened, Tasks, open};
use crate::auth::{
    Authenticator, Authorizer, Decision, HEALTH_PATHS, RequestAttributes, ReviewError, Reviewer,
    Trust, User,
};
use crate::cluster::StaticMapper;
use crate::config::Config;
use crate::config::scrape::{Job, StaticTargets};
use crate::model::time::Timestamp;
use crate::server::pki::{Authority, Pair};
use crate::server::{Admission, Drain, Listen, ServerMetrics, ServingCertificate};

use super::fleet::Fleet;

/// Who the HPA is in a cluster.
pub(super) const HPA_USER: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";

/// The name of the simulated front proxy.
const FRONT_PROXY: &str = "front-proxy-client";

/// How long the demo's certificates live; it runs for minutes.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// How often the exporters are scraped.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(2);

/// The running adapter.
pub(super) struct Site {
    running: Opened,
    address: SocketAddr,
    authority: String,
    front_proxy: Pair,
    folder: Folder,
    tasks: Tasks,
}

impl Site {
    /// Starts the adapter on `port` of loopback, scraping the exporters of `fleet`.
    pub(super) async fn open(fleet: &Fleet, port: u16) -> anyhow::Result<Self> {
        let now = Timestamp::now();
        let cluster = Authority::generate("demo-cluster-ca", LIFE, now)?;
        let proxies = Authority::generate("demo-front-proxy-ca", LIFE, now)?;
        let serving = cluster.serving(&["localhost", "127.0.0.1"], LIFE, now)?;
        let admin = cluster.client("demo-admin", Some("system:masters"), LIFE, now)?;
        let front_proxy = proxies.client(FRONT_PROXY, None, LIFE, now)?;

        let core = Core::build(
            &config(fleet),
            Arc::new(fleet.pods().clone()),
            Arc::new(StaticMapper),
        )?;
        let tasks = Tasks::default();
        core.start(None, &tasks);

        let authenticator = Arc::new(Authenticator::new(Arc::new(Permissions)));
        authenticator.set_trust(Trust::from_config_map(&trust(&cluster, &proxies))?);
        let listen = Listen {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            certificate: ServingCertificate::from_pem(
                serving.certificate.as_bytes(),
                serving.key.as_bytes(),
            )?,
            admission: Admission::default(),
            draining: CancellationToken::new(),
            metrics: ServerMetrics::default(),
        };
        let authorizer = Arc::new(Authorizer::new(Arc::new(Permissions), HEALTH_PATHS));
        let running = open(
            &core,
            Front {
                listen,
                authenticator,
                authorizer,
                checks: Vec::new(),
                reloads: None,
                schedules: None,
                fallback: None,
                audit: None,
                debug_address: None,
            },
        )
        .await?;
        let authority = cluster.certificate().to_owned();
        let folder = Folder::with(&authority, &admin)?;
        Ok(Self {
            address: running.address(),
            running,
            authority,
            front_proxy,
            folder,
            tasks,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate that clients are to trust.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// What the front proxy proves itself with.
    pub(super) fn front_proxy(&self) -> &Pair {
        &self.front_proxy
    }

    /// A command that asks the same from another terminal, as a cluster's administrator.
    pub(super) fn curl_line(&self, path: &str) -> String {
        let folder = self.folder.0.display();
        let credentials =
            format!("--cacert {folder}/ca.crt --cert {folder}/admin.crt --key {folder}/admin.key");
        format!("curl {credentials} 'https://{}{path}'", self.address)
    }

    /// Stops the server and everything behind it.
    pub(super) async fn close(self) {
        self.running
            .drain(Drain {
                notice: Duration::ZERO,
                finish: Duration::from_secs(1),
            })
            .await;
        self.tasks.stop().await;
    }
}

fn config(fleet: &Fleet) -> Config {
    let targets = fleet
        .nodes()
        .iter()
        .map(|node| node.address.to_string())
        .collect();
    let mut config = Config::default();
    config.scrape.interval = SCRAPE_INTERVAL;
    config.scrape.timeout = SCRAPE_INTERVAL;
    config.scrape.scrape_configs = vec![Job {
        job_name: "demo".to_owned(),
        static_configs: vec![StaticTargets {
            targets,
            ..StaticTargets::default()
        }],
        ..Job::default()
    }];
    config
}

/// What kube-apiserver would publish.
fn trust(cluster: &Authority, proxies: &Authority) -> BTreeMap<String, String> {
    let list = |name: &str| format!("[{name:?}]");
    BTreeMap::from([
        (
            "client-ca-file".to_owned(),
            cluster.certificate().to_owned(),
        ),
        (
            "requestheader-client-ca-file".to_owned(),
            proxies.certificate().to_owned(),
        ),
        ("requestheader-allowed-names".to_owned(), list(FRONT_PROXY)),
        (
            "requestheader-username-headers".to_owned(),
            list("X-Remote-User"),
        ),
        (
            "requestheader-group-headers".to_owned(),
            list("X-Remote-Group"),
        ),
        (
            "requestheader-extra-headers-prefix".to_owned(),
            list("X-Remote-Extra-"),
        ),
    ])
}

/// The permissions of the simulated cluster: the HPA may read metrics, tokens are nobody's.
struct Permissions;

impl Reviewer for Permissions {
    fn token_review<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<User>, ReviewError>> {
        ready(Ok(None)).boxed()
    }

    fn subject_access_review<'a>(
        &'a self,
        user: &'a User,
        attributes: &'a RequestAttributes,
    ) -> BoxFuture<'a, Result<Decision, ReviewError>> {
        let reads = matches!(attributes, RequestAttributes::Resource { verb, .. } if verb == "get");
        ready(Ok(Decision {
            allowed: reads && user.name == HPA_USER,
            reason: String::new(),
        }))
        .boxed()
    }
}

/// The files that the `curl` line names; they go with the demo.
struct Folder(PathBuf);

impl Folder {
    fn with(authority: &str, admin: &Pair) -> anyhow::Result<Self> {
        let path =
            std::env::temp_dir().join(format!("gpu-metrics-adapter-demo-{}", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        let folder = Self(path);
        for (name, text) in [
            ("ca.crt", authority),
            ("admin.crt", &admin.certificate),
            ("admin.key", &admin.key),
        ] {
            let path = folder.0.join(name);
            write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(folder)
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
