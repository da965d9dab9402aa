//! Encoding of requests and replies: positional CBOR arrays, read as strictly as blobs.

mod batch;
mod context;

use batch::{
    MAX_FACTS, decode_batch, decode_fact, decode_refusal, encode_batch, encode_fact, encode_refusal,
};

use context::{decode_context, encode_context};

use crate::cbor::{DecodeError, Reader, Writer};
use crate::header::{MAX_LOCKS, MAX_NAME, MAX_WAYS, check_name, decode_key_type, decode_release};
use crate::lock::{LockSpec, MAX_KEY_ID};
use crate::message::{
    BlobRef, DataKeySource, KeyAbout, MAX_BATCH, NewKey, OpenRequest, Reply, Request, SealRequest,
    Status, WaySpec,
};

impl Request {
    /// The request as a frame's message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::Hello { protocol, software } => {
                w.array(3).uint(0).uint(*protocol).text(software);
            }
            Self::Seal(seal) => {
                w.array(6).uint(1).text(&seal.node).uint(seal.created);
                match &seal.data_key {
                    DataKeySource::New(ways) => {
                        list(w.array(2).uint(0), ways, encode_way_spec);
                    }
                    DataKeySource::Join(length) => {
                        w.array(2).uint(1).uint(u64::from(*length));
                    }
                }
                list(&mut w, &seal.keys, encode_new_key);
                encode_context(&mut w, &seal.context);
            }
            Self::Open(open) => {
                w.array(5).uint(2).text(&open.node);
                list(&mut w, &open.blobs, |w, blob| {
                    w.array(2).optional(blob.name.as_deref(), Writer::text);
                    w.uint(u64::from(blob.length));
                });
                w.boolean(open.more);
                encode_context(&mut w, &open.context);
            }
            Self::Status => {
                w.array(1).uint(3);
            }
            Self::Lock => {
                w.array(1).uint(4);
            }
            Self::Evidence { nonce } => {
                w.array(2).uint(5).bytes(nonce);
            }
        }
        w.finish()
    }

    /// Reads a request.
    ///
    /// # Errors
    /// When the bytes are not exactly one request.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let items = r.array("request", 1, 6)?;
        let request = match (r.uint("request type", u64::MAX)?, items) {
            (0, 3) => Self::Hello {
                protocol: r.uint("protocol", u64::MAX)?,
                software: text(&mut r, "software", MAX_NAME)?,
            },
            (1, 6) => Self::Seal(SealRequest {
                node: name(&mut r, "node")?,
                created: r.uint("created", u64::MAX)?,
                data_key: decode_data_key_source(&mut r)?,
                keys: read_list(&mut r, "keys", MAX_BATCH, decode_new_key)?,
                context: decode_context(&mut r)?,
            }),
            (2, 5) => Self::Open(OpenRequest {
                node: name(&mut r, "node")?,
                blobs: read_list(&mut r, "blobs", MAX_BATCH, |r| {
                    r.array("blob", 2, 2)?;
                    Ok(BlobRef {
                        name: optional(r, |r| name(r, "name"))?,
                        length: length(r)?,
                    })
                })?,
                more: r.boolean("more")?,
                context: decode_context(&mut r)?,
            }),
            (3, 1) => Self::Status,
            (4, 1) => Self::Lock,
            (5, 2) => Self::Evidence {
                nonce: r.bytes("nonce", 0, 1024)?.to_vec(),
            },
            (kind, items) => return Err(unknown("request type", kind, items)),
        };
        r.finish("request")?;
        Ok(request)
    }
}

impl Reply {
    /// The reply as a frame's message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::Hello { protocol, software } => {
                w.array(3).uint(0).uint(*protocol).text(software);
            }
            Self::Sealed(batch) => encode_batch(w.array(3).uint(1), batch),
            Self::Opened(batch) => encode_batch(w.array(3).uint(2), batch),
            Self::Status(status) => {
                w.array(7).uint(3).text(&status.provider);
                w.uint(status.keys_held).uint(status.data_keys_held);
                w.uint(status.opened).uint(status.refused);
                list(&mut w, &status.facts, encode_fact);
            }
            Self::Locked => {
                w.array(1).uint(4);
            }
            Self::Evidence { kind } => {
                w.array(2).uint(5).text(kind);
            }
            Self::Refused(refusal) => {
                w.array(2).uint(6);
                encode_refusal(&mut w, refusal);
            }
        }
        w.finish()
    }

    /// Reads a reply.
    ///
    /// # Errors
    /// When the bytes are not exactly one reply.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let items = r.array("reply", 1, 7)?;
        let reply = match (r.uint("reply type", u64::MAX)?, items) {
            (0, 3) => Self::Hello {
                protocol: r.uint("protocol", u64::MAX)?,
                software: text(&mut r, "software", MAX_NAME)?,
            },
            (1, 3) => Self::Sealed(decode_batch(&mut r)?),
            (2, 3) => Self::Opened(decode_batch(&mut r)?),
            (3, 7) => Self::Status(Status {
                provider: text(&mut r, "provider", MAX_NAME)?,
                keys_held: r.uint("keys held", u64::MAX)?,
                data_keys_held: r.uint("data keys held", u64::MAX)?,
                opened: r.uint("opened", u64::MAX)?,
                refused: r.uint("refused", u64::MAX)?,
                facts: read_list(&mut r, "facts", MAX_FACTS, decode_fact)?,
            }),
            (4, 1) => Self::Locked,
            (5, 2) => Self::Evidence {
                kind: text(&mut r, "evidence kind", MAX_NAME)?,
            },
            (6, 2) => Self::Refused(decode_refusal(&mut r)?),
            (kind, items) => return Err(unknown("reply type", kind, items)),
        };
        r.finish("reply")?;
        Ok(reply)
    }
}

fn unknown(field: &'static str, kind: u64, items: usize) -> DecodeError {
    DecodeError::expected(
        field,
        "a known type with its number of items",
        format!("type {kind} with {items} items"),
    )
}

fn list<T>(w: &mut Writer, items: &[T], each: impl Fn(&mut Writer, &T)) {
    w.array(items.len());
    for item in items {
        each(w, item);
    }
}

fn read_list<'b, T>(
    r: &mut Reader<'b>,
    field: &'static str,
    max: usize,
    each: impl Fn(&mut Reader<'b>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = r.array(field, 0, max)?;
    // The count is a claim; the vector grows with what is there.
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(each(r)?);
    }
    Ok(items)
}

fn optional<'b, T>(
    r: &mut Reader<'b>,
    read: impl FnOnce(&mut Reader<'b>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    if r.null() {
        return Ok(None);
    }
    read(r).map(Some)
}

fn text(r: &mut Reader<'_>, field: &'static str, max: usize) -> Result<String, DecodeError> {
    r.text(field, 0, max).map(str::to_owned)
}

fn name(r: &mut Reader<'_>, field: &'static str) -> Result<String, DecodeError> {
    let name = r.text(field, 1, MAX_NAME)?;
    check_name(field, name)?;
    Ok(name.to_owned())
}

fn length(r: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let length = r.uint("length", u64::from(u32::MAX))?;
    u32::try_from(length)
        .map_err(|_| DecodeError::expected("length", "at most 4294967295", length.to_string()))
}

fn encode_way_spec(w: &mut Writer, way: &WaySpec) {
    w.array(2).text(&way.label);
    list(w, &way.locks, |w, lock| match lock {
        LockSpec::Tpm => {
            w.array(1).uint(0);
        }
        LockSpec::AwsKms { key, attested } => {
            w.array(3).uint(1).text(key).boolean(*attested);
        }
        LockSpec::AzureUnwrap { key } => {
            w.array(2).uint(2).text(key);
        }
        LockSpec::AzureRelease { key, attestation } => {
            w.array(3).uint(3).text(key).text(attestation);
        }
    });
}

fn decode_data_key_source(r: &mut Reader<'_>) -> Result<DataKeySource, DecodeError> {
    r.array("data key source", 2, 2)?;
    match r.uint("data key source", 1)? {
        0 => Ok(DataKeySource::New(read_list(r, "ways", MAX_WAYS, |r| {
            r.array("way", 2, 2)?;
            Ok(WaySpec {
                label: name(r, "label")?,
                locks: read_list(r, "locks", MAX_LOCKS, |r| {
                    let items = r.array("lock", 1, 3)?;
                    match (r.uint("lock", u64::MAX)?, items) {
                        (0, 1) => Ok(LockSpec::Tpm),
                        (1, 3) => Ok(LockSpec::AwsKms {
                            key: text(r, "KMS key", MAX_KEY_ID)?,
                            attested: r.boolean("attested")?,
                        }),
                        (2, 2) => Ok(LockSpec::AzureUnwrap {
                            key: text(r, "Key Vault key", MAX_KEY_ID)?,
                        }),
                        (3, 3) => Ok(LockSpec::AzureRelease {
                            key: text(r, "Key Vault key", MAX_KEY_ID)?,
                            attestation: text(r, "attestation service", MAX_KEY_ID)?,
                        }),
                        (kind, items) => Err(unknown("lock", kind, items)),
                    }
                })?,
            })
        })?)),
        _ => Ok(DataKeySource::Join(length(r)?)),
    }
}

fn encode_about(w: &mut Writer, about: &KeyAbout) {
    w.text(&about.name).text(about.key_type.name());
    w.text(about.release.name());
}

fn decode_about(r: &mut Reader<'_>) -> Result<KeyAbout, DecodeError> {
    Ok(KeyAbout {
        name: name(r, "name")?,
        key_type: decode_key_type(r)?,
        release: decode_release(r)?,
    })
}

fn encode_new_key(w: &mut Writer, key: &NewKey) {
    match key {
        NewKey::Given { about, length } => {
            encode_about(w.array(5).uint(0), about);
            w.uint(u64::from(*length));
        }
        NewKey::Generated(about) => encode_about(w.array(4).uint(1), about),
        NewKey::Resealed { length } => {
            w.array(2).uint(2).uint(u64::from(*length));
        }
    }
}

fn decode_new_key(r: &mut Reader<'_>) -> Result<NewKey, DecodeError> {
    let items = r.array("key", 2, 5)?;
    match (r.uint("key source", u64::MAX)?, items) {
        (0, 5) => Ok(NewKey::Given {
            about: decode_about(r)?,
            length: length(r)?,
        }),
        (1, 4) => decode_about(r).map(NewKey::Generated),
        (2, 2) => Ok(NewKey::Resealed { length: length(r)? }),
        (kind, items) => Err(unknown("key source", kind, items)),
    }
}

#[cfg(test)]
mod tests;
