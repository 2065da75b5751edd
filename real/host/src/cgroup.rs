//! Limits and memory of a sandbox, by cgroup v1 (one hierarchy for each controller) or v2.
//!
//! Every sandbox of every worker lies below [`SLICE`], in `elapse.slice/WORKER/ENGINE/ID`. Where systemd runs, that is the
//! slice that comes with the units, and its limits hold for all of them together (`systemctl set-property elapse.slice
//! MemoryMax=8G`). Systemd takes no controller away from a slice in which groups below the first level use it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Where the kernel shows its hierarchies.
const ROOT: &str = "/sys/fs/cgroup";
/// The group that all others are below.
pub const SLICE: &str = "elapse.slice";
/// There where systemd is the first process.
const SYSTEMD: &str = "/run/systemd/system";

/// Which hierarchies this host has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// One for each of these controllers.
    V1(Vec<&'static str>),
    /// One for all.
    V2,
    /// None that this process may write to.
    None,
}

/// The groups that a worker's engine makes itself.
#[derive(Clone, Debug)]
pub struct Cgroups {
    hierarchy: Hierarchy,
    worker: String,
    engine: &'static str,
}

/// Where in a hierarchy the groups of a worker's engine are.
pub fn path_of(worker: &str, engine: &str) -> PathBuf {
    Path::new(SLICE).join(worker).join(engine)
}

/// What a sandbox may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes; 0 is no limit.
    pub memory: u64,
    /// 1/1000 core; 0 is no limit. Where processors are short they are had in proportion to it.
    pub cpus: u32,
    /// Processes and threads; 0 is no limit.
    pub pids: u32,
}

/// `cpu.shares` (cgroup v1) of a sandbox of so many 1/1000 core. Where processors are short, groups beside each other have of
/// them in proportion to it: as much of 1024, which is the kernel's default, as they may use of a core.
pub fn shares_of(cpus: u32) -> u64 {
    (u64::from(cpus) * 1024 / 1000).clamp(2, 262_144)
}

/// `cpu.weight` (cgroup v2), in proportion likewise: as much of the kernel's default, 100.
pub fn weight_of(cpus: u32) -> u64 {
    u64::from(cpus / 10).clamp(1, 10_000)
}

/// Whether groups of this host have a limit of swap.
pub fn limits_swap() -> bool {
    let groups = fs::read_dir(ROOT).into_iter().flatten().flatten();
    Path::new(ROOT).join("memory/memory.memsw.limit_in_bytes").exists()
        || groups.into_iter().any(|group| group.path().join("memory.swap.max").exists())
}

/// Whether this host has one hierarchy for all controllers.
pub fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Gives the group of a process of somebody else's making the weight of so many 1/1000 core, where there is cgroup v2; 0 leaves
/// it. A runtime that is told shares makes a weight of them by a law of its own, and newer ones by one that is not proportional.
///
/// # Errors
/// If the process is gone, or its group cannot be written to.
pub fn weigh(pid: i32, cpus: u32) -> io::Result<()> {
    if cpus == 0 || !is_v2() {
        return Ok(());
    }
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    write(&Path::new(ROOT).join(path).join("cpu.weight"), &weight_of(cpus).to_string())
}

/// A sandbox's groups. Dropping it leaves them; see [`remove`](Group::remove).
#[derive(Debug)]
pub struct Group {
    dirs: Vec<PathBuf>,
    v2: bool,
    gauge: Gauge,
}

/// The memory of a group, its files kept open: a reading costs no path lookup.
#[derive(Debug)]
pub struct Gauge {
    usage: File,
    stat: File,
    inactive_key: &'static [u8],
    events: File,
}

impl Gauge {
    fn open(dir: &Path, v2: bool) -> io::Result<Gauge> {
        let (usage, events) = if v2 {
            ("memory.current", "memory.events")
        } else {
            ("memory.usage_in_bytes", "memory.oom_control")
        };
        Ok(Gauge {
            usage: File::open(dir.join(usage))?,
            stat: File::open(dir.join("memory.stat"))?,
            inactive_key: if v2 { b"\ninactive_file " } else { b"\ntotal_inactive_file " },
            events: File::open(dir.join(events))?,
        })
    }

    /// The gauge of the group that a process of somebody else's making is in.
    ///
    /// # Errors
    /// If the kernel does not tell, or the process is gone.
    pub fn of_process(pid: i32) -> io::Result<Gauge> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let v1 = Path::new(ROOT).join("memory").exists();
        let found = text.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let ours =
                if v1 { controllers.split(',').any(|c| c == "memory") } else { controllers.is_empty() };
            ours.then(|| path.trim_start_matches('/').to_string())
        });
        let path = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let root = if v1 { Path::new(ROOT).join("memory") } else { PathBuf::from(ROOT) };
        Gauge::open(&root.join(path), !v1)
    }

    /// Bytes in use, less the file pages that could be dropped.
    pub fn memory(&self) -> Option<u64> {
        let mut number = [0u8; 24];
        let n = self.usage.read_at(&mut number, 0).ok()?;
        let usage: u64 = std::str::from_utf8(&number[..n]).ok()?.trim().parse().ok()?;
        let mut stat = [0u8; 4096];
        let n = self.stat.read_at(&mut stat, 0).ok()?;
        let stat = &stat[..n];
        let at = stat.windows(self.inactive_key.len()).position(|w| w == self.inactive_key);
        let inactive = at.map_or(0, |at| {
            let digits = &stat[at + self.inactive_key.len()..];
            digits
                .iter()
                .take_while(|c| c.is_ascii_digit())
                .fold(0u64, |n, c| n.saturating_mul(10).saturating_add(u64::from(c - b'0')))
        });
        Some(usage.saturating_sub(inactive))
    }

    /// How many processes in it the kernel has killed for memory.
    pub fn kills(&self) -> u64 {
        let mut text = [0u8; 512];
        let n = self.events.read_at(&mut text, 0).unwrap_or(0);
        let text = std::str::from_utf8(&text[..n]).unwrap_or_default();
        text.lines().find_map(|l| l.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
    }

    /// Whether the kernel killed something in it for memory.
    pub fn was_out_of_memory(&self) -> bool {
        self.kills() > 0
    }
}

const V1_CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

impl Cgroups {
    /// Those of this engine of the worker with this name.
    pub fn of(worker: &str, engine: &'static str) -> Cgroups {
        let mounted = |controller: &str| {
            let dir = Path::new(ROOT).join(controller);
            let writable = rustix::fs::access(&dir, rustix::fs::Access::WRITE_OK).is_ok();
            dir.join("cgroup.procs").exists() && writable
        };
        let v2 = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default();
        let hierarchy = if mounted("memory") {
            Hierarchy::V1(V1_CONTROLLERS.into_iter().filter(|c| mounted(c)).collect())
        } else if v2.split_whitespace().any(|c| c == "memory")
            && rustix::fs::access(ROOT, rustix::fs::Access::WRITE_OK).is_ok()
        {
            Hierarchy::V2
        } else {
            Hierarchy::None
        };
        Cgroups { hierarchy, worker: worker.to_string(), engine }
    }

    /// Which hierarchies there are.
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    fn parents(&self) -> Vec<PathBuf> {
        let root = Path::new(ROOT);
        let parent = path_of(&self.worker, self.engine);
        match &self.hierarchy {
            Hierarchy::V1(controllers) => controllers.iter().map(|c| root.join(c).join(&parent)).collect(),
            Hierarchy::V2 => vec![root.join(parent)],
            Hierarchy::None => Vec::new(),
        }
    }

    /// Makes a sandbox's groups and sets their limits; `None` where there is no hierarchy.
    ///
    /// # Errors
    /// Which file could not be written.
    pub fn create(&self, id: &str, limits: Limits) -> io::Result<Option<Group>> {
        let parents = self.parents();
        let Some(first) = parents.first() else { return Ok(None) };
        if self.hierarchy == Hierarchy::V2 && !first.exists() {
            make(first)?;
            let above = first.ancestors().take_while(|at| at.starts_with(ROOT));
            for at in above.collect::<Vec<_>>().into_iter().rev() {
                write(&at.join("cgroup.subtree_control"), "+memory +cpu +pids")?;
            }
        }
        let dirs: Vec<PathBuf> = parents.iter().map(|p| p.join(id)).collect();
        let made = self.fill(&dirs, limits);
        if made.is_err() {
            for dir in &dirs {
                let _ = fs::remove_dir(dir);
            }
        }
        made.map(Some)
    }

    fn fill(&self, dirs: &[PathBuf], limits: Limits) -> io::Result<Group> {
        for dir in dirs {
            make(dir)?;
        }
        let v2 = self.hierarchy == Hierarchy::V2;
        // With v2 all controllers share one directory.
        let dir = |controller: &str| {
            if v2 {
                return dirs.first();
            }
            dirs.iter().find(|d| d.starts_with(Path::new(ROOT).join(controller)))
        };
        const PERIOD_US: u64 = 100_000;
        if let Some(memory) = dir("memory").filter(|_| limits.memory > 0) {
            let file = if v2 { "memory.max" } else { "memory.limit_in_bytes" };
            write(&memory.join(file), &limits.memory.to_string())?;
            // Allow no swap: memory beyond the limit must not go to the disk instead. Version 1 limits both together.
            let (file, most) =
                if v2 { ("memory.swap.max", 0) } else { ("memory.memsw.limit_in_bytes", limits.memory) };
            if memory.join(file).exists() {
                write(&memory.join(file), &most.to_string())?;
            }
        }
        if let Some(cpu) = dir("cpu").filter(|_| limits.cpus > 0) {
            let quota = u64::from(limits.cpus) * PERIOD_US / 1000;
            if v2 {
                write(&cpu.join("cpu.max"), &format!("{quota} {PERIOD_US}"))?;
                write(&cpu.join("cpu.weight"), &weight_of(limits.cpus).to_string())?;
            } else {
                write(&cpu.join("cpu.cfs_quota_us"), &quota.max(1_000).to_string())?;
                write(&cpu.join("cpu.shares"), &shares_of(limits.cpus).to_string())?;
            }
        }
        if let Some(pids) = dir("pids").filter(|_| limits.pids > 0) {
            write(&pids.join("pids.max"), &limits.pids.to_string())?;
        }
        let memory = dir("memory").ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Group { gauge: Gauge::open(memory, v2)?, dirs: dirs.to_vec(), v2 })
    }

    /// The groups of a sandbox that an earlier life of the worker made.
    ///
    /// # Errors
    /// If they are not there.
    pub fn adopt(&self, id: &str) -> io::Result<Option<Group>> {
        let dirs: Vec<PathBuf> = self.parents().iter().map(|p| p.join(id)).collect();
        let Some(first) = dirs.first() else { return Ok(None) };
        let v2 = self.hierarchy == Hierarchy::V2;
        // The first controller is memory's, as in `V1_CONTROLLERS`.
        Ok(Some(Group { gauge: Gauge::open(first, v2)?, dirs, v2 }))
    }

    /// Removes every group of this worker but those of these sandboxes, with what runs in it; their paths.
    ///
    /// # Errors
    /// Which group is still in use.
    pub fn sweep(&self, kept: &[String]) -> io::Result<Vec<String>> {
        let mut removed = Vec::new();
        for parent in self.parents() {
            let Ok(entries) = fs::read_dir(&parent) else { continue };
            for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
                if kept.iter().any(|id| entry.file_name().to_string_lossy() == id.as_str()) {
                    continue;
                }
                kill_all(&entry.path());
                remove_soon(&entry.path())?;
                removed.push(entry.path().display().to_string());
            }
            if kept.is_empty() {
                remove_parent(&parent)?;
            }
        }
        Ok(removed)
    }
}

/// Removes the groups of a worker's engine from every hierarchy, with the empty groups in them: what runtimes leave behind.
///
/// # Errors
/// Which is still in use.
pub fn remove_everywhere(worker: &str, engine: &str) -> io::Result<()> {
    let roots = fs::read_dir(ROOT).into_iter().flatten().flatten().map(|e| e.path());
    let parent = path_of(worker, engine);
    for dir in roots.chain([PathBuf::from(ROOT)]).map(|root| root.join(&parent)).filter(|d| d.is_dir()) {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
            kill_all(&entry.path());
            remove_soon(&entry.path())?;
        }
        remove_parent(&dir)?;
    }
    Ok(())
}

/// A group, with those that it is in.
fn make(dir: &Path) -> io::Result<()> {
    // What it is in may go while it is made, with the last group of another engine or worker.
    fs::create_dir_all(dir).or_else(|_| fs::create_dir_all(dir))
}

/// Removes the empty group of a worker's engine, and those that it is in when nothing else is: the worker's, the slice.
fn remove_parent(dir: &Path) -> io::Result<()> {
    remove_soon(dir)?;
    let above = if Path::new(SYSTEMD).exists() { 1 } else { 2 };
    for dir in dir.ancestors().skip(1).take(above) {
        if fs::remove_dir(dir).is_err() {
            break;
        }
    }
    Ok(())
}

/// Kills what runs in a group.
fn kill_all(dir: &Path) {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in text.lines().filter_map(|l| l.parse().ok()).filter_map(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// A group whose last process just ended is busy for a moment.
fn remove_soon(dir: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Not ours to remove: waiting does not help.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                return Err(e);
            }
            Err(e) if tries >= 200 => {
                return Err(io::Error::new(e.kind(), format!("{}: {e}", dir.display())));
            }
            Err(_) => {
                tries += 1;
                std::thread::sleep(std::time::Duration::from_millis(if tries < 20 { 1 } else { 10 }));
            }
        }
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

impl Group {
    /// Opens the files through which a process of one thread puts itself into the groups by writing a zero.
    ///
    /// With v1 that is `tasks`: a thread that moves itself takes no lock of the whole system, whereas every write to
    /// `cgroup.procs` waits until all processors have been seen outside of it (a grace period of RCU: 5 to 25 ms), unless
    /// the hierarchy is mounted with `favordynmods`. With v2 only threads of one domain may be moved alone.
    ///
    /// # Errors
    /// If one cannot be opened.
    pub fn doors(&self) -> io::Result<Vec<File>> {
        let file = if self.v2 { "cgroup.procs" } else { "tasks" };
        self.dirs.iter().map(|d| fs::OpenOptions::new().write(true).open(d.join(file))).collect()
    }

    /// Its memory.
    pub fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// Kills what is left in the groups and removes them. Blocks for as long as the kernel needs.
    ///
    /// # Errors
    /// Which could not be removed.
    pub fn remove(&self) -> io::Result<()> {
        for dir in &self.dirs {
            if fs::remove_dir(dir).is_err() {
                kill_all(dir);
                remove_soon(dir)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_in_proportion_to_processors() {
        assert_eq!([100, 500, 1000, 2500].map(shares_of), [102, 512, 1024, 2560]);
        assert_eq!([100, 500, 1000, 2500].map(weight_of), [10, 50, 100, 250]);
        // The kernel's bounds.
        assert_eq!([1, u32::MAX].map(shares_of), [2, 262_144]);
        assert_eq!([1, u32::MAX].map(weight_of), [1, 10_000]);
    }
}
