//! What kustomize makes of the components, where that cannot be seen by running it here.

use std::path::Path;

use serde_json::Value;

use crate::scene::Scene;

const SERVING: &str = "gpu-metrics-adapter-serving";

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn cert_managers_certificate_is_mounted_where_it_is_served_from_and_trusted_where_it_is_called()
 {
    let scene = Scene::new("installation").await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/install-cert-manager");
    let folder = folder.to_str().expect("a UTF-8 path");
    let text = scene
        .plane
        .kubectl(&["kustomize", folder])
        .await
        .expect("kubectl kustomize");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
    let all = |kind: &str| -> Vec<&Value> {
        objects
            .iter()
            .filter(|object| object["kind"] == kind)
            .collect()
    };
    let certificates = all("Certificate");
    let serving = certificates
        .iter()
        .find(|it| it["metadata"]["name"] == SERVING);
    let serving = &serving.expect("a certificate")["spec"];
    let secret = serving["secretName"].as_str().expect("a Secret");

    let [deployment] = all("Deployment")[..] else {
        panic!("one Deployment");
    };
    let pod = &deployment["spec"]["template"]["spec"];
    let volumes = pod["volumes"].as_array().expect("volumes");
    let volume = volumes
        .iter()
        .find(|it| it["secret"]["secretName"] == secret);
    let container = &pod["containers"][0];
    let mounts = container["volumeMounts"].as_array().expect("mounts");
    let mount = mounts
        .iter()
        .find(|it| it["name"] == volume.expect("a volume")["name"]);
    let mount = mount.expect("a mount")["mountPath"]
        .as_str()
        .expect("a path");
    let arguments = container["args"].as_array().expect("arguments");
    for (flag, file) in [
        ("--tls-cert-file", "tls.crt"),
        ("--tls-private-key-file", "tls.key"),
    ] {
        let expected = format!("{flag}={mount}/{file}");
        assert!(
            arguments.iter().any(|it| *it == expected.as_str()),
            "{expected}"
        );
    }

    let services = all("APIService");
    assert_eq!(services.len(), 2);
    for service in services {
        let spec = &service["spec"]["service"];
        let [name, namespace] = ["name", "namespace"].map(|key| spec[key].as_str().expect("text"));
        let host = format!("{name}.{namespace}.svc");
        let names = serving["dnsNames"].as_array().expect("names");
        assert!(names.iter().any(|it| *it == host.as_str()), "{host}");
        let injected = &service["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
        assert_eq!(*injected, format!("{namespace}/{SERVING}").as_str());
    }
}
