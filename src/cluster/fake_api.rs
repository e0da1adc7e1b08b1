//! An API server for tests, on loopback: objects in memory, lists, watches, optimistic locking, and faults on demand.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// What to answer instead of the truth.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A `Status` with this code and reason, and the message `told so`.
    Status(u16, &'static str),
    /// 200 and this body.
    Json(Value),
}

/// The server; it ends with the value.
pub(crate) struct FakeApi {
    /// `http://127.0.0.1:port`.
    pub(crate) url: String,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<Known>,
    /// Raised with each change, so that watches look again.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    version: u64,
    /// By collection and `namespace/name` or `name`.
    objects: BTreeMap<(String, String), Value>,
    events: Vec<(u64, String, Value)>,
    /// Raised to end all watches.
    epoch: u64,
    faults: VecDeque<(String, Answer, usize)>,
    requests: Vec<String>,
    bodies: Vec<String>,
}

impl FakeApi {
    pub(crate) async fn start() -> Self {
        let shared = Arc::new(Shared::default());
        // A list at version 0 would mean "any version".
        shared.state.lock().version = 1;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new()
            .fallback(serve)
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("a server");
        });
        Self {
            url,
            shared,
            server,
        }
    }

    pub(crate) fn client(&self) -> kube::Client {
        let mut config = kube::Config::new(self.url.parse().expect("a URL"));
        config.default_retry = false;
        kube::Client::try_from(config).expect("a client")
    }

    /// Creates or replaces an object of a collection, such as `/api/v1/pods`.
    pub(crate) fn put(&self, collection: &str, object: Value) {
        let collection = split(collection).collection;
        self.change(|known| {
            known.store(&collection, object);
        });
    }

    /// Deletes `namespace/name` or `name`.
    pub(crate) fn delete(&self, collection: &str, key: &str) {
        let collection = &*split(collection).collection;
        self.change(|known| {
            let key = (collection.to_owned(), key.to_owned());
            let mut object = known.objects.remove(&key).expect("something to delete");
            known.version += 1;
            object["metadata"]["resourceVersion"] = json!(known.version.to_string());
            let event = json!({"type": "DELETED", "object": object});
            known
                .events
                .push((known.version, collection.to_owned(), event));
        });
    }

    pub(crate) fn get(&self, collection: &str, key: &str) -> Option<Value> {
        let key = (split(collection).collection, key.to_owned());
        self.shared.state.lock().objects.get(&key).cloned()
    }

    /// Answers the next `times` requests for `path` so; 0 ends all that was said about it before.
    pub(crate) fn answer(&self, path: &str, answer: Answer, times: usize) {
        let mut known = self.shared.state.lock();
        if times == 0 {
            known.faults.retain(|(other, ..)| other != path);
        } else {
            known.faults.push_front((path.to_owned(), answer, times));
        }
    }

    /// Ends all watches, as a restarted API server does.
    pub(crate) fn cut_watches(&self) {
        self.change(|known| known.epoch += 1);
    }

    /// Forgets what watches could resume from.
    pub(crate) fn forget_events(&self) {
        self.change(|known| known.events.clear());
    }

    /// `METHOD path?query accept`, one for each request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.state.lock().requests.clone()
    }

    /// The bodies of the requests that had one.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.shared.state.lock().bodies.clone()
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.shared.state.lock());
        self.shared.changes.send_modify(|count| *count += 1);
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Waits until `happened`, at most ten seconds.
pub(crate) async fn soon(what: &str, happened: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !happened() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

impl Known {
    fn store(&mut self, collection: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let name = object["metadata"]["name"].as_str().expect("a name");
        let key = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        };
        let key = (collection.to_owned(), key);
        let known = self.objects.insert(key, object.clone()).is_some();
        let kind = if known { "MODIFIED" } else { "ADDED" };
        let event = json!({"type": kind, "object": object});
        self.events
            .push((self.version, collection.to_owned(), event));
        object
    }

    fn fault(&mut self, path: &str) -> Option<Answer> {
        let at = self.faults.iter().position(|(other, ..)| other == path)?;
        let (_, answer, times) = &mut self.faults[at];
        let answer = answer.clone();
        *times -= 1;
        if *times == 0 {
            self.faults.remove(at);
        }
        Some(answer)
    }
}

/// What a path means. A collection is the same with and without a namespace.
struct Meant {
    collection: String,
    namespace: Option<String>,
    /// The one object that is meant, if one is: `namespace/name` or `name`.
    key: Option<String>,
}

fn split(path: &str) -> Meant {
    let segments: Vec<&str> = path.split('/').collect();
    // `/api/v1/namespaces/NS/RESOURCE/NAME`, `/apis/GROUP/v1/RESOURCE/NAME`: a collection ends at an odd depth.
    let root = if segments.get(1) == Some(&"api") {
        3
    } else {
        4
    };
    let in_namespace = segments.get(root) == Some(&"namespaces") && segments.len() > root + 2;
    let depth = if in_namespace { root + 2 } else { root };
    let namespace = in_namespace.then(|| segments[root + 1].to_owned());
    let key = segments.get(depth + 1).map(|name| match &namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => (*name).to_owned(),
    });
    Meant {
        collection: [&segments[..root], &[segments[depth]]].concat().join("/"),
        namespace,
        key,
    }
}

fn status(code: u16, reason: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "told so", "reason": reason, "code": code,
    });
    let code = StatusCode::from_u16(code).expect("a status code");
    (code, Json(body)).into_response()
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("a body");
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let accept = parts
        .headers
        .get("accept")
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let mut known = shared.state.lock();
    known
        .requests
        .push(format!("{} {path}?{query} {accept}", parts.method));
    if !body.is_empty() {
        known
            .bodies
            .push(String::from_utf8_lossy(&body).into_owned());
    }
    match known.fault(&path) {
        Some(Answer::Status(code, reason)) => return status(code, reason),
        Some(Answer::Json(body)) => return Json(body).into_response(),
        None => {}
    }
    let Meant {
        collection,
        namespace,
        key,
    } = split(&path);
    if parts.method == Method::GET && key.is_none() {
        let name = parameter(&query, "fieldSelector")
            .and_then(|selector| Some(selector.strip_prefix("metadata.name%3D")?.to_owned()));
        if parameter(&query, "watch").is_some() {
            let since = parameter(&query, "resourceVersion").and_then(|v| v.parse().ok());
            let since = since.expect("a version to resume from");
            let epoch = known.epoch;
            drop(known);
            return watch_response(shared, collection, name, since, epoch);
        }
        let items: Vec<&Value> = known
            .objects
            .iter()
            .filter(|((other, _), object)| *other == collection && is_named(object, &name))
            .filter(|(_, object)| is_in(object, namespace.as_deref()))
            .map(|(_, object)| object)
            .collect();
        let version = known.version.to_string();
        let list = json!({"metadata": {"resourceVersion": version}, "items": items});
        return Json(list).into_response();
    }
    let whole = (&*collection, namespace, key);
    let answer = change(&mut known, &parts.method, whole, &body);
    drop(known);
    shared.changes.send_modify(|count| *count += 1);
    answer
}

/// What is done to one object.
fn change(
    known: &mut Known,
    method: &Method,
    (collection, namespace, key): (&str, Option<String>, Option<String>),
    body: &Bytes,
) -> Response {
    let mut sent: Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(namespace) = namespace {
        sent["metadata"]["namespace"] = json!(namespace);
    }
    let sent_name = || match sent["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{}", sent["metadata"]["name"].as_str()?).into(),
        None => sent["metadata"]["name"].as_str().map(str::to_owned),
    };
    let key = key.or_else(sent_name).expect("a name");
    let found = known.objects.get(&(collection.to_owned(), key)).cloned();
    let version = &sent["metadata"]["resourceVersion"];
    let stale =
        |found: &Value| !version.is_null() && *version != found["metadata"]["resourceVersion"];
    match (method, found) {
        (&Method::POST, Some(_)) => status(409, "AlreadyExists"),
        (&Method::POST, None) => Json(known.store(collection, sent)).into_response(),
        (_, None) => status(404, "NotFound"),
        (&Method::GET, Some(found)) => Json(found).into_response(),
        (_, Some(found)) if stale(&found) => status(409, "Conflict"),
        (&Method::PUT, Some(_)) => Json(known.store(collection, sent)).into_response(),
        (&Method::PATCH, Some(mut found)) => {
            merge(&mut found, &sent);
            Json(known.store(collection, found)).into_response()
        }
        _ => status(405, "MethodNotAllowed"),
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    for (key, value) in patch.as_object().into_iter().flatten() {
        match value {
            Value::Null => {
                target.as_object_mut().expect("an object").remove(key);
            }
            Value::Object(_) => merge(&mut target[key], value),
            other => target[key] = other.clone(),
        }
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

fn is_in(object: &Value, namespace: Option<&str>) -> bool {
    namespace.is_none_or(|namespace| object["metadata"]["namespace"] == namespace)
}

fn is_named(object: &Value, name: &Option<String>) -> bool {
    name.as_ref()
        .is_none_or(|name| object["metadata"]["name"] == name.as_str())
}

fn watch_response(
    shared: Arc<Shared>,
    collection: String,
    name: Option<String>,
    since: u64,
    epoch: u64,
) -> Response {
    let changes = shared.changes.subscribe();
    let stream = futures_util::stream::unfold((changes, since), move |(mut changes, since)| {
        let (shared, collection, name) = (Arc::clone(&shared), collection.clone(), name.clone());
        async move {
            loop {
                changes.mark_unchanged();
                {
                    let known = shared.state.lock();
                    if known.epoch != epoch {
                        return None;
                    }
                    let next = known.events.iter().find(|(version, other, event)| {
                        *version > since
                            && *other == collection
                            && is_named(&event["object"], &name)
                    });
                    if let Some((version, _, event)) = next {
                        let line = Bytes::from(format!("{event}\n"));
                        return Some((Ok::<_, Infallible>(line), (changes, *version)));
                    }
                }
                changes.changed().await.ok()?;
            }
        }
    });
    Response::new(Body::from_stream(stream))
}
