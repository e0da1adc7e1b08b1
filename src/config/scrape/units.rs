//! Durations and sizes as Prometheus writes them: `1m30s`, `16MB`.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};

/// Units in the order in which they must stand, with their milliseconds (`common/model/time.go`, `ParseDuration`).
const UNITS: [(&str, u64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// The duration that `text` means: numbers with units, larger units first, each at most once; or `0`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut millis, mut next) = (text, 0_u64, 0);
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let length = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(length);
        let index = UNITS.iter().position(|(name, _)| *name == unit)?;
        if index < next {
            return None;
        }
        next = index + 1;
        millis = millis.checked_add(number.checked_mul(UNITS[index].1)?)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}

/// The bytes that `text` means. Units are powers of 1024 with or without the `i` (`alecthomas/units`, `ParseBase2Bytes`).
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let shift = match unit {
        "" | "B" => 0,
        "KB" | "KiB" => 10,
        "MB" | "MiB" => 20,
        "GB" | "GiB" => 30,
        "TB" | "TiB" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// For `#[serde(deserialize_with)]`: a duration such as `1m30s`.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(Unit {
        parse: parse_duration,
        form: "a duration such as 15s or 1m30s",
    })
}

/// For `#[serde(deserialize_with)]`: a duration that may be left out.
pub fn some_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// For `#[serde(deserialize_with)]`: a size in bytes such as `16MB`.
pub fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_str(Unit {
        parse: parse_size,
        form: "a size such as 16MB",
    })
}

struct Unit<T> {
    parse: fn(&str) -> Option<T>,
    form: &'static str,
}

impl<T> Visitor<'_> for Unit<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.form)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::custom(format!("{text:?} is not {}", self.form)))
    }
}
