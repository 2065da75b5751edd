//! Our agent, which goes into containers: a file that was named, one beside the program, or the one that is inside it.
//!
//! The one inside is written into the folder of all daemons of this user, to which nobody else can write. It stays there, as what is
//! mounted into containers, and is used again by the next start; `/run` is empty after the host's. Where `/run` lets no program be
//! started it is in `/var/lib/elapse`, or `~/.cache/elapse`.

use elapse_host::engine::{EngineFault, agent_path, run_folder};
use rustix::fs::StatVfsMountFlags;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The agent that is inside this program, where it was built with one.
#[cfg(agent_inside)]
const INSIDE: Option<&[u8]> = Some(include_bytes!(env!("ELAPSE_AGENT_FILE")));
#[cfg(not(agent_inside))]
const INSIDE: Option<&[u8]> = None;

/// The agent's place.
///
/// # Errors
/// Where it was looked for, or why it cannot be written.
pub(crate) fn place(named: Option<&Path>) -> Result<PathBuf, EngineFault> {
    let found = agent_path(named);
    match (INSIDE, named, found) {
        (Some(bytes), None, Err(_)) => {
            let folder = own_folder().map_err(EngineFault::lasting)?;
            unpack(bytes, &folder).map_err(|e| {
                EngineFault::lasting(format!(
                    "cannot put the agent into {}: {e}; let live.agent name one",
                    folder.display()
                ))
            })
        }
        (_, _, found) => found,
    }
}

/// The folder of all daemons of this user; where programs in it cannot be started (`/run` is mounted so by some), one that stays.
fn own_folder() -> Result<PathBuf, String> {
    let folder = run_folder()?;
    if rustix::fs::statvfs(&folder).is_ok_and(|of| !of.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
        return Ok(folder);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let lasting = match (rustix::process::geteuid().is_root(), home) {
        (true, _) => PathBuf::from("/var/lib/elapse"),
        (false, Some(home)) => home.join(".cache/elapse"),
        (false, None) => {
            return Err(format!("no program can be started in {}, and HOME is not set", folder.display()));
        }
    };
    let told = |why: io::Error| format!("{}: {why}", lasting.display());
    DirBuilder::new().recursive(true).mode(0o755).create(&lasting).map_err(told)?;
    match std::fs::symlink_metadata(&lasting) {
        Ok(of) if of.is_dir() && is_ours(&of) => Ok(lasting),
        Ok(_) => Err(told(theirs(&lasting))),
        Err(e) => Err(told(e)),
    }
}

/// Whether something is this user's alone to change.
fn is_ours(of: &Metadata) -> bool {
    of.uid() == rustix::process::geteuid().as_raw() && of.mode() & 0o022 == 0
}

fn theirs(what: &Path) -> io::Error {
    let why = format!("{} belongs to another user, or others may write there", what.display());
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// Writes it into a folder that is this user's alone, unless it is there already.
fn unpack(bytes: &[u8], folder: &Path) -> io::Result<PathBuf> {
    // Named by what it is: programs of two versions have one each.
    let mut hash = elapse::base::Fnv::default();
    hash.add(bytes);
    let name = format!("agent-{:016x}", hash.0);
    let path = folder.join(&name);
    if is_there(&path, bytes)? {
        return Ok(path);
    }
    let beside = folder.join(format!("{name}.{}", std::process::id()));
    let _ = std::fs::remove_file(&beside);
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o755).open(&beside).and_then(|mut file| {
            file.write_all(bytes)?;
            file.set_permissions(Permissions::from_mode(0o755))
        });
    written
        .and_then(|()| std::fs::rename(&beside, &path))
        .inspect_err(|_| drop(std::fs::remove_file(&beside)))?;
    Ok(path)
}

/// Whether the very same file is there, as nobody else can have changed it.
fn is_there(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let of = match std::fs::symlink_metadata(path) {
        Ok(of) => of,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    if !of.is_file() || !is_ours(&of) {
        return Err(theirs(path));
    }
    if of.len() != bytes.len() as u64 || of.mode() & 0o111 == 0 {
        return Ok(false);
    }
    let mut known = Vec::with_capacity(bytes.len());
    File::open(path)?.take(of.len() + 1).read_to_end(&mut known)?;
    Ok(known == bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let at = std::env::temp_dir().join(format!("elapse-agent-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&at);
        std::fs::create_dir(&at).expect("a folder");
        at
    }

    #[test]
    fn it_is_written_once_and_again_where_it_is_another() {
        let at = folder("once");
        let path = unpack(b"agent", &at).expect("written");
        let mode = std::fs::metadata(&path).expect("it is there").mode() & 0o777;
        assert_eq!((std::fs::read(&path).expect("read"), mode), (b"agent".to_vec(), 0o755));
        let written = std::fs::metadata(&path).expect("it is there").ino();
        assert_eq!(unpack(b"agent", &at).expect("there"), path);
        assert_eq!(std::fs::metadata(&path).expect("it is there").ino(), written);
        std::fs::write(&path, b"other").expect("changed");
        unpack(b"agent", &at).expect("written again");
        assert_eq!(std::fs::read(&path).expect("read"), b"agent");
        assert_ne!(unpack(b"next", &at).expect("written"), path);
        assert_eq!(std::fs::read_dir(&at).expect("a folder").count(), 2);
        std::fs::remove_dir_all(&at).expect("removed");
    }

    #[test]
    fn what_others_could_have_put_there_is_not_used() {
        let at = folder("others");
        let path = unpack(b"agent", &at).expect("written");
        std::fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink("/bin/true", &path).expect("a link");
        assert!(unpack(b"agent", &at).expect_err("a link").to_string().contains("others may write"));
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, "agent").expect("a file");
        std::fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("a mode");
        assert!(unpack(b"agent", &at).is_err());
        std::fs::remove_dir_all(&at).expect("removed");
    }
}
