//! One request and its answer over HTTP/1.1, on a stream that is kept for the next.
//!
//! What the protocol says is [`ureq_proto`]'s: it reads and writes nothing itself, so that where an answer's bytes lie is up to
//! this. They are read into a buffer that is taken when there is something to read and given back before anything else is
//! waited for, where the answer comes in one piece, as most do: so the few threads that scrape use the same few buffers over and
//! over, which are in the processor's caches, instead of one for each target that is waited for.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Response, Version};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_util::io::poll_read_buf;
use ureq_proto::BodyMode;
use ureq_proto::client::state::{RecvBody, RecvResponse};
use ureq_proto::client::{Call, RecvResponseResult, SendRequestResult};

use crate::transport::root_cause;

use super::request::Get;

/// How much of an answer a buffer takes. A page that fits, with its head, is read where it lies.
const BUFFER: usize = 128 << 10;

/// How much of a body that comes in chunks is taken out of them at a time.
const PIECE: usize = 16 << 10;

/// A stream of bytes.
pub(super) type Stream = Box<dyn Io>;

pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Buffers that are used over and over. One that is made anew for each page costs more than to read the page.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

/// How many lie there: as many as are used at the same time by the few threads there are.
const SPARE: usize = 4;

/// The largest that is kept.
const LARGEST: usize = 256 << 10;

impl Buffers {
    /// An empty one, the one that was used last if there is one.
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.lock().pop().unwrap_or_default()
    }

    /// Keeps a buffer for the next who needs one.
    pub(super) fn keep(&self, mut buffer: Vec<u8>) {
        if (1..=LARGEST).contains(&buffer.capacity()) {
            buffer.clear();
            let mut spare = self.0.lock();
            if spare.len() < SPARE {
                spare.push(buffer);
            }
        }
    }
}

/// Why there is no answer, or half of one.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The stream broke.
    #[error("{}", root_cause(.0))]
    Io(#[from] io::Error),
    /// The other end closed it before it said anything.
    #[error("closed without an answer")]
    Unanswered,
    /// The other end closed it within its answer.
    #[error("closed before its end")]
    Half,
    /// What came is no HTTP.
    #[error("it is no HTTP: {0}")]
    Protocol(#[from] ureq_proto::Error),
    /// A line of the answer's head, or between its chunks, does not end.
    #[error("a line of it, outside its body, has more than {BUFFER} bytes")]
    Line,
}

/// A stream that a request is sent on.
pub(super) struct Exchange {
    stream: Stream,
    buffers: Arc<Buffers>,
    /// What has come and was not taken, behind what was.
    read: Vec<u8>,
    taken: usize,
    state: State,
    /// What was taken out of chunks.
    piece: Vec<u8>,
    /// Whether another request may follow.
    is_kept: bool,
}

enum State {
    /// As many bytes are still to come.
    Length(u64),
    /// Chunks, until one says that it is the last.
    Chunks(Box<Call<RecvBody>>),
    /// What comes until the other end closes the stream.
    Open,
}

impl State {
    /// That of the body which follows a head.
    fn of_body(call: Call<RecvResponse>) -> Self {
        let Some(RecvResponseResult::RecvBody(call)) = call.proceed() else {
            return Self::Length(0);
        };
        match call.body_mode() {
            BodyMode::NoBody => Self::Length(0),
            BodyMode::LengthDelimited(length) => Self::Length(length),
            BodyMode::Chunked => Self::Chunks(Box::new(call)),
            BodyMode::CloseDelimited => Self::Open,
        }
    }
}

/// What reads the answer to a GET. Of the request it needs no more than that.
fn answer_to_get() -> Result<Call<RecvResponse>, ureq_proto::Error> {
    let mut call = Call::new(Request::new(()))?.proceed();
    call.write(&mut [0; 64])?;
    match call.proceed()? {
        Some(SendRequestResult::RecvResponse(call)) => Ok(call),
        _ => Err(ureq_proto::Error::OutputOverflow),
    }
}

/// How a body goes on.
enum Step {
    /// With these of the bytes that were read.
    Lies(Range<usize>),
    /// With so many that were taken out of chunks.
    Made(usize),
    /// With what has not come yet.
    Fill,
    End,
}

impl Exchange {
    pub(super) fn new(stream: Stream, buffers: Arc<Buffers>) -> Self {
        Self {
            stream,
            buffers,
            read: Vec::new(),
            taken: 0,
            state: State::Length(0),
            piece: Vec::new(),
            is_kept: false,
        }
    }

    /// Sends a request, and gives the head of its answer. While that is waited for nothing is kept of the request.
    pub(super) fn send<'a>(
        &'a mut self,
        get: &Get<'_>,
    ) -> impl Future<Output = Result<Response<()>, Fault>> + use<'a> {
        let mut request = self.buffers.take();
        get.write(&mut request);
        async move {
            self.stream.write_all(&request).await?;
            self.stream.flush().await?;
            self.buffers.keep(request);
            loop {
                match self.fill().await {
                    Ok(true) => {}
                    // Over TLS it is an error where the other end does not say that it closes.
                    Err(Fault::Io(error)) if error.kind() != ErrorKind::UnexpectedEof => {
                        return Err(error.into());
                    }
                    Ok(false) | Err(Fault::Io(_)) if self.taken == self.read.len() => {
                        return Err(Fault::Unanswered);
                    }
                    Ok(false) | Err(Fault::Io(_)) => return Err(Fault::Half),
                    Err(fault) => return Err(fault),
                }
                if let Some(response) = self.head()? {
                    return Ok(response);
                }
            }
        }
    }

    /// The head of the answer, if all of it is there. What only announces another is passed over.
    fn head(&mut self) -> Result<Option<Response<()>>, Fault> {
        let mut call = answer_to_get()?;
        loop {
            let (used, response) = call.try_response(&self.read[self.taken..], false)?;
            self.taken += used;
            if let Some(response) = response {
                self.is_kept = is_kept(&response);
                self.state = State::of_body(call);
                return Ok(Some(response));
            }
            if used == 0 {
                return Ok(None);
            }
        }
    }

    /// How long the body is, where its head tells.
    pub(super) fn announced(&self) -> Option<u64> {
        match self.state {
            State::Length(length) => Some(length),
            State::Chunks(_) | State::Open => None,
        }
    }

    /// The whole body where it lies, if its length is known and it has room there. Else it is still to be read.
    pub(super) async fn whole(&mut self) -> Result<Option<Whole>, Fault> {
        self.forget();
        let length = self.announced().and_then(|it| usize::try_from(it).ok());
        let room = BUFFER.saturating_sub(self.taken);
        let Some(length) = length.filter(|length| *length <= room) else {
            return Ok(None);
        };
        let place = self.taken..self.taken + length;
        while self.read.len() < place.end {
            if !self.fill().await? {
                return Err(Fault::Half);
            }
        }
        self.state = State::Length(0);
        self.is_kept &= self.read.len() == place.end;
        self.taken = 0;
        Ok(Some(Whole {
            bytes: std::mem::take(&mut self.read),
            place,
            buffers: Arc::clone(&self.buffers),
        }))
    }

    /// The next bytes of the body; `None` at its end.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>, Fault> {
        loop {
            match self.step()? {
                Step::Lies(place) => return Ok(Some(&self.read[place])),
                Step::Made(length) => return Ok(Some(&self.piece[..length])),
                Step::End => return Ok(None),
                Step::Fill => {}
            }
            if !self.fill().await? {
                if !matches!(self.state, State::Open) {
                    return Err(Fault::Half);
                }
                self.state = State::Length(0);
                self.is_kept = false;
            }
        }
    }

    /// Goes on with the body as far as what was read reaches.
    fn step(&mut self) -> Result<Step, Fault> {
        loop {
            let there = self.taken..self.read.len();
            match &mut self.state {
                State::Length(0) => return Ok(Step::End),
                State::Length(_) | State::Open if there.is_empty() => return Ok(Step::Fill),
                State::Length(length) => {
                    let some = usize::try_from(*length).unwrap_or(usize::MAX);
                    let some = some.min(there.len());
                    *length -= some as u64;
                    self.taken += some;
                    return Ok(Step::Lies(there.start..self.taken));
                }
                State::Open => {
                    self.taken = there.end;
                    return Ok(Step::Lies(there));
                }
                State::Chunks(call) => {
                    self.piece.resize(PIECE, 0);
                    let (used, made) = call.read(&self.read[there], &mut self.piece)?;
                    self.taken += used;
                    if call.can_proceed() {
                        self.state = State::Length(0);
                    }
                    if made > 0 {
                        return Ok(Step::Made(made));
                    }
                    if used == 0 && matches!(self.state, State::Chunks(_)) {
                        return Ok(Step::Fill);
                    }
                }
            }
        }
    }

    /// Reads what there is, and waits for it if there is nothing; `false` if the other end has closed the stream.
    async fn fill(&mut self) -> Result<bool, Fault> {
        self.forget();
        if self.read.len() >= BUFFER {
            if self.taken == 0 {
                return Err(Fault::Line);
            }
            self.read.drain(..self.taken);
            self.taken = 0;
        }
        let (stream, buffers, read) = (&mut self.stream, &self.buffers, &mut self.read);
        let count = poll_fn(|context| {
            if read.capacity() == 0 {
                *read = buffers.take();
            }
            read.reserve_exact(BUFFER.saturating_sub(read.len()));
            let polled = poll_read_buf(Pin::new(&mut *stream), context, read);
            if polled.is_pending() && read.is_empty() {
                buffers.keep(std::mem::take(read));
            }
            polled
        });
        Ok(count.await? > 0)
    }

    /// Forgets what was read, if all of it was taken.
    fn forget(&mut self) {
        if self.taken == self.read.len() {
            self.read.clear();
            self.taken = 0;
        }
    }

    /// The stream, after a whole answer, if another request may follow.
    pub(super) fn end(self) -> Option<Stream> {
        let is_over = matches!(self.state, State::Length(0));
        // Bytes that nobody asked for would be taken for the next answer.
        let is_clean = self.taken == self.read.len();
        self.buffers.keep(self.read);
        (is_over && is_clean && self.is_kept).then_some(self.stream)
    }
}

/// Whether another request may follow on the same stream. HTTP/1.0 is not asked to, nor is who says twice where a body ends
/// (RFC 9112, 6.3).
fn is_kept(response: &Response<()>) -> bool {
    let headers = response.headers();
    let says_twice =
        headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH);
    let closes = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or("close");
        let mut options = text.split(',').map(str::trim);
        options.any(|it| it.eq_ignore_ascii_case("close"))
    };
    let closes = headers.get_all(CONNECTION).iter().any(closes);
    response.version() == Version::HTTP_11 && !says_twice && !closes
}

/// A body in the buffer that it was read into, which is kept for the next when this is dropped.
#[derive(Debug)]
pub(super) struct Whole {
    bytes: Vec<u8>,
    place: Range<usize>,
    buffers: Arc<Buffers>,
}

impl Whole {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.place.clone()]
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        self.buffers.keep(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
