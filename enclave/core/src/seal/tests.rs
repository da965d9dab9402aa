#![allow(clippy::unwrap_used)]
use super::*;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use nodeseal_wire::lock::{AwsKmsLock, Lock};
use proptest::prelude::*;

fn data_key() -> DataKey {
    DataKey {
        id: [9; 16],
        key: Secret::copy_of(&[3; 32]).unwrap(),
    }
}

fn ways() -> Vec<Way> {
    vec![Way {
        label: "kms".into(),
        locks: vec![Lock::AwsKms(AwsKmsLock {
            key: "arn:aws:kms:eu-west-1:111122223333:key/1".into(),
            attested: true,
            ciphertext: vec![8; 20],
        })],
        wrapped_data_key: [7; 60],
    }]
}

fn about(ways: &[Way], key_type: KeyType) -> NewBlob<'_> {
    NewBlob {
        node: "validator-1",
        name: "nodekey",
        key_type,
        release: Release::Deliver,
        generation: 0,
        created: 1_700_000_000,
        ways,
    }
}

fn sealed(key_type: KeyType, key: &[u8]) -> Vec<u8> {
    let mut content_key = ContentKey::new().unwrap();
    let mut key = key.to_vec();
    seal(
        &data_key(),
        about(&ways(), key_type),
        &mut key,
        &mut content_key,
    )
    .unwrap()
}

fn opened(blob: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut buffer = Secret::copy_of(blob).unwrap();
    let read = ReadBlob::parse(buffer.expose(), 0..blob.len(), &mut KnownWays::default()).unwrap();
    let place = read.open(&data_key(), &mut buffer, &mut ContentKey::new().unwrap())?;
    Ok(buffer.expose()[place].to_vec())
}

#[test]
fn a_sealed_key_opens_to_what_it_was() {
    for length in [0, 1, 32, 500, 100_000] {
        let key = vec![0x5a; length];
        assert_eq!(opened(&sealed(KeyType::Opaque, &key)).unwrap(), key);
    }
    assert_eq!(
        opened(&sealed(KeyType::Secp256k1, &[1; 32])).unwrap(),
        [1; 32]
    );
}

#[test]
fn every_single_byte_change_of_a_blob_is_refused_and_releases_nothing() {
    let blob = sealed(KeyType::Ed25519, &[0x77; 32]);
    for at in 0..blob.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = blob.clone();
            changed[at] ^= change;
            let mut buffer = Secret::copy_of(&changed).unwrap();
            // What no longer reads as a blob is refused before any key is asked for.
            let Ok(read) =
                ReadBlob::parse(buffer.expose(), 0..changed.len(), &mut KnownWays::default())
            else {
                continue;
            };
            let error = read
                .open(&data_key(), &mut buffer, &mut ContentKey::new().unwrap())
                .err();
            assert!(
                matches!(error, Some(OpenError::Authentication)),
                "byte {at}"
            );
            assert!(
                !buffer.expose().windows(8).any(|w| w == [0x77; 8]),
                "byte {at}"
            );
        }
    }
}

#[test]
fn a_key_that_is_not_the_headers_is_refused_though_it_authenticates() {
    // Whoever has the data key can make such a blob: a header of one key around another.
    let header = Header {
        public_key: Some(vec![2; 32]),
        ..Header::decode(
            Blob::parse(&sealed(KeyType::Ed25519, &[0x33; 32]))
                .unwrap()
                .header_bytes,
        )
        .unwrap()
    };
    let bytes = header.encode();
    let mut content = [0x33; 32];
    let cipher = ContentKey::new()
        .unwrap()
        .derive(&data_key(), &header.salt)
        .unwrap();
    let tag = cipher
        .seal([1; 12], &associated_data(&bytes), &mut content)
        .unwrap();
    let blob = Blob::encode(&bytes, &[1; 12], &[&content[..], &tag].concat());
    let mut buffer = Secret::copy_of(&blob).unwrap();
    let read = ReadBlob::parse(buffer.expose(), 0..blob.len(), &mut KnownWays::default()).unwrap();
    let error = read
        .open(&data_key(), &mut buffer, &mut ContentKey::new().unwrap())
        .unwrap_err();
    assert!(matches!(error, OpenError::PublicKey));
    assert!(!buffer.expose().windows(8).any(|w| w == [0x33; 8]));
}

#[test]
fn another_implementation_of_the_cipher_opens_the_content() {
    let bytes = sealed(KeyType::Opaque, b"the second opinion");
    let blob = Blob::parse(&bytes).unwrap();
    let mut key = ContentKey::new().unwrap();
    key.derive(&data_key(), &blob.header.salt).unwrap();
    let peer = aes_gcm::Aes256Gcm::new_from_slice(key.0.expose()).unwrap();
    let payload = Payload {
        msg: blob.ciphertext,
        aad: &associated_data(blob.header_bytes),
    };
    let nonce = aes_gcm::Nonce::try_from(&blob.nonce[..]).unwrap();
    assert_eq!(
        peer.decrypt(&nonce, payload).unwrap(),
        b"the second opinion"
    );
}

#[test]
fn a_typed_key_of_the_wrong_length_and_a_key_too_large_are_refused_by_name() {
    let seal_bytes = |key_type, key: &[u8]| {
        let mut content_key = ContentKey::new().unwrap();
        let mut key = key.to_vec();
        seal(
            &data_key(),
            about(&ways(), key_type),
            &mut key,
            &mut content_key,
        )
        .unwrap_err()
        .to_string()
    };
    assert_eq!(
        seal_bytes(KeyType::P256, &[1; 33]),
        "a p256 key has 32 bytes, this one 33"
    );
    let error = seal_bytes(KeyType::Opaque, &vec![0; MAX_BLOB]);
    assert!(error.ends_with("at most 1048576 are allowed"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_make_reading_or_opening_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = ReadBlob::parse(&bytes, 0..bytes.len(), &mut KnownWays::default());
        let _ = ReadBlob::parse(&bytes, 1..usize::MAX, &mut KnownWays::default());
    }

    #[test]
    fn any_bytes_come_back_as_they_were(key in proptest::collection::vec(any::<u8>(), 0..3000)) {
        prop_assert_eq!(opened(&sealed(KeyType::Opaque, &key)).unwrap(), key);
    }
}
