//! What this program is: its version, the commit it was built from, and what was built in.

use std::sync::LazyLock;

/// The commit, where the build knows it (`ELAPSE_COMMIT`).
pub fn commit() -> Option<&'static str> {
    option_env!("ELAPSE_COMMIT").filter(|commit| !commit.is_empty())
}

/// The features that were built in, by name.
pub fn features() -> Vec<&'static str> {
    let all = [
        ("live", cfg!(feature = "live")),
        ("containerd", cfg!(feature = "containerd")),
        ("daemon", cfg!(feature = "daemon")),
        ("png", cfg!(feature = "png")),
        ("compressed", cfg!(feature = "compressed")),
        ("terminal", cfg!(feature = "terminal")),
        ("allocator", cfg!(feature = "allocator")),
    ];
    all.into_iter().filter(|(_, built)| *built).map(|(name, _)| name).collect()
}

/// What `--version` says behind the name: `0.1.0 (commit 0123abc; simulation, live, daemon)`.
pub fn version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let commit = commit().map(|commit| format!("commit {commit}; "));
        let built: Vec<&str> = std::iter::once("simulation").chain(features()).collect();
        format!("{} ({}{})", env!("CARGO_PKG_VERSION"), commit.unwrap_or_default(), built.join(", "))
    });
    &TEXT
}
