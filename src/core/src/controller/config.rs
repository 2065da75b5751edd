//! What a scenario says of the controller in front of several workers, and of what befalls them.

use super::balancer;
use super::protocol::{OnRefusal, Terms};
use crate::base::{Dist, Duration, PolicyConfig};
use serde::{Deserialize, Serialize};

/// `[controller]` of a scenario; it matters where there is more than one worker, or a `[[fault]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which worker an invocation goes to: round-robin, least-loaded, power-of-two, locality.
    pub balancer: PolicyConfig,
    /// How long a message takes from the controller to a worker, or back.
    pub delay: Dist,
    /// Whether messages between a worker and the controller arrive in the order in which they were sent.
    pub ordered: bool,
    /// The share of messages that never arrive.
    pub loss: f64,
    /// Between two reports of a worker's load; 0 where the controller's own count is all it needs.
    pub reports: Duration,
    /// Between two heartbeats of a worker; 0 for none, or for one a second where messages or workers can be lost.
    pub heartbeat: Duration,
    /// A worker that was not heard of for this long is lost.
    pub lost_after: Duration,
    /// What becomes of an invocation whose worker is lost.
    pub on_loss: OnLoss,
    /// Attempts at an invocation, the first included, where `on_loss` is `retry`.
    pub attempts: u32,
    /// How long a worker may take to answer an invocation, its queue included; then the invocation is lost with it.
    pub attempt_timeout: Duration,
    /// What becomes of an invocation that a worker refuses.
    pub on_refusal: OnRefusal,
}

/// What becomes of an invocation whose worker is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLoss {
    /// It is answered as lost: it may have run, and does not run again.
    #[default]
    Fail,
    /// It is sent to another worker under its request id, as its next attempt: it may run twice, and says so.
    Retry,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            balancer: "locality".into(),
            delay: Dist::constant(Duration::ZERO),
            ordered: false,
            loss: 0.0,
            reports: Duration::ZERO,
            heartbeat: Duration::ZERO,
            lost_after: Duration::from_secs(5),
            on_loss: OnLoss::Fail,
            attempts: 2,
            attempt_timeout: Duration::from_secs(15 * 60),
            on_refusal: OnRefusal::Next,
        }
    }
}

impl Config {
    /// What cannot be meant.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        if !(0.0..1.0).contains(&self.loss) {
            return Err(format!("loss is {}; it is a share of messages, from 0 to below 1", self.loss));
        }
        if self.attempts == 0 {
            return Err("attempts is 0; it is at least 1".into());
        }
        for (span, what) in [(self.lost_after, "lost_after"), (self.attempt_timeout, "attempt_timeout")] {
            if span == Duration::ZERO {
                return Err(format!("{what} is 0s; a worker that answers at once would be lost as well"));
            }
        }
        if self.heartbeat > Duration::ZERO && self.lost_after <= self.heartbeat {
            return Err(format!(
                "lost_after ({}) is not above heartbeat ({}); every worker would be lost between two heartbeats",
                self.lost_after, self.heartbeat
            ));
        }
        balancer::check(&self.balancer)
    }

    /// How patient the controller is; `watched` where workers send heartbeats.
    pub fn terms(&self, watched: bool) -> Terms {
        Terms {
            lost_after: if watched { self.lost_after } else { Duration::MAX },
            attempts: if self.on_loss == OnLoss::Retry { self.attempts } else { 1 },
            attempt_timeout: if watched { self.attempt_timeout } else { Duration::MAX },
            on_refusal: self.on_refusal,
        }
    }

    /// Between two heartbeats, where `faults` befall workers or do not; none where nothing can be lost and none are wanted.
    pub fn heartbeats(&self, faults: bool) -> Option<Duration> {
        let wanted = self.heartbeat > Duration::ZERO;
        let span =
            if wanted { self.heartbeat } else { Duration::from_secs(1).min(Duration(self.lost_after.0 / 2)) };
        (wanted || faults || self.loss > 0.0).then_some(span)
    }
}

/// Something that befalls a worker: `[[fault]]` of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultConfig {
    /// When, counted from the beginning of the load.
    pub at: Duration,
    /// The worker, numbered from 0.
    pub worker: u16,
    /// What.
    pub kind: Breakage,
    /// How long it lasts: a worker is parted to the run's end without it, and away for a second when it is restarted.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Duration>,
}

/// What befalls a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Breakage {
    /// No message between it and the controller arrives; it goes on.
    Part,
    /// It is gone, with its containers and all that it had, and does not come back.
    Kill,
    /// It is gone, and begins another life, without containers, when the time is over.
    Restart,
}

impl FaultConfig {
    /// How long it lasts, if it comes to an end.
    pub fn span(&self) -> Option<Duration> {
        match self.kind {
            Breakage::Part => self.lasts,
            Breakage::Kill => None,
            Breakage::Restart => Some(self.lasts.unwrap_or(Duration::from_secs(1))),
        }
    }

    /// What cannot be meant, where there are so many workers.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self, workers: u16) -> Result<(), String> {
        if self.worker >= workers {
            return Err(format!(
                "worker is {}; there are {workers} (worker.count), numbered from 0",
                self.worker
            ));
        }
        match (self.kind, self.lasts) {
            (Breakage::Kill, Some(_)) => {
                Err("a worker that is killed does not come back; for has no meaning (kind = \"restart\" brings it back)".into())
            }
            _ => Ok(()),
        }
    }
}
