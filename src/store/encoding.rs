//! How samples follow one another in a window's bytes.
//!
//! A metric's values are decimals that an exporter printed: 97, 0.967412, 357.354910123. Such a value is kept as a whole
//! number of its last decimal place, and mostly as the difference to the one before; that is exact, or it is not done.
//! Times are mostly those of the target's scrapes, which are kept once for all its series (`Rounds`).
//!
//! Each sample is a tag, and what the tag says follows it:
//!
//! | tag | value | time |
//! | --- | --- | --- |
//! | 240 + n, n in 0..16 | n + 1 samples that repeat the value before, one a scrape | that of the scrape |
//! | kind × 4 + 2 if aged + 1 if skipping | by its kind, below | skipping: a varint, how many scrapes were left out; aged: a zigzag varint, by how many milliseconds it is older than its scrape |
//!
//! | kind | value |
//! | --- | --- |
//! | 0 | that of the sample before |
//! | 1..=40 | a difference of -20..=20 without 0 |
//! | 41 | a difference: zigzag varint |
//! | 42 | the scale: a byte; the number in it: zigzag varint |
//! | 43 | the eight bytes of the float |

use smallvec::SmallVec;

/// The bytes of a window. A few, which a value that seldom changes takes, need no memory of their own.
pub(super) type Encoded = SmallVec<[u8; 16]>;

/// How many decimal places are tried: a CPU counter has nine.
const MOST_PLACES: u8 = 9;

/// The powers of ten; each is exact as a float.
const POWERS: [f64; 10] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// Whole numbers up to here are exact as floats, and so is a quotient of one by a power of ten that reads like it.
const LARGEST: f64 = 9_007_199_254_740_992.0;

const SAME: u8 = 0;
const SMALL: i64 = 20;
const DIFFERENCE: u8 = 41;
const SCALED: u8 = 42;
const FLOAT: u8 = 43;
const SKIPPING: u8 = 1;
const AGED: u8 = 2;
/// The tag of a run of one.
const RUN: u8 = 240;
/// The longest run of one byte.
const LONGEST_RUN: u8 = 16;

/// Scale of a value that is no decimal.
const NO_SCALE: u8 = u8::MAX;

/// A value, and what the next one is measured by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    /// The value as a whole number of its last decimal place; the bits of the float where the scale says so.
    number: i64,
    /// How many decimal places it is counted in; [`NO_SCALE`] where it is not.
    scale: u8,
}

impl Value {
    /// A first value.
    pub(super) fn new(value: f64) -> Self {
        let counted = |scale| number(value, scale).map(|number| Self { number, scale });
        let float = Self {
            number: value.to_bits().cast_signed(),
            scale: NO_SCALE,
        };
        (0..=MOST_PLACES).find_map(counted).unwrap_or(float)
    }

    /// What [`Value::parts`] came from.
    #[inline]
    pub(super) fn restore((value, scale): (f64, u8)) -> Self {
        let number = number(value, scale).unwrap_or(value.to_bits().cast_signed());
        Self { number, scale }
    }

    /// What must be kept of it.
    pub(super) fn parts(self) -> (f64, u8) {
        (self.get(), self.scale)
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
}

/// What one sample's place in the series is, beside its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// How many of the target's scrapes lie between the sample before and this one.
    pub(super) skipped: u32,
    /// By how many milliseconds it is older than the scrape that brought it.
    pub(super) age: i32,
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
    let scaled = (value * power).round();
    // NaN is not smaller. The whole number's quotient is what is read back; a negative zero comes back as another float.
    let is_exact =
        scaled.abs() < LARGEST && (scaled as i64 as f64 / power).to_bits() == value.to_bits();
    is_exact.then_some(scaled as i64)
}

/// Appends `value`, which follows `last`; what the next one is measured by. `run` is whether the last byte is a run, and
/// becomes so.
pub(super) fn append(
    bytes: &mut Encoded,
    run: &mut bool,
    last: Value,
    value: f64,
    step: Step,
) -> Value {
    let repeats = value.to_bits() == last.get().to_bits();
    if repeats && step == Step::default() {
        match bytes.last_mut() {
            Some(tag) if *run && *tag < RUN + (LONGEST_RUN - 1) => *tag += 1,
            _ => push(bytes, &[RUN]),
        }
        *run = true;
        return last;
    }
    *run = false;
    let mut tail = Tail::default();
    let (kind, next) = if repeats {
        (SAME, last)
    } else {
        differing(&mut tail, last, value)
    };
    let flags = if step.skipped > 0 { SKIPPING } else { 0 } | if step.age == 0 { 0 } else { AGED };
    let mut all = Tail::default();
    all.byte(kind * 4 + flags);
    if step.skipped > 0 {
        all.varint(u64::from(step.skipped));
    }
    if step.age != 0 {
        all.varint(zigzag(i64::from(step.age)));
    }
    all.extend(tail.bytes());
    push(bytes, all.bytes());
    next
}

/// The kind of a value that differs from `last`, with what follows its tag.
fn differing(tail: &mut Tail, last: Value, value: f64) -> (u8, Value) {
    if let Some(number) = number(value, last.scale) {
        let next = Value {
            number,
            scale: last.scale,
        };
        let difference = number - last.number;
        if (-SMALL..=SMALL).contains(&difference) {
            // -20..=-1 are 1..=20, and 1..=20 are 21..=40.
            let kind = difference + SMALL + i64::from(difference < 0);
            return (u8::try_from(kind).unwrap_or(FLOAT), next);
        }
        tail.varint(zigzag(difference));
        return (DIFFERENCE, next);
    }
    let next = Value::new(value);
    match next.scale {
        NO_SCALE => {
            tail.extend(&value.to_bits().to_le_bytes());
            (FLOAT, next)
        }
        scale => {
            tail.byte(scale);
            tail.varint(zigzag(next.number));
            (SCALED, next)
        }
    }
}

/// Grows in small steps: most windows stay below a hundred bytes, and there are a million of them.
fn push(bytes: &mut Encoded, new: &[u8]) {
    if bytes.capacity() - bytes.len() < new.len() {
        bytes.reserve_exact(new.len().max(16));
    }
    bytes.extend_from_slice(new);
}

/// Takes the next tag off `bytes`, and what follows it: the value after `last`, its step, and how many samples in a row are
/// so. Nothing at the end.
#[inline]
pub(super) fn take(bytes: &mut &[u8], last: Value) -> Option<(Value, Step, u8)> {
    let (&tag, rest) = bytes.split_first()?;
    *bytes = rest;
    let mut step = Step::default();
    if tag >= RUN {
        return Some((last, step, tag - RUN + 1));
    }
    if tag & SKIPPING != 0 {
        step.skipped = u32::try_from(varint(bytes)?).ok()?;
    }
    if tag & AGED != 0 {
        step.age = i32::try_from(unzigzag(varint(bytes)?)).ok()?;
    }
    let by = |difference: i64| Value {
        number: last.number.wrapping_add(difference),
        scale: last.scale,
    };
    let value = match tag / 4 {
        SAME => last,
        DIFFERENCE => by(unzigzag(varint(bytes)?)),
        SCALED => {
            let (&scale, rest) = bytes.split_first()?;
            *bytes = rest;
            Value {
                number: unzigzag(varint(bytes)?),
                scale,
            }
        }
        FLOAT => {
            let (float, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            Value {
                number: i64::from_le_bytes(*float),
                scale: NO_SCALE,
            }
        }
        small => {
            let place = i64::from(small) - SMALL;
            by(if place <= 0 { place - 1 } else { place })
        }
    };
    Some((value, step, 1))
}

/// Makes the run that `bytes` begins with one shorter, where it is a run of more than one.
pub(super) fn shorten_run(bytes: &mut [u8]) -> bool {
    match bytes.first_mut() {
        Some(tag) if *tag > RUN => {
            *tag -= 1;
            true
        }
        _ => false,
    }
}

/// The bytes of one sample: a tag, two varints for its time, and at most a varint with a byte before it for its value.
#[derive(Default)]
struct Tail {
    bytes: [u8; 32],
    length: usize,
}

impl Tail {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
            number >>= 7;
        }
        self.byte(u8::try_from(number).unwrap_or(0));
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
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

const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}
