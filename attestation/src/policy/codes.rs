//! What codes of findings have in common, whatever kind of policy they are about.

use serde::Serialize;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// A way around attestation.
    Bypass,
    /// Something that can never match.
    Broken,
    /// Good to know.
    Notice,
}

impl Severity {
    /// Name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Broken => "broken",
            Self::Notice => "notice",
        }
    }
}

/// The enumeration of a linter's codes.
macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident, $name:literal, $severity:ident, $advice:literal;)*) => {
        /// What a finding is. Names are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $code),* }

        impl Code {
            /// All codes, in the order of docs/policy.md.
            pub const ALL: &'static [Self] = &[$(Self::$code),*];

            /// Name in reports and documents.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$code => $name),* }
            }

            /// How much it matters.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$code => Severity::$severity),* }
            }

            /// What to do.
            #[must_use]
            pub fn advice(self) -> &'static str {
                match self { $(Self::$code => $advice),* }
            }
        }

        impl serde::Serialize for Code {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    };
}

pub(crate) use codes;
