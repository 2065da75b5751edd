//! Keep-alive: how long an idle container is kept, and whether one is created again ahead of the next call.
//!
//! A policy is asked each time a container becomes idle. To add one, write a file and add a line to the set below; from outside the
//! crate, implement [`KeepAlive`] and hand it to `Run::keep_alive`, or [`add`] it under a name that scenarios can use. A span alone,
//! as in `keep_alive = "10min"`, is the policy `fixed` with that `ttl`.

mod fixed;

use super::event::WorkerEvent;
use crate::base::{Duration, FunctionId, Mem, Member, OpenSet, PolicyConfig, Time};

/// What a policy may know of a container that becomes idle.
#[derive(Clone, Copy, Debug)]
pub struct Rested {
    /// The function that it served last, or was created for.
    pub function: FunctionId,
    /// Who share its containers: a number of the function, or of the app where those are shared by app (`worker.unit`).
    pub sharers: u32,
    /// When it becomes idle.
    pub at: Time,
    /// Memory that it holds.
    pub memory: Mem,
    /// How long a creation is expected to take: a moving average (a = 0.3) of what its sharers showed.
    pub cold_start: Duration,
    /// What the function's own description says (`function.keep_alive`), if anything.
    pub own: Option<Duration>,
    /// It was created ahead of a call, and served none yet.
    pub prewarmed: bool,
}

/// What becomes of an idle container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// How long it is kept; [`Duration::MAX`] for ever.
    pub span: Duration,
    /// When, counted from now, a container is created again ahead of the next call, unless its sharers have one then. What is said
    /// later, when another container of theirs becomes idle, goes before it.
    pub again: Option<Duration>,
}

impl Keep {
    /// Keeps it so long, and creates none again.
    pub fn only(span: Duration) -> Keep {
        Keep { span, again: None }
    }
}

/// A policy. It sees only what a real worker knows.
///
/// ```
/// use elapse_core::base::Duration;
/// use elapse_core::worker::keep_alive::{Keep, KeepAlive, Rested};
///
/// /// Keeps a container for as long as ten of its cold starts take.
/// struct Tenfold;
///
/// impl KeepAlive for Tenfold {
///     fn name(&self) -> &str {
///         "tenfold"
///     }
///
///     fn keep(&mut self, rested: &Rested) -> Keep {
///         Keep::only(rested.own.unwrap_or(rested.cold_start * 10).max(Duration::from_secs(1)))
///     }
/// }
/// ```
pub trait KeepAlive {
    /// Its name in scenarios.
    fn name(&self) -> &str;

    /// The span that every container is kept whose function says no other, where that never changes: then nothing else is asked.
    fn fixed(&self) -> Option<Duration> {
        None
    }

    /// Hears of an invocation that arrives.
    fn arrived(&mut self, _function: FunctionId, _sharers: u32, _at: Time) {}

    /// Says what becomes of a container that becomes idle.
    fn keep(&mut self, rested: &Rested) -> Keep;

    /// Whether it wants to hear what happens in its worker: where it does not, nothing is told it.
    fn hears(&self) -> bool {
        false
    }

    /// Something happened: arrivals, starts, ends and evictions among all the rest. No event tells what a real worker would not know.
    fn hear(&mut self, _at: Time, _event: &WorkerEvent) {}

    /// How often [`tick`](Self::tick) is called; never without it.
    fn every(&self) -> Option<Duration> {
        None
    }

    /// Its time has come again.
    fn tick(&mut self, _at: Time) {}
}

/// Makes a policy of what a configuration says.
pub type Make = fn(&PolicyConfig) -> Result<Box<dyn KeepAlive>, String>;

static SET: OpenSet<Make> = OpenSet::new("keep-alive policy", &[fixed::MEMBER]);

/// Adds a policy from outside: from then on scenarios and `--keep-alive` may name it.
///
/// # Errors
/// If there is one of this name.
pub fn add(member: Member<Make>) -> crate::base::Result<()> {
    SET.add(member)
}

/// Those that [`build`] knows, with their parameters.
pub fn members() -> Vec<Member<Make>> {
    SET.members()
}

/// The names that [`build`] knows.
pub fn names() -> Vec<&'static str> {
    SET.names()
}

/// Makes the policy that a configuration names, or the fixed one of a span.
///
/// # Errors
/// One sentence about a name, a span or a parameter that cannot be meant.
pub fn build(config: &PolicyConfig) -> Result<Box<dyn KeepAlive>, String> {
    let name = config.name();
    // A span begins with a digit, or with what makes it none that can be meant.
    if name == "forever" || name.starts_with(|c: char| !c.is_ascii_alphabetic()) {
        let wrong = |why: String| {
            let quoted = format!("'{name}' ");
            format!("keep_alive is '{name}'; it {}", why.strip_prefix(&quoted).unwrap_or(&why))
        };
        let span = name.parse().map_err(wrong)?;
        return Ok(fixed::kept_for(span));
    }
    SET.maker(config)?(config).map_err(|why| SET.refusal(config, &why))
}
