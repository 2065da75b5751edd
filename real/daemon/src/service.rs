//! Where the orders of the API meet the worker.

use super::allowed::Allowed;
use super::config::{DaemonConfig, check_function};
use super::dispatcher::Service;
use super::outside::seen_from_outside;
use super::request::{Answer, BYTES, Invoke, Request, STATUS, too_many};
use super::roles::Caller;
use super::state::{Registered, State};
use elapse::backend::{Backend, Sandboxing};
use elapse::base::{
    Duration, Exchange, Fault, FaultKind, FunctionId, FunctionSpec, Mem, Record, Reply, Result, Status,
};
use elapse::function_of;
use elapse::load::{FunctionConfig, Profile};
use elapse::metrics::{MEDIA_TYPE, PATHS, openmetrics};
use elapse::rt::chance::Seed;
use elapse::rt::supervise::LoopStatus;
use elapse::rt::{self, sync};
use elapse::worker::{Retry, Worker};
use elapse_host::engine::Engine;
use elapse_live::threads;
use rustc_hash::FxHashMap;
use serde_json::json;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

/// Containers that are created ahead at once.
const WARMING: u64 = 4;

/// See the module.
pub(super) struct WorkerService {
    worker: Worker,
    name: String,
    backends: Vec<String>,
    engines: Vec<Option<Rc<dyn Engine>>>,
    all: Vec<Rc<dyn Backend>>,
    chance: Seed,
    retry: Retry,
    functions: RefCell<FxHashMap<String, Called>>,
    invocations: Cell<u64>,
    draining: Cell<bool>,
    memory: Mem,
    sandbox: Sandboxing,
    allowed: Allowed,
    /// Folders that no function sees.
    own: Vec<PathBuf>,
    /// Held while a container is created ahead.
    warming: Rc<sync::Semaphore>,
    /// What outlives the worker.
    state: Option<Rc<State>>,
}

struct Called {
    id: FunctionId,
    profile: Profile,
    calls: u64,
    /// Whether it is an HTTP server that has paths.
    is_server: bool,
    config: FunctionConfig,
}

impl WorkerService {
    pub(super) fn new(
        worker: Worker,
        engines: Vec<Option<Rc<dyn Engine>>>,
        all: Vec<Rc<dyn Backend>>,
        config: &DaemonConfig,
        state: Option<Rc<State>>,
    ) -> Rc<WorkerService> {
        Rc::new(WorkerService {
            worker,
            name: config.live.worker.clone(),
            backends: config.worker.backend_names(),
            engines,
            all,
            chance: Seed::new(config.seed),
            retry: config.prewarm,
            functions: RefCell::default(),
            invocations: Cell::new(0),
            draining: Cell::new(false),
            memory: config.worker.memory.unwrap_or(Mem::MAX),
            sandbox: config.live.sandbox,
            allowed: config.register.clone(),
            own: config.own_folders(),
            warming: Rc::new(sync::Semaphore::new(WARMING)),
            state,
        })
    }

    /// The function of this name.
    pub(super) fn function(&self, name: &str) -> Option<FunctionId> {
        self.functions.borrow().get(name).map(|called| called.id)
    }

    /// Takes nothing more.
    pub(super) fn drain(&self) {
        self.draining.set(true);
    }

    /// Registers a function. The same description a second time changes nothing; another one of the name is refused. What it
    /// wants created ahead is for [`warm_up`](WorkerService::warm_up).
    ///
    /// # Errors
    /// Another function of the name, what the allow-lists have not, or what the worker's backends cannot do.
    pub(super) fn register(&self, mut spec: FunctionSpec, function: &Registered) -> Result<()> {
        let config = &function.config;
        if let Some(known) = self.functions.borrow().get(&spec.name) {
            if known.config == *config {
                return Ok(());
            }
            return Err(Fault::usage(differs(&spec.name)));
        }
        self.may_register(function).map_err(Fault::usage)?;
        spec.program.code_root = config.code.as_ref().and_then(|code| self.allowed.root_of(code)).cloned();
        self.has_room_for(config)?;
        let (name, is_server) = (spec.name.clone(), spec.program.is_server());
        let id = self.worker.register(spec)?;
        let profile = config.profile(self.chance.named(&name));
        let called = Called { id, profile, calls: 0, is_server, config: config.clone() };
        self.functions.borrow_mut().insert(name, called);
        Ok(())
    }

    /// Refuses what would run as a plain process, unless that is accepted.
    ///
    /// # Errors
    /// One sentence.
    fn is_held(&self, config: &FunctionConfig) -> Result<(), String> {
        let may_run_on = |name: &String| config.backends.is_empty() || config.backends.contains(name);
        let its = self.engines.iter().zip(&self.backends).filter(|(_, name)| may_run_on(name));
        let plain = its.filter_map(|(engine, name)| Some((name, engine.as_ref()?.plain()?))).next();
        match plain {
            Some((name, why)) if self.sandbox == Sandboxing::Isolated => Err(format!(
                "function '{}': on {name} it would be a plain process of the worker's user, as this host forbids a sandbox ({why}); \
                 run the worker as root, allow user namespaces, or accept it with live.sandbox = \"none\"",
                config.name
            )),
            _ => Ok(()),
        }
    }

    /// Refuses what who is bound by the allow-lists may not register.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn may_register(&self, function: &Registered) -> Result<(), String> {
        if function.bound { self.allowed.admits(&function.config, &self.own) } else { Ok(()) }
    }

    /// Refuses what wants more containers created ahead than all memory holds.
    fn has_room_for(&self, config: &FunctionConfig) -> Result<()> {
        let most = self.memory.0 / config.memory.0.max(1);
        if u64::from(config.prewarm) > most {
            return Err(Fault::usage(format!(
                "function '{}': prewarm is {} and the worker's memory, {}, holds {most} containers of {}; ask for as many at most",
                config.name, config.prewarm, self.memory, config.memory
            )));
        }
        Ok(())
    }

    /// Creates ahead as many containers of a function as it wants, less those that it has; a few at a time, whatever it is that
    /// they belong to. After one that cannot be created no further one of the function is tried.
    pub(super) fn warm_up(&self, name: &str, has: u32) {
        let functions = self.functions.borrow();
        let Some(called) = functions.get(name) else { return };
        let wanted = called.config.prewarm.saturating_sub(has);
        let left = Rc::new(Cell::new(wanted));
        for _ in 0..wanted.min(WARMING as u32) {
            let (worker, id, retry) = (self.worker.clone(), called.id, self.retry);
            let (left, warming, name) = (Rc::clone(&left), Rc::clone(&self.warming), name.to_string());
            rt::spawn_detached(async move {
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    let _one = warming.acquire(1).await;
                    if let Err(fault) = worker.prewarm(id, retry).await {
                        let given_up = left.replace(0);
                        tracing::warn!(target: "elapse", function = name, given_up, %fault);
                    }
                }
            });
        }
    }

    /// Forgets a function; false if there is none of the name.
    pub(super) fn forget(&self, name: &str) -> bool {
        let known = self.functions.borrow_mut().remove(name);
        known.map(|called| self.worker.deregister(called.id)).is_some()
    }

    /// Registers a function, with its image obtained first.
    pub(super) async fn admit(&self, function: &Registered) -> Result<()> {
        let config = &function.config;
        check_function(config)?;
        let Some(spec) = config.specs().pop() else { return Err(Fault::bug("a function of one has none")) };
        for (engine, backend) in self.engines.iter().zip(&self.backends) {
            if let Some(engine) = engine
                && (spec.backends.is_empty() || spec.backends.contains(backend))
                && let Err(fault) = engine.prepare(spec.program.image.as_deref()).await
            {
                tracing::info!(target: "elapse", backend, image = spec.program.image, %fault);
            }
        }
        let known = self.function(&spec.name).is_some();
        self.register(spec, function)?;
        if !known {
            self.warm_up(&config.name, 0);
        }
        Ok(())
    }

    /// Forgets a function: no further call of it is taken, and its containers go when they are idle.
    async fn deregister(&self, name: &str) -> Answer {
        // One whose end could not be written, or that could not be registered again at the start, is known to the state alone.
        let known = self.forget(name);
        if !known && !self.state.as_ref().is_some_and(|state| state.remembers(name)) {
            return self.unknown(name);
        }
        if let Some(state) = &self.state
            && let Err(fault) = state.deregistered(name).await
        {
            return refusal(&fault);
        }
        Answer::json(200, &json!({"name": name, "status": "deregistered"}))
    }

    async fn registered(&self, json: &[u8], caller: &Caller) -> Result<Answer> {
        let config = function_of(json)?;
        let function = match caller.registers(config) {
            Ok(function) => function,
            Err(refusal) => return Ok(refusal),
        };
        if let Err(why) = self.may_register(&function).and_then(|()| self.is_held(&function.config)) {
            return Ok(Answer::error(403, &why));
        }
        let config = &function.config;
        if self.functions.borrow().get(&config.name).is_some_and(|known| known.config != *config) {
            return Ok(Answer::error(409, &differs(&config.name)));
        }
        let known = self.functions.borrow().contains_key(&config.name);
        if let Some(refused) = too_many(self.functions.borrow().len()).filter(|_| !known) {
            return Ok(refused);
        }
        self.admit(&function).await?;
        if let Some(state) = &self.state {
            state.registered(config, function.bound).await?;
        }
        let id = self.functions.borrow().get(&config.name).map(|called| called.id);
        let backend = id.and_then(|id| Some(self.worker.functions().into_iter().nth(id.index())?.1));
        Ok(Answer::json(201, &json!({"name": config.name, "backend": backend})))
    }

    fn list(&self) -> Answer {
        let known = self.functions.borrow();
        let functions: Vec<_> = self
            .worker
            .functions()
            .iter()
            .enumerate()
            .filter(|(i, (f, _))| known.get(&f.name).is_some_and(|called| called.id.index() == *i))
            .map(|(_, f)| f)
            .map(|(f, backend)| {
                json!({"name": f.name, "backend": backend, "memory": f.memory.to_string(), "cpus": f.cpus.to_string(),
                       "concurrency": f.concurrency, "image": f.program.image,
                       "invocations": known.get(&f.name).map_or(0, |called| called.calls)})
            })
            .collect();
        Answer::json(200, &json!({ "functions": functions }))
    }

    fn unknown(&self, name: &str) -> Answer {
        let functions = self.functions.borrow();
        let near = elapse::base::nearest(name, functions.keys().map(String::as_str));
        let hint = near.map_or_else(String::new, |n| format!("; did you mean '{n}'?"));
        Answer::error(404, &format!("there is no function '{name}'{hint}"))
    }

    async fn invoke(&self, asked: Invoke) -> Answer {
        let name = asked.function.as_str();
        if asked.sent.target.is_some() && self.functions.borrow().get(name).is_some_and(|c| !c.is_server) {
            let why = format!("'{name}' is no HTTP server that would have paths; ask /function/{name}");
            return Answer::error(404, &why).with_status(Status::Dropped);
        }
        let call = self.functions.borrow_mut().get_mut(name).map(|called| {
            let k = called.calls;
            called.calls += 1;
            called.profile.invocation(called.id, k, rt::now())
        });
        let Some(mut call) = call else { return self.unknown(name) };
        call.number = self.invocations.replace(self.invocations.get() + 1);
        call.intended = asked.duration_ns.map_or(call.intended, Duration);
        call.fails |= asked.fails;
        let exchange = Rc::new(Exchange::new(asked.sent));
        let record = self.worker.clone().exchange(call, Rc::clone(&exchange)).await;
        let mut answer = answer_of(&record, &exchange);
        let ms =
            |from, to: Option<elapse::base::Time>| Some(format!("{:.3}", to?.since(from?).0 as f64 / 1e6));
        let facts = [
            (STATUS, Some(record.status.word().to_string())),
            ("elapse-start", record.start.map(|s| s.word().to_string())),
            ("elapse-container", record.container.map(|c| c.to_string())),
            ("elapse-queue-ms", ms(Some(record.arrival), record.dispatch)),
            ("elapse-setup-ms", ms(record.dispatch, record.exec_start)),
            ("elapse-exec-ms", ms(record.exec_start, record.exec_end)),
            ("elapse-latency-ms", ms(Some(record.arrival), Some(record.returned))),
        ];
        answer.facts = seen_from_outside(name, answer.facts);
        answer.facts.extend(facts.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?))));
        answer
    }

    async fn prewarm(&self, name: &str) -> Answer {
        let Some(id) = self.functions.borrow().get(name).map(|f| f.id) else { return self.unknown(name) };
        match self.worker.prewarm(id, self.retry).await {
            Ok(()) => Answer::json(200, &json!({"name": name, "status": "warm"})),
            Err(fault) => Answer::error(503, &fault.to_string()),
        }
    }

    fn status(&self) -> Answer {
        let snapshot = self.worker.snapshot();
        let metrics: serde_json::Map<_, _> =
            PATHS.iter().zip(snapshot.values()).map(|(p, v)| (p.name.to_string(), json!(v))).collect();
        let loops: Vec<_> = self.worker.loops().into_iter().map(|l| loop_status(l.name, &l.status)).collect();
        let threads: Vec<_> =
            threads::told().iter().map(|(name, status)| loop_status(name, status)).collect();
        Answer::json(
            200,
            &json!({
                "worker": self.name, "version": env!("CARGO_PKG_VERSION"),
                "status": if self.draining.get() { "draining" } else { "serving" },
                "up_seconds": rt::now().0 as f64 / 1e9, "backends": self.backends, "away": self.away(),
                "functions": self.functions.borrow().len(), "metrics": metrics, "loops": loops,
                "threads": threads,
            }),
        )
    }

    /// The backends whose daemons do not answer, and why.
    fn away(&self) -> serde_json::Map<String, serde_json::Value> {
        let why =
            |(name, backend): (&String, &Rc<dyn Backend>)| Some((name.clone(), json!(*backend.away()?)));
        self.backends.iter().zip(&self.all).filter_map(why).collect()
    }

    fn metrics(&self) -> Answer {
        let (columns, row) = self.worker.look();
        let text = openmetrics("elapse_", Some(&self.name), &columns, &row);
        Answer { status: 200, kind: MEDIA_TYPE.into(), body: text.into(), facts: Vec::new() }
    }
}

impl Service for WorkerService {
    async fn answer(self: Rc<WorkerService>, ask: Request, _id: String) -> Answer {
        match ask {
            Request::Register(json, caller) => {
                self.registered(&json, &caller).await.unwrap_or_else(|fault| refusal(&fault))
            }
            Request::Deregister(name) => self.deregister(&name).await,
            Request::Functions => self.list(),
            Request::Invoke(call) => self.invoke(call).await,
            Request::Prewarm(name) => self.prewarm(&name).await,
            Request::Status => self.status(),
            Request::Metrics => self.metrics(),
            Request::Drain => {
                self.drain();
                Answer::json(202, &json!({"status": "draining"}))
            }
            Request::Workers
            | Request::WorkerStatus(_)
            | Request::Join(..)
            | Request::Beat(..)
            | Request::Leave(..) => Answer::error(404, "this is a worker; workers are known to a controller"),
            Request::InvokeLater(..) | Request::Fetch(..) | Request::Health => {
                Answer::error(500, "the reception answers this")
            }
        }
    }

    fn refuses(&self, function: &str) -> Option<Answer> {
        if self.draining.get() {
            let refusal = Answer::error(503, "not admitted: the worker drains");
            return Some(refusal.with_status(Status::Dropped));
        }
        self.function(function).is_none().then(|| self.unknown(function))
    }

    fn drains(&self) -> bool {
        self.draining.get()
    }

    fn health(&self) -> serde_json::Value {
        let away = self.away();
        if away.is_empty() { json!({"status": "ok"}) } else { json!({"status": "ok", "away": away}) }
    }
}

fn differs(name: &str) -> String {
    format!("there is a function '{name}' already and it differs; take another name")
}

/// A background loop or a thread, as `status` tells it.
pub(super) fn loop_status(name: &str, status: &LoopStatus) -> serde_json::Value {
    json!({"name": name, "restarts": status.restarts, "last_panic": status.last_panic,
           "last_run_seconds": status.last_run.0 as f64 / 1e9})
}

pub(super) fn refusal(fault: &Fault) -> Answer {
    let status = match fault.kind() {
        FaultKind::Usage => 422,
        FaultKind::Host => 503,
        FaultKind::Check | FaultKind::Bug | FaultKind::Refused | FaultKind::Interrupted => 500,
    };
    Answer::error(status, &fault.to_string())
}

/// What the function answered as it is, or why it could not.
fn answer_of(record: &Record, exchange: &Exchange) -> Answer {
    if let Some(Reply { status, kind, body, headers }) = exchange.take()
        && record.status != Status::TimedOut
    {
        let kind = kind.map_or(BYTES.into(), Cow::Owned);
        return Answer { status, kind, body, facts: headers };
    }
    let why = record.error.as_deref().unwrap_or("no reason is known");
    match record.status {
        Status::Completed => {
            Answer { status: 200, kind: BYTES.into(), body: Default::default(), facts: Vec::new() }
        }
        Status::Dropped if why == "queue full" => Answer::error(429, "the queue is full; try again later"),
        Status::Dropped => Answer::error(503, &format!("not admitted: {why}")),
        Status::TimedOut => Answer::error(504, &format!("timed out: {why}")),
        Status::Failed | Status::Lost | Status::Unfinished => Answer::error(502, &format!("failed: {why}")),
    }
}
