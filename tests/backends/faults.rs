//! Backends that fail in every way: no value, a text that says what is wrong, and values again as soon as they can be.

use std::time::{Duration, Instant};

use gpu_metrics_adapter::config::Config;
use gpu_metrics_adapter::model::time::Timestamp;

use crate::server::{Mode, Server};
use crate::wait::eventually;
use crate::world::{RULES, ask, core, core_of, three};

/// Less than the time between two questions of an HPA.
const ONE_SYNC: Duration = Duration::from_secs(15);

/// More than the two seconds of an answer, on a busy machine.
const LATE: Duration = Duration::from_secs(4);

async fn recovers(core: &gpu_metrics_adapter::app::Core) {
    eventually("value", ONE_SYNC, async || match ask(core).await {
        Ok(values) if values == three("7") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_gives_no_value_and_its_reason_and_is_over_when_it_is_over() {
    let server = Server::start(Mode::Value(7.0));
    let url = server.url();
    let core = core(&format!(
        "freshWithin: 0s\nprometheus: [{{url: '{url}', body_size_limit: 1MB}}]\n{RULES}"
    ));
    core.provider.refresh(Timestamp::now()).await;
    assert_eq!(ask(&core).await, Ok(three("7")));
    for (mode, reason) in [
        (
            Mode::Text(503, "text/html", "<html>503 Service Unavailable</html>"),
            "answers 503",
        ),
        (
            Mode::Text(
                500,
                "application/json",
                r#"{"status":"error","errorType":"internal","error":"no space left"}"#,
            ),
            "answers 500: internal: no space left",
        ),
        (
            Mode::Text(
                200,
                "application/json",
                r#"{"status":"success","data":null}"#,
            ),
            "answers without data (\"data\" is null)",
        ),
        (
            Mode::Text(
                200,
                "application/json",
                r#"{"status":"success","data":{"resultType":"vector","result":null}}"#,
            ),
            "answers with JSON that is not Prometheus's: invalid type: null",
        ),
        (
            Mode::Text(
                200,
                "application/json",
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"pod":"p0"},"val"#,
            ),
            "answers with JSON that breaks off in the middle",
        ),
        (
            Mode::Text(200, "application/json", ""),
            "answers with JSON that breaks off in the middle",
        ),
        (
            Mode::Text(200, "text/html", "<html>log in</html>"),
            "answers with something that is not JSON (text/html)",
        ),
        (
            Mode::Text(
                200,
                "application/json",
                r#"{"status":"success","data":[1,2]}"#,
            ),
            "answers with JSON that is not Prometheus's",
        ),
        (
            Mode::Text(
                200,
                "application/json",
                r#"{"status":"success","isPartial":true,"data":{"resultType":"vector","result":[]}}"#,
            ),
            "answers with a part of the data only",
        ),
        (Mode::Text(302, "text/plain", ""), "answers 302"),
        (Mode::Huge, "answers with more than 1048576 bytes"),
        (Mode::Hang, "does not answer in time"),
        (Mode::HangInside, "does not answer in time"),
    ] {
        server.set(mode.clone());
        let begun = Instant::now();
        let error = ask(&core).await.expect_err("no value");
        assert!(begun.elapsed() < LATE, "{mode:?}: {:?}", begun.elapsed());
        let wanted = format!("rules[0] has no answer: backend prometheus: {url} {reason}");
        assert!(error.starts_with(&wanted), "{mode:?}: {error}");
        assert!(error.contains(", since 20"), "{error}");
        let again = ask(&core).await.expect_err("no value");
        assert_eq!(again, error, "events of the HPA are counted by their text");
        // The catalog is of before, whatever lookups say now.
        core.provider.refresh(Timestamp::now()).await;
        assert_eq!(core.provider.catalog().offers().count(), 2, "{mode:?}");
        server.set(Mode::Value(7.0));
        recovers(&core).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_is_told_apart_and_taken_up_again() {
    let server = Server::start(Mode::Value(7.0));
    let (url, address) = (server.url(), server.address);
    let core = core(&format!(
        "freshWithin: 0s\nprometheus: [{{name: main, url: '{url}'}}]\n{RULES}"
    ));
    assert_eq!(ask(&core).await, Ok(three("7")));
    drop(server);
    let error = eventually("refusal", LATE, async || {
        let error = ask(&core).await.expect_err("no value");
        // Its connections end a moment after it.
        if error.contains("cannot be reached (connection refused)") {
            Ok(error)
        } else {
            Err(error)
        }
    })
    .await;
    assert!(
        error.contains(&format!("backend main: {url} cannot be")),
        "{error}"
    );
    let down = core.provider.backends()[0].replicas().remove(0).down;
    assert!(down.is_some(), "health is kept");
    let _again = Server::start_at(address, Mode::Value(7.0));
    recovers(&core).await;
    let down = core.provider.backends()[0].replicas().remove(0).down;
    assert_eq!(down, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_is_refused_is_the_querys_fault_and_not_asked_twice() {
    let refusal = r#"{"status":"error","errorType":"bad_data","error":"1:5: parse error"}"#;
    let server = Server::start(Mode::Value(7.0));
    let core = core(&format!(
        "freshWithin: 0s\nprometheus: [{{url: '{}'}}]\n{RULES}",
        server.url()
    ));
    assert_eq!(ask(&core).await, Ok(three("7")));
    server.set(Mode::Text(400, "application/json", refusal));
    let before = server.queries();
    let error = ask(&core).await.expect_err("no value");
    assert!(
        error.ends_with("refuses the query: bad_data: 1:5: parse error"),
        "{error}"
    );
    assert_eq!(server.queries(), before + 1);
    let down = core.provider.backends()[0].replicas().remove(0).down;
    assert_eq!(down, None, "the server is well");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_are_no_numbers_are_missing() {
    let vector = r#"{"status":"success","data":{"resultType":"vector","result":[
        {"metric":{"pod":"p0"},"value":[1,"NaN"]},{"metric":{"pod":"p1"},"value":[1,"+Inf"]},
        {"metric":{"pod":"p2"},"value":[1,"5.25"]},{"metric":{"pod":"p2b"},"histogram":[1,{"count":"1"}]}]}}"#;
    let server = Server::start(Mode::Value(7.0));
    let core = core(&format!(
        "freshWithin: 0s\nprometheus: [{{url: '{}'}}]\n{RULES}",
        server.url()
    ));
    assert_eq!(ask(&core).await, Ok(three("7")));
    server.set(Mode::Text(200, "application/json", vector));
    let values = ask(&core).await.expect("one value");
    let values: Vec<(&str, &str)> = values.iter().map(|(a, b)| (&**a, &**b)).collect();
    assert_eq!(values, [("p2", "5250m")]);
    let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"2"]]}]}}"#;
    server.set(Mode::Text(200, "application/json", matrix));
    let error = ask(&core).await.expect_err("no value");
    assert!(error.contains("answers with a range vector"), "{error}");
    let empty = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
    server.set(Mode::Text(200, "application/json", empty));
    let error = ask(&core).await.expect_err("no value");
    let named = format!("backend prometheus at {} answers", server.url());
    assert!(error.contains(&named), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hangs_is_passed_over_within_the_question_and_then_left_alone() {
    let (hangs, good) = (Server::start(Mode::Hang), Server::start(Mode::Value(7.0)));
    let core = core(&format!(
        "freshWithin: 0s\nprometheus: [{{url: ['{}', '{}']}}]\n{RULES}",
        hangs.url(),
        good.url()
    ));
    // The lookup waits for the first for half of its time; the answer must not.
    eventually("value", Duration::from_secs(30), async || {
        ask(&core)
            .await
            .map(|values| assert_eq!(values, three("7")))
    })
    .await;
    let before = hangs.queries();
    for _ in 0..20 {
        assert_eq!(ask(&core).await, Ok(three("7")));
    }
    assert_eq!(hangs.queries(), before, "who answered is asked first");
    good.set(Mode::Text(503, "text/html", "no"));
    hangs.set(Mode::Value(8.0));
    eventually("value of the other", ONE_SYNC, async || {
        ask(&core)
            .await
            .map(|values| assert_eq!(values, three("8")))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_whose_lookup_is_refused_from_the_start_takes_no_metric_from_the_others() {
    let server = Server::start(Mode::Except("other"));
    let rules = RULES.replace("rules:\n", "");
    let core = core(&format!(
        "prometheus: [{{url: '{}'}}]\nrules:\n{}{rules}",
        server.url(),
        rules.replace("util", "other")
    ));
    core.provider.refresh(Timestamp::now()).await;
    assert_eq!(ask(&core).await, Ok(three("7")));
    let catalog = core.provider.catalog();
    let [other, util] = catalog.rules() else {
        panic!("{:?}", catalog.rules())
    };
    let error = other.error.as_deref().unwrap_or_default();
    assert!(error.ends_with("execution: too many series"), "{error}");
    assert_eq!((util.offers, &util.error), (2, &None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_while_a_backend_is_down_forgets_none_of_its_metrics() {
    let server = Server::start(Mode::Value(7.0));
    let url = server.url();
    let configuration = |timeout: &str| {
        format!(
            "freshWithin: 0s\nscrape: {{presets: []}}\nprometheus: [{{url: '{url}', timeout: {timeout}}}]\n{RULES}"
        )
    };
    let core = core_of(&configuration("1700ms"));
    assert_eq!(ask(&core).await, Ok(three("7")));
    server.set(Mode::Text(503, "text/html", "no"));
    let changed = Config::parse(&configuration("1600ms")).expect("the form is right");
    let applied = core.apply(&changed, Timestamp::now()).await;
    applied.expect("valid");
    let error = ask(&core).await.expect_err("no value");
    assert!(error.contains("answers 503"), "{error}");
    assert_eq!(core.provider.catalog().offers().count(), 2);
    server.set(Mode::Value(7.0));
    recovers(&core).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_hangs_delays_the_rules_of_no_other() {
    let (hangs, good) = (Server::start(Mode::Hang), Server::start(Mode::Value(7.0)));
    let rules = RULES.replace("rules:\n", "");
    let other = rules.replace("util", "other");
    let core = core(&format!(
        "prometheus: [{{name: good, url: '{}'}}, {{name: hangs, url: '{}'}}]\nrules:\n{rules}{other}  engine: hangs\n",
        good.url(),
        hangs.url()
    ));
    // The first that asks waits for the lookups, a second at most.
    let begun = Instant::now();
    assert_eq!(ask(&core).await, Ok(three("7")));
    assert!(begun.elapsed() < LATE, "{:?}", begun.elapsed());
    let begun = Instant::now();
    core.provider.refresh(Timestamp::now()).await;
    let took = begun.elapsed();
    assert!(
        took < Duration::from_millis(500),
        "nobody waits twice: {took:?}"
    );
    let catalog = core.provider.catalog();
    let states: Vec<bool> = catalog
        .rules()
        .iter()
        .map(|it| it.error.is_none())
        .collect();
    assert_eq!(states, [true, false]);
    let error = crate::world::ask_for(&core, "other")
        .await
        .expect_err("hangs");
    assert!(error.contains("could not find the metric other"), "{error}");
}
