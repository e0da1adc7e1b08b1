//! How fast pages are read: every label of every sample; only some metrics; series known from the scrape before; and what
//! prometheus-parse takes for the same page.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gpu_metrics_adapter::exposition::{FamilyKind, Format, ParsedSample, Sink, parse};
use gpu_metrics_adapter::model::time::Timestamp;

const DCGM: &str = include_str!("../tests/fixtures/pages/dcgm8.txt");
const RESOURCE: &str = include_str!("../tests/fixtures/pages/resource.txt");
const VLLM: &str = include_str!("../tests/fixtures/pages/vllm.txt");

/// Looks at everything and keeps nothing.
struct Full;

impl Sink for Full {
    fn sample(&mut self, sample: &ParsedSample<'_>) {
        black_box(sample);
    }
}

/// Wants what scales on GPU use: 4 of dcgm8's 27 metrics, 3 of vLLM's.
struct Wanted;

impl Sink for Wanted {
    fn wants(&mut self, name: &[u8]) -> bool {
        matches!(
            name,
            b"DCGM_FI_DEV_GPU_UTIL"
                | b"DCGM_FI_DEV_FB_USED"
                | b"DCGM_FI_PROF_GR_ENGINE_ACTIVE"
                | b"DCGM_FI_PROF_DRAM_ACTIVE"
                | b"vllm:num_requests_running"
                | b"vllm:num_requests_waiting"
                | b"vllm:kv_cache_usage_perc"
        )
    }

    fn sample(&mut self, sample: &ParsedSample<'_>) {
        black_box(sample);
    }
}

/// Knows the page's series in their order, as a scrape loop may from the scrape before.
#[derive(Default)]
struct Known {
    series: Vec<(Vec<u8>, FamilyKind)>,
    next: usize,
}

impl Sink for Known {
    const RECOGNISES: bool = true;

    fn recognise(&mut self, series_text: &[u8], kind: FamilyKind) -> Option<usize> {
        let (expected, expected_kind) = self.series.get(self.next)?;
        (expected == series_text && *expected_kind == kind).then_some(self.next)
    }

    fn recognised(&mut self, series: usize, value: f64, timestamp: Option<Timestamp>) {
        black_box((series, value, timestamp));
        self.next += 1;
    }

    fn sample(&mut self, sample: &ParsedSample<'_>) {
        self.series
            .push((sample.series_text.to_owned(), sample.kind));
    }
}

fn pages(criterion: &mut Criterion) {
    for (name, page, samples) in [
        ("dcgm8", DCGM, 216),
        ("resource", RESOURCE, 1_179),
        ("vllm", VLLM, 387),
    ] {
        let bytes = Throughput::Bytes(page.len() as u64);
        let elements = Throughput::Elements(samples);
        let mut group = criterion.benchmark_group(name);
        let body = page.as_bytes();
        assert_eq!(parse(body, Format::Text, &mut Full).samples, samples);
        group.throughput(bytes);
        group.bench_function("full", |bencher| {
            bencher.iter(|| parse(black_box(body), Format::Text, &mut Full))
        });
        group.throughput(elements);
        group.bench_function("full, by sample", |bencher| {
            bencher.iter(|| parse(black_box(body), Format::Text, &mut Full))
        });
        group.bench_function("wanted metrics", |bencher| {
            bencher.iter(|| parse(black_box(body), Format::Text, &mut Wanted))
        });
        let mut known = Known::default();
        parse(body, Format::Text, &mut known);
        group.bench_function("known series", |bencher| {
            bencher.iter(|| {
                known.next = 0;
                parse(black_box(body), Format::Text, &mut known)
            });
        });
        assert_eq!(known.series.len() as u64, samples);
        if name == "dcgm8" {
            group.sample_size(20);
            group.bench_with_input(
                BenchmarkId::from_parameter("prometheus-parse"),
                page,
                |bencher, page| {
                    bencher.iter(|| {
                        prometheus_parse::Scrape::parse(
                            black_box(page).lines().map(|line| Ok(line.to_owned())),
                        )
                    });
                },
            );
        }
        group.finish();
    }
}

criterion_group!(benches, pages);
criterion_main!(benches);
