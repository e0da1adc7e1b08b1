//! What is discovered of an API server.

use serde_json::{Value, json};

use super::*;
use crate::cluster::fake_api::{Answer, FakeApi, soon};

fn found(pod: Pod) -> Discovered {
    pod.into()
}

fn pod(name: &str, ip: &str) -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {"namespace": "gpu", "name": name, "resourceVersion": ip,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "dcgm", "uid": "u", "controller": true}]},
        "spec": {"nodeName": "n1",
            "containers": [{"name": "c", "image": "dcgm:4", "ports": [{"containerPort": 9400, "name": "metrics"}, {"containerPort": 70000}]}],
            "initContainers": [{"name": "i"}]},
        "status": {"podIP": ip, "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }))
    .expect("a pod")
}

fn names(state: &State) -> Vec<String> {
    let name = |object: &Arc<Discovered>| {
        let Discovered::Pod(pod) = &**object else {
            panic!("{object:?}")
        };
        format!("{}@{}", pod.metadata.name, pod.ip)
    };
    state.objects().iter().map(name).collect()
}

#[test]
fn a_list_counts_when_it_is_complete() {
    let mut state = State::default();
    assert!(!state.apply(0, Event::Init));
    assert!(!state.apply(0, Event::InitApply(found(pod("a", "1")))));
    assert!(names(&state).is_empty());
    assert!(state.apply(0, Event::InitDone));
    assert_eq!(names(&state), ["a@1"]);

    // A second list, broken off: what is known stays.
    state.apply(0, Event::Init);
    assert_eq!(names(&state), ["a@1"]);
    state.apply(0, Event::Init);
    state.apply(0, Event::InitApply(found(pod("b", "2"))));
    assert!(state.apply(0, Event::InitDone));
    assert_eq!(names(&state), ["b@2"], "a vanished while nobody watched");
}

#[test]
fn only_a_change_that_matters_is_a_change() {
    let mut state = State::default();
    assert!(state.apply(0, Event::Apply(found(pod("a", "1")))));
    let mut again = pod("a", "1");
    again.metadata.resource_version = Some("77".to_owned());
    assert!(!state.apply(0, Event::Apply(found(again))));
    assert!(state.apply(1, Event::Apply(found(pod("b", "2")))));
    assert_eq!(names(&state), ["a@1", "b@2"]);
    assert!(state.apply(0, Event::Delete(found(pod("a", "1")))));
    assert!(!state.apply(0, Event::Delete(found(pod("a", "1")))));
    assert_eq!(names(&state), ["b@2"]);
}

#[test]
fn only_annotated_objects_are_kept_where_that_is_asked() {
    let query = Query {
        annotated: Some("prometheus.io/scrape".to_owned()),
        ..Query::default()
    };
    let mut state = State::default();
    let mut apply = |event| query.narrowed(event).is_some_and(|it| state.apply(0, it));
    let annotated = |name: &str, value: &str| {
        let mut pod = pod(name, "1");
        let pair = ("prometheus.io/scrape".to_owned(), value.to_owned());
        pod.metadata.annotations = Some([pair].into());
        found(pod)
    };
    apply(Event::Init);
    apply(Event::InitApply(annotated("a", "true")));
    apply(Event::InitApply(annotated("b", "false")));
    apply(Event::InitApply(found(pod("c", "1"))));
    assert!(apply(Event::InitDone));
    assert!(!apply(Event::Apply(annotated("b", "no"))));
    assert!(apply(Event::Apply(annotated("c", "true"))));
    assert!(apply(Event::Apply(annotated("a", "false"))), "no longer");
    assert_eq!(names(&state), ["c@1"]);
}

const NODES: &str = "/api/v1/nodes";

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/llm/endpointslices";

/// What a query finds in `api`, until the guard goes.
fn watching(
    api: &FakeApi,
    query: Query,
) -> (watch::Receiver<Objects>, tokio_util::sync::DropGuard) {
    let (discovery, objects) = Discovery::new(api.client(), query);
    let cancel = CancellationToken::new();
    tokio::spawn(discovery.run(cancel.clone()));
    (objects, cancel.drop_guard())
}

fn node(name: &str, port: i32) -> Value {
    json!({
        "metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}},
    })
}

/// Name and kubelet's port of each node; name and addresses of each slice.
fn shown(objects: &watch::Receiver<Objects>) -> Vec<String> {
    let show = |object: &Arc<Discovered>| match &**object {
        Discovered::Node(node) => format!("{}:{}", node.metadata.name, node.kubelet_port),
        Discovered::Slice(slice) => {
            let addresses = slice.endpoints.iter().flat_map(|it| &it.addresses);
            let addresses: Vec<&str> = addresses.map(String::as_str).collect();
            format!("{}={}", slice.metadata.name, addresses.join(","))
        }
        other => panic!("{other:?}"),
    };
    objects.borrow().iter().map(show).collect()
}

#[tokio::test]
async fn nodes_are_followed_through_an_outage() {
    let api = FakeApi::start().await;
    api.put(NODES, node("n1", 10250));
    let query = Query {
        kind: Kind::Node,
        // Nodes have none.
        namespaces: vec!["llm".to_owned()],
        ..Query::default()
    };
    let (objects, _guard) = watching(&api, query);
    soon("the list", || shown(&objects) == ["n1:10250"]).await;
    api.put(NODES, node("n2", 10251));
    soon("another node", || {
        shown(&objects) == ["n1:10250", "n2:10251"]
    })
    .await;
    api.put(NODES, node("n1", 10255));
    soon("another port", || {
        shown(&objects) == ["n1:10255", "n2:10251"]
    })
    .await;

    // What is known outlives an API server that fails; what it forgot meanwhile is listed.
    api.answer(NODES, Answer::Status(500, "InternalError"), usize::MAX);
    api.cut_watches();
    let asked = api.requests().len();
    soon("another attempt", || api.requests().len() > asked).await;
    api.delete(NODES, "n1");
    api.forget_events();
    assert_eq!(shown(&objects).len(), 2);
    api.answer(NODES, Answer::Status(500, "InternalError"), 0);
    api.answer(NODES, Answer::Status(410, "Expired"), 1);
    soon("the new list", || shown(&objects) == ["n2:10251"]).await;
    assert!(api.requests().iter().all(|it| it.contains(NODES)));
}

#[tokio::test]
async fn endpointslices_of_a_namespace_are_followed_as_addresses_come_and_go() {
    let slice = |addresses: &[&str]| {
        let endpoints: Vec<Value> = addresses
            .iter()
            .map(|it| json!({"addresses": [it], "conditions": {"ready": true}}))
            .collect();
        json!({
            "metadata": {"namespace": "llm", "name": "vllm-x7", "labels": {"kubernetes.io/service-name": "vllm"}},
            "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8000}],
        })
    };
    let api = FakeApi::start().await;
    let query = Query {
        kind: Kind::EndpointSlice,
        namespaces: vec!["llm".to_owned()],
        label_selector: Some("kubernetes.io/service-name=vllm".to_owned()),
        ..Query::default()
    };
    let (mut objects, _guard) = watching(&api, query);
    // The first list counts as a change even if it is empty.
    objects.changed().await.expect("it goes on");
    assert!(shown(&objects).is_empty());
    for addresses in [&["10.0.0.7"][..], &["10.0.0.7", "10.0.0.8"], &["10.0.0.8"]] {
        api.put(SLICES, slice(addresses));
        let expected = format!("vllm-x7={}", addresses.join(","));
        soon("the addresses", || shown(&objects) == [&*expected]).await;
    }
    api.delete(SLICES, "llm/vllm-x7");
    soon("the deletion", || shown(&objects).is_empty()).await;
    let selector = "labelSelector=kubernetes.io%2Fservice-name%3Dvllm";
    let asked = api.requests();
    let as_asked = |it: &String| it.contains(SLICES) && it.contains(selector);
    assert!(asked.iter().all(as_asked), "{asked:?}");
}
