//! Targets that ask who scrapes them, and must show who they are.

use std::fs;
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::exporter::Exporter;
use super::{Scraper, until};

#[tokio::test]
async fn credentials_are_read_from_their_file_again() {
    let folder = std::env::temp_dir().join(format!("scraping-token-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("token");
    let exporter = Exporter::page("util 1\n").await;
    let settings = format!("authorization: {{credentials_file: {}}}", file.display());
    let scraper = Scraper::of(&exporter, &settings);
    let missing = format!(
        "not asked: cannot read {}: entity not found",
        file.display()
    );
    assert_eq!(scraper.until_down().await, missing);
    assert_eq!(exporter.requests(), 0);
    for token in ["one", "two"] {
        fs::write(&file, format!("{token}\n")).unwrap();
        let expected = format!("Bearer {token}");
        until("the token is sent", || {
            let sent = exporter.last_request()?.1.get("authorization")?.clone();
            (sent.to_str().unwrap() == expected).then_some(())
        })
        .await;
    }
    scraper.stop().await;
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_user_and_his_password_are_sent_and_the_password_is_read_again() {
    let folder = std::env::temp_dir().join(format!("scraping-password-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("password");
    fs::write(&file, "open\n").unwrap();
    let exporter = Exporter::page("util 1\n").await;
    let path = file.display();
    let settings = format!("basic_auth: {{username: ann, password_file: {path}}}");
    let scraper = Scraper::of(&exporter, &settings);
    // `printf ann:open | base64`, and with `sesame`.
    for (password, expected) in [("open", "YW5uOm9wZW4="), ("sesame", "YW5uOnNlc2FtZQ==")] {
        fs::write(&file, password).unwrap();
        let expected = format!("Basic {expected}");
        until("user and password are sent", || {
            let sent = exporter.last_request()?.1.get("authorization")?.clone();
            (sent.to_str().unwrap() == expected).then_some(())
        })
        .await;
    }
    scraper.stop().await;
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_certificate_counts_if_its_authority_is_trusted_or_the_job_says_that_any_does() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = CertificateDer::from(signed.cert.der().to_vec());
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let mut exporter = Exporter::page("").await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    exporter.address = listener.local_addr().unwrap().to_string();
    let config = RustlsConfig::from_config(Arc::new(config));
    let app = axum::Router::new().fallback(|| async { "util 1\n" });
    let server = axum_server::from_tcp_rustls(listener, config).unwrap();
    let server = tokio::spawn(server.serve(app.into_make_service()));

    let slow = "scheme: https, scrape_interval: 2s, scrape_timeout: 2s";
    let scraper = Scraper::of(&exporter, slow);
    let reason = scraper.until_down().await;
    assert!(reason.contains("certificate"), "{reason}");
    scraper.stop().await;
    let ca = format!("{:?}", signed.cert.pem());
    for trust in [format!("ca: {ca}"), "insecure_skip_verify: true".to_owned()] {
        let scraper = Scraper::of(&exporter, &format!("{slow}, tls_config: {{{trust}}}"));
        until("the page", || scraper.value("util")).await;
        scraper.stop().await;
    }
    server.abort();
}
