//! The `gpu-metrics-adapter` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything speaks TLS: one provider for all of rustls, kube and reqwest.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing has installed another provider before main");
    gpu_metrics_adapter::cli::run()
}
