//! A server on loopback with Prometheus's API, which answers as it is told to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use axum_server::tls_rustls::RustlsConfig;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::HeaderMap;
use tokio::runtime::Runtime;

/// What it answers to queries, and to lookups of series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mode {
    /// This value for the pods p0, p1 and p2.
    Value(f64),
    /// 7 to whoever shows this `Authorization`, and 401 to others.
    Only(&'static str),
    /// 7, and 422 to whoever asks for a series of this name.
    Except(&'static str),
    /// This body, with this status and content type.
    Text(u16, &'static str, &'static str),
    /// Nothing, ever.
    Hang,
    /// The start of a good answer, and then nothing.
    HangInside,
    /// A good answer that is 50 MB long.
    Huge,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) queries: AtomicUsize,
    pub(crate) lookups: AtomicUsize,
    pub(crate) tokens: AtomicUsize,
}

struct Shared {
    mode: Mutex<Mode>,
    counts: Counts,
    seen: Mutex<Vec<(String, HeaderMap, String)>>,
}

/// The server; it ends, with all its connections, when this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Server {
    pub(crate) fn start(mode: Mode) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), mode)
    }

    pub(crate) fn start_at(address: SocketAddr, mode: Mode) -> Self {
        Self::serve(address, mode, None)
    }

    pub(crate) fn start_with_tls(mode: Mode, tls: rustls::ServerConfig) -> Self {
        let tls = RustlsConfig::from_config(Arc::new(tls));
        Self::serve("127.0.0.1:0".parse().unwrap(), mode, Some(tls))
    }

    fn serve(address: SocketAddr, mode: Mode, tls: Option<RustlsConfig>) -> Self {
        let shared = Arc::new(Shared {
            mode: Mutex::new(mode),
            counts: Counts::default(),
            seen: Mutex::default(),
        });
        // A runtime of its own, so that its end takes the connections along.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        runtime.spawn(async move {
            if let Some(tls) = tls {
                let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
                server.serve(router.into_make_service()).await.unwrap();
                return;
            }
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            address,
            shared,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = mode;
    }

    pub(crate) fn queries(&self) -> usize {
        self.shared.counts.queries.load(Ordering::Relaxed)
    }

    pub(crate) fn lookups(&self) -> usize {
        self.shared.counts.lookups.load(Ordering::Relaxed)
    }

    /// The last request for a path that ends so: its headers, and its parameters as they were sent.
    pub(crate) fn last(&self, path: &str) -> (HeaderMap, String) {
        let seen = self.shared.seen.lock().unwrap();
        let (_, headers, parameters) = seen.iter().rev().find(|it| it.0.ends_with(path)).unwrap();
        (headers.clone(), parameters.clone())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut parameters = parts.uri.query().unwrap_or_default().to_owned();
    parameters.push_str(std::str::from_utf8(&body).unwrap());
    shared
        .seen
        .lock()
        .unwrap()
        .push((path.clone(), parts.headers.clone(), parameters.clone()));
    if path == "/token" {
        let number = 1 + shared.counts.tokens.fetch_add(1, Ordering::Relaxed);
        let token = format!("{{\"access_token\":\"fresh-{number}\",\"expires_in\":3600}}");
        return json(200, token);
    }
    let is_query = path.ends_with("/api/v1/query");
    let count = if is_query {
        &shared.counts.queries
    } else {
        &shared.counts.lookups
    };
    count.fetch_add(1, Ordering::Relaxed);
    let mode = shared.mode.lock().unwrap().clone();
    let mode = match mode {
        Mode::Only(shown) if parts.headers["authorization"] == shown => Mode::Value(7.0),
        Mode::Only(_) => Mode::Text(401, "text/plain", "no"),
        Mode::Except(name) if !parameters.contains(name) => Mode::Value(7.0),
        Mode::Except(_) => Mode::Text(422, "application/json", REFUSAL),
        other => other,
    };
    match mode {
        Mode::Only(_) | Mode::Except(_) => unreachable!("replaced above"),
        Mode::Value(value) if is_query => json(200, vector(value)),
        Mode::Value(_) => json(200, SERIES),
        Mode::Text(status, kind, text) => Response::builder()
            .status(status)
            .header("content-type", kind)
            .body(Body::from(text))
            .unwrap(),
        Mode::Hang => std::future::pending().await,
        Mode::HangInside => {
            let start = Bytes::from_static(b"{\"status\":\"success\",\"data\":");
            let pieces = stream::iter([Ok::<_, std::io::Error>(start)]).chain(stream::pending());
            json(200, Body::from_stream(pieces))
        }
        Mode::Huge => {
            let start = if is_query {
                "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":["
            } else {
                "{\"status\":\"success\",\"data\":["
            };
            let element = if is_query {
                "{\"metric\":{\"pod\":\"p0\"},\"value\":[1,\"7\"]},"
            } else {
                "{\"__name__\":\"util\",\"namespace\":\"default\",\"pod\":\"p0\"},"
            };
            let pieces = 50_000_000 / 50_000;
            let piece = Bytes::from(element.repeat(50_000 / element.len()));
            let pieces = stream::iter(std::iter::repeat_n(piece, pieces));
            let pieces = stream::iter([Bytes::from_static(start.as_bytes())]).chain(pieces);
            json(200, Body::from_stream(pieces.map(Ok::<_, std::io::Error>)))
        }
    }
}

const REFUSAL: &str = r#"{"status":"error","errorType":"execution","error":"too many series"}"#;

const SERIES: &str = r#"{"status":"success","data":[{"__name__":"util","namespace":"default","pod":"p0"},{"__name__":"util","namespace":"default","pod":"p1","empty":""}]}"#;

fn vector(value: f64) -> String {
    let element = |pod| format!(r#"{{"metric":{{"pod":"p{pod}"}},"value":[1.5,"{value}"]}}"#);
    let elements = [0, 1, 2].map(element).join(",");
    format!(
        r#"{{"status":"success","data":{{"resultType":"vector","result":[{elements}]}},"warnings":["w"]}}"#
    )
}

fn json(status: u16, body: impl Into<Body>) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap()
}
