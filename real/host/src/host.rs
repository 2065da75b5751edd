//! What of the host is hidden from sandboxes, and what the host does at an instant.

use std::time::{Duration, Instant};

/// What docker hides of /proc from a container, and the kernel's symbols and configuration; and what it does not let be written to.
pub(crate) const HIDDEN: [&str; 13] = [
    "acpi",
    "asound",
    "config.gz",
    "interrupts",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
pub(crate) const FIXED: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// What is hidden of /proc and /sys in a container, by path.
pub(crate) fn hidden_paths() -> Vec<String> {
    let of_sys = ["/sys/firmware", "/sys/devices/virtual/powercap"].map(str::to_string);
    HIDDEN.iter().map(|name| format!("/proc/{name}")).chain(of_sys).collect()
}

/// Descriptors that a sandbox's process may have: what programs expect, and what they may ask for.
pub(crate) const DESCRIPTORS: (u64, u64) = (1024, 65_536);

/// The same where this host lets nobody have so many.
pub(crate) fn sandbox_descriptors() -> (u64, u64) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    (DESCRIPTORS.0.min(limit), DESCRIPTORS.1.min(limit))
}

/// A name of this host that stays the same: systemd's machine id, or the host's name where there is none.
pub fn machine_id() -> String {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_string();
    if id.is_empty() { rustix::system::uname().nodename().to_string_lossy().into_owned() } else { id }
}

/// What the host does at this instant, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Processor seconds that the whole host has used since it was started.
    pub host_cpu_seconds: f64,
    /// Processor seconds that this process has used.
    pub process_cpu_seconds: f64,
    /// Memory of the host that is not available for anything new, in bytes.
    pub host_memory_used: u64,
    /// Resident memory of this process, in bytes.
    pub process_memory: u64,
}

/// What the host does at this instant. 0 where the kernel does not say.
pub fn load() -> Load {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut ticks = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let numbers: Vec<f64> = ticks.by_ref().filter_map(|n| n.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal: what is neither idle nor waiting was used here.
    let used: f64 = [0, 1, 2, 5, 6].iter().filter_map(|i| numbers.get(*i)).sum();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| {
        let line = meminfo.lines().find_map(|l| l.strip_prefix(name));
        line.and_then(|l| l.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
    };
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident: u64 = pages.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    Load {
        host_cpu_seconds: used / rustix::param::clock_ticks_per_second().max(1) as f64,
        process_cpu_seconds: process_cpu(),
        host_memory_used: kib("MemTotal").unwrap_or(0).saturating_sub(kib("MemAvailable").unwrap_or(0))
            * 1024,
        process_memory: resident * rustix::param::page_size() as u64,
    }
}

fn process_cpu() -> f64 {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    clock.tv_sec as f64 + clock.tv_nsec as f64 / 1e9
}

/// Keeps every processor busy for so long, and then quiet for as long: a burst that stands alone in whatever collects the
/// use of processors.
pub fn mark(span: Duration) {
    let until = Instant::now() + span;
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(move || {
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
            });
        }
    });
    std::thread::sleep(span);
}

/// What it takes to write 4 KiB into a file of this folder so that they survive a loss of power, so many times.
///
/// # Errors
/// If the folder cannot be written.
pub fn sync_times(folder: &std::path::Path, times: u32) -> std::io::Result<Vec<Duration>> {
    use std::io::Write;
    let path = folder.join(format!(".elapse-sync-{}", std::process::id()));
    let mut file = std::fs::File::create(&path)?;
    let mut write = || {
        let begun = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        Ok(begun.elapsed())
    };
    let seen = (0..times).map(|_| write()).collect();
    let _ = std::fs::remove_file(&path);
    seen
}

/// Bytes that were written to a socket and that its peer's kernel has not acknowledged; 0 where the kernel does not say.
pub fn unacknowledged(socket: &impl std::os::fd::AsRawFd) -> usize {
    let mut queued: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one int to the address it is given, and the descriptor is open.
    let rc = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut queued) };
    if rc == 0 { usize::try_from(queued).unwrap_or(0) } else { 0 }
}

/// From now on the allocator gives what is free back to the kernel at once, and not a second later: for daemons, which others can make
/// hold much for a moment. Called before other threads allocate.
pub fn give_memory_back() {
    /// mimalloc's `purge_delay`, in milliseconds; its numbers are kept for as long as it is of version 3.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: an option is a number that is written, and no other thread reads it yet.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: an option is read.
        let of = |option| unsafe { libmimalloc_sys::mi_option_get(option) };
        assert_eq!(of(15), 1000, "the delay of purges, as version 3 has it");
        give_memory_back();
        assert_eq!(of(15), 0);
    }
}
