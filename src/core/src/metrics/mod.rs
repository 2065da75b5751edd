//! Metrics: what a worker tells of itself at every tick, and the sketches that distributions are kept in.
//!
//! Every path is listed once: [`PATHS`] for a worker, [`BACKEND_PATHS`] for each of its backends, [`HOST_PATHS`] for the
//! host of a live one, [`CONTROLLER_PATHS`] for a controller. Totals stand beside gauges, so that a lost point costs resolution and not counts.

mod heat;
mod openmetrics;
mod series;
mod sketch;

pub use heat::Heat;
pub use openmetrics::{MEDIA_TYPE, openmetrics};
pub use series::{Columns, HostProbe, Meter, Series, Sink};
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
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    /// Its name under `elapse.<run>.<worker>.`; a backend's under `backend.<name>.` there.
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
    backlog: Gauge, "invocations", "Invocations that wait, and cores that runnable work asks for beyond those it shares.";
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
    containers_failed: Total, "containers", "Containers whose creation failed, or that went after a failure.";
    containers_condemned: Total, "containers", "Idle containers that went because nobody may use them any more.";
    prewarm_attempts: Total, "attempts", "Attempts to create a container ahead of need.";
    prewarm_failures: Total, "attempts", "Attempts of those that failed.";
    memory_reads: Total, "reads", "Readings of containers' memory.";
    loop_restarts: Total, "restarts", "Restarts of background loops.";
}

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Path {
    Path { name, kind: Kind::Gauge, unit, help }
}

const fn total(name: &'static str, unit: &'static str, help: &'static str) -> Path {
    Path { name, kind: Kind::Total, unit, help }
}

/// Every metric path of a backend of a worker.
pub const BACKEND_PATHS: &[Path] = &[
    gauge("containers_creating", "containers", "Containers of this backend being created."),
    gauge("containers_running", "containers", "Containers of this backend with an invocation."),
    gauge("containers_cached", "containers", "Idle containers of this backend that are kept."),
    gauge(
        "containers_removing",
        "containers",
        "Containers of this backend whose removal is not confirmed yet.",
    ),
];

/// How many values a host has.
pub const HOST_VALUES: usize = 6;

/// Every metric path of a live worker's host; a simulated one has none.
pub const HOST_PATHS: &[Path; HOST_VALUES] = &[
    total(
        "cpu_host_seconds",
        "core seconds",
        "Processor time that the whole host has used since it was started.",
    ),
    total(
        "cpu_worker_seconds",
        "core seconds",
        "Processor time that the worker's process has used, its load included.",
    ),
    gauge("memory_host_used_mb", "MB", "Memory of the host that is not available for anything new."),
    gauge("memory_worker_mb", "MB", "Resident memory of the worker's process."),
    total(
        "points_dropped",
        "points",
        "Metric points that were dropped, because Graphite was away for too long.",
    ),
    total("thread_restarts", "restarts", "Restarts of the threads beside the event loop."),
];

/// Every metric path of a controller.
pub const CONTROLLER_PATHS: &[Path] = &[
    gauge("workers_healthy", "workers", "Workers that take invocations."),
    gauge("workers_lost", "workers", "Workers that are not heard of."),
    gauge("invocations_under_way", "invocations", "Invocations that were taken and are not answered yet."),
    total("invocations", "invocations", "Invocations that arrived."),
    total("invocations_lost", "attempts", "Attempts at invocations whose worker was lost."),
    total("invocations_refused", "invocations", "Invocations that no worker could take."),
    total("retries", "attempts", "Further attempts at invocations."),
    total("loop_restarts", "restarts", "Restarts of background loops."),
    total("thread_restarts", "restarts", "Restarts of the threads beside the event loop."),
];

/// A name as a part of a metric path: what Graphite would take for structure becomes an underscore.
pub fn path_part(name: &str) -> String {
    let part: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    if part.is_empty() { "run".into() } else { part }
}

/// What stands before a worker's paths.
pub fn prefix(run: &str, worker: &str) -> String {
    format!("elapse.{}.{}.", path_part(run), path_part(worker))
}

/// Graphite's storage-schemas for our paths: each second for six hours, ten for two days, a minute for a month; 1 MB a series.
pub const STORAGE_SCHEMAS: &str = "\
# For Graphite's storage-schemas.conf; put it before any pattern that matches everything.
[elapse]
pattern = ^elapse\\.
retentions = 1s:6h,10s:2d,60s:30d
";

/// Graphite's storage-aggregation for our paths: totals keep their last value, gauges are averaged.
pub fn storage_aggregation() -> String {
    let lists: [&[Path]; 4] = [PATHS, BACKEND_PATHS, HOST_PATHS, CONTROLLER_PATHS];
    let mut totals: Vec<&str> = Vec::new();
    for path in lists.into_iter().flatten().filter(|p| p.kind == Kind::Total) {
        if !totals.contains(&path.name) {
            totals.push(path.name);
        }
    }
    format!(
        "# For Graphite's storage-aggregation.conf; put it before any pattern that matches everything.\n\
         [elapse-totals]\npattern = ^elapse\\..*\\.({})$\nxFilesFactor = 0\naggregationMethod = last\n\n\
         [elapse-gauges]\npattern = ^elapse\\.\nxFilesFactor = 0\naggregationMethod = average\n",
        totals.join("|")
    )
}

/// What a series of ours is, by its whole path: `elapse.<run>.<worker>.<name>`. Nothing for the series of anybody else,
/// whatever their last part is.
pub fn path_of(path: &str) -> Option<&'static Path> {
    let name = path.strip_prefix("elapse.")?.splitn(3, '.').nth(2)?;
    let (name, lists): (&str, &[&'static [Path]]) =
        match name.strip_prefix("backend.").and_then(|backend| backend.split_once('.')) {
            Some((_, name)) => (name, &[BACKEND_PATHS]),
            None => (name, &[PATHS, HOST_PATHS, CONTROLLER_PATHS]),
        };
    lists.iter().copied().flatten().find(|p| p.name == name)
}
