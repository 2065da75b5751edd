//! A sandbox of containerd: its task, what it took from the host, and its end.

use super::{Link, SNAPSHOTTER, fault, unless_gone};
use crate::cgroup::Gauge;
use crate::ending::{self, ExitWatch};
use crate::engine::{Death, EngineFault, Local, Sandbox, SandboxId};
use crate::home::{Home, Log, Shared};
use crate::net::Lease;
use crate::wire::Address;
use containerd_client::services::v1::snapshots::RemoveSnapshotRequest;
use containerd_client::services::v1::{
    DeleteContainerRequest, DeleteTaskRequest, KillRequest, StartRequest, WaitRequest,
};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

const SIGKILL: u32 = 9;

/// See the module.
pub(super) struct Task {
    link: Rc<Link>,
    id: String,
    pub(super) home: Home,
    /// Where it answers; unknown before its first process is there.
    address: RefCell<Option<Address>>,
    log: RefCell<Option<Log>>,
    pub(super) network: RefCell<Option<Lease>>,
    trace: RefCell<Option<SandboxId>>,
    gauge: RefCell<Option<Rc<Gauge>>>,
    ending: ExitWatch,
}

impl Task {
    /// One that is not there yet, or not looked at.
    pub(super) fn new(link: Rc<Link>, id: &str, home: Home) -> Task {
        Task {
            link,
            id: id.to_string(),
            home,
            address: RefCell::default(),
            log: RefCell::default(),
            network: RefCell::default(),
            trace: RefCell::default(),
            gauge: RefCell::default(),
            ending: ExitWatch::default(),
        }
    }

    pub(super) fn answers_at(&self, at: SocketAddr) {
        self.address.replace(Some(Address::Tcp(at)));
    }

    /// Reads what it writes from now on.
    pub(super) fn read_log(&self) -> io::Result<()> {
        self.log.replace(Some(Log::read(&self.home)?));
        Ok(())
    }

    /// Its first process is there.
    ///
    /// # Errors
    /// If it is gone already, or what it shares with us is.
    pub(super) fn lives(self: &Rc<Self>, pid: i32) -> Result<(), EngineFault> {
        *self.gauge.borrow_mut() = Gauge::of_process(pid).ok().map(Rc::new);
        let trace = SandboxId::of(&self.id, pid, self.network.borrow().as_ref());
        self.trace.borrow_mut().clone_from(&trace);
        self.watch();
        if self.address.borrow().is_none() {
            let trace = trace.ok_or_else(|| EngineFault::passing("its process has ended"))?;
            let shared = Shared::of(&self.home, trace).map_err(|e| {
                EngineFault::lasting(format!("cannot look into the folder that it shares: {e}"))
            })?;
            self.address.replace(Some(Address::Shared(shared)));
        }
        Ok(())
    }

    /// Lets what was created run.
    pub(super) async fn start(&self) -> Result<(), EngineFault> {
        let request = StartRequest { container_id: self.id.clone(), ..StartRequest::default() };
        let started = self.link.client.tasks().start(self.link.request(request)).await;
        started.map(drop).map_err(|e| fault("cannot start the task", &e))
    }

    fn watch(self: &Rc<Self>) {
        let task = Rc::clone(self);
        drop(tokio::task::spawn_local(async move {
            let wait = || async {
                let request = WaitRequest { container_id: task.id.clone(), ..WaitRequest::default() };
                match task.link.client.tasks().wait(task.link.request(request)).await {
                    Ok(answer) => Ok(format!("its process exited with {}", answer.into_inner().exit_status)),
                    Err(e) => Err(e.message().to_string()),
                }
            };
            let gauge = task.gauge.borrow().clone();
            let death = ending::told(task.trace(), gauge.as_deref(), wait).await;
            task.ending.has_come(death);
        }));
    }

    /// Ends it and removes all of it; what is gone already is no fault.
    pub(super) async fn remove(&self) -> Result<(), EngineFault> {
        let client = &self.link.client;
        let id = || self.id.clone();
        let kill = KillRequest { container_id: id(), signal: SIGKILL, all: true, ..KillRequest::default() };
        // A task that never started, or that has ended, cannot be killed; deleting tells whether it is gone.
        let _ = client.tasks().kill(self.link.request(kill)).await;
        let wait = WaitRequest { container_id: id(), ..WaitRequest::default() };
        let _ = client.tasks().wait(self.link.request(wait)).await;
        let delete = self.link.request(DeleteTaskRequest { container_id: id() });
        unless_gone("cannot remove the task", client.tasks().delete(delete).await)?;
        let delete = self.link.request(DeleteContainerRequest { id: id() });
        unless_gone("cannot remove the container", client.containers().delete(delete).await)?;
        let delete = RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.into(), key: id() };
        unless_gone(
            "cannot remove the snapshot",
            client.snapshots().remove(self.link.request(delete)).await,
        )?;
        if let Some(network) = self.network.take() {
            network.give_back();
        }
        self.home
            .remove_aside()
            .await
            .map_err(|e| EngineFault::passing(format!("cannot remove what it had on the host: {e}")))
    }
}

impl Sandbox for Task {
    fn address(&self) -> Address {
        self.address.borrow().clone().unwrap_or_else(|| Address::Unix(self.home.own_socket()))
    }

    fn trace(&self) -> Option<SandboxId> {
        self.trace.borrow().clone()
    }

    fn memory(&self) -> Option<u64> {
        self.gauge.borrow().as_ref()?.memory()
    }

    fn kills(&self) -> u64 {
        self.gauge.borrow().as_ref().map_or(0, |gauge| gauge.kills())
    }

    fn death(&self) -> Option<Death> {
        self.ending.death()
    }

    fn dies(&self) -> Local<'_, Death> {
        Box::pin(self.ending.comes())
    }

    fn last_words(&self) -> Local<'_, String> {
        Box::pin(async { self.log.borrow().as_ref().map(Log::last_words).unwrap_or_default() })
    }

    fn destroy(&self) -> Local<'_, Result<(), EngineFault>> {
        Box::pin(self.remove())
    }
}
