//! How backends are spoken to.

use std::fs;

use crate::server::{Mode, Server};
use crate::world::{RULES, ask, core, three};

/// The value of a header of the last query.
fn sent(server: &Server, header: &str) -> String {
    let (headers, _) = server.last("/api/v1/query");
    headers[header].to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_sent_as_their_files_are_now() {
    let server = Server::start(Mode::Value(7.0));
    let file =
        std::env::temp_dir().join(format!("gpu-metrics-adapter-{}-token", std::process::id()));
    fs::write(&file, "first\n").unwrap();
    let core = core(&format!(
        "freshWithin: 0s\nprometheus: [{{url: '{}/prom', headers: {{X-Scope-OrgID: t1}}, authorization: {{credentials_file: '{}'}}}}]\n{RULES}",
        server.url(),
        file.display()
    ));
    assert_eq!(ask(&core).await, Ok(three("7")));
    assert_eq!(sent(&server, "authorization"), "Bearer first");
    assert_eq!(sent(&server, "x-scope-orgid"), "t1");
    fs::write(&file, "second").unwrap();
    assert_eq!(ask(&core).await, Ok(three("7")));
    assert_eq!(sent(&server, "authorization"), "Bearer second");
    fs::remove_file(&file).unwrap();
    let error = ask(&core).await.expect_err("no credentials");
    assert!(error.contains("was not asked: cannot read"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_the_url_is_used_and_not_told() {
    let server = Server::start(Mode::Value(7.0));
    let core = core(&format!(
        "freshWithin: 0s\nprometheus: [{{url: 'http://user:hidden@{}/', http_method: GET}}]\n{RULES}",
        server.address
    ));
    assert_eq!(ask(&core).await, Ok(three("7")));
    assert_eq!(sent(&server, "authorization"), "Basic dXNlcjpoaWRkZW4=");
    server.set(Mode::Text(503, "text/html", ""));
    let error = ask(&core).await.expect_err("no value");
    assert!(
        error.contains(&server.url()) && !error.contains("hidden"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_had_once_and_again_where_it_does_not_count() {
    let server = Server::start(Mode::Value(7.0));
    let url = server.url();
    let core = core(&format!(
        "freshWithin: 0s\nprometheus: [{{url: '{url}', oauth2: {{client_id: me, client_secret: s, scopes: [a, b], token_url: '{url}/token'}}}}]\n{RULES}"
    ));
    assert_eq!(ask(&core).await, Ok(three("7")));
    assert_eq!(sent(&server, "authorization"), "Bearer fresh");
    let (headers, form) = server.last("/token");
    assert_eq!(headers["authorization"], "Basic bWU6cw==");
    assert_eq!(form, "grant_type=client_credentials&scope=a+b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_says_how_old_samples_may_be() {
    let server = Server::start(Mode::Value(7.0));
    let core = core(&format!(
        "maxAge: 45s\nprometheus: [{{url: '{}'}}]\n{RULES}",
        server.url()
    ));
    assert_eq!(ask(&core).await, Ok(three("7")));
    let (_, form) = server.last("/api/v1/query");
    for part in [
        "query=sum%28util%7Bnamespace%3D%22default%22%7D%29+by+%28pod%29",
        "&lookback_delta=45.000&max_lookback=45.000&nocache=1",
        "&timeout=1.800",
    ] {
        assert!(form.contains(part), "{part}: {form}");
    }
    let (_, form) = server.last("/api/v1/series");
    assert!(form.starts_with("match%5B%5D=util%7B"), "{form}");
    assert!(form.contains("&start="), "{form}");
}
