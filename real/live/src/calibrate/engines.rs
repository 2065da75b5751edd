//! What only an engine can be measured for: images that it has not seen, and containers that it creates ahead.

use super::experiment::{REST, admit, create, quantiles};
use crate::backend::Live;
use crate::here::{common, engine};
use elapse::backend::{Backend, LiveConfig};
use elapse::base::{Dist, Duration, Fault, Result};
use elapse::rt;
use elapse_host::engine::Engine;
use std::rc::Rc;

/// How long an image takes that the engine has not seen, and the first cold start after it.
///
/// # Errors
/// What of it failed.
pub(super) async fn fresh(engine: &Rc<dyn Engine>, config: &LiveConfig) -> Result<(Dist, Dist)> {
    const ROUNDS: usize = 3;
    let (mut prepared, mut first) = (Vec::new(), Vec::new());
    let swept = |e: elapse_host::engine::EngineFault| Fault::host(e.why);
    for _ in 0..ROUNDS {
        engine.sweep().await.map_err(swept)?;
        let begun = rt::now();
        engine.prepare(None).await.map_err(swept)?;
        prepared.push(rt::now().since(begun));
        let backend = Rc::new(Live::new(Rc::clone(engine), config.clone()));
        admit(&*backend)?;
        let begun = rt::now();
        let sandbox = create(&*backend, 0).await?;
        first.push(rt::now().since(begun));
        backend.remove(sandbox).await;
    }
    Ok((quantiles(prepared)?, quantiles(first)?))
}

/// Cold starts from what was created ahead, and how long it takes until another one is there; nothing of an engine that
/// creates none ahead.
///
/// # Errors
/// What of it failed.
pub(super) async fn created_ahead(
    name: &str,
    config: &LiveConfig,
    rounds: u32,
) -> Result<Option<(Dist, Dist)>> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let config = LiveConfig { pooled: 1, ..config.clone() };
    let Some(engine) = engine(name, &config, common(&config)?).await? else { return Ok(None) };
    if engine.ready_ahead().is_none() {
        return Ok(None);
    }
    engine.prepare(None).await.map_err(|e| Fault::host(e.why))?;
    let backend = Live::new(Rc::clone(&engine), config);
    admit(&backend)?;
    let (mut starts, mut refills) = (Vec::new(), Vec::new());
    for nth in 0..(rounds / 2).max(3) {
        if rt::timeout(PATIENCE, one_ahead(&*engine)).await.is_err() {
            break;
        }
        rt::sleep(REST).await;
        let begun = rt::now();
        let sandbox = create(&backend, u64::from(nth)).await?;
        starts.push(rt::now().since(begun));
        if rt::timeout(PATIENCE, one_ahead(&*engine)).await.is_ok() {
            refills.push(rt::now().since(begun));
        }
        backend.remove(sandbox).await;
    }
    engine.sweep().await.map_err(|e| Fault::host(e.why))?;
    if starts.is_empty() || refills.is_empty() {
        return Ok(None);
    }
    Ok(Some((quantiles(starts)?, quantiles(refills)?)))
}

/// Waits until a container that was created ahead is there.
async fn one_ahead(engine: &dyn Engine) {
    const LOOK: Duration = Duration(500_000);
    while engine.ready_ahead() == Some(0) {
        rt::sleep(LOOK).await;
    }
}
