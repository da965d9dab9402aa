//! PCR values.

use super::command::{Authorization, Code};
use super::commands::Commands;
use super::session::{Attributes, Session};
use crate::error::TpmError;
use crate::structures::{Fields, bank_algorithm, bank_length, pcr_selection};
use crate::tpm::PcrSelection;

/// A PCR_Read answers at most eight digests (TPML_DIGEST, part 2, 10.9.4), so 24 PCRs take three.
const MAX_PCR_READS: usize = 24;

impl Commands<'_> {
    /// PCR values in ascending order: the TPM's under a session, else for diagnosis only.
    pub(super) fn read_pcrs(
        &mut self,
        selection: &PcrSelection,
        mut session: Option<&mut Session>,
    ) -> Result<Vec<Vec<u8>>, TpmError> {
        let code = Code::PCR_READ;
        let mut left = selection.pcrs.as_slice();
        let mut values = Vec::with_capacity(left.len());
        for _ in 0..MAX_PCR_READS {
            if left.is_empty() {
                return Ok(values);
            }
            let asked = pcr_selection(selection.bank, left).to_vec();
            let answer = match session.as_deref_mut() {
                Some(session) => self.run_in(session, Attributes::AUDIT, code, None, asked)?,
                None => self.run(code, &[], &Authorization::None, &asked)?,
            };
            let (read, digests) = read_answer(&answer.parameters, bank_algorithm(selection.bank))
                .ok_or_else(|| code.bad("not a selection and its digests"))?;
            if read.is_empty() {
                return Err(TpmError::NoBank {
                    pcrs: selection.to_string(),
                });
            }
            if read.len() != digests.len() {
                return Err(code.bad("not one digest per PCR"));
            }
            for (pcr, digest) in read.into_iter().zip(digests) {
                let Some((asked, rest)) = left.split_first() else {
                    return Err(code.bad("more PCRs than were asked for"));
                };
                if pcr != *asked || digest.len() != bank_length(selection.bank) {
                    return Err(code.bad("a PCR that was not asked for, or of another length"));
                }
                values.push(digest.to_vec());
                left = rest;
            }
        }
        Err(code.bad("PCRs that never come"))
    }
}

/// Takes the answer to TPM2_PCR_Read apart: PCRs of one bank, ascending, and the digests (part 3, 22.4).
fn read_answer(parameters: &[u8], bank: u16) -> Option<(Vec<u8>, Vec<&[u8]>)> {
    let mut fields = Fields(parameters);
    let _update_counter = fields.u32()?;
    let mut pcrs = Vec::new();
    for _ in 0..list_length(fields.u32()?)? {
        let (algorithm, length) = (fields.u16()?, fields.u8()?);
        let bits = fields.take(usize::from(length))?;
        if algorithm == bank {
            let set = |pcr: &u8| {
                let byte = bits.get(usize::from(pcr / 8)).copied().unwrap_or_default();
                byte >> (pcr % 8) & 1 == 1
            };
            pcrs.extend((0..24).filter(set));
        }
    }
    let mut digests = Vec::new();
    for _ in 0..list_length(fields.u32()?)? {
        digests.push(fields.sized()?);
    }
    fields.0.is_empty().then_some((pcrs, digests))
}

/// Lists of selections and of digests have at most 16 and 8 items (part 2, 10.9).
fn list_length(claimed: u32) -> Option<u32> {
    (claimed <= 16).then_some(claimed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_a_pcr_of_another_bank_gives_only_those_asked_for() {
        let answer = [
            &[0, 0, 0, 9, 0, 0, 0, 2][..],
            &[0, 4, 3, 1, 0, 0],
            &[0, 0x0B, 3, 0x80, 0x08, 0],
            &[0, 0, 0, 1, 0, 2, 7, 8],
        ]
        .concat();
        let (pcrs, digests) = read_answer(&answer, 0x000B).unwrap_or_default();
        assert_eq!((pcrs, digests), (vec![7, 11], vec![&[7, 8][..]]));
        for end in 0..answer.len() {
            assert_eq!(
                read_answer(answer.get(..end).unwrap_or_default(), 0x000B),
                None
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(0u8.., 0..80)) {
            let _ = read_answer(&bytes, 0x000B);
        }
    }
}
