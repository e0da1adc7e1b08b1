//! What listens: the API behind authentication, authorization and its bounds.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::api::prometheus::{QueryApi, QueryLimits};
use crate::api::{self, Api, Check, Discovery, Health, Note};
use crate::auth::{self, Authenticator, Authorizer};
use crate::cronhpa::Standing;
use crate::fallback::Fallback;
use crate::model::time::Timestamp;
use crate::provider::Provider;
use crate::provider::resources::ResourceMetrics;
use crate::server::{
    self, Admission, Audit, Drain, Listen, Protection, Running, ServeError, ServerMetrics,
};
use crate::telemetry::{OwnMetrics, Reloads};

use super::Core;

/// Most nodes that are named as missing.
const NAMED_NODES: usize = 20;

/// What the API is opened with.
pub struct Front {
    /// Where, with which certificate.
    pub listen: Listen,
    /// Who is asking.
    pub authenticator: Arc<Authenticator>,
    /// May they.
    pub authorizer: Arc<Authorizer>,
    /// What readiness depends on, besides that the server is not draining.
    pub checks: Vec<Check>,
    /// How changes of the configuration went, where its file is followed.
    pub reloads: Option<Reloads>,
    /// How schedules stand, where they are run.
    pub schedules: Option<Standing>,
    /// Where external metrics are had from that no rule offers, if there is such a place.
    pub fallback: Option<Arc<Fallback>>,
    /// Where each request is written down, if anywhere.
    pub audit: Option<Audit>,
    /// An address of loopback to serve for debugging, without TLS and authentication: queries, own metrics, health.
    pub debug_address: Option<SocketAddr>,
}

/// The API, open. Dropped, it is closed at once.
#[derive(Debug)]
pub struct Opened {
    api: Running,
    debug: Option<Running>,
}

impl Opened {
    /// The address of the API, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.api.address()
    }

    /// The address for debugging, with the real port.
    pub fn debug_address(&self) -> Option<SocketAddr> {
        self.debug.as_ref().map(Running::address)
    }

    /// Waits for an end that nobody asked for.
    pub async fn ended(&mut self) -> ServeError {
        match &mut self.debug {
            None => self.api.ended().await,
            Some(debug) => tokio::select! {
                error = self.api.ended() => error,
                error = debug.ended() => error,
            },
        }
    }

    /// Ends in order; what is for debugging is served until then. Gives the number of connections cut off.
    pub async fn drain(self, drain: Drain) -> usize {
        self.api.drain(drain).await
    }
}

/// Opens the API of `core`.
///
/// # Errors
/// Where an address cannot be taken.
pub async fn open(core: &Core, front: Front) -> Result<Opened, ServeError> {
    let Front {
        listen,
        authenticator,
        authorizer,
        mut checks,
        reloads,
        schedules,
        fallback,
        audit,
        debug_address,
    } = front;
    let draining = listen.draining.clone();
    let not_draining = move || {
        if draining.is_cancelled() {
            Err("shutting down".to_owned())
        } else {
            Ok(())
        }
    };
    checks.insert(
        0,
        Check {
            name: "shutdown",
            test: Box::new(not_draining),
        },
    );
    let metrics = listen.metrics.clone();
    let queries = QueryApi::new(Arc::clone(&core.queries), QueryLimits::default());
    let own = OwnMetrics::new(
        Arc::clone(&core.scraping.statistics),
        Arc::clone(&core.scraping.store),
        Arc::clone(&core.provider),
        core.resources.clone(),
        |registry| {
            queries.register(registry);
            if let Some(reloads) = &reloads {
                reloads.register(registry);
            }
            if let Some(schedules) = &schedules {
                schedules.register(registry);
            }
            let certificate = listen.certificate.clone();
            metrics.register(registry.sub_registry_with_prefix("server"), certificate);
            auth::register(
                registry.sub_registry_with_prefix("auth"),
                &authenticator,
                &authorizer,
            );
        },
    );
    let file = reloads.map(|reloads| Note {
        name: "config",
        text: Box::new(move || reloads.text()),
    });
    let schedules = schedules.map(|schedules| Note {
        name: "schedules",
        text: Box::new(move || schedules.text()),
    });
    let notes = file.into_iter().chain(schedules);
    let notes = notes.chain(fallback.clone().map(|fallback| Note {
        name: "external-fallback",
        text: Box::new(move || fallback.text()),
    }));
    let notes = notes.chain(core.resources.iter().map(missing));
    let provider = Arc::clone(&core.provider);
    let backends = Note {
        name: "backends",
        text: Box::new(move || backends(&provider)),
    };
    let notes = notes.chain([backends]).collect();
    let api = Arc::new(Api {
        provider: Arc::clone(&core.provider),
        fallback,
        resources: core.resources.clone(),
        queries: Arc::new(queries),
        health: Health::new(checks).with_notes(notes),
        own_metrics: Box::new(move || own.text()),
        now: Box::new(Timestamp::now),
        discovery: Discovery::default(),
    });
    let debug = match debug_address {
        None => None,
        Some(address) => {
            // Counted apart: what is refused here is nobody's alarm.
            let metrics = ServerMetrics::default();
            let router = api::debug_router(Arc::clone(&api));
            let router = server::protected(router, Protection::default(), &metrics);
            Some(server::serve_plain(address, &Admission::default(), metrics, router).await?)
        }
    };
    let guarded = server::guarded(api::router(api), authenticator, authorizer, &metrics);
    let protected = server::protected(guarded, Protection::default(), &metrics);
    let observed = server::observed(protected, &metrics, audit);
    let api = server::serve(listen, observed).await?;
    Ok(Opened { api, debug })
}

/// Which nodes have no CPU and memory to tell. It is told and not a condition of readiness, which never depends on data.
fn missing(resources: &Arc<ResourceMetrics>) -> Note {
    let resources = Arc::clone(resources);
    let text = move || {
        let (nodes, missing) = resources.missing(Timestamp::now());
        let mut text = format!("{} of {nodes} nodes are measured", nodes - missing.len());
        for it in missing.iter().take(NAMED_NODES) {
            let _ = write!(text, "; {}: {}", it.node, it.reason);
        }
        if missing.len() > NAMED_NODES {
            let _ = write!(text, "; and {} more", missing.len() - NAMED_NODES);
        }
        text
    };
    Note {
        name: "resource-metrics",
        text: Box::new(text),
    }
}

/// How the backends are doing.
fn backends(provider: &Provider) -> String {
    let all = provider.backends();
    let replicas: Vec<String> = all
        .iter()
        .flat_map(|backend| backend.replicas())
        .map(|replica| match replica.down {
            None => format!("{} ok", replica.description),
            Some((since, reason)) => format!("{} {reason}, since {since}", replica.description),
        })
        .collect();
    if replicas.is_empty() {
        "none".to_owned()
    } else {
        replicas.join("; ")
    }
}
