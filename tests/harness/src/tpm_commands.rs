//! The few TPM commands the harness sends itself, marshalled by hand (TPM 2.0 Library, Part 3) and sent to
//! swtpm's TCP port as they are: no TPM stack is involved that the code under test also uses.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::{Context, Error, Result};

/// swtpm answers in milliseconds; key generation may take seconds on a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// TPM_ST_NO_SESSIONS and TPM_ST_SESSIONS, Part 2 table 19.
const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;

/// One authorisation by the empty password: size of the area, TPM_RS_PW, no nonce, no attributes, no password.
const EMPTY_PASSWORD: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];

/// Which handles to count, by the first byte of their range (Part 2, TPM_HT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handles {
    /// Objects loaded now.
    Transient = 0x80,
    /// Sessions loaded now.
    LoadedSessions = 0x02,
    /// Sessions saved outside the TPM.
    SavedSessions = 0x03,
    /// Keys persisted in the TPM.
    Persistent = 0x81,
}

/// Sends one command and returns the answer as received, header included.
///
/// # Errors
/// When the TPM does not answer.
pub fn transact(port: u16, command: &[u8]) -> Result<Vec<u8>> {
    let doing = "talking to the TPM";
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context(doing)?;
    stream
        .set_read_timeout(Some(ANSWER_WITHIN))
        .context(doing)?;
    stream.write_all(command).context(doing)?;
    let mut answer = vec![0; 10];
    stream.read_exact(&mut answer).context(doing)?;
    let size = u32::from_be_bytes([answer[2], answer[3], answer[4], answer[5]]);
    // The largest answer of any TPM is far below this (TPM_PT_MAX_RESPONSE_SIZE is 4096).
    let size = usize::try_from(size)
        .ok()
        .filter(|s| (10..=1 << 16).contains(s));
    answer.resize(
        size.ok_or_else(|| Error::new("the TPM's answer has a senseless length"))?,
        0,
    );
    stream.read_exact(&mut answer[10..]).context(doing)?;
    Ok(answer)
}

/// Sends a command of `tag`, `code` and `body` and returns what follows the header.
fn command(port: u16, what: &str, tag: u16, code: u32, body: &[u8]) -> Result<Vec<u8>> {
    let size = u32::try_from(body.len() + 10).context(what)?;
    let mut bytes = tag.to_be_bytes().to_vec();
    bytes.extend(size.to_be_bytes());
    bytes.extend(code.to_be_bytes());
    bytes.extend(body);
    let answer = transact(port, &bytes)?;
    match answer[6..10] {
        [0, 0, 0, 0] => Ok(answer[10..].to_vec()),
        [a, b, c, d] => {
            let code = u32::from_be_bytes([a, b, c, d]);
            Err(Error::new(format!("{what}: the TPM answers {code:#05x}")))
        }
        _ => Err(Error::new(what)),
    }
}

/// TPM2_Startup(TPM_SU_CLEAR).
///
/// # Errors
/// When the TPM refuses.
pub fn startup(port: u16) -> Result<()> {
    command(port, "TPM2_Startup", NO_SESSIONS, 0x144, &[0, 0]).map(drop)
}

/// TPM2_Shutdown(TPM_SU_CLEAR).
///
/// # Errors
/// When the TPM refuses.
pub fn shutdown(port: u16) -> Result<()> {
    command(port, "TPM2_Shutdown", NO_SESSIONS, 0x145, &[0, 0]).map(drop)
}

/// TPM2_PCR_Extend of the SHA-256 bank.
///
/// # Errors
/// When the TPM refuses.
pub fn extend_pcr(port: u16, pcr: u8, digest: &[u8; 32]) -> Result<()> {
    let mut body = vec![0, 0, 0, pcr];
    body.extend(EMPTY_PASSWORD);
    body.extend([0, 0, 0, 1, 0, 0x0B]);
    body.extend(digest);
    command(port, "TPM2_PCR_Extend", SESSIONS, 0x182, &body).map(drop)
}

/// TPM2_PCR_Read of one PCR of the SHA-256 bank.
///
/// # Errors
/// When the TPM refuses or the bank is not active.
pub fn read_pcr(port: u16, pcr: u8) -> Result<[u8; 32]> {
    let mut select = [0_u8; 3];
    let byte = select.get_mut(usize::from(pcr / 8));
    *byte.ok_or_else(|| Error::new(format!("there is no PCR {pcr}")))? |= 1 << (pcr % 8);
    let mut body = vec![0, 0, 0, 1, 0, 0x0B, 3];
    body.extend(select);
    let answer = command(port, "TPM2_PCR_Read", NO_SESSIONS, 0x17E, &body)?;
    // Update counter, selection (10 bytes), count of digests, size, digest.
    let digest = answer.get(20..52).and_then(|d| d.try_into().ok());
    digest.ok_or_else(|| Error::new("TPM2_PCR_Read: no SHA-256 value"))
}

/// TPM2_Clear by the lockout hierarchy: a new storage seed, so every key under the old one is lost.
///
/// # Errors
/// When the TPM refuses.
pub fn clear(port: u16) -> Result<()> {
    let mut body = vec![0x40, 0, 0, 0x0A];
    body.extend(EMPTY_PASSWORD);
    command(port, "TPM2_Clear", SESSIONS, 0x126, &body).map(drop)
}

/// How many handles of a kind exist (TPM2_GetCapability, TPM_CAP_HANDLES).
///
/// # Errors
/// When the TPM refuses.
pub fn count_handles(port: u16, kind: Handles) -> Result<u32> {
    let body = [0, 0, 0, 1, kind as u8, 0, 0, 0, 0, 0, 0, 0xFE];
    let answer = command(port, "TPM2_GetCapability", NO_SESSIONS, 0x17A, &body)?;
    // More data (1), capability (4), count (4).
    let count = answer.get(5..9).and_then(|c| c.try_into().ok());
    count
        .map(u32::from_be_bytes)
        .ok_or_else(|| Error::new("TPM2_GetCapability: no count"))
}
