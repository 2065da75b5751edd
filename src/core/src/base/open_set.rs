//! Open sets: members of this crate, each in a file of its own and a line in its set's list, and members that a program brings.

use super::{Fault, PolicyConfig, Result, nearest};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A member of an open set. `M` makes it from what a configuration says.
#[derive(Clone, Copy, Debug)]
pub struct Member<M> {
    /// Its name in configurations.
    pub name: &'static str,
    /// Its parameters: the key, and what it means, with its default in brackets.
    pub parameters: &'static [(&'static str, &'static str)],
    /// What makes it.
    pub make: M,
}

impl<M> Member<M> {
    /// One without parameters.
    pub const fn plain(name: &'static str, make: M) -> Member<M> {
        Member { name, parameters: &[], make }
    }
}

/// A set of policies of one kind, to which a program may add its own before it reads a scenario.
pub struct OpenSet<M: 'static> {
    /// What its members are, for faults: `eviction policy`.
    kind: &'static str,
    ours: &'static [Member<M>],
    added: Mutex<Vec<Member<M>>>,
}

impl<M: Copy> OpenSet<M> {
    /// A set to which nothing has been added.
    pub const fn new(kind: &'static str, ours: &'static [Member<M>]) -> OpenSet<M> {
        OpenSet { kind, ours, added: Mutex::new(Vec::new()) }
    }

    /// Adds a member. From then on scenarios and flags may name it.
    ///
    /// # Errors
    /// If there is one of this name.
    pub fn add(&self, member: Member<M>) -> Result<()> {
        if self.names().contains(&member.name) {
            return Err(Fault::usage(format!("there is already a {} called '{}'", self.kind, member.name)));
        }
        self.added().push(member);
        Ok(())
    }

    /// All members, ours first.
    pub fn members(&self) -> Vec<Member<M>> {
        self.ours.iter().chain(self.added().iter()).copied().collect()
    }

    /// All names, ours first.
    pub fn names(&self) -> Vec<&'static str> {
        self.members().iter().map(|member| member.name).collect()
    }

    /// What makes the member that a configuration names.
    ///
    /// # Errors
    /// One sentence about a name or a parameter that is not known, with the nearest known one.
    pub fn maker(&self, config: &PolicyConfig) -> std::result::Result<M, String> {
        let (kind, name) = (self.kind, config.name());
        let unknown = |what: &str, word: &str, known: &[&'static str]| {
            let hint = nearest(word, known.iter().copied()).map(|n| format!("; did you mean '{n}'?"));
            format!("{what} '{word}'{} (known: {})", hint.unwrap_or_default(), known.join(", "))
        };
        let members = self.members();
        let Some(member) = members.iter().find(|member| member.name == name) else {
            return Err(unknown(&format!("unknown {kind}"), name, &self.names()));
        };
        let known: Vec<&str> = member.parameters.iter().map(|(key, _)| *key).collect();
        match config.given().find(|key| !known.contains(key)) {
            None => Ok(member.make),
            Some(key) if known.is_empty() => Err(format!("{kind} '{name}' has no parameters, so no '{key}'")),
            Some(key) => Err(unknown(&format!("{kind} '{name}' has no parameter"), key, &known)),
        }
    }

    /// A sentence about a member that cannot be made.
    pub fn refusal(&self, config: &PolicyConfig, why: &str) -> String {
        format!("{} '{}': {why}", self.kind, config.name())
    }

    fn added(&self) -> MutexGuard<'_, Vec<Member<M>>> {
        // The list is whole at every instant, whatever panicked.
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
