//! Webhooks as every forge sends them: what proves one, and what it is about.

use crate::domain::ids::Digest;
use crate::domain::project::ForgeKind;
use crate::forge::{bitbucket, bitbucket_cloud, bitbucket_data_center, github, gitlab};
use crate::outbound::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Characters of a delivery id that is kept as it is.
const LONGEST_DELIVERY: usize = 128;

/// What proves that a webhook comes from the connected forge: one text that serves as plain token and as signing key.
#[derive(Clone, Debug)]
pub struct HookSecret {
    /// The whole text.
    pub token: Secret,
    /// The signing key in it, for text of the form `whsec_<base64>`.
    pub signing: Option<SigningKey>,
}

/// A webhook signing key. Never prints itself.
#[derive(Clone)]
pub struct SigningKey(Zeroizing<Vec<u8>>);

impl SigningKey {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl HookSecret {
    /// Shorter secrets than this many characters are refused.
    const SHORTEST: usize = 16;

    /// Makes the text of a new secret from 32 bytes of randomness: `whsec_<base64>` (Standard Webhooks), which GitLab takes
    /// as signing token and as plain token.
    pub fn text_from_random(bytes: &[u8; 32]) -> Secret {
        let encoded = Zeroizing::new(STANDARD.encode(bytes));
        Secret::new(format!("whsec_{}", encoded.as_str()))
    }

    /// Reads a secret; `None` if it is too short to prove anything. There is no such thing as a webhook without a secret.
    pub fn read(text: Secret) -> Option<Self> {
        if text.expose().len() < Self::SHORTEST {
            return None;
        }
        let key = text
            .expose()
            .strip_prefix("whsec_")
            .and_then(|it| STANDARD.decode(it).ok());
        let signing = key
            .filter(|it| it.len() >= 24)
            .map(|it| SigningKey(Zeroizing::new(it)));
        Some(HookSecret { token: text, signing })
    }
}

/// What a webhook is about. A hint only: the forge's API is asked before anything is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Names this delivery; the same again on a repetition.
    pub delivery: String,
    pub event: HookEvent,
    /// The forge's stable number of the repository, as text; empty if the event is about none.
    pub forge_project_id: String,
    /// The change it is about.
    pub change: Option<u64>,
    /// What was pushed, for a push to a branch or tag.
    pub pushed: Option<Pushed>,
}

/// Kinds of webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookEvent {
    /// Something about a change.
    Change,
    /// A push to a branch.
    Push,
    /// A push to a tag.
    TagPush,
    Pipeline,
    Job,
    Deployment,
    /// A merge queue made, or gave up, a commit to land.
    MergeGroup,
    /// A comment.
    Note,
    /// Anything else: nothing to do. The text is the forge's word, at most 64 characters.
    Other(String),
}

impl HookEvent {
    /// The word for it in the journal.
    pub fn word(&self) -> &str {
        match self {
            HookEvent::Change => "change",
            HookEvent::Push => "push",
            HookEvent::TagPush => "tag_push",
            HookEvent::Pipeline => "pipeline",
            HookEvent::Job => "job",
            HookEvent::Deployment => "deployment",
            HookEvent::MergeGroup => "merge_group",
            HookEvent::Note => "note",
            HookEvent::Other(word) => word,
        }
    }
}

/// A push as a webhook tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Full ref.
    pub ref_name: String,
    /// Commit ids; all zeros where the ref did not or does not exist.
    pub before: String,
    pub after: String,
    /// The account that pushed.
    pub user_id: String,
}

/// Why a webhook is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookRefusal {
    /// It does not prove where it comes from.
    #[error("the webhook does not verify: {0}")]
    Unverified(&'static str),
    /// It is authentic and makes no sense.
    #[error("the webhook cannot be read: {0}")]
    Unreadable(String),
}

/// Checks that a webhook comes from the connected forge. `header` is asked with lower-case names; `body` is the raw body;
/// `now` is unix seconds.
///
/// # Errors
/// `Unverified`.
pub fn verify_hook(
    kind: ForgeKind,
    secret: &HookSecret,
    header: &dyn Fn(&str) -> Option<String>,
    body: &[u8],
    now: i64,
) -> Result<(), HookRefusal> {
    match kind {
        ForgeKind::Gitlab => gitlab::webhook::verify(secret, header, body, now),
        ForgeKind::Github => github::webhook::verify(secret, header, body),
        ForgeKind::BitbucketCloud | ForgeKind::BitbucketDataCenter => bitbucket::verify(secret, header, body),
    }
}

/// Reads what a verified webhook is about.
///
/// # Errors
/// `Unreadable`.
pub fn parse_hook(
    kind: ForgeKind,
    header: &dyn Fn(&str) -> Option<String>,
    body: &[u8],
) -> Result<Hint, HookRefusal> {
    match kind {
        ForgeKind::Gitlab => gitlab::webhook::parse(header, body),
        ForgeKind::Github => github::webhook::parse(header, body),
        ForgeKind::BitbucketCloud => bitbucket_cloud::webhook::parse(header, body),
        ForgeKind::BitbucketDataCenter => bitbucket_data_center::webhook::parse(header, body),
    }
}

/// What names a delivery: the forge's id of it, the same when it is delivered again, or a digest of the body.
pub(super) fn delivery(id: Option<String>, body: &[u8]) -> String {
    match id.filter(|it| !it.is_empty()) {
        Some(id) if id.len() <= LONGEST_DELIVERY && id.bytes().all(|b| b.is_ascii_graphic()) => id,
        Some(id) => format!("sha256:{}", Digest::of(id.as_bytes())),
        None => format!("sha256:{}", Digest::of(body)),
    }
}
