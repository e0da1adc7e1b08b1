//! How a sample of a series is written beside those of the target's other series ([`super::column`]).
//!
//! A metric's values are decimals that an exporter printed: 97, 0.967412, 357.354910123. Such a value is kept as a whole
//! number of its last decimal place; that is exact, or it is not done. A series' newest value is at hand
//! ([`super::history`]), and each sample says what the one *before* it was, mostly by the difference: what is older is read
//! backwards from the newest, and the oldest can be forgotten without a look at what came after it.
//!
//! Each sample is a tag, and what the tag says follows it:
//!
//! | tag | what |
//! | --- | --- |
//! | kind × 2 + 1 if aged | a sample. What its kind says of the one before it, below; if aged, a varint: by how many milliseconds it is older than its scrape, and [`AHEAD`] more, since it may be newer |
//! | 255 | the scrape brought no sample of this series |
//!
//! | kind | the value before |
//! | --- | --- |
//! | 0 | the same |
//! | 1 | less by a difference: zigzag varint |
//! | 2 | of this scale: a byte; the number in it: zigzag varint |
//! | 3 | the eight bytes of a float |
//! | 4 | there was none |
//! | 5..=125 | less by a difference of -60..=60 without 0 |

/// How many decimal places are tried: a CPU counter has nine.
const MOST_PLACES: u8 = 9;

/// The powers of ten; each is exact as a float.
const POWERS: [f64; 10] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// Whole numbers up to here are exact as floats, and so is a quotient of one by a power of ten that reads like it.
const LARGEST: f64 = 9_007_199_254_740_992.0;

const SAME: u8 = 0;
const DIFFERENCE: u8 = 1;
const SCALED: u8 = 2;
const FLOAT: u8 = 3;
const FIRST: u8 = 4;
/// The kind that is no difference; those around it are small ones.
const SMALL_ZERO: i64 = 65;
const SMALL: i64 = 60;
const AGED: u8 = 1;
const ABSENT: u8 = u8::MAX;

/// Milliseconds by which a sample is mostly not newer than its scrape: what is added to its age, so that it is not negative.
const AHEAD: i32 = 1_024;

/// Scale of a value that is no decimal: the largest there is.
pub(super) const NO_SCALE: u8 = 30;

/// A value, and what its neighbours are measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Value {
    /// The value as a whole number of its last decimal place; the bits of the float where the scale says so.
    pub(super) number: i64,
    /// How many decimal places it is counted in; [`NO_SCALE`] where it is not.
    pub(super) scale: u8,
}

impl Value {
    /// A value in the fewest decimal places that it can be counted in.
    pub(super) fn new(value: f64) -> Self {
        let counted = |scale| number(value, scale).map(|number| Self { number, scale });
        let float = Self {
            number: value.to_bits().cast_signed(),
            scale: NO_SCALE,
        };
        (0..=MOST_PLACES).find_map(counted).unwrap_or(float)
    }

    /// The value itself.
    #[inline]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a counted number is smaller than 2^53"
    )]
    pub(super) fn get(self) -> f64 {
        match POWERS.get(usize::from(self.scale)) {
            Some(_) if self.scale == 0 => self.number as f64,
            Some(power) => self.number as f64 / power,
            None => f64::from_bits(self.number.cast_unsigned()),
        }
    }

    /// `value`, counted as this one is, if it can be.
    #[inline]
    fn alike(self, value: f64) -> Option<Self> {
        let number = if self.scale == NO_SCALE {
            let bits = value.to_bits().cast_signed();
            (bits == self.number).then_some(bits)
        } else {
            number(value, self.scale)
        };
        number.map(|number| Self { number, ..self })
    }
}

/// The number of `10^-scale` that `value` is, if it is exactly that.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "it is whole, and smaller than 2^53"
)]
fn number(value: f64, scale: u8) -> Option<i64> {
    let power = POWERS.get(usize::from(scale))?;
    // A rounded product that is not the nearest whole number is told by its quotient. (`f64::round` is a call where the
    // processor is only promised to have SSE2.)
    let scaled = value * power;
    let nearest = (scaled + 0.5_f64.copysign(scaled)) as i64;
    // NaN is not smaller. The whole number's quotient is what is read back; a negative zero comes back as another float.
    let is_exact = scaled.abs() < LARGEST && (nearest as f64 / power).to_bits() == value.to_bits();
    is_exact.then_some(nearest)
}

/// What a sample says of itself and of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// By how many milliseconds it is older than its scrape.
    pub(super) age: i32,
    /// The value of the sample before it; `None` where the series begins with it.
    pub(super) before: Option<Value>,
}

/// Appends a sample of this age, whose value is `value` and that of the sample before it `before`; the value, as it is counted
/// now.
#[inline]
pub(super) fn append(bytes: &mut Vec<u8>, before: Option<Value>, value: f64, age: i32) -> Value {
    let Some(before) = before else {
        tag(bytes, FIRST, age);
        return Value::new(value);
    };
    let Some(next) = before.alike(value) else {
        if before.scale == NO_SCALE {
            tag(bytes, FLOAT, age);
            bytes.extend_from_slice(&before.number.to_le_bytes());
        } else {
            tag(bytes, SCALED, age);
            bytes.push(before.scale);
            varint(bytes, zigzag(before.number));
        }
        return Value::new(value);
    };
    let difference = next.number.wrapping_sub(before.number);
    if difference == 0 {
        tag(bytes, SAME, age);
    } else if (-SMALL..=SMALL).contains(&difference) {
        tag(bytes, small(difference), age);
    } else {
        tag(bytes, DIFFERENCE, age);
        varint(bytes, zigzag(difference));
    }
    next
}

/// Notes `count` times that there is no sample.
pub(super) fn absent(bytes: &mut Vec<u8>, count: usize) {
    bytes.resize(bytes.len() + count, ABSENT);
}

/// Takes the next sample, whose value is `value`, off `bytes`; `None` where there is none.
#[inline]
pub(super) fn take(bytes: &mut &[u8], value: Value) -> Option<Entry> {
    let (&tag, rest) = bytes.split_first()?;
    *bytes = rest;
    if tag == ABSENT {
        return None;
    }
    let age = if tag & AGED == 0 {
        0
    } else {
        let age = u32::try_from(read_varint(bytes)?).ok()?;
        age.cast_signed().wrapping_sub(AHEAD)
    };
    let less = |difference: i64| Value {
        number: value.number.wrapping_sub(difference),
        ..value
    };
    let before = match tag / 2 {
        FIRST => None,
        SAME => Some(value),
        DIFFERENCE => Some(less(unzigzag(read_varint(bytes)?))),
        SCALED => {
            let (&scale, rest) = bytes.split_first()?;
            *bytes = rest;
            let number = unzigzag(read_varint(bytes)?);
            Some(Value { number, scale })
        }
        FLOAT => {
            let (float, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            Some(Value {
                number: i64::from_le_bytes(*float),
                scale: NO_SCALE,
            })
        }
        kind => Some(less(i64::from(kind) - SMALL_ZERO)),
    };
    Some(Entry { age, before })
}

/// Passes over one sample, or the lack of one.
#[inline]
pub(super) fn skip(bytes: &mut &[u8]) {
    let Some((&tag, rest)) = bytes.split_first() else {
        return;
    };
    *bytes = rest;
    if tag == ABSENT {
        return;
    }
    if tag & AGED != 0 {
        skip_varint(bytes);
    }
    match tag / 2 {
        DIFFERENCE => skip_varint(bytes),
        SCALED => {
            *bytes = bytes.get(1..).unwrap_or_default();
            skip_varint(bytes);
        }
        FLOAT => *bytes = bytes.get(8..).unwrap_or_default(),
        _ => {}
    }
}

fn tag(bytes: &mut Vec<u8>, kind: u8, age: i32) {
    if age == 0 {
        bytes.push(kind * 2);
    } else {
        bytes.push(kind * 2 + AGED);
        varint(bytes, u64::from(age.wrapping_add(AHEAD).cast_unsigned()));
    }
}

/// The kind of a small difference.
fn small(difference: i64) -> u8 {
    u8::try_from(difference + SMALL_ZERO).unwrap_or(DIFFERENCE)
}

fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap_or(0));
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn skip_varint(bytes: &mut &[u8]) {
    let last = bytes.iter().position(|byte| *byte < 0x80);
    *bytes = last.map_or(&[], |last| &bytes[last + 1..]);
}

const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}
