//! Commands and flags.

mod certs;
mod check;
mod kubelet;
mod query;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The exit code for a faulty command line (`sysexits.h`, `EX_USAGE`).
const USAGE: u8 = 64;
/// The exit code for a faulty configuration (`sysexits.h`, `EX_CONFIG`).
const CONFIGURATION: u8 = 78;

/// GPU metrics for the Kubernetes HorizontalPodAutoscaler.
#[derive(Debug, Parser)]
#[command(name = "gpu-metrics-adapter", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve custom.metrics.k8s.io in a cluster.
    Serve(Box<serve::Serve>),
    /// Show the main job on this machine: a simulated GPU cluster, the real server, a live view.
    Demo(crate::demo::Options),
    /// Validate a configuration file and list what it would do.
    Check(check::Check),
    /// Ask a running adapter, or a recording in a file, in PromQL.
    Query(Box<query::Query>),
    /// Make certificates for development: a CA, and a serving pair signed by it.
    Certs(certs::Certs),
}

/// Reads the command line and does what it says.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let result = match cli.command {
        Command::Serve(serve) => serve.run(),
        Command::Demo(options) => {
            runtime().and_then(|runtime| runtime.block_on(crate::demo::run(options)))
        }
        Command::Check(check) => check.run(),
        Command::Query(query) => query.run(),
        Command::Certs(certs) => certs.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = format!("error: {error}");
            for cause in error.chain().skip(1) {
                text.push_str(&format!("\n  because: {cause}"));
            }
            anstream::eprintln!("{text}");
            let faulty =
                error.is::<crate::config::ConfigError>() || error.is::<crate::app::BuildError>();
            ExitCode::from(if faulty { CONFIGURATION } else { 1 })
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}
