//! How a daemon comes to its end: who wants it, and how long it may take.

use super::dispatcher::{Dispatcher, Service};
use elapse::Interrupt;
use elapse::base::Duration;
use elapse::rt;
use std::rc::Rc;

/// Between two looks whether somebody wants the end.
pub(crate) const LOOK: Duration = Duration(50_000_000);

/// Beside the limits of the worker's own drain: farewells, the last answers, removals that take long.
pub(crate) const BESIDE_DRAIN: Duration = Duration::from_secs(60);

/// Waits until a signal asks for the end.
pub(crate) async fn asked(interrupt: &Interrupt) {
    while !interrupt.asked() {
        rt::sleep(LOOK).await;
    }
}

/// Waits until somebody wants the end.
pub(crate) async fn wanted<O: Service>(dispatcher: &Rc<Dispatcher<O>>, interrupt: &Interrupt) {
    while !interrupt.asked() && !dispatcher.drains() {
        rt::sleep(LOOK).await;
    }
}
