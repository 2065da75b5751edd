//! What only the virtual-time executor promises: the numbered semantics of its design, each one a test.

use elapse::base::{Duration, Time};
use elapse::rt::{self, Class, Options, Sim, Step, Stop, Waits, first_divergence, sync};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

/// Bytes that this thread holds: what a run leaves behind shows here.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came; only a number is kept beside it.
unsafe impl std::alloc::GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        let _ = HELD.try_with(|held| held.set(held.get() + layout.size() as isize));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { std::alloc::System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: std::alloc::Layout) {
        let _ = HELD.try_with(|held| held.set(held.get() - layout.size() as isize));
        // SAFETY: the pointer came from `alloc` above, with this layout.
        unsafe { std::alloc::System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn sim() -> Sim {
    Sim::new(Options::default())
}

const SEC: Duration = Duration::from_secs(1);

/// 1. ns clock: no rounding, no least sleep, no drift; zero and past deadlines do not move time and starve nobody.
#[test]
fn the_clock_is_exact_to_the_nanosecond() {
    let s = sim();
    s.block_on(async {
        for ns in [1, 999, 1_000_001, 3] {
            let before = rt::now();
            rt::sleep(Duration(ns)).await;
            assert_eq!(rt::now().since(before).0, ns);
        }
        for _ in 0..1000 {
            rt::sleep(Duration::from_micros(100)).await;
        }
        let at = rt::now();
        let others = Rc::new(Cell::new(0));
        let count = Rc::clone(&others);
        rt::spawn_detached(async move {
            for _ in 0..50 {
                rt::sleep(Duration::ZERO).await;
                count.set(count.get() + 1);
            }
        });
        for _ in 0..100 {
            rt::sleep(Duration::ZERO).await;
            rt::sleep_until(Time(5)).await;
        }
        assert_eq!(others.get(), 50);
        assert_eq!(rt::now(), at);
    })
    .unwrap();
}

/// 2. Order is (time, class, insertion), whatever level of the queue a timer came through.
#[test]
fn equal_deadlines_fire_in_order_of_insertion_and_class() {
    let s = sim();
    let log = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&log);
    s.block_on(async move {
        let due = Time(3_600_000_000_000);
        for i in 0..3000u32 {
            let log = Rc::clone(&seen);
            let class = [Class::Arrival, Class::Tick, Class::Event][(i % 3) as usize];
            rt::spawn_detached(async move {
                rt::sleep_until_as(class, due).await;
                log.borrow_mut().push((class, i));
            });
            if i % 500 == 0 {
                // Later insertions reach the same instant from nearer levels.
                rt::sleep(Duration::from_secs(500)).await;
            }
        }
        rt::sleep_until(due + SEC).await;
    })
    .unwrap();
    let mut sorted = log.borrow().clone();
    sorted.sort();
    assert_eq!(sorted.len(), 3000);
    assert_eq!(*log.borrow(), sorted);
}

/// Arrivals are settled one by one: what an arrival causes at its instant runs before the next arrival.
#[test]
fn an_arrival_is_settled_before_the_next() {
    let s = sim();
    let log = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&log);
    s.block_on(async move {
        for i in 0..3 {
            rt::sleep_until_as(Class::Arrival, Time(1000)).await;
            let log = Rc::clone(&seen);
            rt::spawn_detached(async move {
                log.borrow_mut().push(format!("start {i}"));
                rt::sleep(Duration::ZERO).await;
                log.borrow_mut().push(format!("end {i}"));
            });
        }
        rt::sleep(SEC).await;
    })
    .unwrap();
    assert_eq!(*log.borrow(), ["start 0", "end 0", "start 1", "end 1", "start 2", "end 2"]);
}

/// 3. The schedule of one instant can be permuted by the seed; FIFO by default.
#[test]
fn fuzzed_schedules_differ_by_seed_and_repeat_with_it() {
    let order = |seed, fuzz_schedule| {
        let s = Sim::new(Options { seed, fuzz_schedule, ..Options::default() });
        let log = Rc::new(RefCell::new(Vec::new()));
        for i in 0..20 {
            let log = Rc::clone(&log);
            s.spawn_detached(async move { log.borrow_mut().push(i) });
        }
        s.run_until(Time(1)).unwrap();
        log.take()
    };
    assert_eq!(order(1, false), (0..20).collect::<Vec<_>>());
    assert_ne!(order(1, true), order(2, true));
    assert_eq!(order(1, true), order(1, true));
}

/// 4. Cancelled timers leave nothing behind: memory stays bounded however many there were.
#[test]
fn ten_million_cancelled_timeouts_are_swept() {
    let n = if std::env::var("ELAPSE_SOAK").is_ok() { 10_000_000 } else { 1_000_000 };
    let s = sim();
    s.block_on(async move {
        for _ in 0..n {
            rt::timeout(Duration::from_secs(600), rt::sleep(Duration::from_micros(1))).await.unwrap();
        }
    })
    .unwrap();
    let counters = s.counters();
    assert_eq!(counters.cancels, n);
    assert!(counters.longest_queue < 5_000, "{counters:?}");
    assert!(counters.sweeps > 0);
    assert_eq!(s.now(), Time(n * 1_000));
}

/// 5. Wakes are deduplicated, stale wakers wake nobody, and a task may wake itself while it is polled.
#[test]
fn wakers_are_deduplicated_and_stale_ones_are_harmless() {
    let s = sim();
    let kept: Rc<RefCell<Option<Waker>>> = Rc::default();
    let polls = Rc::new(Cell::new(0));
    let (slot, count) = (Rc::clone(&kept), Rc::clone(&polls));
    s.spawn_detached(async move {
        std::future::poll_fn(|cx| {
            count.set(count.get() + 1);
            *slot.borrow_mut() = Some(cx.waker().clone());
            if count.get() < 3 {
                cx.waker().wake_by_ref();
                cx.waker().wake_by_ref();
                return std::task::Poll::Pending;
            }
            if count.get() < 4 { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
        })
        .await;
    });
    s.run_until(Time(1)).unwrap();
    assert_eq!(polls.get(), 3, "two wakes are one poll");
    let waker = kept.borrow().clone().unwrap();
    waker.wake_by_ref();
    waker.wake_by_ref();
    s.run_until(Time(2)).unwrap();
    assert_eq!((polls.get(), s.tasks_alive()), (4, 0));
    // The slot is used again; the old waker must not wake its new tenant.
    let tenant = Rc::new(Cell::new(0));
    let count = Rc::clone(&tenant);
    s.spawn_detached(std::future::poll_fn(move |_| {
        count.set(count.get() + 1);
        std::task::Poll::Pending
    }));
    s.run_until(Time(3)).unwrap();
    waker.wake();
    s.run_until(Time(4)).unwrap();
    assert_eq!(tenant.get(), 1);
}

/// 6. A wake from another thread is refused loudly.
#[test]
fn a_wake_from_another_thread_is_refused() {
    let s = sim();
    let kept: Rc<RefCell<Option<Waker>>> = Rc::default();
    let slot = Rc::clone(&kept);
    s.spawn_detached(std::future::poll_fn(move |cx| {
        *slot.borrow_mut() = Some(cx.waker().clone());
        std::task::Poll::Pending
    }));
    s.run_until(Time(1)).unwrap();
    let waker = kept.borrow().clone().unwrap();
    let there = std::thread::scope(|scope| scope.spawn(|| waker.wake_by_ref()).join());
    let said = *there.expect_err("refused").downcast::<&str>().expect("a message");
    assert!(said.contains("from another thread"), "{said}");
    drop(s);
    // The runtime is gone: a late wake is no fault, in any thread.
    waker.wake_by_ref();
    std::thread::scope(|scope| scope.spawn(|| waker.wake_by_ref()).join()).unwrap();
}

/// 7. A deadlock is an error that names the tasks; a livelock has a cap.
#[test]
fn deadlock_and_livelock_are_told_apart_from_an_end() {
    let stuck = sim().block_on(async {
        let (_tx, rx) = sync::oneshot::<()>();
        drop(rt::spawn_named("collector", async { sync::Notify::new().notified().await }));
        let _ = rx.await;
    });
    let Err(Stop::Deadlock(tasks)) = &stuck else { panic!("{stuck:?}") };
    assert_eq!(tasks.len(), 2);
    assert_eq!((tasks[0].name.as_str(), tasks[0].waits), ("main", Waits::Oneshot));
    assert_eq!((tasks[1].name.as_str(), tasks[1].waits), ("collector", Waits::Notify));
    assert!(tasks[1].site.contains("rt/sim.rs"));
    assert!(Stop::Deadlock(tasks.clone()).to_string().contains("task 'collector' spawned at"));

    let s = Sim::new(Options { polls_per_instant: 1000, ..Options::default() });
    let spun = s.block_on(async {
        loop {
            rt::yield_now().await;
        }
    });
    assert!(matches!(spun, Err(Stop::Livelock(Time(0), ref task)) if task.name == "main"), "{spun:?}");
    assert_eq!(sim().block_on(async { 3 }), Ok(3));
}

/// 8. A panic is told with task, virtual time and seed; by choice it ends the run.
#[test]
fn a_panic_tells_task_time_and_seed() {
    let run = |contain_panics| {
        let s = Sim::new(Options { seed: 77, contain_panics, ..Options::default() });
        s.block_on(async {
            let task = rt::spawn_named("doomed", async {
                rt::sleep(SEC).await;
                panic!("by design");
            });
            let told = task.await.unwrap_err().to_string();
            rt::sleep(SEC).await;
            told
        })
    };
    let contained = run(true).unwrap();
    for part in ["'doomed'", "virtual time 1s", "seed 77", "by design, at tests/rt/sim.rs:"] {
        assert!(contained.contains(part), "{contained}");
    }
    assert!(matches!(run(false), Err(Stop::Panicked(what)) if what == contained));
}

/// 9. Shutdown drops tasks in order of spawning, with the runtime still present.
#[test]
fn shutdown_keeps_the_order_and_the_runtime() {
    struct Last(u32, Rc<RefCell<Vec<(u32, Time)>>>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.1.borrow_mut().push((self.0, rt::now()));
        }
    }
    let log = Rc::new(RefCell::new(Vec::new()));
    let s = sim();
    for i in 0..5 {
        let last = Last(i, Rc::clone(&log));
        s.spawn_detached(async move {
            let _last = last;
            rt::sleep(Duration::from_secs(u64::from(10 - i))).await;
        });
    }
    s.run_until(Time(7)).unwrap();
    drop(s);
    assert_eq!(*log.borrow(), (0..5).map(|i| (i, Time(7))).collect::<Vec<_>>());
    assert_eq!(Rc::strong_count(&log), 1, "nothing leaks");
}

/// 9. Nothing leaks: a run of tasks, timers, channels, calls and a panic gives back every byte, ended or cut short.
#[test]
fn a_run_gives_back_all_its_memory() {
    struct Handler(RefCell<Vec<u32>>);
    impl rt::EventHandler for Handler {
        fn on_time(&self, token: u32) {
            self.0.borrow_mut().push(token);
        }
    }
    let run = |until: Time| {
        let s = sim();
        s.spawn_detached(async {
            let calls = rt::Scheduler::of(Rc::new(Handler(RefCell::default())));
            let mut left = 100;
            let _arrivals = rt::arrivals(Time(10), move || {
                calls.at(rt::now() + Duration(5), left);
                rt::spawn_detached(async { rt::sleep(Duration(7)).await });
                left -= 1;
                (left > 0).then(|| rt::now() + Duration(3))
            });
            let (tx, mut rx) = sync::channel();
            for i in 0..50u64 {
                let tx = tx.clone();
                rt::spawn_detached(async move {
                    let _ = rt::timeout(Duration(1000), rt::sleep(Duration(i * 17))).await;
                    let _ = tx.send(vec![0u8; 100]);
                    if i == 20 {
                        // Without the hook: what it prints is kept by whoever runs the tests.
                        std::panic::resume_unwind(Box::new("by design"));
                    }
                });
            }
            drop(tx);
            while rx.recv().await.is_ok() {
                futures::future::join(rt::sleep(Duration(3)), rt::sleep(Duration(4))).await;
            }
        });
        s.run_until(until).unwrap();
    };
    let held = || HELD.with(Cell::get);
    // The first run makes what the thread keeps for ever.
    run(Time(2000));
    for until in [1, 11, 100, 500, 2000] {
        let before = held();
        run(Time(until));
        assert_eq!(held(), before, "a run to {until} ns leaks");
    }
}

/// 10. Runtimes in two threads do not meet; a nested one is refused; a panic restores the thread.
#[test]
fn runtimes_keep_to_their_threads() {
    std::thread::scope(|scope| {
        scope.spawn(|| sim().block_on(async { rt::sleep(SEC).await }).unwrap());
        sim().block_on(async { rt::sleep(SEC).await }).unwrap();
    });
    let nested = sim().block_on(async {
        let inner = std::panic::catch_unwind(|| sim().block_on(async {}));
        inner.is_err()
    });
    assert_eq!(nested, Ok(true));
    let unwound = std::panic::catch_unwind(|| sim().block_on(async { panic!("out") }));
    assert!(unwound.is_err());
    assert_eq!(sim().block_on(async { 1 }), Ok(1), "the thread is as before");
    let outside = std::panic::catch_unwind(rt::now);
    assert!(outside.is_err(), "there is no clock outside a runtime");
}

fn workload(seed: u64, twist: bool) -> impl Fn(std::ops::Range<u64>) -> rt::Trail {
    move |watch| {
        let s = Sim::new(Options { seed, watch, ..Options::default() });
        for i in 0..50u64 {
            s.spawn_detached(async move {
                for k in 0..100u64 {
                    let late = u64::from(twist && i == 7 && k == 60);
                    rt::sleep(Duration(1 + (i * 7919 + k * 104_729 + seed) % 1000 + late)).await;
                }
            });
        }
        s.run_until(Time(200_000)).unwrap();
        s.trail()
    }
}

/// 11. Same seed, same hash; and two runs can be bisected to their first different event.
#[test]
fn equal_runs_have_equal_hashes_and_different_ones_a_first_difference() {
    assert_eq!(workload(1, false)(0..0).hash(), workload(1, false)(0..0).hash());
    assert_ne!(workload(1, false)(0..0).hash(), workload(2, false)(0..0).hash());
    assert!(first_divergence(workload(1, false), workload(1, false)).is_none());
    let (a, b) = first_divergence(workload(1, false), workload(1, true)).expect("they differ");
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.number, b.number);
    assert!(a.at_ns < b.at_ns || a.task != b.task, "{a:?} {b:?}");
    let early = workload(1, false)(1..a.number);
    let twisted = workload(1, true)(1..a.number);
    assert_eq!(early.watched(), twisted.watched(), "all before it is equal");
}

/// 14. run_until, step, now, the next deadline, a limit, a paced mode.
#[test]
fn a_run_can_be_walked_through() {
    let s = sim();
    s.spawn_detached(async {
        rt::sleep(SEC).await;
        rt::sleep(SEC).await;
    });
    assert_eq!(s.step(), Ok(Step::Polled));
    assert_eq!(s.next_deadline(), Some(Time(1_000_000_000)));
    assert_eq!(s.step(), Ok(Step::Fired));
    assert_eq!(s.now(), Time(1_000_000_000));
    s.run_until(Time(1_500_000_000)).unwrap();
    assert_eq!((s.now(), s.tasks_alive()), (Time(1_500_000_000), 1));
    s.run_until(Time(3_000_000_000)).unwrap();
    assert_eq!((s.tasks_alive(), s.step()), (0, Ok(Step::Idle)));

    let limited = Sim::new(Options { time_limit: Some(Time(10)), ..Options::default() });
    assert_eq!(limited.block_on(async { rt::sleep(SEC).await }), Err(Stop::TimeLimit(Time(10))));

    let paced = Sim::new(Options { pace: Some(100.0), ..Options::default() });
    let clock = rt::wall::Stopwatch::start();
    paced.block_on(async { rt::sleep(Duration::from_secs(2)).await }).unwrap();
    assert!(clock.elapsed().as_millis() >= 20, "2 s at 100 virtual seconds a second");
}

/// 15. Counters count.
#[test]
fn counters_count() {
    let s = sim();
    s.block_on(async {
        for _ in 0..10 {
            rt::sleep(Duration(5)).await;
        }
    })
    .unwrap();
    let c = s.counters();
    assert_eq!((c.polls, c.fires, c.cancels, c.events()), (11, 10, 0, 21));
}

/// Timers set after the clock was moved without one, and after a look far ahead.
#[test]
fn pushes_after_a_look_ahead_keep_their_order() {
    let s = sim();
    let log = Rc::new(RefCell::new(Vec::new()));
    let nap = |span: u64| {
        let log = Rc::clone(&log);
        s.spawn_detached(async move {
            rt::sleep(Duration(span)).await;
            log.borrow_mut().push(rt::now().0);
        });
    };
    nap(1_000_000_000_000);
    s.run_until(Time(1000)).unwrap();
    for i in 0..3000 {
        nap(5000 - i);
    }
    s.run_until(Time(2_000_000_000_000)).unwrap();
    let mut sorted = log.borrow().clone();
    sorted.sort_unstable();
    assert_eq!(sorted.len(), 3001);
    assert_eq!(*log.borrow(), sorted);
}
