//! A client of a daemon's API, for the commands of the program.

use super::credentials::read_token;
use super::places;
use elapse::base::{Duration, Fault, Result};
use elapse::rt;
use elapse_host::wire::Method;
use elapse_live::peer;
use std::path::{Path, PathBuf};

/// A daemon at an address.
pub struct Client {
    at: String,
    ca_file: Option<PathBuf>,
    token: Option<String>,
    /// How long an answer may take.
    limit: Duration,
}

impl Client {
    /// The daemon at `at`, or the only one that has a socket in the folder of all daemons; it is asked with the token in this
    /// file. Over TLS the authorities in `ca_file` are believed, or those of the public web. One that has not answered after
    /// `limit` is given up.
    ///
    /// # Errors
    /// No address, none or several daemons, or a file that cannot be read.
    pub fn new(
        at: Option<&str>,
        token_file: Option<&Path>,
        ca_file: Option<&Path>,
        limit: Duration,
    ) -> Result<Client> {
        let token = token_file.map(read_token).transpose()?;
        let at = at.map_or_else(places::only_one, |at| Ok(at.to_string()))?;
        peer(&at, ca_file)?;
        Ok(Client { at, ca_file: ca_file.map(Path::to_path_buf), token, limit })
    }

    /// Whether it is alive and takes invocations, as it says itself.
    ///
    /// # Errors
    /// See [`Client::post`]; an answer that no daemon of ours gives.
    pub fn health(&self) -> Result<Vec<u8>> {
        let answer = self.get("/v1/health")?;
        let told: Option<serde_json::Value> = serde_json::from_slice(&answer).ok();
        match told {
            Some(told) if told["status"] == "ok" => Ok(answer),
            _ => Err(Fault::check(format!("{}: what answers there is no daemon of Elapse", self.at))),
        }
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
        let peer = peer(&self.at, self.ca_file.as_deref())?;
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|b| ("authorization", b.as_str())).collect();
        let asked = async { rt::timeout(self.limit, peer.ask(method, path, &headers, body.into())).await };
        let answer = elapse_live::backend::runtime()?.block_on(asked).map_err(|_| {
            Fault::host(format!(
                "{} has not answered within {}; is it stopped? --timeout lets it take longer",
                self.at, self.limit
            ))
        })?;
        let answer = answer.map_err(|e| {
            Fault::host(format!(
                "{} does not answer: {e}; is the daemon running, and is --at its address?",
                self.at
            ))
        })?;
        if answer.is_ok() {
            return Ok(answer.body.to_vec());
        }
        let text = format!("{}: {} (HTTP {})", self.at, answer.why(), answer.status);
        Err(match answer.status {
            400..500 => Fault::usage(text),
            _ => Fault::check(text),
        })
    }
}
