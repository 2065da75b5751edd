//! A policy as a configuration names it: a word, or a table with the word and parameters.

use super::explain::explain;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use toml::{Table, Value};

/// Names a member of an open set and its parameters: `"lru"`, or `{ policy = "greedy-dual", cost = "uniform" }`.
///
/// ```
/// use elapse_core::base::PolicyConfig;
///
/// let written = "eviction = { policy = 'greedy-dual', cost = 'uniform' }";
/// let table: std::collections::BTreeMap<String, PolicyConfig> = toml::from_str(written).unwrap();
/// assert_eq!(table["eviction"].name(), "greedy-dual");
/// assert_eq!(PolicyConfig::from("lru").to_string(), "lru");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyConfig {
    name: String,
    parameters: Table,
}

impl PolicyConfig {
    /// The policy's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of the parameters that are given.
    pub fn given(&self) -> impl Iterator<Item = &str> {
        self.parameters.keys().map(String::as_str)
    }

    /// The policy's parameters in their own type, whose defaults hold for those that are not given.
    ///
    /// # Errors
    /// One sentence about the first that cannot be meant.
    pub fn parameters<T: DeserializeOwned>(&self) -> Result<T, String> {
        let read = |table: &Table| Value::Table(table.clone()).try_into::<T>();
        read(&self.parameters).map_err(|e| {
            // Alone, so that the sentence names the one that is wrong.
            let alone = |(key, value): (&String, &Value)| {
                let one = Table::from_iter([(key.clone(), value.clone())]);
                Some(format!("{key}: {}", explain(read(&one).err()?.message())))
            };
            self.parameters.iter().find_map(alone).unwrap_or_else(|| explain(e.message()))
        })
    }
}

impl From<&str> for PolicyConfig {
    fn from(name: &str) -> PolicyConfig {
        PolicyConfig { name: name.to_string(), parameters: Table::new() }
    }
}

/// As plots and methods name it: `greedy-dual (cost uniform)`.
impl fmt::Display for PolicyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (nth, (key, value)) in self.parameters.iter().enumerate() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            write!(f, "{}{key} {value}", if nth == 0 { " (" } else { ", " })?;
        }
        if self.parameters.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

impl Serialize for PolicyConfig {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.parameters.is_empty() {
            return s.serialize_str(&self.name);
        }
        let mut map = s.serialize_map(Some(self.parameters.len() + 1))?;
        map.serialize_entry("policy", &self.name)?;
        for (key, value) in &self.parameters {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for PolicyConfig {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<PolicyConfig, D::Error> {
        d.deserialize_any(Written("the name of a policy in quotes, or a table such as { policy = \"lru\" }"))
    }
}

/// Reads a name or a table; what else it could be is said to who writes another thing.
struct Written(&'static str);

impl<'de> Visitor<'de> for Written {
    type Value = PolicyConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<PolicyConfig, E> {
        Ok(PolicyConfig::from(name))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PolicyConfig, A::Error> {
        let mut parameters = Table::deserialize(MapAccessDeserializer::new(map))?;
        match parameters.remove("policy") {
            Some(Value::String(name)) => Ok(PolicyConfig { name, parameters }),
            _ => Err(de::Error::custom(
                "the table of a policy names none; write for instance { policy = \"lru\" }",
            )),
        }
    }
}

impl PolicyConfig {
    /// Reads a policy of which a span alone is one as well.
    ///
    /// # Errors
    /// If it is neither.
    pub fn span_or_policy<'de, D: Deserializer<'de>>(d: D) -> Result<PolicyConfig, D::Error> {
        d.deserialize_any(Written(
            "a duration with its unit in quotes, for instance \"600s\", or a policy's table",
        ))
    }
}
