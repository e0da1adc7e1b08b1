//! The adapter in a real cluster: a real control plane, the real HPA controller and kubectl, and the built program.
//!
//! Nothing here is a mock except what needs hardware: kwok stands in for the kubelets, and the exporters' pages are written
//! by the tests. The tests need the programs that `tests/controlplane/build.sh` builds, so they are ignored by default.

mod adapter;
#[path = "../backends/server.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "the tests of backends look closer; a test may panic"
)]
mod backend;
mod balancer;
mod control_plane;
mod cron;
mod exporter;
mod fixtures;
mod keda;
mod kserve;
mod kubelet;
mod pki;
#[path = "../support/proc.rs"]
mod proc;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/programs.rs"]
#[expect(dead_code, reason = "any version of a Prometheus will do here")]
mod programs;
mod scaled;
mod scene;
#[path = "../support/wait.rs"]
mod wait;

mod authentication;
mod availability;
mod backend_faults;
mod beside_keda;
mod captured;
mod certificates;
mod check;
mod documents;
mod engines;
mod fallback;
mod hpa;
mod installation;
mod monitoring;
mod owners;
mod raw;
mod reload;
mod resource_faults;
mod resource_metrics;
mod rollout;
mod schedule_faults;
mod schedule_hpas;
mod schedule_scale;
mod schedules;
mod targets;
