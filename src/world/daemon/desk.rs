//! Where the orders of the API meet the worker.

use super::config::{DaemonConfig, check_function};
use super::order::{Answer, Ask, BYTES, Invoke, STATUS};
use super::outside::seen_from_outside;
use super::reception::Office;
use super::state::State;
use crate::base::{
    Duration, Exchange, Fault, FaultKind, FunctionId, FunctionSpec, Record, Reply, Result, Status,
};
use crate::load::{FunctionConfig, Profile};
use crate::metrics::{MEDIA_TYPE, PATHS, openmetrics};
use crate::rt;
use crate::rt::chance::Chance;
use crate::rt::supervise::LoopStatus;
use crate::worker::{Retry, Worker};
use crate::world::plan::function_of;
use crate::world::threads;
use elapse_real::engine::Engine;
use rustc_hash::FxHashMap;
use serde_json::json;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// See the module.
pub(super) struct Desk {
    worker: Worker,
    name: String,
    backends: Vec<String>,
    engines: Vec<Option<Rc<dyn Engine>>>,
    chance: Chance,
    retry: Retry,
    functions: RefCell<FxHashMap<String, Called>>,
    invocations: Cell<u64>,
    draining: Cell<bool>,
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

impl Desk {
    pub(super) fn new(
        worker: Worker,
        engines: Vec<Option<Rc<dyn Engine>>>,
        config: &DaemonConfig,
        state: Option<Rc<State>>,
    ) -> Rc<Desk> {
        Rc::new(Desk {
            worker,
            name: config.live.worker.clone(),
            backends: config.worker.backend_names(),
            engines,
            chance: Chance::new(config.seed),
            retry: config.prewarm,
            functions: RefCell::default(),
            invocations: Cell::new(0),
            draining: Cell::new(false),
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
    /// wants created ahead is for [`warm_up`](Desk::warm_up).
    pub(super) fn register(&self, spec: FunctionSpec, config: &FunctionConfig) -> Result<()> {
        if let Some(known) = self.functions.borrow().get(&spec.name) {
            if known.config == *config {
                return Ok(());
            }
            return Err(Fault::usage(differs(&spec.name)));
        }
        let (name, is_server) = (spec.name.clone(), spec.program.is_server());
        let id = self.worker.register(spec)?;
        let profile = config.profile(self.chance.named(&name));
        let called = Called { id, profile, calls: 0, is_server, config: config.clone() };
        self.functions.borrow_mut().insert(name, called);
        Ok(())
    }

    /// Creates ahead as many containers of a function as it wants, less those that it has.
    pub(super) fn warm_up(&self, name: &str, has: u32) {
        let functions = self.functions.borrow();
        let Some(called) = functions.get(name) else { return };
        for _ in has..called.config.prewarm {
            let (worker, id, retry) = (self.worker.clone(), called.id, self.retry);
            rt::spawn_detached(async move {
                if let Err(fault) = worker.prewarm(id, retry).await {
                    tracing::warn!(target: "elapse", %fault);
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
    pub(super) async fn admit(&self, config: &FunctionConfig) -> Result<()> {
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
        self.register(spec, config)?;
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

    async fn registered(&self, json: &[u8]) -> Result<Answer> {
        let config = function_of(json)?;
        if self.functions.borrow().get(&config.name).is_some_and(|known| known.config != config) {
            return Ok(Answer::error(409, &differs(&config.name)));
        }
        self.admit(&config).await?;
        if let Some(state) = &self.state {
            state.registered(&config).await?;
        }
        let known = self.worker.functions().into_iter().find(|(f, _)| f.name == config.name);
        let backend = known.map(|(_, backend)| backend);
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
        let near = crate::base::nearest(name, functions.keys().map(String::as_str));
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
            |from, to: Option<crate::base::Time>| Some(format!("{:.3}", to?.since(from?).0 as f64 / 1e6));
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
                "up_seconds": rt::now().0 as f64 / 1e9, "backends": self.backends,
                "functions": self.functions.borrow().len(), "metrics": metrics, "loops": loops,
                "threads": threads,
            }),
        )
    }

    fn metrics(&self) -> Answer {
        let (columns, row) = self.worker.look();
        let text = openmetrics("elapse_", Some(&self.name), &columns, &row);
        Answer { status: 200, kind: MEDIA_TYPE.into(), body: text.into(), facts: Vec::new() }
    }
}

impl Office for Desk {
    async fn answer(self: Rc<Desk>, ask: Ask, _id: String) -> Answer {
        match ask {
            Ask::Register(json) => self.registered(&json).await.unwrap_or_else(|fault| refusal(&fault)),
            Ask::Deregister(name) => self.deregister(&name).await,
            Ask::Functions => self.list(),
            Ask::Invoke(call) => self.invoke(call).await,
            Ask::Prewarm(name) => self.prewarm(&name).await,
            Ask::Status => self.status(),
            Ask::Metrics => self.metrics(),
            Ask::Drain => {
                self.drain();
                Answer::json(202, &json!({"status": "draining"}))
            }
            Ask::Workers | Ask::WorkerStatus(_) | Ask::Join(_) | Ask::Beat(..) | Ask::Leave(..) => {
                Answer::error(404, "this is a worker; workers are known to a controller")
            }
            Ask::InvokeLater(..) | Ask::Fetch(_) => Answer::error(500, "the reception answers this"),
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
