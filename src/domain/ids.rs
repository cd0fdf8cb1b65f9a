//! Names of things. Each is its own type, so that one cannot stand where another belongs.

use serde::{Deserialize, Serialize};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// What every id of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an id from 128 bits of randomness.
            pub fn from_random(bits: [u8; 16]) -> Self {
                Self(format!("{}{}", $prefix, hex::encode(bits)))
            }

            /// Reads an id that came from outside; `None` unless it has exactly the form this type makes.
            pub fn parse(text: &str) -> Option<Self> {
                let digits = text.strip_prefix($prefix)?;
                let well_formed = digits.len() == 32
                    && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                well_formed.then(|| Self(text.to_owned()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// An approval request.
    RequestId = "apr_";
    /// A human being.
    PersonId = "per_";
    /// A connected forge.
    IntegrationId = "int_";
    /// A gated repository in an integration.
    ProjectId = "prj_";
    /// A machine caller's key (its public handle, never the secret).
    ApiKeyId = "key_";
    /// An invitation to enrol.
    InvitationId = "inv_";
    /// A group of people.
    GroupId = "grp_";
    /// A change to the rules that waits for further admins.
    ProposalId = "prp_";
    /// One person standing in for another for a while.
    DelegationId = "dlg_";
    /// One making of an audit bundle.
    ExportId = "exp_";
    /// A log sink.
    SinkId = "snk_";
    /// A device that is told when something waits.
    DeviceId = "dev_";
    /// A chat that is told when something waits.
    ChatId = "cht_";
    /// A list of requests that was saved under a name.
    ViewId = "vew_";
    /// One WebAuthn ceremony.
    CeremonyId = "cer_";
}

/// A SHA-256 digest, as 64 lowercase hex digits wherever it is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Digest(sha2::Sha256::digest(bytes).into())
    }

    /// Reads 64 lowercase hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let mut bytes = [0; 32];
        (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(Digest(bytes))
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Digest::parse(&text).ok_or_else(|| serde::de::Error::custom("not 64 lowercase hex digits"))
    }
}
