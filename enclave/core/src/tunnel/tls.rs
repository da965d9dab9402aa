//! Whom to trust to be a key service, and the time.
//!
//! In an enclave image both are measured. Nothing of it can be changed by the agent: that would be changing who may
//! answer for a key service.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};

/// Trust anchors for TLS to a key service.
#[derive(Clone, Debug)]
pub enum Roots {
    /// Mozilla's, as compiled in.
    WebPki,
    /// These certificates, PEM, one or more, and no others.
    Pem(Vec<u8>),
}

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A trust anchor is no certificate, or there is none.
    #[error("roots: {0}")]
    Roots(String),
    /// The library refuses.
    #[error("TLS: {0}")]
    Library(#[from] rustls::Error),
}

impl Roots {
    /// Those of a configuration: Mozilla's, or the certificates in a file whose path starts at `beside`.
    ///
    /// # Errors
    /// When the file cannot be read; begins with `roots: `.
    pub fn configured(file: Option<PathBuf>, beside: &Path) -> Result<Self, String> {
        let Some(file) = file else {
            return Ok(Self::WebPki);
        };
        let path = beside.join(file);
        let pem =
            std::fs::read(&path).map_err(|error| format!("roots: {}: {error}", path.display()))?;
        Ok(Self::Pem(pem))
    }

    /// The anchors as a store.
    ///
    /// # Errors
    /// When one is no certificate, or there is none.
    pub fn store(&self) -> Result<RootCertStore, TlsError> {
        let mut store = RootCertStore::empty();
        match self {
            Self::WebPki => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Self::Pem(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    certificate
                        .map_err(|error| error.to_string())
                        .and_then(|der| store.add(der).map_err(|error| error.to_string()))
                        .map_err(TlsError::Roots)?;
                }
            }
        }
        if store.is_empty() {
            return Err(TlsError::Roots("no certificate".to_owned()));
        }
        Ok(store)
    }

    /// TLS 1.2 and 1.3 with aws-lc, these roots and this clock; no session is resumed, so each connection proves anew
    /// who answers.
    ///
    /// # Errors
    /// As [`Roots::store`].
    pub fn client(&self, clock: &Clock) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_details(provider, Arc::new(clock.clone()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.store()?)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        tls.resumption = rustls::client::Resumption::disabled();
        Ok(tls)
    }
}

/// Where the time comes from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The time by `now`.
    #[must_use]
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The system's time.
    #[must_use]
    pub fn system() -> Self {
        Self::new(SystemTime::now)
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }

    /// Seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn unix_seconds(&self) -> u64 {
        let since = self.now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let since = self.now().duration_since(UNIX_EPOCH).ok()?;
        Some(UnixTime::since_unix_epoch(since))
    }
}
