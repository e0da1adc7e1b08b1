//! Kubernetes quantities: how a number is carried in the metrics APIs.

use std::fmt;
use std::str::FromStr;

const NANOS_PER_MILLI: i128 = 1_000_000;
const NANOS_PER_UNIT: i128 = 1_000_000_000;
/// The largest whole number of thousandths that the HPA's `MilliValue()` can hold; beyond it that overflows to garbage.
const MAX_NANOS: i128 = i64::MAX as i128 * NANOS_PER_MILLI;

/// A number in the form of `resource.Quantity`: exact to one billionth, within ±(2^63-1)/1000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Which suffixes a quantity is written with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Format {
    /// `n u m k M G T P`.
    #[default]
    DecimalSi,
    /// `Ki Mi Gi Ti Pi`.
    BinarySi,
}

impl Quantity {
    /// The nearest thousandth, half to even. A non-zero value under one thousandth keeps billionths and never becomes 0,
    /// as Kubernetes rounds what is finer than 1n away from zero. Values beyond ±(2^63-1)/1000 become that bound.
    ///
    /// `None` for NaN and the infinities: what is not a number is missing.
    pub fn from_f64(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        let nanos = if value != 0.0 && value.abs() < 0.001 {
            let magnitude = i128::from(rounded(value.abs() * 1e9)).max(1);
            if value < 0.0 { -magnitude } else { magnitude }
        } else {
            i128::from(rounded(value * 1e3)) * NANOS_PER_MILLI
        };
        Some(Self::decimal(nanos))
    }

    /// This many thousandths.
    pub fn from_millis(millis: i64) -> Self {
        Self::decimal(i128::from(millis) * NANOS_PER_MILLI)
    }

    /// This many billionths: how metrics-server carries CPU cores.
    pub fn from_nanos(nanos: i64) -> Self {
        Self::decimal(i128::from(nanos))
    }

    /// This many bytes, written with `Ki`, `Mi`, … where that is exact: how metrics-server carries memory.
    pub fn from_bytes(bytes: i64) -> Self {
        Self {
            format: Format::BinarySi,
            ..Self::decimal(i128::from(bytes) * NANOS_PER_UNIT)
        }
    }

    /// The nearest whole number of bytes, as [`Quantity::from_bytes`]; `None` for what is not a number.
    pub fn from_bytes_f64(bytes: f64) -> Option<Self> {
        bytes.is_finite().then(|| Self::from_bytes(rounded(bytes)))
    }

    fn decimal(nanos: i128) -> Self {
        Self {
            nanos: nanos.clamp(-MAX_NANOS, MAX_NANOS),
            format: Format::DecimalSi,
        }
    }

    /// The value in thousandths, rounded away from zero: what the HPA computes with (`Quantity.MilliValue()`).
    pub fn milli_value(&self) -> i64 {
        let away = if self.nanos < 0 { -1 } else { 1 };
        let exact = self.nanos % NANOS_PER_MILLI == 0;
        let millis = self.nanos / NANOS_PER_MILLI + if exact { 0 } else { away };
        i64::try_from(millis).expect("the constructors keep nanos within ±MAX_NANOS")
    }
}

/// The sum, written as the first is; beyond what a quantity holds it is that bound.
impl std::ops::Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            format: self.format,
            ..Self::decimal(self.nanos + other.nanos)
        }
    }
}

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It does not begin with a decimal number.
    #[error("quantity {0:?} does not begin with a number")]
    Number(String),
    /// What follows the number is no suffix and no exponent.
    #[error("quantity {0:?} has an unknown suffix")]
    Suffix(String),
    /// It has more digits than any quantity needs.
    #[error("quantity {0:?} has too many digits")]
    Digits(String),
}

/// Reads what `resource.ParseQuantity` reads. What is finer than one billionth is rounded away from zero, and what is beyond
/// ±(2^63-1)/1000 becomes that bound. An exponent (`1e3`) is read, and written again as a suffix.
impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, suffix) = unsigned.split_at(end.unwrap_or(unsigned.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError::Number(text.to_owned()));
        }
        let (factor, exponent, format) =
            scale(suffix).ok_or_else(|| QuantityError::Suffix(text.to_owned()))?;
        let digits = format!("{whole}{fraction}");
        let magnitude = digits.parse::<i128>().ok().and_then(|mantissa| {
            let places = i32::try_from(fraction.len()).ok()?;
            Some(shifted(
                mantissa.checked_mul(factor)?,
                exponent - places + 9,
            ))
        });
        let magnitude = magnitude.ok_or_else(|| QuantityError::Digits(text.to_owned()))?;
        Ok(Self {
            format,
            ..Self::decimal(if negative { -magnitude } else { magnitude })
        })
    }
}

/// What a suffix multiplies by: a factor, and a power of ten.
fn scale(suffix: &str) -> Option<(i128, i32, Format)> {
    const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(index) = DECIMAL.iter().position(|known| *known == suffix) {
        let exponent = 3 * i32::try_from(index).ok()? - 9;
        return Some((1, exponent, Format::DecimalSi));
    }
    if let Some(index) = BINARY.iter().position(|known| *known == suffix) {
        return Some((1 << (10 * (index + 1)), 0, Format::BinarySi));
    }
    let exponent: i16 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((1, i32::from(exponent), Format::DecimalSi))
}

/// `magnitude` · 10^`exponent`, rounded up, and at most what a quantity holds.
fn shifted(magnitude: i128, exponent: i32) -> i128 {
    let power = 10_i128.checked_pow(exponent.unsigned_abs());
    match power {
        _ if magnitude == 0 => 0,
        Some(power) if exponent >= 0 => magnitude.saturating_mul(power),
        None if exponent >= 0 => MAX_NANOS,
        Some(power) => magnitude / power + i128::from(magnitude % power != 0),
        None => 1,
    }
}

/// Half to even, and the nearest of ±(2^63-1) where it does not fit.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the value is whole, and what does not fit saturates"
)]
fn rounded(value: f64) -> i64 {
    (value.round_ties_even() as i64).max(-i64::MAX)
}

/// The canonical form (apimachinery `pkg/api/resource/quantity.go`, `CanonicalizeBytes`): the largest suffix that leaves a
/// whole number.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.nanos / NANOS_PER_UNIT;
        let binary = self.format == Format::BinarySi
            && self.nanos % NANOS_PER_UNIT == 0
            && units.abs() >= 1024;
        let (mut mantissa, step, suffixes): (_, _, &[&str]) = if binary {
            (units, 1024, &["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
        } else {
            let suffixes = &["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
            (self.nanos, 1000, suffixes)
        };
        if mantissa == 0 {
            return f.write_str("0");
        }
        let mut suffixes = suffixes.iter();
        let mut suffix = suffixes.next().copied().unwrap_or_default();
        while mantissa % step == 0
            && let Some(next) = suffixes.next()
        {
            mantissa /= step;
            suffix = next;
        }
        write!(f, "{mantissa}{suffix}")
    }
}
