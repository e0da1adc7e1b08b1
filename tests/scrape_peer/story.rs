//! Pages that change: series that vanish, targets that go down and come back, counters that begin anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use gpu_metrics_adapter::model::time::Timestamp;
use serde_json::Value;

use crate::adapter::Adapter;
use crate::cases::job;
use crate::compare::{Answer, difference, differences};
use crate::exceptions::{ABOUT_ONLY_THERE, MEASURED};
use crate::pages::{OPENMETRICS, Page, Pages};
use crate::process::Workspace;
use crate::prometheus::Prometheus;
use crate::wait::eventually;

const WITHIN: Duration = Duration::from_secs(30);

struct Stage {
    pages: Pages,
    prometheus: Prometheus,
    adapter: Adapter,
}

impl Stage {
    async fn with(settings: &str, page: Page) -> Self {
        let pages = Pages::default();
        let address = pages.serve().await;
        pages.set("story", page);
        let jobs = job("story", address, settings);
        let stage = Self {
            prometheus: Prometheus::start(&jobs).await,
            adapter: Adapter::start(&jobs).await,
            pages,
        };
        stage.until_read().await;
        stage
    }

    /// Shows another page until both have taken it.
    async fn show(&self, page: Page) {
        self.pages.set("story", page);
        self.until_read().await;
    }

    /// A third request comes after the second page is stored.
    async fn until_read(&self) {
        eventually("scrapes", WITHIN, async || match self.pages.read("story") {
            0..3 => Err("not three times"),
            _ => Ok(()),
        })
        .await;
    }

    async fn both(&self, query: &str) -> (Answer, Answer) {
        (
            self.prometheus.peer.query(query).await,
            self.adapter.peer.query(query).await,
        )
    }

    async fn assert_same(&self, query: &str) -> Answer {
        let (expected, ours) = self.both(query).await;
        assert_eq!(difference(&expected, &ours), None, "{query}");
        expected
    }
}

fn everything() -> String {
    format!("{{__name__=~\".+\",__name__!~\"{MEASURED}|{ABOUT_ONLY_THERE}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: make test"]
async fn a_series_that_vanishes_ends_and_may_come_back() {
    let stage = Stage::with("", Page::text("a 1\nb{x=\"1\"} 2\n")).await;
    assert_eq!(stage.assert_same(&everything()).await.len(), 4);
    stage.show(Page::text("a 3\n")).await;
    assert_eq!(stage.assert_same(&everything()).await.len(), 3);
    stage.show(Page::text("a 3\nb{x=\"1\"} 5\n")).await;
    assert_eq!(stage.assert_same(&everything()).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: make test"]
async fn a_target_that_goes_down_is_down_for_both_and_only_the_adapter_keeps_its_last_values() {
    let stage = Stage::with("", Page::text("a 1\n")).await;
    stage.assert_same(&everything()).await;
    let down = Page {
        status: 500,
        ..Page::text("a 9\n")
    };
    stage.show(down).await;
    let up = stage.assert_same("up").await;
    assert_eq!(up.values().collect::<Vec<_>>(), ["0"]);
    // Wanted: an exporter that fails once must not read as a pod without load. The HPA's answers have an age limit.
    let (theirs, ours) = stage.both("a").await;
    assert!(theirs.is_empty(), "{theirs:?}");
    assert_eq!(ours.values().collect::<Vec<_>>(), ["1"]);
    stage.show(Page::text("a 4\n")).await;
    stage.assert_same(&everything()).await;
    assert_eq!(
        stage.assert_same("a").await.values().collect::<Vec<_>>(),
        ["4"]
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: make test"]
async fn a_counter_that_begins_anew_is_seen_by_both() {
    let stage = Stage::with("", Page::text("c_total 1000\n")).await;
    stage.show(Page::text("c_total 3\n")).await;
    for query in ["c_total", "resets(c_total[1m])", "changes(c_total[1m])"] {
        let answer = stage.assert_same(query).await;
        assert_eq!(answer.len(), 1, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: make test"]
async fn targets_in_files_come_change_and_go_for_both() {
    let pages = Pages::default();
    let address = pages.serve().await;
    pages.set("one", Page::text("a 1\n"));
    pages.set("two", Page::text("a 2\n"));
    let files = Workspace::create("scrape-peer-files");
    let pattern = files.path("*.json");
    let jobs = format!(
        "  - {{job_name: files, honor_labels: true, file_sd_configs: [{{files: ['{}'], refresh_interval: 1s}}], relabel_configs: [{{source_labels: [__meta_filepath], regex: '.*/(.*).json', target_label: file}}]}}\n",
        pattern.display()
    );
    let group = |path: &str, labels: &str| {
        format!(
            "{{\"targets\": [\"{address}\"], \"labels\": {{\"__metrics_path__\": \"/{path}\"{labels}}}}}"
        )
    };
    let (one, two) = (group("one", ", \"team\": \"a\""), group("two", ""));
    files.write("first.json", &format!("[{one}]"));
    let prometheus = Prometheus::start(&jobs).await;
    let adapter = Adapter::start(&jobs).await;
    for (content, expected) in [
        (format!("[{one}]"), 1),
        (format!("[{one}, {two}]"), 2),
        (format!("[{}]", one.replace("\"a\"", "\"b\"")), 1),
        // Broken, it keeps what it said for both.
        ("[{".to_owned(), 1),
        ("[]".to_owned(), 0),
    ] {
        files.write("first.json", &content);
        eventually(&content, WITHIN, async || {
            let (theirs, ours) = (
                prometheus.peer.targets().await,
                adapter.peer.targets().await,
            );
            let of = |it: &BTreeMap<String, Vec<Value>>| it.get("files").map_or(0, Vec::len);
            let known = theirs.values().flatten().all(|it| it["health"] == "up");
            if theirs != ours || of(&theirs) != expected || !known {
                return Err(format!("{theirs:?} and {ours:?}"));
            }
            let (theirs, ours) = (
                prometheus.peer.query("{__name__=~\"a|up\"}").await,
                adapter.peer.query("{__name__=~\"a|up\"}").await,
            );
            match difference(&theirs, &ours) {
                None if ours.len() == 2 * expected => Ok(()),
                difference => Err(format!("{difference:?} {ours:?}")),
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: make test"]
async fn times_that_are_odd_are_taken_or_not_by_both() {
    let now = Timestamp::now().as_millis();
    let at = |seconds: i64| now + seconds * 1_000;
    let cases: [(&str, String, &[&str]); 8] = [
        ("past", format!("c 1 {}\nd 2\n", at(-100)), &[]),
        ("future", format!("c 1 {}\nd 2\n", at(120)), &[]),
        ("far-future", format!("c 1 {}\nd 2\n", at(3_600)), &[]),
        ("epoch", "c 1 0\nd 2\n".to_owned(), &[]),
        (
            // A line that cannot be read costs the page there.
            "negative",
            "c 1 -5\nd 2\n".to_owned(),
            &[
                "! scrape_samples_scraped 2 instead of 0",
                "! up 1 instead of 0",
                "+ d 2",
            ],
        ),
        (
            "twice",
            format!("c 6 {}\nc 7 {}\nd 2\n", at(-20), at(-20)),
            &[],
        ),
        (
            // A series is read once of a page here, there once for each time.
            "later",
            format!("c 8 {}\nc 9 {}\nd 2\n", at(-30), at(-20)),
            &["! c 8 instead of 9"],
        ),
        (
            "earlier",
            format!("c 10 {}\nc 11 {}\nd 2\n", at(-20), at(-30)),
            &[],
        ),
    ];
    let pages = Pages::default();
    let address = pages.serve().await;
    let mut jobs = String::new();
    for (name, page, _) in &cases {
        pages.set(name, Page::text(page.clone()));
        jobs.push_str(&job(name, address, ""));
    }
    let prometheus = Prometheus::start(&jobs).await;
    let adapter = Adapter::start(&jobs).await;
    let mut faults = String::new();
    for (name, _, expected) in cases {
        eventually(name, WITHIN, async || match pages.read(name) {
            0..3 => Err("not three times"),
            _ => Ok(()),
        })
        .await;
        // Three minutes on: behind the future, and within five minutes of the past.
        let c = format!("c{{job=\"{name}\"}} offset -3m");
        let others = format!("{{__name__=~\"d|up|scrape_samples_scraped\",job=\"{name}\"}}");
        let mut lines = Vec::new();
        for query in [c.clone(), others] {
            let theirs = prometheus.peer.query(&query).await;
            lines.extend(differences(&theirs, &adapter.peer.query(&query).await));
        }
        if lines.is_empty() {
            let query = format!("timestamp({c})");
            let theirs = prometheus.peer.query(&query).await;
            lines = differences(&theirs, &adapter.peer.query(&query).await);
        }
        if lines != expected {
            writeln!(faults, "{name}: {lines:?}").unwrap();
        }
    }
    assert!(faults.is_empty(), "{faults}");

    let stage = Stage::with("", Page::text(format!("past 1 {}\n", at(-100)))).await;
    let newer = format!("past 1 {}\n", at(-90));
    stage.show(Page::text(newer)).await;
    stage.assert_same("timestamp(past)").await;
    // A time that goes back is no news to either.
    stage
        .show(Page::text(format!("past 2 {}\n", at(-110))))
        .await;
    stage.assert_same("past").await;

    let seconds = |millis: i64| format!("{}.{:03}", millis / 1_000, millis % 1_000);
    let page = Page {
        content_type: OPENMETRICS,
        ..Page::text(format!(
            "# TYPE a gauge\na 1 {}\n# TYPE b gauge\nb 2 {}\n# EOF\n",
            seconds(at(-20)),
            at(-20) / 1_000
        ))
    };
    let stage = Stage::with("", page).await;
    for name in ["a", "b"] {
        stage.assert_same(&format!("timestamp({name})")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: make test"]
async fn timestamps_of_a_page_count_if_they_are_honoured() {
    let at = Timestamp::now().as_millis() - 20_000;
    let mut page = String::new();
    writeln!(page, "c 7 {at}\nd 8").unwrap();
    let stage = Stage::with("", Page::text(page.clone())).await;
    let times = stage.assert_same("timestamp(c)").await;
    let written = format!("{}.{:03}", at / 1_000, at % 1_000);
    let time = times.values().next().unwrap();
    assert_eq!(
        time.parse::<f64>().unwrap(),
        written.parse::<f64>().unwrap()
    );
    stage.assert_same(&everything()).await;
    // Gone from the page, it is without a mark: it counts until it is too old.
    stage.show(Page::text("d 8\n")).await;
    let (theirs, ours) = stage.both("c").await;
    assert_eq!(theirs.len(), 1);
    // Wanted: a series that is absent from a good page ends at once, whoever gave it its time.
    assert!(ours.is_empty(), "{ours:?}");

    let stage = Stage::with(", honor_timestamps: false", Page::text(page)).await;
    stage.assert_same(&everything()).await;
    let (theirs, ours) = stage.both("timestamp(c) > bool time() - 10").await;
    assert_eq!((theirs.len(), ours.len()), (1, 1));
    assert_eq!(difference(&theirs, &ours), None);
}
