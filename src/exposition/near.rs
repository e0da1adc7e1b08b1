//! Finding bytes that are near by: a label's value ends after a few bytes, where calling a searcher for long texts costs
//! more than the search.

use memchr::{memchr2, memrchr};

/// How many bytes are looked at in one step.
const BLOCK: usize = 8;

/// How many blocks are looked at before a searcher for long texts takes over.
const NEAR: usize = 8;

/// The first of two bytes in `text[from..]`, as a place in `text`.
#[inline]
pub(super) fn first_of(a: u8, b: u8, text: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    let (blocks, last) = rest.as_chunks();
    let mut at = from;
    for block in blocks.iter().take(NEAR) {
        let found = equal(block, a) | equal(block, b);
        if found != 0 {
            return Some(at + first(found));
        }
        at += BLOCK;
    }
    if blocks.len() > NEAR {
        return memchr2(a, b, &rest[NEAR * BLOCK..]).map(|place| at + place);
    }
    let place = last.iter().position(|byte| *byte == a || *byte == b);
    place.map(|place| at + place)
}

/// The last such byte of `text[from..]`, as a place in `text`.
#[inline]
pub(super) fn last_of(byte: u8, text: &[u8], from: usize) -> Option<usize> {
    let mut end = text.len();
    for _ in 0..NEAR {
        let Some(block) = text.get(from..end)?.last_chunk() else {
            break;
        };
        let found = equal(block, byte);
        if found != 0 {
            return Some(end - BLOCK + last(found));
        }
        end -= BLOCK;
    }
    memrchr(byte, text.get(from..end)?).map(|place| from + place)
}

/// Whether this byte is one of the last 32 of `text`, if it has as many. It takes the same steps wherever the byte is, so
/// that a processor never guesses wrong.
#[inline]
pub(super) fn is_in_end(byte: u8, text: &[u8]) -> bool {
    let Some(end) = text.last_chunk::<32>() else {
        return false;
    };
    end.iter()
        .fold(false, |found, other| found | (*other == byte))
}

/// The highest bit of each byte of the block that is this one; the block's first byte is the lowest.
#[inline]
fn equal(block: &[u8; BLOCK], byte: u8) -> u64 {
    const LOW: u64 = u64::from_ne_bytes([0x7f; BLOCK]);
    let differs = u64::from_le_bytes(*block) ^ u64::from_ne_bytes([byte; BLOCK]);
    !(((differs & LOW) + LOW) | differs | LOW)
}

#[inline]
fn first(found: u64) -> usize {
    found.trailing_zeros() as usize / 8
}

#[inline]
fn last(found: u64) -> usize {
    BLOCK - 1 - found.leading_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn bytes_are_found_where_they_are(text in "[ab\"}\\\\]{0,3}([a-c]{0,90}[\"}\\\\]?){0,2}", from in 0..200_usize) {
            let text = text.as_bytes();
            let rest = text.get(from..).unwrap_or_default();
            let first = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
            prop_assert_eq!(first_of(b'"', b'\\', text, from), first.map(|place| from + place));
            let last = rest.iter().rposition(|byte| *byte == b'}');
            prop_assert_eq!(last_of(b'}', text, from), last.map(|place| from + place));
        }

        #[test]
        fn the_end_of_a_text_has_the_bytes_that_it_has(text in "[a-c]{0,70}") {
            let end = text.len().checked_sub(32).map_or("", |from| &text[from..]);
            prop_assert_eq!(is_in_end(b'b', text.as_bytes()), end.contains('b'));
        }

        #[test]
        fn a_block_shows_each_of_its_bytes(block in any::<[u8; BLOCK]>(), at in 0..BLOCK) {
            let byte = block[at];
            let places: Vec<usize> = (0..BLOCK).filter(|place| block[*place] == byte).collect();
            let found = equal(&block, byte);
            prop_assert_eq!(found.count_ones() as usize, places.len());
            prop_assert_eq!(first(found), places[0]);
            prop_assert_eq!(last(found), places[places.len() - 1]);
        }
    }
}
