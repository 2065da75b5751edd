//! The executor against tokio with a paused clock, in one process, with one allocator, event hash on.
//!
//! `cargo bench --bench executor` prints thread CPU time per event and the ratio; every pair is run alternately and the
//! median of the rounds is told, because machines drift. Sleep loop: N tasks, each sleeps exponential spans of mean 1 s.
#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark measures tokio's own functions with the wall clock"
)]

use elapse::base::Duration;
use elapse::rt::chance::{Purpose, Seed};
use elapse::rt::{self, Options, Sim, sync};
use rand::RngExt;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};

/// mimalloc for both sides, counting bytes.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to mimalloc unchanged; the counter is beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is passed on.
        unsafe { mimalloc::MiMalloc.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is passed on.
        unsafe { mimalloc::MiMalloc.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        BYTES.fetch_add(size, Ordering::Relaxed);
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is passed on.
        unsafe { mimalloc::MiMalloc.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn cpu_ns() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    t.tv_sec as f64 * 1e9 + t.tv_nsec as f64
}

/// ns per event of one run.
fn timed(events: u64, run: impl FnOnce()) -> f64 {
    let before = cpu_ns();
    run();
    (cpu_ns() - before) / events as f64
}

fn exponential(draw: &mut impl rand::Rng) -> u64 {
    (-(1.0 - draw.random::<f64>()).ln() * 1e9) as u64
}

fn ours_sleep(n: u64, per_task: u64) -> f64 {
    let sim = Sim::new(Options::default());
    timed(n * per_task, || {
        let ran = sim.block_on(async move {
            let luck = Seed::new(1).named("bench");
            for i in 0..n {
                rt::spawn_detached(async move {
                    let mut draw = luck.draw(Purpose::Duration, i);
                    for _ in 0..per_task {
                        rt::sleep(Duration(exponential(&mut draw))).await;
                    }
                });
            }
            rt::sleep(Duration::from_secs(1_000_000)).await;
        });
        assert!(ran.is_ok(), "{ran:?}");
    })
}

fn tokio_paused() -> tokio::runtime::LocalRuntime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime")
}

fn tokio_sleep(n: u64, per_task: u64) -> f64 {
    let runtime = tokio_paused();
    timed(n * per_task, || {
        runtime.block_on(async move {
            let luck = Seed::new(1).named("bench");
            for i in 0..n {
                tokio::task::spawn_local(async move {
                    let mut draw = luck.draw(Purpose::Duration, i);
                    for _ in 0..per_task {
                        tokio::time::sleep(std::time::Duration::from_nanos(exponential(&mut draw))).await;
                    }
                });
            }
            tokio::time::sleep(std::time::Duration::from_secs(1_000_000)).await;
        });
    })
}

fn ours_oneshot(n: u64, rounds: u64) -> f64 {
    let sim = Sim::new(Options::default());
    timed(n * rounds, || {
        let ran = sim.block_on(async move {
            for _ in 0..rounds {
                let receivers: Vec<_> = (0..n)
                    .map(|i| {
                        let (tx, rx) = sync::oneshot();
                        rt::spawn_detached(async move {
                            rt::sleep(Duration::from_micros(1 + i * 7919 % 1000)).await;
                            let _ = tx.send(i);
                        });
                        rx
                    })
                    .collect();
                for rx in receivers {
                    let _ = rx.await;
                }
            }
        });
        assert!(ran.is_ok(), "{ran:?}");
    })
}

fn tokio_oneshot(n: u64, rounds: u64) -> f64 {
    let runtime = tokio_paused();
    timed(n * rounds, || {
        runtime.block_on(async move {
            for _ in 0..rounds {
                let receivers: Vec<_> = (0..n)
                    .map(|i| {
                        let (tx, rx) = tokio::sync::oneshot::channel();
                        tokio::task::spawn_local(async move {
                            tokio::time::sleep(std::time::Duration::from_micros(1 + i * 7919 % 1000)).await;
                            let _ = tx.send(i);
                        });
                        rx
                    })
                    .collect();
                for rx in receivers {
                    let _ = rx.await;
                }
            }
        });
    })
}

fn ours_timeout(n: u64) -> f64 {
    let sim = Sim::new(Options::default());
    timed(n, || {
        let ran = sim.block_on(async move {
            for _ in 0..n {
                let slept = rt::timeout(Duration::from_secs(600), rt::sleep(Duration::from_millis(1))).await;
                assert!(slept.is_ok());
            }
        });
        assert!(ran.is_ok(), "{ran:?}");
    })
}

fn ours_channel(n: u64) -> f64 {
    let sim = Sim::new(Options::default());
    timed(n, || {
        let ran = sim.block_on(async move {
            let (tx, mut rx) = sync::channel();
            rt::spawn_detached(async move {
                for i in 0..n {
                    let _ = tx.send(i);
                    if i % 64 == 0 {
                        rt::yield_now().await;
                    }
                }
            });
            while rx.recv().await.is_ok() {}
        });
        assert!(ran.is_ok(), "{ran:?}");
    })
}

/// Bytes that one sleeping task with an 80-byte future holds.
fn bytes_per_task(n: usize) -> f64 {
    let sim = Sim::new(Options::default());
    let before = BYTES.load(Ordering::Relaxed);
    for i in 0..n as u64 {
        let ballast = [i; 3];
        let nap = rt::sleep_until(elapse::base::Time(1_000_000_000 + i * 1000));
        let future = async move {
            nap.await;
            std::hint::black_box(ballast);
        };
        if i == 0 {
            println!("(the future has {} bytes)", std::mem::size_of_val(&future));
        }
        sim.spawn_detached(future);
    }
    let _ = sim.run_until(elapse::base::Time(1));
    (BYTES.load(Ordering::Relaxed) - before) as f64 / n as f64
}

/// How late the live arm's sleep is, in microseconds, against tokio's own timer.
fn lateness() {
    let live = rt::Live::new().expect("a live runtime");
    let mut late: Vec<f64> = live.block_on(async {
        let mut late = Vec::new();
        for i in 0..300u64 {
            let due = rt::now() + Duration::from_micros(200 + i * 13 % 900);
            rt::sleep_until(due).await;
            late.push(rt::now().since(due).0 as f64 / 1e3);
        }
        late
    });
    late.sort_by(f64::total_cmp);
    let theirs = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut tokio_late: Vec<f64> = theirs.block_on(async {
        let mut late = Vec::new();
        for i in 0..300u64 {
            let span = std::time::Duration::from_micros(200 + i * 13 % 900);
            let start = std::time::Instant::now();
            tokio::time::sleep(span).await;
            late.push((start.elapsed() - span).as_secs_f64() * 1e6);
        }
        late
    });
    tokio_late.sort_by(f64::total_cmp);
    println!(
        "live sleep lateness us   p50 {:>8.1} p99 {:>8.1}   tokio p50 {:>8.1} p99 {:>8.1}",
        late[150], late[297], tokio_late[150], tokio_late[297]
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare(name: &str, rounds: usize, ours: impl Fn() -> f64, theirs: impl Fn() -> f64) {
    let pairs: Vec<(f64, f64)> = (0..rounds).map(|_| (ours(), theirs())).collect();
    println!(
        "{name:<26} ours {:>7.0} ns   tokio paused {:>7.0} ns   ratio {:>5.2}x",
        median(pairs.iter().map(|p| p.0).collect()),
        median(pairs.iter().map(|p| p.1).collect()),
        median(pairs.iter().map(|p| p.1 / p.0).collect())
    );
}

fn main() {
    println!("executor, thread CPU time per event; mimalloc on both sides, event hash on");
    compare("sleep loop, N = 1k", 5, || ours_sleep(1_000, 500), || tokio_sleep(1_000, 500));
    compare("sleep loop, N = 100k", 3, || ours_sleep(100_000, 15), || tokio_sleep(100_000, 15));
    compare("sleep loop, N = 1M", 3, || ours_sleep(1_000_000, 4), || tokio_sleep(1_000_000, 4));
    compare("spawn + sleep + oneshot", 5, || ours_oneshot(1_000, 200), || tokio_oneshot(1_000, 200));
    println!("timeout(600 s, sleep)      ours {:>7.0} ns", ours_timeout(500_000));
    println!("channel message            ours {:>7.0} ns", ours_channel(1_000_000));
    println!("bytes per sleeping task    ours {:>7.1}", bytes_per_task(1_000_000));
    lateness();
}
