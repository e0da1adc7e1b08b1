//! What a job or a window does to its target: the scale subresource, or the bounds of a HorizontalPodAutoscaler.

use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, HorizontalPodAutoscaler};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::cluster::hpas::Hpas;
use crate::cluster::request::{RequestError, describe};
use crate::cluster::scale::{Scalable, ScaleError, Scales};
use crate::schedule::bounds::{Bounds, Kept};
use crate::schedule::object::ScaleTargetRef;
use crate::schedule::window::METRIC;

/// The annotation of an HPA that holds what is remembered about its bounds ([`Kept`]).
const KEPT: &str = "gpu-metrics-adapter/schedule";

/// How often another may change an HPA in between.
const ROUNDS: usize = 4;

/// Why a target was not scaled.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    #[error(transparent)]
    Scale(#[from] ScaleError),
    #[error("failed to find source target HorizontalPodAutoscaler {name} in {namespace} namespace")]
    NoHpa { namespace: String, name: String },
    #[error("others changed the HorizontalPodAutoscaler {0} each time in between")]
    Contended(String),
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scaled {
    /// The replicas before.
    pub(super) current: i32,
    /// The replicas that the job asked for.
    pub(super) desired: i32,
    /// The HPA that the target is, where it decides by itself.
    pub(super) left_to: Option<String>,
    /// What will undo it, and what helps.
    pub(super) warning: Option<String>,
}

impl Scaled {
    /// As kubernetes-cronhpa-controller tells it.
    pub(super) fn message(&self, namespace: &str) -> String {
        let Self {
            current, desired, ..
        } = self;
        let mut text = match &self.left_to {
            Some(hpa) => format!(
                "Skip scale replicas because HPA {hpa} in namespace {namespace} current replicas:{current} >= desired replicas:{desired}."
            ),
            None => format!("current replicas:{current}, desired replicas:{desired}."),
        };
        if let Some(warning) = &self.warning {
            text.push(' ');
            text.push_str(warning);
        }
        text
    }
}

/// Reaches the targets of jobs and windows.
pub(super) struct Targets {
    pub(super) scales: Scales,
    pub(super) hpas: Hpas,
}

/// Whether a job's target is an HPA, whose bounds are then what is changed.
pub(super) fn is_hpa(target: &ScaleTargetRef) -> bool {
    target.kind == "HorizontalPodAutoscaler"
}

pub(super) fn scalable(namespace: &str, target: &ScaleTargetRef) -> Scalable {
    let group = target.group_version().map_or("", |(group, _)| group);
    Scalable {
        namespace: namespace.to_owned(),
        group: group.to_owned(),
        kind: target.kind.clone(),
        name: target.name.clone(),
    }
}

impl Targets {
    /// Has a target scaled to `replicas`.
    pub(super) async fn scale(
        &self,
        target: &Scalable,
        replicas: i32,
    ) -> Result<Scaled, TargetError> {
        let current = self.scales.replicas(target).await?;
        if current != replicas {
            self.scales.scale(target, replicas).await?;
        }
        Ok(Scaled {
            current,
            desired: replicas,
            left_to: None,
            warning: None,
        })
    }

    /// The HPA that scales a target, if one does.
    pub(super) async fn hpa_over(
        &self,
        target: &Scalable,
    ) -> Result<Option<HorizontalPodAutoscaler>, RequestError> {
        let all = self.hpas.list(Some(&target.namespace)).await?;
        let scales = |hpa: &HorizontalPodAutoscaler| {
            target_of(hpa).is_some_and(|it| referred(&target.namespace, it) == *target)
        };
        Ok(all.into_iter().find(scales))
    }

    /// Sets the bounds of an HPA for the object `by`: those of a job of this size, if one is due, and of a floor. Where there are
    /// fewer replicas, they are added at once and not with the HPA's next round.
    pub(super) async fn bound(
        &self,
        (namespace, by): (&str, &str),
        name: &str,
        job: Option<i32>,
        floor: i32,
    ) -> Result<Scaled, TargetError> {
        let hpa = self
            .change(namespace, name, |hpa, known| {
                Some(Kept::next(by, bounds(hpa), known, job, floor))
            })
            .await?;
        let desired = job.unwrap_or(0).max(floor);
        let warning = kserve_service(&hpa).map(|service| {
            format!(
                "HorizontalPodAutoscaler {name} is kept by KServe, which sets its bounds back: set minReplicas of InferenceService {service} instead, or annotate it with serving.kserve.io/autoscalerClass: external and give it an HPA of its own."
            )
        });
        let Some(target) = target_of(&hpa).map(|it| referred(namespace, it)) else {
            return Err(TargetError::NoHpa {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            });
        };
        let current = self.scales.replicas(&target).await?;
        // With 0 replicas an HPA rests; that is what a job of size 0 asks for.
        let to_zero = job == Some(0) && floor == 0;
        let adds = current < desired || (to_zero && current > 0);
        if adds {
            self.scales.scale(&target, desired).await?;
        }
        Ok(Scaled {
            current,
            desired,
            left_to: (!adds).then(|| name.to_owned()),
            warning,
        })
    }

    /// Gives an HPA the bounds back that it had before the object `by`.
    pub(super) async fn release(
        &self,
        namespace: &str,
        name: &str,
        by: &str,
    ) -> Result<(), TargetError> {
        let given = |hpa: &HorizontalPodAutoscaler, known: Option<&Kept>| {
            let known = known.filter(|it| it.by == by)?;
            let given = bounds(hpa).given(known.given, known.applied);
            Some(Kept {
                by: by.to_owned(),
                given,
                applied: given,
                job: None,
            })
        };
        match self.change(namespace, name, given).await {
            Ok(_) | Err(TargetError::NoHpa { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The HPAs whose bounds were changed, as `(namespace, name, by)`.
    pub(super) async fn kept(&self) -> Result<Vec<(String, String, String)>, RequestError> {
        let kept = |hpa: HorizontalPodAutoscaler| {
            let by = known(&hpa)?.by;
            Some((hpa.namespace()?, hpa.name_any(), by))
        };
        Ok(self
            .hpas
            .list(None)
            .await?
            .into_iter()
            .filter_map(kept)
            .collect())
    }

    /// Changes the bounds of an HPA to what `next` makes of it and of what is remembered; `None`: to nothing.
    async fn change(
        &self,
        namespace: &str,
        name: &str,
        next: impl Fn(&HorizontalPodAutoscaler, Option<&Kept>) -> Option<Kept>,
    ) -> Result<HorizontalPodAutoscaler, TargetError> {
        for _ in 0..ROUNDS {
            let hpa = self.hpas.get(namespace, name).await?;
            let hpa = hpa.ok_or_else(|| TargetError::NoHpa {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })?;
            let known = known(&hpa);
            let Some(kept) = next(&hpa, known.as_ref()) else {
                return Ok(hpa);
            };
            let at_rest = kept.job.is_none() && kept.applied == kept.given;
            let remembered = (!at_rest).then_some(&kept);
            if remembered == known.as_ref() && kept.applied == bounds(&hpa) {
                return Ok(hpa);
            }
            let annotation = remembered.map(|it| json!(it).to_string());
            let patch: Value = json!({
                "metadata": {
                    "resourceVersion": hpa.resource_version(),
                    "annotations": {KEPT: annotation},
                },
                "spec": {"minReplicas": kept.applied.min, "maxReplicas": kept.applied.max},
            });
            match self.hpas.patch(namespace, name, &patch).await {
                Ok(()) => return Ok(hpa),
                Err(error) if error.has_code(409) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(TargetError::Contended(name.to_owned()))
    }
}

/// What an HPA over the same target means for a job: it will decide otherwise.
pub(super) fn rivalry(hpa: &HorizontalPodAutoscaler) -> String {
    let name = hpa.name_any();
    match kserve_service(hpa) {
        Some(service) => format!(
            "HorizontalPodAutoscaler {name}, which KServe keeps, scales the same target and will undo this: annotate InferenceService {service} with serving.kserve.io/autoscalerClass: external."
        ),
        None => format!(
            "HorizontalPodAutoscaler {name} scales the same target and will undo this: name that as scaleTargetRef."
        ),
    }
}

/// Whether an HPA asks for the floors of windows.
pub(super) fn asks_for_floors(hpa: &HorizontalPodAutoscaler) -> bool {
    let metrics = hpa.spec.as_ref().and_then(|spec| spec.metrics.as_ref());
    let external = metrics
        .into_iter()
        .flatten()
        .filter_map(|it| it.external.as_ref());
    external.into_iter().any(|it| it.metric.name == METRIC)
}

/// The error and its causes on one line.
pub(super) fn told(error: &TargetError) -> String {
    match error {
        TargetError::Request(error) | TargetError::Scale(ScaleError::Request(error)) => {
            describe(error)
        }
        other => other.to_string(),
    }
}

/// The InferenceService that controls an HPA.
fn kserve_service(hpa: &HorizontalPodAutoscaler) -> Option<&str> {
    let owners = hpa.metadata.owner_references.as_ref()?;
    let owner = owners.iter().find(|it| {
        it.kind == "InferenceService" && it.api_version.starts_with("serving.kserve.io/")
    })?;
    Some(&owner.name)
}

fn known(hpa: &HorizontalPodAutoscaler) -> Option<Kept> {
    let text = hpa.annotations().get(KEPT)?;
    // What somebody has written there by hand is not believed.
    serde_json::from_str(text).ok()
}

fn bounds(hpa: &HorizontalPodAutoscaler) -> Bounds {
    let spec = hpa.spec.as_ref();
    Bounds {
        // As the API server fills it in.
        min: spec.and_then(|it| it.min_replicas).unwrap_or(1),
        max: spec.map_or(0, |it| it.max_replicas),
    }
}

fn target_of(hpa: &HorizontalPodAutoscaler) -> Option<&CrossVersionObjectReference> {
    hpa.spec.as_ref().map(|spec| &spec.scale_target_ref)
}

fn referred(namespace: &str, target: &CrossVersionObjectReference) -> Scalable {
    let api_version = target.api_version.as_deref().unwrap_or_default();
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    Scalable {
        namespace: namespace.to_owned(),
        group: group.to_owned(),
        kind: target.kind.clone(),
        name: target.name.clone(),
    }
}
