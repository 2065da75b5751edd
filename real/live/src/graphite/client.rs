//! Asks graphite-web and reads its answers as JSON, bounded in size and time.

use elapse::{GraphiteConfig, Interrupt};
use serde_json::Value;
use std::time::Duration;

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
/// Between two attempts.
pub(crate) const PAUSE: Duration = Duration::from_millis(300);

/// A client of a configuration's web application, if it has one.
pub fn client_of(config: &GraphiteConfig) -> Option<Client> {
    config.url.as_deref().map(|url| Client::new(url, config.timeout.into(), config.attempts))
}

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

    /// Says that an answer is not what a Graphite gives.
    pub(crate) fn strange(&self, wanted: &str) -> String {
        format!("{} answered something else than {wanted}; is it a Graphite?", self.url())
    }

    /// The answer to a question, which is asked again where another attempt may help; or why there is none.
    pub(crate) fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let mut why = String::new();
        for attempt in 0..self.attempts {
            if attempt > 0 && !self.interrupt.rest(PAUSE * attempt) {
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
