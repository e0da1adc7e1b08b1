//! A real Kubernetes control plane on loopback: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, and kwok as
//! the kubelet of two GPU nodes. Started once per test binary.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::pki::{Authority, Identity, token_signer};
use crate::process::{Process, Workspace};
use crate::programs::built;
use crate::wait::{PATIENCE, eventually};

/// The nodes, each with eight GPUs.
pub(crate) const NODES: [&str; 2] = ["gpu-node-1", "gpu-node-2"];

/// The running control plane, and what is needed to prove to it (or to the adapter) who one is.
pub(crate) struct ControlPlane {
    pub(crate) workspace: Workspace,
    pub(crate) cluster_ca: Authority,
    pub(crate) front_proxy_ca: Authority,
    /// The certificate with which kube-apiserver vouches for the users that it forwards.
    pub(crate) front_proxy: Identity,
    programs: PathBuf,
    server: String,
    admin: Identity,
    processes: Vec<Process>,
}

/// The control plane of this test binary; started by whoever asks first.
pub(crate) async fn control_plane() -> &'static ControlPlane {
    static RUNNING: OnceCell<ControlPlane> = OnceCell::const_new();
    static TRIED: AtomicBool = AtomicBool::new(false);
    RUNNING
        .get_or_init(async || {
            // A second attempt would fail as slowly as the first.
            assert!(
                !TRIED.swap(true, Ordering::Relaxed),
                "the control plane did not start: the first test to fail says why"
            );
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            ControlPlane::start().await
        })
        .await
}

impl ControlPlane {
    async fn start() -> Self {
        let programs = built("tests/controlplane/build.sh");
        let workspace = Workspace::create("cluster");
        let [etcd, peer, api, controllers, scheduler] = free_ports();
        let cluster_ca = Authority::new("cluster");
        let front_proxy_ca = Authority::new("front-proxy");
        let front_proxy = front_proxy_ca.issue("front-proxy-client", &[], &[]);
        let admin = cluster_ca.issue("admin", &["system:masters"], &[]);
        let mut this = Self {
            workspace,
            cluster_ca,
            front_proxy_ca,
            front_proxy,
            programs,
            server: format!("https://127.0.0.1:{api}"),
            admin,
            processes: Vec::new(),
        };
        this.write_kubeconfig("admin", &certificate_user(&this.admin));
        let client = this.client();
        this.start_etcd(etcd, peer);
        this.start_api_server(api, etcd);
        this.wait_until_ready(&client).await;
        this.start_controllers(controllers);
        this.start_scheduler(scheduler);
        this.start_kwok();
        for name in NODES {
            let node = node(name);
            Api::all(client.clone())
                .create(&PostParams::default(), &node)
                .await
                .expect("a node");
        }
        this.wait_for_nodes(&client).await;
        this
    }

    fn start_etcd(&mut self, client: u16, peer: u16) {
        let client = format!("http://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let data = self.workspace.path("etcd");
        self.spawn(
            "etcd",
            [
                "--name=test".to_owned(),
                format!("--data-dir={}", data.display()),
                "--unsafe-no-fsync".to_owned(),
                "--log-level=warn".to_owned(),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=test={peer}"),
            ],
        );
    }

    fn start_api_server(&mut self, port: u16, etcd: u16) {
        let serving = self.cluster_ca.issue(
            "kube-apiserver",
            &[],
            &["localhost", "kubernetes", "127.0.0.1"],
        );
        let (signing_key, verifying_key) = token_signer();
        let write = |name: &str, content: &str| self.workspace.write(name, content);
        let arguments = [
            format!("--etcd-servers=http://127.0.0.1:{etcd}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            // A loopback address is refused here; nobody calls this one.
            "--advertise-address=192.0.2.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/16".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            // Lets pods be made before the token controller has made the namespace's ServiceAccount.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--enable-aggregator-routing=false".to_owned(),
            format!(
                "--client-ca-file={}",
                write("cluster-ca.crt", &self.cluster_ca.pem())
            ),
            format!(
                "--tls-cert-file={}",
                write("apiserver.crt", &serving.certificate)
            ),
            format!(
                "--tls-private-key-file={}",
                write("apiserver.key", &serving.key)
            ),
            format!(
                "--service-account-key-file={}",
                write("sa.pub", &verifying_key)
            ),
            format!(
                "--service-account-signing-key-file={}",
                write("sa.key", &signing_key)
            ),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!(
                "--requestheader-client-ca-file={}",
                write("front-proxy-ca.crt", &self.front_proxy_ca.pem())
            ),
            "--requestheader-allowed-names=front-proxy-client".to_owned(),
            "--requestheader-username-headers=X-Remote-User".to_owned(),
            "--requestheader-group-headers=X-Remote-Group".to_owned(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
            format!(
                "--proxy-client-cert-file={}",
                write("front-proxy.crt", &self.front_proxy.certificate)
            ),
            format!(
                "--proxy-client-key-file={}",
                write("front-proxy.key", &self.front_proxy.key)
            ),
        ];
        self.spawn("kube-apiserver", arguments);
    }

    fn start_controllers(&mut self, port: u16) {
        let kubeconfig = self.component_kubeconfig("kube-controller-manager");
        let file = |name: &str| self.workspace.path(name).display().to_string();
        let arguments = [
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            "--leader-elect=false".to_owned(),
            // The HPA then calls as its own service account, as in any real cluster.
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={}", file("sa.key")),
            format!("--root-ca-file={}", file("cluster-ca.crt")),
            // 15 s and 300 s by default: nobody wants to wait for that in a test.
            "--horizontal-pod-autoscaler-sync-period=2s".to_owned(),
            "--horizontal-pod-autoscaler-downscale-stabilization=10s".to_owned(),
        ];
        self.spawn("kube-controller-manager", arguments);
    }

    fn start_scheduler(&mut self, port: u16) {
        let kubeconfig = self.component_kubeconfig("kube-scheduler");
        self.spawn(
            "kube-scheduler",
            [
                format!("--kubeconfig={kubeconfig}"),
                format!("--authentication-kubeconfig={kubeconfig}"),
                format!("--authorization-kubeconfig={kubeconfig}"),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--secure-port={port}"),
                "--leader-elect=false".to_owned(),
            ],
        );
    }

    fn start_kwok(&mut self) {
        let arguments = [
            format!("--kubeconfig={}", self.admin_kubeconfig().display()),
            "--manage-all-nodes=true".to_owned(),
            // A pod with hostNetwork gets this address: so an exporter's pod can be found, and then really scraped.
            "--node-ip=127.0.0.1".to_owned(),
            "--node-lease-duration-seconds=40".to_owned(),
            format!("--config={}", self.programs.join("stages.yaml").display()),
        ];
        let process = self
            .workspace
            .spawn("kwok", &self.programs.join("kwok"), &arguments);
        self.processes.push(process);
    }

    fn spawn<const N: usize>(&mut self, program: &'static str, arguments: [String; N]) {
        let mut all = vec![program.to_owned()];
        all.extend(arguments);
        let process = self
            .workspace
            .spawn(program, &self.programs.join("controlplane"), &all);
        self.processes.push(process);
    }

    async fn wait_until_ready(&self, client: &Client) {
        eventually("ready kube-apiserver", PATIENCE, async || {
            self.assert_running();
            let request = http::Request::get("/readyz")
                .body(Vec::new())
                .expect("a request");
            client.request_text(request).await
        })
        .await;
        // It comes a moment after readiness, and without it an aggregated API server trusts nobody.
        let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
        eventually("trust for aggregated APIs", PATIENCE, async || {
            config_maps.get("extension-apiserver-authentication").await
        })
        .await;
    }

    async fn wait_for_nodes(&self, client: &Client) {
        let nodes: Api<Node> = Api::all(client.clone());
        for name in NODES {
            eventually("ready node", PATIENCE, async || {
                self.assert_running();
                let node = nodes.get(name).await.map_err(|error| error.to_string())?;
                let tainted = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
                let conditions = node.status.and_then(|status| status.conditions);
                let ready = conditions
                    .unwrap_or_default()
                    .iter()
                    .any(|condition| condition.type_ == "Ready" && condition.status == "True");
                if ready && tainted.is_empty() {
                    Ok(())
                } else {
                    Err(format!("{name}: ready {ready}, taints {tainted:?}"))
                }
            })
            .await;
        }
    }

    fn assert_running(&self) {
        for process in &self.processes {
            process.assert_running();
        }
    }

    /// A client with every right. It belongs to the calling test's runtime: do not share it among tests.
    pub(crate) fn client(&self) -> Client {
        let mut config = kube::Config::new(self.server.parse().expect("a URL"));
        let ca = pem_to_der(&self.cluster_ca.pem());
        config.root_cert = Some(vec![ca]);
        config.auth_info.client_certificate_data =
            Some(BASE64_STANDARD.encode(&self.admin.certificate));
        config.auth_info.client_key_data = Some(BASE64_STANDARD.encode(&self.admin.key).into());
        Client::try_from(config).expect("a client")
    }

    /// Runs kubectl as the administrator; the error is what it printed to stderr.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(self.programs.join("controlplane"));
        command
            .arg("kubectl")
            .arg("--kubeconfig")
            .arg(self.admin_kubeconfig())
            .args(arguments)
            .env("HOME", self.workspace.path("home"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output())
            .await
            .map_err(|_| format!("kubectl {arguments:?}: no end within {PATIENCE:?}"))?
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Writes a kubeconfig for the user with these credentials (the `user:` of the format) and gives its path.
    pub(crate) fn write_kubeconfig(&self, name: &str, user: &Value) -> String {
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": self.server,
                "certificate-authority-data": BASE64_STANDARD.encode(self.cluster_ca.pem()),
            }}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        });
        let file = format!("{name}.kubeconfig");
        self.workspace.write(&file, &text.to_string())
    }

    fn component_kubeconfig(&self, component: &str) -> String {
        let identity = self
            .cluster_ca
            .issue(&format!("system:{component}"), &[], &[]);
        self.write_kubeconfig(component, &certificate_user(&identity))
    }

    /// That of a user with every right.
    pub(crate) fn admin_kubeconfig(&self) -> PathBuf {
        self.workspace.path("admin.kubeconfig")
    }

    /// The ends of all logs: what a failing test prints.
    pub(crate) fn logs(&self) -> String {
        let tails: Vec<String> = self.processes.iter().map(|child| child.tail(12)).collect();
        tails.join("\n")
    }
}

fn certificate_user(identity: &Identity) -> Value {
    json!({
        "client-certificate-data": BASE64_STANDARD.encode(&identity.certificate),
        "client-key-data": BASE64_STANDARD.encode(&identity.key),
    })
}

fn pem_to_der(pem: &str) -> Vec<u8> {
    let body: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    BASE64_STANDARD.decode(body).expect("PEM")
}

/// Ports that were free a moment ago, all different.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

fn node(name: &str) -> Node {
    let capacity = json!({"cpu": "96", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": "8"});
    serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "nvidia.com/gpu.present": "true"},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "status": {"allocatable": capacity, "capacity": capacity},
    }))
    .expect("a node")
}
