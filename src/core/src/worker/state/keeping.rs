//! How a worker asks its keep-alive policy: not at all where the answer is always the same.

use crate::base::{Duration, FunctionId, Time};
use crate::worker::keep_alive::{Keep, KeepAlive, Rested};

/// A policy whose answers differ, and what it wants.
pub(super) struct Adaptive {
    policy: Box<dyn KeepAlive>,
    groups: Vec<Recreation>,
}

/// What the policy wants for a group.
#[derive(Clone, Copy, Debug, Default)]
struct Recreation {
    /// When one of its containers is to be created again, as was said last.
    again: Option<Time>,
    /// A task waits for that.
    awaited: bool,
}

/// See the module.
pub(super) enum Keeping {
    /// Every container is kept so long whose function says no other.
    Fixed(Duration),
    Adaptive(Adaptive),
}

impl Keeping {
    pub(super) fn new(policy: Box<dyn KeepAlive>) -> Keeping {
        match policy.fixed() {
            Some(span) => Keeping::Fixed(span),
            None => Keeping::Adaptive(Adaptive { policy, groups: Vec::new() }),
        }
    }

    /// How long containers of a function are kept that says so itself or not, where that is known before they are idle.
    pub(super) fn known(&self, own: Option<Duration>) -> Option<Duration> {
        match self {
            Keeping::Fixed(span) => Some(own.unwrap_or(*span)),
            Keeping::Adaptive(_) => None,
        }
    }

    /// Whether the policy has to be asked each time.
    #[inline]
    pub(super) fn is_adaptive(&self) -> bool {
        matches!(self, Keeping::Adaptive(_))
    }

    /// Tells the policy of an arrival.
    pub(super) fn arrived(&mut self, function: FunctionId, group: u32, at: Time) {
        if let Keeping::Adaptive(policy) = self {
            policy.policy.arrived(function, group, at);
        }
    }

    /// Forgets what is wanted for a group.
    pub(super) fn clear(&mut self, group: u32) {
        if let Keeping::Adaptive(policy) = self {
            let wanted = policy.group(group);
            // The task that waits is there still.
            *wanted = Recreation { awaited: wanted.awaited, ..Recreation::default() };
        }
    }

    /// The policy, if it has to be asked.
    #[inline]
    pub(super) fn adaptive(&mut self) -> Option<&mut Adaptive> {
        match self {
            Keeping::Fixed(_) => None,
            Keeping::Adaptive(policy) => Some(policy),
        }
    }
}

impl Adaptive {
    /// The policy itself.
    pub(super) fn policy(&mut self) -> &mut dyn KeepAlive {
        &mut *self.policy
    }

    fn group(&mut self, group: u32) -> &mut Recreation {
        if self.groups.len() <= group as usize {
            self.groups.resize(group as usize + 1, Recreation::default());
        }
        &mut self.groups[group as usize]
    }

    /// Asks how long a container is kept. True if a task is to wait for when one is created again, by
    /// [`next_again`](Self::next_again).
    pub(super) fn keep(&mut self, rested: &Rested) -> (Duration, bool) {
        let Keep { span, again } = self.policy.keep(rested);
        let wanted = self.group(rested.sharers);
        wanted.again = again.map(|after| rested.at + after);
        let begins = again.is_some() && !wanted.awaited;
        wanted.awaited |= begins;
        (span, begins)
    }

    /// When a container of a group is to be created again; `None` where none is any more, and the task that waits for it ends.
    pub(super) fn next_again(&mut self, group: u32) -> Option<Time> {
        let wanted = self.group(group);
        wanted.awaited = wanted.again.is_some();
        wanted.again
    }

    /// Nothing of a group is created again before its next call.
    pub(super) fn done(&mut self, group: u32) {
        self.group(group).again = None;
    }
}
