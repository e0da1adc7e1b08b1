//! Pages that change: series that vanish, targets that go down and come back, counters that begin anew.

use std::fmt::Write as _;
use std::time::Duration;

use gpu_metrics_adapter::model::time::Timestamp;

use crate::adapter::Adapter;
use crate::cases::job;
use crate::compare::{Answer, difference};
use crate::exceptions::{ABOUT_ONLY_THERE, MEASURED};
use crate::pages::{Page, Pages};
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
