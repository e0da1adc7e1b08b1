//! One target's scrapes, one after the other.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{Instrument as _, Span, error_span, info, warn};

use crate::exposition::DropReason;
use crate::model::time::Timestamp;
use crate::store::{MetadataIndex, TargetWriter};
use crate::targets::Target;

use super::about::{About, Scraped};
use super::connection::Connection;
use super::demand::Timing;
use super::fetch::Fetcher;
use super::ingest::{Ingested, ingest};
use super::pace::{Pace, Ticks, Turn};
use super::series::KnownSeries;
use super::{KeptMetrics, ScrapeError, Statistics};

/// Within what time targets that are new are scraped once, so that a fresh process soon has data.
const FIRST: Duration = Duration::from_secs(2);

/// The time that each of them has where they are many: a first page, of which every series is new, takes as long as ten later
/// ones, and pages that wait for their turn wait in memory.
const EACH: Duration = Duration::from_millis(2);

/// What the scrapes of all targets share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) fetcher: Fetcher,
    pub(super) turns: Semaphore,
    pub(super) kept: Arc<ArcSwap<KeptMetrics>>,
    pub(super) metadata: Arc<MetadataIndex>,
    pub(super) statistics: Arc<Statistics>,
}

/// Scrapes one target.
pub(super) struct Scraper {
    target: Arc<Target>,
    timing: Timing,
    writer: TargetWriter,
    shared: Arc<Shared>,
    known: KnownSeries,
    /// What was kept of the page before.
    kept: Arc<KeptMetrics>,
    /// Whether what the next page says of its metrics may be new: the page before had new series.
    describe: bool,
    /// The size of the last page.
    expected: usize,
    /// What the last scrape left open.
    connection: Option<Connection>,
    about: About,
    health: Health,
    span: Span,
}

/// What the log has said of a target.
#[derive(Default)]
struct Health {
    failures: u64,
    bad_lines: bool,
    limited: bool,
}

impl Scraper {
    pub(super) fn new(
        target: Arc<Target>,
        timing: Timing,
        writer: TargetWriter,
        shared: Arc<Shared>,
    ) -> Self {
        // Of this level, so that a filter that lets warnings through keeps saying of which target they are.
        let (job, object) = (&target.settings.job, target.object.as_deref());
        let span = error_span!("target", job, url = target.shown_url(), object);
        Self {
            about: About::new(&target),
            target,
            timing,
            writer,
            kept: shared.kept.load_full(),
            shared,
            known: KnownSeries::default(),
            describe: true,
            expected: 0,
            connection: None,
            health: Health::default(),
            span,
        }
    }

    /// What the store calls the target.
    pub(super) fn id(&self) -> u64 {
        self.writer.id()
    }

    /// The scrape that is to begin now, or when to look again.
    pub(super) fn turn(&self) -> Result<Turn, Instant> {
        self.timing.turn(Instant::now())
    }

    /// Scrapes once.
    pub(super) async fn run(mut self: Box<Self>, turn: Turn) -> Box<Self> {
        self.shared.statistics.begun(&turn);
        let span = self.span.clone();
        let good = self.scrape().instrument(span).await;
        self.timing.ended(good);
        self
    }

    /// One scrape; its time, if it gave samples.
    async fn scrape(&mut self) -> Option<Timestamp> {
        let shared = Arc::clone(&self.shared);
        let Ok(_turn) = shared.turns.acquire().await else {
            return None;
        };
        let (at, started) = (Timestamp::now(), Instant::now());
        let fetched = shared
            .fetcher
            .fetch(&self.target, &mut self.connection, self.expected)
            .await;
        let scraped = Scraped {
            at,
            took: started.elapsed(),
            about: &self.about,
        };
        let mut size = 0;
        let (page, result) = match &fetched {
            Ok(page) => {
                size = page.bytes().len();
                self.expected = size;
                let kept = shared.kept.load_full();
                if !Arc::ptr_eq(&kept, &self.kept) {
                    // What became of a line before is no longer what is to become of it.
                    (self.kept, self.known) = (kept, KnownSeries::default());
                    self.describe = true;
                }
                let page = ingest(
                    page,
                    &scraped,
                    &self.target,
                    &self.kept,
                    self.describe.then_some(&*shared.metadata),
                    &mut self.known,
                    &mut self.writer,
                );
                self.describe = page.0.unknown > 0;
                page
            }
            Err(error) => (Ingested::default(), Err(error.clone())),
        };
        drop(fetched);
        if let Err(error) = &result {
            let about = scraped.values(false, page.report.samples);
            self.writer.failed(at, &error.to_string(), &about);
        }
        let took = scraped.took;
        self.log(&page, &result);
        shared.statistics.scraped(took, size, &page, &result);
        result.is_ok().then_some(at)
    }

    /// Says what changed, within the target's span; the counters carry the rest.
    fn log(&mut self, page: &Ingested, result: &Result<(), ScrapeError>) {
        let health = &mut self.health;
        if let Err(error) = result {
            if health.failures == 0 {
                warn!(%error, "scrape failed");
            }
            health.failures += 1;
            return;
        }
        if health.failures > 0 {
            info!(failures = health.failures, "scrape works again");
            health.failures = 0;
        }
        // That DCGM has no value for something is ordinary.
        let lines = &page.report.dropped;
        let bad = lines.total() - lines.get(DropReason::DcgmBlank);
        if bad > 0 && !health.bad_lines {
            let example = page.report.example.as_ref();
            let reason = example.map(|(reason, _)| reason.to_string());
            let line = example.map(|(_, line)| line);
            warn!(bad, reason, line, "some lines of the page are no samples");
        }
        health.bad_lines = bad > 0;
        let limits = ["label_limit", "store_limit"];
        let over: u64 = limits.iter().filter_map(|it| page.dropped.get(it)).sum();
        if over > 0 && !health.limited {
            warn!(samples = over, "some samples of the page pass a limit");
        }
        health.limited = over > 0;
    }
}

/// When `target`, one of `new` ones, is scraped from now on, `delay` later than at once, each time on one of `ticks`.
pub(super) fn pace(target: &Target, ticks: Ticks, new: usize, delay: Duration) -> Pace {
    let times = Times::of(target, new, Instant::now() + delay);
    Pace::new(
        target.interval,
        ticks,
        times.first,
        times.second,
        times.place,
    )
}

/// When a target is scraped: the first time soon, then at its own place in the interval, so that the targets spread out.
#[derive(Debug, PartialEq)]
struct Times {
    first: Instant,
    second: Instant,
    /// Its place, as a part of the interval.
    place: f64,
}

impl Times {
    /// Those of `target`, one of `new` ones, from `start` on.
    fn of(target: &Target, new: usize, start: Instant) -> Self {
        let mut hash = DefaultHasher::new();
        target.url.hash(&mut hash);
        let interval = target.interval;
        let share = Duration::from_nanos(hash.finish() >> 1);
        let place = nanos_modulo(share, interval);
        let within = FIRST.max(EACH * u32::try_from(new).unwrap_or(u32::MAX));
        let first = nanos_modulo(place, interval.min(within));
        // Not so soon after the first scrape that the exporter has nothing new.
        let second = if place < first + interval / 2 {
            place + interval
        } else {
            place
        };
        Self {
            first: start + first,
            second: start + second,
            place: place.div_duration_f64(interval),
        }
    }
}

fn nanos_modulo(a: Duration, b: Duration) -> Duration {
    let nanos = a.as_nanos() % b.as_nanos().max(1);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::targets::{assemble, compile};

    #[test]
    fn the_first_scrape_is_soon_and_the_next_ones_spread_over_the_interval() {
        let targets: Vec<String> = (1..=600).map(|it| format!("10.0.0.1:{it}")).collect();
        let text = format!(
            "{{presets: [], interval: 60s, scrape_configs: [{{job_name: a, static_configs: [{{targets: {targets:?}}}]}}]}}"
        );
        let jobs = compile(&serde_saphyr::from_str(&text).unwrap()).unwrap();
        let start = Instant::now();
        let (mut per_tenth, mut late) = ([0; 10], 0);
        for target in assemble(&jobs, |_| Default::default(), 1_000).targets {
            let times = Times::of(&target, 1_000, start);
            assert!(times.first - start < FIRST);
            let of_many = Times::of(&target, 10_000, start);
            assert!(of_many.first - start < 10 * FIRST);
            late += u32::from(of_many.first - start > FIRST);
            let gap = times.second - times.first;
            assert!(gap >= target.interval / 2, "{gap:?}");
            assert!(gap <= target.interval * 3 / 2, "{gap:?}");
            let place = nanos_modulo(times.second - start, target.interval);
            per_tenth[usize::try_from(place.as_secs() / 6).unwrap()] += 1;
        }
        assert!(
            per_tenth.iter().all(|it| (30..90).contains(it)),
            "{per_tenth:?}"
        );
        assert!((480..600).contains(&late), "{late}");
    }
}
