//! The adapter in a cluster: what is started, in which order, and how it stops.
//!
//! Order of stopping: not ready, notice, no more connections, requests finished; then scrapes and watches. A second signal
//! ends the process at once.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::api::Check;
use crate::auth::{Authenticator, Authorizer, HEALTH_PATHS, Trust};
use crate::cluster::connect::ConnectError;
pub use crate::cluster::registration::ServiceName;
use crate::cluster::registration::{Registered, Registration};
use crate::cluster::trust::TrustState;
use crate::cluster::{self, Metered, Objects};
use crate::config::Config;
use crate::cronhpa::{self, Controller};
use crate::fallback::Fallback;
use crate::model::objects::ResourceMapper;
use crate::model::time::Timestamp;
use crate::schedule::status::Defaults;
use crate::server::pki::PkiError;
use crate::server::{
    Admission, Audit, AuditError, AuditLog, CertificateError, CertificateFiles, Drain, Listen,
    ServeError, ServerMetrics, ServingCertificate, TlsTerms,
};
use crate::telemetry::Reloads;

use super::identity::OwnCertificate;
pub use super::identity::OwnCertificateError;
use super::identity::temporary;
pub use super::reload::ConfigFile;
use super::reload::Reload;
use super::reviewer::ClusterReviewer;
use super::{BuildError, Core, Front, Tasks, open};

/// The APIServices that may be ours. There is one owner of external.metrics.k8s.io in a cluster, and it may be another.
const API_SERVICES: [Registered; 3] = [
    registered("v1beta1.custom.metrics.k8s.io", true),
    registered("v1beta2.custom.metrics.k8s.io", true),
    registered("v1beta1.external.metrics.k8s.io", false),
];

/// Those that are ours, too, where resource metrics are served.
const RESOURCE_API_SERVICES: [Registered; 2] = [
    registered("v1beta1.metrics.k8s.io", true),
    // kube-apiserver has it from the version on in which metrics.k8s.io is stable; an HPA asks the other.
    registered("v1.metrics.k8s.io", true),
];

const fn registered(name: &'static str, expected: bool) -> Registered {
    Registered { name, expected }
}

/// How long a new replica is not ready for want of the first list of pods. After that it is ready without: a group that
/// does not answer would keep namespaces from being deleted.
const FIRST_LIST: Duration = Duration::from_secs(30);

/// How long requests may take to finish once the server stops.
const FINISH: Duration = Duration::from_secs(15);

/// How the adapter is run.
#[derive(Debug)]
pub struct Settings {
    /// The configuration.
    pub config: Config,
    /// The file it stands in, to be followed.
    pub config_file: Option<ConfigFile>,
    /// The kubeconfig outside a cluster; inside, the service account is used.
    pub kubeconfig: Option<PathBuf>,
    /// Where to listen.
    pub address: SocketAddr,
    /// The Service that the APIServices refer to.
    pub service: ServiceName,
    /// Where its certificate comes from.
    pub certificate: CertificateSource,
    /// An address of loopback to serve for debugging, without TLS and authentication.
    pub debug_address: Option<SocketAddr>,
    /// Which TLS is spoken to clients.
    pub tls: TlsTerms,
    /// Where each request is written down, if anywhere.
    pub audit_log: Option<AuditLog>,
    /// How long to go on serving after the signal to stop, until the endpoints know.
    pub shutdown_delay: Duration,
}

/// Where a certificate to serve with comes from.
#[derive(Clone, Debug)]
pub enum CertificateSource {
    /// The adapter makes it, keeps it in a Secret, and keeps the `caBundle` of its APIServices.
    Own,
    /// Files that someone else renews.
    Files {
        /// The chain, leaf first.
        chain: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// It is made at the start and kept nowhere: for APIServices that are told not to verify it, as prometheus-adapter's are.
    Temporary,
}

/// Why the adapter does not, or no longer, serve.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration's rules or jobs are faulty.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// There is no way to the cluster.
    #[error("cannot reach the cluster")]
    Connect(#[from] ConnectError),
    /// There is no certificate in the files.
    #[error("cannot serve with the given certificate")]
    Certificate(#[from] CertificateError),
    /// The adapter's own certificate cannot be had.
    #[error("no serving certificate")]
    OwnCertificate(#[from] OwnCertificateError),
    /// A certificate cannot be made.
    #[error("cannot make a certificate")]
    Temporary(#[from] PkiError),
    /// What is to be written down cannot be.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// It cannot listen.
    #[error("cannot serve")]
    Serve(#[from] ServeError),
    /// A part of it has ended; a new process is better than half a one.
    #[error("the task {0} has ended by itself")]
    Task(&'static str),
    /// The system does not deliver signals.
    #[error("cannot wait for signals")]
    Signals(#[from] std::io::Error),
}

/// Serves until a signal says stop.
///
/// # Errors
/// Where it cannot begin, or the server ends by itself.
pub async fn run(settings: Settings) -> Result<(), RunError> {
    let mut stop = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let client = cluster::connect(settings.kubeconfig.as_deref()).await?;
    let tasks = Tasks::default();

    let (objects, watches) = cluster::watch_objects(client.clone());
    tasks.spawn("pod watch", watches.run(tasks.token()));
    let (mapper, discovery) = cluster::discover(client.clone());
    tasks.spawn("discovery", discovery.run(tasks.token()));
    let mapper: Arc<dyn ResourceMapper> = mapper;
    let mut core = Core::build(
        &settings.config,
        Arc::clone(&objects) as _,
        Arc::clone(&mapper),
    )?;
    for (rule, problem) in core.provider.check_rules() {
        if let Some(problem) = problem {
            warn!(%rule, problem, "rule cannot be evaluated; its metrics say so");
        }
    }
    let metered = settings.config.resource_metrics.then(|| {
        let (metered, watches) = cluster::watch_metered(client.clone());
        tasks.spawn("metered watch", watches.run(tasks.token()));
        core.serve_resource_metrics(Arc::clone(&metered) as _);
        metered
    });
    for (rule, problem) in core.check_resource_rules() {
        if let Some(problem) = problem {
            warn!(
                rule,
                problem, "query cannot be evaluated; metrics.k8s.io says so"
            );
        }
    }
    let schedules = settings.config.schedules.enabled.then(|| {
        let controller = Controller::new(client.clone(), mapper, schedule_settings(&settings));
        core.provider.serve_floors(controller.floors());
        let standing = controller.standing();
        tasks.spawn("schedules", controller.run(tasks.token()));
        standing
    });
    let fallback = settings.config.external_fallback.as_ref();
    let fallback = fallback.and_then(Fallback::new).map(Arc::new);
    if let Some(fallback) = &fallback {
        tasks.spawn("external fallback", Arc::clone(fallback).run(tasks.token()));
    }
    let core = Arc::new(core);
    core.start(Some(client.clone()), &tasks);
    let reloads = settings.config_file.clone().map(|file| {
        let reloads = Reloads::new(Timestamp::now());
        let config = settings.config.clone();
        let reload = Reload::new(file, config, Arc::clone(&core), reloads.clone());
        tasks.spawn("reload", reload.run(tasks.token()));
        reloads
    });

    let reviewer = Arc::new(ClusterReviewer {
        client: client.clone(),
    });
    let authenticator = Arc::new(Authenticator::new(Arc::clone(&reviewer) as _));
    let (trust, watch) = cluster::watch_trust(client.clone());
    tasks.spawn("trust watch", watch.run(tasks.token()));
    let followed = follow_trust(trust.clone(), Arc::clone(&authenticator), tasks.token());
    tasks.spawn("trust", followed);
    let certificate = tokio::select! {
        certificate = certificate(&settings, &client, &tasks) => certificate?,
        _ = stop.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };

    let listen = Listen {
        address: settings.address,
        certificate,
        admission: Admission {
            tls: settings.tls.clone(),
            ..Admission::default()
        },
        draining: CancellationToken::new(),
        metrics: ServerMetrics::default(),
    };
    let audit = settings.audit_log.as_ref();
    let audit = audit.map(|log| Audit::open(log, &listen.metrics));
    let front = Front {
        listen,
        authenticator: Arc::clone(&authenticator),
        authorizer: Arc::new(Authorizer::new(reviewer, HEALTH_PATHS)),
        checks: checks(authenticator, trust, objects, metered),
        reloads,
        schedules,
        fallback,
        audit: audit.transpose()?,
        debug_address: settings.debug_address,
    };
    let mut running = open(&core, front).await?;
    info!(address = %running.address(), service = %settings.service, "serving");
    if let Some(address) = running.debug_address() {
        info!(%address, "serving queries without authentication, to this machine only");
    }

    let mut lost = None;
    tokio::select! {
        _ = stop.recv() => {}
        _ = interrupt.recv() => {}
        error = running.ended() => {
            error!(error = &error as &dyn std::error::Error, "the server has ended");
            return Err(error.into());
        }
        name = tasks.lost() => lost = Some(name),
    }
    info!("stopping; a second signal ends at once");
    let drain = Drain {
        notice: settings.shutdown_delay,
        finish: FINISH,
    };
    let orderly = async {
        let cut_off = running.drain(drain).await;
        if cut_off > 0 {
            warn!(connections = cut_off, "connections cut off");
        }
        tasks.stop().await;
    };
    tokio::select! {
        () = orderly => {}
        _ = stop.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("stopped");
    lost.map_or(Ok(()), |name| Err(RunError::Task(name)))
}

/// How schedules are run.
fn schedule_settings(settings: &Settings) -> cronhpa::Settings {
    let schedules = &settings.config.schedules;
    // The pod's name, and what tells this process from the one before it.
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| settings.service.name.clone());
    let random = RandomState::new().hash_one(std::process::id());
    cronhpa::Settings {
        namespace: settings.service.namespace.clone(),
        identity: format!("{host}_{random:016x}"),
        defaults: Defaults {
            zone: schedules.zone().unwrap_or(TimeZone::UTC),
            catch_up: schedules.catch_up,
        },
    }
}

/// The certificate to serve with, and the tasks that keep it, and what others believe of it, current.
async fn certificate(
    settings: &Settings,
    client: &kube::Client,
    tasks: &Tasks,
) -> Result<ServingCertificate, RunError> {
    match &settings.certificate {
        CertificateSource::Own => {}
        CertificateSource::Files { chain, key } => {
            let files = CertificateFiles::load(chain, key).await?;
            let certificate = files.certificate();
            tasks.spawn("certificate files", files.keep_current(tasks.token()));
            return Ok(certificate);
        }
        CertificateSource::Temporary => {
            let pair = temporary(&settings.service, Timestamp::now())?;
            let (chain, key) = (pair.certificate.as_bytes(), pair.key.as_bytes());
            return Ok(ServingCertificate::from_pem(chain, key)?);
        }
    }
    let own = OwnCertificate::load(client.clone(), settings.service.clone()).await?;
    let mut names = API_SERVICES.to_vec();
    if settings.config.resource_metrics {
        names.extend(RESOURCE_API_SERVICES);
    }
    let registration = Registration::new(
        client.clone(),
        names,
        settings.service.clone(),
        own.authority(),
    );
    tasks.spawn("registration", registration.run(tasks.token()));
    let certificate = own.certificate();
    tasks.spawn("certificate", own.keep_current(tasks.token()));
    Ok(certificate)
}

/// Hands every usable state of the trust ConfigMap to the authenticator. One that cannot be read changes nothing.
async fn follow_trust(
    trust: cluster::Trust,
    authenticator: Arc<Authenticator>,
    cancel: CancellationToken,
) {
    let mut data = trust.data();
    loop {
        let map = data.borrow_and_update().clone();
        match map.as_ref().map(Trust::from_config_map) {
            None => {}
            Some(Ok(trust)) => authenticator.set_trust(trust),
            Some(Err(error)) => error!(
                error = &error as &dyn std::error::Error,
                "ConfigMap kube-system/extension-apiserver-authentication is not usable; the trust before it stays"
            ),
        }
        if !matches!(
            cancel.run_until_cancelled(data.changed()).await,
            Some(Ok(()))
        ) {
            return;
        }
    }
}

/// What readiness depends on. Never on data: the exporters may all be dead.
fn checks(
    authenticator: Arc<Authenticator>,
    trust: cluster::Trust,
    objects: Arc<Objects>,
    metered: Option<Arc<Metered>>,
) -> Vec<Check> {
    let started = Instant::now();
    let trust = move || {
        if authenticator.has_trust() {
            return Ok(());
        }
        let why = match trust.state() {
            TrustState::Unknown => "has not been read yet".to_owned(),
            TrustState::Present => "is not usable; the log says why".to_owned(),
            TrustState::Missing => {
                "is not there: kube-apiserver has just started, or has no front proxy".to_owned()
            }
            TrustState::Forbidden(error) => {
                format!(
                    "may not be read; bind the Role extension-apiserver-authentication-reader in kube-system ({error})"
                )
            }
            TrustState::Failing(error) => format!("cannot be read ({error})"),
        };
        Err(format!(
            "nobody's identity can be checked: ConfigMap kube-system/extension-apiserver-authentication {why}"
        ))
    };
    let first_list = move || {
        let metered = metered.as_ref().is_none_or(|it| it.synced());
        if objects.synced() && metered || started.elapsed() > FIRST_LIST {
            return Ok(());
        }
        Err("waiting for the first lists of pods, namespaces and nodes".to_owned())
    };
    vec![
        Check {
            name: "trust",
            test: Box::new(trust),
        },
        Check {
            name: "objects",
            test: Box::new(first_list),
        },
    ]
}
