//! What a worker daemon does about its earlier lives when it starts: it removes what they left, or takes over what lives.

use super::config::{DaemonConfig, OnBoot};
use super::desk::Desk;
use super::state::State;
use crate::backend::{Backend, Keeper, Live, Simulated};
use crate::base::{Cpus, Duration, Fault, Result};
use crate::worker::Worker;
use crate::world::live::Engines;
use elapse_real::engine::Sandbox;
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
pub(super) async fn found(engines: &Engines, state: Option<&State>, on_boot: OnBoot) -> Result<Vec<Found>> {
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
    let kept: Vec<String> = found.iter().map(|f| f.id.clone()).collect();
    let mut removed = Vec::new();
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
        state.only(&kept)?;
    }
    Ok(found)
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
    ) -> Backends {
        let live: Vec<Option<Rc<Live>>> = engines
            .all
            .iter()
            .map(|engine| {
                let backend = Live::new(Rc::clone(engine.as_ref()?), config.live.clone());
                Some(Rc::new(match &state {
                    Some(state) => backend.kept_by(Rc::clone(state) as Rc<dyn Keeper>),
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

    /// Takes over what was found and answers, warm at once; the rest is removed.
    pub(super) async fn take_over(&self, found: Vec<Found>, worker: &Worker, desk: &Desk) {
        let (all, mut warm) = (found.len(), 0);
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
            let id = desk.function(&function).filter(|id| live.made_of(*id).is_some_and(|m| *m == *made_of));
            if id.is_some_and(|id| worker.adopt(id, live.name(), sandbox, gpu)) {
                warm += 1;
            } else {
                tracing::info!(target: "elapse", function, "a container that no function wants as it is: removed");
                live.remove(sandbox).await;
            }
        }
        if all > 0 {
            tracing::info!(target: "elapse", warm, of = all, "containers of an earlier life taken over");
        }
    }
}
