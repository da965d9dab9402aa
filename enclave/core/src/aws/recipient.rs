//! Recipient keys: RSA-2048, made ahead, used for one request, wiped.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use nodeseal_memory::Secret;
use tokio::sync::{Mutex, mpsc};

use super::cms::{CmsError, ENCRYPTED_KEY_LENGTH, RECIPIENT_ID_LENGTH};

/// An RSA-2048 key pair to which KMS encrypts one answer.
///
/// KMS documents no other size for certain. The private half lives in memory of AWS-LC, which overwrites whatever it
/// frees.
pub struct RecipientKey {
    private: OaepPrivateDecryptingKey,
    public: Vec<u8>,
    id: [u8; RECIPIENT_ID_LENGTH],
}

/// No recipient key could be made.
#[derive(Debug, thiserror::Error)]
pub enum RecipientError {
    /// The cryptographic library failed, or had no randomness.
    #[error("no RSA recipient key could be made")]
    Library,
    /// A thread that makes keys could not be started.
    #[error("no thread to make recipient keys: {0}")]
    Thread(#[from] std::io::Error),
    /// The threads that make keys are gone.
    #[error("no thread is left to make recipient keys")]
    Stopped,
}

impl RecipientKey {
    /// Makes one: 46 ms at the median, 223 ms at worst seen.
    ///
    /// # Errors
    /// When the library fails.
    pub fn generate() -> Result<Self, RecipientError> {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048)
            .map_err(|_| RecipientError::Library)?;
        let public = private
            .public_key()
            .as_der()
            .map_err(|_| RecipientError::Library)?
            .as_ref()
            .to_vec();
        let mut id = [0; RECIPIENT_ID_LENGTH];
        id.copy_from_slice(digest(&SHA256, &public).as_ref());
        Ok(Self {
            private: OaepPrivateDecryptingKey::new(private).map_err(|_| RecipientError::Library)?,
            public,
            id,
        })
    }

    /// DER SubjectPublicKeyInfo, 294 bytes: what goes into the attestation document.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public
    }

    /// SHA-256 of [`RecipientKey::public_key`]: what KMS names the recipient by.
    #[must_use]
    pub fn id(&self) -> &[u8; RECIPIENT_ID_LENGTH] {
        &self.id
    }

    /// RSAES-OAEP with SHA-256, MGF1 of SHA-256 and no label (RFC 8017 §7.1.2).
    pub(super) fn unwrap(
        &self,
        encrypted: &[u8; ENCRYPTED_KEY_LENGTH],
    ) -> Result<Secret, CmsError> {
        let mut plain = Secret::zeroed(self.private.min_output_size())?;
        let length = self
            .private
            .decrypt(&OAEP_SHA256_MGF1SHA256, encrypted, plain.expose_mut(), None)
            .map_err(|_| CmsError::ContentKey)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }
}

/// Keys ahead for which one thread suffices.
const AHEAD_PER_THREAD: usize = 8;

/// Recipient keys made ahead by threads of their own, so that no open waits for one.
pub struct RecipientKeys {
    ready: Mutex<mpsc::Receiver<Result<RecipientKey, RecipientError>>>,
}

impl RecipientKeys {
    /// Starts to make keys, until `ahead` (at least one) lie ready; whenever one is taken, another is made.
    ///
    /// One thread makes up to eight ahead, so that opens have the other processors; more share the work.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(ahead: usize) -> Result<Self, RecipientError> {
        let (sender, ready) = mpsc::channel(ahead.max(1));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..ahead.max(1).div_ceil(AHEAD_PER_THREAD).min(processors) {
            let sender = sender.clone();
            std::thread::Builder::new()
                .name("recipient-keys".to_owned())
                // Ends when nobody can take keys any more.
                .spawn(move || while sender.blocking_send(RecipientKey::generate()).is_ok() {})?;
        }
        Ok(Self {
            ready: Mutex::new(ready),
        })
    }

    /// A key nobody else has; whoever comes first is served first when none is ready.
    ///
    /// # Errors
    /// When the library fails to make one.
    pub async fn take(&self) -> Result<RecipientKey, RecipientError> {
        let next = self.ready.lock().await.recv().await;
        next.unwrap_or(Err(RecipientError::Stopped))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_public_half_is_an_rsa_2048_spki_and_its_digest_names_the_recipient() {
        let key = RecipientKey::generate().unwrap();
        assert_eq!(key.public_key().len(), 294);
        assert_eq!(
            key.id().as_slice(),
            digest(&SHA256, key.public_key()).as_ref()
        );
    }

    #[tokio::test]
    async fn every_taker_gets_a_key_of_its_own_also_when_none_is_ready() {
        let keys = RecipientKeys::start(1).unwrap();
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(*keys.take().await.unwrap().id());
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 5);
    }

    #[test]
    fn another_keys_ciphertext_is_refused() {
        let key = RecipientKey::generate().unwrap();
        let error = key.unwrap(&[7; ENCRYPTED_KEY_LENGTH]).err().unwrap();
        assert_eq!(error, CmsError::ContentKey);
    }
}
