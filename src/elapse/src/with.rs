//! What a caller gives a run of its own: policies, arrivals, and who hears what its workers do.

use crate::load::Workload;
use crate::run::Run;
use crate::worker::event::Observer;
use crate::worker::{eviction::Eviction, keep_alive::KeepAlive, queue::QueuePolicy};

impl Run {
    /// With an eviction policy of the caller's; each worker has one of its own.
    #[must_use]
    pub fn eviction(mut self, policy: impl Eviction + Clone + 'static) -> Run {
        self.own.eviction = Some(Box::new(move || Box::new(policy.clone())));
        self
    }

    /// With a queue policy of the caller's; each worker has one of its own.
    #[must_use]
    pub fn queue(mut self, policy: impl QueuePolicy + Clone + 'static) -> Run {
        self.own.queue = Some(Box::new(move || Box::new(policy.clone())));
        self
    }

    /// With a keep-alive policy of the caller's; each worker has one of its own.
    #[must_use]
    pub fn keep_alive(mut self, policy: impl KeepAlive + Clone + 'static) -> Run {
        self.own.keep_alive = Some(Box::new(move || Box::new(policy.clone())));
        self
    }

    /// With arrivals of the caller's, beside the scenario's functions and in place of a trace.
    ///
    /// ```
    /// use elapse::base::{Duration, FunctionId, FunctionSpec, Invocation, Mem, Result, Time};
    /// use elapse::load::{Source, Workload};
    /// use elapse::{Run, Scenario};
    ///
    /// /// A call every ten seconds, so many of them.
    /// struct Steady(u64, u64);
    ///
    /// impl Source for Steady {
    ///     fn next(&mut self) -> Result<Option<Invocation>> {
    ///         let Steady(sent, calls) = self;
    ///         if sent == calls {
    ///             return Ok(None);
    ///         }
    ///         let arrival = Time(*sent * 10_000_000_000);
    ///         *sent += 1;
    ///         let intended = Duration::from_millis(50);
    ///         Ok(Some(Invocation { number: 0, function: FunctionId(0), arrival, intended, fails: false, usage: None }))
    ///     }
    /// }
    ///
    /// let functions = vec![FunctionSpec::new("f", Mem::from_mib(128))];
    /// let run = Run::new(Scenario::of("steady")).workload(Workload::of(functions, Steady(0, 100)));
    /// let figures = run.simulate().unwrap().summary.json();
    /// assert_eq!((&figures["cold_starts"], &figures["warm_starts"]), (&1.into(), &99.into()));
    /// ```
    #[must_use]
    pub fn workload(mut self, workload: Workload) -> Run {
        self.workload = Some(workload);
        self
    }

    /// With somebody who hears what happens in each worker, by its number: every transition and decision, in order.
    ///
    /// ```
    /// use elapse::base::{Cpus, FunctionId, FunctionSpec, Invocation};
    /// use elapse::prelude::*;
    /// use std::{cell::RefCell, collections::BTreeMap, rc::Rc};
    ///
    /// /// Counts what invocations wait for.
    /// #[derive(Clone, Default)]
    /// struct Waits(Rc<RefCell<BTreeMap<String, u64>>>);
    ///
    /// impl Observer for Waits {
    ///     fn observe(&mut self, _at: Time, event: &WorkerEvent) {
    ///         if let WorkerEvent::Waits { lacks, .. } = event {
    ///             *self.0.borrow_mut().entry(format!("{lacks:?}")).or_default() += 1;
    ///         }
    ///     }
    /// }
    ///
    /// /// Ten calls of a second each, all at once.
    /// struct Burst(u64);
    ///
    /// impl Source for Burst {
    ///     fn next(&mut self) -> Result<Option<Invocation>> {
    ///         self.0 += 1;
    ///         let (arrival, intended) = (Time(0), Duration::from_secs(1));
    ///         let call = Invocation { number: 0, function: FunctionId(0), arrival, intended, fails: false, usage: None };
    ///         Ok((self.0 <= 10).then_some(call))
    ///     }
    /// }
    ///
    /// let mut scenario = Scenario::of("burst");
    /// scenario.worker.cores = Some(Cpus::from_cores(1));
    /// let calls = Workload::of(vec![FunctionSpec::new("f", Mem::from_mib(128))], Burst(0));
    /// let waits = Waits::default();
    /// let hears = waits.clone();
    /// Run::new(scenario).workload(calls).observe(move |_worker| hears.clone()).simulate().unwrap();
    /// // The second finds no processor free, and the others find it before them.
    /// assert!(waits.0.borrow()["Cores"] >= 1 && waits.0.borrow()["Turn"] >= 8);
    /// ```
    #[must_use]
    pub fn observe<O: Observer + 'static>(mut self, mut make: impl FnMut(u16) -> O + 'static) -> Run {
        self.own.observers.push(Box::new(move |worker| Box::new(make(worker))));
        self
    }

    /// Looks after every transition of a worker whether all that must hold does: memory, permits, queue, containers and counts agree
    /// with each other and with what was told. A run in which something does not hold ends with a panic that says what. It takes
    /// several times as long.
    #[must_use]
    pub fn checked(mut self, checked: bool) -> Run {
        self.own.checked = checked;
        self
    }
}
