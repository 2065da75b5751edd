//! Sends points to carbon, in the plaintext or the pickle protocol.
//!
//! Points wait in a queue of limited length; when it is full the oldest go, and are counted. A connection that breaks is
//! opened again with growing pauses, and what the peer's kernel had not acknowledged is sent again: Graphite takes a point
//! twice without harm.

use super::patience::Patience;
use elapse::Wire;
use elapse_host::threads::{self, ThreadHeartbeat};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::io::Write;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How carbon wants its points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// A line for each; port 2003 by habit.
    #[default]
    Plaintext,
    /// Lists of tuples, pickled; port 2004 by habit.
    Pickle,
}

impl From<Wire> for Protocol {
    fn from(wire: Wire) -> Protocol {
        match wire {
            Wire::Plaintext => Protocol::Plaintext,
            Wire::Pickle => Protocol::Pickle,
        }
    }
}

/// What became of the points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Acknowledged by the peer's kernel.
    pub sent: u64,
    /// Dropped, because the queue was full.
    pub dropped: u64,
    /// Still unsent when the time for it was over.
    pub unsent: u64,
    /// Connections that were opened.
    pub connections: u64,
    /// Why the last attempt failed, if it did.
    pub fault: Option<String>,
}

/// The points of one instant, of one sender.
struct Batch {
    paths: Arc<[String]>,
    unix_seconds: u64,
    values: Vec<f64>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Batch>,
    points: usize,
    /// Written, and not acknowledged yet.
    unconfirmed: usize,
    /// The time for it is over: nothing more is tried.
    abandoned: bool,
    report: Report,
}

impl Queue {
    /// Points that are held: what the limit is about.
    fn held(&self) -> usize {
        self.points + self.unconfirmed
    }
}

struct Shared {
    queue: Mutex<Queue>,
    /// Told when there is something to do.
    work: Condvar,
    /// Told when there is room, or nothing left.
    room: Condvar,
    limit: usize,
}

/// See the module. Dropped without [`finish`](Sender::finish), it gives up what was not sent.
pub struct Sender {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

const CONNECT: Duration = Duration::from_secs(3);
const WRITE: Duration = Duration::from_secs(10);
/// After one failure, two, and so on, in milliseconds.
const PAUSES: [u64; 5] = [100, 200, 500, 1000, 2000];
/// Points of one write; carbon takes pickles of up to 1 MB.
const AT_ONCE: usize = 500;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    /// Begins to connect to `address` (host:port) and holds at most `limit` points meanwhile.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn open(address: &str, protocol: Protocol, limit: usize) -> std::io::Result<Sender> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            limit: limit.max(1),
        });
        let (inner, address) = (Arc::clone(&shared), address.to_string());
        let mut line = Line { shared: inner, address, protocol, peer: None, unconfirmed: Vec::new() };
        let thread = threads::start("graphite", move |pulse| line.run(pulse))?;
        Ok(Sender { shared, thread: Some(thread) })
    }

    /// Hands over the points of an instant; never waits. The oldest go when there are too many.
    pub fn offer(&self, paths: &Arc<[String]>, unix_seconds: u64, values: Vec<f64>) {
        let mut queue = self.shared.lock();
        queue.points += values.len();
        queue.waiting.push_back(Batch { paths: Arc::clone(paths), unix_seconds, values });
        while queue.held() > self.shared.limit && queue.waiting.len() > 1 {
            let Some(oldest) = queue.waiting.pop_front() else { break };
            queue.points -= oldest.values.len();
            queue.report.dropped += oldest.values.len() as u64;
        }
        drop(queue);
        self.shared.work.notify_one();
    }

    /// Hands over the points of an instant, and waits for room if it must: for what has all the time there is. False if
    /// there was no room for as long as `patience`.
    pub fn push(
        &self,
        paths: &Arc<[String]>,
        unix_seconds: u64,
        values: Vec<f64>,
        patience: impl Into<Patience>,
    ) -> bool {
        let full =
            |queue: &Queue| queue.held() + values.len() > self.shared.limit && !queue.waiting.is_empty();
        let mut queue = self.while_it(full, &patience.into());
        if full(&queue) {
            return false;
        }
        queue.points += values.len();
        queue.waiting.push_back(Batch { paths: Arc::clone(paths), unix_seconds, values });
        drop(queue);
        self.shared.work.notify_one();
        true
    }

    /// How it is going.
    pub fn report(&self) -> Report {
        let queue = self.shared.lock();
        Report { unsent: queue.held() as u64, ..queue.report.clone() }
    }

    /// Waits until everything is sent, for at most this long.
    pub fn flush(&self, patience: impl Into<Patience>) -> Report {
        drop(self.while_it(|queue| queue.held() > 0, &patience.into()));
        self.report()
    }

    /// Waits while this is so of the queue.
    fn while_it(&self, is_so: impl Fn(&Queue) -> bool, patience: &Patience) -> MutexGuard<'_, Queue> {
        let mut queue = self.shared.lock();
        while is_so(&queue) && !patience.is_over() {
            let waited = self.shared.room.wait_timeout(queue, patience.nap());
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        queue
    }

    /// Sends what is left, for at most this long, and ends.
    pub fn finish(mut self, patience: impl Into<Patience>) -> Report {
        self.flush(patience);
        self.end();
        self.report()
    }

    fn end(&mut self) {
        let mut queue = self.shared.lock();
        queue.abandoned = true;
        drop(queue);
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.end();
    }
}

/// The thread's side.
struct Line {
    shared: Arc<Shared>,
    address: String,
    protocol: Protocol,
    peer: Option<TcpStream>,
    unconfirmed: Vec<Batch>,
}

impl Line {
    /// Sends until it is the end. Begun again after a panic, with what was not acknowledged.
    fn run(&mut self, pulse: &ThreadHeartbeat) {
        if !self.unconfirmed.is_empty() {
            self.peer = None;
            self.give_back("the thread that sends panicked; the log says why".into());
        }
        let mut failures = 0;
        loop {
            let Some(batches) = self.next() else { return };
            pulse.works();
            let from = self.unconfirmed.len();
            self.unconfirmed.extend(batches);
            match self.send(from) {
                Ok(()) => {
                    failures = 0;
                    self.confirm();
                }
                Err(why) => {
                    self.peer = None;
                    self.give_back(why);
                    if !self.pause(Duration::from_millis(PAUSES[failures.min(PAUSES.len() - 1)])) {
                        return;
                    }
                    failures += 1;
                }
            }
        }
    }

    /// What is to be written now; `None` at the end.
    fn next(&mut self) -> Option<Vec<Batch>> {
        /// Between two looks whether the peer has acknowledged.
        const LOOK: Duration = Duration::from_millis(20);
        loop {
            let mut queue = self.shared.lock();
            if queue.abandoned {
                return None;
            }
            let mut taken = Vec::new();
            let mut points = 0;
            // A peer that is slow to acknowledge is not given more and more.
            let room = queue.unconfirmed < self.shared.limit;
            while room
                && points < AT_ONCE
                && let Some(batch) = queue.waiting.pop_front()
            {
                points += batch.values.len();
                taken.push(batch);
            }
            queue.points -= points;
            queue.unconfirmed += points;
            if !taken.is_empty() {
                self.shared.room.notify_all();
                return Some(taken);
            }
            let patience = if self.unconfirmed.is_empty() { Duration::from_secs(3600) } else { LOOK };
            drop(self.shared.work.wait_timeout(queue, patience).unwrap_or_else(PoisonError::into_inner));
            if !self.unconfirmed.is_empty() {
                // A peer that has gone takes what it had not acknowledged with it.
                if self.is_gone() {
                    self.peer = None;
                    self.give_back("the connection was closed".into());
                } else {
                    self.confirm();
                }
            }
        }
    }

    /// Writes what is not acknowledged from here on; what is before was written.
    fn send(&mut self, from: usize) -> Result<(), String> {
        if self.is_gone() {
            self.peer = None;
            if from > 0 {
                return Err("the connection was closed".into());
            }
        }
        if self.peer.is_none() {
            self.peer = Some(self.connect()?);
            self.shared.lock().report.connections += 1;
        }
        let bytes = encode(self.protocol, &self.unconfirmed[from..])?;
        let Some(peer) = &mut self.peer else { return Err("not connected".into()) };
        peer.write_all(&bytes).map_err(|e| format!("cannot send to {}: {e}", self.address))
    }

    fn connect(&self) -> Result<TcpStream, String> {
        let wrong = |e: std::io::Error| format!("cannot connect to carbon at {}: {e}", self.address);
        let mut last = None;
        for address in self.address.to_socket_addrs().map_err(wrong)? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(peer) => {
                    peer.set_write_timeout(Some(WRITE)).map_err(wrong)?;
                    let _ = peer.set_nodelay(true);
                    return Ok(peer);
                }
                Err(e) => last = Some(e),
            }
        }
        Err(wrong(last.unwrap_or_else(|| std::io::ErrorKind::NotFound.into())))
    }

    /// Whether the peer has closed. Carbon never says anything, so anything to be read is the end.
    fn is_gone(&self) -> bool {
        let Some(peer) = &self.peer else { return true };
        let mut ready = [PollFd::new(peer, PollFlags::IN | PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut ready, Some(&now)).map_or(true, |n| n > 0)
    }

    /// Counts what the peer's kernel has acknowledged.
    fn confirm(&mut self) {
        let Some(peer) = &self.peer else { return };
        if elapse_host::unacknowledged(peer) > 0 {
            return;
        }
        let points: usize = self.unconfirmed.drain(..).map(|b| b.values.len()).sum();
        let mut queue = self.shared.lock();
        queue.unconfirmed -= points;
        queue.report.sent += points as u64;
        queue.report.fault = None;
        drop(queue);
        self.shared.room.notify_all();
    }

    /// Puts back what was not acknowledged, in its order, as far as there is room.
    fn give_back(&mut self, why: String) {
        let mut queue = self.shared.lock();
        queue.report.fault = Some(why);
        for batch in self.unconfirmed.drain(..).rev() {
            let points = batch.values.len();
            queue.unconfirmed -= points;
            if queue.points + points > self.shared.limit && !queue.waiting.is_empty() {
                queue.report.dropped += points as u64;
                continue;
            }
            queue.points += points;
            queue.waiting.push_front(batch);
        }
    }

    /// Rests after a failure; false when it is the end.
    fn pause(&self, span: Duration) -> bool {
        let until = Instant::now() + span;
        let mut queue = self.shared.lock();
        while !queue.abandoned {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            queue = self.shared.work.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }
}

fn encode(protocol: Protocol, batches: &[Batch]) -> Result<Vec<u8>, String> {
    // Graphite has no place for what is not a number.
    let points = || {
        batches.iter().flat_map(|b| {
            let values = b.paths.iter().zip(&b.values).filter(|(_, v)| v.is_finite());
            values.map(|(path, value)| (path.as_str(), (b.unix_seconds, *value)))
        })
    };
    let mut bytes = Vec::new();
    match protocol {
        Protocol::Plaintext => {
            for (path, (at, value)) in points() {
                writeln!(bytes, "{path} {value} {at}").map_err(|e| e.to_string())?;
            }
        }
        Protocol::Pickle => {
            let list: Vec<_> = points().collect();
            // Carbon is written for any Python since 2.7, which cannot read a later one.
            let options = serde_pickle::SerOptions::new().proto_v2();
            let pickle = serde_pickle::to_vec(&list, options).map_err(|e| e.to_string())?;
            bytes.extend_from_slice(&(pickle.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&pickle);
        }
    }
    Ok(bytes)
}
