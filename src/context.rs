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
    Ok(Supplies::new(context, config))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Reads a directory that holds `text` as a policy, and a file that is none.
    fn read(text: &str) -> Result<Vec<SignedPolicy>, String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("readme.txt"), "no policy").unwrap();
        std::fs::write(directory.path().join("one.json"), text).unwrap();
        read_policies(directory.path()).map_err(|error| error.problem)
    }

    fn policy() -> String {
        let (approved, signature) = ("0a".repeat(32), "0b".repeat(64));
        format!(
            r#"{{"bank": "sha256", "pcrs": [7, 11], "approved": "{approved}", "signature": "{signature}"}}"#
        )
    }

    #[test]
    fn signed_policies_are_read_from_the_json_files_of_their_directory() {
        let expected = SignedPolicy {
            bank: PcrBank::Sha256,
            pcrs: vec![7, 11],
            approved: [10; 32],
            signature: [11; 64],
        };
        assert_eq!(read(&policy()), Ok(vec![expected]));
    }

    #[test]
    fn what_is_no_signed_policy_is_refused_by_name() {
        for (from, to, problem) in [
            (
                "\"sha256\"",
                "\"sha1\"",
                "expected \"sha256\" or \"sha384\", found \"sha1\"",
            ),
            ("\"0a", "\"0", "expected 64 hexadecimal digits"),
            ("\"0b", "\"+b", "expected 128 hexadecimal digits"),
            ("\"0b", "\"é", "expected 128 hexadecimal digits"),
            (
                "[7, 11]",
                "[7, 256]",
                "invalid value: integer `256`, expected u8",
            ),
            ("\"pcrs\"", "\"pcr\"", "unknown field `pcr`"),
        ] {
            let error = read(&policy().replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(problem), "{problem:?} in {error:?}");
        }
        let error = read_policies(Path::new("/nowhere")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("/nowhere: cannot be listed: "),
            "{error}"
        );
    }
}
