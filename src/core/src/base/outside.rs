//! Members of open sets that come from outside of this crate: a policy that a program brings, under a name of its own.

use super::{Fault, Result, nearest};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a program adds to a set before it reads a scenario. `M` makes a member.
pub struct Outside<M: 'static> {
    /// What its members are, for faults: `eviction policy`.
    what: &'static str,
    /// The names of this crate's own members.
    ours: &'static [&'static str],
    added: Mutex<Vec<(&'static str, M)>>,
}

impl<M: Copy> Outside<M> {
    /// A set to which nothing has been added.
    pub const fn new(what: &'static str, ours: &'static [&'static str]) -> Outside<M> {
        Outside { what, ours, added: Mutex::new(Vec::new()) }
    }

    /// Adds a member. From then on scenarios and flags may name it.
    ///
    /// # Errors
    /// If there is one of this name.
    pub fn add(&self, name: &'static str, make: M) -> Result<()> {
        if self.names().contains(&name) {
            return Err(Fault::usage(format!("there is already a {} called '{name}'", self.what)));
        }
        self.added().push((name, make));
        Ok(())
    }

    /// All names, ours first.
    pub fn names(&self) -> Vec<&'static str> {
        self.ours.iter().copied().chain(self.added().iter().map(|(name, _)| *name)).collect()
    }

    /// What makes the added member of this name.
    pub fn get(&self, name: &str) -> Option<M> {
        self.added().iter().find(|(n, _)| *n == name).map(|(_, make)| *make)
    }

    /// Whether there is a member of this name.
    ///
    /// # Errors
    /// One sentence, with the nearest known one.
    pub fn check(&self, name: &str) -> Result<(), String> {
        let names = self.names();
        if names.contains(&name) {
            return Ok(());
        }
        let hint = nearest(name, names.iter().copied()).map(|n| format!("; did you mean '{n}'?"));
        Err(format!(
            "unknown {} '{name}'{} (known: {})",
            self.what,
            hint.unwrap_or_default(),
            names.join(", ")
        ))
    }

    fn added(&self) -> MutexGuard<'_, Vec<(&'static str, M)>> {
        // The list is whole at every instant, whatever panicked.
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
