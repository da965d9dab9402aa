//! What the token claims (the stock policy of AzureGuest; confidential-computing-cvm-guest-attestation, sample tokens).

use nodeseal_attestation::azure::snp::SnpReport;
use serde_json::{Map, Value, json};

use super::super::error::AzureResult;
use super::Attestation;
use super::evidence::{Checked, Isolation};
use super::request::{Guest, text, version};
use crate::text::{base64url, hex, uuid};

impl Attestation {
    pub(super) fn claims(&self, guest: &Guest, checked: &Checked) -> AzureResult<Value> {
        let now = self.clock().now().seconds();
        let mut claims = json!({
            "iss": self.config.issuer,
            "iat": now,
            "nbf": now,
            "exp": now.saturating_add(self.config.lifetime),
            "jti": uuid().map_err(super::super::error::AzureError::internal)?,
            "secureboot": checked.secure_boot,
            "x-ms-attestation-type": "azurevm",
            "x-ms-azurevm-attestation-protocol-ver": guest.attestation_protocol_version,
            "x-ms-azurevm-attested-pcrs": checked.pcrs,
            "x-ms-azurevm-bootdebug-enabled": false,
            "x-ms-azurevm-dbvalidated": true,
            "x-ms-azurevm-dbxvalidated": true,
            "x-ms-azurevm-debuggersdisabled": true,
            "x-ms-azurevm-default-securebootkeysvalidated": true,
            "x-ms-azurevm-elam-enabled": false,
            "x-ms-azurevm-flightsigning-enabled": false,
            "x-ms-azurevm-hvci-policy": 0,
            "x-ms-azurevm-hypervisordebug-enabled": false,
            "x-ms-azurevm-is-windows": false,
            "x-ms-azurevm-kerneldebug-enabled": false,
            "x-ms-azurevm-osbuild": text("OSBuild", &guest.os_build)?,
            "x-ms-azurevm-osdistro": text("OSDistro", &guest.os_distro)?,
            "x-ms-azurevm-ostype": text("OSType", &guest.os_type)?,
            "x-ms-azurevm-osversion-major": version(&guest.os_version_major),
            "x-ms-azurevm-osversion-minor": version(&guest.os_version_minor),
            "x-ms-azurevm-signingdisabled": true,
            "x-ms-azurevm-testsigning-enabled": false,
            "x-ms-azurevm-vmid": checked.vm_id,
            "x-ms-runtime": {
                "client-payload": guest.client_payload,
                "keys": [{
                    "kid": "TpmEphemeralEncryptionKey",
                    "kty": "RSA",
                    "key_ops": ["encrypt"],
                    "n": base64url(&checked.ephemeral.modulus),
                    "e": base64url(&checked.ephemeral.exponent),
                }],
            },
            "x-ms-ver": "1.0",
        });
        if let Some(isolation) = &checked.isolation {
            claims["x-ms-isolation-tee"] = isolation_claims(isolation);
        }
        Ok(claims)
    }
}

fn isolation_claims(isolation: &Isolation) -> Value {
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    put("x-ms-attestation-type", "sevsnpvm".into());
    put("x-ms-compliance-status", "azure-compliant-cvm".into());
    put("x-ms-runtime", isolation.runtime.clone());
    // It was parsed to get here.
    if let Ok(report) = SnpReport::parse(&isolation.report) {
        for (name, value) in [
            ("authorkeydigest", hex(report.author_key_digest()).into()),
            ("bootloader-svn", 3.into()),
            ("familyId", "01000000000000000000000000000000".into()),
            ("guestsvn", report.guest_svn().into()),
            ("hostdata", hex(report.host_data()).into()),
            ("idkeydigest", hex(report.id_key_digest()).into()),
            ("imageId", "02000000000000000000000000000000".into()),
            ("is-debuggable", report.is_debuggable().into()),
            ("launchmeasurement", hex(report.measurement()).into()),
            ("microcode-svn", 115.into()),
            ("migration-allowed", false.into()),
            ("reportdata", hex(report.report_data()).into()),
            ("reportid", hex(report.report_id()).into()),
            ("smt-allowed", true.into()),
            ("snpfw-svn", 8.into()),
            ("tee-svn", 0.into()),
            ("vmpl", report.vmpl().into()),
        ] {
            let value: Value = value;
            put(&format!("x-ms-sevsnpvm-{name}"), value);
        }
    }
    Value::Object(claims)
}
