//! The platform configuration registers: extend, lock, read.

use aws_lc_rs::digest::{Context, SHA384};

/// Number of PCRs.
pub const PCR_COUNT: u16 = 32;
/// A SHA-384 value.
pub type PcrValue = [u8; 48];

/// Why a PCR operation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PcrError {
    /// There is no such PCR.
    #[error("PCR {0} does not exist")]
    Index(u16),
    /// It is locked.
    #[error("PCR {0} is locked")]
    Locked(u16),
}

/// The 32 PCRs of an enclave.
#[derive(Clone)]
pub struct PcrBank([Pcr; PCR_COUNT as usize]);

#[derive(Clone, Copy)]
struct Pcr {
    value: PcrValue,
    locked: bool,
}

impl Default for PcrBank {
    /// All zero, nothing locked.
    fn default() -> Self {
        let empty = Pcr {
            value: [0; 48],
            locked: false,
        };
        Self([empty; PCR_COUNT as usize])
    }
}

impl PcrBank {
    /// Value, and whether locked.
    ///
    /// # Errors
    /// [`PcrError::Index`].
    pub fn read(&self, index: u16) -> Result<(PcrValue, bool), PcrError> {
        let pcr = self
            .0
            .get(usize::from(index))
            .ok_or(PcrError::Index(index))?;
        Ok((pcr.value, pcr.locked))
    }

    /// Sets the value to SHA-384(old value ‖ `data`) and returns it.
    ///
    /// # Errors
    /// [`PcrError`].
    pub fn extend(&mut self, index: u16, data: &[u8]) -> Result<PcrValue, PcrError> {
        let pcr = self.unlocked(index)?;
        pcr.value = extended(&pcr.value, data);
        Ok(pcr.value)
    }

    /// Sets the value outright, as the hypervisor does at boot.
    ///
    /// # Errors
    /// [`PcrError`].
    pub fn set(&mut self, index: u16, value: PcrValue) -> Result<(), PcrError> {
        self.unlocked(index)?.value = value;
        Ok(())
    }

    /// Locks one PCR.
    ///
    /// # Errors
    /// [`PcrError`]; a locked one cannot be locked again.
    pub fn lock(&mut self, index: u16) -> Result<(), PcrError> {
        self.unlocked(index)?.locked = true;
        Ok(())
    }

    /// Locks every PCR below `range`, whatever was locked before.
    ///
    /// # Errors
    /// [`PcrError::Index`].
    pub fn lock_below(&mut self, range: u16) -> Result<(), PcrError> {
        let below = self
            .0
            .get_mut(..usize::from(range))
            .ok_or(PcrError::Index(range))?;
        for pcr in below {
            pcr.locked = true;
        }
        Ok(())
    }

    /// Indices of the locked ones.
    #[must_use]
    pub fn locked(&self) -> Vec<u16> {
        self.attested()
            .into_iter()
            .map(|(index, _)| index)
            .collect()
    }

    /// What a document lists: the locked ones.
    #[must_use]
    pub fn attested(&self) -> Vec<(u16, PcrValue)> {
        (0..PCR_COUNT)
            .zip(&self.0)
            .filter(|(_, pcr)| pcr.locked)
            .map(|(index, pcr)| (index, pcr.value))
            .collect()
    }

    fn unlocked(&mut self, index: u16) -> Result<&mut Pcr, PcrError> {
        let pcr = self
            .0
            .get_mut(usize::from(index))
            .ok_or(PcrError::Index(index))?;
        if pcr.locked {
            return Err(PcrError::Locked(index));
        }
        Ok(pcr)
    }
}

/// SHA-384(`old` ‖ `data`).
pub(super) fn extended(old: &PcrValue, data: &[u8]) -> PcrValue {
    let mut context = Context::new(&SHA384);
    context.update(old);
    context.update(data);
    let mut value = [0; 48];
    value.copy_from_slice(context.finish().as_ref());
    value
}
