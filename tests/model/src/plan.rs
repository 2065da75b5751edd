//! What is handed to the model: a worker (or several alike), functions, and calls with everything that was drawn.

/// Nanoseconds, as an instant since the run's zero or as a span.
pub type Ns = u64;

/// Longer than any run.
pub const FOREVER: Ns = u64::MAX / 4;

/// A whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Workers, all alike.
    pub workers: usize,
    /// What each of them is.
    pub worker: WorkerPlan,
    /// What gives invocations to workers; used where there are several.
    pub controller: ControllerPlan,
    /// The host's delays.
    pub model: ModelPlan,
    /// What can be called.
    pub functions: Vec<FunctionPlan>,
    /// Where ticks begin.
    pub ticks_begin: Ns,
    /// The calls, in order of arrival; of equal arrivals in the file's order.
    pub calls: Vec<Call>,
}

/// A worker's limits and policies.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerPlan {
    /// Cores in thousandths; `None` if unlimited.
    pub cores: Option<u64>,
    /// Bytes; `None` if unlimited.
    pub memory: Option<u64>,
    /// GPUs, each for one container.
    pub gpus: u32,
    /// How long an idle container is kept.
    pub keep_alive: Ns,
    /// Who makes room.
    pub eviction: Eviction,
    /// Whose turn it is.
    pub queue: Queue,
    /// How many may wait; `None` if unlimited.
    pub queue_limit: Option<usize>,
    /// How long one may wait; `None` if for ever.
    pub queue_timeout: Option<Ns>,
    /// The longest execution.
    pub timeout: Ns,
    /// Whether the functions of an app share containers.
    pub by_app: bool,
    /// Whether one whose container is being created takes a place that frees up sooner.
    pub late: bool,
    /// Creations under way at once; `None` if unlimited.
    pub max_creating: Option<usize>,
    /// Whether an idle container is charged what was read of it instead of what it reserves.
    pub measured: bool,
}

/// Who makes room first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// The longest idle.
    Lru,
    /// The earliest expiry.
    Ttl,
    /// The largest.
    Size,
    /// The function with the fewest invocations.
    Lfu,
    /// The lowest clock + frequency x cold start / memory.
    GreedyDual,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// By arrival, strictly.
    Fifo,
    /// By arrival, and who can be dispatched passes who cannot.
    FifoSkip,
    /// The shortest expected execution.
    Sjf,
    /// The earliest deadline.
    Edf,
}

/// What the processors are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contention {
    /// Invocations queue for cores.
    Permits,
    /// Runnable work shares the cores.
    Shared,
    /// Nothing is limited by cores.
    None,
}

/// The host's delays.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelPlan {
    /// See [`Contention`].
    pub contention: Contention,
    /// The part of a creation that is processor time, 0 to 1.
    pub cold_cpu_fraction: f64,
    /// How long a removal takes.
    pub removal: Ns,
}

/// A function.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionPlan {
    /// Its name, unique.
    pub name: String,
    /// Its app, an index of the caller's; used with `by_app`.
    pub app: usize,
    /// What its containers reserve, bytes.
    pub memory: u64,
    /// What an invocation holds of the cores, in thousandths.
    pub cpus: u64,
    /// Invocations in one container at once.
    pub concurrency: usize,
    /// Containers created before the first arrival.
    pub prewarm: usize,
    /// Overrides the worker's.
    pub keep_alive: Option<Ns>,
    /// Overrides the worker's.
    pub timeout: Option<Ns>,
    /// For deadline-aware queues, after arrival.
    pub deadline: Option<Ns>,
    /// How long a creation takes with the processors to itself.
    pub cold_start: Ns,
    /// The part of an execution that is processor time, 0 to 1.
    pub cpu_fraction: f64,
    /// Whether each of its containers needs a GPU.
    pub gpu: bool,
}

/// One call, with what was drawn for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What is called, an index into [`Plan::functions`].
    pub function: usize,
    /// When.
    pub arrival: Ns,
    /// How long it executes with the processors to itself.
    pub duration: Ns,
    /// Whether the function reports an error.
    pub fails: bool,
    /// The working set that it reaches, bytes; the reserved size if `None`.
    pub memory: Option<u64>,
}

/// What gives invocations to workers.
#[derive(Clone, Debug, PartialEq)]
pub struct ControllerPlan {
    /// Which worker.
    pub balancer: Balancer,
    /// How long a message takes, either way.
    pub delay: Ns,
    /// How often a worker reports; `None` if never.
    pub reports: Option<Ns>,
}

/// Which worker an invocation goes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Balancer {
    /// Each in turn.
    RoundRobin,
    /// The one with the lowest known load.
    LeastLoaded,
    /// Consistent hashing with bounded loads.
    Locality {
        /// For each function the workers in the order in which they lie clockwise from it.
        rings: Vec<Vec<usize>>,
        /// In cores: where a worker is passed over.
        slack: u64,
    },
}
