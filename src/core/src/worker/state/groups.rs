//! Groups: whose containers are shared, by function or by app, and what one of them must have.
//!
//! An app's container serves all of its functions, so it has the most memory that one of them reserves, and a GPU if one
//! of them needs one. How long an invocation is expected to execute is the app's as well: a queue sees the whole app.

use super::gpus::Gpus;
use crate::base::{Compute, Duration, FunctionSpec, Mem, Unit};
use rustc_hash::FxHashMap;

/// What a container must have at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fit {
    pub(super) memory: Mem,
    /// Memory of a GPU, if it needs one.
    pub(super) gpu: Option<Mem>,
}

impl Fit {
    /// What a function needs on a worker with these GPUs.
    pub(super) fn of(spec: &FunctionSpec, gpus: &Gpus) -> Fit {
        let gpu = (spec.program.compute == Compute::Gpu).then(|| gpus.need(spec.program.gpu_memory));
        Fit { memory: spec.memory, gpu }
    }

    /// Whether a container that has this serves what needs `self`.
    #[inline]
    pub(super) fn is_met_by(self, memory: Mem, gpu: Option<Mem>) -> bool {
        memory >= self.memory && self.gpu.is_none_or(|need| gpu.is_some_and(|has| has >= need))
    }

    /// What serves both.
    fn and(self, other: Fit) -> Fit {
        Fit { memory: self.memory.max(other.memory), gpu: self.gpu.max(other.gpu) }
    }
}

#[derive(Clone, Copy, Debug)]
struct Group {
    needs: Fit,
    /// Moving averages of the executions and of the creations in ns; negative before the first.
    expected: f64,
    creation: f64,
    /// All of its functions were forgotten.
    forgotten: bool,
}

impl Group {
    fn new(needs: Fit) -> Group {
        Group { needs, expected: -1.0, creation: -1.0, forgotten: false }
    }
}

/// Another value of a moving average.
fn average(seen: &mut f64, span: Duration) {
    const WEIGHT: f64 = 0.3;
    let x = span.0 as f64;
    *seen = if *seen < 0.0 { x } else { WEIGHT * x + (1.0 - WEIGHT) * *seen };
}

/// See the module.
pub(super) struct Groups {
    unit: Unit,
    apps: FxHashMap<String, u32>,
    groups: Vec<Group>,
}

impl Groups {
    pub(super) fn new(unit: Unit) -> Groups {
        Groups { unit, apps: FxHashMap::default(), groups: Vec::new() }
    }

    /// The group that a function of this app would join, if there is one.
    pub(super) fn of_app(&self, app: &str) -> Option<u32> {
        self.apps.get(app).copied()
    }

    /// Enters a function into its group, which `add` makes where it is the first.
    pub(super) fn enter(&mut self, spec: &FunctionSpec, fit: Fit, add: impl FnOnce() -> u32) -> u32 {
        let known = if self.unit == Unit::App { self.of_app(&spec.app) } else { None };
        let group = known.unwrap_or_else(|| {
            let group = add();
            self.groups.push(Group::new(fit));
            if self.unit == Unit::App {
                self.apps.insert(spec.app.clone(), group);
            }
            group
        });
        let entered = &mut self.groups[group as usize];
        entered.needs = entered.needs.and(fit);
        entered.forgotten = false;
        group
    }

    /// Lets a group of one function be another one's, of which nothing is known yet.
    pub(super) fn begin_anew(&mut self, group: u32, fit: Fit) {
        self.groups[group as usize] = Group::new(fit);
    }

    /// Says anew what its functions need together.
    pub(super) fn set_needs(&mut self, group: u32, fits: impl Iterator<Item = Fit>) {
        if let Some(needs) = fits.reduce(Fit::and) {
            self.groups[group as usize].needs = needs;
        }
    }

    /// All functions of a group are gone: its containers go when they have done what they are at.
    pub(super) fn forget(&mut self, group: u32) {
        self.groups[group as usize].forgotten = true;
    }

    /// Whether all functions of a group are gone.
    #[inline]
    pub(super) fn is_forgotten(&self, group: u32) -> bool {
        self.groups[group as usize].forgotten
    }

    /// What a container of the group must have.
    #[inline]
    pub(super) fn needs(&self, group: u32) -> Fit {
        self.groups[group as usize].needs
    }

    /// Takes note of another execution.
    #[inline]
    pub(super) fn observe(&mut self, group: u32, execution: Duration) {
        average(&mut self.groups[group as usize].expected, execution);
    }

    /// Takes note of another creation.
    pub(super) fn observe_creation(&mut self, group: u32, span: Duration) {
        average(&mut self.groups[group as usize].creation, span);
    }

    /// How long a creation is expected to take; nothing before the first is over.
    #[inline]
    pub(super) fn expected_creation(&self, group: u32) -> Duration {
        Duration::from_nanos_f64(self.groups[group as usize].creation.max(0.0))
    }

    /// How long an invocation is expected to execute; `None` before the first has returned.
    pub(super) fn expected(&self, group: u32) -> Option<Duration> {
        let seen = self.groups[group as usize].expected;
        (seen >= 0.0).then(|| Duration::from_nanos_f64(seen))
    }
}
