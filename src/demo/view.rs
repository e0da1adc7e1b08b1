//! What the demo says: a table for a terminal, a line for a log, and a summary. Only text is made here.

use std::fmt::Write;
use std::time::Duration;

use super::exporter::node_name;
use super::load::Load;
use super::pods::Pod;
use super::story::Story;

/// Columns of the load curve.
const CURVE: u32 = 44;
/// Cells of a pod's bar.
const BAR: usize = 20;
/// Rows of the pod table; the rest is counted. With them the view has at most 20 lines.
const ROWS: usize = 8;
/// No line is wider than this, so that none wraps and redrawing in place works.
const WIDTH: usize = 79;
/// Columns before what a line says.
const INDENT: usize = 7;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";

/// Everything that is shown at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Since the demo began.
    pub elapsed: Duration,
    /// The load.
    pub load: Load,
    /// The pods.
    pub pods: &'a [Pod],
    /// The name of the metric that the autoscaler asks for.
    pub metric: &'a str,
    /// Its average at the last sync, in thousandths; `None` where there was none.
    pub average: Option<i64>,
    /// The target, in thousandths.
    pub target: i64,
    /// Replicas before the last sync.
    pub current: i32,
    /// Replicas after the last sync.
    pub desired: i32,
    /// Why, or what is awaited.
    pub reason: &'a str,
    /// What happened so far.
    pub story: &'a Story,
}

impl Frame<'_> {
    fn requests(&self) -> f64 {
        self.load.requests(self.elapsed)
    }

    /// `95 / 50`, with `<unknown>` as kubectl writes it.
    fn against_target(&self) -> String {
        let average = self.average.map_or("<unknown>".to_owned(), decimal);
        format!("{average} / {}", decimal(self.target))
    }
}

/// The table for a terminal: lines of at most 79 columns, with colours.
pub fn live(frame: &Frame<'_>) -> String {
    let mut out = String::new();
    let clock = format!(
        "{} / {}",
        minutes(frame.elapsed.min(frame.load.duration())),
        minutes(frame.load.duration())
    );
    let title = "gpu-metrics-adapter demo";
    let gap = WIDTH - title.len();
    let _ = writeln!(out, "{BOLD}{title}{RESET}{clock:>gap$}\n");

    let (past, future) = curve(frame);
    let requests = frame.requests();
    let _ = writeln!(
        out,
        "load   {requests:>3.0} requests in flight  {GREEN}{past}{RESET}{DIM}{future}{RESET}\n"
    );

    let _ = writeln!(out, "pods   SM utilisation");
    for pod in frame.pods.iter().take(ROWS) {
        let _ = writeln!(out, "{}", row(pod, frame.target));
    }
    if frame.pods.len() > ROWS {
        let _ = writeln!(out, "  {DIM}and {} more{RESET}", frame.pods.len() - ROWS);
    }

    let replicas = if frame.current == frame.desired {
        format!("replicas {}", frame.desired)
    } else {
        format!(
            "{BOLD}replicas {} → {}{RESET}",
            frame.current, frame.desired
        )
    };
    let metric = clipped(frame.metric, 32);
    let _ = writeln!(
        out,
        "\nhpa    {metric}  {}  {replicas}",
        frame.against_target()
    );
    let reason = clipped(frame.reason, WIDTH - INDENT);
    let _ = writeln!(out, "       {DIM}{reason}{RESET}\n");
    let _ = writeln!(out, "api    {}", answers(frame.story));
    out
}

/// One line for a log, without colours and with nothing cut off.
pub fn line(frame: &Frame<'_>) -> String {
    let ready = frame.pods.iter().filter(|pod| pod.ready).count();
    let replicas = if frame.current == frame.desired {
        frame.desired.to_string()
    } else {
        format!("{} -> {}", frame.current, frame.desired)
    };
    format!(
        "{}  {:.0} requests in flight  {ready} of {} pods ready  {} {}  replicas {replicas}  {}",
        minutes(frame.elapsed),
        frame.requests(),
        frame.pods.len(),
        frame.metric,
        frame.against_target(),
        frame.reason,
    )
}

/// What is left to say at the end.
pub fn summary(story: &Story, elapsed: Duration) -> String {
    let mut out = format!("done after {}\n", minutes(elapsed));
    for rescale in story.rescales() {
        let (at, from, to) = (minutes(rescale.at), rescale.from, rescale.to);
        let _ = writeln!(out, "  {at}  scaled {from} → {to}: {}", rescale.reason);
    }
    if story.rescales().is_empty() {
        out.push_str("  never scaled\n");
    }
    let _ = writeln!(out, "  {}", answers(story));
    out
}

fn row(pod: &Pod, target: i64) -> String {
    let node = pod
        .place
        .map_or("no GPU is free".to_owned(), |place| node_name(place.node));
    let name = clipped(&pod.name, 31);
    if !pod.ready {
        let state = if pod.place.is_some() { "starting" } else { "" };
        return format!("  {DIM}{name:<31}  {node:<10}  {state}{RESET}");
    }
    let filled = (0..BAR)
        .filter(|cell| bar_threshold(*cell) < pod.utilization)
        .count();
    let (full, empty) = ("█".repeat(filled), "░".repeat(BAR - filled));
    let colour = if decimal_f64(target) < pod.utilization {
        YELLOW
    } else {
        GREEN
    };
    format!(
        "  {name:<31}  {node:<10}  {:>3.0} %  {colour}{full}{DIM}{empty}{RESET}",
        pod.utilization
    )
}

/// Above how many percent a cell of the bar is full.
fn bar_threshold(cell: usize) -> f64 {
    let cells = |count: usize| u32::try_from(count).map_or(0.0, f64::from);
    100.0 * (cells(cell) + 0.5) / cells(BAR)
}

/// The load over the whole demo, cut in two at the present.
fn curve(frame: &Frame<'_>) -> (String, String) {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let duration = frame.load.duration();
    let at = |column: u32| frame.load.requests(duration * column / CURVE);
    let most = (0..CURVE).map(at).fold(1.0, f64::max);
    let mut halves = (String::new(), String::new());
    for column in 0..CURVE {
        let part = at(column) / most;
        let mut levels = LEVELS.iter().zip(1..);
        let level = levels.find(|(_, eighths)| part <= f64::from(*eighths) / 8.0);
        let half = if duration * column / CURVE <= frame.elapsed {
            &mut halves.0
        } else {
            &mut halves.1
        };
        half.push(level.map_or('█', |(symbol, _)| *symbol));
    }
    halves
}

fn answers(story: &Story) -> String {
    match story.median_answer() {
        Some(median) => format!(
            "{} answers, median {:.2} ms",
            story.answers(),
            median.as_secs_f64() * 1e3
        ),
        None => "no answer yet".to_owned(),
    }
}

/// `1:05`.
fn minutes(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

/// Thousandths with at most one decimal: `47.5`, `95`.
fn decimal(millis: i64) -> String {
    let text = format!("{:.1}", decimal_f64(millis));
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn decimal_f64(millis: i64) -> f64 {
    millis as f64 / 1e3
}

/// The first line of `text`, and at most so many columns of it.
fn clipped(text: &str, columns: usize) -> String {
    let first = text.lines().next().unwrap_or_default();
    if first.chars().count() <= columns {
        return first.to_owned();
    }
    let kept = first.chars().take(columns.saturating_sub(1));
    kept.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::super::pods::{Pods, STARTUP};
    use super::super::story::Rescale;
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// One pod that serves and one that starts.
    fn pods() -> Vec<Pod> {
        let pods = Pods::new(3, 8);
        pods.scale(1, Duration::ZERO);
        pods.advance(STARTUP, 24.0);
        pods.scale(2, STARTUP);
        let mut pods = pods.now();
        pods[0].utilization = 95.0;
        pods
    }

    fn story() -> Story {
        let mut story = Story::default();
        for micros in [300, 420, 5_000] {
            story.answered(Duration::from_micros(micros));
        }
        for (seconds, from, to, reason) in [
            (
                30,
                1,
                2,
                "pods metric DCGM_CUSTOM_PROCESS_SM_UTIL above target",
            ),
            (90, 2, 1, "All metrics below target"),
        ] {
            story.rescaled(Rescale {
                at: at(seconds),
                from,
                to,
                reason: reason.to_owned(),
            });
        }
        story
    }

    fn frame<'a>(pods: &'a [Pod], story: &'a Story) -> Frame<'a> {
        Frame {
            elapsed: at(37),
            load: Load::default(),
            pods,
            metric: "DCGM_CUSTOM_PROCESS_SM_UTIL",
            average: Some(95_000),
            target: 50_000,
            current: 1,
            desired: 2,
            reason: "pods metric DCGM_CUSTOM_PROCESS_SM_UTIL above target",
            story,
        }
    }

    #[test]
    fn the_table_shows_load_pods_decision_and_speed() {
        let (pods, story) = (pods(), story());
        let text = strip_str(&live(&frame(&pods, &story))).to_string();
        let (old, new) = (&pods[0].name, &pods[1].name);
        let expected = format!(
            "\
gpu-metrics-adapter demo                                            0:37 / 2:00

load    24 requests in flight  ▁▁▁▁▁▁▂▃▅▆██████████████▆▅▃▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁

pods   SM utilisation
  {old}  gpu-node-0   95 %  ███████████████████░
  {new}  gpu-node-1  starting

hpa    DCGM_CUSTOM_PROCESS_SM_UTIL  95 / 50  replicas 1 → 2
       pods metric DCGM_CUSTOM_PROCESS_SM_UTIL above target

api    3 answers, median 0.42 ms
"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn the_first_table_says_what_is_awaited() {
        let story = Story::default();
        let first = Frame {
            elapsed: Duration::ZERO,
            average: None,
            desired: 1,
            reason: "waiting for the first samples",
            ..frame(&[], &story)
        };
        let text = strip_str(&live(&first)).to_string();
        assert!(text.contains("<unknown> / 50  replicas 1\n"), "{text}");
        assert!(text.contains("waiting for the first samples\n"), "{text}");
        assert!(text.contains("no answer yet\n"), "{text}");
        assert_eq!(
            line(&first),
            "0:00  3 requests in flight  0 of 0 pods ready  DCGM_CUSTOM_PROCESS_SM_UTIL <unknown> / 50  replicas 1  waiting for the first samples"
        );
    }

    #[test]
    fn no_line_of_the_table_wraps_whatever_it_has_to_say() {
        let many = Pods::new(1, 8);
        many.scale(16, Duration::ZERO);
        many.advance(at(60), 900.0);
        let pods = [pods(), many.now()].concat();
        let story = story();
        let long = "x".repeat(500);
        let wordy = Frame {
            metric: &long,
            reason: &long,
            average: Some(99_999_950),
            current: 100,
            desired: 101,
            elapsed: at(100_000),
            ..frame(&pods, &story)
        };
        let text = strip_str(&live(&wordy)).to_string();
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        assert!(text.contains("  and 10 more\n"), "{text}");
        assert!(text.lines().count() <= 20);
        assert!(line(&wordy).contains(&long));
    }

    #[test]
    fn a_line_for_a_log_is_plain() {
        let (pods, story) = (pods(), story());
        let text = line(&frame(&pods, &story));
        assert_eq!(
            text,
            "0:37  24 requests in flight  1 of 2 pods ready  DCGM_CUSTOM_PROCESS_SM_UTIL 95 / 50  replicas 1 -> 2  pods metric DCGM_CUSTOM_PROCESS_SM_UTIL above target"
        );
        assert!(text.is_ascii());
    }

    #[test]
    fn the_summary_tells_the_story() {
        assert_eq!(
            summary(&story(), at(120)),
            "\
done after 2:00
  0:30  scaled 1 → 2: pods metric DCGM_CUSTOM_PROCESS_SM_UTIL above target
  1:30  scaled 2 → 1: All metrics below target
  3 answers, median 0.42 ms
"
        );
        let nothing = "done after 0:05\n  never scaled\n  no answer yet\n";
        assert_eq!(summary(&Story::default(), at(5)), nothing);
    }

    #[test]
    fn values_have_at_most_one_decimal() {
        assert_eq!(decimal(95_000), "95");
        assert_eq!(decimal(47_500), "47.5");
        assert_eq!(decimal(31_666), "31.7");
        assert_eq!(decimal(0), "0");
    }
}
