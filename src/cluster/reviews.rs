//! Questions to kube-apiserver about a caller: whose token is this, and may that user do this?
//!
//! Each takes at most [`DEADLINE`](super::request::DEADLINE), retries included. Nothing is cached here.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::authorization::v1::{
    SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};

use super::request::{RequestError, bounded};

/// Why a question about a caller has no answer. That is never a yes.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// No answer came.
    #[error("the review failed")]
    Request(#[from] RequestError),
    /// The answer says neither yes nor no.
    #[error("the review came back without a status")]
    NoStatus,
}

/// Asks whose token this is. The answer's `authenticated`, `user` and `error` are the API server's; where `audiences`
/// were given, the caller must see that one of them is among the answer's.
///
/// # Errors
/// When there is no answer. A token that nobody knows is an answer.
pub async fn token_review(
    client: &Client,
    token: &str,
    audiences: &[String],
) -> Result<TokenReviewStatus, ReviewError> {
    let review = TokenReview {
        metadata: ObjectMeta::default(),
        spec: TokenReviewSpec {
            token: Some(token.to_owned()),
            audiences: (!audiences.is_empty()).then(|| audiences.to_vec()),
        },
        status: None,
    };
    let reviews = Api::<TokenReview>::all(client.clone());
    let answer = bounded(|| reviews.create(&PARAMS, &review)).await?;
    answer.status.ok_or(ReviewError::NoStatus)
}

/// Asks whether a user may do something. `denied` is a no even beside `allowed`; where neither is set, it is a no.
///
/// # Errors
/// When there is no answer.
pub async fn subject_access_review(
    client: &Client,
    spec: SubjectAccessReviewSpec,
) -> Result<SubjectAccessReviewStatus, ReviewError> {
    let review = SubjectAccessReview {
        metadata: ObjectMeta::default(),
        spec,
        status: None,
    };
    let reviews = Api::<SubjectAccessReview>::all(client.clone());
    let answer = bounded(|| reviews.create(&PARAMS, &review)).await?;
    answer.status.ok_or(ReviewError::NoStatus)
}

const PARAMS: PostParams = PostParams {
    dry_run: false,
    field_manager: None,
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::fake_api::{Answer, FakeApi};

    const TOKENS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
    const ACCESS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

    #[tokio::test]
    async fn a_known_token_has_a_user() {
        let api = FakeApi::start().await;
        let status = json!({"authenticated": true, "user": {"username": "alice"}});
        api.answer(TOKENS, Answer::Json(json!({"status": status})), 1);
        let status = token_review(&api.client(), "secret", &["metrics".to_owned()])
            .await
            .expect("an answer");
        assert_eq!(status.authenticated, Some(true));
        assert_eq!(
            status.user.and_then(|user| user.username).as_deref(),
            Some("alice")
        );
        let asked: serde_json::Value =
            serde_json::from_str(&api.bodies()[0]).expect("a JSON request");
        assert_eq!(asked["kind"], "TokenReview");
        assert_eq!(
            asked["spec"],
            json!({"token": "secret", "audiences": ["metrics"]})
        );
    }

    #[tokio::test]
    async fn a_server_that_is_briefly_unable_is_asked_again() {
        let api = FakeApi::start().await;
        let allowed = Answer::Json(json!({"status": {"allowed": true}}));
        api.answer(ACCESS, allowed, usize::MAX);
        api.answer(ACCESS, Answer::Status(500, "InternalError"), 1);
        let spec = SubjectAccessReviewSpec {
            user: Some("alice".to_owned()),
            ..SubjectAccessReviewSpec::default()
        };
        let status = subject_access_review(&api.client(), spec)
            .await
            .expect("an answer");
        assert!(status.allowed);
        assert_eq!(api.requests().len(), 2);
    }

    #[tokio::test]
    async fn neither_silence_nor_an_empty_answer_is_a_yes() {
        let api = FakeApi::start().await;
        api.answer(ACCESS, Answer::Json(json!({})), 1);
        let spec = SubjectAccessReviewSpec::default();
        let empty = subject_access_review(&api.client(), spec.clone()).await;
        assert!(matches!(empty, Err(ReviewError::NoStatus)), "{empty:?}");
        api.answer(ACCESS, Answer::Status(403, "Forbidden"), 1);
        let refused = subject_access_review(&api.client(), spec).await;
        assert!(
            matches!(
                &refused,
                Err(ReviewError::Request(error)) if error.refusal().is_some_and(|s| s.code == 403)
            ),
            "{refused:?}"
        );
    }
}
