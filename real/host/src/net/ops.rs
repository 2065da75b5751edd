//! Makes and removes namespaces, links and bridges, by rtnetlink, on the one thread that may change its namespace.

use super::plan::{Block, NAMESPACES, Names, PORTS, PREFIX, Subnet};
use super::wall;
use futures_util::TryStreamExt;
use futures_util::future::{Either, select};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkUnspec, LinkVeth, RouteMessageBuilder};
use rustix::mount::{
    MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change, unmount,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::pin::pin;
use tokio::runtime::Runtime;

/// A place in a worker's networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) number: u32,
    pub(super) address: Ipv4Addr,
    /// Where its namespace is; none where it is that of a process, which takes it along.
    pub(super) namespace: Option<PathBuf>,
}

struct Bridge {
    index: u32,
    block: Block,
    used: BTreeSet<u32>,
}

/// See the module.
pub(super) struct NetlinkOps {
    runtime: Runtime,
    handle: Handle,
    names: Names,
    subnet: Subnet,
    /// Whether those behind a bridge may begin connections to the host.
    reach_host: bool,
    bridges: BTreeMap<u32, Bridge>,
    /// This thread's own namespace, to come back to.
    home: File,
}

/// How a bridge that was removed is told.
pub(super) const BRIDGE: &str = "bridge ";

type Done<T> = Result<T, String>;

fn told<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> String {
    move |e| format!("{what}: {e}")
}

/// The namespace that a slot's end goes into.
enum Inside {
    Named(PathBuf),
    Process(i32),
}

impl NetlinkOps {
    /// On the thread that will use it, whose own namespace is `home`; takes over the bridges that are there.
    pub(super) fn open(names: Names, subnet: Subnet, reach_host: bool, home: File) -> Done<NetlinkOps> {
        // A panic may have left the thread elsewhere.
        enter(&home).map_err(told("cannot come back from a network namespace"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(told("no runtime for the network"))?;
        let handle = {
            let _inside = runtime.enter();
            let (connection, handle, _) = rtnetlink::new_connection().map_err(told("no netlink socket"))?;
            drop(runtime.spawn(connection));
            handle
        };
        let mut ops =
            NetlinkOps { runtime, handle, names, subnet, reach_host, bridges: BTreeMap::new(), home };
        ops.look()?;
        Ok(ops)
    }

    /// Reads which bridges and links of the worker's are there.
    fn look(&mut self) -> Done<()> {
        let (links, addresses) = (self.links()?, self.addresses()?);
        self.bridges.clear();
        for (name, index) in &links {
            let gateway = addresses.iter().find(|(of, ..)| of == index).map(|(_, address, _)| *address);
            if let (Some(number), Some(gateway)) = (self.names.number_of_bridge(name), gateway) {
                let block = Block::of_gateway(gateway);
                self.wall(name, *index)?;
                self.bridges.insert(number, Bridge { index: *index, block, used: BTreeSet::new() });
            }
        }
        for slot in links.iter().filter_map(|(name, _)| self.names.slot_of_link(name)) {
            if let Some(bridge) = self.bridges.get_mut(&(slot / PORTS)) {
                bridge.used.insert(slot);
            }
        }
        Ok(())
    }

    /// A namespace that is joined to a bridge.
    pub(super) fn make(&mut self) -> Done<Slot> {
        let number = self.take()?;
        let path = self.names.namespace(number);
        if path.exists() {
            // No link goes into it: what made it never came to the end of it.
            remove_namespace(&path)?;
        }
        let made = self.namespace(&path).and_then(|()| self.join(number, &Inside::Named(path.clone())));
        match made {
            Ok(address) => Ok(Slot { number, address, namespace: Some(path) }),
            Err(why) => {
                let _ = self.remove(&Slot { number, address: Ipv4Addr::UNSPECIFIED, namespace: Some(path) });
                Err(why)
            }
        }
    }

    /// Joins the namespace that a process has to a bridge.
    pub(super) fn attach(&mut self, pid: i32) -> Done<Slot> {
        let number = self.take()?;
        match self.join(number, &Inside::Process(pid)) {
            Ok(address) => Ok(Slot { number, address, namespace: None }),
            Err(why) => {
                let _ = self.remove(&Slot { number, address: Ipv4Addr::UNSPECIFIED, namespace: None });
                Err(why)
            }
        }
    }

    /// A slot that an earlier life left, if all of it is still there.
    pub(super) fn found(&self, number: u32) -> Done<Slot> {
        let bridge = self.bridges.get(&(number / PORTS)).filter(|b| b.used.contains(&number));
        let Some(bridge) = bridge else {
            return Err(format!("its link {} is gone", self.names.link(number)));
        };
        let namespace = Some(self.names.namespace(number)).filter(|path| path.exists());
        Ok(Slot { number, address: bridge.block.host(number), namespace })
    }

    /// Removes a slot's link, and its namespace if it has a name.
    pub(super) fn remove(&mut self, slot: &Slot) -> Done<()> {
        self.remove_link(&self.names.link(slot.number))?;
        if let Some(path) = &slot.namespace {
            remove_namespace(path)?;
        }
        if let Some(bridge) = self.bridges.get_mut(&(slot.number / PORTS)) {
            bridge.used.remove(&slot.number);
        }
        Ok(())
    }

    /// The slots with a namespace that an earlier life left whole.
    pub(super) fn whole(&self) -> Vec<Slot> {
        let used = self.bridges.values().flat_map(|bridge| bridge.used.iter().copied());
        used.filter_map(|number| self.found(number).ok().filter(|slot| slot.namespace.is_some())).collect()
    }

    /// Removes everything of the worker's but these slots, and bridges that have none; what it was, in words.
    pub(super) fn sweep(&mut self, kept: &BTreeSet<u32>) -> Done<Vec<String>> {
        let mut removed = Vec::new();
        for (name, _) in self.links()? {
            if self.names.slot_of_link(&name).is_some_and(|slot| !kept.contains(&slot)) {
                self.remove_link(&name)?;
                removed.push(format!("network link {name}"));
            }
        }
        for entry in fs::read_dir(NAMESPACES).into_iter().flatten().flatten() {
            let slot = self.names.slot_of_namespace(&entry.file_name().to_string_lossy());
            if slot.is_some_and(|slot| !kept.contains(&slot)) {
                remove_namespace(&entry.path())?;
                removed.push(format!("network namespace {}", entry.path().display()));
            }
        }
        for (name, _) in self.links()? {
            let bridge = self.names.number_of_bridge(&name);
            if bridge.is_some_and(|bridge| kept.iter().all(|slot| slot / PORTS != bridge)) {
                self.remove_link(&name)?;
                removed.push(format!("{BRIDGE}{name}"));
            }
        }
        // That of a bridge that is gone already, too.
        let last = self.bridges.keys().next_back().copied().unwrap_or_default();
        for number in (0..=last).filter(|bridge| kept.iter().all(|slot| slot / PORTS != *bridge)) {
            wall::take_down(&self.names.bridge(number)).map_err(told("cannot take down a bridge's wall"))?;
        }
        // It is ours if nobody else has anything in it; fails where that is not so.
        let _ = fs::remove_dir(NAMESPACES);
        self.look()?;
        Ok(removed)
    }

    /// The lowest slot that is free, on a bridge that is made if none has one.
    fn take(&mut self) -> Done<u32> {
        for (number, bridge) in &mut self.bridges {
            if let Some(slot) =
                (number * PORTS..(number + 1) * PORTS).find(|slot| !bridge.used.contains(slot))
            {
                bridge.used.insert(slot);
                return Ok(slot);
            }
        }
        let number = (0..).find(|n| !self.bridges.contains_key(n)).unwrap_or_default();
        let mut bridge = self.bridge(number)?;
        bridge.used.insert(number * PORTS);
        self.bridges.insert(number, bridge);
        Ok(number * PORTS)
    }

    fn bridge(&self, number: u32) -> Done<Bridge> {
        make_folder()?;
        // Another worker that looks for a free block at this moment must not find the same.
        let folder = File::open(NAMESPACES).map_err(told(NAMESPACES))?;
        folder.lock().map_err(told(NAMESPACES))?;
        let name = self.names.bridge(number);
        let taken: Vec<(Ipv4Addr, u8)> = self.addresses()?.into_iter().map(|(_, a, p)| (a, p)).collect();
        let block = self.subnet.free_block(&taken).ok_or_else(|| {
            format!(
                "no /{PREFIX} of {} is free on this host for another bridge; give the worker another subnet \
                 (live.subnet)",
                self.subnet
            )
        })?;
        // A bridge without an address is what a life left that ended at this very place.
        self.remove_link(&name)?;
        let made: Result<u32, rtnetlink::Error> = self.runtime.block_on(async {
            let bridge = LinkBridge::new(&name).address(self.names.hardware(number)).up().build();
            self.handle.link().add(bridge).execute().await?;
            let index = index_of(&self.handle, &name).await?;
            let alias = LinkUnspec::new_with_index(index).alias(self.names.alias()).build();
            self.handle.link().set(alias).execute().await?;
            self.handle.address().add(index, IpAddr::V4(block.gateway()), PREFIX).execute().await?;
            Ok(index)
        });
        let made = made.map_err(|e| e.to_string()).and_then(|index| self.wall(&name, index).map(|()| index));
        match made {
            Ok(index) => Ok(Bridge { index, block, used: BTreeSet::new() }),
            Err(e) => {
                let _ = self.remove_link(&name);
                Err(format!("cannot make bridge {name}: {e}"))
            }
        }
    }

    /// Keeps those behind a bridge from the host, or no more.
    fn wall(&self, bridge: &str, index: u32) -> Done<()> {
        if self.reach_host {
            return wall::take_down(bridge).map_err(told("cannot take down its wall"));
        }
        wall::put_up(bridge, index, self.subnet).map_err(told(
            "cannot keep what is behind it from this host (nftables); accept that with live.reach_host = true",
        ))
    }

    /// Makes a slot's pair of links, one end on its bridge, the other as `eth0` in the namespace, and all of it up.
    fn join(&self, number: u32, into: &Inside) -> Done<Ipv4Addr> {
        let bridge = self.bridges.get(&(number / PORTS)).ok_or("its bridge is gone")?;
        let (address, gateway) = (bridge.block.host(number), bridge.block.gateway());
        let inside = match into {
            Inside::Named(path) => path.clone(),
            Inside::Process(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
        };
        let inside = File::open(&inside).map_err(told(inside.display()))?;
        let name = self.names.link(number);
        let made: Result<(), rtnetlink::Error> = self.runtime.block_on(async {
            let peer = LinkUnspec::new_with_name("eth0").setns_by_fd(inside.as_raw_fd()).build();
            let pair = LinkVeth::new(&name, "eth0").set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
            self.handle.link().add(pair.build()).execute().await?;
            let host =
                LinkUnspec::new_with_name(&name).alias(self.names.alias()).controller(bridge.index).up();
            self.handle.link().set(host.build()).execute().await?;
            // It hears the host alone, and none beside it on the bridge.
            let port = index_of(&self.handle, &name).await?;
            self.handle.link().set_port(LinkBridgePort::new(port).isolated(true).build()).execute().await
        });
        made.map_err(told(format!("cannot make link {name}")))?;
        let done = self.within(&inside, |handle| async move {
            let loopback = index_of(&handle, "lo").await?;
            handle.link().set(LinkUnspec::new_with_index(loopback).up().build()).execute().await?;
            let eth0 = index_of(&handle, "eth0").await?;
            handle.address().add(eth0, IpAddr::V4(address), PREFIX).execute().await?;
            handle.link().set(LinkUnspec::new_with_index(eth0).up().build()).execute().await?;
            let out = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
            handle.route().add(out).execute().await
        })?;
        done.map_err(told(format!("cannot set up the namespace of link {name}")))?;
        Ok(address)
    }

    /// Does something with a netlink socket of another namespace. A socket stays in the namespace where it was made.
    fn within<F: Future>(&self, namespace: &File, work: impl FnOnce(Handle) -> F) -> Done<F::Output> {
        let (connection, handle, _) = {
            let _inside = self.runtime.enter();
            enter(namespace).map_err(told("cannot enter a network namespace"))?;
            let made = rtnetlink::new_connection();
            self.leave()?;
            made.map_err(told("no netlink socket"))?
        };
        self.runtime.block_on(async {
            match select(pin!(work(handle)), pin!(connection)).await {
                Either::Left((done, _)) => Ok(done),
                Either::Right(((), _)) => Err("the netlink socket was closed".into()),
            }
        })
    }

    /// Panics in a namespace that is half made: for tests of what follows.
    pub(super) fn breaks(&mut self) -> Done<()> {
        let name = self.take()?;
        let path = self.names.namespace(name);
        make_folder()?;
        File::create_new(&path).map_err(told(path.display()))?;
        // SAFETY: only this thread's network changes, and every descriptor stays as it is.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(told(path.display()))?;
        panic!("injected by a test");
    }

    fn leave(&self) -> Done<()> {
        // A thread in the wrong namespace would make links in it: better none.
        enter(&self.home).map_err(told("cannot come back from a network namespace"))
    }

    fn namespace(&self, path: &Path) -> Done<()> {
        make_folder()?;
        let named = || format!("cannot make network namespace {}", path.display());
        File::create_new(path).map_err(told(named()))?;
        // SAFETY: only this thread's network changes, and every descriptor stays as it is.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(told(named()))?;
        let bound = mount_bind("/proc/thread-self/ns/net", path);
        self.leave()?;
        bound.map_err(told(named()))
    }

    fn remove_link(&self, name: &str) -> Done<()> {
        let removed: Result<(), rtnetlink::Error> = self.runtime.block_on(async {
            match index_of(&self.handle, name).await {
                Ok(index) => self.handle.link().del(index).execute().await,
                Err(e) => Err(e),
            }
        });
        match removed {
            Err(e) if !is_gone(&e) => Err(format!("cannot remove link {name}: {e}")),
            _ => Ok(()),
        }
    }

    /// The worker's links and bridges on the host.
    fn links(&self) -> Done<Vec<(String, u32)>> {
        let alias = self.names.alias();
        let listed: Result<Vec<_>, rtnetlink::Error> =
            self.runtime.block_on(self.handle.link().get().execute().try_collect());
        let mut ours = Vec::new();
        for link in listed.map_err(told("cannot list network links"))? {
            let mut name = None;
            let mut other = false;
            for attribute in link.attributes {
                match attribute {
                    LinkAttribute::IfName(n) => name = Some(n),
                    LinkAttribute::IfAlias(a) => other = a != alias,
                    _ => {}
                }
            }
            // One without an alias is ours by its name: it is written right after the link was made.
            let ours_by =
                |n: &String| self.names.slot_of_link(n).is_some() || self.names.number_of_bridge(n).is_some();
            if let Some(name) = name.filter(|n| !other && ours_by(n)) {
                ours.push((name, link.header.index));
            }
        }
        Ok(ours)
    }

    /// IPv4 addresses of the host: link, address, prefix.
    fn addresses(&self) -> Done<Vec<(u32, Ipv4Addr, u8)>> {
        let listed: Result<Vec<_>, rtnetlink::Error> =
            self.runtime.block_on(self.handle.address().get().execute().try_collect());
        let mut all = Vec::new();
        for address in listed.map_err(told("cannot list network addresses"))? {
            for attribute in &address.attributes {
                if let AddressAttribute::Address(IpAddr::V4(ip)) = attribute {
                    all.push((address.header.index, *ip, address.header.prefix_len));
                }
            }
        }
        Ok(all)
    }
}

/// The namespace of this thread.
pub(super) fn here() -> Done<File> {
    File::open("/proc/thread-self/ns/net").map_err(told("cannot see the network namespace"))
}

fn enter(namespace: &File) -> io::Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).map_err(io::Error::from)
}

async fn index_of(handle: &Handle, name: &str) -> Result<u32, rtnetlink::Error> {
    let link = handle.link().get().match_name(name.to_string()).execute().try_next().await?;
    link.map(|link| link.header.index).ok_or(rtnetlink::Error::RequestFailed)
}

fn is_gone(e: &rtnetlink::Error) -> bool {
    match e {
        rtnetlink::Error::NetlinkError(e) => e.to_io().raw_os_error() == Some(libc::ENODEV),
        rtnetlink::Error::RequestFailed => true,
        _ => false,
    }
}

/// The folder of namespaces: a mount of its own that is shared, as `ip netns add` makes it.
///
/// Were it not, the next `ip netns add` would mount the folder over itself, and over the namespaces that are in it: those could
/// neither be unmounted nor removed any more. It stays, as that of `ip` does.
fn make_folder() -> Done<()> {
    let share = || mount_change(NAMESPACES, MountPropagationFlags::SHARED | MountPropagationFlags::REC);
    fs::create_dir_all(NAMESPACES).map_err(told(NAMESPACES))?;
    if share().is_ok() {
        return Ok(());
    }
    // Whoever else is about to do the same takes this lock too.
    let folder = File::open(NAMESPACES).map_err(told(NAMESPACES))?;
    folder.lock().map_err(told(NAMESPACES))?;
    if share().is_err() {
        mount_bind_recursive(NAMESPACES, NAMESPACES).map_err(told(NAMESPACES))?;
        share().map_err(told(NAMESPACES))?;
    }
    Ok(())
}

fn remove_namespace(path: &Path) -> Done<()> {
    let named = || format!("cannot remove network namespace {}", path.display());
    match unmount(path, UnmountFlags::DETACH) {
        // It was made and never bound, or is gone.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(format!("{}: {e}", named())),
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(format!("{}: {e}", named())),
        _ => Ok(()),
    }
}
