//! The pages of one simulated node: an 8-GPU dcgm-exporter, and a kubelet with 30 pods in 45 containers.
//!
//! A page is rendered anew for every scrape from pieces that all nodes share, so that values move as real ones do and ten
//! thousand targets cost no memory. What is the same in every page of a kind is only its number of samples.

use std::io::Write as _;

const DCGM: &str = include_str!("../../tests/fixtures/pages/dcgm8.txt");

/// A page of dcgm-exporter comes in this many blocks, whose order is another one in every scrape.
const BLOCKS: usize = 4;
const GPUS: usize = 8;
const PODS: usize = 30;
const CONTAINERS: usize = 45;

/// A kubelet takes the usage of a container about this often, in milliseconds; each container at a rhythm of its own.
const HOUSEKEEPING: (u64, u64) = (10_000, 15_000);

/// Which of a node's two exporters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// NVIDIA's dcgm-exporter.
    Dcgm,
    /// The kubelet's `/metrics/resource`.
    Kubelet,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dcgm => "dcgm",
            Self::Kubelet => "kubelet",
        }
    }

    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Dcgm => 9400,
            Self::Kubelet => 10255,
        }
    }

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Dcgm => "/metrics",
            Self::Kubelet => "/metrics/resource",
        }
    }

    /// As the real ones say it: dcgm-exporter leaves it to Go, which guesses.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Dcgm => "text/plain; charset=utf-8",
            Self::Kubelet => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        }
    }
}

/// How a value moves.
#[derive(Clone, Copy)]
enum Value {
    Fixed(u64),
    Whole {
        from: u64,
        to: u64,
    },
    Ratio,
    Watts,
    /// Grows by this much a second.
    Counter(u64),
    /// Core seconds, and the time when they were taken.
    Cpu,
    Memory,
    Start,
}

impl Value {
    /// Of a metric of dcgm-exporter.
    fn of(name: &str) -> Self {
        let name = name.trim_start_matches("DCGM_FI_");
        match name {
            "DEV_ENC_UTIL" | "DEV_DEC_UTIL" => Self::Whole { from: 0, to: 3 },
            _ if name.ends_with("_UTIL") => Self::Whole { from: 0, to: 101 },
            _ if name.ends_with("_ACTIVE") || name.ends_with("_OCCUPANCY") => Self::Ratio,
            _ if name.ends_with("_CLOCK") => Self::Whole {
                from: 1_200,
                to: 2_000,
            },
            _ if name.ends_with("_TEMP") => Self::Whole { from: 35, to: 80 },
            "DEV_POWER_USAGE" => Self::Watts,
            "DEV_TOTAL_ENERGY_CONSUMPTION" => Self::Counter(461_000),
            "DEV_NVLINK_BANDWIDTH_TOTAL" => Self::Counter(9_000),
            "DEV_FB_FREE" | "DEV_FB_USED" => Self::Whole {
                from: 1_000,
                to: 79_000,
            },
            "DEV_FB_RESERVED" => Self::Fixed(555),
            _ if name.ends_with("X_BYTES") => Self::Whole {
                from: 10_000_000,
                to: 90_000_000,
            },
            _ => Self::Fixed(0),
        }
    }
}

/// A line up to its value, with a place for the number of the node.
struct Line {
    /// Between two of them stands the node.
    texts: Vec<String>,
    value: Value,
    /// Which of the page's lines it is.
    seed: u64,
}

/// What all pages of a kind are made from.
pub(crate) struct Template {
    kind: Kind,
    /// Comments and lines.
    blocks: Vec<Vec<(String, Line)>>,
    samples: usize,
}

impl Template {
    pub(crate) fn new(kind: Kind) -> Self {
        let mut lines = match kind {
            Kind::Dcgm => dcgm(),
            Kind::Kubelet => kubelet(),
        };
        let samples = lines.len();
        let blocks = match kind {
            Kind::Kubelet => vec![lines],
            Kind::Dcgm => {
                let families = samples / GPUS;
                let each = families.div_ceil(BLOCKS) * GPUS;
                let mut blocks = Vec::new();
                while !lines.is_empty() {
                    let rest = lines.split_off(each.min(lines.len()));
                    blocks.push(std::mem::replace(&mut lines, rest));
                }
                blocks
            }
        };
        Self {
            kind,
            blocks,
            samples,
        }
    }

    /// Samples on every page.
    pub(crate) fn samples(&self) -> usize {
        self.samples
    }

    /// Writes the page of a node at a time (milliseconds since 1970).
    pub(crate) fn render(&self, node: u32, now: u64, dice: &mut Dice, page: &mut Vec<u8>) {
        let node_text = format!("{node:05}");
        let first = usize::try_from(dice.below(self.blocks.len() as u64))
            .expect("below the number of blocks");
        let backwards = dice.below(2) == 0;
        for index in 0..self.blocks.len() {
            let index = if backwards {
                self.blocks.len() - 1 - index
            } else {
                index
            };
            for (comments, line) in &self.blocks[(first + index) % self.blocks.len()] {
                page.extend_from_slice(comments.as_bytes());
                line.render(node, node_text.as_bytes(), now, self.kind, dice, page);
            }
        }
    }
}

impl Line {
    fn render(
        &self,
        node: u32,
        text: &[u8],
        now: u64,
        kind: Kind,
        dice: &mut Dice,
        page: &mut Vec<u8>,
    ) {
        for (index, part) in self.texts.iter().enumerate() {
            if index > 0 {
                page.extend_from_slice(text);
            }
            page.extend_from_slice(part.as_bytes());
        }
        let own = self.seed.wrapping_add(u64::from(node) << 32);
        let mut taken = now;
        if kind == Kind::Kubelet {
            let rhythm = HOUSEKEEPING.0 + mix(own) % (HOUSEKEEPING.1 - HOUSEKEEPING.0);
            taken = now - (now + mix(own ^ 1)) % rhythm;
        }
        let written = match self.value {
            Value::Fixed(value) => write!(page, " {value}"),
            Value::Whole { from, to } => write!(page, " {}", from + dice.below(to - from)),
            Value::Ratio => write!(page, " 0.{:06}", dice.below(1_000_000)),
            Value::Watts => write!(
                page,
                " {}.{:06}",
                70 + dice.below(600),
                dice.below(1_000_000)
            ),
            Value::Counter(rate) => write!(
                page,
                " {}",
                (taken / 1_000 % 100_000_000) * rate + mix(own) % rate
            ),
            Value::Cpu => {
                let micros = (taken % 100_000_000_000) * (mix(own) % 4_000);
                write!(
                    page,
                    " {}.{:06} {taken}",
                    micros / 1_000_000,
                    micros % 1_000_000
                )
            }
            Value::Memory => {
                let bytes = (200_000_000 + mix(own) % 4_000_000_000) / 4_096 * 4_096
                    + mix(own ^ taken) % 5_000 * 4_096;
                write!(page, " {bytes} {taken}")
            }
            Value::Start => write!(page, " 1.{:09}e+09", 763_000_000 + mix(own) % 900_000),
        };
        written.expect("a vector takes everything");
        page.push(b'\n');
    }
}

fn line(text: &str, value: Value, seed: usize) -> Line {
    Line {
        texts: text.split('@').map(str::to_owned).collect(),
        value,
        seed: seed as u64,
    }
}

/// The captured page, with the node in the places that tell nodes apart.
fn dcgm() -> Vec<(String, Line)> {
    let (mut lines, mut comments) = (Vec::new(), String::new());
    for text in DCGM.lines() {
        if text.starts_with('#') {
            comments.push_str(text);
            comments.push('\n');
            continue;
        }
        let (series, _) = text.rsplit_once(' ').expect("a value");
        let gpu = lines.len() % GPUS;
        // On the captured page every line has a pod of its own; a GPU has one.
        let (start, _) = series.split_once(",pod=").expect("a pod");
        let series = format!("{start},pod=\"llama-70b-predictor-7c9f6d5b8-@{gpu}\"}}")
            .replace("gpu-node-0042", "gpu-node-@");
        // UUID="GPU-xxxxxxxx-…": the first digits become the node's.
        let at = series.find("UUID=\"GPU-").expect("a UUID") + "UUID=\"GPU-".len();
        let series = format!("{}@{}", &series[..at], &series[at + 5..]);
        let name = series.split('{').next().expect("a name");
        let value = Value::of(name);
        lines.push((
            std::mem::take(&mut comments),
            line(&series, value, lines.len()),
        ));
    }
    lines
}

fn kubelet() -> Vec<(String, Line)> {
    let mut lines: Vec<(String, Line)> = Vec::new();
    let mut family =
        |name: &str, kind: &str, value: Value, labels: &mut dyn Iterator<Item = String>| {
            let mut comments =
                format!("# HELP {name} [STABLE] As the kubelet has it.\n# TYPE {name} {kind}\n");
            for labels in labels {
                let seed = lines.len();
                lines.push((
                    std::mem::take(&mut comments),
                    line(&format!("{name}{labels}"), value, seed),
                ));
            }
        };
    let pod = |pod: usize| {
        format!(
            "namespace=\"ns-{}\",pod=\"svc-{pod}-6f5c9d7b8-@\"",
            pod % 12
        )
    };
    let containers = || {
        (0..CONTAINERS)
            .map(move |it| format!("{{container=\"c{}\",{}}}", it / PODS, pod(it % PODS)))
    };
    let pods = || (0..PODS).map(move |it| format!("{{{}}}", pod(it)));
    let one = || std::iter::once(String::new());
    family(
        "container_cpu_usage_seconds_total",
        "counter",
        Value::Cpu,
        &mut containers(),
    );
    family(
        "container_memory_working_set_bytes",
        "gauge",
        Value::Memory,
        &mut containers(),
    );
    family(
        "container_start_time_seconds",
        "gauge",
        Value::Start,
        &mut containers(),
    );
    family(
        "container_swap_usage_bytes",
        "gauge",
        Value::Memory,
        &mut containers(),
    );
    family(
        "node_cpu_usage_seconds_total",
        "counter",
        Value::Cpu,
        &mut one(),
    );
    family(
        "node_memory_working_set_bytes",
        "gauge",
        Value::Memory,
        &mut one(),
    );
    family("node_swap_usage_bytes", "gauge", Value::Memory, &mut one());
    family(
        "pod_cpu_usage_seconds_total",
        "counter",
        Value::Cpu,
        &mut pods(),
    );
    family(
        "pod_memory_working_set_bytes",
        "gauge",
        Value::Memory,
        &mut pods(),
    );
    family("pod_swap_usage_bytes", "gauge", Value::Memory, &mut pods());
    family(
        "resource_scrape_error",
        "gauge",
        Value::Fixed(0),
        &mut one(),
    );
    lines
}

/// Cheap random numbers: xorshift.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }
}

/// The last steps of splitmix64.
fn mix(seed: u64) -> u64 {
    let mut bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ (bits >> 31)) >> 8
}
