//! The keys of configurations: which there are, which words they take, and what those of a scenario mean.

mod docs;
mod plan;
mod schema;
mod shape;

pub use docs::{DOCS, Doc, Documented, Without, key, must, of, open};
pub use plan::{commented, faults_of, from_anywhere};
pub use schema::schema;
pub use shape::{Key, Shape, keys_of};

use crate::base::Member;
use crate::scenario::Scenario;
use crate::{backend, controller, report, worker};
use toml::{Table, Value};

/// The words that a key of a scenario can take, where they can be listed; empty for all others.
///
/// Those of policies are what the registries know, policies from outside included.
pub fn words_of(key: &str) -> Vec<&'static str> {
    if let Some(names) = open_set(key) {
        return names;
    }
    let found = keys_of::<Scenario>().into_iter().find(|k| k.path == key);
    match found.map(|k| k.shape) {
        Some(Shape::Words(words)) => words.to_vec(),
        _ => Vec::new(),
    }
}

/// The names that a key can take which serde knows nothing of.
fn open_set(key: &str) -> Option<Vec<&'static str>> {
    Some(match key {
        "worker.keep_alive" => worker::keep_alive::names(),
        "worker.eviction" => worker::eviction::names(),
        "worker.queue.policy" => worker::queue::names(),
        // A controller daemon's key has no table above it.
        "controller.balancer" | "balancer" => controller::balancer::names(),
        "worker.backends" | "function.backends" => backend::NAMES.to_vec(),
        "records" => report::Records::WORDS.to_vec(),
        _ => return None,
    })
}

/// The parameters of the policies that a key can name: the policy, the parameter, and what it means.
pub(crate) fn parameters_of(key: &str) -> Vec<(&'static str, &'static str, &'static str)> {
    fn all<M>(members: Vec<Member<M>>) -> Vec<(&'static str, &'static str, &'static str)> {
        let of = |member: &Member<M>| {
            let name = member.name;
            member.parameters.iter().map(move |(parameter, says)| (name, *parameter, *says))
        };
        members.iter().flat_map(of).collect()
    }
    match key {
        "worker.keep_alive" => all(worker::keep_alive::members()),
        "worker.eviction" => all(worker::eviction::members()),
        "worker.queue.policy" => all(worker::queue::members()),
        "controller.balancer" | "balancer" => all(controller::balancer::members()),
        _ => Vec::new(),
    }
}

/// The word of a key that is meant by one in capitals.
pub(crate) fn folded(key: &Key, word: &str) -> Option<&'static str> {
    let words = match (open_set(&key.path), key.shape) {
        (Some(names), _) => names,
        (None, Shape::Words(words)) => words.to_vec(),
        _ => return None,
    };
    words.into_iter().find(|known| known.eq_ignore_ascii_case(word) && *known != word)
}

/// Calls `change` with every value of a table that stands at one of these keys; of a list with each element.
pub(crate) fn each(table: &mut Table, keys: &[Key], change: &mut impl FnMut(&Key, &mut Value)) {
    for key in keys.iter().filter(|key| !matches!(key.shape, Shape::Table(_))) {
        let path: Vec<&str> = key.path.split('.').collect();
        within(table, &path, &mut |value| match value {
            Value::Array(list) => list.iter_mut().for_each(|value| change(key, value)),
            value => change(key, value),
        });
    }
}

fn within(table: &mut Table, path: &[&str], change: &mut impl FnMut(&mut Value)) {
    let Some((head, rest)) = path.split_first() else { return };
    let Some(value) = table.get_mut(*head) else { return };
    if rest.is_empty() {
        return change(value);
    }
    match value {
        Value::Table(inner) => within(inner, rest, change),
        Value::Array(list) => {
            list.iter_mut().filter_map(Value::as_table_mut).for_each(|inner| within(inner, rest, change));
        }
        _ => {}
    }
}
