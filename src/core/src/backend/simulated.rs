//! The simulated backend: creation, execution, failure and memory as distributions.

use super::calibrated::{Calibrated, Effort, cores_of};
use super::sharing::{Running, Sharing};
use super::{Backend, CallFault, Create, CreateFault, LiveConfig, Measured, Sandbox, Shared, Work};
use crate::base::{
    Behaviour, Cpus, Dist, Duration, FunctionId, FunctionSpec, Invocation, Mem, Program, Time,
};
use crate::rt::chance::{Purpose, RngKey, Seed};
use crate::rt::{self, sync};
use rand::RngExt;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

/// What happens when more work is runnable than there are cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contention {
    /// An invocation waits in the queue until its cores are free.
    #[default]
    Permits,
    /// Nothing waits for cores; runnable work shares them.
    Shared,
    /// There are always enough cores.
    None,
}

/// A host's delays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// Time to create a container, for functions that bring none of their own.
    pub cold_start: Dist,
    /// Time from the decision to remove a container until its memory is free.
    pub removal: Dist,
    /// Share of creations that fail, 0 to 1.
    pub creation_failure: f64,
    /// Whether those failures are worth another attempt.
    pub transient: bool,
    /// What happens when cores are short.
    pub contention: Contention,
    /// Share of an execution that is processor time, 0 to 1. Matters where cores are shared.
    pub cpu_fraction: f64,
    /// Share of a cold start that is processor time (on one core), 0 to 1. Matters where cores are shared.
    pub cold_cpu_fraction: f64,
    /// A file of `elapse calibrate`: its delays go instead of `cold_start` and `removal`, and of what a trace says of cold
    /// starts. Relative to the scenario.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<PathBuf>,
}

impl Default for Model {
    /// Azure's traces tell no cold starts; these are the mean and spread of Huawei's 2025 trace. Creating a container
    /// was seen to be bound by the processor for about half of its time.
    fn default() -> Model {
        Model {
            cold_start: Model::huawei_2025(),
            removal: Dist::constant(Duration::ZERO),
            creation_failure: 0.0,
            transient: true,
            contention: Contention::Permits,
            cpu_fraction: 1.0,
            cold_cpu_fraction: 0.5,
            calibration: None,
        }
    }
}

impl Model {
    /// Lognormal with mean 3.24 s and standard deviation 7.10 s: the cold starts of Huawei's 2025 trace.
    pub fn huawei_2025() -> Dist {
        Dist::lognormal_mean_sd(Duration::from_millis(3_240), Duration::from_millis(7_100))
    }
}

struct Function {
    rng: RngKey,
    memory: Mem,
    cpus: Cpus,
    cold_start: Dist,
    /// Share of an execution that is processor time.
    cpu_fraction: f64,
    behaviour: Option<Behaviour>,
    image: Option<String>,
    /// What its code does in a new container before it is ready, and whether that is processor time.
    init: Option<(Duration, f64)>,
    /// What tells its containers from those of others before they are called.
    kind: Rc<str>,
}

/// See the module.
pub struct Simulated {
    name: String,
    /// A host's backend as it was measured.
    host: Option<Rc<Calibrated>>,
    /// Held while a container is created ahead: one at a time.
    making: Rc<sync::Semaphore>,
    made: Cell<u64>,
    /// Containers that were called already, where it matters.
    called: RefCell<FxHashSet<Sandbox>>,
    model: Model,
    /// See [`LiveConfig::init`].
    init: Duration,
    chance: Seed,
    sharing: Option<Sharing>,
    functions: RefCell<Vec<Option<Function>>>,
    created: Cell<u64>,
    /// Working sets of the calls that have one of their own.
    usage: RefCell<FxHashMap<Sandbox, Mem>>,
    /// Memory that is reserved for each container.
    reserved: RefCell<FxHashMap<Sandbox, Mem>>,
    removals: Cell<u64>,
    removal_luck: RngKey,
}

impl Simulated {
    /// A backend that behaves like `model` on `cores`. Inside a runtime only.
    pub fn new(model: Model, cores: Cpus, seed: u64) -> Simulated {
        let chance = Seed::new(seed);
        let shared = model.contention == Contention::Shared && cores != Cpus::MAX;
        Simulated {
            name: "simulated".into(),
            host: None,
            making: Rc::new(sync::Semaphore::new(1)),
            made: Cell::new(0),
            called: RefCell::default(),
            sharing: shared.then(|| Sharing::new(cores)),
            model,
            init: Duration::ZERO,
            chance,
            functions: RefCell::default(),
            created: Cell::new(0),
            usage: RefCell::default(),
            reserved: RefCell::default(),
            removals: Cell::new(0),
            removal_luck: chance.named("removal"),
        }
    }

    /// Behaves like a backend that was measured on a host of so many processors, where functions that name no behaviour do
    /// what `live` says, and containers of each kind are created ahead as it says.
    #[must_use]
    pub fn measured(
        mut self,
        name: &str,
        measured: Measured,
        live: &LiveConfig,
        processors: usize,
    ) -> Simulated {
        self.name = name.to_string();
        self.init = live.init;
        let host = Rc::new(Calibrated::new(measured, live.behaviour, processors, live.pooled));
        // Also where processors are never short, creations stand in each other's way.
        let short = host.cores().filter(|_| self.model.contention != Contention::None);
        self.sharing = Some(Sharing::new(short.unwrap_or(Cpus::MAX)));
        self.host = Some(host);
        self
    }

    /// Shares its processors with `other`, as backends of one host do.
    #[must_use]
    pub fn beside(mut self, other: &Simulated) -> Simulated {
        self.sharing.clone_from(&other.sharing);
        if let Some(theirs) = &other.host
            && let Some(host) = self.host.take().and_then(Rc::into_inner)
        {
            self.host = Some(Rc::new(host.beside(theirs)));
        }
        self
    }

    /// Creates a container ahead, in the place of one that was taken.
    fn make_up(&self, host: &Rc<Calibrated>, kind: Rc<str>) {
        let (host, sharing, making) = (Rc::clone(host), self.sharing.clone(), Rc::clone(&self.making));
        let nth = self.made.replace(self.made.get() + 1);
        let mut rng = self.chance.named("created-ahead").draw(Purpose::ColdStart, nth);
        rt::spawn_detached(async move {
            let _one = making.acquire(1).await;
            takes(sharing.as_ref(), host.making_up(&mut rng)).await;
            host.made_up(kind);
        });
    }
}

/// Lets something take its time from now on, beside whatever else there is.
fn takes(sharing: Option<&Sharing>, effort: Effort) -> impl Future<Output = ()> + use<> {
    let (span, begun) = (effort.span, rt::now());
    let done = sharing.map(|sharing| share(sharing, effort));
    async move {
        match done {
            Some(done) => done.done().await,
            None => rt::sleep_until(begun + span).await,
        }
    }
}

/// Work that keeps so many processors busy while it is undisturbed.
fn share(sharing: &Sharing, Effort { span, busy, speeds }: Effort) -> Running {
    if busy > 1.0 {
        sharing.start_among(span, 1.0, cores_of(busy), speeds.as_ref())
    } else {
        sharing.start_among(span, busy, Cpus::from_cores(1), speeds.as_ref())
    }
}

impl Backend for Simulated {
    fn name(&self) -> &str {
        &self.name
    }

    fn admit(&self, id: FunctionId, spec: &FunctionSpec) -> Result<(), String> {
        let mut functions = self.functions.borrow_mut();
        if functions.len() <= id.index() {
            functions.resize_with(id.index() + 1, || None);
        }
        // On a backend that was measured a function that names nothing does what the agent does there.
        let does = self.host.as_ref().map(|host| host.does(spec.program.behaviour));
        let does = does.or(spec.program.behaviour);
        let role = match does {
            Some(Behaviour::Exec) => "exec",
            Some(Behaviour::Serve) => "serve",
            _ => "behave",
        };
        let program = Program { behaviour: None, ..spec.program.clone() };
        let kind = format!("{program:?} {role} {} {}", spec.memory, spec.cpus);
        functions[id.index()] = Some(Function {
            kind: kind.into(),
            rng: self.chance.named(&spec.name),
            memory: spec.memory,
            cpus: spec.cpus,
            cold_start: spec.cold_start.clone().unwrap_or_else(|| self.model.cold_start.clone()),
            behaviour: spec.program.behaviour,
            image: spec.program.image.clone(),
            init: Some(spec.program.init.unwrap_or(self.init))
                .filter(|init| spec.program.is_agent() && *init > Duration::ZERO)
                .map(|init| (init, if does == Some(Behaviour::Spin) { 1.0 } else { 0.0 })),
            cpu_fraction: match does {
                Some(Behaviour::Spin) => 1.0,
                Some(Behaviour::Sleep | Behaviour::Alloc) => 0.0,
                _ => self.model.cpu_fraction,
            },
        });
        Ok(())
    }

    fn create(&self, request: &Create) -> Work<Result<Sandbox, CreateFault>> {
        let functions = self.functions.borrow();
        let Some(Some(function)) = functions.get(request.function.index()) else {
            let why = Rc::from("the function was not admitted to this backend");
            return Work::ready(Err(CreateFault { transient: false, why }));
        };
        let mut rng = function.rng.draw(Purpose::ColdStart, request.nth);
        let kind = &function.kind;
        let ahead = self.host.as_ref().and_then(|host| Some((host, host.ahead(kind, &mut rng)?)));
        let measured = match ahead {
            Some((host, effort)) => {
                self.make_up(host, Rc::clone(kind));
                Some(effort)
            }
            None => self.host.as_ref().and_then(|host| host.creation(function.image.as_ref(), &mut rng)),
        };
        let fails = self.model.creation_failure > 0.0
            && function
                .rng
                .draw(Purpose::CreationFailure, request.nth)
                .random_bool(self.model.creation_failure.min(1.0));
        let answer = if fails {
            Err(CreateFault {
                transient: self.model.transient,
                why: Rc::from("the model let the creation fail"),
            })
        } else {
            self.created.set(self.created.get() + 1);
            let sandbox = Sandbox(self.created.get());
            self.reserved.borrow_mut().insert(sandbox, request.memory);
            Ok(sandbox)
        };
        if request.at_once {
            return Work::ready(answer);
        }
        let init = function.init.filter(|_| answer.is_ok());
        let effort = measured.unwrap_or_else(|| Effort {
            span: function.cold_start.sample(&mut rng),
            busy: self.model.cold_cpu_fraction,
            speeds: None,
        });
        if self.sharing.is_none() {
            return Work::after(effort.span + init.map_or(Duration::ZERO, |(span, _)| span), answer);
        }
        let (sharing, host, creating) =
            (self.sharing.clone(), self.host.clone(), takes(self.sharing.as_ref(), effort));
        Work::boxed(async move {
            creating.await;
            if let Some((span, busy)) = init {
                let one = Cpus::from_cores(1);
                let _under_way = host.as_ref().map(|host| host.code(one, busy));
                takes(sharing.as_ref(), Effort { span, busy, speeds: None }).await;
            }
            answer
        })
    }

    #[inline]
    fn invoke(&self, sandbox: Sandbox, call: &Invocation) -> Work<Result<(), CallFault>> {
        let mut answer = Ok(());
        if call.fails {
            answer = Err(CallFault::Function(Rc::from("the function reported an error")));
        }
        if call.usage.is_none() && !self.usage.borrow().is_empty() {
            // What an invocation before it used is no reading of this one.
            self.usage.borrow_mut().remove(&sandbox);
        }
        if self.host.is_none() && self.sharing.is_none() && call.usage.is_none() {
            return Work::after(call.intended, answer);
        }
        let functions = self.functions.borrow();
        let Some(Some(function)) = functions.get(call.function.index()) else {
            return Work::ready(Err(CallFault::Broken(Rc::from(
                "the function was not admitted to this backend",
            ))));
        };
        if let Some(usage) = call.usage {
            let has = self.reserved.borrow().get(&sandbox).copied().unwrap_or(function.memory);
            self.usage.borrow_mut().insert(sandbox, usage.min(has));
            if usage > has {
                answer = Err(CallFault::OutOfMemory);
            }
        }
        let (mut span, mut fraction, mut under_way) = (call.intended, function.cpu_fraction, None);
        if let Some(host) = &self.host {
            let first = self.called.borrow_mut().insert(sandbox);
            let mut rng = function.rng.draw(Purpose::Overhead, call.number);
            let asks = (function.cpus, fraction);
            let counted;
            (span, fraction, counted) =
                host.call(host.does(function.behaviour), call.intended, first, asks, &mut rng);
            under_way = Some(counted);
        }
        // Where a host was measured there is sharing always.
        let Some(sharing) = &self.sharing else { return Work::after(span, answer) };
        let done = sharing.start(span, fraction, function.cpus);
        if let (Some(host), Some(under_way)) = (&self.host, &mut under_way)
            && fraction > 0.0
        {
            under_way.executes(host.executing(), done.lost());
        }
        Work::boxed(async move {
            let _under_way = under_way;
            done.done().await;
            answer
        })
    }

    #[inline]
    fn memory(&self, sandbox: Sandbox) -> Option<Mem> {
        let usage = self.usage.borrow();
        if usage.is_empty() { None } else { usage.get(&sandbox).copied() }
    }

    fn shared(&self) -> Option<Shared> {
        self.sharing.as_ref().map(Sharing::shared)
    }

    fn measure_in(&self, from: Time, until: Time) {
        if let Some(sharing) = &self.sharing {
            sharing.measure_in(from, until);
        }
    }

    fn remove(&self, sandbox: Sandbox) -> Work<()> {
        self.usage.borrow_mut().remove(&sandbox);
        self.reserved.borrow_mut().remove(&sandbox);
        self.called.borrow_mut().remove(&sandbox);
        let nth = self.removals.replace(self.removals.get() + 1);
        let mut rng = self.removal_luck.draw(Purpose::Removal, nth);
        let Some(host) = &self.host else {
            let span = self.model.removal.sample(&mut rng);
            return if span == Duration::ZERO { Work::ready(()) } else { Work::after(span, ()) };
        };
        let effort = host.removal(&mut rng);
        if effort.span == Duration::ZERO {
            return Work::ready(());
        }
        Work::boxed(takes(self.sharing.as_ref(), effort))
    }
}
