//! A client assertion signed with a certificate's key (RFC 7523; Entra, "Certificate credentials"): the SDK's own
//! credential for certificates needs OpenSSL.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PSS_SHA256;
use azure_core::error::ErrorKind;
use azure_core::http::ClientMethodOptions;
use azure_identity::ClientAssertion;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

/// How long an assertion is good for, in seconds.
const LIFETIME: u64 = 600;

/// A certificate with its key, as one application of one tenant.
pub(super) struct Certificate {
    key: KeyPair,
    thumbprint: String,
    audience: String,
    client: String,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads certificate and key from PEM.
    pub(super) fn read(
        certificate: &str,
        private_key: &str,
        tenant: &str,
        client: &str,
    ) -> Result<Self, String> {
        let der =
            pem(certificate, "CERTIFICATE").ok_or("certificate_file: no certificate in PEM")?;
        let key = pem(private_key, "PRIVATE KEY")
            .ok_or("private_key_file: no PKCS#8 private key in PEM (openssl pkcs8 -topk8 -nodes makes one)")?;
        let key = KeyPair::from_pkcs8(&key)
            .map_err(|error| format!("private_key_file: no RSA key: {error}"))?;
        let authority = std::env::var("AZURE_AUTHORITY_HOST")
            .unwrap_or_else(|_| "https://login.microsoftonline.com".to_owned());
        Ok(Self {
            key,
            thumbprint: BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, &der)),
            audience: format!(
                "{}/{tenant}/oauth2/v2.0/token",
                authority.trim_end_matches('/')
            ),
            client: client.to_owned(),
        })
    }

    fn sign(&self, now: u64) -> Option<String> {
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).ok()?;
        let header = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": self.thumbprint });
        let claims = json!({
            "aud": self.audience,
            "iss": self.client,
            "sub": self.client,
            "jti": nodeseal_attestation::hex::encode(&id),
            "nbf": now,
            "iat": now,
            "exp": now.saturating_add(LIFETIME),
        });
        let part = |json: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PSS_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .ok()?;
        Some(format!(
            "{signed}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(signature)
        ))
    }
}

#[async_trait::async_trait]
impl ClientAssertion for Certificate {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        self.sign(now).ok_or_else(|| {
            let text = "the client assertion cannot be signed";
            azure_core::Error::with_message(ErrorKind::Credential, text)
        })
    }
}

/// The first block of this label (RFC 7468).
fn pem(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.split_whitespace().collect();
    BASE64_STANDARD.decode(body).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair as _, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};

    fn block(label: &str, der: &[u8]) -> String {
        let body = BASE64_STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    #[test]
    fn an_assertion_names_the_application_and_is_signed_by_its_certificates_key() {
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<Pkcs8V1Der>::as_der(&key).unwrap();
        let private = block("PRIVATE KEY", der.as_ref());
        let certificate = block("CERTIFICATE", b"der");
        let read = Certificate::read(&certificate, &private, "tenant", "client").unwrap();
        let assertion = read.sign(1000).unwrap();
        let (signed, signature) = assertion.rsplit_once('.').unwrap();
        let public = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key.public_key());
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        public.verify(signed.as_bytes(), &signature).unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let json = |part: &str| -> serde_json::Value {
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        let thumbprint = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, b"der"));
        assert_eq!(json(header)["x5t#S256"], thumbprint);
        let claims = json(claims);
        assert_eq!(claims["iss"], "client");
        assert_eq!(claims["exp"], 1600);
        let audience = claims["aud"].as_str().unwrap();
        assert!(
            audience.ends_with("/tenant/oauth2/v2.0/token"),
            "{audience}"
        );
        let refused = |certificate, key| Certificate::read(certificate, key, "t", "c").unwrap_err();
        assert_eq!(
            refused("", &private),
            "certificate_file: no certificate in PEM"
        );
        assert_eq!(
            refused(&certificate, &certificate),
            "private_key_file: no PKCS#8 private key in PEM (openssl pkcs8 -topk8 -nodes makes one)"
        );
    }
}
