//! What who has the role `register` may have registered: images of some registries, folders below some roots, the host's network,
//! devices. The daemon's own configuration, and who may do everything, are not bound by it.

use elapse::base::{Compute, Network};
use elapse::load::FunctionConfig;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

/// `[register]` of a worker: see the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Allowed {
    /// Registries whose images may run, by host and, where it has one, port.
    pub registries: Vec<String>,
    /// Folders below which a function's code may lie; none by default.
    pub code_roots: Vec<PathBuf>,
    /// Whether a function may have the host's network.
    pub host_network: bool,
    /// Whether a function may have a device of the host's: a GPU.
    pub devices: bool,
}

impl Default for Allowed {
    fn default() -> Allowed {
        let registries = ["docker.io", "ghcr.io", "quay.io"].map(str::to_string).to_vec();
        Allowed { registries, code_roots: Vec::new(), host_network: false, devices: false }
    }
}

/// Folders of the system's own, which no function has as its code, nor what is above or below them.
const NEVER: [&str; 7] = ["/etc", "/proc", "/sys", "/dev", "/root", "/run", "/boot"];

impl Allowed {
    /// What cannot be meant.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.code_roots.iter().find(|root| !root.is_absolute() || normal(root).is_none()) {
            Some(root) => Err(format!("code_roots: {} is no absolute path without '..'", root.display())),
            None => self.code_roots.iter().try_for_each(|root| not_the_systems(root, &[])),
        }
    }

    /// The root that a function's code lies below, if it lies below one: it is not to lead out of it, whoever registered it.
    pub(super) fn root_of(&self, code: &Path) -> Option<&PathBuf> {
        let code = normal(code)?;
        self.code_roots.iter().find(|root| code.starts_with(root))
    }

    /// Why a function may not be registered with that role, if it may not. `own` are folders of the worker's.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn admits(&self, function: &FunctionConfig, own: &[PathBuf]) -> Result<(), String> {
        let refuse = |why: String| Err(format!("function '{}': {why}", function.name));
        if let Some(image) = &function.image {
            if Path::new(image).extension().is_some_and(|e| e == "tar") {
                return refuse(format!(
                    "image {image} is a file of the host, which the role 'register' does not reach; push it to a registry"
                ));
            }
            if is_an_id(image) {
                return refuse(format!("image {image} may be read as an image's id; name it with its tag"));
            }
            let registry = registry_of(image);
            if !self.registries.iter().any(|known| known == registry) {
                return refuse(format!(
                    "images of {registry} may not be registered (there are {}); see register.registries",
                    self.registries.join(", ")
                ));
            }
        }
        if let Some(code) = &function.code {
            if self.root_of(code).is_none() {
                return refuse(format!("code {} lies below none of register.code_roots", code.display()));
            }
            not_the_systems(code, own).or_else(&refuse)?;
        }
        if function.network == Some(Network::Host) && !self.host_network {
            return refuse("network = \"host\" may not be registered; see register.host_network".into());
        }
        if function.compute == Compute::Gpu && !self.devices {
            return refuse("a GPU may not be registered; see register.devices".into());
        }
        Ok(())
    }
}

/// A path as it is written, if it is absolute and goes nowhere but down.
fn normal(path: &Path) -> Option<&Path> {
    let down = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    (path.is_absolute() && down).then_some(path)
}

/// Refuses what is above, in or below a folder of the system's or the worker's own.
fn not_the_systems(code: &Path, own: &[PathBuf]) -> Result<(), String> {
    let near = |folder: &Path| code.starts_with(folder) || folder.starts_with(code);
    let mut all = NEVER.iter().map(Path::new).chain(own.iter().map(PathBuf::as_path));
    match all.find(|folder| near(folder)) {
        Some(folder) => Err(format!(
            "code {} has to do with {}, which functions never see",
            code.display(),
            folder.display()
        )),
        None => Ok(()),
    }
}

/// Whether docker would look for an image with this id, or one that begins so, before it looks for a name.
fn is_an_id(image: &str) -> bool {
    image.bytes().all(|b| b.is_ascii_hexdigit()) || image.starts_with("sha256:")
}

/// The registry that an image comes from, as docker reads its name: what is before the first `/`, if it looks like a host.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _))
            if host.contains(['.', ':']) || host == "localhost" || host.to_lowercase() != host =>
        {
            host
        }
        _ => "docker.io",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(change: impl FnOnce(&mut FunctionConfig)) -> FunctionConfig {
        let mut function: FunctionConfig =
            toml::from_str("name = \"f\"\nmemory = \"64MiB\"\nduration = \"1ms\"").expect("a function");
        change(&mut function);
        function
    }

    #[test]
    fn what_reaches_into_the_host_is_refused_unless_it_is_allowed() {
        let none = Allowed::default();
        let some = Allowed {
            code_roots: vec!["/srv/code".into()],
            host_network: true,
            devices: true,
            ..none.clone()
        };
        let own = [PathBuf::from("/srv/code/state")];
        let image = |name: &str| function(|f| f.image = Some(name.into()));
        let code = |path: &str| function(|f| f.code = Some(path.into()));
        for (function, by_default, widened) in [
            (function(|_| {}), None, None),
            (image("alpine:3"), None, None),
            (image("ghcr.io/a/b"), None, None),
            (image("evil.example/a"), Some("images of evil.example"), Some("images of evil.example")),
            (image("INTRANET/app"), Some("images of INTRANET"), Some("images of INTRANET")),
            (image("3f2a"), Some("an image's id"), Some("an image's id")),
            (image("sha256:3f2a"), Some("an image's id"), Some("an image's id")),
            (image("cafe:1"), None, None),
            (image("localhost:5000/a"), Some("images of localhost:5000"), Some("images of localhost:5000")),
            (image("/root/image.tar"), Some("a file of the host"), Some("a file of the host")),
            (code("/srv/code/app"), Some("below none"), None),
            (code("/srv/code/../../etc"), Some("below none"), Some("below none")),
            (code("/"), Some("below none"), Some("below none")),
            (code("/srv/code/state/x"), Some("below none"), Some("has to do with /srv/code/state")),
            (code("/srv/code"), Some("below none"), Some("has to do with /srv/code/state")),
            (function(|f| f.network = Some(Network::Host)), Some("network = \"host\""), None),
            (function(|f| f.compute = Compute::Gpu), Some("a GPU"), None),
        ] {
            for (allowed, expected) in [(&none, by_default), (&some, widened)] {
                let said = allowed.admits(&function, &own);
                match expected {
                    None => assert_eq!(said, Ok(()), "{function:?}"),
                    Some(part) => assert!(said.as_ref().is_err_and(|why| why.contains(part)), "{said:?}"),
                }
            }
        }
        for root in ["relative", "/", "/etc/code", "/srv/../etc"] {
            assert!(Allowed { code_roots: vec![root.into()], ..none.clone() }.check().is_err(), "{root}");
        }
        assert!(some.check().is_ok());
    }
}
