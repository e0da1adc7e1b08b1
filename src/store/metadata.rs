//! What pages say of their metrics: type, help and unit, once for each metric family whatever number of targets show it.
//!
//! Written by scrapes that meet a series for the first time, read by the query API.

use std::collections::HashMap;

use parking_lot::RwLock;

/// Most families that are remembered. A page that makes up names must not fill the memory with them.
const FAMILIES: usize = 20_000;

/// Most bytes of a family's name, help or unit; a longer name is not remembered, a longer text is cut.
const BYTES: usize = 1_024;

/// What is known of a metric family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Its type, as Prometheus's API calls it; `unknown` where no page says.
    pub kind: &'static str,
    /// Its help; may be empty.
    pub help: String,
    /// Its unit; may be empty.
    pub unit: String,
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            kind: "unknown",
            help: String::new(),
            unit: String::new(),
        }
    }
}

/// The metadata of all families. Where pages say different things, the last one counts.
#[derive(Debug, Default)]
pub struct MetadataIndex(RwLock<HashMap<String, Metadata>>);

impl MetadataIndex {
    /// What is known of this family.
    pub fn get(&self, family: &str) -> Option<Metadata> {
        self.0.read().get(family).cloned()
    }

    /// Notes the family's type.
    pub fn set_kind(&self, family: &str, kind: &'static str) {
        self.change(family, |it| it.kind == kind, |it| it.kind = kind);
    }

    /// Notes the family's help.
    pub fn set_help(&self, family: &str, help: &str) {
        let help = cut(help);
        self.change(family, |it| it.help == help, |it| it.help = help.to_owned());
    }

    /// Notes the family's unit.
    pub fn set_unit(&self, family: &str, unit: &str) {
        let unit = cut(unit);
        self.change(family, |it| it.unit == unit, |it| it.unit = unit.to_owned());
    }

    /// Many targets say the same: only what is new waits for the readers.
    fn change(
        &self,
        family: &str,
        same: impl Fn(&Metadata) -> bool,
        change: impl FnOnce(&mut Metadata),
    ) {
        if family.len() > BYTES || self.0.read().get(family).is_some_and(same) {
            return;
        }
        let mut families = self.0.write();
        if families.len() < FAMILIES || families.contains_key(family) {
            change(families.entry(family.to_owned()).or_default());
        }
    }
}

/// The beginning of a text that is too long.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_all_is_bounded() {
        let index = MetadataIndex::default();
        index.set_help("a", "first");
        index.set_kind("a", "gauge");
        index.set_help("a", &"é".repeat(BYTES));
        let known = index.get("a").expect("known");
        assert_eq!(
            (known.kind, known.help.len(), known.unit.len()),
            ("gauge", BYTES, 0)
        );
        index.set_kind(&"n".repeat(BYTES + 1), "gauge");
        for number in 0..FAMILIES + 10 {
            index.set_unit(&format!("made_up_{number}"), "seconds");
        }
        assert_eq!(index.0.read().len(), FAMILIES);
        index.set_kind("a", "counter");
        assert_eq!(index.get("a").map(|it| it.kind), Some("counter"));
    }
}
