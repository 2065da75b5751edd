//! How far a daemon is. Its service manager is told, and whoever asks for its health.

use elapse::base::Duration;
use elapse::rt;
use elapse::rt::chance::RngKey;
use elapse::rt::supervise::{Patience, Supervised, supervise};
use sd_notify::NotifyState;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not yet ready for invocations.
    Starting,
    /// It takes invocations.
    Serving,
    /// It takes no more.
    Draining,
}

const STAGES: [Stage; 3] = [Stage::Starting, Stage::Serving, Stage::Draining];

impl Stage {
    pub(super) fn word(self) -> &'static str {
        match self {
            Stage::Starting => "starting",
            Stage::Serving => "serving",
            Stage::Draining => "draining",
        }
    }
}

/// The stage of a daemon. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase(Arc<AtomicU8>);

impl Phase {
    pub(super) fn stage(&self) -> Stage {
        STAGES[usize::from(self.0.load(Ordering::Relaxed))]
    }

    fn becomes(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Relaxed);
    }

    /// From now on it takes invocations.
    pub(super) fn serves(&self) {
        self.becomes(Stage::Serving);
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
    }

    /// From now on it takes no more; what it has may take `limit`.
    pub(super) fn drains(&self, limit: Duration) {
        self.becomes(Stage::Draining);
        let us = u32::try_from(limit.0 / 1000).unwrap_or(u32::MAX);
        notify(&[NotifyState::Stopping, NotifyState::Status("draining"), NotifyState::ExtendTimeoutUsec(us)]);
    }

    /// Around a reload, of which the service manager is told while the daemon serves.
    pub(super) async fn reloads<T>(&self, reload: impl Future<Output = T>) -> T {
        let serving = || self.stage() == Stage::Serving;
        if serving() {
            let mut tells = vec![NotifyState::Reloading];
            tells.extend(NotifyState::monotonic_usec_now().ok());
            notify(&tells);
        }
        let outcome = reload.await;
        if serving() {
            notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
        }
        outcome
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(why) = sd_notify::notify(state) {
        tracing::warn!(target: "elapse", %why, "the service manager could not be told");
    }
}

/// Tells the service manager that the daemon's loop turns, twice as often as it asks.
pub(super) fn watchdog(rng: RngKey) -> Supervised {
    supervise("watchdog", Patience::default(), rng, |pulse| async move {
        let Some(limit) = sd_notify::watchdog_enabled() else { return pulse.rest(pending()).await };
        loop {
            notify(&[NotifyState::Watchdog]);
            let half = u64::try_from(limit.as_nanos() / 2).unwrap_or(u64::MAX);
            pulse.rest(rt::sleep(Duration(half))).await;
        }
    })
}
