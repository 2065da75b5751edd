//! What a worker holds: permits, memory, GPUs, containers, and what it has learnt of its functions.

use crate::plan::{FunctionPlan, Ns, Plan};
use crate::record::ColdCause;
use crate::room::Need;
use crate::sharing::Processors;

/// Law (Container): creating, running or cached, removing, gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It cannot be used yet.
    Creating,
    /// Invocations execute in it.
    Running,
    /// It is idle.
    Cached,
    /// It is being destroyed and still holds its memory.
    Removing,
    /// It holds nothing.
    Gone,
}

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    /// What it is shared by: a function, or an app.
    pub group: usize,
    /// Where it is.
    pub state: State,
    /// Bytes that it reserves.
    pub memory: u64,
    /// Bytes that were last read of it, at most what it reserves.
    pub reading: u64,
    /// Bytes that it is charged now.
    pub charge: u64,
    /// Whether it holds a GPU.
    pub gpu: bool,
    /// Invocations that it takes at once.
    pub concurrency: usize,
    /// How long it is kept when idle.
    pub keep_alive: Ns,
    /// Who caused its creation and waits for it.
    pub owner: Option<usize>,
    /// Whether it was created ahead of need and nobody used it yet.
    pub unused_prewarm: bool,
    /// Who executes in it.
    pub inside: Vec<usize>,
    /// When its creation began.
    pub created: Ns,
    /// When it became idle, and as which of all becomings.
    pub idle: (Ns, u64),
    /// When its keep-alive ends, if it stays idle.
    pub expiry: Ns,
    /// Greedy-dual's priority.
    pub priority: f64,
    /// When it last became busy or ceased to be full, as which of all becomings.
    pub roomy: u64,
    /// Whether a failure condemned it: nobody enters any more, and the last one out removes it.
    pub condemned: bool,
}

impl Container {
    /// Whether one more may enter. Law (Keep-alive): cached on [t, t + ttl), refused at t + ttl by comparing times.
    pub fn has_room(&self, now: Ns) -> bool {
        (self.state == State::Running || self.state == State::Cached && now < self.expiry)
            && !self.condemned
            && self.inside.len() < self.concurrency
    }
}

/// What a worker has learnt of what shares containers.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// How its last container ended; `None` if it never had one that ended.
    pub last_end: Option<ColdCause>,
    /// Invocations since it last had no container.
    pub frequency: u64,
    /// Expected execution, ns.
    pub execution: Option<f64>,
    /// Expected creation, ns.
    pub creation: Option<f64>,
}

/// Law (Queue): policies expect a moving average (a = 0.3) of what was seen.
pub fn learn(expected: &mut Option<f64>, seen: Ns) {
    let seen = seen as f64;
    *expected = Some(expected.map_or(seen, |before| 0.3 * seen + 0.7 * before));
}

/// A worker.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Cores held by permits, in thousandths.
    pub permits: u64,
    /// All containers it ever made; number k is at k - 1.
    pub containers: Vec<Container>,
    /// By function, or by app.
    pub groups: Vec<Group>,
    /// Who waits, in order of joining.
    pub queue: Vec<usize>,
    /// What was expected of each call when it joined the queue, ns.
    pub expectations: Vec<(usize, Option<f64>)>,
    /// Who was dispatched and waits for a creation, in order of dispatch; used with late dispatch.
    pub late: Vec<usize>,
    /// Greedy-dual's clock: the highest priority that was evicted.
    pub clock: f64,
    /// What runs, where processors are shared.
    pub processors: Processors,
    /// Counts becomings (idle, busy, with room), for the order of those at one instant.
    pub becomings: u64,
    /// Requests that it has received, and those it still has; for reports.
    pub received: u64,
    /// See `received`.
    pub left: u64,
}

impl Worker {
    /// An empty one.
    pub fn new(plan: &Plan) -> Worker {
        Worker {
            permits: 0,
            containers: Vec::new(),
            groups: vec![Group::default(); plan.functions.len() + apps(plan)],
            queue: Vec::new(),
            expectations: Vec::new(),
            late: Vec::new(),
            clock: 0.0,
            processors: Processors::new(plan.worker.cores),
            becomings: 0,
            received: 0,
            left: 0,
        }
    }

    /// Law (Queue): policies expect a moving average of what the function (the app) showed, unseen first. Assumed: as it was
    /// when the call joined.
    pub fn join(&mut self, call: usize, group: usize) {
        self.queue.push(call);
        self.expectations.push((call, self.groups[group].execution));
    }

    /// What was expected of a call when it joined, ns; below all others if its function was unseen.
    pub fn expected(&self, call: usize) -> f64 {
        let of = self.expectations.iter().find(|(of, _)| *of == call);
        of.and_then(|(_, expected)| *expected).unwrap_or(-1.0)
    }

    /// The next number of a becoming.
    pub fn becoming(&mut self) -> u64 {
        self.becomings += 1;
        self.becomings
    }

    /// Law (Memory): used = running (with creating) + cached + removing.
    pub fn used_memory(&self) -> u64 {
        self.containers.iter().filter(|c| c.state != State::Gone).map(|c| c.charge).sum()
    }

    /// Memory that is about to come free.
    pub fn removing_memory(&self) -> u64 {
        self.containers.iter().filter(|c| c.state == State::Removing).map(|c| c.charge).sum()
    }

    /// A GPU is held from a container's creation to its removal.
    pub fn used_gpus(&self) -> u32 {
        self.containers.iter().filter(|c| c.state != State::Gone && c.gpu).count() as u32
    }

    /// GPUs that are about to come free.
    pub fn removing_gpus(&self) -> u32 {
        self.containers.iter().filter(|c| c.state == State::Removing && c.gpu).count() as u32
    }

    /// Creations under way.
    pub fn creating(&self) -> usize {
        self.containers.iter().filter(|c| c.state == State::Creating).count()
    }

    /// Whether a group has a container that is neither being removed nor gone. Assumed: one that a failure condemned is not
    /// its any more, though some may still execute in it.
    pub fn has_container(&self, group: usize) -> bool {
        let lasting = |c: &Container| !c.condemned && !matches!(c.state, State::Removing | State::Gone);
        self.containers.iter().any(|c| c.group == group && lasting(c))
    }

    /// Law (Words): first, expired, evicted, concurrency or failure.
    pub fn cold_cause(&self, group: usize) -> ColdCause {
        if self.has_container(group) {
            return ColdCause::Concurrency;
        }
        self.groups[group].last_end.unwrap_or(ColdCause::First)
    }
}

fn apps(plan: &Plan) -> usize {
    plan.functions.iter().map(|f| f.app + 1).max().unwrap_or(0)
}

impl Plan {
    /// Law (Container): a container is of its function, or of its app. Apps are numbered behind the functions.
    pub fn group(&self, function: usize) -> usize {
        if self.worker.by_app { self.functions.len() + self.functions[function].app } else { function }
    }

    /// The functions that share containers with this one, itself among them.
    fn sharers(&self, function: usize) -> Vec<&FunctionPlan> {
        let group = self.group(function);
        (0..self.functions.len()).filter(|f| self.group(*f) == group).map(|f| &self.functions[f]).collect()
    }

    /// Law (Container): an app's container reserves the largest memory of its functions, and a GPU if one of them needs it.
    pub fn container_need(&self, function: usize) -> Need {
        let sharers = self.sharers(function);
        let memory = sharers.iter().map(|f| f.memory).max().unwrap_or(0);
        Need { memory, gpu: sharers.iter().any(|f| f.gpu) }
    }
}
