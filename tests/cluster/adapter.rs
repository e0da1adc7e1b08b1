//! The adapter under test: the built program, installed as its manifests install it and run with those rights only.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::control_plane::free_ports;
use crate::pki::Identity;
use crate::process::Process;
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

/// Namespace and name of the installation.
pub(crate) const NAMESPACE: &str = "gpu-metrics-adapter";
pub(crate) const NAME: &str = "gpu-metrics-adapter";
/// The Secret with the adapter's own authority and certificate.
pub(crate) const SECRET: &str = "gpu-metrics-adapter-tls";
/// The file to which all adapters write a line for each request.
pub(crate) const AUDIT: &str = "audit.log";
/// The Lease of the replica that runs schedules.
pub(crate) const LEASE: &str = "gpu-metrics-adapter-schedules";
/// The APIServices, one for each version.
pub(crate) const API_SERVICES: [&str; 2] = [
    "v1beta1.custom.metrics.k8s.io",
    "v1beta2.custom.metrics.k8s.io",
];
/// Those of the component for `metrics.k8s.io`.
const RESOURCE_API_SERVICES: [&str; 2] = ["v1beta1.metrics.k8s.io", "v1.metrics.k8s.io"];
/// That of external metrics.
const EXTERNAL_API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";
/// The configuration's file, in the workspace.
const FILE: &str = "adapter.yaml";
/// The name in its serving certificate, which the aggregator asks for.
const HOST: &str = "gpu-metrics-adapter.gpu-metrics-adapter.svc";
/// The GPU exporters by default, but in a hurry: a sample may be 45 s old by default. kwok's nodes have no kubelet.
const CONFIGURATION: &str = "scrape: {interval: 1s, presets: [dcgm-exporter]}\nmaxAge: 5s\n";

/// The running adapter.
pub(crate) struct Adapter {
    process: Process,
    arguments: Vec<String>,
    registered: Vec<&'static str>,
    port: u16,
    /// What verifies its serving certificate, as kube-apiserver is told: `caBundle`.
    pub(crate) ca: String,
}

impl Adapter {
    /// Installs and starts an adapter that was never here before, and waits until the cluster finds it available.
    pub(crate) async fn start(scene: &Scene) -> Self {
        Self::start_with(scene, CONFIGURATION).await
    }

    /// As [`Adapter::start`], with this configuration.
    pub(crate) async fn start_with(scene: &Scene, configuration: &str) -> Self {
        Self::installed(scene, "install", API_SERVICES.into(), configuration, &[]).await
    }

    /// As [`Adapter::start`], with `metrics.k8s.io`, this configuration and these further flags.
    pub(crate) async fn start_with_resource_metrics(
        scene: &Scene,
        configuration: &str,
        flags: &[String],
    ) -> Self {
        let registered = [API_SERVICES, RESOURCE_API_SERVICES].concat();
        let folder = "install-resource-metrics";
        let flags = [&["--resource-metrics".to_owned()], flags].concat();
        Self::installed(scene, folder, registered, configuration, &flags).await
    }

    /// As [`Adapter::start`], with `external.metrics.k8s.io`, this configuration and these further flags.
    pub(crate) async fn start_with_external(
        scene: &Scene,
        configuration: &str,
        flags: &[String],
    ) -> Self {
        let registered = [&API_SERVICES[..], &[EXTERNAL_API_SERVICE]].concat();
        Self::installed(scene, "install-external", registered, configuration, flags).await
    }

    /// As [`Adapter::start`], with schedules, whose times are in UTC, and `external.metrics.k8s.io` for their floors.
    pub(crate) async fn start_with_schedules(scene: &Scene) -> Self {
        Self::start_with_schedules_and(scene, &[]).await
    }

    /// As [`Adapter::start_with_schedules`], with these further flags.
    pub(crate) async fn start_with_schedules_and(scene: &Scene, flags: &[String]) -> Self {
        let registered = [&API_SERVICES[..], &[EXTERNAL_API_SERVICE]].concat();
        let configuration = format!("{CONFIGURATION}schedules: {{timeZone: UTC}}\n");
        let flags = [&["--schedules".to_owned()], flags].concat();
        let folder = "install-schedules";
        Self::installed(scene, folder, registered, &configuration, &flags).await
    }

    /// Its number among the processes.
    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it, and takes `external.metrics.k8s.io` out of the cluster.
    pub(crate) async fn remove_external(self, scene: &Scene) {
        remove_api_service(scene, EXTERNAL_API_SERVICE).await;
    }

    async fn installed(
        scene: &Scene,
        folder: &str,
        registered: Vec<&'static str>,
        configuration: &str,
        flags: &[String],
    ) -> Self {
        let [port] = free_ports();
        install(scene, folder, &registered, port).await;
        let workspace = &scene.plane.workspace;
        let mut arguments = vec![
            "serve".to_owned(),
            format!("--kubeconfig={}", kubeconfig(scene).await),
            format!("--config={}", workspace.write(FILE, configuration)),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            format!("--service={NAMESPACE}/{NAME}"),
            format!("--audit-log={}", workspace.path(AUDIT).display()),
        ];
        arguments.extend_from_slice(flags);
        let process = spawn(scene, &arguments);
        let ca = available(scene, &registered, &process).await;
        Self {
            process,
            arguments,
            registered,
            port,
            ca,
        }
    }

    /// Ends it as a kubelet does and starts it again, with what it left in the cluster.
    pub(crate) async fn restart(&mut self, scene: &Scene) {
        let status = self.process.terminate(Duration::from_secs(20)).await;
        assert!(status.success(), "the adapter ended with {status}");
        self.process = spawn(scene, &self.arguments);
        self.ca = available(scene, &self.registered, &self.process).await;
    }

    /// Changes its configuration's file while it runs.
    pub(crate) fn configure(&self, scene: &Scene, configuration: &str) {
        self.process.assert_running();
        scene.plane.workspace.write(FILE, configuration);
    }

    /// Another replica of it, once it is ready.
    pub(crate) async fn replica(&self, scene: &Scene) -> Self {
        let [port] = free_ports();
        let mut arguments = self.arguments.clone();
        arguments.retain(|argument| !argument.starts_with("--secure-port="));
        arguments.push(format!("--secure-port={port}"));
        self.another(scene, arguments, port).await
    }

    async fn another(&self, scene: &Scene, arguments: Vec<String>, port: u16) -> Self {
        let replica = Self {
            process: spawn(scene, &arguments),
            arguments,
            registered: self.registered.clone(),
            port,
            ca: self.ca.clone(),
        };
        let client = replica.direct(&replica.ca, None);
        eventually("ready replica", PATIENCE, async || {
            replica.process.assert_running();
            let answer = client.get(replica.url("/readyz")).send().await;
            answer.and_then(reqwest::Response::error_for_status)
        })
        .await;
        replica
    }

    /// An adapter of another configuration at this port, once it is ready; nothing leads to it.
    pub(crate) async fn beside(&self, scene: &Scene, port: u16, configuration: &str) -> Self {
        let file = scene.plane.workspace.write("beside.yaml", configuration);
        let mut arguments = self.arguments.clone();
        arguments.retain(|it| !it.starts_with("--secure-port=") && !it.starts_with("--config="));
        arguments.extend([format!("--secure-port={port}"), format!("--config={file}")]);
        self.another(scene, arguments, port).await
    }

    /// What it has logged lately.
    pub(crate) fn log(&self) -> String {
        self.process.tail(60)
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Has kube-apiserver look for the registered APIs at this port.
    pub(crate) async fn reached_at(&self, scene: &Scene, port: u16) {
        let service = json!({"spec": {"service": {"port": port}}});
        for name in &self.registered {
            api_services(&scene.client)
                .patch(name, &PatchParams::default(), &Patch::Merge(&service))
                .await
                .expect("an APIService");
        }
    }

    /// Ends it as a kubelet does, and starts it again at the same port; gives the new one time to be ready.
    pub(crate) async fn again(&mut self, scene: &Scene) {
        let status = self.process.terminate(Duration::from_secs(30)).await;
        assert!(status.success(), "the adapter ended with {status}");
        let mut another = self.another(scene, self.arguments.clone(), self.port).await;
        std::mem::swap(&mut self.process, &mut another.process);
    }

    /// A client that calls the adapter itself, without the aggregator between, and checks its certificate against `ca`.
    pub(crate) fn direct(&self, ca: &str, identity: Option<&Identity>) -> reqwest::Client {
        let ca = reqwest::Certificate::from_pem_bundle(ca.as_bytes()).expect("certificates");
        let mut client = reqwest::Client::builder()
            .tls_certs_only(ca)
            .resolve(HOST, ([127, 0, 0, 1], self.port).into())
            .no_proxy()
            .gzip(false)
            .timeout(Duration::from_secs(10));
        if let Some(Identity { certificate, key }) = identity {
            let pem = format!("{certificate}{key}");
            let identity = reqwest::Identity::from_pem(pem.as_bytes()).expect("an identity");
            client = client.identity(identity);
        }
        client.build().expect("a client")
    }

    /// The URL of `path` at the adapter itself.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{HOST}:{}{path}", self.port)
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.process.tail(60));
        }
    }
}

/// A registered API that nobody answers would keep namespaces from being deleted.
async fn remove_api_service(scene: &Scene, name: &str) {
    let services = api_services(&scene.client);
    match services.delete(name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => panic!("{name} of an earlier adapter: {error}"),
    }
}

/// Rights, Service and APIServices from the manifests; the port is this adapter's, and nothing of an earlier one is left.
async fn install(scene: &Scene, folder: &str, registered: &[&str], port: u16) {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster");
    let manifest = manifest.join(folder);
    for name in RESOURCE_API_SERVICES {
        remove_api_service(scene, name).await;
    }
    remove_api_service(scene, EXTERNAL_API_SERVICE).await;
    let manifest = manifest.to_str().expect("a UTF-8 path");
    scene
        .plane
        .kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-k",
            manifest,
        ])
        .await
        .expect("kubectl apply");
    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), NAMESPACE);
    match secrets.delete(SECRET, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => panic!("the Secret of an earlier adapter: {error}"),
    }
    let leases: Api<Lease> = Api::namespaced(scene.client.clone(), NAMESPACE);
    match leases.delete(LEASE, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => panic!("the Lease of an earlier adapter: {error}"),
    }
    let fresh = json!({"spec": {"caBundle": null, "service": {"port": port}}});
    for name in registered {
        api_services(&scene.client)
            .patch(name, &PatchParams::default(), &Patch::Merge(&fresh))
            .await
            .expect("an APIService");
    }
}

/// A kubeconfig with a token of the adapter's ServiceAccount: its rights are the ones that the manifests give.
async fn kubeconfig(scene: &Scene) -> String {
    let token = token(&scene.client, NAMESPACE, NAME).await;
    scene
        .plane
        .write_kubeconfig("adapter", &json!({"token": token}))
}

/// A token for a ServiceAccount.
pub(crate) async fn token(client: &Client, namespace: &str, name: &str) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    accounts
        .create_token_request(name, &PostParams::default(), &TokenRequest::default())
        .await
        .expect("a token")
        .status
        .expect("an issued token")
        .token
}

fn spawn(scene: &Scene, arguments: &[String]) -> Process {
    let program = Path::new(env!("CARGO_BIN_EXE_gpu-metrics-adapter"));
    scene.plane.workspace.spawn("adapter", program, arguments)
}

/// Waits until the APIServices are available and answer through the aggregator; gives their `caBundle`.
async fn available(scene: &Scene, names: &[&str], process: &Process) -> String {
    let mut bundle = String::new();
    for name in names {
        bundle = eventually(&format!("available {name}"), PATIENCE, async || {
            process.assert_running();
            let service = api_services(&scene.client)
                .get(name)
                .await
                .map_err(|error| error.to_string())?;
            let ca = ca_bundle(&service).ok_or("it has no caBundle")?;
            let conditions = service.status.and_then(|status| status.conditions);
            for condition in conditions.unwrap_or_default() {
                if condition.type_ == "Available" && condition.status != "True" {
                    return Err(condition.message.unwrap_or_default());
                }
            }
            let (version, group) = name.split_once('.').expect("version.group");
            let path = format!("/apis/{group}/{version}");
            get(&scene.client, &path).await.map(|_| ca)
        })
        .await;
    }
    bundle
}

/// What kube-apiserver answers to a GET, as text.
pub(crate) async fn get(client: &Client, path: &str) -> Result<String, String> {
    let request = http::Request::get(path)
        .body(Vec::new())
        .expect("a request");
    client
        .request_text(request)
        .await
        .map_err(|error| error.to_string())
}

pub(crate) fn api_services(client: &Client) -> Api<APIService> {
    Api::all(client.clone())
}

/// The PEM text in `spec.caBundle`.
pub(crate) fn ca_bundle(service: &APIService) -> Option<String> {
    let bytes = &service.spec.as_ref()?.ca_bundle.as_ref()?.0;
    // The field holds base64 of PEM, which the type has already undone once.
    String::from_utf8(bytes.clone()).ok()
}
