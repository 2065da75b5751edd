//! Tasks created ahead of need.
//!
//! Creating a task is most of a cold start; starting one that was created is the rest. So of each kind of sandbox that
//! functions need (the same image, command, limits and network) some are kept created, and each that is taken is made
//! up for in the background, one at a time: creation is work for the processor, and four at once take four times as long.

use super::Inner;
use super::task::Task;
use crate::engine::Spec;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tokio::sync::Mutex;

/// See the module.
pub(super) struct Pool {
    inner: Rc<Inner>,
    /// How many of each kind are to be there.
    each: usize,
    kinds: RefCell<Vec<Kind>>,
    made: Cell<u64>,
    /// Held while one is made.
    making: Mutex<()>,
}

struct Kind {
    /// Without an id.
    spec: Spec,
    ready: Vec<Rc<Task>>,
    /// Making one failed: no more are made ahead until one was made on demand.
    failed: bool,
}

/// How many kinds are kept ahead at most: those that were wanted last.
const MOST: usize = 64;

/// A sandbox's kind: everything but its id.
fn kind_of(spec: &Spec) -> Spec {
    Spec { id: String::new(), ..spec.clone() }
}

impl Pool {
    pub(super) fn new(inner: Rc<Inner>, each: usize) -> Pool {
        Pool { inner, each, kinds: RefCell::default(), made: Cell::new(0), making: Mutex::new(()) }
    }

    /// Sandboxes like this will be needed.
    pub(super) fn want(self: &Rc<Self>, spec: &Spec) {
        // A plan is checked outside of a runtime, where nothing can be made.
        if self.each == 0 || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let kind = kind_of(spec);
        let mut kinds = self.kinds.borrow_mut();
        let mut wanted = match kinds.iter().position(|k| k.spec == kind) {
            Some(at) => kinds.remove(at),
            None => Kind { spec: kind, ready: Vec::new(), failed: false },
        };
        wanted.failed = false;
        kinds.push(wanted);
        // Whoever registers chooses how many kinds there are.
        let given_up = if kinds.len() > MOST { kinds.remove(0).ready } else { Vec::new() };
        drop(kinds);
        let pool = Rc::clone(self);
        drop(tokio::task::spawn_local(async move {
            for task in given_up {
                // What cannot be removed is told by the sweep.
                let _ = task.remove().await;
            }
            pool.fill().await;
        }));
    }

    /// One of this kind that was ready, started; it has an id of its own.
    pub(super) async fn take(self: &Rc<Self>, spec: &Spec) -> Option<Rc<Task>> {
        if self.each == 0 {
            return None;
        }
        let kind = kind_of(spec);
        let mut taken = None;
        while taken.is_none() {
            let task = self.kinds.borrow_mut().iter_mut().find(|k| k.spec == kind)?.ready.pop();
            let Some(task) = task else { break };
            match task.start().await {
                Ok(()) => taken = Some(task),
                // It died meanwhile, or the daemon was started anew.
                Err(_) => drop(task.remove().await),
            }
        }
        self.want(spec);
        taken
    }

    /// How many are ready.
    pub(super) fn ready(&self) -> usize {
        self.kinds.borrow().iter().map(|kind| kind.ready.len()).sum()
    }

    /// Makes what is missing.
    async fn fill(&self) {
        loop {
            let _one = self.making.lock().await;
            let missing = self.kinds.borrow().iter().find_map(|kind| {
                let short = !kind.failed && kind.ready.len() < self.each;
                short.then(|| kind.spec.clone())
            });
            let Some(kind) = missing else { return };
            let number = self.made.get() + 1;
            self.made.set(number);
            // Of this life of the worker, so that no id of an earlier one comes again.
            let life = std::process::id();
            let made = self.inner.make(Spec { id: format!("p{life}-{number}"), ..kind.clone() }).await;
            if let Some(task) = self.keep(&kind, made.ok()) {
                // The pool was emptied meanwhile. What cannot be removed is told by the sweep.
                let _ = task.remove().await;
            }
        }
    }

    /// Puts a task that was made where it is taken from, or notes that none could be made; gives it back if its kind is
    /// no longer wanted.
    fn keep(&self, kind: &Spec, made: Option<Rc<Task>>) -> Option<Rc<Task>> {
        let mut kinds = self.kinds.borrow_mut();
        let Some(known) = kinds.iter_mut().find(|k| k.spec == *kind) else { return made };
        match made {
            Some(task) => known.ready.push(task),
            None => known.failed = true,
        }
        None
    }

    /// Removes what is ready, and wants nothing any more.
    pub(super) async fn empty(&self) {
        let kinds = self.kinds.take();
        // What is being made at this moment finds no kind any more, and is removed by who makes it. Where that waits for a
        // registry it is not waited for; the next sweep removes what comes of it.
        const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
        let _one = tokio::time::timeout(PATIENCE, self.making.lock()).await;
        for task in kinds.into_iter().flat_map(|kind| kind.ready) {
            // What cannot be removed is told by the sweep.
            let _ = task.remove().await;
        }
    }
}
