//! How the last change of the configuration went.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::model::time::Timestamp;

/// What is known of it; clones share it.
#[derive(Clone, Debug)]
pub struct Reloads {
    successful: Gauge,
    success_time: Gauge<f64, AtomicU64>,
    /// Since when the file cannot be put to work, and why.
    refused: Arc<Mutex<Option<(Timestamp, String)>>>,
}

impl Reloads {
    /// The configuration that the process started with was good.
    pub fn new(now: Timestamp) -> Self {
        let reloads = Self {
            successful: Gauge::default(),
            success_time: Gauge::default(),
            refused: Arc::default(),
        };
        reloads.succeeded(now);
        reloads
    }

    /// A configuration was put to work.
    pub fn succeeded(&self, now: Timestamp) {
        self.successful.set(1);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of our time")]
        self.success_time.set(now.as_millis() as f64 / 1000.0);
        *self.refused.lock() = None;
    }

    /// A configuration was refused; the one before goes on.
    pub fn failed(&self, now: Timestamp, reason: String) {
        self.successful.set(0);
        *self.refused.lock() = Some((now, reason));
    }

    /// Since when the file cannot be put to work, and why; if that is so.
    pub fn refused(&self) -> Option<(Timestamp, String)> {
        self.refused.lock().clone()
    }

    /// How it stands, in one line.
    pub fn text(&self) -> String {
        match self.refused() {
            None => "the file is in use".to_owned(),
            Some((since, reason)) => format!(
                "the file is not in use since it changed at {since}, the configuration before it is: {reason}"
            ),
        }
    }

    /// Adds its metrics, under the names that Prometheus's own have.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "config_last_reload_successful",
            "Whether the configuration file, as it is now, is in use",
            self.successful.clone(),
        );
        registry.register_with_unit(
            "config_last_reload_success_timestamp",
            "When a configuration was last put to use",
            Unit::Seconds,
            self.success_time.clone(),
        );
    }
}
