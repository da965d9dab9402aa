//! PCR values and selections.

use nodeseal_wire::lock::PcrBank;
use tss_esapi::Error;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{PcrSelectionList, PcrSlot};

use super::commands::Commands;
use nodeseal_tpm::error::TpmError;
use nodeseal_tpm::structures::bank_length;
use nodeseal_tpm::tpm::PcrSelection;

/// A PCR_Read answers at most eight digests (TPML_DIGEST, part 2, 10.9.4), so 24 PCRs take three.
const MAX_PCR_READS: usize = 24;

impl Commands<'_> {
    /// PCR values in ascending order, under whatever session is set.
    pub(super) fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<Vec<Vec<u8>>, TpmError> {
        const COMMAND: &str = "TPM2_PCR_Read";
        let bad = |problem: &str| TpmError::BadAnswer {
            command: COMMAND,
            problem: problem.to_owned(),
        };
        let mut left = selection.pcrs.as_slice();
        let mut values = Vec::with_capacity(left.len());
        for _ in 0..MAX_PCR_READS {
            if left.is_empty() {
                return Ok(values);
            }
            let list = self.selection_list(COMMAND, selection.bank, left)?;
            let answer = self.context.pcr_read(list);
            let (_, read, digests) = self.check(COMMAND, answer)?;
            let mut read: Vec<PcrSlot> = read
                .get_selections()
                .iter()
                .filter(|one| one.hashing_algorithm() == algorithm(selection.bank))
                .flat_map(|one| one.selected())
                .collect();
            read.sort_by_key(|slot| u32::from(*slot));
            if read.is_empty() {
                return Err(TpmError::NoBank {
                    pcrs: selection.to_string(),
                });
            }
            if read.len() != digests.len() {
                return Err(bad("not one digest per PCR"));
            }
            for (slot, digest) in read.iter().zip(digests.value()) {
                let Some((asked, rest)) = left.split_first() else {
                    return Err(bad("more PCRs than were asked for"));
                };
                if u32::from(*slot).trailing_zeros() != u32::from(*asked)
                    || digest.value().len() != bank_length(selection.bank)
                {
                    return Err(bad("a PCR that was not asked for, or of another length"));
                }
                values.push(digest.value().to_vec());
                left = rest;
            }
        }
        Err(bad("PCRs that never come"))
    }

    pub(super) fn selection_list(
        &self,
        command: &'static str,
        bank: PcrBank,
        pcrs: &[u8],
    ) -> Result<PcrSelectionList, TpmError> {
        let slots: Result<Vec<PcrSlot>, Error> = pcrs
            .iter()
            .map(|pcr| PcrSlot::try_from(1u32.checked_shl(u32::from(*pcr)).unwrap_or(0)))
            .collect();
        let slots = self.check(command, slots)?;
        let list = PcrSelectionList::builder()
            .with_selection(algorithm(bank), &slots)
            .build();
        self.check(command, list)
    }
}

fn algorithm(bank: PcrBank) -> HashingAlgorithm {
    match bank {
        PcrBank::Sha256 => HashingAlgorithm::Sha256,
        PcrBank::Sha384 => HashingAlgorithm::Sha384,
    }
}
