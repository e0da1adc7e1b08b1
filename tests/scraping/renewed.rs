//! Certificates and authorities in files that change, also by halves, and the version of HTTP that TLS agrees on.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::Version;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Scraper, job_at, until};

/// With time for a handshake on a busy machine.
const SETTINGS: &str = "scheme: https, scrape_interval: 1s, scrape_timeout: 1s";

/// A certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate for 127.0.0.1, and its key, in PEM.
struct Pair {
    cert: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(parameters, key).unwrap())
    }

    fn pair(&self) -> Pair {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let cert = parameters.signed_by(&key, &self.0).unwrap();
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A server with a certificate of this authority, which asks for one of `clients` if it is given.
    fn server(&self, clients: Option<&Self>, protocols: &[&[u8]]) -> Arc<ServerConfig> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let builder = match clients {
            None => ServerConfig::builder().with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots));
                ServerConfig::builder().with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let pair = self.pair();
        let mut config = builder
            .with_single_cert(vec![der(&pair.cert)], key(&pair.key))
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        Arc::new(config)
    }
}

fn der(pem: &str) -> CertificateDer<'static> {
    rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).unwrap()
}

fn key(pem: &str) -> PrivateKeyDer<'static> {
    rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).unwrap()
}

/// A listener whose TLS a test changes, and what it saw.
#[derive(Clone)]
struct Secured {
    config: Arc<Mutex<Arc<ServerConfig>>>,
    /// Of each connection the client's certificate, and of each request the version of HTTP.
    clients: Arc<Mutex<Vec<Option<CertificateDer<'static>>>>>,
    versions: Arc<Mutex<Vec<Version>>>,
}

struct Listening(TcpListener, Secured);

impl axum::serve::Listener for Listening {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.0.accept().await.unwrap();
            let acceptor = TlsAcceptor::from(self.1.config.lock().clone());
            if let Ok(stream) = acceptor.accept(stream).await {
                let shown = stream.get_ref().1.peer_certificates();
                let shown = shown.and_then(|it| it.first()).cloned();
                self.1
                    .clients
                    .lock()
                    .push(shown.map(CertificateDer::into_owned));
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Secured {
    /// Serves a page; over HTTP/1.1 each time on a connection of its own, so that each scrape shakes hands.
    async fn start(config: Arc<ServerConfig>) -> (Self, String) {
        let secured = Self {
            config: Arc::new(Mutex::new(config)),
            clients: Arc::default(),
            versions: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let versions = secured.versions.clone();
        let page = move |version: Version| {
            versions.lock().push(version);
            async move {
                let close = (version == Version::HTTP_11).then_some([("connection", "close")]);
                (close.map(axum::response::AppendHeaders), "util 1\n")
            }
        };
        let app = axum::Router::new().fallback(page);
        let listening = Listening(listener, secured.clone());
        tokio::spawn(async move { axum::serve(listening, app).await.unwrap() });
        (secured, address)
    }

    fn shown(&self, pair: &Pair) -> bool {
        self.clients.lock().last() == Some(&Some(der(&pair.cert)))
    }
}

/// A folder for the files of one test; it goes with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("scraping-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> impl std::fmt::Display {
        let path: &Path = &self.0;
        path.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Watches the only target for longer than files are believed unread: it never fails.
async fn works_on(scraper: &Scraper) {
    let counts = || scraper.statistics.snapshot();
    let (failed, succeeded) = (counts().failed, counts().succeeded);
    until("some more scrapes", || {
        assert_eq!(counts().failed, failed, "{:?}", scraper.down());
        (counts().succeeded >= succeeded + 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn authorities_are_read_again_and_half_a_file_of_them_changes_nothing() {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = Folder::new("ca");
    folder.write("ca", &old.0.pem());
    let (server, address) = Secured::start(old.server(None, &[])).await;
    let settings = format!("{SETTINGS}, tls_config: {{ca_file: {}}}", folder.path("ca"));
    let scraper = Scraper::start(&job_at("j", &address, &settings));
    until("the page", || scraper.value("util")).await;

    *server.config.lock() = new.server(None, &[]);
    let reason = scraper.until_down().await;
    assert!(
        reason.contains("of no authority that is trusted"),
        "{reason}"
    );
    folder.write("ca", &new.0.pem());
    until("the new authority", || {
        scraper.down().is_none().then_some(())
    })
    .await;

    // The old one is whole, and the server's is not: trusting what can be read would be to lose the server.
    let (old, new) = (old.0.pem(), new.0.pem());
    for half in [format!("{old}{}", &new[..new.len() / 2]), String::new()] {
        folder.write("ca", &half);
        works_on(&scraper).await;
    }
    fs::remove_file(folder.0.join("ca")).unwrap();
    works_on(&scraper).await;
    scraper.stop().await;
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_renewed_when_certificate_and_key_belong_together() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let (server, address) = Secured::start(servers.server(Some(&clients), &[])).await;
    let ca = format!("ca: {:?}", servers.0.pem());
    let scraper = Scraper::start(&job_at(
        "j",
        &address,
        &format!("{SETTINGS}, tls_config: {{{ca}}}"),
    ));
    let reason = scraper.until_down().await;
    assert!(reason.contains("CertificateRequired"), "{reason}");
    scraper.stop().await;

    let folder = Folder::new("mtls");
    let (first, second) = (clients.pair(), clients.pair());
    folder.write("cert", &first.cert);
    folder.write("key", &second.key);
    let (cert_file, key_file) = (folder.path("cert"), folder.path("key"));
    let tls = format!("tls_config: {{{ca}, cert_file: {cert_file}, key_file: {key_file}}}");
    let scraper = Scraper::start(&job_at("j", &address, &format!("{SETTINGS}, {tls}")));
    let reason = scraper.until_down().await;
    assert!(reason.contains("not a certificate and its key"), "{reason}");
    folder.write("key", &first.key);
    until("the certificate", || server.shown(&first).then_some(())).await;
    until("it works", || scraper.down().is_none().then_some(())).await;

    // One file is replaced and the other is not yet.
    folder.write("cert", &second.cert);
    works_on(&scraper).await;
    assert!(server.shown(&first));
    folder.write("key", &second.key);
    until("the new certificate", || {
        server.shown(&second).then_some(())
    })
    .await;
    scraper.stop().await;
}

#[tokio::test]
async fn http_2_is_spoken_where_tls_agrees_on_it_and_the_job_allows_it() {
    let authority = Authority::new();
    let both: &[&[u8]] = &[b"h2", b"http/1.1"];
    for (protocols, more, expected) in [
        (both, "", Version::HTTP_2),
        (both, "enable_http2: false, ", Version::HTTP_11),
        (&both[1..], "", Version::HTTP_11),
    ] {
        let (server, address) = Secured::start(authority.server(None, protocols)).await;
        let tls = format!("tls_config: {{ca: {:?}}}", authority.0.pem());
        let scraper = Scraper::start(&job_at("j", &address, &format!("{more}{SETTINGS}, {tls}")));
        until("three scrapes", || {
            (scraper.statistics.snapshot().succeeded >= 3).then_some(())
        })
        .await;
        assert_eq!(scraper.value("util"), Some(1.0));
        scraper.stop().await;
        assert!(
            server.versions.lock().iter().all(|it| *it == expected),
            "{more}"
        );
        let connections = server.clients.lock().len();
        assert_eq!(
            connections == 1,
            expected == Version::HTTP_2,
            "{connections}"
        );
    }
}

#[tokio::test]
async fn over_http_2_a_target_may_send_little_that_is_not_read_yet() {
    let authority = Authority::new();
    let acceptor = TlsAcceptor::from(authority.server(None, &[b"h2"]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tls = format!("tls_config: {{ca: {:?}}}", authority.0.pem());
    let scraper = Scraper::start(&job_at("j", &address, &format!("{SETTINGS}, {tls}")));
    let reading = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        // RFC 9113: 6.5 SETTINGS_INITIAL_WINDOW_SIZE, of each stream; 6.9 WINDOW_UPDATE adds to the connection's 65,535.
        let (mut of_stream, mut of_connection) = (0, 65_535);
        while of_stream == 0 || of_connection == 65_535 {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut payload).await.unwrap();
            let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
            match head[3] {
                0x4 => {
                    for setting in payload.chunks(6).filter(|it| it[..2] == [0, 4]) {
                        of_stream = number(&setting[2..]);
                    }
                }
                0x8 => of_connection += number(&payload),
                _ => {}
            }
        }
        (of_stream, of_connection)
    };
    let windows = tokio::time::timeout(super::DEADLINE, reading)
        .await
        .unwrap();
    assert_eq!(windows, (128 << 10, 128 << 10));
    scraper.stop().await;
}
