//! Single-threaded primitives on `core::task` alone: the same code under both arms.

mod mpsc;
mod notify;
mod oneshot;
mod semaphore;

pub use mpsc::{Receiver, Sender, channel};
pub use notify::{Notified, Notify};
pub use oneshot::{Closed, OneReceiver, OneSender, oneshot};
pub use semaphore::{Acquire, Permit, Semaphore};
