//! From samples to usage, by metrics-server's rules (`pkg/storage/pod.go`, `pkg/storage/types.go`). Pure.
//!
//! A kubelet gives the CPU as seconds since a start, each with the time at which it was measured, which is not the time of the
//! scrape. A usage is the difference of two points of one start. Where metrics-server keeps two points and loses them with a
//! failed scrape, the store has those of minutes, so that the earlier point is looked for there.

use std::fmt;
use std::time::Duration;

use crate::model::quantity::Quantity;
use crate::model::sample::Sample;
use crate::model::time::Timestamp;

/// How old a container must be for its start to stand for an earlier point.
const FRESH: Duration = Duration::from_secs(10);

/// How far ahead of ours a kubelet's clock may be.
const AHEAD: Duration = Duration::from_secs(10);

/// Which points make a usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// How often kubelets are scraped.
    pub(super) resolution: Duration,
    /// The age past which a point does not count.
    pub(super) max_age: Duration,
}

impl Bounds {
    /// How far apart the points are to be. Two thirds of the resolution: two scrapes on demand may follow each other closely, and a
    /// kubelet's own intervals vary.
    fn least(&self) -> Duration {
        self.resolution * 2 / 3
    }

    /// How far apart they may be: a mean over more would say little of now.
    fn most(&self) -> Duration {
        looks_back(self.max_age) - self.max_age
    }

    /// The time after which all points lie that may be of use at `now`.
    pub(super) fn after(&self, now: Timestamp) -> Timestamp {
        now.minus(looks_back(self.max_age))
    }
}

/// How old the earlier of two points may be.
pub(super) fn looks_back(max_age: Duration) -> Duration {
    max_age * 3
}

/// CPU over a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Billionths of a core, rounded down.
    pub(super) nanocores: i64,
    /// The time of the later point.
    pub(super) at: Timestamp,
    /// How much later that is than the earlier one.
    pub(super) window: Duration,
}

/// Why there is no usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lacking {
    /// The page does not show it.
    Sample,
    /// The latest point is this old.
    Old(Duration),
    /// The latest point is this far ahead.
    Ahead(Duration),
    /// It is 0 or less, or no number: what runs uses some.
    Nothing,
    /// There is no earlier point of the same start.
    Earlier,
}

/// Such as `the latest point is 3600 s old`.
impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sample => f.write_str("its page does not show it"),
            Self::Old(age) => write!(f, "the latest point is {} s old", age.as_secs()),
            Self::Ahead(by) => write!(f, "its clock is {} s ahead", by.as_secs()),
            Self::Nothing => f.write_str("it is 0"),
            Self::Earlier => f.write_str("there is one point so far"),
        }
    }
}

/// The CPU that these points of a counter of seconds tell of at `now`; they are in the order of time. `started` is when what is
/// counted was started, where that is known.
pub(super) fn cpu(
    points: &[Sample],
    started: Option<Timestamp>,
    now: Timestamp,
    bounds: &Bounds,
) -> Result<Rate, Lacking> {
    let (last, before) = points.split_last().ok_or(Lacking::Sample)?;
    usable(*last, now, bounds)?;
    let window = |earlier: &Sample| last.timestamp.since(earlier.timestamp);
    let mut earlier: Option<Sample> = None;
    let mut later = last;
    for point in before.iter().rev() {
        let same_start = started.is_none_or(|started| started < point.timestamp);
        // Not so for NaN, which the end of a series is too.
        let counts_up = point.value <= later.value;
        if !same_start || !counts_up || window(point) > bounds.most() {
            break;
        }
        earlier = Some(*point);
        if window(point) >= bounds.least() {
            break;
        }
        later = point;
    }
    let fresh = started.map(|started| Sample::new(started, 0.0));
    let fresh = fresh.filter(|start| (FRESH..bounds.resolution).contains(&window(start)));
    let earlier = earlier.or(fresh).ok_or(Lacking::Earlier)?;
    let window = window(&earlier);
    let used = nanoseconds(last.value).saturating_sub(nanoseconds(earlier.value));
    Ok(Rate {
        nanocores: whole(used as f64 / window.as_secs_f64()),
        at: last.timestamp,
        window,
    })
}

/// The memory that a gauge of bytes shows at `now`.
pub(super) fn memory(
    latest: Option<&Sample>,
    now: Timestamp,
    bounds: &Bounds,
) -> Result<Quantity, Lacking> {
    let latest = *latest.ok_or(Lacking::Sample)?;
    usable(latest, now, bounds)?;
    Ok(Quantity::from_bytes(whole(latest.value)))
}

/// Whether a point may be the latest.
fn usable(latest: Sample, now: Timestamp, bounds: &Bounds) -> Result<(), Lacking> {
    if latest.is_stale_marker() {
        return Err(Lacking::Sample);
    }
    let (age, ahead) = (now.since(latest.timestamp), latest.timestamp.since(now));
    match () {
        () if age > bounds.max_age => Err(Lacking::Old(age)),
        () if ahead > AHEAD => Err(Lacking::Ahead(ahead)),
        () if latest.value > 0.0 && latest.value.is_finite() => Ok(()),
        () => Err(Lacking::Nothing),
    }
}

fn nanoseconds(seconds: f64) -> i64 {
    whole(seconds * 1e9)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounded down is what metrics-server does, and what does not fit saturates"
)]
fn whole(value: f64) -> i64 {
    value as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        resolution: Duration::from_secs(15),
        max_age: Duration::from_secs(45),
    };

    /// Seconds after an hour, to the millisecond.
    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_millis(3_600_000 + whole(seconds * 1e3))
    }

    fn points(points: &[(f64, f64)]) -> Vec<Sample> {
        let points = points.iter();
        points
            .map(|(time, value)| Sample::new(at(*time), *value))
            .collect()
    }

    /// Millicores and window in seconds at second 100.
    fn rate(given: &[(f64, f64)], started: Option<f64>) -> Result<(i64, f64), Lacking> {
        let rate = cpu(&points(given), started.map(at), at(100.0), &BOUNDS)?;
        Ok((rate.nanocores / 1_000_000, rate.window.as_secs_f64()))
    }

    /// The value table: times and counters of the points, the start, and what comes of them at second 100.
    #[test]
    fn cpu_is_what_two_points_of_one_start_say() {
        type Row<'a> = (
            &'a str,
            &'a [(f64, f64)],
            Option<f64>,
            Result<(i64, f64), Lacking>,
        );
        let table: &[Row<'_>] = &[
            ("nothing", &[], Some(0.0), Err(Lacking::Sample)),
            (
                "first scrape",
                &[(95.0, 50.0)],
                Some(0.0),
                Err(Lacking::Earlier),
            ),
            (
                "two scrapes",
                &[(80.0, 50.0), (95.0, 57.5)],
                Some(0.0),
                Ok((500, 15.0)),
            ),
            (
                "its own times, not those of scrapes",
                &[(80.5, 50.0), (92.5, 56.0)],
                None,
                Ok((500, 12.0)),
            ),
            (
                "idle",
                &[(80.0, 50.0), (95.0, 50.0)],
                Some(0.0),
                Ok((0, 15.0)),
            ),
            (
                "rounded down to a billionth",
                &[(80.0, 1.0), (95.0, 1.000_000_001)],
                None,
                Ok((0, 15.0)),
            ),
            (
                "a scrape on demand between: the window is not that short",
                &[(80.0, 50.0), (93.0, 51.0), (95.0, 57.5)],
                Some(0.0),
                Ok((500, 15.0)),
            ),
            (
                "no earlier one is far enough: the earliest",
                &[(91.0, 50.0), (93.0, 50.0), (95.0, 52.0)],
                Some(0.0),
                Ok((500, 4.0)),
            ),
            (
                "one scrape failed: the point before it stays",
                &[(65.0, 50.0), (95.0, 65.0)],
                Some(0.0),
                Ok((500, 30.0)),
            ),
            (
                "a node lost for two minutes and back",
                &[(-40.0, 1.0), (95.0, 65.0)],
                Some(-100.0),
                Err(Lacking::Earlier),
            ),
            (
                "the node gives nothing any more",
                &[(35.0, 50.0), (50.0, 65.0)],
                Some(0.0),
                Err(Lacking::Old(Duration::from_secs(50))),
            ),
            (
                "restarted between",
                &[(80.0, 50.0), (95.0, 50.5)],
                Some(91.0),
                Err(Lacking::Earlier),
            ),
            (
                "started just when the earlier point was taken",
                &[(80.0, 50.0), (95.0, 57.5)],
                Some(80.0),
                Err(Lacking::Earlier),
            ),
            (
                "restarted, two points since",
                &[(60.0, 50.0), (90.0, 1.0), (98.0, 5.0)],
                Some(89.0),
                Ok((500, 8.0)),
            ),
            (
                "the counter went back, and no start is told",
                &[(80.0, 50.0), (95.0, 1.0)],
                None,
                Err(Lacking::Earlier),
            ),
            (
                "points before a reset do not count",
                &[(65.0, 0.5), (72.0, 50.0), (89.0, 1.0), (95.0, 4.0)],
                None,
                Ok((500, 6.0)),
            ),
            (
                "fresh: since its start",
                &[(95.0, 6.0)],
                Some(83.0),
                Ok((500, 12.0)),
            ),
            (
                "fresh, and younger than 10 s",
                &[(95.0, 6.0)],
                Some(85.1),
                Err(Lacking::Earlier),
            ),
            (
                "not fresh: the start is a resolution ago",
                &[(95.0, 6.0)],
                Some(80.0),
                Err(Lacking::Earlier),
            ),
            (
                "it left the page and came back",
                &[(65.0, 50.0), (80.0, f64::NAN), (95.0, 57.5)],
                None,
                Err(Lacking::Earlier),
            ),
            (
                "0",
                &[(80.0, 0.0), (95.0, 0.0)],
                None,
                Err(Lacking::Nothing),
            ),
            (
                "no number",
                &[(80.0, 1.0), (95.0, f64::NAN)],
                None,
                Err(Lacking::Nothing),
            ),
            (
                "the clock is a minute ahead",
                &[(145.0, 50.0), (160.0, 57.5)],
                None,
                Err(Lacking::Ahead(Duration::from_secs(60))),
            ),
            (
                "the clock is a little ahead",
                &[(90.0, 50.0), (105.0, 57.5)],
                None,
                Ok((500, 15.0)),
            ),
        ];
        for (what, given, started, expected) in table {
            assert_eq!(rate(given, *started), *expected, "{what}");
        }
    }

    #[test]
    fn a_series_that_left_the_page_has_no_usage() {
        let mut given = points(&[(80.0, 50.0), (90.0, 57.5)]);
        given.push(Sample::stale_marker(at(95.0)));
        let found = cpu(&given, None, at(100.0), &BOUNDS);
        assert_eq!(found, Err(Lacking::Sample));
        let found = memory(given.last(), at(100.0), &BOUNDS);
        assert_eq!(found, Err(Lacking::Sample));
    }

    #[test]
    fn memory_is_the_latest_point_in_bytes() {
        let memory = |time, value| {
            let found = memory(Some(&Sample::new(at(time), value)), at(100.0), &BOUNDS);
            found.map(|quantity| quantity.to_string())
        };
        assert_eq!(memory(95.0, 20_631_552.0), Ok("20148Ki".to_owned()));
        assert_eq!(memory(95.0, 20_631_552.9), Ok("20148Ki".to_owned()));
        assert_eq!(memory(95.0, 0.0), Err(Lacking::Nothing));
        assert_eq!(memory(95.0, f64::INFINITY), Err(Lacking::Nothing));
        let old = Lacking::Old(Duration::from_secs(3600));
        assert_eq!(memory(-3500.0, 1.0), Err(old));
    }

    #[test]
    fn cpu_is_rounded_down_as_metrics_server_does() {
        let given = points(&[(80.0, 10.0), (95.065, 10.829_999)]);
        let found = cpu(&given, None, at(100.0), &BOUNDS).expect("two points");
        // 829,999,000 ns in 15.065 s
        assert_eq!(found.nanocores, 55_094_523);
        assert_eq!(found.window, Duration::from_millis(15_065));
    }
}
