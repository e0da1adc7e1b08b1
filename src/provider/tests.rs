use super::fixture::{METRIC, World, at, world};
use super::*;
use crate::model::labels::{Labels, METRIC_NAME};

impl World {
    async fn ask(
        &self,
        question: &MetricQuestion,
        now: Timestamp,
    ) -> Result<Vec<(String, String)>, String> {
        let answer = self
            .provider
            .answer(question, now)
            .await
            .map_err(|error| error.to_string())?;
        Ok(answer
            .values
            .iter()
            .map(|value| (value.object.name.to_string(), value.value.to_string()))
            .collect())
    }
}

fn question(selector: &str) -> MetricQuestion {
    MetricQuestion {
        resource: GroupResource::core("pods"),
        namespace: Some("default".into()),
        objects: Objects::Matching(Selector::parse(selector).expect("a selector")),
        metric: METRIC.into(),
        metric_selector: Selector::default(),
    }
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[tokio::test]
async fn a_pods_gpus_are_averaged_and_only_matching_pods_answered() {
    let mut world = world("");
    let samples = [
        ("qwen-b", "0", 90.0),
        ("qwen-a", "0", 40.0),
        ("qwen-a", "1", 81.0),
        ("other", "2", 7.0),
        ("gone", "3", 1.0),
    ];
    world.scrape(at(0), &samples);
    assert_eq!(
        world.ask(&question("app=qwen"), at(5)).await,
        Ok(pairs(&[("qwen-a", "60500m"), ("qwen-b", "90")]))
    );
    let mut one = question("");
    one.objects = Objects::Named("other".into());
    assert_eq!(world.ask(&one, at(5)).await, Ok(pairs(&[("other", "7")])));
}

#[tokio::test]
async fn processes_on_one_gpu_add_up() {
    let mut world = world("");
    let process = |id: &str, value: f64| {
        let labels = [
            (METRIC_NAME, METRIC),
            ("NamespaceName", "default"),
            ("PodName", "qwen-a"),
            ("gpu", "0"),
        ];
        (
            Labels::new(labels.into_iter().chain([("ProcessId", id)])),
            value,
        )
    };
    let mut scrape = world.target.begin(at(0));
    for (labels, value) in [process("1", 30.0), process("2", 25.0)] {
        scrape.add(&labels, value, None).expect("within the limits");
    }
    scrape.commit();
    assert_eq!(
        world.ask(&question("app=qwen"), at(1)).await,
        Ok(pairs(&[("qwen-a", "55")]))
    );
}

#[tokio::test]
async fn a_pod_without_a_finite_value_is_missing_and_never_zero() {
    let mut world = world("");
    world.scrape(at(0), &[("qwen-a", "0", f64::NAN), ("qwen-b", "0", 50.0)]);
    assert_eq!(
        world.ask(&question("app=qwen"), at(1)).await,
        Ok(pairs(&[("qwen-b", "50")]))
    );
    world.scrape(at(15), &[("qwen-a", "0", f64::INFINITY)]);
    let error = world
        .ask(&question("app=qwen"), at(16))
        .await
        .expect_err("nothing finite");
    assert!(error.contains("1 without a finite value"), "{error}");
}

#[tokio::test]
async fn an_answer_carries_the_oldest_samples_time() {
    let mut world = world("");
    let mut scrape = world.target.begin(at(10));
    for (gpu, time) in [("0", None), ("1", Some(at(3)))] {
        let labels = [
            (METRIC_NAME, METRIC),
            ("NamespaceName", "default"),
            ("PodName", "qwen-a"),
            ("gpu", gpu),
        ];
        scrape
            .add(&Labels::new(labels), 1.0, time)
            .expect("within the limits");
    }
    scrape.commit();
    let answer = world
        .provider
        .answer(&question("app=qwen"), at(12))
        .await
        .expect("a value");
    assert_eq!(answer.values[0].timestamp, at(3));
}

#[tokio::test]
async fn while_the_exporter_is_down_the_text_names_it_and_since_when() {
    let mut world = world("");
    world.scrape(at(0), &[("qwen-a", "0", 95.0)]);
    world.target.failed(at(15), "connection refused", &[]);
    world.target.failed(at(30), "connection refused", &[]);
    assert!(
        world.ask(&question("app=qwen"), at(44)).await.is_ok(),
        "the last value counts until its age limit"
    );
    let error = world
        .ask(&question("app=qwen"), at(45))
        .await
        .expect_err("too old");
    assert_eq!(
        error,
        "no value of DCGM_CUSTOM_PROCESS_SM_UTIL for any of the pods with app=qwen in namespace default: \
         target http://10.0.0.7:9400/metrics (pod monitoring/dcgm-0) is down since 2026-11-23T20:00:15Z \
         (connection refused), last sample 2026-11-23T20:00:00Z; rules[0] takes samples up to 45s old"
    );
}

#[tokio::test]
async fn a_metric_that_was_never_seen_is_explained() {
    let mut world = world("");
    let unknown = world
        .ask(&question("app=qwen"), at(0))
        .await
        .expect_err("nothing scraped");
    assert_eq!(
        unknown,
        "the server could not find the metric DCGM_CUSTOM_PROCESS_SM_UTIL for pods: rules[0] would offer it and none of \
         its series is there; all 1 scrape targets answer and none shows it"
    );
    world.target.failed(at(0), "connection refused", &[]);
    let down = world
        .ask(&question("app=qwen"), at(1))
        .await
        .expect_err("nothing scraped");
    assert!(
        down.ends_with(
            "(pod monitoring/dcgm-0) is down since 2026-11-23T20:00:00Z (connection refused)"
        ),
        "{down}"
    );
    let mut other = question("app=qwen");
    other.metric = "queue_length".into();
    let nobody = world.ask(&other, at(1)).await.expect_err("no rule");
    assert!(
        nobody.ends_with("none of the 2 rules offers it; offered for pods: nothing yet"),
        "{nobody}"
    );
    let none = world
        .ask(&question("app=nobody"), at(1))
        .await
        .expect_err("no series first");
    assert!(none.contains("would offer it"), "{none}");
    world.scrape(at(2), &[("qwen-a", "0", 1.0)]);
    let none = world
        .ask(&question("app=nobody"), at(3))
        .await
        .expect_err("no pods");
    assert!(
        none.ends_with("there are no pods with app=nobody in namespace default"),
        "{none}"
    );
}

#[tokio::test]
async fn a_new_metric_is_found_by_the_first_question_and_outlives_its_series_for_a_while() {
    let mut world = world("");
    world.provider.refresh(at(0)).await;
    assert_eq!(world.provider.catalog().offers().count(), 0);
    world.scrape(at(1), &[("qwen-a", "0", 1.0)]);
    assert!(world.ask(&question("app=qwen"), at(2)).await.is_ok());
    assert_eq!(
        world.provider.catalog().offers().count(),
        2,
        "for pods and for namespaces"
    );
    let World { provider, target } = world;
    drop(target);
    provider.refresh(at(30)).await;
    assert_eq!(provider.catalog().offers().count(), 2);
    provider.refresh(at(700)).await;
    assert_eq!(provider.catalog().offers().count(), 0);
}

#[tokio::test]
async fn a_namespace_has_a_value_of_its_own() {
    let mut world = world("");
    world.scrape(at(0), &[("qwen-a", "0", 20.0), ("qwen-b", "1", 40.0)]);
    let question = MetricQuestion {
        resource: GroupResource::core("namespaces"),
        namespace: None,
        objects: Objects::Named("default".into()),
        ..question("")
    };
    assert_eq!(
        world.ask(&question, at(1)).await,
        Ok(pairs(&[("default", "30")]))
    );
}

#[tokio::test]
async fn a_later_rule_wins_and_one_that_cannot_be_evaluated_harms_no_other() {
    let rules = r#"
- seriesQuery: 'DCGM_CUSTOM_PROCESS_SM_UTIL{PodName!=""}'
  resources: {overrides: {NamespaceName: {resource: namespace}, PodName: {resource: pod}}}
  metricsQuery: max(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
  maxAge: 5s
- seriesQuery: 'DCGM_CUSTOM_PROCESS_SM_UTIL{PodName!=""}'
  name: {as: sm_sum}
  resources: {overrides: {NamespaceName: {resource: namespace}, PodName: {resource: pod}}}
  metricsQuery: sum(histogram_sum(<<.Series>>{<<.LabelMatchers>>})) by (<<.GroupBy>>)
"#;
    let mut world = world(rules);
    world.scrape(at(0), &[("qwen-a", "0", 20.0), ("qwen-a", "1", 40.0)]);
    assert_eq!(
        world.ask(&question("app=qwen"), at(1)).await,
        Ok(pairs(&[("qwen-a", "40")]))
    );
    let old = world
        .ask(&question("app=qwen"), at(5))
        .await
        .expect_err("its own age limit");
    assert!(
        old.ends_with("rules[2] takes samples up to 5s old"),
        "{old}"
    );
    let sum = MetricQuestion {
        metric: "sm_sum".into(),
        ..question("app=qwen")
    };
    let refused = world.ask(&sum, at(1)).await.expect_err("not evaluated");
    assert!(
        refused.starts_with("rules[3] offers this metric") && refused.contains("`histogram_sum`"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_query_that_keeps_objects_apart_is_asked_once_for_all_and_gives_the_same() {
    let literal = r#"
- seriesQuery: 'DCGM_CUSTOM_PROCESS_SM_UTIL{PodName!=""}'
  name: {as: literal}
  resources: {overrides: {NamespaceName: {resource: namespace}, PodName: {resource: pod}}}
  metricsQuery: label_replace(avg(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>), "of", "gpus", "", "")
- seriesQuery: 'DCGM_CUSTOM_PROCESS_SM_UTIL{PodName!=""}'
  name: {as: plain}
  resources: {overrides: {NamespaceName: {resource: namespace}, PodName: {resource: pod}}}
  metricsQuery: <<.Series>>{<<.LabelMatchers>>}
"#;
    let mut world = world(literal);
    world.scrape(
        at(0),
        &[
            ("qwen-a", "0", 20.0),
            ("qwen-a", "1", 40.0),
            ("qwen-b", "2", 5.0),
        ],
    );
    world.provider.refresh(at(1)).await;
    let catalog = world.provider.catalog();
    let pods = GroupResource::core("pods");
    assert!(catalog.find(&pods, METRIC).expect("offered").batched);
    assert!(!catalog.find(&pods, "literal").expect("offered").batched);
    let ask = |metric: &str| MetricQuestion {
        metric: metric.into(),
        ..question("app=qwen")
    };
    let expected = Ok(pairs(&[("qwen-a", "30"), ("qwen-b", "5")]));
    assert_eq!(world.ask(&ask(METRIC), at(1)).await, expected);
    assert_eq!(world.ask(&ask("literal"), at(1)).await, expected);
    // Without an aggregation one pod has two values; neither is guessed.
    assert_eq!(
        world.ask(&ask("plain"), at(1)).await,
        Ok(pairs(&[("qwen-b", "5")]))
    );
}

/// As prometheus-adapter's example `cheesy_goodness`, whose query is the same for all and says of nobody whose value it is.
#[tokio::test]
async fn a_query_that_names_no_object_has_a_value_for_none() {
    let rule = "[{seriesQuery: DCGM_CUSTOM_PROCESS_SM_UTIL, name: {as: all}, resources: {overrides: {NamespaceName: {resource: namespace}, PodName: {resource: pod}}}, metricsQuery: count(DCGM_CUSTOM_PROCESS_SM_UTIL)}]";
    let mut world = world(rule);
    world.scrape(at(0), &[("qwen-a", "0", 20.0), ("other", "1", 40.0)]);
    for objects in [
        Objects::Named("qwen-a".into()),
        Objects::Matching(Selector::default()),
    ] {
        let question = MetricQuestion {
            metric: "all".into(),
            objects,
            ..question("")
        };
        let error = world.ask(&question, at(1)).await.expect_err("whose?");
        assert!(error.contains("PodName"), "{error}");
    }
}

#[tokio::test]
async fn the_metric_selector_chooses_among_a_pods_series() {
    let mut world = world("");
    world.scrape(at(0), &[("qwen-a", "0", 20.0), ("qwen-a", "1", 40.0)]);
    let mut question = question("app=qwen");
    question.metric_selector = Selector::parse("gpu=1").expect("a selector");
    assert_eq!(
        world.ask(&question, at(1)).await,
        Ok(pairs(&[("qwen-a", "40")]))
    );
    question.metric_selector = Selector::parse("gpu>0").expect("a selector");
    assert!(
        world
            .ask(&question, at(1))
            .await
            .expect_err("no matcher")
            .contains("compares numbers")
    );
}

#[tokio::test]
async fn a_path_in_one_namespace_tells_nothing_of_another() {
    let mut world = world("");
    world.scrape(at(0), &[("qwen-a", "0", 20.0)]);
    let ask = |namespace: Option<&str>, resource: &str, objects: Objects| MetricQuestion {
        resource: GroupResource::core(resource),
        namespace: namespace.map(str::to_owned),
        objects,
        ..question("")
    };
    let all = || Objects::Matching(Selector::default());
    let below = world
        .ask(&ask(Some("team-a"), "namespaces", all()), at(1))
        .await;
    assert!(below.is_err(), "{below:?}");
    let own = world
        .ask(&ask(Some("default"), "namespaces", all()), at(1))
        .await;
    assert_eq!(own, Ok(pairs(&[("default", "20")])));
    let foreign = ask(
        Some("team-a"),
        "namespaces",
        Objects::Named("default".into()),
    );
    assert!(world.ask(&foreign, at(1)).await.is_err());
    let everywhere = world
        .ask(&ask(None, "pods", all()), at(1))
        .await
        .expect_err("no namespace");
    assert!(everywhere.contains("in one namespace"), "{everywhere}");
}

#[tokio::test]
async fn one_odd_series_does_not_take_the_metric_from_the_others() {
    let rules = r#"
- seriesQuery: 'DCGM_CUSTOM_PROCESS_SM_UTIL{PodName!=""}'
  name: {as: all}
  resources: {overrides: {NamespaceName: {resource: namespace}, PodName: {resource: pod}}}
  metricsQuery: max(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
"#;
    let mut world = world(rules);
    let mut scrape = world.target.begin(at(0));
    for labels in [
        vec![
            (METRIC_NAME, METRIC),
            ("NamespaceName", "default"),
            ("PodName", "qwen-a"),
        ],
        vec![(METRIC_NAME, METRIC), ("PodName", "nowhere")],
    ] {
        scrape
            .add(&Labels::new(labels), 7.0, None)
            .expect("within the limits");
    }
    scrape.commit();
    let all = MetricQuestion {
        metric: "all".into(),
        ..question("app=qwen")
    };
    assert_eq!(world.ask(&all, at(1)).await, Ok(pairs(&[("qwen-a", "7")])));
}

#[tokio::test]
async fn a_pod_that_is_gone_is_not_answered_though_an_exporter_still_names_it() {
    let mut world = world("");
    let samples = [("qwen-a", "0", 50.0), ("qwen-deleted", "1", 100.0)];
    world.scrape(at(0), &samples);
    let answered = world.ask(&question(""), at(0)).await.expect("an answer");
    assert_eq!(answered, pairs(&[("qwen-a", "50")]));
}

#[tokio::test]
async fn other_settings_count_at_once_and_keep_what_was_scraped() {
    let mut world = world("");
    world.scrape(at(0), &[("qwen-a", "0", 40.0)]);
    assert!(world.ask(&question("app=qwen"), at(1)).await.is_ok());
    let rule = "{seriesQuery: DCGM_CUSTOM_PROCESS_SM_UTIL, name: {as: doubled}, resources: {overrides: {NamespaceName: {resource: namespace}, PodName: {resource: pod}}}, metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>) * 2'}";
    let rule = serde_saphyr::from_str(rule).expect("valid");
    let rule = Rule::compile("rules[0]", &rule).expect("valid");
    let settings = Settings {
        rules: RuleSet {
            custom: vec![Arc::new(rule)],
            external: Vec::new(),
        },
        default_max_age: Duration::from_secs(10),
        fresh_within: Duration::ZERO,
        backends: Vec::new(),
        style: ValueStyle::default(),
    };
    world.provider.replace(settings, at(2)).await;
    let metrics: Vec<String> = world
        .provider
        .catalog()
        .offers()
        .map(|offer| offer.metric.to_string())
        .collect();
    assert_eq!(metrics, ["doubled", "doubled"], "for namespaces and pods");
    let mut doubled = question("app=qwen");
    doubled.metric = "doubled".into();
    assert_eq!(
        world.ask(&doubled, at(3)).await,
        Ok(pairs(&[("qwen-a", "80")]))
    );
    assert!(world.ask(&doubled, at(11)).await.is_err(), "too old by now");
    let gone = world.ask(&question("app=qwen"), at(3)).await;
    assert!(gone.is_err(), "no rule offers it any more");
}

#[tokio::test]
async fn other_settings_leave_metrics_in_their_grace_to_rules_that_stay() {
    let moved = "{seriesQuery: DCGM_CUSTOM_PROCESS_SM_UTIL, name: {as: kept}, resources: {overrides: {NamespaceName: {resource: namespace}, PodName: {resource: pod}}}, metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)'}";
    let mut world = world(&format!("[{moved}]"));
    world.scrape(at(0), &[("qwen-a", "0", 40.0)]);
    world.provider.refresh(at(1)).await;
    let World { provider, target } = world;
    drop(target);
    provider.refresh(at(30)).await;
    let compile = |id: &str, text: &str| {
        let config = serde_saphyr::from_str(text).expect("valid");
        Arc::new(Rule::compile(id, &config).expect("valid"))
    };
    let other = compile("rules[0]", &moved.replace("kept", "other"));
    let settings = |rules: Vec<Arc<Rule>>| Settings {
        rules: RuleSet {
            custom: rules,
            external: Vec::new(),
        },
        default_max_age: Duration::from_secs(45),
        ..Settings::default()
    };
    let rules = vec![other.clone(), compile("rules[1]", moved)];
    provider.replace(settings(rules), at(60)).await;
    let catalog = provider.catalog();
    let offers = catalog.offers();
    let offers: Vec<(&str, &str)> = offers.map(|it| (&*it.metric, &*it.rule.id)).collect();
    assert_eq!(offers, [("kept", "rules[1]"), ("kept", "rules[1]")]);
    provider.refresh(at(602)).await;
    assert_eq!(
        provider.catalog().offers().count(),
        0,
        "ten minutes, and no more"
    );
    provider.replace(settings(vec![other]), at(603)).await;
    assert_eq!(provider.catalog().offers().count(), 0);
}

fn of_deployment(name: &str) -> MetricQuestion {
    MetricQuestion {
        resource: GroupResource::core("deployments"),
        objects: Objects::Named(name.into()),
        ..question("")
    }
}

#[tokio::test]
async fn a_deployment_is_answered_for_by_its_pods_as_the_rule_has_it() {
    let mut world = world("");
    let samples = [
        ("qwen-a", "0", 40.0),
        ("qwen-a", "1", 60.0),
        ("qwen-b", "2", 20.0),
        ("other", "3", 99.0),
    ];
    world.scrape(at(0), &samples);
    assert_eq!(
        world.ask(&of_deployment("qwen"), at(5)).await,
        Ok(pairs(&[("qwen", "40")])),
        "the average over the three GPUs of its pods"
    );
    let mut one_gpu = of_deployment("qwen");
    one_gpu.metric_selector = Selector::parse("gpu=2").expect("a selector");
    assert_eq!(
        world.ask(&one_gpu, at(5)).await,
        Ok(pairs(&[("qwen", "20")]))
    );
    let nobody = world.ask(&of_deployment("nobody"), at(5)).await;
    assert_eq!(
        nobody.expect_err("no pods"),
        "no value of DCGM_CUSTOM_PROCESS_SM_UTIL for deployments nobody in namespace default: \
         no label of its series names deployments, and no pod is controlled by them"
    );
    world.target.failed(at(15), "connection refused", &[]);
    let stale = world.ask(&of_deployment("qwen"), at(60)).await;
    let stale = stale.expect_err("too old");
    assert!(stale.contains("is down since"), "{stale}");
    let unknown = MetricQuestion {
        metric: "nothing".into(),
        ..of_deployment("qwen")
    };
    let unknown = world.ask(&unknown, at(5)).await.expect_err("unknown");
    assert!(
        unknown.contains("could not find the metric nothing"),
        "{unknown}"
    );
}

#[tokio::test]
async fn a_rule_that_does_not_want_it_answers_for_no_owner() {
    let rule = "[{seriesQuery: DCGM_CUSTOM_PROCESS_SM_UTIL, resources: {owners: false, overrides: {NamespaceName: {resource: namespace}, PodName: {resource: pod}}}, metricsQuery: 'avg(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)'}]";
    let mut world = world(rule);
    world.scrape(at(0), &[("qwen-a", "0", 40.0)]);
    assert!(world.ask(&question(""), at(1)).await.is_ok());
    let refused = world.ask(&of_deployment("qwen"), at(1)).await;
    let refused = refused.expect_err("not offered");
    assert!(
        refused.contains("none with a label that names deployments"),
        "{refused}"
    );
}
