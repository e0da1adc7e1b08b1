use std::time::Duration;

use super::*;
use crate::scrape::pace::Cause;

const INTERVAL: Duration = Duration::from_secs(15);
const WANTED: Freshness = Freshness {
    within: Duration::from_secs(5),
    patience: Duration::from_secs(1),
};

/// A target that was scraped, and 8 s ago.
async fn scraped() -> (Arc<Demand>, Timing) {
    let demand = Demand::new(Arc::default());
    let now = Instant::now();
    let timing = demand.join(7, Pace::new(INTERVAL, now, now, now + INTERVAL, 0.0));
    assert_eq!(timing.turn().await.cause, Cause::Schedule);
    timing.ended(Some(Timestamp::from_millis(1)));
    tokio::time::advance(Duration::from_secs(8)).await;
    (demand, timing)
}

#[tokio::test(start_paused = true)]
async fn many_requests_share_a_scrape_and_one_that_goes_away_takes_nothing_along() {
    let (demand, timing) = scraped().await;
    assert!(demand.refresh(&[8], WANTED).is_none(), "another target");
    let gone = demand.refresh(&[7], WANTED).expect("a scrape");
    let others: Vec<_> = (0..20)
        .map(|_| demand.refresh(&[7], WANTED).expect("the same scrape"))
        .collect();
    drop(gone);
    assert_eq!(timing.turn().await.cause, Cause::Demand);
    let time = Timestamp::from_millis(2);
    timing.ended(Some(time));
    for other in others {
        assert_eq!(other.await, Some(time));
    }
    assert!(demand.refresh(&[7], WANTED).is_none(), "it is fresh");
    assert_eq!(demand.in_flight.load(Ordering::Relaxed), 0);
    assert_eq!(demand.statistics.snapshot().waits["in_time"], 20);
}

#[tokio::test(start_paused = true)]
async fn a_scrape_that_hangs_is_waited_for_as_long_as_patience_lasts_and_once() {
    let (demand, timing) = scraped().await;
    let asked = Instant::now();
    let wait = demand.refresh(&[7], WANTED).expect("a scrape");
    assert_eq!(timing.turn().await.cause, Cause::Demand);
    assert_eq!(wait.await, None);
    assert_eq!(asked.elapsed(), WANTED.patience);
    assert!(demand.refresh(&[7], WANTED).is_none());
    assert_eq!(demand.statistics.snapshot().waits["too_late"], 1);
    drop(timing);
    assert_eq!(demand.in_flight.load(Ordering::Relaxed), 0);
    assert!(demand.targets.read().is_empty());
}
