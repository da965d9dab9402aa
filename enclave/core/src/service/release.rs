//! What may happen to opened keys, by this trusted side's own configuration.

use nodeseal_wire::header::Release;
use nodeseal_wire::message::{Class, Refusal};

use crate::refusal::refuse;

/// The release modes a trusted side serves; blobs of others are neither opened nor made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Releases {
    deliver: bool,
    sign: bool,
}

impl Releases {
    /// Every mode.
    pub const ALL: Self = Self {
        deliver: true,
        sign: true,
    };

    /// These modes and no others.
    #[must_use]
    pub fn only(modes: &[Release]) -> Self {
        Self {
            deliver: modes.contains(&Release::Deliver),
            sign: modes.contains(&Release::Sign),
        }
    }

    /// Refuses a mode the configuration does not name, and what this version cannot do.
    pub(super) fn check(self, release: Release) -> Result<(), Refusal> {
        let served = match release {
            Release::Deliver => self.deliver,
            Release::Sign => self.sign,
        };
        if !served {
            let message = format!(
                "release = \"{}\" is not among the release modes this trusted side is configured for",
                release.name()
            );
            return Err(refuse(Class::Denied, "release-not-allowed", message));
        }
        match release {
            Release::Deliver => Ok(()),
            Release::Sign => Err(refuse(
                Class::Misuse,
                "release-sign-unsupported",
                "release = \"sign\" is not supported by this version: only \"deliver\" is",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_configuration_does_not_name_is_denied() {
        let code = |releases: Releases, release| releases.check(release).map_err(|r| r.code);
        let denied = Err("release-not-allowed".to_owned());
        let (deliver, sign) = (Release::Deliver, Release::Sign);
        assert_eq!(code(Releases::only(&[deliver]), deliver), Ok(()));
        assert_eq!(code(Releases::only(&[deliver]), sign), denied);
        assert_eq!(code(Releases::only(&[sign]), deliver), denied);
        assert_eq!(
            code(Releases::ALL, sign),
            Err("release-sign-unsupported".to_owned())
        );
    }
}
