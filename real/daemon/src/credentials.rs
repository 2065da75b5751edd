//! The credentials of an API: who may come in, by the keys that they bring or the user that they are, and the certificate that is shown.
//! Keys and certificate are read from files, and may be exchanged while the API is served.

use super::places;
use super::roles::{Caller, Keys, Role, Roles, hash, secret};
use elapse::base::{Fault, Result};
use elapse_host::tls::Identity;
use elapse_host::wire::Address;
use elapse_live::address;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// See the module.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) gate: Gate,
    pub(super) identity: Option<Identity>,
}

/// What controllers are called, each on its host.
pub(super) const CONTROLLER: &str = "controller";

/// What the configuration of a daemon says of who may come in.
pub(super) struct AccessKeys<'a> {
    pub(super) listen: Option<&'a str>,
    pub(super) socket_mode: &'a str,
    pub(super) socket_group: Option<&'a str>,
    pub(super) token: Option<&'a Path>,
    pub(super) allow_anonymous: bool,
    pub(super) plaintext: bool,
    pub(super) certificate: Option<&'a Path>,
    pub(super) key: Option<&'a Path>,
    pub(super) state: Option<&'a Path>,
    /// The daemon's name.
    pub(super) name: &'a str,
}

impl AccessKeys<'_> {
    /// What cannot be meant: above all, nothing listens beyond this host for anybody, or in words that others can read.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |why: String| Err(Fault::usage(why));
        self.mode()?;
        let at = self.listen.map(address).transpose()?;
        match (self.certificate, self.key) {
            (Some(_), Some(_)) if !matches!(at, Some(Address::Tcp(_) | Address::Tls(..))) => {
                return wrong(
                    "tls_cert is given and listen is a unix socket, which nobody else can read; leave tls_cert and tls_key out"
                        .into(),
                );
            }
            (Some(_), None) => return wrong("tls_cert is given and tls_key is not; name both".into()),
            (None, Some(_)) => return wrong("tls_key is given and tls_cert is not; name both".into()),
            _ => {}
        }
        if self.allow_anonymous && self.token.is_some() {
            return wrong("allow_anonymous is true and token_file is given; leave one of them out".into());
        }
        let listen = self.listen.unwrap_or_default();
        match at {
            Some(Address::Tls(..)) => wrong(format!(
                "listen = \"{listen}\": write HOST:PORT; TLS is switched on by tls_cert and tls_key"
            )),
            Some(Address::Tcp(at)) if !at.ip().is_loopback() && self.allow_anonymous => wrong(format!(
                "listen = \"{at}\" is open to other hosts and allow_anonymous lets anybody in; leave allow_anonymous out, or listen on 127.0.0.1"
            )),
            Some(Address::Tcp(at)) if !at.ip().is_loopback() && self.certificate.is_none() && !self.plaintext => {
                wrong(format!(
                    "listen = \"{at}\" is open to other hosts and there is no tls_cert: tokens could be read on their way; name tls_cert and tls_key, or set plaintext = true"
                ))
            }
            None | Some(Address::Unix(_)) if self.allow_anonymous => wrong(
                "allow_anonymous is for TCP; who may open a unix socket is said by socket_mode and socket_group".into(),
            ),
            _ => Ok(()),
        }
    }

    /// The mode of the socket.
    fn mode(&self) -> Result<u32> {
        let mode = u32::from_str_radix(self.socket_mode, 8).ok().filter(|mode| *mode <= 0o777);
        mode.ok_or_else(|| {
            Fault::usage(format!(
                "socket_mode = \"{}\" is no mode in octal; write for instance \"0660\"",
                self.socket_mode
            ))
        })
    }

    /// Where it listens: as the configuration says, else on a socket of its own in the folder of all daemons.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub(super) fn place(&self) -> Result<Place> {
        let (mode, group) = (self.mode()?, self.socket_group.map(group_of).transpose()?);
        let at = match self.listen {
            Some(listen) => address(listen)?,
            None => Address::Unix(places::made_for(&self.own_name())?),
        };
        Ok(Place { at, mode, group })
    }

    /// What is open then.
    ///
    /// # Errors
    /// A file that cannot be read, or holds something else; a token that cannot be made.
    pub(super) fn open(&self) -> Result<Credentials> {
        let identity = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some(Identity::read(certificate, key).map_err(Fault::usage)?),
            _ => None,
        };
        let is_tcp = matches!(self.listen.map(address).transpose()?, Some(Address::Tcp(_)));
        let gate = match self.token {
            Some(file) => Gate::of(Some(file))?,
            None if is_tcp && self.allow_anonymous => {
                tracing::warn!(
                    target: "elapse",
                    "allow_anonymous: whoever reaches this address may do everything, which is to be root on this host"
                );
                Gate::of(None)?
            }
            None if is_tcp => Gate::of(Some(&self.made_token()?))?,
            None => Gate::of(None)?,
        };
        Ok(Credentials { gate, identity })
    }

    /// The name of its folder among all daemons': that of a worker, which no other has; a controller's has its port.
    pub(super) fn own_name(&self) -> String {
        match self.listen.map(address) {
            Some(Ok(Address::Tcp(at))) if self.name == CONTROLLER => format!("{CONTROLLER}-{}", at.port()),
            _ => self.name.to_string(),
        }
    }

    /// The file of a token that was made because none was named, made if it is not there.
    fn made_token(&self) -> Result<PathBuf> {
        let folder = match self.state {
            Some(state) => {
                std::fs::create_dir_all(state).map_err(|e| Fault::writing(state, &e))?;
                state.to_path_buf()
            }
            None => places::folder_of(&self.own_name())?,
        };
        let path = folder.join(places::TOKEN);
        let made = File::options().write(true).create_new(true).mode(0o600).open(&path);
        match made {
            Ok(mut file) => {
                let written =
                    random_token().and_then(|token| file.write_all(format!("{token}\n").as_bytes()));
                if let Err(e) = written.and_then(|()| file.sync_all()) {
                    let _ = std::fs::remove_file(&path);
                    return Err(Fault::writing(&path, &e));
                }
                tracing::info!(target: "elapse", token_file = %path.display(), "a token was made; clients bring it with --token-file");
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                tracing::info!(target: "elapse", token_file = %path.display(), "clients bring this token with --token-file");
            }
            Err(e) => return Err(Fault::writing(&path, &e)),
        }
        Ok(path)
    }
}

/// 256 random bits, as text.
fn random_token() -> std::io::Result<String> {
    let mut random = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Where a daemon listens, and who may open its socket where it is one.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) at: Address,
    pub(super) mode: u32,
    pub(super) group: Option<u32>,
}

impl Place {
    /// Removes the socket of a daemon that does not come to listen on it.
    pub(super) fn leave(&self) {
        if let Address::Unix(path) = &self.at {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The number of a group that is named, or numbered.
fn group_of(name: &str) -> Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let path = Path::new("/etc/group");
    let text = std::fs::read_to_string(path).map_err(|e| Fault::reading(path, &e))?;
    let rows = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let number = rows.filter(|row| row.first() == Some(&name)).find_map(|row| row.get(2)?.parse().ok());
    number.ok_or_else(|| {
        Fault::usage(format!(
            "socket_group = \"{name}\": there is no such group; make it with: groupadd --system {name}"
        ))
    })
}

impl Credentials {
    /// From now on those of these files. Whether there is TLS at all is decided at the start.
    ///
    /// # Errors
    /// See [`AccessKeys::open`]; all is then as it was.
    pub(super) fn exchange(&self, keys: &AccessKeys<'_>) -> Result<()> {
        let next = keys.open()?;
        match (&self.identity, next.identity) {
            (Some(shown), Some(next)) => shown.become_like(&next),
            (None, None) => {}
            _ => tracing::warn!(target: "elapse", "TLS is switched on or off at the next start"),
        }
        self.gate.become_like(&next.gate);
        Ok(())
    }
}

/// Who may come in. It may be exchanged while the API is served.
#[derive(Clone, Default)]
pub(super) struct Gate {
    keys: Arc<RwLock<Option<Arc<Keys>>>>,
    /// The hash of what the controller brings, whom this life of the worker has told it and nobody else.
    controller: Arc<OnceLock<[u8; 32]>>,
}

impl Gate {
    /// With the keys of this file; without one, whoever comes may do everything.
    ///
    /// # Errors
    /// A file that cannot be read, or holds something else.
    pub(super) fn of(file: Option<&Path>) -> Result<Gate> {
        let keys = file.map(Keys::read).transpose()?;
        if let (Some(file), true) = (file, keys.as_ref().is_some_and(|keys| keys.is_old)) {
            tracing::info!(
                target: "elapse", file = %file.display(),
                "one token as it is: it gives all roles; a line ROLE SHA256HEX [NAME] [functions=GLOB] gives one"
            );
        }
        Ok(Gate { keys: Arc::new(RwLock::new(keys.map(Arc::new))), ..Gate::default() })
    }

    fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A token for the controller that this worker joins. So no controller needs one that opens other workers too, and no worker is
    /// told one.
    ///
    /// # Errors
    /// If the kernel gives no random bytes.
    pub(super) fn for_controller(&self) -> Result<String> {
        let token = random_token().map_err(|e| Fault::host(format!("no random bytes: {e}")))?;
        let _ = self.controller.set(hash(&token));
        Ok(token)
    }

    /// Whether nobody has to bring a key.
    pub(super) fn is_open(&self) -> bool {
        self.keys().is_none()
    }

    /// Who comes: by the key, if one is brought; else the user on the other end of a unix socket. Root, and who this process runs
    /// as, may do everything anyway; others that the socket lets come may call functions.
    pub(super) fn caller(&self, token: Option<&str>, user: Option<u32>) -> Option<Caller> {
        let all = |name: &str| Some(Caller::new(name, Roles::of(Role::Operate)));
        if token.is_some_and(|token| self.controller.get() == Some(&hash(token))) {
            return all("controller");
        }
        let Some(keys) = self.keys() else {
            return match user {
                None => all("anybody"),
                Some(user) => Some(local(user)),
            };
        };
        match token {
            Some(token) => keys.who(token).cloned(),
            None => user.map(local),
        }
    }

    /// From now on the same as another.
    pub(super) fn become_like(&self, other: &Gate) {
        let next = other.keys();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

/// A user of this host.
fn local(user: u32) -> Caller {
    let ours = user == 0 || user == rustix::process::geteuid().as_raw();
    let role = if ours { Role::Operate } else { Role::Invoke };
    Caller::new(&format!("user {user}"), Roles::of(role))
}

/// The token that another daemon asks for, if any; it may be exchanged meanwhile.
#[derive(Clone, Debug, Default)]
pub(super) struct Token(Arc<RwLock<Option<Arc<str>>>>);

impl Token {
    /// The one in this file; none without a file.
    ///
    /// # Errors
    /// A file that cannot be read, or holds none.
    pub(super) fn of(file: Option<&Path>) -> Result<Token> {
        let token = file.map(read_token).transpose()?;
        Ok(Token(Arc::new(RwLock::new(token.map(|token| format!("Bearer {token}").into())))))
    }

    /// One that a worker has told of itself.
    pub(super) fn told(token: &str) -> Token {
        Token(Arc::new(RwLock::new(Some(format!("Bearer {token}").into()))))
    }

    /// What goes into the header `authorization`.
    pub(super) fn bearer(&self) -> Option<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on the same as another.
    pub(super) fn become_like(&self, other: &Token) {
        let next = other.bearer();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

/// The token in a file.
///
/// # Errors
/// A file that cannot be read, or holds none: keys are hashes, with which nobody can ask.
pub(super) fn read_token(path: &Path) -> Result<String> {
    let text = secret(path)?;
    let token = text.trim();
    if token.len() < 16 || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Fault::usage(format!(
            "{}: it is to have the token itself, at least 16 letters and digits; make one with: openssl rand -hex 32",
            path.display()
        )));
    }
    Ok(token.to_string())
}
