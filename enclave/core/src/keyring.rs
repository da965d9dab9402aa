//! Data keys, made and opened through ways and locks (docs/format.md, "Ways").

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use nodeseal_memory::Secret;
use nodeseal_wire::cbor::Writer;
use nodeseal_wire::header::{WRAPPED_KEY_LENGTH, Way, check_locks, check_name, encoded_locks};
use nodeseal_wire::lock::{Lock, LockSpec};
use nodeseal_wire::message::{Class, Context, DataKeyReport, Fact, Refusal, WaySpec};

use crate::crypto::{
    Cipher, CryptoError, KEY_LENGTH, NONCE_LENGTH, derive_into, random, random_key,
};
use crate::lock::{KeyService, LockContext};
use crate::refusal::refuse;
use crate::seal::DataKey;

/// The key services of one trusted side.
#[derive(Clone)]
pub struct Keyring {
    services: Vec<Arc<dyn KeyService>>,
}

/// A data key that was just made.
pub struct NewDataKey {
    /// The key.
    pub data_key: DataKey,
    /// The ways to it, for the header of each blob.
    pub ways: Vec<Way>,
    /// For the audit log, one per way.
    pub reports: Vec<DataKeyReport>,
}

impl Keyring {
    /// A keyring that asks these services.
    #[must_use]
    pub fn new(services: Vec<Arc<dyn KeyService>>) -> Self {
        Self { services }
    }

    /// Makes a data key and locks it in each of these ways.
    ///
    /// # Errors
    /// When a lock cannot be made: a way less than asked for would be noticed only in an emergency.
    pub async fn make(
        &self,
        node: &str,
        ways: &[WaySpec],
        request: &Context,
    ) -> Result<NewDataKey, Refusal> {
        if ways.is_empty() {
            let found = "no way is configured to seal by; add a [[way]] with its locks";
            return Err(refuse(Class::Misuse, "no-way", found));
        }
        let data_key = DataKey {
            id: random().map_err(crypto_failed)?,
            key: random_key().map_err(crypto_failed)?,
        };
        let context = LockContext {
            node,
            data_key_id: &data_key.id,
            request,
        };
        let mut made = Vec::with_capacity(ways.len());
        let mut reports = Vec::with_capacity(ways.len());
        for spec in ways {
            let mut facts = Vec::new();
            let way = self.make_way(&data_key, spec, context, &mut facts).await;
            let way = way.map_err(|refusal| {
                let before = reports
                    .iter()
                    .flat_map(|report: &DataKeyReport| &report.facts);
                with_requests(refusal, before.chain(&facts))
            })?;
            reports.push(DataKeyReport {
                id: data_key.id,
                way: way.label.clone(),
                facts,
                failed: Vec::new(),
            });
            made.push(way);
        }
        Ok(NewDataKey {
            data_key,
            ways: made,
            reports,
        })
    }

    async fn make_way(
        &self,
        data_key: &DataKey,
        spec: &WaySpec,
        context: LockContext<'_>,
        facts: &mut Vec<Fact>,
    ) -> Result<Way, Refusal> {
        let malformed = |error: nodeseal_wire::cbor::DecodeError| {
            refuse(Class::Misuse, "bad-way", error.to_string())
        };
        check_name("label", &spec.label).map_err(malformed)?;
        if spec.locks.is_empty() {
            let message = format!(
                "way \"{}\" has no lock; it would open for anyone",
                spec.label
            );
            return Err(refuse(Class::Misuse, "bad-way", message));
        }
        let (mut locks, mut secrets) = (Vec::new(), Vec::new());
        for lock_spec in &spec.locks {
            let made = self
                .service_making(lock_spec)?
                .new_secret(lock_spec, context)
                .await?;
            locks.push(made.lock);
            secrets.push(made.secret);
            facts.extend(made.facts);
        }
        check_locks(&locks).map_err(malformed)?;
        let wrapped_data_key =
            wrap(data_key, &spec.label, context.node, &locks, &secrets).map_err(crypto_failed)?;
        Ok(Way {
            label: spec.label.clone(),
            locks,
            wrapped_data_key,
        })
    }

    /// Opens a data key by the first of these ways that opens.
    ///
    /// # Errors
    /// When none opens: the refusal of the only way, or one that lists them all.
    pub async fn open(
        &self,
        node: &str,
        id: &[u8; 16],
        ways: &[Way],
        request: &Context,
    ) -> Result<(DataKey, DataKeyReport), Refusal> {
        let context = LockContext {
            node,
            data_key_id: id,
            request,
        };
        let mut failed = Vec::new();
        for way in ways {
            let mut facts = Vec::new();
            match self.open_way(way, context, &mut facts).await {
                Ok(key) => {
                    let report = DataKeyReport {
                        id: *id,
                        way: way.label.clone(),
                        facts,
                        failed,
                    };
                    return Ok((DataKey { id: *id, key }, report));
                }
                Err(refusal) => {
                    failed.push((way.label.clone(), with_requests(refusal, &facts)));
                }
            }
        }
        Err(no_way_opened(failed))
    }

    async fn open_way(
        &self,
        way: &Way,
        context: LockContext<'_>,
        facts: &mut Vec<Fact>,
    ) -> Result<Secret, Refusal> {
        let mut secrets = Vec::new();
        for lock in &way.locks {
            let opened = self
                .service_opening(lock)?
                .open_secret(lock, context)
                .await?;
            secrets.push(opened.secret);
            facts.extend(opened.facts);
        }
        match unwrap(way, context.node, context.data_key_id, &secrets) {
            Ok(key) => Ok(key),
            Err(CryptoError::Authentication) => Err(refuse(
                Class::Damaged,
                "data-key-authentication",
                format!(
                    "way \"{}\" opened, but the data key it wraps does not authenticate: \
                     the way, the node or the data key id was changed",
                    way.label
                ),
            )),
            Err(other) => Err(crypto_failed(other)),
        }
    }

    fn service_making(&self, spec: &LockSpec) -> Result<&dyn KeyService, Refusal> {
        let found = self.services.iter().find(|service| service.makes(spec));
        found
            .map(Arc::as_ref)
            .ok_or_else(|| unknown_lock(spec.kind()))
    }

    fn service_opening(&self, lock: &Lock) -> Result<&dyn KeyService, Refusal> {
        let found = self.services.iter().find(|service| service.opens(lock));
        found
            .map(Arc::as_ref)
            .ok_or_else(|| unknown_lock(lock.kind()))
    }
}

/// Names in a refusal the requests that services had answered before it: they have them on record, so the audit log
/// must have them as well (docs/audit.md, "Beside CloudTrail").
fn with_requests<'f>(mut refusal: Refusal, facts: impl IntoIterator<Item = &'f Fact>) -> Refusal {
    let facts = facts.into_iter();
    let ids = facts.filter(|fact| fact.name.ends_with("request-id") && fact.value != "none");
    for (number, fact) in ids.enumerate() {
        let joint = if number == 0 {
            "; answered before it: "
        } else {
            ", "
        };
        let name = fact.name.replace('-', " ");
        refusal.message = format!("{}{joint}{name} {}", refusal.message, fact.value);
    }
    refusal
}

fn unknown_lock(kind: &str) -> Refusal {
    refuse(
        Class::Misuse,
        "lock-not-served",
        format!(
            "this trusted side does not serve locks of kind \"{kind}\" (see its configuration)"
        ),
    )
}

pub(crate) fn crypto_failed(error: CryptoError) -> Refusal {
    refuse(Class::Internal, "crypto", error.to_string())
}

fn no_way_opened(mut failed: Vec<(String, Refusal)>) -> Refusal {
    if failed.len() == 1 {
        return failed.remove(0).1;
    }
    // An outage of any way leaves hope; only if every way says no for good is the answer no for good.
    let passing = |(_, refusal): &&(String, Refusal)| refusal.class == Class::Unavailable;
    let class = failed
        .iter()
        .find(passing)
        .or(failed.first())
        .map_or(Class::Damaged, |(_, refusal)| refusal.class);
    let each = failed
        .iter()
        .map(|(way, refusal)| format!("{way}: {} ({})", refusal.message, refusal.code));
    let message = format!("no way opened: {}", each.collect::<Vec<_>>().join("; "));
    refuse(class, "no-way-opened", message)
}

/// `KEK = HKDF-SHA256(salt = data key id, ikm = lock secrets in order, info = "nodeseal/v1/way" ‖ SHA-256(locks))`.
fn key_encryption_key(
    id: &[u8; 16],
    locks: &[Lock],
    secrets: &[Secret],
) -> Result<Cipher, CryptoError> {
    const DOMAIN: &[u8] = b"nodeseal/v1/way";
    let mut input = Secret::zeroed(KEY_LENGTH.saturating_mul(secrets.len()))?;
    for (to, from) in input.expose_mut().chunks_exact_mut(KEY_LENGTH).zip(secrets) {
        let from: &[u8; KEY_LENGTH] = from.expose().try_into().map_err(|_| CryptoError::Library)?;
        to.copy_from_slice(from);
    }
    let locks_digest = digest(&SHA256, &encoded_locks(locks));
    let mut key = Secret::zeroed(KEY_LENGTH)?;
    derive_into(&mut key, id, &input, &[DOMAIN, locks_digest.as_ref()])?;
    Cipher::new(&key)
}

/// CBOR `["nodeseal/v1/way", label, node, data key id]`.
fn way_associated_data(label: &str, node: &str, id: &[u8; 16]) -> Vec<u8> {
    let mut w = Writer::new();
    w.array(4)
        .text("nodeseal/v1/way")
        .text(label)
        .text(node)
        .bytes(id);
    w.finish()
}

fn wrap(
    data_key: &DataKey,
    label: &str,
    node: &str,
    locks: &[Lock],
    secrets: &[Secret],
) -> Result<[u8; WRAPPED_KEY_LENGTH], CryptoError> {
    let cipher = key_encryption_key(&data_key.id, locks, secrets)?;
    let nonce: [u8; NONCE_LENGTH] = random()?;
    let mut content = Secret::copy_of(data_key.key.expose())?;
    let associated = way_associated_data(label, node, &data_key.id);
    let tag = cipher.seal(nonce, &associated, content.expose_mut())?;
    let wrapped = [&nonce, content.expose(), &tag].concat();
    wrapped.try_into().map_err(|_| CryptoError::Library)
}

fn unwrap(way: &Way, node: &str, id: &[u8; 16], secrets: &[Secret]) -> Result<Secret, CryptoError> {
    let cipher = key_encryption_key(id, &way.locks, secrets)?;
    let (nonce, sealed) = way
        .wrapped_data_key
        .split_first_chunk::<NONCE_LENGTH>()
        .ok_or(CryptoError::Authentication)?;
    let mut content = Secret::copy_of(sealed)?;
    let associated = way_associated_data(&way.label, node, id);
    cipher.open(*nonce, &associated, content.expose_mut())?;
    content.truncate(KEY_LENGTH);
    Ok(content)
}

#[cfg(test)]
mod tests;
