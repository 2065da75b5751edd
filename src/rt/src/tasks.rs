//! Tasks of the virtual-time executor: the slab they live in and their join handles.

use super::join::JoinError;
use super::waker::Word;
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{self, Poll, Waker};

/// What a task that is not ready waits for; shown when a run blocks for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Waits {
    /// Something that the executor does not know.
    #[default]
    Other,
    /// A timer.
    Timer,
    /// A oneshot channel.
    Oneshot,
    /// A message in a channel.
    Channel,
    /// Permits of a semaphore.
    Semaphore,
    /// A notification.
    Notify,
    /// Another task's end.
    Join,
}

/// A future and then its output, behind one pointer.
pub(super) trait Cell {
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()>;
    /// The output of a finished cell, as `&mut Option<T>`.
    fn output(self: Pin<&mut Self>) -> Option<&mut dyn Any>;
    /// The address of the future, for prefetching.
    fn address(&self) -> *const u8;
}

#[pin_project::pin_project(project = StageProjection)]
enum Stage<F: Future> {
    Running(#[pin] F),
    Finished(Option<F::Output>),
}

/// A task whose output nobody will ask for keeps no place for it.
#[pin_project::pin_project]
pub(super) struct Detached<F>(#[pin] F);

#[inline(always)]
pub(super) fn detached<F>(future: F) -> Pin<Box<Detached<F>>> {
    Box::pin(Detached(future))
}

impl<F: Future<Output = ()>> Future for Detached<F> {
    type Output = ();

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        self.project().0.poll(cx)
    }
}

impl<F: Future> Cell for Stage<F>
where
    F::Output: 'static,
{
    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let StageProjection::Running(future) = self.as_mut().project() else {
            return Poll::Ready(());
        };
        future.poll(cx).map(|output| self.set(Stage::Finished(Some(output))))
    }
    fn output(self: Pin<&mut Self>) -> Option<&mut dyn Any> {
        match self.project() {
            StageProjection::Running(_) => None,
            StageProjection::Finished(output) => Some(output),
        }
    }
    fn address(&self) -> *const u8 {
        std::ptr::from_ref(self).cast()
    }
}

impl<F: Future<Output = ()>> Cell for Detached<F> {
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        Future::poll(self, cx)
    }
    fn output(self: Pin<&mut Self>) -> Option<&mut dyn Any> {
        None
    }
    fn address(&self) -> *const u8 {
        std::ptr::from_ref(self).cast()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    /// Waits to be woken.
    Idle,
    /// In the ready queue.
    Queued,
    /// Being polled.
    Running,
    /// Being polled, and woken meanwhile.
    RunningWoken,
    /// Ended; its output waits for its handle.
    Finished,
}

struct Slot {
    cell: Option<Pin<Box<dyn Cell>>>,
    site: &'static Location<'static>,
    /// The order of spawning; shutdown keeps it.
    spawned: u64,
    generation: u32,
    state: State,
    waits: Waits,
    /// Nobody will ask for the output.
    detached: bool,
    /// Its handle waits in `Tasks::joiners`.
    joined: bool,
}

/// All tasks of a runtime.
pub(super) struct Tasks {
    slots: Vec<Slot>,
    free: Vec<u32>,
    ready: VecDeque<u32>,
    names: rustc_hash::FxHashMap<u32, &'static str>,
    joiners: rustc_hash::FxHashMap<u32, Waker>,
    failures: rustc_hash::FxHashMap<u32, JoinError>,
    spawned: u64,
    alive: usize,
    runtime: u16,
}

/// A task that is being polled; it goes back by [`Tasks::put_back`] or ends by [`Tasks::finish`].
pub(super) struct Taken {
    cell: Pin<Box<dyn Cell>>,
    pub(super) word: Word,
}

impl Taken {
    #[inline]
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        self.cell.as_mut().poll(cx)
    }
}

/// What an ended task leaves behind.
pub(super) struct Ended {
    joiner: Option<Waker>,
    rest: Option<Pin<Box<dyn Cell>>>,
}

impl Ended {
    /// Wakes who waited for the task and drops what is left of it. Both run code of others, so nothing may be borrowed.
    #[inline]
    pub(super) fn tell(self) {
        if let Some(waker) = self.joiner {
            waker.wake();
        }
        drop(self.rest);
    }
}

/// A living task, as told when a run is stuck.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Its name; its spawn site where it has none.
    pub name: String,
    /// Where it was spawned, `file:line:column`.
    pub site: String,
    /// What it waits for.
    pub waits: Waits,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task '{}' spawned at {} waits for {:?}", self.name, self.site, self.waits)
    }
}

impl Tasks {
    pub(super) fn new(runtime: u16) -> Tasks {
        Tasks {
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            names: rustc_hash::FxHashMap::default(),
            joiners: rustc_hash::FxHashMap::default(),
            failures: rustc_hash::FxHashMap::default(),
            spawned: 0,
            alive: 0,
            runtime,
        }
    }

    fn add(&mut self, cell: Pin<Box<dyn Cell>>, site: &'static Location<'static>, detached: bool) -> Word {
        self.alive += 1;
        let spawned = self.spawned;
        self.spawned += 1;
        let (state, waits) = (State::Queued, Waits::Other);
        let index = match self.free.pop() {
            Some(index) => {
                let s = &mut self.slots[index as usize];
                s.cell = Some(cell);
                (s.site, s.spawned, s.state, s.waits, s.detached) = (site, spawned, state, waits, detached);
                index
            }
            None => {
                let index = u32::try_from(self.slots.len()).expect("fewer than 2^32 tasks");
                let cell = Some(cell);
                let (generation, joined) = (0, false);
                self.slots.push(Slot { cell, site, spawned, generation, state, waits, detached, joined });
                index
            }
        };
        self.ready.push_back(index);
        Word::new(self.runtime, self.slots[index as usize].generation, index)
    }

    pub(super) fn spawn<F>(&mut self, future: F, site: &'static Location<'static>) -> Word
    where
        F: Future + 'static,
    {
        self.add(Box::pin(Stage::Running(future)), site, false)
    }

    #[inline]
    pub(super) fn spawn_detached<F>(&mut self, cell: Pin<Box<Detached<F>>>, site: &'static Location<'static>)
    where
        F: Future<Output = ()> + 'static,
    {
        self.add(cell, site, true);
    }

    pub(super) fn set_name(&mut self, word: Word, name: &'static str) {
        self.names.insert(word.index(), name);
    }

    pub(super) fn alive(&self) -> usize {
        self.alive
    }

    pub(super) fn is_finished(&self, word: Word) -> bool {
        self.slots[word.index() as usize].state == State::Finished
    }

    fn slot(&mut self, word: Word) -> Option<&mut Slot> {
        self.slots
            .get_mut(word.index() as usize)
            .filter(|s| word.is_of(s.generation) && s.state != State::Free)
    }

    /// Puts a task into the ready queue, once however often it is woken.
    #[inline]
    pub(super) fn wake(&mut self, word: Word) {
        let Some(slot) = self.slot(word) else { return };
        match slot.state {
            State::Idle => {
                slot.state = State::Queued;
                self.ready.push_back(word.index());
            }
            State::Running => slot.state = State::RunningWoken,
            _ => {}
        }
    }

    #[inline]
    pub(super) fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next ready task, or the `pick`-th of them.
    #[inline]
    pub(super) fn next_ready(&mut self, pick: impl FnOnce(usize) -> usize) -> Option<u32> {
        match self.ready.len() {
            0 => None,
            1 => self.ready.pop_front(),
            n => match pick(n) {
                0 => self.ready.pop_front(),
                i => self.ready.remove(i),
            },
        }
    }

    /// Takes a task out to poll it.
    #[inline]
    pub(super) fn take(&mut self, index: u32) -> Option<Taken> {
        let slot = &mut self.slots[index as usize];
        let cell = slot.cell.take()?;
        slot.state = State::Running;
        Some(Taken { cell, word: Word::new(self.runtime, slot.generation, index) })
    }

    /// Takes an idle task out to poll it at once, for the timer it sleeps on.
    #[inline]
    pub(super) fn take_idle(&mut self, word: Word) -> Option<Taken> {
        self.slot(word).filter(|s| s.state == State::Idle)?;
        self.take(word.index())
    }

    #[inline]
    pub(super) fn put_back(&mut self, taken: Taken, waits: Waits) {
        let index = taken.word.index();
        let slot = &mut self.slots[index as usize];
        slot.cell = Some(taken.cell);
        slot.waits = waits;
        if slot.state == State::RunningWoken {
            slot.state = State::Queued;
            self.ready.push_back(index);
        } else {
            slot.state = State::Idle;
        }
    }

    /// Puts a task back that was not polled after all: it stays ready.
    pub(super) fn put_off(&mut self, taken: Taken) {
        self.slots[taken.word.index() as usize].state = State::RunningWoken;
        self.put_back(taken, Waits::Other);
    }

    /// Ends a task. What is left of it, and who waits for it, is returned: to be dropped and woken when nothing is
    /// borrowed.
    #[inline]
    pub(super) fn finish(&mut self, taken: Taken, failure: Option<JoinError>) -> Ended {
        let index = taken.word.index();
        self.alive -= 1;
        let slot = &mut self.slots[index as usize];
        if slot.detached {
            self.release(index);
            return Ended { joiner: None, rest: Some(taken.cell) };
        }
        slot.cell = Some(taken.cell);
        slot.state = State::Finished;
        if let Some(failure) = failure {
            self.failures.insert(index, failure);
        }
        let joined = std::mem::take(&mut self.slots[index as usize].joined);
        let joiner = if joined { self.joiners.remove(&index) } else { None };
        Ended { joiner, rest: None }
    }

    fn release(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.state = State::Free;
        slot.generation = slot.generation.wrapping_add(1);
        if !self.names.is_empty() {
            self.names.remove(&index);
        }
        self.free.push(index);
    }

    pub(super) fn poll_join<T: 'static>(&mut self, word: Word) -> Poll<Result<T, JoinError>> {
        let Some(slot) = self.slot(word) else {
            return Poll::Ready(Err(JoinError::Cancelled));
        };
        if slot.state != State::Finished {
            return Poll::Pending;
        }
        let output = slot.cell.as_mut().and_then(|c| c.as_mut().output());
        let output = output.and_then(|any| any.downcast_mut::<Option<T>>());
        let output = output.and_then(Option::take);
        Poll::Ready(output.ok_or_else(|| self.failures.remove(&word.index()).unwrap_or(JoinError::Cancelled)))
    }

    /// Wakes this one when a task ends. The waker in its place is to be dropped when nothing is borrowed.
    #[must_use]
    pub(super) fn set_joiner(&mut self, word: Word, waker: Waker) -> Option<Waker> {
        match self.slot(word) {
            Some(slot) => {
                slot.joined = true;
                self.joiners.insert(word.index(), waker)
            }
            None => Some(waker),
        }
    }

    /// Takes note that a handle was dropped. Its waker, and what is left of an ended task, are to be dropped when nothing is
    /// borrowed.
    pub(super) fn detach(&mut self, word: Word) -> Ended {
        let index = word.index();
        let Some(slot) = self.slot(word) else { return Ended { joiner: None, rest: None } };
        slot.detached = true;
        let (joined, ended) = (std::mem::take(&mut slot.joined), slot.state == State::Finished);
        let rest = if ended { slot.cell.take() } else { None };
        if ended {
            self.failures.remove(&index);
            self.release(index);
        }
        Ended { joiner: if joined { self.joiners.remove(&index) } else { None }, rest }
    }

    pub(super) fn describe(&self, word: Word) -> Blocked {
        let index = word.index();
        self.slots.get(index as usize).map_or_else(
            || Blocked { name: "?".into(), site: "?".into(), waits: Waits::Other },
            |slot| self.blocked(index, slot),
        )
    }

    fn blocked(&self, index: u32, slot: &Slot) -> Blocked {
        let site = slot.site.to_string();
        let name = self.names.get(&index).map_or_else(|| site.clone(), |n| (*n).to_string());
        Blocked { name, site, waits: slot.waits }
    }

    /// Every living task, in order of spawning.
    pub(super) fn living(&self) -> Vec<Blocked> {
        let mut living: Vec<_> = (0u32..)
            .zip(&self.slots)
            .filter(|(_, s)| !matches!(s.state, State::Free | State::Finished))
            .map(|(i, s)| (s.spawned, self.blocked(i, s)))
            .collect();
        living.sort_by_key(|(spawned, _)| *spawned);
        living.into_iter().map(|(_, b)| b).collect()
    }

    /// Every task that still holds a future or an output, in order of spawning.
    pub(super) fn shutdown_order(&self) -> Vec<u32> {
        let mut order: Vec<u32> =
            (0u32..).zip(&self.slots).filter(|(_, s)| s.cell.is_some()).map(|(i, _)| i).collect();
        order.sort_by_key(|i| self.slots[*i as usize].spawned);
        order
    }

    /// Takes a task out for good; the caller drops it when nothing is borrowed.
    pub(super) fn remove(&mut self, index: u32) -> Option<Pin<Box<dyn Cell>>> {
        let slot = &mut self.slots[index as usize];
        let cell = slot.cell.take()?;
        if slot.state != State::Finished {
            self.alive -= 1;
        }
        self.release(index);
        Some(cell)
    }

    #[inline]
    pub(super) fn prefetch(&self, word: u64) {
        super::timers::prefetch(&self.slots, Word(word).index() as usize);
    }

    #[inline]
    pub(super) fn prefetch_future(&self, word: u64) {
        if let Some(cell) = self.slots.get(Word(word).index() as usize).and_then(|s| s.cell.as_ref()) {
            super::timers::prefetch_at(cell.address());
        }
    }
}
