//! Which hosts may be reached, and where they really are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;

use super::settings::EgressSettings;

/// Longest host name (RFC 1035 §2.3.4).
const MAX_HOST: usize = 253;

/// Partitions of AWS and the suffixes of their endpoints (botocore, partitions.json).
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

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Target {
    /// Host name in lower case, or an address (IPv6 without brackets).
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Target {
    /// Reads `HOST:PORT`, `[IPv6]:PORT`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let address: std::net::Ipv6Addr = rest.strip_suffix(']')?.parse().ok()?;
                address.to_string()
            }
            None => {
                let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
                let well_formed = (1..=MAX_HOST).contains(&host.len()) && host.bytes().all(allowed);
                well_formed.then(|| host.to_ascii_lowercase())?
            }
        };
        Some(Self { host, port })
    }

    /// The endpoint of the key's region, by the key's ARN (`arn:PARTITION:kms:REGION:ACCOUNT:key/ID`).
    #[must_use]
    pub fn of_kms_key(arn: &str) -> Option<Self> {
        let mut parts = arn.split(':');
        let (prefix, partition) = (parts.next()?, parts.next()?);
        let (service, region) = (parts.next()?, parts.next()?);
        let word = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let well_formed = prefix == "arn"
            && service == "kms"
            && (1..=32).contains(&region.len())
            && region.bytes().all(word);
        let (_, suffix) = PARTITIONS.iter().find(|(name, _)| *name == partition)?;
        well_formed.then(|| Self {
            host: format!("kms.{region}.{suffix}"),
            port: 443,
        })
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("expected \"HOST:PORT\", found {text:?}"))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// The allowed hosts.
#[derive(Debug, Default)]
pub struct Hosts {
    allowed: BTreeSet<Target>,
    addresses: BTreeMap<Target, Target>,
}

impl Hosts {
    /// Those of the configuration and these targets of key services.
    pub fn new(settings: &EgressSettings, targets: impl IntoIterator<Item = Target>) -> Self {
        let mut allowed: BTreeSet<Target> = settings.hosts.iter().cloned().collect();
        allowed.extend(targets);
        // Whoever says where a host is wants it to be reached.
        allowed.extend(settings.addresses.keys().cloned());
        Self {
            allowed,
            addresses: settings.addresses.clone(),
        }
    }

    /// Where to connect for `target`; none if it is not allowed.
    #[must_use]
    pub fn destination(&self, target: &Target) -> Option<Target> {
        let allowed = self.allowed.get(target)?;
        Some(self.addresses.get(allowed).unwrap_or(allowed).clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_target_is_a_host_and_a_port_and_nothing_else() {
        let target = Target::parse("KMS.eu-west-1.amazonaws.com:443").unwrap();
        assert_eq!(target.to_string(), "kms.eu-west-1.amazonaws.com:443");
        assert_eq!(Target::parse("[::1]:443").unwrap().to_string(), "[::1]:443");
        for text in [
            "",
            ":",
            "host",
            "host:",
            ":443",
            "host:0",
            "host:65536",
            "a b:443",
            "a/b:443",
            "user@host:443",
            "::1:443",
            "[::1]",
            "[host]:443",
            "h\u{e9}:443",
            "host:443 ",
        ] {
            assert_eq!(Target::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_endpoint_of_a_key_is_that_of_its_region_and_partition() {
        for (arn, endpoint) in [
            (
                "arn:aws:kms:eu-west-1:111122223333:key/1",
                Some("kms.eu-west-1.amazonaws.com:443"),
            ),
            (
                "arn:aws-cn:kms:cn-north-1:1:key/1",
                Some("kms.cn-north-1.amazonaws.com.cn:443"),
            ),
            ("arn:aws:kms:evil.example/:1:key/1", None),
            ("arn:aws:kms:evil.example#:1:key/1", None),
            ("arn:aws:s3:eu-west-1:1:key/1", None),
            ("arn:other:kms:eu-west-1:1:key/1", None),
            ("alias/key", None),
        ] {
            let found = Target::of_kms_key(arn).map(|target| target.to_string());
            assert_eq!(found.as_deref(), endpoint, "{arn}");
        }
    }

    #[test]
    fn only_hosts_that_are_named_can_be_reached_and_where_they_are_said_to_be() {
        let target = |text| Target::parse(text).unwrap();
        let settings = EgressSettings {
            hosts: vec![target("vault.example:8443")],
            addresses: [(
                target("kms.eu-west-1.amazonaws.com:443"),
                target("127.0.0.1:4566"),
            )]
            .into(),
            ..EgressSettings::default()
        };
        let hosts = Hosts::new(
            &settings,
            Target::of_kms_key("arn:aws:kms:us-east-1:1:key/1"),
        );
        for (asked, reached) in [
            ("vault.example:8443", Some("vault.example:8443")),
            ("VAULT.example:8443", Some("vault.example:8443")),
            ("vault.example:443", None),
            ("kms.eu-west-1.amazonaws.com:443", Some("127.0.0.1:4566")),
            (
                "kms.us-east-1.amazonaws.com:443",
                Some("kms.us-east-1.amazonaws.com:443"),
            ),
            ("127.0.0.1:4566", None),
            ("kms.eu-central-1.amazonaws.com:443", None),
        ] {
            let found = hosts
                .destination(&target(asked))
                .map(|target| target.to_string());
            assert_eq!(found.as_deref(), reached, "{asked}");
        }
    }
}
