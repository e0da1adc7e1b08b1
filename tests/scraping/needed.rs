//! Of a job that keeps what is needed only some metrics are kept.

use std::sync::Arc;

use gpu_metrics_adapter::config::scrape::{Keep, ScrapeConfig, ScrapeLimits};
use gpu_metrics_adapter::model::matcher::Matcher;
use gpu_metrics_adapter::model::names::{NameCondition, NeededNames};
use gpu_metrics_adapter::model::sample::Sample;
use gpu_metrics_adapter::scrape::KeptMetrics;

use super::exporter::{Answer, Exporter};
use super::{Scraper, job, until};

/// The needed metrics `util` and `new_.*`, of the job `j`.
fn needed_of_j(yaml: &str) -> KeptMetrics {
    let text = format!("presets: []\nscrape_configs:\n{yaml}");
    let config: ScrapeConfig = serde_saphyr::from_str(&text).expect(&text);
    let util = Matcher::equal("__name__", "util");
    let new = Matcher::regex("__name__", "new_.*").unwrap();
    let conditions = [util, new].map(|it| NameCondition::of(&[it]));
    let rules = &config.scrape_configs[0].metric_relabel_configs;
    let job = ("j", Keep::Needed, rules.as_slice());
    KeptMetrics::new(NeededNames::new(conditions), [job])
}

#[tokio::test]
async fn of_a_job_that_keeps_what_is_needed_other_metrics_are_passed_over() {
    let page = "# TYPE util gauge\nutil 97\nclock{gpu=\"0\"} 1\nclock{gpu=\"1\"} 2\nbroken 1 2 3\nold_a 5\n";
    let exporter = Exporter::page(page).await;
    let yaml = job("j", &exporter, "scrape_timeout: 50ms");
    let scraper = Scraper::keeping(needed_of_j(&yaml), ScrapeLimits::default(), &yaml);
    until("two scrapes", || {
        (scraper.statistics.snapshot().succeeded >= 2).then_some(())
    })
    .await;
    assert_eq!(scraper.value("util"), Some(97.0));
    assert_eq!(scraper.value("up"), Some(1.0));
    for name in ["clock", "broken", "old_a"] {
        assert!(scraper.series(name).is_empty(), "{name}");
    }
    let counts = scraper.statistics.snapshot();
    assert_eq!(counts.skipped, 4 * counts.succeeded);
    assert_eq!(scraper.metadata.get("util").unwrap().kind, "gauge");
    assert!(counts.lines.is_empty(), "{:?}", counts.lines);

    exporter.answer(Answer::Page("clock{gpu=\"0\"} 1\n".to_owned()));
    until("the series ends", || {
        scraper.last("util")?.is_stale_marker().then_some(())
    })
    .await;
    // A page without anything that a rule needs is a good page.
    assert_eq!(scraper.value("up"), Some(1.0));
    scraper.stop().await;
}

#[tokio::test]
async fn what_is_kept_may_change_and_series_that_stay_go_on() {
    let exporter = Exporter::page("util 97\nclock 1\nnew_a 5\n").await;
    let yaml = job("j", &exporter, "");
    let scraper = Scraper::keeping(needed_of_j(&yaml), ScrapeLimits::default(), &yaml);
    until("two scrapes", || {
        (scraper.statistics.snapshot().succeeded >= 2).then_some(())
    })
    .await;
    let first = scraper.series("util")[0].1[0];
    assert!(scraper.series("clock").is_empty());
    let clock_too =
        ["util", "clock"].map(|it| NameCondition::of(&[Matcher::equal("__name__", it)]));
    let kept = KeptMetrics::new(NeededNames::new(clock_too), [("j", Keep::Needed, &[][..])]);
    scraper.kept.store(Arc::new(kept));
    until("the metric that is kept from now on", || {
        scraper.value("clock")
    })
    .await;
    let ended = until("the end of what no rule needs", || {
        scraper.last("new_a").filter(Sample::is_stale_marker)
    });
    ended.await;
    let samples = &scraper.series("util")[0].1;
    assert_eq!(samples[0].timestamp, first.timestamp, "its past is there");
    assert!(!samples.iter().any(Sample::is_stale_marker));
    scraper.stop().await;
}

#[tokio::test]
async fn where_rules_may_rename_metrics_the_names_they_give_count() {
    let exporter = Exporter::page("old_a 5\nutil 1\nclock 2\n").await;
    let rules = "[{source_labels: [__name__], regex: (old)_(.*), target_label: __name__, replacement: new_$2}, {source_labels: [__name__], regex: util, target_label: __name__, replacement: other}]";
    let yaml = job("j", &exporter, &format!("metric_relabel_configs: {rules}"));
    let scraper = Scraper::keeping(needed_of_j(&yaml), ScrapeLimits::default(), &yaml);
    until("two scrapes", || {
        (scraper.statistics.snapshot().succeeded >= 2).then_some(())
    })
    .await;
    assert_eq!(scraper.value("new_a"), Some(5.0));
    for name in ["util", "other", "clock", "old_a"] {
        assert!(scraper.series(name).is_empty(), "{name}");
    }
    let counts = scraper.statistics.snapshot();
    assert_eq!(counts.dropped["not_needed"], 2 * counts.succeeded);
    assert_eq!(counts.skipped, 0);
    scraper.stop().await;
}
