//! What a worker's containers are on the host, counted by kind: each kind has as many as the worker has containers. And what of a
//! stranger's is there beside them.

use elapse_host::cgroup::path_of;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

fn folders(path: &Path) -> Option<usize> {
    let entries = std::fs::read_dir(path).ok()?.flatten();
    Some(entries.filter(|e| e.path().is_dir() && e.file_name() != "root").count())
}

fn lines(program: &str, args: &[&str], counts: impl Fn(&str) -> bool) -> usize {
    let output = Command::new(program).args(args).output().expect("it is started");
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| counts(line)).count()
}

/// Counts by kind. `socket` is that of the backend's daemon.
pub fn census(worker: &str, backend: &str, socket: Option<&Path>) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    let mut add = |kind: &str, n: Option<usize>| {
        if let Some(n) = n {
            all.insert(kind.to_string(), n);
        }
    };
    add("directories", folders(&Path::new("/run/elapse").join(worker).join(backend)));
    let base = Path::new("/sys/fs/cgroup");
    add("cgroups", folders(&base.join(path_of(worker, backend))));
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let controller = format!("cgroups of {}", entry.file_name().to_string_lossy());
        // Two names of one hierarchy are links to it.
        if !entry.path().is_symlink() && entry.file_name() != "elapse.slice" {
            add(&controller, folders(&entry.path().join(path_of(worker, backend))));
        }
    }
    let at = socket.map(|socket| socket.display().to_string()).unwrap_or_default();
    let space = format!("elapse-{worker}");
    let ctr = |args: &[&str], counts: &dyn Fn(&str) -> bool| {
        Some(lines("ctr", &[&["-a", &at, "-n", &space][..], args].concat(), counts))
    };
    match backend {
        "containerd" => {
            add("containers", ctr(&["containers", "ls", "-q"], &|_| true));
            add("tasks", ctr(&["tasks", "ls", "-q"], &|_| true));
            // Beside the layers of images, and below a line of headings.
            let snapshot = |line: &str| !line.starts_with("sha256:") && !line.starts_with("KEY");
            add("snapshots", ctr(&["snapshots", "ls"], &snapshot));
            let lease = |line: &str| line.starts_with("elapse-import-");
            let held = ctr(&["leases", "ls", "-q"], &lease);
            assert_eq!(held, Some(0), "a lease of a life that has ended");
        }
        "docker" => {
            let label = format!("label=elapse.worker={worker}");
            let args = ["-H", &format!("unix://{at}"), "ps", "-aq", "--filter", &label];
            add("containers", Some(lines("docker", &args, |_| true)));
        }
        _ => {}
    }
    all
}

/// A container of somebody else's on the same daemon, gone with this.
pub struct Stranger {
    backend: &'static str,
    at: String,
    name: String,
}

impl Stranger {
    /// None on a backend that is no daemon's.
    pub fn on(backend: &str, socket: Option<&Path>, folder: &Path) -> Option<Stranger> {
        let at = socket?.display().to_string();
        let name = format!("stranger{}", std::process::id());
        let root = folder.join("stranger");
        std::fs::create_dir_all(&root).expect("a folder");
        let text = |path: &Path| path.display().to_string();
        if backend == "containerd" {
            let stranger = Stranger { backend: "containerd", at, name };
            stranger.does(&["containers", "create", "--rootfs", &text(&root), &stranger.name, "/bin/true"]);
            return Some(stranger);
        }
        let stranger = Stranger { backend: "docker", at, name };
        let tar = text(&folder.join("stranger.tar"));
        lines("tar", &["-C", &text(&root), "-cf", &tar, "."], |_| true);
        stranger.does(&["import", &tar, &stranger.name]);
        stranger.does(&["create", "--name", &stranger.name, &stranger.name, "/bin/true"]);
        Some(stranger)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(if self.backend == "containerd" { "ctr" } else { "docker" });
        match self.backend {
            "containerd" => command.args(["-a", &self.at, "-n", &self.name]),
            _ => command.args(["-H", &format!("unix://{}", self.at)]),
        };
        command.args(args);
        command
    }

    fn does(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("it is started");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether nobody has touched it.
    pub fn is_there(&self) -> bool {
        match self.backend {
            "containerd" => self.does(&["containers", "ls", "-q"]).trim() == self.name,
            _ => {
                let named = format!("name={}", self.name);
                self.does(&["ps", "-a", "--filter", &named, "--format", "{{.State}}"]).trim() == "created"
            }
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let ends: [&[&str]; 2] = match self.backend {
            "containerd" => [&["containers", "rm", &self.name], &["namespaces", "rm", &self.name]],
            _ => [&["rm", &self.name], &["rmi", &self.name]],
        };
        for end in ends {
            let _ = self.command(end).output();
        }
    }
}
