//! What may change while a daemon runs: on SIGHUP it reads its configuration again.
//!
//! Functions of the file, the API's token and its certificate are changed at once; what else differs is named in the log and holds from the
//! next start. A file that cannot be used changes nothing.

use super::config::DaemonConfig;
use super::credentials::{Credentials, Token};
use super::ending::LOOK;
use super::membership::Member;
use super::phase::Phase;
use super::service::WorkerService;
use super::state::Registered;
use elapse::base::{Fault, Result};
use elapse::rt;
use elapse::rt::chance::RngKey;
use elapse::rt::supervise::{Heartbeat, Patience, Supervised, supervise};
use serde::Serialize;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells whether somebody wants the configuration read again (SIGHUP).
#[derive(Clone, Debug)]
pub struct Hangup(Arc<AtomicBool>);

impl Hangup {
    /// Listens for SIGHUP, which otherwise ends the process.
    ///
    /// # Errors
    /// If the kernel does not let it.
    pub fn listen() -> std::io::Result<Hangup> {
        let flag = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&flag))?;
        Ok(Hangup(flag))
    }

    /// Whether it came since this was asked last.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// A daemon's configuration that can be read again while it runs.
pub(super) trait Reloaded: Serialize + Clone {
    /// Top-level keys that change at once.
    const AT_ONCE: &'static [&'static str];
    /// What they change.
    type Running;

    /// Changes what runs from the configuration that it has to this one.
    ///
    /// # Errors
    /// What cannot be changed at all; nothing has changed then.
    async fn apply(&self, old: &Self, running: &Self::Running) -> Result<()>;
}

/// What a reload changes of a worker.
pub(super) struct Running {
    pub(super) service: Rc<WorkerService>,
    pub(super) credentials: Credentials,
    pub(super) member: Option<Rc<Member>>,
}

impl Reloaded for DaemonConfig {
    const AT_ONCE: &'static [&'static str] = &["function", "tls_cert", "tls_key", "token_file"];
    type Running = Running;

    /// Functions that are gone from the file are deregistered, new ones registered, and those that differ are both. One that
    /// cannot be registered is told, by itself.
    async fn apply(&self, old: &DaemonConfig, running: &Running) -> Result<()> {
        let next = Token::of(self.controller.token_file.as_deref())?;
        running.credentials.exchange(&self.access_keys())?;
        if let Some(member) = &running.member {
            member.exchange_token(&next);
        }
        for function in old.functions.iter().filter(|f| !self.functions.contains(f)) {
            running.service.forget(&function.name);
        }
        for function in self.functions.iter().filter(|f| !old.functions.contains(f)) {
            let function = Registered { config: function.clone(), bound: false };
            if let Err(fault) = running.service.admit(&function).await {
                tracing::error!(target: "elapse", %fault, "not registered");
            }
        }
        Ok(())
    }
}

/// What is needed to read a configuration again whenever that is asked for.
pub(super) struct Reloads<C: Reloaded, R> {
    pub(super) hangup: Hangup,
    pub(super) config: C,
    /// Reads it.
    pub(super) reread: R,
    pub(super) running: C::Running,
}

impl<C, R> Reloads<C, R>
where
    C: Reloaded + 'static,
    C::Running: 'static,
    R: Fn() -> Result<C> + 'static,
{
    /// Reads the configuration again, and changes what runs, at each SIGHUP. Under a supervisor.
    pub(super) fn watch(self, phase: Phase, rng: RngKey) -> Supervised {
        let Reloads { hangup, config, reread, running } = self;
        let all = Rc::new((hangup, RefCell::new(config), reread, running));
        supervise("reload", Patience::default(), rng, move |pulse| {
            let (all, phase) = (Rc::clone(&all), phase.clone());
            async move {
                let (hangup, config, reread, running) = &*all;
                loop {
                    pulse.rest(rt::sleep(LOOK)).await;
                    if hangup.take() {
                        phase.reloads(reload(config, reread, running, &pulse)).await;
                    }
                }
            }
        })
    }
}

async fn reload<C: Reloaded>(
    config: &RefCell<C>,
    reread: &impl Fn() -> Result<C>,
    running: &C::Running,
    pulse: &Heartbeat,
) {
    let old = config.borrow().clone();
    let outcome = async {
        let next = reread()?;
        // Images may have to be pulled, which is no hang.
        pulse.rest(next.apply(&old, running)).await?;
        let later = differing(&old, &next);
        config.replace(next);
        Ok::<_, Fault>(later)
    };
    match outcome.await {
        Ok(later) if later.is_empty() => tracing::info!(target: "elapse", "the configuration was read again"),
        Ok(later) => tracing::warn!(
            target: "elapse", keys = later.join(", "), "read again; these hold from the next start"
        ),
        Err(fault) => tracing::error!(target: "elapse", %fault, "not read again; everything is as it was"),
    }
}

/// Keys that differ and do not change at once, as `table.key`.
fn differing<C: Reloaded>(old: &C, new: &C) -> Vec<String> {
    let value = |config: &C| serde_json::to_value(config).unwrap_or_default();
    let (old, new) = (value(old), value(new));
    let mut keys = BTreeSet::new();
    let none = serde_json::Map::new();
    let (a, b) = (old.as_object().unwrap_or(&none), new.as_object().unwrap_or(&none));
    for key in a.keys().chain(b.keys()).filter(|key| !C::AT_ONCE.contains(&key.as_str())) {
        match (a.get(key), b.get(key)) {
            (Some(Value::Object(x)), Some(Value::Object(y))) => {
                let inner = x.keys().chain(y.keys()).filter(|k| x.get(*k) != y.get(*k));
                keys.extend(inner.map(|k| format!("{key}.{k}")));
            }
            (x, y) if x != y => drop(keys.insert(key.clone())),
            _ => {}
        }
    }
    keys.into_iter().collect()
}
