//! The few TPM commands that provision a TPM, marshalled by hand (TPM 2.0 Library, Part 3).

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::interposer::proxy::read_frame;

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
/// One authorisation by the empty password.
const EMPTY_PASSWORD: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
const OWNER: u32 = 0x4000_0001;
const ENDORSEMENT: u32 = 0x4000_000b;
/// How long a command may take; keys are made in seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a software TPM's data port.
pub(super) struct Tpm(TcpStream);

impl Tpm {
    pub(super) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// Sends a command as it is; the answer, header included.
    pub(super) fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(command)?;
        Ok(read_frame(&mut self.0)?.ok_or(io::ErrorKind::UnexpectedEof)?)
    }

    /// What follows the header of a good answer, else the response code.
    fn command(&mut self, tag: u16, code: u32, body: &[u8]) -> io::Result<Result<Vec<u8>, u32>> {
        let size = u32::try_from(body.len() + 10).map_err(io::Error::other)?;
        let mut bytes = tag.to_be_bytes().to_vec();
        bytes.extend(size.to_be_bytes());
        bytes.extend(code.to_be_bytes());
        bytes.extend(body);
        let answer = self.transact(&bytes)?;
        let response = answer.get(6..10).and_then(|code| code.try_into().ok());
        let rest = answer.get(10..).unwrap_or_default().to_vec();
        Ok(match response.map(u32::from_be_bytes) {
            Some(0) => Ok(rest),
            code => Err(code.unwrap_or(u32::MAX)),
        })
    }

    fn good(&mut self, what: &str, tag: u16, code: u32, body: &[u8]) -> io::Result<Vec<u8>> {
        self.command(tag, code, body)?
            .map_err(|code| io::Error::other(format!("{what}: response code {code:#05x}")))
    }

    /// TPM2B_PUBLIC of the object at a handle; none where there is none.
    pub(super) fn read_public(&mut self, handle: u32) -> io::Result<Option<Vec<u8>>> {
        let answer = self.command(NO_SESSIONS, 0x173, &handle.to_be_bytes())?;
        Ok(answer.ok().and_then(|body| sized(&body)))
    }

    /// Makes a restricted RSA-2048 signing key in the endorsement hierarchy and keeps it at `handle`; its TPM2B_PUBLIC.
    pub(super) fn make_attestation_key(&mut self, handle: u32) -> io::Result<Vec<u8>> {
        // fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign.
        let area: &[u8] = &[
            0, 1, 0, 0x0b, 0, 5, 0, 0x72, 0, 0, 0, 0x10, 0, 0x14, 0, 0x0b, 8, 0, 0, 0, 0, 0, 0, 0,
        ];
        let mut body = ENDORSEMENT.to_be_bytes().to_vec();
        body.extend(EMPTY_PASSWORD);
        body.extend([0, 4, 0, 0, 0, 0]);
        body.extend(
            u16::try_from(area.len())
                .map_err(io::Error::other)?
                .to_be_bytes(),
        );
        body.extend(area);
        body.extend([0, 0, 0, 0, 0, 0]);
        let answer = self.good("TPM2_CreatePrimary", SESSIONS, 0x131, &body)?;
        let (object, rest) = answer
            .split_at_checked(4)
            .ok_or(io::ErrorKind::InvalidData)?;
        let public = rest
            .get(4..)
            .and_then(sized)
            .ok_or(io::ErrorKind::InvalidData)?;
        let mut evict = OWNER.to_be_bytes().to_vec();
        evict.extend(object);
        evict.extend(EMPTY_PASSWORD);
        evict.extend(handle.to_be_bytes());
        self.good("TPM2_EvictControl", SESSIONS, 0x120, &evict)?;
        self.good("TPM2_FlushContext", NO_SESSIONS, 0x165, object)?;
        Ok(public)
    }

    /// Ends a session, if it is there.
    pub(super) fn flush(&mut self, session: u32) -> io::Result<()> {
        self.command(NO_SESSIONS, 0x165, &session.to_be_bytes())
            .map(drop)
    }

    /// A SHA-256 PCR below 24.
    pub(super) fn read_pcr(&mut self, pcr: u8) -> io::Result<[u8; 32]> {
        let mut body = vec![0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 0];
        if let Some(byte) = body.get_mut(7 + usize::from(pcr / 8)) {
            *byte |= 1 << (pcr % 8);
        }
        let answer = self.good("TPM2_PCR_Read", NO_SESSIONS, 0x17e, &body)?;
        // Update counter, selection, count, size, digest.
        let digest = answer.get(20..52).and_then(|digest| digest.try_into().ok());
        Ok(digest.ok_or(io::ErrorKind::InvalidData)?)
    }

    /// Extends a SHA-256 PCR.
    pub(super) fn extend(&mut self, pcr: u8, digest: &[u8; 32]) -> io::Result<()> {
        let mut body = vec![0, 0, 0, pcr];
        body.extend(EMPTY_PASSWORD);
        body.extend([0, 0, 0, 1, 0, 0x0b]);
        body.extend(digest);
        self.good("TPM2_PCR_Extend", SESSIONS, 0x182, &body)
            .map(drop)
    }
}

/// A TPM2B at the start of `bytes`, size included.
fn sized(bytes: &[u8]) -> Option<Vec<u8>> {
    let size = u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?);
    bytes.get(..2 + usize::from(size)).map(<[u8]>::to_vec)
}
