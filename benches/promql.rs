//! What a rule's query costs in-process, whatever else is stored; and what a real Prometheus takes for it over HTTP, with the
//! same series, in the same run.

#[path = "support/prometheus.rs"]
#[expect(dead_code, reason = "another benchmark looks at its process")]
mod prometheus;

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use gpu_metrics_adapter::engine::embedded::{Embedded, Reader};
use gpu_metrics_adapter::engine::{Engine, InstantQuery};
use gpu_metrics_adapter::model::labels::{Labels, METRIC_NAME};
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::promql::{Options, Query, Range};
use gpu_metrics_adapter::store::{Limits, Store, TargetInfo, TargetWriter};

/// Pods with one GPU each in every namespace, so that a namespace is what one HPA asks for.
const PODS: usize = 200;
/// Scrapes kept: five minutes of them.
const SCRAPES: i64 = 20;
const INTERVAL: Duration = Duration::from_secs(15);
const NOW: Timestamp = Timestamp::from_millis(1_795_464_000_000);

const AVERAGE: &str = r#"avg(DCGM_FI_DEV_GPU_UTIL{namespace="ns-3"}) by (pod)"#;
const RATE: &str = r#"sum(rate(requests_total{namespace="ns-3"}[2m])) by (pod)"#;

/// A store of `series` series in all, half of them counters, on targets of eight GPUs.
fn store(series: usize) -> (Arc<Store>, Vec<TargetWriter>) {
    let store = Store::new(Limits::default());
    let pods: Vec<usize> = (0..series / 2).collect();
    let mut writers = Vec::new();
    for (node, pods) in pods.chunks(8).enumerate() {
        let mut writer = store.register(TargetInfo {
            job: "dcgm-exporter".to_owned(),
            url: format!("http://10.0.0.1:9400/node-{node}"),
            object: None,
            interval: INTERVAL,
        });
        let labels: Vec<(Labels, Labels)> = pods.iter().map(|pod| labels(*pod, node)).collect();
        // Past a few thousand series only one scrape is kept, which is all that the query does not match needs.
        let scrapes = if pods[0] / PODS == 3 { SCRAPES } else { 1 };
        for scrape in (0..scrapes).rev() {
            let ago = INTERVAL * u32::try_from(scrape).expect("few scrapes");
            let mut page = writer.begin(NOW.minus(ago));
            for (gauge, counter) in &labels {
                let value = 100.0 - f64::from(u32::try_from(scrape).expect("few scrapes"));
                page.add(gauge, value, None).expect("there is room");
                page.add(counter, value * 10.0, None)
                    .expect("there is room");
            }
            page.commit();
        }
        writers.push(writer);
    }
    (store, writers)
}

fn labels(pod: usize, node: usize) -> (Labels, Labels) {
    let of = |metric: &str| {
        Labels::new([
            (METRIC_NAME, metric.to_owned()),
            ("namespace", format!("ns-{}", pod / PODS)),
            ("pod", format!("pod-{pod}")),
            ("container", "inference".to_owned()),
            ("gpu", (pod % 8).to_string()),
            ("UUID", format!("GPU-{pod:08}")),
            ("Hostname", format!("node-{node}")),
            ("modelName", "NVIDIA H100 80GB HBM3".to_owned()),
        ])
    };
    (of("DCGM_FI_DEV_GPU_UTIL"), of("requests_total"))
}

fn instant(criterion: &mut Criterion) {
    for (name, text) in [("avg by pod", AVERAGE), ("sum rate by pod", RATE)] {
        let mut group = criterion.benchmark_group(name);
        for series in [10_000, 80_000, 1_000_000] {
            let (store, _writers) = store(series);
            let engine = Embedded::new(store);
            let query = InstantQuery {
                text: text.to_owned(),
                at: NOW,
                max_age: Duration::from_secs(45),
            };
            let ask = || futures_util::FutureExt::now_or_never(engine.query(&query));
            let answer = ask().expect("it waits for nothing").expect("an answer");
            assert_eq!(answer.len(), PODS);
            group.bench_with_input(BenchmarkId::from_parameter(series), &(), |bencher, ()| {
                bencher.iter(|| black_box(ask()));
            });
        }
        group.finish();
    }
}

/// The series of a store of 80,000, as promtool reads them.
fn recorded() -> String {
    let mut text = String::new();
    for pod in 0..40_000 {
        let (gauge, counter) = labels(pod, pod / 8);
        let scrapes = if pod / PODS == 3 { SCRAPES } else { 1 };
        for series in [gauge, counter] {
            let name = series.metric_name().expect("a name");
            let pairs: Vec<String> = series
                .iter()
                .filter(|(label, _)| *label != METRIC_NAME)
                .map(|(label, value)| format!("{label}={value:?}"))
                .collect();
            for scrape in (0..scrapes).rev() {
                let time = NOW.as_seconds() - scrape * 15;
                writeln!(
                    text,
                    "{name}{{{}}} {} {time}",
                    pairs.join(","),
                    1_000 - scrape
                )
                .expect("a String takes all");
            }
        }
    }
    text + "# EOF\n"
}

fn over_http(criterion: &mut Criterion) {
    let Some(prometheus) = prometheus::Prometheus::with(&recorded()) else {
        return;
    };
    for (name, text) in [("avg by pod", AVERAGE), ("sum rate by pod", RATE)] {
        let answer = prometheus.query(text, NOW);
        assert_eq!(answer.matches("\"metric\"").count(), PODS, "{answer}");
        let mut group = criterion.benchmark_group(name);
        group.bench_function("80000 series in Prometheus 3.14 over HTTP", |bencher| {
            bencher.iter(|| black_box(prometheus.query(text, NOW)));
        });
        group.finish();
    }
}

fn range(criterion: &mut Criterion) {
    let (store, _writers) = store(10_000);
    let query = Query::compile(RATE).expect("PromQL");
    let range = Range {
        start: NOW.minus(Duration::from_secs(300)),
        end: NOW,
        step: INTERVAL,
    };
    criterion.bench_function("sum rate by pod over 21 steps", |bencher| {
        let reader = Reader(&store);
        bencher.iter(|| {
            black_box(query.evaluate_range(&reader, black_box(range), &Options::default()))
        });
    });
}

criterion_group!(benches, instant, over_http, range);
criterion_main!(benches);
