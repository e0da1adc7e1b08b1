//! `schedule_desired_replicas`: the floors of schedules' windows as an external metric, so that an HPA takes the larger of load
//! and schedule.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::labels::Labels;
use crate::model::quantity::Quantity;
use crate::model::time::Timestamp;
use crate::schedule::Floors;
use crate::schedule::window::METRIC;

use super::{ExternalAnswer, ExternalQuestion, ExternalValue, Provider, ProviderError, Ruling};

/// The label that names the object with the windows.
const NAME: &str = "name";

impl Provider {
    /// Has the floors of windows answered. They are there from the first time on that this is called.
    pub fn serve_floors(&self, floors: Arc<Floors>) {
        // A second set of them would be another cluster's.
        let _ = self.floors.set(floors);
    }

    /// The names of the external metrics that are offered, sorted.
    pub fn external_metrics(&self) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = self.catalog().external_metrics().cloned().collect();
        let floors = self.floors.get().map(|_| Arc::from(METRIC));
        if let Some(floors) = floors.filter(|it| !names.contains(it)) {
            names.push(floors);
            names.sort();
        }
        names
    }

    /// Whether there are external metrics here, or will be once a rule finds its series.
    pub fn has_external_metrics(&self) -> bool {
        let rules = &self.current.load().settings.rules;
        !rules.external.is_empty() || self.floors.get().is_some()
    }

    /// The floors that a question asks for, if it asks for floors. A rule that offers the same metric is asked instead.
    pub(super) fn floors(
        &self,
        ruling: &Ruling,
        question: &ExternalQuestion,
        now: Timestamp,
    ) -> Option<Result<ExternalAnswer, ProviderError>> {
        let floors = self.floors.get().filter(|_| question.metric == METRIC)?;
        if ruling.catalog.current().find_external(METRIC).is_some() {
            return None;
        }
        let at = jiff::Timestamp::from_millisecond(now.as_millis()).ok()?;
        let all = floors.of(&question.namespace, at);
        let value = |(name, floor): &(String, u32)| {
            let label = BTreeMap::from([(NAME.to_owned(), name.clone())]);
            question.selector.matches(&label).then(|| ExternalValue {
                labels: Labels::new([(NAME, name.as_str())]),
                value: Quantity::from_millis(i64::from(*floor) * 1000),
                timestamp: now,
            })
        };
        let values: Vec<ExternalValue> = all.iter().filter_map(value).collect();
        if values.is_empty() {
            let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
            return Some(Err(ProviderError::no_floors(question, &names)));
        }
        Some(Ok(ExternalAnswer {
            metric: Arc::from(METRIC),
            values,
        }))
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::model::selector::Selector;
    use crate::schedule::object::Spec;

    fn floors() -> Arc<Floors> {
        let text = r#"{"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "qwen"},
            "windows": [{"name": "day", "start": "0 0 9 * * *", "end": "0 0 17 * * *", "replicas": 3}]}"#;
        let spec: Spec = serde_json::from_str(text).expect("a specification");
        let floors = Arc::new(Floors::default());
        for (namespace, name) in [
            ("prod", "qwen-cronhpa"),
            ("prod", "other"),
            ("dev", "qwen-cronhpa"),
        ] {
            let windows = spec.windows(&TimeZone::UTC, jiff::Timestamp::UNIX_EPOCH);
            floors.set(namespace, name, windows.into_iter().flatten().collect());
        }
        floors
    }

    #[tokio::test]
    async fn an_hpa_asks_for_the_floor_of_one_object() {
        let provider = crate::provider::fixture::world("").provider;
        let ask = async |selector: &str, now: &str| {
            let question = ExternalQuestion {
                namespace: "prod".to_owned(),
                metric: METRIC.to_owned(),
                selector: Selector::parse(selector).expect("a selector"),
            };
            let now: jiff::Timestamp = now.parse().expect("a time");
            let now = Timestamp::from_millis(now.as_millisecond());
            let answer = provider.answer_external(&question, now).await;
            let told = |it: &ExternalValue| format!("{} {}", it.labels.value(NAME), it.value);
            match answer {
                Ok(answer) => Ok(answer.values.iter().map(told).collect::<Vec<_>>()),
                Err(error) => Err(error.to_string()),
            }
        };
        let noon = "2026-11-23T12:00:00Z";
        let error = ask("", noon).await.expect_err("no schedules are run here");
        assert!(error.contains("no `externalRules`"), "{error}");
        provider.serve_floors(floors());
        assert_eq!(
            ask("name=qwen-cronhpa", noon).await,
            Ok(vec!["qwen-cronhpa 3".to_owned()])
        );
        assert_eq!(
            ask("name=qwen-cronhpa", "2026-11-23T17:00:00Z").await,
            Ok(vec!["qwen-cronhpa 0".to_owned()])
        );
        assert_eq!(ask("", noon).await.map(|it| it.len()), Ok(2));
        assert_eq!(
            ask("name=nobody", noon).await,
            Err("no value of schedule_desired_replicas in namespace prod with name=nobody: the CronHorizontalPodAutoscalers with windows there are other, qwen-cronhpa".to_owned())
        );
        assert_eq!(provider.external_metrics(), [Arc::from(METRIC)]);
    }
}
