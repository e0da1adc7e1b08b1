//! Differential tests: the adapter's scraping against a real Prometheus 3.14, over the same pages.
//!
//! Both scrape one server on loopback every second and are asked the same over the same HTTP API. The server is built by
//! `tests/prometheus/build.sh`; the tests that need it are ignored by default. What may differ is in [`exceptions`].
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod adapter;
mod cases;
mod compare;
#[path = "../support/edge_cases.rs"]
mod edge_cases;
mod exceptions;
mod pages;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "only the cluster tests stop a process and go on")]
mod process;
#[path = "../support/programs.rs"]
mod programs;
mod prometheus;
mod story;
#[path = "../support/wait.rs"]
mod wait;
