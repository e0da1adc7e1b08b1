//! How old the data of the HPA's answers is, with `freshWithin` and without, and what that costs in scrapes: real exporters on
//! loopback, the default interval, two and a half minutes after one to settle.
//!
//! `cargo bench --bench freshness`.
#![expect(clippy::print_stdout, reason = "it prints what it measures")]

#[path = "../tests/freshness/world.rs"]
mod world;

use std::time::Duration;

use futures_util::future::join_all;
use world::{Seen, median, observe};

/// Few, and as many as scrapes begin together for.
const EXPORTERS: [usize; 2] = [40, 400];

fn show(exporters: usize, fresh_within: Duration, seen: &Seen) {
    let nine_tenths = seen.ages[seen.ages.len() * 9 / 10];
    println!(
        "{exporters} exporters, freshWithin: {fresh_within:?}: age {:.2?} median, {nine_tenths:.2?} for nine of ten; answered in {:.2?} median, {:.2?} at most; {:.3} scrapes per target and interval",
        median(&seen.ages),
        median(&seen.waits),
        seen.waits.last().expect("there were answers"),
        seen.per_interval,
    );
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let interval = Duration::from_secs(15);
    let cases = EXPORTERS
        .into_iter()
        .flat_map(|exporters| [0, 5].map(|within| (exporters, Duration::from_secs(within))));
    let observed = cases.map(async |(exporters, within)| {
        let seen = observe(exporters, interval, within, 4, 10).await;
        (exporters, within, seen)
    });
    for (exporters, within, seen) in runtime.block_on(join_all(observed)) {
        show(exporters, within, &seen);
    }
}
