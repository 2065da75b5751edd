//! Values of flags that are one of some words: shells complete them, `--help` lists them. Which it is, and whether it is one
//! at all, is decided with the plan, so that a wrong one is told in the same sentence as in a file.

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::{Error, ErrorKind};
use elapse::keys::words_of;
use std::ffi::OsStr;

/// The words that a key of the scenario takes, policies from outside included.
#[derive(Clone)]
pub struct Words(pub &'static str);

impl TypedValueParser for Words {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _flag: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, Error> {
        let text = value.to_str().ok_or_else(|| Error::new(ErrorKind::InvalidUtf8).with_cmd(command))?;
        Ok(text.to_string())
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(words_of(self.0).into_iter().map(PossibleValue::new)))
    }
}
