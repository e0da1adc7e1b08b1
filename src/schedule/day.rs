//! Which days and which seconds of a day the fields of an expression mean.

use jiff::civil::{Date, DateTime, Time};

use super::expression::Fields;

const DAY: u32 = 24 * 3600;

/// Every four years there is a 29th of February, but for one gap of eight.
const HORIZON_DAYS: u32 = 8 * 366;

impl Fields {
    /// Whether they mean something of this day.
    pub(super) fn on(&self, date: Date) -> bool {
        let has = |bits: u64, n: i8| bits >> n & 1 == 1;
        let day = has(self.day, date.day());
        let weekday = has(self.weekday, date.weekday().to_sunday_zero_offset());
        let both = if self.any_day {
            day && weekday
        } else {
            day || weekday
        };
        has(self.month, date.month()) && both
    }

    /// Whether they ever mean anything.
    pub(super) fn comes(&self) -> bool {
        let some_time = self.second != 0 && self.minute != 0 && self.hour != 0;
        // A span of eight years that lacks a leap day in the middle has one at an end.
        some_time && self.days_from(Date::constant(2000, 1, 1)).next().is_some()
    }

    /// The days that they mean, from this one on, for eight years.
    pub(super) fn days_from(&self, first: Date) -> impl Iterator<Item = Date> {
        std::iter::successors(Some(first), |day| day.tomorrow().ok())
            .take(HORIZON_DAYS as usize)
            .filter(|day| self.on(*day))
    }

    /// The days that they mean, from this one back, for eight years.
    pub(super) fn days_back_from(&self, last: Date) -> impl Iterator<Item = Date> {
        std::iter::successors(Some(last), |day| day.yesterday().ok())
            .take(HORIZON_DAYS as usize)
            .filter(|day| self.on(*day))
    }

    /// The first second of a day within `[from, to)` that they mean.
    pub(super) fn first_within(&self, from: u32, to: u32) -> Option<u32> {
        let (hour, minute) = (from / 3600, from / 60 % 60);
        for h in bits(self.hour, hour) {
            let m0 = if h == hour { minute } else { 0 };
            for m in bits(self.minute, m0) {
                let s0 = if (h, m) == (hour, minute) {
                    from % 60
                } else {
                    0
                };
                if let Some(s) = bits(self.second, s0).next() {
                    let at = h * 3600 + m * 60 + s;
                    return (at < to).then_some(at);
                }
            }
        }
        None
    }

    /// The last second of a day within `[from, to)` that they mean.
    pub(super) fn last_within(&self, from: u32, to: u32) -> Option<u32> {
        let last = to.checked_sub(1)?;
        let (hour, minute) = (last / 3600, last / 60 % 60);
        for h in bits_down(self.hour, hour) {
            let m0 = if h == hour { minute } else { 59 };
            for m in bits_down(self.minute, m0) {
                let s0 = if (h, m) == (hour, minute) {
                    last % 60
                } else {
                    59
                };
                if let Some(s) = bits_down(self.second, s0).next() {
                    let at = h * 3600 + m * 60 + s;
                    return (at >= from).then_some(at);
                }
            }
        }
        None
    }
}

fn bits(bits: u64, from: u32) -> impl Iterator<Item = u32> {
    (from..64).filter(move |n| bits >> n & 1 == 1)
}

fn bits_down(bits: u64, from: u32) -> impl Iterator<Item = u32> {
    (0..=from).rev().filter(move |n| bits >> n & 1 == 1)
}

/// The second of `date` at which `time` is, held within the day.
pub(super) fn second_of(date: Date, time: DateTime) -> u32 {
    if time.date() < date {
        return 0;
    }
    if time.date() > date {
        return DAY;
    }
    let part = |n: i8| u32::try_from(n).unwrap_or(0);
    part(time.hour()) * 3600 + part(time.minute()) * 60 + part(time.second())
}

/// The time on the wall at a second of a day.
pub(super) fn at_second(date: Date, second: u32) -> DateTime {
    let part = |n: u32| i8::try_from(n).unwrap_or(0);
    let time = Time::constant(
        part(second / 3600),
        part(second / 60 % 60),
        part(second % 60),
        0,
    );
    date.to_datetime(time)
}
