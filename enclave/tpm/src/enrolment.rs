//! The TPM this process belongs to: its storage root key pinned by Name, and what a mismatch means.

use serde::{Deserialize, Serialize};

use crate::error::TpmError;
use crate::structures::{Name, SRK_HANDLE, Template};
use crate::tpm::{Srk, Tpm};

/// Version of the record's format.
const VERSION: u32 = 1;
/// Persistent handles looked at and taken for a storage root key. The owner's range begins at 0x81000000.
const SRK_HANDLES: std::ops::RangeInclusive<u32> = SRK_HANDLE..=SRK_HANDLE + 7;

/// What enrolment wrote down about the TPM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Version of this record's format.
    pub version: u32,
    /// Maker and firmware, for people.
    pub tpm: String,
    /// When, in seconds since 1970-01-01 UTC.
    pub enrolled: u64,
    /// Storage root key: sessions are salted to it, blobs are sealed under it.
    pub srk: PinnedKey,
    /// Endorsement key: the same as long as it is the same TPM, also after TPM2_Clear.
    pub ek: PinnedKey,
}

/// A primary key by its Name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedKey {
    /// [`Template::id`] of the template it comes from.
    pub template: String,
    /// Persistent handle, or none if it is made from the template each time.
    #[serde(with = "handle_text")]
    pub handle: Option<u32>,
    /// Name: hex of nameAlg and digest, 68 digits.
    #[serde(with = "name_text")]
    pub name: Name,
}

/// The TPM, or a key in it, is not the one enrolled.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The endorsement key is another: another TPM, or another state of a virtual one.
    #[error(
        "this is a different TPM than the one enrolled: endorsement key {found}, enrolled {pinned} (blobs sealed on the \
         enrolled TPM open only there; to use this one, enrol anew and seal again)"
    )]
    DifferentTpm {
        /// Name of the enrolled endorsement key.
        pinned: Name,
        /// Name of the one this TPM makes.
        found: Name,
    },
    /// Same endorsement key, another storage root key from the same template: the owner seed is new.
    #[error(
        "the TPM was cleared since enrolment: its endorsement key is the enrolled one, but its storage root key is now \
         {found}, enrolled {pinned} (what was sealed before is lost in this TPM: open it another way, then enrol anew)"
    )]
    Cleared {
        /// Name of the enrolled storage root key.
        pinned: Name,
        /// Name of the one this TPM makes now.
        found: Name,
    },
    /// The TPM still makes the enrolled key from its template, but another key sits at its handle.
    #[error(
        "the storage root key was swapped: handle {handle:#010x} holds the key {found}, enrolled {pinned}, which the TPM \
         still makes from its template (someone replaced it, or something sits between this process and the TPM)"
    )]
    SwappedSrk {
        /// The persistent handle.
        handle: u32,
        /// Name of the enrolled storage root key.
        pinned: Name,
        /// Name of the key at the handle.
        found: Name,
    },
    /// The key in use is not the pinned one; [`verify`] finds out why.
    #[error("the storage root key is not the enrolled one")]
    SrkName {
        /// Name of the enrolled storage root key.
        pinned: Name,
        /// Name found, none if the handle is empty.
        found: Option<Name>,
    },
    /// The record is for a program that knows more.
    #[error(
        "the enrolment record is of version {version} with templates {srk} and {ek}, which this program does not know"
    )]
    UnknownRecord {
        /// Its version.
        version: u32,
        /// Its storage root key template.
        srk: String,
        /// Its endorsement key template.
        ek: String,
    },
}

impl Mismatch {
    /// Stable name of the reason.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::DifferentTpm { .. } => "tpm-different",
            Self::Cleared { .. } => "tpm-cleared",
            Self::SwappedSrk { .. } => "tpm-srk-swapped",
            Self::SrkName { .. } => "tpm-srk-mismatch",
            Self::UnknownRecord { .. } => "tpm-enrolment-unknown",
        }
    }
}

/// Where enrolment puts the storage root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// At a persistent handle: where it already is, else at the first free one from 0x81000001.
    Persistent,
    /// Nowhere: made from its template for each use (a second on a slow TPM).
    Transient,
}

/// Pins the TPM's keys. Trust on first use: the keys are the TPM's only if nothing sits between now.
///
/// # Errors
/// As the TPM's commands; [`TpmError::Stopped`] if every handle is taken.
pub fn enroll(tpm: &mut dyn Tpm, keep: Keep, enrolled: u64) -> Result<Enrolment, TpmError> {
    let ek = Name::of(&tpm.primary(Template::Ek)?);
    let srk = Name::of(&tpm.primary(Template::Srk)?);
    let handle = match keep {
        Keep::Transient => None,
        Keep::Persistent => Some(persistent_handle(tpm, &srk)?),
    };
    Ok(Enrolment {
        version: VERSION,
        tpm: tpm.about()?,
        enrolled,
        srk: PinnedKey {
            template: Template::Srk.id().to_owned(),
            handle,
            name: srk,
        },
        ek: PinnedKey {
            template: Template::Ek.id().to_owned(),
            handle: None,
            name: ek,
        },
    })
}

fn persistent_handle(tpm: &mut dyn Tpm, srk: &Name) -> Result<u32, TpmError> {
    let mut free = None;
    for handle in SRK_HANDLES {
        match tpm.name_at(handle)? {
            Some(name) if name.is(srk) => return Ok(handle),
            Some(_) => {}
            None => free = free.or(Some(handle)),
        }
    }
    let handle = free.ok_or(TpmError::Stopped(
        "the persistent handles 0x81000001 to 0x81000008 are all taken by other keys",
    ))?;
    tpm.persist_srk(handle)?;
    Ok(handle)
}

/// Finds the enrolled storage root key in the TPM, or says what became of it.
///
/// A handle that was evicted is no mismatch as long as the template gives the pinned key: it is made anew then.
///
/// # Errors
/// [`Mismatch`] by name, or as the TPM's commands.
pub fn verify(tpm: &mut dyn Tpm, enrolment: &Enrolment) -> Result<Srk, TpmError> {
    let (srk, ek) = (&enrolment.srk, &enrolment.ek);
    let known = (VERSION, Template::Srk.id(), Template::Ek.id());
    if (enrolment.version, &*srk.template, &*ek.template) != known {
        return Err(Mismatch::UnknownRecord {
            version: enrolment.version,
            srk: srk.template.clone(),
            ek: ek.template.clone(),
        }
        .into());
    }
    let at_handle = match srk.handle {
        Some(handle) => tpm.name_at(handle)?.map(|name| (handle, name)),
        None => None,
    };
    let pinned = srk.name;
    if let Some((handle, name)) = at_handle
        && name.is(&pinned)
    {
        return Ok(Srk {
            name: pinned,
            handle: Some(handle),
        });
    }
    let made = Name::of(&tpm.primary(Template::Srk)?);
    if made.is(&pinned) {
        return match at_handle {
            Some((handle, found)) => Err(Mismatch::SwappedSrk {
                handle,
                pinned,
                found,
            }
            .into()),
            None => Ok(Srk {
                name: pinned,
                handle: None,
            }),
        };
    }
    let found = Name::of(&tpm.primary(Template::Ek)?);
    Err(if found.is(&ek.name) {
        Mismatch::Cleared {
            pinned,
            found: made,
        }
    } else {
        Mismatch::DifferentTpm {
            pinned: ek.name,
            found,
        }
    }
    .into())
}

mod handle_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(handle: &Option<u32>, to: S) -> Result<S::Ok, S::Error> {
        match handle {
            Some(handle) => to.serialize_some(&format!("{handle:#010x}")),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else {
            return Ok(None);
        };
        text.strip_prefix("0x")
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .filter(|handle| handle >> 24 == 0x81)
            .map(Some)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is not a persistent handle, 0x81……")))
    }
}

mod name_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::structures::Name;

    pub fn serialize<S: Serializer>(name: &Name, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(name)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}
