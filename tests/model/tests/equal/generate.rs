//! Random small scenarios from a seed.

use crate::rng::Rng;
use elapse_model::plan::{
    Balancer, Call, Contention, ControllerPlan, Eviction, FOREVER, FunctionPlan, ModelPlan, Ns, Plan, Queue,
    WorkerPlan,
};

/// A millisecond.
const MS: Ns = 1_000_000;
/// A mebibyte.
const MIB: u64 = 1 << 20;

/// A scenario that both run.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// What repeats it.
    pub seed: u64,
    /// What the model runs. With loads its calls are those that the program drew.
    pub plan: Plan,
    /// Where the calls come from.
    pub source: Source,
}

/// Where the calls come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A pair of CSV files with the plan's calls. Functions have a name, a memory and a cold start.
    Trace,
    /// Loads of functions with everything that a function can be given.
    Loads(Loads),
}

/// What the program draws the calls from.
#[derive(Clone, Debug, PartialEq)]
pub struct Loads {
    /// How many calls in all.
    pub invocations: u64,
    /// By function.
    pub functions: Vec<Load>,
}

/// A function's load, as the scenario file writes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The value of `load`.
    pub load: String,
    /// The value of `duration`.
    pub duration: String,
    /// Share of calls that fail, in hundredths.
    pub failure: u64,
    /// Bytes that each call uses; what is reserved if `None`.
    pub memory_used: Option<u64>,
    /// Whether the processor is what it says by `behaviour`: sleep or spin.
    pub behaviour: Option<&'static str>,
}

/// Times of a scenario: on a grid, so that many fall on one instant, or anywhere.
struct Clock {
    grid: Option<Ns>,
}

impl Clock {
    fn span(&self, rng: &mut Rng, low_ms: u64, high_ms: u64) -> Ns {
        match self.grid {
            Some(grid) => rng.within(low_ms * MS / grid, high_ms * MS / grid) * grid,
            None => rng.within(low_ms * MS + 1, high_ms * MS),
        }
    }

    /// The same, and never zero.
    fn some(&self, rng: &mut Rng, low_ms: u64, high_ms: u64) -> Ns {
        self.span(rng, low_ms, high_ms).max(self.grid.unwrap_or(MS))
    }
}

/// The scenario of a seed.
pub fn scenario(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let rng = &mut rng;
    let contention =
        rng.one_of(&[Contention::Permits, Contention::Permits, Contention::Shared, Contention::None]);
    let trace = rng.percent(50);
    // Under sharing rounding decides between events of one instant, so that none are laid there.
    let grid = if contention == Contention::Shared || rng.percent(40) {
        None
    } else {
        Some(rng.one_of(&[100 * MS, 250 * MS]))
    };
    let clock = Clock { grid };
    let worker = worker(rng, &clock, contention, trace);
    let workers = if rng.percent(25) { rng.within(2, 4) as usize } else { 1 };
    let functions = functions(rng, &clock, &worker, contention, trace);
    let model = ModelPlan {
        contention,
        cold_cpu_fraction: rng.one_of(&[0.0, 0.3, 0.5, 1.0]),
        removal: if rng.percent(25) { clock.some(rng, 50, 1000) } else { 0 },
    };
    let controller = controller(rng, &clock, workers, functions.len());
    let mut plan = Plan { workers, worker, controller, model, functions, ticks_begin: 0, calls: Vec::new() };
    keep_prewarms_that_fit(&mut plan);
    if trace { with_trace(rng, &clock, seed, plan) } else { with_loads(rng, &clock, seed, plan) }
}

fn worker(rng: &mut Rng, clock: &Clock, contention: Contention, trace: bool) -> WorkerPlan {
    let memory = rng.one_of(&[None, Some(256), Some(400), Some(600), Some(1000)]);
    WorkerPlan {
        cores: (contention != Contention::None).then(|| rng.within(1, 4) * 1000),
        memory: memory.map(|mib| mib * MIB),
        gpus: if !trace && rng.percent(15) { rng.within(1, 2) as u32 } else { 0 },
        keep_alive: if rng.percent(20) { FOREVER } else { clock.some(rng, 100, 6000) },
        eviction: rng.one_of(&[
            Eviction::Lru,
            Eviction::Ttl,
            Eviction::Size,
            Eviction::Lfu,
            Eviction::GreedyDual,
        ]),
        queue: rng.one_of(&[Queue::Fifo, Queue::Fifo, Queue::FifoSkip, Queue::Sjf, Queue::Edf]),
        queue_limit: rng.percent(20).then(|| rng.within(0, 5) as usize),
        queue_timeout: rng.percent(25).then(|| clock.some(rng, 100, 3000)),
        timeout: if rng.percent(20) { clock.some(rng, 300, 1500) } else { 300_000 * MS },
        by_app: !trace && rng.percent(40),
        late: rng.percent(30),
        max_creating: rng.percent(20).then(|| rng.within(1, 3) as usize),
        measured: false,
    }
}

fn functions(
    rng: &mut Rng,
    clock: &Clock,
    worker: &WorkerPlan,
    contention: Contention,
    trace: bool,
) -> Vec<FunctionPlan> {
    let own = !trace;
    let gpus_in_use = worker.gpus > 0;
    let uniform = rng.percent(30);
    (0..rng.within(1, 6) as usize)
        .map(|i| FunctionPlan {
            name: format!("f{i}"),
            app: if own { rng.within(0, 2) as usize } else { i },
            memory: if uniform { 128 * MIB } else { rng.one_of(&[50, 64, 100, 128, 200]) * MIB },
            cpus: if own && worker.cores.is_some() && rng.percent(40) {
                rng.one_of(&[500, 1000, worker.cores.unwrap_or(1000)])
            } else {
                1000
            },
            concurrency: if own && rng.percent(40) { rng.within(2, 3) as usize } else { 1 },
            prewarm: if own && rng.percent(20) { 1 } else { 0 },
            keep_alive: (own && rng.percent(20)).then(|| clock.some(rng, 100, 3000)),
            timeout: (own && rng.percent(10)).then(|| clock.some(rng, 300, 1500)),
            deadline: (own && rng.percent(70)).then(|| clock.some(rng, 100, 5000)),
            cold_start: if rng.percent(10) && contention != Contention::Shared {
                0
            } else {
                clock.some(rng, 20, 1500)
            },
            cpu_fraction: 1.0,
            gpu: own && gpus_in_use && rng.percent(50),
        })
        .collect()
}

fn controller(rng: &mut Rng, clock: &Clock, workers: usize, functions: usize) -> ControllerPlan {
    let delay = if workers > 1 && rng.percent(60) { clock.some(rng, 5, 300) } else { 0 };
    let reports = (workers > 1 && rng.percent(50)).then(|| clock.some(rng, 50, 1500));
    let locality = Balancer::Locality { rings: vec![Vec::new(); functions], slack: 3 };
    let balancer = rng.one_of(&[Balancer::RoundRobin, Balancer::LeastLoaded, locality]);
    ControllerPlan { balancer, delay, reports }
}

fn with_trace(rng: &mut Rng, clock: &Clock, seed: u64, mut plan: Plan) -> Scenario {
    let n = rng.within(5, 60);
    let span = n * rng.one_of(&[50, 150, 400]);
    let longest = rng.one_of(&[400, 1500, 3000]);
    let functions = plan.functions.len() as u64;
    let mut calls: Vec<Call> = (0..n)
        .map(|_| {
            let function = rng.within(0, functions - 1).min(rng.within(0, functions - 1)) as usize;
            let (arrival, duration) = (clock.span(rng, 0, span), clock.some(rng, 10, longest));
            let nothing = clock.grid.is_some() && rng.percent(5);
            Call {
                function,
                arrival,
                duration: if nothing { 0 } else { duration },
                fails: false,
                memory: None,
            }
        })
        .collect();
    calls.sort_by_key(|call| call.arrival);
    plan.ticks_begin = calls.first().map_or(0, |call| call.arrival);
    plan.calls = calls;
    Scenario { seed, plan, source: Source::Trace }
}

fn with_loads(rng: &mut Rng, clock: &Clock, seed: u64, mut plan: Plan) -> Scenario {
    let shared = plan.model.contention == Contention::Shared;
    let fraction = rng.one_of(&[1.0, 0.2, 0.5, 0.8]);
    let mut functions = Vec::new();
    for function in &mut plan.functions {
        let load = match rng.within(0, 2) {
            0 if clock.grid.is_some() => {
                format!("{{ constant = \"{}/min\" }}", rng.one_of(&[60, 120, 300, 600]))
            }
            1 => {
                let (rate, on, off) = (rng.within(5, 40), rng.within(100, 400), rng.within(500, 2000));
                format!("{{ on_off = {{ rate = \"{rate}/s\", on = \"{on}ms\", off = \"{off}ms\" }} }}")
            }
            _ => format!("{{ poisson = \"{}/min\" }}", rng.within(30, 600)),
        };
        let longest = rng.one_of(&[400, 1500, 3000]);
        let duration = match clock.grid {
            Some(_) => {
                let values: Vec<String> =
                    (0..4).map(|_| format!("\"{}ns\"", clock.span(rng, 100, longest))).collect();
                format!("{{ empirical = [{}] }}", values.join(", "))
            }
            None => format!("{{ uniform = {{ low = \"10ms\", high = \"{longest}ms\" }} }}"),
        };
        let memory_used =
            rng.percent(15).then(|| rng.one_of(&[function.memory - 10 * MIB, function.memory + 20 * MIB]));
        let behaviour = (shared && rng.percent(20)).then(|| rng.one_of(&["sleep", "spin"]));
        function.cpu_fraction = match behaviour {
            Some("sleep") => 0.0,
            Some(_) => 1.0,
            None => fraction,
        };
        let failure = if rng.percent(15) { 20 } else { 0 };
        functions.push(Load { load, duration, failure, memory_used, behaviour });
    }
    let mut loads = Loads { invocations: rng.within(5, 60), functions };
    if plan.worker.memory.is_some() && rng.percent(20) {
        charge_what_is_measured(rng, &mut plan, &mut loads);
    }
    Scenario { seed, plan, source: Source::Loads(loads) }
}

/// A prewarm that finds no room is tried again after a time that is drawn, which is not handed in.
fn keep_prewarms_that_fit(plan: &mut Plan) {
    let (mut memory, mut gpus) = (plan.worker.memory.unwrap_or(u64::MAX), plan.worker.gpus);
    for i in 0..plan.functions.len() {
        let (needs, gpu) = (plan.container_need(i).memory, u32::from(plan.container_need(i).gpu));
        if needs > memory || gpu > gpus || plan.worker.max_creating.is_some() {
            plan.functions[i].prewarm = 0;
        }
        if plan.functions[i].prewarm > 0 {
            memory -= needs;
            gpus -= gpu;
        }
    }
}

/// One invocation in a container at once, so that a reading is what that one uses.
fn charge_what_is_measured(rng: &mut Rng, plan: &mut Plan, loads: &mut Loads) {
    plan.worker.measured = true;
    for (function, load) in plan.functions.iter_mut().zip(&mut loads.functions) {
        function.concurrency = 1;
        if rng.percent(70) {
            load.memory_used = Some(rng.within(10, function.memory / MIB + 5) * MIB);
        }
    }
}
