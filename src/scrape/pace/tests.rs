use super::*;

const INTERVAL: Duration = Duration::from_secs(15);
const WANTED: Freshness = Freshness {
    within: Duration::from_secs(5),
    patience: Duration::from_secs(1),
};

/// How long before a target's first scrape the clock of all targets began: it is not on a tick.
const ORIGIN: Duration = Duration::from_millis(7_333);

/// A scrape takes this long.
const TOOK: Duration = Duration::from_millis(50);

/// Somebody who asks again and again.
struct Asker {
    next: Duration,
    period: Duration,
    jitter: Duration,
}

/// As the HPA does: 15 s and what it takes itself, of which up to 300 ms vary.
fn hpa(phase: f64) -> Asker {
    Asker {
        next: Duration::from_secs_f64(phase),
        period: Duration::from_millis(15_020),
        jitter: Duration::from_millis(300),
    }
}

struct Outcome {
    /// Of the data of each asker's answers, in the order of time, in seconds.
    ages: Vec<Vec<f64>>,
    scrapes: u32,
    intervals: f64,
}

impl Outcome {
    fn median(&self, asker: usize) -> f64 {
        // Not of the time before a rhythm can have been found.
        let mut ages = self.ages[asker][5..].to_vec();
        ages.sort_by(f64::total_cmp);
        ages[ages.len() / 2]
    }

    fn per_interval(&self) -> f64 {
        f64::from(self.scrapes) / self.intervals
    }
}

/// One of `targets` targets, in steps of 10 ms, for an hour and a half.
fn simulate(interval: Duration, targets: usize, mut askers: Vec<Asker>, fails: bool) -> Outcome {
    let start = Instant::now();
    let ticks = Ticks::new(start - ORIGIN, interval, targets);
    let mut pace = Pace::new(interval, ticks, start, start + interval, 0.5);
    let length = Duration::from_secs(5_400);
    let (mut scrapes, mut ends, mut waiting) = (0, None, Vec::new());
    let mut ages = vec![Vec::new(); askers.len()];
    let (mut begun, mut good, mut drawn) = (start, start, 1_u64);
    let mut time = Duration::ZERO;
    while time < length {
        let now = start + time;
        if ends.is_some_and(|end| now >= end) {
            ends = None;
            let first = scrapes == 1;
            pace.ended(now, first || !fails);
            if first || !fails {
                good = begun;
            }
            for asker in waiting.drain(..) {
                let ages: &mut Vec<f64> = &mut ages[asker];
                ages.push((now - good).as_secs_f64());
            }
        }
        for (index, asker) in askers.iter_mut().enumerate() {
            if time < asker.next {
                continue;
            }
            drawn = drawn
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            asker.next += asker.period
                + asker
                    .jitter
                    .mul_f64((drawn >> 40) as f64 / (1 << 24) as f64);
            match pace.ask(now, WANTED, true) {
                Reply::Answer => ages[index].push((now - good).as_secs_f64()),
                Reply::Wait(_) | Reply::Scrape(_) => waiting.push(index),
            }
        }
        if ends.is_none() && pace.turn(now).is_some() {
            scrapes += 1;
            begun = now;
            ends = Some(now + TOOK);
        }
        time += Duration::from_millis(10);
    }
    Outcome {
        ages,
        scrapes,
        intervals: length.div_duration_f64(interval),
    }
}

#[test]
fn whoever_asks_once_an_interval_gets_fresh_data_and_no_more_scrapes() {
    for (targets, phase) in [40, 2_000, 10_000]
        .into_iter()
        .flat_map(|it| (0..15).map(move |phase| (it, phase)))
    {
        let askers = vec![hpa(f64::from(phase) + 0.3)];
        let outcome = simulate(INTERVAL, targets, askers, false);
        let (median, rate) = (outcome.median(0), outcome.per_interval());
        assert!(median < 1.0, "{targets}, phase {phase}: {median} s");
        assert!(
            (0.95..=1.1).contains(&rate),
            "{targets}, phase {phase}: {rate}"
        );
    }
}

#[test]
fn many_askers_get_no_more_scrapes_than_the_budget_and_one_of_them_is_served() {
    let askers = [1.0, 4.0, 8.0, 12.5].map(hpa);
    let outcome = simulate(INTERVAL, 40, askers.into(), false);
    let medians: Vec<f64> = (0..4).map(|asker| outcome.median(asker)).collect();
    assert!(medians.iter().any(|median| *median < 1.0), "{medians:?}");
    assert!(outcome.per_interval() <= 1.11, "{}", outcome.per_interval());
}

#[test]
fn asking_in_a_loop_gets_no_more_scrapes_than_the_budget() {
    for (period, interval) in [(1.0, 15), (0.1, 15), (15.1, 10), (15.1, 30), (15.1, 60)] {
        let asker = Asker {
            next: Duration::from_secs(1),
            period: Duration::from_secs_f64(period),
            jitter: Duration::from_millis(20),
        };
        let interval = Duration::from_secs(interval);
        let outcome = simulate(interval, 40, vec![asker], false);
        let rate = outcome.per_interval();
        // What was saved at the start is spent once.
        assert!(rate <= 1.1 + 2.0 / outcome.intervals, "{period}: {rate}");
    }
}

#[test]
fn without_requests_a_target_keeps_its_place() {
    let start = Instant::now();
    let ticks = Ticks::new(start, INTERVAL, 1);
    let mut pace = Pace::new(INTERVAL, ticks, start, start + INTERVAL, 0.5);
    for count in 0..10 {
        let now = start + INTERVAL * count;
        let turn = pace.turn(now).expect("due");
        assert_eq!((turn.cause, turn.missed), (Cause::Schedule, 0));
        pace.ended(now + TOOK, true);
        assert_eq!(pace.due(), now + INTERVAL);
    }
    let late = start + INTERVAL * 12 + TOOK;
    assert_eq!(pace.turn(late).expect("due").missed, 2);
    assert_eq!(pace.due(), start + INTERVAL * 13);
}

#[test]
fn a_failing_target_is_neither_scraped_more_often_nor_waited_for() {
    let outcome = simulate(INTERVAL, 40, vec![hpa(7.0), hpa(9.0)], true);
    assert!(outcome.per_interval() <= 1.1, "{}", outcome.per_interval());
    let start = Instant::now();
    let ticks = Ticks::new(start, INTERVAL, 1);
    let mut pace = Pace::new(INTERVAL, ticks, start, start + INTERVAL, 0.5);
    pace.turn(start);
    pace.ended(start + TOOK, true);
    pace.turn(start + INTERVAL);
    pace.ended(start + INTERVAL + TOOK, false);
    let now = start + INTERVAL + Duration::from_secs(8);
    assert_eq!(pace.ask(now, WANTED, true), Reply::Answer);
}

#[test]
fn one_scrape_is_shared_and_one_that_hangs_is_waited_for_once() {
    let start = Instant::now();
    let ticks = Ticks::new(start, INTERVAL, 1);
    let mut pace = Pace::new(INTERVAL, ticks, start, start + INTERVAL, 0.5);
    pace.turn(start);
    pace.ended(start + TOOK, true);
    let asked = start + Duration::from_secs(8);
    let until = asked + WANTED.patience;
    assert_eq!(pace.ask(asked, WANTED, true), Reply::Scrape(until));
    assert_eq!(pace.turn(asked).expect("demanded").cause, Cause::Demand);
    let later = asked + WANTED.patience / 2;
    assert_eq!(pace.ask(later, WANTED, true), Reply::Wait(until));
    assert_eq!(pace.ask(until, WANTED, true), Reply::Answer);
    assert_eq!(pace.due(), asked + INTERVAL, "the regular one moves");
    pace.ended(until, true);
    assert_eq!(pace.ask(until, WANTED, true), Reply::Answer, "it is fresh");
}

#[test]
fn where_there_is_no_room_nothing_is_scraped() {
    let start = Instant::now();
    let ticks = Ticks::new(start, INTERVAL, 1);
    let mut pace = Pace::new(INTERVAL, ticks, start, start + INTERVAL, 0.5);
    pace.turn(start);
    pace.ended(start + TOOK, true);
    let now = start + Duration::from_secs(8);
    assert_eq!(pace.ask(now, WANTED, false), Reply::Answer);
    assert_eq!(pace.turn(now), None);
}

#[test]
fn scrapes_begin_on_ticks_that_all_targets_share_and_at_most_one_later_than_due() {
    let origin = Instant::now();
    for (interval, targets, count) in [
        (1, 40, 120),
        (10, 40, 120),
        (15, 40, 120),
        (15, 2_000, 30),
        (15, 5_000, 60),
        (15, 10_000, 120),
        (15, 1_000_000, 240),
        (60, 5_000, 120),
        (600, 5_000, 4_800),
    ] {
        let interval = Duration::from_secs(interval);
        let ticks = Ticks::new(origin, interval, targets);
        let tick = interval.div_f64(f64::from(count));
        let mut times = std::collections::BTreeSet::new();
        for place in 0..1_000_u32 {
            let first = origin + interval * place / 1_000;
            let mut pace = Pace::new(interval, ticks, first, first + interval, 0.5);
            for due in [first, first + interval, first + 2 * interval] {
                let begins = pace.due();
                assert!((due..=due + tick).contains(&begins));
                assert_eq!(pace.turn(begins).map(|it| it.missed), Some(0));
                pace.ended(begins, true);
            }
            times.insert(pace.due() - origin);
        }
        // All of them, where there are as many as places; one more for those that round up.
        let expected = 1_000.min(count as usize);
        let used = times.len();
        assert!(
            (expected..=expected + 1).contains(&used),
            "{interval:?} {targets}: {used}"
        );
    }
}

#[test]
fn the_ticks_of_few_and_of_many_targets_fall_together() {
    let origin = Instant::now();
    for time in (0..300).map(|it| origin + Duration::from_millis(51 * it)) {
        let after = |targets| Ticks::new(origin, INTERVAL, targets).after(time);
        let (few, many, most) = (after(40), after(2_000), after(1_000_000));
        assert!(most <= few && few <= many && many - most <= LONGEST_TICK);
        assert_eq!(Ticks::new(origin, INTERVAL, 1_000_000).after(many), many);
        assert_eq!(Ticks::new(origin, INTERVAL, 40).after(many), many);
    }
}
