//! Which functions a worker takes, and on which of its backends.

use super::container::Fate;
use super::state::{Dispose, State};
use super::{Disposer, Worker};
use crate::base::{Compute, Cpus, Duration, Fault, FunctionId, FunctionSpec, Mem, Result, Unit};
use crate::rt;

impl Worker {
    /// Registers a function on the first of its backends that can serve it.
    ///
    /// # Errors
    /// Why none can, or what of it cannot be meant.
    pub fn register(&self, mut spec: FunctionSpec) -> Result<FunctionId> {
        let mut state = self.0.state.borrow_mut();
        let name = spec.name.clone();
        let refuse = |why: String| Err(Fault::usage(format!("cannot register function '{name}': {why}")));
        let capacity = state.ledger.capacity();
        if spec.memory > capacity {
            return refuse(format!(
                "its container needs {}, and the worker has {capacity}; give the worker more memory (--memory)",
                spec.memory
            ));
        }
        // So that no sum of containers can overflow: 2^20 of the largest fit into 64 bits.
        const LARGEST: Mem = Mem(1 << 44);
        if spec.memory > LARGEST {
            return refuse(format!(
                "its container needs {}, more than any host has ({LARGEST})",
                spec.memory
            ));
        }
        if spec.program.compute == Compute::Gpu {
            let (count, each) = (state.gpus.count(), state.gpus.each());
            if count == 0 {
                return refuse(
                    "it needs a GPU, and the worker has none; say how many it has ([worker] gpus)".into(),
                );
            }
            if let Some(need) = spec.program.gpu_memory.filter(|need| *need > each) {
                return refuse(format!(
                    "it needs {need} of a GPU, and each has {each} ([worker] gpu_memory)"
                ));
            }
        } else if spec.program.gpu_memory.is_some() {
            return refuse("it names gpu_memory and needs no GPU; compute = \"gpu\" may be missing".into());
        }
        let cores = state.config.cores.unwrap_or(Cpus::MAX);
        if spec.cpus > cores {
            return refuse(format!(
                "it needs {} cpus, and the worker has {cores}; give it more cores (--cores)",
                spec.cpus
            ));
        }
        if let Some(why) = state.differs_in_its_app(&spec) {
            return refuse(why);
        }
        let id = state.next_number();
        let mut reasons = Vec::new();
        spec.timeout = spec.timeout.or(state.config.timeout).filter(|t| *t != Duration::MAX);
        // In the function's order of preference; in the worker's, where it has none.
        let all = || (0u16..).zip(&self.0.backends);
        let wanted: Vec<_> = if spec.backends.is_empty() {
            all().collect()
        } else {
            spec.backends.iter().flat_map(|name| all().filter(move |(_, b)| b.name() == name)).collect()
        };
        for (number, backend) in wanted {
            match backend.admit(id, &spec) {
                Ok(()) => {
                    if let Some(before) = state.functions.get(id.index()).filter(|f| f.backend != number) {
                        self.0.backends[usize::from(before.backend)].forget(id);
                    }
                    let outgrown = state.register(id, spec, number);
                    for key in outgrown {
                        Disposer(&self.0).dispose(&mut state, key, Fate::Condemned, rt::now());
                    }
                    return Ok(id);
                }
                Err(why) => reasons.push(format!("{}: {why}", backend.name())),
            }
        }
        if reasons.is_empty() {
            let names: Vec<&str> = self.0.backends.iter().map(|b| b.name()).collect();
            reasons.push(format!(
                "it asks for {}, and the worker has {}",
                spec.backends.join(", "),
                names.join(", ")
            ));
        }
        refuse(format!("no backend can serve it: {}", reasons.join("; ")))
    }
}

impl State {
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
}
