//! Images from a registry: the pulling half of the OCI distribution specification.
//!
//! Names are read as docker reads them. A registry that wants a token is given one; credentials come from docker's own
//! file, `config.json`, where `docker login` leaves them. On loopback it is talked to without TLS.

use crate::engine::EngineFault;
use crate::image::digest;
use serde_json::Value;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

/// What a name of an image means.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reference {
    /// Host, and port if it has one.
    host: String,
    repository: String,
    /// A tag, or a digest.
    version: String,
}

impl Reference {
    fn of(name: &str) -> Result<Reference, EngineFault> {
        let (rest, digest) = match name.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_string())),
            None => (name, None),
        };
        let is_sha = |d: &str| {
            d.strip_prefix("sha256:")
                .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_hexdigit()))
        };
        if let Some(digest) = digest.as_ref().filter(|d| !is_sha(d)) {
            return Err(EngineFault::lasting(format!(
                "image {name} cannot be pulled: '{digest}' is no digest; it is sha256: and 64 digits"
            )));
        }
        // A first part that could be no repository's is a host.
        let (host, path) = match rest.split_once('/') {
            Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path),
            _ => ("docker.io", rest),
        };
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, tag),
            _ => (path, "latest"),
        };
        let official = host == "docker.io" && !path.contains('/');
        Ok(Reference {
            host: if host == "docker.io" { "registry-1.docker.io".into() } else { host.into() },
            repository: if official { format!("library/{path}") } else { path.into() },
            version: digest.unwrap_or_else(|| tag.into()),
        })
    }

    fn url(&self, what: &str, version: &str) -> String {
        let scheme = if is_loopback(&self.host) { "http" } else { "https" };
        format!("{scheme}://{}/v2/{}/{what}/{version}", self.host, self.repository)
    }
}

/// Whether a host, with its port if it has one, is this one.
fn is_loopback(host: &str) -> bool {
    let host =
        host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(host, _)| host);
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
}

/// Where registries let their tokens be fetched, if that is another host than their own.
const REALMS: [(&str, &str); 1] = [("registry-1.docker.io", "auth.docker.io")];

/// Whether a registry's token is fetched there, and a login may be shown: the scheme and the host of a URL, and what a registry's own
/// is.
fn realm_of(realm: &str, registry: &str) -> Result<bool, String> {
    let (scheme, rest) = realm.split_once("://").ok_or("it is no URL")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') || authority.is_empty() {
        return Err("it has no plain host".into());
    }
    let here = is_loopback(registry);
    match scheme {
        "https" => {}
        // Of this host's own registry: that of nobody else's can name a server of this host.
        "http" if here && is_loopback(authority) => {}
        _ => return Err("it is not https".into()),
    }
    if !here && is_loopback(authority) {
        return Err("it is on this host".into());
    }
    let own =
        authority == registry || REALMS.iter().any(|(of, realm)| *of == registry && *realm == authority);
    Ok(own || (here && is_loopback(authority)))
}

/// A manifest or an index, as it was answered.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its media type.
    pub media_type: String,
    /// `sha256:` and its digest.
    pub digest: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A repository of images in a registry. Its calls block.
pub struct Repository {
    reference: Reference,
    agent: ureq::Agent,
    /// What goes into the header `authorization`, once it was asked for.
    pass: Mutex<Option<String>>,
}

const KINDS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                     application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
/// Longest manifest or configuration; the specification asks for 4 MiB.
const SMALL: u64 = 16 << 20;
/// How long a registry may take to begin an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// And until the last of a layer is there.
const WHOLE: Duration = Duration::from_secs(900);

fn passing(why: String) -> EngineFault {
    EngineFault::passing(why)
}

impl Repository {
    /// The repository that an image's name means; nobody is asked yet.
    ///
    /// # Errors
    /// If it is no name of an image.
    pub fn of(image: &str) -> Result<Repository, EngineFault> {
        let reference = Reference::of(image)?;
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_global(Some(WHOLE))
            .http_status_as_error(false)
            // Layers may lie elsewhere; what lets us in is shown to nobody there.
            .max_redirects(5)
            .redirect_auth_headers(ureq::config::RedirectAuthHeaders::Never)
            .https_only(!is_loopback(&reference.host))
            .user_agent(concat!("elapse/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Repository { reference, agent: config.new_agent(), pass: Mutex::default() })
    }

    /// The manifest or index that the image's name means.
    ///
    /// # Errors
    /// If it is not there, or the registry does not answer.
    pub fn manifest(&self) -> Result<Manifest, EngineFault> {
        self.manifest_at(&self.reference.version)
    }

    /// The manifest or index of a digest.
    ///
    /// # Errors
    /// If it is not there, or the registry does not answer.
    pub fn manifest_at(&self, version: &str) -> Result<Manifest, EngineFault> {
        let response = self.get("manifests", version)?;
        let media_type = response.headers().get("content-type").and_then(|v| v.to_str().ok());
        let media_type = media_type.unwrap_or("application/vnd.oci.image.manifest.v1+json").to_string();
        let bytes = self.read(response)?;
        let found = format!("sha256:{}", digest(&bytes));
        if version.starts_with("sha256:") && version != found {
            return Err(self.strange(&format!("a manifest that is not {version}")));
        }
        Ok(Manifest { media_type, digest: found, bytes })
    }

    /// A small blob, whole and as its digest says.
    ///
    /// # Errors
    /// If it is not there or not that, or the registry does not answer.
    pub fn small_blob(&self, of: &str) -> Result<Vec<u8>, EngineFault> {
        let bytes = self.read(self.get("blobs", of)?)?;
        if format!("sha256:{}", digest(&bytes)) != of {
            return Err(self.strange(&format!("a blob that is not {of}")));
        }
        Ok(bytes)
    }

    /// Hands out a blob of this size in parts of `part` bytes, the last one shorter. Whoever takes them checks the digest,
    /// and stops it by returning false.
    ///
    /// # Errors
    /// If it is not there or longer, or the registry does not answer or breaks off.
    pub fn blob(
        &self,
        of: &str,
        size: u64,
        part: usize,
        mut take: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<(), EngineFault> {
        let mut body = self.get("blobs", of)?.into_body().into_reader();
        let mut left = size;
        loop {
            let mut bytes = Vec::with_capacity(part);
            let read = body.by_ref().take(part as u64).read_to_end(&mut bytes);
            read.map_err(|e| passing(format!("registry {}: {e}", self.reference.host)))?;
            let Some(rest) = left.checked_sub(bytes.len() as u64) else {
                return Err(
                    self.strange(&format!("a blob longer than {size} bytes, as which it was told: {of}"))
                );
            };
            left = rest;
            if bytes.is_empty() || !take(bytes) {
                return Ok(());
            }
        }
    }

    fn read(&self, response: ureq::http::Response<ureq::Body>) -> Result<Vec<u8>, EngineFault> {
        let bytes = response.into_body().into_with_config().limit(SMALL).read_to_vec();
        bytes.map_err(|e| passing(format!("registry {}: {e}", self.reference.host)))
    }

    fn strange(&self, what: &str) -> EngineFault {
        EngineFault::lasting(format!("registry {} answered {what}", self.reference.host))
    }

    fn get(&self, what: &str, version: &str) -> Result<ureq::http::Response<ureq::Body>, EngineFault> {
        let url = self.reference.url(what, version);
        let Reference { host, repository, .. } = &self.reference;
        for attempt in 0..2 {
            let mut request = self.agent.get(&url).header("accept", KINDS);
            let pass = self.pass.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            if let Some(pass) = pass {
                request = request.header("authorization", pass);
            }
            let response = request.call().map_err(|e| {
                passing(format!("registry {host} does not answer: {e}; see its name and the network"))
            })?;
            match response.status().as_u16() {
                200 => return Ok(response),
                401 if attempt == 0 => {
                    let wants = response.headers().get("www-authenticate").and_then(|v| v.to_str().ok());
                    let pass = self.ask_for_a_pass(wants.unwrap_or_default())?;
                    *self.pass.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(pass);
                }
                401 | 403 => {
                    return Err(EngineFault::lasting(format!(
                        "registry {host} does not let us read {repository} (HTTP {}); log in with docker login {host}, or see \
                         that it is public",
                        response.status().as_u16()
                    )));
                }
                404 => {
                    return Err(EngineFault::lasting(format!(
                        "registry {host} has no {repository}, {version} of {what}; see its name and tag"
                    )));
                }
                status @ (408 | 429 | 500..) => {
                    return Err(passing(format!("registry {host} answered HTTP {status}; try again later")));
                }
                status => return Err(self.strange(&format!("HTTP {status}"))),
            }
        }
        Err(EngineFault::lasting(format!("registry {host} does not take the token that it gave")))
    }

    /// What a registry wants in the header `authorization`, by what it said when it refused.
    fn ask_for_a_pass(&self, wants: &str) -> Result<String, EngineFault> {
        let host = &self.reference.host;
        // What it says goes into sentences, and is as long as it likes.
        let wants: String = wants.chars().take(300).collect();
        let login = credentials(host).map(|auth| format!("Basic {auth}"));
        let (scheme, terms) = wants.split_once(' ').unwrap_or((&wants, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return login.ok_or_else(|| {
                EngineFault::lasting(format!(
                    "registry {host} wants a password; log in with docker login {host}"
                ))
            });
        }
        let term = |key: &str| {
            terms.split(',').find_map(|term| {
                let (name, value) = term.trim().split_once('=')?;
                (name == key).then(|| value.trim_matches('"').to_string())
            })
        };
        let Some(realm) = term("realm").filter(|_| scheme.eq_ignore_ascii_case("bearer")) else {
            return Err(self.strange(&format!("a demand that is not understood: {wants}")));
        };
        let may_be_told = realm_of(&realm, host).map_err(|why| {
            EngineFault::lasting(format!("registry {host} sends us for a token to '{realm}': {why}"))
        })?;
        let login = login.filter(|_| may_be_told);
        let mut request = self.agent.get(&realm).config().max_redirects(0).build();
        if let Some(service) = term("service") {
            request = request.query("service", service);
        }
        let scope = term("scope").unwrap_or_else(|| format!("repository:{}:pull", self.reference.repository));
        request = request.query("scope", scope);
        if let Some(login) = login {
            request = request.header("authorization", login);
        }
        let away =
            |e: &dyn std::fmt::Display| passing(format!("{realm}, which gives out tokens for {host}: {e}"));
        let response = request.call().map_err(|e| away(&e))?;
        if response.status().as_u16() != 200 {
            return Err(EngineFault::lasting(format!(
                "{realm} gives no token to read {} (HTTP {}); log in with docker login {host}",
                self.reference.repository,
                response.status().as_u16()
            )));
        }
        let answer: Value = serde_json::from_slice(&self.read(response)?).map_err(|e| away(&e))?;
        let token = answer["token"].as_str().or(answer["access_token"].as_str());
        token.map(|token| format!("Bearer {token}")).ok_or_else(|| self.strange("no token"))
    }
}

/// User and password for a registry as docker keeps them, encoded as HTTP wants them.
fn credentials(host: &str) -> Option<String> {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    // A service of the system has no HOME.
    let home = std::env::var_os("HOME").map(PathBuf::from).or(crate::is_root().then(|| "/root".into()));
    let folder = folder.or_else(|| Some(home?.join(".docker")))?;
    let text = crate::beneath::text_beneath(&folder, std::path::Path::new("config.json"), SMALL).ok()?;
    let config: Value = serde_json::from_str(&text).ok()?;
    let keys = if host == "registry-1.docker.io" { "https://index.docker.io/v1/" } else { host };
    config["auths"][keys]["auth"].as_str().map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A login is shown to the registry that it is for, and to the one that this has always named; never in plain words.
    #[test]
    fn a_login_goes_to_its_own_registry_and_nowhere_else() {
        for (realm, registry, expected) in [
            ("https://auth.docker.io/token", "registry-1.docker.io", Ok(true)),
            ("https://ghcr.io/token", "ghcr.io", Ok(true)),
            ("https://evil.example/token", "ghcr.io", Ok(false)),
            ("https://auth.docker.io/token", "ghcr.io", Ok(false)),
            ("http://ghcr.io/token", "ghcr.io", Err(())),
            ("https://ghcr.io@evil.example/", "ghcr.io", Err(())),
            ("https://127.0.0.1:9/", "ghcr.io", Err(())),
            ("http://127.0.0.1:2375/containers/json", "ghcr.io", Err(())),
            ("http://169.254.169.254/latest", "localhost:5000", Err(())),
            ("http://127.0.0.1:5001/token", "127.0.0.1:5000", Ok(true)),
            ("file:///etc/shadow", "ghcr.io", Err(())),
            ("", "ghcr.io", Err(())),
        ] {
            assert_eq!(realm_of(realm, registry).map_err(drop), expected, "{realm} of {registry}");
        }
    }

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let sha = format!("sha256:{}", "0123".repeat(16));
        let by_digest = format!("ghcr.io/x/y:1@{sha}");
        for (name, host, repository, version) in [
            ("python", "registry-1.docker.io", "library/python", "latest"),
            ("python:3.12", "registry-1.docker.io", "library/python", "3.12"),
            ("someone/app:1", "registry-1.docker.io", "someone/app", "1"),
            ("docker.io/library/python:3", "registry-1.docker.io", "library/python", "3"),
            ("localhost/app", "localhost", "app", "latest"),
            ("localhost:5000/a/b:2", "localhost:5000", "a/b", "2"),
            ("ghcr.io/x/y", "ghcr.io", "x/y", "latest"),
            (&by_digest, "ghcr.io", "x/y", &sha),
        ] {
            let found = Reference::of(name).unwrap();
            let (h, r, v) = (found.host.as_str(), found.repository.as_str(), found.version.as_str());
            assert_eq!((h, r, v), (host, repository, version), "{name}");
        }
        assert!(Reference::of("a/b@sha512:0123").is_err() && Reference::of("a/b@sha256:0123").is_err());
        let url = |name: &str| Reference::of(name).unwrap().url("manifests", "x");
        assert_eq!(url("127.example.org/a"), "https://127.example.org/v2/a/manifests/x");
        assert_eq!(url("127.0.0.1:5000/a"), "http://127.0.0.1:5000/v2/a/manifests/x");
        assert_eq!(url("a/b"), "https://registry-1.docker.io/v2/a/b/manifests/x");
    }
}
