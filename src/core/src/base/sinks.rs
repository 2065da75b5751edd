//! Where invocations go and where they end: how load, controller and workers meet without knowing each other.

use super::{Invocation, Record};

/// Takes invocations: a worker, or a controller in front of several.
pub trait InvocationSink {
    /// Takes an invocation that arrives now.
    fn submit(&self, call: Invocation);
}

/// Takes what became of invocations.
pub trait CompletionSink {
    /// An invocation returned; or the run ended first, which its status tells.
    fn settle(&self, record: &Record);
}
