//! The server whose pages both scrape.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use parking_lot::Mutex;
use tokio::net::TcpListener;

pub(crate) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
pub(crate) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A page as it is now.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Page {
    pub(crate) fn text(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            content_type: TEXT,
            body: body.into(),
        }
    }
}

/// A page, and how often each of the two has read it.
type Read = (Page, [u32; 2]);

/// All pages, by the name of their job.
#[derive(Clone, Default)]
pub(crate) struct Pages(Arc<Mutex<BTreeMap<String, Read>>>);

impl Pages {
    /// Puts a page in place of the one before.
    pub(crate) fn set(&self, job: &str, page: Page) {
        self.0.lock().insert(job.to_owned(), (page, [0, 0]));
    }

    /// How often the slower of the two has begun to read a page.
    pub(crate) fn read(&self, job: &str) -> u32 {
        self.0.lock()[job].1.into_iter().min().unwrap_or(0)
    }

    pub(crate) async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }
}

async fn answer(State(pages): State<Pages>, uri: Uri, headers: HeaderMap) -> Response {
    let agent = headers
        .get("user-agent")
        .and_then(|it| it.to_str().ok())
        .unwrap_or_default();
    let who = usize::from(agent.starts_with("Prometheus"));
    let mut pages = pages.0.lock();
    let Some((page, counts)) = pages.get_mut(uri.path().trim_start_matches('/')) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    counts[who] += 1;
    let status = StatusCode::from_u16(page.status).unwrap();
    (
        status,
        [("content-type", page.content_type)],
        page.body.clone(),
    )
        .into_response()
}
