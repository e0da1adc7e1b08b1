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
    match whole(token) {
        Some(whole) => Some(whole),
        None => fraction(token),
    }
}

/// Up to 15 digits: below 2^53, and so exact.
#[inline]
fn whole(token: &[u8]) -> Option<f64> {
    if token.is_empty() || token.len() > 15 {
        return None;
    }
    let mut whole = 0_u64;
    for byte in token {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        whole = whole * 10 + u64::from(digit);
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 15 digits")]
    Some(whole as f64)
}

fn fraction(token: &[u8]) -> Option<f64> {
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
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_i64, |millis, byte| {
        let digit = i64::from(byte.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        let shifted = millis.checked_mul(10)?;
        if negative {
            shifted.checked_sub(digit)
        } else {
            shifted.checked_add(digit)
        }
    })
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
            "true", "infi", "nano", "+NaN", "-nan", "1\0", "1\r", "٣", "--1", "1.2.3", "ERROR",
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
