//! TLS for the APIs of daemons: whom a client trusts, and the certificate that a server shows.

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// A server's end of a secured connection.
pub type Secured = server::TlsStream<TcpStream>;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |why: &dyn fmt::Display| format!("cannot read certificates from {}: {why}", path.display());
    let all = CertificateDer::pem_file_iter(path).map_err(|e| wrong(&e))?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|e| wrong(&e))?;
    if all.is_empty() {
        return Err(wrong(&"there is none in it; it is a PEM file with -----BEGIN CERTIFICATE-----"));
    }
    Ok(all)
}

/// The authorities that a client believes.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// Those in this PEM file; without one, those of the public web.
    ///
    /// # Errors
    /// A file that cannot be read, or holds no certificate.
    pub fn of(authorities: Option<&Path>) -> Result<Trust, String> {
        let mut roots = RootCertStore::empty();
        match authorities {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                for certificate in certificates(path)? {
                    let wrong = |e| format!("{}: this is no certificate: {e}", path.display());
                    roots.add(certificate).map_err(wrong)?;
                }
            }
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Trust(Arc::new(config)))
    }

    /// Secures a connection to the host of this name.
    ///
    /// # Errors
    /// If the host shows no certificate that is believed, or the connection breaks.
    pub async fn secure(&self, host: &str, stream: TcpStream) -> io::Result<client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_string())
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("'{host}': {e}")))?;
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
    }
}

/// The certificate and the key that a server shows; they may be exchanged while it serves.
#[derive(Clone)]
pub struct Identity(Arc<RwLock<Arc<ServerConfig>>>);

impl Identity {
    /// Those in these PEM files.
    ///
    /// # Errors
    /// A file that cannot be read, or a key that is not the certificate's.
    pub fn read(certificate: &Path, key: &Path) -> Result<Identity, String> {
        Ok(Identity(Arc::new(RwLock::new(server_config(certificate, key)?))))
    }

    /// From now on that of `other`; connections that there are keep theirs.
    pub fn become_like(&self, other: &Identity) {
        let next = other.current();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Secures a connection that was accepted.
    ///
    /// # Errors
    /// If the client wants something else, or the connection breaks.
    pub async fn secure(&self, stream: TcpStream) -> io::Result<Secured> {
        TlsAcceptor::from(self.current()).accept(stream).await
    }
}

fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let chain = certificates(certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|e| format!("cannot read a private key from {}: {e}", key.display()))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|e| format!("{} and {} do not fit: {e}", certificate.display(), key.display()))?;
    Ok(Arc::new(config))
}
