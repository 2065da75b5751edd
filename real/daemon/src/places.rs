//! Where daemons have their sockets when nothing else is said, and where commands look for them: `NAME/api.sock` in the folder of
//! all daemons of a user, /run/elapse as root.

use elapse::base::{Fault, Result};
use elapse_host::engine::{run_folder, run_folders};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::PathBuf;

const SOCKET: &str = "api.sock";
/// The file of a token that was made because none was named.
pub(super) const TOKEN: &str = "token";

/// The folder of a daemon of this name, made if it is not there. Others may pass through it and not write.
///
/// # Errors
/// If it cannot be made.
pub(super) fn folder_of(name: &str) -> Result<PathBuf> {
    let folder = run_folder().map_err(Fault::host)?.join(name);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder);
    made.map_err(|e| Fault::writing(&folder, &e))?;
    Ok(folder)
}

/// The socket of a daemon of this name; its folder is made if it is not there.
///
/// # Errors
/// If it cannot be.
pub(super) fn made_for(name: &str) -> Result<PathBuf> {
    Ok(folder_of(name)?.join(SOCKET))
}

/// What a daemon has in the folder of all daemons for as long as it lives: its folder, and a token that was made for this life.
pub(super) struct Own(PathBuf);

impl Own {
    /// That of a daemon of this name, which nobody else has.
    pub(super) fn of(name: &str) -> Option<Own> {
        run_folder().ok().map(|all| Own(all.join(name)))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0.join(TOKEN));
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// The address of the only daemon there is, of root's and this user's own.
///
/// # Errors
/// If there is none, or more than one: which.
pub(super) fn only_one() -> Result<String> {
    let ours = rustix::process::geteuid().as_raw();
    let folders = run_folders().into_iter().filter_map(|folder| std::fs::read_dir(folder).ok());
    let sockets = folders.flatten().flatten().map(|daemon| daemon.path().join(SOCKET));
    // Where anybody may make a folder, what another user put there is not what is looked for; below /run nobody may.
    let is_one = |path: &PathBuf| {
        std::fs::symlink_metadata(path).is_ok_and(|m| {
            m.file_type().is_socket() && (path.starts_with("/run") || [0, ours].contains(&m.uid()))
        })
    };
    let mut found: Vec<String> =
        sockets.filter(is_one).map(|path| format!("unix:{}", path.display())).collect();
    found.sort();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Fault::usage(
            "no daemon has a socket in the folder of all daemons; start one (elapse worker CONFIG), or name its address with --at",
        )),
        several => Err(Fault::usage(format!(
            "there are several daemons; name one of them: --at {}",
            several.join(", --at ")
        ))),
    }
}
