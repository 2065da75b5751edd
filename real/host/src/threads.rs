//! Threads that serve for as long as the process does, on show.
//!
//! One whose work panics begins it again after a pause, in the same thread: what a thread has started may die with it (a
//! parent-death signal is the thread's, not the process's). Unlike a background loop it is never given up: what it serves is
//! refused meanwhile, by whoever asks it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::{Duration, Instant};

/// Before the first new beginning; each further one waits twice as long.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause: short, because whoever ends the thread may have to wait for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Work that lasted for so long begins again as if it had never died.
const WELL: Duration = Duration::from_secs(60);

/// What is known of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its name.
    pub name: String,
    /// Times its work was begun again.
    pub restarts: u64,
    /// What its last panic said.
    pub last_panic: Option<String>,
    /// How long ago it last began with something.
    pub since: Duration,
}

struct Known {
    name: String,
    restarts: AtomicU64,
    last_panic: Mutex<Option<String>>,
    last_run: Mutex<Instant>,
}

/// A thread's side of what is known of it. Clones are the same.
#[derive(Clone)]
pub struct ThreadHeartbeat(Arc<Known>);

/// The threads that live.
static ALL: Mutex<Vec<Weak<Known>>> = Mutex::new(Vec::new());
/// Restarts of threads that have ended.
static PAST_RESTARTS: AtomicU64 = AtomicU64::new(0);
/// See [`on_panic`].
static TELL: OnceLock<PanicHook> = OnceLock::new();

/// Logs that a thread of this name panicked, and says it in a sentence.
pub type PanicHook = fn(&str, &(dyn Any + Send)) -> String;

/// Locks what a thread that panicked may have held.
pub(crate) fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who is told of panics from now on; the first one stays.
pub fn on_panic(tell: PanicHook) {
    let _ = TELL.set(tell);
}

/// The threads that live, in the order in which they were started.
pub fn all() -> Vec<Told> {
    let known = lock(&ALL);
    known
        .iter()
        .filter_map(Weak::upgrade)
        .map(|known| Told {
            name: known.name.clone(),
            restarts: known.restarts.load(Ordering::Relaxed),
            last_panic: lock(&known.last_panic).clone(),
            since: lock(&known.last_run).elapsed(),
        })
        .collect()
}

/// Times that a thread's work was begun again, since the process was started.
pub fn restarts() -> u64 {
    let known = lock(&ALL);
    let living = known.iter().filter_map(Weak::upgrade).map(|known| known.restarts.load(Ordering::Relaxed));
    living.sum::<u64>() + PAST_RESTARTS.load(Ordering::Relaxed)
}

/// Starts a thread that works until `work` returns, and begins with it again if it panics.
///
/// # Errors
/// If the kernel gives no thread.
pub fn start(
    name: impl Into<String>,
    mut work: impl FnMut(&ThreadHeartbeat) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    spawn(name.into(), move |pulse| {
        let mut pause = PAUSE;
        loop {
            let begun = Instant::now();
            if pulse.run_catching(|| work(pulse)) {
                return;
            }
            if begun.elapsed() > WELL {
                pause = PAUSE;
            }
            sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
            pulse.0.restarts.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// Runs a future in a thread with an event loop of its own, so that nothing of it waits for the caller's. Its panic is told,
/// and ends it.
///
/// # Errors
/// If the kernel gives no thread or no event loop.
pub fn spawn_runtime<F: Future<Output = ()>>(
    name: &str,
    future: impl FnOnce(ThreadHeartbeat) -> F + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    spawn(name.into(), move |pulse| {
        let inside = pulse.clone();
        pulse.run_catching(|| runtime.block_on(async { future(inside).await }));
    })
}

fn spawn(
    name: String,
    body: impl FnOnce(&ThreadHeartbeat) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let known = Arc::new(Known {
        name: name.clone(),
        restarts: AtomicU64::new(0),
        last_panic: Mutex::default(),
        last_run: Mutex::new(Instant::now()),
    });
    lock(&ALL).push(Arc::downgrade(&known));
    let pulse = ThreadHeartbeat(known);
    Builder::new().name(name).spawn(move || {
        body(&pulse);
        // Under one lock, so that the sum of all never shrinks.
        let mut all = lock(&ALL);
        let ended = Arc::as_ptr(&pulse.0);
        all.retain(|other| !std::ptr::eq(other.as_ptr(), ended) && other.strong_count() > 0);
        PAST_RESTARTS.fetch_add(pulse.0.restarts.load(Ordering::Relaxed), Ordering::Relaxed);
    })
}

impl ThreadHeartbeat {
    /// It begins with something.
    pub fn works(&self) {
        *lock(&self.0.last_run) = Instant::now();
    }

    /// Whether this ends by itself; a panic is told.
    fn run_catching(&self, work: impl FnOnce()) -> bool {
        self.works();
        let Err(payload) = catch_unwind(AssertUnwindSafe(work)) else { return true };
        let said = match TELL.get() {
            Some(tell) => tell(&self.0.name, payload.as_ref()),
            None => text_of(payload.as_ref()),
        };
        *lock(&self.0.last_panic) = Some(said);
        false
    }
}

/// What a panic said.
fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn told(name: &str) -> Option<Told> {
        all().into_iter().find(|told| told.name == name)
    }

    #[test]
    fn work_that_panics_is_begun_again_in_the_same_thread_and_shown() {
        let (saw, seen) = mpsc::channel();
        let (go, may) = mpsc::channel::<bool>();
        let thread = start("restless", move |pulse| {
            saw.send(std::thread::current().id()).expect("the test waits");
            if may.recv().expect("the test says") {
                pulse.works();
                panic!("of {}", 7);
            }
        });
        let thread = thread.expect("a thread");
        let first = seen.recv().expect("it began");
        assert_eq!(told("restless").expect("it is shown").restarts, 0);
        go.send(true).expect("it waits");
        assert_eq!(seen.recv().expect("it began again"), first);
        let now = told("restless").expect("it is shown");
        assert_eq!((now.restarts, now.last_panic.as_deref()), (1, Some("of 7")));
        assert!(now.since < Duration::from_secs(60) && restarts() >= 1);
        go.send(false).expect("it waits");
        thread.join().expect("it ended");
        assert_eq!(told("restless"), None);
        assert!(restarts() >= 1, "what has ended still counts");
    }

    #[test]
    fn a_future_aside_that_panics_ends_its_thread_and_nobody_elses() {
        let thread = spawn_runtime("beside", |_| async { panic!("in a future") }).expect("a thread");
        thread.join().expect("the panic does not leave the thread");
        assert_eq!(told("beside"), None);
    }
}
