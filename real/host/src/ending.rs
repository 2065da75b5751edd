//! How the end of a sandbox is seen: by the kernel's descriptor of its first process, whoever else tells of it.
//!
//! A daemon that runs sandboxes says how one ended. It may be away for a while, and the sandboxes live on: what counts is
//! the process.

use crate::cgroup::Gauge;
use crate::engine::{Death, SandboxId};
use futures_util::future::{self, Either};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// Between two questions to a daemon that is away.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a daemon may take to say how a process ended that has.
const SOON: Duration = Duration::from_secs(1);

/// The end of a sandbox, which any number of tasks may wait for.
#[derive(Default)]
pub(crate) struct ExitWatch {
    death: RefCell<Option<Death>>,
    came: Notify,
}

impl ExitWatch {
    /// What it died of, if it has.
    pub(crate) fn death(&self) -> Option<Death> {
        self.death.borrow().clone()
    }

    /// Tells all that wait for it.
    pub(crate) fn has_come(&self, death: Death) {
        self.death.replace(Some(death));
        self.came.notify_waiters();
    }

    /// Waits for it.
    pub(crate) async fn comes(&self) -> Death {
        loop {
            let came = self.came.notified();
            if let Some(death) = self.death() {
                return death;
            }
            came.await;
        }
    }
}

/// Waits until the process of a pidfd has ended.
///
/// # Errors
/// If the kernel does not let it be watched.
pub(crate) async fn of(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    let fd = pidfd.as_fd().try_clone_to_owned()?;
    // SAFETY: the descriptor is owned by the AsyncFd and stays open while it is registered.
    let watched: AsyncFd<OwnedFd> = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
    drop(watched.readable().await?);
    Ok(())
}

/// Waits for the end of a sandbox whose daemon is asked for it by `wait`, and tells what it died of. A daemon that does not
/// answer is asked again as long as the process lives.
///
/// Whether it was memory is read from its group the moment its process has ended: the daemon removes the group soon after, and
/// says how the process ended when it comes to it.
pub(crate) async fn told<F>(trace: Option<SandboxId>, gauge: Option<&Gauge>, wait: impl Fn() -> F) -> Death
where
    F: Future<Output = Result<String, String>>,
{
    let out_of_memory = || gauge.is_some_and(Gauge::was_out_of_memory);
    let asked = async {
        loop {
            let why = match wait().await {
                Ok(how) => return how,
                Err(why) => why,
            };
            if !trace.as_ref().is_some_and(SandboxId::is_alive) {
                return format!("its end cannot be watched: {why}");
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    // The process first: its end comes before the daemon's word of it.
    match future::select(pin!(process(trace.as_ref())), pin!(asked)).await {
        _ if out_of_memory() => Death::OutOfMemory,
        Either::Right((how, _)) => Death::Ended(how),
        Either::Left(((), asked)) => {
            let how = tokio::time::timeout(SOON, asked).await;
            Death::Ended(how.unwrap_or_else(|_| "its process ended".into()))
        }
    }
}

/// Waits for the end of a process; for ever if there is none that can be watched from here.
async fn process(trace: Option<&SandboxId>) {
    let watched = async {
        let trace = trace?;
        match pidfd_open(Pid::from_raw(trace.pid)?, PidfdFlags::empty()) {
            // Only now: from here on the number is that process's, or it has ended.
            Ok(pidfd) if trace.is_alive() => of(pidfd.as_fd()).await.ok(),
            Ok(_) | Err(Errno::SRCH) => Some(()),
            // A kernel without, or one that has no descriptor to give: the daemon's word must do.
            Err(_) => None,
        }
    };
    if watched.await.is_none() {
        std::future::pending::<()>().await;
    }
}
