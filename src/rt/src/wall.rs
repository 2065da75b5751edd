//! The wall clock, for what is about the run and not in it: progress, the date of a folder, the cost of a run.

/// Seconds and nanoseconds of the calendar, UTC.
#[expect(clippy::disallowed_methods, reason = "the one place that asks for the date")]
pub fn unix_now() -> std::time::Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

/// A stopwatch.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts one.
    #[expect(clippy::disallowed_methods, reason = "the one place that measures real time")]
    pub fn start() -> Stopwatch {
        Stopwatch(std::time::Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> std::time::Duration {
        self.0.elapsed()
    }
}

/// Blocks this thread for so long. Not for what runs in an event loop.
#[expect(clippy::disallowed_methods, reason = "between two runs there is no event loop to block")]
pub fn pause(span: std::time::Duration) {
    std::thread::sleep(span);
}
