//! Answers a question of `external.metrics.k8s.io`: values that are of no Kubernetes object.

use std::sync::Arc;

use crate::engine::{Asked, InstantQuery};
use crate::model::labels::Labels;
use crate::model::quantity::Quantity;
use crate::model::selector::Selector;
use crate::model::time::Timestamp;

use super::catalog::ExternalOffer;
use super::{DEADLINE, Provider, ProviderError, Ruling, UnusablePoints, within};

/// A question of the external metrics API.
#[derive(Clone, Debug)]
pub struct ExternalQuestion {
    /// The namespace in the path; a rule may be the same for all.
    pub namespace: String,
    /// The metric's name, in lower case or as it is.
    pub metric: String,
    /// The selector on the series' own labels.
    pub selector: Selector,
}

/// An answer: at least one value.
#[derive(Clone, Debug)]
pub struct ExternalAnswer {
    /// The metric's name as the rule makes it.
    pub metric: Arc<str>,
    /// The values, in the order of their labels.
    pub values: Vec<ExternalValue>,
}

/// A value under its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct ExternalValue {
    /// The labels that the query leaves.
    pub labels: Labels,
    /// The value.
    pub value: Quantity,
    /// The time of the oldest sample that went into it.
    pub timestamp: Timestamp,
}

impl Provider {
    /// Answers a question for an external metric, within two seconds.
    ///
    /// # Errors
    /// Where there is no value at all; the error's text says why, for whoever reads the HPA's conditions.
    pub async fn answer_external(
        &self,
        question: &ExternalQuestion,
        now: Timestamp,
    ) -> Result<ExternalAnswer, ProviderError> {
        within(DEADLINE, &question.metric, self.external(question, now)).await
    }

    async fn external(
        &self,
        question: &ExternalQuestion,
        now: Timestamp,
    ) -> Result<ExternalAnswer, ProviderError> {
        let ruling = self.current.load_full();
        if let Some(answer) = self.floors(&ruling, question, now) {
            return answer;
        }
        let offer = self.external_offer(&ruling, &question.metric, now).await?;
        let namespace = offer.namespace_label.as_deref();
        let namespace = namespace.map(|label| (label, question.namespace.as_str()));
        let text = offer
            .rule
            .query_external(&offer.series, namespace, &question.selector)?;
        let max_age = ruling.max_age(&offer.rule);
        let query = InstantQuery {
            text,
            at: now,
            max_age,
        };
        let everything = Asked {
            label: "",
            names: &[],
        };
        let (query, points) = self.points(&ruling, &offer.rule, query, everything).await?;
        let mut unusable = UnusablePoints::default();
        let mut values = Vec::with_capacity(points.len());
        for point in points {
            match ruling.settings.style.external(point.value) {
                Some(value) => values.push(ExternalValue {
                    labels: point.labels,
                    value,
                    timestamp: point.oldest,
                }),
                None => unusable.not_finite += 1,
            }
        }
        if values.is_empty() {
            let diagnosis = ruling.engine(&offer.rule).diagnose(&query).await;
            return Err(ProviderError::missing_external(
                question, &offer, max_age, unusable, &diagnosis,
            ));
        }
        values.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(ExternalAnswer {
            metric: Arc::clone(&offer.metric),
            values,
        })
    }

    /// The offer of a metric, which is looked up at once where it is not known yet.
    async fn external_offer(
        &self,
        ruling: &Ruling,
        metric: &str,
        now: Timestamp,
    ) -> Result<Arc<ExternalOffer>, ProviderError> {
        let find = || ruling.catalog.current().find_external(metric);
        let mut offer = find();
        if offer.is_none() {
            self.look_up(ruling, true, now).await;
            offer = find();
        }
        let Some(offer) = offer else {
            let rules = &ruling.settings.rules.external;
            let candidate = self.candidate(ruling, rules, metric, now).await;
            let catalog = ruling.catalog.current();
            let error = ProviderError::unknown_external(metric, &catalog, candidate, rules.len());
            return Err(error);
        };
        match &offer.unusable {
            None => Ok(offer),
            Some(reason) => Err(ProviderError::Unusable {
                rule: Arc::clone(&offer.rule.id),
                reason: Arc::clone(reason),
            }),
        }
    }
}
