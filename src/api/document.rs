//! Documents that are made once, kept in memory, and sent only to those who do not have them yet.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use super::respond;

/// A document in JSON, and what its content is known by.
#[derive(Debug)]
pub(super) struct Document {
    body: Bytes,
    /// The same for the same bytes, in every replica.
    hash: String,
    etag: HeaderValue,
}

impl Document {
    pub(super) fn new(content: &impl Serialize) -> Self {
        let mut body = serde_json::to_vec(content).expect("our own types are JSON");
        body.push(b'\n');
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let hash = format!("{:016x}", hasher.finish());
        Self {
            body: body.into(),
            etag: HeaderValue::from_str(&format!("\"{hash}\"")).expect("digits in quotes"),
            hash,
        }
    }

    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    /// The document, or 304 where the client has it.
    pub(super) fn send(
        &self,
        request: &HeaderMap,
        content_type: &'static str,
        caching: &'static str,
    ) -> Response {
        let (code, body) = if self.is_known(request) {
            (StatusCode::NOT_MODIFIED, Bytes::new())
        } else {
            (StatusCode::OK, self.body.clone())
        };
        let mut response = respond(code, HeaderValue::from_static(content_type), body);
        let headers = response.headers_mut();
        headers.insert(ETAG, self.etag.clone());
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
        response
    }

    /// Whether one of the client's tags is this one; a weak tag does (RFC 9110, 13.1.2).
    fn is_known(&self, request: &HeaderMap) -> bool {
        let tags = request.get_all(IF_NONE_MATCH).iter();
        tags.filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.etag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_has_it_is_not_sent_it_again() {
        let document = Document::new(&["a document"]);
        let tag = document.etag.to_str().expect("text");
        for (tags, code) in [
            (tag.to_owned(), StatusCode::NOT_MODIFIED),
            (format!("W/{tag}"), StatusCode::NOT_MODIFIED),
            (format!("\"other\", {tag}"), StatusCode::NOT_MODIFIED),
            ("*".to_owned(), StatusCode::NOT_MODIFIED),
            ("\"other\"".to_owned(), StatusCode::OK),
            (document.hash.clone(), StatusCode::OK),
        ] {
            let request = HeaderMap::from_iter([(IF_NONE_MATCH, tags.parse().expect("a value"))]);
            let response = document.send(&request, "application/json", "public");
            assert_eq!(response.status(), code, "{tags}");
            assert_eq!(response.headers()[ETAG], tag);
        }
    }
}
