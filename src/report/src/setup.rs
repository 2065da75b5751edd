//! What a run was set up with, in words: what the methods paragraph is made of, and what axes of time count from.

use serde_json::{Value, json};

/// See the module. Whoever knows the plan fills it in.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// What times count from.
    pub clock: Clock,
    /// The keys of the plan that change a figure.
    pub keys: Vec<Key>,
    /// The functions that the plan itself has, one phrase a group.
    pub functions: Vec<String>,
    /// The trace.
    pub trace: Option<Trace>,
    /// The file of a calibration, where the delays are a host's: its name and hash.
    pub calibration: Option<String>,
    /// The host of a live run.
    pub host: Option<String>,
    /// A font for names whose letters our own lacks.
    pub font: Option<std::path::PathBuf>,
}

/// A key of the plan.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name, as `--set` takes it.
    pub name: String,
    /// Its value, in words.
    pub value: String,
    /// It has the value that it has where nothing is said.
    pub usual: bool,
}

/// A trace, as a reader can find it again.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The name of its file or folder.
    pub name: String,
    /// How many files were hashed.
    pub files: usize,
    /// A hash over the size and the first and last 64 KiB of each; `None` where they cannot be read twice.
    pub hash: Option<u64>,
}

/// What a run's times count from.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Clock {
    /// The calendar: of the host, of the trace, or as the plan says.
    #[default]
    Calendar,
    /// A clock that is on no calendar.
    Own {
        /// Its zero, in words.
        since: String,
        /// What it shows at the run's time 0, in seconds.
        offset_seconds: f64,
    },
}

impl Clock {
    /// As `run.json` has it.
    pub fn json(&self) -> Value {
        match self {
            Clock::Calendar => json!({"calendar": true}),
            Clock::Own { since, offset_seconds } => {
                json!({"calendar": false, "since": since, "offset_seconds": offset_seconds})
            }
        }
    }
}

impl Setup {
    /// The value of a key; `None` where the plan leaves it open.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.keys.iter().find(|key| key.name == name).map(|key| key.value.as_str())
    }
}
