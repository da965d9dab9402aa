//! A guest's evidence, checked: attestation key, quote, log, ephemeral key, and the processor's report.

use nodeseal_attestation::azure::hcl::{RuntimeClaims, report_data};
use nodeseal_attestation::azure::snp::SnpReport;
use nodeseal_attestation::azure::tpm::{Attest, Attested, RsaPublic, attributes, pcr_digest};
use nodeseal_attestation::azure::{RsaKey, verify_chain};
use nodeseal_attestation::time::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::super::error::{AzureError, AzureResult};
use super::Attestation;
use super::event_log::EventLog;
use super::request::{Guest, IsolationInfo, SnpProof, TpmInfo, bytes, invalid, json};
use crate::text::unbase64url;
use crate::{der, rsa};

/// TPM_ALG_SHA256.
const SHA256: u16 = 0x000b;
/// PCRs every guest must quote.
const REQUIRED: std::ops::RangeInclusive<u8> = 0..=7;

/// What is known of a guest.
pub(super) struct Checked {
    /// The key tokens and released keys are encrypted to.
    pub(super) ephemeral: RsaKey,
    /// Common name of the attestation key's certificate: the machine's id and a suffix.
    pub(super) vm_id: String,
    pub(super) pcrs: Vec<u8>,
    pub(super) secure_boot: bool,
    pub(super) isolation: Option<Isolation>,
}

/// A confidential VM's processor report, checked.
pub(super) struct Isolation {
    pub(super) report: Vec<u8>,
    pub(super) runtime: Value,
}

/// The refusal of evidence that does not hold.
fn refused(why: impl std::fmt::Display) -> AzureError {
    AzureError::new(
        hyper::StatusCode::BAD_REQUEST,
        "AttestationFailed",
        why.to_string(),
    )
}

impl Attestation {
    pub(super) fn check(&self, guest: &Guest) -> AzureResult<Checked> {
        let tpm = &guest.tpm_info;
        let at = Timestamp::from_milliseconds(self.clock().now().0);
        let ak_public = bytes("AikPub", &tpm.aik_pub)?;
        let ak = RsaPublic::parse(&ak_public).map_err(|e| invalid(format!("AikPub: {e}")))?;
        let restricted = attributes::RESTRICTED | attributes::SIGN | attributes::FIXED_TPM;
        if !ak.has(restricted) || ak.has(attributes::DECRYPT) {
            return Err(refused("AikPub: not a restricted signing key of this TPM"));
        }
        let vm_id = self.check_certificate(tpm, &ak.key, at)?;
        let pcrs = check_quote(tpm, &ak.key)?;
        let log = bytes("TcgLogs", &guest.tcg_logs)?;
        let log = EventLog::parse(&log).map_err(refused)?;
        for (index, value) in &pcrs {
            if log
                .pcrs
                .get(index)
                .is_some_and(|replayed| replayed != value)
            {
                return Err(refused(format!(
                    "TcgLogs: the log does not replay to the quoted value of PCR {index}"
                )));
            }
        }
        let ephemeral = check_ephemeral(tpm, &ak.key)?;
        let isolation = self.check_isolation(&guest.isolation_info, &ak.key, at)?;
        Ok(Checked {
            ephemeral,
            vm_id,
            pcrs: pcrs.into_iter().map(|(index, _)| index).collect(),
            secure_boot: log.secure_boot,
            isolation,
        })
    }

    /// The attestation key's certificate leads to the root and is for this key; whose machine it names.
    fn check_certificate(&self, tpm: &TpmInfo, ak: &RsaKey, at: Timestamp) -> AzureResult<String> {
        let certificate = bytes("AikCert", &tpm.aik_cert)?;
        let root = CertificateDer::from(self.config.ak_root.as_slice());
        let anchor = webpki::anchor_from_trusted_cert(&root).map_err(AzureError::internal)?;
        verify_chain(&[certificate.as_slice()], &[anchor], at)
            .map_err(|error| refused(format!("AikCert: {error}")))?;
        let key = der::spki_of_certificate(&certificate);
        if key.as_deref().and_then(rsa::of_spki).as_ref() != Some(ak) {
            return Err(refused("AikCert: not the certificate of AikPub"));
        }
        let name = der::common_name(&certificate).unwrap_or_default();
        Ok(name.trim_end_matches(".TrustedVM.Azure").to_owned())
    }

    fn check_isolation(
        &self,
        info: &IsolationInfo,
        ak: &RsaKey,
        at: Timestamp,
    ) -> AzureResult<Option<Isolation>> {
        let evidence = match (info.kind.as_str(), &info.evidence) {
            ("TrustedLaunch", None) => return Ok(None),
            ("SevSnp", Some(evidence)) => evidence,
            (kind, _) => {
                let message = format!(
                    "IsolationInfo: {kind:?} is not TrustedLaunch without, or SevSnp with evidence"
                );
                return Err(invalid(message));
            }
        };
        let proof: SnpProof = json("Proof", &bytes("Proof", &evidence.proof)?)?;
        let report = unbase64url(&proof.snp_report)
            .ok_or_else(|| invalid("SnpReport: expected base64url"))?;
        let chain = bytes("VcekCertChain", &proof.vcek_cert_chain)?;
        let chain: Result<Vec<Vec<u8>>, _> = CertificateDer::pem_slice_iter(&chain)
            .map(|certificate| certificate.map(|der| der.to_vec()))
            .collect();
        let chain = chain.map_err(|error| invalid(format!("VcekCertChain: {error}")))?;
        let root = CertificateDer::from(self.config.chip_root.as_slice());
        let anchor = webpki::anchor_from_trusted_cert(&root).map_err(AzureError::internal)?;
        let snp = SnpReport::parse(&report).map_err(refused)?;
        snp.verify(&chain, &[anchor], at).map_err(refused)?;
        if snp.vmpl() != 0 {
            return Err(refused("SnpReport: not made by the paravisor (VMPL 0)"));
        }
        let runtime = bytes("RunTimeData", &evidence.run_time_data)?;
        if snp.report_data() != report_data(&runtime) {
            return Err(refused("RunTimeData: not what the report binds"));
        }
        let claims = RuntimeClaims::parse(&runtime).map_err(refused)?;
        if claims.attestation_key().map_err(refused)? != *ak {
            return Err(refused("RunTimeData: HCLAkPub is not AikPub"));
        }
        Ok(Some(Isolation {
            runtime: json("RunTimeData", &runtime)?,
            report,
        }))
    }
}

/// The quote is by the attestation key, over the SHA-256 PCRs given with it; their values.
fn check_quote(tpm: &TpmInfo, ak: &RsaKey) -> AzureResult<Vec<(u8, [u8; 32])>> {
    let quote = bytes("PcrQuote", &tpm.pcr_quote)?;
    let attest = Attest::parse(&quote).map_err(|e| invalid(format!("PcrQuote: {e}")))?;
    if !attest.signed_by(ak, &bytes("PcrSignature", &tpm.pcr_signature)?) {
        return Err(refused("PcrSignature: not made with AikPub"));
    }
    let mut pcrs = Vec::new();
    for pcr in &tpm.pcrs {
        let value = bytes("PCRs", &pcr.digest)?;
        let value = value.try_into();
        pcrs.push((
            pcr.index,
            value.map_err(|_| invalid("PCRs: expected SHA-256 values"))?,
        ));
    }
    pcrs.sort_unstable();
    let indices: Vec<u8> = pcrs.iter().map(|(index, _)| *index).collect();
    let mut set = tpm.pcr_set.clone();
    set.sort_unstable();
    if set != indices || !REQUIRED.into_iter().all(|index| set.contains(&index)) {
        return Err(invalid(
            "PcrSet: expected the PCRs given, 0 to 7 among them",
        ));
    }
    let Attested::Quote {
        selection,
        pcr_digest: quoted,
    } = attest.attested
    else {
        return Err(invalid("PcrQuote: no quote"));
    };
    let selected = match selection.as_slice() {
        [one] if one.hash == SHA256 => &one.indices,
        _ => return Err(refused("PcrQuote: expected SHA-256 PCRs only")),
    };
    let values: Vec<[u8; 32]> = pcrs.iter().map(|(_, value)| *value).collect();
    if *selected != indices || quoted != pcr_digest(&values) {
        return Err(refused("PcrQuote: not over the PCRs given"));
    }
    Ok(pcrs)
}

/// The ephemeral key was certified by the attestation key, and is one for decryption that cannot leave the TPM.
fn check_ephemeral(tpm: &TpmInfo, ak: &RsaKey) -> AzureResult<RsaKey> {
    let public = bytes("EncKeyPub", &tpm.enc_key_pub)?;
    let key = RsaPublic::parse(&public).map_err(|e| invalid(format!("EncKeyPub: {e}")))?;
    let needed = attributes::DECRYPT
        | attributes::FIXED_TPM
        | attributes::FIXED_PARENT
        | attributes::SENSITIVE_DATA_ORIGIN;
    if !key.has(needed) || key.has(attributes::RESTRICTED) || key.has(attributes::SIGN) {
        return Err(refused("EncKeyPub: not a decryption key of this TPM"));
    }
    let info = bytes("EncKeyCertifyInfo", &tpm.enc_key_certify_info)?;
    let attest = Attest::parse(&info).map_err(|e| invalid(format!("EncKeyCertifyInfo: {e}")))?;
    let signature = bytes(
        "EncKeyCertifyInfoSignature",
        &tpm.enc_key_certify_info_signature,
    )?;
    if !attest.signed_by(ak, &signature) {
        return Err(refused("EncKeyCertifyInfoSignature: not made with AikPub"));
    }
    let name = key.name();
    if attest.attested != (Attested::Certify { name: &name }) {
        return Err(refused("EncKeyCertifyInfo: not about EncKeyPub"));
    }
    Ok(key.key)
}
