//! The serving identity, in a Secret that all replicas share: certificate, key, and the CA that signed them.
//!
//! What the bytes mean is the caller's business. Here it is only made sure that replicas which start or renew at the
//! same moment end up with the same ones: the API server lets one of them win, and the others take what it wrote.

use std::collections::BTreeMap;
use std::error::Error;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::core::{ObjectMeta, Status};
use kube::{Api, Client};
use tracing::info;

use super::request::{RequestError, bounded};

/// The keys that the Secret must hold: certificate and key (as `kubernetes.io/tls` has them), the CA's certificate, and
/// the CA's key.
pub const KEYS: [&str; 4] = ["tls.crt", "tls.key", "ca.crt", "ca.key"];

/// How often somebody else may be first before it is given up.
const ROUNDS: usize = 5;

/// What a Secret holds.
pub type SecretBytes = BTreeMap<String, Vec<u8>>;

/// Why there is no serving identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError<E: Error + 'static> {
    /// The API server did not do as asked.
    #[error("cannot {verb} the Secret {secret}")]
    Request {
        /// `read`, `create` or `replace`.
        verb: &'static str,
        /// The Secret, as `namespace/name`.
        secret: String,
        /// What it answered.
        #[source]
        source: RequestError,
    },
    /// No identity could be made.
    #[error("cannot make a serving identity")]
    Make(#[source] E),
    /// The Secret is there, but what it holds cannot be used. It is left as it is.
    #[error(
        "the Secret {secret} cannot be used; if nothing else needs it, delete it and a new one is made"
    )]
    Unusable {
        /// The Secret, as `namespace/name`.
        secret: String,
        /// What is wrong with it.
        #[source]
        source: E,
    },
    /// The Secret is there, but is not one of ours. It is left as it is.
    #[error(
        "the Secret {secret} has no {key}; if nothing else needs it, delete it and a new one is made"
    )]
    Incomplete {
        /// The Secret, as `namespace/name`.
        secret: String,
        /// The first key of [`KEYS`] that is absent or empty.
        key: &'static str,
    },
    /// Others changed the Secret each time in between.
    #[error("the Secret {secret} changed under each of {ROUNDS} attempts")]
    Contended {
        /// The Secret, as `namespace/name`.
        secret: String,
    },
}

/// The bytes of the Secret `namespace/name`; where there is no such Secret, those of `make`, stored.
///
/// `renew` looks at what is stored: `Ok(None)` keeps it, `Ok(Some(..))` replaces those keys, an error leaves the Secret
/// alone and is passed on. Replicas learn of a renewal by calling this again from time to time.
///
/// # Errors
/// See [`IdentityError`]. Only those about requests may heal by themselves.
pub async fn load_or_create<E: Error + 'static>(
    client: &Client,
    namespace: &str,
    name: &str,
    make: impl Fn() -> Result<SecretBytes, E>,
    renew: impl Fn(&SecretBytes) -> Result<Option<SecretBytes>, E>,
) -> Result<SecretBytes, IdentityError<E>> {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let secret = format!("{namespace}/{name}");
    let failed = |verb, source| IdentityError::Request {
        verb,
        secret: secret.clone(),
        source,
    };
    let params = PostParams::default();
    for _ in 0..ROUNDS {
        let found = bounded(|| secrets.get_opt(name))
            .await
            .map_err(|error| failed("read", error))?;
        let Some(found) = found else {
            let new = new_secret(name, make().map_err(IdentityError::Make)?);
            match bounded(|| secrets.create(&params, &new)).await {
                Ok(created) => {
                    info!(%secret, "serving identity created");
                    return Ok(bytes(&created));
                }
                Err(error) if refused(&error, Status::is_already_exists) => continue,
                Err(error) => return Err(failed("create", error)),
            }
        };
        match verdict(&bytes(&found), &renew) {
            Verdict::Keep => return Ok(bytes(&found)),
            Verdict::Replace(new) => {
                let new = with_bytes(found, new);
                match bounded(|| secrets.replace(name, &params, &new)).await {
                    Ok(replaced) => {
                        info!(%secret, "serving identity renewed");
                        return Ok(bytes(&replaced));
                    }
                    Err(error) if lost(&error) => {}
                    Err(error) => return Err(failed("replace", error)),
                }
            }
            Verdict::Incomplete(key) => return Err(IdentityError::Incomplete { secret, key }),
            Verdict::Unusable(source) => return Err(IdentityError::Unusable { secret, source }),
        }
    }
    Err(IdentityError::Contended { secret })
}

/// What is to become of a Secret that exists.
#[derive(Debug, PartialEq, Eq)]
enum Verdict<E> {
    Keep,
    Replace(SecretBytes),
    Incomplete(&'static str),
    Unusable(E),
}

/// An incomplete Secret is only kept from harm, not repaired: it may be somebody's own.
fn verdict<E>(
    known: &SecretBytes,
    renew: impl Fn(&SecretBytes) -> Result<Option<SecretBytes>, E>,
) -> Verdict<E> {
    let missing = |key: &&&str| known.get(**key).is_none_or(Vec::is_empty);
    match (renew(known), KEYS.iter().find(missing)) {
        (Ok(Some(new)), _) => Verdict::Replace(new),
        (_, Some(key)) => Verdict::Incomplete(key),
        (Ok(None), None) => Verdict::Keep,
        (Err(error), None) => Verdict::Unusable(error),
    }
}

/// Whether the Secret has changed or gone since it was read.
fn lost(error: &RequestError) -> bool {
    refused(error, Status::is_conflict) || refused(error, Status::is_not_found)
}

fn refused(error: &RequestError, how: impl Fn(&Status) -> bool) -> bool {
    error.refusal().is_some_and(how)
}

fn new_secret(name: &str, data: SecretBytes) -> Secret {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    };
    let secret = Secret {
        metadata,
        type_: Some("kubernetes.io/tls".to_owned()),
        ..Secret::default()
    };
    with_bytes(secret, data)
}

/// `secret` with these keys replaced; its resourceVersion stays, so that the API server refuses a lost update.
fn with_bytes(mut secret: Secret, data: SecretBytes) -> Secret {
    let data = data
        .into_iter()
        .map(|(key, value)| (key, ByteString(value)));
    secret.data.get_or_insert_default().extend(data);
    secret
}

fn bytes(secret: &Secret) -> SecretBytes {
    let data = secret.data.iter().flatten();
    data.map(|(key, value)| (key.clone(), value.0.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;
    use crate::cluster::fake_api::{Answer, FakeApi};

    const SECRETS: &str = "/api/v1/namespaces/gpu/secrets";

    #[derive(Debug, PartialEq, Eq, thiserror::Error)]
    #[error("{0}")]
    struct Broken(&'static str);

    fn identity(who: &str) -> SecretBytes {
        KEYS.iter()
            .map(|key| ((*key).to_owned(), format!("{key} of {who}").into_bytes()))
            .collect()
    }

    fn keep(_: &SecretBytes) -> Result<Option<SecretBytes>, Broken> {
        Ok(None)
    }

    #[test]
    fn a_stored_secret_is_replaced_only_if_renewal_says_so() {
        let whole = identity("us");
        let mut part = whole.clone();
        part.insert("ca.key".to_owned(), Vec::new());
        let new = || Ok::<_, Broken>(Some(identity("new")));
        let broken = || Err(Broken("not PEM"));
        assert_eq!(verdict(&whole, keep), Verdict::Keep);
        assert_eq!(verdict(&part, keep), Verdict::Incomplete("ca.key"));
        let replace = Verdict::Replace(identity("new"));
        assert_eq!(verdict(&whole, |_| new()), replace);
        assert_eq!(verdict(&part, |_| new()), replace);
        let unusable = Verdict::Unusable(Broken("not PEM"));
        assert_eq!(verdict(&whole, |_| broken()), unusable);
        assert_eq!(verdict(&part, |_| broken()), Verdict::Incomplete("ca.key"));
    }

    #[tokio::test]
    async fn replicas_that_start_together_share_one_identity() {
        let api = FakeApi::start().await;
        let client = api.client();
        let made = AtomicUsize::new(0);
        let replica = |who: usize| {
            let (client, made) = (&client, &made);
            async move {
                let make = || {
                    made.fetch_add(1, Ordering::Relaxed);
                    Ok(identity(&format!("replica {who}")))
                };
                load_or_create(client, "gpu", "serving", make, keep).await
            }
        };
        let all = futures_util::future::join_all((0..8).map(replica)).await;
        let first = all[0].as_ref().expect("an identity");
        for one in &all {
            assert_eq!(one.as_ref().expect("an identity"), first);
        }
        let stored = api.get(SECRETS, "gpu/serving").expect("stored");
        assert_eq!(stored["type"], "kubernetes.io/tls");
        assert!(made.load(Ordering::Relaxed) >= 1);
        let created = api
            .requests()
            .iter()
            .filter(|r| r.starts_with("POST"))
            .count();
        assert_eq!(created, made.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn replicas_that_renew_together_share_the_renewed_one() {
        let api = FakeApi::start().await;
        let client = api.client();
        let old = || Ok::<_, Broken>(identity("old"));
        load_or_create(&client, "gpu", "serving", old, keep)
            .await
            .expect("made");
        let replica = |who: usize| {
            let client = &client;
            async move {
                let renew = move |known: &SecretBytes| {
                    let due = *known == identity("old");
                    Ok(due.then(|| identity(&format!("replica {who}"))))
                };
                load_or_create(client, "gpu", "serving", || Err(Broken("unasked")), renew).await
            }
        };
        let all = futures_util::future::join_all((0..8).map(replica)).await;
        let first = all[0].as_ref().expect("an identity");
        assert_ne!(*first, identity("old"));
        for one in &all {
            assert_eq!(one.as_ref().expect("an identity"), first);
        }
    }

    #[tokio::test]
    async fn somebody_elses_secret_is_named_and_left_alone() {
        let api = FakeApi::start().await;
        let theirs = json!({
            "metadata": {"namespace": "gpu", "name": "serving"},
            "data": {"tls.crt": "eA==", "tls.key": "eA=="},
        });
        api.put(SECRETS, theirs);
        let before = api.get(SECRETS, "gpu/serving");
        let make = || Ok(identity("us"));
        let error = load_or_create(&api.client(), "gpu", "serving", make, keep)
            .await
            .expect_err("not ours");
        assert!(
            matches!(&error, IdentityError::Incomplete { key: "ca.crt", .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("gpu/serving has no ca.crt"));
        assert_eq!(api.get(SECRETS, "gpu/serving"), before);
    }

    #[tokio::test]
    async fn a_missing_role_is_told_with_verb_and_secret() {
        let api = FakeApi::start().await;
        api.answer(
            &format!("{SECRETS}/serving"),
            Answer::Status(403, "Forbidden"),
            1,
        );
        let make = || Ok(identity("us"));
        let error = load_or_create(&api.client(), "gpu", "serving", make, keep)
            .await
            .expect_err("refused");
        assert_eq!(error.to_string(), "cannot read the Secret gpu/serving");
    }

    #[tokio::test]
    async fn a_missing_namespace_is_told_as_such() {
        let api = FakeApi::start().await;
        api.answer(SECRETS, Answer::Status(404, "NotFound"), 1);
        let make = || Ok(identity("us"));
        let error = load_or_create(&api.client(), "gpu", "serving", make, keep)
            .await
            .expect_err("refused");
        assert_eq!(error.to_string(), "cannot create the Secret gpu/serving");
    }

    #[tokio::test]
    async fn a_secret_that_never_holds_still_is_given_up() {
        let api = FakeApi::start().await;
        let make = || Ok(identity("us"));
        load_or_create(&api.client(), "gpu", "serving", make, keep)
            .await
            .expect("made");
        let renew = |_: &SecretBytes| {
            let change = json!({"metadata": {"namespace": "gpu", "name": "serving"}, "data": {}});
            api.put(SECRETS, change);
            Ok(Some(identity("new")))
        };
        let error = load_or_create(&api.client(), "gpu", "serving", make, renew)
            .await
            .expect_err("contended");
        assert!(
            matches!(error, IdentityError::Contended { .. }),
            "{error:?}"
        );
    }
}
