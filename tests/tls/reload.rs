//! Trust and certificates change under open connections.

use std::time::Duration;

use gpu_metrics_adapter::auth::Trust;
use gpu_metrics_adapter::model::time::Timestamp;
use gpu_metrics_adapter::server::CertificateFiles;
use gpu_metrics_adapter::server::pki::Pair;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::site::{
    CLIENT_CA, FRONT_PROXY_CA, Folder, HOST, PATIENCE, Site, authority, client, eventually,
    serving_pair, trust,
};

const AS_ALICE: [(&str, &str); 1] = [("X-Remote-User", "alice")];

#[tokio::test]
async fn a_change_of_trust_counts_at_once_on_the_same_connection() {
    for http2 in [false, true] {
        let site = Site::start().await;
        let proxy = site.client(Some(&site.front_proxy()), http2);
        let (code, first) = site.get(&proxy, "/metrics", &AS_ALICE).await;
        assert_eq!(code, 200);

        // Rotated away: another authority of the same name.
        let other = authority("front-proxy-ca");
        site.authenticator
            .set_trust(trust(&[(FRONT_PROXY_CA, other.certificate())]));
        assert_eq!(site.get(&proxy, "/metrics", &AS_ALICE).await.0, 401);

        // Both, as during a rotation.
        let both = format!(
            "{}{}",
            other.certificate(),
            site.front_proxy_ca.certificate()
        );
        site.authenticator
            .set_trust(trust(&[(FRONT_PROXY_CA, &both)]));
        let (code, last) = site.get(&proxy, "/metrics", &AS_ALICE).await;
        assert_eq!((code, &last["user"]), (200, &json!("alice")));
        assert_eq!(
            first["connection"], last["connection"],
            "the connection was dropped"
        );
    }
}

#[tokio::test]
async fn who_trusts_nobody_takes_a_certificate_for_nothing() {
    let site = Site::start().await;
    site.authenticator.set_trust(Trust::default());
    let proxy = site.client(Some(&site.front_proxy()), true);
    let (code, body) = site.get(&proxy, "/metrics", &AS_ALICE).await;
    assert_eq!(code, 403);
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains("system:anonymous")
    );
}

#[tokio::test]
async fn a_client_of_the_cluster_cannot_become_its_front_proxy() {
    let site = Site::start().await;
    // One authority for both, and a client that bears the front proxy's name but was not signed by its authority.
    let impostor = client(&site.cluster_ca, "front-proxy-client", None);
    let client = site.client(Some(&impostor), true);
    let (_, body) = site.get(&client, "/metrics", &AS_ALICE).await;
    assert_eq!(body["user"], "front-proxy-client");

    // Only where the cluster itself makes no difference between the two is it one.
    let same = site.cluster_ca.certificate();
    site.authenticator
        .set_trust(trust(&[(CLIENT_CA, same), (FRONT_PROXY_CA, same)]));
    let (_, body) = site.get(&client, "/metrics", &AS_ALICE).await;
    assert_eq!(body["user"], "alice");
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_old_ones_live_on() {
    for http2 in [false, true] {
        let site = Site::start().await;
        let old = site.client(Some(&site.front_proxy()), http2);
        let (code, first) = site.get(&old, "/metrics", &AS_ALICE).await;
        assert_eq!(code, 200);

        let new_ca = authority("new-serving-ca");
        let pair = serving_pair(&new_ca);
        site.serving
            .replace(pair.certificate.as_bytes(), pair.key.as_bytes())
            .unwrap();
        let new = site.client_trusting(&new_ca, Some(&site.front_proxy()), http2);
        assert_eq!(site.get(&new, "/metrics", &AS_ALICE).await.0, 200);
        let (code, last) = site.get(&old, "/metrics", &AS_ALICE).await;
        assert_eq!((code, &first["connection"]), (200, &last["connection"]));
        // Who trusts only the old authority does not get a new connection.
        let fresh = site
            .client(None, http2)
            .get(site.url("/readyz"))
            .send()
            .await;
        assert!(fresh.unwrap_err().is_connect());
    }
}

#[tokio::test]
async fn files_are_taken_up_only_as_a_pair() {
    let folder = Folder::new("serving");
    let (chain, key) = (folder.0.join("tls.crt"), folder.0.join("tls.key"));
    let ca = authority("serving-ca");
    let (first, second) = (serving_pair(&ca), serving_pair(&ca));
    std::fs::write(&chain, &first.certificate).unwrap();
    std::fs::write(&key, &first.key).unwrap();
    let mut files = CertificateFiles::load(&chain, &key).await.unwrap();
    let shown = files.certificate();
    assert!(!files.reload().await.unwrap(), "nothing changed");

    std::fs::write(&chain, &second.certificate).unwrap();
    for _ in 0..2 {
        let error = files.reload().await.unwrap_err();
        assert_eq!(error.to_string(), "key and certificate do not go together");
    }
    std::fs::write(&key, &second.key).unwrap();
    assert!(files.reload().await.unwrap());
    assert!(!files.reload().await.unwrap());

    std::fs::remove_file(&key).unwrap();
    let error = files.reload().await.unwrap_err().to_string();
    assert!(
        error.starts_with("cannot read ") && error.ends_with("tls.key"),
        "{error}"
    );
    assert!(
        shown.validity().not_after > shown.validity().not_before,
        "still there"
    );
}

#[tokio::test(start_paused = true)]
async fn files_are_read_again_until_told_to_stop() {
    let folder = Folder::new("watched");
    let (chain, key) = (folder.0.join("tls.crt"), folder.0.join("tls.key"));
    let ca = authority("serving-ca");
    let write = |pair: Pair| {
        std::fs::write(&chain, &pair.certificate).unwrap();
        std::fs::write(&key, &pair.key).unwrap();
    };
    write(serving_pair(&ca));
    let files = CertificateFiles::load(&chain, &key).await.unwrap();
    let shown = files.certificate();
    let before = shown.validity();
    let stop = CancellationToken::new();
    let reading = tokio::spawn(files.keep_current(stop.clone()));

    let shorter = Duration::from_secs(60);
    write(ca.serving(&[HOST], shorter, Timestamp::now()).unwrap());
    eventually("the new pair is shown", async || shown.validity() != before).await;
    stop.cancel();
    tokio::time::timeout(PATIENCE, reading)
        .await
        .unwrap()
        .unwrap();
}
