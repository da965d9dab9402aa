//! The answer that names a key of the attacker's own: what an interposer needs so that a session's salt, and with it
//! everything "encrypted" on the line, is encrypted to him.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

use super::HEADER;
use super::record::code_of;

/// TPM_CC_CreatePrimary and TPM_CC_ReadPublic.
const CREATE_PRIMARY: u32 = 0x131;
const READ_PUBLIC: u32 = 0x173;

/// TPM_ALG_SHA256, TPM_ALG_NULL, TPM_ALG_ECC (Part 2, TPM_ALG_ID).
const SHA256_ID: u16 = 0x000B;
const NULL: u16 = 0x0010;
const ECC: u16 = 0x0023;

/// A P-256 key the interposer knows the private half of.
pub struct AttackerKey {
    pair: EcdsaKeyPair,
}

impl AttackerKey {
    /// A fresh one.
    ///
    /// # Errors
    /// When the random number generator fails.
    pub fn generate() -> Result<Self, Unspecified> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        Ok(Self { pair })
    }

    /// The two coordinates, 32 bytes each (SEC 1 §2.3.3, after the byte 0x04).
    #[must_use]
    pub fn point(&self) -> &[u8] {
        self.pair.public_key().as_ref().get(1..).unwrap_or_default()
    }

    /// The answer to `command` with this key in place of the TPM's and every Name in it consistent with that;
    /// `None` when the command or answer is not one that shows a P-256 key.
    #[must_use]
    pub fn swap(&self, command: &[u8], answer: &[u8]) -> Option<Vec<u8>> {
        let mut cursor = Cursor(answer.get(HEADER..)?);
        let mut out = answer.get(..HEADER)?.to_vec();
        let creates = match code_of(command) {
            CREATE_PRIMARY => true,
            READ_PUBLIC => false,
            _ => return None,
        };
        if creates {
            out.extend(cursor.take(4)?);
        }
        if answer.starts_with(&[0x80, 0x02]) {
            out.extend(cursor.take(4)?);
        }
        let public = self.public(cursor.sized()?)?;
        let mut name = SHA256_ID.to_be_bytes().to_vec();
        name.extend(digest(&SHA256, &public).as_ref());
        push_sized(&mut out, &public)?;
        if creates {
            push_sized(&mut out, cursor.sized()?)?; // creation data
            push_sized(&mut out, cursor.sized()?)?; // creation hash
            out.extend(cursor.take(6)?); // ticket: tag, hierarchy
            push_sized(&mut out, cursor.sized()?)?;
        }
        cursor.sized()?;
        push_sized(&mut out, &name)?;
        if !creates {
            // Qualified Name of a primary key: of the hierarchy's handle and the Name (Part 1, "Qualified Name").
            cursor.sized()?;
            let mut qualified = SHA256_ID.to_be_bytes().to_vec();
            let named = [&[0x40, 0, 0, 1][..], &name].concat();
            qualified.extend(digest(&SHA256, &named).as_ref());
            push_sized(&mut out, &qualified)?;
        }
        out.extend(cursor.0);
        (out.len() == answer.len()).then_some(out)
    }

    /// A TPMT_PUBLIC (Part 2) with its point replaced.
    fn public(&self, area: &[u8]) -> Option<Vec<u8>> {
        let mut cursor = Cursor(area);
        if cursor.number()? != ECC || cursor.number()? != SHA256_ID {
            return None;
        }
        cursor.take(4)?; // attributes
        cursor.sized()?; // policy
        if cursor.number()? != NULL {
            cursor.take(4)?; // symmetric: bits, mode
        }
        if cursor.number()? != NULL {
            cursor.take(2)?; // scheme: hash
        }
        cursor.take(2)?; // curve
        if cursor.number()? != NULL {
            cursor.take(2)?; // KDF: hash
        }
        let before = area.len() - cursor.0.len();
        let (x, y) = self.point().split_at_checked(32)?;
        if cursor.sized()?.len() != 32 || cursor.sized()?.len() != 32 || !cursor.0.is_empty() {
            return None;
        }
        let mut swapped = area.get(..before)?.to_vec();
        push_sized(&mut swapped, x)?;
        push_sized(&mut swapped, y)?;
        Some(swapped)
    }
}

/// Reads big-endian structures from the front.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// The content of a TPM2B: 16-bit length, bytes.
    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }
}

fn push_sized(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    out.extend(u16::try_from(bytes.len()).ok()?.to_be_bytes());
    out.extend(bytes);
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_but_an_answer_that_shows_a_key_is_changed_and_no_bytes_panic() {
        let key = AttackerKey::generate().unwrap();
        let command = [0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x73, 0x80, 0, 0, 0];
        for length in 0..64 {
            assert_eq!(key.swap(&command, &vec![0; length]), None);
            assert_eq!(key.swap(&command, &vec![0xFF; length]), None);
        }
    }
}
