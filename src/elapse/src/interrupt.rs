//! The wish of the user that a run ends early: Ctrl-C, or SIGTERM.

use crate::rt::wall;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Tells whether the user asked for an end. The second time, the process ends at once.
///
/// ```
/// use elapse::Interrupt;
///
/// let interrupt = Interrupt::default();
/// assert!(!interrupt.asked());
/// interrupt.ask();
/// assert!(interrupt.asked());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<Wish>);

/// When the end was asked for.
#[derive(Debug, Default)]
struct Wish {
    /// Nanoseconds of the monotonic clock; 0 if it was not.
    first: AtomicU64,
}

/// A signal so soon after the first one says the same: timeout(1) tells a process, and then the group that it is in.
const SAME: u64 = 200_000_000;
/// The exit code of a process that ends at once, as shells tell an interrupted one.
const INTERRUPTED: i32 = 130;
/// Between two looks of [`Interrupt::rest`].
const LOOK: Duration = Duration::from_millis(100);

impl Wish {
    /// Notes a wish at an instant; whether it is one to end at once.
    fn asked_at(&self, now: u64) -> bool {
        let first = self.first.compare_exchange(0, now.max(1), Ordering::Relaxed, Ordering::Relaxed);
        first.is_err_and(|first| now.saturating_sub(first) > SAME)
    }
}

/// Nanoseconds of the monotonic clock.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl Interrupt {
    /// Listens for SIGINT and SIGTERM, on a thread of its own.
    ///
    /// # Errors
    /// If the kernel does not let it.
    pub fn listen() -> std::io::Result<Interrupt> {
        let wish = Arc::new(Wish::default());
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let heard = Arc::clone(&wish);
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for _ in signals.forever() {
                if heard.asked_at(monotonic()) {
                    signal_hook::low_level::exit(INTERRUPTED);
                }
            }
        })?;
        Ok(Interrupt(wish))
    }

    /// Asks for it, as the first signal does.
    pub fn ask(&self) {
        self.0.asked_at(monotonic());
    }

    /// Whether it was asked for.
    pub fn asked(&self) -> bool {
        self.0.first.load(Ordering::Relaxed) != 0
    }

    /// Waits for so long; false, and sooner, if the user asks for the end. Not for what runs in an event loop.
    pub fn rest(&self, span: Duration) -> bool {
        let until = monotonic() + u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 2);
        while !self.asked() {
            let left = Duration::from_nanos(until.saturating_sub(monotonic()));
            if left.is_zero() {
                return true;
            }
            wall::pause(left.min(LOOK));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_wish_ends_at_once_unless_it_comes_with_the_first() {
        let wish = Wish::default();
        assert!(!wish.asked_at(5_000_000_000));
        assert!(!wish.asked_at(5_000_001_000), "told twice by one");
        assert!(!wish.asked_at(4_000_000_000), "read before the first, kept after it");
        assert!(wish.asked_at(5_300_000_000));
    }
}
