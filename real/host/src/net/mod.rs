//! Networks of sandboxes' own.
//!
//! A namespace is made ahead of need: joined to one of the worker's bridges, with an address, everything in it up. A
//! sandbox leases one and, when it has ended, gives it back for the next; what is not needed is removed off the hot
//! path. From inside neither the worker's other sandboxes are reached nor the host itself, unless the host is to be (`wall`); whether
//! the host forwards anything beyond is the host's choice, and nothing here changes it. All of it works by rtnetlink on a thread of its own, made when the
//! first function asks for a network, and bears the worker's name: links by their alias, namespaces by their path.

mod ops;
mod plan;
mod wall;

pub use plan::Subnet;

use crate::engine::EngineFault;
use crate::threads::{self, ThreadHeartbeat};
use ops::{NetlinkOps, Slot};
use plan::Names;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

type Deed = Box<dyn FnOnce(&mut NetlinkOps) + Send>;

/// The networks of a worker.
pub struct Networks {
    worker: String,
    subnet: Subnet,
    /// How many namespaces are to be ready.
    ahead: usize,
    /// Whether sandboxes may begin connections to the host.
    reach_host: Cell<bool>,
    thread: RefCell<Option<Arc<Queue>>>,
    ready: RefCell<Vec<Slot>>,
    /// Slots that sandboxes have.
    held: RefCell<BTreeSet<u32>>,
    being_made: Cell<usize>,
}

/// A network that a sandbox has; removed when it is dropped, kept for the next by [`give_back`](Lease::give_back).
pub struct Lease {
    networks: Rc<Networks>,
    slot: Option<Slot>,
}

/// What the thread is to do; making comes before removing.
#[derive(Default)]
struct Queue {
    deeds: Mutex<Deeds>,
    more: Condvar,
}

#[derive(Default)]
struct Deeds {
    soon: VecDeque<Deed>,
    later: VecDeque<Deed>,
    /// Nothing more is done, and why.
    over: Option<String>,
}

impl Networks {
    /// None is made yet.
    pub fn new(worker: &str, subnet: Subnet, ahead: usize) -> Rc<Networks> {
        Rc::new(Networks {
            worker: worker.to_string(),
            subnet,
            ahead,
            reach_host: Cell::new(false),
            thread: RefCell::default(),
            ready: RefCell::default(),
            held: RefCell::default(),
            being_made: Cell::new(0),
        })
    }

    /// Lets sandboxes begin connections to the host, from the first bridge on.
    pub fn reaching_host(self: Rc<Self>, reached: bool) -> Rc<Networks> {
        self.reach_host.set(reached);
        self
    }

    /// Whether this process may make networks; those that are to be ready are then made, if they are not yet.
    ///
    /// # Errors
    /// Why not.
    pub fn check(self: &Rc<Self>) -> Result<(), EngineFault> {
        if !crate::is_root() {
            return Err(EngineFault::lasting(
                "a network of its own needs a worker that is root; network = \"host\" shares the host's, \"none\" has none",
            ));
        }
        // Outside of a runtime (a plan is only checked) there is nobody to make them.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.refill();
        }
        Ok(())
    }

    /// A network for a sandbox: one that is ready, else a new one.
    ///
    /// # Errors
    /// Why none could be made; nothing of it is left.
    pub async fn lease(self: &Rc<Self>) -> Result<Lease, EngineFault> {
        let ready = self.ready.borrow_mut().pop();
        let slot = match ready {
            Some(slot) => slot,
            None => self.ask(NetlinkOps::make).await?,
        };
        let lease = self.leased(slot);
        self.refill();
        Ok(lease)
    }

    /// Joins the namespace of a process, which another made, to a bridge.
    ///
    /// # Errors
    /// Why it could not be done; nothing of it is left.
    pub async fn attach(self: &Rc<Self>, pid: i32) -> Result<Lease, EngineFault> {
        let slot = self.ask(move |ops| ops.attach(pid)).await?;
        Ok(self.leased(slot))
    }

    /// A slot that a sandbox of an earlier life has.
    ///
    /// # Errors
    /// If something of it is gone.
    pub async fn adopt(self: &Rc<Self>, slot: u32) -> Result<Lease, EngineFault> {
        let slot = self.ask(move |ops| ops.found(slot)).await?;
        Ok(self.leased(slot))
    }

    /// Makes namespaces that an earlier life left whole, and that no sandbox has, ready for use, as many as are to be.
    ///
    /// # Errors
    /// If they could not be looked for.
    pub async fn reload(self: &Rc<Self>) -> Result<usize, EngineFault> {
        if !crate::is_root() {
            return Ok(0);
        }
        let whole = self.ask(|ops| Ok(ops.whole())).await?;
        let held = self.held.borrow();
        let mut ready = self.ready.borrow_mut();
        let free = whole.into_iter().filter(|slot| !held.contains(&slot.number));
        ready.extend(free.take(self.ahead.saturating_sub(self.being_made.get())));
        Ok(ready.len())
    }

    /// Removes everything of the worker's that is neither leased nor ready; what it was, in words.
    ///
    /// # Errors
    /// What could not be removed.
    pub async fn sweep(self: &Rc<Self>) -> Result<Vec<String>, EngineFault> {
        if !crate::is_root() {
            return Ok(Vec::new());
        }
        let mut kept = self.held.borrow().clone();
        kept.extend(self.ready.borrow().iter().map(|slot| slot.number));
        self.ask(move |ops| ops.sweep(&kept)).await
    }

    /// Removes everything of the worker's that is not leased; what of it a sandbox should have given back, in words.
    ///
    /// # Errors
    /// What could not be removed.
    pub async fn clear(self: &Rc<Self>) -> Result<Vec<String>, EngineFault> {
        if self.thread.borrow().is_none() {
            return Ok(Vec::new());
        }
        // What is being made would come after the sweep.
        while self.being_made.get() > 0 {
            self.ask(|_| Ok(())).await?;
            tokio::task::yield_now().await;
        }
        for slot in self.ready.take() {
            self.queue()?.add(false, move |ops| drop(ops.remove(&slot)));
        }
        self.ask_in_turn(false, |_| Ok(())).await?;
        let mut left = self.sweep().await?;
        // A bridge goes when its last slot has gone, and not before the worker.
        left.retain(|what| !what.starts_with(ops::BRIDGE));
        Ok(left)
    }

    /// Makes the thread panic in the midst of making a namespace: for tests of what follows.
    ///
    /// # Errors
    /// Always: what whoever asked is told.
    pub async fn inject_panic(&self) -> Result<(), EngineFault> {
        self.ask(NetlinkOps::breaks).await
    }

    fn leased(self: &Rc<Self>, slot: Slot) -> Lease {
        self.held.borrow_mut().insert(slot.number);
        Lease { networks: Rc::clone(self), slot: Some(slot) }
    }

    /// Makes what is missing of those that are to be ready, in the background.
    fn refill(self: &Rc<Self>) {
        while self.ready.borrow().len() + self.being_made.get() < self.ahead {
            self.being_made.set(self.being_made.get() + 1);
            let networks = Rc::clone(self);
            drop(tokio::task::spawn_local(async move {
                let made = networks.ask(NetlinkOps::make).await;
                networks.being_made.set(networks.being_made.get() - 1);
                // A fault shows again, and is told, to the sandbox that then has to have one made.
                if let Ok(slot) = made {
                    networks.ready.borrow_mut().push(slot);
                }
            }));
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        deed: impl FnOnce(&mut NetlinkOps) -> Result<T, String> + Send + 'static,
    ) -> Result<T, EngineFault> {
        self.ask_in_turn(true, deed).await
    }

    async fn ask_in_turn<T: Send + 'static>(
        &self,
        soon: bool,
        deed: impl FnOnce(&mut NetlinkOps) -> Result<T, String> + Send + 'static,
    ) -> Result<T, EngineFault> {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue()?;
        queue.add(soon, move |ops| drop(answer.send(deed(ops))));
        match answered.await {
            Ok(done) => done.map_err(EngineFault::passing),
            Err(_) => Err(match &queue.lock().over {
                Some(why) => EngineFault::lasting(why.clone()),
                None => {
                    EngineFault::passing("the thread that makes networks panicked at it; the log says why")
                }
            }),
        }
    }

    fn queue(&self) -> Result<Arc<Queue>, EngineFault> {
        if let Some(queue) = &*self.thread.borrow() {
            return Ok(Arc::clone(queue));
        }
        let queue = Arc::new(Queue::default());
        let (names, subnet, its) = (Names::of(&self.worker), self.subnet, Arc::clone(&queue));
        let reach_host = self.reach_host.get();
        // After a panic what is started anew takes over what the kernel has, as after a restart.
        let mut home = None;
        let work = move |pulse: &ThreadHeartbeat| {
            let opened = match &home {
                Some(home) => Ok(home),
                None => ops::here().map(|here| &*home.insert(here)),
            };
            let home = opened.and_then(|home| home.try_clone().map_err(|e| e.to_string()));
            match home.and_then(|home| NetlinkOps::open(names.clone(), subnet, reach_host, home)) {
                Ok(mut ops) => its.work(&mut ops, pulse),
                // Whoever asked is told when what they asked is dropped.
                Err(why) => its.end(why),
            }
        };
        threads::start("network", work)
            .map_err(|e| EngineFault::lasting(format!("cannot start a thread: {e}")))?;
        *self.thread.borrow_mut() = Some(Arc::clone(&queue));
        Ok(queue)
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        if let Some(queue) = self.thread.borrow().as_ref() {
            queue.lock().over = Some("the worker's networks are gone".into());
            queue.more.notify_one();
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Deeds> {
        self.deeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, soon: bool, deed: impl FnOnce(&mut NetlinkOps) + Send + 'static) {
        let mut deeds = self.lock();
        if deeds.over.is_some() {
            return;
        }
        if soon {
            deeds.soon.push_back(Box::new(deed))
        } else {
            deeds.later.push_back(Box::new(deed))
        }
        self.more.notify_one();
    }

    /// Does what is asked, until nobody will ask any more and all is done.
    fn work(&self, ops: &mut NetlinkOps, pulse: &ThreadHeartbeat) {
        loop {
            let mut deeds = self.lock();
            let deed = loop {
                if let Some(deed) = deeds.soon.pop_front().or_else(|| deeds.later.pop_front()) {
                    break deed;
                }
                if deeds.over.is_some() {
                    return;
                }
                deeds = self.more.wait(deeds).unwrap_or_else(PoisonError::into_inner);
            };
            drop(deeds);
            pulse.works();
            deed(ops);
        }
    }

    fn end(&self, why: String) {
        let mut deeds = self.lock();
        deeds.over = Some(why);
        deeds.soon.clear();
        deeds.later.clear();
    }
}

impl Lease {
    /// Its number, by which a later life finds it.
    pub fn number(&self) -> u32 {
        self.slot.as_ref().map_or(0, |slot| slot.number)
    }

    /// This port of the sandbox.
    pub fn port(&self, port: u16) -> SocketAddr {
        let address = self.slot.as_ref().map_or(Ipv4Addr::UNSPECIFIED, |slot| slot.address);
        SocketAddr::from((address, port))
    }

    /// Where its namespace is; none where a process brought its own.
    pub fn namespace(&self) -> Option<&Path> {
        self.slot.as_ref()?.namespace.as_deref()
    }

    /// Nothing is in it any more: the next sandbox may have it.
    pub fn give_back(mut self) {
        let networks = Rc::clone(&self.networks);
        // More than are to be ready are of no use, and one that a process brought has gone with it.
        if networks.ready.borrow().len() < networks.ahead
            && let Some(slot) = self.slot.take_if(|slot| slot.namespace.is_some())
        {
            networks.held.borrow_mut().remove(&slot.number);
            networks.ready.borrow_mut().push(slot);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        self.networks.held.borrow_mut().remove(&slot.number);
        if let Ok(queue) = self.networks.queue() {
            // What cannot be removed now is found by the sweep at the end.
            queue.add(false, move |ops| drop(ops.remove(&slot)));
        }
    }
}
