//! What every test starts from: the control plane to itself, a namespace of its own, and the logs if it fails.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::control_plane::{ControlPlane, control_plane};
use crate::exporter;

/// One test's turn. There is one custom.metrics.k8s.io in a cluster, so the tests take turns, whatever `--test-threads` says.
pub(crate) struct Scene {
    pub(crate) plane: &'static ControlPlane,
    pub(crate) client: Client,
    pub(crate) namespace: &'static str,
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    /// Waits for the test's turn and makes its namespace.
    pub(crate) async fn new(namespace: &'static str) -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let plane = control_plane().await;
        let scene = Self {
            plane,
            client: plane.client(),
            namespace,
            _turn: turn,
        };
        scene.remove_exporters().await;
        scene.create_namespace(namespace).await;
        scene
    }

    /// The exporters of earlier tests would otherwise be scraped in this one.
    async fn remove_exporters(&self) {
        let all: Api<Pod> = Api::all(self.client.clone());
        let exporters = ListParams::default().labels(exporter::SELECTOR);
        for pod in all.list(&exporters).await.expect("the pods").items {
            let namespace = pod.namespace().expect("a namespace");
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
            pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
                .await
                .expect("a deletion");
        }
    }

    pub(crate) async fn create_namespace(&self, name: &str) {
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": name}})).expect("a namespace");
        Api::all(self.client.clone())
            .create(&PostParams::default(), &namespace)
            .await
            .expect("a namespace");
    }

    /// The namespace and the ServiceAccount of the adapter, which may not have been installed yet.
    pub(crate) async fn install_accounts(&self) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests");
        for file in ["namespace.yaml", "rbac.yaml"] {
            let file = format!("{folder}/{file}");
            self.plane
                .kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &file])
                .await
                .expect("kubectl apply");
        }
    }

    /// The API of a kind in the test's namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// Makes an object in the test's namespace.
    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + DeserializeOwned,
    {
        let object: K = serde_json::from_value(object).expect("an object of this kind");
        self.api::<K>()
            .create(&PostParams::default(), &object)
            .await
            .expect("an object that the API server accepts")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.plane.logs());
        }
    }
}
