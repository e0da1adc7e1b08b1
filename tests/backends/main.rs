//! Rules that are asked of a Prometheus: of one on loopback that does everything wrong, and of real ones.
//!
//! The tests that need a real Prometheus (built by `tests/prometheus/build.sh`) and a `victoria-metrics` on the `PATH` are
//! ignored by default.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod access;
mod faults;
mod peers;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "only the cluster tests stop a process and go on")]
mod process;
#[path = "../support/programs.rs"]
#[expect(dead_code, reason = "the version is asked for by other tests")]
mod programs;
mod server;
mod sharing;
#[path = "../support/wait.rs"]
mod wait;
mod world;
