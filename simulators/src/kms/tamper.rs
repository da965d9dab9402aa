//! Carrying out the faults that change an answer.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::fill;
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use serde_json::{Map, Value, json};

use super::Kms;
use super::cms::envelop;
use super::faults::{Fault, PlaintextKind};
use crate::text::{base64, unbase64, uuid};

const CMS: &str = "CiphertextForRecipient";

/// What tampering with an answer to a recipient needs.
pub(super) struct Released {
    /// The secret in it.
    pub(super) secret: Vec<u8>,
    /// The recipient's key (DER SubjectPublicKeyInfo).
    pub(super) spki: Vec<u8>,
}

/// Changes a good answer as `fault` says; None if something needed for it is missing.
pub(super) fn tamper(
    kms: &Kms,
    answer: &mut Value,
    fault: &Fault,
    released: Option<&Released>,
    previous: Option<&str>,
) -> Option<()> {
    let answer = answer.as_object_mut()?;
    match fault {
        Fault::WrongKeyId => {
            let other = kms.store.arn(&uuid().ok()?);
            put(answer, "KeyId", other);
        }
        Fault::Plaintext { which } => {
            let secret = base64(&released?.secret);
            match which {
                PlaintextKind::Beside => put(answer, "Plaintext", secret),
                PlaintextKind::Empty => put(answer, "Plaintext", String::new()),
                PlaintextKind::Instead => {
                    answer.remove(CMS);
                    put(answer, "Plaintext", secret);
                }
            }
        }
        Fault::ReplayCms => put(answer, CMS, previous?.to_owned()),
        Fault::ForeignCms => {
            let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).ok()?;
            let spki = key.public_key().as_der().ok()?;
            let cms = envelop(spki.as_ref(), &released?.secret, kms.cms_shape()).ok()?;
            put(answer, CMS, base64(&cms));
        }
        Fault::OtherSecret => {
            let released = released?;
            let mut other = vec![0; released.secret.len()];
            fill(&mut other).ok()?;
            let cms = envelop(&released.spki, &other, kms.cms_shape()).ok()?;
            put(answer, CMS, base64(&cms));
        }
        Fault::GarbledCms => {
            let mut cms = unbase64(answer.get(CMS)?.as_str()?)?;
            let end = cms.iter().rposition(|byte| *byte != 0)?;
            *cms.get_mut(end)? ^= 0x01;
            put(answer, CMS, base64(&cms));
        }
        _ => {}
    }
    Some(())
}

fn put(answer: &mut Map<String, Value>, name: &str, value: String) {
    answer.insert(name.to_owned(), json!(value));
}
