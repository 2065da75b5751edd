//! The attempts, by name. Each gets what the test gives it: a port, a path, a number.

use crate::calls::{call, in_child, last, number, text};
use libc::{c_int, c_long, c_ulong};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::ptr;
use std::time::Duration;

/// What an attempt comes to: what came through, or what held it.
pub type Outcome = Result<String, String>;

/// An attempt.
pub type Attempt = fn(&str) -> Outcome;

/// All of them.
pub const ALL: &[(&str, Attempt)] = &[
    // Out of the sandbox.
    ("mount-tmpfs", |_| mount("tmpfs", "/tmp")),
    ("mount-proc", |_| mount("proc", "/tmp")),
    ("mount-cgroup", |_| mount("cgroup2", "/tmp").or_else(|_| mount("cgroup", "/tmp"))),
    ("mount-overlay", |_| mount("overlay", "/tmp")),
    ("fsopen", |_| call(libc::SYS_fsopen, &[text("tmpfs").as_ptr() as c_ulong, 0])),
    ("open-tree", |_| {
        call(libc::SYS_open_tree, &[libc::AT_FDCWD as c_ulong, text("/").as_ptr() as c_ulong, 1])
    }),
    ("unshare-user", |_| in_child(|| call(libc::SYS_unshare, &[libc::CLONE_NEWUSER as c_ulong]))),
    ("unshare-mount", |_| in_child(|| call(libc::SYS_unshare, &[libc::CLONE_NEWNS as c_ulong]))),
    ("unshare-network", |_| in_child(|| call(libc::SYS_unshare, &[libc::CLONE_NEWNET as c_ulong]))),
    ("clone-user", |_| clone_with(libc::CLONE_NEWUSER)),
    ("clone3-user", |_| clone3_with(libc::CLONE_NEWUSER as u64)),
    ("setns-first", |_| setns("/proc/1/ns/mnt")),
    ("setns-network", |_| setns("/proc/1/ns/net")),
    ("chroot", |_| in_child(|| call(libc::SYS_chroot, &[text("/tmp").as_ptr() as c_ulong]))),
    ("pivot-root", |_| {
        in_child(|| {
            call(libc::SYS_pivot_root, &[text(".").as_ptr() as c_ulong, text(".").as_ptr() as c_ulong])
        })
    }),
    ("open-by-handle", |_| open_by_handle()),
    ("root-link-of-first", |_| read("/proc/1/root/etc/shadow")),
    ("shadow", |_| read("/etc/shadow")),
    // Devices.
    ("make-block-device", |_| device("/tmp/disk", libc::S_IFBLK, 8, 0)),
    ("make-memory-device", |_| device("/tmp/mem", libc::S_IFCHR, 1, 1)),
    ("memory-device", |_| read("/dev/mem")),
    ("kernel-messages", |_| {
        read("/dev/kmsg").or_else(|_| call(libc::SYS_syslog, &[3, ptr::null::<u8>() as c_ulong, 0]))
    }),
    // The kernel's own files.
    ("core-pattern", |_| write("/proc/sys/kernel/core_pattern")),
    ("sysrq", |_| open_to_write("/proc/sysrq-trigger")),
    ("kernel-core", |_| read("/proc/kcore")),
    ("kernel-symbols", |_| read("/proc/kallsyms")),
    ("kernel-configuration", |_| read("/proc/config.gz")),
    ("kernel-keys", |_| {
        read("/proc/keys").and_then(|said| if said.ends_with(" 0 bytes") { Err(said) } else { Ok(said) })
    }),
    ("kernel-timers", |_| read("/proc/timer_list")),
    ("interrupts", |_| read("/proc/interrupts")),
    ("cgroup-files", |_| {
        write("/sys/fs/cgroup/cgroup.procs").or_else(|_| write("/sys/fs/cgroup/memory/cgroup.procs"))
    }),
    ("firmware", |_| {
        read("/sys/firmware/dmi/tables/DMI").or_else(|_| read("/sys/firmware/acpi/tables/DSDT"))
    }),
    // System calls that have let people out before.
    ("bpf", |_| call(libc::SYS_bpf, &[5, 0, 0])),
    ("perf-event-open", |_| perf()),
    ("userfaultfd", |_| call(libc::SYS_userfaultfd, &[1])),
    ("io-uring", |_| io_uring()),
    ("keyring", |_| keyring()),
    ("init-module", |_| call(libc::SYS_init_module, &[0, 0, text("").as_ptr() as c_ulong])),
    ("kexec", |_| call(libc::SYS_kexec_load, &[0, 0, 0, 0])),
    ("reboot", |_| call(libc::SYS_reboot, &[0xfee1_dead, 672_274_793, 0, 0])),
    ("clock", |_| {
        call(libc::SYS_settimeofday, &[ptr::null::<u8>() as c_ulong, [0i32; 2].as_ptr() as c_ulong])
    }),
    ("host-name", |_| call(libc::SYS_sethostname, &[text("mine").as_ptr() as c_ulong, 4])),
    ("swap", |_| call(libc::SYS_swapon, &[text("/tmp/none").as_ptr() as c_ulong, 0])),
    ("quota", |_| call(libc::SYS_quotactl, &[0x8000_0100, 0, 0, 0])),
    ("no-randomisation", |_| call(libc::SYS_personality, &[0x0004_0000])),
    ("real-time", |_| real_time()),
    ("priority", |_| call(libc::SYS_setpriority, &[0, 0, (-20i64) as c_ulong])),
    // Another user.
    ("become-root", |_| in_child(|| call(libc::SYS_setuid, &[0]))),
    ("set-user-id-program", |_| set_user_id()),
    ("capability", |_| {
        in_child(|| {
            call(
                libc::SYS_prctl,
                &[libc::PR_CAP_AMBIENT as c_ulong, libc::PR_CAP_AMBIENT_RAISE as c_ulong, 21, 0, 0],
            )
        })
    }),
    // What is not its own.
    ("write-agent", |_| first_of(&["/elapse-agent", "/run/elapse-agent"], open_to_write)),
    ("write-programs", |_| open_new("/usr/bin/mine")),
    ("write-configuration", |_| open_new("/etc/mine")),
    ("write-code", |_| open_new("/code/mine")),
    ("remount-code", |_| remount("/code")),
    ("others-processes", |_| others()),
    ("descriptors", |_| inherited()),
    // Networks and sockets.
    ("packet-socket", |_| socket(libc::AF_PACKET, libc::SOCK_RAW, 0x0300)),
    ("raw-socket", |_| socket(libc::AF_INET, libc::SOCK_RAW, 1)),
    ("vsock", |_| socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    ("kernel-ciphers", |_| socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)),
    ("host-port", |given| tcp(given)),
    ("metadata-address", |_| tcp("169.254.169.254:80")),
    ("abstract-socket", |given| abstract_socket(given)),
    ("docker-socket", |_| unix(&["/run/docker.sock", "/var/run/docker.sock"])),
    ("containerd-socket", |_| unix(&["/run/containerd/containerd.sock"])),
    // More than it was given.
    ("processes", |given| processes(number(given))),
    ("memory", |given| memory(number(given))),
    ("descriptors-many", |_| raise(libc::RLIMIT_NOFILE, 1 << 20)),
    ("core-file", |_| raise(libc::RLIMIT_CORE, 1 << 30)),
    ("long-file", |given| long_file(number(given))),
    // Against whoever runs it.
    ("swap-socket", swap_socket),
    ("write-port", |given| plant("port", given)),
    ("link-log", |given| link_log(given)),
    ("flood-log", |given| flood_log(number(given))),
];

/// The folder in which a sandbox makes its socket, where it makes one.
const SHARED: &str = "/run/elapse";

/// Puts a link to another socket in the place of its own: whoever follows it talks to somebody else. What came of it is for whoever
/// listens there to say.
fn swap_socket(to: &str) -> Outcome {
    let own = format!("{SHARED}/s");
    fs::rename(&own, format!("{own}.own")).map_err(|e| format!("{own}: {e}"))?;
    std::os::unix::fs::symlink(to, &own).map_err(|e| format!("{own}: {e}"))?;
    Err(format!("{own} leads to {to} now"))
}

/// Leaves a file of which whoever comes later might think that it is its own.
fn plant(name: &str, what: &str) -> Outcome {
    let path = format!("{SHARED}/{name}");
    fs::write(&path, what).map_err(|e| format!("{path}: {e}"))?;
    Err(format!("{path} is there, for whoever believes it"))
}

fn link_log(to: &str) -> Outcome {
    let path = format!("{SHARED}/log");
    let _ = fs::remove_file(&path);
    std::os::unix::fs::symlink(to, &path).map_err(|e| format!("{path}: {e}"))?;
    Err(format!("{path} leads to {to} now"))
}

/// Whether so many bytes can be put into the output of the first process in ten seconds, all of them to be kept by somebody.
fn flood_log(bytes: usize) -> Outcome {
    let mut log = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/proc/1/fd/2")
        .map_err(|e| e.to_string())?;
    let (some, begun, mut written) = ([b'x'; 4096], std::time::Instant::now(), 0);
    while written < bytes && begun.elapsed() < Duration::from_secs(10) {
        match log.write(&some) {
            Ok(n) => written += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
            Err(e) => return Err(e.to_string()),
        }
    }
    if written < bytes { Err(format!("{written} bytes")) } else { Ok(format!("{written} bytes")) }
}

fn mount(kind: &str, at: &str) -> Outcome {
    let (kind, at) = (text(kind), text(at));
    let options = text("lowerdir=/usr:/etc");
    // SAFETY: all are terminated strings.
    let done = unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
    if done == 0 {
        // SAFETY: the same string.
        unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
        return Ok(format!("mounted {}", kind.to_string_lossy()));
    }
    Err(last("mount"))
}

fn remount(at: &str) -> Outcome {
    let at = text(at);
    let flags = libc::MS_REMOUNT | libc::MS_BIND;
    // SAFETY: a terminated string, and null where nothing is read.
    let done = unsafe { libc::mount(ptr::null(), at.as_ptr(), ptr::null(), flags, ptr::null()) };
    if done == 0 { Ok("it can be written to".into()) } else { Err(last("mount")) }
}

fn clone_with(flags: c_int) -> Outcome {
    // SAFETY: without CLONE_VM the child has a copy of everything, and exits at once.
    let pid = unsafe { libc::syscall(libc::SYS_clone, (flags | libc::SIGCHLD) as c_ulong, 0, 0, 0, 0) };
    reap(pid)
}

fn clone3_with(flags: u64) -> Outcome {
    let mut args = [0u64; 8];
    (args[0], args[4]) = (flags, libc::SIGCHLD as u64);
    // SAFETY: the kernel reads 64 bytes, which there are; the child has a copy of everything and exits at once.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) };
    reap(pid)
}

fn reap(pid: c_long) -> Outcome {
    match pid {
        // SAFETY: ends the child.
        0 => unsafe { libc::_exit(0) },
        -1 => Err(last("clone")),
        _ => {
            // SAFETY: waits for our own child.
            unsafe { libc::waitpid(pid as c_int, ptr::null_mut(), 0) };
            Ok("a child in a namespace of its own".into())
        }
    }
}

/// Whether a namespace of the first process's can be gone into, where that is another than its own.
fn setns(path: &str) -> Outcome {
    let ours = fs::read_link(path.replace("/proc/1/", "/proc/self/")).ok();
    if ours.is_some() && fs::read_link(path).ok() == ours {
        return Err("it is its own".into());
    }
    let file = File::open(path).map_err(|e| format!("{path}: {e}"))?;
    // SAFETY: the descriptor is open.
    let done = unsafe { libc::setns(std::os::fd::AsRawFd::as_raw_fd(&file), 0) };
    if done == 0 { Ok(format!("joined {path}")) } else { Err(last("setns")) }
}

fn open_by_handle() -> Outcome {
    let mut handle = [0u8; 16];
    handle[0] = 8;
    handle[4] = 1;
    handle[8] = 2;
    let root = File::open("/").map_err(|e| e.to_string())?;
    // SAFETY: a handle of 8 bytes behind its header of 8.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            std::os::fd::AsRawFd::as_raw_fd(&root),
            handle.as_ptr(),
            libc::O_RDONLY,
        )
    };
    match io::Error::last_os_error().raw_os_error() {
        _ if fd >= 0 => Ok("opened inode 2".into()),
        // It may, but there is no such inode.
        Some(libc::ESTALE) => Ok("it may open what it names by number".into()),
        _ => Err(last("open_by_handle_at")),
    }
}

fn read(path: &str) -> Outcome {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|e| format!("{path}: {e}"))?;
    let mut some = [0u8; 4096];
    let n = file.read(&mut some).map_err(|e| format!("{path}: {e}"))?;
    // The symbols of a kernel that hides them are zeros.
    let told = n > 0 && !(path.ends_with("kallsyms") && some.starts_with(b"0000000000000000"));
    if told { Ok(format!("{path}: {n} bytes")) } else { Err(format!("{path}: {n} bytes of nothing")) }
}

fn open_to_write(path: &str) -> Outcome {
    OpenOptions::new()
        .append(true)
        .open(path)
        .map(|_| format!("{path} is open"))
        .map_err(|e| format!("{path}: {e}"))
}

/// Writes what is there already.
fn write(path: &str) -> Outcome {
    let before = fs::read(path).map_err(|e| format!("{path}: {e}"))?;
    let mut file = OpenOptions::new().write(true).open(path).map_err(|e| format!("{path}: {e}"))?;
    file.write_all(&before).map_err(|e| format!("{path}: {e}"))?;
    Ok(format!("{path} was written"))
}

fn open_new(path: &str) -> Outcome {
    let made = OpenOptions::new().create_new(true).write(true).open(path);
    made.map_err(|e| format!("{path}: {e}"))?;
    let _ = fs::remove_file(path);
    Ok(format!("{path} was made"))
}

fn first_of(paths: &[&str], attempt: fn(&str) -> Outcome) -> Outcome {
    paths.iter().map(|path| attempt(path)).find(Result::is_ok).unwrap_or_else(|| Err("none of them".into()))
}

fn device(path: &str, kind: libc::mode_t, major: u32, minor: u32) -> Outcome {
    let at = text(path);
    // SAFETY: a terminated string.
    let done = unsafe { libc::mknod(at.as_ptr(), kind | 0o600, libc::makedev(major, minor)) };
    if done != 0 {
        return Err(last("mknod"));
    }
    let opened = File::open(path).map(|_| format!("{path} is open")).map_err(|e| format!("{path}: {e}"));
    let _ = fs::remove_file(path);
    opened
}

fn perf() -> Outcome {
    let mut attr = [0u32; 32];
    attr[1] = 128;
    call(libc::SYS_perf_event_open, &[attr.as_ptr() as c_ulong, 0, c_ulong::MAX, c_ulong::MAX, 0])
}

fn io_uring() -> Outcome {
    let params = [0u64; 16];
    call(libc::SYS_io_uring_setup, &[1, params.as_ptr() as c_ulong])
}

fn keyring() -> Outcome {
    let (kind, name) = (text("user"), text("elapse-attempt"));
    const OF_USER: c_long = -4;
    const UNLINK: c_ulong = 9;
    let (kind, name) = (kind.as_ptr() as c_ulong, name.as_ptr() as c_ulong);
    // SAFETY: both are terminated strings, of at least so many bytes.
    let key = unsafe { libc::syscall(libc::SYS_add_key, kind, name, name, 4, OF_USER) };
    if key < 0 {
        return Err(last("add_key"));
    }
    let _ = call(libc::SYS_keyctl, &[UNLINK, key as c_ulong, OF_USER as c_ulong]);
    Ok("a key of all processes of its user".into())
}

fn real_time() -> Outcome {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: a structure that lives until the call returns.
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) };
    if done == 0 { Ok("it runs before all others".into()) } else { Err(last("sched_setscheduler")) }
}

/// Whether a program of root's with the set-user-id bit makes somebody root.
fn set_user_id() -> Outcome {
    let Some(program) = ["/usr/bin/su", "/bin/su", "/usr/bin/passwd", "/bin/mount"]
        .iter()
        .find(|p| fs::metadata(p).is_ok_and(|m| m.permissions().mode() & 0o4000 != 0))
    else {
        return Err("there is no such program".into());
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let cannot = status.lines().any(|l| l.starts_with("NoNewPrivs:") && l.ends_with('1'));
    if cannot {
        Err(format!("{program} gives nothing: no new privileges"))
    } else {
        Ok(format!("{program} would"))
    }
}

/// Processes that are not of this sandbox: more of them than its own few.
fn others() -> Outcome {
    const OWN: usize = 8;
    let pids = fs::read_dir("/proc").map_err(|e| e.to_string())?;
    let seen = pids.flatten().filter(|e| e.file_name().to_string_lossy().parse::<u32>().is_ok()).count();
    if seen > OWN {
        Ok(format!("{seen} processes are seen"))
    } else {
        Err(format!("{seen} processes, its own"))
    }
}

/// Descriptors beyond the usual ones that the agent was not to have.
fn inherited() -> Outcome {
    let agent = Path::new("/proc/1/fd");
    let all = fs::read_dir(agent).map_err(|e| format!("{}: {e}", agent.display()))?;
    let foreign: Vec<String> = all
        .flatten()
        .filter_map(|e| Some(fs::read_link(e.path()).ok()?.display().to_string()))
        .filter(|to| {
            !["socket:", "pipe:", "/dev/null", "anon_inode:", "/proc/", "pidfd"]
                .iter()
                .any(|known| to.starts_with(known))
        })
        // Its output: a pipe with a name.
        .filter(|to| !to.ends_with("/log") && !to.contains("(deleted)"))
        .collect();
    if foreign.is_empty() { Err("there are only its own".into()) } else { Ok(foreign.join(" ")) }
}

fn socket(family: c_int, kind: c_int, protocol: c_int) -> Outcome {
    // SAFETY: plain numbers.
    let fd = unsafe { libc::socket(family, kind, protocol) };
    if fd >= 0 { Ok(format!("a socket of family {family}")) } else { Err(last("socket")) }
}

fn tcp(at: &str) -> Outcome {
    let address = at.parse().map_err(|_| format!("'{at}' is no address"))?;
    TcpStream::connect_timeout(&address, Duration::from_secs(2))
        .map(|_| format!("connected to {at}"))
        .map_err(|e| format!("{at}: {e}"))
}

fn abstract_socket(name: &str) -> Outcome {
    let address = SocketAddr::from_abstract_name(name).map_err(|e| e.to_string())?;
    UnixStream::connect_addr(&address)
        .map(|_| format!("connected to @{name}"))
        .map_err(|e| format!("@{name}: {e}"))
}

fn unix(paths: &[&str]) -> Outcome {
    first_of(paths, |path| UnixStream::connect(path).map(|_| path.to_string()).map_err(|e| e.to_string()))
}

/// Whether more processes than this can live at once.
fn processes(most: usize) -> Outcome {
    let mut all = Vec::new();
    while all.len() <= most {
        // SAFETY: the child waits to be killed.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            },
            -1 => break,
            pid => all.push(pid),
        }
    }
    for pid in &all {
        // SAFETY: our own children.
        unsafe {
            libc::kill(*pid, libc::SIGKILL);
            libc::waitpid(*pid, ptr::null_mut(), 0);
        }
    }
    if all.len() > most {
        Ok(format!("{} processes", all.len()))
    } else {
        Err(format!("{} processes", all.len()))
    }
}

/// Whether so many bytes can be had. Whoever is killed at it has been held.
fn memory(bytes: usize) -> Outcome {
    let mut held: Vec<Vec<u8>> = Vec::new();
    for _ in 0..bytes >> 20 {
        held.push(vec![1; 1 << 20]);
    }
    Ok(format!("{} MiB", held.len()))
}

fn raise(what: libc::__rlimit_resource_t, to: u64) -> Outcome {
    let limit = libc::rlimit { rlim_cur: to, rlim_max: to };
    // SAFETY: a structure that lives until the call returns.
    let done = unsafe { libc::setrlimit(what, &raw const limit) };
    if done == 0 { Ok(format!("{to}")) } else { Err(last("setrlimit")) }
}

/// Whether a file can have so many bytes. The signal that says otherwise ends this process, which is held then.
fn long_file(bytes: usize) -> Outcome {
    let file = File::create("/tmp/long").map_err(|e| e.to_string())?;
    // SAFETY: changes what a signal does to this process.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let made = file.set_len(bytes as u64).map(|()| format!("{bytes} bytes")).map_err(|e| e.to_string());
    let _ = fs::remove_file("/tmp/long");
    made
}
