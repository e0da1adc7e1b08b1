//! Permission: who needs none, and what the kube-apiserver says of the others.

use std::fmt;
use std::sync::Arc;

use super::attributes::RequestAttributes;
use super::metrics::Outcomes;
use super::recent::Recent;
use super::reviewer::{self, Decision, ReviewError, Reviewer, Turns};
use super::user::User;
use crate::model::lookups::CacheState;
use crate::model::time::Timestamp;

/// What anyone may read: the paths that a kubelet probes (options/authorization.go:78-94).
pub const HEALTH_PATHS: [&str; 3] = ["/healthz", "/readyz", "/livez"];

/// How many decisions are remembered (webhook.go:128).
const REMEMBERED: u64 = 8192;

/// A request whose attributes are longer is asked about each time: it may be an attempt to fill memory (webhook.go:540).
const LONGEST_REMEMBERED: usize = 10_000;

/// Finds out whether a user may make a request.
pub struct Authorizer {
    always_allowed: Vec<String>,
    reviewer: Arc<dyn Reviewer>,
    decisions: Recent<(User, RequestAttributes), Decision>,
    turns: Turns,
    outcomes: Outcomes,
}

/// Why a request may not go on. Nothing that went wrong ever allows.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizationError {
    /// The user may not: 403.
    #[error("{0}")]
    Forbidden(Box<Forbidden>),
    /// The kube-apiserver could not say: 500.
    #[error("access could not be reviewed")]
    Review(#[source] Arc<ReviewError>),
}

/// A refusal in the kube-apiserver's own words; `Display` gives the message (responsewriters/errors.go:47-87).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden {
    /// Who asked.
    pub user: String,
    /// What for.
    pub attributes: RequestAttributes,
    /// Why not, if the authorizer said; else empty.
    pub reason: String,
}

impl Authorizer {
    /// `always_allowed` are paths that need no permission: exact, or a prefix with `*` at its end ([`HEALTH_PATHS`]).
    pub fn new(
        reviewer: Arc<dyn Reviewer>,
        always_allowed: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            always_allowed: always_allowed.into_iter().map(Into::into).collect(),
            reviewer,
            decisions: Recent::new(REMEMBERED),
            turns: Turns::default(),
            outcomes: Outcomes::default(),
        }
    }

    pub(super) fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// How the cache of decisions is used, and how full it is.
    pub(super) fn cache(&self) -> CacheState {
        self.decisions.state("decisions")
    }

    /// Whether the user may make the request.
    ///
    /// # Errors
    ///
    /// The user may not, or nobody could say.
    pub async fn authorize(
        &self,
        user: &User,
        attributes: &RequestAttributes,
        now: Timestamp,
    ) -> Result<(), AuthorizationError> {
        if user.is_master() || self.needs_no_permission(attributes) {
            self.outcomes.count("not_needed");
            return Ok(());
        }
        let outcome = self.review(user, attributes, now).await;
        self.outcomes.count(match &outcome {
            Ok(()) => "allowed",
            Err(AuthorizationError::Forbidden(_)) => "denied",
            Err(AuthorizationError::Review(_)) => "failed",
        });
        outcome
    }

    async fn review(
        &self,
        user: &User,
        attributes: &RequestAttributes,
        now: Timestamp,
    ) -> Result<(), AuthorizationError> {
        // Lazy: nothing is asked, or even prepared, for a decision that is remembered.
        let review = async {
            let review = self.reviewer.subject_access_review(user, attributes);
            if user.is_anonymous() {
                self.turns.review(review).await
            } else {
                reviewer::in_time(review).await
            }
        };
        let decision = if attributes.len() < LONGEST_REMEMBERED {
            let key = (user.clone(), attributes.clone());
            self.decisions.get(key, now, review).await
        } else {
            review.await.map_err(Arc::new)
        };
        let Decision { allowed, reason } = decision.map_err(AuthorizationError::Review)?;
        if allowed {
            return Ok(());
        }
        Err(AuthorizationError::Forbidden(Box::new(Forbidden {
            user: user.name.clone(),
            attributes: attributes.clone(),
            reason,
        })))
    }

    fn needs_no_permission(&self, attributes: &RequestAttributes) -> bool {
        let RequestAttributes::NonResource { path, .. } = attributes else {
            return false;
        };
        self.always_allowed
            .iter()
            .any(|allowed| match allowed.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => path == allowed,
            })
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = quoted(&self.user);
        let refused = match &self.attributes {
            RequestAttributes::NonResource { verb, path } => {
                f.write_str("forbidden: ")?;
                format!("User {user} cannot {verb} path {}", quoted(path))
            }
            RequestAttributes::Resource {
                verb,
                group,
                namespace,
                resource,
                subresource,
                name,
                ..
            } => {
                write!(f, "{resource}.{group} ")?;
                if !name.is_empty() {
                    write!(f, "{} ", quoted(name))?;
                }
                f.write_str("is forbidden: ")?;
                let resource = match subresource.as_str() {
                    "" => quoted(resource),
                    subresource => quoted(&format!("{resource}/{subresource}")),
                };
                let scope = match namespace.as_str() {
                    "" => "at the cluster scope".to_owned(),
                    namespace => format!("in the namespace {}", quoted(namespace)),
                };
                let group = quoted(group);
                format!(
                    "User {user} cannot {verb} resource {resource} in API group {group} {scope}"
                )
            }
        };
        // Go writes it with these replaced, lest a browser takes it for markup (errors.go:31).
        let refused = refused.replace('&', "&amp;");
        f.write_str(&refused.replace('<', "&lt;").replace('>', "&gt;"))?;
        if !self.reason.is_empty() {
            write!(f, ": {}", self.reason)?;
        }
        Ok(())
    }
}

/// The text as Go's `%q` writes it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            char if char.is_ascii_control() => out.push_str(&format!("\\x{:02x}", char as u32)),
            char if char.is_control() => out.push_str(&format!("\\u{:04x}", char as u32)),
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::{self, BoxFuture, FutureExt};

    use super::*;

    /// Allows `alice`, cannot say about `mallory`, refuses the others; counts how often it was asked.
    #[derive(Default)]
    struct Rules(AtomicUsize);

    impl Reviewer for Rules {
        fn token_review<'a>(
            &'a self,
            _: &'a str,
        ) -> BoxFuture<'a, Result<Option<User>, ReviewError>> {
            future::ready(Ok(None)).boxed()
        }

        fn subject_access_review<'a>(
            &'a self,
            user: &'a User,
            _: &'a RequestAttributes,
        ) -> BoxFuture<'a, Result<Decision, ReviewError>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let decision = match user.name.as_str() {
                "mallory" => Err(ReviewError::Failed("connection refused".into())),
                name => Ok(Decision {
                    allowed: name == "alice",
                    reason: String::new(),
                }),
            };
            future::ready(decision).boxed()
        }
    }

    struct Room {
        rules: Arc<Rules>,
        authorizer: Authorizer,
    }

    impl Room {
        fn new() -> Self {
            let rules = Arc::new(Rules::default());
            let authorizer = Authorizer::new(rules.clone(), ["/healthz", "/open/*"]);
            Self { rules, authorizer }
        }

        async fn ask(
            &self,
            user: &str,
            groups: &[&str],
            uri: &str,
            millis: i64,
        ) -> Result<(), AuthorizationError> {
            let user = User {
                name: user.to_owned(),
                groups: groups.iter().map(ToString::to_string).collect(),
                ..User::default()
            };
            let attributes = RequestAttributes::of(&http::Method::GET, &uri.parse().unwrap());
            let now = Timestamp::from_millis(millis);
            self.authorizer.authorize(&user, &attributes, now).await
        }

        fn asked(&self) -> usize {
            self.rules.0.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn masters_and_open_paths_are_not_asked_about() {
        let room = Room::new();
        room.ask("root", &["system:masters"], "/secret", 0)
            .await
            .unwrap();
        room.ask("bob", &[], "/healthz", 0).await.unwrap();
        room.ask("bob", &[], "/open/door", 0).await.unwrap();
        assert_eq!(room.asked(), 0);
        room.ask("bob", &[], "/healthz/etcd", 0).await.unwrap_err();
        room.ask("bob", &[], "/apis/g/v/healthz", 0)
            .await
            .unwrap_err();
    }

    #[tokio::test]
    async fn a_decision_is_remembered_for_ten_seconds_and_an_error_never() {
        let room = Room::new();
        for (millis, asked) in [(0, 1), (9_999, 1), (10_000, 2)] {
            room.ask("alice", &[], "/metrics", millis).await.unwrap();
            assert_eq!(room.asked(), asked, "after {millis} ms");
        }
        for asked in [3, 4] {
            let error = room.ask("mallory", &[], "/metrics", 0).await.unwrap_err();
            assert!(matches!(error, AuthorizationError::Review(_)), "{error}");
            assert_eq!(room.asked(), asked);
        }
    }

    #[tokio::test]
    async fn oversized_attributes_are_not_remembered() {
        let room = Room::new();
        let uri = format!("/{}", "x".repeat(LONGEST_REMEMBERED));
        room.ask("alice", &[], &uri, 0).await.unwrap();
        room.ask("alice", &[], &uri, 0).await.unwrap();
        assert_eq!(room.asked(), 2);
    }

    #[tokio::test]
    async fn a_refusal_is_worded_as_the_kube_apiserver_words_it() {
        let room = Room::new();
        let refused = async |uri: &str| room.ask("bob", &[], uri, 0).await.unwrap_err().to_string();
        assert_eq!(
            refused("/apis/metrics.k8s.io/v1beta1/namespaces/demo/pods").await,
            r#"pods.metrics.k8s.io is forbidden: User "bob" cannot list resource "pods" in API group "metrics.k8s.io" in the namespace "demo""#
        );
        assert_eq!(
            refused("/apis/custom.metrics.k8s.io/v1beta2/nodes/n1/sm_util").await,
            r#"nodes.custom.metrics.k8s.io "n1" is forbidden: User "bob" cannot get resource "nodes/sm_util" in API group "custom.metrics.k8s.io" at the cluster scope"#
        );
        assert_eq!(
            refused("/%3Cb%3E&%01").await,
            r#"forbidden: User "bob" cannot get path "/&lt;b&gt;&amp;\x01""#
        );
    }

    #[test]
    fn the_authorizers_reason_ends_the_message() {
        let forbidden = Forbidden {
            user: "a\"b\u{7f}".to_owned(),
            attributes: RequestAttributes::NonResource {
                verb: "get".to_owned(),
                path: "/".to_owned(),
            },
            reason: "no <rule>".to_owned(),
        };
        assert_eq!(
            forbidden.to_string(),
            r#"forbidden: User "a\"b\x7f" cannot get path "/": no <rule>"#
        );
    }
}
