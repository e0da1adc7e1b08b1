//! Why a backend gave no answer. The texts end up in the HPA's conditions: they stay the same as long as the situation does,
//! and hold no credentials.

use std::fmt;
use std::sync::Arc;

use crate::model::time::Timestamp;
use crate::transport::{SendFault, SettingsError};

/// What is wrong with one request. The text stands behind the server's URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It, or the rest of it, did not come.
    #[error(transparent)]
    Send(#[from] SendFault),
    /// Our own files of TLS or credentials cannot be used.
    #[error("was not asked: {0}")]
    Settings(#[from] SettingsError),
    /// No token for it.
    #[error("was not asked, for want of a token: {0}")]
    Token(String),
    /// A status that stands for a failure, and nothing of use with it.
    #[error("answers {0}")]
    Status(u16),
    /// A failure in Prometheus's own form.
    #[error("answers {status}: {kind}: {message}")]
    Failed {
        /// The HTTP status.
        status: u16,
        /// `errorType`.
        kind: String,
        /// `error`.
        message: String,
    },
    /// The query itself is at fault, and asking again does not help.
    #[error("refuses the query: {kind}: {message}")]
    Query {
        /// `errorType`.
        kind: String,
        /// `error`.
        message: String,
    },
    /// Something else than JSON, as of a proxy or a login page.
    #[error("answers with something that is not JSON ({0})")]
    NotJson(String),
    /// JSON that ends too early.
    #[error("answers with JSON that breaks off in the middle")]
    HalfJson,
    /// JSON of another form.
    #[error("answers with JSON that is not Prometheus's: {0}")]
    Form(String),
    /// Neither data nor an error.
    #[error("answers without data (\"data\" is null)")]
    NoData,
    /// Only a part of the data, which would make sums too small.
    #[error("answers with a part of the data only")]
    Partial,
    /// An answer that is no vector and no number.
    #[error("answers with a {0}, where an instant vector or a number is needed")]
    Type(&'static str),
    /// A longer answer than may be.
    #[error("answers with more than {0} bytes")]
    TooLarge(u64),
    /// All the requests that may be in flight are.
    #[error("was not asked: too many queries wait for it")]
    Busy,
    /// It is being asked for its series, which takes long.
    #[error("has not yet told its series")]
    Pending,
}

impl Fault {
    /// Whether the query, not the server, is at fault.
    pub(super) fn is_of_query(&self) -> bool {
        matches!(self, Self::Query { .. } | Self::Type(_))
    }
}

/// A replica that gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaFault {
    /// Its URL, without credentials.
    pub url: Arc<str>,
    /// Why not.
    pub fault: Fault,
    /// Since when it has given none, where it is known to be down.
    pub since: Option<Timestamp>,
}

/// Why a backend has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendError {
    /// The backend's name.
    pub backend: Arc<str>,
    /// What was wrong with each replica that was asked.
    pub replicas: Vec<ReplicaFault>,
}

impl std::error::Error for BackendError {}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backend {}", self.backend)?;
        for (index, replica) in self.replicas.iter().enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            write!(f, "{separator}{} {}", replica.url, replica.fault)?;
            if let Some(since) = replica.since {
                write!(f, ", since {since}")?;
            }
        }
        Ok(())
    }
}

/// The start of a text from elsewhere.
pub(super) fn cut(text: &str) -> String {
    const MOST: usize = 300;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
