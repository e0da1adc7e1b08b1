//! Relabelling rules, as the file has them.

use regex::Regex;
use serde::Deserialize;

use super::Fault;

/// One relabelling rule, with Prometheus's names, defaults and meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relabel {
    /// Labels whose values, joined with `separator`, are what `regex` is held against.
    pub source_labels: Vec<String>,
    /// What joins the values of `source_labels`. Default `;`.
    pub separator: Option<String>,
    /// The label that the result is written to; may use groups of `regex` with `action: replace`.
    pub target_label: Option<String>,
    /// The regular expression, matched against the whole value. Default `(.*)`.
    pub regex: Option<String>,
    /// For `hashmod`: the number of buckets.
    pub modulus: Option<u64>,
    /// What is written, with `$1` or `${name}` for groups of `regex`. Default `$1`.
    pub replacement: Option<String>,
    /// What the rule does. Default `replace`.
    pub action: Action,
}

/// What a relabelling rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Action {
    /// Writes `replacement` to `target_label` where `regex` matches; an empty result removes the label.
    #[default]
    Replace,
    /// Drops what does not match.
    Keep,
    /// Drops what matches.
    Drop,
    /// Drops what has another value in `target_label` than `source_labels` have.
    KeepEqual,
    /// Drops what has the same value in `target_label` as `source_labels` have.
    DropEqual,
    /// Writes the MD5 hash of the source modulo `modulus` to `target_label`.
    HashMod,
    /// Copies every label whose name matches to the name that `replacement` makes of it.
    LabelMap,
    /// Removes every label whose name matches.
    LabelDrop,
    /// Removes every label whose name does not match.
    LabelKeep,
    /// Writes the source in lower case to `target_label`.
    Lowercase,
    /// Writes the source in upper case to `target_label`.
    Uppercase,
}

/// In any case, as Prometheus reads it.
impl TryFrom<String> for Action {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "replace" => Self::Replace,
            "keep" => Self::Keep,
            "drop" => Self::Drop,
            "keepequal" => Self::KeepEqual,
            "dropequal" => Self::DropEqual,
            "hashmod" => Self::HashMod,
            "labelmap" => Self::LabelMap,
            "labeldrop" => Self::LabelDrop,
            "labelkeep" => Self::LabelKeep,
            "lowercase" => Self::Lowercase,
            "uppercase" => Self::Uppercase,
            _ => return Err(format!("there is no relabel action {text:?}")),
        })
    }
}

/// The expression held against whole values, in which a dot is any character, as in Prometheus (`relabel.go`, `NewRegexp`).
///
/// # Errors
/// Where `pattern` is no regular expression.
pub fn anchored(pattern: &str) -> Result<Regex, regex::Error> {
    // Compiled once alone, so that `a)(b` is not made whole by the anchors' group.
    Regex::new(pattern)?;
    Regex::new(&format!("^(?s:{pattern})$"))
}

impl Relabel {
    /// Whether it may give a sample another metric name.
    pub fn may_rename(&self) -> bool {
        use Action::{HashMod, LabelMap, Lowercase, Replace, Uppercase};
        let target = self.target_label.as_deref().unwrap_or_default();
        match self.action {
            Replace => target == "__name__" || target.contains('$'),
            HashMod | Lowercase | Uppercase => target == "__name__",
            LabelMap => true,
            _ => false,
        }
    }

    /// Adds all that is wrong with this rule; `path` is its place (`relabel.go`, `Config.Validate`).
    pub(super) fn validate(&self, path: &str, faults: &mut Vec<Fault>) {
        use Action::{
            DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, LabelMap, Lowercase, Replace,
            Uppercase,
        };
        let mut fault = |field: &str, message: String| {
            faults.push(Fault::new(format!("{path}.{field}"), message));
        };
        if let Some(error) = self.regex.as_deref().and_then(|text| anchored(text).err()) {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            fault(
                "regex",
                format!("not a regular expression: {}", reason.trim()),
            );
        }
        if self.action == HashMod && self.modulus.unwrap_or(0) == 0 {
            fault("modulus", "action hashmod needs a modulus above 0".into());
        }
        let target = self.target_label.as_deref().unwrap_or_default();
        match self.action {
            Replace | HashMod | KeepEqual | DropEqual | Lowercase | Uppercase => {
                let template = self.action == Replace && target.contains('$');
                if target.is_empty() {
                    fault("target_label", "this action needs a target_label".into());
                } else if !template && !is_label_name(target) {
                    fault("target_label", format!("{target:?} is not a label name"));
                }
            }
            _ => {}
        }
        let replacement = self.replacement.as_deref().unwrap_or("$1");
        if self.action == LabelMap && !replacement.contains('$') && !is_label_name(replacement) {
            fault(
                "replacement",
                format!("{replacement:?} is not a label name"),
            );
        }
        // A default that is written out hurts nobody.
        let other = |written: &Option<String>, default: &str| {
            written.as_ref().is_some_and(|it| it != default)
        };
        let (separator, modulus) = (other(&self.separator, ";"), self.modulus.unwrap_or(0) != 0);
        let idle: &[(&str, bool)] = match self.action {
            KeepEqual | DropEqual => &[
                ("separator", separator),
                ("regex", other(&self.regex, "(.*)")),
                ("modulus", modulus),
                ("replacement", other(&self.replacement, "$1")),
            ],
            Lowercase | Uppercase => &[("replacement", other(&self.replacement, "$1"))],
            LabelDrop | LabelKeep => &[
                ("source_labels", !self.source_labels.is_empty()),
                ("separator", separator),
                ("target_label", other(&self.target_label, "")),
                ("modulus", modulus),
                ("replacement", other(&self.replacement, "$1")),
            ],
            _ => &[],
        };
        for (field, given) in idle {
            if *given {
                fault(field, "this action does not use it".into());
            }
        }
    }
}

/// Whether `name` is a label name as Prometheus had them before UTF-8 names.
pub(super) fn is_label_name(name: &str) -> bool {
    let valid = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    name.bytes().all(valid) && name.bytes().next().is_some_and(|c| !c.is_ascii_digit())
}
