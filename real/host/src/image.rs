//! The image of our agent alone, made without any registry or daemon.
//!
//! One tar holds an OCI image layout and docker's older manifest, so that containerd's import and `docker load` both take
//! it. It is the same bytes for the same agent: times, owners and order are fixed.

use serde_json::json;
use sha2::{Digest, Sha256};
use std::io;
use std::path::Path;

/// Where the agent is in an image, and where it is bound into a user's.
pub const AGENT_INSIDE: &str = "/elapse-agent";
/// Where a function's code is bound.
pub const CODE_INSIDE: &str = "/code";
/// Where the socket's directory is bound.
pub const SOCKETS_INSIDE: &str = "/run/elapse";

/// An image as a tar file.
#[derive(Clone, Debug)]
pub struct Image {
    /// `elapse.local/agent:<digest>`.
    pub name: String,
    /// The file.
    pub tar: Vec<u8>,
}

/// The digest of a blob, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn entry(tar: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    tar.append_data(&mut header, name, bytes)
}

fn directory(tar: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(mode);
    header.set_mtime(0);
    tar.append_data(&mut header, name, io::empty())
}

/// The machine, in the words of image formats.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Makes the image of the agent at this path.
///
/// # Errors
/// If the agent cannot be read.
pub fn of_agent(agent: &Path) -> io::Result<Image> {
    let agent = std::fs::read(agent)?;
    let mut layer = tar::Builder::new(Vec::new());
    entry(&mut layer, AGENT_INSIDE.trim_start_matches('/'), &agent, 0o755)?;
    directory(&mut layer, "run/", 0o755)?;
    directory(&mut layer, "run/elapse/", 0o755)?;
    directory(&mut layer, "tmp/", 0o1777)?;
    let layer = layer.into_inner()?;
    let layer_digest = digest(&layer);
    let config = json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture(),
        "os": "linux",
        "config": { "Entrypoint": [AGENT_INSIDE], "Env": ["PATH=/"], "WorkingDir": "/" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "elapse" }],
    })
    .to_string()
    .into_bytes();
    let config_digest = digest(&config);
    let name = format!("elapse.local/agent:{}", &config_digest[..12]);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": format!("sha256:{config_digest}"), "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": format!("sha256:{layer_digest}"), "size": layer.len(),
        }],
    })
    .to_string()
    .into_bytes();
    let manifest_digest = digest(&manifest);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{manifest_digest}"), "size": manifest.len(),
            "platform": { "architecture": architecture(), "os": "linux" },
            "annotations": { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name },
        }],
    })
    .to_string();
    let blob = |digest: &str| format!("blobs/sha256/{digest}");
    let docker = json!([{
        "Config": blob(&config_digest), "RepoTags": [name], "Layers": [blob(&layer_digest)],
    }])
    .to_string();
    let mut tar = tar::Builder::new(Vec::new());
    entry(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    entry(&mut tar, "index.json", index.as_bytes(), 0o644)?;
    entry(&mut tar, "manifest.json", docker.as_bytes(), 0o644)?;
    for (digest, bytes) in [(&layer_digest, &layer), (&config_digest, &config), (&manifest_digest, &manifest)]
    {
        entry(&mut tar, &blob(digest), bytes, 0o644)?;
    }
    Ok(Image { name, tar: tar.into_inner()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_the_same_bytes_for_the_same_agent() {
        let path = std::env::temp_dir().join(format!("elapse-image-{}", std::process::id()));
        std::fs::write(&path, b"an agent").unwrap();
        let (a, b) = (of_agent(&path).unwrap(), of_agent(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert_eq!((a.name.as_str(), &a.tar), (b.name.as_str(), &b.tar));
        let names: Vec<String> = tar::Archive::new(a.tar.as_slice())
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names[..3], ["oci-layout", "index.json", "manifest.json"]);
        assert_eq!(names.len(), 6);
    }
}
