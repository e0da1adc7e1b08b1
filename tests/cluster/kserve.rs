//! KServe's kind InferenceService, without KServe: what its controller would make of one, the tests make.

use kube::api::{ApiResource, PostParams};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::scene::Scene;

const GROUP: &str = "serving.kserve.io";
const VERSION: &str = "v1beta1";
const KIND: &str = "InferenceService";

/// Has the cluster know the kind, if it does not yet.
pub(crate) async fn install(scene: &Scene) {
    let name = format!("inferenceservices.{GROUP}");
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"kind": KIND, "plural": "inferenceservices", "singular": "inferenceservice"},
            "versions": [{
                "name": VERSION, "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    });
    let plane = scene.plane;
    let file = plane
        .workspace
        .write("inference-services.json", &definition.to_string());
    let apply = ["apply", "--server-side", "-f", &file];
    plane.kubectl(&apply).await.expect("a definition");
    let known = format!("crd/{name}");
    let wait = [
        "wait",
        "--for=condition=Established",
        "--timeout=30s",
        &known,
    ];
    plane.kubectl(&wait).await.expect("a kind that is served");
}

/// Makes one in the test's namespace, and gives the `ownerReferences` of what it controls.
pub(crate) async fn inference_service(scene: &Scene, name: &str) -> Value {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, KIND));
    let api: Api<DynamicObject> =
        Api::namespaced_with(scene.client.clone(), scene.namespace, &kind);
    let object = DynamicObject::new(name, &kind);
    let made = api.create(&PostParams::default(), &object).await;
    let uid = made.expect("an InferenceService").uid();
    json!([{
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": KIND, "name": name, "uid": uid,
        "controller": true, "blockOwnerDeletion": true,
    }])
}
