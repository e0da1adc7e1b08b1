//! Every combination of certificate, headers and token, as a Go aggregated API server decides it.

use std::sync::atomic::Ordering;

use gpu_metrics_adapter::server::Refusal;
use serde_json::{Value, json};

use crate::site::{Site, authority, client};

const FORGED: [(&str, &str); 2] = [
    ("X-Remote-User", "root"),
    ("X-Remote-Group", "system:masters"),
];
const GOOD: (&str, &str) = ("Authorization", "Bearer good");
const BAD: (&str, &str) = ("Authorization", "Bearer bad");

fn status(message: &str, reason: &str, details: Option<Value>, code: u16) -> Value {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    if let Some(details) = details {
        status["details"] = details;
    }
    status
}

#[tokio::test]
async fn every_proof_counts_as_in_a_go_server() {
    let site = Site::start().await;
    let alice = client(&site.cluster_ca, "alice", Some("staff"));
    let proxy = site.front_proxy();
    let wrong_name = client(&site.front_proxy_ca, "someone-else", None);
    let rogue = client(&authority("front-proxy-ca"), "front-proxy-client", None);
    let forged_and = |more| [&FORGED[..], &[more]].concat();

    let anonymous = Err(403);
    let cases = [
        ("nothing", None, vec![], anonymous),
        (
            "headers without a certificate",
            None,
            FORGED.to_vec(),
            anonymous,
        ),
        (
            "another scheme",
            None,
            vec![("Authorization", "Basic Og==")],
            anonymous,
        ),
        ("token", None, vec![GOOD], Ok("token-user")),
        ("bad token", None, vec![BAD], Err(401)),
        (
            "headers and token",
            None,
            forged_and(GOOD),
            Ok("token-user"),
        ),
        (
            "proxy and headers",
            Some(&proxy),
            FORGED.to_vec(),
            Ok("root"),
        ),
        (
            "proxy and bad token",
            Some(&proxy),
            forged_and(BAD),
            Ok("root"),
        ),
        (
            "proxy without a user",
            Some(&proxy),
            vec![FORGED[1]],
            Err(401),
        ),
        (
            "proxy without a user, token",
            Some(&proxy),
            vec![GOOD],
            Ok("token-user"),
        ),
        (
            "wrong name and headers",
            Some(&wrong_name),
            FORGED.to_vec(),
            Err(401),
        ),
        (
            "wrong name and token",
            Some(&wrong_name),
            forged_and(GOOD),
            Ok("token-user"),
        ),
        ("client", Some(&alice), vec![], Ok("alice")),
        (
            "client and forged headers",
            Some(&alice),
            FORGED.to_vec(),
            Ok("alice"),
        ),
        ("client and bad token", Some(&alice), vec![BAD], Ok("alice")),
        ("rogue and headers", Some(&rogue), FORGED.to_vec(), Err(401)),
        (
            "rogue and token",
            Some(&rogue),
            vec![GOOD],
            Ok("token-user"),
        ),
    ];
    for (name, identity, headers, expected) in &cases {
        for (http2, version) in [(false, "HTTP/1.1"), (true, "HTTP/2.0")] {
            let client = site.client(*identity, http2);
            let (code, body) = site.get(&client, "/metrics", headers).await;
            match expected {
                Ok(user) => {
                    assert_eq!((code, &body["user"]), (200, &json!(user)), "{name}");
                    assert_eq!(body["version"], version, "{name}");
                    let headers = body["headers"].to_string();
                    assert!(!headers.contains("x-remote"), "{name}: {headers}");
                    assert!(!headers.contains("authorization"), "{name}: {headers}");
                }
                Err(401) => {
                    let expected = status("Unauthorized", "Unauthorized", None, 401);
                    assert_eq!((code, &body), (401, &expected), "{name}");
                }
                Err(_) => {
                    let message =
                        r#"forbidden: User "system:anonymous" cannot get path "/metrics""#;
                    let expected = status(message, "Forbidden", Some(json!({})), 403);
                    assert_eq!((code, &body), (403, &expected), "{name}");
                }
            }
        }
    }
    let unauthenticated = cases.iter().filter(|case| case.3 == Err(401)).count() as u64;
    assert_eq!(
        site.metrics.refused(Refusal::Unauthenticated),
        2 * unauthenticated
    );
}

#[tokio::test]
async fn a_proxied_user_arrives_whole() {
    let site = Site::start().await;
    let client = site.client(Some(&site.front_proxy()), true);
    let headers = [
        (
            "X-Remote-User",
            "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
        ),
        ("X-Remote-Uid", "only counts if the kube-apiserver says so"),
        ("X-Remote-Group", "system:serviceaccounts"),
        ("X-Remote-Group", "system:serviceaccounts:kube-system"),
        (
            "X-Remote-Extra-Authentication.kubernetes.io%2fcredential-Id",
            "JTI=1",
        ),
        ("X-Forwarded-For", "127.0.0.1"),
    ];
    let (code, body) = site.get(&client, "/metrics", &headers).await;
    assert_eq!(code, 200);
    assert_eq!(
        body["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:kube-system",
            "system:authenticated"
        ])
    );
    assert_eq!(body["uid"], Value::Null);
    assert_eq!(
        body["extra"],
        json!({"authentication.kubernetes.io/credential-id": ["JTI=1"]})
    );
    assert_eq!(
        body["headers"],
        json!(["accept", "accept-encoding", "x-forwarded-for"])
    );
}

#[tokio::test]
async fn a_client_certificate_names_user_group_and_itself() {
    let site = Site::start().await;
    let alice = client(&site.cluster_ca, "alice", Some("staff"));
    let (_, body) = site
        .get(&site.client(Some(&alice), true), "/metrics", &[])
        .await;
    assert_eq!(body["groups"], json!(["staff", "system:authenticated"]));
    let fingerprint = body["extra"]["authentication.kubernetes.io/credential-id"][0].as_str();
    let digits = fingerprint.unwrap().strip_prefix("X509SHA256=").unwrap();
    assert!(digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
}

#[tokio::test]
async fn a_refusal_is_written_byte_for_byte_as_go_writes_it() {
    let site = Site::start().await;
    let client = site.client(None, true);
    let text = async |path: &str, headers: &[(&str, &str)]| {
        let mut request = client.get(site.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/json");
        assert!(!response.headers().contains_key("retry-after"));
        response.text().await.unwrap()
    };
    assert_eq!(
        text("/metrics", &[BAD]).await,
        "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"Unauthorized\",\
         \"reason\":\"Unauthorized\",\"code\":401}\n"
    );
    assert_eq!(
        text(
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/demo/pods/%2A/sm_util",
            &[]
        )
        .await,
        "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\
         \"message\":\"pods.custom.metrics.k8s.io \\\"*\\\" is forbidden: User \\\"system:anonymous\\\" cannot get resource \
         \\\"pods/sm_util\\\" in API group \\\"custom.metrics.k8s.io\\\" in the namespace \\\"demo\\\"\",\
         \"reason\":\"Forbidden\",\"details\":{\"name\":\"*\",\"group\":\"custom.metrics.k8s.io\",\"kind\":\"pods\"},\"code\":403}\n"
    );
}

#[tokio::test]
async fn a_review_that_fails_never_allows() {
    let site = Site::start().await;
    let proxy = site.client(Some(&site.front_proxy()), true);
    let (code, body) = site
        .get(&proxy, "/metrics", &[("X-Remote-User", "mallory")])
        .await;
    assert_eq!((code, &body["reason"]), (500, &json!("InternalError")));
    let (code, _) = site
        .get(
            &site.client(None, true),
            "/metrics",
            &[("Authorization", "Bearer unlucky")],
        )
        .await;
    assert_eq!(code, 401);
    // Masters and probes need no review.
    let masters = [
        ("X-Remote-User", "mallory"),
        ("X-Remote-Group", "system:masters"),
    ];
    assert_eq!(site.get(&proxy, "/metrics", &masters).await.0, 200);
    assert_eq!(
        site.get(&site.client(None, true), "/readyz", &[]).await.0,
        200
    );
}

#[tokio::test]
async fn a_repeated_request_is_not_reviewed_again() {
    let site = Site::start().await;
    let client = site.client(None, true);
    for _ in 0..5 {
        assert_eq!(site.get(&client, "/metrics", &[GOOD]).await.0, 200);
        assert_eq!(site.get(&client, "/metrics", &[BAD]).await.0, 401);
    }
    // The wall clock may pass ten seconds on a slow machine, but hardly at every request.
    let reviews = site.kube_apiserver.token_reviews.load(Ordering::SeqCst);
    assert!((2..6).contains(&reviews), "{reviews}");
    let reviews = site.kube_apiserver.access_reviews.load(Ordering::SeqCst);
    assert!((1..4).contains(&reviews), "{reviews}");
}
