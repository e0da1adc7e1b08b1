//! Relabelling as Prometheus does it (`model/relabel/relabel.go`), for targets and for samples.

use std::collections::BTreeMap;

use regex::Regex;

use crate::config::scrape::{Action, Relabel, anchored};

/// Labels being worked on. An empty value is the same as no label: [`set`] and [`Relabeling::apply`] keep it so.
pub type LabelMap = BTreeMap<String, String>;

/// Rules ready for use. Two are equal if they were written equally.
#[derive(Clone, Debug, Default)]
pub struct Relabeling {
    written: Vec<Relabel>,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    action: Action,
    source: Vec<String>,
    separator: String,
    target: String,
    regex: Regex,
    modulus: u64,
    replacement: String,
}

impl PartialEq for Relabeling {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Relabeling {
    /// Makes rules ready.
    ///
    /// # Errors
    /// Where a `regex` is none: what `ScrapeConfig::validate` would have told.
    pub fn new(written: &[Relabel]) -> Result<Self, regex::Error> {
        let rule = |it: &Relabel| {
            Ok(Rule {
                action: it.action,
                source: it.source_labels.clone(),
                separator: it.separator.clone().unwrap_or_else(|| ";".to_owned()),
                target: it.target_label.clone().unwrap_or_default(),
                regex: anchored(it.regex.as_deref().unwrap_or("(.*)"))?,
                modulus: it.modulus.unwrap_or(0).max(1),
                replacement: it.replacement.clone().unwrap_or_else(|| "$1".to_owned()),
            })
        };
        Ok(Self {
            written: written.to_vec(),
            rules: written.iter().map(rule).collect::<Result<_, _>>()?,
        })
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Changes `labels` by all rules in turn. `false`: a rule dropped what they belong to.
    #[must_use]
    pub fn apply(&self, labels: &mut LabelMap) -> bool {
        self.rules.iter().all(|rule| rule.apply(labels))
    }
}

impl Rule {
    fn apply(&self, labels: &mut LabelMap) -> bool {
        let get = |name: &str| labels.get(name).map_or("", String::as_str);
        let values: Vec<&str> = self.source.iter().map(|name| get(name)).collect();
        let value = values.join(&self.separator);
        match self.action {
            Action::Keep => return self.regex.is_match(&value),
            Action::Drop => return !self.regex.is_match(&value),
            Action::KeepEqual => return get(&self.target) == value,
            Action::DropEqual => return get(&self.target) != value,
            Action::Replace => {
                if let Some(groups) = self.regex.captures(&value) {
                    let (mut target, mut result) = (String::new(), String::new());
                    groups.expand(&self.target, &mut target);
                    groups.expand(&self.replacement, &mut result);
                    set(labels, target, result);
                }
            }
            Action::Lowercase => set(labels, self.target.clone(), value.to_lowercase()),
            Action::Uppercase => set(labels, self.target.clone(), value.to_uppercase()),
            Action::HashMod => {
                let digest = md5::compute(value).0;
                let tail = digest[8..].iter();
                let hash = tail.fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
                let bucket = (hash % self.modulus).to_string();
                set(labels, self.target.clone(), bucket);
            }
            Action::LabelMap => {
                let mapped: Vec<_> = labels
                    .iter()
                    .filter(|(name, _)| self.regex.is_match(name))
                    .map(|(name, value)| {
                        let new = self.regex.replace(name, self.replacement.as_str());
                        (new.into_owned(), value.clone())
                    })
                    .collect();
                for (name, value) in mapped {
                    set(labels, name, value);
                }
            }
            Action::LabelDrop => labels.retain(|name, _| !self.regex.is_match(name)),
            Action::LabelKeep => labels.retain(|name, _| self.regex.is_match(name)),
        }
        true
    }
}

/// Sets a label; an empty value removes it, and an empty name is no label.
pub fn set(labels: &mut LabelMap, name: impl Into<String>, value: impl Into<String>) {
    let (name, value) = (name.into(), value.into());
    if value.is_empty() {
        labels.remove(&name);
    } else if !name.is_empty() {
        labels.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labels as `a=1 b=2`; `None` for dropped.
    fn relabelled(rules: &str, labels: &str) -> Option<String> {
        let rules: Vec<Relabel> = serde_saphyr::from_str(rules).expect(rules);
        let mut labels: LabelMap = labels
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let kept = Relabeling::new(&rules).expect("rules").apply(&mut labels);
        let pairs: Vec<_> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        kept.then(|| pairs.join(" "))
    }

    /// Most rows are those of Prometheus's own `relabel_test.go`, `TestRelabel`.
    #[test]
    fn rules_do_what_prometheus_does() {
        let table = [
            (
                "[{source_labels: [a], regex: 'f(.*)', target_label: d, separator: ';', replacement: 'ch${1}-ch${1}'}]",
                "a=foo b=bar c=baz",
                Some("a=foo b=bar c=baz d=choo-choo"),
            ),
            (
                "[{source_labels: [a, b], regex: 'f(.*);(.*)r', target_label: a, replacement: 'b${1}${2}m'}, {source_labels: [c, a], regex: '(b).*b(.*)ba(.*)', target_label: d, replacement: '$1$2$2$3'}]",
                "a=foo b=bar c=baz",
                Some("a=boobam b=bar c=baz d=boooom"),
            ),
            (
                "[{source_labels: [a], regex: '.*o.*', action: drop}, {source_labels: [a], regex: 'f(.*)', target_label: d}]",
                "a=foo",
                None,
            ),
            (
                "[{source_labels: [a], regex: 'no-match', action: drop}]",
                "a=foo",
                Some("a=foo"),
            ),
            (
                "[{source_labels: [a], regex: 'f|o', action: drop}]",
                "a=foo",
                Some("a=foo"),
            ),
            (
                "[{source_labels: [a], regex: 'no-match', action: keep}]",
                "a=foo",
                None,
            ),
            (
                "[{source_labels: [a], regex: 'f.*', action: keep}]",
                "a=foo",
                Some("a=foo"),
            ),
            // No match: nothing is written.
            (
                "[{source_labels: [a], regex: 'no', target_label: b, replacement: bar}]",
                "a=foo",
                Some("a=foo"),
            ),
            // An empty result removes the label; so does a missing group.
            (
                "[{source_labels: [a], regex: '(f).*', target_label: b, replacement: '$2'}]",
                "a=foo b=x",
                Some("a=foo"),
            ),
            (
                "[{source_labels: [nowhere], target_label: b}]",
                "a=foo b=x",
                Some("a=foo"),
            ),
            // `$1x` is a group called `1x`, as in Go.
            (
                "[{source_labels: [a], target_label: b, replacement: '$1x'}]",
                "a=foo",
                Some("a=foo"),
            ),
            (
                "[{target_label: b, replacement: const}]",
                "a=foo",
                Some("a=foo b=const"),
            ),
            // The target may come from a group; an empty name writes nothing.
            (
                "[{source_labels: [a], regex: 'some-([^-]+)-([^,]+)', target_label: '${1}', replacement: '${2}'}]",
                "a=some-name-value",
                Some("a=some-name-value name=value"),
            ),
            (
                "[{source_labels: [a], regex: 'some-([^-]*)-([^,]+)', target_label: '${1}', replacement: '${2}'}]",
                "a=some--value",
                Some("a=some--value"),
            ),
            // The anchors hold for alternatives.
            (
                "[{source_labels: [a], regex: 'a|b', target_label: m, replacement: y}]",
                "a=ab",
                Some("a=ab"),
            ),
            (
                "[{source_labels: [c], target_label: d, action: hashmod, modulus: 1000}]",
                "a=foo b=bar c=baz",
                Some("a=foo b=bar c=baz d=976"),
            ),
            (
                "[{regex: '(b.*)', replacement: 'bar_${1}', action: labelmap}]",
                "a=foo b1=bar b2=baz",
                Some("a=foo b1=bar b2=baz bar_b1=bar bar_b2=baz"),
            ),
            (
                "[{regex: '__meta_(my.*)', action: labelmap}]",
                "__meta_my_baz=b x=1",
                Some("__meta_my_baz=b my_baz=b x=1"),
            ),
            (
                "[{regex: '(b.*)', action: labeldrop}]",
                "a=foo b1=x b2=y",
                Some("a=foo"),
            ),
            (
                "[{regex: '(b.*)', action: labelkeep}]",
                "a=foo b1=x b2=y",
                Some("b1=x b2=y"),
            ),
            (
                "[{source_labels: [a], target_label: up, action: uppercase}, {source_labels: [a], target_label: lo, action: lowercase}]",
                "a=fOO",
                Some("a=fOO lo=foo up=FOO"),
            ),
            (
                "[{source_labels: [p], target_label: q, action: keepequal}]",
                "p=1 q=1",
                Some("p=1 q=1"),
            ),
            (
                "[{source_labels: [p], target_label: q, action: keepequal}]",
                "p=1 q=2",
                None,
            ),
            (
                "[{source_labels: [p], target_label: q, action: dropequal}]",
                "p=1 q=1",
                None,
            ),
            (
                "[{source_labels: [p], target_label: q, action: dropequal}]",
                "p=1 q=2",
                Some("p=1 q=2"),
            ),
        ];
        for (rules, labels, expected) in table {
            assert_eq!(relabelled(rules, labels).as_deref(), expected, "{rules}");
        }
    }
}
