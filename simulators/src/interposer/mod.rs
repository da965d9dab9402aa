//! A listener and active interposer on the line between a TPM stack and a TPM.
//!
//! It stands in front of swtpm's two TCP ports (data, and control on the next port) and speaks their framing:
//! on the data port bare TPM commands and responses, each with its ten-byte header (TPM 2.0 Library, Part 1,
//! "Command/Response Structure"). It records every byte both ways, and changes what its rules say:
//! - [`rule`]: which command a rule is for, and what it does to it.
//! - [`swap`]: the answer that names a key of the attacker's own.
//! - [`record`]: what went over the line.
//! - [`proxy`]: the sockets.
//! - [`command`]: `nodeseal-sim tpm-interposer`.

pub mod command;
pub mod proxy;
pub mod record;
pub mod rule;
pub mod swap;

pub use proxy::Interposer;
pub use record::{Exchange, Record};
pub use rule::{Action, Rule, When};
pub use swap::AttackerKey;

/// Length of the header of a command (tag, size, command code) and of a response (tag, size, response code).
pub const HEADER: usize = 10;

/// Command codes by name (Part 2, TPM_CC): those a seal, an open, an enrolment and their tests use.
pub const COMMANDS: [(&str, u32); 33] = [
    ("NV_UndefineSpace", 0x122),
    ("Clear", 0x126),
    ("NV_DefineSpace", 0x12A),
    ("CreatePrimary", 0x131),
    ("NV_Increment", 0x134),
    ("NV_Write", 0x137),
    ("EvictControl", 0x120),
    ("SelfTest", 0x143),
    ("Startup", 0x144),
    ("Shutdown", 0x145),
    ("ActivateCredential", 0x147),
    ("PolicyNV", 0x149),
    ("NV_Read", 0x14E),
    ("PolicySecret", 0x151),
    ("Create", 0x153),
    ("Import", 0x156),
    ("Load", 0x157),
    ("Quote", 0x158),
    ("Unseal", 0x15E),
    ("PolicySigned", 0x160),
    ("ContextLoad", 0x161),
    ("ContextSave", 0x162),
    ("FlushContext", 0x165),
    ("LoadExternal", 0x167),
    ("NV_ReadPublic", 0x169),
    ("PolicyAuthorize", 0x16A),
    ("ReadPublic", 0x173),
    ("StartAuthSession", 0x176),
    ("VerifySignature", 0x177),
    ("GetCapability", 0x17A),
    ("GetRandom", 0x17B),
    ("PCR_Read", 0x17E),
    ("PolicyPCR", 0x17F),
];

/// The command code called `name`.
#[must_use]
pub fn code(name: &str) -> Option<u32> {
    COMMANDS
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, code)| *code)
}

/// The name of a command code, or the code in hexadecimal.
#[must_use]
pub fn name(code: u32) -> String {
    let known = COMMANDS.iter().find(|(_, c)| *c == code);
    known.map_or_else(|| format!("{code:#x}"), |(name, _)| (*name).to_owned())
}
