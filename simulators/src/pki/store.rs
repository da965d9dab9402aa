//! An authority's certificate and key in a directory, as PEM.

use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::certificate::{Algorithm, Key};
use crate::files::{self, FileError};
use crate::text::{NoRandomness, base64};

/// An authority could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A cryptographic step failed.
    #[error("{0} failed")]
    Crypto(&'static str),
    /// A file is not what its name says.
    #[error("{0}: expected {1} in PEM")]
    Pem(String, &'static str),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// No random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

/// A certificate and its key.
pub(super) struct Issuer {
    /// DER.
    pub(super) certificate: Vec<u8>,
    pub(super) key: Key,
}

/// Loads `NAME.pem` and `NAME.key` from `directory`, or makes them with `create` and writes them there.
pub(super) fn load_or_create(
    directory: &Path,
    name: &str,
    algorithm: Algorithm,
    create: impl FnOnce() -> Result<Issuer, PkiError>,
) -> Result<Issuer, PkiError> {
    let certificate_path = directory.join(format!("{name}.pem"));
    let key_path = directory.join(format!("{name}.key"));
    files::make_directory(directory)?;
    let pem_error = |path: &Path, what| PkiError::Pem(path.display().to_string(), what);
    // The certificate is written last: where it is, the key is too. Of two programs starting at once on an
    // empty directory one would overwrite the other's, so the making is done under a lock.
    let lock = std::fs::File::create(directory.join(format!("{name}.lock")))
        .and_then(|file| file.lock().map(|()| file))
        .map_err(FileError::at(directory))?;
    let issuer = match files::read_if_there(&certificate_path)? {
        Some(pem) => {
            let certificate = CertificateDer::from_pem_slice(&pem)
                .map_err(|_| pem_error(&certificate_path, "a certificate"))?;
            let key = files::read_if_there(&key_path)?.unwrap_or_default();
            let key = PrivatePkcs8KeyDer::from_pem_slice(&key)
                .map_err(|_| pem_error(&key_path, "a PKCS #8 private key"))?;
            Issuer {
                certificate: certificate.to_vec(),
                key: Key::read(algorithm, key.secret_pkcs8_der())?,
            }
        }
        None => {
            let made = create()?;
            files::replace(&key_path, pem("PRIVATE KEY", &made.key.pkcs8).as_bytes())?;
            let certificate = pem("CERTIFICATE", &made.certificate);
            files::replace(&certificate_path, certificate.as_bytes())?;
            made
        }
    };
    drop(lock);
    Ok(issuer)
}

/// PEM (RFC 7468).
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}
