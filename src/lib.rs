//! GPU metrics for the Kubernetes HorizontalPodAutoscaler.
//!
//! Scrapes GPU exporters, keeps their samples in memory, and serves them as `custom.metrics.k8s.io`.
//! Which module owns what, and who may use whom, is the table in `docs/design.md`; `tests/layers.rs` holds it.

pub mod api;
pub mod app;
pub mod auth;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod cronhpa;
pub mod demo;
pub mod engine;
pub mod exposition;
pub mod fallback;
pub mod hpa;
pub mod model;
pub mod promql;
pub mod provider;
pub mod rules;
pub mod schedule;
pub mod scrape;
pub mod server;
pub mod store;
pub mod targets;
pub mod telemetry;
pub mod transport;
