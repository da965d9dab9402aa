//! The chain from the pinned root to the key that signs a document: AWS's own rules, then the path by webpki.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1, UnparsedPublicKey};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::anchor::Anchor;
use super::certificate::Certificate;
use super::document::Document;
use super::error::{Position, VerifyError};
use crate::hex;
use crate::time::Timestamp;

/// The certificates of a document, root first, leaf last, each parsed once.
pub(super) struct Chain<'d, 'b> {
    document: &'d Document<'b>,
    authorities: Vec<Certificate<'b>>,
    leaf: Certificate<'b>,
}

impl<'d, 'b> Chain<'d, 'b> {
    pub(super) fn parse(document: &'d Document<'b>) -> Result<Self, VerifyError> {
        let parse = |position, der| {
            Certificate::parse(der).map_err(|error| VerifyError::Certificate { position, error })
        };
        let authorities = document
            .cabundle()
            .iter()
            .enumerate()
            .map(|(index, der)| parse(Position::Bundle(index), der))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            document,
            authorities,
            leaf: parse(Position::Leaf, document.certificate())?,
        })
    }

    pub(super) fn leaf(&self) -> &Certificate<'b> {
        &self.leaf
    }

    fn all(&self) -> impl Iterator<Item = (Position, &Certificate<'b>)> {
        self.bundle()
            .map(|(index, certificate)| (Position::Bundle(index), certificate))
            .chain([(Position::Leaf, &self.leaf)])
    }

    fn bundle(&self) -> impl Iterator<Item = (usize, &Certificate<'b>)> {
        self.authorities.iter().enumerate()
    }

    /// Every certificate is in its window at `at`, the root too.
    pub(super) fn check_validity(&self, at: Timestamp) -> Result<(), VerifyError> {
        for (position, certificate) in self.all() {
            if at.seconds() < certificate.not_before.seconds() {
                return Err(VerifyError::NotYetValid {
                    position,
                    from: certificate.not_before,
                    at,
                });
            }
            if at.seconds() > certificate.not_after.seconds() {
                return Err(VerifyError::Expired {
                    position,
                    until: certificate.not_after,
                    at,
                });
            }
        }
        Ok(())
    }

    /// All but the leaf are certificate authorities that may sign certificates and keep to their path length; the
    /// leaf is none and may sign.
    pub(super) fn check_constraints(&self) -> Result<(), VerifyError> {
        for (index, certificate) in self.bundle() {
            let position = Position::Bundle(index);
            let constraints = certificate.constraints.unwrap_or_default();
            if !constraints.authority {
                return Err(VerifyError::NotAuthority { position });
            }
            let below = self.authorities.len() - index - 1;
            if let Some(allowed) = constraints.path_length
                && (below as u64) > allowed
            {
                return Err(VerifyError::PathLength {
                    position,
                    allowed,
                    found: below,
                });
            }
            if !certificate.usage.is_some_and(|usage| usage.key_cert_sign) {
                return Err(VerifyError::NoKeyCertSign { position });
            }
        }
        let constraints = self.leaf.constraints.unwrap_or_default();
        if constraints.authority {
            return Err(VerifyError::LeafIsAuthority);
        }
        if constraints.path_length.is_some() {
            return Err(VerifyError::LeafPathLength);
        }
        if !self.leaf.usage.is_some_and(|usage| usage.digital_signature) {
            return Err(VerifyError::NoDigitalSignature);
        }
        Ok(())
    }

    /// Each certificate names the one before it as its issuer, byte for byte as encoded.
    pub(super) fn check_names(&self) -> Result<(), VerifyError> {
        let before = self.all().map(|(_, certificate)| certificate);
        for ((position, certificate), issuer) in self.all().skip(1).zip(before) {
            if certificate.issuer != issuer.subject {
                return Err(VerifyError::Issuer { position });
            }
        }
        Ok(())
    }

    /// Every signature of the path, by webpki, which builds it anew and must find just the certificates given. The
    /// root's own signature is not looked at: its bytes are pinned.
    pub(super) fn check_path(&self, at: Timestamp, anchor: &Anchor) -> Result<(), VerifyError> {
        let path = |error: webpki::Error| VerifyError::Path {
            reason: error.to_string(),
        };
        let ders: Vec<CertificateDer<'_>> = self
            .document
            .cabundle()
            .iter()
            .map(|der| CertificateDer::from(*der))
            .collect();
        let Some((root, rest)) = ders.split_first() else {
            return Err(unpinned(anchor, &[]));
        };
        // Once more, where the anchor is made: whatever was checked before, no other root is ever trusted.
        if !anchor.is(root) {
            return Err(unpinned(anchor, root));
        }
        let anchors = [anchor_from_trusted_cert(root).map_err(path)?];
        let leaf = CertificateDer::from(self.document.certificate());
        let leaf = EndEntityCert::try_from(&leaf).map_err(path)?;
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at.seconds()));
        let verified = leaf
            .verify_for_usage(
                &[webpki::aws_lc_rs::ECDSA_P384_SHA384],
                &anchors,
                rest,
                time,
                // The leaf has no extended key usage; webpki asks for this one only where there is one.
                KeyUsage::client_auth(),
                None,
                None,
            )
            .map_err(|error| self.broken_link().unwrap_or_else(|| path(error)))?;
        let found = verified.intermediate_certificates().map(|c| c.der());
        if !found.eq(rest.iter().rev().cloned()) {
            return Err(VerifyError::Path {
                reason: "it does not use every certificate given, in order".to_owned(),
            });
        }
        Ok(())
    }

    /// The first certificate whose signature does not fit, to name it: only asked once the path is refused.
    fn broken_link(&self) -> Option<VerifyError> {
        let before = self.all().map(|(_, certificate)| certificate);
        self.all()
            .skip(1)
            .zip(before)
            .find(|((_, certificate), issuer)| {
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, issuer.key)
                    .verify(certificate.signed, certificate.signature)
                    .is_err()
            })
            .map(|((position, _), _)| VerifyError::CertificateSignature { position })
    }
}

/// The first certificate of the bundle is the pinned root.
pub(super) fn check_anchor(document: &Document<'_>, anchor: &Anchor) -> Result<(), VerifyError> {
    match document.cabundle().first() {
        Some(root) if anchor.is(root) => Ok(()),
        Some(root) => Err(unpinned(anchor, root)),
        None => Err(unpinned(anchor, &[])),
    }
}

fn unpinned(anchor: &Anchor, root: &[u8]) -> VerifyError {
    VerifyError::Anchor {
        expected: hex::encode(anchor.sha256()),
        found: Anchor::fingerprint(root),
    }
}
