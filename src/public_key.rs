//! What a public key is called: hexadecimal, and for secp256k1 Ethereum's address and devp2p's node id.

use k256::PublicKey;
use k256::elliptic_curve::sec1::ToEncodedPoint;
pub use nodeseal_attestation::hex::encode as hex;
use nodeseal_wire::header::KeyType;
use sha3::{Digest, Keccak256};

/// The names of a secp256k1 key in Ethereum.
#[derive(Debug, PartialEq, Eq)]
pub struct EthereumIdentity {
    /// "0x" and 40 digits whose case is the checksum of EIP-55.
    pub address: String,
    /// The uncompressed public key without its first byte, 128 digits: what stands in an `enode://` address.
    pub node_id: String,
}

/// The Ethereum names of a public key, where it has them: secp256k1, SEC1 compressed, and on the curve.
#[must_use]
pub fn ethereum(key_type: KeyType, public_key: &[u8]) -> Option<EthereumIdentity> {
    if key_type != KeyType::Secp256k1 {
        return None;
    }
    let point = PublicKey::from_sec1_bytes(public_key)
        .ok()?
        .to_encoded_point(false);
    // Without the first byte, which says that what follows is x and y (SEC 1, 2.3.3).
    let node_id = point.as_bytes().get(1..)?;
    let hash = Keccak256::digest(node_id);
    // The last 20 bytes of the hash (Ethereum yellow paper, appendix F).
    let address = hash.get(12..)?;
    Some(EthereumIdentity {
        address: checksummed(&hex(address)),
        node_id: hex(node_id),
    })
}

/// EIP-55: a letter is upper case where the digit at its place in the hash of the address's text is above seven.
fn checksummed(address: &str) -> String {
    let hash = hex(&Keccak256::digest(address.as_bytes()));
    let cased = address.chars().zip(hash.chars()).map(|(digit, of_hash)| {
        if of_hash > '7' {
            digit.to_ascii_uppercase()
        } else {
            digit
        }
    });
    format!("0x{}", cased.collect::<String>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_carry_the_checksum_of_eip_55() {
        // The examples of EIP-55.
        for address in [
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
            "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
            "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        ] {
            assert_eq!(checksummed(&address[2..].to_lowercase()), address);
        }
    }

    #[test]
    fn the_key_one_has_the_address_and_node_id_everybody_knows() {
        // The generator point of secp256k1 (SEC 2, 2.4.1) and the address of private key 1.
        let mut public_key = vec![2];
        let x = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        let y = "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";
        public_key.extend((0..32).map(|i| u8::from_str_radix(&x[2 * i..2 * i + 2], 16).unwrap()));
        let identity = ethereum(KeyType::Secp256k1, &public_key).unwrap();
        assert_eq!(
            identity.address,
            "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
        );
        assert_eq!(identity.node_id, format!("{x}{y}"));
        assert_eq!(ethereum(KeyType::P256, &public_key), None);
        assert_eq!(
            ethereum(KeyType::Secp256k1, &[2; 33]).map(|i| i.address.len()),
            Some(42)
        );
        assert_eq!(ethereum(KeyType::Secp256k1, &[9; 33]), None);
    }
}
