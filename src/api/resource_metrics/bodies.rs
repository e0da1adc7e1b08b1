//! PodMetrics and NodeMetrics as bytes: JSON in the order in which Go writes its fields, and protobuf.

use std::fmt::{self, Display};
use std::time::Duration;

use arcstr::ArcStr;
use serde::{Serialize, Serializer};

use crate::api::as_text;
use crate::api::list::List;
use crate::api::path::Version;
use crate::api::protobuf::{self, Message};
use crate::model::objects::{LabelledObject, ObjectLabels};
use crate::model::quantity::Quantity;
use crate::model::time::Timestamp;
use crate::provider::resources::{NodeUsage, PodUsage, Usage};

/// What the values are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Node,
    Pod,
}

impl Kind {
    pub(super) const fn resource(self) -> &'static str {
        match self {
            Self::Node => "nodes",
            Self::Pod => "pods",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Node => "NodeMetrics",
            Self::Pod => "PodMetrics",
        }
    }

    const fn list_name(self) -> &'static str {
        match self {
            Self::Node => "NodeMetricsList",
            Self::Pod => "PodMetricsList",
        }
    }
}

/// The usage of one pod or node.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) object: &'a LabelledObject,
    pub(super) timestamp: Timestamp,
    pub(super) window: Duration,
    of: Of<'a>,
}

#[derive(Clone, Copy)]
enum Of<'a> {
    Node(&'a Usage),
    Containers(&'a [(ArcStr, Usage)]),
}

impl<'a> Item<'a> {
    pub(super) fn pod(usage: &'a PodUsage) -> Self {
        Self {
            object: &usage.pod,
            timestamp: usage.timestamp,
            window: usage.window,
            of: Of::Containers(&usage.containers),
        }
    }

    pub(super) fn node(usage: &'a NodeUsage) -> Self {
        Self {
            object: &usage.node,
            timestamp: usage.timestamp,
            window: usage.window,
            of: Of::Node(&usage.usage),
        }
    }

    /// What it is, without its namespace's and its name's meaning.
    fn kind(&self) -> Kind {
        match self.of {
            Of::Node(_) => Kind::Node,
            Of::Containers(_) => Kind::Pod,
        }
    }

    /// What it uses in all.
    pub(super) fn total(&self) -> Usage {
        let zero = Usage {
            cpu: Quantity::from_nanos(0),
            memory: Quantity::from_bytes(0),
            swap: None,
        };
        match self.of {
            Of::Node(usage) => *usage,
            Of::Containers(containers) => containers.iter().fold(zero, |sum, (_, it)| Usage {
                cpu: sum.cpu + it.cpu,
                memory: sum.memory + it.memory,
                swap: match (sum.swap, it.swap) {
                    (Some(sum), Some(it)) => Some(sum + it),
                    (sum, it) => sum.or(it),
                },
            }),
        }
    }

    pub(super) fn metadata(&self, now: Timestamp) -> Metadata<'a> {
        Metadata {
            name: &self.object.object.name,
            namespace: self.object.object.namespace.as_deref(),
            creation_timestamp: now,
            labels: &self.object.labels,
        }
    }

    /// The object alone.
    pub(super) fn json(&self, version: Version, now: Timestamp) -> impl Serialize {
        Body {
            kind: Some(self.kind().name()),
            api_version: Some(version.group_version()),
            ..self.body(now)
        }
    }

    fn body(&self, now: Timestamp) -> Body<'a> {
        let (containers, usage) = match self.of {
            Of::Node(usage) => (None, Some(UsageBody(usage))),
            Of::Containers(containers) => (Some(Containers(containers)), None),
        };
        Body {
            kind: None,
            api_version: None,
            metadata: self.metadata(now),
            timestamp: self.timestamp,
            window: self.window,
            containers,
            usage,
        }
    }

    /// The object alone.
    pub(super) fn protobuf(&self, version: Version, now: Timestamp) -> Vec<u8> {
        let (version, kind) = (version.group_version(), self.kind().name());
        protobuf::object(version, kind, |message| self.write(message, now))
    }

    fn write(&self, message: &mut Message, now: Timestamp) {
        let object = &self.object.object;
        message.message(1, |meta| {
            meta.text(1, &object.name);
            meta.text(2, "");
            meta.text(3, object.namespace.as_deref().unwrap_or_default());
            for empty in 4..=6 {
                meta.text(empty, "");
            }
            meta.number(7, 0);
            meta.time(8, now);
            for (key, value) in &*self.object.labels {
                meta.entry(11, key, |entry| entry.text(2, value));
            }
        });
        message.time(2, self.timestamp);
        let window = i64::try_from(self.window.as_nanos()).unwrap_or(i64::MAX);
        message.message(3, |duration| duration.number(1, window));
        match self.of {
            Of::Node(usage) => write_usage(message, 4, usage),
            Of::Containers(containers) => {
                for (name, usage) in containers {
                    message.message(4, |container| {
                        container.text(1, name);
                        write_usage(container, 2, usage);
                    });
                }
            }
        }
    }
}

fn write_usage(message: &mut Message, field: u8, usage: &Usage) {
    for (key, quantity) in entries(usage) {
        message.entry(field, key, |entry| entry.quantity(2, quantity));
    }
}

/// A `ResourceList`, its keys sorted.
fn entries(usage: &Usage) -> impl Iterator<Item = (&'static str, &Quantity)> {
    let swap = usage.swap.as_ref().map(|swap| ("swap", swap));
    [("cpu", &usage.cpu), ("memory", &usage.memory)]
        .into_iter()
        .chain(swap)
}

/// A list.
pub(super) fn protobuf_list(
    kind: Kind,
    version: Version,
    items: &[Item<'_>],
    now: Timestamp,
) -> Vec<u8> {
    protobuf::object(version.group_version(), kind.list_name(), |list| {
        list.list_meta(1);
        for item in items {
            list.message(2, |message| item.write(message, now));
        }
    })
}

/// A list.
pub(super) fn list<'a>(
    kind: Kind,
    version: Version,
    items: &'a [Item<'_>],
    now: Timestamp,
) -> impl Serialize + 'a {
    List::new(kind.list_name(), version, Items { items, now })
}

struct Items<'a> {
    items: &'a [Item<'a>],
    now: Timestamp,
}

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.items.iter().map(|item| item.body(self.now)))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<&'static str>,
    metadata: Metadata<'a>,
    #[serde(serialize_with = "as_text")]
    timestamp: Timestamp,
    #[serde(serialize_with = "as_go_duration")]
    window: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    containers: Option<Containers<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageBody<'a>>,
}

/// As much of `metav1.ObjectMeta` as there is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    /// The time of the answer, as metrics-server has it.
    #[serde(serialize_with = "as_text")]
    creation_timestamp: Timestamp,
    #[serde(skip_serializing_if = "ObjectLabels::is_empty")]
    labels: &'a ObjectLabels,
}

struct Containers<'a>(&'a [(ArcStr, Usage)]);

impl Serialize for Containers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(name, usage)| ContainerBody {
            name,
            usage: UsageBody(usage),
        }))
    }
}

#[derive(Serialize)]
struct ContainerBody<'a> {
    name: &'a str,
    usage: UsageBody<'a>,
}

struct UsageBody<'a>(&'a Usage);

impl Serialize for UsageBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(entries(self.0).map(|(key, quantity)| (key, Text(quantity))))
    }
}

struct Text<'a>(&'a Quantity);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}

fn as_go_duration<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&GoDuration(*value))
}

/// A duration as Go writes it (`time.Duration.String`), to the millisecond: `1m30s`, `15.065s`, `500ms`.
pub(super) struct GoDuration(pub(super) Duration);

impl Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.as_secs(), self.0.subsec_millis());
        if seconds == 0 && millis > 0 {
            return write!(f, "{millis}ms");
        }
        if seconds >= 3600 {
            write!(f, "{}h", seconds / 3600)?;
        }
        if seconds >= 60 {
            write!(f, "{}m", seconds / 60 % 60)?;
        }
        let seconds = seconds % 60;
        if millis == 0 {
            return write!(f, "{seconds}s");
        }
        let fraction = format!("{millis:03}");
        write!(f, "{seconds}.{}s", fraction.trim_end_matches('0'))
    }
}
