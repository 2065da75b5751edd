//! The OCI runtime specification of a sandbox.

use super::import::Unpacked;
use crate::cgroup;
use crate::engine::{EngineFault, Network, Spec};
use crate::host::{FIXED, hidden_paths, sandbox_descriptors};
use crate::image::{AGENT_INSIDE, CODE_INSIDE, SOCKETS_INSIDE};
use crate::seccomp;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What a bundle is made from.
pub(super) struct Wanted<'a> {
    pub(super) spec: &'a Spec,
    pub(super) image: &'a Unpacked,
    /// Bound into the sandbox; `None` where the image answers by itself.
    pub(super) agent: Option<&'a Path>,
    /// The folder that it shares with us, for its socket; none where it answers on a port.
    pub(super) sockets: Option<&'a Path>,
    pub(super) cgroup: PathBuf,
    /// The port on which it is to answer, if not on a socket.
    pub(super) port: Option<u16>,
    /// The network namespace that it joins, if that was made for it.
    pub(super) network: Option<&'a Path>,
}

/// Lists docker's default capabilities, less those that make packets, devices, audit records and privileged files.
const CAPABILITIES: [&str; 10] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
];

/// Where what runs inside can write.
const WRITABLE: [&str; 3] = ["/tmp", "/run", "/var/tmp"];
fn mount(at: &str, kind: &str, options: &[&str]) -> Value {
    json!({ "destination": at, "type": kind, "source": kind, "options": options })
}

/// The specification as JSON.
///
/// # Errors
/// If the function's code is not what it was.
pub(super) fn bundle(wanted: &Wanted<'_>) -> Result<Value, EngineFault> {
    let Wanted { spec, image, agent, sockets, cgroup: group, port, network } = wanted;
    let mut env = image.env.clone();
    env.extend(spec.env.iter().map(|(name, value)| format!("{name}={value}")));
    match port {
        Some(port) => env.push(format!("PORT={port}")),
        None => env.push(format!("ELAPSE_SOCKET={SOCKETS_INSIDE}/s")),
    }
    let quiet = ["nosuid", "noexec", "nodev"];
    let mut mounts = vec![
        mount("/proc", "proc", &quiet),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", &quiet),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ];
    // The root cannot be written to; what is written here is memory of the sandbox's own.
    mounts.extend(WRITABLE.map(|at| mount(at, "tmpfs", &["nosuid", "nodev", "mode=1777"])));
    let bind = |from: &Path, to: &str, options: &[&str]| json!({ "destination": to, "type": "bind", "source": from, "options": options });
    if let Some(code) = spec.code_path()? {
        mounts.push(bind(code, CODE_INSIDE, &["rbind", "rro", "nosuid", "nodev"]));
    }
    if let Some(sockets) = sockets {
        mounts.push(bind(sockets, SOCKETS_INSIDE, &["rbind", "rw", "nosuid", "nodev", "noexec"]));
    }
    if let Some(agent) = agent {
        mounts.push(bind(agent, AGENT_INSIDE, &["rbind", "ro", "nosuid", "nodev"]));
    }
    let mut namespaces: Vec<Value> =
        ["pid", "ipc", "uts", "mount", "cgroup"].iter().map(|kind| json!({ "type": kind })).collect();
    match network {
        Some(path) => namespaces.push(json!({ "type": "network", "path": path })),
        None if spec.network == Network::Host => {}
        None => namespaces.push(json!({ "type": "network" })),
    }
    let mut resources = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    if spec.memory > 0 {
        resources["memory"] = json!({ "limit": spec.memory });
        // Memory and swap together.
        if cgroup::limits_swap() {
            resources["memory"]["swap"] = json!(spec.memory);
        }
    }
    if spec.cpus > 0 {
        resources["cpu"] = json!({ "period": 100_000, "quota": u64::from(spec.cpus) * 100 });
        if cgroup::is_v2() {
            // By itself, as runtimes make weights of shares by laws of their own.
            resources["unified"] = json!({ "cpu.weight": cgroup::weight_of(spec.cpus).to_string() });
        } else {
            resources["cpu"]["shares"] = json!(cgroup::shares_of(spec.cpus));
        }
    }
    if spec.pids > 0 {
        resources["pids"] = json!({ "limit": spec.pids });
    }
    let (soft, hard) = sandbox_descriptors();
    let mut rlimits = vec![
        json!({ "type": "RLIMIT_NOFILE", "soft": soft, "hard": hard }),
        json!({ "type": "RLIMIT_CORE", "soft": 1, "hard": 1 }),
    ];
    if spec.memory > 0 {
        rlimits.push(json!({ "type": "RLIMIT_FSIZE", "soft": spec.memory, "hard": spec.memory }));
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": image.user.0, "gid": image.user.1 },
            "args": arguments(spec, image, agent.is_some()),
            "env": env,
            "cwd": image.cwd,
            "noNewPrivileges": true,
            "rlimits": rlimits,
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
            },
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "elapse",
        "mounts": mounts,
        "linux": {
            "cgroupsPath": group,
            "namespaces": namespaces,
            "resources": resources,
            "seccomp": seccomp::oci(),
            "maskedPaths": hidden_paths(),
            "readonlyPaths": FIXED.map(|name| format!("/proc/{name}")),
        },
    }))
}

/// The command line of what runs first in a sandbox.
fn arguments(spec: &Spec, image: &Unpacked, with_agent: bool) -> Vec<String> {
    if !with_agent {
        return if spec.command.is_empty() { image.command.clone() } else { spec.command.clone() };
    }
    let words = spec.role.words().iter().map(ToString::to_string);
    [AGENT_INSIDE.to_string()].into_iter().chain(words).chain(spec.command.clone()).collect()
}
