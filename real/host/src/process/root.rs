//! The root of a sandbox: parts of the host's, read-only, and what is its own. It is described before the process is made and
//! built by the process itself, with system calls alone.

use super::measures::Measures;
use crate::beneath::Folder;
use crate::host::{FIXED, HIDDEN};
use crate::image::CODE_INSIDE;
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// A root of its own, made of parts of the host's.
#[derive(Debug)]
pub struct Root {
    /// An empty directory of the host on which it is built; mounts on it are seen by the child alone.
    at: CString,
    /// Directories and links to make: path, and what a link points to.
    entries: Vec<(CString, Option<CString>)>,
    /// Empty files to make, onto which files are bound.
    files: Vec<CString>,
    /// What is bound where, read-only.
    binds: Vec<(CString, CString)>,
    /// A tree that is mounted where, read-only.
    tree: Option<(OwnedFd, CString)>,
    proc: CString,
    /// The null device, which stands before what is hidden.
    null: CString,
    /// Parts of /proc that are hidden, and those that cannot be written to.
    hidden: Vec<CString>,
    fixed: Vec<CString>,
    /// Device nodes: path, the host's own, and its minor number; all are of major 1.
    devices: Vec<(CString, CString, u64)>,
    /// Files in which the kernel is told who is who, and what.
    pub(super) maps: Vec<(&'static CStr, CString)>,
    pub(super) owner: Owner,
}

/// Whose a sandbox is on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Root gives it a user of its own.
    Root,
    /// It is this user and group, in a user namespace that knows no other.
    User(u32, u32),
}

impl Owner {
    /// Who we are, where that is not root.
    pub fn here() -> Owner {
        Owner::User(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    }

    /// What the kernel is to be told of the users and groups in its user namespace.
    fn maps(self) -> io::Result<Vec<(&'static CStr, CString)>> {
        let Owner::User(user, group) = self else { return Ok(Vec::new()) };
        Ok(vec![
            (c"/proc/self/setgroups", text("deny")?),
            (c"/proc/self/uid_map", text(format!("{user} {user} 1"))?),
            (c"/proc/self/gid_map", text(format!("{group} {group} 1"))?),
        ])
    }
}

/// The code of a function.
pub enum Code<'a> {
    /// What is at a path.
    Path(&'a Path),
    /// What was opened, whatever is at its path.
    Opened(&'a Folder),
}

/// Parts of the host's root that a sandbox sees, read-only.
const SHARED: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib64", "lib32", "etc"];
const MAJOR: u64 = 1;
const DEVICES: [(&str, u64); 4] = [("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)];

fn text(path: impl AsRef<Path>) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_ref().as_os_str().as_bytes()).map_err(io::Error::from)
}

impl Root {
    /// The root of a sandbox: the host's programs and libraries, the agent, and `code` at /code.
    ///
    /// # Errors
    /// If the host's root cannot be read.
    pub fn new(at: &Path, agent: &Path, code: Option<Code<'_>>, owner: Owner) -> io::Result<Root> {
        let mut root = Root {
            at: text(at)?,
            entries: Vec::new(),
            files: vec![text(at.join("elapse-agent"))?],
            binds: vec![(text(agent)?, text(at.join("elapse-agent"))?)],
            proc: text(at.join("proc"))?,
            null: text(at.join("dev/null"))?,
            hidden: HIDDEN.iter().map(|name| text(at.join("proc").join(name))).collect::<io::Result<_>>()?,
            fixed: FIXED.iter().map(|name| text(at.join("proc").join(name))).collect::<io::Result<_>>()?,
            tree: None,
            devices: Vec::new(),
            maps: owner.maps()?,
            owner,
        };
        for name in SHARED {
            let host = Path::new("/").join(name);
            let inside = text(at.join(name))?;
            match std::fs::symlink_metadata(&host) {
                Ok(meta) if meta.is_symlink() => {
                    root.entries.push((inside, Some(text(std::fs::read_link(&host)?)?)));
                }
                Ok(meta) if meta.is_dir() => {
                    root.entries.push((inside.clone(), None));
                    root.binds.push((text(&host)?, inside));
                }
                _ => {}
            }
        }
        for dir in ["proc", "dev", "tmp", "run"] {
            root.entries.push((text(at.join(dir))?, None));
        }
        if let Some(code) = code {
            let inside = text(at.join(CODE_INSIDE.trim_start_matches('/')))?;
            root.entries.push((inside.clone(), None));
            match code {
                Code::Path(path) => root.binds.push((text(path)?, inside)),
                Code::Opened(folder) => {
                    let flags = OpenTreeFlags::OPEN_TREE_CLONE
                        | OpenTreeFlags::OPEN_TREE_CLOEXEC
                        | OpenTreeFlags::AT_RECURSIVE;
                    let tree = open_tree(CWD, folder.path(), flags)?;
                    root.tree = Some((tree, inside));
                }
            }
        }
        for (name, minor) in DEVICES {
            root.devices.push((text(at.join("dev").join(name))?, text(Path::new("/dev").join(name))?, minor));
        }
        Ok(root)
    }
}

/// Builds the new root and goes into it. Every mount is private to the child and ends with it.
pub(super) unsafe fn build_root(root: &Root, measures: Measures) -> Result<(), &'static str> {
    let none = std::ptr::null::<c_char>();
    // SAFETY: only system calls on strings that the parent keeps.
    unsafe {
        let mount =
            |from: *const c_char, to: &CStr, kind: *const c_char, flags: libc::c_ulong, data: &CStr| {
                libc::mount(from, to.as_ptr(), kind, flags, data.as_ptr().cast()) == 0
            };
        if !mount(none, c"/", none, libc::MS_REC | libc::MS_PRIVATE, c"") {
            return Err("making mounts private");
        }
        if !mount(c"elapse".as_ptr(), &root.at, c"tmpfs".as_ptr(), libc::MS_NOSUID, c"mode=755,size=256m") {
            return Err("mounting the root");
        }
        for (path, link) in &root.entries {
            let made = match link {
                Some(to) => libc::symlink(to.as_ptr(), path.as_ptr()),
                None => libc::mkdir(path.as_ptr(), 0o755),
            };
            if made != 0 {
                return Err("making a directory");
            }
        }
        for path in &root.files {
            if !make_file(path) {
                return Err("making a file");
            }
        }
        for (from, to) in &root.binds {
            if !mount(from.as_ptr(), to, none, libc::MS_BIND | libc::MS_REC, c"") {
                return Err("binding a directory");
            }
            if !(read_only(to) || !measures.read_only_mounts && read_only_alone(to)) {
                return Err("making what is bound read-only (mount_setattr, Linux 5.12)");
            }
        }
        if let Some((tree, to)) = &root.tree {
            const EMPTY_PATH: libc::c_uint = 4;
            let (from, nothing) = (tree.as_raw_fd(), c"".as_ptr());
            let to_here = libc::AT_FDCWD;
            if libc::syscall(libc::SYS_move_mount, from, nothing, to_here, to.as_ptr(), EMPTY_PATH) != 0 {
                return Err("mounting its code (move_mount, Linux 5.2)");
            }
            if !(read_only(to) || !measures.read_only_mounts && read_only_alone(to)) {
                return Err("making its code read-only");
            }
        }
        for (path, hosts, minor) in &root.devices {
            let device = (MAJOR << 8) | minor;
            let made = match root.owner {
                Owner::Root => {
                    libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o666, device) == 0
                        && libc::chmod(path.as_ptr(), 0o666) == 0
                }
                // Who is root in a user namespace alone makes no devices.
                Owner::User(..) => make_file(path) && mount(hosts.as_ptr(), path, none, libc::MS_BIND, c""),
            };
            if !made {
                return Err("making a device");
            }
        }
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        if !mount(c"proc".as_ptr(), &root.proc, c"proc".as_ptr(), flags, c"") {
            return Err("mounting /proc");
        }
        // What this kernel does not have is not there to be hidden.
        let absent = || *libc::__errno_location() == libc::ENOENT;
        for path in &root.hidden {
            let null = root.null.as_ptr();
            let hidden = mount(null, path, none, libc::MS_BIND, c"")
                || absent()
                || (*libc::__errno_location() == libc::ENOTDIR
                    && mount(
                        c"elapse".as_ptr(),
                        path,
                        c"tmpfs".as_ptr(),
                        flags | libc::MS_RDONLY,
                        c"size=0",
                    ));
            if !hidden {
                return Err("hiding a part of /proc");
            }
        }
        for path in &root.fixed {
            let bound = mount(path.as_ptr(), path, none, libc::MS_BIND | libc::MS_REC, c"");
            let fixed = bound && (read_only(path) || !measures.read_only_mounts && read_only_alone(path));
            if !fixed && !absent() {
                return Err("making a part of /proc read-only");
            }
        }
        if libc::chdir(root.at.as_ptr()) != 0
            || libc::chmod(c"tmp".as_ptr(), 0o1777) != 0
            || libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) != 0
            || libc::umount2(c".".as_ptr(), libc::MNT_DETACH) != 0
            || libc::chdir(c"/".as_ptr()) != 0
        {
            return Err("entering the root");
        }
    }
    Ok(())
}

/// Makes an empty file.
unsafe fn make_file(path: &CStr) -> bool {
    // SAFETY: the path is terminated, and the descriptor is closed again.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC, 0o555);
        fd >= 0 && libc::close(fd) == 0
    }
}

/// Writes into a file of the kernel's.
pub(super) unsafe fn write_into(path: &CStr, what: &CStr) -> bool {
    let bytes = what.to_bytes();
    // SAFETY: the path is terminated, there are so many bytes, and the descriptor is closed again.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        let written = fd >= 0 && libc::write(fd, bytes.as_ptr().cast(), bytes.len()) == bytes.len() as isize;
        if fd >= 0 {
            libc::close(fd);
        }
        written
    }
}

/// Makes what is mounted at a path read-only, as far as kernels before Linux 5.12 can: not what is mounted below it.
unsafe fn read_only_alone(at: &CStr) -> bool {
    let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV;
    // SAFETY: a terminated path, and null where nothing is read.
    unsafe { libc::mount(std::ptr::null(), at.as_ptr(), std::ptr::null(), flags, std::ptr::null()) == 0 }
}

/// Makes what is mounted at a path, and everything below that, read-only and without set-user-id programs and devices.
unsafe fn read_only(at: &CStr) -> bool {
    const ATTRIBUTES: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let attr = libc::mount_attr { attr_set: ATTRIBUTES, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is terminated, and the kernel reads as many bytes as the structure has.
    unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            at.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        ) == 0
    }
}
