//! Which metrics of a job's pages are kept.

use std::collections::HashMap;

use foldhash::quality::RandomState;
use parking_lot::RwLock;

use crate::config::scrape::{Keep, Relabel};
use crate::model::names::NeededNames;

/// Most names whose answers are remembered. A page that makes up names must not fill the memory with them.
const REMEMBERED: usize = 20_000;

/// The metrics that the jobs' pages are searched for.
#[derive(Debug, Default)]
pub struct KeptMetrics {
    needed: NeededNames,
    jobs: HashMap<String, Filter>,
    /// Each page asks for each of its metrics.
    answers: RwLock<HashMap<String, bool, RandomState>>,
}

/// What is kept of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// Everything.
    None,
    /// What is needed, by its name on the page.
    ByPage,
    /// What is needed, by its name after `metric_relabel_configs`, since they may change it.
    AfterRules,
}

impl KeptMetrics {
    /// `needed` are the metrics to keep of the jobs whose [`Keep`] says so; jobs that are not mentioned keep all.
    pub fn new<'a>(
        needed: NeededNames,
        jobs: impl IntoIterator<Item = (&'a str, Keep, &'a [Relabel])>,
    ) -> Self {
        let filter = |keep, rules: &[Relabel]| match keep {
            Keep::All => Filter::None,
            Keep::Needed if rules.iter().any(Relabel::may_rename) => Filter::AfterRules,
            Keep::Needed => Filter::ByPage,
        };
        let jobs = jobs.into_iter();
        Self {
            needed,
            jobs: jobs
                .map(|(job, keep, rules)| (job.to_owned(), filter(keep, rules)))
                .collect(),
            answers: RwLock::default(),
        }
    }

    pub(super) fn filter(&self, job: &str) -> Filter {
        self.jobs.get(job).copied().unwrap_or(Filter::None)
    }

    /// Whether a metric of this name is needed; found out once.
    pub(super) fn needs(&self, name: &str) -> bool {
        if let Some(known) = self.answers.read().get(name) {
            return *known;
        }
        let answer = self.needed.contains(name);
        let mut answers = self.answers.write();
        if answers.len() < REMEMBERED {
            answers.insert(name.to_owned(), answer);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_may_rename_come_before_the_filter() {
        let filter = |rules: &str, keep| {
            let rules: Vec<Relabel> = serde_saphyr::from_str(rules).expect(rules);
            KeptMetrics::new(NeededNames::default(), [("a", keep, rules.as_slice())]).filter("a")
        };
        for (rules, expected) in [
            ("[]", Filter::ByPage),
            (
                "[{source_labels: [__name__], regex: a, action: drop}]",
                Filter::ByPage,
            ),
            (
                "[{source_labels: [__name__], target_label: x}]",
                Filter::ByPage,
            ),
            ("[{regex: pod, action: labeldrop}]", Filter::ByPage),
            (
                "[{target_label: __name__, replacement: b}]",
                Filter::AfterRules,
            ),
            (
                "[{source_labels: [x], target_label: '${1}'}]",
                Filter::AfterRules,
            ),
            (
                "[{source_labels: [x], target_label: __name__, action: lowercase}]",
                Filter::AfterRules,
            ),
            ("[{regex: 'x(.*)', action: labelmap}]", Filter::AfterRules),
        ] {
            assert_eq!(filter(rules, Keep::Needed), expected, "{rules}");
            assert_eq!(filter(rules, Keep::All), Filter::None, "{rules}");
        }
        assert_eq!(KeptMetrics::default().filter("a"), Filter::None);
    }

    #[test]
    fn no_page_fills_the_memory_with_names() {
        let kept = KeptMetrics::default();
        for index in 0..REMEMBERED + 100 {
            assert!(!kept.needs(&format!("made_up_{index}")));
        }
        assert_eq!(kept.answers.read().len(), REMEMBERED);
    }
}
