//! A fleet of GPU nodes scraped by the adapter, by a real Prometheus and by a real VictoriaMetrics: what each takes.
//!
//! One after the other, the same fleet of simulated exporters, the same jobs: two cores are too few for all at once. Plain
//! HTTP on loopback, keep-alive. `cargo bench --bench fleet -- --help` tells the parameters; `docs/benchmarks.md` the
//! figures. Not part of `make test`.
#![expect(clippy::print_stdout, reason = "a table is what this is for")]

mod adapter;
mod contestants;
mod pages;
mod processes;
mod reader;
mod report;
mod simulator;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

use contestants::Contestant;
use pages::Kind;
use processes::Running;
use report::{Measured, Row};
use simulator::Asked;

/// How often every target is scraped.
const INTERVAL: Duration = Duration::from_secs(15);

#[derive(Parser)]
struct Options {
    /// Nodes of the fleet that all contestants scrape; 0 leaves this part out.
    #[arg(long, default_value_t = 1_000)]
    nodes: u32,
    /// Nodes of the large fleet, which only the adapter scrapes; 0 leaves this part out.
    #[arg(long, default_value_t = 5_000)]
    large: u32,
    /// Kubelets alone, which the adapter scrapes in place of metrics-server; 0 leaves this part out.
    #[arg(long, default_value_t = 5_000)]
    kubelets: u32,
    /// Seconds that each is measured.
    #[arg(long, default_value_t = 240)]
    seconds: u64,
    /// Seconds before that.
    #[arg(long, default_value_t = 60)]
    warmup: u64,
    /// Only these.
    #[arg(long, value_enum)]
    only: Vec<Contestant>,
    /// Cargo says this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program is in its child processes.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Simulator { kind: Kind, nodes: u32 },
    #[command(hide = true)]
    Adapter { config: PathBuf },
    #[command(hide = true)]
    Reader { nodes: u32 },
}

fn main() {
    let options = Options::parse();
    match options.role {
        Some(Role::Simulator { kind, nodes }) => simulator::run(kind, nodes),
        Some(Role::Adapter { config }) => adapter::run(&config),
        Some(Role::Reader { nodes }) => reader::run(nodes),
        None => measure(&options),
    }
}

fn measure(options: &Options) {
    let asked_for = |it: &Contestant| options.only.is_empty() || options.only.contains(it);
    let all = [
        Contestant::Prometheus,
        Contestant::VictoriaMetrics,
        Contestant::Adapter,
        Contestant::AdapterNeeded,
        Contestant::Reader,
    ];
    if options.nodes > 0 {
        let mut fleet = Fleet::start(options.nodes, Contestant::Adapter.kinds());
        let rows = all
            .into_iter()
            .filter(asked_for)
            .filter_map(|it| fleet.measure(it, options));
        report::print(
            &format!("{} nodes, {} targets", options.nodes, options.nodes * 2),
            &rows.collect::<Vec<_>>(),
        );
    }
    if options.large > 0 && asked_for(&Contestant::AdapterNeeded) {
        let mut fleet = Fleet::start(options.large, Contestant::Adapter.kinds());
        let row = fleet.measure(Contestant::AdapterNeeded, options);
        report::print(
            &format!("{} nodes, {} targets", options.large, options.large * 2),
            &Vec::from_iter(row),
        );
    }
    if options.kubelets > 0 && asked_for(&Contestant::ResourceMetrics) {
        let contestant = Contestant::ResourceMetrics;
        let mut fleet = Fleet::start(options.kubelets, contestant.kinds());
        let row = fleet.measure(contestant, options);
        report::print(
            &format!("{} kubelets", options.kubelets),
            &Vec::from_iter(row),
        );
    }
}

/// The simulated exporters: a process for each kind, so that a process's files are enough for all its targets.
struct Fleet {
    nodes: u32,
    simulators: Vec<Running>,
}

impl Fleet {
    fn start(nodes: u32, kinds: &[Kind]) -> Self {
        let count = nodes.to_string();
        let simulator = |kind: &Kind| Running::role(&["simulator", kind.name(), &count]);
        let simulators = kinds.iter().map(simulator).collect();
        Self { nodes, simulators }
    }

    fn asked(&mut self) -> Asked {
        self.simulators
            .iter_mut()
            .map(Running::ask::<Asked>)
            .fold(Asked::default(), |a, b| Asked {
                scrapes: a.scrapes + b.scrapes,
                samples: a.samples + b.samples,
                bytes: a.bytes + b.bytes,
                missed: a.missed + b.missed,
                extra: a.extra + b.extra,
            })
    }

    fn cpu(&self) -> f64 {
        self.simulators.iter().map(Running::cpu).sum()
    }

    fn measure(&mut self, contestant: Contestant, options: &Options) -> Option<Row> {
        let mut scraper = contestant.start(self.nodes)?;
        println!(
            "{} scrapes {} nodes for {} s",
            contestant.name(),
            self.nodes,
            options.warmup + options.seconds
        );
        std::thread::sleep(Duration::from_secs(options.warmup));
        self.asked();
        let (before, fleet_before, begun) = (scraper.read(), self.cpu(), Instant::now());
        std::thread::sleep(Duration::from_secs(options.seconds));
        let (asked, after) = (self.asked(), scraper.read());
        let measured = Measured {
            asked,
            before,
            after,
            idle: scraper.idle,
            wall: begun.elapsed(),
            fleet_cpu: self.cpu() - fleet_before,
        };
        println!("  {measured:?}");
        Some(Row {
            contestant,
            measured,
        })
    }
}
