//! ARNs of KMS keys, which name partition, region and thereby the endpoint.

use std::fmt;

/// Longest ARN taken, in bytes (API_Decrypt, "KeyId").
const MAX_LENGTH: usize = 2048;

/// `arn:PARTITION:kms:REGION:ACCOUNT:key/ID`.
///
/// Aliases and bare key ids are not taken: KMS answers with the key's ARN, and that is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyArn {
    text: String,
    region: String,
    suffix: &'static str,
}

/// No ARN of a KMS key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is no KMS key ARN: {what} (expected arn:aws:kms:REGION:ACCOUNT:key/ID, not an alias or a key id)"
)]
pub struct ArnError {
    what: &'static str,
    found: String,
}

/// Partitions and the suffixes of their endpoints (botocore, partitions.json).
const PARTITIONS: [(&str, &str); 8] = [
    ("aws", "amazonaws.com"),
    ("aws-cn", "amazonaws.com.cn"),
    ("aws-eusc", "amazonaws.eu"),
    ("aws-iso", "c2s.ic.gov"),
    ("aws-iso-b", "sc2s.sgov.gov"),
    ("aws-iso-e", "cloud.adc-e.uk"),
    ("aws-iso-f", "csp.hci.ic.gov"),
    ("aws-us-gov", "amazonaws.com"),
];

impl KeyArn {
    /// Reads an ARN.
    ///
    /// # Errors
    /// When it is not that of a KMS key. The region must be a plain word, since it becomes part of a host name.
    pub fn parse(text: &str) -> Result<Self, ArnError> {
        let fail = |what| ArnError {
            what,
            found: text.chars().take(200).collect(),
        };
        if text.len() > MAX_LENGTH {
            return Err(fail("longer than 2048 bytes"));
        }
        let mut parts = text.splitn(6, ':');
        let mut part = || parts.next().unwrap_or_default();
        if part() != "arn" {
            return Err(fail("it does not begin with arn:"));
        }
        let partition = part();
        let (_, suffix) = PARTITIONS
            .into_iter()
            .find(|(name, _)| *name == partition)
            .ok_or_else(|| fail("unknown partition"))?;
        if part() != "kms" {
            return Err(fail("the service is not kms"));
        }
        let region = part();
        let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if !(1..=32).contains(&region.len()) || !region.bytes().all(word) {
            return Err(fail("no region"));
        }
        let account = part();
        if account.len() != 12 || !account.bytes().all(|c| c.is_ascii_digit()) {
            return Err(fail("the account is not 12 digits"));
        }
        let id = part()
            .strip_prefix("key/")
            .ok_or_else(|| fail("not a key"))?;
        let name = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        if id.is_empty() || !id.bytes().all(name) {
            return Err(fail("no key id"));
        }
        Ok(Self {
            text: text.to_owned(),
            region: region.to_owned(),
            suffix,
        })
    }

    /// The whole ARN.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Region of the key.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Host of the region's public endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("kms.{}.{}", self.region, self.suffix)
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_arn_names_its_region_and_endpoint() {
        let arn = "arn:aws:kms:eu-west-1:111122223333:key/mrk-1234abcd";
        let arn = KeyArn::parse(arn).unwrap();
        assert_eq!(arn.region(), "eu-west-1");
        assert_eq!(arn.endpoint(), "kms.eu-west-1.amazonaws.com");
        let arn = "arn:aws-cn:kms:cn-north-1:111122223333:key/1234abcd-12ab";
        let arn = KeyArn::parse(arn).unwrap();
        assert_eq!(arn.endpoint(), "kms.cn-north-1.amazonaws.com.cn");
    }

    #[test]
    fn what_is_no_key_arn_is_refused_with_the_reason() {
        for (text, what) in [
            ("1234abcd-12ab", "it does not begin with arn:"),
            ("arn:evil:kms:r:111122223333:key/1", "unknown partition"),
            ("arn:aws:s3:::bucket", "the service is not kms"),
            ("arn:aws:kms:a.b/c:111122223333:key/1", "no region"),
            ("arn:aws:kms::111122223333:key/1", "no region"),
            (
                "arn:aws:kms:eu-west-1:1:key/1",
                "the account is not 12 digits",
            ),
            ("arn:aws:kms:eu-west-1:111122223333:alias/a", "not a key"),
            ("arn:aws:kms:eu-west-1:111122223333:key/", "no key id"),
            ("arn:aws:kms:eu-west-1:111122223333:key/a:b", "no key id"),
        ] {
            assert_eq!(KeyArn::parse(text).unwrap_err().what, what, "{text}");
        }
        let long = format!(
            "arn:aws:kms:eu-west-1:111122223333:key/{}",
            "1".repeat(2048)
        );
        assert_eq!(
            KeyArn::parse(&long).unwrap_err().what,
            "longer than 2048 bytes"
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_or_changes_the_host(text in "(arn:aws:kms:)?.{0,80}") {
            if let Ok(arn) = KeyArn::parse(&text) {
                let host = arn.endpoint();
                prop_assert!(host.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'.'));
            }
        }
    }
}
