//! An object as it is read.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::DynamicObject;
use serde_json::Value;

use crate::schedule::object::Spec;
use crate::schedule::status::{Condition, Known, Status};

use super::KIND;

/// Namespace and name.
pub(super) type Key = (String, String);

/// A CronHorizontalPodAutoscaler.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) key: Key,
    pub(super) uid: String,
    pub(super) version: String,
    pub(super) created: Timestamp,
    /// What it says, or why that cannot be read. The API server's schema leaves little that cannot.
    pub(super) spec: Result<Spec, String>,
    pub(super) status: Status,
}

impl Object {
    pub(super) fn read(object: DynamicObject) -> Self {
        let DynamicObject {
            metadata, mut data, ..
        } = object;
        let spec = data["spec"].take();
        let created = metadata.creation_timestamp.map(|time| time.0);
        Self {
            key: (
                metadata.namespace.unwrap_or_default(),
                metadata.name.unwrap_or_default(),
            ),
            uid: metadata.uid.unwrap_or_default(),
            version: metadata.resource_version.unwrap_or_default(),
            created: created.unwrap_or(Timestamp::UNIX_EPOCH),
            spec: serde_json::from_value(spec).map_err(|error| error.to_string()),
            status: status(data["status"].take()),
        }
    }

    pub(super) fn known<'a>(&'a self, spec: &'a Spec) -> Known<'a> {
        Known {
            spec,
            status: &self.status,
            uid: &self.uid,
            created: self.created,
        }
    }

    pub(super) fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(format!("{}/{}", KIND.group, KIND.version)),
            kind: Some(KIND.kind.to_owned()),
            namespace: Some(self.key.0.clone()),
            name: Some(self.key.1.clone()),
            uid: Some(self.uid.clone()),
            resource_version: Some(self.version.clone()),
            field_path: None,
        }
    }
}

/// A condition that is not of the form is lost, and with it what is known of its job; the others are not.
fn status(mut value: Value) -> Status {
    if let Some(conditions) = value["conditions"].as_array_mut() {
        conditions.retain(|it| serde_json::from_value::<Condition>(it.clone()).is_ok());
    }
    serde_json::from_value(value).unwrap_or_default()
}
