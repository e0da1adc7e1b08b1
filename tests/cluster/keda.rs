//! KEDA as it is installed, on loopback: its kinds and rights, its operator, and its metrics server, which serves
//! `external.metrics.k8s.io` and is not registered for it.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::adapter::token;
use crate::control_plane::free_ports;
use crate::process::Process;
use crate::programs::built;
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

/// The name in its serving certificate.
pub(crate) const HOST: &str = "keda-metrics-apiserver.keda.svc";
/// Its namespace, and the account of both programs, as its manifests have them.
const NAMESPACE: &str = "keda";
const ACCOUNT: &str = "keda-operator";
/// The Secret in which the operator keeps its authority and the certificate of both programs.
const SECRET: &str = "kedaorg-certs";
/// What of the Secret a kubelet would mount.
const MOUNTED: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];

/// An installed KEDA, whose programs a test starts and drops.
pub(crate) struct Keda<'a> {
    scene: &'a Scene,
    programs: PathBuf,
    kubeconfig: String,
    /// What is mounted of the Secret.
    certificates: PathBuf,
    /// Where the operator tells the metrics server what it has, by gRPC.
    grpc: u16,
    /// Where the metrics server serves.
    pub(crate) port: u16,
}

impl<'a> Keda<'a> {
    /// Kinds, rights and account from KEDA's own manifests; nothing runs yet. There is no APIService among them.
    pub(crate) async fn install(scene: &'a Scene) -> Self {
        let programs = built("tests/keda/build.sh");
        let config = programs.join("config");
        for (flag, part) in [
            ("-k", "crd"),
            ("-k", "general"),
            ("-k", "service_account"),
            ("-k", "rbac"),
            ("-f", "metrics-server/role.yaml"),
            ("-f", "metrics-server/role_binding.yaml"),
        ] {
            let part = config.join(part);
            let part = part.to_str().expect("a UTF-8 path");
            let apply = ["apply", "--server-side", "--force-conflicts", flag, part];
            scene.plane.kubectl(&apply).await.expect("kubectl apply");
        }
        secrets(scene)
            .delete(SECRET, &DeleteParams::default())
            .await
            .map(|_| ())
            .or_else(absent)
            .expect("no Secret of an earlier one");
        let token = token(&scene.client, NAMESPACE, ACCOUNT).await;
        let kubeconfig = scene
            .plane
            .write_kubeconfig("keda", &json!({"token": token}));
        let certificates = scene.plane.workspace.path("keda-certificates");
        let _ = fs::remove_dir_all(&certificates);
        fs::create_dir(&certificates).expect("a folder");
        let [grpc, port] = free_ports();
        Self {
            scene,
            programs,
            kubeconfig,
            certificates,
            grpc,
            port,
        }
    }

    /// The authority of its serving certificate, once there is one: a file.
    pub(crate) fn ca(&self) -> String {
        let path = self.certificates.join(MOUNTED[0]);
        path.into_os_string().into_string().expect("a UTF-8 path")
    }

    /// Starts its operator with these further flags. The first one makes the certificates, and ends for the pod to be started anew.
    pub(crate) async fn operator(&self, flags: &[&str]) -> Process {
        if !Path::new(&self.ca()).exists() {
            let first = self.spawn_operator(flags);
            self.mount().await;
            eventually("the end of the first operator", PATIENCE, async || {
                let status = first.ended().ok_or("still runs")?;
                status.success().then_some(()).ok_or("failed")
            })
            .await;
        }
        self.spawn_operator(flags)
    }

    fn spawn_operator(&self, flags: &[&str]) -> Process {
        let mut arguments = vec![
            format!("--kubeconfig={}", self.kubeconfig),
            format!("--metrics-service-bind-address=127.0.0.1:{}", self.grpc),
            format!("--cert-dir={}", self.certificates.display()),
            "--enable-cert-rotation=true".to_owned(),
            // There is no admission webhook in the test.
            "--enable-webhook-patching=false".to_owned(),
            "--enable-prometheus-metrics=false".to_owned(),
            "--health-probe-bind-address=0".to_owned(),
        ];
        arguments.extend(flags.iter().map(ToString::to_string));
        self.spawn("keda", arguments)
    }

    /// Starts its metrics server, and waits until it answers.
    pub(crate) async fn metrics_server(&self) -> Process {
        let file = |name: &str| self.certificates.join(name).display().to_string();
        let [metrics] = free_ports();
        let kubeconfig = &self.kubeconfig;
        let arguments = vec![
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.port),
            format!("--port={metrics}"),
            format!("--kubeconfig={kubeconfig}"),
            format!("--lister-kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            format!("--metrics-service-address=127.0.0.1:{}", self.grpc),
            format!("--metrics-service-grpc-authority={ACCOUNT}.{NAMESPACE}.svc"),
            // As in its manifest.
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--tls-cert-file={}", file("tls.crt")),
            format!("--tls-private-key-file={}", file("tls.key")),
            format!("--cert-dir={}", self.certificates.display()),
        ];
        let server = self.spawn("keda-adapter", arguments);
        let ca = fs::read(self.ca()).expect("the operator made it");
        let ca = reqwest::Certificate::from_pem(&ca).expect("a certificate");
        let client = reqwest::Client::builder()
            .tls_certs_only([ca])
            .resolve(HOST, ([127, 0, 0, 1], self.port).into())
            .no_proxy()
            .build()
            .expect("a client");
        let url = format!("https://{HOST}:{}/readyz", self.port);
        eventually("KEDA's metrics server", PATIENCE, async || {
            server.assert_running();
            let answer = client.get(&url).send().await;
            answer.and_then(reqwest::Response::error_for_status)
        })
        .await;
        server
    }

    /// Both programs are told by their environment which namespaces they watch (all), and which is their own.
    fn spawn(&self, program: &'static str, arguments: Vec<String>) -> Process {
        let mut all = vec![
            "WATCH_NAMESPACE=".to_owned(),
            format!("POD_NAMESPACE={NAMESPACE}"),
            format!("KEDA_CLUSTER_OBJECT_NAMESPACE={NAMESPACE}"),
            self.programs.join(program).display().to_string(),
        ];
        all.extend(arguments);
        let env = Path::new("/usr/bin/env");
        self.scene.plane.workspace.spawn(program, env, &all)
    }

    /// Mounts the Secret as a kubelet does, once it is filled.
    async fn mount(&self) {
        let data = eventually("KEDA's certificates", PATIENCE, async || {
            let secret = secrets(self.scene).get(SECRET).await;
            let data = secret.map_err(|error| error.to_string())?.data;
            let data = data.unwrap_or_default();
            let all = MOUNTED.iter().all(|name| data.contains_key(*name));
            all.then_some(data).ok_or_else(|| "not filled".to_owned())
        })
        .await;
        for name in MOUNTED {
            fs::write(self.certificates.join(name), &data[name].0).expect("a file");
        }
    }
}

fn secrets(scene: &Scene) -> Api<Secret> {
    Api::namespaced(scene.client.clone(), NAMESPACE)
}

fn absent(error: kube::Error) -> Result<(), kube::Error> {
    match error {
        kube::Error::Api(status) if status.code == 404 => Ok(()),
        error => Err(error),
    }
}
