//! The workers that a controller knows: who they are, which life they are in, and how they are asked.

use super::super::credentials::Token;
use super::super::roles;
use bytes::Bytes;
use elapse::base::{Cpus, Duration};
use elapse::controller::protocol::{Newcomer, Session};
use elapse::rt::sync::Notify;
use elapse::rt::{self, Either};
use elapse_host::wire::{Answer, Method, Peer, WireFault};
use rustc_hash::FxHashSet;
use serde::Deserialize;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// What a worker says of itself when it registers.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Description {
    /// Its name, which no other live worker may have.
    pub(super) name: String,
    /// Counts its lives: a later one is higher.
    pub(super) incarnation: u64,
    /// The host that it is on.
    pub(super) machine_id: String,
    /// Where its API answers.
    pub(super) address: String,
    /// Its cores.
    #[serde(default)]
    pub(super) cores: Option<Cpus>,
    #[serde(default)]
    pub(super) memory: Option<String>,
    #[serde(default)]
    pub(super) backends: Vec<String>,
    #[serde(default)]
    pub(super) version: String,
    /// What it wants to be asked with, where it has made that itself.
    #[serde(default)]
    pub(super) token: Option<String>,
}

impl Description {
    /// Whether a worker can be so: it is kept and told for as long as it lives.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        /// Bytes of a text, and texts of a list.
        const LONGEST: usize = 256;
        const MOST: usize = 16;
        let memory = self.memory.as_deref().unwrap_or_default();
        let texts = [&self.name, &self.machine_id, &self.address, &self.version, memory];
        let mut texts = texts.into_iter().chain(self.backends.iter().map(String::as_str));
        if self.backends.len() > MOST || texts.any(|text| text.len() > LONGEST) {
            return Err(format!("a text has {LONGEST} bytes at most, and there are {MOST} backends at most"));
        }
        self.token.as_deref().map_or(Ok(()), roles::check)
    }
}

impl Description {
    /// Who registers, as the protocol knows it.
    pub(super) fn newcomer(&self) -> Newcomer<'_> {
        Newcomer {
            name: &self.name,
            incarnation: self.incarnation,
            machine: &self.machine_id,
            cores: self.cores.unwrap_or(Cpus::MAX),
        }
    }
}

/// A life of a worker.
pub(super) struct WorkerSession {
    /// Its session with the controller's protocol.
    pub(super) session: Session,
    pub(super) told: Description,
    peer: Peer,
    token: Token,
    /// Told when this life is lost or over: whoever waits for its answers waits no more.
    pub(super) over: Notify,
    /// How far it has been told the functions.
    pub(super) introduction: RefCell<Introduction>,
    /// Told when that is decided.
    pub(super) decided: Notify,
    /// Functions that it was told, as they were then.
    pub(super) knows: RefCell<BTreeMap<String, Bytes>>,
    /// Functions that it cannot serve.
    pub(super) refused: RefCell<FxHashSet<String>>,
}

/// How far a worker has come into the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Introduction {
    /// It is being told the functions.
    UnderWay,
    /// It knows them.
    Done,
    /// It did not answer.
    Failed(String),
}

/// What is sent to a worker.
pub(super) struct CallRequest<'a> {
    pub(super) headers: &'a [(String, String)],
    pub(super) body: Bytes,
    pub(super) attempt: u32,
    pub(super) limit: Duration,
}

/// Why a worker gave no answer.
pub(super) enum CallError {
    /// It was not reached: it did nothing.
    Unreached(String),
    /// It may have done anything.
    Lost(String),
}

impl CallError {
    pub(super) fn why(&self) -> &str {
        match self {
            CallError::Unreached(why) | CallError::Lost(why) => why,
        }
    }
}

impl WorkerSession {
    pub(super) fn new(session: Session, told: Description, peer: Peer, token: Token) -> WorkerSession {
        WorkerSession {
            session,
            told,
            peer,
            token,
            over: Notify::new(),
            introduction: RefCell::new(Introduction::UnderWay),
            decided: Notify::new(),
            knows: RefCell::default(),
            refused: RefCell::default(),
        }
    }

    /// Waits until it knows the functions, or has failed to.
    pub(super) async fn introduced(&self) -> Result<(), String> {
        loop {
            let told = self.decided.notified();
            match &*self.introduction.borrow() {
                Introduction::UnderWay => {}
                Introduction::Done => return Ok(()),
                Introduction::Failed(why) => return Err(why.clone()),
            }
            told.await;
        }
    }

    /// Asks it, for at most `limit` and not beyond the end of this life.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        id: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<Answer, CallError> {
        self.send(method, path, id, CallRequest { headers: &[], body, attempt: 1, limit }).await
    }

    /// [`ask`](Self::ask), with what an invocation needs besides.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        id: &str,
        request: CallRequest<'_>,
    ) -> Result<Answer, CallError> {
        let CallRequest { body, limit, .. } = request;
        let attempt = request.attempt.to_string();
        let mut headers = vec![("x-request-id", id), ("elapse-attempt", attempt.as_str())];
        headers.extend(request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let bearer = self.token.bearer();
        headers.extend(bearer.iter().map(|b| ("authorization", &**b)));
        let asked = rt::timeout(limit, self.peer.ask(method, path, &headers, body));
        match rt::select(asked, self.over.notified()).await {
            Either::Left(Ok(Ok(answer))) => Ok(answer),
            Either::Left(Ok(Err(WireFault::Refused(why)))) => Err(CallError::Unreached(why)),
            Either::Left(Ok(Err(fault))) => Err(CallError::Lost(fault.to_string())),
            Either::Left(Err(rt::Elapsed)) => Err(CallError::Lost(format!("no answer within {limit}"))),
            Either::Right(()) => {
                Err(CallError::Lost("it has not been heard of, or began another life".into()))
            }
        }
    }
}
