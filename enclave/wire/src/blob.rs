//! The sealed blob: header in clear, content under AES-256-GCM.

use std::ops::Range;

use crate::cbor::{DecodeError, Reader, Writer};
use crate::header::{Header, KnownWays};

/// Largest blob taken or made, in bytes.
pub const MAX_BLOB: usize = 1 << 20;
/// What makes the bytes a blob of ours: the first item.
pub const MAGIC: &str = "nodeseal";
/// Format version: the second item.
pub const VERSION: u64 = 1;
/// Length of the AES-GCM tag at the end of the ciphertext, in bytes.
pub const TAG_LENGTH: usize = 16;

/// A blob that has been read but not opened: nothing in it is to be believed yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Blob<'b> {
    /// The header as received: this, not a new encoding of it, is what the content is bound to.
    pub header_bytes: &'b [u8],
    /// The header as read.
    pub header: Header,
    /// Nonce of the content.
    pub nonce: [u8; 12],
    /// Content and tag.
    pub ciphertext: &'b [u8],
    /// Where the ciphertext lies in the blob.
    pub ciphertext_range: Range<usize>,
}

impl<'b> Blob<'b> {
    /// Reads a blob.
    ///
    /// # Errors
    /// When the bytes are not exactly one blob of version 1 as docs/format.md specifies.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, DecodeError> {
        Self::parse_with(bytes, &mut KnownWays::default())
    }

    /// Reads one of many blobs, most of which were sealed together.
    ///
    /// # Errors
    /// As [`Blob::parse`].
    pub fn parse_with(bytes: &'b [u8], known: &mut KnownWays) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_BLOB {
            return Err(DecodeError::expected(
                "blob",
                format!("at most {MAX_BLOB} bytes"),
                format!("{} bytes", bytes.len()),
            ));
        }
        let mut r = Reader::new(bytes);
        r.array("blob", 5, 5)?;
        let magic = r.text("magic", 1, 64)?;
        if magic != MAGIC {
            return Err(DecodeError::expected(
                "magic",
                format!("{MAGIC:?}"),
                format!("{magic:?}"),
            ));
        }
        r.exactly("version", VERSION)?;
        let header_bytes = r.bytes("header", 1, MAX_BLOB)?;
        let nonce = r.array_of("nonce")?;
        let ciphertext = r.bytes("ciphertext", TAG_LENGTH, MAX_BLOB)?;
        let end = r.position();
        r.finish("blob")?;
        Ok(Self {
            header: Header::decode_with(header_bytes, known)?,
            header_bytes,
            nonce,
            ciphertext,
            ciphertext_range: end.saturating_sub(ciphertext.len())..end,
        })
    }

    /// Puts a blob together.
    #[must_use]
    pub fn encode(header_bytes: &[u8], nonce: &[u8; 12], ciphertext: &[u8]) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(5).text(MAGIC).uint(VERSION).bytes(header_bytes);
        w.bytes(nonce).bytes(ciphertext);
        w.finish()
    }
}

/// What the content is bound to: magic, version and the header bytes as received.
#[must_use]
pub fn associated_data(header_bytes: &[u8]) -> Vec<u8> {
    let mut w = Writer::new();
    w.array(3).text(MAGIC).uint(VERSION).bytes(header_bytes);
    w.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::header::{KeyType, Release, Way};
    use crate::lock::{AwsKmsLock, Lock, PcrBank, PolicySigner, TpmLock};
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            node: "validator-1".into(),
            name: "nodekey".into(),
            key_type: KeyType::Secp256k1,
            public_key: Some(vec![2; 33]),
            release: Release::Deliver,
            generation: 0,
            created: 1_700_000_000,
            salt: [1; 32],
            data_key_id: [2; 16],
            ways: [
                Way {
                    label: "tpm".into(),
                    locks: vec![Lock::Tpm(TpmLock {
                        srk_name: [3; 34],
                        bank: PcrBank::Sha256,
                        pcrs: vec![7, 11],
                        signer: Some(PolicySigner {
                            public: vec![4; 90],
                            reference: vec![],
                        }),
                        public: vec![5; 78],
                        private: vec![6; 160],
                    })],
                    wrapped_data_key: [7; 60],
                },
                Way {
                    label: "kms".into(),
                    locks: vec![Lock::AwsKms(AwsKmsLock {
                        key: "arn:aws:kms:eu-west-1:111122223333:key/1".into(),
                        attested: true,
                        ciphertext: vec![8; 184],
                    })],
                    wrapped_data_key: [9; 60],
                },
            ]
            .into(),
        }
    }

    fn sample() -> Vec<u8> {
        Blob::encode(&header().encode(), &[1; 12], &[2; 48])
    }

    #[test]
    fn a_blob_reads_back_as_it_was_written() {
        let bytes = sample();
        let blob = Blob::parse(&bytes).unwrap();
        assert_eq!(blob.header, header());
        assert_eq!((blob.nonce, blob.ciphertext), ([1; 12], &[2; 48][..]));
        assert_eq!(&bytes[blob.ciphertext_range.clone()], blob.ciphertext);
    }

    #[test]
    fn blobs_with_the_same_ways_share_them_and_others_do_not() {
        let known = &mut KnownWays::default();
        let (first, other) = (sample(), {
            let mut header = header();
            header.ways = header.ways[..1].into();
            Blob::encode(&header.encode(), &[1; 12], &[2; 48])
        });
        let read = Blob::parse_with(&first, known).unwrap().header;
        let again = Blob::parse_with(&first, known).unwrap().header;
        assert!(std::sync::Arc::ptr_eq(&read.ways, &again.ways));
        let mut cut = first.clone();
        cut.remove(200);
        assert!(Blob::parse_with(&cut, known).is_err());
        assert_eq!(
            Blob::parse_with(&other, known).unwrap().header.ways.len(),
            1
        );
        assert_eq!(Blob::parse_with(&first, known).unwrap().header, read);
    }

    #[test]
    fn every_truncation_of_a_blob_is_refused() {
        let bytes = sample();
        for end in 0..bytes.len() {
            let error = Blob::parse(&bytes[..end]).unwrap_err().to_string();
            assert!(error.contains("expected"), "{end}: {error}");
        }
    }

    #[test]
    fn a_byte_after_a_blob_is_refused() {
        let mut bytes = sample();
        bytes.push(0);
        let error = Blob::parse(&bytes).unwrap_err();
        assert_eq!(
            error.to_string(),
            "blob: 1 bytes follow where nothing should"
        );
    }

    #[test]
    fn a_blob_of_another_version_or_magic_is_refused_by_name() {
        let mut bytes = sample();
        assert_eq!(bytes[10], 1);
        bytes[10] = 2;
        let error = Blob::parse(&bytes).unwrap_err();
        assert_eq!(error.to_string(), "version: expected 1, found 2");
        bytes[9] = b'L';
        let error = Blob::parse(&bytes).unwrap_err();
        assert_eq!(
            error.to_string(),
            "magic: expected \"nodeseal\", found \"nodeseaL\""
        );
    }

    #[test]
    fn a_blob_over_one_mebibyte_is_refused() {
        let bytes = Blob::encode(&header().encode(), &[1; 12], &vec![0; MAX_BLOB]);
        let error = Blob::parse(&bytes).unwrap_err().to_string();
        assert!(
            error.starts_with("blob: expected at most 1048576 bytes"),
            "{error}"
        );
    }

    #[test]
    fn kms_without_attestation_and_without_a_tpm_is_refused() {
        let mut header = header();
        let mut ways = header.ways.to_vec();
        let Lock::AwsKms(kms) = &mut ways[1].locks[0] else {
            panic!("the second way is aws-kms");
        };
        kms.attested = false;
        header.ways = ways.into();
        let error = Header::decode(&header.encode()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "locks: expected a \"tpm\" lock beside an \"aws-kms\" lock without attestation, found none"
        );
    }

    #[test]
    fn names_that_could_leave_their_directory_are_refused() {
        for name in ["", "../x", "/etc", "a/../b", ".hidden", "a b", "a\n", "é"] {
            let mut header = header();
            header.name = name.into();
            let error = Header::decode(&header.encode()).unwrap_err();
            assert_eq!(error.field, "name", "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Blob::parse(&bytes);
        }

        #[test]
        fn what_parses_is_in_the_one_encoding(position in 0usize..2000, value: u8) {
            let mut bytes = sample();
            let position = position % bytes.len();
            bytes[position] = value;
            if let Ok(blob) = Blob::parse(&bytes) {
                prop_assert_eq!(blob.header.encode(), blob.header_bytes);
                prop_assert_eq!(Blob::encode(blob.header_bytes, &blob.nonce, blob.ciphertext), bytes);
            }
        }
    }
}
