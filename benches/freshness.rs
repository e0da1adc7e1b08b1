//! How old the data of the HPA's answers is, with `freshWithin` and without, and what that costs in scrapes: real exporters on
//! loopback, the default interval, two and a half minutes after one to settle.
//!
//! `cargo bench --bench freshness`.
#![expect(clippy::print_stdout, reason = "it prints what it measures")]

#[path = "../tests/freshness/world.rs"]
mod world;

use std::time::Duration;

use world::{Seen, median, observe};

const EXPORTERS: usize = 40;

fn show(name: &str, seen: &Seen) {
    let nine_tenths = seen.ages[seen.ages.len() * 9 / 10];
    println!(
        "{name}: age {:.2?} median, {nine_tenths:.2?} for nine of ten; answered in {:.2?} median, {:.2?} at most; {:.3} scrapes per target and interval",
        median(&seen.ages),
        median(&seen.waits),
        seen.waits.last().expect("there were answers"),
        seen.per_interval,
    );
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let interval = Duration::from_secs(15);
    let (off, on) = runtime.block_on(async {
        tokio::join!(
            observe(EXPORTERS, interval, Duration::ZERO, 4, 10),
            observe(EXPORTERS, interval, Duration::from_secs(5), 4, 10),
        )
    });
    show("freshWithin: 0s", &off);
    show("freshWithin: 5s", &on);
}
