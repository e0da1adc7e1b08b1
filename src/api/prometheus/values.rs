//! Values as Prometheus writes them in JSON (`util/jsonutil/marshal.go`, `web/api/v1/json_codec.go`).

use std::fmt::{self, Write as _};

use crate::engine::query::{Point, Series, Value};
use crate::model::labels::Labels;
use crate::model::time::Timestamp;

use super::answer::Answer;

/// The `data` of an instant query; `limit` bounds the series, 0 does not.
pub(super) fn instant(value: &Value, at: Timestamp, limit: usize) -> Answer {
    match value {
        Value::Scalar(number) => {
            let number = format!("\"{}\"", Decimal(*number));
            single("scalar", at, &number)
        }
        Value::String(text) => single("string", at, &quoted(text)),
        Value::Vector(points) => list("vector", points, limit, |out, point| {
            vector_element(out, point, at);
        }),
        Value::Matrix(series) => matrix(series, limit),
    }
}

/// The `data` of a range query, or of an instant query for a range.
pub(super) fn matrix(series: &[Series], limit: usize) -> Answer {
    list("matrix", series, limit, matrix_element)
}

fn single(kind: &str, at: Timestamp, value: &str) -> Answer {
    // Here, and only here, a time is written as Go writes a float: without zeros at its end.
    let (seconds, time) = (at.as_millis(), Time(at).to_string());
    let time = if seconds % 1000 == 0 {
        &time
    } else {
        time.trim_end_matches('0')
    };
    Answer {
        data: format!(r#"{{"resultType":"{kind}","result":[{time},{value}]}}"#),
        truncated: false,
    }
}

fn list<T>(kind: &str, items: &[T], limit: usize, write: impl Fn(&mut String, &T)) -> Answer {
    let shown = if limit == 0 {
        items.len()
    } else {
        limit.min(items.len())
    };
    let mut data = format!(r#"{{"resultType":"{kind}","result":["#);
    for (index, item) in items[..shown].iter().enumerate() {
        if index > 0 {
            data.push(',');
        }
        write(&mut data, item);
    }
    data.push_str("]}");
    Answer {
        data,
        truncated: shown < items.len(),
    }
}

fn vector_element(out: &mut String, point: &Point, at: Timestamp) {
    out.push_str(r#"{"metric":"#);
    labels(out, &point.labels);
    out.push_str(r#","value":"#);
    sample(out, at, point.value);
    out.push('}');
}

fn matrix_element(out: &mut String, series: &Series) {
    out.push_str(r#"{"metric":"#);
    labels(out, &series.labels);
    if !series.samples.is_empty() {
        out.push_str(r#","values":["#);
        for (index, it) in series.samples.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            sample(out, it.timestamp, it.value);
        }
        out.push(']');
    }
    out.push('}');
}

fn sample(out: &mut String, at: Timestamp, value: f64) {
    write!(out, "[{},\"{}\"]", Time(at), Float(value)).expect("a String takes all");
}

fn labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (index, (name, value)) in labels.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(out, "{comma}{}:{}", quoted(name), quoted(value)).expect("a String takes all");
    }
    out.push('}');
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// Seconds, with three digits after the point or none.
struct Time(Timestamp);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let sign = if millis < 0 { "-" } else { "" };
        let (seconds, fraction) = (millis.unsigned_abs() / 1000, millis.unsigned_abs() % 1000);
        match fraction {
            0 => write!(f, "{sign}{seconds}"),
            _ => write!(f, "{sign}{seconds}.{fraction:03}"),
        }
    }
}

/// A float as Go's `FormatFloat(f, 'f', -1, 64)` writes it.
struct Decimal(f64);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            it if it.is_nan() => f.write_str("NaN"),
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            // Both languages write the shortest digits that are read back as the same number.
            it => write!(f, "{it}"),
        }
    }
}

/// A float as samples carry it: with an exponent where it is very small or very large.
struct Float(f64);

impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        if size == 0.0 || !size.is_finite() || (1e-6..1e21).contains(&size) {
            return Decimal(self.0).fmt(f);
        }
        let text = format!("{:e}", self.0);
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        write!(f, "{digits}e{sign}{exponent:0>2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Go's `strconv.AppendFloat` gives for these.
    #[test]
    fn floats_are_written_as_go_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (-40.5, "-40.5"),
            (1e-6, "0.000001"),
            (9.5e-7, "9.5e-07"),
            (-1e-12, "-1e-12"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (5e-324, "5e-324"),
            (1.0 / 3.0, "0.3333333333333333"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(Float(value).to_string(), text);
        }
        assert_eq!(Decimal(1e21).to_string(), "1000000000000000000000");
    }

    #[test]
    fn times_are_written_as_go_writes_them() {
        for (millis, text) in [
            (1_435_781_451_781, "1435781451.781"),
            (1_435_781_451_780, "1435781451.780"),
            (1_001, "1.001"),
            (1_000, "1"),
            (0, "0"),
            (-1, "-0.001"),
            (-1_500, "-1.500"),
        ] {
            assert_eq!(Time(Timestamp::from_millis(millis)).to_string(), text);
        }
        let at = Timestamp::from_millis(1_500);
        let scalar = instant(&Value::Scalar(1e21), at, 0).data;
        assert_eq!(
            scalar,
            r#"{"resultType":"scalar","result":[1.5,"1000000000000000000000"]}"#
        );
        let string = instant(
            &Value::String("a\"b".into()),
            Timestamp::from_millis(10_000),
            0,
        )
        .data;
        assert_eq!(string, r#"{"resultType":"string","result":[10,"a\"b"]}"#);
    }
}
