//! Which functions a worker takes, and on which of its backends.

use super::Worker;
use crate::base::{Compute, Cpus, Duration, Fault, FunctionId, FunctionSpec, Mem, Result};

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
        let id = FunctionId(state.functions.len() as u32);
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
                Ok(()) => return Ok(state.register(spec, number)),
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
