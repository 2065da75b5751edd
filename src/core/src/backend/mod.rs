//! Backends: what creates containers, runs invocations in them and removes them again.
//!
//! A worker holds any number of backends behind one trait. The worker decides when and where; a backend only does. Its
//! answers are [`Work`], a future that costs nothing where there is nothing to wait for.

mod calibrated;
mod inverse;
mod live_config;
mod measured;
mod sharing;
mod simulated;

pub use live_config::{LiveConfig, OciRuntime, Sandboxing};
pub use measured::{Calibration, Crowding, Fingerprint, Measured, Processor, Quiet};
pub use simulated::{Contention, Model, Simulated};

/// The backends that a worker can have, by name.
pub const NAMES: [&str; 4] = ["process", "containerd", "docker", "simulated"];

use crate::base::{Cpus, Duration, Exchange, FunctionId, FunctionSpec, Invocation, Mem, Time};
use crate::rt::{self, Sleep};
use pin_project::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A backend's name for a container it created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sandbox(pub u64);

/// A container that is asked for.
#[derive(Clone, Debug)]
pub struct Create {
    /// The function it is created for.
    pub function: FunctionId,
    /// Memory reserved for it.
    pub memory: Mem,
    /// Processors an invocation in it may use.
    pub cpus: Cpus,
    /// Containers created for this function before.
    pub nth: u64,
    /// The GPU that it has, or has a part of.
    pub gpu: Option<u32>,
    /// It is to stand as if it had always: where creations are modelled it takes no time.
    pub at_once: bool,
}

/// How work shares the processors of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shared {
    /// Processors that runnable work asks for beyond those that there are.
    pub wanted: f64,
    /// Core seconds that it had in the window so far.
    pub core_seconds: f64,
    /// The most processors that it had at one instant of the window.
    pub peak: f64,
}

/// Why a container could not be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateFault {
    /// Another attempt may succeed: a time-out, a daemon that restarts, a host short of something for a moment.
    pub transient: bool,
    /// One sentence.
    pub why: Rc<str>,
}

/// Why an invocation did not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallFault {
    /// The function reported an error; its container is as good as before.
    Function(Rc<str>),
    /// The container used more memory than it has and was killed.
    OutOfMemory,
    /// The container died, or can no longer be talked to.
    Broken(Rc<str>),
}

/// One implementation for each way to run containers; all pass the same contract tests.
pub trait Backend {
    /// Its name in registrations, records and metrics.
    fn name(&self) -> &str;

    /// Whether it can run this function on this host.
    ///
    /// # Errors
    /// Why not, in a sentence.
    fn admit(&self, id: FunctionId, spec: &FunctionSpec) -> Result<(), String>;

    /// Lets go of what it keeps for a function that it admitted: the function is gone, and none of its containers is left.
    fn forget(&self, _id: FunctionId) {}

    /// Why its daemon does not answer, where it has one that does not.
    fn away(&self) -> Option<Rc<str>> {
        None
    }

    /// Creates a container and waits until it can take an invocation.
    fn create(&self, request: &Create) -> Work<Result<Sandbox, CreateFault>>;

    /// Runs an invocation in a container.
    fn invoke(&self, sandbox: Sandbox, call: &Invocation) -> Work<Result<(), CallFault>>;

    /// Runs an invocation whose caller sent a body and waits for an answer; a backend without programs answers nothing.
    fn exchange(
        &self,
        sandbox: Sandbox,
        call: &Invocation,
        _exchange: &Rc<Exchange>,
    ) -> Work<Result<(), CallFault>> {
        self.invoke(sandbox, call)
    }

    /// The container's working set; `None` where it cannot be told from what is reserved.
    fn memory(&self, sandbox: Sandbox) -> Option<Mem>;

    /// The next container that ends by itself, for whoever has it idle. `None` where no container ever does.
    fn death(&self) -> Option<Work<Sandbox>> {
        None
    }

    /// Destroys a container; done when its destruction is confirmed.
    fn remove(&self, sandbox: Sandbox) -> Work<()>;

    /// How executions share the processors, where the backend sees to that.
    fn shared(&self) -> Option<Shared> {
        None
    }

    /// Integrates what they have over [from, until); told once at the start, and again when the end is known.
    fn measure_in(&self, _from: Time, _until: Time) {}

    /// Begins no creation from now on; done when those that are under way, and removals, have come to their end. What a
    /// host has of the worker can then be removed without anything being added behind.
    fn close(&self) -> Work<()> {
        Work::ready(())
    }
}

/// How long what is under way when a worker ends is waited for.
const CLOSING: Duration = Duration(10_000_000_000);

/// Closes all of a worker's backends; false if something was still under way after ten seconds.
pub async fn close_all(backends: &[Rc<dyn Backend>]) -> bool {
    let all = backends.iter().map(|backend| backend.close());
    rt::timeout(CLOSING, futures_util::future::join_all(all)).await.is_ok()
}

/// What a backend is busy with.
#[must_use = "a future does nothing unless it is awaited"]
#[pin_project(project = WorkProjection)]
pub enum Work<T> {
    /// Done; `None` once it was asked.
    Ready(Option<T>),
    /// Done when the time has come.
    After(#[pin] Sleep, Option<T>),
    /// Anything else.
    Boxed(Pin<Box<dyn Future<Output = T>>>),
}

impl<T> Work<T> {
    /// Work that is done.
    pub fn ready(value: T) -> Work<T> {
        Work::Ready(Some(value))
    }

    /// Work that takes `span`.
    pub fn after(span: Duration, value: T) -> Work<T> {
        Work::After(rt::sleep(span), Some(value))
    }

    /// When it will be done, if that is known: in simulation, mostly.
    #[inline]
    pub fn due(&self) -> Option<Time> {
        match self {
            Work::After(sleep, _) => Some(sleep.deadline()),
            Work::Ready(_) | Work::Boxed(_) => None,
        }
    }

    /// Its value, for who waited for its end in another way.
    pub fn into_value(self) -> Option<T> {
        match self {
            Work::After(_, value) | Work::Ready(value) => value,
            Work::Boxed(_) => None,
        }
    }

    /// Work of another kind.
    pub fn boxed(future: impl Future<Output = T> + 'static) -> Work<T> {
        Work::Boxed(Box::pin(future))
    }
}

impl<T> Future for Work<T> {
    type Output = T;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        const ASKED: &str = "work is not asked again after it is done";
        match self.project() {
            WorkProjection::Ready(value) => Poll::Ready(value.take().expect(ASKED)),
            WorkProjection::After(sleep, value) => sleep.poll(cx).map(|()| value.take().expect(ASKED)),
            WorkProjection::Boxed(future) => future.as_mut().poll(cx),
        }
    }
}
