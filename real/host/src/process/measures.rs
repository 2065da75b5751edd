//! What holds a sandbox and a kernel may lack: looked at once, before the first one.

use std::ffi::c_int;
use std::path::Path;

/// A measure, and what does not hold without it.
struct Measure {
    name: &'static str,
    without: &'static str,
    is_there: fn() -> bool,
}

/// All of them, by the names that `live.weaker` takes.
const ALL: [Measure; 3] = [
    Measure {
        name: "seccomp",
        without: "functions may make every system call that their user may (seccomp filters, CONFIG_SECCOMP_FILTER)",
        is_there: has_seccomp,
    },
    Measure {
        name: "read-only-mounts",
        without: "what is mounted below the host's folders that functions see stays as writable as it is (mount_setattr, Linux 5.12)",
        is_there: has_mount_setattr,
    },
    Measure {
        name: "cgroup-namespace",
        without: "functions see the names of the host's control groups (CONFIG_CGROUPS)",
        is_there: || Path::new("/proc/self/ns/cgroup").exists(),
    },
];

/// Which of them hold here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measures {
    pub(super) seccomp: bool,
    pub(super) read_only_mounts: bool,
    pub(super) cgroup_namespace: bool,
}

impl Measures {
    /// Those that this kernel has.
    ///
    /// # Errors
    /// What is missing and not among `weaker`, and what does not hold without it.
    pub(super) fn look(weaker: &[String]) -> Result<Measures, String> {
        for Measure { name, without, .. } in missing() {
            if !weaker.iter().any(|listed| listed == name) {
                return Err(format!(
                    "this kernel lacks {name}: {without}; take another kernel, or accept it with live.weaker = [\"{name}\"]"
                ));
            }
        }
        let has = |name: &str| !missing().any(|measure| measure.name == name);
        Ok(Measures {
            seccomp: has("seccomp"),
            read_only_mounts: has("read-only-mounts"),
            cgroup_namespace: has("cgroup-namespace"),
        })
    }
}

fn missing() -> impl Iterator<Item = &'static Measure> {
    ALL.iter().filter(|measure| !(measure.is_there)())
}

/// What of what holds sandboxes this kernel lacks: its name, and what does not hold without it.
pub fn lacking() -> Vec<(&'static str, &'static str)> {
    missing().map(|measure| (measure.name, measure.without)).collect()
}

/// The names that `live.weaker` may list.
pub fn names() -> [&'static str; 3] {
    [ALL[0].name, ALL[1].name, ALL[2].name]
}

fn has_seccomp() -> bool {
    const ACTION_AVAILABLE: libc::c_long = 2;
    let refuse: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads one number.
    unsafe { libc::syscall(libc::SYS_seccomp, ACTION_AVAILABLE, 0, &raw const refuse) == 0 }
}

fn has_mount_setattr() -> bool {
    const NOWHERE: c_int = -1;
    // SAFETY: with a structure of no bytes the kernel reads none, and refuses.
    let done = unsafe {
        libc::syscall(libc::SYS_mount_setattr, NOWHERE, c"".as_ptr(), 0, std::ptr::null::<u8>(), 0)
    };
    done == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_unless_it_is_accepted() {
        let lacking = lacking();
        let accepted: Vec<String> = lacking.iter().map(|(name, _)| name.to_string()).collect();
        let looked = Measures::look(&accepted).expect("all that is missing is accepted");
        assert_eq!(looked.seccomp, !accepted.contains(&"seccomp".to_string()));
        assert_eq!(Measures::look(&[]).is_ok(), lacking.is_empty());
        assert!(lacking.iter().all(|(name, _)| names().contains(name)));
    }
}
