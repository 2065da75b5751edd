//! The background loops. Each sleeps to its next deadline and rests in between; none polls.

use super::Inner;
use super::around::Around;
use super::state::Asked;
use crate::base::{Duration, Time};
use crate::rt::supervise::{Heartbeat, Patience, Supervised, supervise};
use crate::rt::{self, Class};
use std::rc::Rc;

/// The names of a worker's background loops.
pub const LOOPS: &[&str] = &["reaper", "memory-check", "queue-monitor", "status"];

/// Starts them all, in the order of [`LOOPS`].
pub(super) fn start(inner: &Rc<Inner>, patience: Patience) -> Vec<Supervised> {
    LOOPS
        .iter()
        .map(|name| {
            let inner = Rc::clone(inner);
            let rng = inner.rng;
            supervise(name, patience, rng, move |pulse| run(name, Rc::clone(&inner), pulse))
        })
        .collect()
}

/// Starts the loop that hears of the containers of a backend that end by themselves, if there can be any.
pub(super) fn start_exit_watcher(inner: &Rc<Inner>, patience: Patience, backend: u16) -> Option<Supervised> {
    inner.backends[usize::from(backend)].death().map(drop)?;
    let (inner, rng) = (Rc::clone(inner), inner.rng);
    Some(supervise("exit-watcher", patience, rng, move |pulse| {
        watch_exits(Rc::clone(&inner), backend, pulse)
    }))
}

/// Starts a loop for each policy that wants to be called at times of its own.
pub(super) fn start_ticks(inner: &Rc<Inner>, patience: Patience) -> Vec<Supervised> {
    let wanted = |(asked, name): (Asked, &'static str)| {
        let every = inner.state.borrow_mut().every(asked)?;
        let (inner, rng) = (Rc::clone(inner), inner.rng);
        Some(supervise(name, patience, rng, move |pulse| tick(Rc::clone(&inner), asked, every, pulse)))
    };
    Asked::ALL.into_iter().filter_map(wanted).collect()
}

/// Calls a policy at every multiple of its span, when the events of that instant are over.
async fn tick(inner: Rc<Inner>, asked: Asked, every: Duration, pulse: Heartbeat) {
    loop {
        let due = Time((rt::now().0 / every.0 + 1) * every.0);
        pulse.rest(rt::sleep_until_as(Class::Tick, due)).await;
        inner.state.borrow_mut().tick(asked, rt::now(), &mut Around(&inner));
    }
}

/// Removes containers that have ended by themselves, so that nobody is sent into one. One that is called tells its callers
/// itself, and goes when the last of them leaves.
async fn watch_exits(inner: Rc<Inner>, backend: u16, pulse: Heartbeat) {
    while let Some(death) = inner.backends[usize::from(backend)].death() {
        let dead = pulse.rest(death).await;
        let ended = inner.state.borrow_mut().ended_by_itself(backend, dead, rt::now(), &mut Around(&inner));
        if let Some(container) = ended {
            tracing::warn!(target: "elapse", container, "a container has ended by itself");
        }
        inner.pump();
    }
}

async fn run(name: &'static str, inner: Rc<Inner>, pulse: Heartbeat) {
    match name {
        "reaper" => reaper(inner, pulse).await,
        "memory-check" => memory_check(inner, pulse).await,
        "queue-monitor" => queue_monitor(inner, pulse).await,
        _ => status(inner, pulse).await,
    }
}

/// Removes containers whose keep-alive has ended.
async fn reaper(inner: Rc<Inner>, pulse: Heartbeat) {
    loop {
        let next = inner.state.borrow_mut().expire(rt::now(), &mut Around(&inner));
        inner.pump();
        pulse.rest(inner.alarms.reaper.wait(next)).await;
    }
}

/// Reads the memory of containers that run, each interval from the start of their invocation.
async fn memory_check(inner: Rc<Inner>, pulse: Heartbeat) {
    loop {
        let next = inner.state.borrow_mut().read_due(rt::now(), &mut Around(&inner));
        pulse.rest(inner.alarms.memory.wait(next)).await;
    }
}

/// Drops invocations that waited longer than the queue lets them.
async fn queue_monitor(inner: Rc<Inner>, pulse: Heartbeat) {
    loop {
        let next = inner.state.borrow_mut().drop_overdue(rt::now());
        // What the dropped ones stood in the way of may go now.
        inner.pump();
        pulse.rest(inner.alarms.queue.wait(next)).await;
    }
}

/// Measures the worker at every tick, when the events of that instant are over.
async fn status(inner: Rc<Inner>, pulse: Heartbeat) {
    loop {
        let due = inner.meter.borrow().next(rt::now());
        pulse.rest(rt::sleep_until_as(Class::Tick, due)).await;
        inner.measure(due);
    }
}
