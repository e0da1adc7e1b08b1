//! What people and their tools ask: PromQL of any kind, and which series, labels and targets there are.
//!
//! Rules ask through [`Engine`](super::Engine), and are compiled once; here every question is new, and may be a costly one.
//! So each has bounds, and all of this is to be called where it may take its time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcstr::ArcStr;

use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::matcher::Matcher;
use crate::model::sample::Sample;
use crate::model::time::Timestamp;
use crate::promql::{self, Options, Query, ResultType, SeriesReader, Wanted};
use crate::store::{self, MetadataIndex, Store, TargetStatus};

pub use crate::config::scrape::units::parse_duration;
pub use crate::promql::{EvalError, Point, QueryError, Range, Series, Value};
pub use crate::store::Metadata;

use super::embedded::read;
use super::recorded::Recorded;

/// The series that Prometheus writes about a target and that this module reads back.
const UP: &str = "up";
const SCRAPE_DURATION: &str = "scrape_duration_seconds";

/// What a sample's name may have behind its family's.
const ENDINGS: [&str; 8] = [
    "_total", "_created", "_bucket", "_sum", "_count", "_gsum", "_gcount", "_info",
];

/// Where the samples are.
#[derive(Debug)]
enum Samples {
    Stored(Arc<Store>),
    Recorded(Recorded),
}

/// Answers questions about samples.
#[derive(Debug)]
pub struct QueryService {
    samples: Samples,
    metadata: Arc<MetadataIndex>,
    origins: Origins,
}

/// What targets were found as, for those who ask.
#[derive(Clone)]
struct Origins(Arc<dyn Fn() -> Vec<Origin> + Send + Sync>);

impl Default for Origins {
    fn default() -> Self {
        Self(Arc::new(Vec::new))
    }
}

impl std::fmt::Debug for Origins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origins").finish_non_exhaustive()
    }
}

/// What a target was found as.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// Its job.
    pub job: String,
    /// Where it is scraped. Contains no credentials.
    pub url: String,
    /// Its labels.
    pub labels: Labels,
    /// Its labels before relabelling.
    pub discovered: BTreeMap<String, String>,
}

/// What bounds one evaluation.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How far back a series' last sample may lie.
    pub lookback: Duration,
    /// Most samples that may be in memory at a time.
    pub samples: usize,
    /// When it must be done.
    pub deadline: Instant,
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryFailure {
    /// It cannot be compiled.
    #[error(transparent)]
    Compile(#[from] QueryError),
    /// It cannot be evaluated.
    #[error(transparent)]
    Evaluate(#[from] EvalError),
}

/// A span of time, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first point of it.
    pub start: Timestamp,
    /// The last point of it.
    pub end: Timestamp,
}

/// A scrape target and how it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its job.
    pub job: String,
    /// Where it is scraped. Contains no credentials.
    pub url: String,
    /// The labels of its samples; empty before its first scrape.
    pub labels: Labels,
    /// Its labels before relabelling; empty until [`QueryService::trace`] has looked.
    pub discovered: BTreeMap<String, String>,
    /// How often it is scraped.
    pub interval: Duration,
    /// Its last scrape, good or not.
    pub last_scrape: Option<LastScrape>,
}

/// The last scrape of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct LastScrape {
    /// When it began.
    pub at: Timestamp,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Why it gave no samples, if it gave none.
    pub error: Option<String>,
}

impl QueryService {
    /// Answers from what is scraped into `store`.
    pub fn over(store: Arc<Store>) -> Self {
        Self {
            samples: Samples::Stored(store),
            metadata: Arc::default(),
            origins: Origins::default(),
        }
    }

    /// Answers from a recording.
    pub fn over_recording(recorded: Recorded) -> Self {
        Self {
            samples: Samples::Recorded(recorded),
            metadata: Arc::default(),
            origins: Origins::default(),
        }
    }

    /// The same, which knows what pages say of their metrics.
    #[must_use]
    pub fn with_metadata(self, metadata: Arc<MetadataIndex>) -> Self {
        Self { metadata, ..self }
    }

    /// The same, which asks `origins` what targets were found as.
    #[must_use]
    pub fn with_origins(self, origins: impl Fn() -> Vec<Origin> + Send + Sync + 'static) -> Self {
        let origins = Origins(Arc::new(origins));
        Self { origins, ..self }
    }

    /// What is known of the metric families whose samples there are, or of one of them. A family has the name that its page
    /// declares, without the ending of a sample's name.
    pub fn metadata(&self, family: Option<&str>) -> BTreeMap<String, Metadata> {
        let every_time = Span {
            start: Timestamp::MIN,
            end: Timestamp::MAX,
        };
        let names = self.label_values(METRIC_NAME, &[], every_time);
        let families = names.iter().flat_map(|name| {
            let endings = ENDINGS
                .iter()
                .filter_map(|ending| name.strip_suffix(ending));
            endings.chain([&**name])
        });
        families
            .filter(|name| family.is_none_or(|wanted| wanted == *name))
            .filter_map(|name| Some((name.to_owned(), self.metadata.get(name)?)))
            .collect()
    }

    /// The value of a query at one time.
    ///
    /// # Errors
    /// Where it is no query, or cannot be evaluated within its bounds.
    pub fn instant(
        &self,
        text: &str,
        at: Timestamp,
        bounds: &Bounds,
    ) -> Result<Value, QueryFailure> {
        let query = Query::compile(text)?;
        let options = bounds.options();
        Ok(self.read(|reader| query.evaluate(reader, at, &options))?)
    }

    /// The values of a query at every step of a range.
    ///
    /// # Errors
    /// Where it is no query for ranges, or cannot be evaluated within its bounds.
    pub fn range(
        &self,
        text: &str,
        range: Range,
        bounds: &Bounds,
    ) -> Result<Vec<Series>, QueryFailure> {
        let query = Query::compile(text)?;
        let other = match query.result_type() {
            ResultType::Scalar | ResultType::Vector => None,
            ResultType::String => Some("string"),
            ResultType::Matrix => Some("range vector"),
        };
        if let Some(other) = other {
            // As `promql/engine.go`, `NewRangeQuery`, says it.
            let reason = format!(
                "invalid expression type {other:?} for range query, must be Scalar or instant Vector"
            );
            let query = text.to_owned();
            return Err(QueryError::Type { query, reason }.into());
        }
        let options = bounds.options();
        Ok(self.read(|reader| query.evaluate_range(reader, range, &options))?)
    }

    /// The matchers that a series selector consists of.
    ///
    /// # Errors
    /// Where it is anything else.
    pub fn selector(text: &str) -> Result<Vec<Matcher>, QueryError> {
        promql::parse_selector(text)
    }

    /// The series with a sample in `span` that one of the sets of matchers finds; all, if there is no set.
    pub fn series(&self, sets: &[Vec<Matcher>], span: Span) -> BTreeSet<Labels> {
        let mut series = BTreeSet::new();
        self.visit(sets, span, |labels| {
            if !series.contains(labels) {
                series.insert(labels.clone());
            }
        });
        series
    }

    /// The label names of those series, `__name__` among them.
    pub fn label_names(&self, sets: &[Vec<Matcher>], span: Span) -> BTreeSet<ArcStr> {
        let metric_name = ArcStr::from(METRIC_NAME);
        let mut names = BTreeSet::new();
        self.visit(sets, span, |labels| {
            let others = labels.others().names().iter();
            for name in others.chain(labels.metric().map(|_| &metric_name)) {
                if !names.contains(name) {
                    names.insert(name.clone());
                }
            }
        });
        names
    }

    /// The values that those series have for the label `name`.
    pub fn label_values(&self, name: &str, sets: &[Vec<Matcher>], span: Span) -> BTreeSet<ArcStr> {
        let mut values = BTreeSet::new();
        self.visit(sets, span, |labels| {
            let value = if name == METRIC_NAME {
                labels.metric()
            } else {
                labels.others().get(name)
            };
            if let Some(value) = value
                && !values.contains(value)
            {
                values.insert(value.clone());
            }
        });
        values
    }

    /// All targets, in the order of their jobs; none of a recording.
    pub fn targets(&self) -> Vec<Target> {
        let Samples::Stored(store) = &self.samples else {
            return Vec::new();
        };
        let about = Matcher::regex(METRIC_NAME, &format!("{UP}|{SCRAPE_DURATION}"))
            .expect("a constant that is one");
        let mut targets: Vec<Target> = store
            .targets_with(&[about])
            .into_iter()
            .map(|(status, about)| target(status, &about))
            .collect();
        targets.sort_by(|a, b| (&a.job, &a.url).cmp(&(&b.job, &b.url)));
        targets
    }

    /// Adds to each of the targets what it was found as, where that is known.
    pub fn trace(&self, targets: &mut [Target]) {
        let mut known: BTreeMap<_, Vec<Origin>> = BTreeMap::new();
        for origin in (self.origins.0)() {
            let key = (origin.job.clone(), origin.url.clone());
            known.entry(key).or_default().push(origin);
        }
        for target in targets {
            let key = (target.job.clone(), target.url.clone());
            let Some(origins) = known.get(&key) else {
                continue;
            };
            // Labels tell apart what has one URL; they are not known before the first scrape.
            let same = origins.iter().find(|it| it.labels == target.labels);
            if let Some(origin) = same.or(origins.first()) {
                target.discovered.clone_from(&origin.discovered);
            }
        }
    }

    fn visit(&self, sets: &[Vec<Matcher>], span: Span, mut visit: impl FnMut(&Labels)) {
        let mut in_span = |labels: &Labels, samples: &[Sample]| {
            if has_value_in(samples, span) {
                visit(labels);
            }
        };
        let wanted = Wanted::Between {
            after: span.start.minus(Duration::from_millis(1)),
            until: span.end,
        };
        self.read(|reader| {
            if sets.is_empty() {
                reader.select(&[], wanted, &mut in_span);
            }
            for matchers in sets {
                reader.select(matchers, wanted, &mut in_span);
            }
        });
    }

    fn read<T>(&self, read: impl FnOnce(&dyn SeriesReader) -> T) -> T {
        match &self.samples {
            Samples::Stored(store) => read(&Copies(store)),
            Samples::Recorded(recorded) => read(recorded),
        }
    }
}

/// The store as a question sees it, which may take long and must not keep scrapes and rules waiting.
struct Copies<'a>(&'a Store);

impl SeriesReader for Copies<'_> {
    fn select(
        &self,
        matchers: &[Matcher],
        wanted: Wanted,
        visit: &mut dyn FnMut(&Labels, &[Sample]),
    ) {
        let copy = |series: store::Samples<'_>, into: &mut Vec<Sample>| read(series, wanted, into);
        self.0.select_copies(|_| true, matchers, copy, visit);
    }
}

impl Bounds {
    fn options(&self) -> Options {
        Options {
            lookback: self.lookback,
            max_samples: self.samples,
            deadline: Some(self.deadline),
        }
    }
}

/// Whether samples, which are in the order of time, have a value in `span`.
fn has_value_in(samples: &[Sample], span: Span) -> bool {
    let first = samples.partition_point(|sample| sample.timestamp < span.start);
    samples[first..]
        .iter()
        .take_while(|sample| sample.timestamp <= span.end)
        .any(|sample| !sample.is_stale_marker())
}

fn target(status: TargetStatus, about: &[(Labels, Sample)]) -> Target {
    // A page may have series of these names too; those have labels besides the target's.
    let own = |metric| {
        about
            .iter()
            .filter(|(labels, _)| labels.metric_name() == Some(metric))
            .min_by_key(|(labels, _)| labels.len())
    };
    let last_scrape = own(UP).map(|(_, up)| LastScrape {
        at: up.timestamp,
        seconds: own(SCRAPE_DURATION).map_or(0.0, |(_, took)| took.value),
        error: status.health.down.map(|down| down.reason),
    });
    Target {
        labels: own(UP)
            .map(|(labels, _)| labels.filtered(|name| name != METRIC_NAME))
            .unwrap_or_default(),
        job: status.info.job,
        url: status.info.url,
        discovered: BTreeMap::new(),
        interval: status.info.interval,
        last_scrape,
    }
}
