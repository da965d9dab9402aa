//! The measurements of an image: what Nitro puts into PCR0, PCR1, PCR2 and PCR8, and key policies name.
//!
//! A PCR is SHA-384(48 zero bytes ‖ SHA-384(content)) (AWS Nitro Enclaves user guide, "Cryptographic attestation").

use aws_lc_rs::digest::{Context, SHA384};
use nodeseal_attestation::hex;
use nodeseal_attestation::nitro::{PCR_LEN, Pcr};
use serde_json::{Map, Value, json};

use crate::eif::{Kind, Parsed};
use crate::signature::{self, SignatureError, SignedPcr0};

/// What the tools of AWS print as the algorithm.
const ALGORITHM: &str = "Sha384 { ... }";

/// The PCRs that depend on an image alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurements {
    /// The whole image: kernel, command line and all ramdisks.
    pub pcr0: Pcr,
    /// Kernel, command line and first ramdisk.
    pub pcr1: Pcr,
    /// The other ramdisks.
    pub pcr2: Pcr,
    /// The certificate an image is signed with; an image that is not signed has zeros there.
    pub pcr8: Option<Pcr>,
}

impl Measurements {
    /// Measures an image. A signature in it is verified.
    ///
    /// # Errors
    /// When the signature section cannot be read, or the signature does not fit PCR0: Nitro starts no such image.
    pub fn of(image: &Parsed<'_>) -> Result<Self, SignatureError> {
        let mut whole = Context::new(&SHA384);
        let mut boot = Context::new(&SHA384);
        let mut application = Context::new(&SHA384);
        let mut first = true;
        for section in image.sections() {
            match section.kind {
                Kind::Kernel | Kind::CommandLine => boot.update(section.data),
                Kind::Ramdisk if first => {
                    boot.update(section.data);
                    first = false;
                }
                Kind::Ramdisk => application.update(section.data),
                Kind::Signature | Kind::Metadata => continue,
            }
            whole.update(section.data);
        }
        let pcr0 = extend(whole);
        let pcr8 = match image.of(Kind::Signature).next() {
            Some(section) => {
                let certificate = SignedPcr0::parse(section)?.verify(&pcr0)?;
                Some(pcr8_of(&certificate))
            }
            None => None,
        };
        Ok(Self {
            pcr0,
            pcr1: extend(boot),
            pcr2: extend(application),
            pcr8,
        })
    }

    /// In the shape `nitro-cli build-enclave` prints: `{"Measurements": {"HashAlgorithm": …, "PCR0": …, …}}`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut all = Map::new();
        all.insert("HashAlgorithm".to_owned(), json!(ALGORITHM));
        let pcrs = [
            ("PCR0", Some(&self.pcr0)),
            ("PCR1", Some(&self.pcr1)),
            ("PCR2", Some(&self.pcr2)),
            ("PCR8", self.pcr8.as_ref()),
        ];
        for (name, value) in pcrs {
            if let Some(value) = value {
                all.insert(name.to_owned(), json!(hex::encode(value)));
            }
        }
        json!({ "Measurements": all })
    }
}

/// PCR8 of an image signed with this certificate (DER).
#[must_use]
pub fn pcr8_of(certificate: &signature::Certificate) -> Pcr {
    let mut context = Context::new(&SHA384);
    context.update(certificate.der());
    extend(context)
}

/// A register that was zero, extended by the digest of what went into `content`.
fn extend(content: Context) -> Pcr {
    let mut pcr = Context::new(&SHA384);
    pcr.update(&[0; PCR_LEN]);
    pcr.update(content.finish().as_ref());
    let mut value = [0; PCR_LEN];
    value.copy_from_slice(pcr.finish().as_ref());
    value
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::eif::Image;

    fn image() -> Image {
        Image {
            kernel: b"kernel".to_vec(),
            command_line: "console=ttyS0".to_owned(),
            metadata: b"{}".to_vec(),
            first_ramdisk: b"first".to_vec(),
            second_ramdisk: b"second".to_vec(),
            signature: None,
        }
    }

    fn measured(image: &Image) -> Measurements {
        Measurements::of(&Parsed::parse(&image.to_bytes()).unwrap()).unwrap()
    }

    /// By Python's hashlib: `sha384(bytes(48) + sha384(content).digest())`.
    #[test]
    fn the_registers_are_those_another_program_computes() {
        let found = measured(&image()).to_json();
        let expected = json!({ "Measurements": {
            "HashAlgorithm": "Sha384 { ... }",
            "PCR0": "7109ab5a0db8a0a329e878e4d0aa6d12984276ec798095a8ae46a4c7fe4008e7c429553daf1dbafed4f493a70e75aa65",
            "PCR1": "a1f0133a52d1e26e59918504dd5f32ee1a1145954a8c9d091e73da1e15b7649af2a53cf10d600c4daf8c5ddf104e55ab",
            "PCR2": "f4d3d355b1d7a674b58aa7c27ccd27cc40665ed50aa116bfcecf510ba2fa4cd908be95397be478017896eeb46f3c092d",
        }});
        assert_eq!(found, expected);
    }

    #[test]
    fn each_part_shows_in_its_registers_and_metadata_in_none() {
        let genuine = measured(&image());
        type Change = (fn(&mut Image), [bool; 3]);
        let changes: [Change; 5] = [
            (|image| image.kernel.push(0), [true, true, false]),
            (|image| image.command_line.push(' '), [true, true, false]),
            (|image| image.first_ramdisk.push(0), [true, true, false]),
            (|image| image.second_ramdisk.push(0), [true, false, true]),
            (|image| image.metadata.push(b' '), [false, false, false]),
        ];
        for (change, shows) in changes {
            let mut other = image();
            change(&mut other);
            let other = measured(&other);
            let differ = [
                other.pcr0 != genuine.pcr0,
                other.pcr1 != genuine.pcr1,
                other.pcr2 != genuine.pcr2,
            ];
            assert_eq!(differ, shows);
        }
    }
}
