use proptest::prelude::*;

use super::*;

const START: i64 = 1_795_464_000_000;

fn limits() -> Limits {
    Limits {
        retention: Duration::from_secs(600),
        samples_per_series: 30,
        ..Limits::default()
    }
}

/// Samples as they are: what a history must give back.
#[derive(Default)]
struct Plain {
    history: History,
    /// The number of the scrape, and what it brought, by slot.
    kept: Vec<Vec<(u32, Sample)>>,
    round: u32,
}

impl Plain {
    fn new(slots: usize) -> Self {
        let mut plain = Self::default();
        // Soon the numbers begin again.
        plain.history.first = u16::MAX - 20;
        plain.history.reserve(slots);
        plain.kept.resize(slots, Vec::new());
        plain
    }

    /// A scrape that begins at `at` and brings a value of this age in some slots.
    fn scrape(&mut self, at: i64, brought: &[Option<(f64, i64)>]) {
        let mut samples = Vec::new();
        for (slot, brought) in (0..).zip(brought) {
            let Some((value, age)) = brought else {
                continue;
            };
            let time = Timestamp::from_millis(at.saturating_sub(*age));
            samples.push((slot, Sample::new(time, *value)));
        }
        let at = Timestamp::from_millis(at);
        self.history.append(at, &limits(), &mut samples);
        for (slot, sample) in samples {
            let kept = &mut self.kept[slot as usize];
            if kept
                .last()
                .is_none_or(|(_, last)| last.timestamp < sample.timestamp)
            {
                kept.push((self.round, sample));
            }
        }
        self.round += 1;
    }

    fn read(&self, slot: Slot) -> Vec<(i64, u64)> {
        let mut read: Vec<_> = self.history.backwards(slot).map(bits).collect();
        read.reverse();
        read
    }

    /// Those of the scrapes that are not forgotten, and the newest in any case.
    fn expected(&self, slot: Slot) -> Vec<(i64, u64)> {
        let kept = &self.kept[slot as usize];
        let newest = kept.last().map(|(round, _)| *round);
        let forgotten = self.round - u32::try_from(self.history.rounds.len()).expect("a few");
        let counts = |round: u32| round >= forgotten || Some(round) == newest;
        let kept = kept.iter().filter(|(round, _)| counts(*round));
        kept.map(|(_, sample)| bits(*sample)).collect()
    }
}

fn bits(sample: Sample) -> (i64, u64) {
    (sample.timestamp.as_millis(), sample.value.to_bits())
}

/// Values as exporters print them, and any others.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (0..100_u32).prop_map(f64::from),
        3 => Just(97.0),
        3 => (0..1_000_000_u32).prop_map(|ratio| f64::from(ratio) / 1e6),
        2 => (0..1_u64 << 50).prop_map(|nanos| nanos as f64 / 1e9),
        1 => any::<f64>(),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => prop_oneof![Just(-0.0), Just(f64::NAN), Just(f64::INFINITY), Just(9_007_199_254_740_993.0), Just(0.1 + 0.2)],
        1 => Just(Sample::stale_marker(Timestamp::default()).value),
    ]
}

fn age() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 1 => 0..20_000_i64, 1 => -5..5_i64, 1 => -20_000..0_i64]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_written_is_read_to_the_bit(
        scrapes in prop::collection::vec(
            (1..40_000_i64, prop::collection::vec(prop::option::weighted(0.8, (value(), age())), 0..40)),
            1..60,
        ),
        reused in 0..40_u32,
    ) {
        let mut plain = Plain::new(40);
        let mut at = START;
        for (index, (gap, brought)) in scrapes.iter().enumerate() {
            at += gap;
            // In the middle a series goes, and another one gets its slot.
            if index == scrapes.len() / 2 {
                plain.history.clear(reused);
                plain.kept[reused as usize].clear();
            }
            plain.scrape(at, brought);
            for slot in 0..40 {
                prop_assert_eq!(plain.read(slot), plain.expected(slot));
                let newest = plain.history.newest(slot).map(bits);
                prop_assert_eq!(newest, plain.read(slot).last().copied());
                prop_assert_eq!(plain.history.has(slot), newest.is_some());
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_end_or_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), value in value()) {
        let mut rest = bytes.as_slice();
        let mut last = Value::new(value);
        while !rest.is_empty() {
            let (length, mut passed) = (rest.len(), rest);
            encoding::skip(&mut passed);
            if let Some(entry) = encoding::take(&mut rest, last) {
                prop_assert_eq!(rest, passed);
                last = entry.before.unwrap_or(last);
            }
            prop_assert!(rest.len() < length);
        }
    }
}

/// How many bytes the columns have for a series, one of a page of 32, whose values are these.
fn size(values: impl Iterator<Item = f64>) -> f64 {
    let mut plain = Plain::new(32);
    let mut count = 0_u32;
    for (index, value) in (0..).zip(values) {
        plain.scrape(START + 15_000 * index, &[Some((value, 0)); 32]);
        count += 1;
    }
    assert_eq!(plain.read(5).len(), count as usize);
    let bytes: usize = plain.history.rounds.iter().map(|it| it.column.size()).sum();
    bytes as f64 / 32.0 / f64::from(count)
}

/// What this encoding is for; the sizes are what a million series are multiplied by.
#[test]
fn a_sample_of_an_exporter_takes_few_bytes() {
    assert_eq!(size_of::<Newest>(), 16);
    let places = 0.25;
    assert_eq!(size([81_559.0; 30].into_iter()), 1.0 + places, "constant");
    let percent = [97.0, 98.0, 97.0, 91.0, 100.0, 50.0].into_iter().cycle();
    assert_eq!(size(percent.take(30)), 1.0 + places, "percent");
    let ratio = (0..30).map(|it| f64::from((it * 7_919 + 13) % 1_000_000) / 1e6);
    assert!(size(ratio) <= 3.5, "six decimals");
    let nanos = (1..31).map(|it| (357_354_910_123.0 + f64::from(it) * 8_345_678_901.0) / 1e9);
    assert!(size(nanos) <= 6.5, "a CPU counter");
    let odd = (0..30).map(|it| (f64::from(it) + 0.1).sqrt());
    assert!(size(odd) <= 9.25, "no decimals");
}

#[test]
fn a_sample_whose_time_is_weeks_from_its_scrape_is_not_kept() {
    let mut plain = Plain::new(1);
    let weeks = 30 * 24 * 3_600_000;
    for age in [weeks, -weeks, i64::MAX] {
        plain.scrape(START, &[Some((1.0, age))]);
        assert!(!plain.history.has(0), "{age}");
    }
}

#[test]
fn a_time_that_there_is_no_room_for_is_not_kept() {
    let mut plain = Plain::new(1);
    let last = (1 << 42) - 1;
    for (at, is_kept) in [
        (-last - 2, false),
        (last + 1, false),
        (-last - 1, true),
        (last, true),
    ] {
        plain.scrape(at, &[Some((1.0, 0))]);
        assert_eq!(plain.history.has(0), is_kept, "{at}");
    }
    assert_eq!(plain.read(0).last(), Some(&(last, 1.0_f64.to_bits())));
}

#[test]
fn scrapes_whose_numbers_begin_again_are_not_taken_for_others() {
    let limits = Limits {
        retention: Duration::from_hours(24),
        samples_per_series: usize::MAX,
        ..Limits::default()
    };
    let mut history = History::default();
    history.reserve(2);
    let at = |second: i64| Timestamp::from_millis(1_000 * second);
    let sample = |slot: Slot, second: i64| (slot, Sample::new(at(second), second as f64));
    history.append(at(1), &limits, &mut [sample(0, 1), sample(1, 1)]);
    let last = 2 + i64::from(u16::MAX);
    for second in 2..=last {
        history.append(at(second), &limits, &mut [sample(1, second)]);
    }
    // The newest scrape has the number that the first one had, which is forgotten.
    let read = |slot| history.backwards(slot).map(|it| it.timestamp);
    assert_eq!(read(0).collect::<Vec<_>>(), [at(1)]);
    assert!(read(1).eq((0..i64::from(u16::MAX)).map(|ago| at(last - ago))));
}

#[test]
fn scrapes_are_known_until_they_leave_the_retention_or_the_clock_is_set_back() {
    let limits = Limits {
        retention: Duration::from_secs(30),
        ..Limits::default()
    };
    let mut history = History::default();
    history.reserve(1);
    let mut read = |seconds: i64, value: f64| {
        let at = Timestamp::from_millis(1_000 * seconds);
        history.append(at, &limits, &mut [(0, Sample::new(at, value))]);
        let values = history.backwards(0).map(|sample| sample.value);
        values.collect::<Vec<f64>>()
    };
    assert_eq!(read(1_000, 1.0), [1.0]);
    assert_eq!(read(1_015, 2.0), [2.0, 1.0]);
    assert_eq!(read(1_030, 3.0), [3.0, 2.0]);
    // Not a minute back: nothing newer.
    assert_eq!(read(1_010, 4.0), [3.0, 2.0]);
    assert_eq!(read(10, 5.0), [5.0]);
    assert_eq!(read(25, 6.0), [6.0, 5.0]);
}

#[test]
fn the_newest_is_known_whatever_the_limits() {
    let limits = Limits {
        retention: Duration::ZERO,
        samples_per_series: 0,
        ..Limits::default()
    };
    let mut history = History::default();
    history.reserve(1);
    for second in [1, 2] {
        let at = Timestamp::from_millis(1_000 * second);
        history.append(at, &limits, &mut [(0, Sample::new(at, 1.0))]);
        let known: Vec<Timestamp> = history.backwards(0).map(|it| it.timestamp).collect();
        assert_eq!(known, [at]);
        assert_eq!(history.rounds.len(), 1);
    }
}
