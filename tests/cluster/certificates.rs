//! The adapter's own authority: made by itself, kept where only it can read, known to the API server, checked.

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::adapter::{
    API_SERVICES, Adapter, NAME, NAMESPACE, SECRET, api_services, ca_bundle, get,
};
use crate::pki::Authority;
use crate::scene::Scene;

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn the_ca_bundle_is_ours_and_verified_and_the_key_is_nobody_elses() {
    let scene = Scene::new("certificates").await;
    let adapter = Adapter::start(&scene).await;
    for name in API_SERVICES {
        let service = api_services(&scene.client)
            .get(name)
            .await
            .expect("an APIService");
        assert_eq!(ca_bundle(&service).as_deref(), Some(&*adapter.ca), "{name}");
        let skip = service.spec.and_then(|spec| spec.insecure_skip_tls_verify);
        assert_ne!(skip, Some(true), "{name}");
    }
    let secret = secret(&scene).await;
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
    let data = secret.data.expect("data");
    assert_eq!(
        String::from_utf8_lossy(&data["ca.crt"].0),
        adapter.ca,
        "the API server trusts this authority and no other"
    );
    for name in ["ca.crt", "tls.crt"] {
        let public = String::from_utf8_lossy(&data[name].0);
        assert!(!public.contains("PRIVATE KEY"), "{name}");
    }

    // The certificate is good for the Service's name by that authority, and by no other.
    let url = adapter.url("/readyz");
    let answer = adapter.direct(&adapter.ca, None).get(&url).send().await;
    assert!(answer.expect("a verified connection").status().is_success());
    let other = Authority::new("other").pem();
    let answer = adapter.direct(&other, None).get(&url).send().await;
    assert!(answer.expect_err("not verified").is_connect());

    let adapter_user = format!("system:serviceaccount:{NAMESPACE}:{NAME}");
    for (user, secret, may) in [
        (&*adapter_user, SECRET, true),
        (&*adapter_user, "another", false),
        (
            "system:serviceaccount:gpu-metrics-adapter:default",
            SECRET,
            false,
        ),
        (
            "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
            SECRET,
            false,
        ),
        ("system:kube-scheduler", SECRET, false),
        ("alice", SECRET, false),
    ] {
        assert_eq!(
            may_read(&scene, user, secret).await,
            may,
            "{user} and {secret}"
        );
    }
}

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn a_restart_keeps_the_authority_and_the_cluster_goes_on_trusting_it() {
    let scene = Scene::new("restart").await;
    let mut adapter = Adapter::start(&scene).await;
    let before = (adapter.ca.clone(), secret(&scene).await.data);
    adapter.restart(&scene).await;
    let after = (adapter.ca.clone(), secret(&scene).await.data);
    assert!(
        before == after,
        "the authority, the certificate or a key changed"
    );
    get(&scene.client, "/apis/custom.metrics.k8s.io/v1beta2")
        .await
        .expect("an answer through the aggregator");
}

async fn secret(scene: &Scene) -> Secret {
    let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), NAMESPACE);
    secrets.get(SECRET).await.expect("the adapter's Secret")
}

/// The API server's verdict on reading this Secret.
async fn may_read(scene: &Scene, user: &str, secret: &str) -> bool {
    let review: SubjectAccessReview = serde_json::from_value(json!({
        "metadata": {},
        "spec": {
            "user": user,
            "groups": ["system:authenticated", "system:serviceaccounts"],
            "resourceAttributes":
                {"namespace": NAMESPACE, "verb": "get", "resource": "secrets", "name": secret},
        },
    }))
    .expect("a review");
    let reviews: Api<SubjectAccessReview> = Api::all(scene.client.clone());
    let verdict = reviews
        .create(&PostParams::default(), &review)
        .await
        .expect("a verdict");
    verdict.status.expect("a status").allowed
}
