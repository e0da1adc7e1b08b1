//! Commands and flags.

mod adapter;
mod certs;
mod check;
mod kubelet;
mod query;
mod serve;

use std::ffi::OsString;
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
    let cli = match Cli::try_parse_from(arguments(std::env::args_os().collect())) {
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

/// The arguments, with `serve` where they are prometheus-adapter's or metrics-server's, which have no commands: so this program
/// takes their place in a Deployment that stays as it is.
fn arguments(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let first = arguments.get(1).and_then(|first| first.to_str());
    let serves = first.is_some_and(|first| {
        let ours = ["-h", "--help", "-V", "--version"].contains(&first);
        (first.starts_with('-') && !ours) || first.starts_with('/')
    });
    if serves {
        arguments.insert(1, "serve".into());
    }
    arguments
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_without_a_command_are_those_of_serve() {
        for (line, expected) in [
            ("x --secure-port=6443", "x serve --secure-port=6443"),
            ("x /adapter -v=4", "x serve /adapter -v=4"),
            ("x check a.yaml", "x check a.yaml"),
            ("x --help", "x --help"),
            ("x -V", "x -V"),
            ("x sevre", "x sevre"),
            ("x", "x"),
        ] {
            let given = line.split(' ').map(OsString::from).collect();
            let expected: Vec<OsString> = expected.split(' ').map(OsString::from).collect();
            assert_eq!(arguments(given), expected);
        }
    }
}
