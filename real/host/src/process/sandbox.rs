//! A sandboxed process that runs: its end, its memory, its removal.

use crate::cgroup::Group;
use crate::ending::{self, ExitWatch};
use crate::engine::{Death, EngineFault, Local, Sandbox, SandboxId};
use crate::home::{Home, Log};
use crate::net::Lease;
use crate::uids::Uid;
use crate::wire::Address;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_send_signal, waitid};
use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

/// A sandbox.
pub(super) struct Process {
    pub(super) trace: Option<SandboxId>,
    pub(super) life: Rc<Life>,
    pub(super) group: Option<Arc<Group>>,
    pub(super) network: RefCell<Option<Lease>>,
    pub(super) home: Home,
    pub(super) address: Address,
    pub(super) log: Option<Log>,
    /// Nobody else's as long as this is there.
    pub(super) _uid: Option<Uid>,
    pub(super) destroyed: Cell<bool>,
    /// It is left to a later life of the worker, if this one ends before it.
    pub(super) outlives: bool,
}

/// Its first process.
pub(super) struct Life {
    pub(super) pidfd: OwnedFd,
    /// All that it has started, where that does not end with it.
    pub(super) group: Option<Pid>,
    pub(super) ending: ExitWatch,
}

impl Process {
    /// Waits for the process's end from a task of its own, so that it is reaped whoever asks.
    pub(super) fn watch(&self) {
        let life = Rc::clone(&self.life);
        let group = self.group.clone();
        drop(tokio::task::spawn_local(async move {
            let how = life.ended().await;
            let oom = group.is_some_and(|g| g.gauge().was_out_of_memory());
            life.ending.has_come(if oom { Death::OutOfMemory } else { Death::Ended(how) });
        }));
    }
}

impl Life {
    fn kill(&self) {
        // Not yet reaped, so its number cannot be somebody else's.
        if let Some(group) = self.group.filter(|_| self.ending.death().is_none()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    async fn ended(&self) -> String {
        if let Err(e) = ending::of(self.pidfd.as_fd()).await {
            return format!("its end cannot be watched: {e}");
        }
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("its process exited with {code}"),
                (_, Some(signal)) => format!("its process was killed by signal {signal}"),
                _ => "its process ended".into(),
            },
            Ok(None) => "its process ended".into(),
            // One that was taken over is not our child: its parent is told, and we are not.
            Err(_) => "its process ended".into(),
        }
    }
}

impl Sandbox for Process {
    fn address(&self) -> Address {
        self.address.clone()
    }

    fn memory(&self) -> Option<u64> {
        self.group.as_ref()?.gauge().memory()
    }

    fn kills(&self) -> u64 {
        self.group.as_ref().map_or(0, |group| group.gauge().kills())
    }

    fn death(&self) -> Option<Death> {
        self.life.ending.death()
    }

    fn trace(&self) -> Option<SandboxId> {
        self.trace.clone()
    }

    fn dies(&self) -> Local<'_, Death> {
        Box::pin(self.life.ending.comes())
    }

    fn last_words(&self) -> Local<'_, String> {
        Box::pin(async { self.log.as_ref().map(Log::last_words).unwrap_or_default() })
    }

    fn destroy(&self) -> Local<'_, Result<(), EngineFault>> {
        Box::pin(async move {
            self.life.kill();
            self.dies().await;
            self.destroyed.set(true);
            let (group, home) = (self.group.clone(), self.home.clone());
            let removed = tokio::task::spawn_blocking(move || {
                if let Some(group) = group {
                    group.remove()?;
                }
                home.remove()
            });
            // Whatever was in it has ended, and took its sockets along.
            if let Some(network) = self.network.take() {
                network.give_back();
            }
            match removed.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(e)) => Err(EngineFault::passing(format!("something of the sandbox is left: {e}"))),
                Err(e) => Err(EngineFault::passing(format!("the removal was not finished: {e}"))),
            }
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.destroyed.get() && !self.outlives {
            self.life.kill();
        }
    }
}
