//! containerd's shims: a process beside each container, which a daemon that dies at the wrong moment leaves behind.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How long one whose container was just removed may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Ends the shims of a namespace but those of these containers; which ones, in words.
pub(super) async fn sweep(namespace: &str, kept: &[String]) -> Vec<String> {
    let mut removed = Vec::new();
    for (pid, id) in of(namespace).into_iter().filter(|(_, id)| !kept.contains(id)) {
        let Some(pidfd) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
            continue;
        };
        // From here on the number is that process's; whether it is a shim is looked at again.
        let mut waited = Duration::ZERO;
        while shim(pid, namespace).as_ref() == Some(&id) && waited < PATIENCE {
            tokio::time::sleep(LOOK).await;
            waited += LOOK;
        }
        if shim(pid, namespace).as_ref() == Some(&id) && pidfd_send_signal(&pidfd, Signal::KILL).is_ok() {
            removed.push(format!("containerd shim {namespace}/{id}"));
        }
    }
    removed
}

/// The shims of a namespace: process ids, and whose containers they are beside.
fn of(namespace: &str) -> Vec<(i32, String)> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, shim(pid, namespace)?))).collect()
}

/// Whose container a process is beside, if it is a shim of the namespace, and root's as all shims are.
fn shim(pid: i32, namespace: &str) -> Option<String> {
    let folder = format!("/proc/{pid}");
    if std::fs::metadata(&folder).ok()?.uid() != rustix::process::geteuid().as_raw() {
        return None;
    }
    let line = std::fs::read(format!("{folder}/cmdline")).ok()?;
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let program = Path::new(OsStr::from_bytes(words.first()?)).file_name()?;
    let after = |flag: &[u8]| {
        let place = words.iter().position(|word| *word == flag)?;
        words.get(place + 1).and_then(|word| std::str::from_utf8(word).ok())
    };
    let ours = program.as_bytes().starts_with(b"containerd-shim") && after(b"-namespace") == Some(namespace);
    ours.then(|| after(b"-id")).flatten().map(str::to_string)
}
