//! Who sealed a proof-of-authority block: the signer recovered from the seal in its header (EIP-225).

use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};
use sha3::{Digest, Keccak256};

use crate::{Context, Error, Result};

/// The seal at the end of extraData: r, s, recovery id (EIP-225, `EXTRA_SEAL`).
const SEAL: usize = 65;

/// Position of extraData among a header's fields (Yellow Paper §4.4, H_x).
const EXTRA_DATA: usize = 12;

/// The Ethereum address, "0x" and lower-case hexadecimal digits, whose key sealed the block with this RLP header.
///
/// # Errors
/// When the header is malformed or its seal is no signature.
pub fn signer(header: &[u8]) -> Result<String> {
    let mut fields = fields(header)?;
    let extra = fields
        .get_mut(EXTRA_DATA)
        .ok_or_else(|| Error::new("a header without extraData"))?;
    let before = extra
        .len()
        .checked_sub(SEAL)
        .ok_or_else(|| Error::new(format!("extraData of {} bytes has no seal", extra.len())))?;
    let (unsealed, seal) = extra.split_at(before);
    let (signature, recovery) = seal.split_at(SEAL - 1);
    *extra = unsealed;
    let signature = Signature::from_slice(signature).context("the seal")?;
    let recovery = recovery.first().copied().and_then(RecoveryId::from_byte);
    let recovery = recovery.ok_or_else(|| Error::new("the seal's recovery id is not 0 to 3"))?;
    let hash = Keccak256::digest(list(&fields)?);
    let key =
        VerifyingKey::recover_from_prehash(&hash, &signature, recovery).context("the seal")?;
    Ok(address(&key))
}

/// Last 20 bytes of the Keccak-256 of the point's coordinates (Yellow Paper appendix F).
fn address(key: &VerifyingKey) -> String {
    let point = key.to_encoded_point(false);
    let hash = Keccak256::digest(&point.as_bytes()[1..]);
    format!("0x{}", hex(&hash[12..]))
}

/// Lower-case hexadecimal digits of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of hexadecimal digits, with or without "0x" in front.
///
/// # Errors
/// When a character is no digit or their number is odd.
pub fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    let pairs = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    pairs
        .collect::<Option<_>>()
        .ok_or_else(|| Error::new(format!("not hexadecimal: {text:.80}")))
}

/// The strings of an RLP list of strings (Yellow Paper appendix B).
fn fields(list: &[u8]) -> Result<Vec<&[u8]>> {
    let malformed = || Error::new("the header is not RLP");
    let (body, rest) = item(list, 0xC0).ok_or_else(malformed)?;
    if !rest.is_empty() {
        return Err(malformed());
    }
    let mut fields = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (field, after) = match rest {
            [0..0x80, after @ ..] => (&rest[..1], after),
            _ => item(rest, 0x80).ok_or_else(malformed)?,
        };
        fields.push(field);
        rest = after;
    }
    Ok(fields)
}

/// Body of the item at the front, whose kind begins at `base` (0x80 string, 0xC0 list), and what follows it.
fn item(bytes: &[u8], base: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let short = first.checked_sub(base).filter(|length| *length < 0x40)?;
    if short <= 55 {
        return rest.split_at_checked(short.into());
    }
    let (length, rest) = rest.split_at_checked(usize::from(short - 55))?;
    let add = |sum: usize, byte: &u8| sum.checked_mul(256)?.checked_add((*byte).into());
    rest.split_at_checked(length.iter().try_fold(0, add)?)
}

/// RLP of a list of strings.
fn list(fields: &[&[u8]]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    for field in fields {
        if !matches!(field, [0..0x80]) {
            body.extend(prefix(field.len(), 0x80)?);
        }
        body.extend(*field);
    }
    let mut out = prefix(body.len(), 0xC0)?;
    out.extend(body);
    Ok(out)
}

fn prefix(length: usize, base: u8) -> Result<Vec<u8>> {
    let small = |value: usize| u8::try_from(value).context("RLP");
    if length <= 55 {
        return Ok(vec![base + small(length)?]);
    }
    let bytes: Vec<u8> = length
        .to_be_bytes()
        .into_iter()
        .skip_while(|byte| *byte == 0)
        .collect();
    let mut out = vec![base + 55 + small(bytes.len())?];
    out.extend(bytes);
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Header of block 1 of a chain whose one signer has the private key 1, as @ethereumjs/client 0.10.5 sealed it.
    const HEADER: &str = include_str!("clique/header.hex");
    const SIGNER: &str = include_str!("clique/signer.txt");

    #[test]
    fn the_signer_of_a_block_an_independent_client_sealed_is_its_key() {
        assert_eq!(
            signer(&unhex(HEADER.trim()).unwrap()).unwrap(),
            SIGNER.trim()
        );
    }

    #[test]
    fn another_byte_in_the_header_gives_another_signer_or_none() {
        let mut header = unhex(HEADER.trim()).unwrap();
        header[40] ^= 1;
        assert_ne!(signer(&header).ok().as_deref(), Some(SIGNER.trim()));
    }

    #[test]
    fn a_truncated_header_is_refused() {
        let header = unhex(HEADER.trim()).unwrap();
        for length in 0..header.len() {
            let error = signer(&header[..length]).unwrap_err().to_string();
            assert_eq!(error, "the header is not RLP", "{length} bytes");
        }
    }
}
