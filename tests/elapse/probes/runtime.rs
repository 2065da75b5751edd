//! The runtime under what runs code of its own at awkward moments: destructors, foreign wakers, runtimes inside runtimes.

use elapse::base::{Duration, Time};
use elapse::rt::{self, Options, Sim, sync::Notify};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

#[test]
fn notify_waiters_keeps_nothing_for_later() {
    let sim = Sim::new(Options::default());
    let run = async {
        let notify = Notify::new();
        let mut gone = Box::pin(notify.notified());
        assert!(gone.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        notify.notify_waiters();
        // Woken, but it leaves before it noticed.
        drop(gone);
        assert!(rt::timeout(Duration::from_secs(1), notify.notified()).await.is_err());
        // A notification for one is passed on as before.
        let mut gone = Box::pin(notify.notified());
        assert!(gone.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        notify.notify_one();
        drop(gone);
        assert!(rt::timeout(Duration::from_secs(1), notify.notified()).await.is_ok());
    };
    sim.block_on(run).unwrap();
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("in drop");
        }
    }
}

impl Future for PanicsInDrop {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

#[test]
fn a_panic_in_a_destructor_is_contained_like_any_other() {
    let sim = Sim::new(Options::default());
    let reached = Rc::new(Cell::new(false));
    let seen = Rc::clone(&reached);
    let run = async move {
        // What it holds is dropped in its last poll; the future itself, after it.
        rt::spawn_detached(async {
            let bomb = PanicsInDrop;
            rt::sleep(Duration::from_secs(1)).await;
            drop(bomb);
        });
        rt::spawn_detached(PanicsInDrop);
        let joined = rt::spawn(async {
            let _bomb = PanicsInDrop;
            rt::sleep(Duration::from_secs(2)).await;
        });
        assert!(joined.await.is_err());
        // One that never ends is dropped with the runtime.
        rt::spawn_detached(async {
            let _bomb = PanicsInDrop;
            std::future::pending::<()>().await;
        });
        seen.set(true);
    };
    sim.block_on(run).unwrap();
    drop(sim);
    assert!(reached.get());
}

#[test]
fn a_destructor_that_panics_ends_a_run_that_contains_nothing() {
    let sim = Sim::new(Options { contain_panics: false, ..Options::default() });
    let stop = sim.block_on(async {
        rt::spawn_detached(PanicsInDrop);
        rt::sleep(Duration::from_secs(1)).await;
    });
    assert!(matches!(stop, Err(rt::Stop::Panicked(_))), "{stop:?}");
    let sim = Sim::new(Options { contain_panics: false, ..Options::default() });
    let told = Rc::new(Cell::new(false));
    struct Tells(Rc<Cell<bool>>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let tells = Tells(Rc::clone(&told));
    sim.spawn_detached(async {
        let _bomb = PanicsInDrop;
        std::future::pending::<()>().await;
    });
    sim.spawn_detached(async move {
        let _tells = tells;
        std::future::pending::<()>().await;
    });
    sim.run_until(Time(1)).unwrap();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sim.shut_down()));
    assert!(ended.is_err() && told.get(), "the others are dropped all the same");
}

/// A foreign waker that owns a sleep: dropping its last copy takes a timer back.
struct OwnsASleep(#[expect(dead_code, reason = "it is there to be dropped")] Mutex<Option<Owned>>);
struct Owned(#[expect(dead_code, reason = "it is there to be dropped")] Pin<Box<rt::Sleep>>);
// SAFETY: it is made, woken and dropped in the one thread of this test.
unsafe impl Send for Owned {}
impl Wake for OwnsASleep {
    fn wake(self: Arc<Self>) {}
}

fn owner() -> Waker {
    let mut inner = Box::pin(rt::sleep(Duration::from_secs(100)));
    assert!(inner.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    Arc::new(OwnsASleep(Mutex::new(Some(Owned(inner))))).into()
}

#[test]
fn foreign_wakers_may_take_timers_back_when_they_are_dropped() {
    let sim = Sim::new(Options::default());
    let run = async {
        let poll = |future: Pin<&mut rt::Sleep>, waker: &Waker| {
            assert!(future.poll(&mut Context::from_waker(waker)).is_pending());
        };
        // The timer holds the last one, and is cancelled.
        let mut cancelled = Box::pin(rt::sleep(Duration::from_secs(50)));
        poll(cancelled.as_mut(), &owner());
        drop(cancelled);
        // Another takes its place.
        let mut replaced = Box::pin(rt::sleep(Duration::from_secs(50)));
        poll(replaced.as_mut(), &owner());
        poll(replaced.as_mut(), &owner());
        poll(replaced.as_mut(), Waker::noop());
        // It waits for a task, and is replaced or dropped there.
        let mut joined = Box::pin(rt::spawn(rt::sleep(Duration::from_secs(5))));
        assert!(joined.as_mut().poll(&mut Context::from_waker(&owner())).is_pending());
        assert!(joined.as_mut().poll(&mut Context::from_waker(&owner())).is_pending());
        drop(joined);
        // And in the primitives.
        let notify = Notify::new();
        let mut notified = Box::pin(notify.notified());
        assert!(notified.as_mut().poll(&mut Context::from_waker(&owner())).is_pending());
        assert!(notified.as_mut().poll(&mut Context::from_waker(&owner())).is_pending());
        drop(notified);
        let (sender, receiver) = rt::sync::oneshot::<()>();
        let mut receiver = Box::pin(receiver);
        assert!(receiver.as_mut().poll(&mut Context::from_waker(&owner())).is_pending());
        assert!(receiver.as_mut().poll(&mut Context::from_waker(&owner())).is_pending());
        drop(receiver);
        assert!(sender.is_closed());
        let permits = rt::sync::Semaphore::new(0);
        let mut acquire = Box::pin(permits.acquire(1));
        assert!(acquire.as_mut().poll(&mut Context::from_waker(&owner())).is_pending());
        assert!(acquire.as_mut().poll(&mut Context::from_waker(&owner())).is_pending());
        drop(acquire);
    };
    sim.block_on(run).unwrap();
}

#[test]
fn what_a_runtime_holds_is_dropped_under_its_own_clock() {
    struct Tells(Rc<RefCell<Option<Time>>>);
    impl Drop for Tells {
        fn drop(&mut self) {
            *self.0.borrow_mut() = Some(rt::now());
        }
    }
    let seen = Rc::new(RefCell::new(None));
    let inner = Sim::new(Options::default());
    let tells = Tells(Rc::clone(&seen));
    inner.spawn_detached(async move {
        let _tells = tells;
        std::future::pending::<()>().await;
    });
    inner.run_until(Time(7)).unwrap();
    let outer = Sim::new(Options::default());
    let at = outer.block_on(async move {
        rt::sleep(Duration(1_000_000)).await;
        drop(inner);
        rt::now()
    });
    assert_eq!((*seen.borrow(), at), (Some(Time(7)), Ok(Time(1_000_000))));
}

#[test]
fn a_run_in_which_only_ticks_are_left_is_told() {
    let sim = Sim::new(Options { ticks_alone: Some(1000), ..Options::default() });
    let stop = sim.block_on(async {
        rt::spawn_detached(async {
            let mut ticks = rt::interval(Duration::from_secs(1));
            loop {
                ticks.tick().await;
            }
        });
        rt::sleep(Duration::from_secs(5000)).await;
        std::future::pending::<()>().await;
    });
    let Err(rt::Stop::Deadlock(waiting)) = stop else { panic!("{stop:?}") };
    assert_eq!(waiting.len(), 2);
    assert!((5999..=6002).contains(&(sim.now().0 / 1_000_000_000)), "{}", sim.now());
}
