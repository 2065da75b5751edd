//! Whom an image's processes run as: its `USER`, which may be a name that only its own `/etc` knows.

use super::import::wrong;
use super::unpack::remove_snapshot;
use super::{Link, SNAPSHOTTER, fault};
use crate::beneath::text_beneath;
use crate::engine::EngineFault;
use containerd_client::services::v1::snapshots::ViewSnapshotRequest;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// User and group by number, of what an image says: names, or a user alone, are looked up in the image.
pub(super) async fn numbers(
    link: &Link,
    name: &str,
    chain: &str,
    says: &str,
) -> Result<(u32, u32), EngineFault> {
    let (user, group) = says.split_once(':').map_or((says, None), |(user, group)| (user, Some(group)));
    if let (Ok(user), Some(Ok(group))) = (user.parse(), group.map(str::parse)) {
        return Ok((user, group));
    }
    let lower = folders(link, chain).await?;
    let (passwd, groups) = crate::blocking(move || (text_in(&lower, "passwd"), text_in(&lower, "group")))
        .await
        .map_err(EngineFault::lasting)?;
    let fields = |line: &str| -> Vec<String> { line.split(':').map(str::to_string).collect() };
    let passwd: Vec<Vec<String>> = passwd.lines().map(fields).collect();
    let number = |row: &[String], place: usize| row.get(place).and_then(|n| n.parse::<u32>().ok());
    let by_number = |row: &[String]| user.parse::<u32>().is_ok_and(|uid| number(row, 2) == Some(uid));
    let row = passwd.iter().find(|row| row.first().is_some_and(|n| n == user) || by_number(row));
    let missing = |what: &str, which: &str| {
        wrong(name, format!("it wants {what} '{which}', whom its /etc does not know"))
    };
    let uid = user.parse().ok().or_else(|| number(row?, 2)).ok_or_else(|| missing("user", user))?;
    let gid = match group {
        // As docker does: that of the user, or root's.
        None => row.and_then(|row| number(row, 3)).unwrap_or(0),
        Some(group) => match group.parse() {
            Ok(gid) => gid,
            Err(_) => {
                let groups: Vec<Vec<String>> = groups.lines().map(fields).collect();
                let row = groups.iter().find(|row| row.first().is_some_and(|n| n == group));
                row.and_then(|row| number(row, 2)).ok_or_else(|| missing("group", group))?
            }
        },
    };
    Ok((uid, gid))
}

/// The folders on this host that hold the layers of a snapshot, the topmost first.
async fn folders(link: &Link, chain: &str) -> Result<Vec<PathBuf>, EngineFault> {
    // Two images may lie on the same layers; the lease is this one's own.
    let key = format!("look-{}-{chain}", link.lease.as_deref().unwrap_or_default());
    let request = ViewSnapshotRequest {
        snapshotter: SNAPSHOTTER.into(),
        key: key.clone(),
        parent: chain.to_string(),
        labels: HashMap::new(),
    };
    let viewed = link.client.snapshots().view(link.request(request)).await;
    let mounts = viewed.map_err(|e| fault("cannot look into an image", &e))?.into_inner().mounts;
    remove_snapshot(link, &key).await?;
    let mut all = Vec::new();
    for mount in mounts {
        let lower = mount.options.iter().find_map(|o| o.strip_prefix("lowerdir="));
        match lower {
            Some(lower) => all.extend(lower.split(':').map(PathBuf::from)),
            None => all.push(PathBuf::from(mount.source)),
        }
    }
    Ok(all)
}

/// Bytes of a list of users that are read.
const LONGEST: u64 = 1 << 20;

/// A file of `/etc` in the topmost layer that has one; what an image has there instead, a link, a pipe or a device, is not opened.
fn text_in(layers: &[PathBuf], file: &str) -> String {
    let path = Path::new("etc").join(file);
    let found = layers.iter().find(|layer| std::fs::symlink_metadata(layer.join(&path)).is_ok());
    found.and_then(|layer| text_beneath(layer, &path, LONGEST).ok()).unwrap_or_default()
}
