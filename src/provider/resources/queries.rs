//! Usage by the queries of `resourceRules`, of any engine.
//!
//! Unlike prometheus-adapter, a value that is NaN or negative is missing and not 0, a container that lacks one of CPU and memory
//! keeps its pod out, and a query that fails is no empty answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use crate::engine::{Engine, InstantQuery, Point};
use crate::model::objects::{LabelledObject, ResourceMapper};
use crate::model::quantity::Quantity;
use crate::model::time::Timestamp;
use crate::rules::{ResourceRules, UsageError, UsageQuery};

use super::{NodeUsage, PodUsage, ResourceError, Usage};

/// Up to how many objects a query names; it is asked for all of the namespace where there are more.
const NAMED: usize = 100;

/// How many namespaces are asked about at a time.
const AT_ONCE: usize = 4;

/// An engine and the queries for it.
pub(super) struct Queries {
    engine: Arc<dyn Engine>,
    mapper: Arc<dyn ResourceMapper>,
    rules: ResourceRules,
    max_age: Duration,
}

/// A value and the time of its oldest sample.
type Value = (f64, Timestamp);

/// By pod or node, then by container.
type Values = HashMap<Arc<str>, BTreeMap<ArcStr, Value>>;

impl Queries {
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        mapper: Arc<dyn ResourceMapper>,
        rules: ResourceRules,
        max_age: Duration,
    ) -> Self {
        Self {
            engine,
            mapper,
            rules,
            max_age,
        }
    }

    /// The usage of those of `pods` that have one; they are in the order of their namespaces.
    pub(super) async fn pods(
        &self,
        pods: Vec<LabelledObject>,
        now: Timestamp,
    ) -> Result<Vec<PodUsage>, ResourceError> {
        let namespaces = pods.chunk_by(|a, b| a.object.namespace == b.object.namespace);
        let asked: Vec<_> = namespaces
            .map(|pods| self.of_namespace(pods, now).boxed())
            .collect();
        let found: Vec<Vec<PodUsage>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn of_namespace(
        &self,
        pods: &[LabelledObject],
        now: Timestamp,
    ) -> Result<Vec<PodUsage>, ResourceError> {
        let namespace = pods.first().and_then(|pod| pod.object.namespace.as_deref());
        let namespace = namespace.unwrap_or_default();
        let (names, mapper) = (named(pods), &*self.mapper);
        let cpu = self.rules.cpu.of_containers(namespace, &names, mapper);
        let memory = self.rules.memory.of_containers(namespace, &names, mapper);
        let (cpu, memory) = self.both(cpu, memory, now).await?;
        let usage = |pod: &LabelledObject| {
            let (cpu, memory) = (cpu.get(&pod.object.name)?, memory.get(&pod.object.name)?);
            if !cpu.keys().eq(memory.keys()) {
                return None;
            }
            let mut containers = Vec::with_capacity(cpu.len());
            let mut oldest = Timestamp::MAX;
            for ((container, cpu), memory) in cpu.iter().zip(memory.values()) {
                let (usage, at) = both(*cpu, *memory)?;
                containers.push((container.clone(), usage));
                oldest = oldest.min(at);
            }
            Some(PodUsage {
                pod: pod.clone(),
                timestamp: oldest,
                window: self.rules.window,
                containers,
            })
        };
        Ok(pods.iter().filter_map(usage).collect())
    }

    /// The usage of those of `nodes` that have one, in their order.
    pub(super) async fn nodes(
        &self,
        nodes: Vec<LabelledObject>,
        now: Timestamp,
    ) -> Result<Vec<NodeUsage>, ResourceError> {
        let (names, mapper) = (named(&nodes), &*self.mapper);
        let cpu = self.rules.cpu.of_nodes(&names, mapper);
        let memory = self.rules.memory.of_nodes(&names, mapper);
        drop(names);
        let (cpu, memory) = self.both(cpu, memory, now).await?;
        let usage = |node: LabelledObject| {
            let value = |of: &Values| of.get(&node.object.name)?.values().next().copied();
            let (usage, timestamp) = both(value(&cpu)?, value(&memory)?)?;
            Some(NodeUsage {
                timestamp,
                window: self.rules.window,
                usage,
                node,
            })
        };
        Ok(nodes.into_iter().filter_map(usage).collect())
    }

    async fn both(
        &self,
        cpu: Result<UsageQuery, UsageError>,
        memory: Result<UsageQuery, UsageError>,
        now: Timestamp,
    ) -> Result<(Values, Values), ResourceError> {
        let (cpu, memory) = (cpu?, memory?);
        futures_util::try_join!(self.ask(cpu, now), self.ask(memory, now))
    }

    async fn ask(&self, usage: UsageQuery, now: Timestamp) -> Result<Values, ResourceError> {
        let query = InstantQuery {
            text: usage.text,
            at: now,
            max_age: self.max_age,
        };
        let points = self.engine.query(&query).await;
        let points = points.map_err(|reason| ResourceError::Query {
            rule: usage.id.clone(),
            reason,
        })?;
        let mut values = Values::new();
        for Point {
            labels,
            value,
            oldest,
            ..
        } in points
        {
            let object = labels.value(&usage.object_label).into();
            let container = match &*usage.container_label {
                "" => "",
                label => labels.value(label),
            };
            let of_object: &mut BTreeMap<_, _> = values.entry(object).or_default();
            // Of two for one container neither is known to be right.
            let value = match of_object.contains_key(container) {
                true => f64::NAN,
                false => value,
            };
            of_object.insert(container.into(), (value, oldest));
        }
        Ok(values)
    }
}

/// The names, where they are few.
fn named(objects: &[LabelledObject]) -> Vec<&str> {
    if objects.len() > NAMED {
        return Vec::new();
    }
    objects.iter().map(|it| &*it.object.name).collect()
}

/// Both values and the older one's time; nothing where one is missing.
fn both(cpu: Value, memory: Value) -> Option<(Usage, Timestamp)> {
    let usable = |value: f64| (value >= 0.0).then_some(value);
    let usage = Usage {
        cpu: Quantity::from_f64(usable(cpu.0)?)?,
        memory: Quantity::from_bytes_f64(usable(memory.0)?)?,
        swap: None,
    };
    Some((usage, cpu.1.min(memory.1)))
}
