//! Reads from serde which keys a configuration has and what each takes.
//!
//! A configuration is asked to read itself from an input that holds one path of keys and nothing else. What it asks for at
//! the path's end (a table of these keys, one of these words, a path) is its answer; the reading then stops.

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;

/// What stands at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A table with these keys.
    Table(&'static [&'static str]),
    /// One of these words.
    Words(&'static [&'static str]),
    /// A file or folder.
    Path,
    /// Anything else: a number, a text, a form of its own.
    Value,
}

/// A key with its path and its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// For instance `worker.queue.limit`. What a list holds has the list's own path.
    pub path: String,
    /// What stands there.
    pub shape: Shape,
    /// Whether there may be several.
    pub listed: bool,
}

/// Every key of a configuration, each table before what is in it, in the order of its declaration.
pub fn keys_of<T: de::DeserializeOwned>() -> Vec<Key> {
    let mut all = Vec::new();
    collect::<T>(&mut Vec::new(), &mut all);
    all
}

fn collect<T: de::DeserializeOwned>(path: &mut Vec<&'static str>, all: &mut Vec<Key>) {
    let (shape, listed) = shape_at::<T>(path);
    if !path.is_empty() {
        all.push(Key { path: path.join("."), shape, listed });
    }
    if let Shape::Table(fields) = shape {
        for field in fields {
            path.push(field);
            collect::<T>(path, all);
            path.pop();
        }
    }
}

fn shape_at<T: de::DeserializeOwned>(path: &[&'static str]) -> (Shape, bool) {
    let found = Cell::new((Shape::Value, false));
    // It always stops before its end.
    let _ = T::deserialize(Probe { path, listed: false, found: &found });
    found.get()
}

/// The input that holds one path of keys.
#[derive(Clone, Copy)]
struct Probe<'p> {
    path: &'p [&'static str],
    /// Whether a list was entered since the last key.
    listed: bool,
    found: &'p Cell<(Shape, bool)>,
}

impl Probe<'_> {
    fn stop<T>(&self, shape: Shape) -> Result<T, Stop> {
        self.found.set((shape, self.listed));
        Err(Stop)
    }
}

/// The end of a reading.
#[derive(Debug)]
struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reading has stopped")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(_why: T) -> Stop {
        Stop
    }
}

/// What a visitor says that it expects.
struct Expected<V>(V);

impl<'de, V: Visitor<'de>> fmt::Display for Expected<&V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        // The words of serde for a `PathBuf`.
        let is_path = Expected(&visitor).to_string() == "path string";
        self.stop(if is_path { Shape::Path } else { Shape::Value })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        match self.path.split_first() {
            Some((head, rest)) if fields.contains(head) => {
                visitor.visit_map(One(Some((head, Probe { path: rest, listed: false, ..self }))))
            }
            _ => self.stop(Shape::Table(fields)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Stop> {
        self.stop(Shape::Words(variants))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_seq(One(Some(Probe { listed: true, ..self })))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct map identifier ignored_any
    }
}

/// A table of one key, or a list of one.
struct One<T>(Option<T>);

impl<'de> MapAccess<'de> for One<(&&'static str, Probe<'_>)> {
    type Error = Stop;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        let key = self.0.map(|(key, _)| *key);
        key.map(|key| seed.deserialize(de::value::StrDeserializer::new(key))).transpose()
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        let (_, value) = self.0.take().ok_or(Stop)?;
        seed.deserialize(value)
    }
}

impl<'de> SeqAccess<'de> for One<Probe<'_>> {
    type Error = Stop;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        self.0.take().map(|probe| seed.deserialize(probe)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::path::PathBuf;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its keys are read")]
    struct Outer {
        name: String,
        #[serde(default, rename = "item")]
        items: Vec<Inner>,
        folder: Option<PathBuf>,
        #[serde(default)]
        words: Vec<Word>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its keys are read")]
    struct Inner {
        how: Option<Word>,
        much: u64,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Word {
        FirstOne,
        Two,
    }

    #[test]
    fn keys_are_read_with_their_shapes() {
        let _ = (Word::FirstOne, Word::Two);
        let words = Shape::Words(&["first-one", "two"]);
        let expected = [
            ("name", Shape::Value, false),
            ("item", Shape::Table(&["how", "much"]), true),
            ("item.how", words, false),
            ("item.much", Shape::Value, false),
            ("folder", Shape::Path, false),
            ("words", words, true),
        ];
        let found = keys_of::<Outer>();
        let found: Vec<_> = found.iter().map(|k| (k.path.as_str(), k.shape, k.listed)).collect();
        assert_eq!(found, expected);
    }
}
