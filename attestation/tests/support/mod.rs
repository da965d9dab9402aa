//! A chain and documents of the genuine profile under a root of its own, each part of which a test may spoil.
#![allow(dead_code, clippy::unwrap_used, clippy::cast_possible_truncation)]

pub mod der;
pub mod lint;

use std::path::PathBuf;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
};
use minicbor::Encoder;
use nodeseal_attestation::nitro::{Anchor, cose};
use nodeseal_attestation::time::Timestamp;

use der::{bit_string, integer, oid, sequence, tlv, utc_time};

/// When forged documents are made.
pub const NOW: &str = "2026-11-23T12:00:00Z";

pub fn made() -> Timestamp {
    at(NOW)
}

pub fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

/// The fixtures, none where they are not present.
pub fn fixtures() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/attestation");
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: ../shared/fixtures not present");
    None
}

/// What a certificate says.
#[derive(Clone)]
pub struct Spec {
    pub subject: &'static str,
    /// Another issuer than the one before.
    pub issuer: Option<&'static str>,
    pub not_before: &'static str,
    pub not_after: &'static str,
    /// cA and pathLenConstraint, none for no extension.
    pub constraints: Option<(bool, Option<u8>)>,
    /// Bits of keyUsage, highest first; none for no extension.
    pub usage: Option<u8>,
    /// Further extensions as (dotted identifier, critical).
    pub extensions: Vec<(&'static [u64], bool)>,
    /// Whether the signature is spoilt.
    pub forged: bool,
    /// Object identifier of the signature's algorithm.
    pub algorithm: &'static [u64],
    /// Object identifier of the key's curve.
    pub curve: &'static [u64],
}

pub const ECDSA_SHA384: &[u64] = &[1, 2, 840, 10045, 4, 3, 3];
pub const ECDSA_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
pub const P384: &[u64] = &[1, 3, 132, 0, 34];
pub const P256: &[u64] = &[1, 2, 840, 10045, 3, 1, 7];
pub const DIGITAL_SIGNATURE: u8 = 0x80;
pub const KEY_CERT_SIGN: u8 = 0x04;

impl Spec {
    fn authority(subject: &'static str, path: Option<u8>) -> Self {
        Self {
            subject,
            issuer: None,
            not_before: "261120000000Z",
            not_after: "261203000000Z",
            constraints: Some((true, path)),
            usage: Some(DIGITAL_SIGNATURE | KEY_CERT_SIGN | 0x02),
            extensions: Vec::new(),
            forged: false,
            algorithm: ECDSA_SHA384,
            curve: P384,
        }
    }
}

/// Root, regional, zonal, instance and leaf, and what the document says.
pub struct Forge {
    pub specs: Vec<Spec>,
    pub payload: Payload,
    /// Whether the document's signature is spoilt.
    pub forged: bool,
}

pub struct Payload {
    pub key: &'static str,
    pub pcrs: Vec<(u64, Vec<u8>)>,
    pub public_key: Option<Vec<u8>>,
    pub user_data: Option<Vec<u8>>,
    pub nonce: Option<Vec<u8>>,
    /// Bundle and leaf are put in by [`Forge::document`].
    pub timestamp: u64,
}

impl Default for Forge {
    fn default() -> Self {
        let mut root = Spec::authority("aws.nitro-enclaves", None);
        root.not_before = "191028132805Z";
        root.not_after = "491028142805Z";
        let mut instance = Spec::authority("i-0.us-east-1.aws.nitro-enclaves", Some(0));
        instance.usage = Some(KEY_CERT_SIGN);
        let mut leaf = Spec::authority("i-0-enc0.us-east-1.aws", None);
        leaf.not_before = "261123115957Z";
        leaf.not_after = "261123150000Z";
        leaf.constraints = Some((false, None));
        leaf.usage = Some(DIGITAL_SIGNATURE | 0x40);
        Self {
            specs: vec![
                root,
                Spec::authority("0a.us-east-1.aws.nitro-enclaves", Some(2)),
                Spec::authority("0b.zonal.us-east-1.aws.nitro-enclaves", Some(1)),
                instance,
                leaf,
            ],
            payload: Payload {
                key: "pcrs",
                pcrs: (0..16)
                    .map(|index| (index, vec![index as u8 + 1; 48]))
                    .collect(),
                public_key: None,
                user_data: None,
                nonce: None,
                timestamp: made().milliseconds(),
            },
            forged: false,
        }
    }
}

impl Forge {
    pub const LEAF: usize = 4;

    pub fn spec(mut self, index: usize, change: impl FnOnce(&mut Spec)) -> Self {
        change(&mut self.specs[index]);
        self
    }

    pub fn payload(mut self, change: impl FnOnce(&mut Payload)) -> Self {
        change(&mut self.payload);
        self
    }

    /// The document, and the anchor it is to be verified under.
    pub fn document(&self) -> (Vec<u8>, Anchor) {
        let keys: Vec<EcdsaKeyPair> = self
            .specs
            .iter()
            .map(|_| EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap())
            .collect();
        let certificates: Vec<Vec<u8>> = self
            .specs
            .iter()
            .enumerate()
            .map(|(index, spec)| {
                let issuer = index.saturating_sub(1);
                let issuer_name = spec.issuer.unwrap_or(self.specs[issuer].subject);
                certificate(spec, &keys[index], &keys[issuer], issuer_name)
            })
            .collect();
        let (leaf, bundle) = certificates.split_last().unwrap();
        let anchor = Anchor::from_sha256(
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bundle[0])
                .as_ref()
                .try_into()
                .unwrap(),
        );
        let payload = self.payload.encode(leaf, bundle);
        let private = keys[Self::LEAF].to_pkcs8v1().unwrap();
        let signer =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, private.as_ref()).unwrap();
        let signature = signer
            .sign(&SystemRandom::new(), &cose::sig_structure(&payload))
            .unwrap();
        let mut signature: [u8; 96] = signature.as_ref().try_into().unwrap();
        signature[95] ^= u8::from(self.forged);
        (cose::envelope(&payload, &signature), anchor)
    }
}

impl Payload {
    fn encode(&self, leaf: &[u8], bundle: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut e = Encoder::new(&mut out);
        e.begin_map().unwrap();
        e.str("module_id").unwrap().str("i-0-enc0").unwrap();
        e.str("digest").unwrap().str("SHA384").unwrap();
        e.str("timestamp").unwrap().u64(self.timestamp).unwrap();
        e.str(self.key)
            .unwrap()
            .map(self.pcrs.len() as u64)
            .unwrap();
        for (index, value) in &self.pcrs {
            e.u64(*index).unwrap().bytes(value).unwrap();
        }
        e.str("certificate").unwrap().bytes(leaf).unwrap();
        e.str("cabundle")
            .unwrap()
            .array(bundle.len() as u64)
            .unwrap();
        for certificate in bundle {
            e.bytes(certificate).unwrap();
        }
        for (name, field) in [
            ("public_key", &self.public_key),
            ("user_data", &self.user_data),
            ("nonce", &self.nonce),
        ] {
            e.str(name).unwrap();
            match field {
                Some(bytes) => e.bytes(bytes).unwrap(),
                None => e.null().unwrap(),
            };
        }
        e.end().unwrap();
        out
    }
}

fn certificate(
    spec: &Spec,
    key: &EcdsaKeyPair,
    issuer: &EcdsaKeyPair,
    issuer_name: &str,
) -> Vec<u8> {
    let algorithm = sequence(&[oid(spec.algorithm)]);
    let ec_public_key = oid(&[1, 2, 840, 10045, 2, 1]);
    let spki = sequence(&[
        sequence(&[ec_public_key, oid(spec.curve)]),
        bit_string(0, key.public_key().as_ref()),
    ]);
    let mut extensions = Vec::new();
    if let Some((authority, path)) = spec.constraints {
        let mut parts = Vec::new();
        if authority {
            parts.push(tlv(0x01, &[0xff]));
        }
        if let Some(path) = path {
            parts.push(integer(&[path]));
        }
        extensions.push(extension(&[2, 5, 29, 19], true, &sequence(&parts)));
    }
    if let Some(usage) = spec.usage {
        let unused = usage.trailing_zeros().min(7) as u8;
        extensions.push(extension(
            &[2, 5, 29, 15],
            true,
            &bit_string(unused, &[usage]),
        ));
    }
    for (identifier, critical) in &spec.extensions {
        extensions.push(extension(identifier, *critical, &sequence(&[])));
    }
    let tbs = sequence(&[
        tlv(0xa0, &integer(&[2])),
        integer(&[1]),
        algorithm.clone(),
        name(issuer_name),
        sequence(&[utc_time(spec.not_before), utc_time(spec.not_after)]),
        name(spec.subject),
        spki,
        tlv(0xa3, &sequence(&extensions)),
    ]);
    let signature = issuer.sign(&SystemRandom::new(), &tbs).unwrap();
    let mut signature = signature.as_ref().to_vec();
    if spec.forged {
        *signature.last_mut().unwrap() ^= 1;
    }
    sequence(&[tbs, algorithm, bit_string(0, &signature)])
}

fn name(common_name: &str) -> Vec<u8> {
    let attribute = sequence(&[oid(&[2, 5, 4, 3]), tlv(0x0c, common_name.as_bytes())]);
    sequence(&[tlv(0x31, &attribute)])
}

fn extension(identifier: &[u64], critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![oid(identifier)];
    if critical {
        parts.push(tlv(0x01, &[0xff]));
    }
    parts.push(tlv(0x04, value));
    sequence(&parts)
}
