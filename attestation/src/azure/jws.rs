//! A JSON Web Signature in compact form (RFC 7515 section 7.1): RS256 only, read strictly, not yet verified.

use crate::base64;
use crate::json::Json;

/// A text is no compact JWS by RS256.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// It is too long (bytes).
    #[error("expected at most {max} bytes, found {found}")]
    Size {
        /// Longest taken.
        max: usize,
        /// The length found.
        found: usize,
    },
    /// Not three parts.
    #[error("expected three parts divided by dots, found {0}")]
    Parts(usize),
    /// A part is not in base64url without padding.
    #[error("{0}: expected base64url without padding")]
    Base64(&'static str),
    /// A part is not a JSON object, or a member stands twice.
    #[error("{part}: expected a JSON object: {reason}")]
    Json {
        /// Which part.
        part: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Signed by another algorithm, or by none.
    #[error("header: alg: expected \"RS256\", found {0}")]
    Algorithm(String),
    /// The header asks for extensions.
    #[error("header: crit: no extension is known here")]
    Critical,
    /// A member of the header has another type.
    #[error("header: {0}: expected {1}")]
    Member(&'static str, &'static str),
}

/// A JWS, parsed and not verified.
#[derive(Debug)]
pub(super) struct Jws<'t> {
    /// What the signature is made over.
    pub(super) signed: &'t str,
    pub(super) signature: Vec<u8>,
    pub(super) payload: Json,
    /// The payload as it stands.
    pub(super) text: String,
    pub(super) key_id: Option<String>,
    /// Certificates (DER), the signer's first.
    pub(super) certificates: Option<Vec<Vec<u8>>>,
}

impl<'t> Jws<'t> {
    /// Reads a JWS of at most `max` bytes.
    pub(super) fn parse(compact: &'t str, max: usize) -> Result<Self, JwsError> {
        if compact.len() > max {
            return Err(JwsError::Size {
                max,
                found: compact.len(),
            });
        }
        let mut parts = compact.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwsError::Parts(compact.split('.').count()));
        };
        // Up to the second dot, which is there.
        let signed = compact.rsplit_once('.').map_or("", |(signed, _)| signed);
        let (header, _) = object("header", header)?;
        let (payload, text) = object("payload", payload)?;
        let signature = base64::url(signature).ok_or(JwsError::Base64("signature"))?;
        match header.get("alg") {
            Some(Json::String(alg)) if alg == "RS256" => {}
            Some(Json::String(other)) => return Err(JwsError::Algorithm(format!("{other:?}"))),
            Some(other) => return Err(JwsError::Algorithm(other.kind().to_owned())),
            None => return Err(JwsError::Algorithm("nothing".to_owned())),
        }
        if header.get("crit").is_some() {
            return Err(JwsError::Critical);
        }
        if let Some(kind) = header.get("typ")
            && !kind.string().is_some_and(|t| t.eq_ignore_ascii_case("JWT"))
        {
            return Err(JwsError::Member("typ", "\"JWT\""));
        }
        let key_id = match header.get("kid") {
            None => None,
            Some(Json::String(id)) => Some(id.clone()),
            Some(_) => return Err(JwsError::Member("kid", "a string")),
        };
        let certificates = header.get("x5c").map(certificates).transpose()?;
        Ok(Self {
            signed,
            signature,
            payload,
            text,
            key_id,
            certificates,
        })
    }
}

fn object(part: &'static str, text: &str) -> Result<(Json, String), JwsError> {
    let bytes = base64::url(text).ok_or(JwsError::Base64(part))?;
    let json = |reason: String| JwsError::Json { part, reason };
    let text = String::from_utf8(bytes).map_err(|_| json("no UTF-8".to_owned()))?;
    match serde_json::from_str(&text).map_err(|error| json(error.to_string()))? {
        object @ Json::Object(_) => Ok((object, text)),
        other => Err(json(format!("found {}", other.kind()))),
    }
}

/// Standard base64 of DER each (RFC 7515 section 4.1.6).
pub(super) fn certificates(chain: &Json) -> Result<Vec<Vec<u8>>, JwsError> {
    let wrong = JwsError::Member("x5c", "certificates in standard base64");
    chain
        .items()
        .filter(|items| !items.is_empty())
        .and_then(|items| {
            items
                .iter()
                .map(|item| base64::standard(item.string()?))
                .collect()
        })
        .ok_or(wrong)
}
