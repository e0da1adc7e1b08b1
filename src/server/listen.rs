//! The listening socket: who gets a connection, on what terms, and how it ends.
//!
//! This file and [`super::door`] know the HTTP server library.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use axum_server::service::SendService;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use http::Request;
use hyper::body::Incoming;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{self, CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::certificate::ServingCertificate;
use super::door::{Door, is_full};
use super::metrics::{Refusal, ServerMetrics};
use super::terms::TlsTerms;

/// The largest header block of a request, in bytes.
const HEADER_BYTES: u32 = 64 * 1024;

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The address; port 0 takes any free port.
    pub address: SocketAddr,
    /// What is shown to clients.
    pub certificate: ServingCertificate,
    /// Bounds on connections.
    pub admission: Admission,
    /// Cancelled when draining begins: whoever reports readiness looks at it.
    pub draining: CancellationToken,
    /// Where refusals are counted.
    pub metrics: ServerMetrics,
}

/// Terms and bounds of connections.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Connections that may be open at a time; more are closed at once.
    pub connections: usize,
    /// Those of one address, so that no one client has all places. Clients behind one that translates addresses share these.
    pub connections_of_address: usize,
    /// Which TLS is spoken.
    pub tls: TlsTerms,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long the first request may let itself be waited for.
    pub first_request: Duration,
    /// HTTP/1: how long the head of a request may take, counted from the end of the last one.
    pub request_head: Duration,
    /// HTTP/2: requests at a time on one connection.
    pub streams: u32,
    /// HTTP/2: after how much silence a peer is pinged.
    pub ping_after: Duration,
    /// HTTP/2: how long the answer to a ping may take.
    pub ping_timeout: Duration,
}

/// Timeouts and streams as k8s.io/apiserver `secure_serving.go` has them; the aggregator pings after 30 s likewise.
impl Default for Admission {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_of_address: 1024,
            tls: TlsTerms::default(),
            handshake: Duration::from_secs(10),
            first_request: Duration::from_secs(32),
            request_head: Duration::from_secs(32),
            streams: 100,
            ping_after: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(15),
        }
    }
}

/// How to stop.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// How long to go on serving while not ready, until no one sends new clients here.
    pub notice: Duration,
    /// How long requests may then take to finish.
    pub finish: Duration,
}

/// Why the server does not, or no longer, listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be taken.
    #[error("cannot listen on {address}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Without TLS and authentication only this machine may be served.
    #[error("{0} is not an address of loopback, and nothing else is served without TLS")]
    NotLoopback(SocketAddr),
    /// TLS cannot be set up.
    #[error("cannot set up tls")]
    Tls(#[source] rustls::Error),
    /// The accepting task ended.
    #[error("stopped accepting connections")]
    Ended(#[source] io::Error),
}

/// A server that is listening. Dropped, it ends at once.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    accepting: JoinHandle<io::Result<()>>,
    draining: CancellationToken,
}

/// Listens, over TLS only, and serves the router from now on.
///
/// Client certificates are requested and never required. Which of them mean anything is judged for each request, by
/// `auth`: so trust changes without a new handshake, and a certificate of an unknown authority gets a 401 in words.
///
/// # Errors
///
/// The address cannot be taken.
pub async fn serve(listen: Listen, router: Router) -> Result<Running, ServeError> {
    let Listen {
        address,
        certificate,
        admission,
        draining,
        metrics,
    } = listen;
    let tls = tls_config(certificate, &admission.tls).map_err(ServeError::Tls)?;
    let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(Arc::new(tls)))
        .handshake_timeout(admission.handshake)
        .acceptor(Door::new(&admission, &metrics));
    open(address, acceptor, &admission, draining, metrics, router).await
}

/// Listens on loopback, without TLS, and serves the router from now on.
///
/// # Errors
///
/// The address is not one of loopback, or cannot be taken.
pub async fn serve_plain(
    address: SocketAddr,
    admission: &Admission,
    metrics: ServerMetrics,
    router: Router,
) -> Result<Running, ServeError> {
    if !address.ip().is_loopback() {
        return Err(ServeError::NotLoopback(address));
    }
    let door = Door::new(admission, &metrics);
    let draining = CancellationToken::new();
    open(address, door, admission, draining, metrics, router).await
}

async fn open<A>(
    address: SocketAddr,
    acceptor: A,
    admission: &Admission,
    draining: CancellationToken,
    metrics: ServerMetrics,
    router: Router,
) -> Result<Running, ServeError>
where
    A: Accept<TcpStream, AddExtension<Router, ConnectInfo<SocketAddr>>>
        + Clone
        + Send
        + Sync
        + 'static,
    A::Stream: AsyncRead + AsyncWrite + Unpin + Send,
    A::Service: SendService<Request<Incoming>> + Send,
    A::Future: Send,
{
    let bind = |source| ServeError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    let handle = Handle::new();
    let mut server = Server::from_listener(listener)
        .acceptor(acceptor)
        .handle(handle.clone())
        .first_request_timeout(admission.first_request)
        .accept_error_handler(move |peer, error| {
            if !is_full(error) {
                metrics.count(Refusal::Handshake);
            }
            debug!(?peer, %error, "connection refused");
        });
    let builder = server.http_builder();
    builder
        .http1()
        .header_read_timeout(admission.request_head)
        .max_buf_size(HEADER_BYTES as usize);
    builder
        .http2()
        .max_concurrent_streams(admission.streams)
        .max_header_list_size(HEADER_BYTES)
        .keep_alive_interval(admission.ping_after)
        .keep_alive_timeout(admission.ping_timeout);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    Ok(Running {
        address,
        handle,
        accepting: tokio::spawn(server.serve(service)),
        draining,
    })
}

impl Running {
    /// The address listened on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.handle.connection_count()
    }

    /// Waits for an end that nobody asked for.
    pub async fn ended(&mut self) -> ServeError {
        let ended = (&mut self.accepting).await;
        let cause = ended.map_err(io::Error::other).and_then(|result| result);
        ServeError::Ended(cause.err().unwrap_or_else(|| io::Error::other("shut down")))
    }

    /// Ends in order: not ready, notice, no more connections and GOAWAY, finish. Gives the number of connections cut off.
    pub async fn drain(mut self, drain: Drain) -> usize {
        self.draining.cancel();
        tokio::time::sleep(drain.notice).await;
        self.handle.graceful_shutdown(None);
        if tokio::time::timeout(drain.finish, &mut self.accepting)
            .await
            .is_ok()
        {
            return 0;
        }
        let cut_off = self.handle.connection_count();
        self.handle.shutdown();
        cut_off
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.draining.cancel();
        self.handle.shutdown();
    }
}

fn tls_config(
    certificate: ServingCertificate,
    terms: &TlsTerms,
) -> Result<ServerConfig, rustls::Error> {
    let mut provider = aws_lc_rs::default_provider();
    terms.restrict(&mut provider);
    let provider = Arc::new(provider);
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(terms.versions())?
        .with_client_cert_verifier(Arc::new(AnyCertificate(provider)))
        .with_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Takes any client certificate whose key the client proves to hold, as Go's `tls.RequestClientCert` does.
///
/// A verifier that knows authorities would end the handshake where a Go server answers 401, and would have to be
/// swapped when they change. No authority is hinted at, so that a client shows what it has.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
