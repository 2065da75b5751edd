//! Functions that can be called: what cannot be taken, their numbers, and what becomes of their containers when they go.

use super::container::Key;
use super::groups::Fit;
use super::{Shell, State};
use crate::base::{Compute, Cpus, Duration, FunctionId, FunctionSpec, Mem, Time, Unit};
use crate::worker::event::WorkerEvent;

/// A registered function.
pub(in crate::worker) struct Function {
    pub(in crate::worker) spec: FunctionSpec,
    pub(super) group: u32,
    /// How long its containers are kept, where the policy need not be asked each time.
    pub(super) keep_alive: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    /// The backend its containers are created on.
    pub(in crate::worker) backend: u16,
    /// Containers of its group that it may enter.
    pub(super) fit: Fit,
    /// Nobody calls it any more.
    pub(super) gone: bool,
    /// Creations ahead of need that are under way, or wait for another attempt.
    pub(super) prewarming: u32,
}

impl State {
    /// Functions in the order of their numbers, those included that are gone.
    pub(in crate::worker) fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// What of a function this worker cannot serve, whatever its backends can.
    pub(in crate::worker) fn refusal(&self, spec: &FunctionSpec) -> Option<String> {
        let capacity = self.ledger.capacity();
        if spec.memory > capacity {
            return Some(format!(
                "its container needs {}, and the worker has {capacity}; give the worker more memory (--memory)",
                spec.memory
            ));
        }
        // So that no sum of containers can overflow: 2^20 of the largest fit into 64 bits.
        const LARGEST: Mem = Mem(1 << 44);
        if spec.memory > LARGEST {
            return Some(format!("its container needs {}, more than any host has ({LARGEST})", spec.memory));
        }
        if spec.program.compute == Compute::Gpu {
            let (count, each) = (self.gpus.count(), self.gpus.each());
            if count == 0 {
                return Some(
                    "it needs a GPU, and the worker has none; say how many it has ([worker] gpus)".into(),
                );
            }
            if let Some(need) = spec.program.gpu_memory.filter(|need| *need > each) {
                return Some(format!("it needs {need} of a GPU, and each has {each} ([worker] gpu_memory)"));
            }
        } else if spec.program.gpu_memory.is_some() {
            return Some("it names gpu_memory and needs no GPU; compute = \"gpu\" may be missing".into());
        }
        let cores = self.config.cores.unwrap_or(Cpus::MAX);
        if spec.cpus > cores {
            return Some(format!(
                "it needs {} cpus, and the worker has {cores}; give it more cores (--cores)",
                spec.cpus
            ));
        }
        self.differs_in_its_app(spec)
    }

    /// What tells a function from another of its app that shares its containers, if anything does that must not.
    fn differs_in_its_app(&self, spec: &FunctionSpec) -> Option<String> {
        if self.config.unit != Some(Unit::App) {
            return None;
        }
        let group = self.groups.of_app(&spec.app)?;
        let other = &self.functions.iter().find(|f| f.group == group && !f.gone)?.spec;
        let (a, b) = (&spec.program, &other.program);
        let what = [
            ("image", a.image != b.image),
            ("code", a.code != b.code),
            ("command", a.command != b.command),
            ("protocol", a.protocol != b.protocol),
            ("network", a.network != b.network),
            ("backends", spec.backends != other.backends),
        ];
        let (key, _) = what.into_iter().find(|(_, differs)| *differs)?;
        Some(format!(
            "its {key} differs from that of '{}', with which it shares the containers of app '{}' ([worker] unit = \"app\"); \
             give it an app of its own",
            other.name, spec.app
        ))
    }

    /// The number of the next function: one that was forgotten and that nothing bears any more, so that whoever registers and
    /// forgets for ever takes no more room than what is registered at once; or a new one.
    pub(in crate::worker) fn next_number(&self) -> FunctionId {
        let is_free = |id: FunctionId, f: &Function| {
            f.prewarming == 0
                && !self.pool.has_any(f.group)
                && self.tickets.iter().all(|(_, ticket)| ticket.function != id)
        };
        // Where apps share containers, a group outlives its functions.
        let looked_at =
            if self.config.unit.unwrap_or_default() == Unit::Function { &self.gone[..] } else { &[] };
        let free = looked_at.iter().find(|id| is_free(**id, &self.functions[id.index()]));
        free.copied().unwrap_or(FunctionId(self.functions.len() as u32))
    }

    /// Enters a function under the [`next_number`](Self::next_number). Idle containers of its app that it has outgrown go.
    pub(in crate::worker) fn register(
        &mut self,
        id: FunctionId,
        spec: FunctionSpec,
        backend: u16,
        now: Time,
        shell: &mut impl Shell,
    ) {
        let outgrown = self.enter(id, spec, backend);
        self.emit(now, |_| WorkerEvent::Registered { function: id });
        self.retire_all(|_| outgrown.clone(), now, shell);
        self.settled();
    }

    fn enter(&mut self, id: FunctionId, spec: FunctionSpec, backend: u16) -> Vec<Key> {
        let fit = Fit::of(&spec, &self.gpus);
        let pool = &mut self.pool;
        let group = match self.functions.get(id.index()) {
            Some(before) => {
                self.gone.retain(|gone| *gone != id);
                pool.clear_group(before.group);
                self.groups.begin_anew(before.group, fit);
                self.keeping.clear(before.group);
                before.group
            }
            None => self.groups.enter(&spec, fit, || pool.add_group()),
        };
        let function = Function {
            group,
            keep_alive: self.keeping.known(spec.keep_alive),
            timeout: spec.timeout,
            backend,
            fit,
            gone: false,
            prewarming: 0,
            spec,
        };
        match self.functions.get_mut(id.index()) {
            Some(place) => *place = function,
            None => self.functions.push(function),
        }
        let needs = self.groups.needs(group);
        self.pool.outgrown(group, needs)
    }

    /// Forgets a function that nobody will call any more: its idle containers go, and those that run when they have finished.
    /// Where it shares them with its app they stay.
    pub(in crate::worker) fn deregister(&mut self, id: FunctionId, now: Time, shell: &mut impl Shell) {
        let Some(function) = self.functions.get_mut(id.index()).filter(|f| !f.gone) else { return };
        function.gone = true;
        let group = function.group;
        self.gone.push(id);
        self.emit(now, |_| WorkerEvent::Deregistered { function: id });
        if self.functions.iter().any(|f| f.group == group && !f.gone) {
            let left = self.functions.iter().filter(|f| f.group == group && !f.gone);
            self.groups.set_needs(group, left.map(|f| f.fit));
        } else {
            self.groups.forget(group);
            self.retire_group(group, now, shell);
        }
        self.settled();
    }
}
