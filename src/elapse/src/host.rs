//! Facts about the host that a run is on, and what the run's process has used: for `run.json`.

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor seconds, user and system, all threads.
    pub cpu_seconds: f64,
    /// Peak resident set in bytes.
    pub peak_rss: u64,
}

/// What this process has used so far. 0 where the kernel does not say.
pub fn usage() -> Usage {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak_kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap_or(0);
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Usage { cpu_seconds: clock.tv_sec as f64 + clock.tv_nsec as f64 / 1e9, peak_rss: peak_kib * 1024 }
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
