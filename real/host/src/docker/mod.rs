//! Sandboxes of a docker daemon, with GPUs where it has them.
//!
//! The agent and the socket's directory are bound into any image; an image that is an HTTP server on `$PORT` is started as
//! it is. Containers bear the label `elapse.worker`. A death is told by the daemon's answer to a wait.

mod container;

use crate::cgroup::{SLICE, path_of, remove_everywhere, shares_of, weigh};
use crate::ending::ExitWatch;
use crate::engine::{
    self, Common, Engine, EngineFault, Local, Network, Role, Sandbox, SandboxId, Spec, clear_place, place,
};
use crate::home::Home;
use crate::host::{FIXED, hidden_paths, sandbox_descriptors};
use crate::image::{self, AGENT_INSIDE, CODE_INSIDE, SOCKETS_INSIDE};
use crate::seccomp;
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, DeviceRequest, HostConfig, HostConfigLogConfig, Mount, MountType, ResourcesUlimits,
    SystemInfoCgroupDriverEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptions, CreateImageOptionsBuilder, ImportImageOptionsBuilder,
    ListContainersOptionsBuilder,
};
use container::Container;
use futures_util::StreamExt;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// What the engine is called.
const NAME: &str = "docker";
const LABEL: &str = "elapse.worker";
/// Seconds that one request may take.
const PATIENCE: u64 = 60;
/// What docker lets a container do by default and ours is not to: make packets, devices, audit records and privileged files.
const WITHOUT: [&str; 4] = ["NET_RAW", "MKNOD", "AUDIT_WRITE", "SETFCAP"];
/// As many layers an image may have as docker's own storage takes.
const LAYERS: usize = 128;
/// Where what runs inside can write.
const WRITABLE: [&str; 3] = ["/tmp", "/run", "/var/tmp"];
/// Characters of its last lines that a fault's sentence has, more or less.
const LAST_WORDS: usize = 500;

/// See the module.
pub struct Dockers {
    docker: Docker,
    common: Common,
    base: PathBuf,
    /// The cgroup that containers are made in, where the daemon lets it be chosen.
    group: Option<String>,
    /// Whether its storage can bound what a container writes.
    quotas: bool,
    /// The image of our agent alone, once it was loaded.
    agent_image: RefCell<Option<String>>,
    /// What became of the images that were asked for.
    images: RefCell<HashMap<String, Result<(), EngineFault>>>,
}

fn fault(e: &Error) -> EngineFault {
    let why = match e {
        Error::DockerResponseServerError { status_code, message } => {
            // 409 and 5xx pass: a name in use for a moment, a daemon that restarts.
            let passing = *status_code >= 500 && !message.contains("could not select device driver");
            return EngineFault {
                transient: passing,
                away: false,
                why: format!("docker: {}", message.trim()),
            };
        }
        Error::RequestTimeoutError => format!("docker did not answer within {PATIENCE} s"),
        other => format!("docker: {other}"),
    };
    EngineFault { transient: true, away: true, why }
}

/// How long a pull may take.
const PULL: Duration = Duration::from_secs(15 * 60);

/// A folder in memory of the container's own.
fn in_memory(at: &str) -> Mount {
    Mount { target: Some(at.to_string()), typ: Some(MountType::TMPFS), ..Mount::default() }
}

impl Dockers {
    /// Connects to a daemon's socket.
    ///
    /// # Errors
    /// Nobody answers there, or a daemon that is too old.
    pub async fn connect(socket: &Path, common: Common) -> Result<Dockers, EngineFault> {
        let away = |e: Error| {
            EngineFault::lasting(format!(
                "docker does not answer at {}: {e}; install docker.io, start it, and see that you may use it",
                socket.display()
            ))
        };
        let path = format!("unix://{}", socket.display());
        let docker =
            Docker::connect_with_unix(&path, PATIENCE, bollard::API_DEFAULT_VERSION).map_err(away)?;
        let docker = docker.negotiate_version().await.map_err(away)?;
        let version = docker.client_version();
        // 1.40 came with docker 19.03, the first that gives out GPUs.
        if (version.major_version, version.minor_version) < (1, 40) {
            return Err(EngineFault::lasting(format!(
                "docker at {} speaks API {version}; 1.40 (docker 19.03) is the oldest that will do",
                socket.display()
            )));
        }
        let host = docker.info().await.unwrap_or_default();
        let under = host.driver_status.iter().flatten().find(|pair| pair[0] == "Backing Filesystem");
        let quotas = match host.driver.as_deref() {
            Some("btrfs" | "zfs") => true,
            // Whether it is mounted with pquota is told by docker at the first container.
            Some("overlay2") => under.is_some_and(|pair| pair.get(1).is_some_and(|name| name == "xfs")),
            _ => false,
        };
        let group = match host.cgroup_driver {
            // Makes a scope for each container, and takes no other parent than a slice.
            Some(SystemInfoCgroupDriverEnum::SYSTEMD) => Some(SLICE.to_string()),
            Some(SystemInfoCgroupDriverEnum::CGROUPFS) => {
                Some(format!("/{}", path_of(&common.worker, NAME).display()))
            }
            _ => None,
        };
        Ok(Dockers {
            docker,
            group,
            quotas,
            base: place(&common.worker, NAME),
            common,
            agent_image: RefCell::default(),
            images: RefCell::default(),
        })
    }

    fn refusal(&self, spec: &Spec) -> Result<(), EngineFault> {
        self.common.check(spec)?;
        if spec.writable > 0 && !self.quotas {
            return Err(EngineFault::lasting(engine::NO_QUOTAS));
        }
        match spec.image.as_ref().and_then(|image| self.images.borrow().get(image).cloned()) {
            Some(Err(why)) => Err(why),
            _ => Ok(()),
        }
    }

    async fn load(&self, tar: Vec<u8>) -> Result<(), EngineFault> {
        let options = ImportImageOptionsBuilder::new().quiet(true).build();
        let body = bollard::body_full(tar.into());
        let mut answers = self.docker.import_image(options, body, None);
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(|e| fault(&e))?;
            if let Some(error) = answer.error_detail.and_then(|d| d.message) {
                return Err(EngineFault::lasting(format!("docker did not load the image: {error}")));
            }
        }
        Ok(())
    }

    async fn fetch(&self, image: &str) -> Result<(), EngineFault> {
        match self.docker.inspect_image(image).await {
            Ok(_) => return Ok(()),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(e) => return Err(fault(&e)),
        }
        let options = CreateImageOptionsBuilder::new().from_image(image).build();
        // A registry that stands still is not waited for.
        tokio::time::timeout(PULL, self.pulled(image, options)).await.map_err(|_| {
            EngineFault::lasting(format!(
                "image {image} could not be pulled within {} min",
                PULL.as_secs() / 60
            ))
        })??;
        let size = self.docker.inspect_image(image).await.map_err(|e| fault(&e))?.size.unwrap_or(0);
        if u64::try_from(size).unwrap_or(u64::MAX) > self.common.image_size {
            let none = None::<bollard::query_parameters::RemoveImageOptions>;
            let _ = self.docker.remove_image(image, none, None).await;
            return Err(EngineFault::lasting(format!(
                "image {image} has {size} bytes unpacked, and {} at most are taken; see live.image_size",
                self.common.image_size
            )));
        }
        Ok(())
    }

    /// Pulls an image to its end, or until its layers are seen to be longer than an image may be: whose progress is not listened to any
    /// more, docker gives up.
    async fn pulled(&self, image: &str, options: CreateImageOptions) -> Result<(), EngineFault> {
        let mut layers: HashMap<String, u64> = HashMap::new();
        let mut progress = self.docker.create_image(Some(options), None, None);
        while let Some(told) = progress.next().await {
            let told = told.map_err(|e| {
                EngineFault::lasting(format!(
                    "image {image} is not here and cannot be pulled: {}; load it (docker load) or name another",
                    fault(&e).why
                ))
            })?;
            let total = told.progress_detail.and_then(|detail| detail.total);
            let total = total.and_then(|total| u64::try_from(total).ok());
            let (Some(layer), Some(total)) = (told.id, total) else { continue };
            if layers.len() >= LAYERS && !layers.contains_key(&layer) {
                return Err(EngineFault::lasting(format!(
                    "image {image} has more than {LAYERS} layers, and is not pulled"
                )));
            }
            let known = layers.entry(layer).or_default();
            *known = total.max(*known);
            let packed = layers.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
            if packed > self.common.image_size {
                return Err(EngineFault::lasting(format!(
                    "image {image} has {packed} bytes packed at least, and {} unpacked are taken at most; see live.image_size",
                    self.common.image_size
                )));
            }
        }
        Ok(())
    }

    /// The folders that an image wants to have outside its root.
    async fn volumes_of(&self, image: &str) -> Result<Vec<String>, EngineFault> {
        /// As many are taken.
        const MOST: usize = 16;
        let told = self.docker.inspect_image(image).await.map_err(|e| fault(&e))?;
        let volumes = told.config.and_then(|config| config.volumes).unwrap_or_default();
        let plain = |at: &String| at.starts_with('/') && at != "/" && !at.contains("..");
        if volumes.len() > MOST || !volumes.iter().all(plain) {
            return Err(EngineFault::lasting(format!(
                "image {image} has volumes that are not taken ({MOST} at most, each an absolute path); take VOLUME out of it"
            )));
        }
        Ok(volumes)
    }

    async fn agent_image(&self) -> Result<String, EngineFault> {
        if let Some(name) = self.agent_image.borrow().clone() {
            return Ok(name);
        }
        let agent = self.common.agent.clone()?;
        let image = image::of_agent(&agent)
            .map_err(|e| EngineFault::lasting(format!("cannot read {}: {e}", agent.display())))?;
        if self.docker.inspect_image(&image.name).await.is_err() {
            self.load(image.tar).await?;
        }
        *self.agent_image.borrow_mut() = Some(image.name.clone());
        Ok(image.name)
    }

    async fn start(&self, spec: Spec) -> Result<Rc<dyn Sandbox>, EngineFault> {
        self.refusal(&spec)?;
        let image = match &spec.image {
            Some(image) => image.clone(),
            None => self.agent_image().await?,
        };
        let home = Home::of(&self.base, &spec.id);
        let port = engine::port_of(&spec)?;
        // Whoever the image runs as puts the socket there; on the host nobody else gets as far as this folder.
        let shared = home.make().and_then(|()| port.is_none().then(|| home.share(None)).transpose());
        let shared = shared.map_err(|e| {
            let _ = home.remove();
            EngineFault::lasting(format!("cannot make its folder: {e}"))
        })?;
        let name = self.name_of(&spec.id);
        let body = async {
            // Our own has none.
            let volumes = if spec.image.is_some() { self.volumes_of(&image).await? } else { Vec::new() };
            self.body(&spec, image, shared.as_deref(), port, &volumes)
        };
        let body = body.await.inspect_err(|_| {
            let _ = home.remove();
        })?;
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let container = Rc::new(self.container(&spec.id, spec.gpu));
        let begun = async {
            self.docker.create_container(Some(options), body).await?;
            let none = None::<bollard::query_parameters::StartContainerOptions>;
            self.docker.start_container(&name, none).await?;
            self.docker
                .inspect_container(&name, None::<bollard::query_parameters::InspectContainerOptions>)
                .await
        };
        let begun = async {
            let seen = begun.await.map_err(|e| fault(&e))?;
            let pid = seen.state.and_then(|s| s.pid).unwrap_or(0) as i32;
            // A user of docker need not be root; the daemon has made a weight of the shares in any case.
            let _ = weigh(pid, spec.cpus);
            if spec.network == Network::Bridge {
                // The daemon made the namespace; it is joined to our bridge, not to the daemon's.
                container.network.replace(Some(self.common.networks.attach(pid).await?));
            }
            if let Some(port) = port {
                let at = container.network.borrow().as_ref().map(|lease| lease.port(port));
                container.answers_at(container.home.keep_port(at, port)?);
            }
            container.lives(pid)?;
            Ok(pid)
        };
        match begun.await {
            Ok(_pid) => Ok(container),
            Err(why) => {
                let _ = container.remove().await;
                Err(why)
            }
        }
    }

    fn name_of(&self, id: &str) -> String {
        format!("elapse-{}-{id}", self.common.worker)
    }

    /// One that is not there yet, or not looked at.
    fn container(&self, id: &str, gpu: Option<u32>) -> Container {
        Container {
            docker: self.docker.clone(),
            id: id.to_string(),
            name: self.name_of(id),
            home: Home::of(&self.base, id),
            address: RefCell::default(),
            network: RefCell::default(),
            trace: RefCell::default(),
            gauge: RefCell::default(),
            ending: ExitWatch::default(),
            gpu,
        }
    }

    async fn take_over(&self, trace: &SandboxId) -> Result<Rc<dyn Sandbox>, EngineFault> {
        let gone = |what: &str| EngineFault::lasting(format!("{}: {what}", trace.id));
        let none = None::<bollard::query_parameters::InspectContainerOptions>;
        let seen =
            self.docker.inspect_container(&self.name_of(&trace.id), none).await.map_err(|e| fault(&e))?;
        if seen.state.and_then(|s| s.pid) != Some(i64::from(trace.pid)) || !trace.is_alive() {
            return Err(gone("its process has ended"));
        }
        let requests = seen.host_config.and_then(|h| h.device_requests).unwrap_or_default();
        let mut devices = requests.into_iter().flat_map(|r| r.device_ids.unwrap_or_default());
        let gpu = devices.next().and_then(|device| device.parse().ok());
        let container = Rc::new(self.container(&trace.id, gpu));
        if let Some(slot) = trace.network {
            container.network.replace(Some(self.common.networks.adopt(slot).await?));
        }
        if let Some(at) = container.home.kept_port() {
            container.answers_at(at);
        }
        container.lives(trace.pid)?;
        Ok(container)
    }

    fn body(
        &self,
        spec: &Spec,
        image: String,
        shared: Option<&Path>,
        port: Option<u16>,
        volumes: &[String],
    ) -> Result<ContainerCreateBody, EngineFault> {
        let mut env: Vec<String> = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (soft, hard) = sandbox_descriptors();
        let mut host = HostConfig {
            network_mode: Some(if spec.network == Network::Host { "host" } else { "none" }.into()),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".into()),
                config: Some(HashMap::from([("max-size".into(), "1m".into())])),
            }),
            cgroup_parent: self.group.clone(),
            ulimits: Some(vec![
                ResourcesUlimits {
                    name: Some("nofile".into()),
                    soft: Some(soft as i64),
                    hard: Some(hard as i64),
                },
                ResourcesUlimits { name: Some("core".into()), soft: Some(1), hard: Some(1) },
            ]),
            cap_drop: Some(WITHOUT.map(str::to_string).to_vec()),
            // The same calls as on other engines, whatever this one's own list is.
            security_opt: Some(vec!["no-new-privileges".into(), format!("seccomp={}", seccomp::oci())]),
            // What is written is memory of the sandbox's own.
            masked_paths: Some(hidden_paths()),
            readonly_paths: Some(FIXED.map(|name| format!("/proc/{name}")).to_vec()),
            readonly_rootfs: Some(spec.writable == 0),
            storage_opt: (spec.writable > 0)
                .then(|| HashMap::from([("size".into(), spec.writable.to_string())])),
            tmpfs: Some(WRITABLE.map(|at| (at.to_string(), "rw,nosuid,nodev,mode=1777".to_string())).into()),
            // Else the daemon makes folders of its own for them, of its disk and without a limit.
            mounts: Some(volumes.iter().map(|at| in_memory(at)).collect()),
            ..HostConfig::default()
        };
        if spec.memory > 0 {
            let bytes = Some(spec.memory.max(spec.writable) as i64);
            let limit = ResourcesUlimits { name: Some("fsize".into()), soft: bytes, hard: bytes };
            host.ulimits.get_or_insert_default().push(limit);
            host.memory = Some(spec.memory as i64);
            host.memory_swap = host.memory;
        }
        if spec.cpus > 0 {
            host.nano_cpus = Some(i64::from(spec.cpus) * 1_000_000);
            host.cpu_shares = Some(shares_of(spec.cpus) as i64);
        }
        if spec.pids > 0 {
            host.pids_limit = Some(i64::from(spec.pids));
        }
        if let Some(gpu) = spec.gpu {
            host.device_requests = Some(vec![DeviceRequest {
                device_ids: Some(vec![gpu.to_string()]),
                capabilities: Some(vec![vec!["gpu".into()]]),
                ..DeviceRequest::default()
            }]);
        }
        let mut body = ContainerCreateBody {
            image: Some(image),
            labels: Some(HashMap::from([(LABEL.to_string(), self.common.worker.clone())])),
            ..ContainerCreateBody::default()
        };
        let mut binds = Vec::new();
        if let Some(code) = spec.code_path()? {
            binds.push(format!("{}:{CODE_INSIDE}:ro", code.display()));
        }
        if let Some(port) = port {
            env.push(format!("PORT={port}"));
        }
        if let Some(shared) = shared {
            binds.push(format!("{}:{SOCKETS_INSIDE}", shared.display()));
            env.push(format!("ELAPSE_SOCKET={SOCKETS_INSIDE}/s"));
        }
        if spec.role == Role::Image {
            body.cmd = (!spec.command.is_empty()).then(|| spec.command.clone());
        } else {
            let agent = self.common.agent.clone()?;
            binds.push(format!("{}:{AGENT_INSIDE}:ro", agent.display()));
            body.entrypoint = Some(vec![AGENT_INSIDE.into()]);
            let words = spec.role.words().iter().map(ToString::to_string);
            body.cmd = Some(words.chain(spec.command.clone()).collect());
        }
        host.binds = Some(binds);
        body.env = Some(env);
        body.host_config = Some(host);
        Ok(body)
    }
}

impl Engine for Dockers {
    fn name(&self) -> &str {
        NAME
    }

    fn check(&self, spec: &Spec) -> Result<(), EngineFault> {
        self.refusal(spec)
    }

    fn prepare<'a>(&'a self, image: Option<&'a str>) -> Local<'a, Result<(), EngineFault>> {
        Box::pin(async move {
            let Some(image) = image else { return self.agent_image().await.map(drop) };
            let outcome = self.fetch(image).await;
            self.images.borrow_mut().insert(image.to_string(), outcome.clone());
            outcome
        })
    }

    fn create(&self, spec: Spec) -> Local<'_, Result<Rc<dyn Sandbox>, EngineFault>> {
        Box::pin(self.start(spec))
    }

    fn adopt<'a>(&'a self, trace: &'a SandboxId) -> Local<'a, Result<Rc<dyn Sandbox>, EngineFault>> {
        Box::pin(self.take_over(trace))
    }

    fn sweep_but<'a>(&'a self, kept: &'a [String]) -> Local<'a, Result<Vec<String>, EngineFault>> {
        Box::pin(async move {
            let label = format!("{LABEL}={}", self.common.worker);
            let kept_names: Vec<String> = kept.iter().map(|id| format!("/{}", self.name_of(id))).collect();
            let filters = HashMap::from([("label".to_string(), vec![label])]);
            let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
            let mut removed = Vec::new();
            for found in self.docker.list_containers(Some(options)).await.map_err(|e| fault(&e))? {
                let Some(id) = found.id else { continue };
                let names = found.names.unwrap_or_default();
                if names.iter().any(|name| kept_names.contains(name)) {
                    continue;
                }
                container::removed(&self.docker, &id).await?;
                removed.push(format!("docker container {}", names.join(" ")));
            }
            removed.extend(clear_place(&self.base, kept)?);
            if kept.is_empty() {
                match remove_everywhere(&self.common.worker, NAME) {
                    // Who may use docker and is not root leaves the empty group to docker's host.
                    Err(e) if e.kind() != std::io::ErrorKind::PermissionDenied => {
                        return Err(EngineFault::lasting(format!("cannot remove {e}")));
                    }
                    _ => {}
                }
            }
            Ok(removed)
        })
    }
}
