//! A client of a daemon's API, for the commands of the program.

use super::config::address;
use crate::base::{Fault, Result};
use crate::rt;
use elapse_real::wire::{Address, Method, Peer};
use serde_json::Value;
use std::path::Path;

/// A daemon at an address.
pub struct Client {
    address: Address,
    token: Option<String>,
}

impl Client {
    /// The daemon at `at`, which is asked with the token in this file.
    ///
    /// # Errors
    /// No address, or a file that cannot be read.
    pub fn new(at: &str, token_file: Option<&Path>) -> Result<Client> {
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| Fault::reading(path, &e));
        let token = token_file.map(read).transpose()?.map(|t| t.trim().to_string());
        Ok(Client { address: address(at)?, token })
    }

    /// `GET` of a path.
    ///
    /// # Errors
    /// See [`Client::post`].
    pub fn get(&self, path: &str) -> Result<Vec<u8>> {
        self.ask(Method::GET, path, Vec::new())
    }

    /// `POST` of a body to a path.
    ///
    /// # Errors
    /// If nobody answers (exit 3), or what the daemon says against it (exit 2 where the question is wrong, else 1).
    pub fn post(&self, path: &str, body: Vec<u8>) -> Result<Vec<u8>> {
        self.ask(Method::POST, path, body)
    }

    /// `DELETE` of a path.
    ///
    /// # Errors
    /// See [`Client::post`].
    pub fn delete(&self, path: &str) -> Result<Vec<u8>> {
        self.ask(Method::DELETE, path, Vec::new())
    }

    fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Vec<u8>> {
        let peer = Peer::new(self.address.clone());
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|b| ("authorization", b.as_str())).collect();
        let answer =
            rt::Live::new()?.block_on(peer.ask(method, path, &headers, body.into())).map_err(|e| {
                Fault::host(format!(
                    "{} does not answer: {e}; is the daemon running, and is --at its address?",
                    self.address
                ))
            })?;
        if answer.is_ok() {
            return Ok(answer.body.to_vec());
        }
        let said = serde_json::from_slice::<Value>(&answer.body).ok();
        let told = said.as_ref().and_then(|v| v["error"].as_str());
        let text = told.map_or_else(|| answer.first_line(), str::to_string);
        let text = format!("{}: {text} (HTTP {})", self.address, answer.status);
        Err(match answer.status {
            400..500 => Fault::usage(text),
            _ => Fault::check(text),
        })
    }
}
