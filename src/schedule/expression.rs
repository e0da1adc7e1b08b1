//! The grammar of kubernetes-cronhpa-controller (`github.com/ringtail/go-cron`, `parser.go`, a fork of robfig/cron v1).
//!
//! Five or six fields, the first of which is *seconds*; without the sixth, every day of the week. `L`, `W`, `#`, day 7 and
//! `TZ=` are refused, as there. What differs on purpose: the year of `@date` counts, and an expression that never comes is an
//! error.

use std::time::Duration;

use jiff::civil::DateTime;

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Neither five nor six fields.
    #[error(
        "expected 5 to 6 fields (second minute hour day month [weekday]), found {found}: {text:?}"
    )]
    Fields {
        /// How many there are.
        found: usize,
        /// The whole text.
        text: String,
    },
    /// A field is out of its range, or no number.
    #[error("{field} {part:?}: {reason}")]
    Field {
        /// Which field.
        field: &'static str,
        /// The part between commas.
        part: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An `@word` that is not known.
    #[error("unrecognized descriptor {0:?}")]
    Descriptor(String),
    /// `@every` without a duration as Go writes it.
    #[error("{0:?} is no duration such as 1h30m or 10s")]
    Every(String),
    /// `@date` without a date and a time.
    #[error("{0:?} is no date and time such as 2026-11-16 23:59:00")]
    Date(String),
    /// Such as the 31st of February.
    #[error("{0:?} never comes")]
    Never(String),
}

/// A parsed schedule, in no time zone yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Whenever a clock on the wall shows what the fields say.
    Fields(Fields),
    /// Again and again after this many seconds, at least one.
    Every(u32),
    /// Once, when a clock on the wall shows this.
    Date(DateTime),
}

/// The values that each field allows, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    pub(super) second: u64,
    pub(super) minute: u64,
    pub(super) hour: u64,
    pub(super) day: u64,
    pub(super) month: u64,
    pub(super) weekday: u64,
    /// Whether a star stands in the field of the day or of the weekday. If in neither, one of the two is enough.
    pub(super) any_day: bool,
    /// Whether the hour is any: such a schedule follows the clock through a change to and from summer time.
    pub(super) any_hour: bool,
}

struct Kind {
    name: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const SECOND: Kind = kind("second", 0, 59, &[]);
const MINUTE: Kind = kind("minute", 0, 59, &[]);
const HOUR: Kind = kind("hour", 0, 23, &[]);
const DAY: Kind = kind("day", 1, 31, &[]);
const MONTH: Kind = kind(
    "month",
    1,
    12,
    &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
);
const WEEKDAY: Kind = kind(
    "weekday",
    0,
    6,
    &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
);

const fn kind(name: &'static str, min: u32, max: u32, names: &'static [&'static str]) -> Kind {
    Kind {
        name,
        min,
        max,
        names,
    }
}

impl Expression {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let expression = match text.trim().strip_prefix('@') {
            Some(descriptor) => descriptor_of(descriptor)?,
            None => Self::Fields(fields(text)?),
        };
        match &expression {
            Self::Fields(fields) if !fields.comes() => Err(ExpressionError::Never(text.to_owned())),
            _ => Ok(expression),
        }
    }
}

fn descriptor_of(text: &str) -> Result<Expression, ExpressionError> {
    let plain = match text {
        "yearly" | "annually" => "0 0 0 1 1 *",
        "monthly" => "0 0 0 1 * *",
        "weekly" => "0 0 0 * * 0",
        "daily" | "midnight" => "0 0 0 * * *",
        "hourly" => "0 0 * * * *",
        _ => "",
    };
    if !plain.is_empty() {
        return fields(plain).map(Expression::Fields);
    }
    if let Some(duration) = text.strip_prefix("every ") {
        let duration = go_duration(duration.trim());
        let seconds = duration.and_then(|it| u32::try_from(it.as_secs()).ok());
        return seconds
            .map(|seconds| Expression::Every(seconds.max(1)))
            .ok_or_else(|| ExpressionError::Every(text.to_owned()));
    }
    if let Some(date) = text.strip_prefix("date ") {
        return DateTime::strptime("%Y-%m-%d %H:%M:%S", date.trim())
            .map(Expression::Date)
            .map_err(|_| ExpressionError::Date(date.to_owned()));
    }
    Err(ExpressionError::Descriptor(format!("@{text}")))
}

fn fields(text: &str) -> Result<Fields, ExpressionError> {
    let all: Vec<&str> = text.split_whitespace().collect();
    let (fixed, weekday) = match all[..] {
        [s, m, h, d, mo] => ([s, m, h, d, mo], "*"),
        [s, m, h, d, mo, w] => ([s, m, h, d, mo], w),
        _ => {
            return Err(ExpressionError::Fields {
                found: all.len(),
                text: text.to_owned(),
            });
        }
    };
    let (day, day_star) = field(fixed[3], &DAY)?;
    let (weekday, weekday_star) = field(weekday, &WEEKDAY)?;
    let (hour, any_hour) = field(fixed[2], &HOUR)?;
    Ok(Fields {
        second: field(fixed[0], &SECOND)?.0,
        minute: field(fixed[1], &MINUTE)?.0,
        hour,
        day,
        month: field(fixed[4], &MONTH)?.0,
        weekday,
        any_day: day_star || weekday_star,
        any_hour,
    })
}

/// The bits of a field, and whether a star is in it.
fn field(text: &str, kind: &Kind) -> Result<(u64, bool), ExpressionError> {
    let (mut bits, mut star) = (0, false);
    // As in Go's FieldsFunc, nothing between two commas is nothing.
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (more, is_star) = range(part, kind).map_err(|reason| ExpressionError::Field {
            field: kind.name,
            part: part.to_owned(),
            reason,
        })?;
        bits |= more;
        star |= is_star;
    }
    Ok((bits, star))
}

fn range(part: &str, kind: &Kind) -> Result<(u64, bool), &'static str> {
    let mut halves = part.split('/');
    let mut ends = halves.next().unwrap_or_default().split('-');
    let step = halves.next();
    let (low, high) = (ends.next().unwrap_or_default(), ends.next());
    if halves.next().is_some() {
        return Err("too many slashes");
    }
    let star = matches!(low, "*" | "?");
    let (start, mut end) = if star {
        (kind.min, kind.max)
    } else {
        if ends.next().is_some() {
            return Err("too many hyphens");
        }
        let start = value(low, kind)?;
        (start, high.map_or(Ok(start), |high| value(high, kind))?)
    };
    let step = match step {
        None => 1,
        Some(step) => {
            if high.is_none() {
                end = kind.max;
            }
            number(step)?
        }
    };
    match () {
        () if start < kind.min || end > kind.max => Err("is out of range"),
        () if start > end => Err("the beginning is after the end"),
        () if step == 0 => Err("the step must not be 0"),
        () => {
            let step = usize::try_from(step).map_err(|_| "is too large")?;
            let bits = (start..=end).step_by(step).fold(0, |bits, n| bits | 1 << n);
            Ok((bits, star))
        }
    }
}

fn value(text: &str, kind: &Kind) -> Result<u32, &'static str> {
    let lower = text.to_ascii_lowercase();
    match kind.names.iter().position(|name| *name == lower) {
        Some(index) => u32::try_from(index)
            .map(|index| kind.min + index)
            .map_err(|_| "is too large"),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| "is no number")
}

/// A positive duration as Go writes it: `1h30m`, `1.5h`, `500ms`.
pub(super) fn go_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let length = rest.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = rest.split_at(length.unwrap_or(rest.len()));
        let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total += amount * seconds;
        rest = after;
    }
    Duration::try_from_secs_f64(total).ok()
}
