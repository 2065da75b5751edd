//! The doors of an API: the token that whoever comes must bring, and the certificate that is shown. Both are read from
//! files, and may be exchanged while the API is served.

use crate::base::{Fault, Result};
use elapse_real::tls::Identity;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// See the module.
#[derive(Clone)]
pub(super) struct Doors {
    pub(super) token: Token,
    pub(super) identity: Option<Identity>,
}

/// The files that doors are read from.
pub(super) struct DoorFiles<'a> {
    pub(super) token: &'a Option<PathBuf>,
    pub(super) certificate: &'a Option<PathBuf>,
    pub(super) key: &'a Option<PathBuf>,
}

impl Doors {
    /// The doors that these files make.
    ///
    /// # Errors
    /// A file that cannot be read, or holds something else.
    pub(super) fn of(files: &DoorFiles<'_>) -> Result<Doors> {
        let identity = match (files.certificate, files.key) {
            (Some(certificate), Some(key)) => Some(Identity::read(certificate, key).map_err(Fault::usage)?),
            _ => None,
        };
        Ok(Doors { token: Token::of(files.token.as_deref())?, identity })
    }

    /// From now on those of these files. Whether there is TLS at all is decided at the start.
    ///
    /// # Errors
    /// See [`of`](Doors::of); the doors are then as they were.
    pub(super) fn exchange(&self, files: &DoorFiles<'_>) -> Result<()> {
        let next = Doors::of(files)?;
        match (&self.identity, next.identity) {
            (Some(shown), Some(next)) => shown.become_like(&next),
            (None, None) => {}
            _ => tracing::warn!(target: "elapse", "TLS is switched on or off at the next start"),
        }
        self.token.become_like(&next.token);
        Ok(())
    }
}

/// The token that requests must bring, if any; it may be exchanged while the API is served.
#[derive(Clone, Debug, Default)]
pub(super) struct Token(Arc<RwLock<Option<Arc<str>>>>);

impl Token {
    /// The one in this file; none without a file.
    ///
    /// # Errors
    /// A file that cannot be read, or holds none.
    pub(super) fn of(file: Option<&Path>) -> Result<Token> {
        let token = file.map(read_token).transpose()?;
        Ok(Token(Arc::new(RwLock::new(token.map(|token| format!("Bearer {token}").into())))))
    }

    /// What goes into the header `authorization`, and is looked for there.
    pub(super) fn bearer(&self) -> Option<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on the same as another.
    pub(super) fn become_like(&self, other: &Token) {
        let next = other.bearer();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

/// The token in a file.
///
/// # Errors
/// A file that cannot be read, or holds none.
fn read_token(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|e| Fault::reading(path, &e))?;
    let token = text.trim();
    if token.len() < 16 || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Fault::usage(format!(
            "{}: a token has at least 16 letters and digits; make one with: openssl rand -hex 32",
            path.display()
        )));
    }
    Ok(token.to_string())
}
