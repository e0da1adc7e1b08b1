//! What follows the series on a line: value, timestamp, comment or exemplar.

use crate::model::time::Timestamp;

use super::series::{is_blank, skip_blanks};
use super::{DropReason, Format};

/// What follows the series on a line.
pub(super) struct Tail {
    /// The value.
    pub(super) value: f64,
    /// The timestamp, if there is one.
    pub(super) timestamp: Option<Timestamp>,
    /// Where an exemplar or comment (` # …`) begins, which is not looked at; else the line's length.
    pub(super) end: usize,
}

/// Reads value and timestamp from `body[at..end]`. A line ends at `end`: the body does too, or a line break stands there.
#[inline]
pub(super) fn tail(body: &[u8], at: usize, end: usize, format: Format) -> Result<Tail, DropReason> {
    // What looks at several bytes at a time sees some beyond the line; nothing of a number goes on behind a line break.
    let line = &body[..end];
    let at = skip_blanks(line, at);
    let (value, at) = match plain(body, at, end) {
        Some(read) => read,
        None => by_token(line, at, value).ok_or(DropReason::Value)?,
    };
    let at = skip_blanks(line, at);
    if at == line.len() || line[at] == b'#' {
        return Ok(Tail {
            value,
            timestamp: None,
            end: at,
        });
    }
    let (millis, at) = match format {
        Format::Text => match plain_millis(body, at, end) {
            Some(read) => Some(read),
            None => by_token(line, at, whole_millis),
        },
        Format::OpenMetrics => by_token(line, at, |token| nearest_millis(self::value(token)?)),
    }
    .ok_or(DropReason::Timestamp)?;
    let at = skip_blanks(line, at);
    if at == line.len() || line[at] == b'#' {
        let timestamp = Some(Timestamp::from_millis(millis));
        return Ok(Tail {
            value,
            timestamp,
            end: at,
        });
    }
    Err(DropReason::Trailing)
}

/// Reads the token at `at`, and says where it ends.
fn by_token<T>(line: &[u8], at: usize, read: impl Fn(&[u8]) -> Option<T>) -> Option<(T, usize)> {
    let rest = &line[at..];
    let length = rest.iter().position(|byte| is_blank(*byte));
    let token = &rest[..length.unwrap_or(rest.len())];
    Some((read(token)?, at + token.len()))
}

/// A decimal number as Go's `strconv.ParseFloat` takes it, less hexadecimal digits and underscores; `None` for one that
/// is too large. NaN is always the ordinary one: a page cannot carry a stale marker.
pub(super) fn value(token: &[u8]) -> Option<f64> {
    match plain(token, 0, token.len()) {
        Some((value, end)) if end == token.len() => Some(value),
        _ => long(token),
    }
}

/// Most digits that are always below 2^53, and so exact.
const EXACT_DIGITS: usize = 15;

/// The powers of ten that are exact.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// What nearly all values are, and where it ends: a few digits, perhaps with a sign, a point or a small exponent. Digits and
/// power of ten are exact, so that their product or quotient is the nearest number. `None` is no verdict.
#[inline]
fn plain(text: &[u8], at: usize, line_end: usize) -> Option<(f64, usize)> {
    let negative = text.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    let mut number = 0;
    let mut at = digits(text, start, &mut number);
    let mut length = at - start;
    let mut power = 0;
    if text.get(at) == Some(&b'.') {
        let point = at;
        at = digits(text, point + 1, &mut number);
        power = at - point - 1;
        length += power;
    }
    if length == 0 || length > EXACT_DIGITS {
        return None;
    }
    let mut larger = 0;
    if let Some(b'e' | b'E') = text.get(at) {
        let sign = text.get(at + 1);
        let start = at + 1 + usize::from(matches!(sign, Some(b'+' | b'-')));
        let mut exponent = 0;
        at = digits(text, start, &mut exponent);
        if at == start || at > start + 3 {
            return None;
        }
        let exponent = usize::try_from(exponent).ok()?;
        if sign == Some(&b'-') {
            power += exponent;
        } else {
            larger = exponent.saturating_sub(power);
            power = power.saturating_sub(exponent);
        }
    }
    if !ends_number(text, at, line_end) {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    let mut value = number as f64;
    if power > 0 {
        value /= POWERS_OF_TEN.get(power)?;
    } else if larger > 0 {
        value *= POWERS_OF_TEN.get(larger)?;
    }
    Some((if negative { -value } else { value }, at))
}

/// Appends the digits from `at` on to `number`, which the caller holds to as many as fit, and says where they end.
#[inline]
fn digits(text: &[u8], mut at: usize, number: &mut u64) -> usize {
    while let Some(byte) = text.get(at) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        *number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    at
}

/// The number that these are the digits of, if they are digits: pairs of them become numbers below 100, and the four
/// pairs are added up by two multiplications.
#[inline]
fn eight_digits(block: &[u8; 8]) -> Option<u64> {
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    const PAIRS: u64 = 0x0000_00ff_0000_00ff;
    let digits = u64::from_le_bytes(*block) ^ u64::from_ne_bytes([b'0'; 8]);
    let above_nine = ((digits & !HIGH) + u64::from_ne_bytes([0x80 - 10; 8])) | digits;
    if above_nine & HIGH != 0 {
        return None;
    }
    let pairs = digits * 10 + (digits >> 8);
    let first_and_third = (pairs & PAIRS).wrapping_mul(100 + (1_000_000 << 32));
    let others = (pairs >> 16 & PAIRS).wrapping_mul(1 + (10_000 << 32));
    Some(first_and_third.wrapping_add(others) >> 32)
}

/// Whether a number may end at `at`: there the line ends, or a blank stands.
#[inline]
fn ends_number(text: &[u8], at: usize, line_end: usize) -> bool {
    at == line_end || text.get(at).is_some_and(|byte| is_blank(*byte))
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

/// What nearly all timestamps of text are, and where it ends. `None` is no verdict.
#[inline]
fn plain_millis(text: &[u8], at: usize, line_end: usize) -> Option<(i64, usize)> {
    let mut millis = 0;
    let mut next = at;
    if let Some(block) = text.get(at..).and_then(<[u8]>::first_chunk)
        && let Some(eight) = eight_digits(block)
    {
        (millis, next) = (eight, at + 8);
    }
    let end = digits(text, next, &mut millis);
    if !ends_number(text, end, line_end) || end == at || end > at + 18 {
        return None;
    }
    Some((i64::try_from(millis).ok()?, end))
}

fn whole_millis(token: &[u8]) -> Option<i64> {
    let (negative, rest) = match token.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, token),
    };
    let mut millis = 0;
    let end = digits(rest, 0, &mut millis);
    // As many digits as always fit an u64.
    if end != rest.len() || end == 0 || end > 19 {
        return None;
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
            "true", "infi", "nano", "+NaN", "-nan", "1\0", "1\r", "1\r2", "1 2", "1 ", " 1", "٣",
            "--1", "1.2.3", "..", "ERROR",
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
            let line = [b"1 ", token.as_bytes()].concat();
            let read = |format| {
                let tail = tail(&line, 0, line.len(), format).ok()?;
                tail.timestamp.map(Timestamp::as_millis)
            };
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
