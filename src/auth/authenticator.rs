//! Proof of identity: which proofs are tried, in which order, and what is remembered of them.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::{digest, hmac};
use http::HeaderMap;
use rustls::pki_types::CertificateDer;

use super::certificate::{self, CertificateFault, Verdict};
use super::headers::{self, NotText};
use super::metrics::Outcomes;
use super::recent::Recent;
use super::reviewer::{ReviewError, Reviewer, Turns};
use super::trust::Trust;
use super::user::User;
use crate::model::lookups::CacheState;
use crate::model::time::Timestamp;

/// How many chains and how many tokens are remembered.
const REMEMBERED: u64 = 4096;

/// Finds out who makes a request.
///
/// Proofs are tried in the order of delegating.go:69-128: front-proxy headers, client certificate, bearer token.
/// The first that succeeds wins, one that fails does not stop the next; with no proof at all the user is anonymous.
pub struct Authenticator {
    trust: ArcSwap<Generation>,
    reviewer: Arc<dyn Reviewer>,
    certificates: Recent<(Digest, u64), Verdict>,
    tokens: Recent<Digest, Option<User>>,
    turns: Turns,
    outcomes: Outcomes,
    /// Of this process alone: what is remembered of a token is of no use to anyone who reads it.
    token_key: hmac::Key,
}

/// A trust and its number, so that a verdict never outlives the trust that it was given under.
struct Generation {
    number: u64,
    trust: Trust,
}

type Digest = [u8; 32];

/// Proofs were given, and none holds: 401.
#[derive(Debug, thiserror::Error)]
pub struct Unauthenticated {
    /// What is wrong with each, in the order tried; never empty. For the log, not for the client.
    pub causes: Vec<Cause>,
}

impl fmt::Display for Unauthenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no proof of identity holds")?;
        for (index, cause) in self.causes.iter().enumerate() {
            write!(f, "{} {cause}", if index == 0 { ":" } else { ";" })?;
            let mut source = std::error::Error::source(cause);
            while let Some(error) = source {
                write!(f, ": {error}")?;
                source = error.source();
            }
        }
        Ok(())
    }
}

/// Why one proof does not hold.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The peer's certificate is not that of a front proxy.
    #[error("certificate refused as a front proxy's")]
    FrontProxy(#[source] CertificateFault),
    /// A front proxy sent a header that cannot be read.
    #[error("front proxy's headers refused")]
    Headers(#[source] NotText),
    /// The peer's certificate is not that of a client of the cluster.
    #[error("certificate refused as a client's")]
    ClientCertificate(#[source] CertificateFault),
    /// The kube-apiserver does not know the token.
    #[error("invalid bearer token")]
    InvalidToken,
    /// The kube-apiserver could not say whose token it is.
    #[error("bearer token could not be reviewed")]
    TokenReview(#[source] Arc<ReviewError>),
}

impl Authenticator {
    /// Trusts nobody until [`Self::set_trust`]; tokens are reviewed from the start.
    ///
    /// # Panics
    ///
    /// When the system gives no random numbers.
    pub fn new(reviewer: Arc<dyn Reviewer>) -> Self {
        Self {
            trust: ArcSwap::from_pointee(Generation {
                number: 0,
                trust: Trust::default(),
            }),
            reviewer,
            certificates: Recent::new(REMEMBERED),
            tokens: Recent::new(REMEMBERED),
            turns: Turns::default(),
            outcomes: Outcomes::default(),
            token_key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
                .expect("the system has random numbers"),
        }
    }

    /// From the next request on, also on connections that are open, only this trust counts.
    pub fn set_trust(&self, trust: Trust) {
        self.trust.rcu(|current| Generation {
            number: current.number + 1,
            trust: trust.clone(),
        });
    }

    /// Whether any trust was ever set: until then the server cannot know its front proxy.
    pub fn has_trust(&self) -> bool {
        self.trust.load().number > 0
    }

    /// Who makes the request: `chain` is what the peer presented in the handshake (DER, leaf first).
    ///
    /// On success every header that carries an identity or a credential is gone from `headers`.
    ///
    /// # Errors
    ///
    /// Proofs were given and none holds.
    pub async fn authenticate<C: AsRef<[u8]>>(
        &self,
        chain: &[C],
        headers: &mut HeaderMap,
        now: Timestamp,
    ) -> Result<User, Unauthenticated> {
        let current = self.trust.load_full();
        let mut causes = Vec::new();
        let proven = self
            .try_proofs(&current, chain, headers, now, &mut causes)
            .await;
        let (proof, user) = match proven {
            Some((proof, user)) => (proof, user.authenticated()),
            None if causes.is_empty() => ("anonymous", User::anonymous()),
            None => {
                self.outcomes.count("refused");
                return Err(Unauthenticated { causes });
            }
        };
        self.outcomes.count(proof);
        current.trust.headers.strip(headers);
        Ok(user)
    }

    pub(super) fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// How the caches of certificates and of tokens are used, and how full they are.
    pub(super) fn caches(&self) -> [CacheState; 2] {
        let certificates = self.certificates.state("certificates");
        [certificates, self.tokens.state("tokens")]
    }

    async fn try_proofs<C: AsRef<[u8]>>(
        &self,
        current: &Generation,
        chain: &[C],
        headers: &HeaderMap,
        now: Timestamp,
        causes: &mut Vec<Cause>,
    ) -> Option<(&'static str, User)> {
        if !chain.is_empty() {
            let verdict = self.verdict(current, chain, now).await;
            match verdict.front_proxy {
                Some(Ok(())) => match current.trust.headers.user(headers) {
                    Ok(Some(user)) => return Some(("front_proxy", user)),
                    Ok(None) => {}
                    Err(fault) => causes.push(Cause::Headers(fault)),
                },
                Some(Err(fault)) => causes.push(Cause::FrontProxy(fault)),
                None => {}
            }
            match verdict.user {
                Some(Ok(user)) => return Some(("client_certificate", user)),
                Some(Err(fault)) => causes.push(Cause::ClientCertificate(fault)),
                None => {}
            }
        }
        let token = headers::bearer(headers)?;
        match self.owner(&token, now).await {
            Ok(Some(user)) => return Some(("token", user)),
            Ok(None) => causes.push(Cause::InvalidToken),
            Err(fault) => causes.push(Cause::TokenReview(fault)),
        }
        None
    }

    async fn verdict<C: AsRef<[u8]>>(
        &self,
        current: &Generation,
        chain: &[C],
        now: Timestamp,
    ) -> Verdict {
        let fingerprint = sha256(&[chain[0].as_ref()]);
        let parts: Vec<&[u8]> = chain.iter().map(AsRef::as_ref).collect();
        let key = (sha256(&parts), current.number);
        let judge = async {
            let chain: Vec<_> = parts.iter().copied().map(CertificateDer::from).collect();
            let verdict = certificate::judge(&chain, &fingerprint, &current.trust, now);
            Ok::<_, std::convert::Infallible>(verdict)
        };
        match self.certificates.get(key, now, judge).await {
            Ok(verdict) => verdict,
            Err(never) => match *never {},
        }
    }

    async fn owner(&self, token: &str, now: Timestamp) -> Result<Option<User>, Arc<ReviewError>> {
        let mut key = Digest::default();
        key.copy_from_slice(hmac::sign(&self.token_key, token.as_bytes()).as_ref());
        let review = async { self.turns.review(self.reviewer.token_review(token)).await };
        self.tokens.get(key, now, review).await
    }
}

/// The digest of the parts, each with its length, so that no two lists of parts are mistaken for another.
fn sha256(parts: &[&[u8]]) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        if parts.len() > 1 {
            context.update(&part.len().to_be_bytes());
        }
        context.update(part);
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
