//! Both engines, asked the same question.

use std::time::Duration;

use gpu_metrics_adapter::promql::Range;

use crate::answer::{Order, Outcome, difference};
use crate::data;
use crate::embedded::Reader;
use crate::era::Era;
use crate::prometheus::{PROMETHEUS, Prometheus};

/// When a query is evaluated, in milliseconds from the start of the data.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// Once.
    Instant(i64),
    /// At each step: start, end, step.
    Range([i64; 3]),
}

/// Both engines, each with the data of both eras.
pub(crate) struct Engines {
    pub(crate) prometheus: &'static Prometheus,
    embedded: Reader,
}

impl Engines {
    pub(crate) fn start() -> Self {
        let all = data::generate();
        Self {
            prometheus: &PROMETHEUS,
            embedded: Reader(all.iter().map(Era::place_in_all).collect()),
        }
    }

    /// What Prometheus answers, and what differs from that in our answer.
    pub(crate) async fn compare(
        &self,
        query: &str,
        order: Order,
        era: Era,
        when: When,
    ) -> (Outcome, Option<String>) {
        let query = era.text(query);
        let [expected, ours] = match when {
            When::Instant(offset) => {
                let at = era.at(offset);
                let expected = self.prometheus.instant(&query, at).await;
                [expected, self.embedded.instant(&query, at)]
            }
            When::Range([start, end, step]) => {
                let range = Range {
                    start: era.at(start),
                    end: era.at(end),
                    step: Duration::from_millis(step.unsigned_abs()),
                };
                let expected = self.prometheus.range(&query, range).await;
                [expected, self.embedded.range(&query, range)]
            }
        };
        let found = difference(&expected, &ours, order);
        (
            expected,
            found.map(|text| format!("{era:?}, {when:?}: {text}")),
        )
    }
}
