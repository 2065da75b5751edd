//! The backends that the tests run on: each with what starts its daemon, and the proof that nothing is left of it.

use super::has;
use elapse::backend::{Backend, Create, LiveConfig, Model, Sandbox, Simulated};
use elapse::base::{Behaviour, Cpus, Duration, FunctionId, FunctionSpec, Invocation, Mem, Time};
use elapse::rt::{self, Options, Sim};
use elapse_host::docker::Dockers;
use elapse_host::doctor::leftovers_of;
use elapse_host::engine::{Answers, Common, Engine, IMAGE_SIZE, Network, Role, Spec, agent_path};
use elapse_host::net::{Networks, Subnet};
use elapse_host::process::Processes;
use elapse_live::backend::Live;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A backend to be tested, in a life of its own.
pub struct Bench {
    kind: Kind,
    backend: std::cell::RefCell<Option<Rc<dyn Backend>>>,
    /// The name that everything of it bears on the host.
    worker: std::cell::RefCell<String>,
}

#[derive(Clone)]
enum Kind {
    /// Under the virtual clock.
    Simulated,
    /// The simulated backend in real time.
    SimulatedLive,
    Process,
    /// At this socket.
    Docker(PathBuf),
    /// At this socket, with so many of each kind created ahead.
    Containerd(PathBuf, usize),
}

/// Where `make build` puts the agent.
pub fn agent() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/elapse-agent")
}

/// A worker's name that no other test has.
pub fn worker_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("t{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// What an engine of this worker is made from.
pub fn common_of(worker: &str) -> Common {
    let networks = Networks::new(worker, Subnet::default(), 0);
    Common { worker: worker.to_string(), agent: agent_path(Some(&agent())), image_size: IMAGE_SIZE, networks }
}

/// The socket of a daemon that `tests/daemons.sh` has started for the tests.
pub fn daemon(name: &str, test: &str) -> Option<PathBuf> {
    let variable = format!("ELAPSE_TEST_{}", name.to_uppercase());
    let socket = std::env::var_os(variable).map(PathBuf::from).filter(|s| s.exists() && agent().exists());
    has(name, test, socket.is_some()).then_some(socket)?
}

/// Every backend that can run here.
pub fn benches(test: &str) -> Vec<Rc<Bench>> {
    let mut kinds = vec![Kind::Simulated, Kind::SimulatedLive];
    if has("process", test, agent().exists()) {
        kinds.push(Kind::Process);
    }
    if let Some(socket) = daemon("docker", test) {
        kinds.push(Kind::Docker(socket));
    }
    if let Some(socket) = daemon("containerd", test)
        && has("containerd", test, cfg!(feature = "containerd"))
    {
        kinds.push(Kind::Containerd(socket.clone(), 0));
        kinds.push(Kind::Containerd(socket, 1));
    }
    kinds
        .into_iter()
        .map(|kind| Rc::new(Bench { kind, backend: Default::default(), worker: Default::default() }))
        .collect()
}

impl Bench {
    pub fn name(&self) -> &'static str {
        match &self.kind {
            Kind::Simulated => "simulated",
            Kind::SimulatedLive => "simulated, in real time",
            Kind::Process => "process",
            Kind::Docker(_) => "docker",
            Kind::Containerd(_, 0) => "containerd",
            Kind::Containerd(..) => "containerd, created ahead",
        }
    }

    pub fn is_real(&self) -> bool {
        !matches!(self.kind, Kind::Simulated | Kind::SimulatedLive)
    }

    /// Whether a container cannot use more than it has: plain processes can.
    pub fn limits_memory(&self) -> bool {
        !matches!(self.kind, Kind::Process) || rustix::process::geteuid().is_root()
    }

    pub fn backend(&self) -> Rc<dyn Backend> {
        self.backend.borrow().clone().expect("a backend, inside run")
    }

    async fn engine(&self, common: Common) -> Rc<dyn Engine> {
        match &self.kind {
            Kind::Docker(socket) => Rc::new(Dockers::connect(socket, common).await.expect("an engine")),
            #[cfg(feature = "containerd")]
            Kind::Containerd(socket, pooled) => {
                let engine =
                    elapse_host::containerd::Containerds::connect(socket, common, "runc", *pooled).await;
                Rc::new(engine.expect("an engine"))
            }
            _ => Rc::new(Processes::new(common).expect("an engine")),
        }
    }

    /// The groups of its containers, where they are beside each other: cgroup v1's of processors, or v2's.
    pub fn groups(&self) -> Vec<PathBuf> {
        let engine = self.backend().name().to_string();
        let worker = self.worker.borrow().clone();
        let v1 = Path::new("/sys/fs/cgroup/cpu");
        let root = if v1.exists() { v1 } else { Path::new("/sys/fs/cgroup") };
        let all = std::fs::read_dir(root.join("elapse.slice").join(worker).join(engine));
        all.into_iter().flatten().flatten().map(|e| e.path()).filter(|path| path.is_dir()).collect()
    }

    /// Runs a test inside the runtime of the backend's world; afterwards nothing of it may be on the host.
    pub fn run<F: Future<Output = ()> + 'static>(
        self: Rc<Self>,
        test: impl FnOnce(Rc<Bench>) -> F + 'static,
    ) {
        let worker = worker_name();
        self.worker.replace(worker.clone());
        if self.is_real() {
            let runtime = rt::Live::new().expect("a runtime");
            let common = common_of(&worker);
            let engine = runtime.block_on(self.engine(common.clone()));
            let named = worker.clone();
            let usual = LiveConfig::default();
            let create_timeout = usual.create_timeout * super::slower() as u64;
            let config = LiveConfig { worker, create_timeout, ..usual };
            let run = {
                let (bench, engine) = (Rc::clone(&self), Rc::clone(&engine));
                async move {
                    *bench.backend.borrow_mut() = Some(Rc::new(Live::new(engine, config)));
                    test(bench).await;
                }
            };
            runtime.block_on(run);
            *self.backend.borrow_mut() = None;
            let mut left = runtime.block_on(engine.sweep()).expect("a sweep");
            left.extend(runtime.block_on(common.networks.clear()).expect("a sweep"));
            assert!(left.is_empty(), "{} left on the host: {left:?}", self.name());
            assert_eq!(leftovers_of(&named), Vec::<String>::new(), "{}", self.name());
            return;
        }
        let bench = Rc::clone(&self);
        let run = async move {
            let simulated = Simulated::new(Model::default(), Cpus::MAX, 1);
            *bench.backend.borrow_mut() = Some(Rc::new(simulated));
            test(bench).await;
        };
        if let Kind::Simulated = self.kind {
            Sim::new(Options::default()).block_on(run).expect("a simulated run");
        } else {
            rt::Live::new().expect("a runtime").block_on(run);
        }
    }
}

/// A function of 256 MiB.
pub fn spec(behaviour: Behaviour, command: &[&str], code: Option<PathBuf>) -> FunctionSpec {
    let mut spec = FunctionSpec::new("f", Mem(256 << 20));
    spec.program.behaviour = Some(behaviour);
    spec.program.command = command.iter().map(ToString::to_string).collect();
    spec.program.code = code;
    spec
}

/// The creation of a container of the function of this test.
pub fn creation() -> Create {
    Create {
        function: FunctionId(0),
        memory: Mem(256 << 20),
        cpus: Cpus::from_cores(1),
        nth: 0,
        gpu: None,
        at_once: false,
    }
}

/// A call of so many milliseconds.
pub fn call(ms: u64) -> Invocation {
    Invocation {
        number: 7,
        function: FunctionId(0),
        arrival: Time::ZERO,
        intended: Duration::from_millis(ms),
        fails: false,
        usage: None,
    }
}

/// A container that answers, of a function that is admitted first.
pub async fn ready(backend: &Live, spec: &FunctionSpec) -> Sandbox {
    backend.admit(FunctionId(0), spec).expect("admitted");
    backend.create(&creation()).await.unwrap_or_else(|e| panic!("{}", e.why))
}

/// A sandbox of the agent alone, as an engine is asked for it.
pub fn bare(id: &str, cpus: u32) -> Spec {
    Spec {
        folder: None,
        id: id.into(),
        image: None,
        command: Vec::new(),
        code: None,
        role: Role::Behave,
        env: Vec::new(),
        memory: 32 << 20,
        cpus,
        pids: 64,
        answers: Answers::Socket,
        network: Network::None,
        gpu: None,
        writable: 0,
    }
}
