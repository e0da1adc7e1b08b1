//! Answers are fresh and exporters are not asked more often: real exporters on loopback, asked as the HPA does, with times a
//! tenth of the real ones. `cargo bench --bench freshness` measures with the real ones.

mod world;

use std::time::Duration;

use world::{median, observe};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_fresh_with_as_many_scrapes_as_before() {
    let interval = Duration::from_millis(1_500);
    let (off, on) = tokio::join!(
        observe(20, interval, Duration::ZERO, 4, 8),
        observe(20, interval, Duration::from_millis(500), 4, 8),
    );
    let (before, after) = (median(&off.ages), median(&on.ages));
    // Without it about half an interval, by chance; with it a fifteenth, and more on a busy machine.
    assert!(after < interval / 5, "{after:?} instead of {before:?}");
    let longest = on.waits.last().expect("there were answers");
    assert!(*longest < Duration::from_secs(2), "{longest:?}");
    let (before, after) = (off.per_interval, on.per_interval);
    assert!(
        (0.9..=1.1).contains(&(after / before)),
        "{after} / {before}"
    );
}
