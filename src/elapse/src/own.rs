//! What a run has of its caller's: policies, and who hears what its workers do.

use crate::worker::event::Observer;
use crate::worker::{eviction::Eviction, keep_alive::KeepAlive, queue::QueuePolicy};

/// Makes one of something for each worker.
type Make<T> = Box<dyn FnMut() -> Box<T>>;
/// Makes an observer of a worker, by its number.
type MakeObserver = Box<dyn FnMut(u16) -> Box<dyn Observer>>;

/// See the module.
#[derive(Default)]
pub(crate) struct Own {
    pub(crate) eviction: Option<Make<dyn Eviction>>,
    pub(crate) queue: Option<Make<dyn QueuePolicy>>,
    pub(crate) keep_alive: Option<Make<dyn KeepAlive>>,
    pub(crate) observers: Vec<MakeObserver>,
    pub(crate) checked: bool,
}
