//! Walks arrays and objects, adding the path to errors.

use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess};
use serde_json::Value;

use super::deserializer::Item;
use super::error::ParameterError;

/// The entries of an object, or the parameters themselves.
pub(super) struct Entries<I> {
    entries: I,
    current: Option<(String, Value)>,
    depth: usize,
}

impl<I: Iterator<Item = (String, Value)>> Entries<I> {
    pub(super) fn new(entries: I, depth: usize) -> Self {
        Self { entries, current: None, depth }
    }
}

impl<'de, I: Iterator<Item = (String, Value)>> MapAccess<'de> for Entries<I> {
    type Error = ParameterError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ParameterError> {
        self.current = self.entries.next();
        let Some((key, _)) = &self.current else {
            return Ok(None);
        };
        // A key goes through the same coercion: maps with numeric keys exist.
        let item = Item { value: Value::String(key.clone()), depth: self.depth };
        seed.deserialize(item).map(Some).map_err(|error| error.in_key(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ParameterError> {
        // Serde asks for a value only after a key.
        let (key, value) = self.current.take().unwrap_or_default();
        seed.deserialize(Item { value, depth: self.depth }).map_err(|error| error.in_key(&key))
    }

    fn size_hint(&self) -> Option<usize> {
        self.entries.size_hint().1
    }
}

/// The items of an array.
pub(super) struct Items {
    items: std::iter::Enumerate<std::vec::IntoIter<Value>>,
    depth: usize,
}

impl Items {
    pub(super) fn new(items: Vec<Value>, depth: usize) -> Self {
        Self { items: items.into_iter().enumerate(), depth }
    }

    /// Fails when items are left over: the type has fewer places.
    pub(super) fn finish(self, total: usize) -> Result<(), ParameterError> {
        match self.items.len() {
            0 => Ok(()),
            left => Err(serde::de::Error::invalid_length(total, &Fewer(total - left))),
        }
    }
}

struct Fewer(usize);

impl serde::de::Expected for Fewer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "an array of {} items", self.0)
    }
}

impl<'de> SeqAccess<'de> for Items {
    type Error = ParameterError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ParameterError> {
        let Some((index, value)) = self.items.next() else {
            return Ok(None);
        };
        seed.deserialize(Item { value, depth: self.depth }).map(Some).map_err(|error| error.in_index(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The deserialiser of a unit variant's name.
pub(super) fn unit_variant(name: String) -> serde::de::value::StringDeserializer<ParameterError> {
    name.into_deserializer()
}
