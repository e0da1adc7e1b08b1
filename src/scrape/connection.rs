//! A target's connection. It is made when a scrape needs one, and kept for the next.
//!
//! There are as many as targets, and each is idle for most of its life: so over HTTP/1.1 nothing but the stream is kept. What
//! speaks HTTP on it, with its buffers, is made for each scrape ([`Exchange`]) and has no task of its own: whoever waits for an
//! answer moves it along.

use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Url;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::transport::{Tls, certificate_fault, root_cause};

use super::ScrapeError;
use super::names::Names;

/// How much is read at a time over HTTP/1.1: as much as the page had before, with its head, within these.
const BUFFER: RangeInclusive<usize> = 8 << 10..=128 << 10;

/// The head of an answer is seldom longer.
const HEAD: usize = 1 << 10;

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

/// A connection that requests are sent on.
pub(super) struct Exchange {
    protocol: Active,
    tls: Option<Arc<ClientConfig>>,
}

enum Active {
    Http1 {
        requests: http1::SendRequest<Empty<Bytes>>,
        driver: Box<Driver>,
    },
    Http2(Http2),
}

struct Http2 {
    requests: http2::SendRequest<Empty<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

/// The other half of an HTTP/1.1 connection: what reads and writes.
struct Driver {
    /// `None` when it has ended. Whoever waits for it learns of that only as it is dropped.
    connection: Option<http1::Connection<Stream, Empty<Bytes>>>,
}

type Stream = TokioIo<Box<dyn Io>>;

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

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

    fn http1(io: Box<dyn Io>, tls: Option<Arc<ClientConfig>>) -> Self {
        let protocol = Protocol::Http1(TokioIo::new(io));
        Self { protocol, tls }
    }

    async fn http2(io: Box<dyn Io>, tls: Option<Arc<ClientConfig>>) -> Result<Self, ScrapeError> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let (requests, connection) = builder.handshake(TokioIo::new(io)).await?;
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

    /// Makes it ready for requests. `expected` is about how large the answer will be, in bytes.
    pub(super) async fn begin(self, expected: usize) -> Result<Exchange, hyper::Error> {
        let protocol = match self.protocol {
            Protocol::Http1(stream) => {
                let mut builder = http1::Builder::new();
                let size = (expected + expected / 16 + HEAD).clamp(*BUFFER.start(), *BUFFER.end());
                builder.read_buf_exact_size(Some(size));
                let (requests, connection) = builder.handshake(stream).await?;
                let driver = Box::new(Driver {
                    connection: Some(connection),
                });
                Active::Http1 { requests, driver }
            }
            Protocol::Http2(http2) => Active::Http2(http2),
        };
        let tls = self.tls;
        Ok(Exchange { protocol, tls })
    }
}

impl Exchange {
    /// What is kept of it for the next scrape, after a whole answer; `None` where the other end keeps nothing.
    pub(super) async fn end(self) -> Option<Connection> {
        let protocol = match self.protocol {
            Active::Http1 {
                mut requests,
                mut driver,
            } => {
                driver.until(requests.ready()).await.ok()?;
                let parts = driver.connection?.into_parts();
                // Bytes that nobody asked for would be taken for the next answer.
                parts
                    .read_buf
                    .is_empty()
                    .then_some(Protocol::Http1(parts.io))?
            }
            Active::Http2(http2) => Protocol::Http2(http2),
        };
        let tls = self.tls;
        Some(Connection { protocol, tls })
    }

    /// Sends a request, whose URI is absolute, and gives the head of its answer.
    pub(super) async fn send(
        &mut self,
        mut request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        match &mut self.protocol {
            Active::Http1 { requests, driver } => {
                let path = request.uri().path_and_query().cloned();
                *request.uri_mut() = path.map(Into::into).unwrap_or_default();
                driver.until(requests.ready()).await?;
                driver.until(requests.send_request(request)).await
            }
            Active::Http2(Http2 { requests, .. }) => {
                // The URI has it.
                request.headers_mut().remove(HOST);
                requests.ready().await?;
                requests.send_request(request).await
            }
        }
    }

    /// The next bytes of an answer's body; `None` at its end.
    pub(super) async fn next(
        &mut self,
        body: &mut Incoming,
    ) -> Result<Option<Bytes>, hyper::Error> {
        loop {
            let frame = match &mut self.protocol {
                Active::Http1 { driver, .. } => driver.until(body.frame()).await,
                Active::Http2(_) => body.frame().await,
            };
            match frame.transpose()?.map(|frame| frame.into_data()) {
                Some(Ok(bytes)) => return Ok(Some(bytes)),
                // Trailers.
                Some(Err(_)) => {}
                None => return Ok(None),
            }
        }
    }
}

impl Driver {
    /// Moves the connection along until `work` on it is done. That it ends is for the work to tell, which ends with it.
    async fn until<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            self.advance(context);
            work.as_mut().poll(context)
        })
        .await
    }

    fn advance(&mut self, context: &mut Context<'_>) {
        // Its error is the work's too.
        let connection = self.connection.as_mut();
        if connection.is_some_and(|it| Pin::new(it).poll(context).is_ready()) {
            self.connection = None;
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

/// Whether an error says that the other end had closed the connection before it saw the request, or might have: what a
/// connection that was idle is tried again for.
pub(super) fn is_stale(error: &hyper::Error) -> bool {
    let broken = |error: &std::io::Error| {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        matches!(
            error.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset
        )
    };
    let cause = error.source().and_then(|it| it.downcast_ref());
    error.is_canceled()
        || error.is_closed()
        || error.is_incomplete_message()
        || cause.is_some_and(broken)
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
