//! The `azure-release` lock: a secret under a key that Key Vault releases to an attested machine.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
    PublicKeyComponents,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nodeseal_attestation::azure::{
    KeyWrap, Release, ReleaseError, ReleaseExpectations, ReleasedKey,
};
use nodeseal_attestation::time::Timestamp;
use nodeseal_core::crypto::{random, random_key};
use nodeseal_core::lock::{
    BoxFuture, KeyService, LOCK_SECRET_LENGTH, LockContext, NewLock, OpenedLock,
};
use nodeseal_core::refusal::refuse;
use nodeseal_core::tunnel::Fault;
use nodeseal_memory::Secret;
use nodeseal_wire::lock::{AzureReleaseLock, Lock, LockSpec};
use nodeseal_wire::message::{Class, Fact, Refusal};

use super::attest::{Attested, attest};
use super::client::{Answer, Call, Question, Vaults, fact};
use super::config::ReleaseConfig;
use super::fault::CODES;
use super::guest::{GuestTpm, Padding};
use super::kept::Kept;
use super::unwrap::not_ours;

/// How long a token is shown again, so that a busy vault does not make every node attest anew: far below its eight
/// hours.
const TOKEN_AGE: Duration = Duration::from_secs(300);
/// How long a released key opens further data keys of the same batch. Revocation is felt that much later.
const KEY_AGE: Duration = Duration::from_secs(10);
/// Length of our RSA-2048 key's modulus, in bytes: the first part of a released key.
const MODULUS: usize = 256;

/// The key service for locks whose key is released.
pub struct AzureRelease {
    vaults: Arc<Vaults>,
    config: ReleaseConfig,
    tpm: Arc<dyn GuestTpm>,
    /// By attestation service.
    tokens: Kept<Attested>,
    /// By key and attestation service.
    keys: Kept<Opened>,
}

/// A released key.
struct Opened {
    key: OaepPrivateDecryptingKey,
    facts: Vec<Fact>,
}

impl AzureRelease {
    /// A key service that proves itself by `tpm`.
    #[must_use]
    pub fn new(vaults: Arc<Vaults>, config: ReleaseConfig, tpm: Arc<dyn GuestTpm>) -> Self {
        Self {
            vaults,
            config,
            tpm,
            tokens: Kept::for_at_most(TOKEN_AGE),
            keys: Kept::for_at_most(KEY_AGE),
        }
    }

    /// Makes a lock with the public half alone: sealing needs no release.
    async fn make(
        &self,
        key: &str,
        attestation: &str,
        context: LockContext<'_>,
    ) -> Result<NewLock, Refusal> {
        self.config.check_service(attestation)?;
        let call = self.vaults.call(key, context)?;
        let (version, public, facts) = call.public_key().await?;
        let secret =
            random_key().map_err(|error| refuse(Class::Internal, "crypto", error.to_string()))?;
        let ciphertext = public
            .wrap(&secret)
            .map_err(|fault| fault.refusal("RSA-OAEP-256", &version.to_string(), ""))?;
        let lock = AzureReleaseLock {
            key: version.to_string(),
            attestation: attestation.to_owned(),
            ciphertext,
        };
        Ok(NewLock {
            lock: Lock::AzureRelease(lock),
            secret,
            facts,
        })
    }

    async fn open(
        &self,
        lock: &AzureReleaseLock,
        context: LockContext<'_>,
    ) -> Result<OpenedLock, Refusal> {
        self.config.check_service(&lock.attestation)?;
        let call = self.vaults.call(&lock.key, context)?;
        if call.key.version().is_none() {
            let message = format!("{} names no version of the key", lock.key);
            return Err(refuse(Class::Damaged, "azure-key-id", message));
        }
        let id = format!("{} {}", lock.key, lock.attestation);
        let release = self.release(&call, lock, context);
        let opened = self.keys.get(id, release).await?;
        let secret = decrypt(&opened.key, &lock.ciphertext).map_err(|error| {
            error.unwrap_or_else(|| {
                let message = format!(
                    "{}: the lock's ciphertext is not for the key that was released",
                    lock.key
                );
                refuse(Class::Damaged, "azure-ciphertext-invalid", message)
            })
        })?;
        Ok(OpenedLock {
            secret,
            facts: opened.facts.clone(),
        })
    }

    async fn release(
        &self,
        call: &Call<'_>,
        lock: &AzureReleaseLock,
        context: LockContext<'_>,
    ) -> Result<Opened, Refusal> {
        let (config, service, tpm) = (&self.vaults.config, &lock.attestation, self.tpm.as_ref());
        let attested = attest(call, config, &self.config, service, tpm, context);
        let attested = self.tokens.get(service.clone(), attested).await?;
        let nonce: [u8; 32] =
            random().map_err(|error| refuse(Class::Internal, "crypto", error.to_string()))?;
        let nonce = BASE64_URL_SAFE_NO_PAD.encode(nonce);
        let question = Question::Release {
            token: &attested.token,
            nonce: &nonce,
        };
        let presented = |fault: &Fault| match fault.code {
            "azure-policy-mismatch" | "azure-attestation-rejected" => attested.presented.clone(),
            _ => String::new(),
        };
        let answered = match call.ask(question, presented).await {
            Ok(answered) => answered,
            Err(refusal) => {
                if refusal.class != Class::Unavailable {
                    // A newer token may say something else.
                    self.tokens.forget(&lock.attestation).await;
                }
                return Err(refusal);
            }
        };
        let mut facts = vec![fact("azure-key", &lock.key)];
        facts.extend(answered.facts());
        facts.extend(attested.facts.iter().cloned());
        let refusal = |fault: Fault| fault.refusal("keys/release", &lock.key, "");
        let Answer::Released(result) = answered.answer else {
            return Err(refusal(Fault::answer(CODES.malformed, "no released key")));
        };
        let value = result.value.unwrap_or_default();
        let released = self
            .verify(&value, call, &lock.key, &nonce, &attested)
            .map_err(refusal)?;
        facts.push(fact(
            "azure-nonce-echoed",
            released.nonce_echoed().to_string(),
        ));
        let key = self.unwrap(&released, &lock.key).await?;
        Ok(Opened { key, facts })
    }

    fn verify(
        &self,
        value: &str,
        call: &Call<'_>,
        key_id: &str,
        nonce: &str,
        attested: &Attested,
    ) -> Result<ReleasedKey, Fault> {
        let roots = self
            .config
            .signer_roots
            .store()
            .map_err(|error| Fault::new(Class::Internal, CODES.client, error.to_string()))?;
        let hosts: Vec<&str> = std::iter::once(call.key.host())
            .chain(self.config.signer_names.iter().map(String::as_str))
            .collect();
        let released = Release::parse(value).and_then(|release| {
            release.verify(&ReleaseExpectations {
                roots: &roots.roots,
                at: Timestamp::from_seconds(self.vaults.config.clock.unix_seconds()),
                hosts: &hosts,
                key_id,
                enc: KeyWrap::RsaAesKeyWrap256,
                nonce,
                wrapping_key_id: &attested.key_id,
            })
        });
        let released = released.map_err(|error| {
            let code = match error {
                ReleaseError::NoCertificates
                | ReleaseError::Chain(_)
                | ReleaseError::Host { .. }
                | ReleaseError::Signature => "azure-release-signer",
                ReleaseError::Nonce => "azure-release-replayed",
                ReleaseError::WrappingKey { .. } => "azure-release-recipient",
                _ => "azure-release-answer",
            };
            Fault::answer(code, error.to_string())
        })?;
        if self.config.require_nonce_echo && !released.nonce_echoed() {
            let text = "the answer does not carry the nonce of this request (require_nonce_echo)";
            return Err(Fault::answer("azure-release-replayed", text));
        }
        Ok(released)
    }

    /// CKM_RSA_AES_KEY_WRAP (PKCS #11): an AES key by RSA-OAEP, decrypted in the TPM, then PKCS #8 by AES key wrap with
    /// padding (RFC 5649).
    async fn unwrap(
        &self,
        released: &ReleasedKey,
        key_id: &str,
    ) -> Result<OaepPrivateDecryptingKey, Refusal> {
        let wrong =
            |code, text: String| Fault::answer(code, text).refusal("keys/release", key_id, "");
        let ciphertext = released.ciphertext();
        let (wrapped, private) = ciphertext.split_at_checked(MODULUS).ok_or_else(|| {
            let text = format!("a released key of {} bytes", ciphertext.len());
            wrong("azure-release-answer", text)
        })?;
        let decrypted = self
            .tpm
            .decrypt(Padding::OaepSha256, wrapped.to_vec())
            .await;
        let aes = match decrypted {
            Err(refusal) if refusal.code == super::NOT_OURS => {
                let text = format!(
                    "it was encrypted to another key than this boot's: {}",
                    refusal.message
                );
                return Err(wrong("azure-release-recipient", text));
            }
            aes => aes?,
        };
        let memory = |error: nodeseal_memory::LockMemoryError| {
            refuse(Class::Internal, "memory", error.to_string())
        };
        let mut pkcs8 = Secret::zeroed(private.len()).map_err(memory)?;
        let garbled = || {
            wrong(
                "azure-release-answer",
                "the released key does not unwrap".to_owned(),
            )
        };
        let length = AesKek::new(&AES_256, aes.expose())
            .and_then(|kek| Ok(kek.unwrap_with_padding(private, pkcs8.expose_mut())?.len()))
            .map_err(|_| garbled())?;
        pkcs8.truncate(length);
        let key = PrivateDecryptingKey::from_pkcs8(pkcs8.expose()).map_err(|_| garbled())?;
        let public = released.public();
        let named: Result<PublicEncryptingKey, _> = PublicKeyComponents {
            n: public.modulus.as_slice(),
            e: public.exponent.as_slice(),
        }
        .try_into();
        let named = named.ok().and_then(|key| key.as_der().ok());
        let found = key.public_key().as_der().ok();
        let same = match (&named, &found) {
            (Some(named), Some(found)) => named.as_ref() == found.as_ref(),
            _ => false,
        };
        if !same {
            let text = "the private key is not that of the public half the answer names";
            return Err(wrong("azure-release-answer", text.to_owned()));
        }
        OaepPrivateDecryptingKey::new(key).map_err(|_| garbled())
    }
}

/// RSA-OAEP-256 by the released key; none for a ciphertext that is not for it.
fn decrypt(key: &OaepPrivateDecryptingKey, ciphertext: &[u8]) -> Result<Secret, Option<Refusal>> {
    let memory = |error: nodeseal_memory::LockMemoryError| {
        Some(refuse(Class::Internal, "memory", error.to_string()))
    };
    let mut plain = Secret::zeroed(key.min_output_size()).map_err(memory)?;
    let length = key
        .decrypt(
            &OAEP_SHA256_MGF1SHA256,
            ciphertext,
            plain.expose_mut(),
            None,
        )
        .map_err(|_| None)?
        .len();
    if length != LOCK_SECRET_LENGTH {
        return Err(None);
    }
    plain.truncate(length);
    Ok(plain)
}

impl KeyService for AzureRelease {
    fn makes(&self, spec: &LockSpec) -> bool {
        matches!(spec, LockSpec::AzureRelease { .. })
    }

    fn opens(&self, lock: &Lock) -> bool {
        matches!(lock, Lock::AzureRelease(_))
    }

    fn new_secret<'a>(
        &'a self,
        spec: &'a LockSpec,
        context: LockContext<'a>,
    ) -> BoxFuture<'a, Result<NewLock, Refusal>> {
        Box::pin(async move {
            match spec {
                LockSpec::AzureRelease { key, attestation } => {
                    self.make(key, attestation, context).await
                }
                other => Err(not_ours(other.kind())),
            }
        })
    }

    fn open_secret<'a>(
        &'a self,
        lock: &'a Lock,
        context: LockContext<'a>,
    ) -> BoxFuture<'a, Result<OpenedLock, Refusal>> {
        Box::pin(async move {
            match lock {
                Lock::AzureRelease(lock) => self.open(lock, context).await,
                other => Err(not_ours(other.kind())),
            }
        })
    }
}
