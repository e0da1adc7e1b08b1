use super::*;

fn read(text: &str) -> Result<ScrapeConfig, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

fn faults(text: &str) -> Vec<String> {
    let config = read(text).expect("the text has the right form");
    config.validate().iter().map(Fault::to_string).collect()
}

#[test]
fn an_empty_section_is_the_default() {
    let config = read("{}").unwrap();
    assert_eq!(config, ScrapeConfig::default());
    assert!(config.validate().is_empty());
}

#[test]
fn durations_and_sizes_are_read_as_prometheus_writes_them() {
    for (text, millis) in [
        ("15s", Some(15_000)),
        ("1m30s", Some(90_000)),
        ("1h5ms", Some(3_600_005)),
        ("0", Some(0)),
        ("", None),
        ("15", None),
        ("s", None),
        ("1s1m", None),
        ("1s1s", None),
        ("1.5s", None),
        ("-1s", None),
        ("99999999999999y", None),
    ] {
        let expected = millis.map(Duration::from_millis);
        assert_eq!(units::parse_duration(text), expected, "{text:?}");
    }
    for (text, bytes) in [
        ("16MB", Some(16 << 20)),
        ("1KiB", Some(1024)),
        ("7", Some(7)),
        ("1.5MB", None),
        ("MB", None),
        ("1XB", None),
    ] {
        assert_eq!(units::parse_size(text), bytes, "{text:?}");
    }
}

#[test]
fn a_prometheus_job_is_read_as_it_is() {
    let config = read(
        r#"
interval: 30s
scrape_configs:
- job_name: vllm
  scrape_interval: 5s
  scrape_timeout: 3s
  metrics_path: /m
  scheme: https
  params: {"match[]": [a, b]}
  static_configs:
  - targets: [a:1, "[::1]:2"]
    labels: {shard: 1}
  kubernetes_sd_configs:
  - role: pod
    namespaces: {names: [llm]}
    selectors:
    - {role: pod, label: app=vllm, field: spec.nodeName=n}
  relabel_configs:
  - source_labels: [__meta_kubernetes_pod_container_port_number]
    regex: 8000
    action: Keep
  metric_relabel_configs:
  - {regex: engine, action: labeldrop}
  honor_labels: false
  honor_timestamps: false
  sample_limit: 10
  body_size_limit: 1MB
"#,
    )
    .unwrap();
    assert_eq!(config.validate(), []);
    let job = &config.scrape_configs[0];
    let seconds = Duration::from_secs;
    assert_eq!(job.timing(&config), (seconds(5), seconds(3)));
    assert_eq!(job.static_configs[0].labels["shard"], "1");
    assert_eq!(job.relabel_configs[0].regex.as_deref(), Some("8000"));
    assert_eq!(job.relabel_configs[0].action, Action::Keep);
    assert_eq!(job.honor_labels, Some(false));
    assert_eq!(job.body_size_limit, 1 << 20);
}

#[test]
fn the_default_timeout_is_cut_to_a_short_interval() {
    let config = read("{interval: 5s, scrape_configs: [{job_name: a}]}").unwrap();
    let (interval, timeout) = config.scrape_configs[0].timing(&config);
    assert_eq!((interval, timeout), (interval, interval));
    assert!(config.validate().is_empty());
}

#[test]
fn what_prometheus_has_and_we_do_not_is_refused_by_name_and_line() {
    for (text, name, line) in [
        (
            "scrape_configs:\n- job_name: a\n  oauth2: {}",
            "oauth2 is a Prometheus setting",
            "line 3",
        ),
        (
            "scrape_configs:\n- job_name: a\n  kubernetes_sd_configs:\n  - role: ingress",
            "role ingress is a Prometheus role",
            "line 4",
        ),
        (
            "scrape_configs:\n- kubernetes_sd_configs:\n  - role: pod\n    api_server: x",
            "api_server is a Prometheus setting",
            "line 4",
        ),
        (
            "interval: 15s\npresets: [cadvisor]",
            "there are dcgm-exporter, kubelet, inference-pods",
            "line 2",
        ),
        (
            "scrape_configs:\n- job_name: a\n  metric_path: /x",
            "unknown field `metric_path`",
            "line 3",
        ),
        (
            "scrape_configs:\n- job_name: a\n  scrape_interval: 15",
            "\"15\" is not a duration",
            "line 3",
        ),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(name), "{error}");
        assert!(error.contains(line), "{error}");
    }
}

#[test]
fn all_faults_are_told_with_their_place() {
    let found = faults(
        r#"
interval: 0
presets: [dcgm-exporter]
limits: {samples: 0, body_size: 1GB}
scrape_configs:
- job_name: dcgm-exporter
- scrape_interval: 5s
  scrape_timeout: 6s
  static_configs: [{targets: ["http://a/metrics"], labels: {a-b: c}}]
  relabel_configs:
  - {regex: "(", action: keep}
  - {action: hashmod, target_label: x}
  - {action: replace}
  - {action: labeldrop, regex: x, target_label: y}
  - {action: keepequal, target_label: y, regex: x}
  - {action: labelmap, replacement: "a-b"}
  - {regex: "a)(b", action: drop}
  - {action: lowercase, target_label: x, replacement: y}
  - {action: labeldrop, regex: x, separator: ";", replacement: $1}
  kubernetes_sd_configs:
  - {role: endpointslice, selectors: [{role: service, label: a}, {role: pod}, {role: node}, {role: service}]}
  - {role: node, selectors: [{role: pod}]}
  file_sd_configs:
  - {files: []}
  - {files: [/a/*.yml, /a/b.txt, /a*/b.yml, /a/*b*.yml, a.json], refresh_interval: 0}
"#,
    );
    let places: Vec<&str> = found
        .iter()
        .filter_map(|it| it.split(": ").next())
        .collect();
    assert_eq!(
        places,
        [
            "interval",
            "limits.samples",
            "limits.body_size",
            "scrape_configs[0].job_name",
            "scrape_configs[1].job_name",
            "scrape_configs[1].scrape_timeout",
            "scrape_configs[1].static_configs[0].targets[0]",
            "scrape_configs[1].static_configs[0].labels",
            "scrape_configs[1].file_sd_configs[0].files",
            "scrape_configs[1].file_sd_configs[1].refresh_interval",
            "scrape_configs[1].file_sd_configs[1].files[1]",
            "scrape_configs[1].file_sd_configs[1].files[2]",
            "scrape_configs[1].file_sd_configs[1].files[3]",
            "scrape_configs[1].file_sd_configs[1].files[4]",
            "scrape_configs[1].kubernetes_sd_configs[0].selectors[2]",
            "scrape_configs[1].kubernetes_sd_configs[0].selectors[3]",
            "scrape_configs[1].kubernetes_sd_configs[1].selectors[0]",
            "scrape_configs[1].relabel_configs[0].regex",
            "scrape_configs[1].relabel_configs[1].modulus",
            "scrape_configs[1].relabel_configs[2].target_label",
            "scrape_configs[1].relabel_configs[3].target_label",
            "scrape_configs[1].relabel_configs[4].regex",
            "scrape_configs[1].relabel_configs[5].replacement",
            "scrape_configs[1].relabel_configs[6].regex",
            "scrape_configs[1].relabel_configs[7].replacement",
        ],
        "{found:#?}"
    );
}

#[test]
fn http_settings_are_prometheus_s_and_their_secrets_are_not_shown() {
    let text = r#"
scrape_configs:
- job_name: a
  basic_auth: {username: u, password: hidden1}
  enable_http2: false
  follow_redirects: false
- job_name: b
  authorization: {credentials: hidden2}
  tls_config: {ca_file: /ca, cert: c, key: hidden3, insecure_skip_verify: true, min_version: TLS13}
"#;
    let config = read(text).unwrap();
    assert_eq!(config.validate(), []);
    let (a, b) = (
        config.scrape_configs[0].http(),
        config.scrape_configs[1].http(),
    );
    assert!(!a.http2 && !a.follow_redirects && b.http2 && b.follow_redirects);
    assert_eq!(b.authorization.as_ref().unwrap().kind, "Bearer");
    assert_eq!(b.tls.min_version, Some(http::TlsVersion::Tls13));
    assert!(!format!("{config:?}").contains("hidden"));
    assert!(!format!("{:?}", crate::targets::compile(&config)).contains("hidden"));
    let typo = text.replace('\n', "\n  ").replace("cert: c", "certt: c");
    let error = super::super::Config::parse(&format!("scrape:{typo}")).unwrap_err();
    assert!(
        error.contains("certt") && error.contains("line 9"),
        "{error}"
    );
    assert!(!error.contains("hidden"), "{error}");
}

#[test]
fn http_settings_that_contradict_themselves_are_told() {
    let found = faults(
        r#"
presets: []
scrape_configs:
- job_name: a
  basic_auth: {username: u, username_file: /u, password_file: p}
  authorization: {type: Basic, credentials: c, credentials_file: /c}
  tls_config: {ca: c, ca_file: /c, cert: c, min_version: TLS13, max_version: TLS12, server_name: 'a b'}
- job_name: b
  authorization: {type: "a b"}
"#,
    );
    let places: Vec<&str> = found
        .iter()
        .filter_map(|it| it.split(": ").next())
        .collect();
    assert_eq!(
        places,
        [
            "scrape_configs[0].authorization",
            "scrape_configs[0].authorization.type",
            "scrape_configs[0].basic_auth.username_file",
            "scrape_configs[0].basic_auth.password_file",
            "scrape_configs[0].authorization.credentials_file",
            "scrape_configs[0].tls_config.ca_file",
            "scrape_configs[0].tls_config",
            "scrape_configs[0].tls_config.server_name",
            "scrape_configs[0].tls_config.min_version",
            "scrape_configs[1].authorization.type",
            "scrape_configs[1].authorization",
        ],
        "{found:#?}"
    );
}
