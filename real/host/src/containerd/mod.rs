//! Sandboxes of a containerd daemon.
//!
//! Each worker has a containerd namespace of its own, `elapse-<worker>`, so that workers share nothing but blobs; the
//! daemon's socket, not its command line, is talked to. A sandbox is a snapshot, a container record and a task. The agent
//! and the socket's directory are bound into any image.

mod archive;
mod import;
mod link;
mod pool;
mod shims;
mod spec;
mod task;
mod unpack;
mod user;

use crate::cgroup::{path_of, remove_everywhere};
use crate::engine::{
    self, Common, Engine, EngineFault, Local, Network, Role, Sandbox, SandboxId, Spec, clear_place, place,
};
use crate::home::Home;
use crate::image;
use archive::Archive;
use containerd_client::Client;
use containerd_client::services::v1 as leases;
use containerd_client::services::v1::container::Runtime;
use containerd_client::services::v1::snapshots::PrepareSnapshotRequest;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, CreateNamespaceRequest, CreateTaskRequest, DeleteImageRequest,
    DeleteNamespaceRequest, GetRequest, ListContainersRequest, ListImagesRequest, Namespace,
};
use containerd_client::tonic::Code;
use containerd_client::types::Mount;
use import::Unpacked;
use link::{Link, fault, unless_gone};
use pool::Pool;
use prost::Message;
use prost_types::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};
use task::Task;
use tokio::sync::Mutex;

/// What the engine is called.
const NAME: &str = "containerd";
const SNAPSHOTTER: &str = "overlayfs";
const RUNTIME: &str = "io.containerd.runc.v2";
const LABEL: &str = "elapse.worker";
/// Where containerd's shim lets the low-level runtime keep its state, a directory for each namespace.
const RUNTIME_STATE: &str = "/run/containerd/runc";

/// `containerd.runc.v1.Options`, of which the client crate knows nothing.
#[derive(Clone, PartialEq, Message)]
struct RuncOptions {
    #[prost(string, tag = "6")]
    binary_name: String,
}

/// See the module.
pub struct Containerds {
    inner: Rc<Inner>,
    pool: Rc<Pool>,
}

struct Inner {
    link: Rc<Link>,
    common: Common,
    base: PathBuf,
    /// The low-level runtime: runc, crun.
    runtime: String,
    /// Images by the name that functions call them by; the agent's own under the empty name.
    images: RefCell<HashMap<String, Known>>,
    /// Held while an image is obtained, each by itself: creations that need it wait, and do not obtain it again.
    obtaining: RefCell<HashMap<String, Rc<Mutex<()>>>>,
    /// Leases that were made.
    leases: Cell<u64>,
}

/// What is known of an image.
struct Known {
    outcome: Result<Rc<Unpacked>, EngineFault>,
    since: Instant,
}

impl Known {
    /// Whether it still holds: a registry that does not answer now may answer later, and is not asked by each creation.
    fn holds(&self) -> bool {
        const PASSING: Duration = Duration::from_secs(5);
        !self.outcome.as_ref().is_err_and(|fault| fault.transient) || self.since.elapsed() < PASSING
    }
}

/// How the leases begin under which images are obtained.
const LEASE: &str = "elapse-import-";

impl Containerds {
    /// Connects to a daemon's socket; `runtime` is runc or crun. Of each kind of sandbox that was asked for, `pooled` are
    /// created ahead of need.
    ///
    /// # Errors
    /// Nobody answers there.
    pub async fn connect(
        socket: &Path,
        common: Common,
        runtime: &str,
        pooled: usize,
    ) -> Result<Containerds, EngineFault> {
        let away = |why: String| {
            EngineFault::lasting(format!(
                "containerd does not answer at {}: {why}; install containerd and runc, start it, and see that you may use \
                 it",
                socket.display()
            ))
        };
        if !socket.exists() {
            return Err(away("there is no such socket".into()));
        }
        let client = Client::from_path(socket).await.map_err(|e| away(e.to_string()))?;
        client.version().version(()).await.map_err(|e| away(e.message().to_string()))?;
        let namespace = format!("elapse-{}", common.worker);
        let inner = Rc::new(Inner {
            link: Rc::new(Link { client, namespace, lease: None, image_size: common.image_size }),
            base: place(&common.worker, NAME),
            common,
            runtime: runtime.to_string(),
            images: RefCell::default(),
            obtaining: RefCell::default(),
            leases: Cell::new(0),
        });
        Ok(Containerds { pool: Rc::new(Pool::new(Rc::clone(&inner), pooled)), inner })
    }
}

impl Inner {
    async fn make_namespace(&self) -> Result<(), EngineFault> {
        let labels = HashMap::from([(LABEL.to_string(), self.common.worker.clone())]);
        let namespace = Namespace { name: self.link.namespace.clone(), labels };
        let made = self
            .link
            .client
            .namespaces()
            .create(self.link.request(CreateNamespaceRequest { namespace: Some(namespace) }))
            .await;
        match made {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            Err(status) => Err(fault("cannot make the namespace", &status)),
        }
    }

    fn refusal(&self, spec: &Spec) -> Result<(), EngineFault> {
        let refuse = |why: &str| Err(EngineFault::lasting(why));
        if spec.gpu.is_some() {
            return refuse("it gives out no GPUs; let the function run on docker");
        }
        if spec.writable > 0 {
            return refuse(engine::NO_QUOTAS);
        }
        self.common.check(spec)?;
        match self.images.borrow().get(spec.image.as_deref().unwrap_or_default()) {
            Some(Known { outcome: Err(why), .. }) if !why.transient => Err(why.clone()),
            _ => Ok(()),
        }
    }

    async fn image(&self, name: Option<&str>) -> Result<Rc<Unpacked>, EngineFault> {
        let key = name.unwrap_or_default();
        let known = || self.images.borrow().get(key).filter(|k| k.holds()).map(|k| k.outcome.clone());
        if let Some(known) = known() {
            return known;
        }
        let lock = Rc::clone(self.obtaining.borrow_mut().entry(key.to_string()).or_default());
        let _one = lock.lock().await;
        if let Some(known) = known() {
            return known;
        }
        let outcome = self.obtain(name).await.map(Rc::new);
        let now = Known { outcome: outcome.clone(), since: Instant::now() };
        self.images.borrow_mut().insert(key.to_string(), now);
        outcome
    }

    /// Under a lease, so that nothing of an image is collected before its record holds it.
    async fn obtain(&self, name: Option<&str>) -> Result<Unpacked, EngineFault> {
        self.make_namespace().await?;
        let id = format!("{LEASE}{}-{}", std::process::id(), self.leases.replace(self.leases.get() + 1));
        let request = leases::CreateRequest { id: id.clone(), labels: HashMap::new() };
        match self.link.client.leases().create(self.link.request(request)).await {
            Err(status) if status.code() != Code::AlreadyExists => {
                return Err(fault("cannot make a lease", &status));
            }
            _ => {}
        }
        let obtained = self.obtain_under(&self.link.leased(&id), name).await;
        self.end_lease(id).await;
        obtained
    }

    async fn end_lease(&self, id: String) {
        let request = leases::DeleteRequest { id, sync: false };
        let _ = self.link.client.leases().delete(self.link.request(request)).await;
    }

    async fn obtain_under(&self, link: &Link, name: Option<&str>) -> Result<Unpacked, EngineFault> {
        let Some(name) = name else {
            let agent = self.common.agent.clone()?;
            let image = image::of_agent(&agent)
                .map_err(|e| EngineFault::lasting(format!("cannot read {}: {e}", agent.display())))?;
            let archive = Archive::of(image.tar).map_err(EngineFault::lasting)?;
            return import::from_archive(link, archive, &image.name).await;
        };
        if Path::new(name).extension().is_some_and(|e| e == "tar") {
            return import::from_archive(link, import::archive_in(name).await?, name).await;
        }
        match import::known(link, name).await? {
            Some(known) => Ok(known),
            None => import::from_registry(link, name).await,
        }
    }

    /// Creates what will run, up to where only its start is missing.
    async fn make(&self, spec: Spec) -> Result<Rc<Task>, EngineFault> {
        self.refusal(&spec)?;
        let image = self.image(spec.image.as_deref()).await?;
        let home = Home::of(&self.base, &spec.id);
        let task = Rc::new(Task::new(Rc::clone(&self.link), &spec.id, home));
        let made = task.home.make().and_then(|()| task.read_log());
        made.map_err(|e| EngineFault::lasting(format!("cannot make its folder: {e}")))?;
        match self.begin(&spec, &image, &task).await {
            Ok(()) => Ok(task),
            Err(fault) => {
                let _ = task.remove().await;
                Err(fault)
            }
        }
    }

    async fn begin(&self, spec: &Spec, image: &Unpacked, sandbox: &Rc<Task>) -> Result<(), EngineFault> {
        let client = &self.link.client;
        let port = engine::port_of(spec)?;
        if spec.network == Network::Bridge {
            sandbox.network.replace(Some(self.common.networks.lease().await?));
        }
        let (own, namespace) = {
            let network = sandbox.network.borrow();
            let own = port.and_then(|port| Some(network.as_ref()?.port(port)));
            (own, network.as_ref().and_then(|lease| lease.namespace()).map(Path::to_path_buf))
        };
        if let Some(port) = port {
            sandbox.answers_at(sandbox.home.keep_port(own, port)?);
        }
        let sockets = match port {
            Some(_) => None,
            // Whoever the image runs as puts the socket there.
            None => Some(sandbox.home.share(Some(image.user))),
        };
        let sockets = sockets.transpose();
        let sockets = sockets.map_err(|e| EngineFault::lasting(format!("cannot make its folder: {e}")))?;
        let mounts = self.snapshot(&spec.id, image).await?;
        let agent = if spec.role == Role::Image { None } else { Some(self.common.agent.clone()?) };
        let bundle = spec::bundle(&spec::Wanted {
            spec,
            image,
            agent: agent.as_deref(),
            sockets: sockets.as_deref(),
            cgroup: Path::new("/").join(path_of(&self.common.worker, NAME)).join(&spec.id),
            port,
            network: namespace.as_deref(),
        })?;
        let options = RuncOptions {
            binary_name: if self.runtime == "runc" { String::new() } else { self.runtime.clone() },
        };
        let container = Container {
            id: spec.id.clone(),
            labels: HashMap::from([(LABEL.to_string(), self.common.worker.clone())]),
            image: image.name.clone(),
            runtime: Some(Runtime {
                name: RUNTIME.into(),
                options: Some(Any {
                    type_url: "containerd.runc.v1.Options".into(),
                    value: options.encode_to_vec(),
                }),
            }),
            spec: Some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".into(),
                value: bundle.to_string().into_bytes(),
            }),
            snapshotter: SNAPSHOTTER.into(),
            snapshot_key: spec.id.clone(),
            ..Container::default()
        };
        let request = self.link.request(CreateContainerRequest { container: Some(container) });
        client.containers().create(request).await.map_err(|e| fault("cannot create the container", &e))?;
        let log = sandbox.home.log().display().to_string();
        let request = self.link.request(CreateTaskRequest {
            container_id: spec.id.clone(),
            rootfs: mounts,
            stdout: log.clone(),
            stderr: log,
            ..CreateTaskRequest::default()
        });
        let task = client.tasks().create(request).await.map_err(|e| fault("cannot create the task", &e))?;
        sandbox.lives(task.into_inner().pid as i32)
    }

    async fn take_over(&self, trace: &SandboxId) -> Result<Rc<dyn Sandbox>, EngineFault> {
        const RUNNING: i32 = 2;
        let request =
            self.link.request(GetRequest { container_id: trace.id.clone(), ..GetRequest::default() });
        let task =
            self.link.client.tasks().get(request).await.map_err(|e| fault("cannot find the task", &e))?;
        let process = task.into_inner().process.unwrap_or_default();
        if process.pid as i32 != trace.pid || process.status != RUNNING || !trace.is_alive() {
            return Err(EngineFault::lasting(format!("{}: its process has ended", trace.id)));
        }
        let home = Home::of(&self.base, &trace.id);
        let task = Rc::new(Task::new(Rc::clone(&self.link), &trace.id, home));
        task.read_log()
            .map_err(|e| EngineFault::lasting(format!("{}: cannot read its log: {e}", trace.id)))?;
        if let Some(slot) = trace.network {
            task.network.replace(Some(self.common.networks.adopt(slot).await?));
        }
        if let Some(at) = task.home.kept_port() {
            task.answers_at(at);
        }
        task.lives(trace.pid)?;
        Ok(task)
    }

    async fn snapshot(&self, id: &str, image: &Unpacked) -> Result<Vec<Mount>, EngineFault> {
        let request = self.link.request(PrepareSnapshotRequest {
            snapshotter: SNAPSHOTTER.into(),
            key: id.to_string(),
            parent: image.chain.clone(),
            // Until the container's record names it, nothing else would keep it from being collected.
            labels: HashMap::from([("containerd.io/gc.root".to_string(), "elapse".to_string())]),
        });
        let prepared = self.link.client.snapshots().prepare(request).await;
        Ok(prepared.map_err(|e| fault("cannot prepare a snapshot", &e))?.into_inner().mounts)
    }

    async fn remove_all(&self, kept: &[String]) -> Result<Vec<String>, EngineFault> {
        let client = &self.link.client;
        let mut removed = Vec::new();
        let request = self.link.request(ListContainersRequest::default());
        let found = match client.containers().list(request).await {
            Ok(found) => found.into_inner().containers,
            Err(status) if status.code() == Code::NotFound => Vec::new(),
            Err(status) => return Err(fault("cannot list containers", &status)),
        };
        for container in found.into_iter().filter(|container| !kept.contains(&container.id)) {
            removed.push(format!("containerd container {}/{}", self.link.namespace, container.id));
            let home = Home::of(&self.base, &container.id);
            Task::new(Rc::clone(&self.link), &container.id, home).remove().await?;
        }
        removed.extend(shims::sweep(&self.link.namespace, kept).await);
        removed.extend(clear_place(&self.base, kept)?);
        // Of a life that was killed between two steps: nothing names them.
        removed.extend(unpack::remove_snapshots(&self.link, kept).await?);
        self.end_leases().await;
        if kept.is_empty() {
            remove_everywhere(&self.common.worker, NAME)
                .map_err(|e| EngineFault::lasting(format!("cannot remove {e}")))?;
            self.forget().await?;
        }
        Ok(removed)
    }

    /// Ends the leases of a life that was killed while it obtained an image.
    async fn end_leases(&self) {
        let request = leases::ListRequest { filters: Vec::new() };
        let held = self.link.client.leases().list(self.link.request(request)).await;
        for lease in held.map(|l| l.into_inner().leases).unwrap_or_default() {
            if lease.id.starts_with(LEASE) {
                self.end_lease(lease.id).await;
            }
        }
    }

    /// Removes images that were imported by us, and with them what only they hold; a user's own stay. Then the namespace.
    async fn forget(&self) -> Result<(), EngineFault> {
        self.images.borrow_mut().clear();
        let client = &self.link.client;
        let filters = vec![format!("labels.\"{LABEL}\"=={}", self.common.worker)];
        let listed = client.images().list(self.link.request(ListImagesRequest { filters })).await;
        for image in listed.map(|l| l.into_inner().images).unwrap_or_default() {
            let request = DeleteImageRequest { name: image.name, sync: true, target: None };
            unless_gone("cannot remove an image", client.images().delete(self.link.request(request)).await)?;
        }
        // The low-level runtime keeps its containers' state here, and an empty directory once they are gone.
        let _ = fs::remove_dir(Path::new(RUNTIME_STATE).join(&self.link.namespace));
        let request = DeleteNamespaceRequest { name: self.link.namespace.clone() };
        // Refused where a user's images are in it.
        let _ = client.namespaces().delete(self.link.request(request)).await;
        Ok(())
    }
}

impl Engine for Containerds {
    fn name(&self) -> &str {
        NAME
    }

    fn check(&self, spec: &Spec) -> Result<(), EngineFault> {
        self.inner.refusal(spec)?;
        self.pool.want(spec);
        Ok(())
    }

    fn prepare<'a>(&'a self, image: Option<&'a str>) -> Local<'a, Result<(), EngineFault>> {
        Box::pin(async move {
            // Whoever asks for it anew may have logged in, or pushed it, since it could not be had.
            let key = image.unwrap_or_default();
            self.inner.images.borrow_mut().retain(|name, known| name != key || known.outcome.is_ok());
            self.inner.image(image).await.map(drop)
        })
    }

    fn create(&self, spec: Spec) -> Local<'_, Result<Rc<dyn Sandbox>, EngineFault>> {
        Box::pin(async move {
            let task = match self.pool.take(&spec).await {
                Some(started) => started,
                None => {
                    let task = self.inner.make(spec).await?;
                    if let Err(fault) = task.start().await {
                        let _ = task.remove().await;
                        return Err(fault);
                    }
                    task
                }
            };
            Ok(task as Rc<dyn Sandbox>)
        })
    }

    fn ready_ahead(&self) -> Option<usize> {
        Some(self.pool.ready())
    }

    fn adopt<'a>(&'a self, trace: &'a SandboxId) -> Local<'a, Result<Rc<dyn Sandbox>, EngineFault>> {
        Box::pin(self.inner.take_over(trace))
    }

    fn sweep_but<'a>(&'a self, kept: &'a [String]) -> Local<'a, Result<Vec<String>, EngineFault>> {
        Box::pin(async move {
            self.pool.empty().await;
            self.inner.remove_all(kept).await
        })
    }
}
