//! A simulated GPU cluster around the real server.
//!
//! [`load`] says how busy the service is, [`pods`] how many pods share that, [`exporter`] what their GPUs' exporters write,
//! [`fleet`] serves those pages on loopback, [`site`] runs the real adapter over them, [`client`] asks it as the HPA does,
//! [`story`] keeps what happened, [`view`] puts it into words and [`screen`] shows them. Only [`run`] reads a clock.

mod client;
pub mod exporter;
pub mod fleet;
pub mod load;
pub mod pods;
pub mod screen;
mod site;
pub mod story;
pub mod view;

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::scrape::units::parse_duration;
use crate::hpa::{self, Observation, Outcome, Spec, State};
use crate::model::quantity::Quantity;
use crate::model::time::Timestamp;

use client::Client;
use fleet::{Fleet, Size};
use load::Load;
use screen::Screen;
use site::Site;
use story::{Rescale, Story};
use view::Frame;

/// The metric that arena's autoscalers ask for, and their target.
const METRIC: &str = "DCGM_CUSTOM_PROCESS_SM_UTIL";
const TARGET: i64 = 50;
const MAX_REPLICAS: i32 = 2;

/// How often the picture is drawn and the pods move on.
const FRAME: Duration = Duration::from_millis(250);

/// The controller waits five minutes before it scales down; the demo has two for everything.
const DOWNSCALE_STABILIZATION: Duration = Duration::from_secs(15);

/// How the demo runs.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How long it runs; the load rises and falls once in that time.
    #[arg(long, default_value = "2m", value_parser = duration)]
    duration: Duration,
    /// How often the simulated autoscaler asks.
    #[arg(long, default_value = "5s", value_parser = duration)]
    sync_period: Duration,
    /// How many GPU nodes are simulated; each has 8 GPUs.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: u16,
    /// The port of the adapter; 0 takes any free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "must be a duration such as 5s or 2m".to_owned())
}

/// Shows the main job once, or until Ctrl-C.
///
/// # Errors
/// Where ports or the temporary folder cannot be had, or the output is closed.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let size = Size {
        nodes: usize::from(options.nodes),
        ..Size::default()
    };
    let fleet = Fleet::start(size)
        .await
        .context("cannot simulate the exporters")?;
    let site = Site::open(&fleet, options.port).await?;
    let client = Client::new(&site)?;
    anstream::println!(
        "{} simulated GPU nodes, the real adapter on https://{}\nask it yourself:\n  {}\n",
        fleet.nodes().len(),
        site.address(),
        site.curl_line(&client.path())
    );
    let told = Box::pin(tell(&options, &fleet, &client)).await;
    site.close().await;
    fleet.stop().await;
    told
}

/// The simulation: pods, load and autoscaler, drawn as they go.
async fn tell(options: &Options, fleet: &Fleet, client: &Client) -> anyhow::Result<()> {
    let load = Load::new(options.duration);
    let mut spec = Spec::new(METRIC, Quantity::from_millis(TARGET * 1000), MAX_REPLICAS);
    spec.downscale_stabilization = DOWNSCALE_STABILIZATION;
    let mut state = State::default();
    let mut story = Story::default();
    let mut screen = Screen::stdout();
    let mut shown = Shown {
        current: 1,
        desired: 1,
        average: None,
        reason: "waiting for the first scrape".to_owned(),
    };

    let begun = Instant::now();
    let mut next_sync = begun;
    let mut frames = tokio::time::interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            _ = frames.tick() => {}
            _ = &mut interrupted => break,
        }
        let elapsed = begun.elapsed();
        if elapsed >= options.duration {
            break;
        }
        let pods = fleet.pods();
        pods.scale(usize::try_from(shown.desired).unwrap_or_default(), elapsed);
        pods.advance(elapsed, load.requests(elapsed));
        let synced = Instant::now() >= next_sync;
        if synced {
            next_sync += options.sync_period;
            let asked = Instant::now();
            let answer = client.ask().await;
            if answer.is_ok() {
                story.answered(asked.elapsed());
            }
            let seen = Observation {
                now: Timestamp::now(),
                replicas: shown.desired,
                pods: &pods.for_hpa(),
                metrics: answer.as_ref().map_err(String::as_str),
            };
            let outcome = hpa::sync(&spec, &mut state, &seen);
            shown = Shown::after(&seen, &outcome);
            if shown.current != shown.desired {
                let (from, to, reason) = (shown.current, shown.desired, shown.reason.clone());
                story.rescaled(Rescale {
                    at: elapsed,
                    from,
                    to,
                    reason,
                });
            }
        }
        let now = pods.now();
        let frame = Frame {
            elapsed,
            load,
            pods: &now,
            metric: METRIC,
            average: shown.average,
            target: TARGET * 1000,
            current: shown.current,
            desired: shown.desired,
            reason: &shown.reason,
            story: &story,
        };
        if synced {
            screen.synced(&frame)?
        } else {
            screen.draw(&frame)?
        }
    }
    screen.finish(&story, begun.elapsed().min(options.duration))?;
    Ok(())
}

/// What the last sync came to.
struct Shown {
    current: i32,
    desired: i32,
    average: Option<i64>,
    reason: String,
}

impl Shown {
    fn after(seen: &Observation<'_>, outcome: &Outcome) -> Self {
        let conditions = &outcome.conditions;
        let message = |condition: &Option<hpa::Condition>| {
            condition
                .as_ref()
                .map(|condition| condition.message.clone())
        };
        let failed = conditions
            .scaling_active
            .as_ref()
            .is_some_and(|condition| !condition.status);
        let reason = if failed {
            message(&conditions.scaling_active)
        } else {
            outcome
                .reason
                .clone()
                .or_else(|| message(&conditions.able_to_scale))
        };
        Self {
            current: seen.replicas,
            desired: outcome.replicas,
            average: outcome.average,
            reason: reason.unwrap_or_default(),
        }
    }
}
