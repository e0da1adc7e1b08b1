//! Pages that stand still, each a job of its own, under all settings that change what comes out of them.

use std::fmt::Write as _;
use std::io::Read as _;
use std::net::SocketAddr;
use std::time::Duration;

use crate::adapter::Adapter;
use crate::compare::{difference, differences, is_refused_only_there};
use crate::edge_cases::EDGE_CASES;
use crate::exceptions::{ABOUT_ONLY_THERE, EXCEPTIONS, MEASURED};
use crate::pages::{OPENMETRICS, Page, Pages};
use crate::prometheus::Prometheus;
use crate::wait::eventually;

const DCGM: &[u8] = include_bytes!("../fixtures/pages/dcgm8.txt");
const VLLM: &[u8] = include_bytes!("../fixtures/pages/vllm.txt");
const RESOURCE: &[u8] = include_bytes!("../fixtures/pages/resource.txt");
const CADVISOR_GZ: &[u8] = include_bytes!("../fixtures/pages/cadvisor.txt.gz");

/// Every page is there this soon; two scrapes of a hundred pages a second.
const WITHIN: Duration = Duration::from_secs(90);

/// A page and the settings of its job.
pub(crate) struct Case {
    pub(crate) job: String,
    settings: String,
    page: Page,
}

/// The job as both take it.
pub(crate) fn job(name: &str, address: SocketAddr, settings: &str) -> String {
    let honor = if settings.contains("honor_labels") {
        ""
    } else {
        ", honor_labels: true"
    };
    format!(
        "  - {{job_name: '{name}', metrics_path: '/{name}', static_configs: [{{targets: ['{address}'], labels: {{node: n1, rack: r7}}}}]{honor}{settings}}}\n"
    )
}

/// Labels that rules work on.
const LABELLED: &str = "util{pod=\"a-1\",node=\"page\",Zone=\"EU\",exported_node=\"x\",same=\"n1\"} 1\n\
     util{pod=\"b-2\",node=\"n1\",Zone=\"us\",same=\"n2\"} 2\nrequests_total{pod=\"a-1\",code=\"500\"} 7\nplain 3\n";

/// Names of cases with settings, and the settings; the page is [`LABELLED`].
const SETTINGS: &[(&str, &str)] = &[
    ("honors labels", "honor_labels: true"),
    ("honors no labels", "honor_labels: false"),
    (
        "replaces",
        "metric_relabel_configs: [{source_labels: [pod, node], separator: '/', regex: '(.)-.*/(.*)', target_label: '${1}_x', replacement: '$2'}]",
    ),
    (
        "replaces nothing",
        "metric_relabel_configs: [{source_labels: [pod], regex: 'z.*', target_label: y, replacement: z}]",
    ),
    (
        "replaces with nothing",
        "metric_relabel_configs: [{source_labels: [pod], regex: 'a.*', target_label: pod, replacement: ''}]",
    ),
    (
        "renames",
        "metric_relabel_configs: [{source_labels: [__name__], regex: 'util', target_label: __name__, replacement: 'utilisation'}]",
    ),
    (
        "keeps",
        "metric_relabel_configs: [{source_labels: [__name__], regex: 'util|plain', action: keep}]",
    ),
    (
        "drops",
        "metric_relabel_configs: [{source_labels: [pod], regex: 'a.*', action: drop}]",
    ),
    (
        "keepequal",
        "metric_relabel_configs: [{source_labels: [node], target_label: same, action: keepequal}]",
    ),
    (
        "dropequal",
        "metric_relabel_configs: [{source_labels: [node], target_label: same, action: dropequal}]",
    ),
    (
        "hashmod",
        "metric_relabel_configs: [{source_labels: [pod], modulus: 7, target_label: shard, action: hashmod}]",
    ),
    (
        "labelmap",
        "metric_relabel_configs: [{regex: '(no.*)', replacement: 'my_$1', action: labelmap}]",
    ),
    (
        "labeldrop",
        "metric_relabel_configs: [{regex: 'Zone|same', action: labeldrop}]",
    ),
    (
        "labelkeep",
        "metric_relabel_configs: [{regex: '__name__|pod|job|instance', action: labelkeep}]",
    ),
    (
        "lowercase",
        "metric_relabel_configs: [{source_labels: [Zone], target_label: zone, action: lowercase}]",
    ),
    (
        "uppercase",
        "metric_relabel_configs: [{source_labels: [Zone], target_label: zone, action: uppercase}]",
    ),
    (
        "two rules",
        "metric_relabel_configs: [{source_labels: [pod], target_label: copy}, {regex: pod, action: labeldrop}]",
    ),
    (
        "target replace",
        "relabel_configs: [{source_labels: [__address__], regex: '(.*):.*', target_label: host, replacement: '$1'}]",
    ),
    (
        "target instance",
        "relabel_configs: [{target_label: instance, replacement: 'gpu-node-1'}]",
    ),
    (
        "target drop",
        "relabel_configs: [{source_labels: [rack], regex: 'r7', action: drop}]",
    ),
    (
        "target keep",
        "relabel_configs: [{source_labels: [rack], regex: 'r7', action: keep}]",
    ),
    (
        "target labelmap",
        "relabel_configs: [{regex: '__(sch.*)__', action: labelmap}]",
    ),
    (
        "target labeldrop",
        "relabel_configs: [{regex: 'rack', action: labeldrop}]",
    ),
    (
        "target hashmod",
        "relabel_configs: [{source_labels: [__address__, rack], modulus: 64, target_label: shard, action: hashmod}, {regex: 'shard', action: labeldrop}]",
    ),
    (
        "target uppercase",
        "relabel_configs: [{source_labels: [rack], target_label: rack, action: uppercase}]",
    ),
    ("sample limit met", "sample_limit: 4"),
    ("sample limit passed", "sample_limit: 3"),
    ("label limit met", "label_limit: 9"),
    ("label limit passed", "label_limit: 7"),
    ("label value limit passed", "label_value_length_limit: 3"),
    ("label name limit passed", "label_name_length_limit: 9"),
    ("body size limit passed", "body_size_limit: 64B"),
];

/// More pages of their own.
const PAGES: &[(&str, &str, &str)] = &[
    (
        "openmetrics",
        OPENMETRICS,
        "# TYPE a counter\n# UNIT a \na_total{x=\"1\"} 17 # {trace_id=\"ab\"} 0.5\na_created{x=\"1\"} 1.5\n# TYPE b gauge\nb 1.5\n# TYPE i info\ni_info{v=\"1\"} 1\n# TYPE s stateset\ns{s=\"up\"} 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n# EOF\n",
    ),
    (
        "openmetrics without end",
        OPENMETRICS,
        "# TYPE b gauge\nb 1.5\n",
    ),
    ("text under a wrong type", "text/html", "a 1\n"),
    ("text without a type", "", "a 1\n"),
    ("old type", "text/plain", "a 1\n"),
];

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let mut cadvisor = Vec::new();
    flate2::read::GzDecoder::new(CADVISOR_GZ)
        .read_to_end(&mut cadvisor)
        .unwrap();
    for (name, body) in [
        ("dcgm8", DCGM),
        ("vllm", VLLM),
        ("resource", RESOURCE),
        ("cadvisor", &cadvisor),
    ] {
        // The times on captured pages are long ago.
        let settings = ", honor_timestamps: false".to_owned();
        all.push(Case {
            job: name.to_owned(),
            settings,
            page: Page::text(body),
        });
    }
    for (index, (body, _, _)) in EDGE_CASES.iter().enumerate() {
        all.push(Case {
            job: format!("edge-{index}"),
            settings: ", honor_timestamps: false".to_owned(),
            page: Page::text(*body),
        });
        let mut body = body.to_vec();
        if !body.ends_with(b"\n") && !body.is_empty() {
            body.push(b'\n');
        }
        body.extend_from_slice(b"# EOF\n");
        let page = Page {
            status: 200,
            content_type: OPENMETRICS,
            body,
        };
        all.push(Case {
            job: format!("edge-om-{index}"),
            settings: ", honor_timestamps: false".to_owned(),
            page,
        });
    }
    for (name, settings) in SETTINGS {
        all.push(Case {
            job: name.replace(' ', "-"),
            settings: format!(", {settings}"),
            page: Page::text(LABELLED),
        });
    }
    for (name, content_type, body) in PAGES {
        let page = Page {
            status: 200,
            content_type,
            body: body.as_bytes().to_vec(),
        };
        all.push(Case {
            job: name.replace(' ', "-"),
            settings: String::new(),
            page,
        });
    }
    all
}

/// The body of a page, or what the exceptions call it.
fn named(case: &Case) -> String {
    let Some(index) = case.job.strip_prefix("edge-") else {
        return case.job.clone();
    };
    let (format, index) = index
        .strip_prefix("om-")
        .map_or(("text", index), |it| ("openmetrics", it));
    let body = EDGE_CASES[index.parse::<usize>().unwrap()].0;
    format!("{format} {}", body.escape_ascii())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Prometheus: make test"]
async fn the_same_series_come_out_of_the_same_pages() {
    let pages = Pages::default();
    let address = pages.serve().await;
    let cases = cases();
    let mut jobs = String::new();
    for case in &cases {
        pages.set(&case.job, case.page.clone());
        jobs.push_str(&job(&case.job, address, &case.settings));
    }
    let prometheus = Prometheus::start(&jobs).await;
    let adapter = Adapter::start(&jobs).await;
    let scraped = |it: &&Case| it.job != "target-drop";
    for case in cases.iter().filter(scraped) {
        // The third time: what the first two brought is stored.
        eventually(&case.job, WITHIN, async || match pages.read(&case.job) {
            0..3 => Err("has not been read three times"),
            _ => Ok(()),
        })
        .await;
    }

    let mut faults = String::new();
    let (mut same, mut refused, mut excepted) = (0, 0, 0);
    let mut unneeded: Vec<&str> = EXCEPTIONS.iter().map(|it| it.page).collect();
    let (their_targets, our_targets) = (
        prometheus.peer.targets().await,
        adapter.peer.targets().await,
    );
    for case in &cases {
        let query = format!(
            "{{__name__=~\".+\",__name__!~\"{MEASURED}|{ABOUT_ONLY_THERE}\",job=\"{}\"}}",
            case.job
        );
        let expected = prometheus.peer.query(&query).await;
        let ours = adapter.peer.query(&query).await;
        let name = named(case);
        match difference(&expected, &ours) {
            None => {
                same += 1;
                let (expected, ours) = (
                    prometheus.peer.series(&query).await,
                    adapter.peer.series(&query).await,
                );
                if let Some(text) = difference(&expected, &ours) {
                    writeln!(faults, "{name}: its series: {text}").unwrap();
                }
                let (expected, ours) = (their_targets.get(&case.job), our_targets.get(&case.job));
                if expected != ours {
                    writeln!(
                        faults,
                        "{name}: its targets: {ours:?} instead of {expected:?}"
                    )
                    .unwrap();
                }
            }
            // What is taken of such a page instead, `tests/exposition` holds line by line.
            Some(_) if case.job.starts_with("edge-") && is_refused_only_there(&expected, &ours) => {
                refused += 1;
            }
            Some(text) => {
                let exception = EXCEPTIONS.iter().find(|it| it.page == name);
                let lines = differences(&expected, &ours);
                if exception.is_some_and(|it| it.differences == lines) {
                    excepted += 1;
                } else {
                    writeln!(faults, "{name}: {text}\n  as an exception: &{lines:?}").unwrap();
                }
                unneeded.retain(|it| *it != name);
            }
        }
    }
    for name in unneeded {
        writeln!(faults, "the exception {name:?} is not needed").unwrap();
    }
    eprintln!(
        "{} pages: {same} give the same, of {refused} only Prometheus takes nothing, {excepted} are excepted",
        cases.len()
    );
    assert!(faults.is_empty(), "{faults}");
}
