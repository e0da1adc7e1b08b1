//! The series that both engines read: generated, the same in every run.
//!
//! Times are relative to the start of the data. Values are short binary fractions wherever a test does not need others, so
//! that sums of them are exact in any order and a difference is a difference in meaning.

use gpu_metrics_adapter::model::labels::{Labels, METRIC_NAME};
use gpu_metrics_adapter::model::sample::Sample;
use gpu_metrics_adapter::model::time::Timestamp;

/// Milliseconds between two samples of an ordinary series.
const INTERVAL: i64 = 15_000;
/// How many of them an ordinary series has: 40 minutes.
const COUNT: i64 = 160;

/// One series with all its samples, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    pub(crate) samples: Vec<Sample>,
}

/// All series, in the order of their labels. With markers where a series ended that a scraper had followed.
pub(crate) fn generate() -> Vec<Series> {
    let mut all = Collection::default();
    counters(&mut all);
    gauges(&mut all);
    interrupted(&mut all);
    histograms(&mut all);
    relations(&mut all);
    numbers(&mut all);
    rules(&mut all);
    all.0.sort_by(|a, b| a.labels.cmp(&b.labels));
    all.0
}

/// A repeatable choice in `0..bound`: the first steps of splitmix64.
fn pick(seed: i64, bound: i64) -> i64 {
    let mut bits = seed.cast_unsigned().wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) >> 1).cast_signed() % bound
}

/// Whole numbers below 2^53 only.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn float(whole: i64) -> f64 {
    whole as f64
}

#[derive(Default)]
struct Collection(Vec<Series>);

impl Collection {
    /// A series with a sample wherever `value` gives one. Its first sample is `offset` milliseconds after the start.
    fn add(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        offset: i64,
        mut value: impl FnMut(i64) -> Option<f64>,
    ) {
        let sample = |index| {
            let timestamp = Timestamp::from_millis(offset + index * INTERVAL);
            value(index).map(|value| Sample::new(timestamp, value))
        };
        let samples: Vec<Sample> = (0..COUNT).filter_map(sample).collect();
        let labels = labels.iter().copied().chain([(METRIC_NAME, name)]);
        let labels = Labels::new(labels);
        self.0.push(Series { labels, samples });
    }

    /// The same value all the time.
    fn constant(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.add(name, labels, 0, |_| Some(value));
    }

    /// A marker `after` the last sample: its scraper saw it end.
    fn ends_with_a_marker(&mut self, after: i64) {
        let series = self.0.last_mut().expect("a series");
        let last = series.samples.last().expect("a sample").timestamp;
        let marker = Timestamp::from_millis(last.as_millis() + after);
        series.samples.push(Sample::stale_marker(marker));
    }
}

/// Counters with resets, gaps, scrape offsets and late starts.
fn counters(all: &mut Collection) {
    let mut seed = 0;
    for (job, instance) in [("api", "a:1"), ("api", "b:1"), ("web", "c:1")] {
        for path in ["/", "/login"] {
            for code in ["200", "500"] {
                seed += 1;
                let mut total = 0;
                // The first series has a sample at time 0; jitter is in eighths of a second.
                let offset = (seed - 1) * 1_125;
                all.add(
                    "requests_total",
                    &[
                        ("job", job),
                        ("instance", instance),
                        ("path", path),
                        ("code", code),
                    ],
                    offset,
                    |index| {
                        let lost = instance == "b:1" && (50..=63).contains(&index);
                        let restarted = instance == "a:1" && index % 57 == 30;
                        total = if restarted { 0 } else { total } + pick(seed * 1_000 + index, 40);
                        (!lost && pick(seed * 7_000 + index, 25) != 0).then(|| float(total))
                    },
                );
            }
        }
    }
    all.constant("idle_total", &[("job", "api")], 7.0);
    all.constant("empty_total", &[("job", "api")], 0.0);
    all.add("late_total", &[("job", "api")], 0, |index| {
        (index >= 80).then(|| float(index * 3))
    });
    all.add("late_total", &[("job", "web")], 2_500, |index| {
        (index >= 81).then(|| float((index - 80) * 3))
    });
    all.add("large_total", &[("job", "api")], 0, |index| {
        Some(9.0e15 + float(index * 1_024))
    });
}

/// Gauges: negative, fractional, jumping, with several labels, one of them often missing.
fn gauges(all: &mut Collection) {
    for gpu in 0..8 {
        let host = ["n1", "n2", "n3"][usize::try_from(gpu % 3).expect("small")];
        let uuid = format!("GPU-{gpu:04}");
        let number = gpu.to_string();
        let mut labels = vec![
            ("host", host),
            ("gpu", number.as_str()),
            ("uuid", uuid.as_str()),
        ];
        if gpu % 2 == 0 {
            labels.push((
                "pod",
                ["p0", "p1"][usize::try_from(gpu / 2 % 2).expect("small")],
            ));
            labels.push(("namespace", "ml"));
        }
        all.add("utilization", &labels, gpu * 625, |index| {
            Some(float(pick(gpu * 991 + index, 101)))
        });
        all.add("temperature", &labels, gpu * 625, |index| {
            let drift = pick(gpu * 77 + index, 64);
            Some(float(index + drift - 60 - gpu * 8) / 8.0)
        });
    }
    all.add("ramp", &[("kind", "up")], 0, |index| Some(float(index * 2)));
    all.add("ramp", &[("kind", "down")], 3_000, |index| {
        Some(float(100 - index))
    });
    all.add("ramp", &[("kind", "square")], 1_000, |index| {
        Some(float(index * index) / 4.0)
    });
    all.add("wave", &[], 0, |index| {
        Some((float(index) / 10.0).sin() * 10.0)
    });
    all.add("switch", &[("unit", "x")], 0, |index| {
        Some(float(index / 7 % 2))
    });
    all.add("switch", &[("unit", "y")], 500, |index| {
        Some(float(index / 20 % 2))
    });
    all.constant("flat", &[("unit", "x")], 0.1);
    for (name, value) in [
        ("a", 1.5),
        ("b", 2.5),
        ("c", -1.5),
        ("d", -2.5),
        ("e", 0.5),
        ("f", -0.5),
    ] {
        all.constant("halves", &[("n", name)], value);
    }
}

/// Series that end, return, have long intervals, or very few samples.
fn interrupted(all: &mut Collection) {
    all.add("ended", &[("how", "marked")], 0, |index| {
        (index <= 60).then(|| float(index))
    });
    all.ends_with_a_marker(INTERVAL);
    all.add("ended", &[("how", "silent")], 0, |index| {
        (index <= 60).then(|| float(index * 2))
    });
    all.add("ended", &[("how", "first")], 0, |index| {
        (index == 0).then_some(11.0)
    });
    all.ends_with_a_marker(INTERVAL);
    all.add("returned", &[("how", "marked")], 125, |index| {
        (index <= 40 || index >= 70).then(|| float(index + 1))
    });
    let series = all.0.last_mut().expect("a series");
    let ended = Timestamp::from_millis(125 + 41 * INTERVAL);
    series.samples.insert(41, Sample::stale_marker(ended));
    all.add("returned", &[("how", "silent")], 125, |index| {
        (index <= 40 || index >= 70).then(|| float(index * 4))
    });
    all.add("sparse", &[("every", "4m")], 0, |index| {
        (index % 16 == 0).then(|| float(index))
    });
    all.add("sparse", &[("every", "6m")], 0, |index| {
        (index % 24 == 0).then(|| float(index))
    });
    all.add("single", &[], 0, |index| (index == 80).then_some(42.0));
    all.add("two", &[], 0, |index| {
        (index == 40 || index == 48).then(|| float(index))
    });
    all.add("first_only", &[], 0, |index| (index == 0).then_some(3.0));
}

/// Classic histograms: plain ones, and malformed ones.
fn histograms(all: &mut Collection) {
    const BOUNDS: [(&str, i64); 6] = [
        ("0.1", 1),
        ("0.25", 3),
        ("0.5", 6),
        ("1", 8),
        ("2.5", 9),
        ("+Inf", 10),
    ];
    let mut seed = 100;
    for (job, instance) in [("api", "a:1"), ("api", "b:1"), ("web", "c:1")] {
        seed += 1;
        let observed = |index: i64| (0..=index).map(|at| pick(seed * 100 + at, 30)).sum::<i64>();
        let labels = [("job", job), ("instance", instance)];
        for (bound, tenths) in BOUNDS {
            let labels = [labels[0], labels[1], ("le", bound)];
            all.add("latency_seconds_bucket", &labels, seed * 250, |index| {
                Some(float(observed(index) * tenths))
            });
        }
        all.add("latency_seconds_count", &labels, seed * 250, |index| {
            Some(float(observed(index) * 10))
        });
        all.add("latency_seconds_sum", &labels, seed * 250, |index| {
            Some(float(observed(index)) * 2.75)
        });
    }
    let mut bucket = |kind: &str, le: &str, value: f64| {
        all.constant("odd_bucket", &[("kind", kind), ("le", le)], value);
    };
    // No +Inf; only +Inf; shrinking; all zero; negative bounds; not a number; a bound that is no number; NaN inside; equal bounds.
    for (le, value) in [("1", 5.0), ("2", 10.0)] {
        bucket("open", le, value);
    }
    bucket("only_inf", "+Inf", 10.0);
    for (le, value) in [("1", 5.0), ("2", 3.0), ("4", 8.0), ("+Inf", 7.0)] {
        bucket("shrinking", le, value);
    }
    for (le, value) in [("1", 0.0), ("2", 0.0), ("+Inf", 0.0)] {
        bucket("zero", le, value);
    }
    for (le, value) in [
        ("-2", 2.0),
        ("-1", 4.0),
        ("0", 6.0),
        ("3", 9.0),
        ("+Inf", 12.0),
    ] {
        bucket("negative", le, value);
    }
    for (le, value) in [("1", 3.0), ("abc", 4.0), ("2", 6.0), ("+Inf", 6.0)] {
        bucket("text", le, value);
    }
    for (le, value) in [("1", 3.0), ("2", f64::NAN), ("+Inf", 6.0)] {
        bucket("nan", le, value);
    }
    for (le, value) in [
        ("1", 3.0),
        ("1.0", 4.0),
        ("2", 6.0),
        ("2e0", 6.0),
        ("+Inf", 12.0),
    ] {
        bucket("repeated", le, value);
    }
    for (le, value) in [
        ("0.5", 3.0),
        ("1", 3.000_000_000_000_1),
        ("2", 3.0),
        ("+Inf", 6.0),
    ] {
        bucket("jitter", le, value);
    }
    bucket("finite_only_first", "1", 4.0);
    bucket("finite_only_first", "+Inf", 4.0);
}

/// Metrics to be matched with one another.
fn relations(all: &mut Collection) {
    for (host, model, cores) in [
        ("n1", "h100", 64.0),
        ("n2", "h200", 96.0),
        ("n4", "b200", 128.0),
    ] {
        all.constant(
            "host_info",
            &[("host", host), ("model", model), ("zone", "z1")],
            1.0,
        );
        all.constant("host_cores", &[("host", host)], cores);
    }
    for (method, code, errors) in [
        ("get", "500", 24.0),
        ("get", "404", 30.0),
        ("put", "501", 3.0),
        ("post", "500", 6.0),
        ("post", "404", 21.0),
    ] {
        all.constant(
            "method_code_errors",
            &[("method", method), ("code", code)],
            errors,
        );
    }
    for (method, requests) in [("get", 600.0), ("del", 34.0), ("post", 120.0)] {
        all.constant("method_requests", &[("method", method)], requests);
    }
    all.constant("partial", &[("a", "1")], 1.0);
    all.constant("partial", &[("b", "2")], 2.0);
    all.constant("partial", &[("a", "1"), ("b", "2")], 3.0);
    all.constant("partial", &[], 4.0);
    for copy in ["x", "y", "z"] {
        let names: Vec<String> = (0..30).map(|index| format!("l{index:02}")).collect();
        let mut labels: Vec<(&str, &str)> =
            names.iter().map(|name| (name.as_str(), "value")).collect();
        labels.push(("copy", copy));
        all.constant(
            "many_labels",
            &labels,
            float(i64::try_from(copy.len()).expect("small")),
        );
    }
    for (version, build) in [
        ("1.2.10", "a10"),
        ("1.2.9", "a9"),
        ("1.10.0", "a2"),
        ("2.0", "b1"),
    ] {
        all.constant(
            "release",
            &[("version", version), ("build", build)],
            float(pick(build.len() as i64, 9)),
        );
    }
    all.constant("text", &[("value", "a \"quoted\" \\ back\nslash")], 1.0);
    all.constant("text", &[("value", "größe µ 漢字")], 2.0);
    all.constant("text", &[("value", "src-a:dst-b")], 3.0);
    all.constant("text", &[("value", "UPPER.dot+plus")], 4.0);
}

/// Values that are hard for arithmetic.
fn numbers(all: &mut Collection) {
    for (kind, value) in [
        ("nan", f64::NAN),
        ("inf", f64::INFINITY),
        ("-inf", f64::NEG_INFINITY),
        ("-0", -0.0),
        ("0", 0.0),
        ("1", 1.0),
        ("-3.7", -3.7),
        ("huge", 1.0e300),
        ("tiny", 1.0e-300),
        ("max", f64::MAX),
    ] {
        all.constant("special", &[("kind", kind)], value);
    }
    let cycle = [
        1.0,
        f64::NAN,
        2.0,
        f64::INFINITY,
        -1.0,
        f64::NEG_INFINITY,
        0.0,
    ];
    all.add("mixed", &[("kind", "all")], 0, |index| {
        Some(cycle[usize::try_from(index % 7).expect("small")])
    });
    all.add("mixed", &[("kind", "some_nan")], 0, |index| {
        Some(if index % 3 == 0 {
            f64::NAN
        } else {
            float(index)
        })
    });
    all.add("mixed", &[("kind", "nan_first")], 0, |index| {
        Some(if index < 45 { f64::NAN } else { float(index) })
    });
    all.add("mixed", &[("kind", "inf_late")], 0, |index| {
        Some(if index > 90 {
            f64::INFINITY
        } else {
            float(index)
        })
    });
    for (n, value) in [("1", 1.0), ("2", 1.0e100), ("3", 1.0), ("4", -1.0e100)] {
        all.constant("cancelling", &[("n", n)], value);
    }
    let cancelling = [1.0, 1.0e100, 1.0, -1.0e100];
    all.add("cancels", &[], 0, |index| {
        Some(cancelling[usize::try_from(index % 4).expect("small")])
    });
    for (n, value) in [("1", 1.7e308), ("2", 1.7e308), ("3", 1.5e308)] {
        all.constant("overflowing", &[("n", n)], value);
    }
    all.add("overflows", &[], 0, |index| {
        Some(1.6e308 + float(index) * 1.0e304)
    });
    for gpu in ["0", "1"] {
        all.constant("gpu.temperature µ", &[("gpu.id", gpu), ("2nd", "x")], 61.5);
    }
    for step in -4..=4 {
        let name = step.to_string();
        all.constant("unit", &[("n", &name)], float(step) / 4.0);
    }
    // Dates: the epoch, a leap day, ends of months and years, before 1970, with a fraction, and no date at all.
    for (name, seconds) in [
        ("epoch", 0.0),
        ("leap", 1_582_934_400.0),
        ("century", 951_782_400.0),
        ("year_end", 1_735_689_599.0),
        ("year_start", 1_735_689_600.5),
        ("before", -86_401.0),
        ("fraction_before", -0.5),
        ("far", 253_402_300_799.0),
    ] {
        all.constant("date_seconds", &[("date", name)], seconds);
    }
    // No two are equal, for what picks or sorts.
    for n in 0..7 {
        let (name, group) = (
            n.to_string(),
            ["even", "odd"][usize::try_from(n % 2).expect("small")],
        );
        all.add("rank", &[("n", &name), ("group", group)], 0, |index| {
            Some(float((n * 37 + index * 11) % 101 * 8 + n))
        });
    }
    all.constant("rank_nan", &[("n", "a")], f64::NAN);
    all.constant("rank_nan", &[("n", "b")], 2.0);
    all.constant("rank_nan", &[("n", "c")], f64::INFINITY);
    all.constant("rank_nan", &[("n", "d")], -2.0);
    // Values that come again, for count_values and modes.
    for n in 0..9 {
        let (name, group) = (
            n.to_string(),
            ["even", "odd"][usize::try_from(n % 2).expect("small")],
        );
        all.constant(
            "build_number",
            &[("n", &name), ("group", group)],
            float(6 + n % 3) + if n % 3 == 2 { 0.25 } else { 0.0 },
        );
    }
}

/// What the rules of prometheus-adapter's own tests and documentation read.
fn rules(all: &mut Collection) {
    let mut seed = 500;
    for (name, labels) in [
        (
            "container_some_usage",
            ["namespace", "pod", "container"].as_slice(),
        ),
        (
            "container_some_count_total",
            &["namespace", "pod", "container"],
        ),
        (
            "container_cpu_usage_seconds_total",
            &["namespace", "pod", "container", "instance"],
        ),
        (
            "ingress_hits_total",
            &["kube_namespace", "kube_pod", "kube_service", "kube_ingress"],
        ),
        ("service_proxy_packets", &["kube_namespace", "kube_service"]),
        ("node_gigawatts", &["kube_node"]),
        (
            "http_requests_total",
            &[
                "kubernetes_namespace",
                "kubernetes_pod_name",
                "namespace",
                "pod",
            ],
        ),
        ("foo_total", &["system_name"]),
        ("foo_count", &["system_name"]),
        ("queue_consumer_lag", &["namespace", "name"]),
        ("queue_depth", &["namespace", "name"]),
    ] {
        for copy in 0..3 {
            seed += 1;
            let values: Vec<String> = labels
                .iter()
                .map(|label| {
                    if label.ends_with("namespace") {
                        "default".to_owned()
                    } else {
                        format!("{label}-{copy}")
                    }
                })
                .collect();
            let labels: Vec<(&str, &str)> = labels
                .iter()
                .copied()
                .zip(values.iter().map(String::as_str))
                .collect();
            let mut total = 0;
            all.add(name, &labels, seed % 15 * 1_000, |index| {
                total += pick(seed * 300 + index, 9);
                Some(float(total))
            });
        }
    }
}
