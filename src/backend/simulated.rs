//! The simulated backend: creation, execution, failure and memory as distributions.

use super::sharing::{Running, Sharing};
use super::{Backend, CallFault, Create, CreateFault, Measured, Processor, Sandbox, Work};
use crate::base::{Behaviour, Cpus, Dist, Duration, FunctionId, FunctionSpec, Invocation, Mem};
use crate::rt;
use crate::rt::chance::{Chance, Luck, Purpose};
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
    luck: Luck,
    memory: Mem,
    cpus: Cpus,
    cold_start: Dist,
    /// Share of an execution that is processor time.
    cpu_fraction: f64,
    behaviour: Option<Behaviour>,
}

/// See the module.
pub struct Simulated {
    name: String,
    /// What a host's backend was measured to do, and what its agent does by default.
    measured: Option<(Measured, Behaviour)>,
    /// Creations under way.
    creating: Rc<Cell<u32>>,
    /// Calls under way, where processors are shared.
    calls: Rc<Cell<u32>>,
    /// Containers that were called already, where it matters.
    called: RefCell<FxHashSet<Sandbox>>,
    model: Model,
    chance: Chance,
    sharing: Option<Sharing>,
    functions: RefCell<Vec<Option<Function>>>,
    created: Cell<u64>,
    /// Working sets of the calls that have one of their own.
    usage: RefCell<FxHashMap<Sandbox, Mem>>,
    removals: Cell<u64>,
    removal_luck: Luck,
}

impl Simulated {
    /// A backend that behaves like `model` on `cores`. Inside a runtime only.
    pub fn new(model: Model, cores: Cpus, seed: u64) -> Simulated {
        let chance = Chance::new(seed);
        let shared = model.contention == Contention::Shared && cores != Cpus::MAX;
        Simulated {
            name: "simulated".into(),
            measured: None,
            creating: Rc::default(),
            calls: Rc::default(),
            called: RefCell::default(),
            sharing: shared.then(|| Sharing::new(cores)),
            model,
            chance,
            functions: RefCell::default(),
            created: Cell::new(0),
            usage: RefCell::default(),
            removals: Cell::new(0),
            removal_luck: chance.named("removal"),
        }
    }

    /// Behaves like a backend that was measured, where functions that name no behaviour do `behaviour`.
    #[must_use]
    pub fn measured(mut self, name: &str, measured: Measured, behaviour: Behaviour) -> Simulated {
        self.name = name.to_string();
        if let Some(processor) = &measured.processor {
            self.sharing = Some(Sharing::new(cores_of(processor.cores)));
        }
        self.measured = Some((measured, behaviour));
        self
    }

    /// Shares its processors with `other`, as backends of one host do.
    #[must_use]
    pub fn beside(mut self, other: &Simulated) -> Simulated {
        self.sharing.clone_from(&other.sharing);
        self
    }

    /// What a call takes: its own duration, and what was measured to come on top.
    fn span(&self, sandbox: Sandbox, call: &Invocation) -> Duration {
        let Some((measured, default)) = &self.measured else { return call.intended };
        let functions = self.functions.borrow();
        let Some(Some(function)) = functions.get(call.function.index()) else { return call.intended };
        let behaviour = function.behaviour.unwrap_or(*default);
        let mut luck = function.luck.draw(Purpose::Overhead, call.number);
        let mut span = call.intended;
        let alone = self.calls.get() <= 1 || behaviour != Behaviour::Echo;
        if let Some(overhead) = measured.concurrent(self.calls.get()).filter(|_| !alone) {
            span += overhead.sample(&mut luck);
        } else if let Some(overhead) = measured.overhead(behaviour) {
            span += overhead.sample(&mut luck);
        }
        if self.called.borrow_mut().insert(sandbox) {
            span += measured.first_call.sample(&mut luck);
        }
        span
    }
}

impl Simulated {
    fn processor(&self) -> Option<&Processor> {
        self.measured.as_ref()?.0.processor.as_ref()
    }
}

/// A share of processors as it was measured.
fn cores_of(cores: f64) -> Cpus {
    Cpus(((cores * 1000.0).round() as u32).max(1))
}

/// Work that keeps so many processors busy while it is undisturbed.
fn share(sharing: &Sharing, span: Duration, busy: f64) -> Running {
    if busy > 1.0 {
        sharing.start(span, 1.0, cores_of(busy))
    } else {
        sharing.start(span, busy, Cpus::from_cores(1))
    }
}

/// Counts a call while it is under way.
struct UnderWay(Rc<Cell<u32>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
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
        let does = spec.program.behaviour.or(self.measured.as_ref().map(|(_, default)| *default));
        functions[id.index()] = Some(Function {
            luck: self.chance.named(&spec.name),
            memory: spec.memory,
            cpus: spec.cpus,
            cold_start: spec.cold_start.clone().unwrap_or_else(|| self.model.cold_start.clone()),
            behaviour: spec.program.behaviour,
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
        let under_way = self.creating.get() + 1;
        // Where processors are shared, what creations at once cost each other follows from that.
        let at_once = if self.sharing.is_some() { 1 } else { under_way };
        let awake = self.sharing.is_some() && self.calls.get() > 0;
        let measured = self.measured.as_ref().and_then(|(m, _)| {
            m.cold_start_awake.as_ref().filter(|_| awake).or_else(|| m.cold_start(at_once))
        });
        let span = measured
            .unwrap_or(&function.cold_start)
            .sample(&mut function.luck.draw(Purpose::ColdStart, request.nth));
        let fails = self.model.creation_failure > 0.0
            && function
                .luck
                .draw(Purpose::CreationFailure, request.nth)
                .random_bool(self.model.creation_failure.min(1.0));
        let answer = if fails {
            Err(CreateFault {
                transient: self.model.transient,
                why: Rc::from("the model let the creation fail"),
            })
        } else {
            self.created.set(self.created.get() + 1);
            Ok(Sandbox(self.created.get()))
        };
        match &self.sharing {
            None if measured.is_some() => {
                self.creating.set(under_way);
                let creating = Rc::clone(&self.creating);
                Work::boxed(async move {
                    rt::sleep(span).await;
                    creating.set(creating.get() - 1);
                    answer
                })
            }
            None => Work::after(span, answer),
            Some(sharing) => {
                let done = match self.processor() {
                    Some(p) => share(sharing, span, p.creating),
                    None => sharing.start(span, self.model.cold_cpu_fraction, Cpus::from_cores(1)),
                };
                Work::boxed(async move {
                    done.done().await;
                    answer
                })
            }
        }
    }

    #[inline]
    fn invoke(&self, sandbox: Sandbox, call: &Invocation) -> Work<Result<(), CallFault>> {
        let mut answer = Ok(());
        if call.fails {
            answer = Err(CallFault::Function(Rc::from("the function reported an error")));
        }
        if self.sharing.is_none() && call.usage.is_none() {
            return Work::after(self.span(sandbox, call), answer);
        }
        let functions = self.functions.borrow();
        let Some(Some(function)) = functions.get(call.function.index()) else {
            return Work::ready(Err(CallFault::Broken(Rc::from(
                "the function was not admitted to this backend",
            ))));
        };
        if let Some(usage) = call.usage {
            self.usage.borrow_mut().insert(sandbox, usage.0.min(function.memory.0).into());
            if usage > function.memory {
                answer = Err(CallFault::OutOfMemory);
            }
        }
        match &self.sharing {
            None => Work::after(self.span(sandbox, call), answer),
            Some(sharing) => {
                let (fraction, cpus) = (function.cpu_fraction, function.cpus);
                drop(functions);
                self.calls.set(self.calls.get() + 1);
                let done = sharing.start(self.span(sandbox, call), fraction, cpus);
                let under_way = UnderWay(Rc::clone(&self.calls));
                Work::boxed(async move {
                    let _under_way = under_way;
                    done.done().await;
                    answer
                })
            }
        }
    }

    #[inline]
    fn memory(&self, sandbox: Sandbox) -> Option<Mem> {
        let usage = self.usage.borrow();
        if usage.is_empty() { None } else { usage.get(&sandbox).copied() }
    }

    fn remove(&self, sandbox: Sandbox) -> Work<()> {
        self.usage.borrow_mut().remove(&sandbox);
        self.called.borrow_mut().remove(&sandbox);
        let nth = self.removals.replace(self.removals.get() + 1);
        let awake = self.sharing.is_some() && self.calls.get() > 0;
        let removal = self.measured.as_ref().map_or(&self.model.removal, |(m, _)| {
            m.removal_awake.as_ref().filter(|_| awake).unwrap_or(&m.removal)
        });
        let span = removal.sample(&mut self.removal_luck.draw(Purpose::Removal, nth));
        match (&self.sharing, self.processor()) {
            _ if span == Duration::ZERO => Work::ready(()),
            (Some(sharing), Some(p)) => {
                let done = share(sharing, span, p.removing);
                Work::boxed(async move { done.done().await })
            }
            _ => Work::after(span, ()),
        }
    }
}
