//! The seam to the kube-apiserver: whom a token belongs to, and what a user may do.

use std::error::Error;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::attributes::RequestAttributes;
use super::user::User;

/// How long one review may take (k8s.io/apiserver `options/authentication.go`, `authorization.go`: 10 s).
const DEADLINE: Duration = Duration::from_secs(10);

/// Most reviews at a time that anybody can bring about: an eighth of the requests that are worked on.
const AT_A_TIME: usize = 64;

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
    /// Too many such reviews are under way.
    #[error("{0} reviews for callers that are not known yet are under way")]
    Busy(usize),
    /// The kube-apiserver could not be asked, or its answer makes no sense.
    #[error("review failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// Turns for reviews that anybody can bring about: of tokens, and of what a nameless user may. They must not take all places of those
/// whom the cluster knows, so over the bound they are refused at once.
pub(super) struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(AT_A_TIME))
    }
}

impl Turns {
    /// The review's outcome, as of [`in_time`], or [`ReviewError::Busy`].
    pub(super) async fn review<T>(
        &self,
        review: BoxFuture<'_, Result<T, ReviewError>>,
    ) -> Result<T, ReviewError> {
        let Ok(_turn) = self.0.try_acquire() else {
            return Err(ReviewError::Busy(AT_A_TIME));
        };
        in_time(review).await
    }
}

/// The review's outcome, or [`ReviewError::Timeout`].
pub(super) async fn in_time<T>(
    review: BoxFuture<'_, Result<T, ReviewError>>,
) -> Result<T, ReviewError> {
    tokio::time::timeout(DEADLINE, review)
        .await
        .unwrap_or(Err(ReviewError::Timeout(DEADLINE)))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::{join_all, pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_review_too_many_is_refused_at_once_and_the_next_has_its_turn() {
        let turns = Turns::default();
        let hanging = (0..AT_A_TIME).map(|_| turns.review::<()>(pending().boxed()));
        let mut hanging = Box::pin(join_all(hanging));
        assert!((&mut hanging).now_or_never().is_none());
        let refused = turns.review(ready(Ok(())).boxed()).now_or_never();
        assert!(matches!(refused, Some(Err(ReviewError::Busy(AT_A_TIME)))));
        let ended = hanging.await;
        assert!(
            ended
                .iter()
                .all(|it| matches!(it, Err(ReviewError::Timeout(_))))
        );
        assert!(turns.review(ready(Ok(())).boxed()).await.is_ok());
    }
}
