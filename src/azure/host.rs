//! What the host of a confidential machine has to say: the certificates of its processor, from the metadata service.

use std::time::Duration;

use serde::Deserialize;

use super::identity::direct;

/// Where an Azure host gives them (THIM, "Trusted Hardware Identity Management").
pub const AMD_CERTIFICATION: &str = "http://169.254.169.254/metadata/THIM/amd/certification";
/// Longest wait: the service is on this machine's own link, and absent elsewhere.
const DEADLINE: Duration = Duration::from_secs(4);
/// Longest answer taken, in bytes.
const MAX_ANSWER: usize = 64 << 10;

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "vcekCert")]
    vcek: String,
    #[serde(rename = "certificateChain")]
    chain: String,
}

/// VCEK certificate and chain, PEM; none where the host has none (no SEV-SNP, or no Azure). They are public, and the
/// attestation service checks them.
///
/// # Errors
/// When the host answers with something else.
pub async fn vcek_chain(url: &str) -> Result<Option<String>, String> {
    let asked = async {
        let request = direct()?.get(url).header("Metadata", "true");
        let Ok(answer) = request.send().await else {
            return Ok(None);
        };
        if !answer.status().is_success() {
            return Ok(None);
        }
        let body = answer
            .bytes()
            .await
            .map_err(|error| super::reason(&error))?;
        if body.len() > MAX_ANSWER {
            return Err(format!("{url} answers with {} bytes", body.len()));
        }
        let Answer { vcek, chain } = serde_json::from_slice(&body)
            .map_err(|error| format!("{url} does not answer with certificates: {error}"))?;
        Ok(Some(format!("{}\n{}", vcek.trim_end(), chain)))
    };
    tokio::time::timeout(DEADLINE, asked)
        .await
        .unwrap_or(Ok(None))
}
