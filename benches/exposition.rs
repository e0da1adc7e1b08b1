//! How fast pages are read: every label of every sample; only some metrics; series known from the scrape before; and, for
//! the same page, what one look at each byte and what prometheus-parse takes.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;
use std::io::Read as _;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use foldhash::fast::RandomState;
use gpu_metrics_adapter::exposition::{FamilyKind, Format, ParsedSample, Sink, parse};
use gpu_metrics_adapter::model::time::Timestamp;

const DCGM: &str = include_str!("../tests/fixtures/pages/dcgm8.txt");
const RESOURCE: &str = include_str!("../tests/fixtures/pages/resource.txt");
const VLLM: &str = include_str!("../tests/fixtures/pages/vllm.txt");
const CADVISOR_GZ: &[u8] = include_bytes!("../tests/fixtures/pages/cadvisor.txt.gz");

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

/// Wants nothing: what is left is passing over lines.
struct Unwanted;

impl Sink for Unwanted {
    fn wants(&mut self, _: &[u8]) -> bool {
        false
    }

    fn sample(&mut self, sample: &ParsedSample<'_>) {
        black_box(sample);
    }
}

/// Knows series as the scrape loop does: by a keyed hash of their text, compared with the one that came next on the page
/// before, and looked up where it is another one.
#[derive(Default)]
struct Known {
    keys: RandomState,
    series: Vec<(u64, usize)>,
    by_hash: HashMap<u64, usize, RandomState>,
    next: usize,
}

impl Known {
    fn hash(&self, series_text: &[u8], kind: FamilyKind) -> u64 {
        let mut hasher = self.keys.build_hasher();
        hasher.write(series_text);
        hasher.write_u8(kind as u8);
        hasher.finish()
    }
}

impl Sink for Known {
    const RECOGNISES: bool = true;

    fn expects(&self) -> usize {
        self.series.get(self.next).map_or(0, |(_, length)| *length)
    }

    fn recognise(&mut self, series_text: &[u8], kind: FamilyKind) -> Option<usize> {
        let hash = self.hash(series_text, kind);
        match self.series.get(self.next) {
            Some((expected, _)) if *expected == hash => Some(self.next),
            _ => self.by_hash.get(&hash).copied(),
        }
    }

    fn recognised(&mut self, series: usize, value: f64, timestamp: Option<Timestamp>) {
        black_box((series, value, timestamp));
        self.next = series + 1;
    }

    fn sample(&mut self, sample: &ParsedSample<'_>) {
        let hash = self.hash(sample.series_text, sample.kind);
        self.by_hash.insert(hash, self.series.len());
        self.series.push((hash, sample.series_text.len()));
    }
}

/// The page with its families in another order, as dcgm-exporter shows them from one scrape to the next.
fn reordered(page: &str) -> String {
    let lines: Vec<&str> = page.split_inclusive('\n').collect();
    let families: Vec<&[&str]> = lines
        .chunk_by(|_, next| !next.starts_with("# HELP"))
        .collect();
    families.into_iter().rev().flatten().copied().collect()
}

fn cadvisor() -> String {
    let mut page = String::new();
    let mut decoder = flate2::read::GzDecoder::new(CADVISOR_GZ);
    decoder.read_to_string(&mut page).expect("a page");
    page
}

fn pages(criterion: &mut Criterion) {
    for (name, page, samples) in [
        ("dcgm8", DCGM.to_owned(), 216),
        ("dcgm8 reordered", reordered(DCGM), 216),
        ("resource", RESOURCE.to_owned(), 1_179),
        ("vllm", VLLM.to_owned(), 387),
        ("cadvisor", cadvisor(), 14_190),
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
        let first = if name == "dcgm8 reordered" {
            DCGM.as_bytes()
        } else {
            body
        };
        parse(first, Format::Text, &mut known);
        group.bench_function("known series", |bencher| {
            bencher.iter(|| {
                known.next = 0;
                parse(black_box(body), Format::Text, &mut known)
            });
        });
        assert_eq!(known.series.len() as u64, samples);
        group.throughput(Throughput::Elements(page.lines().count() as u64));
        group.bench_function("unwanted, by line", |bencher| {
            bencher.iter(|| parse(black_box(body), Format::Text, &mut Unwanted))
        });
        // Of a page that is larger than the caches this is what memory gives.
        group.bench_function("looked at once, by line", |bencher| {
            bencher.iter(|| memchr::memchr(0, black_box(body)))
        });
        if name == "dcgm8" {
            group.sample_size(20);
            group.bench_with_input(
                BenchmarkId::from_parameter("prometheus-parse"),
                page.as_str(),
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
