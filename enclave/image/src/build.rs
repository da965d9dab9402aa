//! An image of nodeseal: kernel, the enclave's program as init, and its configuration.

use std::collections::BTreeMap;

use crate::cpio::{Archive, CpioError};
use crate::eif::{EifError, Image, Parsed};
use crate::kernel::{self, NotBzImage};
use crate::measure::Measurements;
use crate::metadata::Metadata;
use crate::signature::{SignatureError, Signer};

/// Directory in which the enclave's program finds its configuration.
pub const CONFIG_DIRECTORY: &str = "etc/nodeseal";
/// Name of the configuration there; certificates and the like that it names lie beside it.
pub const CONFIG_NAME: &str = "nodeseal-enclave.toml";

/// What the kernel is told where nobody says otherwise: reset by a triple fault, which every hypervisor understands as the
/// end (a keyboard controller is not everywhere), at once when it panics (also
/// when init ends); errors only on the serial line, which slows the start; no PCI to look for.
pub const COMMAND_LINE: &str =
    "reboot=t panic=-1 pci=off nomodules random.trust_cpu=on quiet console=ttyS0";
/// Longest command line (Linux: COMMAND_LINE_SIZE of x86), with room for what the hypervisor appends.
const MAX_COMMAND_LINE: usize = 1024;

/// The parts of an image.
pub struct Parts {
    /// A bzImage.
    pub kernel: Vec<u8>,
    /// A static executable, started as PID 1.
    pub init: Vec<u8>,
    /// The files of its configuration, by name: [`CONFIG_NAME`] and what it names.
    pub config: BTreeMap<String, Vec<u8>>,
    /// The kernel's command line.
    pub command_line: String,
    /// Name in the metadata.
    pub name: String,
}

/// Why an image cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The kernel is none.
    #[error(transparent)]
    Kernel(#[from] NotBzImage),
    /// A ramdisk cannot be written.
    #[error(transparent)]
    Ramdisk(#[from] CpioError),
    /// The program is not one the kernel can start without others.
    #[error("init: expected a static executable for x86-64 Linux, found {0}")]
    Init(&'static str),
    /// The main file of the configuration is not there.
    #[error("configuration: expected a file {CONFIG_NAME}, found {0:?}")]
    Config(Vec<String>),
    /// The command line cannot be passed on.
    #[error(
        "command line: expected 1 to {MAX_COMMAND_LINE} printable ASCII characters, found {0:?}"
    )]
    CommandLine(String),
    /// It cannot be signed.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// What was written is not what is read.
    #[error("the image written cannot be read back: {0}")]
    ReadBack(#[from] EifError),
}

/// The image file, and its measurements as read back from it.
///
/// # Errors
/// Says which part cannot be used.
pub fn build(
    parts: &Parts,
    signer: Option<&Signer>,
) -> Result<(Vec<u8>, Measurements), BuildError> {
    let release = kernel::release(&parts.kernel)?;
    check_init(&parts.init)?;
    let printable = parts
        .command_line
        .bytes()
        .all(|byte| (0x20..0x7f).contains(&byte));
    if !printable || !(1..=MAX_COMMAND_LINE).contains(&parts.command_line.len()) {
        return Err(BuildError::CommandLine(parts.command_line.clone()));
    }
    if !parts.config.contains_key(CONFIG_NAME) {
        return Err(BuildError::Config(parts.config.keys().cloned().collect()));
    }
    let mut program = Archive::new();
    for directory in ["dev", "etc", "proc"] {
        program.directory(directory)?;
    }
    program.file("init", 0o555, parts.init.clone())?;
    let mut config = Archive::new();
    for (name, content) in &parts.config {
        config.file(
            &format!("{CONFIG_DIRECTORY}/{name}"),
            0o444,
            content.clone(),
        )?;
    }
    let mut image = Image {
        kernel: parts.kernel.clone(),
        command_line: parts.command_line.clone(),
        metadata: Metadata::new(&parts.name, release).to_bytes(),
        first_ramdisk: program.to_bytes(),
        second_ramdisk: config.to_bytes(),
        signature: None,
    };
    let mut file = image.to_bytes();
    let mut measurements = Measurements::of(&Parsed::parse(&file)?)?;
    if let Some(signer) = signer {
        image.signature = Some(signer.section(&measurements.pcr0)?);
        file = image.to_bytes();
        measurements = Measurements::of(&Parsed::parse(&file)?)?;
    }
    Ok((file, measurements))
}

/// Refuses what would make the kernel panic: not an ELF executable for this processor, or one that needs a loader.
fn check_init(init: &[u8]) -> Result<(), BuildError> {
    /// Program header type of the path of a dynamic loader (ELF specification, figure 2-2).
    const PT_INTERP: u32 = 3;
    let wrong = |what| Err(BuildError::Init(what));
    // e_ident of 64-bit little-endian ELF, e_machine 62 at offset 18.
    if !init.starts_with(b"\x7fELF\x02\x01") || init.get(18..20) != Some(&[62, 0]) {
        return wrong("another kind of file");
    }
    let number = |at: usize| {
        init.get(at..)?
            .first_chunk::<2>()
            .map(|two| u16::from_le_bytes(*two))
    };
    let table = init.get(32..).and_then(|rest| rest.first_chunk::<8>());
    let table = table.and_then(|eight| usize::try_from(u64::from_le_bytes(*eight)).ok());
    let (Some(table), Some(size), Some(count)) = (table, number(54), number(56)) else {
        return wrong("one that is cut off");
    };
    for index in 0..usize::from(count) {
        let at = usize::from(size)
            .checked_mul(index)
            .and_then(|offset| offset.checked_add(table));
        let kind = at.and_then(|at| init.get(at..)?.first_chunk::<4>());
        match kind.map(|four| u32::from_le_bytes(*four)) {
            None => return wrong("one that is cut off"),
            Some(PT_INTERP) => return wrong("one that needs a dynamic loader"),
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::eif::Kind;

    /// The head of an ELF executable for x86-64 with one program header of this type.
    fn program(kind: u32) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18] = 62;
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        file[64..68].copy_from_slice(&kind.to_le_bytes());
        file
    }

    fn kernel() -> Vec<u8> {
        let mut kernel = vec![0; 0x300];
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x20e] = 0x80;
        kernel[0x280..0x288].copy_from_slice(b"6.12.1 x");
        kernel
    }

    fn parts() -> Parts {
        Parts {
            kernel: kernel(),
            init: program(1),
            config: BTreeMap::from([(CONFIG_NAME.to_owned(), b"x = 1\n".to_vec())]),
            command_line: COMMAND_LINE.to_owned(),
            name: "nodeseal".to_owned(),
        }
    }

    fn refusal(change: impl FnOnce(&mut Parts)) -> String {
        let mut parts = parts();
        change(&mut parts);
        build(&parts, None).unwrap_err().to_string()
    }

    #[test]
    fn the_same_parts_give_the_same_bytes_and_the_name_shows_in_no_measurement() {
        let (file, measurements) = build(&parts(), None).unwrap();
        assert_eq!(
            build(&parts(), None).unwrap(),
            (file.clone(), measurements.clone())
        );
        let mut renamed = parts();
        renamed.name = "other".to_owned();
        let (other, same) = build(&renamed, None).unwrap();
        assert_ne!(other, file);
        assert_eq!(same, measurements);
        let parsed = Parsed::parse(&file).unwrap();
        assert_eq!(parsed.of(Kind::Ramdisk).count(), 2);
        let metadata: Metadata =
            serde_json::from_slice(parsed.of(Kind::Metadata).next().unwrap()).unwrap();
        assert_eq!(metadata.build_metadata.kernel_version, "6.12.1");
    }

    #[test]
    fn parts_that_would_not_boot_are_refused_by_name() {
        let dynamic = refusal(|parts| parts.init = program(3));
        assert_eq!(
            dynamic,
            "init: expected a static executable for x86-64 Linux, found one that needs a dynamic loader"
        );
        let script = refusal(|parts| parts.init = b"#!/bin/sh\n".to_vec());
        assert!(script.ends_with("found another kind of file"), "{script}");
        let cut = refusal(|parts| parts.init.truncate(66));
        assert!(cut.ends_with("found one that is cut off"), "{cut}");
        let kernel = refusal(|parts| parts.kernel.clear());
        assert_eq!(
            kernel,
            "kernel: expected a bzImage for x86, found something else"
        );
        let unnamed = refusal(|parts| {
            parts.config = BTreeMap::from([("a.toml".to_owned(), Vec::new())]);
        });
        assert_eq!(
            unnamed,
            "configuration: expected a file nodeseal-enclave.toml, found [\"a.toml\"]"
        );
        let line = refusal(|parts| parts.command_line = "a\nb".to_owned());
        assert_eq!(
            line,
            "command line: expected 1 to 1024 printable ASCII characters, found \"a\\nb\""
        );
        let outside = refusal(|parts| {
            parts.config.insert("../init".to_owned(), Vec::new());
        });
        assert_eq!(
            outside,
            "ramdisk: expected a path like \"etc/file\", found \"etc/nodeseal/../init\""
        );
    }

    proptest! {
        #[test]
        fn no_program_makes_it_panic(mut init in proptest::collection::vec(any::<u8>(), 0..200)) {
            let head = program(3);
            for (place, byte) in init.iter_mut().zip(head.iter().take(20)) {
                *place = *byte;
            }
            let _ = check_init(&init);
        }
    }
}
