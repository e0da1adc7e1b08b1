//! Large answers go compressed to who takes that: as kube-apiserver's do, from the same size on
//! (apiserver `responsewriters/writers.go`).

use std::io::{self, Write as _};

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderValue;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, VARY};

use crate::provider::resources::aside;

use super::negotiation::takes_gzip;

/// The largest body that goes as it is, in bytes.
const PLAIN: u32 = 128 * 1024;

/// About as many bytes as an object has in a list.
const OBJECT: usize = 256;

/// A layer around what answers.
pub(super) async fn compressed(request: Request, next: Next) -> Response {
    let accepted = request.headers().get_all(ACCEPT_ENCODING).iter();
    let gzip = accepted
        .filter_map(|value| value.to_str().ok())
        .any(takes_gzip);
    let response = next.run(request).await;
    // What is not in memory yet has no exact size.
    let size = response.body().size_hint().exact();
    if !gzip || size.is_none_or(|size| size <= PLAIN.into()) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let plain = to_bytes(body, usize::MAX)
        .await
        .expect("it is in memory, and so cannot fail");
    let packed = aside(plain.len() / OBJECT, || pack(&plain)).expect("memory can be written");
    head.headers
        .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers
        .append(VARY, HeaderValue::from_static("Accept-Encoding"));
    head.headers.remove(CONTENT_LENGTH);
    Response::from_parts(head, Body::from(packed))
}

fn pack(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use axum::Router;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use flate2::read::GzDecoder;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn a_large_body_is_compressed_for_who_takes_it() {
        let text = |size| {
            "a list of pods "
                .chars()
                .cycle()
                .take(size)
                .collect::<String>()
        };
        let router = Router::new()
            .route(
                "/large",
                get(move || async move { text(PLAIN as usize + 1) }),
            )
            .route("/small", get(move || async move { text(PLAIN as usize) }))
            .layer(from_fn(compressed));
        for (path, accepted, compressed) in [
            ("/large", "gzip", true),
            ("/large", "br, gzip;q=0.1", true),
            ("/large", "gzip;q=0", false),
            ("/large", "br", false),
            ("/small", "gzip", false),
        ] {
            let request = Request::get(path).header(ACCEPT_ENCODING, accepted);
            let request = request.body(Body::empty()).expect("a request");
            let response = router.clone().oneshot(request).await.expect("infallible");
            let headers = response.headers().clone();
            let body = to_bytes(response.into_body(), 1 << 20)
                .await
                .expect("a body");
            assert_eq!(
                headers.contains_key(CONTENT_ENCODING),
                compressed,
                "{path} {accepted}"
            );
            if compressed {
                assert_eq!(headers[VARY], "Accept-Encoding");
                let mut read = String::new();
                let mut decoder = GzDecoder::new(&*body);
                decoder.read_to_string(&mut read).expect("gzip");
                assert_eq!(read, text(PLAIN as usize + 1));
                assert!(body.len() < 10_000, "{} bytes", body.len());
            }
        }
    }
}
