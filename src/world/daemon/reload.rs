//! What may change while a daemon runs: on SIGHUP it reads its configuration again.
//!
//! Functions of the file and the API's token are changed at once; what else differs is named in the log and holds from the
//! next start. A file that cannot be used changes nothing.

use super::config::DaemonConfig;
use super::desk::Desk;
use super::notify;
use super::token::Token;
use crate::base::{Duration, Fault, Result};
use crate::rt;
use elapse_real::Hangup;
use sd_notify::NotifyState;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Between two looks whether somebody sent SIGHUP.
const LOOK: Duration = Duration(50_000_000);

/// Tells a daemon's configuration that is read again from the one that it has.
pub(super) trait Reloaded: Serialize + Sized {
    /// Top-level keys that change at once.
    const AT_ONCE: &'static [&'static str];
}

impl Reloaded for DaemonConfig {
    const AT_ONCE: &'static [&'static str] = &["function", "token_file"];
}

/// Reads the configuration again whenever it is asked for, and lets `apply` do what can be done at once.
pub(super) async fn on_hangup<C: Reloaded>(
    hangup: Hangup,
    mut config: C,
    reread: impl Fn() -> Result<C>,
    apply: impl AsyncFn(&C, &C) -> Result<()>,
) {
    loop {
        rt::sleep(LOOK).await;
        if !hangup.take() {
            continue;
        }
        let mut tells = vec![NotifyState::Reloading];
        tells.extend(NotifyState::monotonic_usec_now().ok());
        notify(&tells);
        let outcome = async {
            let next = reread()?;
            apply(&config, &next).await?;
            let later = differing(&config, &next);
            config = next;
            Ok::<_, Fault>(later)
        };
        match outcome.await {
            Ok(later) if later.is_empty() => {
                tracing::info!(target: "elapse", "the configuration was read again")
            }
            Ok(later) => tracing::warn!(
                target: "elapse", keys = later.join(", "), "read again; these hold from the next start"
            ),
            Err(fault) => {
                tracing::error!(target: "elapse", %fault, "not read again; everything is as it was")
            }
        }
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
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

/// Functions that are gone from the file are deregistered, new ones registered, and those that differ are both.
///
/// # Errors
/// A token that cannot be read; nothing has changed then. Functions that cannot be registered are told, each by itself.
pub(super) async fn apply(
    desk: &Rc<Desk>,
    token: &Token,
    old: &DaemonConfig,
    new: &DaemonConfig,
) -> Result<()> {
    token.exchange(new.token_file.as_deref())?;
    for function in old.functions.iter().filter(|f| !new.functions.contains(f)) {
        desk.forget(&function.name);
    }
    for function in new.functions.iter().filter(|f| !old.functions.contains(f)) {
        if let Err(fault) = desk.admit(function).await {
            tracing::error!(target: "elapse", %fault, "not registered");
        }
    }
    Ok(())
}
