//! Key types: how a key is made, and its public half.
//!
//! The encodings are those of [`KeyType`]. Every private key of a known type is 32 bytes.

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use k256::elliptic_curve::sec1::ToEncodedPoint;
use nodeseal_memory::Secret;
use nodeseal_wire::header::KeyType;

use crate::crypto::{CryptoError, KEY_LENGTH, random_key};

/// Why bytes are not a private key of their type.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not the length of the type.
    #[error("a {kind} key has {KEY_LENGTH} bytes, this one {found}", kind = .kind.name())]
    Length {
        /// The type.
        kind: KeyType,
        /// Length found, in bytes.
        found: usize,
    },
    /// Zero, or not below the order of the group.
    #[error("the bytes are no {kind} key: zero, or not below the group's order", kind = .0.name())]
    Range(KeyType),
    /// A key cannot be generated for opaque bytes.
    #[error("opaque bytes cannot be generated, only sealed")]
    Opaque,
    /// No randomness or no locked memory.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// Makes a key of this type from fresh randomness.
///
/// # Errors
/// [`KeyError::Opaque`] for opaque bytes; [`KeyError::Crypto`] without randomness or locked memory.
pub fn generate(kind: KeyType) -> Result<Secret, KeyError> {
    match kind {
        KeyType::Opaque => Err(KeyError::Opaque),
        // The IETF draft's KeyGen (draft-irtf-cfrg-bls-signature-05 section 2.3) reduces 48 derived bytes, so that no
        // scalar is likelier than another; its group order is far from a power of two.
        KeyType::Bls12381 => {
            let seed = random_key()?;
            let key = blst::min_pk::SecretKey::key_gen(seed.expose(), b"")
                .map_err(|_| KeyError::Range(kind))?;
            Ok(Secret::take_from(&mut key.to_bytes()).map_err(CryptoError::from)?)
        }
        // The other groups' orders are so close to a power of two that a second round is practically never needed.
        _ => loop {
            let key = random_key()?;
            match public_key(kind, key.expose()) {
                Ok(_) => return Ok(key),
                Err(KeyError::Range(_)) => {}
                Err(error) => return Err(error),
            }
        },
    }
}

/// The public half of a private key; none for opaque bytes.
///
/// # Errors
/// [`KeyError::Length`] or [`KeyError::Range`] when the bytes are no key of this type.
pub fn public_key(kind: KeyType, private: &[u8]) -> Result<Option<Vec<u8>>, KeyError> {
    if kind == KeyType::Opaque {
        return Ok(None);
    }
    if private.len() != KEY_LENGTH {
        return Err(KeyError::Length {
            kind,
            found: private.len(),
        });
    }
    let out_of_range = || KeyError::Range(kind);
    let public = match kind {
        KeyType::Opaque => return Ok(None),
        KeyType::Secp256k1 => {
            let key = k256::SecretKey::from_slice(private).map_err(|_| out_of_range())?;
            let public = key.public_key().to_encoded_point(true);
            public.as_bytes().to_vec()
        }
        KeyType::Ed25519 => {
            let key = Ed25519KeyPair::from_seed_unchecked(private).map_err(|_| out_of_range())?;
            key.public_key().as_ref().to_vec()
        }
        KeyType::P256 => {
            let key =
                PrivateKey::from_private_key(&ECDH_P256, private).map_err(|_| out_of_range())?;
            let public = key.compute_public_key().map_err(|_| out_of_range())?;
            compressed(public.as_ref()).ok_or_else(out_of_range)?
        }
        KeyType::Bls12381 => {
            let key = blst::min_pk::SecretKey::from_bytes(private).map_err(|_| out_of_range())?;
            key.sk_to_pk().compress().to_vec()
        }
    };
    Ok(Some(public))
}

/// SEC 1 section 2.3.3: uncompressed point (04 ‖ x ‖ y, 65 bytes) to compressed (02 or 03 ‖ x).
fn compressed(point: &[u8]) -> Option<Vec<u8>> {
    let (&[4], coordinates) = point.split_at_checked(1)? else {
        return None;
    };
    let (x, y) = coordinates.split_at_checked(KEY_LENGTH)?;
    let mut compressed = vec![2 | (y.last()? & 1)];
    compressed.extend_from_slice(x);
    Some(compressed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        nodeseal_attestation::hex::decode(text).unwrap()
    }

    fn one() -> [u8; 32] {
        let mut one = [0; 32];
        one[31] = 1;
        one
    }

    #[test]
    fn the_public_keys_of_known_private_keys_are_the_published_ones() {
        // Generators: SEC 2 section 2.4.1 (secp256k1), SP 800-186 section 3.2.1.3 (P-256), and
        // draft-irtf-cfrg-pairing-friendly-curves-11 section 4.2.1 (BLS12-381 G1, compressed as in its appendix C).
        for (kind, public) in [
            (
                KeyType::Secp256k1,
                "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
            ),
            (
                KeyType::P256,
                "036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
            ),
            (
                KeyType::Bls12381,
                "97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb",
            ),
        ] {
            assert_eq!(
                public_key(kind, &one()).unwrap(),
                Some(hex(public)),
                "{kind:?}"
            );
        }
        // RFC 8032 section 7.1, test 1.
        let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let public = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(public_key(KeyType::Ed25519, &seed).unwrap(), Some(public));
    }

    #[test]
    fn zero_and_the_group_order_are_no_keys() {
        for kind in [KeyType::Secp256k1, KeyType::P256, KeyType::Bls12381] {
            for bytes in [[0; 32], [0xff; 32]] {
                let error = public_key(kind, &bytes).unwrap_err();
                assert!(matches!(error, KeyError::Range(found) if found == kind));
            }
        }
    }

    #[test]
    fn a_key_of_another_length_is_refused_with_both_lengths() {
        let error = public_key(KeyType::Ed25519, &[1; 31]).unwrap_err();
        assert_eq!(error.to_string(), "a ed25519 key has 32 bytes, this one 31");
    }

    #[test]
    fn generated_keys_are_valid_and_never_the_same() {
        for kind in KeyType::ALL
            .into_iter()
            .filter(|kind| *kind != KeyType::Opaque)
        {
            let (a, b) = (generate(kind).unwrap(), generate(kind).unwrap());
            assert_ne!(a.expose(), b.expose());
            let public = public_key(kind, a.expose()).unwrap().unwrap();
            assert_eq!(Some(public.len()), kind.public_key_length());
        }
        assert!(matches!(generate(KeyType::Opaque), Err(KeyError::Opaque)));
    }
}
