//! How often a backend is asked.

use gpu_metrics_adapter::model::time::Timestamp;

use crate::server::{Mode, Server};
use crate::world::{RULES, core, question};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_are_one_query_for_each_rule_and_namespace() {
    let server = Server::start(Mode::Value(7.0));
    let core = core(&format!(
        "freshWithin: 1h\nprometheus: [{{url: '{}'}}]\n{RULES}",
        server.url()
    ));
    core.provider.refresh(Timestamp::now()).await;
    let provider = core.provider;
    let ask = |index: usize| {
        let provider = std::sync::Arc::clone(&provider);
        let namespace = format!("ns{}", index % 2);
        let selector = format!("app=p{}", index % 3);
        tokio::spawn(async move {
            let question = question(&namespace, &selector, "util");
            let answer = provider.answer(&question, Timestamp::now()).await;
            assert_eq!(answer.unwrap().values.len(), 1);
        })
    };
    for asked in (0..1_000).map(ask).collect::<Vec<_>>() {
        asked.await.unwrap();
    }
    assert_eq!((server.queries(), server.lookups()), (2, 1));
}
