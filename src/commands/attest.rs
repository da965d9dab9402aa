//! `attest`: lets the trusted side prove what it runs, and verifies it.

use nodeseal_wire::message::{Class, Reply, Request};
use serde_json::json;

use super::{App, connect, verify};
use crate::cli::AttestArgs;
use crate::client::ClientError;
use crate::failure::Failure;
use crate::files::NewFile;
use crate::public_key::hex;
use crate::report::Report;

/// Mode of the written document: evidence is no secret.
const DOCUMENT_MODE: u32 = 0o644;

/// Asks for evidence with a nonce, and verifies it.
///
/// # Errors
/// When there is none, or it cannot be written. That a check does not hold is in the report.
pub fn run(app: &App, args: &AttestArgs) -> Result<Report, Failure> {
    let config = app.config()?;
    let nonce = match &args.nonce {
        Some(given) => given.0.clone(),
        None => random()?,
    };
    let request = Request::Evidence {
        nonce: nonce.clone(),
    };
    let (kind, document) = app.wait_for(async {
        let mut connection = connect(&config).await?;
        match connection.request(&request, &[]).await? {
            // Evidence is public; only its carrier is locked memory.
            (Reply::Evidence { kind }, payload) => Ok((kind, payload.expose().to_vec())),
            _ => Err(ClientError::Unexpected {
                expected: "evidence",
            }
            .into()),
        }
    })?;
    if let Some(path) = &args.out {
        NewFile::write(path, &document, DOCUMENT_MODE)?.publish()?;
    }
    let mut report = verify::judge(&document, &args.judge, |e| e.with_nonce(&nonce))?;
    report.json["kind"] = json!(kind);
    report.json["nonce"] = json!(hex(&nonce));
    report.text.insert_str(0, &format!("evidence: {kind}\n"));
    Ok(report)
}

fn random() -> Result<Vec<u8>, Failure> {
    let mut nonce = vec![0; 32];
    aws_lc_rs::rand::fill(&mut nonce)
        .map_err(|_| Failure::new(Class::Internal, "randomness", "no random bytes"))?;
    Ok(nonce)
}
