//! Questions about callers, put to kube-apiserver: `auth` decides what to ask, `cluster` asks.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReviewSpec,
};

use crate::auth::{Decision, RequestAttributes, ReviewError, Reviewer, User};
use crate::cluster::reviews;

/// Asks the cluster that `client` belongs to.
pub(super) struct ClusterReviewer {
    pub(super) client: kube::Client,
}

impl Reviewer for ClusterReviewer {
    fn token_review<'a>(
        &'a self,
        token: &'a str,
    ) -> BoxFuture<'a, Result<Option<User>, ReviewError>> {
        async move {
            let status = reviews::token_review(&self.client, token, &[])
                .await
                .map_err(failed)?;
            match (status.authenticated.unwrap_or(false), status.user) {
                (true, Some(info)) => Ok(user(info)),
                _ => Ok(None),
            }
        }
        .boxed()
    }

    fn subject_access_review<'a>(
        &'a self,
        user: &'a User,
        attributes: &'a RequestAttributes,
    ) -> BoxFuture<'a, Result<Decision, ReviewError>> {
        async move {
            let status = reviews::subject_access_review(&self.client, spec(user, attributes))
                .await
                .map_err(failed)?;
            let denied = status.denied.unwrap_or(false);
            if status.allowed && denied {
                return Err(ReviewError::Failed(
                    "the review both allows and denies".into(),
                ));
            }
            Ok(Decision {
                allowed: status.allowed && !denied,
                reason: status.reason.unwrap_or_default(),
            })
        }
        .boxed()
    }
}

fn failed(error: reviews::ReviewError) -> ReviewError {
    ReviewError::Failed(Box::new(error))
}

/// A user without a name is nobody.
fn user(info: UserInfo) -> Option<User> {
    Some(User {
        name: info.username.filter(|name| !name.is_empty())?,
        uid: info.uid.filter(|uid| !uid.is_empty()),
        groups: info.groups.unwrap_or_default(),
        extra: info.extra.unwrap_or_default(),
    })
}

fn spec(user: &User, attributes: &RequestAttributes) -> SubjectAccessReviewSpec {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut spec = SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: user.uid.clone(),
        groups: Some(user.groups.clone()),
        extra: (!user.extra.is_empty()).then(|| user.extra.clone()),
        ..SubjectAccessReviewSpec::default()
    };
    match attributes {
        RequestAttributes::Resource {
            verb,
            group,
            version,
            namespace,
            resource,
            subresource,
            name,
        } => {
            spec.resource_attributes = Some(ResourceAttributes {
                verb: some(verb),
                group: some(group),
                version: some(version),
                namespace: some(namespace),
                resource: some(resource),
                subresource: some(subresource),
                name: some(name),
                ..ResourceAttributes::default()
            });
        }
        RequestAttributes::NonResource { verb, path } => {
            spec.non_resource_attributes = Some(NonResourceAttributes {
                verb: some(verb),
                path: some(path),
            });
        }
    }
    spec
}
