use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::bounds::{Bounds, Kept};
use super::window::{Held, floor, hold};
use super::{Edge, Excluded, Expression, ExpressionError, Floors, Schedule, Window};

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).expect("a known zone")
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn schedule(text: &str, zone: TimeZone) -> Schedule {
    Schedule::new(text, zone, at("2026-11-23T20:00:00Z"))
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn expressions_are_read_as_the_old_controller_reads_them() {
    // From Monday 2026-11-23 20:00:00 UTC on.
    let now = at("2026-11-23T20:00:00Z");
    for (text, next) in [
        ("0 30 9 * *", "2026-11-24T09:30:00Z"),
        ("0 30 9 * * *", "2026-11-24T09:30:00Z"),
        // A crontab of five fields is second 30 of minute 9 of every hour.
        ("30 9 * * *", "2026-11-23T20:09:30Z"),
        ("1 7 21 * * *", "2026-11-23T21:07:01Z"),
        ("*/10 * * * * *", "2026-11-23T20:00:10Z"),
        // With a step, one number is the first of many.
        ("5/20 * * * * ?", "2026-11-23T20:00:05Z"),
        ("0 0 22-23,5 * * *", "2026-11-23T22:00:00Z"),
        ("0 0 0 1 JAN *", "2027-01-01T00:00:00Z"),
        ("0 0 8 * * mon-FRI", "2026-11-24T08:00:00Z"),
        ("0 0 8 * * Sun", "2026-11-29T08:00:00Z"),
        // Day and weekday: either where both are said, both where one has a star.
        ("0 0 0 1 * 5", "2026-11-27T00:00:00Z"),
        ("0 0 0 */2 * 5", "2026-11-27T00:00:00Z"),
        ("0 0 0 */2 * 6", "2026-12-05T00:00:00Z"),
        ("0 0 0 29 2 *", "2028-02-29T00:00:00Z"),
        ("@yearly", "2027-01-01T00:00:00Z"),
        ("@annually", "2027-01-01T00:00:00Z"),
        ("@monthly", "2026-12-01T00:00:00Z"),
        ("@weekly", "2026-11-29T00:00:00Z"),
        ("@daily", "2026-11-24T00:00:00Z"),
        ("@midnight", "2026-11-24T00:00:00Z"),
        ("@hourly", "2026-11-23T21:00:00Z"),
        ("@every 1h30m", "2026-11-23T21:30:00Z"),
        ("@every 1.5h", "2026-11-23T21:30:00Z"),
        ("@every 10ms", "2026-11-23T20:00:01Z"),
        ("@every 2500ms", "2026-11-23T20:00:02Z"),
        ("@date 2027-03-04 05:06:07", "2027-03-04T05:06:07Z"),
    ] {
        let found = schedule(text, TimeZone::UTC).next(now);
        assert_eq!(found, Some(at(next)), "{text}");
    }
}

#[test]
fn what_the_old_controller_refuses_is_refused_with_the_reason() {
    for (text, reason) in [
        (
            "",
            "expected 5 to 6 fields (second minute hour day month [weekday]), found 0: \"\"",
        ),
        ("* * * *", "found 4"),
        ("* * * * * * *", "found 7"),
        ("60 * * * * *", "second \"60\": is out of range"),
        ("0 0 24 * * *", "hour \"24\": is out of range"),
        ("0 0 0 0 * *", "day \"0\": is out of range"),
        ("0 0 0 * * 7", "weekday \"7\": is out of range"),
        ("0 0 0 L * *", "day \"L\": is no number"),
        ("0 0 0 15W * *", "day \"15W\": is no number"),
        ("0 0 0 * * 5#2", "weekday \"5#2\": is no number"),
        ("0 0 5-3 * * *", "the beginning is after the end"),
        ("0 0 */0 * * *", "the step must not be 0"),
        ("0 0 1-2-3 * * *", "too many hyphens"),
        ("0 0 1/2/3 * * *", "too many slashes"),
        ("TZ=UTC 0 0 * * *", "second \"TZ=UTC\": is no number"),
        ("@sometimes", "unrecognized descriptor \"@sometimes\""),
        ("@every soon", "is no duration"),
        ("@date 2026-11-16", "is no date and time"),
        ("0 0 0 31 2 *", "never comes"),
        ("0 0 , * * *", "never comes"),
    ] {
        let error = Expression::parse(text).expect_err(text).to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    assert!(matches!(
        Excluded::new("@every 1h"),
        Err(ExpressionError::Descriptor(_))
    ));
}

#[test]
fn a_date_that_has_passed_does_not_come_again_next_year() {
    let past = schedule("@date 2020-11-16 23:59:00", TimeZone::UTC);
    let now = at("2026-11-23T20:00:00Z");
    assert_eq!(past.next(now), None);
    assert_eq!(past.latest(now), Some(at("2020-11-16T23:59:00Z")));
    assert!(past.is_once());
}

#[test]
fn every_counts_from_its_anchor_whenever_it_is_asked() {
    let every = schedule("@every 90s", TimeZone::UTC);
    assert_eq!(every.latest(at("2026-11-23T20:01:29Z")), None);
    for (now, latest, next) in [
        ("20:01:30", "20:01:30", "20:03:00"),
        ("20:02:59.9", "20:01:30", "20:03:00"),
        ("21:00:00", "21:00:00", "21:01:30"),
    ] {
        let time = |text| Some(at(&format!("2026-11-23T{text}Z")));
        let now = at(&format!("2026-11-23T{now}Z"));
        assert_eq!(
            (every.latest(now), every.next(now)),
            (time(latest), time(next))
        );
    }
}

#[test]
fn an_excluded_date_is_the_whole_day_and_no_other() {
    let excluded = |text: &str, now: &str, name: &str| {
        Excluded::new(text)
            .expect(text)
            .is_day_of(at(now), &zone(name))
    };
    // The old controller excluded 00:00 to 00:59 of any earlier day of that month, and not the last second of an hour.
    for (now, is) in [
        ("2026-11-15T00:00:00Z", true),
        ("2026-11-15T12:59:59Z", true),
        ("2026-11-15T23:59:59Z", true),
        ("2026-11-14T00:30:00Z", false),
        ("2026-11-16T00:00:00Z", false),
    ] {
        for text in [
            "* * * 15 11 *",
            "0 0 9 15 11 *",
            "@date 2026-11-15 10:00:00",
        ] {
            assert_eq!(excluded(text, now, "UTC"), is, "{text} at {now}");
        }
    }
    // 2026-11-25 is a Wednesday.
    assert!(!excluded("* * * * * 5", "2026-11-25T00:05:00Z", "UTC"));
    assert!(excluded("* * * * * 5", "2026-11-27T00:05:00Z", "UTC"));
    assert!(excluded(
        "* * * * * 5",
        "2026-11-26T16:00:00Z",
        "Asia/Shanghai"
    ));
}

#[test]
fn named_hours_are_due_once_on_the_days_on_which_the_clock_is_changed() {
    let berlin = || zone("Europe/Berlin");
    let half_past_two = schedule("0 30 2 * * *", berlin());
    // 02:00 to 03:00 is not there on 2027-03-28, and twice there on 2026-10-25.
    let spring = half_past_two.next(at("2027-03-27T12:00:00Z"));
    assert_eq!(spring, Some(at("2027-03-28T01:00:00Z")));
    let autumn = half_past_two.next(at("2026-10-24T12:00:00Z"));
    assert_eq!(autumn, Some(at("2026-10-25T00:30:00Z")));
    let after = half_past_two.next(autumn.expect("due"));
    assert_eq!(after, Some(at("2026-10-26T01:30:00Z")));
    // Of any hour: in both.
    let hourly = schedule("0 30 * * * *", berlin());
    let second = hourly.next(at("2026-10-25T00:30:00Z"));
    assert_eq!(second, Some(at("2026-10-25T01:30:00Z")));
}

/// Whether `text` (six fields) is due at a second, in the plainest way: look at the clock.
fn is_due(text: &str, zone: &TimeZone, t: Timestamp) -> bool {
    let second = SignedDuration::from_secs(1);
    let shown = zone.to_datetime(t);
    let before = zone.to_datetime(t.checked_sub(second).expect("in range"));
    let named_hours = !text
        .split(' ')
        .nth(2)
        .expect("an hour")
        .contains(['*', '?']);
    if !named_hours {
        return says(text, shown);
    }
    let again = || {
        (1..=3 * 3600).any(|ago| {
            let then = t.checked_sub(SignedDuration::from_secs(ago));
            zone.to_datetime(then.expect("in range")) == shown
        })
    };
    if says(text, shown) && !again() {
        return true;
    }
    let mut skipped = before.checked_add(second).expect("in range");
    while skipped < shown {
        if says(text, skipped) {
            return true;
        }
        skipped = skipped.checked_add(second).expect("in range");
    }
    false
}

/// Whether the fields say this time, one by one.
fn says(text: &str, time: DateTime) -> bool {
    let fields: Vec<&str> = text.split(' ').collect();
    let has = |index: usize, value: i8, min: i8, max: i8| {
        fields[index].split(',').any(|part| {
            let (range, step) = part.split_once('/').unwrap_or((part, ""));
            let number = |text: &str| text.parse::<i8>().expect("a number");
            let (from, to) = match range.split_once('-') {
                _ if range == "*" => (min, max),
                Some((from, to)) => (number(from), number(to)),
                None if step.is_empty() => (number(range), number(range)),
                None => (number(range), max),
            };
            let step = if step.is_empty() { 1 } else { number(step) };
            value >= from && value <= to && (value - from) % step == 0
        })
    };
    let day = has(3, time.day(), 1, 31);
    let weekday = has(5, time.weekday().to_sunday_zero_offset(), 0, 6);
    let star = fields[3].contains('*') || fields[5].contains('*');
    has(0, time.second(), 0, 59)
        && has(1, time.minute(), 0, 59)
        && has(2, time.hour(), 0, 23)
        && has(4, time.month(), 1, 12)
        && if star { day && weekday } else { day || weekday }
}

/// A field of an expression: a star, steps, a range, or a list.
fn field(min: i8, max: i8) -> impl Strategy<Value = String> {
    let number = min..=max;
    prop_oneof![
        3 => Just("*".to_owned()),
        1 => (1_i8..20).prop_map(|step| format!("*/{step}")),
        1 => (number.clone(), 1_i8..20).prop_map(|(from, step)| format!("{from}/{step}")),
        1 => (number.clone(), number.clone())
            .prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        2 => proptest::collection::vec(number, 1..4)
            .prop_map(|all| all.iter().map(i8::to_string).collect::<Vec<_>>().join(",")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// From two hours before to four after each change of the clock, in Berlin, New York and, by half an hour, Lord Howe.
    #[test]
    fn due_times_are_those_that_a_slow_look_at_the_clock_finds(
        change in prop::sample::select(vec![
            ("Europe/Berlin", "2027-03-28T01:00:00Z"),
            ("Europe/Berlin", "2026-10-25T01:00:00Z"),
            ("America/New_York", "2027-03-14T07:00:00Z"),
            ("America/New_York", "2026-11-01T06:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
            ("Australia/Lord_Howe", "2027-04-03T15:00:00Z"),
        ]),
        second in field(0, 59),
        minute in field(0, 59),
        hour in prop_oneof![2 => field(1, 3), 1 => field(0, 4), 1 => field(0, 23)],
        day in prop_oneof![2 => Just("*".to_owned()), 1 => field(1, 31)],
        weekday in prop_oneof![2 => Just("*".to_owned()), 1 => field(0, 6)],
        offset in -7200_i64..3600,
    ) {
        let (name, change) = change;
        let zone = zone(name);
        let text = format!("{second} {minute} {hour} {day} * {weekday}");
        let Ok(fast) = Schedule::new(&text, zone.clone(), Timestamp::UNIX_EPOCH) else {
            return Ok(());
        };
        let from = at(change).as_second() + offset;
        let time = |second| Timestamp::from_second(second).expect("in range");
        let slow: Vec<i64> = (from..from + 3 * 3600)
            .filter(|second| is_due(&text, &zone, time(*second)))
            .take(20)
            .collect();
        let until = if slow.len() == 20 { slow[19] } else { from + 3 * 3600 - 1 };
        let mut found = Vec::new();
        let mut after = from - 1;
        while let Some(next) = fast.next(time(after)).map(Timestamp::as_second) {
            if next > until {
                break;
            }
            prop_assert!(next > after, "{text}: {next} after {after}");
            found.push(next);
            after = next;
        }
        prop_assert_eq!(&found, &slow, "{}", text);
        // The last due time is the greatest of those found.
        for probe in [from, from + (until - from) / 3, until] {
            let latest = fast.latest(time(probe)).map(Timestamp::as_second);
            let latest = latest.filter(|latest| *latest >= from);
            let expected = slow.iter().copied().rfind(|due| *due <= probe);
            prop_assert_eq!(latest, expected, "{} at {}", text, probe);
        }
    }
}

#[test]
fn the_bounds_of_an_hpa_follow_the_repaired_table() {
    let bounds = |min, max| Bounds { min, max };
    for (given, size, set) in [
        // The floor is installed, equal to the current replicas, below or above them.
        (bounds(1, 10), 5, bounds(5, 10)),
        (bounds(1, 10), 4, bounds(4, 10)),
        (bounds(1, 10), 6, bounds(6, 10)),
        (bounds(5, 10), 4, bounds(4, 10)),
        (bounds(5, 10), 11, bounds(11, 11)),
    ] {
        assert_eq!(given.with_job(size), set, "{given:?} with {size}");
    }
    // After a job of 11 the maximum comes down again.
    let (given, applied) = (bounds(5, 10), bounds(5, 10).with_job(11));
    assert_eq!(applied.given(given, applied), given);
    assert_eq!(applied.given(given, applied).with_job(4), bounds(4, 10));
    // What somebody changed by hand in the meantime stays.
    assert_eq!(bounds(11, 20).given(given, applied), bounds(5, 20));
    assert_eq!(bounds(2, 11).given(given, applied), bounds(2, 10));
}

fn window(start: &str, end: &str, replicas: u32, zone_name: &str) -> Window {
    let edge =
        |text: &str| Edge::parse(text, zone(zone_name), Timestamp::UNIX_EPOCH).expect("an edge");
    Window {
        start: edge(start),
        end: edge(end),
        replicas,
        ramp_up: std::time::Duration::ZERO,
        ramp_down: std::time::Duration::ZERO,
        excluded: std::sync::Arc::from([]),
        zone: zone(zone_name),
    }
}

#[test]
fn a_window_goes_over_midnight_in_its_own_time_zone() {
    let night = window("0 0 22 * * *", "0 0 8 * * *", 4, "Asia/Shanghai");
    for (now, floor) in [
        ("2026-11-23T13:59:59.9Z", 0),
        ("2026-11-23T14:00:00Z", 4),
        ("2026-11-23T16:30:00Z", 4),
        ("2026-11-23T23:59:59Z", 4),
        ("2026-11-24T00:00:00Z", 0),
    ] {
        assert_eq!(night.floor(at(now)), floor, "{now}");
    }
}

#[test]
fn a_window_may_be_once_and_the_largest_of_several_counts() {
    let once = window(
        "2026-11-27T08:00:00+08:00",
        "2026-11-27T12:00:00Z",
        9,
        "UTC",
    );
    let daily = window("0 0 9 * * *", "0 0 17 * * *", 3, "UTC");
    let both = [once, daily];
    for (now, expected) in [
        ("2026-11-26T23:59:59Z", 0),
        ("2026-11-27T00:00:00Z", 9),
        ("2026-11-27T10:00:00Z", 9),
        ("2026-11-27T12:00:00Z", 3),
        ("2026-11-27T17:00:00Z", 0),
        ("2027-11-27T08:30:00Z", 0),
    ] {
        assert_eq!(floor(&both, at(now)), expected, "{now}");
    }
    assert!(Edge::parse("tomorrow", TimeZone::UTC, Timestamp::UNIX_EPOCH).is_err());
}

#[test]
fn ramps_lead_up_to_a_window_and_away_from_it() {
    let mut ramped = window("0 0 9 * * *", "0 0 17 * * *", 10, "UTC");
    ramped.ramp_up = std::time::Duration::from_secs(600);
    ramped.ramp_down = std::time::Duration::from_secs(100);
    for (now, floor) in [
        ("08:49:59", 0),
        ("08:50:00", 0),
        ("08:50:01", 1),
        ("08:55:00", 5),
        ("08:59:59", 10),
        ("09:00:00", 10),
        ("16:59:59", 10),
        ("17:00:00", 10),
        ("17:00:50", 5),
        ("17:01:39", 1),
        ("17:01:40", 0),
    ] {
        let now = at(&format!("2026-11-23T{now}Z"));
        assert_eq!(ramped.floor(now), floor, "{now}");
    }
}

#[test]
fn floors_are_read_by_namespace_and_an_object_without_windows_has_none() {
    let floors = Floors::default();
    let (now, night) = (at("2026-11-23T10:00:00Z"), at("2026-11-23T20:00:00Z"));
    let day = || vec![window("0 0 9 * * *", "0 0 17 * * *", 3, "UTC")];
    for (namespace, name) in [("a", "x"), ("a", "y"), ("b", "x")] {
        floors.set(namespace, name, day());
    }
    let of = |now| floors.of("a", now);
    assert_eq!(of(now), [("x".to_owned(), 3), ("y".to_owned(), 3)]);
    assert_eq!(of(night), [("x".to_owned(), 0), ("y".to_owned(), 0)]);
    floors.set("a", "x", Vec::new());
    assert_eq!(of(now), [("y".to_owned(), 3)]);
    assert_eq!(floors.of("c", now), []);
}

#[test]
fn a_floor_changes_when_it_is_said_to_and_not_in_between() {
    let mut ramped = window("0 0 22 * * *", "0 30 2 * * *", 7, "Europe/Berlin");
    ramped.ramp_up = std::time::Duration::from_secs(100);
    ramped.ramp_down = std::time::Duration::from_secs(45);
    ramped.excluded = std::sync::Arc::from([Excluded::new("* * * * * 3").expect("a weekday")]);
    let once = window("2026-11-24T03:00:00Z", "2026-11-24T04:00:00Z", 9, "UTC");
    for window in [ramped, once] {
        let mut now = at("2026-11-23T20:55:00Z");
        let mut next = window.next_change(now);
        let mut changes = 0;
        for _ in 0..8 * 3600 {
            let after = now
                .checked_add(jiff::SignedDuration::from_secs(1))
                .expect("in range");
            if window.floor(after) != window.floor(now) {
                changes += 1;
                let said = next.is_some_and(|said| said == after || said == now);
                assert!(said, "the floor changes after {now}, {next:?} was said");
            }
            if next.is_none_or(|next| next <= after) {
                next = window.next_change(after);
            }
            now = after;
        }
        assert!(matches!(changes, 2 | 14), "{changes}");
        assert!(next.is_none() || changes == 14);
        // A Wednesday, on which nothing begins.
        assert_eq!(window.floor(at("2026-11-25T23:00:00Z")), 0);
    }
}

#[test]
fn a_window_whose_end_is_past_is_over() {
    let over = window("0 0 9 * * *", "2026-11-20T17:00:00Z", 3, "UTC");
    assert_eq!(over.floor(at("2026-11-19T10:00:00Z")), 3);
    assert_eq!(over.floor(at("2026-11-23T10:00:00Z")), 0);
}

#[test]
fn a_target_is_held_at_the_floor_and_let_go_to_what_it_had() {
    let held = |replicas, base| Some(Held { replicas, base });
    for (current, known, floor, expected) in [
        (1, None, 0, (1, None)),
        (1, None, 3, (3, held(3, 1))),
        (3, held(3, 1), 5, (5, held(5, 1))),
        (5, held(5, 1), 0, (1, None)),
        // Somebody else has scaled it since.
        (8, held(5, 1), 5, (8, held(8, 8))),
        (2, held(5, 1), 5, (5, held(5, 2))),
        (8, held(5, 1), 0, (8, None)),
    ] {
        assert_eq!(
            hold(current, known, floor),
            expected,
            "{current} {known:?} {floor}"
        );
    }
}

#[test]
fn an_hpa_is_given_jobs_and_floors_and_gets_its_own_bounds_back() {
    let bounds = |min, max| Bounds { min, max };
    let first = Kept::next("it", bounds(2, 10), None, Some(4), 0);
    assert_eq!((first.given, first.applied), (bounds(2, 10), bounds(4, 10)));
    // A window over the maximum, then its end: what the last job said is left.
    let window = Kept::next("it", first.applied, Some(&first), None, 12);
    assert_eq!(window.applied, bounds(12, 12));
    let after = Kept::next("it", window.applied, Some(&window), None, 0);
    assert_eq!(after.applied, bounds(4, 10));
    // Somebody raised the maximum in the meantime.
    let raised = Kept::next("it", bounds(4, 20), Some(&after), Some(1), 0);
    assert_eq!(
        (raised.given, raised.applied),
        (bounds(2, 20), bounds(1, 20))
    );
    // No HPA takes 0, but where people have said so before.
    let zero = Kept::next("it", bounds(2, 10), None, Some(0), 0);
    assert_eq!(zero.applied, bounds(1, 10));
    let zero = Kept::next("it", bounds(0, 10), None, Some(0), 0);
    assert_eq!(zero.applied, bounds(0, 10));
}
