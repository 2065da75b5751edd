//! What a worker daemon does about its earlier lives when it starts: it removes what they left, or takes over what lives.

use super::config::{DaemonConfig, OnBoot};
use super::service::WorkerService;
use super::state::State;
use elapse::backend::{Backend, LiveConfig, Simulated};
use elapse::base::{Cpus, Duration, Fault, Result};
use elapse::worker::Worker;
use elapse_host::engine::Sandbox;
use elapse_host::room::Room;
use elapse_live::backend::{Live, SandboxJournal};
use elapse_live::here::{Engines, engines};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// How long a container of an earlier life may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// A container that an earlier life left, and that lives.
pub(super) struct Found {
    backend: usize,
    id: String,
    function: String,
    made_of: String,
    sandbox: Rc<dyn Sandbox>,
}

/// Looks for containers that can be taken over, if they are to be, and removes everything else of the worker's name.
///
/// # Errors
/// What could not be removed, or a journal that cannot be written.
pub(super) async fn found(
    engines: &Engines,
    state: Option<&State>,
    on_boot: OnBoot,
    live: &LiveConfig,
) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    if let (OnBoot::Recover, Some(state)) = (on_boot, state) {
        engines.all.iter().flatten().for_each(|engine| engine.outlive());
        for (id, left) in state.left() {
            let engine = engines
                .all
                .iter()
                .enumerate()
                .find_map(|(i, e)| e.as_ref().filter(|e| e.name() == left.backend).map(|e| (i, e)));
            let (Some((backend, engine)), Some(trace)) = (engine, &left.trace) else { continue };
            match engine.adopt(trace).await {
                Ok(sandbox) => {
                    let (function, made_of) = (left.function, left.made_of);
                    found.push(Found { backend, id, function, made_of, sandbox });
                }
                Err(fault) => tracing::info!(target: "elapse", container = id, %fault, "not taken over"),
            }
        }
    }
    let mut kept: Vec<String> = found.iter().map(|f| f.id.clone()).collect();
    let mut removed = Vec::new();
    // Backends that the worker had and has no more.
    let left = state.map(State::left).unwrap_or_default();
    let is_ours = |name: &str| engines.all.iter().flatten().any(|engine| engine.name() == name);
    let former: BTreeSet<&str> =
        left.values().map(|l| l.backend.as_str()).filter(|name| !is_ours(name)).collect();
    for name in former {
        match sweep_former(name, live).await {
            Ok(more) => removed.extend(more),
            Err(fault) => {
                tracing::warn!(target: "elapse", backend = name, %fault, "what it has of an earlier life is left there");
                kept.extend(left.iter().filter(|(_, l)| l.backend == name).map(|(id, _)| id.clone()));
            }
        }
    }
    for engine in engines.all.iter().flatten() {
        removed.extend(engine.sweep_but(&kept).await.map_err(|fault| Fault::host(fault.why))?);
    }
    if on_boot == OnBoot::Recover {
        let ready = engines.networks.reload().await.map_err(|fault| Fault::host(fault.why))?;
        if ready > 0 {
            tracing::info!(target: "elapse", ready, "network namespaces of an earlier life taken over");
        }
    }
    removed.extend(engines.networks.sweep().await.map_err(|fault| Fault::host(fault.why))?);
    if !removed.is_empty() {
        tracing::warn!(
            target: "elapse", removed = removed.join(", "), "removed what an earlier life of this worker had left"
        );
    }
    if let Some(state) = state {
        state.only(&kept);
    }
    Ok(found)
}

/// Removes what is left on a backend that the worker has no more.
async fn sweep_former(name: &str, live: &LiveConfig) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for engine in engines(&[name.to_string()], live).await?.all.iter().flatten() {
        removed.extend(engine.sweep().await.map_err(|fault| Fault::host(fault.why))?);
    }
    Ok(removed)
}

/// The backends of a worker daemon.
pub(super) struct Backends {
    pub(super) all: Vec<Rc<dyn Backend>>,
    live: Vec<Option<Rc<Live>>>,
}

impl Backends {
    pub(super) fn new(
        engines: &Engines,
        config: &DaemonConfig,
        cores: Cpus,
        state: Option<Rc<State>>,
        room: &Room,
    ) -> Backends {
        let live: Vec<Option<Rc<Live>>> = engines
            .all
            .iter()
            .map(|engine| {
                let backend =
                    Live::new(Rc::clone(engine.as_ref()?), config.live.clone()).within(room.clone());
                Some(Rc::new(match &state {
                    Some(state) => backend.kept_by(Rc::clone(state) as Rc<dyn SandboxJournal>),
                    None => backend,
                }))
            })
            .collect();
        let all = live.iter().map(|live| match live {
            Some(live) => Rc::clone(live) as Rc<dyn Backend>,
            None => Rc::new(Simulated::new(Default::default(), cores, config.seed)),
        });
        Backends { all: all.collect(), live }
    }

    /// Takes over what was found and answers, warm at once; the rest is removed. How many each function has got so.
    pub(super) async fn take_over(
        &self,
        found: Vec<Found>,
        worker: &Worker,
        service: &WorkerService,
    ) -> BTreeMap<String, u32> {
        let (all, mut warm) = (found.len(), BTreeMap::<String, u32>::new());
        let answered = futures::future::join_all(found.into_iter().map(async |f| {
            let live = self.live[f.backend].as_ref()?;
            let gpu = f.sandbox.gpu();
            match live.adopt(&f.id, f.sandbox, ANSWER).await {
                Ok(sandbox) => Some((live, f.function, f.made_of, sandbox, gpu)),
                Err(why) => {
                    tracing::warn!(target: "elapse", container = f.id, why, "removed");
                    None
                }
            }
        }));
        for (live, function, made_of, sandbox, gpu) in answered.await.into_iter().flatten() {
            // A function whose description has changed gets containers of the new one.
            let id =
                service.function(&function).filter(|id| live.made_of(*id).is_some_and(|m| *m == *made_of));
            // One may have ended while the others were asked: whoever hears of it looks among the worker's.
            let id = id.filter(|_| !live.has_ended(sandbox));
            if id.is_some_and(|id| worker.adopt(id, live.name(), sandbox, gpu)) {
                *warm.entry(function).or_default() += 1;
            } else {
                tracing::info!(target: "elapse", function, "a container that no function wants as it is: removed");
                live.remove(sandbox).await;
            }
        }
        if all > 0 {
            let n: u32 = warm.values().sum();
            tracing::info!(target: "elapse", warm = n, of = all, "containers of an earlier life taken over");
        }
        warm
    }
}
