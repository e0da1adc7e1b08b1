//! How backends are spoken to.

use std::fs;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use crate::server::{Mode, Server};
use crate::world::{RULES, ask, core, three};

/// The value of a header of the last query.
fn sent(server: &Server, header: &str) -> String {
    let (headers, _) = server.last("/api/v1/query");
    headers[header].to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_sent_as_their_files_are_now() {
    let server = Server::start(Mode::Value(7.0));
    let file =
        std::env::temp_dir().join(format!("gpu-metrics-adapter-{}-token", std::process::id()));
    fs::write(&file, "first\n").unwrap();
    let core = core(&format!(
        "freshWithin: 0s\nprometheus: [{{url: '{}/prom', headers: {{X-Scope-OrgID: t1}}, authorization: {{credentials_file: '{}'}}}}]\n{RULES}",
        server.url(),
        file.display()
    ));
    assert_eq!(ask(&core).await, Ok(three("7")));
    assert_eq!(sent(&server, "authorization"), "Bearer first");
    assert_eq!(sent(&server, "x-scope-orgid"), "t1");
    fs::write(&file, "second").unwrap();
    assert_eq!(ask(&core).await, Ok(three("7")));
    assert_eq!(sent(&server, "authorization"), "Bearer second");
    fs::remove_file(&file).unwrap();
    let error = ask(&core).await.expect_err("no credentials");
    assert!(error.contains("was not asked: cannot read"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_the_url_is_used_and_not_told() {
    let server = Server::start(Mode::Value(7.0));
    let core = core(&format!(
        "freshWithin: 0s\nprometheus: [{{url: 'http://user:hidden@{}/', http_method: GET}}]\n{RULES}",
        server.address
    ));
    assert_eq!(ask(&core).await, Ok(three("7")));
    assert_eq!(sent(&server, "authorization"), "Basic dXNlcjpoaWRkZW4=");
    server.set(Mode::Text(503, "text/html", ""));
    let error = ask(&core).await.expect_err("no value");
    assert!(
        error.contains(&server.url()) && !error.contains("hidden"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_had_once_and_again_where_it_does_not_count() {
    let server = Server::start(Mode::Value(7.0));
    let url = server.url();
    let core = core(&format!(
        "freshWithin: 0s\nprometheus: [{{url: '{url}', oauth2: {{client_id: me, client_secret: s, scopes: [a, b], token_url: '{url}/token'}}}}]\n{RULES}"
    ));
    assert_eq!(ask(&core).await, Ok(three("7")));
    assert_eq!(sent(&server, "authorization"), "Bearer fresh-1");
    let (headers, form) = server.last("/token");
    assert_eq!(headers["authorization"], "Basic bWU6cw==");
    assert_eq!(form, "grant_type=client_credentials&scope=a+b");
    assert_eq!(ask(&core).await, Ok(three("7")));
    assert_eq!(
        sent(&server, "authorization"),
        "Bearer fresh-1",
        "it is good for an hour"
    );
    // Revoked before its time: who asks meanwhile does not notice.
    server.set(Mode::Only("Bearer fresh-2"));
    assert_eq!(ask(&core).await, Ok(three("7")));
    assert_eq!(sent(&server, "authorization"), "Bearer fresh-2");
    // Nor may another token help: it is the answer then.
    server.set(Mode::Only("Bearer else"));
    let error = ask(&core).await.expect_err("refused");
    assert!(error.contains("answers 401"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_says_how_old_samples_may_be() {
    let server = Server::start(Mode::Value(7.0));
    let core = core(&format!(
        "maxAge: 45s\nprometheus: [{{url: '{}'}}]\n{RULES}",
        server.url()
    ));
    assert_eq!(ask(&core).await, Ok(three("7")));
    let (headers, form) = server.last("/api/v1/query");
    // In a body, which may be longer than a URL.
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    for part in [
        "query=sum%28util%7Bnamespace%3D%22default%22%7D%29+by+%28pod%29",
        "&lookback_delta=45.000&max_lookback=45.000&nocache=1",
        "&timeout=1.800",
    ] {
        assert!(form.contains(part), "{part}: {form}");
    }
    let (_, form) = server.last("/api/v1/series");
    assert!(form.starts_with("match%5B%5D=util%7B"), "{form}");
    assert!(form.contains("&start="), "{form}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_must_be_who_it_should_be_and_sees_who_asks() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let signed = rcgen::generate_simple_self_signed(vec!["metrics.test".to_owned()]).unwrap();
    let certificate = CertificateDer::from(signed.cert.der().to_vec());
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots));
    let tls = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let server = Server::start_with_tls(Mode::Value(7.0), tls);
    let (pem, key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
    let ours = format!("cert: {pem:?}, key: {key:?}");
    for (settings, reason) in [
        (
            format!("ca: {pem:?}, server_name: metrics.test, {ours}"),
            None,
        ),
        (format!("insecure_skip_verify: true, {ours}"), None),
        (
            format!("ca: {pem:?}, {ours}"),
            Some("cannot be trusted: its certificate is for another name"),
        ),
        (
            format!("server_name: metrics.test, {ours}"),
            Some("cannot be trusted: its certificate is of no authority that is trusted"),
        ),
        (format!("ca: {pem:?}, server_name: metrics.test"), Some("")),
    ] {
        let core = core(&format!(
            "prometheus: [{{url: 'https://{}', tls_config: {{{settings}}}}}]\n{RULES}",
            server.address
        ));
        let answer = ask(&core).await;
        let Some(reason) = reason else {
            assert_eq!(answer, Ok(three("7")), "{settings}");
            let (headers, _) = server.last("/api/v1/query");
            // Over HTTP/2 it is no header.
            let host = headers.get("host").map(|it| it.to_str().unwrap());
            let address = server.address.to_string();
            assert!(host.is_none_or(|host| host == address), "{host:?}");
            continue;
        };
        answer.expect_err(reason);
        let catalog = core.provider.catalog();
        let error = catalog.rules()[0].error.clone().unwrap();
        assert!(error.contains(reason), "{settings}: {error}");
    }
}
