//! Differential tests: the embedded engine against a real Prometheus 3.14, over the same series.
//!
//! The server is built by `tests/prometheus/build.sh` and started here on loopback. It reads the data of
//! [`data`] twice: recorded from time 0 on, and received in 2023 with marks where series ended. Our engine reads the same
//! series from memory. The tests that need the server are ignored by default.

mod answer;
mod bodies;
mod compare;
mod data;
mod embedded;
mod engines;
mod era;
mod exceptions;
mod generated;
mod openmetrics;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "only the cluster tests stop a process and go on")]
mod process;
#[path = "../support/programs.rs"]
mod programs;
mod prometheus;
mod remote_write;
mod table;
#[path = "../support/wait.rs"]
mod wait;
