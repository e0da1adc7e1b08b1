use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::store::Limits;

const START: i64 = 1_795_464_000_000;

fn limits() -> Limits {
    Limits {
        retention: Duration::from_secs(600),
        samples_per_series: 30,
        ..Limits::default()
    }
}

/// Samples as they are: what a window must give back.
#[derive(Default)]
struct Plain {
    rounds: Rounds,
    window: Window,
    kept: VecDeque<(u32, Sample)>,
}

impl Plain {
    /// A scrape that begins `after` the one before; it may bring a sample.
    fn scrape(&mut self, at: i64, sample: Option<(f64, i64)>) {
        let at = Timestamp::from_millis(at);
        let round = self.rounds.at(at, &limits());
        let Some((value, age)) = sample else {
            return;
        };
        let sample = Sample::new(Timestamp::from_millis(at.as_millis() - age), value);
        self.window.push(&self.rounds, round, sample);
        let last = self.kept.back().map(|(_, last)| last.timestamp);
        if last.is_none_or(|last| last < sample.timestamp) {
            self.kept.push_back((round, sample));
        }
        while self
            .kept
            .front()
            .is_some_and(|(round, _)| *round < self.rounds.first())
        {
            self.kept.pop_front();
        }
    }

    fn read(&self) -> Vec<(i64, u64)> {
        let mut read = Vec::new();
        self.window.each(&self.rounds, Timestamp::MIN, |sample| {
            read.push((sample.timestamp.as_millis(), sample.value.to_bits()));
        });
        read
    }

    fn expected(&self) -> Vec<(i64, u64)> {
        let bits =
            |(_, sample): &(u32, Sample)| (sample.timestamp.as_millis(), sample.value.to_bits());
        self.kept.iter().map(bits).collect()
    }
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_written_is_read_to_the_bit(
        scrapes in prop::collection::vec(
            (1..40_000_i64, prop::option::weighted(0.9, (value(), prop_oneof![3 => Just(0), 1 => 0..20_000_i64, 1 => -5..5_i64]))),
            1..120,
        )
    ) {
        let mut plain = Plain::default();
        let mut at = START;
        for (gap, sample) in scrapes {
            at += gap;
            plain.scrape(at, sample);
            // What has left the retention is forgotten when the next sample comes; its last one never is.
            if sample.is_some() {
                prop_assert_eq!(plain.read(), plain.expected());
            }
            let last = plain.window.last().map(|it| (it.timestamp.as_millis(), it.value.to_bits()));
            prop_assert_eq!(last, plain.read().last().copied());
        }
    }

    #[test]
    fn any_bytes_are_read_without_end_or_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), value in value()) {
        let mut rest = bytes.as_slice();
        let mut last = Value::new(value);
        let mut length = rest.len();
        while let Some((next, _, _)) = encoding::take(&mut rest, last) {
            prop_assert!(rest.len() < length);
            (last, length) = (next, rest.len());
        }
    }
}

fn size(values: impl Iterator<Item = f64>) -> usize {
    let mut plain = Plain::default();
    let mut count = 0;
    for (index, value) in (0..).zip(values) {
        plain.scrape(START + 15_000 * index, Some((value, 0)));
        count += 1;
    }
    assert_eq!(plain.read().len(), count);
    plain.window.bytes.len()
}

/// What this encoding is for; the sizes are what a million series are multiplied by.
#[test]
fn a_sample_of_an_exporter_takes_few_bytes() {
    assert_eq!(std::mem::size_of::<Window>(), 64);
    assert_eq!(size([81_559.0; 30].into_iter()), 2, "constant");
    let percent = [97.0, 98.0, 97.0, 91.0, 100.0, 99.0].into_iter().cycle();
    assert_eq!(size(percent.take(30)), 29, "percent");
    let ratio = (0..30).map(|it| f64::from((it * 7_919 + 13) % 1_000_000) / 1e6);
    assert!(size(ratio) <= 3 * 29, "six decimals");
    let nanos = (1..31).map(|it| (357_354_910_123.0 + f64::from(it) * 8_345_678_901.0) / 1e9);
    assert!(size(nanos) <= 6 * 29, "a CPU counter");
    let odd = (0..30).map(|it| (f64::from(it) + 0.1).sqrt());
    assert_eq!(size(odd), 9 * 29, "no decimals");
}

#[test]
fn a_sample_whose_time_is_weeks_from_its_scrape_is_not_kept() {
    let mut plain = Plain::default();
    let weeks = 30 * 24 * 3_600_000;
    for age in [weeks, -weeks, i64::MAX] {
        let round = plain.rounds.at(Timestamp::from_millis(START), &limits());
        let at = Timestamp::from_millis(START.saturating_sub(age));
        plain
            .window
            .push(&plain.rounds, round, Sample::new(at, 1.0));
        assert!(plain.window.is_empty(), "{age}");
    }
}
