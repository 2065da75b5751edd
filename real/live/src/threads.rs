//! The threads beside the event loop: their panics go into the log, and what is known of them beside the background loops.

use elapse::base::Time;
use elapse::rt::supervise::LoopStatus;
use elapse::rt::{self, panic_story};
use elapse_host::threads;

/// From now on a thread's panic is in the log, with its backtrace.
pub fn log_panics() {
    threads::on_panic(|name, payload| {
        let (panic, backtrace) = panic_story(payload);
        tracing::error!(target: "elapse", name, %panic, "a thread panicked");
        if let Some(backtrace) = backtrace {
            tracing::error!(target: "elapse", name, "its backtrace:\n{backtrace}");
        }
        panic
    });
}

/// The threads that live, by name. Inside a runtime only.
pub fn told() -> Vec<(String, LoopStatus)> {
    let now = rt::now().0;
    let shown = |thread: threads::Told| {
        let since = u64::try_from(thread.since.as_nanos()).unwrap_or(u64::MAX);
        let last_run = Time(now.saturating_sub(since));
        (
            thread.name,
            LoopStatus {
                restarts: thread.restarts,
                last_panic: thread.last_panic,
                last_run,
                ..LoopStatus::default()
            },
        )
    };
    threads::all().into_iter().map(shown).collect()
}
