//! The connection to containerd: what every request bears, and what its refusals mean.

use crate::engine::EngineFault;
use containerd_client::Client;
use containerd_client::tonic::{Code, Request, Status};

/// The daemon, and the namespace that every request bears.
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) namespace: String,
    /// Keeps what is made under it for as long as it lasts.
    pub(super) lease: Option<String>,
    /// Bytes that an image may have, packed and unpacked.
    pub(super) image_size: u64,
}

impl Link {
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
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
    pub(super) fn leased(&self, lease: &str) -> Link {
        let client = Client::from(self.client.channel());
        let (namespace, lease) = (self.namespace.clone(), Some(lease.to_string()));
        Link { client, namespace, lease, image_size: self.image_size }
    }
}

/// Tells a refusal of the daemon's as a fault.
pub(super) fn fault(what: &str, status: &Status) -> EngineFault {
    let passing = matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Cancelled
    );
    let away = status.code() == Code::Unavailable;
    EngineFault { transient: passing, away, why: format!("containerd: {what}: {}", status.message()) }
}

/// Takes a thing that is gone already as removed.
pub(super) fn unless_gone<T>(what: &str, outcome: Result<T, Status>) -> Result<(), EngineFault> {
    match outcome {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::NotFound => Ok(()),
        Err(status) => Err(fault(what, &status)),
    }
}
