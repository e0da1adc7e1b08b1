//! Scraping over real HTTP on loopback: from a configuration to what a query sees.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod exporter;
mod faults;
mod names;
mod needed;
#[path = "../support/proc.rs"]
#[expect(dead_code, reason = "how much CPU is of no interest here")]
mod proc;
mod renewed;
mod secured;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gpu_metrics_adapter::config::scrape::{ScrapeConfig, ScrapeLimits};
use gpu_metrics_adapter::model::labels::Labels;
use gpu_metrics_adapter::model::matcher::Matcher;
use gpu_metrics_adapter::model::sample::Sample;
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::scrape::{KeptMetrics, Scraping, Statistics};
use gpu_metrics_adapter::store::{Limits, MetadataIndex, Store};
use gpu_metrics_adapter::targets::{self, TargetSet};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use exporter::{Answer, Exporter};

const DEADLINE: Duration = Duration::from_secs(20);

/// The scraper under test, with a configuration's static targets.
struct Scraper {
    store: Arc<Store>,
    statistics: Arc<Statistics>,
    metadata: Arc<MetadataIndex>,
    kept: Arc<ArcSwap<KeptMetrics>>,
    targets: watch::Sender<Arc<TargetSet>>,
    cancel: CancellationToken,
    running: JoinHandle<()>,
}

impl Scraper {
    /// Scrapes the jobs of `yaml`, every 100 ms unless it says otherwise.
    fn start(yaml: &str) -> Self {
        Self::within(ScrapeLimits::default(), yaml)
    }

    fn within(limits: ScrapeLimits, yaml: &str) -> Self {
        Self::keeping(KeptMetrics::default(), limits, yaml)
    }

    fn keeping(kept: KeptMetrics, limits: ScrapeLimits, yaml: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let store = Store::new(Limits::default());
        let scraping = Scraping {
            limits,
            kept: Arc::new(ArcSwap::from_pointee(kept)),
            ..Scraping::into(store.clone())
        };
        let (targets, receiver) = watch::channel(set(yaml));
        let cancel = CancellationToken::new();
        Self {
            store,
            statistics: scraping.statistics.clone(),
            metadata: scraping.metadata.clone(),
            kept: scraping.kept.clone(),
            running: tokio::spawn(scraping.run(receiver, cancel.clone())),
            targets,
            cancel,
        }
    }

    /// One job `j` that scrapes `exporter`, with more settings.
    fn of(exporter: &Exporter, settings: &str) -> Self {
        Self::start(&job("j", exporter, settings))
    }

    fn series(&self, name: &str) -> Vec<(Labels, Vec<Sample>)> {
        let mut found = Vec::new();
        let matchers = [Matcher::equal("__name__", name)];
        self.store.select(&matchers, |labels, samples| {
            found.push((labels.clone(), samples.to_vec()));
        });
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    fn last(&self, name: &str) -> Option<Sample> {
        self.series(name).first()?.1.last().copied()
    }

    fn value(&self, name: &str) -> Option<f64> {
        Some(self.last(name)?.value)
    }

    /// Why the only target gives nothing.
    fn down(&self) -> Option<String> {
        let targets = self.store.targets();
        Some(targets.first()?.health.down.as_ref()?.reason.clone())
    }

    async fn until_down(&self) -> String {
        until("the target is down", || self.down()).await
    }

    async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(DEADLINE, self.running)
            .await
            .expect("the scraper ends when it is told to")
            .unwrap();
        assert_eq!(self.store.series_count(), 0, "no target, no series");
    }
}

fn job(name: &str, exporter: &Exporter, settings: &str) -> String {
    job_at(name, &exporter.address, settings)
}

fn job_at(name: &str, address: &str, settings: &str) -> String {
    format!(
        "- {{job_name: {name}, static_configs: [{{targets: ['{address}'], labels: {{node: n1}}}}], {settings}}}\n"
    )
}

fn set(jobs: &str) -> Arc<TargetSet> {
    let text = format!("interval: 100ms\npresets: []\nscrape_configs:\n{jobs}");
    let config: ScrapeConfig = serde_saphyr::from_str(&text).expect(&text);
    let jobs = targets::compile(&config).expect("a valid configuration");
    Arc::new(targets::assemble(&jobs, |_| Arc::default(), 100))
}

/// Asks again and again until there is an answer.
async fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, asking)
        .await
        .unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_page_is_scraped_again_and_again_and_its_labels_count() {
    let exporter = Exporter::page(
        "util{gpu=\"0\",pod=\"llama-0\",namespace=\"llm\",node=\"page\"} 97\nutil{gpu=\"7\",pod=\"\"} 0\n",
    )
    .await;
    let scraper = Scraper::of(&exporter, "");
    let series = until("three samples", || {
        let series = scraper.series("util");
        (series.first()?.1.len() >= 3).then_some(series)
    })
    .await;
    let labels: Vec<_> = series
        .iter()
        .map(|(labels, _)| labels.to_string())
        .collect();
    let instance = &exporter.address;
    assert_eq!(
        labels,
        [
            format!(
                r#"util{{gpu="0", instance="{instance}", job="j", namespace="llm", node="page", pod="llama-0"}}"#
            ),
            format!(r#"util{{gpu="7", instance="{instance}", job="j", node="n1"}}"#),
        ]
    );
    let samples = &series[0].1;
    assert!(
        samples
            .windows(2)
            .all(|it| it[0].timestamp < it[1].timestamp)
    );
    assert_eq!(scraper.value("up"), Some(1.0));
    assert_eq!(scraper.value("scrape_samples_scraped"), Some(2.0));
    assert!(scraper.value("scrape_duration_seconds") > Some(0.0));

    let (uri, headers) = exporter.first_request();
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(uri.path(), "/metrics");
    assert!(header("accept").starts_with("text/plain;version=0.0.4"));
    assert_eq!(header("accept-encoding"), "gzip");
    assert_eq!(header("x-prometheus-scrape-timeout-seconds"), "0.1");

    let counts = scraper.statistics.snapshot();
    assert_eq!(counts.targets, 1);
    assert!(
        counts.succeeded >= 3 && counts.samples >= 6 && counts.bytes > 0,
        "{counts:?}"
    );
    scraper.stop().await;
}

#[tokio::test]
async fn a_real_exporters_page_is_kept_whole_and_recognised_the_next_time() {
    let exporter = Exporter::page(include_str!("../fixtures/pages/dcgm8.txt")).await;
    let scraper = Scraper::of(&exporter, "");
    until("two scrapes", || {
        (scraper.statistics.snapshot().succeeded >= 2).then_some(())
    })
    .await;
    let counts = scraper.statistics.snapshot();
    assert_eq!(counts.samples, 216 * counts.succeeded, "{counts:?}");
    assert!(counts.dropped.is_empty() && counts.lines.is_empty());
    assert_eq!(scraper.store.series_count(), 216 + 3);
    let utilisation = scraper.series("DCGM_FI_DEV_GPU_UTIL");
    assert_eq!(utilisation.len(), 8);
    for (labels, samples) in &utilisation {
        assert!(samples.len() >= 2, "{labels}");
        assert_eq!(labels.value("node"), "n1");
        assert!(labels.get("exported_pod").is_none());
    }
    scraper.stop().await;
}

#[tokio::test]
async fn a_failing_target_keeps_its_last_samples_and_says_why() {
    let exporter = Exporter::page("util 97\n").await;
    let scraper = Scraper::of(&exporter, "");
    until("a sample", || scraper.value("util")).await;

    exporter.answer(Answer::Status(500));
    assert_eq!(scraper.until_down().await, "answered 500");
    let kept = scraper.last("util").unwrap();
    assert_eq!(kept.value, 97.0);
    until("up is 0", || (scraper.value("up")? == 0.0).then_some(())).await;

    // As dcgm-exporter answers while it reloads.
    exporter.answer(Answer::Page(String::new()));
    until("another reason", || {
        (scraper.down()? == "answered without any sample").then_some(())
    })
    .await;
    assert_eq!(
        scraper.last("util"),
        Some(kept),
        "neither ended nor renewed"
    );

    exporter.answer(Answer::Page("util 98\n".to_owned()));
    until("it works again", || {
        (scraper.value("util")? == 98.0).then_some(())
    })
    .await;
    until("up is 1", || (scraper.value("up")? == 1.0).then_some(())).await;
    assert_eq!(scraper.down(), None);
    let failed = scraper.statistics.snapshot().failed;
    assert!(failed["status"] >= 1 && failed["empty"] >= 1, "{failed:?}");
    scraper.stop().await;
}

#[tokio::test]
async fn a_target_that_hangs_is_given_up_in_time() {
    let exporter = Exporter::start(Answer::Hang).await;
    let scraper = Scraper::of(&exporter, "scrape_timeout: 50ms");
    assert_eq!(scraper.until_down().await, "no answer within 50ms");
    scraper.stop().await;
}

#[tokio::test]
async fn targets_that_hang_leave_a_turn_to_the_others() {
    let hangs = Exporter::start(Answer::Hang).await;
    let works = Exporter::page("util 1\n").await;
    let limits = ScrapeLimits {
        concurrency: 1,
        ..ScrapeLimits::default()
    };
    let hanging = job("a", &hangs, "scrape_timeout: 20ms");
    let scraper = Scraper::within(limits, &format!("{hanging}{}", job("b", &works, "")));
    until("both had several turns", || {
        let counts = scraper.statistics.snapshot();
        let timeouts = counts.failed.get("timeout").copied()?;
        (timeouts >= 3 && counts.succeeded >= 3).then_some(())
    })
    .await;
    assert_eq!(scraper.value("util"), Some(1.0));
    scraper.stop().await;
}

#[tokio::test]
async fn a_port_without_a_listener_is_a_refused_connection() {
    let exporter = Exporter::page("").await;
    let job = job("j", &exporter, "");
    exporter.server.abort();
    until("the port is closed", || {
        std::net::TcpStream::connect(&exporter.address).err()
    })
    .await;
    let scraper = Scraper::start(&job);
    assert_eq!(scraper.until_down().await, "connection refused");
    scraper.stop().await;
}

#[tokio::test]
async fn a_body_without_end_is_cut_off_at_the_limit() {
    let exporter = Exporter::start(Answer::Endless).await;
    let scraper = Scraper::of(
        &exporter,
        "body_size_limit: 64KB, scrape_interval: 2s, scrape_timeout: 2s",
    );
    assert_eq!(
        scraper.until_down().await,
        "body passed the limit of 65536 bytes"
    );
    assert!(scraper.series("x").is_empty());
    scraper.stop().await;
}

#[tokio::test]
async fn a_compressed_page_is_read_and_a_bomb_is_not() {
    let exporter = Exporter::start(Answer::Gzip(gzip(b"util 5\n"))).await;
    let scraper = Scraper::of(
        &exporter,
        "body_size_limit: 1MB, scrape_interval: 1s, scrape_timeout: 1s",
    );
    until("the page", || scraper.value("util")).await;

    let bomb = gzip(&vec![b'\n'; 8 << 20]);
    assert!(bomb.len() < 1 << 17, "{} bytes are a bomb", bomb.len());
    exporter.answer(Answer::Gzip(bomb));
    assert_eq!(
        scraper.until_down().await,
        "body passed the limit of 1048576 bytes"
    );
    // Empty blocks without end: nothing comes out, so that only what is sent can be bounded.
    let mut idle = gzip(b"")[..10].to_vec();
    idle.extend([0, 0, 0, 0xff, 0xff].repeat(300_000));
    exporter.answer(Answer::Page("util 6\n".to_owned()));
    until("it recovers", || {
        (scraper.value("util")? == 6.0).then_some(())
    })
    .await;
    exporter.answer(Answer::Gzip(idle));
    assert_eq!(
        scraper.until_down().await,
        "body passed the limit of 1048576 bytes"
    );
    scraper.stop().await;
}

#[tokio::test]
async fn a_redirect_is_followed_on_its_own_host_only() {
    let other = Exporter::page("secret 1\n").await;
    let exporter = Exporter::start(Answer::Redirect("/elsewhere".to_owned())).await;
    let scraper = Scraper::of(&exporter, "");
    until("the page behind the redirect", || scraper.value("there")).await;

    let to = format!("http://{}/metrics", other.address);
    exporter.answer(Answer::Redirect(to));
    let expected = format!(
        "redirects to another host (http://{}), which is not followed",
        other.address
    );
    assert_eq!(scraper.until_down().await, expected);
    exporter.answer(Answer::Redirect("/metrics".to_owned()));
    until("a circle", || {
        (scraper.down()? == "redirects in circles").then_some(())
    })
    .await;
    assert_eq!(other.requests(), 0);
    scraper.stop().await;

    exporter.answer(Answer::Redirect("/elsewhere".to_owned()));
    let scraper = Scraper::of(&exporter, "follow_redirects: false");
    assert_eq!(scraper.until_down().await, "answered 302");
    scraper.stop().await;
}

#[tokio::test]
async fn a_page_that_is_none_is_told_with_its_first_line() {
    let exporter = Exporter::page("<html>sign in</html>\n").await;
    let scraper = Scraper::of(&exporter, "");
    let reason = scraper.until_down().await;
    assert!(
        reason.starts_with("no line of the page is a sample ("),
        "{reason}"
    );
    assert!(reason.contains("<html>sign in</html>"), "{reason}");
    scraper.stop().await;
}

#[tokio::test]
async fn a_bad_line_costs_no_other_line() {
    let exporter = Exporter::page("a 1\nb{x=1} 2\nc 3\n").await;
    let scraper = Scraper::of(&exporter, "");
    until("both", || Some((scraper.value("a")?, scraper.value("c")?))).await;
    assert!(scraper.series("b").is_empty());
    let counts = scraper.statistics.snapshot();
    assert!(counts.lines["label_value"] >= 1, "{counts:?}");
    scraper.stop().await;
}

#[tokio::test]
async fn a_series_that_leaves_the_page_ends_and_the_others_go_on() {
    let exporter = Exporter::page("xid{err=\"0\"} 0\nutil 1\n").await;
    let scraper = Scraper::of(&exporter, "");
    until("the series", || scraper.last("xid")).await;
    exporter.answer(Answer::Page("xid{err=\"31\"} 31\nutil 2\n".to_owned()));
    let series = until("another series", || {
        let series = scraper.series("xid");
        (series.len() == 2).then_some(series)
    })
    .await;
    let ended = |index: usize| series[index].1.last().unwrap().is_stale_marker();
    assert!(ended(0) && !ended(1), "{series:?}");
    assert_eq!(scraper.value("util"), Some(2.0));
    scraper.stop().await;
}

#[tokio::test]
async fn rules_limits_and_timestamps_decide_sample_by_sample() {
    let now = Timestamp::now();
    let millis = |time: Timestamp| time.as_millis();
    let earlier = now.minus(Duration::from_secs(5));
    let future = now.plus(Duration::from_secs(700));
    let page = format!(
        "timed 1 {}\nfuture 1 {}\nlong{{a=\"{}\"}} 1\nmany{{a=\"1\",b=\"2\",c=\"3\"}} 1\nunwanted 1\nold_name{{node=\"x\"}} 7\ntwice 1\ntwice 2\n",
        millis(earlier),
        millis(future),
        "x".repeat(50),
    );
    let exporter = Exporter::page(&page).await;
    let rules = "[{source_labels: [__name__], regex: unwanted, action: drop}, {source_labels: [__name__], regex: old_(.*), target_label: __name__, replacement: new_$1}]";
    let scraper = Scraper::of(
        &exporter,
        &format!(
            "honor_labels: false, label_limit: 6, label_value_length_limit: 30, metric_relabel_configs: {rules}"
        ),
    );
    until("two scrapes", || {
        (scraper.statistics.snapshot().succeeded >= 2).then_some(())
    })
    .await;
    assert_eq!(scraper.last("timed").unwrap().timestamp, earlier);
    assert_eq!(scraper.value("twice"), Some(1.0));
    let renamed = &scraper.series("new_name")[0].0;
    assert_eq!(renamed.value("node"), "n1");
    assert_eq!(renamed.value("exported_node"), "x");
    for name in ["future", "long", "many", "unwanted", "old_name"] {
        assert!(scraper.series(name).is_empty(), "{name}");
    }
    let dropped = scraper.statistics.snapshot().dropped;
    // The second scrape recognises its series and decides the same.
    let rounds = dropped["future"];
    assert!(rounds >= 2, "{dropped:?}");
    assert_eq!(dropped["relabelled"], rounds);
    assert_eq!(dropped["label_limit"], 2 * rounds);
    assert_eq!(dropped["duplicate"], rounds);
    scraper.stop().await;
}

#[tokio::test]
async fn too_many_samples_fail_the_scrape_whole() {
    let exporter = Exporter::page("a 1\nb 2\nc 3\n").await;
    let scraper = Scraper::of(&exporter, "sample_limit: 2");
    assert_eq!(
        scraper.until_down().await,
        "page passed the limit of 2 samples"
    );
    assert!(scraper.series("a").is_empty());
    exporter.answer(Answer::Page("a 1\nb 2\n".to_owned()));
    until("it fits", || scraper.value("b")).await;
    scraper.stop().await;
}

#[tokio::test]
async fn only_the_targets_that_change_are_disturbed() {
    let stays = Exporter::page("stays 1\n").await;
    let goes = Exporter::page("goes 1\n").await;
    let comes = Exporter::start(Answer::Hang).await;
    let (first, second) = (job("a", &stays, ""), job("b", &goes, ""));
    let scraper = Scraper::start(&format!("{first}{second}"));
    until("both", || {
        Some((scraper.value("stays")?, scraper.value("goes")?))
    })
    .await;
    let oldest = scraper.series("stays")[0].1[0];

    scraper.targets.send_replace(set(&format!(
        "{first}{}",
        job("c", &comes, "scrape_interval: 10s")
    )));
    until("its series are gone", || {
        scraper.series("goes").is_empty().then_some(())
    })
    .await;
    until("the new one is scraped", || {
        (comes.requests() > 0).then_some(())
    })
    .await;
    let seen = scraper.series("stays")[0].1.len();
    let samples = until("it goes on", || {
        let samples = scraper.series("stays").first()?.1.clone();
        (samples.len() > seen).then_some(samples)
    })
    .await;
    assert_eq!(samples[0], oldest);
    let connections = goes.requests();

    // A job that changed starts afresh, and one scrape in flight holds up nobody's end.
    scraper
        .targets
        .send_replace(set(&job("a", &stays, "honor_timestamps: false")));
    until("only new samples", || {
        let samples = &scraper.series("stays").first()?.1.clone();
        (!samples.contains(&oldest)).then_some(())
    })
    .await;
    assert_eq!(
        goes.requests(),
        connections,
        "nobody asks what is no target"
    );
    assert_eq!(scraper.statistics.snapshot().targets, 1);
    scraper.stop().await;
}
