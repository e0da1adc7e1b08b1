//! The adapter as a contestant: the library's own scraping, store and rules, in a process of its own.
//! Nobody asks it anything, as nobody asks the others.

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use gpu_metrics_adapter::app::{Core, Tasks};
use gpu_metrics_adapter::cluster::StaticMapper;
use gpu_metrics_adapter::config::Config;
use gpu_metrics_adapter::model::objects::NoObjects;

/// What it tells of itself.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Told {
    pub(crate) series: usize,
    pub(crate) samples: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) missed: u64,
}

/// Waits for a line before it scrapes, so that the memory of an idle process can be read; then answers every line with
/// what it counted so far. Ends when standard input closes.
pub(crate) fn run(config: &Path) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // As `cli::runtime` makes it.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let text = std::fs::read_to_string(config).expect("the configuration");
    let config = Config::parse(&text).expect("a configuration");
    let core =
        Core::build(&config, Arc::new(NoObjects), Arc::new(StaticMapper)).expect("no fault in it");
    let tasks = Tasks::default();

    let mut started = false;
    let mut output = std::io::stdout();
    writeln!(output, "ready").expect("the bench reads");
    for _ in std::io::stdin().lock().lines() {
        if !started {
            let _inside = runtime.enter();
            core.start(None, &tasks);
            started = true;
        }
        let counts = core.scraping.statistics.snapshot();
        let told = Told {
            series: core.scraping.store.series_count(),
            samples: counts.samples,
            succeeded: counts.succeeded,
            failed: counts.failed.values().sum(),
            missed: counts.missed,
        };
        let told = serde_json::to_string(&told).expect("numbers");
        writeln!(output, "{told}").expect("the bench reads");
    }
}
