//! Real servers: the same rules over the same exporter, answered by the engine inside, a Prometheus and a VictoriaMetrics.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use gpu_metrics_adapter::app::{Core, Tasks};
use gpu_metrics_adapter::model::time::Timestamp;

use crate::process::{Process, Workspace};
use crate::programs::programs;
use crate::wait::{PATIENCE, eventually};
use crate::world::{ask_for, core};

/// The rules, for any engine.
const RULES: &str = r#"
rules:
- seriesQuery: '{__name__=~"util|blank",namespace!="",pod!=""}'
  resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
- seriesQuery: 'busy_seconds_total{namespace!="",pod!=""}'
  resources: {template: <<.Resource>>}
  name: {matches: '^(.*)_seconds_total$', as: '${1}'}
  metricsQuery: sum(rate(<<.Series>>{<<.LabelMatchers>>}[10s])) by (<<.GroupBy>>)
- seriesQuery: 'late{namespace!="",pod!=""}'
  resources: {template: <<.Resource>>}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
  maxAge: 20s
- seriesQuery: 'late{namespace!="",pod!=""}'
  resources: {template: <<.Resource>>}
  name: {as: patient}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
  maxAge: 10m
"#;

/// An exporter of three pods; `late` has samples of a minute ago.
async fn exporter() -> String {
    let begun = Instant::now();
    let page = move || async move {
        let mut page = String::new();
        let minute_ago = Timestamp::now().minus(Duration::from_secs(60)).as_millis();
        for pod in 0..3 {
            for gpu in 0..2 {
                let labels = format!("{{namespace=\"default\",pod=\"p{pod}\",gpu=\"{gpu}\"}}");
                let busy = begun.elapsed().as_secs_f64() * f64::from(pod + 1);
                page += &format!("util{labels} {}\n", 10 * pod + gpu);
                page += &format!("busy_seconds_total{labels} {busy}\n");
                page += &format!("late{labels} {pod} {minute_ago}\n");
            }
            page += &format!("blank{{namespace=\"default\",pod=\"p{pod}\"}} NaN\n");
        }
        page
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = Router::new().route("/metrics", get(page));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

struct Peer {
    url: String,
    process: Process,
}

/// A Prometheus, and a VictoriaMetrics, that scrape `exporter` every second.
fn peers(workspace: &Workspace, exporter: &str) -> [Peer; 2] {
    let jobs = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs: [{{job_name: x, static_configs: [{{targets: ['{exporter}']}}]}}]\n"
    );
    let file = workspace.write("prometheus.yml", &jobs);
    let (address, data) = (free_address(), workspace.path("prometheus"));
    let arguments = [
        format!("--config.file={file}"),
        format!("--storage.tsdb.path={}", data.display()),
        format!("--web.listen-address={address}"),
        "--log.level=warn".to_owned(),
    ];
    let program = programs().join("prometheus");
    let prometheus = Peer {
        url: format!("http://{address}"),
        process: workspace.spawn("prometheus", &program, &arguments),
    };
    let (address, data) = (free_address(), workspace.path("victoria-metrics"));
    let arguments = [
        format!("-promscrape.config={file}"),
        format!("-storageDataPath={}", data.display()),
        format!("-httpListenAddr={address}"),
        "-loggerLevel=WARN".to_owned(),
    ];
    let program = Path::new("victoria-metrics");
    let victoria = Peer {
        url: format!("http://{address}"),
        process: workspace.spawn("victoria-metrics", program, &arguments),
    };
    [prometheus, victoria]
}

type Values = BTreeMap<String, String>;

async fn values(core: &Core, metric: &str) -> Result<Values, String> {
    core.provider.refresh(Timestamp::now()).await;
    ask_for(core, metric).await
}

fn pods(values: [&str; 3]) -> Values {
    let pair = |(index, value): (usize, &str)| (format!("p{index}"), value.to_owned());
    values.into_iter().enumerate().map(pair).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real Prometheus and a real VictoriaMetrics; run: make peer"]
async fn the_same_rules_give_the_same_answers_through_each_engine() {
    let workspace = Workspace::create("backends");
    let exporter = exporter().await;
    let peers = peers(&workspace, &exporter);
    let inside = format!(
        "freshWithin: 0s\nscrape: {{presets: [], interval: 1s, timeout: 1s, scrape_configs: [{{job_name: x, static_configs: [{{targets: ['{exporter}']}}]}}]}}\n{RULES}"
    );
    let mut engines = vec![("embedded".to_owned(), crate::world::core_of(&inside))];
    let tasks = Tasks::default();
    engines[0].1.start(None, &tasks);
    for peer in &peers {
        let config = format!(
            "freshWithin: 0s\nprometheus: [{{url: '{}'}}]\n{RULES}",
            peer.url
        );
        engines.push((peer.url.clone(), core(&config)));
    }
    for (name, core) in &engines {
        eventually(&format!("values of {name}"), PATIENCE, async || {
            peers.iter().for_each(|peer| peer.process.assert_running());
            values(core, "util").await
        })
        .await;
        assert_eq!(
            values(core, "util").await,
            Ok(pods(["1", "21", "41"])),
            "{name}"
        );
        // Two samples at least, and each server has its own idea of a rate at the ends of a window.
        eventually(&format!("rates of {name}"), PATIENCE, async || {
            let rates = values(core, "busy").await?;
            let near = |(index, value): (usize, &String)| {
                let wanted = 2.0 * (index + 1) as f64;
                let value = match value.strip_suffix('m') {
                    Some(milli) => milli.parse::<f64>().unwrap() / 1_000.0,
                    None => value.parse().unwrap(),
                };
                (value - wanted).abs() < 0.1 * wanted
            };
            let all = rates.len() == 3 && rates.values().enumerate().all(near);
            if all {
                Ok(())
            } else {
                Err(format!("{rates:?}"))
            }
        })
        .await;
        let blank = values(core, "blank").await.expect_err("not a number");
        // VictoriaMetrics does not take it in the first place.
        let kept = blank.contains("3 without a finite value");
        let reason = "could not find the metric blank";
        assert!(
            kept || blank.contains(reason) && *name == peers[1].url,
            "{name}: {blank}"
        );
        // Of a minute ago: too old for one rule and not for the other.
        let late = values(core, "late").await.expect_err("too old");
        assert!(
            late.contains("takes samples up to 20s old"),
            "{name}: {late}"
        );
        assert_eq!(
            values(core, "patient").await,
            Ok(pods(["0", "2", "4"])),
            "{name}"
        );
        let unknown = values(core, "nope").await.expect_err("nobody offers it");
        assert!(
            unknown.contains("could not find the metric nope"),
            "{name}: {unknown}"
        );
    }
    tasks.stop().await;
}
