//! Objects that KServe and arena really made, ready to be made again in another cluster.

use std::path::Path;

use serde_json::Value;

/// The object in a file of `tests/fixtures`, without what belongs to the API server and the owner it had there.
pub(crate) fn object(file: &str) -> Value {
    let mut object = object_whole(file);
    let fields = object.as_object_mut().expect("an object");
    fields.remove("status");
    let metadata = fields["metadata"].as_object_mut().expect("metadata");
    metadata.retain(|key, _| matches!(key.as_str(), "annotations" | "labels" | "name"));
    object
}

/// The object in a file of `tests/fixtures`, with all that stands there.
pub(crate) fn object_whole(file: &str) -> Value {
    serde_saphyr::from_str(&text(file)).expect("YAML")
}

/// The text of a file in `tests/fixtures`.
pub(crate) fn text(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
