//! What a request asks for, and from where it comes.

use crate::roles::{Caller, Role};
use axum::http::{Extensions, Method};
use percent_encoding::percent_decode_str;
use std::net::IpAddr;

/// Who is on the other end of the connection; among a request's extensions.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct OtherEnd {
    /// The user, where it is a unix socket.
    pub(in super::super) user: Option<u32>,
    /// The address, where it is not.
    pub(in super::super) address: Option<IpAddr>,
}

impl OtherEnd {
    pub(super) fn of(extensions: &Extensions) -> OtherEnd {
        extensions.get::<OtherEnd>().copied().unwrap_or_default()
    }
}

/// The name of a function as OpenFaaS's clients write it: they may name its namespace, of which there is only the usual one.
pub(super) fn unqualified(name: &str) -> &str {
    name.strip_suffix(".openfaas-fn").filter(|name| !name.is_empty()).unwrap_or(name)
}

/// What a request asks for: a role, and the function that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wants {
    pub(super) role: Option<Role>,
    function: Option<String>,
}

impl Wants {
    /// What everybody may know.
    pub(super) const NOTHING: Wants = Wants { role: None, function: None };

    pub(super) fn of(method: &Method, path: &str) -> Wants {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let about = |role, name: &str| {
            let name = percent_decode_str(name).decode_utf8_lossy().into_owned();
            Wants { role: Some(role), function: Some(unqualified(&name).to_string()) }
        };
        let plain = |role| Wants { role: Some(role), function: None };
        match parts[..] {
            ["v1", "health"] | ["healthz"] | ["v1", "openapi.json"] => Wants::NOTHING,
            ["function" | "async-function", name, ..]
            | ["v1", "functions", name, "invoke" | "invoke-async"] => about(Role::Invoke, name),
            ["v1", "invocations", _] => plain(Role::Invoke),
            ["v1", "functions"] if method == Method::POST => plain(Role::Register),
            ["v1", "functions", name, "prewarm"] => about(Role::Register, name),
            ["v1", "functions", name] if method == Method::DELETE => about(Role::Register, name),
            ["v1", "workers"] if method == Method::POST => plain(Role::Join),
            ["v1", "workers", _] | ["v1", "workers", _, "heartbeat"] => plain(Role::Join),
            ["v1", "drain"] => plain(Role::Operate),
            _ => plain(Role::Read),
        }
    }

    pub(super) fn allows(&self, caller: &Caller) -> bool {
        self.role.is_none_or(|role| caller.may(role, self.function.as_deref()))
    }

    pub(super) fn why_not(&self) -> String {
        let role = self.role.map_or("", Role::word);
        match &self.function {
            None => format!("the role '{role}' is needed for this, and the key has another"),
            Some(function) => format!(
                "the role '{role}' for function '{function}' is needed for this, and the key has another"
            ),
        }
    }
}
