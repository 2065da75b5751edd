//! Metrics: what a worker tells of itself at every tick, and the sketches that distributions are kept in.
//!
//! Every path is listed once, in [`PATHS`]. Totals stand beside gauges, so that a lost point costs resolution and not
//! counts.

mod series;
mod sketch;

pub use series::Series;
pub use sketch::Sketch;

macro_rules! snapshot {
    ($($field:ident: $kind:ident, $unit:literal, $help:literal;)*) => {
        /// A worker at an instant; every field is a metric path.
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct Snapshot { $(#[doc = $help] pub $field: f64,)* }

        impl Snapshot {
            /// The values in the order of [`PATHS`].
            pub fn values(&self) -> [f64; PATHS.len()] {
                [$(self.$field),*]
            }
        }

        /// Every metric path of a worker.
        pub const PATHS: &[Path] = &[$(Path { name: stringify!($field), kind: Kind::$kind, unit: $unit, help: $help }),*];

        impl Snapshot {
            /// The place of each path in [`PATHS`], by the name of its field.
            pub const INDEX: Index = {
                let mut i = 0;
                $(let $field = i; i += 1;)*
                let _ = i;
                Index { $($field),* }
            };
        }

        /// See [`Snapshot::INDEX`].
        #[expect(missing_docs, reason = "each field is the place of the snapshot's field of the same name")]
        pub struct Index { $(pub $field: usize),* }
    };
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Its name under `elapse.<run>.<worker>.`.
    pub name: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// Its unit.
    pub unit: &'static str,
    /// What it says.
    pub help: &'static str,
}

/// Whether a metric only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// A total since the start.
    Total,
}

snapshot! {
    memory_running_mb: Gauge, "MB", "Memory of running containers and of those being created.";
    memory_creating_mb: Gauge, "MB", "Memory of containers being created.";
    memory_cached_mb: Gauge, "MB", "Memory of idle containers that are kept.";
    memory_removing_mb: Gauge, "MB", "Memory of containers whose removal is not confirmed yet.";
    containers_creating: Gauge, "containers", "Containers being created.";
    containers_running: Gauge, "containers", "Containers with an invocation.";
    containers_cached: Gauge, "containers", "Idle containers that are kept.";
    cpus_used: Gauge, "cores", "Processors held by invocations.";
    queue_length: Gauge, "invocations", "Invocations that wait to be dispatched.";
    in_flight: Gauge, "invocations", "Invocations that were dispatched and have not returned.";
    invocations: Total, "invocations", "Invocations that arrived.";
    completed: Total, "invocations", "Invocations that completed.";
    failed: Total, "invocations", "Invocations that failed.";
    timed_out: Total, "invocations", "Invocations that timed out.";
    dropped: Total, "invocations", "Invocations that a limit refused.";
    cold_starts: Total, "invocations", "Invocations that started cold.";
    warm_starts: Total, "invocations", "Invocations that started warm, prewarmed or late.";
    evictions: Total, "containers", "Containers that made room for others.";
    expirations: Total, "containers", "Containers whose keep-alive ended.";
    containers_created: Total, "containers", "Containers whose creation was begun.";
    prewarm_attempts: Total, "attempts", "Attempts to create a container ahead of need.";
    prewarm_failures: Total, "attempts", "Attempts of those that failed.";
    memory_reads: Total, "reads", "Readings of containers' memory.";
    loop_restarts: Total, "restarts", "Restarts of background loops.";
}
