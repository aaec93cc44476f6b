//! A certificate that proves to a remote server who we are (TLS client authentication), from PEM files.
//!
//! Always: it is checked before it is used, because ureq 3.5 panics on one that does not fit its key; no fault shows
//! anything of the key.

use crate::log;
use rustls::client::ClientConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{InconsistentKeys, RootCertStore};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use ureq::tls::{ClientCert, PemItem, PrivateKey, parse_pem};

/// Where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The file with the certificate, and with those that lead to its authority.
    pub chain: PathBuf,
    /// The file with its key; it may be the same.
    pub key: PathBuf,
}

impl Certificate {
    /// Reads it and finds out whether it can be used.
    ///
    /// # Errors
    /// It cannot; in words for a person.
    pub fn check(&self) -> Result<(), String> {
        self.usable().map(drop)
    }

    /// Reads it, for connections.
    ///
    /// # Errors
    /// As [`Certificate::check`].
    pub(super) fn usable(&self) -> Result<ClientCert, String> {
        let mut chain = Vec::new();
        for item in parse_pem(&read(&self.chain)?) {
            match item {
                Ok(PemItem::Certificate(certificate)) => chain.push(certificate),
                Ok(_) => {}
                Err(_) => return Err(format!("{} is no PEM file", quoted(&self.chain))),
            }
        }
        if chain.is_empty() {
            return Err(format!("{} holds no certificate in PEM form", quoted(&self.chain)));
        }
        let key = self.key()?;
        let certificates = chain.iter().map(|certificate| CertificateDer::from(certificate.der().to_vec())).collect();
        self.fits(certificates, &key)?;
        Ok(ClientCert::new_with_certs(&chain, key))
    }

    fn key(&self) -> Result<PrivateKey<'static>, String> {
        let text = read(&self.key)?;
        for item in parse_pem(&text) {
            match item {
                Ok(PemItem::PrivateKey(key)) => return Ok(key),
                Ok(_) => {}
                Err(_) => return Err(format!("{} is no PEM file", quoted(&self.key))),
            }
        }
        let is_encrypted = String::from_utf8_lossy(&text).contains("ENCRYPTED PRIVATE KEY");
        let why = if is_encrypted {
            "holds an encrypted key; give it without a password"
        } else {
            "holds no private key in PEM form"
        };
        Err(format!("{} {why}", quoted(&self.key)))
    }

    /// Whether both can be used, together.
    fn fits(&self, chain: Vec<CertificateDer<'static>>, key: &PrivateKey<'_>) -> Result<(), String> {
        let unusable = |error: rustls::Error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                format!("the key in {} is not that of the certificate in {}", quoted(&self.key), quoted(&self.chain))
            }
            rustls::Error::InvalidCertificate(_) => format!("the certificate in {} is broken", quoted(&self.chain)),
            _ => format!("the key in {} cannot be used: it is broken, or of an unknown kind", quoted(&self.key)),
        };
        let broken = |_| unusable(rustls::Error::General(String::new()));
        let der = PrivateKeyDer::try_from(key.der()).map_err(broken)?.clone_key();
        let versions = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let config = versions.with_safe_default_protocol_versions().map_err(unusable)?;
        let config = config.with_root_certificates(RootCertStore::empty());
        config.with_client_auth_cert(chain, der).map(drop).map_err(unusable)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{} cannot be read: {}", quoted(path), log::cause(&error)))
}

fn quoted(path: &Path) -> String {
    format!("'{}'", log::shortened(path.as_os_str().as_bytes()))
}
