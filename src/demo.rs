//! A simulated GPU cluster around the real server.
//!
//! [`load`] says how busy the service is, [`pods`] how many pods share that, [`exporter`] what their GPUs' exporters write,
//! [`fleet`] serves those pages on loopback, [`story`] keeps what happened, [`view`] puts it into
//! words and [`screen`] shows them. None of them reads a clock.

pub mod exporter;
pub mod fleet;
pub mod load;
pub mod pods;
pub mod screen;
pub mod story;
pub mod view;

/// How the demo runs.
#[derive(Debug, clap::Args)]
pub struct Options {}

/// Runs the demo.
///
/// # Errors
/// none yet
pub async fn run(_: Options) -> anyhow::Result<()> {
    Ok(())
}
