//! Encoding of outcomes, refusals and facts.

use super::{length, list, read_list, text, unknown};
use crate::cbor::{DecodeError, Reader, Writer};
use crate::header::{MAX_NAME, MAX_WAYS};
use crate::message::{Batch, Class, DataKeyReport, Fact, MAX_BATCH, Outcome, Refusal};

/// Longest text of an error or a fact, in bytes.
pub(super) const MAX_TEXT: usize = 4096;
/// Most facts in one list.
pub(super) const MAX_FACTS: usize = 64;

pub(super) fn encode_batch(w: &mut Writer, batch: &Batch) {
    list(w, &batch.outcomes, |w, outcome| match outcome {
        Outcome::Delivered(length) => {
            w.array(2).uint(0).uint(u64::from(*length));
        }
        Outcome::Held => {
            w.array(1).uint(1);
        }
        Outcome::Refused(refusal) => {
            w.array(2).uint(2);
            encode_refusal(w, refusal);
        }
    });
    list(w, &batch.data_keys, |w, report| {
        w.array(4).bytes(&report.id).text(&report.way);
        list(w, &report.facts, encode_fact);
        list(w, &report.failed, |w, (way, refusal)| {
            w.array(2).text(way);
            encode_refusal(w, refusal);
        });
    });
}

pub(super) fn decode_batch(r: &mut Reader<'_>) -> Result<Batch, DecodeError> {
    Ok(Batch {
        outcomes: read_list(r, "outcomes", MAX_BATCH, |r| {
            let items = r.array("outcome", 1, 2)?;
            match (r.uint("outcome", u64::MAX)?, items) {
                (0, 2) => length(r).map(Outcome::Delivered),
                (1, 1) => Ok(Outcome::Held),
                (2, 2) => decode_refusal(r).map(Outcome::Refused),
                (kind, items) => Err(unknown("outcome", kind, items)),
            }
        })?,
        data_keys: read_list(r, "data keys", MAX_BATCH, |r| {
            r.array("data key", 4, 4)?;
            Ok(DataKeyReport {
                id: r.array_of("data key id")?,
                way: text(r, "way", MAX_NAME)?,
                facts: read_list(r, "facts", MAX_FACTS, decode_fact)?,
                failed: read_list(r, "failed ways", MAX_WAYS, |r| {
                    r.array("failed way", 2, 2)?;
                    Ok((text(r, "way", MAX_NAME)?, decode_refusal(r)?))
                })?,
            })
        })?,
    })
}

pub(super) fn encode_fact(w: &mut Writer, fact: &Fact) {
    w.array(2).text(&fact.name).text(shortened(&fact.value));
}

pub(super) fn decode_fact(r: &mut Reader<'_>) -> Result<Fact, DecodeError> {
    r.array("fact", 2, 2)?;
    Ok(Fact {
        name: text(r, "fact name", MAX_NAME)?,
        value: text(r, "fact", MAX_TEXT)?,
    })
}

pub(super) fn encode_refusal(w: &mut Writer, refusal: &Refusal) {
    let class = Class::ALL.iter().position(|class| *class == refusal.class);
    w.array(3).uint(class.unwrap_or_default() as u64);
    w.text(&refusal.code).text(shortened(&refusal.message));
}

pub(super) fn decode_refusal(r: &mut Reader<'_>) -> Result<Refusal, DecodeError> {
    r.array("refusal", 3, 3)?;
    let class = r.uint("class", u64::MAX)?;
    let known = usize::try_from(class).ok().and_then(|i| Class::ALL.get(i));
    Ok(Refusal {
        class: *known.ok_or_else(|| DecodeError::expected("class", "0 to 4", class.to_string()))?,
        code: text(r, "code", MAX_NAME)?,
        message: text(r, "message", MAX_TEXT)?,
    })
}

/// As much of a text as the other side takes, cut at a character.
fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT))
        .unwrap_or(text)
}
