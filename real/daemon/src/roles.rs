//! Who may ask what of a daemon: roles, and the keys that give them.
//!
//! A file of keys has a line for each: `ROLE SHA256HEX [NAME] [functions=GLOB]`, the hash being that of the token that whoever comes
//! must bring. So who can read the file cannot ask with it. A token on several lines has the roles of all of them. What follows
//! a `#` is a comment. A file with one token as it is, as they were written before there were roles, gives all of them.

use super::request::Answer;
use super::state::Registered;
use elapse::base::{Fault, Result, nearest};
use elapse::load::FunctionConfig;
use rustc_hash::FxHashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Role {
    /// Call functions, and fetch the answers of one's own calls.
    Invoke = 1,
    /// Register functions, forget them, and create containers ahead: as the worker's own user, within its allow-lists.
    Register = 2,
    /// See metrics, status and what functions and workers there are.
    Read = 4,
    /// Join a fleet as a worker.
    Join = 8,
    /// All of it, and drain.
    Operate = 16,
}

/// All roles, by the words they are written as.
const ROLES: [(&str, Role); 5] = [
    ("invoke", Role::Invoke),
    ("register", Role::Register),
    ("read", Role::Read),
    ("join", Role::Join),
    ("operate", Role::Operate),
];

impl Role {
    /// Its word.
    pub(super) fn word(self) -> &'static str {
        ROLES.iter().find(|(_, role)| *role == self).map_or("", |(word, _)| word)
    }
}

/// Roles that somebody has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Roles(u8);

impl Roles {
    /// Those of one.
    pub(super) fn of(role: Role) -> Roles {
        Roles(role as u8)
    }

    /// Whether a role is among them.
    pub(super) fn has(self, role: Role) -> bool {
        self.0 & (role as u8 | Role::Operate as u8) != 0
    }

    fn and(self, other: Roles) -> Roles {
        Roles(self.0 | other.0)
    }
}

/// Somebody who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// What the audit log calls them.
    pub(super) name: Arc<str>,
    pub(super) roles: Roles,
    /// Names of the functions that they may call or register, with `*` and `?`; all where none is given.
    functions: Option<Arc<str>>,
}

impl Caller {
    /// Somebody with these roles, for all functions.
    pub(super) fn new(name: &str, roles: Roles) -> Caller {
        Caller { name: name.into(), roles, functions: None }
    }

    /// What they register: bound by the allow-lists, unless they may do everything.
    ///
    /// # Errors
    /// The answer, where the function is none of theirs.
    pub(super) fn registers(&self, config: FunctionConfig) -> std::result::Result<Registered, Answer> {
        if !self.may(Role::Register, Some(&config.name)) {
            let why = format!(
                "the role 'register' for function '{}' is needed for this, and the key has another",
                config.name
            );
            return Err(Answer::error(403, &why));
        }
        Ok(Registered { config, bound: !self.roles.has(Role::Operate) })
    }

    /// Whether they may act in a role, on a function where it is about one.
    pub(super) fn may(&self, role: Role, function: Option<&str>) -> bool {
        let theirs = match (&self.functions, function) {
            (Some(glob), Some(function)) => matches(glob, function),
            _ => true,
        };
        theirs && self.roles.has(role)
    }
}

/// Whether a name is what a pattern with `*` and `?` stands for.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last `*` was, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The keys of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    /// By the hash of the token.
    callers: FxHashMap<[u8; 32], Caller>,
    /// It is a token as it is, and gives all roles.
    pub(super) is_old: bool,
}

/// Bytes that a file of keys may have.
const LONGEST: u64 = 1 << 20;
/// Letters that a token has at least.
const LEAST: usize = 16;

impl Keys {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that is none, that others can read, or that holds something else: what, and on which line.
    pub(super) fn read(path: &Path) -> Result<Keys> {
        Keys::parse(&secret(path)?, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Keys> {
        let mut keys = Keys::default();
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let lines: Vec<(u64, &str)> = (1..).zip(lines).filter(|(_, line)| !line.is_empty()).collect();
        if let [(_, token)] = lines[..]
            && !token.contains(char::is_whitespace)
        {
            check(token).map_err(|why| Fault::usage(format!("{}: {why}", path.display())))?;
            keys.callers.insert(hash(token), Caller::new("token", Roles::of(Role::Operate)));
            keys.is_old = true;
            return Ok(keys);
        }
        for (line, text) in lines {
            let (hash, caller) = row(text).map_err(|why| Fault::at(path, line, why))?;
            match keys.callers.get_mut(&hash) {
                None => drop(keys.callers.insert(hash, caller)),
                Some(known) if known.functions == caller.functions => {
                    known.roles = known.roles.and(caller.roles)
                }
                Some(_) => {
                    let why = "this token has other functions on another line; give it one functions=GLOB, or two tokens";
                    return Err(Fault::at(path, line, why));
                }
            }
        }
        if keys.callers.is_empty() {
            return Err(Fault::usage(format!("{}: there is no key in it; {EXAMPLE}", path.display())));
        }
        Ok(keys)
    }

    /// Who brings this token.
    pub(super) fn who(&self, token: &str) -> Option<&Caller> {
        self.callers.get(&hash(token))
    }
}

/// What a line looks like.
const EXAMPLE: &str = "a line is ROLE SHA256HEX [NAME] [functions=GLOB], the hash of a token being that of: printf %s TOKEN | sha256sum";

fn row(text: &str) -> std::result::Result<([u8; 32], Caller), String> {
    let mut words = text.split_whitespace();
    let (Some(role), Some(hash)) = (words.next(), words.next()) else { return Err(EXAMPLE.into()) };
    let Some((_, role)) = ROLES.iter().find(|(word, _)| *word == role) else {
        let known = ROLES.map(|(word, _)| word);
        let hint = nearest(role, known).map_or(String::new(), |near| format!("; did you mean '{near}'?"));
        return Err(format!("there is no role '{role}'{hint} (there are {})", known.join(", ")));
    };
    let hash = unhex(hash)
        .ok_or_else(|| format!("'{hash}' is no SHA-256 hash of 64 hexadecimal digits; {EXAMPLE}"))?;
    // Without a name each is somebody: answers are fetched by who asked.
    let unnamed = format!("{}-{:02x}{:02x}{:02x}{:02x}", role.word(), hash[0], hash[1], hash[2], hash[3]);
    let mut caller = Caller::new(&unnamed, Roles::of(*role));
    for (place, word) in words.enumerate() {
        match word.strip_prefix("functions=") {
            Some(glob) if !glob.is_empty() && caller.functions.is_none() => {
                caller.functions = Some(glob.into())
            }
            None if place == 0 => caller.name = word.into(),
            _ => return Err(format!("'{word}' is one word too many; {EXAMPLE}")),
        }
    }
    Ok((hash, caller))
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

pub(super) fn hash(token: &str) -> [u8; 32] {
    elapse_host::sha256(token.as_bytes())
}

/// Whether a text can be a token.
///
/// # Errors
/// One sentence.
pub(super) fn check(token: &str) -> std::result::Result<(), String> {
    if token.len() < LEAST || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!(
            "a token has at least {LEAST} letters and digits; make one with: openssl rand -hex 32"
        ));
    }
    Ok(())
}

/// The text of a file that only its owner and group may read.
///
/// # Errors
/// If it is no file, is too long, is no text, or others can read it.
pub(super) fn secret(path: &Path) -> Result<String> {
    let cannot = |e: std::io::Error| Fault::reading(path, &e);
    // A pipe that nobody writes into would be waited for.
    let file = File::options().read(true).custom_flags(libc_nonblock()).open(path).map_err(cannot)?;
    let meta = file.metadata().map_err(cannot)?;
    let wrong = |why: &str| Err(Fault::usage(format!("{}: {why}", path.display())));
    if !meta.is_file() {
        return wrong("it is no file; name one with a token or keys");
    }
    if meta.mode() & 0o007 != 0 {
        return wrong("others can read it; take that from them with: chmod o= FILE");
    }
    if meta.len() > LONGEST {
        return wrong("it is longer than 1 MiB, and no file of keys");
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).map_err(cannot)?;
    Ok(text)
}

/// O_NONBLOCK.
fn libc_nonblock() -> i32 {
    rustix::fs::OFlags::NONBLOCK.bits() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(token: &str) -> String {
        hash(token).iter().map(|b| format!("{b:02x}")).collect()
    }

    fn keys(text: &str) -> Result<Keys> {
        Keys::parse(text, Path::new("keys"))
    }

    #[test]
    fn a_token_has_the_roles_of_its_lines_and_no_others() {
        let text = format!(
            "# who may what\ninvoke {} shop functions=shop-*\nread {} watcher # dashboards\n\ninvoke {}\nregister {} ci\n",
            hex("a"),
            hex("b"),
            hex("c"),
            hex("c"),
        );
        let keys = keys(&text).expect("keys");
        let who = |token: &str| keys.who(token).expect("known").clone();
        let shop = who("a");
        assert_eq!(
            (&*shop.name, shop.may(Role::Invoke, Some("shop-cart")), shop.may(Role::Invoke, Some("bank"))),
            ("shop", true, false)
        );
        assert!(
            !shop.may(Role::Register, Some("shop-cart"))
                && !shop.may(Role::Read, None)
                && !shop.may(Role::Operate, None)
        );
        let watcher = who("b");
        assert!(watcher.may(Role::Read, None) && !watcher.may(Role::Invoke, Some("bank")));
        let both = who("c");
        assert!(
            both.may(Role::Invoke, Some("bank"))
                && both.may(Role::Register, None)
                && !both.may(Role::Join, None)
        );
        assert!(keys.who("d").is_none() && keys.who("").is_none() && !keys.is_old);
    }

    #[test]
    fn a_file_of_before_gives_all_roles() {
        let keys = keys("0123456789abcdef\n").expect("a token");
        let who = keys.who("0123456789abcdef").expect("known");
        assert!(keys.is_old && ROLES.iter().all(|(_, role)| who.may(*role, None)));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let hash = hex("a");
        for (text, part) in [
            (String::new(), "there is no key in it"),
            ("short".into(), "at least 16 letters"),
            (format!("invoke {hash}\nadmin {hash}\n"), "line 2: there is no role 'admin'"),
            (format!("reed {hash} x\n"), "did you mean 'read'?"),
            ("invoke abc x\n".into(), "'abc' is no SHA-256 hash"),
            (format!("invoke {hash} a b\n"), "'b' is one word too many"),
            (format!("invoke {hash} a functions=x\nread {hash}\n"), "line 2: this token has other functions"),
        ] {
            let why = keys(&text).expect_err(&text).to_string();
            assert!(why.contains(part), "{why}");
        }
        let device = Keys::read(Path::new("/dev/zero")).expect_err("a device").to_string();
        assert!(device.contains("it is no file"), "{device}");
    }

    #[test]
    fn patterns_stand_for_names() {
        for (pattern, name, is) in [
            ("*", "", true),
            ("a*", "abc", true),
            ("a*", "ba", false),
            ("*c", "abcc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("", "", true),
            ("", "a", false),
            ("**", "anything", true),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        }
    }
}
