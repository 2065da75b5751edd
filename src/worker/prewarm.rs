//! Prewarming: containers created ahead of need, with another attempt where one failed for the moment.

use super::state::Dispose;
use super::{Disposer, Worker};
use crate::backend::Create;
use crate::base::{ColdCause, Duration, Fault, FunctionId, Result, StartKind};
use crate::rt;
use crate::rt::chance::Purpose;
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// How often a creation ahead of need is tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts, the first one included.
    pub attempts: u32,
    /// Pause before the second attempt; doubles with each further one.
    pub backoff: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// Share of a pause that is random, 0 to 1.
    pub jitter: f64,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts: 5,
            backoff: Duration::from_millis(100),
            longest: Duration::from_secs(10),
            jitter: 0.5,
        }
    }
}

impl Worker {
    /// Creates one idle container for a function. It evicts nothing: what is wanted later does not push out what is
    /// there now. Faults that may pass are tried again.
    ///
    /// # Errors
    /// Why the last attempt failed.
    pub async fn prewarm(&self, function: FunctionId, retry: Retry) -> Result<()> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            self.0.state.borrow_mut().counts.prewarm_attempts += 1;
            let (transient, why) = match self.prewarm_once(function).await {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            self.0.state.borrow_mut().counts.prewarm_failures += 1;
            if !transient || attempt >= retry.attempts {
                return Err(Fault::host(format!("prewarm failed after {attempt} attempts: {why}")));
            }
            let pause = (retry.backoff * (1 << (attempt - 1).min(30))).min(retry.longest).0 as f64;
            let random: f64 =
                self.0.luck.draw(Purpose::Jitter, rt::now().0 ^ u64::from(function.0) << 40).random();
            let jitter = 1.0 + retry.jitter.clamp(0.0, 1.0) * (random - 0.5);
            rt::sleep(Duration::from_nanos_f64(pause * jitter)).await;
        }
    }

    async fn prewarm_once(&self, function: FunctionId) -> std::result::Result<(), (bool, String)> {
        let inner = &self.0;
        let (key, work) = {
            let mut state = inner.state.borrow_mut();
            if state.draining {
                return Err((false, "the worker drains".into()));
            }
            let Some(key) = state.begin_creation(function, rt::now(), None) else {
                return Err((true, "no memory is free for it, or too many creations are under way".into()));
            };
            let cpus = state.functions[function.index()].spec.cpus;
            let c = state.pool.get(key);
            c.prewarmed = true;
            let request =
                Create { function, memory: c.memory, cpus, nth: c.nth, gpu: c.gpu.map(|part| part.gpu) };
            (key, inner.backends[usize::from(c.backend)].create(&request))
        };
        let begun = rt::now();
        match work.await {
            Ok(sandbox) => {
                let mut state = inner.state.borrow_mut();
                let c = state.pool.get(key);
                c.sandbox = Some(sandbox);
                c.cold_start = rt::now().since(begun);
                drop(state);
                inner.offer(key, StartKind::Prewarmed);
                Ok(())
            }
            Err(fault) => {
                let mut state = inner.state.borrow_mut();
                Disposer(inner).dispose(&mut state, key, ColdCause::Failure, rt::now());
                drop(state);
                inner.pump();
                Err((fault.transient, fault.why.to_string()))
            }
        }
    }
}
