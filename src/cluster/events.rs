//! Events about objects (`core/v1`), as client-go's recorder writes them: `kubectl describe` shows them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};

use super::request::{RequestError, bounded};

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// What was meant to happen.
    Normal,
    /// What somebody should look at.
    Warning,
}

/// Writes events in the name of one component.
pub struct Recorder {
    client: Client,
    component: &'static str,
}

impl Recorder {
    /// Events whose `source` is `component`.
    pub fn new(client: Client, component: &'static str) -> Self {
        Self { client, component }
    }

    /// Writes an event about an object that is in a namespace.
    ///
    /// # Errors
    /// Where it was not taken.
    pub async fn record(
        &self,
        about: &ObjectReference,
        severity: Severity,
        reason: &str,
        message: &str,
    ) -> Result<(), RequestError> {
        let namespace = about.namespace.as_deref().unwrap_or("default");
        let now = Timestamp::now();
        let time = Time(now);
        let name = about.name.as_deref().unwrap_or_default();
        let event = Event {
            metadata: ObjectMeta {
                // client-go names them so, too: the name, a dot, and the time in nanoseconds.
                name: Some(format!("{name}.{:x}", now.as_nanosecond())),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: about.clone(),
            type_: Some(format!("{severity:?}")),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            count: Some(1),
            first_timestamp: Some(time.clone()),
            last_timestamp: Some(time),
            source: Some(EventSource {
                component: Some(self.component.to_owned()),
                host: None,
            }),
            ..Event::default()
        };
        let events = Api::<Event>::namespaced(self.client.clone(), namespace);
        let params = PostParams::default();
        bounded(|| events.create(&params, &event)).await.map(drop)
    }
}
