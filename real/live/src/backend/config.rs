//! What of `[live]` only the host's side can read (users, networks, measures of sandboxes), and the runtime of what is live.

use elapse::backend::LiveConfig;
use elapse::base::{Fault, Result, nearest};
use elapse::rt;
use elapse_host::net::Subnet;
use elapse_host::{process, uids};
use std::ops::RangeInclusive;

/// A live runtime.
///
/// # Errors
/// What this host does not give.
pub fn runtime() -> Result<rt::Live> {
    rt::Live::new().map_err(|why| Fault::host(why.to_string()))
}

/// What cannot be meant.
///
/// # Errors
/// One sentence.
pub fn check(config: &LiveConfig) -> std::result::Result<(), String> {
    config.check()?;
    let known = process::names();
    if let Some(name) = config.weaker.iter().find(|name| !known.contains(&name.as_str())) {
        let hint = nearest(name, known).map_or(String::new(), |near| format!("; did you mean '{near}'?"));
        return Err(format!("weaker: there is no measure '{name}'{hint} (known: {})", known.join(", ")));
    }
    users(config)?;
    config.subnet.parse::<Subnet>().map(drop)
}

/// The users of sandboxes.
///
/// # Errors
/// If there are too few, or they cannot be meant.
pub(crate) fn users(config: &LiveConfig) -> std::result::Result<RangeInclusive<u32>, String> {
    uids::range(&config.uids).map_err(|why| format!("uids: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use elapse_host::engine::IMAGE_SIZE;

    #[test]
    fn what_is_not_said_is_what_the_host_has_without_it() {
        let usual = LiveConfig::default();
        assert_eq!(check(&usual), Ok(()));
        assert_eq!(users(&usual), Ok(uids::DEFAULT));
        assert_eq!(usual.subnet, Subnet::default().to_string());
        assert_eq!(usual.image_size.0, IMAGE_SIZE);
    }
}
