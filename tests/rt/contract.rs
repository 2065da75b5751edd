//! One contract, two arms: what `rt` promises holds under the virtual clock and live.

use elapse::base::{Duration, Time};
use elapse::rt::{self, Either, Live, Options, Sim, sync};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

/// Runs the same async test on both arms.
fn on_both<F: Future<Output = ()> + 'static>(make: impl Fn() -> F) {
    Sim::new(Options::default()).block_on(make()).expect("the simulated arm");
    Live::new().expect("a live runtime").block_on(make());
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn sleeps_are_never_early_and_complete_in_order_of_time_and_insertion() {
    on_both(|| async {
        let log = Rc::new(RefCell::new(Vec::new()));
        let start = rt::now();
        // Sub-millisecond deadlines, equal ones among them, which tokio's own wheel completes out of order.
        let spans_us = [1700, 1200, 900, 100, 1, 900, 900, 0, 2500];
        let tasks: Vec<_> = (0..spans_us.len())
            .map(|i| {
                let log = Rc::clone(&log);
                let due = start + Duration::from_micros(spans_us[i]);
                rt::spawn(async move {
                    rt::sleep_until(due).await;
                    assert!(rt::now() >= due, "woken early");
                    log.borrow_mut().push((spans_us[i], i));
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        let mut sorted = log.borrow().clone();
        sorted.sort();
        assert_eq!(*log.borrow(), sorted);
    });
}

#[test]
fn timeouts_let_the_future_win_and_cut_it_off() {
    on_both(|| async {
        assert_eq!(rt::timeout(ms(50), async { 7 }).await, Ok(7));
        assert_eq!(rt::timeout(ms(2), rt::sleep(ms(500))).await, Err(rt::Elapsed));
        assert_eq!(rt::timeout(ms(500), rt::sleep(ms(2))).await, Ok(()));
        assert!(matches!(rt::select(rt::sleep(ms(2)), rt::sleep(ms(90))).await, Either::Left(())));
        assert!(matches!(rt::select(rt::sleep(ms(90)), rt::sleep(ms(2))).await, Either::Right(())));
    });
}

#[test]
fn intervals_keep_their_grid() {
    on_both(|| async {
        let mut ticks = rt::interval(ms(3));
        let mut last = ticks.tick().await;
        for _ in 0..4 {
            let tick = ticks.tick().await;
            assert!(tick > last && tick.since(last).0 % ms(3).0 == 0);
            last = tick;
        }
        rt::sleep(ms(10)).await;
        let late = ticks.tick().await;
        let next = ticks.tick().await;
        assert_eq!(next.since(late).0 % ms(3).0, 0);
        assert!(next > late, "missed ticks are skipped, never repeated");
    });
}

#[test]
fn a_panic_is_contained_in_its_join_handle() {
    on_both(|| async {
        let task = rt::spawn(async { panic!("on purpose") as () });
        let error = task.await.expect_err("it panicked").to_string();
        assert!(error.contains("on purpose"), "{error}");
        assert_eq!(rt::spawn(async { 5 }).await, Ok(5));
    });
}

#[test]
fn oneshot_channel_semaphore_and_notify_keep_their_word() {
    on_both(|| async {
        let (tx, rx) = sync::oneshot();
        rt::spawn_detached(async move {
            rt::yield_now().await;
            tx.send(3).expect("somebody waits");
        });
        assert_eq!(rx.await, Ok(3));
        let (tx, rx) = sync::oneshot::<u8>();
        drop(tx);
        assert_eq!(rx.await, Err(sync::Closed));
        let (tx, rx) = sync::oneshot();
        drop(rx);
        assert_eq!(tx.send(9), Err(9));

        let (tx, mut messages) = sync::channel();
        for i in 0..3 {
            let tx = tx.clone();
            rt::spawn_detached(async move {
                rt::sleep(ms(3 - i)).await;
                tx.send(i).expect("open");
            });
        }
        drop(tx);
        assert_eq!(
            (messages.recv().await, messages.recv().await, messages.recv().await),
            (Ok(2), Ok(1), Ok(0))
        );
        assert_eq!(messages.recv().await, Err(sync::Closed));

        let permits = sync::Semaphore::new(2);
        let order = Rc::new(RefCell::new(Vec::new()));
        let held = permits.acquire(1).await;
        // Who asks for two waits first; who asks for one must not pass.
        let tasks: Vec<_> = [2u64, 1]
            .into_iter()
            .map(|need| {
                let (permits, order) = (permits.clone(), Rc::clone(&order));
                rt::spawn(async move {
                    let permit = permits.acquire(need).await;
                    order.borrow_mut().push(need);
                    drop(permit);
                })
            })
            .collect();
        rt::yield_now().await;
        rt::yield_now().await;
        assert!(permits.try_acquire(1).is_none(), "nobody passes the queue");
        drop(held);
        for task in tasks {
            task.await.expect("no panic");
        }
        assert_eq!(*order.borrow(), [2, 1]);
        assert_eq!(permits.available(), 2);
        let impatient = rt::timeout(ms(1), permits.acquire(3)).await;
        assert!(impatient.is_err());
        assert!(permits.try_acquire(2).is_some(), "who left the queue holds nothing up");

        let told = sync::Notify::new();
        told.notify_one();
        told.notified().await;
        let waiting = told.notified();
        let (told_by, seen) = (told.clone(), Rc::new(Cell::new(false)));
        let saw = Rc::clone(&seen);
        let waiter = rt::spawn(async move {
            waiting.await;
            saw.set(true);
        });
        rt::sleep(ms(1)).await;
        assert!(!seen.get());
        told_by.notify_waiters();
        waiter.await.expect("no panic");
        assert!(seen.get());
    });
}

#[test]
fn foreign_wakers_work_join_and_unordered() {
    use futures::StreamExt;
    use futures::stream::FuturesUnordered;
    on_both(|| async {
        let (a, b) = futures::join!(async { rt::sleep(ms(2)).await }, async {
            rt::sleep(ms(1)).await;
            4
        });
        assert_eq!((a, b), ((), 4));
        let naps: FuturesUnordered<_> = [3u64, 1, 2]
            .into_iter()
            .map(|n| async move {
                rt::sleep(ms(n)).await;
                n
            })
            .collect();
        assert_eq!(naps.collect::<Vec<_>>().await, [1, 2, 3]);
        let tasks: FuturesUnordered<_> = [3u64, 1, 2]
            .into_iter()
            .map(|n| {
                rt::spawn(async move {
                    rt::sleep(ms(n)).await;
                    n
                })
            })
            .collect();
        let joined: Vec<_> = tasks.map(|n| n.expect("no panic")).collect().await;
        assert_eq!(joined, [1, 2, 3], "join handles under a foreign waker");
    });
}

#[test]
fn a_dropped_sleep_wakes_nobody() {
    on_both(|| async {
        for _ in 0..1000 {
            let mut nap = Box::pin(rt::sleep(Duration::from_secs(3600)));
            assert!(futures::poll!(nap.as_mut()).is_pending());
        }
        let before = rt::now();
        rt::sleep(ms(1)).await;
        assert!(rt::now().since(before) < Duration::from_secs(60));
    });
}

#[test]
fn a_loop_that_panics_is_restarted_and_one_that_keeps_dying_or_hangs_is_given_up() {
    use elapse::rt::chance::Seed;
    use elapse::rt::supervise::{GivenUp, Patience, supervise};
    on_both(|| async {
        let patience = Patience { backoff: ms(1), deaths: 3, hang: ms(30), ..Patience::default() };
        let rng = Seed::new(1).named("test");
        let runs = Rc::new(Cell::new(0));
        let count = Rc::clone(&runs);
        let well = supervise("well", patience, rng, move |pulse| {
            let count = Rc::clone(&count);
            async move {
                loop {
                    pulse.rest(rt::sleep(ms(1))).await;
                    count.set(count.get() + 1);
                    assert!(count.get() != 3, "the third time");
                }
            }
        });
        rt::sleep(ms(40)).await;
        assert!(runs.get() > 4, "it went on after its panic");
        let status = well.pulse.status();
        assert_eq!(status.restarts, 1);
        assert!(status.last_panic.is_some_and(|p| p.contains("the third time")
            && p.contains("contract.rs:")
            && p.contains("(at ")));

        let dying = supervise("dying", patience, rng, |_| async { panic!("always") });
        assert!(
            matches!(dying.given_up().await, GivenUp::KeepsDying("dying", why) if why.contains("always"))
        );
        let hung = supervise("hung", patience, rng, |_| async { std::future::pending().await });
        assert!(matches!(hung.given_up().await, GivenUp::Hangs("hung", _)));
        let resting = supervise("resting", patience, rng, |pulse| async move {
            pulse.rest(std::future::pending::<()>()).await;
        });
        assert!(rt::timeout(ms(100), resting.given_up()).await.is_err(), "a rest is no hang");
    });
}

/// What is written to it.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_loop_that_panics_is_in_the_log_with_its_backtrace() {
    use elapse::rt::chance::Seed;
    use elapse::rt::supervise::{Patience, supervise};
    let log = Written::default();
    let copy = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || copy.clone()).finish();
    // For all threads: one that a thread has for itself misses what other threads' tests were the first to log.
    tracing::subscriber::set_global_default(subscriber).expect("the only one");
    on_both(|| async {
        let rng = Seed::new(1).named("test");
        let frail = supervise("frail", Patience::default(), rng, |pulse| async move {
            loop {
                pulse.rest(rt::sleep(ms(1))).await;
            }
        });
        frail.pulse.inject_panic();
        let begun_again = async {
            while frail.pulse.restarts() == 0 {
                rt::sleep(ms(5)).await;
            }
        };
        assert!(rt::timeout(ms(20_000), begun_again).await.is_ok());
    });
    let text = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("text");
    for told in
        ["a background loop died", "name=\"frail\"", "injected by a test", "its backtrace", "supervise"]
    {
        assert_eq!(text.matches(told).count().min(2), 2, "{told}, of each arm: {text}");
    }
}

#[test]
fn time_begins_at_zero_and_only_goes_on() {
    on_both(|| async {
        assert!(rt::now() < Time(1_000_000_000));
        let mut last = rt::now();
        for _ in 0..100 {
            rt::yield_now().await;
            assert!(rt::now() >= last);
            last = rt::now();
        }
    });
}

struct Log(RefCell<Vec<(&'static str, u32)>>, Cell<Option<Time>>);

impl rt::EventHandler for Log {
    fn on_time(&self, token: u32) {
        assert!(self.1.get().is_none_or(|due| rt::now() >= due), "called early");
        self.0.borrow_mut().push(("call", token));
    }
}

#[test]
fn calls_and_arrivals_come_in_order_of_time_and_class() {
    on_both(|| async {
        let log = Rc::new(Log(RefCell::default(), Cell::new(None)));
        let calls = rt::Scheduler::of(Rc::clone(&log) as Rc<dyn rt::EventHandler>);
        let start = rt::now();
        let at = |n| start + ms(n);
        let seen = Rc::clone(&log);
        let mut instants = [at(4), at(4), at(8)].into_iter();
        let mut count = 0;
        let arrivals = rt::arrivals(at(2), move || {
            count += 1;
            seen.0.borrow_mut().push(("arrival", count));
            instants.next()
        });
        for (span, token) in [(6, 1), (4, 2), (4, 3), (0, 4)] {
            calls.at(at(span), token);
        }
        rt::sleep_until(at(6)).await;
        // What is due at one instant comes before the arrivals of that instant; the last arrival is not waited for.
        drop(arrivals);
        rt::sleep_until(at(10)).await;
        let expected = [
            ("call", 4),
            ("arrival", 1),
            ("call", 2),
            ("call", 3),
            ("arrival", 2),
            ("arrival", 3),
            ("call", 1),
        ];
        assert_eq!(*log.0.borrow(), expected);
        log.1.set(Some(rt::now() + ms(1)));
        calls.at(rt::now() + ms(1), 9);
        rt::sleep(ms(3)).await;
        assert_eq!(log.0.borrow().last(), Some(&("call", 9)));
    });
}

#[test]
fn handlers_and_streams_end_with_the_runtime_still_present() {
    struct Last(Rc<Cell<Option<Time>>>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.set(Some(rt::now()));
        }
    }
    impl rt::EventHandler for Last {
        fn on_time(&self, _: u32) {}
    }
    let (handler, stream) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(None)));
    let ends = [Rc::clone(&handler), Rc::clone(&stream)];
    let body = async move {
        let _ = rt::Scheduler::of(Rc::new(Last(handler)));
        let last = Last(stream);
        let arrivals = rt::arrivals(rt::now() + ms(60_000), move || {
            let _kept = &last;
            None
        });
        std::mem::forget(arrivals);
        rt::sleep(ms(1)).await;
    };
    let sim = Sim::new(Options::default());
    sim.block_on(body).expect("the simulated arm");
    drop(sim);
    assert!(ends.iter().all(|e| e.get() == Some(Time(1_000_000))), "{ends:?}");
}

#[test]
fn a_panic_in_a_call_ends_nothing_else() {
    struct Doomed(Cell<u32>);
    impl rt::EventHandler for Doomed {
        fn on_time(&self, token: u32) {
            self.0.set(self.0.get() + 1);
            assert!(token != 1, "by design");
        }
    }
    on_both(|| async {
        let doomed = Rc::new(Doomed(Cell::new(0)));
        let calls = rt::Scheduler::of(Rc::clone(&doomed) as Rc<dyn rt::EventHandler>);
        for token in 0..3 {
            calls.at(rt::now() + ms(1), token);
        }
        rt::sleep(ms(4)).await;
        assert_eq!(doomed.0.get(), 3);
    });
}
