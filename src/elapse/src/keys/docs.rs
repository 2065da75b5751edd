//! What each key of a scenario means, in the words of `--print-plan`: one row a key. A test holds it complete.

use crate::scenario::Scenario;

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doc {
    /// The key's path.
    pub key: &'static str,
    /// What it means.
    pub says: &'static str,
    /// What holds where it is not given.
    pub without: Without,
    /// A value, as it is written; of a key with a default nothing.
    pub example: &'static str,
}

/// What holds where a key is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// The default that the code has.
    Default,
    /// This; or nothing worth a word.
    Words(&'static str),
    /// It has to be given.
    Refused,
}

/// A key that always has a value, and a table.
pub const fn key(key: &'static str, says: &'static str) -> Doc {
    Doc { key, says, without: Without::Default, example: "" }
}

/// A key that may be left out: what holds then, and an example.
pub const fn open(
    key: &'static str,
    says: &'static str,
    without: &'static str,
    example: &'static str,
) -> Doc {
    Doc { key, says, without: Without::Words(without), example }
}

/// A key that has to be given, with an example.
pub const fn must(key: &'static str, says: &'static str, example: &'static str) -> Doc {
    Doc { key, says, without: Without::Refused, example }
}

/// The rows.
pub const DOCS: &[Doc] = &[
    must("name", "what it is called, in results and metric paths", "\"my first run\""),
    key("seed", "seed of everything that is random; the same seed gives the same bytes"),
    key("start", "instant of the calendar at which the run's clock begins (UTC)"),
    open("duration", "how long the functions' loads go on", "until `invocations` were sent", "\"10min\""),
    open("invocations", "the loads end after this many", "any number", "10000"),
    key("records", "which invocations records.csv has: full (all), none, sample:0.01 (1 % of them)"),
    // The worker.
    key("worker", "the machine that containers run on"),
    key("worker.count", "simulation: equal workers, behind a controller"),
    open("worker.cores", "cores; or \"unlimited\"", "unlimited, live the host's", "8"),
    must("worker.memory", "memory that its containers reserve together; or \"unlimited\"", "\"16GiB\""),
    key("worker.gpus", "GPUs, for functions with compute = \"gpu\""),
    open(
        "worker.gpu_memory",
        "memory of each GPU, which containers share",
        "a container has a GPU alone",
        "\"16GiB\"",
    ),
    key("worker.backends", "live: what makes containers, in order of preference; the simulator models them"),
    key("worker.keep_alive", "how long an idle container is kept: a span, \"forever\", or a policy"),
    key("worker.eviction", "which idle container goes when memory is short"),
    key("worker.queue", "where invocations wait for cores or memory"),
    key(
        "worker.queue.policy",
        "which goes first; fifo is strict, fifo-skip lets one that can start pass one that cannot",
    ),
    open("worker.queue.limit", "invocations that may wait; further ones are dropped", "any number", "1000"),
    open("worker.queue.timeout", "longest wait; after it an invocation is dropped", "no limit", "\"60s\""),
    open("worker.timeout", "longest execution, then it has timed_out; or \"forever\"", "300s", "\"300s\""),
    key(
        "worker.accounting",
        "what idle containers are charged: reserved, or measured (the last reading of their memory)",
    ),
    open(
        "worker.unit",
        "who shares a container: invocations of one function, or of an app",
        "function",
        "\"app\"",
    ),
    key(
        "worker.dispatch",
        "early: an invocation waits for the container that is created for it; late: it takes one that frees up sooner",
    ),
    key("worker.max_creating", "containers that may be under creation at once; 0 for any number"),
    key("worker.memory_check", "between two readings of a running container's memory"),
    key("worker.status", "between two points of a metric; doubles in a long run"),
    key("worker.drain", "longest wait for running invocations when it ends"),
    // The controller.
    key("controller", "what gives invocations to workers, where worker.count is above 1"),
    key("controller.balancer", "which worker an invocation goes to"),
    key("controller.delay", "from the controller to a worker, or back: a time, or a distribution of it"),
    key(
        "controller.ordered",
        "messages of one worker, each way, arrive in the order in which they were sent",
    ),
    key("controller.loss", "share of messages that never arrive, 0 to 1"),
    key(
        "controller.reports",
        "between two reports of a worker's load; 0s: the controller's own count is all it needs",
    ),
    key(
        "controller.heartbeat",
        "between two heartbeats of a worker; 0s: none, or one a second where messages or workers can be lost",
    ),
    key("controller.lost_after", "a worker that was not heard of for this long is lost"),
    key(
        "controller.on_loss",
        "an invocation whose worker is lost: fail (it is lost), or retry on another worker",
    ),
    key("controller.attempts", "attempts at an invocation, the first included, with on_loss = \"retry\""),
    key("controller.attempt_timeout", "a worker that has not answered for this long has lost the invocation"),
    key(
        "controller.on_refusal",
        "an invocation that a worker refuses (queue.limit, queue.timeout): next (another is tried, as the daemon does), or end (it is dropped)",
    ),
    // What befalls workers.
    key("fault", "simulation: something that befalls a worker"),
    must("fault.at", "when, counted from the beginning of the load", "\"10min\""),
    must("fault.worker", "which worker, numbered from 0", "1"),
    must(
        "fault.kind",
        "part: no message between it and the controller arrives; kill: it is gone for good; restart: it comes back empty",
        "\"restart\"",
    ),
    open("fault.for", "how long it lasts", "to the end; a restart takes 1s", "\"30s\""),
    // Functions.
    key("function", "a function, or `count` of them"),
    must("function.name", "unique name", "\"thumb\""),
    open("function.app", "the app that it belongs to", "an app of its own", "\"shop\""),
    must("function.memory", "what a container of it reserves", "\"256MiB\""),
    key("function.cpus", "cores that an invocation holds"),
    key("function.concurrency", "invocations that a container takes at once"),
    key("function.count", "functions of this kind; more than one get a number behind their name"),
    key("function.prewarm", "containers created ahead of need, at the start"),
    open("function.keep_alive", "how long an idle container is kept", "the worker's", "\"10min\""),
    open("function.timeout", "longest execution", "the worker's", "\"60s\""),
    open(
        "function.deadline",
        "time after arrival by which it should have returned, for queue.policy = \"edf\"",
        "none",
        "\"1s\"",
    ),
    must(
        "function.duration",
        "how long an invocation executes: a time, or a distribution (uniform, exponential, lognormal, normal, gamma, weibull, empirical)",
        "{ lognormal = { median = \"120ms\", sigma = 0.6 } }",
    ),
    open(
        "function.cold_start",
        "simulation: time to create a container",
        "the model's",
        "{ lognormal = { median = \"500ms\", sigma = 0.5 } }",
    ),
    open(
        "function.memory_used",
        "what an invocation really uses; above `memory` it is killed (oom)",
        "all that is reserved",
        "\"100MiB\"",
    ),
    key("function.failure", "share of invocations that report an error, 0 to 1"),
    open(
        "function.behaviour",
        "live: what an invocation does; simulated, sleep uses no processor and spin nothing else",
        "live.behaviour",
        "\"spin\"",
    ),
    open(
        "function.init",
        "what its own code takes in a new container before it is ready, on top of creating one; spin: processor time",
        "none; live.init where live or calibrated",
        "\"300ms\"",
    ),
    open(
        "function.image",
        "live: an OCI archive's path, or an image's name",
        "our agent alone",
        "\"alpine:3\"",
    ),
    open("function.command", "live: what exec and serve run", "none", "[\"python3\", \"/code/app.py\"]"),
    open("function.code", "live: a folder that containers see read-only at /code", "none", "\"app\""),
    key("function.protocol", "live: unix, or tcp on $PORT for an image that is an HTTP server"),
    open(
        "function.network",
        "live: none, a bridge of the worker's, or the host's",
        "none, with tcp a bridge",
        "\"bridge\"",
    ),
    key("function.compute", "whether its containers need a GPU"),
    open("function.gpu_memory", "GPU memory of each container", "a GPU alone", "\"4GiB\""),
    open(
        "function.writable",
        "live: disk that a container may write, on docker where its storage has quotas (overlay2 on xfs with pquota, btrfs, zfs)",
        "none: what it writes is memory",
        "\"1GiB\"",
    ),
    open(
        "function.backends",
        "live: backends it may run on, in order of preference",
        "any of the worker's",
        "[\"process\"]",
    ),
    open("function.load", "how it is called; one of the following", "not at all", "{ poisson = \"5/s\" }"),
    open("function.load.poisson", "at random instants, so many in the mean", "", "\"5/s\""),
    open("function.load.constant", "at equal distances", "", "\"1/min\""),
    open(
        "function.load.on_off",
        "as poisson, switched on and off",
        "",
        "{ rate = \"2/s\", on = \"30s\", off = \"4min\" }",
    ),
    open("function.load.on_off.rate", "rate while on", "", "\"2/s\""),
    open("function.load.on_off.on", "how long it is on", "", "\"30s\""),
    open("function.load.on_off.off", "how long it is off", "", "\"4min\""),
    open(
        "function.load.diurnal",
        "as poisson, with a rate that follows a cosine",
        "",
        "{ mean = \"20/s\", peak = 1.5 }",
    ),
    open("function.load.diurnal.mean", "mean rate", "", "\"20/s\""),
    open("function.load.diurnal.peak", "rate at the peak over the mean, 1 to 2", "", "1.5"),
    open("function.load.diurnal.peak_at", "when the peak is", "13h", "\"13h\""),
    open("function.load.diurnal.period", "length of a day", "24h", "\"24h\""),
    open(
        "function.load.closed",
        "a closed loop: clients that call again when they were answered",
        "",
        "{ clients = 16, think = \"1s\" }",
    ),
    open("function.load.closed.clients", "clients", "", "16"),
    open("function.load.closed.think", "between an answer and the next call", "0s", "\"1s\""),
    open("function.load.closed.retry", "least time between a refusal and the next call", "1ms", "\"1ms\""),
    open(
        "function.load.zipf",
        "beside one of these: `count` functions share it by a Zipf law of this exponent",
        "equally",
        "1.1",
    ),
    // The trace.
    key("trace", "recorded invocations, instead of or beside functions with a load"),
    must("trace.format", "its format", "\"csv\""),
    open("trace.path", "its file or folder", "", "\"sim-traces/csv-20\""),
    open("trace.paths", "its files, where there are several", "", "[\"functions.csv\", \"invocations.csv\"]"),
    open("trace.from", "from this time of day, or this long after its start", "its start", "\"08:00\""),
    open("trace.to", "up to this time of day, or this long after its start", "its end", "\"90min\""),
    open(
        "trace.day",
        "azure-2019: which day of a folder that holds several",
        "the first that is complete",
        "1",
    ),
    open("trace.rate_scale", "multiplies the number of invocations", "1", "0.5"),
    open("trace.time_scale", "multiplies the time between invocations; durations stay", "1", "0.5"),
    open(
        "trace.clones",
        "replays so many functions for each of the trace, each with luck of its own",
        "1",
        "4",
    ),
    open(
        "trace.skip_bad",
        "csv, iluvatar: leaves out wrong rows and counts them, instead of ending at the first",
        "false",
        "true",
    ),
    key(
        "trace.cold_start_per",
        "where the trace has no cold starts: a median for each function (function), or a draw for each creation",
    ),
    key("trace.placement", "azure-2019: where in its minute an invocation is placed"),
    key("trace.durations", "azure-2019: how durations are drawn from the trace's percentiles"),
    key("trace.counts", "azure-2019: whether a minute counts starts or ends"),
    open("trace.unit", "azure-2019: who shares a container", "what its memory file speaks of", "\"app\""),
    open("trace.cold_start", "cold starts, where the format has none", "the model's", "\"500ms\""),
    // The model.
    key("model", "simulation: the delays of the host"),
    key(
        "model.cold_start",
        "time to create a container; the default is that of Huawei's 2025 trace, with mean 3.24 s",
    ),
    key("model.removal", "from the decision to remove a container until its memory is free"),
    key("model.creation_failure", "share of creations that fail, 0 to 1"),
    key("model.transient", "whether such a creation is worth another attempt"),
    key(
        "model.contention",
        "permits: an invocation holds its cores, others wait for them; shared: all run at once and share the cores; none: cores are never short",
    ),
    key("model.cpu_fraction", "shared: share of an execution that is processor time, 0 to 1"),
    key("model.cold_cpu_fraction", "shared: share of a cold start that is processor time, 0 to 1"),
    open(
        "model.calibration",
        "a file of `elapse calibrate`, whose measured delays go before these",
        "none",
        "\"host.toml\"",
    ),
    // Live.
    key("live", "what only a live run needs to know"),
    key("live.worker", "the worker's name on this host, in paths, cgroups and labels"),
    key("live.behaviour", "what invocations do whose function says nothing, for instance those of a trace"),
    key(
        "live.init",
        "what the code of functions that do not say it takes in a new container before it is ready",
    ),
    open("live.agent", "our agent, which goes into containers", "beside the program", "\"elapse-agent\""),
    key("live.create_timeout", "longest time until a new container answers"),
    key("live.pids", "processes and threads that a container may have; 0 for any number"),
    key("live.containerd", "containerd's socket"),
    key("live.runtime", "what containerd starts containers with"),
    key("live.docker", "docker's socket"),
    key("live.pooled", "containerd: containers of each kind that are created ahead"),
    key(
        "live.uids",
        "users of this host of which each sandbox of the process backend has one of its own, as root",
    ),
    key("live.image_size", "bytes that an image may have, packed and unpacked"),
    key(
        "live.sandbox",
        "daemons: isolated, or none: functions come through the API though sandboxes of process are plain processes here",
    ),
    key("live.weaker", "measures that this kernel may lack and sandboxes of process then do without"),
    key(
        "live.reach_host",
        "whether containers with a network of their own may begin connections to this host",
    ),
    key("live.subnet", "IPv4 addresses that the worker's bridges take theirs from"),
    key("live.networks", "network namespaces that are kept ready"),
    // The window.
    key("measure", "the window: the part of the run that figures cover"),
    open(
        "measure.warm_up",
        "leave out what arrives in this first while, when every container starts cold",
        "nothing",
        "\"5min\"",
    ),
    open("measure.until", "the window ends at this instant", "with the load", "\"1h\""),
    key(
        "measure.at_end",
        "finish: what still runs at the end is followed to its return; cut: it is unfinished",
    ),
    key(
        "measure.give_up",
        "live: a run ends early where none of its first invocations, so many, completed; off for never",
    ),
    // The rest.
    key("plots", "how pictures are drawn"),
    open(
        "plots.font",
        "a font file for letters that the built-in one lacks",
        "the built-in one",
        "\"NotoSansCJK.ttf\"",
    ),
    key("prewarm", "attempts at creations ahead of need"),
    key("prewarm.attempts", "attempts, the first included"),
    key("prewarm.backoff", "pause before the second; doubles with each further one"),
    key("prewarm.longest", "the longest pause"),
    key("prewarm.jitter", "share of a pause that is random, 0 to 1"),
    key("metrics", "metrics.csv, and what goes to Graphite"),
    key("metrics.points", "points that a series keeps at most; its step doubles where there would be more"),
    key("graphite", "where metrics go, and other series come from"),
    open("graphite.carbon", "where carbon takes points", "nothing is sent", "\"127.0.0.1:2003\""),
    key("graphite.protocol", "how carbon takes them"),
    open(
        "graphite.url",
        "where graphite-web answers; series are fetched after the run",
        "nothing is fetched",
        "\"http://127.0.0.1:8080\"",
    ),
    open(
        "graphite.targets",
        "what is fetched beside our own series: patterns, or functions of them",
        "nothing",
        "[\"servers.*.cpu.*\"]",
    ),
    key("graphite.buffer", "points that wait at most while carbon is away"),
    key(
        "graphite.wait",
        "longest wait, at the end, for carbon to take and graphite-web to show the last points",
    ),
    key("graphite.timeout", "a request is given up after this long"),
    key("graphite.attempts", "and tried so often"),
    key(
        "graphite.shift",
        "where a simulated run lies on Graphite's calendar: none, at `start`; now, so that it ends now",
    ),
    open(
        "graphite.marker",
        "live: all processors are busy for this long before the load, a mark for elapse align",
        "none",
        "\"5s\"",
    ),
    open(
        "graphite.plot",
        "fetched series that the timeline shows",
        "up to four that are not ours",
        "[\"servers.*.load\"]",
    ),
];

/// A configuration whose keys have rows.
pub trait Documented {
    /// The rows that only it has; those of [`DOCS`] hold for all others.
    const OWN: &'static [Doc] = &[];
    /// The least that can be written of it, with one of everything: the rest are defaults.
    const LEAST: &'static str;
    /// The least that can be meant: what `--print-plan` shows of it has an example for every other key.
    const EXAMPLE: &'static str;
    /// What it is called.
    const WHAT: &'static str;
}

impl Documented for Scenario {
    const LEAST: &'static str =
        "name = ''\n[[function]]\nname = ''\nmemory = '1MiB'\nduration = '0s'\n[trace]\nformat = 'csv'\n";
    const EXAMPLE: &'static str = "name = 'x'\n[worker]\nmemory = '1GiB'\n";
    const WHAT: &'static str = "a scenario";
}

/// The row of a key of this configuration.
pub fn of<T: Documented>(key: &str) -> Option<&'static Doc> {
    T::OWN.iter().chain(DOCS).find(|doc| doc.key == key)
}
