//! The seam to the kube-apiserver: whom a token belongs to, and what a user may do.

use std::error::Error;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::attributes::RequestAttributes;
use super::user::User;

/// How long one review may take (k8s.io/apiserver `options/authentication.go`, `authorization.go`: 10 s).
const DEADLINE: Duration = Duration::from_secs(10);

/// Asks the kube-apiserver. Answers are cached by the caller; an implementation only asks.
pub trait Reviewer: Send + Sync {
    /// Whom the bearer token belongs to (a TokenReview); `None` when it is not valid.
    fn token_review<'a>(
        &'a self,
        token: &'a str,
    ) -> BoxFuture<'a, Result<Option<User>, ReviewError>>;

    /// Whether the user may make the request (a SubjectAccessReview). An answer that both allows and denies is an error.
    fn subject_access_review<'a>(
        &'a self,
        user: &'a User,
        attributes: &'a RequestAttributes,
    ) -> BoxFuture<'a, Result<Decision, ReviewError>>;
}

/// What a SubjectAccessReview said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// `status.allowed`; no opinion is a no.
    pub allowed: bool,
    /// `status.reason`, empty when none was given.
    pub reason: String,
}

/// Why there is no answer from the kube-apiserver. Retried with the next request.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The kube-apiserver did not answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The kube-apiserver could not be asked, or its answer makes no sense.
    #[error("review failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// The review's outcome, or [`ReviewError::Timeout`].
pub(super) async fn in_time<T>(
    review: BoxFuture<'_, Result<T, ReviewError>>,
) -> Result<T, ReviewError> {
    tokio::time::timeout(DEADLINE, review)
        .await
        .unwrap_or(Err(ReviewError::Timeout(DEADLINE)))
}
