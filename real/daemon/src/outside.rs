//! The headers that a function's own HTTP server answers, as they are right for who asks at `/function/NAME/`.

use percent_encoding::{CONTROLS, utf8_percent_encode};

/// What would hold for everything that has the API's origin, other functions and the API itself.
const OF_ORIGIN: [&str; 6] =
    ["alt-svc", "clear-site-data", "nel", "report-to", "reporting-endpoints", "strict-transport-security"];

/// Places on the server become places of the function, and what is not the function's to say goes.
pub(super) fn seen_from_outside(function: &str, headers: Vec<(String, String)>) -> Vec<(String, String)> {
    let prefix = format!("/function/{}", utf8_percent_encode(function, CONTROLS));
    let own = headers.into_iter().filter(|(name, _)| !OF_ORIGIN.contains(&name.as_str()));
    own.map(|(name, value)| {
        let value = match name.as_str() {
            "location" | "content-location" => place(&prefix, &value),
            "set-cookie" => cookie(&prefix, &value),
            _ => value,
        };
        (name, value)
    })
    .collect()
}

fn place(prefix: &str, given: &str) -> String {
    // The server knows itself by the name that it is asked by.
    let ends = |rest: &&str| rest.is_empty() || rest.starts_with(['/', '?', '#']);
    let itself = given.strip_prefix("http://elapse").filter(ends);
    let path = itself.unwrap_or(given);
    if path.strip_prefix(prefix).filter(ends).is_some() {
        // It was told where it is.
        path.to_string()
    } else if itself.is_some() && !path.starts_with('/') {
        format!("{prefix}/{path}")
    } else if itself.is_some() || (path.starts_with('/') && !path.starts_with("//")) {
        format!("{prefix}{path}")
    } else {
        given.to_string()
    }
}

/// A cookie of a path stays with the function; one without has the path that was asked for.
fn cookie(prefix: &str, given: &str) -> String {
    let mut parts = given.split(';');
    let mut told = parts.next().unwrap_or_default().to_string();
    for part in parts {
        told.push(';');
        match part.trim_start().split_once('=') {
            Some((name, path)) if name.eq_ignore_ascii_case("path") && path.starts_with('/') => {
                told.push_str(" Path=");
                told.push_str(&place(prefix, path));
            }
            _ => told.push_str(part),
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, value: &str) -> Option<String> {
        let all = seen_from_outside("tür", vec![(name.into(), value.into())]);
        all.into_iter().next().map(|(_, value)| value)
    }

    #[test]
    fn places_on_the_server_are_places_of_the_function() {
        let cases = [
            ("/a/?b", "/function/t%C3%BCr/a/?b"),
            ("http://elapse/a", "/function/t%C3%BCr/a"),
            ("http://elapse", "/function/t%C3%BCr/"),
            ("http://elapse?a", "/function/t%C3%BCr/?a"),
            ("/function/t%C3%BCr/a", "/function/t%C3%BCr/a"),
            ("/function/t%C3%BCrme/a", "/function/t%C3%BCr/function/t%C3%BCrme/a"),
            ("a/b", "a/b"),
            ("//elsewhere/a", "//elsewhere/a"),
            ("http://elapse.io/a", "http://elapse.io/a"),
        ];
        for (given, outside) in cases {
            assert_eq!(seen("location", given).as_deref(), Some(outside), "{given}");
        }
        let cookie = seen("set-cookie", "a=b/c; path=/; HttpOnly;Secure");
        assert_eq!(cookie.as_deref(), Some("a=b/c; Path=/function/t%C3%BCr/; HttpOnly;Secure"));
        assert_eq!(seen("set-cookie", "a=1").as_deref(), Some("a=1"));
        assert_eq!(seen("strict-transport-security", "max-age=1"), None);
        assert_eq!(seen("etag", "/a").as_deref(), Some("/a"));
    }
}
