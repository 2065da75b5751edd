//! Live backends: any engine of `real`, with the wire into its sandboxes, as one backend of the worker.
//!
//! What an engine is, `real` knows; what a function is, only this side does. A creation ends when the sandbox answers; an
//! invocation ends with its answer, or with the sandbox's death, whichever comes first. An error that the function
//! reports leaves the container as good as before; a broken connection does not.

mod across;
mod away;
mod config;
mod creation;

pub(crate) use config::users;
pub use config::{check, runtime};

use across::{call, until_ready};
use away::Away;
use creation::UnderWay;
use elapse::backend::{Backend, CallFault, Create, CreateFault, LiveConfig, Sandbox, Work};
use elapse::base::{
    Behaviour, Compute, Cpus, Duration, Exchange, FunctionId, FunctionSpec, Invocation, Mem, Network,
    Program, Protocol,
};
use elapse::rt::{self, sync};
use elapse_host::beneath::Folder;
use elapse_host::engine::{self, Answers, Engine, Role, SandboxId, Spec};
use elapse_host::room::Room;
use elapse_host::wire::{self, Call, Peer};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;

/// See the module.
pub struct Live {
    inner: Rc<Inner>,
}

struct Inner {
    engine: Rc<dyn Engine>,
    config: LiveConfig,
    /// Set apart for this life of the worker, so that no id of an earlier one comes again.
    life: String,
    functions: RefCell<Vec<Option<Function>>>,
    sandboxes: RefCell<Slab<Rc<Inside>>>,
    /// Those that have ended by themselves, until somebody is told.
    fallen: RefCell<VecDeque<Sandbox>>,
    /// Told of each.
    fell: sync::Notify,
    created: Cell<u64>,
    /// See [`Backend::close`].
    closed: Cell<bool>,
    /// Creations and removals that have not come to their end, whoever still waits for them.
    under_way: Cell<u32>,
    /// Told when there is none any more.
    quiet: sync::Notify,
    keeper: Option<Rc<dyn SandboxJournal>>,
    /// What answers that somebody waits for take room of.
    room: Option<Room>,
    /// A daemon that is asked for all removals at once answers the last of them too late.
    removals: sync::Semaphore,
    /// Whether the engine's daemon answers.
    away: Away,
    /// Of the last container: until the engine had started it, and from then until it answered.
    steps: Cell<[Duration; 2]>,
}

struct Function {
    name: String,
    /// See [`Live::made_of`].
    made_of: Rc<str>,
    program: Program,
    /// Its code, where that is not to lead out of a root.
    folder: Option<Arc<Folder>>,
    behaviour: Behaviour,
    timeout: Option<Duration>,
}

/// Is told of every sandbox, so that a later life of the worker knows what there was.
pub trait SandboxJournal {
    /// One is about to be created, for a function, of this (see [`Live::made_of`]).
    fn creating(&self, backend: &str, id: &str, function: &str, made_of: &str);

    /// It is there, and is found again so.
    fn created(&self, trace: SandboxId);

    /// It is gone.
    fn gone(&self, id: &str);
}

/// A sandbox and the wire into it.
struct Inside {
    /// The name by which a journal knows it.
    id: String,
    sandbox: Rc<dyn engine::Sandbox>,
    peer: Peer,
    /// Processes in it that the kernel had killed for memory when that was last asked.
    kills: Cell<u64>,
}

/// How much longer than its time a creation may take to be undone, before nobody waits for it any more.
const GRACE: Duration = Duration(10_000_000_000);
/// How many removals an engine is asked for at once.
const REMOVALS: u64 = 8;
/// How long a destruction may take before it is called stuck.
const DESTRUCTION: Duration = Duration(30_000_000_000);

impl Live {
    /// The engine as a backend.
    pub fn new(engine: Rc<dyn Engine>, config: LiveConfig) -> Live {
        let life = format!("{:05x}", elapse::rt::wall::unix_now().as_millis() & 0xf_ffff);
        Live {
            inner: Rc::new(Inner {
                engine,
                config,
                life,
                functions: RefCell::default(),
                sandboxes: RefCell::default(),
                fallen: RefCell::default(),
                fell: sync::Notify::new(),
                created: Cell::new(0),
                closed: Cell::new(false),
                under_way: Cell::new(0),
                quiet: sync::Notify::new(),
                keeper: None,
                room: None,
                removals: sync::Semaphore::new(REMOVALS),
                away: Away::default(),
                steps: Cell::default(),
            }),
        }
    }

    /// Tells this journal of every sandbox.
    #[must_use]
    pub fn kept_by(mut self, keeper: Rc<dyn SandboxJournal>) -> Live {
        if let Some(inner) = Rc::get_mut(&mut self.inner) {
            inner.keeper = Some(keeper);
        }
        self
    }

    /// Answers take room of that.
    #[must_use]
    pub fn within(mut self, room: Room) -> Live {
        if let Some(inner) = Rc::get_mut(&mut self.inner) {
            inner.room = Some(room);
        }
        self
    }

    /// Takes a sandbox of an earlier life, if it answers within `limit`.
    ///
    /// # Errors
    /// Why it does not; it is then destroyed.
    pub async fn adopt(
        &self,
        id: &str,
        sandbox: Rc<dyn engine::Sandbox>,
        limit: Duration,
    ) -> Result<Sandbox, String> {
        let kills = Cell::new(sandbox.kills());
        let inside = Rc::new(Inside { id: id.to_string(), peer: self.inner.peer(&*sandbox), sandbox, kills });
        let why = match rt::timeout(limit, until_ready(&inside)).await {
            Ok(Ok(())) => return Ok(self.inner.enter(inside)),
            Ok(Err(why)) => why,
            Err(rt::Elapsed) => format!("it did not answer within {limit}"),
        };
        self.inner.destroy(&inside).await;
        Err(why)
    }

    /// What containers of a function are made of: all that tells one from those of another description. A later life takes
    /// over what is made of the same.
    pub fn made_of(&self, function: FunctionId) -> Option<Rc<str>> {
        let functions = self.inner.functions.borrow();
        Some(Rc::clone(&functions.get(function.index())?.as_ref()?.made_of))
    }

    /// Whether a container has ended.
    pub fn has_ended(&self, sandbox: Sandbox) -> bool {
        self.inner.inside(sandbox).is_none_or(|inside| inside.sandbox.death().is_some())
    }

    /// Of the last container that was created: until the engine had started it, and from then until it answered.
    pub fn last_steps(&self) -> [Duration; 2] {
        self.inner.steps.get()
    }
}

impl Inner {
    fn spec(
        &self,
        program: &Program,
        folder: Option<&Arc<Folder>>,
        behaviour: Behaviour,
        memory: Mem,
        cpus: Cpus,
        gpu: Option<u32>,
    ) -> Spec {
        let by_itself = program.protocol == Protocol::Tcp && program.image.is_some();
        let role = match behaviour {
            _ if by_itself && program.behaviour.is_none() => Role::Image,
            Behaviour::Exec => Role::Exec,
            Behaviour::Serve => Role::Serve,
            _ => Role::Behave,
        };
        let number = self.created.get() + 1;
        self.created.set(number);
        Spec {
            id: format!("{}-{number}", self.life),
            image: program.image.clone(),
            command: program.command.clone(),
            code: program
                .code
                .as_ref()
                .map(|code| std::path::absolute(code).unwrap_or_else(|_| code.clone())),
            folder: folder.cloned(),
            role,
            env: self.init(program, behaviour).into_iter().collect(),
            memory: memory.0,
            cpus: cpus.0,
            pids: self.config.pids,
            answers: match program.protocol {
                Protocol::Unix => Answers::Socket,
                Protocol::Tcp => Answers::Port,
            },
            network: match program.network() {
                Network::None => engine::Network::None,
                Network::Bridge => engine::Network::Bridge,
                Network::Host => engine::Network::Host,
            },
            gpu,
            writable: program.writable.map_or(0, |size| size.0),
        }
    }

    /// What an agent is told to do before it answers, if anything.
    fn init(&self, program: &Program, behaviour: Behaviour) -> Option<(String, String)> {
        let span = program.init.unwrap_or(self.config.init);
        let way = if behaviour == Behaviour::Spin { "spin" } else { "sleep" };
        let told = program.is_agent() && span > Duration::ZERO;
        told.then(|| ("ELAPSE_INIT".to_string(), format!("behaviour={way}&duration_ns={}", span.0)))
    }

    fn peer(&self, sandbox: &dyn engine::Sandbox) -> Peer {
        Peer::new(sandbox.address()).within(self.room.clone())
    }

    fn inside(&self, sandbox: Sandbox) -> Option<Rc<Inside>> {
        self.sandboxes.borrow().get(sandbox.0 as usize).cloned()
    }

    /// What an invocation asks of a sandbox, on its way.
    fn order(
        &self,
        sandbox: Sandbox,
        invocation: &Invocation,
        exchange: Option<Rc<Exchange>>,
    ) -> Work<Result<(), CallFault>> {
        let functions = self.functions.borrow();
        let function = functions.get(invocation.function.index()).and_then(Option::as_ref);
        let (Some(function), Some(inside)) = (function, self.inside(sandbox)) else {
            return Work::ready(Err(CallFault::Broken(Rc::from("the container is gone"))));
        };
        let mut query =
            format!("behaviour={}&duration_ns={}", function.behaviour.word(), invocation.intended.0);
        if let Some(usage) = invocation.usage {
            let _ = write!(query, "&alloc={}", usage.0);
        }
        if invocation.fails {
            query.push_str("&fail=1");
        }
        let deadline_ms = function.timeout.map(|t| t.0.div_ceil(1_000_000));
        let sent = exchange.as_ref().map(|e| e.sent.clone()).unwrap_or_default();
        let target = sent
            .target
            .map(|t| Some(wire::Target { method: t.method.parse().ok()?, path: t.path, headers: t.headers }));
        let order = Call {
            query,
            id: invocation.number,
            deadline_ms,
            body: sent.body,
            kind: sent.kind,
            target: target.flatten(),
            unread: exchange.is_none(),
        };
        Work::boxed(call(inside, order, exchange))
    }
}

impl Backend for Live {
    fn name(&self) -> &str {
        self.inner.engine.name()
    }

    fn away(&self) -> Option<Rc<str>> {
        self.inner.away.why()
    }

    fn admit(&self, id: FunctionId, spec: &FunctionSpec) -> Result<(), String> {
        let behaviour = spec.program.behaviour.unwrap_or(self.inner.config.behaviour);
        let gpu = (spec.program.compute == Compute::Gpu).then_some(0);
        let folder = match (&spec.program.code_root, &spec.program.code) {
            (Some(root), Some(code)) => {
                let opened =
                    Folder::open(root, code).map_err(|why| format!("its code cannot be used: {why}"))?;
                Some(Arc::new(opened))
            }
            _ => None,
        };
        let wanted = self.inner.spec(&spec.program, folder.as_ref(), behaviour, spec.memory, spec.cpus, gpu);
        if let Some(code) = wanted.code.as_ref().filter(|code| !code.is_dir()) {
            return Err(format!("its code is not there: {} is no folder", code.display()));
        }
        self.inner.engine.check(&wanted).map_err(|fault| fault.why)?;
        let mut functions = self.inner.functions.borrow_mut();
        if functions.len() <= id.index() {
            functions.resize_with(id.index() + 1, || None);
        }
        let role = format!("{:?}", wanted.role);
        let made_of = serde_json::json!([spec.program, role, wanted.env, spec.memory, spec.cpus]).to_string();
        functions[id.index()] = Some(Function {
            name: spec.name.clone(),
            made_of: made_of.into(),
            program: spec.program.clone(),
            folder,
            behaviour,
            timeout: spec.timeout,
        });
        Ok(())
    }

    fn forget(&self, id: FunctionId) {
        if let Some(known) = self.inner.functions.borrow_mut().get_mut(id.index()) {
            *known = None;
        }
    }

    fn create(&self, request: &Create) -> Work<Result<Sandbox, CreateFault>> {
        let functions = self.inner.functions.borrow();
        let Some(Some(function)) = functions.get(request.function.index()) else {
            let why = Rc::from("the function was not admitted to this backend");
            return Work::ready(Err(CreateFault { transient: false, why }));
        };
        let Create { memory, cpus, gpu, .. } = *request;
        let folder = function.folder.as_ref();
        let spec = self.inner.spec(&function.program, folder, function.behaviour, memory, cpus, gpu);
        let (name, made_of) = (function.name.clone(), Rc::clone(&function.made_of));
        Work::boxed(Rc::clone(&self.inner).create(spec, name, made_of))
    }

    fn invoke(&self, sandbox: Sandbox, invocation: &Invocation) -> Work<Result<(), CallFault>> {
        self.inner.order(sandbox, invocation, None)
    }

    fn exchange(
        &self,
        sandbox: Sandbox,
        invocation: &Invocation,
        exchange: &Rc<Exchange>,
    ) -> Work<Result<(), CallFault>> {
        self.inner.order(sandbox, invocation, Some(Rc::clone(exchange)))
    }

    fn memory(&self, sandbox: Sandbox) -> Option<Mem> {
        self.inner.inside(sandbox)?.sandbox.memory().map(Mem)
    }

    fn death(&self) -> Option<Work<Sandbox>> {
        let inner = Rc::clone(&self.inner);
        Some(Work::boxed(async move {
            loop {
                let told = inner.fell.notified();
                let next = inner.fallen.borrow_mut().pop_front();
                match next {
                    Some(sandbox) => return sandbox,
                    None => told.await,
                }
            }
        }))
    }

    fn remove(&self, sandbox: Sandbox) -> Work<()> {
        let Some(inside) = self.inner.sandboxes.borrow_mut().try_remove(sandbox.0 as usize) else {
            return Work::ready(());
        };
        let counted = UnderWay::begun(&self.inner);
        Work::boxed(async move { counted.0.destroy(&inside).await })
    }

    fn close(&self) -> Work<()> {
        self.inner.closed.set(true);
        let inner = Rc::clone(&self.inner);
        Work::boxed(async move {
            while inner.under_way.get() > 0 {
                inner.quiet.notified().await;
            }
        })
    }
}
