//! Puts the agent into the program where `ELAPSE_AGENT` names it, as `make build` does.

fn main() {
    println!("cargo::rerun-if-env-changed=ELAPSE_AGENT");
    println!("cargo::rustc-check-cfg=cfg(agent_inside)");
    let Some(agent) = std::env::var_os("ELAPSE_AGENT").map(std::path::PathBuf::from) else { return };
    let agent = agent.canonicalize().unwrap_or_else(|e| panic!("ELAPSE_AGENT: {}: {e}", agent.display()));
    println!("cargo::rerun-if-changed={}", agent.display());
    println!("cargo::rustc-env=ELAPSE_AGENT_FILE={}", agent.display());
    println!("cargo::rustc-cfg=agent_inside");
}
