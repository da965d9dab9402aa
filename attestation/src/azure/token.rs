//! A token of the attestation service for a virtual machine (AzureGuest): what it must say before anybody relies on it.
//!
//! Claims are those of confidential-computing-cvm-guest-attestation (README, sample tokens) and of Azure Attestation's
//! documents, "Attestation token examples" and "Claim sets".

use std::fmt;

use super::jws::Jws;
use super::{Claims, Jwks, RsaKey, TokenError, debug};
use crate::base64;
use crate::json::Json;
use crate::time::Timestamp;

/// Longest token taken, in bytes; genuine ones have about 8 KiB.
const MAX_TOKEN: usize = 64 * 1024;

const TYPE: &str = "x-ms-attestation-type";
const TEE_TYPE: &str = "x-ms-isolation-tee.x-ms-attestation-type";
const COMPLIANCE: &str = "x-ms-isolation-tee.x-ms-compliance-status";
const TEE_VM_ID: &str = "x-ms-isolation-tee.x-ms-runtime.vm-configuration.vmUniqueId";
const VM_ID: &str = "x-ms-azurevm-vmid";
const NONCE: &str = "x-ms-runtime.client-payload.nonce";
const KEYS: &str = "x-ms-runtime.keys";

/// What kind of machine a token is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A confidential VM on AMD SEV-SNP.
    SevSnpVm,
    /// A confidential VM on Intel TDX.
    TdxVm,
    /// A Trusted Launch VM: its TPM is the host's word, and its memory is open to the host.
    TrustedLaunch,
}

impl TokenKind {
    /// Whether the memory is closed to the host.
    #[must_use]
    pub fn is_confidential(self) -> bool {
        self != Self::TrustedLaunch
    }
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SevSnpVm => "a confidential VM (SEV-SNP)",
            Self::TdxVm => "a confidential VM (TDX)",
            Self::TrustedLaunch => "a Trusted Launch VM",
        })
    }
}

/// A token, parsed and not verified.
#[derive(Debug)]
pub struct Token<'t>(Jws<'t>);

/// What a token must say.
#[derive(Clone, Copy, Debug)]
pub struct TokenExpectations<'e> {
    /// The service's address, as the token spells it but for a slash at its end.
    pub issuer: &'e str,
    /// The time of verification.
    pub at: Timestamp,
    /// How far clocks may differ, in seconds.
    pub leeway: u64,
    /// The bytes that were put into the request's client payload as `nonce`.
    pub nonce: &'e [u8],
    /// Modulus of the TPM's ephemeral key, big-endian, without leading zeros.
    pub key_modulus: &'e [u8],
    /// Whether any of these kinds will do; none for any.
    pub kinds: &'e [TokenKind],
    /// Whether Secure Boot must have been on.
    pub secure_boot: bool,
    /// Whether debugging may be on.
    pub allow_debug: bool,
    /// The machine's unique id, where it matters.
    pub vm_id: Option<&'e str>,
}

/// A token that says what it must.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    claims: Claims,
    kind: TokenKind,
    key_id: String,
    key: RsaKey,
    expires: Timestamp,
}

impl VerifiedToken {
    /// Everything it claims.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// What kind of machine it is about.
    #[must_use]
    pub fn kind(&self) -> TokenKind {
        self.kind
    }

    /// Id of the key that Key Vault encrypts to: the first suitable one.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// That key: the TPM's ephemeral one.
    #[must_use]
    pub fn key(&self) -> &RsaKey {
        &self.key
    }

    /// When it ends.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The machine's unique id, where the token has one.
    #[must_use]
    pub fn vm_id(&self) -> Option<&str> {
        vm_id(self.claims.json())
    }
}

impl<'t> Token<'t> {
    /// Reads a token: three parts, RS256, no member twice.
    ///
    /// # Errors
    /// [`TokenError::Jws`].
    pub fn parse(compact: &'t str) -> Result<Self, TokenError> {
        Ok(Self(Jws::parse(compact.trim_end(), MAX_TOKEN)?))
    }

    /// What it claims, of which nothing is verified.
    #[must_use]
    pub fn unverified_claims(&self) -> Claims {
        Claims::new(self.0.payload.clone(), self.0.text.clone())
    }

    /// Id of the key it claims to be signed with.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.0.key_id.as_deref()
    }

    /// Verifies that one of `keys` signed it and that it is valid at `at`, whatever else it says; its issuer is the
    /// service whose keys these are.
    ///
    /// # Errors
    /// [`TokenError`], for the first of the rules that does not hold: signature, issuer, time.
    pub fn authenticate(
        self,
        keys: &Jwks,
        issuer: &str,
        at: Timestamp,
        leeway: u64,
    ) -> Result<(Claims, Timestamp), TokenError> {
        let id = self.0.key_id.as_deref().ok_or(TokenError::NoKeyId)?;
        match keys.signed(id, &self.0) {
            Some(true) => {}
            Some(false) => return Err(TokenError::Signature),
            None => {
                return Err(TokenError::UnknownKey {
                    found: id.to_owned(),
                    known: keys.ids().collect::<Vec<_>>().join(", "),
                });
            }
        }
        let claims = Claims::new(self.0.payload, self.0.text);
        let found = string(&claims, "iss")?;
        if found.trim_end_matches('/') != issuer.trim_end_matches('/') {
            return Err(TokenError::Issuer {
                expected: issuer.to_owned(),
                found: found.to_owned(),
            });
        }
        let expires = check_time(&claims, at, leeway)?;
        Ok((claims, expires))
    }

    /// Verifies the token: its signature by one of `keys`, and everything in `expected`.
    ///
    /// # Errors
    /// [`TokenError`], for the first of the rules that does not hold: signature, issuer, time, nonce, key, kind,
    /// machine, debugging, Secure Boot.
    pub fn verify(
        self,
        keys: &Jwks,
        expected: &TokenExpectations<'_>,
    ) -> Result<VerifiedToken, TokenError> {
        let (claims, expires) =
            self.authenticate(keys, expected.issuer, expected.at, expected.leeway)?;
        let nonce = base64::standard(string(&claims, NONCE)?);
        if nonce.is_none_or(|nonce| nonce != expected.nonce) {
            return Err(TokenError::Nonce);
        }
        let (key_id, key) = encryption_key(&claims)?;
        if key.modulus != expected.key_modulus {
            return Err(TokenError::OtherKey { kid: key_id });
        }
        let kind = kind(&claims)?;
        if let Some(first) = expected.kinds.first()
            && !expected.kinds.contains(&kind)
        {
            return Err(TokenError::Kind {
                expected: *first,
                found: kind,
            });
        }
        if let Some(id) = expected.vm_id {
            let found = vm_id(claims.json()).unwrap_or("none");
            if !found.eq_ignore_ascii_case(id) {
                return Err(TokenError::Machine {
                    expected: id.to_owned(),
                    found: found.to_owned(),
                });
            }
        }
        if !expected.allow_debug {
            check_debug(&claims, kind)?;
        }
        if expected.secure_boot {
            match claims.json().get(debug::SECURE_BOOT) {
                Some(Json::Bool(true)) => {}
                Some(Json::Bool(false)) => return Err(TokenError::SecureBoot),
                other => return Err(wrong(debug::SECURE_BOOT, "a boolean", other)),
            }
        }
        Ok(VerifiedToken {
            claims,
            kind,
            key_id,
            key,
            expires,
        })
    }
}

fn wrong(claim: &'static str, expected: &'static str, found: Option<&Json>) -> TokenError {
    TokenError::Claim {
        claim,
        expected,
        found: found.map_or("nothing", Json::kind).to_owned(),
    }
}

fn string<'c>(claims: &'c Claims, path: &'static str) -> Result<&'c str, TokenError> {
    let found = claims.json().at(path);
    found
        .and_then(Json::string)
        .ok_or_else(|| wrong(path, "a string", found))
}

fn time(claims: &Claims, name: &'static str) -> Result<Timestamp, TokenError> {
    let found = claims.json().get(name);
    found
        .and_then(Json::unsigned)
        .map(Timestamp::from_seconds)
        .ok_or_else(|| wrong(name, "seconds since 1970", found))
}

/// `nbf`, `iat` and `exp` (RFC 7519 section 4.1), of which all must be there; the end.
fn check_time(claims: &Claims, at: Timestamp, leeway: u64) -> Result<Timestamp, TokenError> {
    let until = time(claims, "exp")?;
    for from in [time(claims, "nbf")?, time(claims, "iat")?] {
        if from.seconds() > at.seconds().saturating_add(leeway) {
            return Err(TokenError::NotYetValid { from, at });
        }
    }
    if until.seconds().saturating_add(leeway) <= at.seconds() {
        return Err(TokenError::Expired { until, at });
    }
    Ok(until)
}

/// The first RSA key for encryption under the top-level `x-ms-runtime.keys`: the rule by which Key Vault chooses
/// (Key Vault release policy grammar, "Environment assertion"); its id, and the key.
///
/// # Errors
/// [`TokenError::Claim`], [`TokenError::NoEncryptionKey`].
pub fn encryption_key(claims: &Claims) -> Result<(String, RsaKey), TokenError> {
    let found = claims.json().at(KEYS);
    let keys = found.and_then(Json::items);
    let keys = keys.ok_or_else(|| wrong(KEYS, "an array of keys", found))?;
    let encrypts = |key: &&Json| {
        let member = |name, text| key.get(name).and_then(Json::string) == Some(text);
        let operations = key.get("key_ops").and_then(Json::items).unwrap_or_default();
        let may = operations.iter().any(|op| op.string() == Some("encrypt"));
        member("kty", "RSA") && (member("key_use", "enc") || may)
    };
    let key = keys.iter().find(encrypts);
    let key = key.ok_or(TokenError::NoEncryptionKey)?;
    let id = key.get("kid").and_then(Json::string);
    let id = id.ok_or_else(|| wrong("x-ms-runtime.keys[].kid", "a string", key.get("kid")))?;
    let key = RsaKey::of(key).ok_or_else(|| {
        wrong(
            "x-ms-runtime.keys[].n",
            "base64url of n and e",
            key.get("n"),
        )
    })?;
    Ok((id.to_owned(), key))
}

fn kind(claims: &Claims) -> Result<TokenKind, TokenError> {
    let other = |claim, expected, found: &str| {
        Err(TokenError::Claim {
            claim,
            expected,
            found: format!("{found:?}"),
        })
    };
    match string(claims, TYPE)? {
        "azurevm" => {}
        found => return other(TYPE, "\"azurevm\"", found),
    }
    if claims.json().get("x-ms-isolation-tee").is_none() {
        return Ok(TokenKind::TrustedLaunch);
    }
    let kind = match string(claims, TEE_TYPE)? {
        "sevsnpvm" => TokenKind::SevSnpVm,
        "tdxvm" => TokenKind::TdxVm,
        found => return other(TEE_TYPE, "\"sevsnpvm\" or \"tdxvm\"", found),
    };
    match string(claims, COMPLIANCE)? {
        "azure-compliant-cvm" => Ok(kind),
        found => Err(TokenError::Compliance {
            found: found.to_owned(),
        }),
    }
}

fn vm_id(claims: &Json) -> Option<&str> {
    let at = |path| claims.at(path).and_then(Json::string);
    at(TEE_VM_ID).or_else(|| at(VM_ID))
}

/// Every debug claim must be there and say no. TDX tokens have no documented one: their compliance stands for it.
fn check_debug(claims: &Claims, kind: TokenKind) -> Result<(), TokenError> {
    let snp = (kind == TokenKind::SevSnpVm).then_some((debug::SNP, false));
    for (claim, expected) in snp.into_iter().chain(debug::BOOT) {
        let found = claims.json().at(claim);
        if found.and_then(Json::boolean) == Some(expected) {
            continue;
        }
        let found = claims.value(claim);
        return Err(TokenError::Debug {
            claim,
            expected,
            found: found.map_or_else(|| "nothing".to_owned(), |value| value.to_string()),
        });
    }
    Ok(())
}
