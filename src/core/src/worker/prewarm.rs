//! Prewarming: containers created ahead of need, with another attempt where one failed for the moment.

use super::creation::Creating;
use super::{Inner, Worker};
use crate::base::{Duration, Fault, FunctionId, Result, StartKind};
use crate::rt;
use crate::rt::chance::Purpose;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::rc::Rc;

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

impl Retry {
    /// What cannot be meant.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> std::result::Result<(), String> {
        if self.attempts == 0 {
            return Err("attempts is 0; it is at least 1".into());
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(format!("jitter is {}; it is a share of the pause, from 0 to 1", self.jitter));
        }
        Ok(())
    }
}

impl Worker {
    /// Creates one idle container for a function. It evicts nothing: what is wanted later does not push out what is
    /// there now. Faults that may pass are tried again.
    ///
    /// # Errors
    /// Why the last attempt failed.
    pub async fn prewarm(&self, function: FunctionId, retry: Retry) -> Result<()> {
        let _under_way = UnderWay::begin(self, function);
        let mut attempt = 0;
        loop {
            attempt += 1;
            self.0.state.borrow_mut().prewarm_attempted(function, rt::now());
            let (transient, why) = match self.prewarm_once(function, false).await {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            self.0.state.borrow_mut().prewarm_failed(function, rt::now());
            if !transient || attempt >= retry.attempts {
                return Err(Fault::host(format!("prewarm failed after {attempt} attempts: {why}")));
            }
            let pause = (retry.backoff * (1 << (attempt - 1).min(30))).min(retry.longest).0 as f64;
            let random: f64 =
                self.0.rng.draw(Purpose::Jitter, rt::now().0 ^ u64::from(function.0) << 40).random();
            let jitter = 1.0 + retry.jitter.clamp(0.0, 1.0) * (random - 0.5);
            rt::sleep(Duration::from_nanos_f64(pause * jitter)).await;
        }
    }

    /// Lets a container of a function stand as if it had always: where creations are modelled it takes no time. It counts as
    /// a prewarming.
    ///
    /// # Errors
    /// Why it could not be created.
    pub async fn stand_by(&self, function: FunctionId) -> Result<()> {
        self.0.state.borrow_mut().prewarm_attempted(function, rt::now());
        self.prewarm_once(function, true).await.map_err(|(_, why)| {
            self.0.state.borrow_mut().prewarm_failed(function, rt::now());
            Fault::host(format!("a container that was to stand at the beginning does not: {why}"))
        })
    }

    async fn prewarm_once(
        &self,
        function: FunctionId,
        at_once: bool,
    ) -> std::result::Result<(), (bool, String)> {
        let inner = &self.0;
        let key = inner.state.borrow_mut().prewarm(function, rt::now())?;
        // Given up before its end, it is destroyed like any that failed.
        let creating = Creating::new(inner, key);
        match inner.create(key, at_once).await {
            Ok(()) => {
                inner.offer(creating.done(), StartKind::Prewarmed);
                Ok(())
            }
            Err(fault) => {
                creating.failed(&fault.why);
                Err((fault.transient, fault.why.to_string()))
            }
        }
    }
}

impl Inner {
    /// Waits for when the keep-alive policy wants a container of a group again, and creates it, unless somebody came before.
    pub(super) fn create_again(self: &Rc<Inner>, function: FunctionId, group: u32) {
        let inner = Rc::clone(self);
        rt::spawn_detached(async move {
            loop {
                let wanted = inner.state.borrow_mut().next_again(group);
                let Some(at) = wanted else { return };
                if at > rt::now() {
                    rt::sleep_until(at).await;
                    continue;
                }
                if !inner.state.borrow_mut().wants_again(function, group, at) {
                    continue;
                }
                let worker = Worker(Rc::clone(&inner));
                if worker.prewarm_once(function, false).await.is_err() {
                    // It is not tried again: the next call is served as it comes.
                    inner.state.borrow_mut().prewarm_failed(function, rt::now());
                }
            }
        });
    }
}

/// Counts a creation ahead of need as long as it is tried: its function's number is nobody else's meanwhile.
struct UnderWay<'a> {
    worker: &'a Worker,
    function: FunctionId,
}

impl UnderWay<'_> {
    fn begin(worker: &Worker, function: FunctionId) -> UnderWay<'_> {
        worker.0.state.borrow_mut().begin_prewarming(function);
        UnderWay { worker, function }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.worker.0.state.borrow_mut().end_prewarming(self.function);
    }
}
