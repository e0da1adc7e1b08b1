//! What is installed is what was meant: the manifests are what Kubernetes knows, give the rights that are needed and no more,
//! and start the program with flags and a configuration that it takes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Namespace, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const NAME: &str = "gpu-metrics-adapter";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn adapter(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gpu-metrics-adapter"))
        .args(arguments)
        .env("COLUMNS", "200")
        .output()
        .expect("the program runs")
}

/// The folders with a kustomization: what every installation has, and what is applied beside it where it is wanted.
const BASE: &str = "manifests";
/// The folders that a kustomization may name as components.
const COMPONENTS: [&str; 3] = [
    "manifests/cert-manager",
    "manifests/resource-metrics",
    "manifests/schedules",
];
const FOLDERS: [&str; 3] = [BASE, "manifests/external", "manifests/monitoring"];

/// The files that the kustomization of a folder applies, with their objects.
fn manifests(folder: &str) -> Vec<(String, Value)> {
    let kustomization = read(&format!("{folder}/kustomization.yaml"));
    let kustomization: Value = serde_saphyr::from_str(&kustomization).expect("YAML");
    let files = kustomization["resources"].as_array().expect("resources");
    let mut objects = Vec::new();
    for file in files.iter().map(|file| file.as_str().expect("a file")) {
        let file = format!("{folder}/{file}");
        let all: Vec<Value> = serde_saphyr::from_multiple(&read(&file)).expect(&file);
        objects.extend(all.into_iter().map(|object| (file.clone(), object)));
    }
    objects
}

/// All objects of a type, which is known by its kind.
fn all<T: DeserializeOwned + k8s_openapi::Resource>() -> Vec<T> {
    manifests(BASE)
        .into_iter()
        .filter(|(_, object)| object["kind"] == T::KIND)
        .map(|(file, object)| {
            serde_json::from_value(object).unwrap_or_else(|e| panic!("{file}: {e}"))
        })
        .collect()
}

fn one<T: DeserializeOwned + k8s_openapi::Resource>() -> T {
    let mut all = all::<T>();
    assert_eq!(all.len(), 1, "{}", T::KIND);
    all.remove(0)
}

/// The object as Kubernetes would store it: what it does not know is gone.
fn understood(object: &Value) -> Value {
    fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
        let typed: T = serde_json::from_value(object.clone()).expect("the form of its kind");
        serde_json::to_value(typed).expect("JSON")
    }
    match object["kind"].as_str().expect("a kind") {
        "Namespace" => through::<Namespace>(object),
        "ServiceAccount" => through::<ServiceAccount>(object),
        "Service" => through::<Service>(object),
        "Deployment" => through::<Deployment>(object),
        "PodDisruptionBudget" => through::<PodDisruptionBudget>(object),
        "ClusterRole" => through::<ClusterRole>(object),
        "ClusterRoleBinding" => through::<ClusterRoleBinding>(object),
        "Role" => through::<Role>(object),
        "RoleBinding" => through::<RoleBinding>(object),
        "APIService" => through::<APIService>(object),
        // Not Kubernetes' own; tests/query_api/monitoring.rs looks at what is in them.
        "PrometheusRule" | "ServiceMonitor" => object.clone(),
        kind => panic!("{kind} is not meant to be installed"),
    }
}

fn container() -> Container {
    let deployment: Deployment = one();
    let pod = deployment.spec.and_then(|spec| spec.template.spec);
    let mut containers = pod.expect("a pod").containers;
    assert_eq!(containers.len(), 1);
    containers.remove(0)
}

/// The tracked files.
fn tracked() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root())
        .output()
        .expect("git is there");
    assert!(listed.status.success(), "this is no checkout of git");
    let text = String::from_utf8(listed.stdout).expect("UTF-8 paths");
    let files: Vec<PathBuf> = text
        .split_terminator('\0')
        .map(PathBuf::from)
        .filter(|path| root().join(path).is_file())
        .collect();
    assert!(files.iter().any(|path| path.ends_with("Cargo.toml")));
    files
}

#[test]
fn kubernetes_knows_every_field_of_every_manifest() {
    let objects: Vec<(String, Value)> = FOLDERS.into_iter().flat_map(manifests).collect();
    assert!(objects.len() > 10, "{}", objects.len());
    for (file, object) in objects {
        assert_eq!(understood(&object), object, "{file}");
    }
}

#[test]
fn every_file_of_a_folder_is_applied() {
    for folder in FOLDERS.into_iter().chain(COMPONENTS) {
        let kustomization = read(&format!("{folder}/kustomization.yaml"));
        for entry in fs::read_dir(root().join(folder)).expect("a folder") {
            let name = entry.expect("readable").file_name();
            let name = name.to_str().expect("UTF-8");
            let path = format!("{folder}/{name}");
            assert!(
                name == "kustomization.yaml"
                    || kustomization.contains(name)
                    || FOLDERS.contains(&path.as_str())
                    || COMPONENTS.contains(&path.as_str()),
                "{path} is applied by no kustomization"
            );
        }
    }
}

/// Rules as `group resource[/name]: verb`, one for each verb.
fn rights(rules: impl IntoIterator<Item = PolicyRule>) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    for rule in rules {
        assert_eq!(rule.non_resource_urls, None);
        let names = rule.resource_names.unwrap_or_else(|| vec![String::new()]);
        for group in rule.api_groups.expect("groups") {
            for resource in rule.resources.as_ref().expect("resources") {
                for name in &names {
                    for verb in &rule.verbs {
                        rights.insert(format!("{group} {resource}/{name}: {verb}"));
                    }
                }
            }
        }
    }
    rights
}

fn written(rights: &[(&str, &str)]) -> BTreeSet<String> {
    let verbs = |(what, verbs): &(&str, &str)| -> Vec<String> {
        verbs
            .split(' ')
            .map(|verb| format!("{what}: {verb}"))
            .collect()
    };
    rights.iter().flat_map(verbs).collect()
}

#[test]
fn the_adapter_may_do_what_it_needs_and_no_more() {
    let cluster: ClusterRole = one();
    let expected = written(&[
        (" pods/", "get list watch"),
        (" namespaces/", "get list watch"),
        ("apps deployments/", "list watch"),
        ("apps replicasets/", "list watch"),
        (" nodes/", "list watch"),
        (" nodes/metrics/", "get"),
        (
            "apiregistration.k8s.io apiservices/v1beta1.custom.metrics.k8s.io",
            "get list watch patch",
        ),
        (
            "apiregistration.k8s.io apiservices/v1beta2.custom.metrics.k8s.io",
            "get list watch patch",
        ),
        (
            "apiregistration.k8s.io apiservices/v1beta1.external.metrics.k8s.io",
            "get list watch patch",
        ),
    ]);
    assert_eq!(rights(cluster.rules.expect("rules")), expected);
    assert_eq!(cluster.aggregation_rule, None);

    let own: Role = one();
    assert_eq!(own.metadata.namespace.as_deref(), Some(NAME));
    let expected = written(&[
        (" secrets/", "create"),
        (&format!(" secrets/{NAME}-tls"), "get update"),
    ]);
    assert_eq!(rights(own.rules.expect("rules")), expected);
}

#[test]
fn roles_are_bound_to_the_service_account_and_to_nobody_else() {
    let account: ServiceAccount = one();
    assert_eq!(account.metadata.name.as_deref(), Some(NAME));
    let subject = Subject {
        kind: "ServiceAccount".into(),
        name: NAME.into(),
        namespace: account.metadata.namespace,
        ..Subject::default()
    };
    let mut bound = BTreeSet::new();
    for binding in all::<ClusterRoleBinding>() {
        assert_eq!(binding.subjects, Some(vec![subject.clone()]));
        bound.insert(format!(
            "{} {}",
            binding.role_ref.kind, binding.role_ref.name
        ));
    }
    for binding in all::<RoleBinding>() {
        assert_eq!(binding.subjects, Some(vec![subject.clone()]));
        let namespace = binding.metadata.namespace.expect("a namespace");
        bound.insert(format!(
            "{} {namespace}/{}",
            binding.role_ref.kind, binding.role_ref.name
        ));
    }
    let expected = [
        "ClusterRole gpu-metrics-adapter",
        "ClusterRole system:auth-delegator",
        "Role gpu-metrics-adapter/gpu-metrics-adapter",
        "Role kube-system/extension-apiserver-authentication-reader",
    ];
    assert_eq!(bound, expected.map(str::to_owned).into());
}

#[test]
fn the_deployment_runs_the_program_with_flags_that_it_has() {
    let arguments = container().args.expect("arguments");
    assert_eq!(arguments[0], "serve");
    let help = adapter(&["serve", "--help"]);
    let help = String::from_utf8(help.stdout).expect("text");
    for argument in &arguments[1..] {
        let (flag, _) = argument.split_once('=').expect("--flag=value");
        assert!(
            help.split_whitespace().any(|word| word == flag),
            "{flag} is not in:\n{help}"
        );
    }
    // An argument of the wrong form ends with 64 before anything is done; a cluster that is not there ends with 1.
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let config = root().join("manifests/config.yaml");
    let config = format!("--config={}", config.display());
    let place = arguments
        .iter()
        .position(|argument| argument.starts_with("--config="));
    arguments[place.expect("--config")] = &config;
    arguments.extend(["--service=a/b", "--kubeconfig=/nonexistent"]);
    let output = adapter(&arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("/nonexistent"), "{errors}");
}

#[test]
fn the_configuration_is_mounted_where_the_program_looks() {
    let container = container();
    let config = container
        .args
        .iter()
        .flatten()
        .find_map(|argument| argument.strip_prefix("--config="))
        .map(Path::new)
        .expect("--config");
    let mount = &container.volume_mounts.as_ref().expect("mounts")[0];
    assert_eq!(config.parent(), Some(Path::new(&mount.mount_path)));
    let deployment: Deployment = one();
    let pod = deployment
        .spec
        .and_then(|spec| spec.template.spec)
        .expect("a pod");
    let volumes = pod.volumes.expect("volumes");
    let volume = volumes.iter().find(|volume| volume.name == mount.name);
    let map = volume
        .and_then(|volume| volume.config_map.as_ref())
        .expect("a ConfigMap");
    let kustomization: Value =
        serde_saphyr::from_str(&read("manifests/kustomization.yaml")).expect("YAML");
    let generated = &kustomization["configMapGenerator"][0];
    assert_eq!(generated["name"], map.name);
    assert_eq!(generated["namespace"], NAME);
    assert_eq!(
        generated["files"][0],
        config
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a file")
    );
}

#[test]
fn the_default_configuration_passes_check() {
    let path = root().join("manifests/config.yaml");
    let output = adapter(&["check", path.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_examples_in_the_default_configuration_pass_check_too() {
    let text = read("manifests/config.yaml");
    let comment = regex::Regex::new(r"^( *)# ( *(?:- )?[A-Za-z_]+:(?: .*)?|  .*)$").expect("valid");
    let uncommented: Vec<String> = text
        .lines()
        .map(|line| comment.replace(line, "$1$2").into_owned())
        .collect();
    let uncommented = uncommented.join("\n");
    assert!(
        uncommented.contains("\n  scrape_configs:\n") && uncommented.contains("\nrules:\n"),
        "{uncommented}"
    );
    let file = std::env::temp_dir().join(format!("{NAME}-{}-config.yaml", std::process::id()));
    fs::write(&file, &uncommented).expect("a temporary file");
    let output = adapter(&["check", file.to_str().expect("UTF-8")]);
    fs::remove_file(&file).expect("removed");
    assert!(output.status.success(), "{output:?}\n{uncommented}");
}

#[test]
fn the_service_leads_to_the_port_that_the_program_listens_on() {
    let container = container();
    let port = &container.ports.as_ref().expect("ports")[0];
    let flag = format!("--secure-port={}", port.container_port);
    assert!(
        container
            .args
            .iter()
            .flatten()
            .any(|argument| *argument == flag)
    );

    let service: Service = one();
    assert_eq!(service.metadata.name.as_deref(), Some(NAME));
    let spec = service.spec.expect("a spec");
    let named = IntOrString::String(port.name.clone().expect("a name"));
    assert_eq!(
        spec.ports.as_ref().expect("ports")[0].target_port,
        Some(named.clone())
    );
    let deployment: Deployment = one();
    let template = deployment.spec.expect("a spec").template;
    assert_eq!(
        spec.selector,
        template.metadata.and_then(|metadata| metadata.labels)
    );

    for probe in [
        &container.startup_probe,
        &container.liveness_probe,
        &container.readiness_probe,
    ] {
        let get = probe
            .as_ref()
            .and_then(|probe| probe.http_get.as_ref())
            .expect("a GET");
        assert_eq!(
            (get.port.clone(), get.scheme.as_deref()),
            (named.clone(), Some("HTTPS"))
        );
    }
}

#[test]
fn the_pod_has_no_power_over_its_node() {
    let deployment: Deployment = one();
    let pod = deployment
        .spec
        .and_then(|spec| spec.template.spec)
        .expect("a pod");
    let of_pod = pod.security_context.expect("a security context");
    assert_eq!(of_pod.run_as_non_root, Some(true));
    assert_eq!(
        of_pod.seccomp_profile.expect("a profile").type_,
        "RuntimeDefault"
    );
    assert!(pod.host_network.is_none() && pod.host_pid.is_none());
    let of_container = container().security_context.expect("a security context");
    assert_eq!(of_container.read_only_root_filesystem, Some(true));
    assert_eq!(of_container.allow_privilege_escalation, Some(false));
    let capabilities = of_container.capabilities.expect("capabilities");
    assert_eq!(
        (capabilities.drop, capabilities.add),
        (Some(vec!["ALL".to_owned()]), None)
    );
}

#[test]
fn a_rollout_or_a_drained_node_leaves_a_replica_that_answers() {
    let deployment: Deployment = one();
    let spec = deployment.spec.expect("a spec");
    assert!(spec.replicas >= Some(2));
    let rolling = spec.strategy.and_then(|strategy| strategy.rolling_update);
    assert_eq!(
        rolling.and_then(|rolling| rolling.max_unavailable),
        Some(IntOrString::Int(0))
    );
    let budget: PodDisruptionBudget = one();
    let budget = budget.spec.expect("a spec");
    assert_eq!(budget.min_available, Some(IntOrString::Int(1)));
    assert_eq!(budget.selector, Some(spec.selector));
}

#[test]
fn apis_are_registered_and_their_certificate_is_left_to_the_adapter() {
    let mut versions = Vec::new();
    let objects = FOLDERS.into_iter().flat_map(manifests);
    for (_, object) in objects.filter(|(_, object)| object["kind"] == "APIService") {
        let service: APIService = serde_json::from_value(object).expect("an APIService");
        let spec = service.spec.expect("a spec");
        let version = spec.version.expect("a version");
        let group = spec.group.expect("a group");
        let name = format!("{version}.{group}");
        assert_eq!(service.metadata.name, Some(name.clone()));
        assert_eq!(
            (spec.ca_bundle, spec.insecure_skip_tls_verify),
            (None, None)
        );
        let reference = spec.service.expect("a Service");
        assert_eq!(reference.name.as_deref(), Some(NAME));
        assert_eq!(reference.namespace.as_deref(), Some(NAME));
        versions.push((name, spec.group_priority_minimum, spec.version_priority));
    }
    versions.sort();
    assert_eq!(
        versions,
        [
            ("v1beta1.custom.metrics.k8s.io".into(), 100, 100),
            ("v1beta1.external.metrics.k8s.io".into(), 100, 100),
            ("v1beta2.custom.metrics.k8s.io".into(), 100, 200),
        ]
    );
}

/// The objects of the component that is applied where it is asked for, as the base's are judged above.
#[test]
fn metrics_k8s_io_is_registered_by_a_component_alone() {
    let kustomization: Value =
        serde_saphyr::from_str(&read("manifests/kustomization.yaml")).expect("YAML");
    assert_eq!(kustomization["components"], Value::Null);
    let text = read("manifests/resource-metrics/apiservices.yaml");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
    let mut versions = Vec::new();
    for object in objects {
        assert_eq!(understood(&object), object);
        let service: APIService = serde_json::from_value(object).expect("an APIService");
        let spec = service.spec.expect("a spec");
        assert_eq!(spec.group.as_deref(), Some("metrics.k8s.io"));
        let reference = spec.service.expect("a Service");
        assert_eq!(reference.name.as_deref(), Some(NAME));
        versions.push((service.metadata.name, spec.version_priority));
    }
    let [(first, preferred), (second, other)] = versions.as_slice() else {
        panic!("{versions:?}")
    };
    let names = [first.as_deref(), second.as_deref()];
    let expected = ["v1beta1.metrics.k8s.io", "v1.metrics.k8s.io"];
    assert_eq!(names, expected.map(Some));
    assert!(preferred > other, "the HPA's version is the preferred one");

    let component: Value =
        serde_saphyr::from_str(&read("manifests/resource-metrics/kustomization.yaml"))
            .expect("YAML");
    let patches = component["patches"].as_array().expect("patches");
    let patched = |kind: &str| -> Value {
        let patch = patches.iter().find(|it| it["target"]["kind"] == kind);
        let text = patch.and_then(|it| it["patch"].as_str()).expect("a patch");
        let operations: Value = serde_saphyr::from_str(text).expect("YAML");
        operations[0]["value"].clone()
    };
    let help = adapter(&["serve", "--help"]);
    let help = String::from_utf8(help.stdout).expect("text");
    let flag = patched("Deployment");
    assert!(help.contains(flag.as_str().expect("a flag")), "{flag}");
    let rule: PolicyRule = serde_json::from_value(patched("ClusterRole")).expect("a rule");
    let expected = expected.map(|name| format!("apiregistration.k8s.io apiservices/{name}"));
    let expected = expected
        .each_ref()
        .map(|it| (&**it, "get list watch patch"));
    assert_eq!(rights([rule]), written(&expected));
}

/// What schedules need beside the base's rights, and the kind that they are of.
#[test]
fn schedules_have_a_component_with_rights_of_their_own() {
    let folder = "manifests/schedules";
    let mut kinds = Vec::new();
    let (mut cluster, mut own) = (BTreeSet::new(), BTreeSet::new());
    for (file, object) in manifests(folder) {
        let kind = object["kind"].as_str().expect("a kind").to_owned();
        if kind != "CustomResourceDefinition" {
            assert_eq!(understood(&object), object, "{file}");
        }
        match &*kind {
            "ClusterRole" => {
                let role: ClusterRole = serde_json::from_value(object).expect("a role");
                cluster = rights(role.rules.expect("rules"));
            }
            "Role" => {
                let role: Role = serde_json::from_value(object).expect("a role");
                assert_eq!(role.metadata.namespace.as_deref(), Some(NAME));
                own = rights(role.rules.expect("rules"));
            }
            _ => {}
        }
        kinds.push(kind);
    }
    let expected = [
        "CustomResourceDefinition",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
    ];
    assert_eq!(kinds, expected);
    let group = "autoscaling.alibabacloud.com cronhorizontalpodautoscalers";
    let expected = written(&[
        (&format!("{group}/"), "get list watch patch"),
        (&format!("{group}/status/"), "get list watch patch"),
        ("* */scale/", "get patch"),
        ("autoscaling horizontalpodautoscalers/", "get list patch"),
        (" events/", "create"),
    ]);
    assert_eq!(cluster, expected);
    let lease = "coordination.k8s.io leases";
    let expected = written(&[
        (&format!("{lease}/"), "create"),
        (
            &format!("{lease}/gpu-metrics-adapter-schedules"),
            "get update",
        ),
    ]);
    assert_eq!(own, expected);
    let component = read(&format!("{folder}/kustomization.yaml"));
    let help = adapter(&["serve", "--help"]);
    let help = String::from_utf8(help.stdout).expect("text");
    assert!(component.contains("value: --schedules}") && help.contains("--schedules"));
}

/// Prose may name the setting, and so may the code that refuses it or takes it out; nothing else.
#[test]
fn verification_is_turned_off_nowhere() {
    const SPELLINGS: [&str; 4] = [
        "insecureskip",
        "insecure-skip",
        "insecure_skip",
        "danger_accept_invalid",
    ];
    const MAY_NAME_IT: [(&str, &str); 13] = [
        ("src/config/fallback.rs", "refuses a fallback that says it"),
        (
            "src/cluster/connect.rs",
            "refuses a kubeconfig that says it",
        ),
        (
            "src/cluster/registration.rs",
            "takes it out of the APIServices",
        ),
        (
            "src/config/scrape/http.rs",
            "reads a job's own choice, as Prometheus has it",
        ),
        (
            "src/cli/kubelet.rs",
            "sets it for metrics-server's flag that says so",
        ),
        (
            "src/cluster/access.rs",
            "reads what the kubeconfig of --prometheus-auth-config chose",
        ),
        ("src/cli/check.rs", "warns of it"),
        ("src/transport.rs", "does what a job chose, and warns"),
        ("tests/scraping/secured.rs", "sees what that does"),
        ("tests/backends/access.rs", "sees what it does there"),
        ("src/config/scrape/tests.rs", "sees that it is read"),
        ("tests/cluster/certificates.rs", "sees that it is not there"),
        ("tests/manifests.rs", "this test"),
    ];
    for path in tracked() {
        let name = path.to_string_lossy();
        if name.ends_with(".md") || MAY_NAME_IT.iter().any(|(file, _)| *file == name) {
            continue;
        }
        let text = fs::read(root().join(&path)).expect("readable");
        let text = String::from_utf8_lossy(&text).to_lowercase();
        for spelling in SPELLINGS {
            assert!(!text.contains(spelling), "{name} says {spelling}");
        }
    }
}

#[test]
fn no_private_key_and_no_secret_is_kept_in_the_repository() {
    let key = regex::Regex::new(r"(?m)^\s*-----BEGIN [A-Z ]*PRIVATE KEY-----").expect("valid");
    for path in tracked() {
        let text = fs::read(root().join(&path)).expect("readable");
        let text = String::from_utf8_lossy(&text);
        assert!(
            !key.is_match(&text),
            "{} holds a private key",
            path.display()
        );
    }
    for (file, object) in FOLDERS.into_iter().flat_map(manifests) {
        assert_ne!(object["kind"], "Secret", "{file}");
    }
}
