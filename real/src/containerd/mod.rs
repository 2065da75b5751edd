//! Sandboxes of a containerd daemon.
//!
//! Each worker has a containerd namespace of its own, `elapse-<worker>`, so that workers share nothing but blobs; the
//! daemon's socket, not its command line, is talked to. A sandbox is a snapshot, a container record and a task. The agent
//! and the socket's directory are bound into any image.

mod import;
mod spec;

use crate::cgroup::{Gauge, remove_everywhere};
use crate::engine::{Death, Engine, EngineFault, Local, Role, Sandbox, Spec, clear_place, place};
use crate::image;
use crate::wire::Address;
use containerd_client::Client;
use containerd_client::services::v1 as leases;
use containerd_client::services::v1::container::Runtime;
use containerd_client::services::v1::snapshots::{PrepareSnapshotRequest, RemoveSnapshotRequest};
use containerd_client::services::v1::{
    Container, CreateContainerRequest, CreateNamespaceRequest, CreateTaskRequest, DeleteContainerRequest,
    DeleteImageRequest, DeleteNamespaceRequest, DeleteTaskRequest, KillRequest, ListContainersRequest,
    ListImagesRequest, Namespace, StartRequest, WaitRequest,
};
use containerd_client::tonic::{Code, Request, Status};
use containerd_client::types::Mount;
use import::Unpacked;
use prost::Message;
use prost_types::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tokio::sync::{Mutex, Notify};

const SNAPSHOTTER: &str = "overlayfs";
const RUNTIME: &str = "io.containerd.runc.v2";
const LABEL: &str = "elapse.worker";
const SIGKILL: u32 = 9;
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
    link: Rc<Link>,
    worker: String,
    base: PathBuf,
    agent: Result<PathBuf, EngineFault>,
    /// The low-level runtime: runc, crun.
    runtime: String,
    /// Images by the name that functions call them by; the agent's own under the empty name.
    images: RefCell<HashMap<String, Result<Rc<Unpacked>, EngineFault>>>,
    /// Held while one is obtained: creations that need it wait, and do not obtain it again.
    obtaining: Mutex<()>,
}

/// The daemon, and the namespace that every request bears.
struct Link {
    client: Client,
    namespace: String,
    /// What is made under a lease is kept for as long as it lasts.
    lease: Option<String>,
}

impl Link {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        // The name was checked: lower-case letters, digits and hyphens.
        if let Ok(value) = self.namespace.parse() {
            request.metadata_mut().insert("containerd-namespace", value);
        }
        if let Some(lease) = self.lease.as_ref().and_then(|l| l.parse().ok()) {
            request.metadata_mut().insert("containerd-lease", lease);
        }
        request
    }

    /// The same daemon, under a lease.
    fn leased(&self, lease: &str) -> Link {
        let client = Client::from(self.client.channel());
        Link { client, namespace: self.namespace.clone(), lease: Some(lease.to_string()) }
    }
}

fn fault(what: &str, status: &Status) -> EngineFault {
    let passing = matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Cancelled
    );
    EngineFault { transient: passing, why: format!("containerd: {what}: {}", status.message()) }
}

/// What is gone already needs no removal.
fn unless_gone<T>(what: &str, outcome: Result<T, Status>) -> Result<(), EngineFault> {
    match outcome {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::NotFound => Ok(()),
        Err(status) => Err(fault(what, &status)),
    }
}

impl Containerds {
    /// Connects to a daemon's socket; `runtime` is runc or crun.
    ///
    /// # Errors
    /// Nobody answers there.
    pub async fn connect(
        socket: &Path,
        worker: &str,
        agent: Result<PathBuf, EngineFault>,
        runtime: &str,
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
        let namespace = format!("elapse-{worker}");
        let link = Rc::new(Link { client, namespace, lease: None });
        Ok(Containerds {
            link,
            worker: worker.to_string(),
            base: place(worker, "containerd"),
            agent,
            runtime: runtime.to_string(),
            images: RefCell::default(),
            obtaining: Mutex::new(()),
        })
    }

    async fn make_namespace(&self) -> Result<(), EngineFault> {
        let labels = HashMap::from([(LABEL.to_string(), self.worker.clone())]);
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
        if spec.gpus.is_some() {
            return refuse("it gives out no GPUs; let the function run on docker");
        }
        if !matches!(spec.role, Role::Port(_)) {
            self.agent.as_ref().map_err(Clone::clone)?;
        } else if spec.image.is_none() {
            return refuse("protocol = \"tcp\" needs an image that is a server");
        }
        if matches!(spec.role, Role::Exec | Role::Serve) && spec.command.is_empty() {
            return refuse("the function has no command");
        }
        match self.images.borrow().get(spec.image.as_deref().unwrap_or_default()) {
            Some(Err(why)) => Err(why.clone()),
            _ => Ok(()),
        }
    }

    async fn image(&self, name: Option<&str>) -> Result<Rc<Unpacked>, EngineFault> {
        let key = name.unwrap_or_default();
        let known = |images: &HashMap<String, _>| images.get(key).cloned();
        if let Some(known) = known(&self.images.borrow()) {
            return known;
        }
        let _one = self.obtaining.lock().await;
        if let Some(known) = known(&self.images.borrow()) {
            return known;
        }
        let outcome = self.obtain(name).await.map(Rc::new);
        self.images.borrow_mut().insert(key.to_string(), outcome.clone());
        outcome
    }

    /// Under a lease, so that nothing of an image is collected before its record holds it.
    async fn obtain(&self, name: Option<&str>) -> Result<Unpacked, EngineFault> {
        self.make_namespace().await?;
        let leases = || self.link.client.leases();
        let request = leases::CreateRequest { id: "elapse-import".into(), labels: HashMap::new() };
        match leases().create(self.link.request(request)).await {
            Err(status) if status.code() != Code::AlreadyExists => {
                return Err(fault("cannot make a lease", &status));
            }
            _ => {}
        }
        let obtained = self.obtain_under(&self.link.leased("elapse-import"), name).await;
        let request = leases::DeleteRequest { id: "elapse-import".into(), sync: false };
        let _ = leases().delete(self.link.request(request)).await;
        obtained
    }

    async fn obtain_under(&self, link: &Link, name: Option<&str>) -> Result<Unpacked, EngineFault> {
        let Some(name) = name else {
            let agent = self.agent.clone()?;
            let image = image::of_agent(&agent)
                .map_err(|e| EngineFault::lasting(format!("cannot read {}: {e}", agent.display())))?;
            return import::from_tar(link, &image.tar, &image.name).await;
        };
        if Path::new(name).extension().is_some_and(|e| e == "tar") {
            let tar = fs::read(name)
                .map_err(|e| EngineFault::lasting(format!("image {name} cannot be read: {e}")))?;
            return import::from_tar(link, &tar, name).await;
        }
        import::known(link, name).await
    }

    async fn start(&self, spec: Spec) -> Result<Rc<dyn Sandbox>, EngineFault> {
        self.refusal(&spec)?;
        let image = self.image(spec.image.as_deref()).await?;
        let dir = self.base.join(&spec.id);
        fs::create_dir_all(&dir)
            .map_err(|e| EngineFault::lasting(format!("cannot make {}: {e}", dir.display())))?;
        let port = match spec.role {
            Role::Port(_) => Some(crate::engine::free_port()?),
            _ => None,
        };
        let sandbox = Rc::new(Task {
            link: Rc::clone(&self.link),
            id: spec.id.clone(),
            address: port.map_or_else(|| Address::Unix(dir.join("s")), crate::engine::loopback),
            dir,
            gauge: RefCell::default(),
            death: RefCell::default(),
            changed: Notify::new(),
        });
        match self.begin(&spec, &image, &sandbox, port).await {
            Ok(()) => Ok(sandbox),
            Err(fault) => {
                let _ = sandbox.remove().await;
                Err(fault)
            }
        }
    }

    async fn begin(
        &self,
        spec: &Spec,
        image: &Unpacked,
        sandbox: &Rc<Task>,
        port: Option<u16>,
    ) -> Result<(), EngineFault> {
        let client = &self.link.client;
        let mounts = self.snapshot(&spec.id, image).await?;
        let agent = if port.is_none() { Some(self.agent.clone()?) } else { None };
        let bundle = spec::bundle(&spec::Wanted {
            spec,
            image,
            agent: agent.as_deref(),
            sockets: &sandbox.dir,
            cgroup: format!("/{}/{}", self.link.namespace, spec.id),
            port,
        });
        let options = RuncOptions {
            binary_name: if self.runtime == "runc" { String::new() } else { self.runtime.clone() },
        };
        let container = Container {
            id: spec.id.clone(),
            labels: HashMap::from([(LABEL.to_string(), self.worker.clone())]),
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
        let log = format!("file://{}", sandbox.dir.join("log").display());
        let request = self.link.request(CreateTaskRequest {
            container_id: spec.id.clone(),
            rootfs: mounts,
            stdout: log.clone(),
            stderr: log,
            ..CreateTaskRequest::default()
        });
        let task = client.tasks().create(request).await.map_err(|e| fault("cannot create the task", &e))?;
        *sandbox.gauge.borrow_mut() = Gauge::of_process(task.into_inner().pid as i32).ok();
        Task::watch(sandbox);
        let request =
            self.link.request(StartRequest { container_id: spec.id.clone(), ..StartRequest::default() });
        client.tasks().start(request).await.map_err(|e| fault("cannot start the task", &e))?;
        Ok(())
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

    async fn remove_all(&self) -> Result<Vec<String>, EngineFault> {
        let client = &self.link.client;
        let mut removed = Vec::new();
        let request = self.link.request(ListContainersRequest::default());
        let found = match client.containers().list(request).await {
            Ok(found) => found.into_inner().containers,
            Err(status) if status.code() == Code::NotFound => Vec::new(),
            Err(status) => return Err(fault("cannot list containers", &status)),
        };
        for container in found {
            removed.push(format!("containerd container {}/{}", self.link.namespace, container.id));
            let task = Rc::new(Task {
                link: Rc::clone(&self.link),
                dir: self.base.join(&container.id),
                address: Address::Unix(PathBuf::new()),
                id: container.id,
                gauge: RefCell::default(),
                death: RefCell::default(),
                changed: Notify::new(),
            });
            task.remove().await?;
        }
        removed.extend(import::remove_snapshots(&self.link).await?);
        removed.extend(clear_place(&self.base, &[])?);
        remove_everywhere(&self.link.namespace)
            .map_err(|e| EngineFault::lasting(format!("cannot remove {e}")))?;
        Ok(removed)
    }
}

impl Engine for Containerds {
    fn name(&self) -> &str {
        "containerd"
    }

    fn check(&self, spec: &Spec) -> Result<(), EngineFault> {
        self.refusal(spec)
    }

    fn prepare<'a>(&'a self, image: Option<&'a str>) -> Local<'a, Result<(), EngineFault>> {
        Box::pin(async move { self.image(image).await.map(drop) })
    }

    fn create(&self, spec: Spec) -> Local<'_, Result<Rc<dyn Sandbox>, EngineFault>> {
        Box::pin(self.start(spec))
    }

    fn sweep_but<'a>(&'a self, _kept: &'a [String]) -> Local<'a, Result<Vec<String>, EngineFault>> {
        Box::pin(async move {
            let removed = self.remove_all().await?;
            // Images that were imported by us, and with them what only they hold; a user's own stay.
            self.images.borrow_mut().clear();
            let client = &self.link.client;
            let filters = vec![format!("labels.\"{LABEL}\"=={}", self.worker)];
            let listed = client.images().list(self.link.request(ListImagesRequest { filters })).await;
            for image in listed.map(|l| l.into_inner().images).unwrap_or_default() {
                let request = DeleteImageRequest { name: image.name, sync: true, target: None };
                unless_gone(
                    "cannot remove an image",
                    client.images().delete(self.link.request(request)).await,
                )?;
            }
            // The low-level runtime keeps its containers' state here, and an empty directory once they are gone.
            let _ = fs::remove_dir(Path::new(RUNTIME_STATE).join(&self.link.namespace));
            let request = DeleteNamespaceRequest { name: self.link.namespace.clone() };
            // Refused where a user's images are in it.
            let _ = client.namespaces().delete(self.link.request(request)).await;
            Ok(removed)
        })
    }
}

struct Task {
    link: Rc<Link>,
    id: String,
    dir: PathBuf,
    address: Address,
    gauge: RefCell<Option<Gauge>>,
    death: RefCell<Option<Death>>,
    changed: Notify,
}

impl Task {
    fn watch(task: &Rc<Task>) {
        let task = Rc::clone(task);
        drop(tokio::task::spawn_local(async move {
            let request = WaitRequest { container_id: task.id.clone(), ..WaitRequest::default() };
            let waited = task.link.client.tasks().wait(task.link.request(request)).await;
            let how = match waited {
                Ok(answer) => format!("its process exited with {}", answer.into_inner().exit_status),
                Err(e) => format!("its end cannot be watched: {}", e.message()),
            };
            let oom = task.gauge.borrow().as_ref().is_some_and(Gauge::was_out_of_memory);
            *task.death.borrow_mut() = Some(if oom { Death::OutOfMemory } else { Death::Ended(how) });
            task.changed.notify_waiters();
        }));
    }

    async fn remove(&self) -> Result<(), EngineFault> {
        let client = &self.link.client;
        let id = || self.id.clone();
        let kill = KillRequest { container_id: id(), signal: SIGKILL, all: true, ..KillRequest::default() };
        // A task that never started, or that has ended, cannot be killed; deleting tells whether it is gone.
        let _ = client.tasks().kill(self.link.request(kill)).await;
        let wait = WaitRequest { container_id: id(), ..WaitRequest::default() };
        let _ = client.tasks().wait(self.link.request(wait)).await;
        let delete = self.link.request(DeleteTaskRequest { container_id: id() });
        unless_gone("cannot remove the task", client.tasks().delete(delete).await)?;
        let delete = self.link.request(DeleteContainerRequest { id: id() });
        unless_gone("cannot remove the container", client.containers().delete(delete).await)?;
        let delete = RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.into(), key: id() };
        unless_gone(
            "cannot remove the snapshot",
            client.snapshots().remove(self.link.request(delete)).await,
        )?;
        match fs::remove_dir_all(&self.dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(EngineFault::passing(format!("cannot remove {}: {e}", self.dir.display())))
            }
            _ => Ok(()),
        }
    }
}

impl Sandbox for Task {
    fn address(&self) -> Address {
        self.address.clone()
    }

    fn memory(&self) -> Option<u64> {
        self.gauge.borrow().as_ref()?.memory()
    }

    fn kills(&self) -> u64 {
        self.gauge.borrow().as_ref().map_or(0, Gauge::kills)
    }

    fn death(&self) -> Option<Death> {
        self.death.borrow().clone()
    }

    fn dies(&self) -> Local<'_, Death> {
        Box::pin(async move {
            loop {
                let told = self.changed.notified();
                if let Some(death) = self.death() {
                    return death;
                }
                told.await;
            }
        })
    }

    fn last_words(&self) -> Local<'_, String> {
        let text = fs::read(self.dir.join("log")).unwrap_or_default();
        let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(500)..]).into_owned();
        Box::pin(async move { tail.trim().replace('\n', "; ") })
    }

    fn destroy(&self) -> Local<'_, Result<(), EngineFault>> {
        Box::pin(self.remove())
    }
}
