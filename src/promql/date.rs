//! Parts of a date in UTC, computed from Unix seconds (proleptic Gregorian calendar).

/// What a date function gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DatePart {
    Minute,
    Hour,
    DayOfWeek,
    DayOfMonth,
    DayOfYear,
    DaysInMonth,
    Month,
    Year,
}

const DAY: i64 = 86_400;

impl DatePart {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day_of_week" => Self::DayOfWeek,
            "day_of_month" => Self::DayOfMonth,
            "day_of_year" => Self::DayOfYear,
            "days_in_month" => Self::DaysInMonth,
            "month" => Self::Month,
            "year" => Self::Year,
            _ => return None,
        })
    }

    /// The part of the date that is `seconds` after the epoch. NaN where that is no date: Prometheus then shows what its
    /// processor makes of the conversion.
    pub(super) fn of(self, seconds: f64) -> f64 {
        if seconds.is_nan() || seconds.abs() >= 1e15 {
            return f64::NAN;
        }
        #[expect(clippy::cast_possible_truncation, reason = "just checked")]
        let seconds = seconds as i64;
        let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        let (year, month, day) = civil(days);
        let part = match self {
            Self::Minute => second / 60 % 60,
            Self::Hour => second / 3600,
            // The epoch was a Thursday.
            Self::DayOfWeek => (days + 4).rem_euclid(7),
            Self::DayOfMonth => day,
            Self::DayOfYear => days - days_before(year, 1) + 1,
            Self::DaysInMonth => {
                let (next_year, next) = if month == 12 {
                    (year + 1, 1)
                } else {
                    (year, month + 1)
                };
                days_before(next_year, next) - days_before(year, month)
            }
            Self::Month => month,
            Self::Year => year,
        };
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let part = part as f64;
        part
    }
}

/// Days from the epoch to the first of a month. Years are counted from March, so that a leap day comes last.
fn days_before(year: i64, month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a day since the epoch.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let parts = |seconds: f64| {
            [
                DatePart::Year,
                DatePart::Month,
                DatePart::DayOfMonth,
                DatePart::Hour,
                DatePart::Minute,
                DatePart::DayOfWeek,
                DatePart::DayOfYear,
                DatePart::DaysInMonth,
            ]
            .map(|part| part.of(seconds))
        };
        assert_eq!(parts(0.0), [1970., 1., 1., 0., 0., 4., 1., 31.]);
        assert_eq!(parts(-1.0), [1969., 12., 31., 23., 59., 3., 365., 31.]);
        // 2024-02-29T12:34:56Z, a Thursday.
        assert_eq!(
            parts(1_709_210_096.0),
            [2024., 2., 29., 12., 34., 4., 60., 29.]
        );
        // 2026-11-23T22:46:00Z, a Monday.
        assert_eq!(
            parts(1_795_473_960.0),
            [2026., 11., 23., 22., 46., 1., 327., 30.]
        );
        assert!(DatePart::Year.of(f64::NAN).is_nan());
        assert!(DatePart::Hour.of(f64::INFINITY).is_nan());
    }
}
