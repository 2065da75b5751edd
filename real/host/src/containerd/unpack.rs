//! Layers of images become snapshots, one on top of the other, and no more of the disk than an image may have.

use super::import::{Unpacked, chains, diffs, wrong};
use super::{Link, SNAPSHOTTER, fault, unless_gone, user};
use crate::engine::EngineFault;
use containerd_client::services::v1::ApplyRequest;
use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, ListSnapshotsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
    StatSnapshotRequest, UsageRequest,
};
use containerd_client::tonic::{Code, Response, Status};
use containerd_client::types::Descriptor;
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;

/// Unpacks an image's layers, those that are not yet, into snapshots; with `keep` nothing but us refers to them.
pub(super) async fn unpack(
    link: &Link,
    name: &str,
    config: &Value,
    layers: &[Descriptor],
    keep: bool,
) -> Result<Unpacked, EngineFault> {
    let (diffs, chains) = (diffs(config, name)?, chains(config, name)?);
    if chains.len() != layers.len() {
        return Err(wrong(name, "its layers and its configuration do not agree"));
    }
    let (mut parent, mut used) = (String::new(), 0);
    for (place, (layer, chain)) in layers.iter().zip(&chains).enumerate() {
        let stat = StatSnapshotRequest { snapshotter: SNAPSHOTTER.into(), key: chain.clone() };
        if link.client.snapshots().stat(link.request(stat)).await.is_err() {
            let diff = diffs.get(place).map_or("", String::as_str);
            unpack_layer(link, name, (layer, diff), (&parent, chain), used, keep).await?;
        }
        used += size_of(link, chain).await;
        parent.clone_from(chain);
    }
    let inside = &config["config"];
    let words = |key: &str| -> Vec<String> {
        inside[key].as_array().into_iter().flatten().filter_map(|w| w.as_str().map(str::to_string)).collect()
    };
    let user = inside["User"].as_str().unwrap_or_default();
    let user = if user.is_empty() { (0, 0) } else { user::numbers(link, name, &parent, user).await? };
    Ok(Unpacked {
        name: name.to_string(),
        chain: parent,
        env: words("Env"),
        command: words("Entrypoint").into_iter().chain(words("Cmd")).collect(),
        cwd: inside["WorkingDir"].as_str().filter(|d| !d.is_empty()).unwrap_or("/").to_string(),
        user,
    })
}

/// Asks the daemon how much of the disk a snapshot takes; of a file it is a block at least, so that there are not endlessly many empty
/// ones.
async fn size_of(link: &Link, key: &str) -> u64 {
    const BLOCK: u64 = 4 << 10;
    let request = UsageRequest { snapshotter: SNAPSHOTTER.into(), key: key.to_string() };
    let told = link.client.snapshots().usage(link.request(request)).await;
    let told = told.map(Response::into_inner).unwrap_or_default();
    let of = |told: i64| u64::try_from(told).unwrap_or(0);
    of(told.size).max(of(told.inodes).saturating_mul(BLOCK))
}

/// Between two looks at what a layer has taken of the disk.
const LOOK: Duration = Duration::from_millis(500);

/// Unpacks a layer onto its parent, beside which so many bytes are in use already.
async fn unpack_layer(
    link: &Link,
    name: &str,
    (layer, diff): (&Descriptor, &str),
    (parent, chain): (&str, &str),
    used: u64,
    keep: bool,
) -> Result<(), EngineFault> {
    let key = format!("unpack-{chain}");
    let root = || HashMap::from([("containerd.io/gc.root".to_string(), "elapse".to_string())]);
    let labels = if keep { root() } else { HashMap::new() };
    let prepare = PrepareSnapshotRequest {
        snapshotter: SNAPSHOTTER.into(),
        key: key.clone(),
        parent: parent.to_string(),
        labels: labels.clone(),
    };
    let prepared = link.client.snapshots().prepare(link.request(prepare)).await;
    let mounts = prepared.map_err(|e| fault("cannot prepare a layer", &e))?.into_inner().mounts;
    let apply = ApplyRequest { diff: Some(layer.clone()), mounts, ..ApplyRequest::default() };
    let left = link.image_size.saturating_sub(used);
    let mut diff_service = link.client.diff();
    let mut applying = std::pin::pin!(diff_service.apply(link.request(apply)));
    // What a layer unpacks to is in no manifest: it is looked at while it grows.
    let outcome = loop {
        match tokio::time::timeout(LOOK, applying.as_mut()).await {
            Ok(outcome) => break (size_of(link, &key).await <= left).then_some(outcome),
            Err(_) if size_of(link, &key).await > left => break None,
            Err(_) => {}
        }
    };
    let Some(outcome) = outcome else {
        let _ = remove_snapshot(link, &key).await;
        return Err(wrong(
            name,
            format!(
                "unpacked it is larger than {} bytes; live.image_size would have to be more",
                link.image_size
            ),
        ));
    };
    let applied = async {
        let applied = outcome?.into_inner().applied;
        // The snapshot is found by what the image says of its layers: said wrongly, it would be another image's.
        if applied.is_none_or(|applied| applied.digest != diff) {
            return Err(Status::invalid_argument(format!(
                "what layer {} holds is not the one that it names",
                layer.digest
            )));
        }
        let commit = CommitSnapshotRequest {
            snapshotter: SNAPSHOTTER.into(),
            name: chain.to_string(),
            key: key.clone(),
            labels,
        };
        link.client.snapshots().commit(link.request(commit)).await
    };
    match applied.await {
        Ok(_) => Ok(()),
        Err(status) => {
            let remove = RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.into(), key };
            let _ = link.client.snapshots().remove(link.request(remove)).await;
            if status.code() == Code::AlreadyExists {
                Ok(())
            } else {
                Err(fault("cannot unpack a layer", &status))
            }
        }
    }
}

async fn snapshots(link: &Link) -> Vec<(String, bool)> {
    let request = ListSnapshotsRequest { snapshotter: SNAPSHOTTER.into(), filters: Vec::new() };
    let Ok(answers) = link.client.snapshots().list(link.request(request)).await else { return Vec::new() };
    let mut answers = answers.into_inner();
    let mut all = Vec::new();
    while let Ok(Some(part)) = answers.message().await {
        all.extend(part.info.into_iter().map(|i| {
            let layer = i.name.starts_with("sha256:");
            (i.name, layer)
        }));
    }
    all
}

pub(super) async fn remove_snapshot(link: &Link, key: &str) -> Result<(), EngineFault> {
    let request = RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.into(), key: key.to_string() };
    unless_gone("cannot remove a snapshot", link.client.snapshots().remove(link.request(request)).await)
}

/// Removes the snapshots that are no layers and belong to none of these sandboxes.
pub(super) async fn remove_snapshots(link: &Link, kept: &[String]) -> Result<Vec<String>, EngineFault> {
    let mut removed = Vec::new();
    let unnamed = |(key, layer): &(String, bool)| !*layer && !kept.contains(key);
    for (key, _) in snapshots(link).await.into_iter().filter(unnamed) {
        match remove_snapshot(link, &key).await {
            Ok(()) => removed.push(format!("containerd snapshot {}/{key}", link.namespace)),
            // One that somebody has, as an image that a user is pulling does, is no reason not to serve what was kept.
            Err(fault) if !kept.is_empty() => {
                removed.push(format!("not containerd snapshot {}/{key}: {}", link.namespace, fault.why));
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(removed)
}
