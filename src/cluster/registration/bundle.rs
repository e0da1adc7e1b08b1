//! What a `caBundle` says: whom it trusts, and how our CA gets in without another replica's getting out.
//!
//! Replicas can differ about the CA for a while: one has renewed it, or made another after the Secret was deleted. A
//! bundle that contains ours is left as it is, and one that does not keeps the others' CAs beside ours, so that no replica
//! undoes what another has done. An old CA hence stays until it expires; to distrust one at once, delete the Secret,
//! restart all replicas, and then remove `caBundle`.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::model::time::Timestamp;

/// The subject of every CA that a replica makes for itself.
pub const CA_NAME: &str = "gpu-metrics-adapter-ca";

/// How many CAs of other replicas stay beside ours.
const KEPT: usize = 3;

/// How many certificates of a bundle are looked at.
const LOOKED_AT: usize = 64;

/// Certificates in DER.
pub type Certificates = BTreeSet<Vec<u8>>;

/// Whom the APIServices that point to us trust, by their names. One that has not been seen yet holds `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundles(pub(super) BTreeMap<String, Option<Vec<u8>>>);

impl Bundles {
    /// Whether every one of them trusts the first CA of `ca` (PEM): the one that signs.
    pub fn trust(&self, ca: &[u8]) -> bool {
        let Some(signer) = certificates(ca).next() else {
            return false;
        };
        let mut bundles = self.0.values();
        bundles.all(|it| certificates(it.as_deref().unwrap_or_default()).any(|it| it == signer))
    }

    /// The valid CAs of replicas in them that `ca` (PEM) does not have: some replica knows more, or something older.
    pub fn strangers(&self, ca: &[u8], now: Timestamp) -> Certificates {
        let ours: Certificates = certificates(ca).collect();
        let all = self.0.values().flatten().flat_map(|it| certificates(it));
        all.filter(|it| !ours.contains(it) && made_at(it, now).is_some())
            .collect()
    }
}

/// Whether `bundle` trusts all of `ca`, both in PEM; never if there is nothing in `ca`.
pub(super) fn contains(bundle: &[u8], ca: &[u8]) -> bool {
    let known: Certificates = certificates(bundle).collect();
    let mut ours = certificates(ca).peekable();
    ours.peek().is_some() && ours.all(|it| known.contains(&it))
}

/// `ca` as it is, and after it the newest CAs of other replicas that `bundle` has and that still count.
pub(super) fn merged(bundle: &[u8], ca: &[u8], now: Timestamp) -> Vec<u8> {
    let ours: Certificates = certificates(ca).collect();
    let others: Certificates = certificates(bundle).collect();
    let mut others: Vec<_> = others
        .difference(&ours)
        .filter_map(|it| Some((made_at(it, now)?, it)))
        .collect();
    others.sort_by(|a, b| b.cmp(a));
    let mut merged = ca.to_vec();
    for (_, certificate) in others.into_iter().take(KEPT) {
        if merged.last() != Some(&b'\n') {
            merged.push(b'\n');
        }
        merged.extend(pem(certificate).into_bytes());
    }
    merged
}

/// The certificates of a PEM text, up to what is none.
fn certificates(pem: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    CertificateDer::pem_slice_iter(pem)
        .map_while(Result::ok)
        .map(|it| it.to_vec())
        .take(LOOKED_AT)
}

/// From when a CA counts, if it is one of a replica and has not expired.
fn made_at(certificate: &[u8], now: Timestamp) -> Option<Timestamp> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let named = |name: &x509_parser::x509::X509Name<'_>| {
        let mut names = name.iter_common_name();
        names.next().and_then(|it| it.as_str().ok()) == Some(CA_NAME) && names.next().is_none()
    };
    let at = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000));
    let validity = parsed.validity();
    let ours = parsed.is_ca() && named(parsed.subject()) && named(parsed.issuer());
    (ours && at(validity.not_after.timestamp()) > now).then(|| at(validity.not_before.timestamp()))
}

fn pem(certificate: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::server::pki::Authority;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(days: u32) -> Timestamp {
        Timestamp::from_millis(1_795_464_000_000).plus(DAY * days)
    }

    /// A CA made on this day, good for ten.
    fn ca(name: &str, day: u32) -> String {
        let made = Authority::generate(name, DAY * 10, at(day)).expect("made");
        made.certificate().to_owned()
    }

    fn text(bundle: Vec<u8>) -> String {
        String::from_utf8(bundle).expect("text")
    }

    #[test]
    fn certificates_are_compared_and_not_their_bytes() {
        let [one, other] = [0, 1].map(|day| ca(CA_NAME, day));
        let both = format!("# two\n{other}\n{one}").replace('\n', "\r\n");
        assert!(contains(both.as_bytes(), one.as_bytes()));
        assert!(!contains(one.as_bytes(), both.as_bytes()));
        assert!(!contains(other.as_bytes(), one.as_bytes()));
        assert!(!contains(b"", one.as_bytes()));
        assert!(!contains(both.as_bytes(), b"no certificate"));
    }

    #[test]
    fn a_merge_keeps_only_cas_of_replicas_that_still_count() {
        let [ours, theirs] = [3, 2].map(|day| ca(CA_NAME, day));
        let expired = ca(CA_NAME, 0);
        let foreign = ca("somebody-else", 2);
        let authority = Authority::generate(CA_NAME, DAY * 10, at(2)).expect("made");
        let leaf = authority.serving(&["a"], DAY * 10, at(2)).expect("signed");
        let found = [&expired, &foreign, &leaf.certificate, &theirs, &ours].map(String::as_str);
        let merged = text(merged(found.concat().as_bytes(), ours.as_bytes(), at(11)));
        assert!(merged.starts_with(&ours), "ours is first and as it is");
        let have: Vec<_> = certificates(merged.as_bytes()).collect();
        let wanted = format!("{ours}{theirs}");
        let wanted: Vec<_> = certificates(wanted.as_bytes()).collect();
        assert_eq!(have, wanted);
    }

    #[test]
    fn a_merge_keeps_the_newest_three_and_ours() {
        let others: Vec<String> = (1..6).map(|day| ca(CA_NAME, day)).collect();
        let ours = ca(CA_NAME, 0);
        let merged = merged(others.concat().as_bytes(), ours.as_bytes(), at(6));
        let wanted = [&ours, &others[4], &others[3], &others[2]].map(String::as_str);
        let wanted = wanted.concat();
        assert!(certificates(&merged).eq(certificates(wanted.as_bytes())));
        assert!(contains(&merged, ours.as_bytes()));
    }

    #[test]
    fn nothing_in_the_bundle_gives_ours_byte_for_byte() {
        let ours = ca(CA_NAME, 0);
        assert_eq!(text(merged(b"garbage", ours.as_bytes(), at(1))), ours);
    }

    #[test]
    fn trusted_means_by_every_apiservice_that_is_ours() {
        let [new, old] = [1, 0].map(|day| ca(CA_NAME, day));
        let bundles = |each: [Option<&str>; 2]| {
            let each = each.map(|it| it.map(|it| it.as_bytes().to_vec()));
            Bundles(
                ["a".to_owned(), "b".to_owned()]
                    .into_iter()
                    .zip(each)
                    .collect(),
            )
        };
        let both = format!("{new}{old}");
        let trust = |each, ca: &str| bundles(each).trust(ca.as_bytes());
        assert!(
            trust([Some(&both), Some(&new)], &both),
            "the first one signs"
        );
        assert!(!trust([Some(&both), Some(&old)], &both));
        assert!(!trust([Some(&both), None], &new), "not seen yet");
        assert!(!trust([Some(&both), Some("")], &new));
        assert!(Bundles::default().trust(new.as_bytes()), "nobody to ask");
        assert!(!Bundles::default().trust(b""));
        let strangers = bundles([Some(&both), None]).strangers(old.as_bytes(), at(2));
        assert!(strangers.into_iter().eq(certificates(new.as_bytes())));
        let none = bundles([Some(&both), None]).strangers(both.as_bytes(), at(2));
        assert!(none.is_empty());
    }
}
