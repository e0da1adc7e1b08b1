//! Kubernetes: client, watches, resource names, the trust ConfigMap, our Secret and APIServices.

pub mod discovery;
