//! What a daemon knows across its lives: registrations and (of a worker) containers, in a journal under its state folder.
//!
//! A registration is acknowledged when it is durable. A container is entered before it is created and left when it is gone,
//! so what is in the journal is never less than what is on the host. Its process is trusted only with the boot and the
//! start time that were entered with it.

use super::allowed::Allowed;
use crate::journal::Journal;
use elapse::base::{Fault, Result};
use elapse::load::FunctionConfig;
use elapse_host::engine::SandboxId;
use elapse_live::backend::SandboxJournal;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// An entry of the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Entry {
    /// By the worker's operator.
    Registered(Box<FunctionConfig>),
    /// By who is bound by the allow-lists.
    Bound(Box<FunctionConfig>),
    Deregistered(String),
    Creating {
        id: String,
        backend: String,
        function: String,
        #[serde(default)]
        made_of: String,
    },
    Created {
        id: String,
        pid: i32,
        started: u64,
        boot: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<u32>,
    },
    Gone {
        id: String,
    },
}

/// A function that was registered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Registered {
    pub(super) config: FunctionConfig,
    /// Whether who registered it was bound by the allow-lists; so it is at every start.
    pub(super) bound: bool,
}

/// A container that an earlier life had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) backend: String,
    pub(super) function: String,
    /// What it was made of, as its backend tells that.
    pub(super) made_of: String,
    /// None: it was killed while it created it.
    pub(super) trace: Option<SandboxId>,
}

/// See the module.
pub(super) struct State {
    journal: RefCell<Journal<Entry>>,
    known: RefCell<Known>,
    /// Functions whose end is entered, and perhaps not durable.
    unsure: RefCell<BTreeMap<String, u64>>,
    doubts: Cell<u64>,
    /// Held as long as the daemon lives.
    _lock: File,
}

#[derive(Default)]
struct Known {
    functions: BTreeMap<String, Registered>,
    containers: BTreeMap<String, Left>,
}

impl Entry {
    fn of(function: &FunctionConfig, bound: bool) -> Entry {
        let function = Box::new(function.clone());
        if bound { Entry::Bound(function) } else { Entry::Registered(function) }
    }
}

impl Known {
    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Registered(config) => self.registered(*config, false),
            Entry::Bound(config) => self.registered(*config, true),
            Entry::Deregistered(name) => drop(self.functions.remove(&name)),
            Entry::Creating { id, backend, function, made_of } => {
                self.containers.insert(id, Left { backend, function, made_of, trace: None });
            }
            Entry::Created { id, pid, started, boot, network } => {
                if let Some(left) = self.containers.get_mut(&id) {
                    left.trace = Some(SandboxId { id, pid, started, boot, network });
                }
            }
            Entry::Gone { id } => drop(self.containers.remove(&id)),
        }
    }

    fn registered(&mut self, config: FunctionConfig, bound: bool) {
        self.functions.insert(config.name.clone(), Registered { config, bound });
    }

    /// The entries that make exactly this.
    fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> =
            self.functions.values().map(|f| Entry::of(&f.config, f.bound)).collect();
        for (id, left) in &self.containers {
            let Left { backend, function, made_of, .. } = left.clone();
            entries.push(Entry::Creating { id: id.clone(), backend, function, made_of });
            if let Some(SandboxId { id, pid, started, boot, network }) = left.trace.clone() {
                entries.push(Entry::Created { id, pid, started, boot, network });
            }
        }
        entries
    }
}

/// A journal shorter than this is not compacted while the daemon runs.
const SHORT: u64 = 1 << 20;

impl State {
    /// Opens the state in a folder, which is made if it is not there. What of it was damaged is told in the log.
    ///
    /// # Errors
    /// No permission, another daemon that has it, or a journal of a newer version.
    pub(super) fn open(folder: &Path) -> Result<State> {
        std::fs::create_dir_all(folder).map_err(|e| Fault::writing(folder, &e))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(|e| Fault::writing(&path, &e))?;
        lock.try_lock().map_err(|e| {
            Fault::host(format!(
                "another daemon has the state in {} ({e}); end it, or take another folder (state)",
                folder.display()
            ))
        })?;
        let opened = Journal::<Entry>::open(&folder.join("journal"))?;
        for lost in &opened.lost {
            tracing::warn!(target: "elapse", lost, "the journal was damaged; the rest of it is kept");
        }
        let mut known = Known::default();
        opened.entries.into_iter().for_each(|entry| known.apply(entry));
        let mut journal = opened.journal;
        compact(&mut journal, &known.entries());
        Ok(State {
            journal: RefCell::new(journal),
            known: RefCell::new(known),
            unsure: RefCell::default(),
            doubts: Cell::default(),
            _lock: lock,
        })
    }

    /// Functions that are registered.
    pub(super) fn functions(&self) -> Vec<Registered> {
        self.known.borrow().functions.values().cloned().collect()
    }

    /// Whether a function of this name would be registered again at the next start, as far as can be told.
    pub(super) fn remembers(&self, name: &str) -> bool {
        self.known.borrow().functions.contains_key(name) || self.unsure.borrow().contains_key(name)
    }

    /// Containers that earlier lives had and that nobody has seen go.
    pub(super) fn left(&self) -> BTreeMap<String, Left> {
        self.known.borrow().containers.clone()
    }

    fn add(&self, entry: Entry) -> Result<()> {
        let mut journal = self.journal.borrow_mut();
        journal.append(&entry)?;
        let mut known = self.known.borrow_mut();
        known.apply(entry);
        if journal.bytes() > SHORT {
            let entries = known.entries();
            // What still holds may be long itself: it is not written again and again.
            if (entries.len() as u64) < journal.entries() / 2 {
                compact(&mut journal, &entries);
            }
        }
        Ok(())
    }

    /// A function is registered; done when that is durable.
    pub(super) async fn registered(&self, function: &FunctionConfig, bound: bool) -> Result<()> {
        let same = |known: &Registered| known.config == *function && known.bound == bound;
        let is_known = self.known.borrow().functions.get(&function.name).is_some_and(same);
        if !is_known {
            self.add(Entry::of(function, bound))?;
        }
        self.durable().await
    }

    /// A function is registered no more; done when that is durable.
    pub(super) async fn deregistered(&self, name: &str) -> Result<()> {
        // Its number: a later one of the same name is not made sure by an earlier one.
        let mine = self.doubts.get() + 1;
        self.doubts.set(mine);
        self.unsure.borrow_mut().insert(name.to_string(), mine);
        self.add(Entry::Deregistered(name.to_string()))?;
        self.durable().await?;
        self.unsure.borrow_mut().retain(|other, number| other != name || *number != mine);
        Ok(())
    }

    async fn durable(&self) -> Result<()> {
        if self.journal.borrow().is_doubtful() {
            let entries = self.known.borrow().entries();
            return self.journal.borrow_mut().compact(&entries);
        }
        let sync = self.journal.borrow().syncing()?;
        let synced = elapse_host::blocking(sync).await.map_err(Fault::bug)?;
        // The device's refusal may have been told to another who asked at the same time.
        if synced.is_ok() && self.journal.borrow().is_doubtful() {
            let entries = self.known.borrow().entries();
            return self.journal.borrow_mut().compact(&entries);
        }
        synced
    }

    /// What is not among these ids is gone: the host was swept.
    pub(super) fn only(&self, kept: &[String]) {
        self.known.borrow_mut().containers.retain(|id, _| kept.contains(id));
        compact(&mut self.journal.borrow_mut(), &self.known.borrow().entries());
    }

    fn note(&self, entry: Entry) {
        // The worker goes on: a container that is not entered is removed at the next start instead of taken over.
        if let Err(fault) = self.add(entry) {
            tracing::error!(target: "elapse", %fault, "the journal cannot be written");
        }
    }
}

/// Writes what still holds in the place of all that was entered, where the disk has room for it; else that stays, which says no less.
fn compact(journal: &mut Journal<Entry>, entries: &[Entry]) {
    if let Err(fault) = journal.compact(entries) {
        tracing::warn!(target: "elapse", %fault, "the journal stays as long as it is");
    }
}

impl SandboxJournal for State {
    fn creating(&self, backend: &str, id: &str, function: &str, made_of: &str) {
        let (id, backend) = (id.to_string(), backend.to_string());
        let (function, made_of) = (function.to_string(), made_of.to_string());
        self.note(Entry::Creating { id, backend, function, made_of });
    }

    fn created(&self, trace: SandboxId) {
        let SandboxId { id, pid, started, boot, network } = trace;
        self.note(Entry::Created { id, pid, started, boot, network });
    }

    fn gone(&self, id: &str) {
        self.note(Entry::Gone { id: id.to_string() });
    }
}

/// The functions of the configuration, and those that were registered in earlier lives and still may be.
pub(crate) fn known_functions(
    configured: &[FunctionConfig],
    allowed: &Allowed,
    own: &[PathBuf],
    state: Option<&State>,
) -> Vec<Registered> {
    let mut all: Vec<Registered> =
        configured.iter().map(|f| Registered { config: f.clone(), bound: false }).collect();
    for function in state.map(State::functions).unwrap_or_default() {
        let name = &function.config.name;
        match configured.iter().find(|f| f.name == *name) {
            None => match allowed.admits(&function.config, own) {
                Err(why) if function.bound => tracing::warn!(target: "elapse", why, "not registered again"),
                _ => all.push(function),
            },
            Some(ours) if *ours == function.config => {}
            Some(_) => tracing::warn!(
                target: "elapse", function = name, "the configuration's goes before the one that was registered"
            ),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_known_is_known_again_however_often_it_was_compacted() {
        let folder = std::env::temp_dir().join(format!("elapse-state-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let trace =
            |id: &str| SandboxId { id: id.into(), pid: 7, started: 9, boot: "b".into(), network: Some(3) };
        for round in 0..3 {
            let state = State::open(&folder).unwrap();
            assert_eq!(state.left().len(), round);
            let second = State::open(&folder).map(drop).unwrap_err().to_string();
            assert!(second.contains("another daemon has the state"), "{second}");
            for i in 0..200 {
                let id = format!("{round}-{i}");
                state.creating("process", &id, "f", "{}");
                state.created(trace(&id));
                if i > 0 {
                    state.gone(&id);
                }
            }
        }
        let state = State::open(&folder).unwrap();
        assert_eq!(state.left().keys().collect::<Vec<_>>(), ["0-0", "1-0", "2-0"]);
        assert_eq!(state.left()["1-0"].trace, Some(trace("1-0")));
        state.only(&["1-0".into()]);
        drop(state);
        assert_eq!(State::open(&folder).unwrap().left().len(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// Acknowledged means durable: what the device refused is not, until all of it has been written again.
    #[test]
    fn a_registration_that_the_device_refused_is_not_acknowledged() {
        let folder = std::env::temp_dir().join(format!("elapse-refused-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let function: FunctionConfig =
            toml::from_str("name = \"f\"\nmemory = \"64MiB\"\nduration = \"1s\"").unwrap();
        let state = State::open(&folder).unwrap();
        let runtime = elapse::rt::Live::new().unwrap();
        runtime.block_on(async {
            state.journal.borrow_mut().device_fails();
            let refused = state.registered(&function, true).await.unwrap_err().to_string();
            assert!(refused.contains("journal"), "{refused}");
            let aside = folder.with_extension("aside");
            std::fs::rename(&folder, &aside).unwrap();
            state.registered(&function, true).await.expect_err("there is no folder to write it to");
            std::fs::rename(&aside, &folder).unwrap();
            state.registered(&function, true).await.expect("written again as a whole");
            state.journal.borrow_mut().device_fails();
            state.deregistered("f").await.expect_err("refused");
            assert!(state.remembers("f"), "it may come back");
        });
        drop(state);
        assert_eq!(State::open(&folder).unwrap().functions(), [Registered { config: function, bound: true }]);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
