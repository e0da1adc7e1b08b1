//! The request for a target's page.

use std::borrow::Cow;
use std::io::Write as _;
use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HOST, HeaderValue, USER_AGENT};
use http::{HeaderName, Request};
use reqwest::Url;

/// Plain text before OpenMetrics: it is the cheaper of the two, and timestamps and types say the same in both.
const FORMATS: &str =
    "text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.4,*/*;q=0.1";

const AGENT: &str = concat!("gpu-metrics-adapter/", env!("CARGO_PKG_VERSION"));

/// Tells an exporter how long it is waited for, in seconds (`scrape/scrape.go`).
const TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// A GET. Written by hand for HTTP/1.1: there is one for each scrape, and one that is put together from headers takes a dozen
/// allocations.
#[derive(Debug)]
pub(super) struct Get<'a> {
    pub(super) url: &'a Url,
    /// Whether the page may come compressed.
    pub(super) compression: bool,
    pub(super) timeout: Duration,
    pub(super) authorization: Option<HeaderValue>,
}

impl Get<'_> {
    /// Appends it as HTTP/1.1 has it (RFC 9112, 3). Nothing of it can end a line: a URL's parts have neither spaces nor control
    /// characters, nor has a header's value.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        let url = self.url;
        let mut write = |parts: &[&[u8]]| parts.iter().for_each(|it| bytes.extend_from_slice(it));
        write(&[b"GET ", url.path().as_bytes()]);
        if let Some(query) = url.query() {
            write(&[b"?", query.as_bytes()]);
        }
        write(&[b" HTTP/1.1\r\n", HOST.as_str().as_bytes(), b": "]);
        write(&[url.host_str().unwrap_or_default().as_bytes()]);
        let _ = url.port().map(|port| write!(bytes, ":{port}"));
        bytes.extend_from_slice(b"\r\n");
        let mut header = |name: HeaderName, value: &[u8]| {
            for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        };
        for (name, value) in self.headers() {
            header(name, value.as_bytes());
        }
        if let Some(value) = &self.authorization {
            header(AUTHORIZATION, value.as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
    }

    /// As HTTP/2 has it: the host is in the URI.
    ///
    /// # Errors
    /// The URL has what a request's URI cannot have: relabelling makes any host.
    pub(super) fn request<B>(&self, body: B) -> Result<Request<B>, http::Error> {
        let mut request = Request::get(self.url.as_str());
        for (name, value) in self.headers() {
            request = request.header(name, &*value);
        }
        if let Some(value) = &self.authorization {
            // As it is: that it is sensitive keeps it out of the tables of what both ends remember (RFC 7541, 7.1).
            request = request.header(AUTHORIZATION, value.clone());
        }
        request.body(body)
    }

    /// All but credentials, and the host.
    fn headers(&self) -> [(HeaderName, Cow<'static, str>); 4] {
        let encoding = if self.compression { "gzip" } else { "identity" };
        let timeout = self.timeout.as_secs_f64().to_string();
        [
            (USER_AGENT, AGENT.into()),
            (ACCEPT, FORMATS.into()),
            (ACCEPT_ENCODING, encoding.into()),
            (TIMEOUT, timeout.into()),
        ]
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn both(url: &str) -> (String, Request<()>) {
        let mut secret = HeaderValue::from_static("Bearer x");
        secret.set_sensitive(true);
        let get = Get {
            url: &url.parse().unwrap(),
            compression: true,
            timeout: Duration::from_millis(9_500),
            authorization: Some(secret),
        };
        let mut bytes = Vec::new();
        get.write(&mut bytes);
        (String::from_utf8(bytes).unwrap(), get.request(()).unwrap())
    }

    #[test]
    fn a_request_says_the_same_in_both_versions_of_http() {
        let (text, request) = both("http://user@[fd00::7]:9400/a b/é?x=1 2&y='z'#f");
        let (line, headers) = text.split_once("\r\n").unwrap();
        let target = request.uri().path_and_query().unwrap();
        assert_eq!(line, format!("GET {target} HTTP/1.1"));
        let headers: Vec<&str> = headers.split("\r\n").collect();
        let (host, headers) = headers.split_first().unwrap();
        assert_eq!(*host, "host: [fd00::7]:9400");
        let of_request = request.headers().iter();
        let of_request =
            of_request.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        let expected: Vec<String> = of_request.chain([String::new(), String::new()]).collect();
        assert_eq!(headers, expected);
        assert!(expected.contains(&"x-prometheus-scrape-timeout-seconds: 9.5".to_owned()));
        assert!(request.headers()[AUTHORIZATION].is_sensitive());
    }

    #[test]
    fn a_scheme_s_own_port_is_not_told_and_a_path_is_always_there() {
        let (text, _) = both("https://dcgm.example:443");
        assert!(
            text.starts_with("GET / HTTP/1.1\r\nhost: dcgm.example\r\n"),
            "{text}"
        );
    }

    #[test]
    fn no_url_makes_another_line_of_it() {
        let (text, _) = both("http://a/%0d%0ab?c\r\nd: e\u{85}\u{2028}");
        assert_eq!(text.matches("\r\n").count(), 8, "{text}");
        assert!(
            text.starts_with("GET /%0d%0ab?cd:%20e%C2%85%E2%80%A8 HTTP/1.1\r\n"),
            "{text}"
        );
    }
}
