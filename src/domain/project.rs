//! Connected forges and the repositories gated in them.

use crate::domain::facts::Account;
use crate::domain::ids::{Digest, IntegrationId, ProjectId, ProposalId};
use crate::domain::policy::{Approver, BindBase, Method, Unattributed};
use crate::domain::state::{Fault, Read, Record, Table};
use crate::domain::time::Time;
use serde::{Deserialize, Serialize};

/// The forges there are adapters for. The words are those of [`ForgeKind::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ForgeKind {
    #[serde(rename = "gitlab")]
    Gitlab,
    #[serde(rename = "github")]
    Github,
    #[serde(rename = "bitbucket")]
    BitbucketCloud,
    #[serde(rename = "bitbucket_dc")]
    BitbucketDataCenter,
}

impl ForgeKind {
    /// Whether somebody can prove here that an account there is theirs. Elsewhere an admin links it.
    pub fn proves_accounts(self) -> bool {
        self.proof_place().is_some()
    }

    /// The one place there that an account writes for itself and nobody else writes for it.
    pub fn proof_place(self) -> Option<&'static str> {
        match self {
            ForgeKind::Gitlab => Some("status message"),
            ForgeKind::Github => Some("profile bio"),
            ForgeKind::BitbucketCloud | ForgeKind::BitbucketDataCenter => None,
        }
    }

    /// The word for it in URLs and evidence.
    pub fn name(self) -> &'static str {
        match self {
            ForgeKind::Gitlab => "gitlab",
            ForgeKind::Github => "github",
            ForgeKind::BitbucketCloud => "bitbucket",
            ForgeKind::BitbucketDataCenter => "bitbucket_dc",
        }
    }

    /// The product's own name, for people.
    pub fn title(self) -> &'static str {
        match self {
            ForgeKind::Gitlab => "GitLab",
            ForgeKind::Github => "GitHub",
            ForgeKind::BitbucketCloud => "Bitbucket Cloud",
            ForgeKind::BitbucketDataCenter => "Bitbucket Data Center",
        }
    }

    /// How the forge writes a change's number: `!142` on GitLab, `#142` elsewhere.
    pub fn change_text(self, number: u64) -> String {
        match self {
            ForgeKind::Gitlab => format!("!{number}"),
            _ => format!("#{number}"),
        }
    }

    /// The forge's word for a change.
    pub fn change_word(self) -> &'static str {
        match self {
            ForgeKind::Gitlab => "merge request",
            _ => "pull request",
        }
    }

    /// The forge has one list of the changes of all repositories.
    pub fn lists_everywhere(self) -> bool {
        self == ForgeKind::Gitlab
    }

    /// The forge lands commits of its own making, which need a status too.
    pub fn has_merge_queues(self) -> bool {
        match self {
            ForgeKind::Gitlab | ForgeKind::BitbucketCloud => false,
            ForgeKind::Github | ForgeKind::BitbucketDataCenter => true,
        }
    }

    /// The forge can hold a deployment until somebody answers.
    pub fn holds_deployments(self) -> bool {
        matches!(self, ForgeKind::Gitlab | ForgeKind::Github)
    }

    /// The forge tells who wrote a status. Where it does not, one that nobody here wrote shows by what it says.
    pub fn tells_status_authors(self) -> bool {
        matches!(self, ForgeKind::Gitlab | ForgeKind::Github)
    }

    /// Reads the word of [`ForgeKind::name`].
    pub fn parse(text: &str) -> Option<ForgeKind> {
        Self::ALL.into_iter().find(|it| it.name() == text)
    }

    /// All of them.
    pub const ALL: [ForgeKind; 4] = [
        ForgeKind::Gitlab,
        ForgeKind::Github,
        ForgeKind::BitbucketCloud,
        ForgeKind::BitbucketDataCenter,
    ];

    /// The ways there are to make this forge hold a change, strongest first.
    pub fn enforcements(self) -> &'static [Enforcement] {
        match self {
            ForgeKind::Gitlab => &Enforcement::ALL,
            // The required status, pinned to the App, is the lock itself.
            ForgeKind::Github => &[Enforcement::CommitStatus],
            // Whoever may read can write a status, so the lock is that nobody else merges.
            ForgeKind::BitbucketCloud | ForgeKind::BitbucketDataCenter => {
                &[Enforcement::MergeBroker, Enforcement::CommitStatus]
            }
        }
    }
}

/// A connected forge. Its token and webhook secret are sealed elsewhere, never here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Integration {
    pub id: IntegrationId,
    pub kind: ForgeKind,
    pub name: String,
    /// Without a trailing slash; may have a path.
    pub base_url: String,
    /// Extra certificate authorities in PEM, for a private CA.
    pub ca_pem: Option<String>,
    /// The account our token belongs to, as the forge told.
    pub account: Option<Account>,
    pub created_at: Time,
    pub removed: bool,
}

impl Record for Integration {
    const TABLE: Table = Table::Integrations;
    fn key(&self) -> String {
        self.id.to_string()
    }
}

/// What makes the forge hold a change until it is approved, strongest first. The status is shown in every mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// Nobody but the appliance's account may merge, and it merges what is approved.
    MergeBroker,
    /// The forge asks for an approval that only the appliance's account can give.
    BotApproval,
    /// The forge asks the appliance for a check that is bound to one head.
    ExternalStatusCheck,
    /// The forge shows a status on the commit.
    #[default]
    CommitStatus,
}

impl Enforcement {
    /// All of them, strongest first.
    pub const ALL: [Enforcement; 4] = [
        Enforcement::MergeBroker,
        Enforcement::BotApproval,
        Enforcement::ExternalStatusCheck,
        Enforcement::CommitStatus,
    ];

    /// The word for it in the API and the journal.
    pub fn name(self) -> &'static str {
        match self {
            Enforcement::MergeBroker => "merge_broker",
            Enforcement::BotApproval => "bot_approval",
            Enforcement::ExternalStatusCheck => "external_status_check",
            Enforcement::CommitStatus => "commit_status",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Enforcement> {
        Self::ALL.into_iter().find(|it| it.name() == text)
    }
}

/// What a project asks where no policy says otherwise, and what it is on its forge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectSettings {
    /// The forge's stable number of the repository, as text.
    pub forge_project_id: String,
    pub branch_patterns: Vec<String>,
    pub quorum: u32,
    pub auto_merge: bool,
    /// What makes the forge hold a change.
    #[serde(default)]
    pub enforcement: Enforcement,
    pub policy: Option<String>,
    /// Empty: everyone with the role.
    pub approvers: Vec<Approver>,
    /// `None`: the default rule's methods.
    pub methods: Option<Vec<Method>>,
    /// What a decision is bound to besides its head (policy rule 11).
    #[serde(default)]
    pub bind_base: BindBase,
    /// What a commit that maps to nobody costs (policy rule 7).
    #[serde(default)]
    pub unattributed: Unattributed,
    /// Globs of files that are never skipped, besides the built-in ones (policy rule 4).
    #[serde(default)]
    pub control_files: Vec<String>,
    /// Environments whose deployments are gated, as names or patterns. Empty: none are.
    #[serde(default)]
    pub environments: Vec<String>,
    /// Days the documents of its requests are kept after their end. Nothing is erased by itself then: it may be, from then on.
    #[serde(default = "crate::domain::retention::default_days")]
    pub retention_days: u32,
}

/// A gated repository.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Project {
    pub id: ProjectId,
    pub integration: IntegrationId,
    /// Path with namespace as the forge last told it; for people only, never an identity.
    pub path: String,
    pub web_url: String,
    pub settings: ProjectSettings,
    pub created_at: Time,
    pub removed: bool,
    /// Since when it is not gated any more.
    #[serde(default)]
    pub removed_at: Option<Time>,
    /// Since when its environments are gated as they are now: a job that was started earlier is none of our business.
    #[serde(default)]
    pub environments_since: Option<Time>,
}

impl Record for Project {
    const TABLE: Table = Table::Projects;
    fn key(&self) -> String {
        self.id.to_string()
    }
}

/// Row of a project's number on its forge, in every table that is kept by it.
pub fn forge_project_row(integration: &IntegrationId, forge_project_id: &str) -> String {
    format!("{integration}\0{forge_project_id}")
}

/// Which project is gated under a forge's number; `None` if none is. A path never says so: it may be another project's
/// tomorrow.
///
/// # Errors
/// When the row can't be read.
pub fn gated_project(
    integration: &IntegrationId,
    forge_project_id: &str,
    state: &impl Read,
) -> Result<Option<ProjectId>, Fault> {
    let row = forge_project_row(integration, forge_project_id);
    let Some(id) = state.get_raw(Table::ForgeProjects, row.as_bytes())? else {
        return Ok(None);
    };
    let id = std::str::from_utf8(&id).ok().and_then(ProjectId::parse);
    id.map(Some)
        .ok_or_else(|| Fault(format!("odd project under {row:?}")))
}

/// A project of a forge that is not gated here, and of which a webhook told all the same: recorded once in a while, not
/// with every webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stranger {
    pub integration: IntegrationId,
    /// The forge's number of it.
    pub forge_project_id: String,
    /// When this was recorded last.
    pub at: Time,
}

impl Record for Stranger {
    const TABLE: Table = Table::Strangers;
    fn key(&self) -> String {
        forge_project_row(&self.integration, &self.forge_project_id)
    }
}

/// A version of a policy. The document itself is a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    pub name: String,
    pub version: u64,
    pub document: Digest,
    /// The document it took the place of.
    #[serde(default)]
    pub previous: Option<Digest>,
    pub reason: String,
    /// Names of the admins who made and confirmed it.
    #[serde(default)]
    pub by: Vec<String>,
    /// The proposal that several admins carried, where one was needed.
    #[serde(default)]
    pub proposal: Option<ProposalId>,
    pub activated_at: Time,
}

impl PolicyRecord {
    /// Row of this version among all versions of its policy.
    pub fn version_row(&self) -> Vec<u8> {
        [
            Self::versions_prefix(&self.name),
            self.version.to_be_bytes().to_vec(),
        ]
        .concat()
    }

    /// What the rows of all versions of a policy begin with, oldest first.
    pub fn versions_prefix(name: &str) -> Vec<u8> {
        format!("{name}\0").into_bytes()
    }
}

impl Record for PolicyRecord {
    const TABLE: Table = Table::Policies;
    fn key(&self) -> String {
        self.name.clone()
    }
}
