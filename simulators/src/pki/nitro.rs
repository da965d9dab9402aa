//! The chain under which attestation documents are signed, with the profile of the genuine one.
//!
//! Names, their attribute order, lifetimes, key usages and path lengths are those of documents of 2026: root (30
//! years), regional (20 d 1 h), zonal (5 d 18 h), instance (24 h), and the leaf that signs (3 h 0 min 3 s).

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};

use super::certificate::{
    Algorithm, CRL_SIGN, DIGITAL_SIGNATURE, Extension, KEY_CERT_SIGN, Key, NON_REPUDIATION,
    Profile, issue,
};
use super::name::{Attribute, name};
use super::store::{Issuer, PkiError, load_or_create, pem};
use crate::text::{hex, random};
use crate::time::Timestamp;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// What a CA of the chain may do.
const CA_USAGE: u8 = DIGITAL_SIGNATURE | KEY_CERT_SIGN | CRL_SIGN;
/// How long one leaf goes on signing documents. Genuine documents were made up to 38 minutes into their leaf.
const LEAF_REUSE: u64 = 45 * 60;

/// The root of a simulated Nitro hypervisor.
pub struct NitroRoot(Issuer);

impl NitroRoot {
    /// Loads `nitro-root.pem` and `nitro-root.key` from `directory`, or makes them at time `now`.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn in_directory(directory: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let made = || Self::generate(now).map(|root| root.0);
        load_or_create(directory, "nitro-root", Algorithm::P384, made).map(Self)
    }

    /// A new root, valid from an hour before `now`, kept nowhere.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn generate(now: Timestamp) -> Result<Self, PkiError> {
        let key = Key::generate(Algorithm::P384)?;
        let subject = root_name();
        let profile = Profile {
            serial: &serial()?,
            subject: &subject,
            not_before: now.minus_seconds(HOUR),
            not_after: now.plus_seconds(30 * 365 * DAY),
            extensions: &[
                Extension::Authority(None),
                Extension::SubjectKey,
                Extension::Usage(CA_USAGE, true),
            ],
        };
        let certificate = issue(&profile, &key, &key, &subject)?;
        Ok(Self(Issuer { certificate, key }))
    }

    /// The root certificate (DER): the trust anchor of everything signed under it.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.0.certificate
    }

    /// The root certificate as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.0.certificate)
    }
}

fn root_name() -> Vec<u8> {
    name(&[
        (Attribute::Country, "US"),
        (Attribute::Organization, "Amazon"),
        (Attribute::Unit, "AWS"),
        (Attribute::CommonName, "aws.nitro-enclaves"),
    ])
}

/// A name as instance and leaf have it.
fn instance_name(common_name: &str) -> Vec<u8> {
    name(&[
        (Attribute::Country, "US"),
        (Attribute::State, "Washington"),
        (Attribute::Locality, "Seattle"),
        (Attribute::Organization, "Amazon"),
        (Attribute::Unit, "AWS"),
        (Attribute::CommonName, common_name),
    ])
}

/// 16 random bytes, positive.
fn serial() -> Result<[u8; 16], PkiError> {
    let mut serial = random::<16>()?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

/// An instance's place under a root: the chain down to its leaf, renewed as its certificates run out.
pub struct NitroIdentity {
    root: NitroRoot,
    region: String,
    instance_id: String,
    /// `i-…-enc…` or `i-…-tpm0000000000000000`.
    module_id: String,
    chain: Option<Chain>,
}

struct Chain {
    /// Root, regional, zonal, instance.
    bundle: Vec<Vec<u8>>,
    instance_key: Key,
    instance_name: Vec<u8>,
    instance_until: Timestamp,
    leaf: Option<Leaf>,
}

struct Leaf {
    certificate: Vec<u8>,
    signing: EcdsaKeyPair,
    issued: Timestamp,
}

/// A signature, with the certificates that prove it.
pub struct Signed {
    /// r and s, 48 bytes each (RFC 9053 section 2.1).
    pub signature: Vec<u8>,
    /// DER of the signing certificate.
    pub certificate: Vec<u8>,
    /// DER of root, regional, zonal and instance certificate.
    pub bundle: Vec<Vec<u8>>,
}

impl NitroIdentity {
    /// The module `module_id` on the instance `instance_id` in `region`.
    #[must_use]
    pub fn new(root: NitroRoot, region: &str, instance_id: &str, module_id: &str) -> Self {
        Self {
            root,
            region: region.to_owned(),
            instance_id: instance_id.to_owned(),
            module_id: module_id.to_owned(),
            chain: None,
        }
    }

    /// The root certificate (DER).
    #[must_use]
    pub fn root_certificate(&self) -> &[u8] {
        self.root.certificate()
    }

    /// Module id, as documents name it.
    #[must_use]
    pub fn module_id(&self) -> &str {
        &self.module_id
    }

    /// Signs at time `now` what `message` makes of the signing certificate and the bundle.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn sign(
        &mut self,
        now: Timestamp,
        message: impl FnOnce(&[u8], &[Vec<u8>]) -> Vec<u8>,
    ) -> Result<Signed, PkiError> {
        // A clock set back is answered with a new chain too, so that documents are valid at their own time.
        let usable = |chain: &Chain| {
            let issued = chain.instance_until.minus_seconds(DAY);
            issued <= now && now.plus_seconds(4 * HOUR) < chain.instance_until
        };
        let mut chain = match self.chain.take().filter(usable) {
            Some(chain) => chain,
            None => self.chain_at(now)?,
        };
        let fresh = |leaf: &Leaf| leaf.issued <= now && now < leaf.issued.plus_seconds(LEAF_REUSE);
        let leaf = match chain.leaf.take().filter(fresh) {
            Some(leaf) => leaf,
            None => self.leaf_at(now, &chain)?,
        };
        let signature = leaf
            .signing
            .sign(
                &SystemRandom::new(),
                &message(&leaf.certificate, &chain.bundle),
            )
            .map_err(|_| PkiError::Crypto("signing a document"));
        let signed = signature.map(|signature| Signed {
            signature: signature.as_ref().to_vec(),
            certificate: leaf.certificate.clone(),
            bundle: chain.bundle.clone(),
        });
        chain.leaf = Some(leaf);
        self.chain = Some(chain);
        signed
    }

    fn chain_at(&self, now: Timestamp) -> Result<Chain, PkiError> {
        let region = &self.region;
        let regional_host = format!("{}.{region}.aws.nitro-enclaves", hex(&random::<8>()?));
        let regional_name = name(&[
            (Attribute::Country, "US"),
            (Attribute::Organization, "Amazon"),
            (Attribute::Unit, "AWS"),
            (Attribute::CommonName, &regional_host),
        ]);
        let zonal_host = format!("{}.zonal.{region}.aws.nitro-enclaves", hex(&random::<8>()?));
        let zonal_name = name(&[
            (Attribute::CommonName, &zonal_host),
            (Attribute::Unit, "AWS"),
            (Attribute::Organization, "Amazon"),
            (Attribute::Country, "US"),
            (Attribute::State, "WA"),
            (Attribute::Locality, "Seattle"),
        ]);
        let instance_host = format!("{}.{region}.aws.nitro-enclaves", self.instance_id);
        let instance_name = instance_name(&instance_host);

        let regional_key = Key::generate(Algorithm::P384)?;
        let revocation = Extension::Revocation("http://crl.nitro.invalid/regional.crl");
        let regional = Profile {
            serial: &serial()?,
            subject: &regional_name,
            not_before: now.minus_seconds(2 * DAY),
            not_after: now.plus_seconds(18 * DAY + HOUR),
            extensions: &[
                Extension::Authority(Some(2)),
                Extension::AuthorityKey,
                Extension::SubjectKey,
                Extension::Usage(CA_USAGE, true),
                revocation,
            ],
        };
        // A root younger than its children would make the chain invalid at their start; validity nests only
        // at the time of use, as in genuine chains.
        let regional = issue(&regional, &regional_key, &self.root.0.key, &root_name())?;

        let zonal_key = Key::generate(Algorithm::P384)?;
        let revocation = Extension::Revocation("http://crl.nitro.invalid/zonal.crl");
        let zonal = Profile {
            serial: &serial()?,
            subject: &zonal_name,
            not_before: now.minus_seconds(12 * HOUR),
            not_after: now.plus_seconds(5 * DAY + 6 * HOUR),
            extensions: &[
                Extension::Authority(Some(1)),
                Extension::AuthorityKey,
                Extension::SubjectKey,
                Extension::Usage(CA_USAGE, true),
                revocation,
            ],
        };
        let zonal = issue(&zonal, &zonal_key, &regional_key, &regional_name)?;

        let instance_key = Key::generate(Algorithm::P384)?;
        let instance_until = now.plus_seconds(23 * HOUR);
        let instance = Profile {
            serial: &serial()?,
            subject: &instance_name,
            not_before: instance_until.minus_seconds(DAY),
            not_after: instance_until,
            extensions: &[
                Extension::Authority(Some(0)),
                Extension::Usage(KEY_CERT_SIGN, true),
                Extension::SubjectKey,
                Extension::AuthorityKey,
            ],
        };
        let instance = issue(&instance, &instance_key, &zonal_key, &zonal_name)?;
        Ok(Chain {
            bundle: vec![self.root.certificate().to_vec(), regional, zonal, instance],
            instance_key,
            instance_name,
            instance_until,
            leaf: None,
        })
    }

    fn leaf_at(&self, now: Timestamp, chain: &Chain) -> Result<Leaf, PkiError> {
        let key = Key::generate(Algorithm::P384)?;
        // The second half of a genuine serial is the time of issue.
        let half = random::<8>()?;
        let serial = [&[half[0] & 0x7f], &half[1..], &now.seconds().to_be_bytes()].concat();
        let profile = Profile {
            serial: &serial,
            subject: &instance_name(&format!("{}.{}.aws", self.module_id, self.region)),
            not_before: now.minus_seconds(3),
            not_after: now.plus_seconds(3 * HOUR),
            extensions: &[
                Extension::EndEntity,
                Extension::Usage(DIGITAL_SIGNATURE | NON_REPUDIATION, false),
            ],
        };
        let certificate = issue(&profile, &key, &chain.instance_key, &chain.instance_name)?;
        let signing = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &key.pkcs8)
            .map_err(|_| PkiError::Crypto("reading a private key"))?;
        Ok(Leaf {
            certificate,
            signing,
            issued: now,
        })
    }
}
