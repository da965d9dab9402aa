//! The NV indices a software TPM cannot hold, answered in its place (TPM 2.0 Library, Part 3, TPM2_NV_ReadPublic and
//! TPM2_NV_Read).

use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;

use super::report::Paravisor;
use crate::pki::PkiError;
use crate::text::random;

/// Certificate of the attestation key, padded with zeros.
const AK_CERTIFICATE: u32 = 0x01c1_01d0;
const AK_CERTIFICATE_LENGTH: usize = 4096;
/// The paravisor's report.
const REPORT: u32 = 0x0140_0001;
/// What the guest puts into the next one. It is the software TPM's own, made by whoever writes it.
const USER_DATA: u32 = 0x0140_0002;

const CC_NV_WRITE: u32 = 0x137;
const CC_NV_READ: u32 = 0x14e;
const CC_NV_READ_PUBLIC: u32 = 0x169;
/// TPM_RS_PW.
const PASSWORD: u32 = 0x4000_0009;
/// PPWRITE, PPREAD, OWNERREAD, AUTHREAD, NO_DA, WRITTEN, PLATFORMCREATE.
const ATTRIBUTES: u32 = 1 | 1 << 16 | 1 << 17 | 1 << 18 | 1 << 25 | 1 << 29 | 1 << 30;
/// TPM_PT_NV_BUFFER_MAX of libtpms.
const MAX_READ: usize = 1024;

const RC_NV_RANGE: u32 = 0x146;
const RC_NV_UNINITIALIZED: u32 = 0x14a;
/// TPM_RC_VALUE for the first parameter.
const RC_VALUE: u32 = 0x1c4;
/// TPM_RC_SIZE.
const RC_SIZE: u32 = 0x95;

/// TPMA_SESSION: continueSession; the parameter is encrypted.
const CONTINUE: u8 = 1;
const DECRYPT: u8 = 1 << 5;

/// The one authorisation of a command on an NV index.
struct Session<'c> {
    handle: u32,
    /// The caller's nonce.
    nonce: &'c [u8],
    attributes: u8,
    /// Where the parameters begin.
    parameters: usize,
}

impl<'c> Session<'c> {
    fn of(command: &'c [u8]) -> Option<Self> {
        let area = usize::try_from(number(command, 18)?).ok()?;
        let nonce = short(command, 26)?;
        Some(Self {
            handle: number(command, 22)?,
            nonce: command.get(28..28 + nonce)?,
            attributes: *command.get(28 + nonce)?,
            parameters: area.checked_add(22)?,
        })
    }

    /// The session's part of an answer. Sessions other than the empty password's are taken to be neither salted nor
    /// bound and to use SHA-256, as those of tpm2-tools: their key is empty, as is the authorisation of these indices
    /// (Part 1 section 17.6.5).
    fn answer(&self, code: u32, parameters: &[u8]) -> Result<Vec<u8>, u32> {
        if self.handle == PASSWORD {
            return Ok(vec![0, 0, CONTINUE, 0, 0]);
        }
        let nonce = random::<32>().map_err(|_| RC_SIZE)?;
        let attributes = self.attributes & CONTINUE;
        let answered = [&[0; 4], &code.to_be_bytes(), parameters].concat();
        let message = [
            digest(&SHA256, &answered).as_ref(),
            &nonce,
            self.nonce,
            &[attributes],
        ]
        .concat();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[]), &message);
        Ok([
            &[0, 32],
            nonce.as_slice(),
            &[attributes, 0, 32],
            tag.as_ref(),
        ]
        .concat())
    }
}

/// The indices.
pub(super) struct Indices {
    certificate: Option<Vec<u8>>,
    paravisor: Option<Paravisor>,
    report: Mutex<Vec<u8>>,
}

/// An index answered here: how long it is.
fn length(index: u32) -> Option<usize> {
    match index {
        AK_CERTIFICATE => Some(AK_CERTIFICATE_LENGTH),
        REPORT => Some(super::report::LENGTH),
        _ => None,
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(field.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at.checked_add(2)?)?;
    Some(usize::from(u16::from_be_bytes(field.try_into().ok()?)))
}

fn answer(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 10).unwrap_or(u32::MAX);
    let mut out = tag.to_be_bytes().to_vec();
    out.extend(size.to_be_bytes());
    out.extend(code.to_be_bytes());
    out.extend(body);
    out
}

impl Indices {
    pub(super) fn new(
        certificate: Option<Vec<u8>>,
        paravisor: Option<Paravisor>,
    ) -> Result<Self, PkiError> {
        let report = match &paravisor {
            Some(paravisor) => paravisor.report(&[0; 64])?,
            None => Vec::new(),
        };
        Ok(Self {
            certificate,
            paravisor,
            report: Mutex::new(report),
        })
    }

    /// The answer to a command about an index that is here, none where the TPM is to answer.
    pub(super) fn answer(&self, command: &[u8]) -> Option<Vec<u8>> {
        let index = match number(command, 6)? {
            CC_NV_READ_PUBLIC => number(command, 10)?,
            CC_NV_READ => number(command, 14)?,
            _ => return None,
        };
        let length = length(index)?;
        if index == REPORT && self.paravisor.is_none() {
            return None;
        }
        if number(command, 6)? == CC_NV_READ_PUBLIC {
            return Some(public(index, length));
        }
        Some(match self.read(index, length, command) {
            Ok(body) => answer(0x8002, 0, &body),
            Err(code) => answer(0x8001, code, &[]),
        })
    }

    fn read(&self, index: u32, length: usize, command: &[u8]) -> Result<Vec<u8>, u32> {
        let session = Session::of(command).ok_or(RC_SIZE)?;
        let parameters = session.parameters;
        let size = short(command, parameters).ok_or(RC_SIZE)?;
        let offset = short(command, parameters + 2).ok_or(RC_SIZE)?;
        if size > MAX_READ {
            return Err(RC_VALUE);
        }
        if offset.saturating_add(size) > length {
            return Err(RC_NV_RANGE);
        }
        let report;
        let content = match index {
            AK_CERTIFICATE => self.certificate.as_ref().ok_or(RC_NV_UNINITIALIZED)?,
            _ => {
                report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
                &*report
            }
        };
        let mut data: Vec<u8> = content.iter().skip(offset).take(size).copied().collect();
        data.resize(size, 0);
        let mut answered = u16::try_from(size)
            .map_err(|_| RC_VALUE)?
            .to_be_bytes()
            .to_vec();
        answered.extend(data);
        let count = u32::try_from(answered.len()).map_err(|_| RC_VALUE)?;
        let mut body = count.to_be_bytes().to_vec();
        body.extend(&answered);
        body.extend(session.answer(CC_NV_READ, &answered)?);
        Ok(body)
    }

    /// The session that ends with a command answered here, which the TPM has to be told.
    pub(super) fn ended(command: &[u8]) -> Option<u32> {
        let session = Session::of(command)?;
        let ends = session.handle != PASSWORD && session.attributes & CONTINUE == 0;
        (number(command, 6)? == CC_NV_READ && ends).then_some(session.handle)
    }

    /// After the TPM has taken a command: a write of the user data makes a new report.
    pub(super) fn done(&self, command: &[u8], answer: &[u8]) {
        let written = || -> Option<[u8; 64]> {
            if number(command, 6)? != CC_NV_WRITE || number(answer, 6)? != 0 {
                return None;
            }
            let session = Session::of(command).filter(|s| s.attributes & DECRYPT == 0)?;
            if number(command, 14)? != USER_DATA {
                return None;
            }
            let at = session.parameters;
            let data = command.get(at + 2..at + 2 + short(command, at)?)?;
            data.try_into().ok()
        };
        let (Some(data), Some(paravisor)) = (written(), &self.paravisor) else {
            return;
        };
        match paravisor.report(&data) {
            Ok(new) => *self.report.lock().unwrap_or_else(PoisonError::into_inner) = new,
            Err(error) => tracing::error!(%error, "the report stays as it was"),
        }
    }
}

/// TPM2_NV_ReadPublic's answer: TPM2B_NV_PUBLIC and the index's Name.
fn public(index: u32, length: usize) -> Vec<u8> {
    let mut area = index.to_be_bytes().to_vec();
    area.extend([0, 0x0b]);
    area.extend(ATTRIBUTES.to_be_bytes());
    area.extend([0, 0]);
    area.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    let name = [&[0, 0x0b], digest(&SHA256, &area).as_ref()].concat();
    let mut body = Vec::new();
    for part in [area, name] {
        body.extend(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
        body.extend(part);
    }
    answer(0x8001, 0, &body)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn indices() -> Indices {
        Indices::new(Some(vec![7; 900]), None).unwrap()
    }

    /// TPM2_NV_Read by the owner's empty password.
    fn read(index: u32, session: u32, size: u16, offset: u16) -> Vec<u8> {
        let mut body = 0x4000_0001_u32.to_be_bytes().to_vec();
        body.extend(index.to_be_bytes());
        body.extend(9_u32.to_be_bytes());
        body.extend(session.to_be_bytes());
        body.extend([0; 5]);
        body.extend(size.to_be_bytes());
        body.extend(offset.to_be_bytes());
        answer(0x8002, CC_NV_READ, &body)
    }

    fn code(answer: &[u8]) -> u32 {
        number(answer, 6).unwrap()
    }

    #[test]
    fn a_certificate_is_read_in_pieces_and_padded_with_zeros() {
        let indices = indices();
        let found = indices
            .answer(&read(AK_CERTIFICATE, PASSWORD, 1024, 0))
            .unwrap();
        assert_eq!(code(&found), 0);
        assert_eq!(found.len(), 10 + 4 + 2 + 1024 + 5);
        assert_eq!(found[16..916], [7; 900]);
        assert_eq!(found[916..1040], [0; 124]);
        let end = indices
            .answer(&read(AK_CERTIFICATE, PASSWORD, 1024, 3072))
            .unwrap();
        assert_eq!(code(&end), 0);
    }

    #[test]
    fn what_a_tpm_refuses_is_refused() {
        let indices = indices();
        let refused = |command: Vec<u8>| code(&indices.answer(&command).unwrap());
        assert_eq!(
            refused(read(AK_CERTIFICATE, PASSWORD, 1024, 3073)),
            RC_NV_RANGE
        );
        assert_eq!(refused(read(AK_CERTIFICATE, PASSWORD, 1025, 0)), RC_VALUE);
        let bare = Indices::new(None, None).unwrap();
        let found = bare.answer(&read(AK_CERTIFICATE, PASSWORD, 1, 0)).unwrap();
        assert_eq!(code(&found), RC_NV_UNINITIALIZED);
        // A Trusted Launch machine has no report; other indices are the TPM's own.
        assert_eq!(indices.answer(&read(REPORT, PASSWORD, 1, 0)), None);
        assert_eq!(indices.answer(&read(USER_DATA, PASSWORD, 1, 0)), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let indices = indices();
        let command = read(AK_CERTIFICATE, PASSWORD, 1024, 0);
        for length in 0..command.len() {
            let _ = indices.answer(&command[..length]);
            indices.done(&command[..length], &command[..length]);
        }
    }
}
