//! Bucket bounds and quantiles in one spelling, so that `le="1"`, `le="1.0"` and `le="1e0"` are the same series.

use std::borrow::Cow;

use super::number;

/// The number in OpenMetrics form (Prometheus `model/textparse/openmetricsparse.go`, `normalizeFloatsInLabelValues`);
/// what is no number stays as it is.
pub(super) fn normalise(text: Cow<'_, str>) -> Cow<'_, str> {
    if is_normal(text.as_bytes()) {
        return text;
    }
    match number::value(text.as_bytes()) {
        Some(value) => Cow::Owned(openmetrics_float(value)),
        None => text,
    }
}

/// Recognises what nearly all exporters write: up to six digits, a point, and a fraction of up to nine digits without
/// needless zeros. So few digits are always the shortest ones that read back as the same number.
fn is_normal(text: &[u8]) -> bool {
    if text == b"+Inf" {
        return true;
    }
    let Some(point) = text.iter().position(|byte| *byte == b'.') else {
        return false;
    };
    let (whole, fraction) = (&text[..point], &text[point + 1..]);
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    let whole_is_normal = match whole {
        b"0" => fraction == b"0" || !fraction.starts_with(b"0000"),
        [b'1'..=b'9', rest @ ..] => rest.len() < 6 && digits(rest),
        _ => false,
    };
    let fraction_is_normal = match fraction {
        b"0" => true,
        [rest @ .., b'1'..=b'9'] => rest.len() < 9 && digits(rest),
        _ => false,
    };
    whole_is_normal && fraction_is_normal
}

/// As Go's `strconv.FormatFloat(value, 'g', -1, 64)`, with `.0` where the result would look like an integer (Prometheus
/// `model/labels/float.go`).
fn openmetrics_float(value: f64) -> String {
    if value == 0.0 {
        return "0.0".to_owned();
    }
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    // Both languages write the shortest digits that read back; they differ in when and how they write an exponent.
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.unsigned_abs());
    }
    let plain = value.to_string();
    if plain.contains('.') {
        plain
    } else {
        plain + ".0"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_spelled_as_go_spells_them() {
        for (written, spelled) in [
            ("1", "1.0"),
            ("1.0", "1.0"),
            ("1.50", "1.5"),
            ("-1", "-1.0"),
            ("0", "0.0"),
            ("-0", "0.0"),
            ("0.0", "0.0"),
            ("0.00", "0.0"),
            ("00.5", "0.5"),
            (".5", "0.5"),
            ("5.", "5.0"),
            ("0.99", "0.99"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("0.000025", "2.5e-05"),
            ("100000", "100000.0"),
            ("100000.5", "100000.5"),
            ("1000000", "1e+06"),
            ("1000000.0", "1e+06"),
            ("1048576", "1.048576e+06"),
            ("1e100", "1e+100"),
            ("+5", "5.0"),
            ("inf", "+Inf"),
            ("Inf", "+Inf"),
            ("+Inf", "+Inf"),
            ("-Inf", "-Inf"),
            ("nan", "NaN"),
            ("0.30000000000000004", "0.30000000000000004"),
            ("0.1000000000000000055", "0.1"),
            ("1e999", "1e999"),
            ("1 2", "1 2"),
            ("1\r", "1\r"),
            ("many", "many"),
            ("", ""),
        ] {
            assert_eq!(normalise(Cow::Borrowed(written)), spelled, "{written}");
        }
    }

    #[test]
    fn what_is_taken_for_normal_is_what_would_be_written() {
        for whole in [
            "0", "1", "7", "10", "99", "123456", "999999", "1234567", "01", "",
        ] {
            for fraction in [
                "",
                "0",
                "5",
                "05",
                "50",
                "005",
                "0005",
                "00005",
                "000005",
                "999999999",
                "123456789",
                "0000000001",
                "1234567891",
            ] {
                let text = format!("{whole}.{fraction}");
                if is_normal(text.as_bytes()) {
                    let value: f64 = text.parse().expect("a number");
                    assert_eq!(openmetrics_float(value), text);
                }
            }
        }
        for usual in ["0.5", "0.001", "0.0", "1.0", "2.5", "60.0", "+Inf"] {
            assert!(is_normal(usual.as_bytes()), "{usual}");
        }
    }
}
