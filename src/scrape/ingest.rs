//! From a page to the store: labels merged, relabelled and bounded (`scrape/scrape.go`, `mutateSampleLabels`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::exposition::{Description, FamilyKind, ParsedSample, Report, Sink, parse};
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::time::Timestamp;
use crate::store::{MetadataIndex, Scrape, TargetWriter};
use crate::targets::relabel::{LabelMap, set};
use crate::targets::{Settings, Target};

use super::about::Scraped;
use super::fetch::Page;
use super::kept::Filter;
use super::series::{KnownSeries, Verdict};
use super::{KeptMetrics, ScrapeError};

/// How far ahead of its scrape a timestamp may be (`scrape/scrape.go`, `maxAheadTime`).
const AHEAD: Duration = Duration::from_secs(600);

/// Why a sample of no rule's metric is dropped.
const NOT_NEEDED: &str = "not_needed";

/// What became of a page.
#[derive(Debug, Default)]
pub(super) struct Ingested {
    /// What became of its lines.
    pub(super) report: Report,
    /// Samples of series that were not known.
    pub(super) unknown: usize,
    /// Samples that were kept.
    pub(super) kept: usize,
    /// Samples that were not, by the reason's name.
    pub(super) dropped: BTreeMap<&'static str, u64>,
}

/// Writes a page of `target`, whole or not at all, and with it the series about the target.
///
/// # Errors
/// Where nothing of the page may be kept. What became of its lines is told all the same.
pub(super) fn ingest(
    page: &Page,
    scraped: &Scraped<'_>,
    target: &Target,
    kept: &KeptMetrics,
    metadata: Option<&MetadataIndex>,
    known: &mut KnownSeries,
    writer: &mut TargetWriter,
) -> (Ingested, Result<(), ScrapeError>) {
    known.begin();
    let mut sink = Ingest {
        target,
        kept,
        metadata,
        filter: kept.filter(&target.settings.job),
        known,
        scrape: writer.begin(scraped.at),
        latest: scraped.at.plus(AHEAD),
        after_rules: 0,
        done: Ingested::default(),
    };
    let report = parse(page.bytes(), page.format, &mut sink);
    let verdict = sink.verdict(&report);
    if verdict.is_ok() {
        let about = scraped.values(true, report.samples);
        sink.scrape.commit_with(&about);
        sink.known.end();
    } else {
        drop(sink.scrape);
        sink.known.give_up();
    }
    let done = Ingested {
        report,
        ..sink.done
    };
    (done, verdict)
}

struct Ingest<'a> {
    target: &'a Target,
    kept: &'a KeptMetrics,
    metadata: Option<&'a MetadataIndex>,
    filter: Filter,
    known: &'a mut KnownSeries,
    scrape: Scrape<'a>,
    latest: Timestamp,
    after_rules: usize,
    done: Ingested,
}

impl Ingest<'_> {
    fn full(&self) -> bool {
        self.after_rules > self.target.settings.samples
    }

    fn verdict(&self, report: &Report) -> Result<(), ScrapeError> {
        if self.full() {
            return Err(ScrapeError::TooManySamples(self.target.settings.samples));
        }
        match &report.example {
            _ if self.done.kept > 0 => Ok(()),
            // A page without anything that a rule needs, or that the job's own rules leave, is a good page.
            _ if report.skipped > 0 || self.drops(NOT_NEEDED) || self.drops("relabelled") => Ok(()),
            _ if report.samples > 0 => Err(ScrapeError::NoneKept(report.samples)),
            Some((reason, line)) => Err(ScrapeError::Unreadable {
                reason: reason.to_string(),
                line: line.clone(),
            }),
            None => Err(ScrapeError::Empty),
        }
    }

    fn drops(&self, reason: &str) -> bool {
        self.done.dropped.contains_key(reason)
    }

    fn drop(&mut self, reason: &'static str) {
        *self.done.dropped.entry(reason).or_default() += 1;
    }

    fn take(&mut self, verdict: Verdict, value: f64, timestamp: Option<Timestamp>) {
        let slot = match verdict {
            Verdict::Keep(slot) => slot,
            Verdict::Relabelled => return self.drop("relabelled"),
            Verdict::NotNeeded => return self.drop(NOT_NEEDED),
            Verdict::LabelLimit => return self.drop("label_limit"),
        };
        self.after_rules += 1;
        if self.full() {
            return;
        }
        let timestamp = timestamp.filter(|_| self.target.settings.honor_timestamps);
        if timestamp.is_some_and(|it| it > self.latest) {
            self.scrape.has(slot);
            return self.drop("future");
        }
        if self.scrape.push(slot, value, timestamp) {
            self.done.kept += 1;
        } else {
            self.drop("duplicate");
        }
    }

    /// What becomes of a series that is seen for the first time; nothing that lasts where the store has no room for it.
    fn judge(&mut self, sample: &ParsedSample<'_>) -> Option<Verdict> {
        let settings = &self.target.settings;
        let mut labels = merge(sample, &self.target.labels, settings.honor_labels);
        if !settings.metric_relabeling.apply(&mut labels) || !labels.contains_key(METRIC_NAME) {
            return Some(Verdict::Relabelled);
        }
        if self.filter == Filter::AfterRules && !self.kept.needs(&labels[METRIC_NAME]) {
            return Some(Verdict::NotNeeded);
        }
        if passes_limit(&labels, settings) {
            return Some(Verdict::LabelLimit);
        }
        let slot = self.scrape.slot(&Labels::new(labels)).ok()?;
        Some(Verdict::Keep(slot))
    }
}

impl Sink for Ingest<'_> {
    const RECOGNISES: bool = true;

    fn wants(&mut self, name: &[u8]) -> bool {
        let needed = || std::str::from_utf8(name).is_ok_and(|name| self.kept.needs(name));
        !self.full() && (self.filter != Filter::ByPage || needed())
    }

    #[inline]
    fn expects(&self) -> usize {
        self.known.expects()
    }

    #[inline]
    fn recognise(&mut self, series_text: &[u8], kind: FamilyKind) -> Option<usize> {
        self.known.find(series_text, kind)
    }

    #[inline]
    fn recognised(&mut self, series: usize, value: f64, timestamp: Option<Timestamp>) {
        let verdict = self.known.verdict(series);
        self.take(verdict, value, timestamp);
    }

    fn describes(&self) -> bool {
        self.metadata.is_some()
    }

    fn describe(&mut self, family: &str, description: &Description<'_>) {
        let Some(metadata) = self.metadata else {
            return;
        };
        match description {
            Description::Kind(kind) => metadata.set_kind(family, kind),
            Description::Help(help) => metadata.set_help(family, help),
            Description::Unit(unit) => metadata.set_unit(family, unit),
        }
    }

    fn sample(&mut self, sample: &ParsedSample<'_>) {
        if self.full() {
            return;
        }
        self.done.unknown += 1;
        let Some(verdict) = self.judge(sample) else {
            self.after_rules += 1;
            return self.drop("store_limit");
        };
        self.take(verdict, sample.value, sample.timestamp);
        // Series that rules drop are remembered too, up to as many again as may be kept.
        if self.known.len() < 2 * self.target.settings.samples {
            self.known.insert(sample.series_text, sample.kind, verdict);
        }
    }
}

/// The page's labels and the target's (`scrape/scrape.go`, `resolveConflictingExposedLabels`).
fn merge(sample: &ParsedSample<'_>, target: &Labels, honor_labels: bool) -> LabelMap {
    let mut labels = LabelMap::new();
    set(&mut labels, METRIC_NAME, sample.name);
    for (name, value) in sample.labels {
        set(&mut labels, &**name, &**value);
    }
    for (name, value) in target.iter() {
        match labels.get(name).cloned() {
            Some(_) if honor_labels => {}
            Some(page) => {
                let mut free = format!("exported_{name}");
                while labels.contains_key(&free) || target.get(&free).is_some() {
                    free.insert_str(0, "exported_");
                }
                set(&mut labels, free, page);
                set(&mut labels, name, value);
            }
            None => set(&mut labels, name, value),
        }
    }
    labels
}

fn passes_limit(labels: &LabelMap, settings: &Settings) -> bool {
    let too_long = |(name, value): (&String, &String)| {
        name.len() > settings.label_name_length || value.len() > settings.label_value_length
    };
    labels.len() > settings.labels || labels.iter().any(too_long)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn merged(page: &[(&str, &str)], target: &[(&str, &str)], honor_labels: bool) -> String {
        let labels: Vec<_> = page
            .iter()
            .map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value)))
            .collect();
        let sample = ParsedSample {
            name: "up",
            labels: &labels,
            value: 1.0,
            timestamp: None,
            series_text: b"",
            kind: FamilyKind::Plain,
        };
        let target = Labels::new(target.iter().copied());
        Labels::new(merge(&sample, &target, honor_labels)).to_string()
    }

    /// After `TestScrapeLoopAppend_HonorLabels` and its neighbours in Prometheus's `scrape_test.go`.
    #[test]
    fn labels_of_page_and_target_are_merged_as_honor_labels_says() {
        let page = [("n", "1"), ("pod", "vllm-0")];
        let target = [("n", "2"), ("job", "j")];
        assert_eq!(
            merged(&page, &target, true),
            r#"up{job="j", n="1", pod="vllm-0"}"#
        );
        assert_eq!(
            merged(&page, &target, false),
            r#"up{exported_n="1", job="j", n="2", pod="vllm-0"}"#
        );
        assert_eq!(
            merged(&[("n", "1"), ("exported_n", "x")], &[("n", "2")], false),
            r#"up{exported_exported_n="1", exported_n="x", n="2"}"#
        );
    }
}
