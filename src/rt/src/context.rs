//! Which runtime answers in this thread, and how a waker finds its way back to it.

use super::calls::EventHandler;
use super::live::LiveCore;
use super::sim::SimCore;
use super::tasks::Waits;
use super::timers::Timers;
use super::waker::Word;
use crate::clock::Time;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};

/// A runtime as its tasks see it.
pub(super) struct Context {
    /// Tells this runtime's wakers and timers from those of others; 12 bits.
    pub(super) id: u16,
    pub(super) timers: RefCell<Timers>,
    /// Whom calls go to.
    pub(super) handlers: RefCell<Vec<Rc<dyn EventHandler>>>,
    pub(super) arm: Arm,
}

#[expect(clippy::large_enum_variant, reason = "there is one for each runtime, behind an Rc")]
/// The two worlds. Nothing outside `rt` can ask which one it is in.
pub(super) enum Arm {
    Sim(SimCore),
    #[cfg_attr(not(feature = "live"), expect(dead_code, reason = "there is none without the feature"))]
    Live(LiveCore),
}

impl Context {
    /// The simulated arm; only its own executor and handles ask.
    pub(super) fn sim(&self) -> &SimCore {
        match &self.arm {
            Arm::Sim(core) => core,
            Arm::Live(_) => unreachable!("a handle of the simulated runtime names a simulated runtime"),
        }
    }

    #[inline]
    pub(super) fn now(&self) -> Time {
        match &self.arm {
            Arm::Sim(core) => core.now(),
            Arm::Live(core) => core.now(),
        }
    }
}

const RUNTIMES: usize = 1 << 12;

/// The thread that owns each living runtime, 0 for none.
static OWNERS: [AtomicU64; RUNTIMES] = [const { AtomicU64::new(0) }; RUNTIMES];
static NEXT_ID: AtomicU64 = AtomicU64::new(0);
static NEXT_THREAD: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static CURRENT: Cell<*const Context> = const { Cell::new(std::ptr::null()) };
    static LIVING: RefCell<Vec<Weak<Context>>> = const { RefCell::new(Vec::new()) };
    static THREAD: u64 = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
}

/// Makes a runtime known to this thread.
pub(super) fn register(make: impl FnOnce(u16) -> Context) -> Rc<Context> {
    super::remember_panics();
    let me = THREAD.with(|t| *t);
    for _ in 0..RUNTIMES {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed) as usize % RUNTIMES;
        if OWNERS[id].compare_exchange(0, me, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            let context = Rc::new(make(id as u16));
            LIVING.with(|l| {
                let mut living = l.borrow_mut();
                living.retain(|w| w.strong_count() > 0);
                living.push(Rc::downgrade(&context));
            });
            return context;
        }
    }
    panic!("{RUNTIMES} runtimes live in this process at once; drop some before making more");
}

impl Drop for Context {
    fn drop(&mut self) {
        OWNERS[self.id as usize].store(0, Ordering::Release);
    }
}

/// While it lives, `context` answers in this thread; then the one before it again.
pub(super) struct Entered {
    _context: Rc<Context>,
    before: *const Context,
}

/// Enters a runtime.
///
/// # Panics
/// If this thread is inside a runtime already: two clocks would answer one question.
pub(super) fn enter(context: &Rc<Context>) -> Entered {
    assert!(
        CURRENT.with(Cell::get).is_null(),
        "a runtime was entered from inside another one; use the runtime that is there, or a thread of its own"
    );
    enter_to_end(context)
}

/// Enters a runtime to run the destructors of what it holds, from inside another one too: they see their own clock.
pub(super) fn enter_to_end(context: &Rc<Context>) -> Entered {
    let context = Rc::clone(context);
    let before = CURRENT.with(|c| c.replace(Rc::as_ptr(&context)));
    Entered { _context: context, before }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with(|c| c.set(self.before));
    }
}

#[inline(always)]
fn current<'a>() -> Option<&'a Context> {
    let pointer = CURRENT.with(Cell::get);
    // SAFETY: a non-null pointer was set by `enter_to_end`, whose guard keeps the context alive and puts the pointer before
    // it back before it lets go; guards end in the reverse order of their beginning, as they are locals of nested calls.
    // The reference never leaves this thread nor outlives the closure it is passed to below.
    unsafe { pointer.as_ref() }
}

/// Asks the runtime that answers in this thread.
///
/// # Panics
/// If there is none.
#[inline(always)]
pub(super) fn with<R>(f: impl FnOnce(&Context) -> R) -> R {
    match current() {
        Some(context) => f(context),
        None => no_runtime(),
    }
}

#[cold]
fn no_runtime() -> ! {
    panic!("no runtime answers in this thread; call this inside rt::Sim::block_on or rt::Live::block_on")
}

/// Asks the runtime with this number, if it lives in this thread, entered or not.
#[inline(always)]
pub(super) fn of_runtime<R>(id: u16, f: impl FnOnce(&Context) -> R) -> Option<R> {
    match current() {
        Some(context) if context.id == id => Some(f(context)),
        _ => living(id).map(|context| f(&context)),
    }
}

#[cold]
fn living(id: u16) -> Option<Rc<Context>> {
    LIVING.try_with(|l| l.borrow().iter().filter_map(Weak::upgrade).find(|c| c.id == id)).ok().flatten()
}

/// Wakes a task of the simulated runtime.
///
/// # Panics
/// If the runtime lives in another thread: a single-threaded run must not depend on when another thread speaks.
#[inline]
pub(super) fn wake(word: Word) {
    if of_runtime(word.runtime(), |c| c.sim().tasks.borrow_mut().wake(word)).is_none() {
        refuse(word);
    }
}

#[cold]
fn refuse(word: Word) {
    let owner = OWNERS[word.runtime() as usize].load(Ordering::Acquire);
    let me = THREAD.try_with(|t| *t).unwrap_or(0);
    assert!(
        owner == 0 || owner == me,
        "a task of the simulated runtime was woken from another thread; a simulation is one thread, so that its order \
         does not depend on the machine"
    );
}

/// Notes what the task that is being polled waits for.
#[inline]
pub(super) fn waits_for(waits: Waits) {
    if let Some(Context { arm: Arm::Sim(core), .. }) = current() {
        core.waits.set(waits);
    }
}
