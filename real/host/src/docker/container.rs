//! A container of docker that runs: where it answers, its end, its removal.

use super::{LAST_WORDS, PATIENCE, fault};
use crate::cgroup::Gauge;
use crate::ending::{self, ExitWatch};
use crate::engine::{Death, EngineFault, Local, Sandbox, SandboxId};
use crate::home::{Home, Shared};
use crate::net::Lease;
use crate::wire::Address;
use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{
    InspectContainerOptions, LogsOptionsBuilder, RemoveContainerOptionsBuilder, WaitContainerOptions,
};
use futures_util::StreamExt;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// See the module.
pub(super) struct Container {
    pub(super) docker: Docker,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) home: Home,
    /// Where it answers; unknown before its first process is there.
    pub(super) address: RefCell<Option<Address>>,
    pub(super) network: RefCell<Option<Lease>>,
    pub(super) trace: RefCell<Option<SandboxId>>,
    pub(super) gauge: RefCell<Option<Rc<Gauge>>>,
    pub(super) ending: ExitWatch,
    pub(super) gpu: Option<u32>,
}

impl Container {
    pub(super) fn answers_at(&self, at: SocketAddr) {
        self.address.replace(Some(Address::Tcp(at)));
    }

    /// Its first process is there.
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

    fn watch(self: &Rc<Self>) {
        let container = Rc::clone(self);
        drop(tokio::task::spawn_local(async move {
            let wait = || async {
                let mut waits =
                    container.docker.wait_container(&container.name, None::<WaitContainerOptions>);
                match waits.next().await {
                    Some(Ok(answer)) => Ok(format!("its process exited with {}", answer.status_code)),
                    Some(Err(Error::DockerContainerWaitError { code, .. })) => {
                        Ok(format!("its process exited with {code}"))
                    }
                    Some(Err(e)) => Err(e.to_string()),
                    None => Err("the daemon says nothing".into()),
                }
            };
            let gauge = container.gauge.borrow().clone();
            let death = match ending::told(container.trace(), gauge.as_deref(), wait).await {
                // The group may have been gone before it was read, and docker have heard of it.
                Death::Ended(_) if container.was_out_of_memory().await => Death::OutOfMemory,
                death => death,
            };
            container.ending.has_come(death);
        }));
    }

    async fn was_out_of_memory(&self) -> bool {
        let none = None::<InspectContainerOptions>;
        let seen = self.docker.inspect_container(&self.name, none).await;
        seen.ok().and_then(|s| s.state).and_then(|s| s.oom_killed).unwrap_or(false)
    }

    pub(super) async fn remove(&self) -> Result<(), EngineFault> {
        removed(&self.docker, &self.name).await?;
        drop(self.network.take());
        self.home
            .remove_aside()
            .await
            .map_err(|e| EngineFault::passing(format!("cannot remove what it had on the host: {e}")))
    }
}

/// Removes a container with its volumes; one that is gone is no fault.
pub(super) async fn removed(docker: &Docker, name: &str) -> Result<(), EngineFault> {
    /// How long another's removal is waited for: as long as one request may take.
    const LONGEST: Duration = Duration::from_secs(PATIENCE);
    const LOOK: Duration = Duration::from_millis(50);
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match docker.remove_container(name, Some(options)).await {
        Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(()),
        // Somebody is at it already: a creation that nobody waits for any more, an earlier life of the worker.
        Err(Error::DockerResponseServerError { status_code: 409, .. }) => {}
        Err(e) => return Err(fault(&e)),
    }
    let begun = Instant::now();
    while begun.elapsed() < LONGEST {
        match docker.inspect_container(name, None::<InspectContainerOptions>).await {
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(()),
            Err(e) => return Err(fault(&e)),
            Ok(_) => tokio::time::sleep(LOOK).await,
        }
    }
    Err(EngineFault::passing(format!("docker does not come to the end of removing {name}")))
}

impl Sandbox for Container {
    fn address(&self) -> Address {
        self.address.borrow().clone().unwrap_or_else(|| Address::Unix(self.home.own_socket()))
    }

    fn trace(&self) -> Option<SandboxId> {
        self.trace.borrow().clone()
    }

    fn gpu(&self) -> Option<u32> {
        self.gpu
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
        Box::pin(async move {
            let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("5").build();
            let mut lines = self.docker.logs(&self.name, Some(options));
            let mut said = String::new();
            // A line is as long as whoever wrote it wanted.
            while let (Some(Ok(line)), true) = (lines.next().await, said.len() < LAST_WORDS) {
                said.extend(line.to_string().trim().chars().take(LAST_WORDS));
                said.push_str("; ");
            }
            said.trim_end_matches("; ").to_string()
        })
    }

    fn destroy(&self) -> Local<'_, Result<(), EngineFault>> {
        Box::pin(self.remove())
    }
}
