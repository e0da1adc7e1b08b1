//! A target's connection. It is made when a scrape needs one, and kept for the next.
//!
//! There are as many as targets, and each is idle for most of its life: so over HTTP/1.1 nothing but the stream is kept. What
//! speaks HTTP on it ([`Exchange`]) is made for each scrape.

use std::error::Error as _;
use std::io::{
    self,
    ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset},
};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryFutureExt as _;
use futures_util::future::Either;
use http::Response;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Url;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::transport::{Tls, certificate_fault, root_cause};

use super::ScrapeError;
use super::http1::{self, Buffers, Stream, Whole};
use super::names::Names;
use super::request::Get;

/// How much a target may send over HTTP/2 before it is read: what may lie here for each connection. A page that is larger takes
/// a round trip for each.
const WINDOW: u32 = 128 << 10;

/// A connection to a target, between two scrapes.
pub(super) struct Connection {
    protocol: Protocol,
    /// What TLS was spoken with: another one needs another connection.
    tls: Option<Arc<ClientConfig>>,
}

enum Protocol {
    Http1(Stream),
    Http2(Http2),
}

/// A connection that a request is sent on.
pub(super) struct Exchange {
    protocol: Active,
    tls: Option<Arc<ClientConfig>>,
}

enum Active {
    Http1(http1::Exchange),
    Http2 {
        http2: Http2,
        body: Option<Incoming>,
        /// What came of it last.
        piece: Bytes,
    },
}

struct Http2 {
    requests: http2::SendRequest<Empty<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

/// Why there is no answer, or half of one.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0}")]
    Http1(#[from] http1::Fault),
    #[error("{}", root_cause(.0))]
    Http2(#[from] hyper::Error),
    #[error("the target's URL is not one for HTTP: {0}")]
    Request(#[from] http::Error),
}

impl From<Fault> for ScrapeError {
    fn from(fault: Fault) -> Self {
        Self::Broken(fault.to_string())
    }
}

impl Connection {
    /// Connects to the host of `url`, with `tls` if it is https. The name and the addresses leave time until `deadline`, when
    /// the scrape ends, for the answer.
    ///
    /// # Errors
    /// The name has no address, nobody answers there in time, or TLS finds fault with them.
    pub(super) async fn open(
        url: &Url,
        names: &Names,
        tls: &Tls,
        deadline: Instant,
    ) -> Result<Self, ScrapeError> {
        let tcp = connect(url, names, deadline).await?;
        if url.scheme() != "https" {
            return Ok(Self::http1(Box::new(tcp), None));
        }
        let name = match &tls.server_name {
            Some(name) => name.clone(),
            None => server_name(url)?,
        };
        let connector = TlsConnector::from(Arc::clone(&tls.config));
        let stream = connector.connect(name, tcp).await.map_err(connect_error)?;
        let config = Some(Arc::clone(&tls.config));
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            return Self::http2(Box::new(stream), config).await;
        }
        Ok(Self::http1(Box::new(stream), config))
    }

    fn http1(stream: Stream, tls: Option<Arc<ClientConfig>>) -> Self {
        let protocol = Protocol::Http1(stream);
        Self { protocol, tls }
    }

    async fn http2(stream: Stream, tls: Option<Arc<ClientConfig>>) -> Result<Self, ScrapeError> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let handshake = builder.handshake(TokioIo::new(stream)).await;
        let (requests, connection) = handshake.map_err(Fault::Http2)?;
        // Answers pings too, which come at any time. It ends with the connection.
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        let _driver = AbortOnDropHandle::new(driver);
        let protocol = Protocol::Http2(Http2 { requests, _driver });
        Ok(Self { protocol, tls })
    }

    /// Whether it serves a target that is spoken to in this way now.
    pub(super) fn serves(&self, tls: &Tls) -> bool {
        let same = |config| Arc::ptr_eq(config, &tls.config);
        self.tls.as_ref().is_none_or(same)
    }

    /// Makes it ready for a request.
    pub(super) fn begin(self, buffers: &Arc<Buffers>) -> Exchange {
        let protocol = match self.protocol {
            Protocol::Http1(stream) => {
                Active::Http1(http1::Exchange::new(stream, Arc::clone(buffers)))
            }
            Protocol::Http2(http2) => Active::Http2 {
                http2,
                body: None,
                piece: Bytes::new(),
            },
        };
        let tls = self.tls;
        Exchange { protocol, tls }
    }
}

impl Exchange {
    /// What is kept of it for the next scrape, after a whole answer; `None` where the other end keeps nothing.
    pub(super) fn end(self) -> Option<Connection> {
        let protocol = match self.protocol {
            Active::Http1(exchange) => Protocol::Http1(exchange.end()?),
            Active::Http2 { http2, .. } => Protocol::Http2(http2),
        };
        let tls = self.tls;
        Some(Connection { protocol, tls })
    }

    /// Sends a request, and gives the head of its answer.
    pub(super) fn send(
        &mut self,
        get: Get<'_>,
    ) -> impl Future<Output = Result<Response<()>, Fault>> {
        match &mut self.protocol {
            Active::Http1(exchange) => Either::Left(exchange.send(&get).map_err(Fault::from)),
            Active::Http2 { http2, body, .. } => Either::Right(Box::pin(async move {
                let request = get.request(Empty::new())?;
                http2.requests.ready().await?;
                let response = http2.requests.send_request(request).await?;
                let (head, incoming) = response.into_parts();
                *body = Some(incoming);
                Ok(Response::from_parts(head, ()))
            })),
        }
    }

    /// How long the answer's body is, where that is told before it.
    pub(super) fn announced(&self) -> Option<u64> {
        match &self.protocol {
            Active::Http1(exchange) => exchange.announced(),
            Active::Http2 { body, .. } => body.as_ref()?.size_hint().exact(),
        }
    }

    /// The answer's whole body, if it is one that is had at once. Else it is still to be read.
    pub(super) async fn whole(&mut self) -> Result<Option<Whole>, Fault> {
        match &mut self.protocol {
            Active::Http1(exchange) => Ok(exchange.whole().await?),
            Active::Http2 { .. } => Ok(None),
        }
    }

    /// The next bytes of the answer's body; `None` at its end.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>, Fault> {
        match &mut self.protocol {
            Active::Http1(exchange) => Ok(exchange.next().await?),
            Active::Http2 { body, piece, .. } => {
                let Some(body) = body else {
                    return Ok(None);
                };
                while let Some(frame) = body.frame().await.transpose()? {
                    // Else they are trailers.
                    if let Ok(bytes) = frame.into_data() {
                        *piece = bytes;
                        return Ok(Some(piece));
                    }
                }
                Ok(None)
            }
        }
    }
}

async fn connect(url: &Url, names: &Names, deadline: Instant) -> Result<TcpStream, ScrapeError> {
    let port = url.port_or_known_default().unwrap_or(80);
    let host = host(url);
    let within = (deadline - Instant::now()) / 2;
    let looked_up = timeout(within, names.addresses(host)).await;
    let addresses = looked_up.map_err(|_| {
        ScrapeError::Connect(format!(
            "the name {host} is not resolved within {within:.1?}"
        ))
    })?;
    let addresses = addresses.map_err(|error| {
        ScrapeError::Connect(format!("the name {host} cannot be resolved: {error}"))
    })?;
    let addresses = addresses.iter().map(|it| SocketAddr::new(*it, port));
    let addresses: Vec<SocketAddr> = addresses.collect();
    let stream = connect_any(&addresses, deadline).await.unwrap_or_else(|| {
        Err(ScrapeError::Connect(format!(
            "the name {host} has no address"
        )))
    })?;
    stream.set_nodelay(true).map_err(connect_error)?;
    Ok(stream)
}

/// A connection to the first of the addresses that gives one, or the last refusal; `None` if there are none. Each has an equal
/// share of the time that is left, and the answer has one too: an address that swallows all packets is not the end.
async fn connect_any(
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Option<Result<TcpStream, ScrapeError>> {
    let mut failed = None;
    for (shares, address) in (2..=addresses.len() + 1).rev().zip(addresses) {
        let shares = u32::try_from(shares).unwrap_or(u32::MAX);
        let within = (deadline - Instant::now()) / shares;
        failed = Some(match timeout(within, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Some(Ok(stream)),
            Ok(Err(error)) => connect_error(error),
            Err(_) => {
                ScrapeError::Connect(format!("no connection to {address} within {within:.1?}"))
            }
        });
    }
    failed.map(Err)
}

/// The URL's host, without the brackets in which an IPv6 address stands there.
fn host(url: &Url) -> &str {
    let host = url.host_str().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']')
}

fn server_name(url: &Url) -> Result<ServerName<'static>, ScrapeError> {
    let host = host(url);
    ServerName::try_from(host.to_owned())
        .map_err(|_| ScrapeError::Connect(format!("{host} is no name that a certificate can have")))
}

fn connect_error(error: std::io::Error) -> ScrapeError {
    let tls = error.get_ref().and_then(|it| it.downcast_ref());
    let fault = match tls {
        Some(rustls::Error::InvalidCertificate(fault)) => certificate_fault(fault),
        _ => None,
    };
    let other = || ScrapeError::Connect(root_cause(&error));
    fault.map_or_else(other, ScrapeError::Certificate)
}

/// Whether it says that the other end had closed the connection before it saw the request, or might have: what a connection
/// that was idle is tried again for.
pub(super) fn is_stale(fault: &Fault) -> bool {
    let is_broken = |error: &io::Error| {
        matches!(
            error.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset
        )
    };
    match fault {
        Fault::Http1(http1::Fault::Unanswered) => true,
        Fault::Http1(http1::Fault::Io(error)) => is_broken(error),
        Fault::Http1(_) | Fault::Request(_) => false,
        Fault::Http2(error) => {
            let cause = error.source().and_then(|it| it.downcast_ref());
            error.is_canceled() || error.is_closed() || cause.is_some_and(is_broken)
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// A listener whose queue is full: connections to it are neither made nor refused.
    async fn black_hole() -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) =
            timeout(Duration::from_millis(100), TcpStream::connect(address)).await
        {
            queued.push(stream.unwrap());
        }
        (listener, queued)
    }

    #[tokio::test]
    async fn an_address_that_swallows_packets_leaves_time_for_the_next_and_for_the_answer() {
        let (hole, _queued) = black_hole().await;
        let hole = hole.local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let works = listener.local_addr().unwrap();
        let whole = Duration::from_millis(1_500);
        let begun = Instant::now();
        let stream = connect_any(&[hole, works], begun + whole).await.unwrap();
        assert_eq!(stream.unwrap().peer_addr().unwrap(), works);
        let took = begun.elapsed();
        assert!(whole / 3 <= took && took < whole, "{took:?}");

        let begun = Instant::now();
        let failed = connect_any(&[hole], begun + whole).await.unwrap();
        let failed = failed.err().unwrap().to_string();
        let expected = format!("no connection to {hole} within ");
        assert!(failed.starts_with(&expected), "{failed}");
        assert!(begun.elapsed() >= whole / 2, "{:?}", begun.elapsed());
        assert!(connect_any(&[], begun).await.is_none());
    }
}
