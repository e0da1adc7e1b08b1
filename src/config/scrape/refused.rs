//! Names the settings that Prometheus has and this program does not, instead of calling them unknown.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

/// A deserializer that fails with the name of the first key from `refused`; else it is `inner`.
pub(super) struct Refusing<D> {
    pub(super) inner: D,
    pub(super) refused: &'static [&'static str],
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Refusing<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let refused = self.refused;
        let visitor = Watched { visitor, refused };
        self.inner.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Watched<V> {
    visitor: V,
    refused: &'static [&'static str],
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Watched<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let refused = self.refused;
        self.visitor.visit_map(WatchedMap { map, refused })
    }
}

struct WatchedMap<A> {
    map: A,
    refused: &'static [&'static str],
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WatchedMap<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let refused = self.refused;
        self.map.next_key_seed(Key { seed, refused })
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// Looks at a key while the format still knows its place in the file.
struct Key<K> {
    seed: K,
    refused: &'static [&'static str],
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl<'de, K: DeserializeSeed<'de>> Visitor<'de> for Key<K> {
    type Value = K::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a setting's name")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<K::Value, E> {
        if self.refused.contains(&key) {
            let message = format!("{key} is a Prometheus setting that is not supported here");
            return Err(E::custom(message));
        }
        self.seed.deserialize(StrDeserializer::new(key))
    }
}
