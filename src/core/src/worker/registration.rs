//! Which functions a worker takes, and on which of its backends.

use super::Worker;
use super::around::Around;
use crate::base::{Duration, Fault, FunctionId, FunctionSpec, Result};
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
        if let Some(why) = state.refusal(&spec) {
            return refuse(why);
        }
        let id = state.next_number();
        let mut reasons = Vec::new();
        spec.timeout = spec.timeout.or(state.config().timeout).filter(|t| *t != Duration::MAX);
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
                    if let Some(before) = state.functions().get(id.index()).filter(|f| f.backend != number) {
                        self.0.backends[usize::from(before.backend)].forget(id);
                    }
                    state.register(id, spec, number, rt::now(), &mut Around(&self.0));
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
