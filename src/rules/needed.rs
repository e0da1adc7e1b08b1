//! Which metrics a rule needs: those its series may have, and those that its query names.

use regex::Regex;

use crate::model::labels::METRIC_NAME;
use crate::model::matcher::{MatchOp, Matcher};
use crate::model::names::NameCondition;

use super::{Rule, TemplateError};

/// What stands for the series' name in the query that [`Rule::query_for_names`] makes. No metric is called so.
const SERIES: &str = "gpu_metrics_adapter_the_series_of_this_rule";

impl Rule {
    /// The rule's query with a name in the place of the series' that [`Rule::needed`] recognises.
    ///
    /// # Errors
    /// As [`Rule::render`].
    pub fn query_for_names(&self) -> Result<String, TemplateError> {
        self.render(SERIES, "label=\"x\"", "label")
    }

    /// The conditions on names, one of which each metric meets that this rule needs. `series` are the matchers of its
    /// `seriesQuery`, and `queried` those of all selectors in [`Rule::query_for_names`].
    pub fn needed(&self, series: &[Matcher], queried: &[Vec<Matcher>]) -> Vec<NameCondition> {
        let own = self.naming.restrict(NameCondition::of(series));
        let mut conditions: Vec<NameCondition> = queried
            .iter()
            .map(|matchers| in_query(matchers, &own))
            .collect();
        conditions.push(own);
        conditions
    }
}

/// What a selector of the query says of the name, where `own` is what the rule's series meet.
fn in_query(matchers: &[Matcher], own: &NameCondition) -> NameCondition {
    let about_series =
        |matcher: &&Matcher| matcher.name == METRIC_NAME && matcher.value.contains(SERIES);
    let Some(matcher) = matchers.iter().find(about_series) else {
        return NameCondition::of(matchers);
    };
    // `<<.Series>>_sum` is a name that ends so, and is made from one of the rule's series.
    match (&matcher.op, matcher.value.split_once(SERIES)) {
        (MatchOp::Equal, Some((prefix, suffix))) if !suffix.contains(SERIES) => {
            own.clone().between(prefix, suffix)
        }
        (MatchOp::Regex(_), _) => {
            let any = Regex::new(&format!("^(?s:{})$", matcher.value.replace(SERIES, ".*")));
            any.map_or_else(
                |_| NameCondition::default(),
                |any| NameCondition::default().and(&any, true),
            )
        }
        _ => NameCondition::default(),
    }
}
