//! When one target is scraped. Pure: every time is passed in.
//!
//! One scrape an interval, at the target's own place in it, is where this begins. Requests change that in two ways. One whose
//! data is too old has the target scraped at once, and the next regular scrape is then an interval after this one. And where
//! requests come as regularly as scrapes do, the scrapes move to just before them ([`Rhythm`]). Neither makes more scrapes
//! than the [`Budget`] has.
//!
//! Regular scrapes begin on the ticks of a clock that all targets share ([`Ticks`]), so that many begin, and mostly end, together:
//! a processor that wakes for one scrape finds nothing of the last one in its caches, and spends more on that than on the page.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::freshness::Freshness;

/// No two scrapes of a target are closer than this part of its interval.
const CLOSEST: u32 = 3;

/// The most that the regular scrape before a request is early for the target's own jitter and the request's, and the most
/// that targets behind the same request are spread by. Together less than the second by which answers may be old.
const MARGIN: Duration = Duration::from_millis(300);
const SPREAD: Duration = Duration::from_millis(600);

/// How many scrapes can be saved up, the one that is due included.
const SAVED: u32 = 2;

/// The fewest ticks in an interval, and the longest time between two of them.
const FEWEST_TICKS: u32 = 30;
const LONGEST_TICK: Duration = Duration::from_millis(500);

/// How often the ticks of an interval are doubled at most. Doubled, so that those of many and of few fall together.
const DOUBLED: u32 = 3;

/// How many scrapes begin with a tick at most, unless that would be doubled too often: their pages lie in memory together.
const TOGETHER: usize = 128;

/// How many must begin together for long ticks to be worth it: less spare a processor that wakes for them little.
const FEW: usize = 8;

/// Why a target is scraped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its time has come.
    Schedule,
    /// A request needed it.
    Demand,
}

impl Cause {
    /// As a metric's label value.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Demand => "demand",
        }
    }
}

/// What a request is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Answer with what is there.
    Answer,
    /// A scrape is on its way: wait for it, until then.
    Wait(Instant),
    /// The target is to be scraped now: wait for it, until then.
    Scrape(Instant),
}

/// A scrape that is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) cause: Cause,
    /// Regular scrapes that were due since the last one and did not happen.
    pub(super) missed: u64,
}

/// The times of one target's scrapes.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    ticks: Ticks,
    /// How long before an expected request the regular scrape should have ended.
    ahead: Duration,
    /// When the next regular scrape is due; it begins with the next tick.
    due: Instant,
    /// When the one after the very first begins.
    second: Option<Instant>,
    /// When the latest scrape was asked for or began, while it has not ended.
    running: Option<Instant>,
    /// A scrape is asked for, or runs, because of a request.
    demanded: bool,
    /// It has begun.
    begun: bool,
    /// When the latest scrape began.
    last: Option<Instant>,
    /// When the latest good scrape began.
    good: Option<Instant>,
    /// The latest scrape failed.
    failing: bool,
    /// How long good scrapes take: the longest of late.
    took: Duration,
    budget: Budget,
    rhythm: Option<Rhythm>,
}

impl Pace {
    /// The first scrape at `first`, the next at `second`, then one each `interval`, each on the next of the `ticks`. `place`,
    /// from 0 to 1, spreads the targets that the same requests ask about.
    pub(super) fn new(
        interval: Duration,
        ticks: Ticks,
        first: Instant,
        second: Instant,
        place: f64,
    ) -> Self {
        let spread = SPREAD.min(interval / 25).mul_f64(place.clamp(0.0, 1.0));
        Self {
            interval,
            ahead: MARGIN.min(interval / 50) + spread + ticks.step,
            ticks,
            due: first,
            second: Some(second),
            running: None,
            demanded: false,
            begun: false,
            last: None,
            good: None,
            failing: false,
            took: Duration::ZERO,
            budget: Budget::new(interval, first),
            rhythm: None,
        }
    }

    /// When to look again for a [`Pace::turn`], unless a request asks for one before.
    pub(super) fn due(&self) -> Instant {
        self.ticks.after(self.due)
    }

    /// Whether a request has asked for a scrape that has not ended.
    pub(super) fn demanded(&self) -> bool {
        self.demanded
    }

    /// A request about this target's data. `room`: whether the scraper can take on another demanded scrape.
    pub(super) fn ask(&mut self, now: Instant, wanted: Freshness, room: bool) -> Reply {
        let Some(good) = self.good else {
            return Reply::Answer;
        };
        let in_rhythm = self.note(now);
        self.plan();
        // A target that fails, or is slower than requests can wait, keeps to its times and makes nobody wait.
        let fresh = now.saturating_duration_since(good) <= wanted.within;
        if fresh || self.failing || self.took >= wanted.patience {
            return Reply::Answer;
        }
        if let Some(since) = self.running {
            // One that hangs is waited for once: by those who ask while it is new.
            let until = since + wanted.patience;
            return if until > now {
                Reply::Wait(until)
            } else {
                Reply::Answer
            };
        }
        if !room || !self.may_scrape(now, in_rhythm) {
            return Reply::Answer;
        }
        self.running = Some(now);
        self.demanded = true;
        self.last = Some(now);
        self.budget.spend(now);
        if !self.has_rhythm() {
            self.due = now + self.interval;
            // Where two are still in question, the one that was served.
            self.rhythm = Some(Rhythm::new(now, self.interval));
        } else if in_rhythm {
            self.due = now + self.interval;
        }
        self.plan();
        Reply::Scrape(now + wanted.patience)
    }

    /// The scrape that is to begin, if there is one.
    pub(super) fn turn(&mut self, now: Instant) -> Option<Turn> {
        if self.demanded && !self.begun {
            self.begun = true;
            return Some(Turn {
                cause: Cause::Demand,
                missed: 0,
            });
        }
        if now < self.due() {
            return None;
        }
        let mut next = self.second.take().unwrap_or(self.due + self.interval);
        let mut missed = 0;
        while next <= now {
            missed += 1;
            next += self.interval;
        }
        self.due = next;
        self.running = Some(now);
        self.begun = true;
        self.last = Some(now);
        self.budget.spend(now);
        self.plan();
        Some(Turn {
            cause: Cause::Schedule,
            missed,
        })
    }

    /// The scrape has ended.
    pub(super) fn ended(&mut self, now: Instant, good: bool) {
        self.failing = !good;
        if let Some(began) = self.running.take().filter(|_| good) {
            self.good = Some(began);
            self.took = (now - began).max(self.took * 7 / 8);
        }
        self.demanded = false;
        self.begun = false;
        self.plan();
    }

    /// Whether a request may have the target scraped now.
    fn may_scrape(&self, now: Instant, in_rhythm: bool) -> bool {
        let closest = self.interval / CLOSEST;
        let distant = |last| now.saturating_duration_since(last) >= closest;
        if !self.last.is_none_or(distant) {
            return false;
        }
        if in_rhythm || !self.has_rhythm() {
            return self.budget.affords(now);
        }
        // The requests that the schedule follows come first: what they need must be left.
        let until_due = self.due.saturating_duration_since(now);
        until_due >= self.interval / 2 && self.budget.affords_and_again(now, self.due)
    }

    fn has_rhythm(&self) -> bool {
        self.rhythm.as_ref().is_some_and(|it| it.confirmed)
    }

    /// Takes a request into account; whether it is one of those that the schedule follows, or may come to follow.
    fn note(&mut self, now: Instant) -> bool {
        if let Some(rhythm) = &mut self.rhythm {
            if rhythm.confirm(now, self.interval) {
                return true;
            }
            if !rhythm.is_over(now, self.interval) {
                return false;
            }
        }
        self.rhythm = Some(Rhythm::new(now, self.interval));
        true
    }

    /// Moves the next regular scrape to just before the request that is expected, as far as budget and interval let it.
    fn plan(&mut self) {
        let (Some(rhythm), Some(last)) = (&self.rhythm, self.last) else {
            return;
        };
        // Whether requests keep coming is seen when they do; a rhythm that has ended must not go on.
        if !rhythm.confirmed || rhythm.is_over(last, self.interval) || self.second.is_some() {
            return;
        }
        let lead = self.took.min(self.interval / 4) + self.ahead;
        let soonest = last + self.interval / CLOSEST;
        let mut wanted = rhythm.seen + rhythm.period;
        while wanted < soonest + lead {
            wanted += rhythm.period;
        }
        let earliest = soonest.max(self.budget.affordable());
        let latest = last + self.interval * 11 / 10;
        self.due = (wanted - lead).max(earliest).min(latest);
    }
}

/// The ticks of a clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    origin: Instant,
    step: Duration,
}

impl Ticks {
    /// Those for one of `targets` targets which is scraped once an `interval`. All have the same `origin`, and an interval
    /// has a whole number of them, so that a target keeps its place.
    pub(super) fn new(origin: Instant, interval: Duration, targets: usize) -> Self {
        let fewest = interval.as_nanos().div_ceil(LONGEST_TICK.as_nanos());
        let fewest = u32::try_from(fewest).unwrap_or(u32::MAX).max(FEWEST_TICKS);
        let together = targets / fewest as usize;
        let doubled = if together < FEW {
            DOUBLED - 1
        } else {
            let times = together.div_ceil(TOGETHER).next_power_of_two();
            times.ilog2().min(DOUBLED)
        };
        let step = interval / fewest / (1 << doubled);
        Self {
            origin,
            step: step.max(Duration::from_nanos(1)),
        }
    }

    /// The first that is not before `time`.
    fn after(&self, time: Instant) -> Instant {
        let since = time.saturating_duration_since(self.origin);
        let past = since.as_nanos() % self.step.as_nanos();
        match u64::try_from(past) {
            Ok(past) if past > 0 => time + self.step - Duration::from_nanos(past),
            _ => time,
        }
    }
}

/// Requests that come about once an interval.
#[derive(Debug)]
struct Rhythm {
    /// The latest of them.
    seen: Instant,
    /// The time between them: the interval, and what the HPA needs on top of that.
    period: Duration,
    /// There were two at least.
    confirmed: bool,
}

impl Rhythm {
    /// How many of them may be missing before the rhythm is over.
    const MISSING: u32 = 3;

    fn new(now: Instant, interval: Duration) -> Self {
        Self {
            seen: now,
            period: interval,
            confirmed: false,
        }
    }

    /// How far a request may be from where it was expected.
    fn tolerance(interval: Duration) -> Duration {
        interval / 10
    }

    /// Takes a request at `now` for the next of them, if it can be.
    fn confirm(&mut self, now: Instant, interval: Duration) -> bool {
        let since = now.saturating_duration_since(self.seen);
        let fits = |count: &u32| {
            since.abs_diff(self.period * *count) <= Self::tolerance(interval) * *count
        };
        let Some(count) = (1..=Self::MISSING).find(fits) else {
            return false;
        };
        let (fourth, bound) = (since / count / 4, Self::tolerance(interval));
        self.period = (self.period * 3 / 4 + fourth).clamp(interval - bound, interval + bound);
        self.seen = now;
        self.confirmed = true;
        true
    }

    fn is_over(&self, now: Instant, interval: Duration) -> bool {
        let late = Self::tolerance(interval) * Self::MISSING;
        now > self.seen + self.period * Self::MISSING + late
    }
}

/// How many scrapes there may be: 1.1 an interval over time, of which [`SAVED`] can be saved up.
#[derive(Debug)]
struct Budget {
    /// The time in which one scrape is earned.
    price: Duration,
    /// What was saved at `at`.
    saved: Duration,
    at: Instant,
}

impl Budget {
    fn new(interval: Duration, now: Instant) -> Self {
        let price = interval * 10 / 11;
        Self {
            price,
            saved: price * SAVED,
            at: now,
        }
    }

    fn saved(&self, now: Instant) -> Duration {
        let earned = now.saturating_duration_since(self.at);
        (self.saved + earned).min(self.price * SAVED)
    }

    fn affords(&self, now: Instant) -> bool {
        self.saved(now) >= self.price
    }

    /// Whether there is enough for one now and one at `then`.
    fn affords_and_again(&self, now: Instant, then: Instant) -> bool {
        let left = self.saved(now).checked_sub(self.price);
        left.is_some_and(|left| left + then.saturating_duration_since(now) >= self.price)
    }

    /// From when on there is enough for one.
    fn affordable(&self) -> Instant {
        self.at + self.price.saturating_sub(self.saved)
    }

    fn spend(&mut self, now: Instant) {
        self.saved = self.saved(now).saturating_sub(self.price);
        self.at = now;
    }
}

#[cfg(test)]
mod tests;
