//! The identity a front proxy puts into headers, and how every trace of it is removed afterwards.

use std::collections::BTreeMap;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::user::User;

/// Never handed on, whatever the ConfigMap says. Impersonation is the kube-apiserver's affair.
const NEVER_HANDED_ON: [&str; 5] = [
    "x-remote-user",
    "x-remote-uid",
    "x-remote-group",
    "x-remote-extra-",
    "impersonate-",
];

/// Which headers carry whose identity; all names in lower case, as [`HeaderName`] keeps them.
#[derive(Clone, Debug, Default)]
pub(super) struct IdentityHeaders {
    pub(super) user: Vec<HeaderName>,
    pub(super) uid: Vec<HeaderName>,
    pub(super) group: Vec<HeaderName>,
    pub(super) extra_prefixes: Vec<String>,
}

/// A header that carries an identity is not UTF-8, so it cannot be that of a Kubernetes user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header {0} is not text")]
pub struct NotText(pub HeaderName);

impl IdentityHeaders {
    /// The user the headers name, or `None`. To be called behind a proven front proxy only.
    ///
    /// Follows requestheader.go:121-218: the first non-empty name, all groups in order, every extra key.
    pub(super) fn user(&self, headers: &HeaderMap) -> Result<Option<User>, NotText> {
        let Some(name) = first(headers, &self.user)? else {
            return Ok(None);
        };
        let mut groups = Vec::new();
        for header in &self.group {
            for value in headers.get_all(header) {
                let group = text(header, value)?;
                if !group.is_empty() {
                    groups.push(group.to_owned());
                }
            }
        }
        let mut extra = BTreeMap::<_, Vec<String>>::new();
        for prefix in &self.extra_prefixes {
            for (header, value) in headers {
                if let Some(key) = header.as_str().strip_prefix(prefix.as_str()) {
                    let values = extra.entry(unescape(key)).or_default();
                    values.push(text(header, value)?.to_owned());
                }
            }
        }
        Ok(Some(User {
            name: name.to_owned(),
            uid: first(headers, &self.uid)?.map(str::to_owned),
            groups,
            extra,
        }))
    }

    /// Removes every header that carried, or pretended to carry, an identity or a credential.
    pub(super) fn strip(&self, headers: &mut HeaderMap) {
        let carries_identity = |name: &HeaderName| {
            let configured = [&self.user, &self.uid, &self.group];
            *name == AUTHORIZATION
                || NEVER_HANDED_ON
                    .iter()
                    .any(|prefix| name.as_str().starts_with(prefix))
                || configured.iter().any(|names| names.contains(name))
                || self
                    .extra_prefixes
                    .iter()
                    .any(|prefix| name.as_str().starts_with(prefix.as_str()))
        };
        let doomed: Vec<_> = headers
            .keys()
            .filter(|name| carries_identity(name))
            .cloned()
            .collect();
        for name in doomed {
            headers.remove(name);
        }
    }
}

fn text<'a>(name: &HeaderName, value: &'a HeaderValue) -> Result<&'a str, NotText> {
    std::str::from_utf8(value.as_bytes()).map_err(|_| NotText(name.clone()))
}

/// The first value of the first header that has a non-empty one.
fn first<'a>(headers: &'a HeaderMap, names: &[HeaderName]) -> Result<Option<&'a str>, NotText> {
    for name in names {
        if let Some(value) = headers.get(name).filter(|value| !value.is_empty()) {
            return text(name, value).map(Some);
        }
    }
    Ok(None)
}

/// Undoes the percent-encoding of an extra key; one that is malformed stays as it came (requestheader.go:194-200).
fn unescape(key: &str) -> String {
    let well_formed = key.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    let decoded = well_formed.then(|| percent_decode_str(key).decode_utf8().ok());
    decoded
        .flatten()
        .map_or_else(|| key.to_owned(), |key| key.into_owned())
}

/// The bearer token of the request, if there is one (bearertoken.go:41-60); other schemes are not ours.
pub(super) fn bearer(headers: &HeaderMap) -> Option<String> {
    let header = String::from_utf8_lossy(headers.get(AUTHORIZATION)?.as_bytes());
    let mut words = header.trim().splitn(3, ' ');
    let scheme = words.next()?;
    let token = words.next()?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standard() -> IdentityHeaders {
        IdentityHeaders {
            user: vec![
                HeaderName::from_static("x-remote-user"),
                HeaderName::from_static("x-user"),
            ],
            uid: vec![HeaderName::from_static("x-remote-uid")],
            group: vec![HeaderName::from_static("x-remote-group")],
            extra_prefixes: vec!["x-remote-extra-".to_owned()],
        }
    }

    fn headers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                (name, HeaderValue::from_bytes(value).unwrap())
            })
            .collect()
    }

    #[test]
    fn every_group_and_extra_value_counts() {
        let user = standard()
            .user(&headers(&[
                ("X-Remote-User", b""),
                ("X-User", b"alice"),
                ("X-Remote-Uid", b"42"),
                ("X-Remote-Group", b"one"),
                ("X-Remote-Group", b""),
                ("X-Remote-Group", b"two"),
                (
                    "X-Remote-Extra-Authentication.kubernetes.io%2fcredential-Id",
                    b"JTI=1",
                ),
                ("X-Remote-Extra-Scopes", b"a"),
                ("X-Remote-Extra-Scopes", b"b"),
                ("X-Remote-Extra-Half%2", b"c"),
            ]))
            .unwrap()
            .unwrap();
        assert_eq!(
            (user.name.as_str(), user.uid.as_deref()),
            ("alice", Some("42"))
        );
        assert_eq!(user.groups, ["one", "two"]);
        let extra: Vec<_> = user.extra.iter().map(|(k, v)| (k.as_str(), v)).collect();
        assert_eq!(
            extra,
            [
                (
                    "authentication.kubernetes.io/credential-id",
                    &vec!["JTI=1".to_owned()]
                ),
                ("half%2", &vec!["c".to_owned()]),
                ("scopes", &vec!["a".to_owned(), "b".to_owned()]),
            ]
        );
    }

    #[test]
    fn no_name_is_no_user_and_no_text_is_an_error() {
        let groups_only = headers(&[("X-Remote-Group", b"system:masters")]);
        assert_eq!(standard().user(&groups_only), Ok(None));
        let binary = headers(&[("X-Remote-User", b"\xff")]);
        let name = HeaderName::from_static("x-remote-user");
        assert_eq!(standard().user(&binary), Err(NotText(name)));
    }

    #[test]
    fn only_headers_without_authority_are_handed_on() {
        let mut request = headers(&[
            ("Authorization", b"Bearer secret"),
            ("X-Remote-User", b"alice"),
            ("X-Remote-Extra-Scopes", b"a"),
            ("X-User", b"alice"),
            ("Impersonate-User", b"bob"),
            ("Accept", b"*/*"),
            ("X-Forwarded-For", b"127.0.0.1"),
        ]);
        standard().strip(&mut request);
        let mut left: Vec<_> = request.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-forwarded-for"]);
    }

    #[test]
    fn a_token_is_the_word_after_bearer() {
        let token = |value: &[u8]| bearer(&headers(&[("Authorization", value)]));
        assert_eq!(token(b"Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token(b"bEARER abc def").as_deref(), Some("abc"));
        for none in [
            &b"Bearer"[..],
            b"Bearer ",
            b"Bearer  abc",
            b"Basic abc",
            b"",
        ] {
            assert_eq!(token(none), None, "{none:?}");
        }
    }
}
