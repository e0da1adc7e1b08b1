//! Gets a target's page over HTTP, within bounds on time, size and memory.

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::Arc;

use flate2::write::MultiGzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Response, StatusCode};
use reqwest::Url;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::config::scrape::ScrapeLimits;
use crate::exposition::Format;
use crate::targets::Target;
use crate::transport::{Clients, Tls, authorization};

use super::ScrapeError;
use super::connection::{Connection, Exchange, is_stale};
use super::http1::{Buffers, Whole};
use super::names::Names;
use super::request::Get;

/// Most redirects that are followed, each to the same origin.
const REDIRECTS: usize = 3;

/// What one permit of the memory stands for.
const BLOCK: usize = 1 << 10;

/// The largest page that is an ordinary one.
const ORDINARY: usize = 256 << 10;

/// Gets pages.
#[derive(Debug)]
pub(super) struct Fetcher {
    clients: Clients,
    names: Names,
    memory: Arc<Memory>,
}

/// What all pages in flight may hold together, in blocks: one half for ordinary pages, one for large ones. Any number of
/// large pages that stall leave the ordinary ones their half. What a connection reads at once is not counted: that is bounded by
/// itself, and a page that comes so is read where it lies.
#[derive(Debug)]
struct Memory {
    ordinary: Arc<Semaphore>,
    large: Arc<Semaphore>,
    /// Those of ordinary pages are used again.
    buffers: Arc<Buffers>,
}

impl Memory {
    fn new(blocks: usize) -> Arc<Self> {
        let half = |blocks: usize| Arc::new(Semaphore::new(blocks.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self {
            ordinary: half(blocks.div_ceil(2)),
            large: half(blocks / 2),
            buffers: Arc::default(),
        })
    }

    fn of(&self, capacity: usize) -> &Arc<Semaphore> {
        if capacity > ORDINARY {
            &self.large
        } else {
            &self.ordinary
        }
    }
}

/// A page as it was before compression.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) format: Format,
    content: Content,
}

/// Where a page's bytes are.
#[derive(Debug)]
enum Content {
    /// In what the connection read at once.
    Whole(Whole),
    /// In what they were gathered in.
    Gathered(Body),
}

impl Page {
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Whole(whole) => whole.bytes(),
            Content::Gathered(body) => &body.bytes,
        }
    }
}

impl Fetcher {
    pub(super) fn new(limits: &ScrapeLimits) -> Self {
        let blocks = usize::try_from(limits.buffers).unwrap_or(usize::MAX) / BLOCK;
        Self {
            clients: Clients::default(),
            names: Names::default(),
            memory: Memory::new(blocks),
        }
    }

    /// The target's page, within its time-out. `expected` is the size of its last one, and `connection` what was kept of the
    /// last scrape.
    pub(super) async fn fetch(
        &self,
        target: &Target,
        connection: &mut Option<Connection>,
        expected: usize,
    ) -> Result<Page, ScrapeError> {
        let deadline = Instant::now() + target.timeout;
        let fetching = self.fetch_until(deadline, target, connection, expected);
        timeout_at(deadline, fetching)
            .await
            .unwrap_or(Err(ScrapeError::Timeout(target.timeout)))
    }

    async fn fetch_until(
        &self,
        deadline: Instant,
        target: &Target,
        connection: &mut Option<Connection>,
        expected: usize,
    ) -> Result<Page, ScrapeError> {
        // Put back only after a whole answer: what follows half of one is not to be read.
        let kept = connection.take();
        let (mut exchange, response) = self.follow(deadline, target, kept).await?;
        if response.status() != StatusCode::OK {
            return Err(ScrapeError::Status(response.status()));
        }
        let limit = target.settings.body_size;
        let body = Body::new(self.memory.clone(), limit, expected, deadline);
        let content_type = text(response.headers(), CONTENT_TYPE);
        let page = Page {
            format: Format::from_content_type(content_type.as_deref()),
            content: read(&mut exchange, &response, body).await?,
        };
        *connection = exchange.end();
        Ok(page)
    }

    /// The answer that is no redirect, and the connection that its body comes by.
    async fn follow(
        &self,
        deadline: Instant,
        target: &Target,
        kept: Option<Connection>,
    ) -> Result<(Exchange, Response<()>), ScrapeError> {
        let http = &target.settings.http;
        let tls = self.clients.get(http).await?;
        let mut kept = kept.filter(|it| it.serves(&tls));
        let mut url = Cow::Borrowed(&target.url);
        let mut redirects = 0;
        while redirects <= REDIRECTS {
            let reused = kept.is_some();
            let connection = match kept.take() {
                Some(connection) => connection,
                None => self.open(&url, &tls, deadline).await?,
            };
            let mut exchange = connection.begin(&self.memory.buffers);
            let get = Get {
                url: &url,
                compression: target.settings.compression,
                timeout: target.timeout,
                authorization: authorization(http).await?,
            };
            let response = match exchange.send(get).await {
                // The other end may have closed it while it was idle: once more, on a new one.
                Err(error) if reused && is_stale(&error) => continue,
                sent => sent?,
            };
            if !http.follow_redirects || !response.status().is_redirection() {
                return Ok((exchange, response));
            }
            let Some(location) = text(response.headers(), LOCATION) else {
                return Ok((exchange, response));
            };
            let Ok(next) = url.join(&location) else {
                return Err(ScrapeError::Circle);
            };
            if next.origin() != url.origin() {
                let origin = next.origin().ascii_serialization();
                return Err(ScrapeError::Redirect(origin));
            }
            url = Cow::Owned(next);
            redirects += 1;
        }
        Err(ScrapeError::Circle)
    }

    /// A new connection. It is made in a place of its own: mostly there is one, and the state of making it is larger than all
    /// else of a scrape.
    async fn open(
        &self,
        url: &Url,
        tls: &Tls,
        deadline: Instant,
    ) -> Result<Connection, ScrapeError> {
        Box::pin(Connection::open(url, &self.names, tls, deadline)).await
    }
}

fn text(headers: &HeaderMap, name: http::HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

async fn read(
    exchange: &mut Exchange,
    response: &Response<()>,
    mut body: Body,
) -> Result<Content, ScrapeError> {
    let limit = body.limit;
    let announced = exchange.announced();
    let announced = announced.map(|it| usize::try_from(it).unwrap_or(usize::MAX));
    if announced.is_some_and(|it| it > limit) {
        return Err(ScrapeError::TooLarge(limit));
    }
    let encoding = text(response.headers(), CONTENT_ENCODING).unwrap_or_default();
    let mut gzip = match encoding.to_ascii_lowercase().as_str() {
        "" | "identity" => None,
        "gzip" | "x-gzip" => Some(MultiGzDecoder::new(Vec::new())),
        _ => return Err(ScrapeError::Encoding(encoding)),
    };
    if gzip.is_none() {
        if let Some(whole) = exchange.whole().await? {
            return Ok(Content::Whole(whole));
        }
        // A page larger than an ordinary one must be there before it gets room.
        if let Some(announced) = announced.filter(|it| *it <= ORDINARY) {
            body.expected = announced;
        }
    }
    let mut sent = 0_usize;
    while let Some(piece) = exchange.next().await? {
        sent = sent.saturating_add(piece.len());
        if sent > limit {
            return Err(ScrapeError::TooLarge(limit));
        }
        match &mut gzip {
            None => body.extend(piece).await?,
            Some(decoder) => unpack(decoder, piece, &mut body).await?,
        }
    }
    if let Some(decoder) = &mut gzip {
        decoder.try_finish().map_err(no_gzip)?;
        body.extend(decoder.get_ref()).await?;
    }
    Ok(Content::Gathered(body))
}

/// Takes what comes out of `chunk` over into `body`. The decoder gives it out in pieces of some 32 KB, so that a small chunk
/// cannot become a large one in memory.
async fn unpack(
    decoder: &mut MultiGzDecoder<Vec<u8>>,
    mut chunk: &[u8],
    body: &mut Body,
) -> Result<(), ScrapeError> {
    while !chunk.is_empty() {
        let taken = decoder.write(chunk).map_err(no_gzip)?;
        if taken == 0 {
            return Err(no_gzip(std::io::ErrorKind::WriteZero.into()));
        }
        body.extend(decoder.get_ref()).await?;
        decoder.get_mut().clear();
        chunk = &chunk[taken..];
    }
    Ok(())
}

fn no_gzip(_: std::io::Error) -> ScrapeError {
    ScrapeError::Encoding("gzip".to_owned())
}

/// A body being read. It grows only as far as its limit and the memory of all scrapes together allow; for that memory it waits
/// as long as the scrape may take. Most ask once, for the size of the page before, and hold nothing while they wait.
#[derive(Debug)]
struct Body {
    bytes: Vec<u8>,
    limit: usize,
    expected: usize,
    memory: Arc<Memory>,
    lease: Option<OwnedSemaphorePermit>,
    deadline: Instant,
}

impl Body {
    fn new(memory: Arc<Memory>, limit: usize, expected: usize, deadline: Instant) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
            expected,
            memory,
            lease: None,
            deadline,
        }
    }

    async fn extend(&mut self, chunk: &[u8]) -> Result<(), ScrapeError> {
        let length = self.bytes.len().saturating_add(chunk.len());
        if length > self.limit {
            return Err(ScrapeError::TooLarge(self.limit));
        }
        if length > self.bytes.capacity() {
            self.grow(length).await?;
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    async fn grow(&mut self, length: usize) -> Result<(), ScrapeError> {
        let wished = (self.expected + self.expected / 8).max(2 * self.bytes.capacity());
        let capacity = wished.min(self.limit).max(length);
        let pool = self.memory.of(capacity);
        // A page that turns out to be a large one goes over to the large ones' half.
        let stays = Arc::ptr_eq(pool, self.memory.of(self.bytes.capacity()));
        let held = self.lease.as_ref().filter(|_| stays);
        let held = held.map_or(0, |it| it.num_permits());
        let blocks = u32::try_from(capacity.div_ceil(BLOCK) - held);
        let blocks = blocks.map_err(|_| ScrapeError::Memory)?;
        let more = timeout_at(self.deadline, Arc::clone(pool).acquire_many_owned(blocks));
        let more = more.await.map_err(|_| ScrapeError::Memory)?;
        let more = more.map_err(|_| ScrapeError::Memory)?;
        match &mut self.lease {
            Some(lease) if stays => lease.merge(more),
            _ => self.lease = Some(more),
        }
        if self.bytes.capacity() == 0 && capacity <= ORDINARY {
            self.bytes = self.memory.buffers.take();
        }
        self.bytes.reserve_exact(capacity - self.bytes.len());
        Ok(())
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.memory.buffers.keep(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// With a deadline that is over: no body of these waits, but where a test gives it time.
    fn body(memory: &Arc<Memory>, limit: usize) -> Body {
        Body::new(memory.clone(), limit, 0, Instant::now())
    }

    #[tokio::test]
    async fn bodies_share_a_bounded_memory_and_give_it_back() {
        let memory = Memory::new(8);
        let mut one = body(&memory, 10 * BLOCK);
        let mut other = body(&memory, 10 * BLOCK);
        one.extend(&[b'x'; 3 * BLOCK]).await.unwrap();
        let refused = other.extend(&[b'x'; 2 * BLOCK]).await;
        assert_eq!(refused, Err(ScrapeError::Memory));
        drop(one);
        other.extend(&[b'x'; 2 * BLOCK]).await.unwrap();
        assert_eq!(memory.ordinary.available_permits(), 2);
        drop(other);
        assert_eq!(memory.ordinary.available_permits(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_waits_for_memory_until_its_scrape_is_over() {
        let memory = Memory::new(8);
        let mut one = body(&memory, 10 * BLOCK);
        one.extend(&[b'x'; 3 * BLOCK]).await.unwrap();
        let waiting = || {
            let deadline = Instant::now() + std::time::Duration::from_secs(5);
            let mut body = Body::new(memory.clone(), 10 * BLOCK, 0, deadline);
            async move { body.extend(&[b'x'; 2 * BLOCK]).await.map(|()| body) }
        };
        let begun = Instant::now();
        assert_eq!(waiting().await.err(), Some(ScrapeError::Memory));
        assert_eq!(begun.elapsed().as_secs(), 5);
        let mut other = std::pin::pin!(waiting());
        assert!(futures_util::poll!(&mut other).is_pending());
        drop(one);
        assert_eq!(other.await.unwrap().bytes.len(), 2 * BLOCK);
        assert_eq!(memory.ordinary.available_permits(), 4);
    }

    #[tokio::test]
    async fn large_bodies_leave_the_ordinary_ones_their_half() {
        let memory = Memory::new(4 * ORDINARY / BLOCK);
        let mut large = body(&memory, 100 * ORDINARY);
        large.extend(&vec![b'x'; ORDINARY]).await.unwrap();
        assert_eq!(memory.ordinary.available_permits(), ORDINARY / BLOCK);
        large.extend(&vec![b'x'; ORDINARY]).await.unwrap();
        assert_eq!(memory.ordinary.available_permits(), 2 * ORDINARY / BLOCK);
        assert_eq!(memory.large.available_permits(), 0);
        assert_eq!(large.extend(b"x").await, Err(ScrapeError::Memory));
        let mut ordinary = body(&memory, ORDINARY);
        ordinary.extend(&vec![b'x'; ORDINARY]).await.unwrap();
    }

    #[tokio::test]
    async fn a_body_takes_all_of_its_limit_and_no_byte_more() {
        let mut body = body(&Memory::new(100), 1_000);
        body.extend(&[b'x'; 999]).await.unwrap();
        body.extend(b"x").await.unwrap();
        assert_eq!(body.extend(b"x").await, Err(ScrapeError::TooLarge(1_000)));
    }

    #[tokio::test]
    async fn broken_gzip_and_a_limit_within_it_are_told_apart() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&[b'x'; 5_000]).unwrap();
        let packed = packed.finish().unwrap();
        let unpacked = async |bytes: &[u8], limit| {
            let mut body = body(&Memory::new(100), limit);
            let mut decoder = MultiGzDecoder::new(Vec::new());
            unpack(&mut decoder, bytes, &mut body).await?;
            decoder.try_finish().map_err(no_gzip)?;
            body.extend(decoder.get_ref()).await?;
            Ok(body.bytes.len())
        };
        let broken = Err(ScrapeError::Encoding("gzip".to_owned()));
        assert_eq!(unpacked(&packed, 5_000).await, Ok(5_000));
        let over = Err(ScrapeError::TooLarge(4_999));
        assert_eq!(unpacked(&packed, 4_999).await, over);
        assert_eq!(unpacked(&packed[..packed.len() - 9], 5_000).await, broken);
        assert_eq!(unpacked(b"not gzip at all", 5_000).await, broken);
    }
}
