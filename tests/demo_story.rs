//! The simulated fleet and the simulated autoscaler together, second by second, without a server between them and without a
//! clock: the demo's story must come out whatever the machine does.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use gpu_metrics_adapter::demo::exporter;
use gpu_metrics_adapter::demo::load::Load;
use gpu_metrics_adapter::demo::pods::Pods;
use gpu_metrics_adapter::hpa::{self, Observation, Spec, State};
use gpu_metrics_adapter::model::quantity::Quantity;
use gpu_metrics_adapter::model::time::Timestamp;
use prometheus_parse::{Scrape, Value};

const METRIC: &str = "DCGM_CUSTOM_PROCESS_SM_UTIL";
const NODES: usize = 3;
const GPUS: usize = 8;

/// The metric by pod, in thousandths, as a scrape of all nodes finds it.
fn scraped(pods: &Pods, scrape: u64) -> BTreeMap<String, i64> {
    let pods = pods.now();
    let pages = (0..NODES).map(|node| exporter::page(node, GPUS, &pods, scrape));
    let samples = pages.flat_map(|page| {
        let lines = page.lines().map(|line| Ok(line.to_owned()));
        Scrape::parse(lines).expect("a page").samples
    });
    samples
        .filter(|sample| sample.metric == METRIC)
        .map(|sample| {
            let Value::Gauge(value) = sample.value else {
                panic!("{METRIC} is a gauge");
            };
            let pod = sample.labels.get("PodName").expect("a pod");
            let value = Quantity::from_f64(value).expect("a number").milli_value();
            (pod.to_owned(), value)
        })
        .collect()
}

/// The changes of size: the second, and the new size.
fn played(sync_period: u64, stabilization: u64) -> Vec<(u64, i32)> {
    let load = Load::default();
    let pods = Pods::new(NODES, GPUS);
    let mut spec = Spec::new(METRIC, Quantity::from_millis(50_000), 2);
    spec.downscale_stabilization = Duration::from_secs(stabilization);
    let mut state = State::default();
    let mut replicas = 1;
    let mut changes = Vec::new();
    for second in 0..=load.duration().as_secs() {
        let elapsed = Duration::from_secs(second);
        pods.scale(usize::try_from(replicas).expect("not negative"), elapsed);
        pods.advance(elapsed, load.requests(elapsed));
        if second % sync_period != 0 {
            continue;
        }
        let outcome = hpa::sync(
            &spec,
            &mut state,
            &Observation {
                now: Timestamp::from_millis(0).plus(elapsed),
                replicas,
                pods: &pods.for_hpa(),
                metrics: Ok(&scraped(&pods, second)),
            },
        );
        if outcome.replicas != replicas {
            replicas = outcome.replicas;
            changes.push((second, replicas));
        }
    }
    changes
}

#[test]
fn the_demo_scales_up_once_and_down_once() {
    for (sync_period, stabilization) in [(5, 15), (5, 30), (15, 15), (15, 30)] {
        let changes = played(sync_period, stabilization);
        let [(up, 2), (down, 1)] = changes[..] else {
            panic!("every {sync_period} s over {stabilization} s: {changes:?}");
        };
        assert!((15..=45).contains(&up), "{changes:?}");
        assert!((75..=115).contains(&down), "{changes:?}");
    }
}

/// The whole of it, for a few seconds: simulated exporters, the real server over TLS, and an answer that is read.
#[test]
fn the_demo_shows_what_the_adapter_answers() {
    let output = Command::new(env!("CARGO_BIN_EXE_gpu-metrics-adapter"))
        .args(["demo", "--duration=12s", "--sync-period=1s"])
        .output()
        .expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}");
    let value = regex::Regex::new(r"DCGM_CUSTOM_PROCESS_SM_UTIL [0-9.]+ / 50").expect("valid");
    assert!(value.is_match(&text), "{text}");
    assert!(text.contains("done after"), "{text}");
}
