//! Images of others: from a file, by name, from a registry; whom they run as, and what runs them below containerd.

use crate::common::containers::{agent, call, common_of, daemon, ready, spec, worker_name};
use crate::common::scratch;
use elapse::backend::{Backend, LiveConfig, Sandbox};
use elapse::base::{Behaviour, Duration, FunctionId, Network, Protocol};
use elapse::rt;
use elapse_host::docker::Dockers;
use elapse_host::engine::Engine;
use elapse_live::backend::Live;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

#[test]
fn an_image_that_is_a_server_on_its_port_works_as_it_is() {
    let test = "an_image_that_is_a_server_on_its_port_works_as_it_is";
    let Some(socket) = daemon("docker", test) else { return };
    let worker = worker_name();
    let runtime = rt::Live::new().expect("a runtime");
    runtime.block_on(async {
        let connected = Dockers::connect(&socket, common_of(&worker)).await;
        let engine: Rc<dyn Engine> = Rc::new(connected.expect("an engine"));
        // Our agent's image is such a server, if nobody names it a socket.
        engine.prepare(None).await.expect("an image");
        let image = elapse_host::image::of_agent(&agent()).expect("an image").name;
        engine.prepare(Some(&image)).await.expect("it is there");
        let absent = engine.prepare(Some("elapse.local/no-such-image:1")).await.expect_err("nobody has it");
        assert!(absent.why.contains("is not here and cannot be pulled"), "{absent}");
        let backend = Live::new(Rc::clone(&engine), LiveConfig { worker, ..LiveConfig::default() });
        let mut spec = spec(Behaviour::Sleep, &[], None);
        spec.program.image = Some("elapse.local/no-such-image:1".into());
        assert!(backend.admit(FunctionId(0), &spec).is_err());
        (spec.program.image, spec.program.protocol) = (Some(image), Protocol::Tcp);
        spec.program.network = Some(Network::Host);
        let sandbox = ready(&backend, &spec).await;
        let begun = rt::now();
        backend.invoke(sandbox, &call(20)).await.expect("over TCP");
        assert!(rt::now().since(begun) >= Duration::from_millis(20));
        backend.remove(sandbox).await;
        assert_eq!(engine.sweep().await.expect("a sweep"), Vec::<String>::new());
    });
}

/// A container of this image, which has answered once.
async fn answering(engine: &Rc<dyn Engine>, worker: &str, image: &str) -> (Live, Sandbox) {
    let config = LiveConfig { worker: worker.to_string(), ..LiveConfig::default() };
    let backend = Live::new(Rc::clone(engine), config);
    let mut spec = spec(Behaviour::Echo, &[], None);
    spec.program.image = Some(image.to_string());
    let sandbox = ready(&backend, &spec).await;
    backend.invoke(sandbox, &call(0)).await.expect("an answer");
    (backend, sandbox)
}

/// A process that this user and group runs, as a folder of `/proc`.
fn process_of(user: &str, group: &str) -> Option<PathBuf> {
    let id = |status: &str, what: &str| -> Option<String> {
        let line = status.lines().find_map(|l| l.strip_prefix(what))?;
        line.split_whitespace().next().map(str::to_string)
    };
    std::fs::read_dir("/proc").expect("processes").flatten().map(|entry| entry.path()).find(|process| {
        let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
        id(&status, "Uid:").as_deref() == Some(user) && id(&status, "Gid:").as_deref() == Some(group)
    })
}

/// Such a user opens the socket in a folder that was made for root, and nobody else of the host gets to it.
#[test]
fn an_image_on_docker_may_have_a_user_that_is_not_root() {
    let test = "an_image_on_docker_may_have_a_user_that_is_not_root";
    let Some(socket) = daemon("docker", test) else { return };
    let worker = worker_name();
    let folder = scratch("docker-user");
    let etc = folder.join("root/etc");
    std::fs::create_dir_all(&etc).expect("a folder");
    std::fs::write(etc.join("passwd"), "root:x:0:0::/:/bin/sh\napp:x:54331:54332::/:/bin/sh\n")
        .expect("a file");
    let (layer, image) = (folder.join("layer.tar"), format!("elapse-test/{worker}:1"));
    let ran = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(program).args(args).output().expect("it runs");
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let text = |path: &Path| path.to_str().expect("a path").to_string();
    let at = format!("unix://{}", socket.display());
    ran("tar", &["-C", &text(&folder.join("root")), "-cf", &text(&layer), "."]);
    ran(
        "docker",
        &["-H", &at, "import", "--change", "USER app", "--change", "VOLUME /data", &text(&layer), &image],
    );
    rt::Live::new().expect("a runtime").block_on(async {
        let connected = Dockers::connect(&socket, common_of(&worker)).await;
        let engine: Rc<dyn Engine> = Rc::new(connected.expect("an engine"));
        engine.prepare(Some(&image)).await.expect("it is there");
        let (backend, sandbox) = answering(&engine, &worker, &image).await;
        let process = process_of("54331", "54332").expect("a process runs as the user that the image names");
        // A volume of the image's would be a folder of the daemon's disk, without a limit.
        let mounts = std::fs::read_to_string(process.join("mountinfo")).expect("its mounts");
        let data = mounts.lines().find(|line| line.contains(" /data ")).unwrap_or_default();
        assert!(data.contains(" - tmpfs "), "{mounts}");
        let homes = std::fs::read_dir(format!("/run/elapse/{worker}/docker")).expect("its folder").flatten();
        let modes: Vec<u32> =
            homes.map(|home| home.metadata().expect("its home").permissions().mode() & 0o777).collect();
        assert_eq!(modes, [0o700], "open to others on the host");
        backend.remove(sandbox).await;
        assert_eq!(engine.sweep().await.expect("a sweep"), Vec::<String>::new());
    });
    ran("docker", &["-H", &at, "rmi", &image]);
    assert_eq!(elapse_host::doctor::leftovers_of(&worker), Vec::<String>::new());
}

#[cfg(feature = "containerd")]
mod containerd {
    use super::*;
    use crate::common::containers::creation;
    use crate::common::has;
    use elapse::base::Mem;
    use elapse_host::containerd::Containerds;

    #[test]
    fn the_runtime_below_containerd_is_chosen_by_name() {
        let test = "the_runtime_below_containerd_is_chosen_by_name";
        let Some(socket) = daemon("crun", test) else { return };
        let worker = worker_name();
        rt::Live::new().expect("a runtime").block_on(async {
            let connected = Containerds::connect(&socket, common_of(&worker), "crun", 0).await;
            let engine: Rc<dyn Engine> = Rc::new(connected.expect("an engine"));
            engine.prepare(None).await.expect("an image");
            let config = LiveConfig { worker: worker.clone(), ..LiveConfig::default() };
            let backend = Live::new(Rc::clone(&engine), config);
            let sandbox = ready(&backend, &spec(Behaviour::Echo, &[], None)).await;
            backend.invoke(sandbox, &call(0)).await.expect("an answer");
            assert!(backend.memory(sandbox).is_some_and(|m| m > Mem(0)), "its memory is read");
            backend.remove(sandbox).await;
            assert_eq!(engine.sweep().await.expect("a sweep"), Vec::<String>::new());
            // One that nobody has is a fault of the creation, in a sentence.
            let connected = Containerds::connect(&socket, common_of(&worker), "crum", 0).await;
            let engine: Rc<dyn Engine> = Rc::new(connected.expect("an engine"));
            let config = LiveConfig { worker: worker.clone(), ..LiveConfig::default() };
            let backend = Live::new(Rc::clone(&engine), config);
            backend.admit(FunctionId(0), &spec(Behaviour::Echo, &[], None)).expect("admitted");
            let absent = backend.create(&creation()).await.expect_err("there is no crum");
            assert!(absent.why.contains("crum"), "{}", absent.why);
            assert_eq!(engine.sweep().await.expect("a sweep"), Vec::<String>::new());
        });
        assert_eq!(elapse_host::doctor::leftovers_of(&worker), Vec::<String>::new());
    }

    /// An image file whose user has a name, in a layer that has no more than an /etc.
    fn image_of_user(file: &Path, user: &str) {
        let text = r#"
import hashlib, io, json, sys, tarfile
def tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()
blobs = {}
def blob(data, kind):
    digest = hashlib.sha256(data).hexdigest()
    blobs["blobs/sha256/" + digest] = data
    return {"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + digest, "size": len(data)}
passwd = b"root:x:0:0::/:/bin/sh\napp:x:54321:54322::/:/bin/sh\n"
layers = [blob(tar({"etc/passwd": passwd}), "layer.v1.tar"), blob(tar({"note": b"on top"}), "layer.v1.tar")]
config = blob(json.dumps({"architecture": sys.argv[3], "os": "linux", "config": {"User": sys.argv[2]},
    "rootfs": {"type": "layers", "diff_ids": [l["digest"] for l in layers]}}).encode(), "config.v1+json")
manifest = blob(json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode(), "manifest.v1+json")
files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
    "index.json": json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode(), **blobs}
open(sys.argv[1], "wb").write(tar(files))
"#;
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let mut python = std::process::Command::new("python3");
        let made = python.args(["-c", text]).arg(file).args([user, architecture]).status().expect("python3");
        assert!(made.success());
    }

    #[test]
    fn an_images_user_may_have_a_name() {
        let test = "an_images_user_may_have_a_name";
        let Some(socket) = daemon("containerd", test) else { return };
        if !has("python3", test, Path::new("/usr/bin/python3").exists()) {
            return;
        }
        let worker = worker_name();
        let folder = scratch("named-user");
        let (named, unknown) = (folder.join("named.tar"), folder.join("unknown.tar"));
        image_of_user(&named, "app");
        image_of_user(&unknown, "nobody-knows");
        rt::Live::new().expect("a runtime").block_on(async {
            let connected = Containerds::connect(&socket, common_of(&worker), "runc", 0).await;
            let engine: Rc<dyn Engine> = Rc::new(connected.expect("an engine"));
            let text = |path: &Path| path.to_str().expect("a path").to_string();
            let refused = engine.prepare(Some(&text(&unknown))).await.expect_err("nobody of that name");
            assert!(refused.why.contains("it wants user 'nobody-knows'"), "{refused}");
            let backend =
                Live::new(Rc::clone(&engine), LiveConfig { worker: worker.clone(), ..LiveConfig::default() });
            let mut spec = spec(Behaviour::Echo, &[], None);
            spec.program.image = Some(text(&named));
            engine.prepare(Some(&text(&named))).await.expect("it is imported");
            let sandbox = ready(&backend, &spec).await;
            backend.invoke(sandbox, &call(0)).await.expect("an answer");
            assert!(
                process_of("54321", "54322").is_some(),
                "no process runs as the user that the image names"
            );
            backend.remove(sandbox).await;
            assert_eq!(engine.sweep().await.expect("a sweep"), Vec::<String>::new());
        });
        assert_eq!(elapse_host::doctor::leftovers_of(&worker), Vec::<String>::new());
    }

    /// Pulled from a registry on loopback; what is not there, and a registry that is away, are told apart.
    #[test]
    fn an_image_is_pulled_from_a_registry() {
        let test = "an_image_is_pulled_from_a_registry";
        let Some(socket) = daemon("containerd", test) else { return };
        let registry = std::env::var("ELAPSE_TEST_REGISTRY").ok();
        if !has("registry", test, registry.is_some()) {
            return;
        }
        let registry = registry.unwrap_or_default();
        // Our agent's own image, with a layer that needs several parts, pushed as anybody would push it.
        let folder = scratch("pushed");
        let made = elapse_host::image::of_agent(&agent()).expect("an image");
        let (file, image) = (folder.join("image.tar"), format!("{registry}/some/agent:1"));
        std::fs::write(&file, &made.tar).expect("a file");
        let namespace = format!("push-{}", worker_name());
        let ctr = |args: &[&str]| {
            let mut command = std::process::Command::new("ctr");
            let ran =
                command.arg("-a").arg(&socket).args(["-n", &namespace]).args(args).output().expect("ctr");
            assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
        };
        ctr(&["images", "import", file.to_str().expect("a path")]);
        ctr(&["images", "tag", &made.name, &image]);
        ctr(&["images", "push", "--plain-http", &image]);
        ctr(&["images", "rm", "--sync", &made.name, &image]);
        ctr(&["namespaces", "rm", &namespace]);
        let worker = worker_name();
        let runtime = rt::Live::new().expect("a runtime");
        runtime.block_on(async {
            let connected = Containerds::connect(&socket, common_of(&worker), "runc", 0).await;
            let engine: Rc<dyn Engine> = Rc::new(connected.expect("an engine"));
            let absent =
                engine.prepare(Some(&format!("{registry}/some/agent:2"))).await.expect_err("no such tag");
            assert!(
                absent.why.contains("has no some/agent, 2 of manifests") && !absent.transient,
                "{absent}"
            );
            let away = engine.prepare(Some("127.0.0.1:1/some/agent:1")).await.expect_err("nobody listens");
            assert!(away.why.contains("registry 127.0.0.1:1 does not answer") && away.transient, "{away}");
            engine.prepare(Some(&image)).await.expect("it is pulled");
            let (backend, sandbox) = answering(&engine, &worker, &image).await;
            backend.remove(sandbox).await;
            assert_eq!(engine.sweep().await.expect("a sweep"), Vec::<String>::new());
        });
        assert_eq!(elapse_host::doctor::leftovers_of(&worker), Vec::<String>::new());
    }
}
