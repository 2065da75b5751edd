//! `[graphite]` in a scenario.

use crate::base::Duration;
use serde::{Deserialize, Serialize};

/// Where points go and come from. Without `carbon` nothing is sent, without `url` nothing is fetched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GraphiteConfig {
    /// Where carbon takes points: host:port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carbon: Option<String>,
    /// How carbon takes them there.
    pub protocol: Wire,
    /// Where graphite-web answers: `http://host:port`. After the run its points are fetched from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What is fetched beside our own series: patterns, or functions of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Points that wait at most while carbon is away; then the oldest go, and are counted.
    pub buffer: usize,
    /// How long a run's end waits for carbon to take its last points, and for graphite-web to show them.
    pub wait: Duration,
    /// A request is given up after this long.
    pub timeout: Duration,
    /// And tried so often.
    pub attempts: u32,
    /// Where a simulated run's points are laid on Graphite's calendar.
    pub shift: Shift,
    /// Before a live run's load, all processors are busy for this long: a mark in the series of other collectors, by which
    /// their clocks can be found (`elapse align --marker`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marker: Option<Duration>,
    /// Fetched series that the timeline shows: patterns. By default up to four that are not ours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plot: Vec<String>,
}

/// A protocol of carbon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wire {
    /// A line for each point.
    #[default]
    Plaintext,
    /// Pickled lists.
    Pickle,
}

/// Where a simulated run lies on Graphite's calendar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shift {
    /// At the scenario's `start`.
    #[default]
    None,
    /// So that it ends now.
    Now,
}

impl Default for GraphiteConfig {
    fn default() -> GraphiteConfig {
        GraphiteConfig {
            carbon: None,
            protocol: Wire::default(),
            url: None,
            targets: Vec::new(),
            buffer: 1_000_000,
            wait: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            attempts: 3,
            shift: Shift::None,
            marker: None,
            plot: Vec::new(),
        }
    }
}

impl GraphiteConfig {
    /// What cannot be meant.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        if let Some(carbon) = &self.carbon {
            let port = carbon.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
                return Err(format!("carbon is '{carbon}'; write host:port, for instance 127.0.0.1:2003"));
            }
        }
        if let Some(url) = &self.url
            && !(url.starts_with("http://") || url.starts_with("https://"))
        {
            return Err(format!("url is '{url}'; it starts with http:// or https://"));
        }
        if self.url.is_none() && !self.targets.is_empty() {
            return Err("targets are given, and no url to fetch them from".into());
        }
        if self.buffer < 100 {
            return Err(format!("buffer is {}; it holds 100 points at least", self.buffer));
        }
        if let Some(marker) =
            self.marker.filter(|m| *m < Duration::from_secs(1) || *m > Duration::from_secs(60))
        {
            return Err(format!("marker is {marker}; it is 1s to 60s"));
        }
        Ok(())
    }

    /// What cannot be meant for a daemon, which only sends: a run fetches.
    ///
    /// # Errors
    /// One sentence.
    pub fn check_of_daemon(&self) -> Result<(), String> {
        let of_runs = [
            ("targets", self.targets.is_empty()),
            ("plot", self.plot.is_empty()),
            ("marker", self.marker.is_none()),
            ("shift", self.shift == Shift::None),
        ];
        if let Some((key, _)) = of_runs.into_iter().find(|(_, unset)| !unset) {
            return Err(format!(
                "{key} is for runs; a daemon only sends its points (carbon, protocol, buffer, url)"
            ));
        }
        self.check()
    }
}
