//! What goes along with requests because locks may need it: PCR policies signed offline.

use std::path::{Path, PathBuf};

use nodeseal_wire::lock::PcrBank;
use nodeseal_wire::message::{Context, SignedPolicy};
use serde::{Deserialize, Deserializer, de::Error};

use crate::config::Config;
use crate::supplies::Supplies;

/// A file in the policies' directory is not a signed policy.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct ContextError {
    path: PathBuf,
    problem: String,
}

/// A signed policy as `nodeseal-tpm` writes it: JSON, byte strings in hexadecimal.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    #[serde(deserialize_with = "bank")]
    bank: PcrBank,
    pcrs: Vec<u8>,
    #[serde(deserialize_with = "from_hex")]
    approved: [u8; 32],
    #[serde(deserialize_with = "from_hex")]
    signature: [u8; 64],
}

/// Gathers what the configuration has for the locks.
///
/// # Errors
/// When a policy cannot be read.
pub fn gather(config: &Config) -> Result<Supplies, ContextError> {
    let policies = match &config.policies {
        Some(directory) => read_policies(directory)?,
        None => Vec::new(),
    };
    let context = Context {
        policies,
        ..Context::default()
    };
    Ok(Supplies::new(context, &config.egress))
}

fn read_policies(directory: &Path) -> Result<Vec<SignedPolicy>, ContextError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |problem: String| ContextError { path, problem }
    };
    let listed = std::fs::read_dir(directory)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| at(directory)(format!("cannot be listed: {error}")))?;
    let mut paths: Vec<_> = listed.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    paths.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path)
            .map_err(|error| at(path)(format!("cannot be read: {error}")))?;
        let PolicyFile {
            bank,
            pcrs,
            approved,
            signature,
        } = serde_json::from_str(&text)
            .map_err(|error| at(path)(format!("is no signed policy: {error}")))?;
        Ok(SignedPolicy {
            bank,
            pcrs,
            approved,
            signature,
        })
    };
    paths.iter().map(read).collect()
}

fn bank<'de, D: Deserializer<'de>>(from: D) -> Result<PcrBank, D::Error> {
    let name = String::deserialize(from)?;
    PcrBank::from_name(&name).ok_or_else(|| {
        D::Error::custom(format!("expected \"sha256\" or \"sha384\", found {name:?}"))
    })
}

fn from_hex<'de, const N: usize, D: Deserializer<'de>>(from: D) -> Result<[u8; N], D::Error> {
    let text = String::deserialize(from)?;
    let wrong = || D::Error::custom(format!("expected {} hexadecimal digits", 2 * N));
    if text.len() != 2 * N || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut bytes = [0; N];
    for (place, byte) in bytes.iter_mut().enumerate() {
        let digits = text.get(2 * place..2 * place + 2).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}
