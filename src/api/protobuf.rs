//! Kubernetes' protobuf (`application/vnd.kubernetes.protobuf`), as Go writes it: fields that are no pointers are there even
//! when they are empty.
//!
//! What a message consists of is the business of whoever answers; here is how it is written, and the types that all lists share.

use std::io::Write as _;

use crate::model::quantity::Quantity;
use crate::model::time::Timestamp;

/// The media type.
pub(super) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every answer begins with (apimachinery `pkg/runtime/serializer/protobuf/protobuf.go`).
const MAGIC: &[u8] = b"k8s\0";

/// A message that is being written. Fields go in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

/// An object in its envelope, `runtime.Unknown`: kind and version are there and nowhere else.
pub(super) fn object(api_version: &str, kind: &str, content: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut envelope = Message(MAGIC.to_vec());
    envelope.message(1, |meta| {
        meta.text(1, api_version);
        meta.text(2, kind);
    });
    envelope.message(2, content);
    envelope.text(3, "");
    envelope.text(4, "");
    envelope.0
}

impl Message {
    /// A string.
    pub(super) fn text(&mut self, field: u8, text: &str) {
        self.tag(field, 2);
        self.varint(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A number; also a negative one, and 0.
    pub(super) fn number(&mut self, field: u8, number: i64) {
        self.tag(field, 0);
        self.varint(number.cast_unsigned());
    }

    /// A message within.
    pub(super) fn message(&mut self, field: u8, content: impl FnOnce(&mut Self)) {
        self.tag(field, 2);
        // Most messages are short: room for their length is one byte, and what is longer is moved.
        let start = self.0.len();
        self.0.push(0);
        content(self);
        let length = self.0.len() - start - 1;
        match u8::try_from(length) {
            Ok(short) if short < 0x80 => self.0[start] = short,
            _ => {
                let mut varint = Self::default();
                varint.varint(length as u64);
                self.0.splice(start..=start, varint.0);
            }
        }
    }

    /// An entry of a map with strings as its keys.
    pub(super) fn entry(&mut self, field: u8, key: &str, value: impl FnOnce(&mut Self)) {
        self.message(field, |entry| {
            entry.text(1, key);
            value(entry);
        });
    }

    /// The empty `metav1.ListMeta`.
    pub(super) fn list_meta(&mut self, field: u8) {
        self.message(field, |meta| {
            for empty in 1..=3 {
                meta.text(empty, "");
            }
        });
    }

    /// `metav1.Time`, which has whole seconds only.
    pub(super) fn time(&mut self, field: u8, time: Timestamp) {
        self.message(field, |message| {
            message.number(1, time.as_seconds());
            message.number(2, 0);
        });
    }

    /// `resource.Quantity`, a string, written where it is to stand: there is one for each item of a list.
    pub(super) fn quantity(&mut self, field: u8, quantity: &Quantity) {
        self.message(field, |message| {
            message.message(1, |text| {
                write!(text.0, "{quantity}").expect("memory can be written");
            });
        });
    }

    fn tag(&mut self, field: u8, wire: u8) {
        self.0.push(field << 3 | wire);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_numbers_of_every_size_are_written() {
        for (length, expected) in [
            (0, &[0x0a, 0][..]),
            (127, &[0x0a, 0x7f]),
            (128, &[0x0a, 0x80, 0x01]),
            (16_384, &[0x0a, 0x80, 0x80, 0x01]),
        ] {
            let mut message = Message::default();
            message.message(1, |inner| inner.0.resize(inner.0.len() + length, 7));
            let (head, body) = message.0.split_at(expected.len());
            assert_eq!((head, body.len()), (expected, length));
            assert!(body.iter().all(|byte| *byte == 7));
        }
        let mut message = Message::default();
        message.number(4, -1);
        assert_eq!(message.0.len(), 11);
        message.number(4, 300);
        assert_eq!(message.0[11..], [0x20, 0xac, 0x02]);
    }
}
