//! Reads series from graphite-web: which there are, and their points.

use crate::host::rest;
use crate::{Interrupt, Patience};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// A series as it was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    /// Its name.
    pub target: String,
    /// Seconds between its points; 0 if there are fewer than two.
    pub step: u64,
    /// Unix seconds and value; `None` where Graphite has no point.
    pub points: Vec<(u64, Option<f64>)>,
}

/// A Graphite's web application.
#[derive(Clone, Debug)]
pub struct Client {
    agent: ureq::Agent,
    url: String,
    attempts: u32,
    interrupt: Interrupt,
}

/// The longest answer that is read.
const LONGEST: u64 = 1 << 30;
/// Characters of a request's first line; gunicorn, for one, refuses more than 4,094.
const LINE: usize = 4000;
/// Of those: what is asked beside the targets.
const BESIDE: usize = 160;
const PAUSE: Duration = Duration::from_millis(300);

impl Client {
    /// A client of the Graphite at `url`, which gives up a request after `limit` and tries each so often.
    pub fn new(url: &str, limit: Duration, attempts: u32) -> Client {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(limit))
            .http_status_as_error(false)
            .user_agent(concat!("elapse/", env!("CARGO_PKG_VERSION")))
            .build();
        Client {
            agent: config.new_agent(),
            url: url.trim_end_matches('/').to_string(),
            attempts: attempts.max(1),
            interrupt: Interrupt::default(),
        }
    }

    /// One that does not try a request again once somebody wants the end.
    #[must_use]
    pub fn interrupted_by(self, interrupt: &Interrupt) -> Client {
        Client { interrupt: interrupt.clone(), ..self }
    }

    /// Where it is, without a password.
    pub fn url(&self) -> String {
        match (self.url.find("://"), self.url.rfind('@')) {
            (Some(scheme), Some(at)) if scheme < at => {
                format!("{}{}", &self.url[..scheme + 3], &self.url[at + 1..])
            }
            _ => self.url.clone(),
        }
    }

    /// The series that a pattern means, by their full names.
    ///
    /// # Errors
    /// Why Graphite did not answer.
    pub fn find(&self, pattern: &str) -> Result<Vec<String>, String> {
        // Not /metrics/find: its answers keep what of the pattern stands before the last part.
        let answer = self.get("/metrics/expand", &[("query", pattern), ("leavesOnly", "1")])?;
        let paths = answer["results"].as_array().ok_or_else(|| self.strange("a list of series"))?;
        Ok(paths.iter().filter_map(|path| path.as_str().map(str::to_string)).collect())
    }

    /// The points of these series in [from, until], unix seconds. Series that Graphite does not know are not in the answer.
    ///
    /// `from` is exclusive in Graphite and times snap to its step, so it is asked for more, and what is outside is left
    /// out here. No maximum of points is sent: that would make it average them.
    ///
    /// # Errors
    /// Why Graphite did not answer.
    pub fn render(&self, targets: &[String], from: u64, until: u64) -> Result<Vec<Fetched>, String> {
        let mut all = Vec::new();
        let mut rest = targets;
        let room = LINE.saturating_sub(BESIDE + self.url.len());
        while !rest.is_empty() {
            let mut length = 0;
            let n = rest.iter().take_while(|target| {
                length += "&target=".len() + escaped_length(target);
                length < room
            });
            let (now, later) = rest.split_at(n.count().max(1));
            rest = later;
            all.extend(self.render_some(now, from, until)?);
        }
        Ok(all)
    }

    /// Waits until this series has a point at `last`, or in the step that holds it; how long that took, or `None` if it
    /// did not show within `patience`.
    ///
    /// # Errors
    /// Why Graphite did not answer.
    pub fn wait_for(
        &self,
        path: &str,
        last: u64,
        patience: impl Into<Patience>,
    ) -> Result<Option<Duration>, String> {
        const LOOK: Duration = Duration::from_millis(200);
        const BACK: u64 = 600;
        let patience = patience.into();
        loop {
            let seen = self.render(&[path.to_string()], last.saturating_sub(BACK), last)?;
            // A coarser archive shows it at the start of its step.
            let there = |s: &Fetched| s.points.iter().any(|(at, v)| v.is_some() && at + s.step.max(1) > last);
            if seen.iter().any(there) {
                return Ok(Some(patience.spent()));
            }
            if patience.is_over() {
                return Ok(None);
            }
            patience.rest(LOOK);
        }
    }

    /// [`render`](Client::render), again and again until the answer is `enough`, for at most `patience`.
    ///
    /// # Errors
    /// Why Graphite did not answer.
    pub fn render_until(
        &self,
        targets: &[String],
        from: u64,
        until: u64,
        patience: impl Into<Patience>,
        enough: impl Fn(&[Fetched]) -> bool,
    ) -> Result<Vec<Fetched>, String> {
        let patience = patience.into();
        loop {
            let series = self.render(targets, from, until)?;
            if enough(&series) || patience.is_over() {
                return Ok(series);
            }
            patience.rest(PAUSE);
        }
    }

    fn render_some(&self, targets: &[String], from: u64, until: u64) -> Result<Vec<Fetched>, String> {
        /// How much earlier is looked, to see the step of what has one point.
        const WIDER: [u64; 3] = [60, 3_600, 86_400];
        let ask = |targets: &[String], from: u64| {
            let (from, until) = (from.to_string(), until.to_string());
            let mut query: Vec<(&str, &str)> = targets.iter().map(|t| ("target", t.as_str())).collect();
            query.extend([("format", "json"), ("from", &from), ("until", &until), ("noCache", "true")]);
            self.series(&query)
        };
        let mut series = ask(targets, from.saturating_sub(1))?;
        // Only what needs it is asked again: of an earlier instant Graphite may have no more than a coarser archive.
        for wider in WIDER {
            let unknown = |s: &&Fetched| s.step == 0 && !s.points.is_empty();
            let again: Vec<String> = series.iter().filter(unknown).map(|s| s.target.clone()).collect();
            if again.is_empty() {
                break;
            }
            replace(&mut series, ask(&again, from.saturating_sub(wider))?);
        }
        // Where the step is long, "one second earlier" was not one step earlier; and two points are needed to see it again.
        let steps: BTreeSet<u64> = series.iter().map(|s| s.step).filter(|step| *step > 1).collect();
        for step in steps {
            let of_step = series.iter().filter(|s| s.step == step).map(|s| s.target.clone());
            let again: Vec<String> = of_step.collect();
            replace(&mut series, ask(&again, from.saturating_sub(2 * step))?);
        }
        for s in &mut series {
            // A value covers the step that it begins: one that begins before covers the start.
            let step = s.step.max(1);
            s.points.retain(|(at, _)| at + step > from && *at <= until);
        }
        Ok(series)
    }

    fn series(&self, query: &[(&str, &str)]) -> Result<Vec<Fetched>, String> {
        let answer = self.get("/render", query)?;
        let strange = || self.strange("series with datapoints");
        let mut all = Vec::new();
        for series in answer.as_array().ok_or_else(strange)? {
            let target = series["target"].as_str().ok_or_else(strange)?.to_string();
            let mut points = Vec::new();
            for point in series["datapoints"].as_array().ok_or_else(strange)? {
                let at = point[1]
                    .as_u64()
                    .or_else(|| point[1].as_f64().map(|at| at as u64))
                    .ok_or_else(strange)?;
                points.push((at, point[0].as_f64().filter(|v| v.is_finite())));
            }
            let step = points.windows(2).map(|w| w[1].0.saturating_sub(w[0].0)).min().unwrap_or(0);
            all.push(Fetched { target, step, points });
        }
        Ok(all)
    }

    fn strange(&self, wanted: &str) -> String {
        format!("{} answered something else than {wanted}; is it a Graphite?", self.url())
    }

    fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let mut why = String::new();
        for attempt in 0..self.attempts {
            if attempt > 0 && !rest(PAUSE * attempt, &self.interrupt) {
                break;
            }
            match self.try_get(path, query) {
                Ok(value) => return Ok(value),
                Err((again, says)) => {
                    why = says;
                    if !again {
                        break;
                    }
                }
            }
        }
        Err(why)
    }

    /// The answer, or whether it is worth another attempt, and what was wrong.
    fn try_get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, (bool, String)> {
        let url = self.url();
        let request = self.agent.get(format!("{}{path}", self.url)).query_pairs(query.iter().copied());
        let mut response =
            request.call().map_err(|e| (true, format!("cannot reach Graphite at {url}: {e}")))?;
        let status = response.status();
        let body = response.body_mut().with_config().limit(LONGEST).read_to_string();
        if !status.is_success() {
            let again = status.is_server_error() || status.as_u16() == 429;
            return Err((
                again,
                format!("Graphite at {url} answered {status}{}", gist(&body.unwrap_or_default())),
            ));
        }
        let body = body.map_err(|e| (true, format!("the answer of Graphite at {url} was cut off: {e}")))?;
        parse(&body)
            .map_err(|e| (true, format!("the answer of Graphite at {url} is no JSON{}: {e}", gist(&body))))
    }
}

/// Puts what was asked again in the place of what was answered before, if more is known of it now.
fn replace(series: &mut [Fetched], again: Vec<Fetched>) {
    for new in again.into_iter().filter(|new| new.step > 0) {
        if let Some(old) = series.iter_mut().find(|old| old.target == new.target) {
            *old = new;
        }
    }
}

/// How long a target is in an address.
fn escaped_length(target: &str) -> usize {
    target.bytes().map(|b| if b.is_ascii_alphanumeric() || b"-._~".contains(&b) { 1 } else { 3 }).sum()
}

/// The first words of a page, for a message.
fn gist(body: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for c in body.chars().take(2000) {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            c if !inside => text.push(if c.is_control() { ' ' } else { c }),
            _ => {}
        }
    }
    let words: Vec<&str> = text.split_whitespace().take(12).collect();
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(" ")) }
}

/// JSON as Python writes it: NaN and infinities are no points.
fn parse(body: &str) -> serde_json::Result<Value> {
    match serde_json::from_str(body) {
        Err(e) if !e.is_eof() => serde_json::from_str(&without_nan(body)).map_err(|_| e),
        done => done,
    }
}

fn without_nan(body: &str) -> String {
    const STRANGE: [&str; 6] = ["NaN", "-Infinity", "Infinity", "-1e9999", "1e9999", "nan"];
    let mut out = String::with_capacity(body.len());
    let (mut quoted, mut escaped) = (false, false);
    let mut rest = body;
    while let Some(c) = rest.chars().next() {
        if !quoted && let Some(strange) = STRANGE.iter().find(|s| rest.starts_with(**s)) {
            out.push_str("null");
            rest = &rest[strange.len()..];
            continue;
        }
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_writes_for_no_number_is_no_point() {
        let body = r#"[{"target": "a NaN \" Infinity", "datapoints": [[NaN, 1], [-Infinity, 2], [1e9999, 3], [4.5, 4]]}]"#;
        let value = parse(body).unwrap();
        assert_eq!(value[0]["target"], "a NaN \" Infinity");
        assert!(value[0]["datapoints"][2][0].is_null());
        assert_eq!(value[0]["datapoints"][3][0], 4.5);
        assert!(parse("[[1, 2").unwrap_err().is_eof());
    }

    #[test]
    fn a_password_is_not_told() {
        let client = Client::new("http://me:secret@host/graphite/", Duration::from_secs(1), 1);
        assert_eq!(client.url(), "http://host/graphite");
    }
}
