//! How a sandbox comes to be, and how it goes: in tasks of their own, which come to their end whoever waits for them.

use super::across::until_ready;
use super::{DESTRUCTION, GRACE, Inner, Inside};
use elapse::backend::{CreateFault, Sandbox};
use elapse::rt::{self, sync};
use elapse_host::engine::{EngineFault, Spec};
use std::cell::Cell;
use std::fmt::Write;
use std::rc::Rc;

impl Inner {
    /// Creates a sandbox from a task of its own: whoever stops waiting, what was begun is finished, and then removed.
    pub(crate) async fn create(
        self: Rc<Inner>,
        spec: Spec,
        function: String,
        made_of: Rc<str>,
    ) -> Result<Sandbox, CreateFault> {
        if self.closed.get() {
            let why = Rc::from("the worker ends: it creates no more containers");
            return Err(CreateFault { transient: false, why });
        }
        let (tell, told) = sync::oneshot();
        let inner = Rc::clone(&self);
        let counted = UnderWay::begun(&self);
        rt::spawn_detached(async move {
            let _counted = counted;
            let created = inner.create_ready(spec, &function, &made_of).await;
            if let Err(Ok(unwanted)) = tell.send(created) {
                let had = inner.sandboxes.borrow_mut().try_remove(unwanted.0 as usize);
                if let Some(inside) = had {
                    inner.destroy(&inside).await;
                }
            }
        });
        let limit = self.config.create_timeout;
        match rt::timeout(limit + GRACE, told).await {
            Ok(Ok(created)) => created,
            Ok(Err(_)) => Err(CreateFault { transient: false, why: Rc::from("the runtime ended meanwhile") }),
            Err(rt::Elapsed) => {
                let why = format!("{} had no container ready within {limit}", self.engine.name());
                Err(CreateFault { transient: true, why: Rc::from(why) })
            }
        }
    }

    /// A sandbox that answers is there, until it is removed or ends by itself.
    pub(crate) fn enter(self: &Rc<Inner>, inside: Rc<Inside>) -> Sandbox {
        let key = self.sandboxes.borrow_mut().insert(Rc::clone(&inside));
        let inner = Rc::downgrade(self);
        rt::spawn_detached(async move {
            inside.sandbox.dies().await;
            let Some(inner) = inner.upgrade() else { return };
            // Removed, its number may be another's.
            let is_there = inner.sandboxes.borrow().get(key).is_some_and(|now| Rc::ptr_eq(now, &inside));
            if is_there {
                inner.fallen.borrow_mut().push_back(Sandbox(key as u64));
                inner.fell.notify_one();
            }
        });
        Sandbox(key as u64)
    }

    async fn create_ready(
        self: &Rc<Inner>,
        spec: Spec,
        function: &str,
        made_of: &str,
    ) -> Result<Sandbox, CreateFault> {
        let limit = self.config.create_timeout;
        let begun = rt::now();
        let due = begun + limit;
        let mut id = spec.id.clone();
        if let Some(why) = self.away.pauses(begun) {
            return Err(CreateFault { transient: true, why });
        }
        if let Some(keeper) = &self.keeper {
            keeper.creating(self.engine.name(), &id, function, made_of);
        }
        let sandbox = match self.engine.create(spec).await {
            Ok(sandbox) => {
                self.away.is_back(self.engine.name());
                sandbox
            }
            Err(fault) => {
                if fault.away {
                    self.away.is_away(self.engine.name(), &fault.why, rt::now());
                }
                self.is_gone(&id);
                return Err(create_fault(fault));
            }
        };
        if let (Some(keeper), Some(trace)) = (&self.keeper, sandbox.trace()) {
            if trace.id != id {
                // It was created before anybody knew for whom.
                keeper.creating(self.engine.name(), &trace.id, function, made_of);
                keeper.gone(&id);
                id.clone_from(&trace.id);
            }
            keeper.created(trace);
        }
        let started = rt::now();
        let inside = Rc::new(Inside { id, peer: self.peer(&*sandbox), sandbox, kills: Cell::new(0) });
        let (transient, mut why) = match rt::timeout(due.since(rt::now()), until_ready(&inside)).await {
            Ok(Ok(())) => {
                self.steps.set([started.since(begun), rt::now().since(started)]);
                return Ok(self.enter(inside));
            }
            Ok(Err(why)) => (false, why),
            Err(rt::Elapsed) => (true, format!("what runs in the container did not answer within {limit}")),
        };
        let said = inside.sandbox.last_words().await;
        if !said.is_empty() {
            let _ = write!(why, "; it said: {said}");
        }
        self.destroy(&inside).await;
        Err(CreateFault { transient, why: Rc::from(why) })
    }

    pub(crate) fn is_gone(&self, id: &str) {
        if let Some(keeper) = &self.keeper {
            keeper.gone(id);
        }
    }

    pub(crate) async fn destroy(&self, inside: &Inside) {
        let _turn = self.removals.acquire(1).await;
        match rt::timeout(DESTRUCTION, inside.sandbox.destroy()).await {
            Ok(Ok(())) => self.is_gone(&inside.id),
            Ok(Err(fault)) => tracing::warn!(target: "elapse", %fault, "a container was not removed cleanly"),
            Err(rt::Elapsed) => tracing::warn!(target: "elapse", "the removal of a container is stuck"),
        }
    }
}

/// Counts a creation or a removal until it has come to its end.
pub(crate) struct UnderWay(pub(crate) Rc<Inner>);

impl UnderWay {
    pub(crate) fn begun(inner: &Rc<Inner>) -> UnderWay {
        inner.under_way.set(inner.under_way.get() + 1);
        UnderWay(Rc::clone(inner))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
        if self.0.under_way.get() == 0 {
            self.0.quiet.notify_waiters();
        }
    }
}

fn create_fault(fault: EngineFault) -> CreateFault {
    CreateFault { transient: fault.transient, why: Rc::from(fault.why) }
}
