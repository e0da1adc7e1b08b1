//! Who may ask: with the trust that a real control plane publishes, and its verdicts on users and tokens.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use reqwest::Client;
use serde_json::{Value, json};

use crate::adapter::{Adapter, token};
use crate::pki::Authority;
use crate::scene::Scene;
use crate::wait::{PATIENCE, eventually};

/// What the headers claim: every right there is.
const FORGED: &[(&str, &str)] = &[
    ("X-Remote-User", "root"),
    ("X-Remote-Group", "system:masters"),
];

/// A request to the adapter itself: who sends it, with what, and what comes of it.
struct Caller<'a> {
    adapter: &'a Adapter,
    path: &'a str,
}

impl Caller<'_> {
    /// The status and the message of the answer.
    async fn asks(&self, client: &Client, headers: &[(&str, &str)]) -> (u16, String) {
        let mut request = client.get(self.adapter.url(self.path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("an answer");
        let code = answer.status().as_u16();
        let text = answer.text().await.expect("a body");
        let status: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(status["code"], code, "{text}");
        let message = status["message"].as_str().unwrap_or_default();
        (code, message.to_owned())
    }
}

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn only_the_front_proxy_may_name_a_user_and_the_cluster_decides_what_the_user_may() {
    let scene = Scene::new("authentication").await;
    let adapter = Adapter::start(&scene).await;
    let path = format!(
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{}/pods/%2A/no_such_metric",
        scene.namespace
    );
    let caller = Caller {
        adapter: &adapter,
        path: &path,
    };
    let forbidden = |user: &str| {
        format!(
            "pods.custom.metrics.k8s.io \"*\" is forbidden: User \"{user}\" cannot get resource \"pods/no_such_metric\" \
             in API group \"custom.metrics.k8s.io\" in the namespace \"{}\"",
            scene.namespace
        )
    };
    let refused = |user: &str| (403, forbidden(user));
    let unauthorized = (401, "Unauthorized".to_owned());

    let nobody = adapter.direct(&adapter.ca, None);
    assert_eq!(caller.asks(&nobody, &[]).await, refused("system:anonymous"));
    assert_eq!(
        caller.asks(&nobody, FORGED).await,
        refused("system:anonymous"),
        "headers without a certificate"
    );

    let impostor = Authority::new("front-proxy").issue("front-proxy-client", &[], &[]);
    let impostor = adapter.direct(&adapter.ca, Some(&impostor));
    assert_eq!(
        caller.asks(&impostor, FORGED).await,
        unauthorized,
        "the right name from a wrong authority"
    );

    let misnamed = scene.plane.front_proxy_ca.issue("somebody", &[], &[]);
    let misnamed = adapter.direct(&adapter.ca, Some(&misnamed));
    assert_eq!(
        caller.asks(&misnamed, FORGED).await,
        unauthorized,
        "a wrong name from the right authority"
    );

    let mallory = scene.plane.cluster_ca.issue("mallory", &[], &[]);
    let mallory = adapter.direct(&adapter.ca, Some(&mallory));
    assert_eq!(
        caller.asks(&mallory, FORGED).await,
        refused("mallory"),
        "a user of the cluster is who the certificate says"
    );

    let proxy = adapter.direct(&adapter.ca, Some(&scene.plane.front_proxy));
    assert_eq!(caller.asks(&proxy, FORGED).await.0, 404);
    assert_eq!(
        caller.asks(&proxy, &[]).await,
        unauthorized,
        "no user named"
    );
    assert_eq!(
        caller.asks(&proxy, &[("X-Remote-User", "alice")]).await,
        refused("alice"),
        "the front proxy vouches for the name, not for rights"
    );

    let reader = "reader";
    scene
        .create::<ServiceAccount>(json!({"metadata": {"name": reader}}))
        .await;
    let bearer = format!(
        "Bearer {}",
        token(&scene.client, scene.namespace, reader).await
    );
    let bearer: &[(&str, &str)] = &[("Authorization", &bearer)];
    let name = format!("system:serviceaccount:{}:{reader}", scene.namespace);
    assert_eq!(caller.asks(&nobody, bearer).await, refused(&name));
    grant(&scene, reader).await;
    // A refusal is remembered for ten seconds.
    eventually("the right just granted", PATIENCE, async || {
        match caller.asks(&nobody, bearer).await {
            (404, _) => Ok(()),
            (code, message) => Err(format!("{code} {message}")),
        }
    })
    .await;
    assert_eq!(
        caller
            .asks(&nobody, &[("Authorization", "Bearer nonsense")])
            .await,
        unauthorized
    );
}

#[tokio::test]
#[ignore = "needs the control plane: make test"]
async fn a_new_front_proxy_authority_is_trusted_without_a_restart() {
    let scene = Scene::new("rotation").await;
    let adapter = Adapter::start(&scene).await;
    let caller = Caller {
        adapter: &adapter,
        path: "/apis/custom.metrics.k8s.io/v1beta2/nodes/%2A/no_such_metric",
    };
    let next = Authority::new("front-proxy-2");
    let identity = next.issue("front-proxy-client", &[], &[]);
    let client = adapter.direct(&adapter.ca, Some(&identity));
    assert_eq!(caller.asks(&client, FORGED).await.0, 401, "not yet trusted");

    // kube-apiserver reads the file again and publishes both, as in the first step of a rotation.
    let both = scene.plane.front_proxy_ca.pem() + &next.pem();
    scene.plane.workspace.write("front-proxy-ca.crt", &both);
    eventually(
        "trust in the new authority",
        PATIENCE,
        async || match caller.asks(&client, FORGED).await {
            (404, _) => Ok(()),
            (code, message) => Err(format!("{code} {message}")),
        },
    )
    .await;
    let former = adapter.direct(&adapter.ca, Some(&scene.plane.front_proxy));
    assert_eq!(caller.asks(&former, FORGED).await.0, 404, "still trusted");
}

/// Lets the ServiceAccount read every custom metric of pods in the test's namespace.
async fn grant(scene: &Scene, account: &str) {
    scene
        .create::<Role>(json!({
            "metadata": {"name": account},
            "rules": [{"apiGroups": ["custom.metrics.k8s.io"], "resources": ["*"], "verbs": ["get"]}],
        }))
        .await;
    scene
        .create::<RoleBinding>(json!({
            "metadata": {"name": account},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": scene.namespace}],
        }))
        .await;
}
