//! Images in containerd 1.6, which has no transfer service: blobs are written, from a file or from a registry, the image is
//! recorded, and its layers are unpacked into snapshots one on top of the other.

use super::archive::{Archive, SMALL};
use super::unpack::unpack;
use super::{LABEL, Link, SNAPSHOTTER, fault};
use crate::engine::EngineFault;
use crate::image::{architecture, digest};
use crate::registry::Repository;
use containerd_client::services::v1::{
    AbortRequest, CreateImageRequest, GetImageRequest, Image, ReadContentRequest, UpdateImageRequest,
    WriteAction, WriteContentRequest,
};
use containerd_client::tonic::Code;
use containerd_client::types::Descriptor;
use futures_util::stream::{self, Stream, StreamExt};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// An image whose layers are unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unpacked {
    pub(super) name: String,
    /// The snapshot that containers of it start from.
    pub(super) chain: String,
    pub(super) env: Vec<String>,
    /// Entry point and arguments.
    pub(super) command: Vec<String>,
    pub(super) cwd: String,
    /// User and group.
    pub(super) user: (u32, u32),
}

/// Layers that overlayfs takes on top of each other, less what a container adds.
const LAYERS: usize = 125;
/// Blobs of one message; containerd takes up to 16 MiB.
const CHUNK: usize = 4 << 20;

pub(super) fn wrong(image: &str, why: impl std::fmt::Display) -> EngineFault {
    EngineFault::lasting(format!("image {image} cannot be used: {why}"))
}

/// Where an image comes from.
enum Source {
    /// The files of an OCI layout.
    Files(Arc<Archive>),
    Registry(Arc<Repository>),
}

/// Where a blob lies in an OCI layout.
fn path_of(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

impl Source {
    /// A manifest or a configuration.
    async fn small(&self, name: &str, blob: &Descriptor) -> Result<Vec<u8>, EngineFault> {
        let digest = blob.digest.clone();
        match self {
            Source::Files(archive) => {
                let (archive, name) = (Arc::clone(archive), name.to_string());
                spawn_runtime(move || {
                    let bytes = archive.small(&path_of(&digest)).map_err(|why| wrong(&name, why))?;
                    if format!("sha256:{}", crate::image::digest(&bytes)) != digest {
                        return Err(wrong(&name, format!("its blob {digest} is another")));
                    }
                    Ok(bytes)
                })
                .await
            }
            Source::Registry(repository) => {
                let repository = Arc::clone(repository);
                let manifest = blob.media_type.contains("manifest") || blob.media_type.contains("index");
                spawn_runtime(move || {
                    if manifest {
                        return repository.manifest_at(&digest).map(|m| m.bytes);
                    }
                    repository.small_blob(&digest)
                })
                .await
            }
        }
    }

    /// Hands out a layer in parts, until it is whole or nobody takes another. Blocks.
    fn parts(
        &self,
        name: &str,
        digest: &str,
        size: u64,
        mut take: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<(), EngineFault> {
        match self {
            Source::Registry(repository) => repository.blob(digest, size, CHUNK, take),
            Source::Files(archive) => {
                let (path, mut from) = (path_of(digest), 0);
                loop {
                    let part = archive.part(&path, from, CHUNK).map_err(|why| wrong(name, why))?;
                    from += part.len() as u64;
                    if part.is_empty() || !take(part) {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Does what blocks on a thread that may wait.
async fn spawn_runtime<T: Send + 'static>(
    f: impl FnOnce() -> Result<T, EngineFault> + Send + 'static,
) -> Result<T, EngineFault> {
    crate::blocking(f).await.map_err(EngineFault::lasting)?
}

/// Imports an OCI layout, as `docker save` of today, buildah and our own image writer make it.
pub(super) async fn from_archive(link: &Link, archive: Archive, name: &str) -> Result<Unpacked, EngineFault> {
    let archive = Arc::new(archive);
    let (files, of) = (Arc::clone(&archive), name.to_string());
    let index = spawn_runtime(move || {
        let missing = |why| wrong(&of, format!("it is no OCI image layout: {why}"));
        files.small("index.json").map_err(missing)
    });
    let index: Value = serde_json::from_slice(&index.await?).map_err(|e| wrong(name, e))?;
    let target = pick(&index, name)?;
    let source = Source::Files(archive);
    let manifest = source.small(name, &target).await?;
    import(link, source, name, target, manifest).await
}

/// The archive in a file.
pub(super) async fn archive_in(name: &str) -> Result<Archive, EngineFault> {
    let path = name.to_string();
    spawn_runtime(move || Archive::open(std::path::Path::new(&path)).map_err(|why| wrong(&path, why))).await
}

/// Pulls an image from the registry that its name means.
pub(super) async fn from_registry(link: &Link, name: &str) -> Result<Unpacked, EngineFault> {
    let repository = Arc::new(Repository::of(name)?);
    let asked = Arc::clone(&repository);
    let found = spawn_runtime(move || asked.manifest()).await.map_err(|fault| EngineFault {
        why: format!("image {name} is not in containerd's namespace {}, and {}", link.namespace, fault.why),
        ..fault
    })?;
    let target = Descriptor {
        media_type: found.media_type,
        digest: found.digest,
        size: found.bytes.len() as i64,
        annotations: HashMap::new(),
    };
    import(link, Source::Registry(repository), name, target, found.bytes).await
}

/// Writes an image's blobs, records it, and unpacks its layers. `root` is the content of `target`.
async fn import(
    link: &Link,
    source: Source,
    name: &str,
    mut target: Descriptor,
    mut root: Vec<u8>,
) -> Result<Unpacked, EngineFault> {
    let mut manifest: Value = serde_json::from_slice(&root).map_err(|e| wrong(name, e))?;
    // An index leads to the manifests of platforms.
    if manifest["manifests"].is_array() {
        target = pick(&manifest, name)?;
        root = source.small(name, &target).await?;
        manifest = serde_json::from_slice(&root).map_err(|e| wrong(name, e))?;
    }
    let config = descriptor(&manifest["config"], name)?;
    let layers = layers_of(&manifest, name)?;
    let told = layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size as u64));
    if told > link.image_size {
        return Err(wrong(
            name,
            format!("it has {told} bytes, and {} at most are taken; see live.image_size", link.image_size),
        ));
    }
    let source = Arc::new(source);
    let config_bytes = source.small(name, &config).await?;
    let config_json: Value = serde_json::from_slice(&config_bytes).map_err(|e| wrong(name, e))?;
    let chain = chains(&config_json, name)?.pop().unwrap_or_default();
    // Children first, and labels that keep them for as long as the manifest is there.
    let keeps = HashMap::from([(format!("containerd.io/gc.ref.snapshot.{SNAPSHOTTER}"), chain)]);
    write(link, &config, &config_bytes, keeps).await?;
    let mut labels = HashMap::from([("containerd.io/gc.ref.content.0".to_string(), config.digest.clone())]);
    for (i, layer) in layers.iter().enumerate() {
        fetch(link, &source, name, layer).await?;
        labels.insert(format!("containerd.io/gc.ref.content.{}", i + 1), layer.digest.clone());
    }
    write(link, &target, &root, labels).await?;
    record(link, name, target).await?;
    unpack(link, name, &config_json, &layers, false).await
}

/// An image that is in the worker's namespace already, if it is.
pub(super) async fn known(link: &Link, name: &str) -> Result<Option<Unpacked>, EngineFault> {
    let request = link.request(GetImageRequest { name: name.to_string() });
    let found = match link.client.images().get(request).await {
        Ok(found) => found,
        Err(status) if status.code() == Code::NotFound => return Ok(None),
        Err(status) => return Err(fault("cannot look the image up", &status)),
    };
    let target = found.into_inner().image.and_then(|i| i.target);
    let target = target.ok_or_else(|| wrong(name, "it has no content"))?;
    let mut manifest = read_json(link, name, &target.digest).await?;
    if manifest["manifests"].is_array() {
        let target = pick(&manifest, name)?;
        manifest = read_json(link, name, &target.digest).await?;
    }
    let config = descriptor(&manifest["config"], name)?;
    let layers = layers_of(&manifest, name)?;
    let config = read_json(link, name, &config.digest).await?;
    // Nothing of a user's image refers to what we unpack.
    unpack(link, name, &config, &layers, true).await.map(Some)
}

async fn read_json(link: &Link, name: &str, digest: &str) -> Result<Value, EngineFault> {
    let request = link.request(ReadContentRequest { digest: digest.to_string(), offset: 0, size: 0 });
    let mut parts =
        link.client.content().read(request).await.map_err(|e| fault("cannot read a blob", &e))?.into_inner();
    let mut bytes = Vec::new();
    while let Some(part) = parts.message().await.map_err(|e| fault("cannot read a blob", &e))? {
        bytes.extend_from_slice(&part.data);
        if bytes.len() as u64 > SMALL {
            return Err(wrong(name, format!("its blob {digest} is longer than {SMALL} bytes")));
        }
    }
    serde_json::from_slice(&bytes).map_err(|e| wrong(name, e))
}

/// The manifest of this machine's platform; the only one, where there is but one.
fn pick(index: &Value, name: &str) -> Result<Descriptor, EngineFault> {
    let all = index["manifests"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ours = |m: &&Value| m["platform"]["architecture"] == architecture() && m["platform"]["os"] == "linux";
    let anything = |m: &&Value| m["platform"].is_null() || m["platform"]["architecture"] == "";
    let found = all.iter().find(ours).or_else(|| all.iter().find(anything));
    match found {
        Some(found) => descriptor(found, name),
        None => {
            let there: Vec<&str> =
                all.iter().filter_map(|m| m["platform"]["architecture"].as_str()).collect();
            Err(wrong(name, format!("it is for {}, and this host is {}", there.join(", "), architecture())))
        }
    }
}

fn descriptor(value: &Value, name: &str) -> Result<Descriptor, EngineFault> {
    let text = |key: &str| value[key].as_str().map(str::to_string);
    let (Some(media_type), Some(digest)) = (text("mediaType"), text("digest")) else {
        return Err(wrong(name, "its manifest is incomplete"));
    };
    // Anything else could be a path.
    let is_digest = digest.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
    });
    if !is_digest {
        return Err(wrong(
            name,
            format!("'{}' is no sha256 digest", digest.chars().take(100).collect::<String>()),
        ));
    }
    let size = value["size"].as_i64().unwrap_or(0);
    if size < 0 {
        return Err(wrong(name, format!("its blob {digest} has {size} bytes")));
    }
    Ok(Descriptor { media_type, digest, size, annotations: HashMap::new() })
}

fn layers_of(manifest: &Value, name: &str) -> Result<Vec<Descriptor>, EngineFault> {
    let layers = manifest["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if layers.len() > LAYERS {
        return Err(wrong(
            name,
            format!("it has {} layers, and {LAYERS} at most lie on top of each other", layers.len()),
        ));
    }
    layers.iter().map(|layer| descriptor(layer, name)).collect()
}

/// The digests of what the layers hold, unpacked.
pub(super) fn diffs(config: &Value, name: &str) -> Result<Vec<String>, EngineFault> {
    let diffs = config["rootfs"]["diff_ids"].as_array().map(Vec::as_slice).unwrap_or_default();
    let incomplete = || wrong(name, "its configuration is incomplete");
    diffs.iter().map(|diff| diff.as_str().map(str::to_string).ok_or_else(incomplete)).collect()
}

/// The names of the snapshots after each layer.
pub(super) fn chains(config: &Value, name: &str) -> Result<Vec<String>, EngineFault> {
    let mut chains: Vec<String> = Vec::new();
    for diff in diffs(config, name)? {
        chains.push(match chains.last() {
            None => diff,
            Some(parent) => format!("sha256:{}", digest(format!("{parent} {diff}").as_bytes())),
        });
    }
    Ok(chains)
}

/// Writes a blob that is in memory.
async fn write(
    link: &Link,
    blob: &Descriptor,
    bytes: &[u8],
    labels: HashMap<String, String>,
) -> Result<(), EngineFault> {
    let parts: Vec<Vec<u8>> = bytes.chunks(CHUNK).map(<[u8]>::to_vec).collect();
    write_parts(link, blob, stream::iter(parts), labels).await
}

/// Writes a layer as it comes: no more of it than some parts is ever in memory.
async fn fetch(link: &Link, source: &Arc<Source>, name: &str, blob: &Descriptor) -> Result<(), EngineFault> {
    let (give, parts) = mpsc::channel::<Vec<u8>>(2);
    let (source, digest, name) = (Arc::clone(source), blob.digest.clone(), name.to_string());
    let size = blob.size.max(0) as u64;
    let fetched =
        spawn_runtime(move || source.parts(&name, &digest, size, |part| give.blocking_send(part).is_ok()));
    let parts = stream::unfold(parts, |mut parts| async move { Some((parts.recv().await?, parts)) });
    let written = write_parts(link, blob, parts, HashMap::new());
    let (fetched, written) = futures_util::future::join(fetched, written).await;
    if let Err(fault) = fetched.and(written) {
        // What came of it is no beginning for the next attempt.
        let request = AbortRequest { r#ref: ingest(blob) };
        let _ = link.client.content().abort(link.request(request)).await;
        return Err(fault);
    }
    Ok(())
}

/// The name under which a blob is written.
fn ingest(blob: &Descriptor) -> String {
    format!("elapse-{}", blob.digest)
}

/// Writes a blob part by part; containerd checks its digest when it is whole.
async fn write_parts(
    link: &Link,
    blob: &Descriptor,
    parts: impl Stream<Item = Vec<u8>> + Send + 'static,
    labels: HashMap<String, String>,
) -> Result<(), EngineFault> {
    let (reference, expected, total) = (ingest(blob), blob.digest.clone(), blob.size);
    let message = move |action: WriteAction, offset: i64, data: Vec<u8>| WriteContentRequest {
        action: action as i32,
        r#ref: reference.clone(),
        total,
        expected: expected.clone(),
        offset,
        data,
        labels: labels.clone(),
    };
    let mut offset = 0;
    let writes = parts.map(Some).chain(stream::iter([None])).map(move |part| {
        let Some(part) = part else { return message(WriteAction::Commit, offset, Vec::new()) };
        let at = offset;
        offset += part.len() as i64;
        message(WriteAction::Write, at, part)
    });
    let outcome = match link.client.content().write(link.request(writes)).await {
        Ok(answers) => {
            let mut answers = answers.into_inner();
            loop {
                match answers.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(status) => break Err(status),
                }
            }
        }
        Err(status) => Err(status),
    };
    match outcome {
        Err(status) if status.code() == Code::AlreadyExists => Ok(()),
        other => other.map_err(|e| fault("cannot write a blob", &e)),
    }
}

async fn record(link: &Link, name: &str, target: Descriptor) -> Result<(), EngineFault> {
    let worker = link.namespace.trim_start_matches("elapse-").to_string();
    let labels = HashMap::from([(LABEL.to_string(), worker)]);
    let image = Image { name: name.to_string(), target: Some(target), labels, ..Image::default() };
    let request = CreateImageRequest { image: Some(image.clone()), source_date_epoch: None };
    match link.client.images().create(link.request(request)).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::AlreadyExists => {
            let request = UpdateImageRequest { image: Some(image), ..UpdateImageRequest::default() };
            let updated = link.client.images().update(link.request(request)).await;
            updated.map(drop).map_err(|e| fault("cannot record the image", &e))
        }
        Err(status) => Err(fault("cannot record the image", &status)),
    }
}
