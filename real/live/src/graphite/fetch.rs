//! Reads series from graphite-web: which there are, and their points.

use super::client::{Client, PAUSE};
use super::name::written;
use super::patience::Patience;
use std::collections::{BTreeMap, BTreeSet};
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

/// Names a target that is asked for, and the series that is expected of it.
struct Asked<'a> {
    name: &'a str,
    text: String,
}

/// Characters of a request's first line; gunicorn, for one, refuses more than 4,094.
const LINE: usize = 4000;
/// Of those: what is asked beside the targets.
const BESIDE: usize = 160;

impl Client {
    /// The series that a pattern means, by their full names. Tagged series are not among them.
    ///
    /// # Errors
    /// Why Graphite did not answer.
    pub fn find(&self, pattern: &str) -> Result<Vec<String>, String> {
        // Not /metrics/find: its answers keep what of the pattern stands before the last part.
        let answer = self.get("/metrics/expand", &[("query", pattern), ("leavesOnly", "1")])?;
        let paths = answer["results"].as_array().ok_or_else(|| self.strange("a list of series"))?;
        Ok(paths.iter().filter_map(|path| path.as_str().map(str::to_string)).collect())
    }

    /// The points of the series of these names in [from, until], unix seconds. Series that Graphite does not know are not
    /// in the answer. Names may hold what means something in a target: they are escaped.
    ///
    /// `from` is exclusive in Graphite, times snap to its step, and what a function makes of the last step is made of the
    /// points up to `until` alone. So it is asked for more on both sides, and what is outside is left out here. No maximum
    /// of points is sent: that would make it average them.
    ///
    /// # Errors
    /// Why Graphite did not answer.
    pub fn render(&self, names: &[String], from: u64, until: u64) -> Result<Vec<Fetched>, String> {
        let (mut exact, mut loose) = (Vec::new(), Vec::new());
        for name in names {
            let target = written(name);
            let list = if target.exact { &mut exact } else { &mut loose };
            list.push(Asked { name, text: target.text });
        }
        let mut all = Vec::new();
        let mut rest = exact.as_slice();
        let room = LINE.saturating_sub(BESIDE + self.url().len());
        while !rest.is_empty() {
            let mut length = 0;
            let n = rest.iter().take_while(|asked| {
                length += "&target=".len() + escaped_length(&asked.text);
                length < room
            });
            let (now, later) = rest.split_at(n.count().max(1));
            rest = later;
            all.extend(self.render_some(now, from, until)?);
        }
        // Each alone: what else fits it may be a series that is asked for by its own name.
        for asked in loose.chunks(1) {
            let series = self.render_some(asked, from, until)?;
            all.extend(series.into_iter().filter(|s| asked.iter().any(|asked| asked.name == s.target)));
        }
        Ok(all)
    }

    /// Fetches what a target gives, as somebody wrote it: functions, a tagged series, a name. Several series of the answer may
    /// have one name. If it gives nothing, the series that is called so is fetched: a name may hold what means something in a
    /// target.
    ///
    /// # Errors
    /// Why Graphite did not answer.
    pub fn render_target(&self, target: &str, from: u64, until: u64) -> Result<Vec<Fetched>, String> {
        let given = self.render_some(&[Asked { name: target, text: target.to_string() }], from, until)?;
        if given.is_empty() && written(target).text != target {
            return self.render(&[target.to_string()], from, until);
        }
        Ok(given)
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
        names: &[String],
        from: u64,
        until: u64,
        patience: impl Into<Patience>,
        enough: impl Fn(&[Fetched]) -> bool,
    ) -> Result<Vec<Fetched>, String> {
        let patience = patience.into();
        loop {
            let series = self.render(names, from, until)?;
            if enough(&series) || patience.is_over() {
                return Ok(series);
            }
            patience.rest(PAUSE);
        }
    }

    /// The answer to targets that fit into one request.
    fn render_some(&self, asked: &[Asked<'_>], from: u64, until: u64) -> Result<Vec<Fetched>, String> {
        /// How much earlier is looked, to see the step of what has one point.
        const WIDER: [u64; 3] = [60, 3_600, 86_400];
        let all: Vec<&str> = asked.iter().map(|a| a.text.as_str()).collect();
        let mut series = self.series(&all, from.saturating_sub(1), until)?;
        // Only what needs it is asked again: of an earlier instant Graphite may have no more than a coarser archive.
        for wider in WIDER {
            let again = targets_of(asked, series.iter().filter(|s| s.step == 0));
            if again.is_empty() {
                break;
            }
            replace(&mut series, 0, self.series(&again, from.saturating_sub(wider), until)?);
        }
        // Where the step is long, "one second earlier" was not one step earlier, two points are needed to see it again, and
        // the step that holds the end has to be asked for whole.
        let steps: BTreeSet<u64> = series.iter().map(|s| s.step).filter(|step| *step > 1).collect();
        for step in steps {
            let again = targets_of(asked, series.iter().filter(|s| s.step == step));
            let (from, until) = (from.saturating_sub(step.saturating_mul(2)), until.saturating_add(step));
            replace(&mut series, step, self.series(&again, from, until)?);
        }
        for s in &mut series {
            // A value covers the step that it begins: one that begins before covers the start.
            let step = s.step.max(1);
            s.points.retain(|(at, _)| at.saturating_add(step) > from && *at <= until);
        }
        Ok(series)
    }

    /// One answer of the render API, as it is.
    fn series(&self, targets: &[&str], from: u64, until: u64) -> Result<Vec<Fetched>, String> {
        let (from, until) = (from.to_string(), until.to_string());
        let mut query: Vec<(&str, &str)> = targets.iter().map(|target| ("target", *target)).collect();
        query.extend([("format", "json"), ("from", &from), ("until", &until), ("noCache", "true")]);
        let answer = self.get("/render", &query)?;
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
}

/// The targets that gave these series: told by name, as what a function makes is called as it likes and cannot be asked for
/// by that. Where a name is nobody's it is all of them.
fn targets_of<'a, 's>(asked: &'a [Asked<'_>], series: impl Iterator<Item = &'s Fetched>) -> Vec<&'a str> {
    let names: BTreeSet<&str> = series.map(|s| s.target.as_str()).collect();
    let given: Vec<&str> = asked.iter().filter(|a| names.contains(a.name)).map(|a| a.text.as_str()).collect();
    if given.len() < names.len() { asked.iter().map(|a| a.text.as_str()).collect() } else { given }
}

/// Puts what was asked again in the place of what was answered before with this step, if more is known of it now. Of several
/// series of one name the first is the first again.
fn replace(series: &mut [Fetched], step: u64, again: Vec<Fetched>) {
    let places: BTreeMap<(String, usize), usize> =
        numbered(series).into_iter().enumerate().map(|(place, key)| (key, place)).collect();
    for (key, new) in numbered(&again).into_iter().zip(again) {
        if let Some(old) = places.get(&key).and_then(|place| series.get_mut(*place))
            && old.step == step
            && new.step > 0
        {
            *old = new;
        }
    }
}

/// Each series' name, and how many before it have the same.
fn numbered(series: &[Fetched]) -> Vec<(String, usize)> {
    let mut seen = BTreeMap::<&str, usize>::new();
    let mut number = |name| {
        let before = seen.entry(name).or_default();
        *before += 1;
        *before - 1
    };
    series.iter().map(|s| (s.target.clone(), number(s.target.as_str()))).collect()
}

/// How long a target is in an address.
fn escaped_length(target: &str) -> usize {
    target.bytes().map(|b| if b.is_ascii_alphanumeric() || b"-._~".contains(&b) { 1 } else { 3 }).sum()
}
