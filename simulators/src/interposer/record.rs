//! What went over the line.

use std::collections::BTreeMap;
use std::time::Duration;

use super::HEADER;

/// One command and its answer, each as the TPM stack saw it and as the TPM saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The command as the TPM stack sent it.
    pub command: Vec<u8>,
    /// The TPM's answer, unless the command was kept from it.
    pub answer: Option<Vec<u8>>,
    /// What the TPM stack got instead of the TPM's answer, where a rule changed or made it.
    pub forged: Option<Vec<u8>>,
    /// How long the TPM took, from the command to its answer.
    pub took: Duration,
}

impl Exchange {
    /// The command code; 0 for a command too short to have one.
    #[must_use]
    pub fn code(&self) -> u32 {
        code_of(&self.command)
    }

    /// The response code of the TPM's answer.
    #[must_use]
    pub fn response_code(&self) -> Option<u32> {
        self.answer.as_deref().map(code_of)
    }
}

/// Bytes 6 to 9 of a header: command code or response code.
pub(super) fn code_of(bytes: &[u8]) -> u32 {
    match bytes.get(6..HEADER) {
        Some(&[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]),
        _ => 0,
    }
}

/// Everything that went over data and control port since it was last emptied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The data port, in order.
    pub exchanges: Vec<Exchange>,
    /// The control port, both directions as they came.
    pub control: Vec<u8>,
}

impl Record {
    /// How many commands of each code.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<u32, usize> {
        let mut counts = BTreeMap::new();
        for exchange in &self.exchanges {
            *counts.entry(exchange.code()).or_insert(0) += 1;
        }
        counts
    }

    /// How many commands of `code`.
    #[must_use]
    pub fn count(&self, code: u32) -> usize {
        self.exchanges.iter().filter(|e| e.code() == code).count()
    }

    /// Bytes recorded in all.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pieces().map(<[u8]>::len).sum()
    }

    /// Whether `needle` is anywhere in what went over the line, in either direction.
    #[must_use]
    pub fn contains(&self, needle: &[u8]) -> bool {
        !needle.is_empty()
            && self
                .pieces()
                .any(|piece| piece.windows(needle.len()).any(|window| window == needle))
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.exchanges
            .iter()
            .flat_map(|e| [Some(&e.command), e.answer.as_ref(), e.forged.as_ref()])
            .flatten()
            .map(Vec::as_slice)
            .chain([self.control.as_slice()])
    }
}
