//! The wish of the user that what is under way ends early, for loops that read or compute for long between two events.

use super::{Fault, Result};
use std::cell::RefCell;
use std::rc::Rc;

type Asked = Rc<dyn Fn() -> bool>;

thread_local! {
    static ASKED: RefCell<Option<Asked>> = const { RefCell::new(None) };
}

/// Lets [`check`] on this thread ask somebody, until it is dropped.
#[must_use]
pub struct Heeding {
    before: Option<Asked>,
}

/// Lets [`check`] on this thread ask `asked`.
pub fn heed(asked: impl Fn() -> bool + 'static) -> Heeding {
    Heeding { before: ASKED.replace(Some(Rc::new(asked))) }
}

impl Drop for Heeding {
    fn drop(&mut self) {
        ASKED.set(self.before.take());
    }
}

/// Lets a loop go on.
///
/// # Errors
/// [`FaultKind::Interrupted`](super::FaultKind::Interrupted) if the end was asked for on this thread.
pub fn check() -> Result<()> {
    let asked = ASKED.with_borrow(Option::clone);
    if asked.is_some_and(|asked| asked()) {
        Err(Fault::interrupted("interrupted before there were any results"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn who_heeds_it_is_asked_until_that_ends() {
        let wish = Rc::new(Cell::new(false));
        let asked = Rc::clone(&wish);
        assert!(check().is_ok());
        let outer = heed(move || asked.get());
        assert!(check().is_ok());
        wish.set(true);
        assert_eq!(check().unwrap_err().kind().exit_code(), 130);
        let inner = heed(|| false);
        assert!(check().is_ok());
        drop(inner);
        assert!(check().is_err());
        drop(outer);
        assert!(check().is_ok());
    }
}
