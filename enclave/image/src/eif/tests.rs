#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::measure::Measurements;

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

/// The file with a right CRC, whatever else is wrong with it.
fn with_crc(mut file: Vec<u8>) -> Vec<u8> {
    if file.len() >= HEADER_LEN {
        let crc = checksum(&file[..CRC_AT], &file[HEADER_LEN..]);
        file[CRC_AT..HEADER_LEN].copy_from_slice(&crc.to_be_bytes());
    }
    file
}

fn error(file: &[u8]) -> String {
    Parsed::parse(file).unwrap_err().to_string()
}

/// The file with `bytes` at `at`, and a right CRC.
fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = image().to_bytes();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    with_crc(file)
}

#[test]
fn what_is_written_is_read_with_its_sections_in_the_order_of_awss_tools() {
    let file = image().to_bytes();
    let parsed = Parsed::parse(&file).unwrap();
    let kinds: Vec<Kind> = parsed
        .sections()
        .iter()
        .map(|section| section.kind)
        .collect();
    assert_eq!(
        kinds,
        [
            Kind::Kernel,
            Kind::CommandLine,
            Kind::Metadata,
            Kind::Ramdisk,
            Kind::Ramdisk
        ]
    );
    assert_eq!((parsed.version(), parsed.arm64()), (4, false));
    assert_eq!(parsed.of(Kind::Kernel).collect::<Vec<_>>(), [b"kernel"]);
    let ramdisks: Vec<&[u8]> = parsed.of(Kind::Ramdisk).collect();
    assert_eq!(ramdisks, [b"first".as_slice(), b"second"]);
    assert_eq!(file, image().to_bytes());
}

#[test]
fn every_truncation_is_refused() {
    let file = image().to_bytes();
    for length in 0..file.len() {
        let cut = &file[..length];
        assert!(Parsed::parse(cut).is_err(), "{length}");
        assert!(Parsed::parse(&with_crc(cut.to_vec())).is_err(), "{length}");
    }
    assert_eq!(
        error(&file[..100]),
        "header: expected 548 bytes at offset 0, the file has 100 there"
    );
}

#[test]
fn every_changed_bit_is_refused() {
    let file = image().to_bytes();
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut changed = file.clone();
            changed[at] ^= 1 << bit;
            assert!(Parsed::parse(&changed).is_err(), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn a_header_that_says_something_else_than_the_sections_is_refused_though_its_crc_is_right() {
    let count_at = 26;
    let offsets_at = 28;
    let sizes_at = offsets_at + 8 * MAX_SECTIONS;
    let first = HEADER_LEN;
    for (file, expected) in [
        (
            changed(0, b".EIF"),
            "magic: expected \".eif\", found \".EIF\"",
        ),
        (changed(4, &[0, 5]), "version: expected 3 or 4, found 5"),
        (
            changed(6, &[0, 2]),
            "flags: expected 0 (x86_64) or 1 (aarch64), found 2",
        ),
        (changed(24, &[0, 1]), "reserved: expected 0, found 1"),
        (
            changed(count_at, &[0, 33]),
            "number of sections: expected at most 32, found 33",
        ),
        (
            changed(offsets_at + 7, &[1]),
            "section 0: offset: expected 548, found 513",
        ),
        (
            changed(sizes_at + 7, &[7]),
            "section 0: size: expected 7 as in the header, found 6",
        ),
        (
            changed(sizes_at, &[0xff; 8]),
            "section 0: size: expected 18446744073709551615 as in the header, found 6",
        ),
        (
            changed(offsets_at + 8 * 5, &[1]),
            "offset of a section that is not there: expected 0, found 72057594037927936",
        ),
        (changed(CRC_AT - 1, &[1]), "unused: expected 0, found 1"),
        (
            changed(first + 1, &[6]),
            "section 0: type: expected 1 to 5, found 6",
        ),
        (
            changed(first + 2, &[0, 1]),
            "section 0: flags: expected 0, found 1",
        ),
        (
            changed(first + 1, &[2]),
            "expected 1 kernel section(s), found 0",
        ),
    ] {
        assert_eq!(error(&file), expected);
    }
    let mut longer = image().to_bytes();
    longer.push(0);
    let length = longer.len();
    assert_eq!(
        error(&with_crc(longer)),
        format!(
            "expected the file to end after its last section at {}, found {length} bytes",
            length - 1
        )
    );
}

#[test]
fn a_damaged_section_is_known_by_its_crc() {
    let mut file = image().to_bytes();
    *file.last_mut().unwrap() ^= 1;
    assert!(
        error(&file).ends_with("the file is damaged"),
        "{}",
        error(&file)
    );
}

proptest! {
    #[test]
    fn whatever_is_read_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
        let _ = Parsed::parse(&bytes);
        for (place, byte) in bytes.iter_mut().zip(MAGIC.into_iter().chain([0, 4, 0, 0])) {
            *place = byte;
        }
        let _ = Parsed::parse(&bytes);
    }

    #[test]
    fn whatever_is_changed_in_an_image_never_panics_and_what_is_read_is_measured(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut file = image().to_bytes();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Ok(parsed) = Parsed::parse(&with_crc(file)) {
            prop_assert!(Measurements::of(&parsed).is_ok() || parsed.of(Kind::Signature).count() == 1);
        }
    }
}
