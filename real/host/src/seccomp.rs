//! The system calls that a sandbox may make: those that docker's default profile lets a container without further capabilities make
//! (moby, profiles/seccomp), less io_uring, which newer releases of it leave out. Any other fails with EPERM; `clone3` with
//! ENOSYS, so that the C library takes `clone`, whose flags can be looked at: no new namespaces are made inside.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_int;

/// The calls that are allowed whatever they are asked: names and numbers.
macro_rules! calls {
    ($($name:ident)*) => { [$((stringify!($name), libc::$name)),*] };
}

/// On every architecture.
const EVERYWHERE: &[(&str, libc::c_long)] = &calls! {
    SYS_accept SYS_accept4 SYS_adjtimex SYS_bind SYS_brk SYS_capget SYS_capset SYS_chdir SYS_clock_adjtime SYS_clock_getres
    SYS_clock_gettime SYS_clock_nanosleep SYS_close SYS_close_range SYS_connect SYS_copy_file_range SYS_dup SYS_dup3
    SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_execve SYS_execveat SYS_exit SYS_exit_group
    SYS_faccessat SYS_faccessat2 SYS_fadvise64 SYS_fallocate SYS_fanotify_mark SYS_fchdir SYS_fchmod SYS_fchmodat SYS_fchown
    SYS_fchownat SYS_fcntl SYS_fdatasync SYS_fgetxattr SYS_flistxattr SYS_flock SYS_fremovexattr SYS_fsetxattr SYS_fstat SYS_fstatfs
    SYS_fsync SYS_ftruncate SYS_futex SYS_futex_waitv SYS_get_robust_list SYS_getcpu SYS_getcwd SYS_getdents64 SYS_getegid SYS_geteuid
    SYS_getgid SYS_getgroups SYS_getitimer SYS_getpeername SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority SYS_getrandom
    SYS_getresgid SYS_getresuid SYS_getrusage SYS_getsid SYS_getsockname SYS_getsockopt SYS_gettid SYS_gettimeofday SYS_getuid
    SYS_getxattr SYS_inotify_add_watch SYS_inotify_init1 SYS_inotify_rm_watch SYS_io_cancel SYS_io_destroy SYS_io_getevents
    SYS_io_setup SYS_io_submit SYS_ioctl SYS_ioprio_get SYS_ioprio_set SYS_kill SYS_landlock_add_rule
    SYS_landlock_create_ruleset SYS_landlock_restrict_self SYS_lgetxattr SYS_linkat SYS_listen SYS_listxattr SYS_llistxattr
    SYS_lremovexattr SYS_lseek SYS_lsetxattr SYS_madvise SYS_membarrier SYS_memfd_create SYS_memfd_secret SYS_mincore SYS_mkdirat
    SYS_mknodat SYS_mlock SYS_mlock2 SYS_mlockall SYS_mmap SYS_mprotect SYS_mq_getsetattr SYS_mq_notify SYS_mq_open
    SYS_mq_timedreceive SYS_mq_timedsend SYS_mq_unlink SYS_mremap SYS_msgctl SYS_msgget SYS_msgrcv SYS_msgsnd SYS_msync SYS_munlock
    SYS_munlockall SYS_munmap SYS_name_to_handle_at SYS_nanosleep SYS_newfstatat SYS_openat SYS_openat2 SYS_pidfd_open
    SYS_pidfd_send_signal SYS_pipe2 SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect SYS_ppoll SYS_prctl SYS_pread64 SYS_preadv
    SYS_preadv2 SYS_prlimit64 SYS_process_mrelease SYS_process_vm_readv SYS_process_vm_writev SYS_pselect6 SYS_ptrace SYS_pwrite64
    SYS_pwritev SYS_pwritev2 SYS_read SYS_readahead SYS_readlinkat SYS_readv SYS_recvfrom SYS_recvmmsg SYS_recvmsg
    SYS_remap_file_pages SYS_removexattr SYS_renameat2 SYS_restart_syscall SYS_rseq SYS_rt_sigaction SYS_rt_sigpending
    SYS_rt_sigprocmask SYS_rt_sigqueueinfo SYS_rt_sigreturn SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo
    SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam
    SYS_sched_getscheduler SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr SYS_sched_setparam
    SYS_sched_setscheduler SYS_sched_yield SYS_seccomp SYS_semctl SYS_semget SYS_semop SYS_semtimedop SYS_sendfile SYS_sendmmsg
    SYS_sendmsg SYS_sendto SYS_set_robust_list SYS_set_tid_address SYS_setfsgid SYS_setfsuid SYS_setgid SYS_setgroups SYS_setitimer
    SYS_setpgid SYS_setpriority SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid SYS_setrlimit SYS_setsid SYS_setsockopt
    SYS_setuid SYS_setxattr SYS_shmat SYS_shmctl SYS_shmdt SYS_shmget SYS_shutdown SYS_sigaltstack SYS_signalfd4 SYS_socketpair
    SYS_splice SYS_statfs SYS_statx SYS_symlinkat SYS_sync SYS_sync_file_range SYS_syncfs SYS_sysinfo SYS_tee SYS_tgkill
    SYS_timer_create SYS_timer_delete SYS_timer_getoverrun SYS_timer_gettime SYS_timer_settime SYS_timerfd_create SYS_timerfd_gettime
    SYS_timerfd_settime SYS_times SYS_tkill SYS_truncate SYS_umask SYS_uname SYS_unlinkat SYS_utimensat SYS_vmsplice SYS_wait4
    SYS_waitid SYS_write SYS_writev
};

/// Those that newer architectures have done away with.
#[cfg(target_arch = "x86_64")]
const HERE: &[(&str, libc::c_long)] = &calls! {
    SYS_access SYS_alarm SYS_arch_prctl SYS_chmod SYS_chown SYS_creat SYS_dup2 SYS_epoll_create SYS_epoll_ctl_old SYS_epoll_wait
    SYS_epoll_wait_old SYS_eventfd SYS_fork SYS_futimesat SYS_get_thread_area SYS_getdents SYS_getpgrp SYS_getrlimit SYS_inotify_init
    SYS_lchown SYS_link SYS_lstat SYS_mkdir SYS_mknod SYS_modify_ldt SYS_open SYS_pause SYS_pipe SYS_poll SYS_readlink SYS_rename
    SYS_renameat SYS_rmdir SYS_select SYS_set_thread_area SYS_signalfd SYS_stat SYS_symlink SYS_time SYS_unlink SYS_utime SYS_utimes
    SYS_vfork
};
#[cfg(not(target_arch = "x86_64"))]
const HERE: &[(&str, libc::c_long)] = &calls! { SYS_getrlimit SYS_renameat };

/// Namespaces that `clone` is not to make.
const NAMESPACES: c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;
/// Families of sockets that do not know of namespaces, or are the kernel's own ciphers.
const NO_SOCKETS: [c_int; 2] = [libc::AF_VSOCK, libc::AF_ALG];
/// What `personality` may ask for: what is, and Linux's own with and without 32-bit system names.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff];

/// The filters as the kernel takes them, in the order in which they are installed.
#[derive(Debug)]
pub(crate) struct Filters(Vec<BpfProgram>);

impl Filters {
    /// Makes them.
    ///
    /// # Errors
    /// On an architecture for which there are none.
    pub(crate) fn new() -> Result<Filters, String> {
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| e.to_string())?;
        let no = |errno: c_int| SeccompAction::Errno(errno as u32);
        let program = |rules, otherwise, matching| {
            let filter = SeccompFilter::new(rules, otherwise, matching, arch).map_err(|e| e.to_string())?;
            BpfProgram::try_from(filter).map_err(|e| e.to_string())
        };
        let later = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
        let looked_at = [libc::SYS_clone, libc::SYS_clone3, libc::SYS_socket, libc::SYS_personality];
        let numbers: BTreeSet<u32> = EVERYWHERE
            .iter()
            .chain(HERE)
            .map(|(_, number)| *number)
            .chain(looked_at)
            .map(|n| n as u32)
            .collect();
        // Of several refusals that of the filter installed last is told.
        Ok(Filters(vec![
            list(&numbers, arch)?,
            program(refused_by_arguments()?, SeccompAction::Allow, no(libc::EPERM))?,
            program(later, SeccompAction::Allow, no(libc::ENOSYS))?,
        ]))
    }

    /// The programs of the kernel's own form.
    pub(crate) fn programs(&self) -> impl Iterator<Item = &[sock_filter]> {
        self.0.iter().map(Vec::as_slice)
    }
}

/// A program that lets calls with these numbers be made, and no other. The kernel runs a program once for each number when it is
/// installed, so it is to be short: it goes through the stretches of numbers, and not through the numbers.
fn list(numbers: &BTreeSet<u32>, arch: TargetArch) -> Result<BpfProgram, String> {
    // linux/filter.h: loads a word, jumps on its being equal, above, or at least; returns.
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const ABOVE: u16 = 0x25;
    const AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    // linux/seccomp.h: where a call's number and its architecture are.
    const NUMBER: u32 = 0;
    const ARCHITECTURE: u32 = 4;
    let machine = match arch {
        TargetArch::x86_64 => 0xc000_003e,
        TargetArch::aarch64 => 0xc000_00b7,
        TargetArch::riscv64 => 0xc000_00f3,
    };
    let mut stretches: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match stretches.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => stretches.push((*number, *number)),
        }
    }
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut program = vec![
        step(LOAD, 0, 0, ARCHITECTURE),
        step(EQUAL, 1, 0, machine),
        step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        step(LOAD, 0, 0, NUMBER),
    ];
    let count = stretches.len();
    for (place, (first, last)) in stretches.into_iter().enumerate() {
        // Behind the last stretch stand the refusal and the permission.
        let rest =
            u8::try_from(2 * (count - 1 - place)).map_err(|_| "there are too many stretches of calls")?;
        let permitted = rest.checked_add(1).ok_or("there are too many stretches of calls")?;
        program.push(step(ABOVE, 1, 0, last));
        program.push(step(AT_LEAST, permitted, rest, first));
    }
    program.push(step(RETURN, 0, 0, refuse));
    program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    Ok(program)
}

/// The calls that are refused for what they are asked.
fn refused_by_arguments() -> Result<BTreeMap<i64, Vec<SeccompRule>>, String> {
    let is = |op, value: u64| {
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, op, value).map_err(|e| e.to_string())
    };
    let rule = |conditions: Vec<SeccompCondition>| SeccompRule::new(conditions).map_err(|e| e.to_string());
    let bits = (0..32).map(|bit| 1_u32 << bit).filter(|bit| NAMESPACES as u32 & bit != 0);
    let namespaces = bits.map(|bit| rule(vec![is(SeccompCmpOp::MaskedEq(bit.into()), bit.into())?]));
    let families = NO_SOCKETS.iter().map(|family| rule(vec![is(SeccompCmpOp::Eq, *family as u64)?]));
    let others = PERSONALITIES.iter().map(|personality| is(SeccompCmpOp::Ne, *personality));
    Ok(BTreeMap::from([
        (libc::SYS_clone, namespaces.collect::<Result<_, _>>()?),
        (libc::SYS_socket, families.collect::<Result<_, _>>()?),
        (libc::SYS_personality, vec![rule(others.collect::<Result<_, _>>()?)?]),
    ]))
}

/// The same for a runtime that is told by OCI's specification.
pub(crate) fn oci() -> Value {
    let names = EVERYWHERE.iter().chain(HERE).map(|(name, _)| name.trim_start_matches("SYS_"));
    // Calls that only 32-bit programs make, by the names of the 64-bit ones they stand for.
    let old = [
        "_llseek",
        "_newselect",
        "chown32",
        "clock_adjtime64",
        "clock_getres_time64",
        "clock_gettime64",
        "clock_nanosleep_time64",
        "fadvise64_64",
        "fchown32",
        "fcntl64",
        "fstat64",
        "fstatat64",
        "fstatfs64",
        "ftruncate64",
        "futex_time64",
        "getegid32",
        "geteuid32",
        "getgid32",
        "getgroups32",
        "getresgid32",
        "getresuid32",
        "getuid32",
        "io_pgetevents",
        "io_pgetevents_time64",
        "ipc",
        "lchown32",
        "lstat64",
        "mmap2",
        "mq_timedreceive_time64",
        "mq_timedsend_time64",
        "ppoll_time64",
        "pselect6_time64",
        "recv",
        "recvmmsg_time64",
        "rt_sigtimedwait_time64",
        "sched_rr_get_interval_time64",
        "semtimedop_time64",
        "send",
        "sendfile64",
        "setfsgid32",
        "setfsuid32",
        "setgid32",
        "setgroups32",
        "setregid32",
        "setresgid32",
        "setresuid32",
        "setreuid32",
        "setuid32",
        "sigprocmask",
        "sigreturn",
        "stat64",
        "statfs64",
        "timer_gettime64",
        "timer_settime64",
        "timerfd_gettime64",
        "timerfd_settime64",
        "truncate64",
        "ugetrlimit",
        "utimensat_time64",
        "waitpid",
    ];
    let names: Vec<&str> = names.chain(old).collect();
    let allow = "SCMP_ACT_ALLOW";
    let first = |value: u64, op: &str| json!({ "index": 0, "value": value, "op": op });
    let mut calls = vec![
        json!({ "names": names, "action": allow }),
        json!({ "names": ["clone"], "action": allow,
                "args": [{ "index": 0, "value": NAMESPACES as u32, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] }),
        json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }),
    ];
    // One rule for each stretch of families: of several conditions on one argument runtimes take any, not all.
    let [vsock, alg] = NO_SOCKETS.map(|family| family as u64);
    let stretches = [first(alg, "SCMP_CMP_LT"), first(alg + 1, "SCMP_CMP_EQ"), first(vsock, "SCMP_CMP_GT")];
    calls.extend(stretches.map(|args| json!({ "names": ["socket"], "action": allow, "args": [args] })));
    calls
        .extend(PERSONALITIES.map(
            |p| json!({ "names": ["personality"], "action": allow, "args": [first(p, "SCMP_CMP_EQ")] }),
        ));
    let architectures: &[&str] = match std::env::consts::ARCH {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        _ => &[],
    };
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": architectures,
        "syscalls": calls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_runtime_is_told_is_what_the_kernel_is() {
        let told = oci();
        let names = |call: &Value| -> Vec<String> {
            call["names"]
                .as_array()
                .expect("names")
                .iter()
                .map(|n| n.as_str().expect("a name").to_string())
                .collect()
        };
        let all: BTreeSet<String> =
            told["syscalls"].as_array().expect("calls").iter().flat_map(names).collect();
        for (name, number) in EVERYWHERE.iter().chain(HERE) {
            assert!(all.contains(name.trim_start_matches("SYS_")), "{name} ({number})");
        }
        for never in [
            "keyctl",
            "add_key",
            "bpf",
            "mount",
            "unshare",
            "setns",
            "userfaultfd",
            "io_uring_setup",
            "perf_event_open",
        ] {
            assert!(!all.contains(never), "{never}");
        }
        // Between the two families there is one, and nothing else is left out.
        let [vsock, alg] = NO_SOCKETS;
        assert_eq!(vsock, alg + 2);
    }

    #[test]
    fn the_filters_are_as_short_as_the_kernel_wants_them() {
        let filters = Filters::new().expect("filters");
        let lengths: Vec<usize> = filters.programs().map(<[sock_filter]>::len).collect();
        assert!(lengths.len() == 3 && lengths.iter().all(|n| (3..300).contains(n)), "{lengths:?}");
    }

    /// What a program answers to a call, gone through as the kernel does.
    fn answer(program: &[sock_filter], arch: u32, number: u32) -> u32 {
        let (mut at, mut word) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
            match step.code {
                0x20 => word = if step.k == 0 { number } else { arch },
                0x15 => at += jump(word == step.k),
                0x25 => at += jump(word > step.k),
                0x35 => at += jump(word >= step.k),
                0x06 => return step.k,
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn the_list_lets_through_its_own_numbers_and_no_others() {
        let filters = Filters::new().expect("filters");
        let program = filters.programs().next().expect("the list");
        let arch = program[1].k;
        let listed: BTreeSet<u32> = EVERYWHERE.iter().chain(HERE).map(|(_, number)| *number as u32).collect();
        let looked_at =
            [libc::SYS_clone, libc::SYS_clone3, libc::SYS_socket, libc::SYS_personality].map(|n| n as u32);
        for number in (0..1000).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
            let allowed = listed.contains(&number) || looked_at.contains(&number);
            let expected = if allowed { libc::SECCOMP_RET_ALLOW } else { libc::SECCOMP_RET_ERRNO | 1 };
            assert_eq!(answer(program, arch, number), expected, "{number}");
        }
        assert_eq!(answer(program, arch + 1, 0), libc::SECCOMP_RET_KILL_PROCESS, "of another architecture");
    }
}
