use std::time::Duration;

use super::*;
use crate::model::labels::METRIC_NAME;

const T0: Timestamp = Timestamp::from_millis(1_000_000);

fn at(seconds: u64) -> Timestamp {
    T0.plus(Duration::from_secs(seconds))
}

fn info(url: &str) -> TargetInfo {
    TargetInfo {
        job: "test".into(),
        url: url.into(),
        object: None,
        interval: Duration::from_secs(15),
    }
}

fn series(name: &str, pod: &str) -> Labels {
    Labels::new([(METRIC_NAME, name), ("pod", pod)])
}

fn scrape(writer: &mut TargetWriter, time: Timestamp, samples: &[(&Labels, f64)]) {
    let mut scrape = writer.begin(time);
    for (labels, value) in samples {
        scrape.add(labels, *value, None).expect("within the limits");
    }
    scrape.commit();
}

/// The samples of all series of this name, with stale markers as `None`.
fn read(store: &Store, name: &str) -> Vec<(String, Vec<Option<f64>>)> {
    let mut found = Vec::new();
    store.select(&[Matcher::equal(METRIC_NAME, name)], |labels, samples| {
        let values = samples
            .to_vec()
            .iter()
            .map(|sample| (!sample.is_stale_marker()).then_some(sample.value))
            .collect();
        found.push((labels.value("pod").to_owned(), values));
    });
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

#[test]
fn a_series_absent_from_a_good_scrape_ends_at_once_and_may_come_back() {
    let store = Store::new(Limits::default());
    let mut writer = store.register(info("a"));
    let (x, y) = (series("m", "x"), series("m", "y"));
    scrape(&mut writer, at(0), &[(&x, 1.0), (&y, 2.0)]);
    scrape(&mut writer, at(15), &[(&x, 3.0)]);
    assert_eq!(
        read(&store, "m"),
        [
            ("x".into(), vec![Some(1.0), Some(3.0)]),
            ("y".into(), vec![Some(2.0), None])
        ]
    );
    scrape(&mut writer, at(30), &[(&y, 4.0)]);
    assert_eq!(
        read(&store, "m")[1],
        ("y".into(), vec![Some(2.0), None, Some(4.0)])
    );
}

#[test]
fn copies_are_what_is_selected_and_keep_no_writer_waiting() {
    let store = Store::new(Limits::default());
    let (mut one, mut other) = (store.register(info("a")), store.register(info("b")));
    let (x, y) = (series("m", "x"), series("m", "y"));
    for time in [0, 15, 30] {
        scrape(&mut one, at(time), &[(&x, 1.0)]);
        scrape(&mut other, at(time), &[(&y, 2.0)]);
    }
    let mut selected = Vec::new();
    let matchers = [Matcher::equal(METRIC_NAME, "m")];
    store.select(&matchers, |labels, samples| {
        selected.push((labels.clone(), samples.to_vec()));
    });
    let mut copies = Vec::new();
    let new = series("m", "new");
    let copy = |series: Samples<'_>, into: &mut Vec<Sample>| into.extend(series.to_vec());
    store.select_copies(
        |_| true,
        &matchers,
        copy,
        |labels, samples| {
            assert!(store.index.try_write().is_some());
            let targets = store.targets.read();
            assert!(targets.values().all(|it| it.state.try_write().is_some()));
            drop(targets);
            scrape(&mut one, at(60), &[(&x, 3.0), (&new, 3.0)]);
            copies.push((labels.clone(), samples.to_vec()));
        },
    );
    selected.sort_by(|a, b| a.0.cmp(&b.0));
    copies.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(copies[1], selected[1]);
    assert_eq!(copies[0].0, selected[0].0);
    assert!(copies[0].1.starts_with(&selected[0].1));
}

#[test]
fn a_failed_scrape_ends_nothing_and_says_since_when() {
    let store = Store::new(Limits::default());
    let mut writer = store.register(info("a"));
    let x = series("m", "x");
    scrape(&mut writer, at(0), &[(&x, 1.0)]);
    writer.failed(at(15), "connection refused", &[]);
    writer.failed(at(30), "answered 500", &[]);
    assert_eq!(read(&store, "m"), [("x".into(), vec![Some(1.0)])]);
    let status = &store.origins(&[Matcher::equal(METRIC_NAME, "m")])[0];
    assert_eq!(status.id, writer.id());
    assert_eq!(status.newest, Some(at(0)));
    assert_eq!(status.health.last_success, Some(at(0)));
    let reason = "answered 500".to_owned();
    assert_eq!(
        status.health.down,
        Some(Down {
            since: at(15),
            reason
        })
    );
    scrape(&mut writer, at(45), &[(&x, 2.0)]);
    assert_eq!(
        store.targets()[0].health,
        Health {
            last_success: Some(at(45)),
            down: None
        }
    );
}

#[test]
fn a_scrape_given_up_halfway_leaves_nothing_behind() {
    let store = Store::new(Limits {
        series: 1,
        ..Limits::default()
    });
    let mut writer = store.register(info("a"));
    let x = series("m", "x");
    let mut half = writer.begin(at(0));
    half.add(&x, 1.0, None).expect("room for one");
    drop(half);
    assert_eq!(store.series_count(), 0);
    scrape(&mut writer, at(15), &[(&x, 2.0)]);
    let mut half = writer.begin(at(30));
    half.add(&x, 3.0, None).expect("known");
    drop(half);
    scrape(&mut writer, at(45), &[(&x, 4.0)]);
    assert_eq!(
        read(&store, "m"),
        [("x".into(), vec![Some(2.0), Some(4.0)])]
    );
}

#[test]
fn series_go_with_their_target_and_after_the_retention() {
    let store = Store::new(Limits {
        retention: Duration::from_secs(60),
        ..Limits::default()
    });
    let mut writer = store.register(info("a"));
    let (x, y) = (series("m", "x"), series("m", "y"));
    scrape(&mut writer, at(0), &[(&x, 1.0), (&y, 1.0)]);
    let before = store.generation();
    scrape(&mut writer, at(15), &[(&x, 1.0)]);
    assert_eq!(store.series_count(), 2);
    scrape(&mut writer, at(75), &[(&x, 1.0)]);
    assert_eq!(store.series_count(), 1);
    assert_ne!(store.generation(), before);
    drop(writer);
    assert_eq!(store.series_count(), 0);
    assert!(store.targets().is_empty());
    assert!(store.index.read().find(&[]).is_empty());
}

#[test]
fn limits_cost_the_new_series_and_nothing_else() {
    let store = Store::new(Limits {
        series_per_target: 2,
        series: 3,
        ..Limits::default()
    });
    let mut one = store.register(info("a"));
    let mut scrape_one = one.begin(at(0));
    assert_eq!(scrape_one.add(&series("m", "a"), 1.0, None), Ok(true));
    assert_eq!(scrape_one.add(&series("m", "a"), 9.0, None), Ok(false));
    assert_eq!(scrape_one.add(&series("m", "b"), 1.0, None), Ok(true));
    assert_eq!(
        scrape_one.add(&series("m", "c"), 1.0, None),
        Err(LimitError::TargetSeries(2))
    );
    scrape_one.commit();
    let mut other = store.register(info("b"));
    let mut scrape_other = other.begin(at(0));
    assert_eq!(scrape_other.add(&series("n", "a"), 1.0, None), Ok(true));
    assert_eq!(
        scrape_other.add(&series("n", "b"), 1.0, None),
        Err(LimitError::Series(3))
    );
    scrape_other.commit();
    assert_eq!(read(&store, "m").len(), 2);
    drop(one);
    scrape(
        &mut other,
        at(15),
        &[(&series("n", "a"), 1.0), (&series("n", "b"), 2.0)],
    );
    assert_eq!(read(&store, "n").len(), 2);
}

#[test]
fn windows_are_bounded_in_time_and_number_and_ignore_old_points() {
    let store = Store::new(Limits {
        samples_per_series: 3,
        ..Limits::default()
    });
    let mut writer = store.register(info("a"));
    let x = series("m", "x");
    for round in 0..5_u32 {
        scrape(
            &mut writer,
            at(u64::from(round) * 15),
            &[(&x, f64::from(round))],
        );
    }
    assert_eq!(
        read(&store, "m"),
        [("x".into(), vec![Some(2.0), Some(3.0), Some(4.0)])]
    );
    let mut again = writer.begin(at(75));
    again.add(&x, 9.0, Some(at(60))).expect("known");
    again.commit();
    // That scrape counts, and brought nothing new.
    assert_eq!(read(&store, "m")[0].1, [Some(3.0), Some(4.0)]);
}

#[test]
fn what_is_reported_about_a_target_outlives_its_scrapes() {
    let store = Store::new(Limits::default());
    let mut writer = store.register(info("a"));
    let (up, x) = (series("up", ""), series("m", "x"));
    let mut first = writer.begin(at(0));
    first.add(&x, 1.0, None).expect("within the limits");
    first.commit_with(&[(&up, 1.0)]);
    scrape(&mut writer, at(15), &[(&x, 1.0)]);
    writer.failed(at(30), "answered 500", &[(&up, 0.0)]);
    assert_eq!(
        read(&store, "up"),
        [(String::new(), vec![Some(1.0), Some(0.0)])]
    );
}

#[test]
fn what_is_reported_about_a_target_comes_before_what_its_page_says_of_it() {
    let store = Store::new(Limits::default());
    let mut writer = store.register(info("a"));
    let (up, x) = (series("up", ""), series("m", "x"));
    for round in 0..3 {
        let mut scrape = writer.begin(at(15 * round));
        scrape.add(&up, 7.0, None).expect("within the limits");
        scrape.add(&x, 1.0, None).expect("within the limits");
        scrape.commit_with(&[(&up, 1.0)]);
    }
    // Of two in one scrape the first counts; that it is the target's own is known after it.
    let values = vec![Some(7.0), Some(1.0), Some(1.0)];
    assert_eq!(read(&store, "up"), [(String::new(), values)]);
    assert_eq!(store.series_count(), 2);
}

#[test]
fn what_a_scrape_has_that_is_not_kept_is_not_taken_for_what_the_next_one_has() {
    let store = Store::new(Limits::default());
    let mut writer = store.register(info("a"));
    let (x, y, z) = (series("m", "x"), series("m", "y"), series("m", "z"));
    scrape(&mut writer, at(0), &[(&x, 1.0), (&y, 1.0)]);
    scrape(&mut writer, at(15), &[(&x, 2.0)]);
    {
        let mut given_up = writer.begin(at(30));
        for labels in [&x, &y, &z] {
            assert_eq!(given_up.add(labels, 3.0, None), Ok(true));
            assert_eq!(given_up.add(labels, 3.0, None), Ok(false));
        }
    }
    // One goes on, one comes back after its end, one is new.
    scrape(&mut writer, at(45), &[(&x, 4.0), (&y, 4.0), (&z, 4.0)]);
    // One ends, though the scrape that was given up had it.
    scrape(&mut writer, at(60), &[(&y, 5.0), (&z, 5.0)]);
    let values = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
    let expected = [
        ("x", [values(&[1.0, 2.0, 4.0]), vec![None]].concat()),
        (
            "y",
            [values(&[1.0]), vec![None], values(&[4.0, 5.0])].concat(),
        ),
        ("z", values(&[4.0, 5.0])),
    ];
    let expected = expected.map(|(pod, values)| (pod.to_owned(), values));
    assert_eq!(read(&store, "m"), expected);
}

#[test]
fn a_list_of_names_stays_as_long_as_one_of_the_sets_that_share_it() {
    let store = Store::new(Limits::default());
    let lists = || store.index.read().schemas();
    let (mut one, mut two) = (store.register(info("a")), store.register(info("b")));
    let (x, y, z) = (series("m", "x"), series("m", "y"), series("m", "z"));
    scrape(&mut one, at(0), &[(&x, 1.0), (&y, 1.0)]);
    scrape(&mut two, at(0), &[(&z, 1.0)]);
    assert_eq!(lists(), 1);
    drop(one);
    assert_eq!(lists(), 1);
    drop(two);
    assert_eq!(lists(), 0);
}

#[test]
fn expressions_and_absence_find_what_a_full_scan_would() {
    let store = Store::new(Limits::default());
    let mut writer = store.register(info("a"));
    let all = [
        series("m", "a"),
        series("m", "b"),
        series("m", ""),
        series("n", "a"),
    ];
    let samples: Vec<(&Labels, f64)> = all.iter().map(|labels| (labels, 1.0)).collect();
    scrape(&mut writer, at(0), &samples);
    let cases = [
        vec![Matcher::regex("pod", "a|b").expect("valid")],
        vec![Matcher::regex("pod", "a?").expect("valid")],
        vec![Matcher::equal("pod", ""), Matcher::equal(METRIC_NAME, "m")],
        vec![Matcher::not_equal("pod", "a")],
        vec![
            Matcher::equal("pod", "a"),
            Matcher::not_regex(METRIC_NAME, "n.*").expect("valid"),
        ],
        vec![Matcher::equal("nobody", "x")],
    ];
    for matchers in cases {
        let mut found = Vec::new();
        store.select(&matchers, |labels, _| found.push(labels.clone()));
        found.sort();
        let mut expected: Vec<Labels> = all
            .iter()
            .filter(|labels| crate::model::matcher::all_match(&matchers, labels))
            .cloned()
            .collect();
        expected.sort();
        assert_eq!(found, expected, "{matchers:?}");
    }
}

#[test]
fn a_clock_that_is_set_back_hides_no_sample() {
    let store = Store::new(Limits::default());
    let mut writer = store.register(info("a"));
    let x = series("m", "x");
    scrape(&mut writer, at(3600), &[(&x, 1.0)]);
    scrape(&mut writer, at(0), &[(&x, 2.0)]);
    assert_eq!(read(&store, "m"), [("x".into(), vec![Some(2.0)])]);
}

mod search {
    use proptest::prelude::*;

    use super::*;
    use crate::model::matcher::all_match;

    fn labels() -> impl Strategy<Value = Labels> {
        let value = || prop::sample::select(vec!["", "a", "b", "c"]);
        (value(), value(), value()).prop_map(|(name, pod, gpu)| {
            Labels::new([
                (METRIC_NAME, name),
                ("pod", pod),
                ("gpu", gpu),
                ("node", "n"),
            ])
        })
    }

    fn matcher() -> impl Strategy<Value = Matcher> {
        let name = prop::sample::select(vec![METRIC_NAME, "pod", "gpu", "node", "nobody"]);
        let value = prop::sample::select(vec!["", "a", "b", "n", "a|b", "a?", ".+", ".*"]);
        (name, value, 0..4).prop_map(|(name, value, op)| match op {
            0 => Matcher::equal(name, value),
            1 => Matcher::not_equal(name, value),
            2 => Matcher::regex(name, value).expect("valid"),
            _ => Matcher::not_regex(name, value).expect("valid"),
        })
    }

    proptest! {
        /// Series come and go on three targets; a search finds what looking at each of them would.
        #[test]
        fn finds_what_a_full_scan_would(
            scrapes in prop::collection::vec((0..3_usize, prop::collection::btree_set(labels(), 1..12)), 1..8),
            matchers in prop::collection::vec(matcher(), 0..4),
        ) {
            let store = Store::new(Limits { retention: Duration::ZERO, ..Limits::default() });
            let mut writers = [store.register(info("a")), store.register(info("b")), store.register(info("c"))];
            let mut there: [Vec<Labels>; 3] = Default::default();
            let mut time = 0;
            for (target, series) in scrapes {
                // Twice, so that what left the page is gone and not only ended.
                for _ in 0..2 {
                    time += 15;
                    let samples: Vec<(&Labels, f64)> = series.iter().map(|labels| (labels, 1.0)).collect();
                    scrape(&mut writers[target], at(time), &samples);
                }
                there[target] = series.into_iter().collect();
            }
            let mut found = Vec::new();
            store.select(&matchers, |labels, _| found.push(labels.clone()));
            found.sort();
            let mut expected: Vec<Labels> = there.into_iter().flatten().filter(|it| all_match(&matchers, it)).collect();
            expected.sort();
            prop_assert_eq!(store.series_count() >= found.len(), true);
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_flood_of_new_series_appears_whole() {
    let store = Store::new(Limits::default());
    let mut writer = store.register(info("a"));
    let many: Vec<Labels> = (0..2 * writer::BATCH + 1)
        .map(|pod| series("m", &pod.to_string()))
        .collect();
    let samples: Vec<(&Labels, f64)> = many.iter().map(|labels| (labels, 1.0)).collect();
    let count = || {
        let mut count = 0;
        store.select(&[Matcher::equal(METRIC_NAME, "m")], |_, _| count += 1);
        count
    };
    std::thread::scope(|threads| {
        let reader = threads.spawn(|| {
            let mut seen = vec![0];
            let deadline = std::time::Instant::now() + Duration::from_secs(30);
            while seen.last() != Some(&many.len()) {
                assert!(std::time::Instant::now() < deadline, "it does not appear");
                seen.push(count());
            }
            seen.into_iter()
                .filter(|it| *it != 0 && *it != many.len())
                .count()
        });
        scrape(&mut writer, at(0), &samples);
        assert_eq!(reader.join().expect("no panic"), 0, "a half is seen");
    });
}
