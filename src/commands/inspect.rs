//! `inspect`: everything blobs say without being opened. Nothing of it is proved.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use nodeseal_wire::blob::{Blob, MAX_BLOB, TAG_LENGTH};
use nodeseal_wire::header::Way;
use nodeseal_wire::lock::Lock;
use nodeseal_wire::message::Class;
use serde_json::{Value, json};

use crate::audit::format_rfc3339;
use crate::cli::InspectArgs;
use crate::failure::Failure;
use crate::public_key::{ethereum, hex};
use crate::report::{Report, table};

/// Reports each blob; one that is none fails, the others are shown all the same.
///
/// # Errors
/// None as a whole.
pub fn run(args: &InspectArgs) -> Result<Report, Failure> {
    let mut report = Report::new(Value::Null, "");
    let mut shown = Vec::new();
    for path in &args.blobs {
        match inspect(path) {
            Ok((json, text)) => {
                let gap = if report.text.is_empty() { "" } else { "\n" };
                let _ = write!(report.text, "{gap}{text}");
                shown.push(json);
            }
            Err(failure) => {
                let failure = failure.of(path.display());
                shown.push(json!({ "blob": path.display().to_string(), "error": failure.json() }));
                report.failed.get_or_insert(failure);
            }
        }
    }
    report.json = json!({ "blobs": shown });
    Ok(report)
}

fn inspect(path: &Path) -> Result<(Value, String), Failure> {
    let size = std::fs::metadata(path)
        .map(|found| found.len())
        .unwrap_or(0);
    if size > MAX_BLOB as u64 {
        let message = format!("expected a sealed blob of at most {MAX_BLOB} bytes, found {size}");
        return Err(Failure::new(Class::Damaged, "blob-malformed", message));
    }
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::new(Class::Internal, "file", format!("cannot read: {error}")))?;
    let blob = Blob::parse(&bytes)
        .map_err(|error| Failure::new(Class::Damaged, "blob-malformed", error.to_string()))?;
    Ok(described(path, bytes.len(), &blob))
}

fn described(path: &Path, size: usize, blob: &Blob<'_>) -> (Value, String) {
    let header = &blob.header;
    let path = path.display().to_string();
    let public_key = header.public_key.as_deref();
    let content = blob.ciphertext.len().saturating_sub(TAG_LENGTH);
    let created = UNIX_EPOCH
        .checked_add(Duration::from_secs(header.created))
        .map_or_else(|| format!("second {}", header.created), format_rfc3339);
    let mut json = json!({
        "blob": path,
        "size": size,
        "version": nodeseal_wire::blob::VERSION,
        "node": header.node,
        "name": header.name,
        "type": header.key_type.name(),
        "public_key": public_key.map(hex),
        "release": header.release.name(),
        "generation": header.generation,
        "created": created,
        "content_size": content,
        "salt": hex(&header.salt),
        "data_key": hex(&header.data_key_id),
        "ways": header.ways.iter().map(way_json).collect::<Vec<_>>(),
    });
    let mut lines = vec![
        (
            "blob",
            format!("{path} ({size} bytes, not opened: nothing here is proved)"),
        ),
        ("node", header.node.clone()),
        ("name", header.name.clone()),
        ("type", header.key_type.name().to_owned()),
    ];
    lines.extend(public_key.map(|key| ("public key", hex(key))));
    if let Some(names) = public_key.and_then(|key| ethereum(header.key_type, key)) {
        json["address"] = names.address.clone().into();
        json["node_id"] = names.node_id.clone().into();
        lines.push(("address", names.address));
        lines.push(("node id", names.node_id));
    }
    lines.extend([
        ("release", header.release.name().to_owned()),
        ("generation", header.generation.to_string()),
        ("created", created),
        ("content", format!("{content} bytes")),
        ("data key", hex(&header.data_key_id)),
    ]);
    lines.extend(header.ways.iter().map(|way| ("way", way_text(way))));
    (json, table(&lines))
}

fn way_json(way: &Way) -> Value {
    json!({
        "label": way.label,
        "locks": way.locks.iter().map(lock_json).collect::<Vec<_>>(),
    })
}

fn lock_json(lock: &Lock) -> Value {
    match lock {
        Lock::Tpm(tpm) => json!({
            "kind": lock.kind(),
            "srk_name": hex(&tpm.srk_name),
            "bank": tpm.bank.name(),
            "pcrs": tpm.pcrs,
            "policy_signer": tpm.signer.as_ref().map(|signer| json!({
                "public": hex(&signer.public),
                "reference": hex(&signer.reference),
            })),
            "public": hex(&tpm.public),
            "private": hex(&tpm.private),
        }),
        Lock::AwsKms(kms) => json!({
            "kind": lock.kind(),
            "key": kms.key,
            "attested": kms.attested,
            "ciphertext": hex(&kms.ciphertext),
        }),
        Lock::AzureUnwrap(vault) => json!({
            "kind": lock.kind(),
            "key": vault.key,
            "ciphertext": hex(&vault.ciphertext),
        }),
        Lock::AzureRelease(vault) => json!({
            "kind": lock.kind(),
            "key": vault.key,
            "attestation": vault.attestation,
            "ciphertext": hex(&vault.ciphertext),
        }),
    }
}

fn way_text(way: &Way) -> String {
    let locks: Vec<_> = way.locks.iter().map(lock_text).collect();
    format!("{}: {}", way.label, locks.join(" and "))
}

fn lock_text(lock: &Lock) -> String {
    match lock {
        Lock::Tpm(tpm) => {
            let pcrs: Vec<_> = tpm.pcrs.iter().map(u8::to_string).collect();
            let policy = match tpm.signer {
                Some(_) => "values approved by a policy key",
                None => "values at sealing",
            };
            let (bank, pcrs) = (tpm.bank.name(), pcrs.join(","));
            format!(
                "tpm {bank}:{pcrs} ({policy}, storage root key {})",
                hex(&tpm.srk_name)
            )
        }
        Lock::AwsKms(kms) => {
            let attested = if kms.attested {
                "attested"
            } else {
                "not attested"
            };
            format!("aws-kms {} ({attested})", kms.key)
        }
        Lock::AzureUnwrap(vault) => format!("azure-unwrap {}", vault.key),
        Lock::AzureRelease(vault) => format!(
            "azure-release {} (attested by {})",
            vault.key, vault.attestation
        ),
    }
}
