//! What this process has used, facts about the host, and the signals that end a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// Between two looks whether the user asks for the end.
const LOOK: Duration = Duration::from_millis(100);

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor seconds, user and system, all threads.
    pub cpu_seconds: f64,
    /// Peak resident set in bytes.
    pub peak_rss: u64,
}

/// What this process has used so far.
pub fn usage() -> Usage {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak_kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap_or(0);
    Usage { cpu_seconds: usage_cpu(), peak_rss: peak_kib * 1024 }
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
        process_cpu_seconds: usage_cpu(),
        host_memory_used: kib("MemTotal").unwrap_or(0).saturating_sub(kib("MemAvailable").unwrap_or(0))
            * 1024,
        process_memory: resident * rustix::param::page_size() as u64,
    }
}

fn usage_cpu() -> f64 {
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

/// Waits for so long; false, and sooner, if the user asks for the end.
pub fn rest(span: Duration, interrupt: &Interrupt) -> bool {
    let until = Instant::now() + span;
    while !interrupt.asked() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(LOOK));
    }
    false
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

/// The host, in the words of its kernel. Empty or 0 where the kernel does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Kernel name and release.
    pub kernel: String,
    /// Instruction set.
    pub machine: String,
    /// The processor's name.
    pub cpu: String,
    /// Processors that this process may run on.
    pub cores: usize,
    /// Memory in bytes.
    pub memory: u64,
}

/// Facts about the host.
pub fn host() -> Host {
    let uname = rustix::system::uname();
    let text = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpuinfo
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(':').map(|p| p.1.trim().to_string()));
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = meminfo
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Host {
        kernel: format!("{} {}", text(uname.sysname()), text(uname.release())),
        machine: text(uname.machine()),
        cpu: cpu.unwrap_or_default(),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        memory: memory.unwrap_or(0) * 1024,
    }
}

/// From now on the allocator gives what is free back to the kernel at once, and not a second later: for daemons, which others can make
/// hold much for a moment. Called before other threads allocate.
pub fn give_memory_back() {
    /// mimalloc's `purge_delay`, in milliseconds; its numbers are kept for as long as it is of version 3.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: an option is a number that is written, and no other thread reads it yet.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) };
}

/// Tells whether the user asked for an end (Ctrl-C, or SIGTERM). The second time, the process ends at once.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<Wish>);

/// When the end was asked for.
#[derive(Debug, Default)]
struct Wish {
    /// Nanoseconds of the monotonic clock; 0 if it was not.
    first: AtomicU64,
}

/// A signal so soon after the first one says the same: timeout(1) tells a process, and then the group that it is in.
const SAME: u64 = 200_000_000;
/// The exit code of a process that ends at once, as shells tell an interrupted one.
const INTERRUPTED: i32 = 130;

impl Wish {
    /// Notes a wish at an instant; whether it is one to end at once. Safe in a signal handler.
    fn asked_at(&self, now: u64) -> bool {
        let first = self.first.compare_exchange(0, now.max(1), Ordering::Relaxed, Ordering::Relaxed);
        first.is_err_and(|first| now.saturating_sub(first) > SAME)
    }
}

/// Nanoseconds of the monotonic clock. Safe in a signal handler.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl Interrupt {
    /// Listens for SIGINT and SIGTERM.
    ///
    /// # Errors
    /// If the kernel does not let it.
    pub fn listen() -> std::io::Result<Interrupt> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let wish = Arc::new(Wish::default());
        for signal in [SIGINT, SIGTERM] {
            let wish = Arc::clone(&wish);
            let heard = move || {
                if wish.asked_at(monotonic()) {
                    signal_hook::low_level::exit(INTERRUPTED);
                }
            };
            // SAFETY: the handler reads a clock, uses an atomic and may end the process: all are allowed in handlers.
            unsafe { signal_hook::low_level::register(signal, heard) }?;
        }
        Ok(Interrupt(wish))
    }

    /// Asks for it, as the first signal does.
    pub fn ask(&self) {
        self.0.asked_at(monotonic());
    }

    /// Whether it was asked for.
    pub fn asked(&self) -> bool {
        self.0.first.load(Ordering::Relaxed) != 0
    }
}

/// How long something may be waited for: so long, or until the user asks for the end. Where that was asked before, a moment.
#[derive(Clone, Debug)]
pub struct Patience {
    begun: Instant,
    limit: Duration,
    interrupt: Interrupt,
}

impl Patience {
    /// From now on.
    pub fn new(limit: Duration, interrupt: &Interrupt) -> Patience {
        /// What an interrupted run has left is worth this much.
        const MOMENT: Duration = Duration::from_secs(2);
        let begun = Instant::now();
        if interrupt.asked() {
            return Patience { begun, limit: limit.min(MOMENT), interrupt: Interrupt::default() };
        }
        Patience { begun, limit, interrupt: interrupt.clone() }
    }

    /// What was waited so far.
    pub fn spent(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether nothing more is waited for.
    pub fn is_over(&self) -> bool {
        self.interrupt.asked() || self.spent() >= self.limit
    }

    /// How long may be slept until [`is_over`](Self::is_over) is asked again.
    pub fn nap(&self) -> Duration {
        self.limit.saturating_sub(self.spent()).min(LOOK)
    }

    /// Sleeps for so long, or until it is over.
    pub fn rest(&self, span: Duration) {
        let until = Instant::now() + span;
        while !self.is_over() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(self.nap()));
        }
    }
}

/// So long, whatever the user asks for.
impl From<Duration> for Patience {
    fn from(limit: Duration) -> Patience {
        Patience::new(limit, &Interrupt::default())
    }
}

/// Tells whether somebody wants the configuration read again (SIGHUP).
#[derive(Clone, Debug)]
pub struct Hangup(Arc<AtomicBool>);

impl Hangup {
    /// Listens for SIGHUP, which otherwise ends the process.
    ///
    /// # Errors
    /// If the kernel does not let it.
    pub fn listen() -> std::io::Result<Hangup> {
        let flag = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&flag))?;
        Ok(Hangup(flag))
    }

    /// Whether it came since this was asked last.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
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

    #[test]
    fn the_second_wish_ends_at_once_unless_it_comes_with_the_first() {
        let wish = Wish::default();
        assert!(!wish.asked_at(5_000_000_000));
        assert!(!wish.asked_at(5_000_001_000), "told twice by one");
        assert!(!wish.asked_at(4_000_000_000), "read before the first, kept after it");
        assert!(wish.asked_at(5_300_000_000));
        let interrupt = Interrupt::default();
        assert!(!interrupt.asked());
        interrupt.ask();
        assert!(interrupt.asked());
    }
}
