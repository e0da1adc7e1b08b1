//! When a schedule is due: next after a time, and last until a time.
//!
//! Where the clock is put forward, what the hour that is left out would have brought is due at once after it; where it is put
//! back, what names its hours is due the first time only. A schedule of any hour follows the clock: it loses nothing in an
//! hour that is not there, and has its due times in both of those that are there twice.

use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::day::{at_second, second_of};
use super::expression::{Expression, ExpressionError, Fields};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// An expression in its time zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    expression: Expression,
    zone: TimeZone,
    anchor: Timestamp,
}

impl Schedule {
    /// A schedule. `anchor` is what `@every` counts from, such as the creation of the object that it stands in: so it is the
    /// same after a restart.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn new(text: &str, zone: TimeZone, anchor: Timestamp) -> Result<Self, ExpressionError> {
        Ok(Self {
            expression: Expression::parse(text)?,
            zone,
            anchor: whole(anchor),
        })
    }

    /// Whether it is due once and no more.
    pub fn is_once(&self) -> bool {
        matches!(self.expression, Expression::Date(_))
    }

    /// The first due time after `after`; due times are whole seconds. `None`: there is none within eight years.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = whole(after);
        match &self.expression {
            Expression::Every(seconds) => self.every(after, i64::from(*seconds), 1),
            Expression::Date(date) => {
                let at = self.zone.to_timestamp(*date).ok()?;
                (at > after).then_some(at)
            }
            Expression::Fields(fields) => {
                let today = self.zone.to_datetime(after).date();
                // Where a clock goes back over midnight, yesterday comes again.
                let mut days = fields.days_from(today.yesterday().ok()?);
                days.find_map(|day| self.first_of(fields, day, after))
            }
        }
    }

    /// The last due time until `until`, itself included. `None`: there was none within eight years.
    pub fn latest(&self, until: Timestamp) -> Option<Timestamp> {
        let until = whole(until);
        match &self.expression {
            Expression::Every(seconds) => self.every(until, i64::from(*seconds), 0),
            Expression::Date(date) => {
                let at = self.zone.to_timestamp(*date).ok()?;
                (at <= until).then_some(at)
            }
            Expression::Fields(fields) => {
                let today = self.zone.to_datetime(until).date();
                let mut days = fields.days_back_from(today.tomorrow().ok()?);
                days.find_map(|day| self.last_of(fields, day, until))
            }
        }
    }

    /// The due time of `@every` that is `more` intervals after the last one until `at`. The first is one interval after the
    /// anchor.
    fn every(&self, at: Timestamp, seconds: i64, more: i64) -> Option<Timestamp> {
        let passed = (at.as_second() - self.anchor.as_second()).max(0) / seconds;
        let count = passed + more;
        let due = self.anchor.as_second() + count * seconds;
        (count > 0)
            .then(|| Timestamp::from_second(due).ok())
            .flatten()
    }

    fn first_of(&self, fields: &Fields, day: Date, after: Timestamp) -> Option<Timestamp> {
        for span in self.spans(day) {
            if span.from > after && span.makes_up(fields, day) {
                return Some(span.from);
            }
            let (mut from, to) = span.seconds(fields, day);
            if after >= span.from {
                let shown = span.offset.to_datetime(after.checked_add(SECOND).ok()?);
                from = from.max(second_of(day, shown));
            }
            if let Some(second) = fields.first_within(from, to) {
                return span.offset.to_timestamp(at_second(day, second)).ok();
            }
        }
        None
    }

    fn last_of(&self, fields: &Fields, day: Date, until: Timestamp) -> Option<Timestamp> {
        for span in self
            .spans(day)
            .into_iter()
            .rev()
            .filter(|span| span.from <= until)
        {
            let (from, mut to) = span.seconds(fields, day);
            if until < span.to {
                let shown = span.offset.to_datetime(until.checked_add(SECOND).ok()?);
                to = to.min(second_of(day, shown));
            }
            if let Some(second) = fields.last_within(from, to) {
                return span.offset.to_timestamp(at_second(day, second)).ok();
            }
            if span.makes_up(fields, day) {
                return Some(span.from);
            }
        }
        None
    }

    /// The parts of a day between which the clock is changed; one, on most days.
    fn spans(&self, day: Date) -> Vec<Span> {
        let start = |day: Date| self.zone.to_timestamp(day.at(0, 0, 0, 0)).ok();
        let ends = start(day).zip(day.tomorrow().ok().and_then(start));
        let Some((mut from, end)) = ends else {
            return Vec::new();
        };
        let Ok(before) = from.checked_sub(SECOND) else {
            return Vec::new();
        };
        let mut spans = Vec::with_capacity(1);
        let mut offsets = [self.zone.to_offset(before), self.zone.to_offset(from)];
        let changes = self
            .zone
            .following(from)
            .take_while(|it| it.timestamp() < end);
        let changes: Vec<_> = changes.map(|it| (it.timestamp(), it.offset())).collect();
        for (to, next) in changes.into_iter().chain([(end, Offset::UTC)]) {
            let [before, offset] = offsets;
            spans.push(Span {
                from,
                to,
                before,
                offset,
            });
            (from, offsets) = (to, [offset, next]);
        }
        spans
    }
}

/// A time in which the clock runs evenly.
struct Span {
    from: Timestamp,
    to: Timestamp,
    /// The offset before it.
    before: Offset,
    offset: Offset,
}

impl Span {
    /// Whether it begins with what the hours left out before it would have brought.
    fn makes_up(&self, fields: &Fields, day: Date) -> bool {
        let skipped =
            [self.before, self.offset].map(|it| second_of(day, it.to_datetime(self.from)));
        !fields.any_hour
            && self.offset > self.before
            && fields.first_within(skipped[0], skipped[1]).is_some()
    }

    /// The seconds of the day that it is about: not those that a clock put back shows a second time, where hours are named.
    fn seconds(&self, fields: &Fields, day: Date) -> (u32, u32) {
        let first = if !fields.any_hour && self.offset < self.before {
            self.before
        } else {
            self.offset
        };
        let from = second_of(day, first.to_datetime(self.from));
        (from, second_of(day, self.offset.to_datetime(self.to)))
    }
}

/// A day on which nothing is due, whatever its jobs say.
#[derive(Clone, Debug)]
pub struct Excluded {
    text: String,
    expression: Expression,
}

impl Excluded {
    /// An entry of `excludeDates`.
    ///
    /// # Errors
    /// What is wrong with the text. `@every` names no day.
    pub fn new(text: &str) -> Result<Self, ExpressionError> {
        match Expression::parse(text)? {
            Expression::Every(_) => Err(ExpressionError::Descriptor(text.to_owned())),
            expression => Ok(Self {
                text: text.to_owned(),
                expression,
            }),
        }
    }

    /// The text that it was made of.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the day of `at` in `zone` is excluded: the *whole* day, whatever times of it are named.
    pub fn is_day_of(&self, at: Timestamp, zone: &TimeZone) -> bool {
        let day = zone.to_datetime(at).date();
        match &self.expression {
            Expression::Fields(fields) => fields.on(day),
            Expression::Date(date) => date.date() == day,
            Expression::Every(_) => false,
        }
    }
}

fn whole(at: Timestamp) -> Timestamp {
    let second = at.as_second() - i64::from(at.subsec_nanosecond() < 0);
    Timestamp::from_second(second).unwrap_or(at)
}
