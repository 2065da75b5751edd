//! Describes a configuration's file as a JSON schema, for editors that complete and check it (taplo and the like for TOML).

use super::docs::{self, Doc, Documented, Without};
use super::{Key, Shape, keys_of, open_set, parameters_of};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// The schema of a configuration: every key with what it means, the words that it takes, its default and an example. What a key's text
/// may be beyond that (units, distributions, instants) is said in words only.
///
/// ```
/// let schema = elapse::keys::schema::<elapse::Scenario>();
/// assert_eq!(schema["properties"]["records"]["default"], "full");
/// assert_eq!(schema["required"], serde_json::json!(["name"]));
/// ```
pub fn schema<T: Documented + Serialize + DeserializeOwned>() -> Value {
    let least = toml::from_str::<T>(T::LEAST).ok();
    let page = Page {
        keys: keys_of::<T>(),
        defaults: least.and_then(|least| serde_json::to_value(least).ok()).unwrap_or_default(),
        doc: docs::of::<T>,
    };
    let mut whole = page.table("");
    whole.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    whole.insert("title".into(), T::WHAT.into());
    whole.into()
}

struct Page {
    keys: Vec<Key>,
    defaults: Value,
    doc: fn(&str) -> Option<&'static Doc>,
}

impl Page {
    /// A table with the keys that are right below a path.
    fn table(&self, path: &str) -> Map<String, Value> {
        let inside = |key: &&Key| key.path.rsplit_once('.').map_or("", |(above, _)| above) == path;
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for key in self.keys.iter().filter(inside) {
            let name = key.path.rsplit('.').next().unwrap_or(&key.path);
            properties.insert(name.to_string(), self.key(key));
            if (self.doc)(&key.path).is_some_and(|doc| doc.without == Without::Refused) {
                required.push(name.to_string());
            }
        }
        let mut table = Map::new();
        table.insert("type".into(), "object".into());
        table.insert("properties".into(), properties.into());
        if !required.is_empty() {
            table.insert("required".into(), required.into());
        }
        table.insert("additionalProperties".into(), false.into());
        table
    }

    fn key(&self, key: &Key) -> Value {
        let one = match (key.shape, open_set(&key.path)) {
            (Shape::Table(_), _) => self.table(&key.path),
            (_, Some(names)) => member(&key.path, &names),
            (Shape::Words(words), None) => Map::from_iter([("enum".into(), json!(words))]),
            (Shape::Path, None) => Map::from_iter([("type".into(), "string".into())]),
            (Shape::Value, None) => Map::new(),
        };
        let mut whole = match key.listed {
            true => Map::from_iter([("type".into(), "array".into()), ("items".into(), one.into())]),
            false => one,
        };
        let Some(doc) = (self.doc)(&key.path) else { return whole.into() };
        whole.insert("description".into(), doc.says.into());
        let default = key.path.split('.').try_fold(&self.defaults, |at, name| match at {
            Value::Array(list) => list.first()?.get(name),
            at => at.get(name),
        });
        if let Some(default) = default.filter(|_| {
            doc.without == Without::Default && !matches!(key.shape, Shape::Table(_)) && !key.listed
        }) {
            whole.insert("default".into(), default.clone());
        }
        let example = format!("x = {}", doc.example).parse::<toml::Table>().ok();
        if let Some(example) = example.and_then(|table| serde_json::to_value(&table["x"]).ok()) {
            whole.insert("examples".into(), json!([example]));
        }
        whole.into()
    }
}

/// What names a member of an open set: its name, or where it has parameters a table.
fn member(path: &str, names: &[&str]) -> Map<String, Value> {
    let parameters = parameters_of(path);
    // A span alone is a policy of keep-alive, and a share of records any number.
    let is_open = ["worker.keep_alive", "records"].contains(&path);
    let name = if is_open { json!({"type": "string", "examples": names}) } else { json!({"enum": names}) };
    let mut forms = vec![name];
    for policy in names {
        let own = parameters.iter().filter(|(of, ..)| of == policy);
        let mut properties = Map::from_iter([("policy".to_string(), json!({"const": policy}))]);
        properties.extend(own.map(|(_, key, says)| (key.to_string(), json!({"description": says}))));
        if properties.len() > 1 {
            forms.push(json!({
                "type": "object", "properties": properties, "required": ["policy"], "additionalProperties": false,
            }));
        }
    }
    match forms.len() {
        1 => forms.pop().and_then(|form| form.as_object().cloned()).unwrap_or_default(),
        _ => Map::from_iter([("anyOf".to_string(), forms.into())]),
    }
}
