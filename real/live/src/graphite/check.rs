//! `elapse graphite check`: sends probe series, reads them back, and says what this Graphite does with our points.

use super::client_of;
use super::{Archive, Client, Sender, creations, probe};
use elapse::GraphiteConfig;
use elapse::base::{Fault, Result};
use elapse::metrics::{BACKEND_PATHS, HOST_PATHS, PATHS};
use elapse::rt::wall::unix_now;
use std::fmt::Write as _;
use std::time::Duration;

/// What was found out, a sentence each; and whether everything is as our series want it.
///
/// # Errors
/// If nothing could be sent or read.
pub fn check(config: &GraphiteConfig, creations: bool) -> Result<(Vec<String>, bool)> {
    let (Some(carbon), Some(client)) = (&config.carbon, client_of(config)) else {
        return Err(Fault::usage("a check needs both ends: --carbon HOST:PORT and --url http://HOST:PORT"));
    };
    let sender = Sender::open(carbon, config.protocol.into(), config.buffer)
        .map_err(|e| Fault::host(format!("cannot start the thread that sends to Graphite: {e}")))?;
    let limit: Duration = config.wait.into();
    // Each check looks at series of its own: what the one before has sent would be taken for this one's.
    let place = format!("elapse.probe.check-{:x}", unix_now().as_millis());
    let gauge = probe(&sender, &client, &format!("{place}.queue_length"), limit).map_err(Fault::host)?;
    let total = probe(&sender, &client, &format!("{place}.invocations"), limit).map_err(Fault::host)?;
    let mut says =
        vec![format!("a point could be read {:.1} s after it was sent", gauge.readable_after.as_secs_f64())];
    let mut good = true;
    let mut archives = String::new();
    for Archive { step, retention } in &gauge.archives {
        let _ = write!(
            archives,
            "{}{step} s for {}",
            if archives.is_empty() { "" } else { ", " },
            span(*retention)
        );
    }
    says.push(format!("points are kept at: {archives}"));
    if let Some(finest) = gauge.archives.first() {
        if finest.step == 1 {
            says.push("worker.status may be any whole number of seconds".into());
        } else {
            good = false;
            says.push(format!(
                "the finest step is {0} s: the worker sends a point each {0} s; for finer ones see real/graphite/storage-schemas.conf",
                finest.step
            ));
        }
        let longest = gauge.archives.last().map_or(0, |a| a.retention);
        let oldest =
            jiff::Timestamp::from_second(unix_now().as_secs() as i64 - longest as i64).unwrap_or_default();
        says.push(format!(
            "a simulated run's start may be as early as {oldest}; for earlier ones --graphite-shift now"
        ));
    }
    for (what, wanted, probe) in [("gauges", "average", &gauge), ("totals", "last", &total)] {
        let Some(aggregation) = &probe.aggregation else { continue };
        let fits = aggregation == wanted || (what == "totals" && aggregation == "max");
        good &= fits;
        let advice = if fits {
            String::new()
        } else {
            format!("; we want {wanted}: see real/graphite/storage-aggregation.conf")
        };
        says.push(format!("coarser points of {what} are made by {aggregation}{advice}"));
    }
    if creations {
        let (sentence, all) = creation(&sender, &client, limit)?;
        says.push(sentence);
        good &= all;
    }
    sender.finish(limit);
    Ok((says, good))
}

/// Whether as many new series as a worker has can be made at once.
fn creation(sender: &Sender, client: &Client, limit: Duration) -> Result<(String, bool)> {
    let n = PATHS.len() + 2 * BACKEND_PATHS.len() + HOST_PATHS.len();
    let prefix = format!("elapse.probe.creation.{}", unix_now().as_nanos());
    let (made, took) = creations(sender, client, &prefix, n, limit).map_err(Fault::host)?;
    let seconds = took.as_secs_f64();
    if made >= n {
        let says = format!(
            "{n} new series, as many as a worker with two backends has, were made within {seconds:.1} s"
        );
        return Ok((says, true));
    }
    let says = format!(
        "only {made} of {n} new series were made within {seconds:.0} s; raise MAX_CREATES_PER_MINUTE in carbon.conf"
    );
    Ok((says, false))
}

fn span(seconds: u64) -> String {
    match seconds {
        s if s % 86_400 == 0 => format!("{} d", s / 86_400),
        s if s % 3600 == 0 => format!("{} h", s / 3600),
        s if s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}
