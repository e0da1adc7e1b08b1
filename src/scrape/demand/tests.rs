use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::scrape::pace::{Cause, Ticks};

const INTERVAL: Duration = Duration::from_secs(15);
const WANTED: Freshness = Freshness {
    within: Duration::from_secs(5),
    patience: Duration::from_secs(1),
};

/// A target that was scraped, and 8 s ago.
struct Scraped {
    demand: Arc<Demand>,
    timing: Timing,
    woken: UnboundedReceiver<u64>,
}

impl Scraped {
    async fn new() -> Self {
        let demand = Demand::new(Arc::default());
        let now = Instant::now();
        let ticks = Ticks::new(now, INTERVAL, 1);
        let pace = Pace::new(INTERVAL, ticks, now, now + INTERVAL, 0.0);
        let (wake, woken) = unbounded_channel();
        let timing = demand.join(7, pace, wake);
        let it = Self {
            demand,
            timing,
            woken,
        };
        assert_eq!(it.cause(), Some(Cause::Schedule));
        it.timing.ended(Some(Timestamp::from_millis(1)));
        tokio::time::advance(Duration::from_secs(8)).await;
        it
    }

    fn ask(&self) -> Option<BoxFuture<'static, Option<Timestamp>>> {
        self.demand.refresh(&[7], WANTED)
    }

    /// Why the scrape that begins now does.
    fn cause(&self) -> Option<Cause> {
        Some(self.timing.turn(Instant::now()).ok()?.cause)
    }
}

#[tokio::test(start_paused = true)]
async fn many_requests_share_a_scrape_and_one_that_goes_away_takes_nothing_along() {
    let mut target = Scraped::new().await;
    let another = target.demand.refresh(&[8], WANTED);
    assert!(another.is_none());
    let gone = target.ask().expect("a scrape");
    let others: Vec<_> = (0..20)
        .map(|_| target.ask().expect("the same scrape"))
        .collect();
    drop(gone);
    assert_eq!(target.woken.try_recv().ok(), Some(7));
    assert!(target.woken.try_recv().is_err(), "once for all of them");
    assert_eq!(target.cause(), Some(Cause::Demand));
    let time = Timestamp::from_millis(2);
    target.timing.ended(Some(time));
    for other in others {
        assert_eq!(other.await, Some(time));
    }
    assert!(target.ask().is_none(), "it is fresh");
    let Scraped { demand, .. } = target;
    assert_eq!(demand.in_flight.load(Ordering::Relaxed), 0);
    assert_eq!(demand.statistics.snapshot().waits["in_time"], 20);
}

#[tokio::test(start_paused = true)]
async fn a_scrape_that_hangs_is_waited_for_as_long_as_patience_lasts_and_once() {
    let target = Scraped::new().await;
    let asked = Instant::now();
    let wait = target.ask().expect("a scrape");
    assert_eq!(target.cause(), Some(Cause::Demand));
    assert_eq!(wait.await, None);
    assert_eq!(asked.elapsed(), WANTED.patience);
    assert!(target.ask().is_none());
    let Scraped { demand, timing, .. } = target;
    assert_eq!(demand.statistics.snapshot().waits["too_late"], 1);
    drop(timing);
    assert_eq!(demand.in_flight.load(Ordering::Relaxed), 0);
    assert!(demand.targets.read().is_empty());
}

#[tokio::test(start_paused = true)]
async fn as_many_wait_for_a_target_as_may_and_the_others_are_answered_at_once() {
    let target = Scraped::new().await;
    let waits: Vec<_> = (0..2 * WAITING).filter_map(|_| target.ask()).collect();
    assert_eq!(waits.len(), WAITING);
    drop(waits);
    assert!(target.ask().is_some(), "there is room again");
}
