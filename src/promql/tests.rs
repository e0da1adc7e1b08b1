mod bounds;
mod functions;
mod given;
mod operators;

use super::*;
use crate::model::labels::METRIC_NAME;
use crate::model::matcher::all_match;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const LOOKBACK: Duration = Duration::from_secs(45);

/// Series given as labels and samples (seconds before now, value).
struct Given(Vec<(Labels, Vec<Sample>)>);

impl Given {
    fn series(mut self, pod: &str, gpu: &str, samples: &[(u64, f64)]) -> Self {
        let labels = Labels::new([
            (METRIC_NAME, "sm"),
            ("pod", pod),
            ("gpu", gpu),
            ("namespace", "ns"),
        ]);
        let sample =
            |(ago, value): &(u64, f64)| Sample::new(NOW.minus(Duration::from_secs(*ago)), *value);
        self.0.push((labels, samples.iter().map(sample).collect()));
        self
    }
}

impl SeriesReader for Given {
    fn select(
        &self,
        matchers: &[Matcher],
        wanted: Wanted,
        visit: &mut dyn FnMut(&Labels, &[Sample]),
    ) {
        for (labels, samples) in &self.0 {
            if all_match(matchers, labels) {
                // No more than it must be given.
                visit(labels, wanted.of(samples));
            }
        }
    }
}

fn given() -> Given {
    Given(Vec::new())
        .series("a", "0", &[(60, 1.0), (30, 80.0), (15, 90.0)])
        .series("a", "1", &[(20, 70.0)])
        .series("b", "0", &[(10, 5.0)])
        .series("old", "0", &[(45, 99.0)])
}

fn run(query: &str, reader: &Given) -> Vec<(String, f64, u64)> {
    let query = Query::compile(query).expect("a supported query");
    let mut points: Vec<(String, f64, u64)> = query
        .instant(reader, NOW, LOOKBACK)
        .expect("an instant vector")
        .into_iter()
        .map(|point| {
            (
                point.labels.to_string(),
                point.value,
                NOW.since(point.oldest).as_secs(),
            )
        })
        .collect();
    points.sort_by(|a, b| a.0.cmp(&b.0));
    points
}

#[test]
fn aggregations_group_the_last_samples_and_keep_the_oldest_time() {
    let reader = given();
    let of = |op: &str| {
        run(
            &format!(r#"{op}(sm{{namespace="ns",pod=~"a|b"}}) by (pod)"#),
            &reader,
        )
    };
    let pods = |a: f64, b: f64| {
        vec![
            (r#"{pod="a"}"#.to_owned(), a, 20),
            (r#"{pod="b"}"#.to_owned(), b, 10),
        ]
    };
    assert_eq!(of("avg"), pods(80.0, 5.0));
    assert_eq!(of("sum"), pods(160.0, 5.0));
    assert_eq!(of("max"), pods(90.0, 5.0));
    assert_eq!(of("min"), pods(70.0, 5.0));
    assert_eq!(of("count"), pods(2.0, 1.0));
    assert_eq!(of("group"), pods(1.0, 1.0));
}

#[test]
fn aggregations_nest_and_group_by_what_they_do_not_name() {
    let reader = given();
    let busiest = run("max(avg(sm) without (gpu)) by (namespace)", &reader);
    assert_eq!(busiest, [(r#"{namespace="ns"}"#.to_owned(), 80.0, 20)]);
    assert_eq!(run("sum(sm)", &reader), [("{}".to_owned(), 165.0, 20)]);
}

#[test]
fn the_lookback_is_open_at_its_start_and_a_stale_marker_ends_a_series() {
    let mut reader = given();
    let pods = |reader: &Given| run("sm", reader).len();
    assert_eq!(
        pods(&reader),
        3,
        "the sample just as old as the lookback does not count"
    );
    reader.0[2].1.push(Sample::stale_marker(NOW));
    assert_eq!(pods(&reader), 2);
    reader.0[1]
        .1
        .push(Sample::stale_marker(NOW.plus(Duration::from_millis(1))));
    assert_eq!(pods(&reader), 2, "what ends later has not ended yet");
}

#[test]
fn nan_spoils_a_mean_but_not_a_maximum() {
    let reader = Given(Vec::new())
        .series("a", "0", &[(1, f64::NAN)])
        .series("a", "1", &[(1, 3.0)]);
    assert!(run("avg(sm) by (pod)", &reader)[0].1.is_nan());
    assert_eq!(
        run("max(sm) by (pod)", &reader)[0].1.to_bits(),
        3.0_f64.to_bits()
    );
}

#[test]
fn a_mean_survives_values_whose_sum_does_not() {
    let reader = Given(Vec::new())
        .series("a", "0", &[(1, 1e308)])
        .series("a", "1", &[(1, 1e308)]);
    let mean = run("avg(sm) by (pod)", &reader)[0].1;
    assert!((mean / 1e308 - 1.0).abs() < 1e-12, "{mean}");
    assert!(run("sum(sm) by (pod)", &reader)[0].1.is_infinite());
}

#[test]
fn what_cannot_be_evaluated_is_refused_by_name() {
    let refused = |query: &str| Query::compile(query).expect_err("unsupported").to_string();
    assert!(refused("info(x)").contains("the function `info`"));
    assert!(refused("histogram_count(x)").contains("of native histograms"));
    assert!(refused("limit_ratio(0.5, x)").contains("the aggregation `limit_ratio`"));
    assert!(refused(r#"{a="b" or c="d"}"#).contains("`or` between matchers"));
    assert!(refused("sum(x").contains("is not PromQL"));
}

#[test]
fn a_series_selector_is_nothing_else() {
    let matchers = parse_selector(r#"{__name__=~"^DCGM_.*",pod!=""}"#).expect("a selector");
    assert_eq!(matchers.len(), 2);
    assert!(matchers[0].matches("DCGM_FI_DEV_GPU_UTIL"));
    assert!(parse_selector("sum(x)").is_err());
}
