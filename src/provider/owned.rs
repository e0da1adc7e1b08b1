//! A metric of pods, asked for on what controls them: a Deployment, a Job, an InferenceService.
//!
//! Exporters know pods and nothing above them. Where no label of a metric's series names the object that is asked about, the
//! rule's query is put over the pods that the object controls, grouped by their namespace instead of by pod: what it would
//! give if the series had a label for the object.

use std::sync::Arc;

use crate::engine::{Asked, InstantQuery};
use crate::model::objects::{GroupResource, ObjectRef, ResourceKind};
use crate::model::quantity::Quantity;
use crate::model::time::Timestamp;
use crate::rules::OwnerRequest;

use super::{
    MetricAnswer, MetricQuestion, MetricValue, Offer, Provider, ProviderError, Ruling,
    UnusablePoints,
};

impl Provider {
    /// The offer for pods by which this kind's objects can be answered for.
    pub(super) fn offer_for_pods(
        ruling: &Ruling,
        kind: &ResourceKind,
        metric: &str,
    ) -> Option<Arc<Offer>> {
        let pods = GroupResource::core("pods");
        let offer = ruling.catalog.current().find(&pods, metric)?;
        let answers = offer.rule.answers_for_owners() && offer.unusable.is_none();
        (kind.namespaced && kind.resource != pods && answers).then_some(offer)
    }

    /// The values of the objects asked about, each over its pods. An object without pods, or whose pods have no value, is
    /// left out.
    pub(super) async fn answer_over_pods(
        &self,
        ruling: &Ruling,
        kind: &ResourceKind,
        question: &MetricQuestion,
        offer: &Offer,
        now: Timestamp,
    ) -> Result<MetricAnswer, ProviderError> {
        let objects = self.objects(kind, question).await?;
        let (mut values, mut unusable, mut asked) = (Vec::new(), UnusablePoints::default(), None);
        for object in objects {
            let Some(namespace) = object.namespace.clone() else {
                continue;
            };
            let pods = self.lister.pods_of(kind, &namespace, &object.name).await?;
            if pods.is_empty() {
                continue;
            }
            let (query, value) = self
                .over_pods(ruling, question, offer, &namespace, &pods, now)
                .await?;
            asked = Some(query);
            match value {
                Ok(Some((value, timestamp))) => values.push(MetricValue {
                    object,
                    value,
                    timestamp,
                }),
                Ok(None) => {}
                Err(more) => {
                    unusable.not_finite += more.not_finite;
                    unusable.ambiguous += more.ambiguous;
                }
            }
        }
        if !values.is_empty() {
            let kind = kind.clone();
            return Ok(MetricAnswer { kind, values });
        }
        let Some(query) = asked else {
            return Err(ProviderError::no_pods(question, kind));
        };
        let diagnosis = ruling.engine(&offer.rule).diagnose(&query).await;
        let max_age = ruling.max_age(&offer.rule);
        Err(ProviderError::missing(
            question, kind, offer, max_age, unusable, &diagnosis,
        ))
    }

    /// The value over these pods of one namespace, if there is one; and the query.
    async fn over_pods(
        &self,
        ruling: &Ruling,
        question: &MetricQuestion,
        offer: &Offer,
        namespace: &str,
        pods: &[ObjectRef],
        now: Timestamp,
    ) -> Result<(InstantQuery, Found), ProviderError> {
        let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_ref()).collect();
        let namespace_label = offer.namespace_label.as_deref().unwrap_or_default();
        let query = InstantQuery {
            text: offer.rule.query_for_owner(&OwnerRequest {
                series: &offer.series,
                namespace: (namespace_label, namespace),
                pod_label: &offer.object_label,
                pods: &names,
                selector: &question.metric_selector,
            })?,
            at: now,
            max_age: ruling.max_age(&offer.rule),
        };
        let wanted = Asked {
            label: &offer.object_label,
            names: &names,
        };
        let (query, points) = self.points(ruling, &offer.rule, query, wanted).await?;
        let found = match points.as_slice() {
            [] => Ok(None),
            [point] => match ruling.settings.style.of_object(point, query.at) {
                Some(value) => Ok(Some(value)),
                None => Err(UnusablePoints {
                    not_finite: 1,
                    ..UnusablePoints::default()
                }),
            },
            _ => Err(UnusablePoints {
                ambiguous: 1,
                ..UnusablePoints::default()
            }),
        };
        Ok((query, found))
    }
}

type Found = Result<Option<(Quantity, Timestamp)>, UnusablePoints>;
