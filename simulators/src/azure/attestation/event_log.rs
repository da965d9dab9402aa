//! The firmware's log of what it measured (TCG PC Client Platform Firmware Profile, section 10): read, replayed, and
//! asked for Secure Boot.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};

const ALG_SHA1: u16 = 0x0004;
const ALG_SHA256: u16 = 0x000b;
const ALG_SHA384: u16 = 0x000c;
const ALG_SHA512: u16 = 0x000d;
/// EV_NO_ACTION, EV_SEPARATOR and EV_EFI_VARIABLE_DRIVER_CONFIG.
const EV_NO_ACTION: u32 = 0x0000_0003;
const EV_SEPARATOR: u32 = 0x0000_0004;
const EV_EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
/// EV_EFI_BOOT_SERVICES_APPLICATION, what is booted.
const EV_BOOT_APPLICATION: u32 = 0x8000_0003;
/// EV_S_CRTM_VERSION.
const EV_CRTM_VERSION: u32 = 0x0000_0008;
/// EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c.
const GLOBAL: [u8; 16] = [
    0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
];
/// Most PCRs a log may extend.
const PCRS: u32 = 24;

/// A log cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventLogError {
    /// It is malformed.
    #[error("event log: malformed at {0}")]
    Malformed(&'static str),
    /// It has no SHA-256 digests.
    #[error("event log: event {0} has no SHA-256 digest")]
    NoDigest(usize),
    /// An event's digest is not that of its data.
    #[error("event log: event {0}: the variable's digest is not that of its data")]
    Digest(usize),
    /// It does not say whether Secure Boot was on.
    #[error("event log: no measurement of the variable SecureBoot")]
    NoSecureBoot,
}

/// What a log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog {
    /// SHA-256 values the PCRs must have.
    pub pcrs: BTreeMap<u8, [u8; 32]>,
    /// Whether Secure Boot was on.
    pub secure_boot: bool,
    bytes: Vec<u8>,
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn bytes(&mut self, field: &'static str, length: usize) -> Result<&'b [u8], EventLogError> {
        let (bytes, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(EventLogError::Malformed(field))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, EventLogError> {
        let bytes = self.bytes(field, 2)?.try_into();
        Ok(u16::from_le_bytes(bytes.unwrap_or_default()))
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, EventLogError> {
        let bytes = self.bytes(field, 4)?.try_into();
        Ok(u32::from_le_bytes(bytes.unwrap_or_default()))
    }

    fn sized(&mut self, field: &'static str) -> Result<&'b [u8], EventLogError> {
        let length = usize::try_from(self.u32(field)?);
        self.bytes(field, length.unwrap_or(usize::MAX))
    }
}

impl EventLog {
    /// Reads and replays a log in the crypto-agile format.
    ///
    /// # Errors
    /// [`EventLogError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EventLogError> {
        let mut reader = Reader(bytes);
        // The first event has the old format, with a SHA-1 digest, and says that those after it have not.
        reader.u32("first event")?;
        if reader.u32("first event")? != EV_NO_ACTION {
            return Err(EventLogError::Malformed("first event"));
        }
        reader.bytes("first event", 20)?;
        let header = reader.sized("specification")?;
        if !header.starts_with(b"Spec ID Event03\0") {
            return Err(EventLogError::Malformed("specification"));
        }
        let mut pcrs: BTreeMap<u8, [u8; 32]> = (0..8).map(|index| (index, [0; 32])).collect();
        let mut secure_boot = None;
        let mut count = 0;
        while !reader.0.is_empty() {
            count += 1;
            let index = reader.u32("pcrIndex")?;
            let kind = reader.u32("eventType")?;
            let sha256 = sha256_of(&mut reader, count)?;
            let data = reader.sized("event")?;
            if kind == EV_NO_ACTION {
                continue;
            }
            let pcr = u8::try_from(index).ok().filter(|_| index < PCRS);
            let pcr = pcr.ok_or(EventLogError::Malformed("pcrIndex"))?;
            if pcr == 7 && kind == EV_EFI_VARIABLE_DRIVER_CONFIG && is_secure_boot(data) {
                // The value is believed only as it is what was measured.
                if digest(&SHA256, data).as_ref() != sha256 {
                    return Err(EventLogError::Digest(count));
                }
                secure_boot = Some(data.last() == Some(&1));
            }
            extend(pcrs.entry(pcr).or_insert([0; 32]), &sha256);
        }
        Ok(Self {
            pcrs,
            secure_boot: secure_boot.ok_or(EventLogError::NoSecureBoot)?,
            bytes: bytes.to_vec(),
        })
    }

    /// The log of a boot: firmware, Secure Boot, the loader `booted`.
    #[must_use]
    pub fn of_boot(secure_boot: bool, booted: &str) -> Self {
        let mut bytes = Vec::new();
        let spec: &[u8] = &[
            b"Spec ID Event03\0".as_slice(),
            &[0; 4],
            &[0, 2, 0, 2],
            &1_u32.to_le_bytes(),
            &ALG_SHA256.to_le_bytes(),
            &32_u16.to_le_bytes(),
            &[0],
        ]
        .concat();
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend(EV_NO_ACTION.to_le_bytes());
        bytes.extend([0; 20]);
        sized(&mut bytes, spec);
        let name: Vec<u8> = "SecureBoot"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let variable = [
            GLOBAL.as_slice(),
            &10_u64.to_le_bytes(),
            &1_u64.to_le_bytes(),
            &name,
            &[u8::from(secure_boot)],
        ]
        .concat();
        let separator = (0..8_u32).map(|pcr| (pcr, EV_SEPARATOR, vec![0; 4]));
        let events = [
            (0, EV_CRTM_VERSION, b"nodeseal-sim firmware 1".to_vec()),
            (7, EV_EFI_VARIABLE_DRIVER_CONFIG, variable),
        ];
        let loader = [(4, EV_BOOT_APPLICATION, booted.as_bytes().to_vec())];
        for (pcr, kind, data) in events.into_iter().chain(separator).chain(loader) {
            bytes.extend(pcr.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(1_u32.to_le_bytes());
            bytes.extend(ALG_SHA256.to_le_bytes());
            bytes.extend(digest(&SHA256, &data).as_ref());
            sized(&mut bytes, &data);
        }
        // What is written here is read here.
        Self::parse(&bytes).unwrap_or(Self {
            pcrs: BTreeMap::new(),
            secure_boot,
            bytes,
        })
    }

    /// The log as the firmware leaves it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Each measurement in order: PCR and SHA-256 digest.
    #[must_use]
    pub fn measurements(&self) -> Vec<(u8, [u8; 32])> {
        let mut all = Vec::new();
        let mut reader = Reader(&self.bytes);
        let mut read = || -> Result<(), EventLogError> {
            reader.bytes("first event", 28)?;
            reader.sized("specification")?;
            while !reader.0.is_empty() {
                let index = reader.u32("pcrIndex")?;
                let kind = reader.u32("eventType")?;
                let sha256 = sha256_of(&mut reader, 0)?;
                reader.sized("event")?;
                if kind != EV_NO_ACTION {
                    all.push((u8::try_from(index).unwrap_or(u8::MAX), sha256));
                }
            }
            Ok(())
        };
        // It was read before.
        let _ = read();
        all
    }
}

/// The SHA-256 digest of an event's TPML_DIGEST_VALUES.
fn sha256_of(reader: &mut Reader<'_>, event: usize) -> Result<[u8; 32], EventLogError> {
    let mut found = None;
    for _ in 0..reader.u32("digests")?.min(16) {
        let length = match reader.u16("hash")? {
            ALG_SHA1 => 20,
            ALG_SHA256 => {
                let bytes = reader.bytes("digest", 32)?;
                found = bytes.try_into().ok();
                continue;
            }
            ALG_SHA384 => 48,
            ALG_SHA512 => 64,
            _ => return Err(EventLogError::Malformed("hash")),
        };
        reader.bytes("digest", length)?;
    }
    found.ok_or(EventLogError::NoDigest(event))
}

fn sized(out: &mut Vec<u8>, data: &[u8]) {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    out.extend(length.to_le_bytes());
    out.extend_from_slice(data);
}

fn extend(pcr: &mut [u8; 32], measured: &[u8; 32]) {
    let hash = digest(&SHA256, &[pcr.as_slice(), measured].concat());
    pcr.copy_from_slice(hash.as_ref());
}

/// UEFI_VARIABLE_DATA of the global variable SecureBoot, which has one byte.
fn is_secure_boot(data: &[u8]) -> bool {
    let name: Vec<u8> = "SecureBoot"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let head = [
        GLOBAL.as_slice(),
        &10_u64.to_le_bytes(),
        &1_u64.to_le_bytes(),
        &name,
    ]
    .concat();
    data.strip_prefix(head.as_slice())
        .is_some_and(|value| value.len() == 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_boot_s_log_replays_and_says_whether_secure_boot_was_on() {
        let on = EventLog::of_boot(true, "linux");
        let off = EventLog::of_boot(false, "linux");
        assert!(on.secure_boot && !off.secure_boot);
        assert_ne!(on.pcrs[&7], off.pcrs[&7]);
        assert_eq!(on.pcrs[&4], off.pcrs[&4]);
        assert_ne!(on.pcrs[&4], EventLog::of_boot(true, "other").pcrs[&4]);
        assert_eq!(EventLog::parse(on.bytes()).unwrap(), on);
        let mut replayed: BTreeMap<u8, [u8; 32]> = (0..8).map(|i| (i, [0; 32])).collect();
        for (pcr, measured) in on.measurements() {
            extend(replayed.get_mut(&pcr).unwrap(), &measured);
        }
        assert_eq!(replayed, on.pcrs);
    }

    #[test]
    fn a_variable_that_was_not_measured_so_is_refused() {
        let log = EventLog::of_boot(false, "linux");
        let mut bytes = log.bytes().to_vec();
        let name: Vec<u8> = "SecureBoot"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let at = bytes.windows(name.len()).position(|w| w == name).unwrap();
        bytes[at + name.len()] = 1;
        assert_eq!(EventLog::parse(&bytes), Err(EventLogError::Digest(2)));
        let error = EventLog::parse(&log.bytes()[..72]).unwrap_err();
        assert_eq!(error.to_string(), "event log: malformed at eventType");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0..600_usize, to: u8) {
            let _ = EventLog::parse(&bytes);
            let mut log = EventLog::of_boot(true, "linux").bytes().to_vec();
            if let Some(byte) = log.get_mut(at) {
                *byte = to;
            }
            let _ = EventLog::parse(&log);
        }
    }
}
