//! An exporter whose answers a test chooses.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What an exporter answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Page(String),
    Gzip(Vec<u8>),
    Status(u16),
    Hang,
    Endless,
    Redirect(String),
}

#[derive(Debug)]
struct Inner {
    answer: Answer,
    requests: Vec<(Uri, HeaderMap)>,
}

/// An exporter on a port of its own.
pub(crate) struct Exporter {
    pub(crate) address: String,
    inner: Arc<Mutex<Inner>>,
    pub(crate) server: JoinHandle<()>,
}

impl Exporter {
    pub(crate) async fn start(answer: Answer) -> Self {
        let inner = Arc::new(Mutex::new(Inner {
            answer,
            requests: Vec::new(),
        }));
        let router = Router::new()
            .fallback(answer_with)
            .with_state(inner.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            inner,
            server,
        }
    }

    pub(crate) async fn page(text: &str) -> Self {
        Self::start(Answer::Page(text.to_owned())).await
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.inner.lock().answer = answer;
    }

    pub(crate) fn requests(&self) -> usize {
        self.inner.lock().requests.len()
    }

    pub(crate) fn first_request(&self) -> (Uri, HeaderMap) {
        self.inner.lock().requests[0].clone()
    }

    pub(crate) fn last_request(&self) -> Option<(Uri, HeaderMap)> {
        self.inner.lock().requests.last().cloned()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer_with(
    State(inner): State<Arc<Mutex<Inner>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let path = uri.path().to_owned();
    let answer = {
        let mut inner = inner.lock();
        inner.requests.push((uri, headers));
        inner.answer.clone()
    };
    match answer {
        Answer::Page(text) => text.into_response(),
        Answer::Gzip(bytes) => {
            // In chunks, so that nothing announces the length.
            let chunks = stream::iter([Ok::<_, Infallible>(bytes)]);
            (
                [(header::CONTENT_ENCODING, "gzip")],
                Body::from_stream(chunks),
            )
                .into_response()
        }
        Answer::Status(code) => StatusCode::from_u16(code).unwrap().into_response(),
        Answer::Hang => std::future::pending().await,
        Answer::Endless => {
            let line = Bytes::from("x 1\n".repeat(1_000));
            let lines = stream::repeat_with(move || Ok::<_, Infallible>(line.clone()));
            Body::from_stream(lines).into_response()
        }
        Answer::Redirect(_) if path == "/elsewhere" => "there 1\n".into_response(),
        Answer::Redirect(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
    }
}
