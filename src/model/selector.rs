//! Kubernetes label selectors: the string form of a request, and how it applies to an object's labels.

/// A parsed label selector. The default selects everything.
#[derive(Clone, Debug, Default)]
pub struct Selector;
