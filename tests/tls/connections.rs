//! How connections begin, are refused, and end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gpu_metrics_adapter::server::{Admission, Drain, Refusal, TlsTerms};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ClientConfig, ClientConnection, StreamOwned};

use crate::site::{HOST, PATIENCE, Site, client, eventually, tls};

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Finishes the handshake, and no more.
pub(crate) fn handshake(address: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<Tls> {
    let connection = ClientConnection::new(config, HOST.try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, connect(address));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// The status line and the rest, up to the end of the connection.
fn exchange(mut stream: Tls, request: &str) -> std::io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut response = String::new();
    // A server that cuts a connection need not say goodbye in TLS.
    match stream.read_to_string(&mut response) {
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(response),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let work = tokio::task::spawn_blocking(work);
    tokio::time::timeout(2 * PATIENCE, work)
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn a_certificate_counts_in_both_versions_of_tls_and_only_with_its_key() {
    let site = Site::start().await;
    let alice = client(&site.cluster_ca, "alice", None);
    let other = client(&site.cluster_ca, "other", None);
    for version in [&TLS12, &TLS13] {
        let address = site.address;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        let own = tls(&site.serving_ca, version, Some((&alice, &alice.key)));
        let stolen = tls(&site.serving_ca, version, Some((&alice, &other.key)));
        let (own, stolen) = blocking(move || {
            let own = handshake(address, own).and_then(|stream| exchange(stream, &request));
            let stolen = handshake(address, stolen).and_then(|stream| exchange(stream, &request));
            (own, stolen)
        })
        .await;
        let own = own.unwrap();
        assert!(
            own.starts_with("HTTP/1.1 200") && own.contains(r#""user":"alice""#),
            "{own}"
        );
        // Said in the handshake (1.2), or with the first read (1.3).
        assert!(stolen.is_err(), "{version:?}: {stolen:?}");
    }
    assert_eq!(site.metrics.refused(Refusal::Handshake), 2);
}

#[tokio::test]
async fn less_tls_is_spoken_where_less_is_asked_for() {
    let only_tls13 = TlsTerms {
        only_tls13: true,
        ..TlsTerms::default()
    };
    let of_suites = |names: &[&str]| TlsTerms {
        suites: Some(names.iter().map(|&name| name.to_owned()).collect()),
        ..TlsTerms::default()
    };
    // As Go shortens it.
    let chacha = of_suites(&[
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        "TLS_RSA_WITH_RC4_128_SHA",
    ]);
    assert_eq!(chacha.unknown(), ["TLS_RSA_WITH_RC4_128_SHA"]);
    // The server's key is none for this one.
    let useless = of_suites(&[
        "TLS_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ]);
    assert_eq!(useless.unknown(), Vec::<&str>::new());
    let agreed = CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256;
    for (terms, in_tls12) in [(only_tls13, None), (chacha, Some(agreed)), (useless, None)] {
        let site = Site::start_with(Admission {
            tls: terms.clone(),
            ..Admission::default()
        })
        .await;
        let address = site.address;
        let [older, newer] = [&TLS12, &TLS13].map(|version| tls(&site.serving_ca, version, None));
        let (older, newer) =
            blocking(move || (handshake(address, older), handshake(address, newer))).await;
        let suite = |stream: &Tls| stream.conn.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(older.ok().as_ref().map(suite), in_tls12, "{terms:?}");
        assert!(newer.is_ok(), "{terms:?}: TLS 1.3 is always spoken");
    }
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let short = Duration::from_millis(200);
    let site = Site::start_with(Admission {
        handshake: Duration::from_secs(2),
        first_request: short,
        request_head: short,
        ..Admission::default()
    })
    .await;
    let address = site.address;
    let config = tls(&site.serving_ca, &TLS13, None);
    blocking(move || {
        // No handshake; a handshake and nothing more; a request and a half.
        assert_eq!(connect(address).read(&mut [0; 64]).unwrap(), 0);
        let silent = handshake(address, config.clone()).unwrap();
        assert_eq!(exchange(silent, "").unwrap(), "");
        let slow = handshake(address, config).unwrap();
        let request =
            format!("GET /readyz HTTP/1.1\r\nHost: {HOST}\r\n\r\nGET /readyz HTTP/1.1\r\nHost:");
        let answer = exchange(slow, &request).unwrap();
        assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    })
    .await;
    eventually("every connection is closed", async || {
        site.running.as_ref().unwrap().connections() == 0
    })
    .await;
    assert_eq!(site.metrics.refused(Refusal::Handshake), 1);
}

#[tokio::test]
async fn one_connection_too_many_is_closed_until_another_ends() {
    let site = Site::start_with(Admission {
        connections: 1,
        ..Admission::default()
    })
    .await;
    let first = site.client(None, true);
    assert_eq!(site.get(&first, "/readyz", &[]).await.0, 200);
    let refused = site
        .client(None, true)
        .get(site.url("/readyz"))
        .send()
        .await;
    assert!(refused.unwrap_err().is_connect());
    assert_eq!(site.metrics.refused(Refusal::Connections), 1);
    assert_eq!(site.metrics.refused(Refusal::Handshake), 0, "counted once");
    drop(first);
    eventually("the place is free again", async || {
        let next = site
            .client(None, true)
            .get(site.url("/readyz"))
            .send()
            .await;
        next.is_ok_and(|response| response.status() == 200)
    })
    .await;
}

#[tokio::test]
async fn one_address_does_not_take_the_places_of_others() {
    let site = Site::start_with(Admission {
        connections_of_address: 1,
        ..Admission::default()
    })
    .await;
    let greedy = site.client(None, true);
    assert_eq!(site.get(&greedy, "/readyz", &[]).await.0, 200);
    let refused = site.client(None, true).get(site.url("/readyz"));
    assert!(refused.send().await.unwrap_err().is_connect());
    assert_eq!(site.metrics.refused(Refusal::ConnectionsOfAddress), 1);
    assert_eq!(site.metrics.refused(Refusal::Handshake), 0, "counted once");
    let other = site.client_at("127.0.0.2", true);
    assert_eq!(site.get(&other, "/readyz", &[]).await.0, 200);
}

#[tokio::test]
async fn a_drain_gives_notice_then_finishes_what_was_begun() {
    for http2 in [false, true] {
        let mut site = Site::start().await;
        let proxy = site.client(Some(&site.front_proxy()), http2);
        let request = proxy
            .get(site.url("/gate"))
            .header("X-Remote-User", "alice");
        let begun = tokio::spawn(request.send());
        site.waiting.acquire().await.unwrap().forget();

        let drain = Drain {
            notice: Duration::from_secs(1),
            finish: PATIENCE,
        };
        let ending = tokio::spawn(site.running.take().unwrap().drain(drain));
        site.draining.cancelled().await;
        // Not ready, and yet nobody is turned away who has not heard of it.
        let late = site.client(None, http2);
        assert_eq!(site.get(&late, "/readyz", &[]).await.0, 200);
        let address = site.address;
        eventually("new connections are refused", async || {
            tokio::net::TcpStream::connect(address).await.is_err()
        })
        .await;
        assert!(!ending.is_finished(), "a request is still in flight");

        site.gate.add_permits(1);
        let response = tokio::time::timeout(PATIENCE, begun)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(response.text().await.unwrap(), "through");
        let cut_off = tokio::time::timeout(PATIENCE, ending)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(cut_off, 0);
    }
}

#[tokio::test]
async fn a_request_that_does_not_finish_is_cut_off_and_counted() {
    let mut site = Site::start().await;
    let proxy = site.client(Some(&site.front_proxy()), true);
    let request = proxy
        .get(site.url("/gate"))
        .header("X-Remote-User", "alice");
    let begun = tokio::spawn(request.send());
    site.waiting.acquire().await.unwrap().forget();
    let drain = Drain {
        notice: Duration::ZERO,
        finish: Duration::from_millis(50),
    };
    let ending = site.running.take().unwrap().drain(drain);
    assert_eq!(tokio::time::timeout(PATIENCE, ending).await.unwrap(), 1);
    let cut_off = tokio::time::timeout(PATIENCE, begun)
        .await
        .unwrap()
        .unwrap();
    assert!(cut_off.is_err());
    assert!(site.kube_apiserver.access_reviews.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_with_its_address() {
    let site = Site::start().await;
    let listen = gpu_metrics_adapter::server::Listen {
        address: site.address,
        certificate: site.serving.clone(),
        admission: Admission::default(),
        draining: site.draining.clone(),
        metrics: site.metrics.clone(),
    };
    let error = gpu_metrics_adapter::server::serve(listen, axum::Router::new())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {}", site.address)
    );
}
