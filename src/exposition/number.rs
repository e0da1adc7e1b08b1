//! What follows the series on a line: value, timestamp, comment or exemplar.

use crate::model::time::Timestamp;

use super::series::{is_blank, skip_blanks};
use super::{DropReason, Format};

/// Reads value and timestamp from `line[at..]`. An exemplar or comment (` # …`) after them is not looked at.
#[inline]
pub(super) fn tail(
    line: &[u8],
    at: usize,
    format: Format,
) -> Result<(f64, Option<Timestamp>), DropReason> {
    let (token, at) = token(line, at);
    let value = value(token).ok_or(DropReason::Value)?;
    if at == line.len() || line[at] == b'#' {
        return Ok((value, None));
    }
    let (token, at) = self::token(line, at);
    let timestamp = timestamp(token, format).ok_or(DropReason::Timestamp)?;
    if at == line.len() || line[at] == b'#' {
        return Ok((value, Some(timestamp)));
    }
    Err(DropReason::Trailing)
}

/// The token at or after `at`, and where the next one begins.
#[inline]
fn token(line: &[u8], at: usize) -> (&[u8], usize) {
    let start = skip_blanks(line, at);
    let length = line[start..]
        .iter()
        .position(|byte| is_blank(*byte))
        .unwrap_or(line.len() - start);
    let end = start + length;
    (&line[start..end], skip_blanks(line, end))
}

/// A decimal number as Go's `strconv.ParseFloat` takes it, less hexadecimal digits and underscores; `None` for one that
/// is too large. NaN is always the ordinary one: a page cannot carry a stale marker.
#[inline]
pub(super) fn value(token: &[u8]) -> Option<f64> {
    match short(token) {
        Some(value) => Some(value),
        None => long(token),
    }
}

/// Most digits that are always below 2^53, and so exact.
const SHORT_DIGITS: usize = 15;

const POWERS_OF_TEN: [f64; SHORT_DIGITS + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

/// Digits with or without a point among them, what nearly all values are. Both operands of the division are exact, so
/// that its result is the nearest number.
#[inline]
fn short(token: &[u8]) -> Option<f64> {
    if token.len() > SHORT_DIGITS {
        return None;
    }
    let mut digits = 0_u64;
    let mut point = None;
    for (index, byte) in token.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            digits = digits * 10 + u64::from(digit);
        } else if *byte == b'.' && point.is_none() {
            point = Some(index);
        } else {
            return None;
        }
    }
    if token.len() == usize::from(point.is_some()) {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    let whole = digits as f64;
    Some(point.map_or(whole, |index| {
        whole / POWERS_OF_TEN[token.len() - index - 1]
    }))
}

fn long(token: &[u8]) -> Option<f64> {
    let value: f64 = fast_float2::parse(token).ok()?;
    if value.is_finite() {
        return Some(value);
    }
    let signed = matches!(token[0], b'+' | b'-');
    let letters = token[usize::from(signed)].is_ascii_alphabetic();
    if !letters || (value.is_nan() && signed) {
        return None;
    }
    Some(if value.is_nan() { f64::NAN } else { value })
}

fn timestamp(token: &[u8], format: Format) -> Option<Timestamp> {
    let millis = match format {
        Format::Text => whole_millis(token)?,
        Format::OpenMetrics => nearest_millis(value(token)?)?,
    };
    Some(Timestamp::from_millis(millis))
}

fn whole_millis(token: &[u8]) -> Option<i64> {
    let (negative, digits) = match token.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, token),
    };
    // As many digits as always fit an u64.
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let mut millis = 0_u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        millis = millis * 10 + u64::from(digit);
    }
    if negative {
        0_i64.checked_sub_unsigned(millis)
    } else {
        i64::try_from(millis).ok()
    }
}

/// Prometheus cuts the fraction of a millisecond off, which turns 1.001 s into 1000 ms for some numbers.
fn nearest_millis(seconds: f64) -> Option<i64> {
    let millis = (seconds * 1000.0).round();
    // 2^63 itself is no i64; NaN fails the comparison.
    #[expect(clippy::cast_possible_truncation, reason = "within the range of i64")]
    (millis.abs() < 9_223_372_036_854_775_808.0).then_some(millis as i64)
}

/// Whether DCGM means "no value" by this one: the blanks of `dcgm_structs.h` and the three values above each, for 32-bit
/// integers, for 64-bit integers (all of which are 2^63 as a double), and for doubles.
pub(super) fn is_dcgm_blank(value: f64) -> bool {
    (2_147_483_632.0..=2_147_483_635.0).contains(&value)
        || value == 9_223_372_036_854_775_808.0
        || (140_737_488_355_328.0..=140_737_488_355_331.0).contains(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_go_reads() {
        for (token, expected) in [
            ("0", 0.0),
            ("0123", 123.0),
            ("+5", 5.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("-.5e1", -5.0),
            ("1e-999", 0.0),
            ("7981.607428", 7981.607428),
            (".000000000000001", 1e-15),
            ("99999999999999.9", 99_999_999_999_999.9),
            ("999999999999999", 999_999_999_999_999.0),
            ("9007199254740993", 9_007_199_254_740_992.0),
            ("18446744073709551615", 18_446_744_073_709_551_615.0),
            ("1.7976931348623157e308", f64::MAX),
            ("+Inf", f64::INFINITY),
            ("inf", f64::INFINITY),
            ("-INFINITY", f64::NEG_INFINITY),
        ] {
            assert_eq!(value(token.as_bytes()), Some(expected), "{token}");
        }
        assert!(value(b"-0").is_some_and(|zero| zero == 0.0 && zero.is_sign_negative()));
        for nan in ["NaN", "nan"] {
            let nan = value(nan.as_bytes()).expect("a value");
            assert_eq!(nan.to_bits(), f64::NAN.to_bits());
        }
    }

    #[test]
    fn what_go_refuses_is_no_value() {
        for token in [
            "", "-", "+", ".", "e5", "1e", "1e999", "-1e999", "0x10", "0x1p-3", "1_000", "1,5",
            "true", "infi", "nano", "+NaN", "-nan", "1\0", "1\r", "٣", "--1", "1.2.3", "..",
            "ERROR",
        ] {
            assert_eq!(value(token.as_bytes()), None, "{token:?}");
        }
        let too_large = "9".repeat(400);
        assert_eq!(value(too_large.as_bytes()), None);
    }

    #[test]
    fn timestamps_are_milliseconds_in_text_and_seconds_in_openmetrics() {
        for (token, text, openmetrics) in [
            ("123", Some(123), Some(123_000)),
            ("-5", Some(-5), Some(-5_000)),
            ("1.5", None, Some(1_500)),
            ("1520879607.789", None, Some(1_520_879_607_789)),
            ("1.001", None, Some(1_001)),
            ("1.5e3", None, Some(1_500_000)),
            ("+5", None, Some(5_000)),
            ("9223372036854775807", Some(i64::MAX), None),
            ("-9223372036854775808", Some(i64::MIN), None),
            ("9223372036854775808", None, None),
            ("99999999999999999999", None, None),
            ("NaN", None, None),
            ("Inf", None, None),
            ("-", None, None),
            ("1x", None, None),
        ] {
            let read = |format| timestamp(token.as_bytes(), format).map(Timestamp::as_millis);
            assert_eq!(read(Format::Text), text, "{token}");
            assert_eq!(read(Format::OpenMetrics), openmetrics, "{token}");
        }
    }

    #[test]
    fn dcgm_blanks_are_the_four_values_of_each_type() {
        for blank in [
            "2147483632",
            "2147483635",
            "9223372036854775792",
            "9223372036854775794",
            "9223372036854775795",
            "9.223372036854775807e18",
            "140737488355328.000000",
            "140737488355331",
        ] {
            assert!(
                is_dcgm_blank(value(blank.as_bytes()).expect("a number")),
                "{blank}"
            );
        }
        for number in [
            "0",
            "2147483631",
            "2147483636",
            "140737488355327",
            "140737488355332",
            "9e18",
            "NaN",
            "-Inf",
        ] {
            assert!(
                !is_dcgm_blank(value(number.as_bytes()).expect("a number")),
                "{number}"
            );
        }
    }
}
