//! Why a scrape gave nothing.

use std::time::Duration;

use http::StatusCode;

use crate::transport::SettingsError;

/// Why a scrape gave nothing. Every variant is retried at the next interval. A user reads the text behind the target's
/// name, in the HPA's message for instance; it does not repeat the URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScrapeError {
    /// No connection: the target's address is wrong, or it is down.
    #[error("{0}")]
    Connect(String),
    /// The job's credentials or TLS settings cannot be used: a file is missing, or holds something else.
    #[error("not asked: {0}")]
    Settings(#[from] SettingsError),
    /// The target's certificate does not count. The text is the same from scrape to scrape, unlike rustls's own.
    #[error("{0}")]
    Certificate(&'static str),
    /// The connection broke, or what came is no HTTP.
    #[error("the answer broke off: {0}")]
    Broken(String),
    /// The page was not there in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Another status than 200.
    #[error("answered {}", .0.as_u16())]
    Status(StatusCode),
    /// The page is elsewhere; only redirects to the same scheme, host and port are followed.
    #[error("redirects to another host ({0}), which is not followed")]
    Redirect(String),
    /// Redirects that do not end, or lead nowhere.
    #[error("redirects in circles")]
    Circle,
    /// Too long as sent, or decompressed.
    #[error("body passed the limit of {0} bytes")]
    TooLarge(usize),
    /// While the scrape had time, the others held as much as they may.
    #[error(
        "no memory for the body in time: others hold the half of limits.buffers that pages of its size may have"
    )]
    Memory,
    /// The body's encoding is not one that was offered, or is broken.
    #[error("body is not readable as {0}")]
    Encoding(String),
    /// 200 with nothing in it, as dcgm-exporter answers while it reloads.
    #[error("answered without any sample")]
    Empty,
    /// Not a single line of the page can be read, as of an HTML page.
    #[error("no line of the page is a sample ({reason}: {line:?})")]
    Unreadable {
        /// What is wrong with the first of them.
        reason: String,
        /// That line, cut.
        line: String,
    },
    /// The page has samples, but rules, limits and timestamps left none.
    #[error("none of the {0} samples of the page was kept")]
    NoneKept(u64),
    /// More samples than the job may have.
    #[error("page passed the limit of {0} samples")]
    TooManySamples(usize),
}

impl ScrapeError {
    /// The kind of failure, as a metric's label value.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Certificate(_) => "certificate",
            Self::Settings(_) => "settings",
            Self::Broken(_) => "broken",
            Self::Timeout(_) => "timeout",
            Self::Status(_) => "status",
            Self::Redirect(_) | Self::Circle => "redirect",
            Self::TooLarge(_) => "too_large",
            Self::Memory => "memory",
            Self::Encoding(_) => "encoding",
            Self::Empty => "empty",
            Self::Unreadable { .. } => "unreadable",
            Self::NoneKept(_) => "none_kept",
            Self::TooManySamples(_) => "too_many_samples",
        }
    }
}
