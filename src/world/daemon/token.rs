//! The bearer token of an API, and the file that it is read from.

use crate::base::{Fault, Result};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

/// The token that requests must bring, if any; it may be exchanged while the API is served.
#[derive(Clone, Debug, Default)]
pub(super) struct Token(Arc<RwLock<Option<Arc<str>>>>);

impl Token {
    /// The one in this file; none without a file.
    ///
    /// # Errors
    /// A file that cannot be read, or holds none.
    pub(super) fn of(file: Option<&Path>) -> Result<Token> {
        let token = Token::default();
        token.exchange(file)?;
        Ok(token)
    }

    /// From now on the one in this file.
    ///
    /// # Errors
    /// A file that cannot be read, or holds none; the token is then as it was.
    pub(super) fn exchange(&self, file: Option<&Path>) -> Result<()> {
        let next = file.map(read_token).transpose()?.map(Arc::from);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    pub(super) fn current(&self) -> Option<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The token in a file.
///
/// # Errors
/// A file that cannot be read, or holds none.
pub(super) fn read_token(path: &Path) -> Result<String> {
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
