//! Reading GitLab: who the token is, what a change is made of. Lists are whole or marked as not whole, with the reason;
//! nothing is guessed in favour of a change.

use crate::domain::facts::ChangeFacts;
use crate::domain::facts::ChangeState;
use crate::domain::facts::Contributor;
use crate::domain::facts::FileChange;
use crate::domain::facts::FileList;
use crate::domain::facts::FileMode;
use crate::domain::facts::FileStatus;
use crate::domain::facts::Merged;
use crate::domain::facts::Part;
use crate::domain::facts::RepoPath;
use crate::domain::ids::ProjectId;
use crate::domain::text::shortened;
use crate::domain::text::visible;
use crate::forge::ChangeHead;
use crate::forge::ForgeProject;
use crate::forge::Identity;
use crate::forge::ListedChange;
use crate::forge::Tier;
use crate::forge::gitlab::BadPage;
use crate::forge::gitlab::GitLab;
use crate::forge::gitlab::Limits;
use crate::forge::gitlab::Listed;
use crate::forge::gitlab::User;
use crate::forge::gitlab::commit_id;
use crate::forge::gitlab::full_ref;
use crate::forge::gitlab::is_commit_id;
use crate::forge::gitlab::is_limit;
use crate::forge::gitlab::page_url;
use crate::forge::gitlab::pause;
use crate::forge::gitlab::project_number;
use crate::outbound::Error;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::time::Duration;

/// Calls that reading a change usually takes: itself before and after, its files, its commits, who pushed.
const CHANGE_CALLS: u32 = 5;
/// Attempts to see a change that stands still while it is read.
const TRIES: u32 = 3;
/// Time for reading one change, all attempts together.
const WHOLE_CHANGE: Duration = Duration::from_secs(120);
/// GitLab lists at most 3,000 files of a change, each patch at most 200 KB by default.
pub(super) const FILE_LIMITS: Limits = Limits {
    pages: 40,
    bytes: 48 * 1024 * 1024,
};
const COMMIT_LIMITS: Limits = Limits {
    pages: 100,
    bytes: 16 * 1024 * 1024,
};
const EVENT_LIMITS: Limits = Limits {
    pages: 10,
    bytes: 4 * 1024 * 1024,
};
const CHANGE_LIMITS: Limits = Limits {
    pages: 200,
    bytes: 16 * 1024 * 1024,
};

/// A merge request, of its own page or of a list.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct MergeRequest {
    pub(super) iid: u64,
    state: String,
    #[serde(default)]
    draft: bool,
    /// What `draft` was called before GitLab 14.
    #[serde(default)]
    work_in_progress: bool,
    #[serde(default)]
    title: String,
    #[serde(default)]
    web_url: String,
    author: User,
    source_branch: String,
    target_branch: String,
    /// Absent once a fork has been removed.
    source_project_id: Option<u64>,
    target_project_id: Option<u64>,
    sha: Option<String>,
    diff_refs: Option<DiffRefs>,
    /// A text, `"1000+"` where GitLab has given up counting; null before it has counted.
    changes_count: Option<String>,
    /// `None`: an older GitLab, which does not tell. `Some(None)`: not prepared yet.
    #[serde(default, deserialize_with = "told")]
    prepared_at: Option<Option<String>>,
    detailed_merge_status: Option<String>,
    merge_status: Option<String>,
    merge_user: Option<User>,
    merged_by: Option<User>,
    pub(super) merge_commit_sha: Option<String>,
    pub(super) squash_commit_sha: Option<String>,
    #[serde(default)]
    updated_at: String,
    merged_at: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct DiffRefs {
    base_sha: Option<String>,
    head_sha: Option<String>,
}

/// Tells a null from an absent field.
fn told<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

impl MergeRequest {
    /// The account that merged it, once it is merged.
    pub(super) fn merger(&self) -> Option<&User> {
        self.merge_user.as_ref().or(self.merged_by.as_ref())
    }

    pub(super) fn is_merged(&self) -> bool {
        self.state == "merged"
    }

    pub(super) fn head(&self) -> Option<&str> {
        let head = self
            .sha
            .as_deref()
            .or_else(|| self.diff_refs.as_ref()?.head_sha.as_deref());
        head.filter(|it| is_commit_id(it))
    }

    /// The commit on the target branch: the merge commit, the squashed one, or in a fast-forward the head itself.
    pub(super) fn landed(&self) -> Option<String> {
        let commit = self
            .merge_commit_sha
            .as_deref()
            .or(self.squash_commit_sha.as_deref())
            .or(self.sha.as_deref());
        commit
            .filter(|it| self.is_merged() && is_commit_id(it))
            .map(str::to_owned)
    }

    /// GitLab has not yet worked out whether it can be merged.
    pub(super) fn is_being_checked(&self) -> bool {
        let status = self.detailed_merge_status.as_deref().unwrap_or_default();
        matches!(
            status,
            "preparing" | "checking" | "unchecked" | "approvals_syncing"
        ) || self.state == "locked"
    }

    /// Why GitLab does not merge it, for people. A word that is not known here is shown as it is.
    pub(super) fn why_not_merged(&self) -> String {
        if self.state == "closed" {
            return "the merge request is closed".to_owned();
        }
        let status = self
            .detailed_merge_status
            .as_deref()
            .or(self.merge_status.as_deref())
            .unwrap_or_default();
        let known = match status {
            "mergeable" | "can_be_merged" => "GitLab calls it mergeable and does not merge it now",
            "preparing" | "checking" | "unchecked" => "GitLab is still checking whether it can be merged",
            "ci_must_pass" => "a pipeline must succeed first",
            "ci_still_running" => "its pipeline is still running",
            "not_approved" | "approvals_syncing" => "GitLab's own approvals are missing",
            "draft_status" => "it is a draft",
            "discussions_not_resolved" => "discussions are not resolved",
            "conflict" | "broken_status" | "cannot_be_merged" => "it has conflicts with the target branch",
            "need_rebase" => "it must be rebased",
            "not_open" => "it is not open",
            "status_checks_must_pass" | "external_status_checks" => "an external status check has not passed",
            "merge_request_blocked" | "blocked_status" => "another merge request blocks it",
            "requested_changes" => "a reviewer has requested changes",
            "policies_denied" | "security_policy_violations" => "a GitLab security policy denies it",
            "locked_paths" | "locked_lfs_files" => "a file of it is locked",
            "merge_time" => "GitLab may not merge it before a set time",
            "" => "GitLab does not merge it now",
            other => {
                return format!("GitLab does not merge it now: {}", visible(other));
            }
        };
        known.to_owned()
    }

    /// As a list shows it; the head is empty where GitLab tells none, or something odd.
    pub(super) fn listed(self) -> Option<ListedChange> {
        let state = match self.state.as_str() {
            "opened" | "locked" => ChangeState::Open,
            "closed" => ChangeState::Closed,
            "merged" => ChangeState::Merged,
            _ => return None,
        };
        let merged_at = self.merged_at.as_deref().and_then(|it| it.parse().ok());
        Some(ListedChange {
            forge_project_id: self.target_project_id?.to_string(),
            state,
            merged_at: merged_at.map(|it: jiff::Timestamp| it.as_second()),
            head: ChangeHead {
                number: self.iid,
                draft: self.is_draft(),
                head: self.sha.filter(|it| is_commit_id(it)).unwrap_or_default(),
                target: full_ref(&self.target_branch),
                source: full_ref(&self.source_branch),
                updated_at: self.updated_at,
                title: self.title,
            },
        })
    }

    fn is_draft(&self) -> bool {
        let title = self.title.trim_start();
        let marked = ["draft:", "[draft]", "(draft)"];
        let lower = title.to_ascii_lowercase();
        self.draft || self.work_in_progress || marked.iter().any(|it| lower.starts_with(it))
    }

    /// What must stand still while its lists are read.
    fn still(&self) -> (Option<&str>, &Option<DiffRefs>, &str, &Option<String>) {
        (
            self.sha.as_deref(),
            &self.diff_refs,
            &self.target_branch,
            &self.changes_count,
        )
    }

    /// GitLab has not finished making it. Closed and merged ones are finished whatever they say.
    fn is_preparing(&self) -> bool {
        let open = matches!(self.state.as_str(), "opened" | "locked");
        let preparing = self.detailed_merge_status.as_deref() == Some("preparing")
            || self.merge_status.as_deref() == Some("preparing")
            || self.prepared_at == Some(None)
            || self.sha.is_none()
            || self.changes_count.is_none();
        open && preparing
    }
}

/// One entry of the list of changed files.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Diff {
    pub(super) old_path: String,
    pub(super) new_path: String,
    a_mode: Option<String>,
    b_mode: Option<String>,
    #[serde(default)]
    new_file: bool,
    #[serde(default)]
    renamed_file: bool,
    #[serde(default)]
    deleted_file: bool,
    #[serde(default)]
    collapsed: Option<bool>,
    #[serde(default)]
    too_large: Option<bool>,
    #[serde(default)]
    pub(super) diff: String,
}

impl Diff {
    /// The lines of the file that are removed and added, in order and with nothing of where they stand; `None` where the
    /// list leaves the text out, or it is not text.
    pub(super) fn patch(&self) -> Option<String> {
        self.is_told().then(|| {
            let changed = |it: &&str| it.starts_with(['+', '-']);
            let lines: Vec<&str> = self.diff.split_terminator('\n').filter(changed).collect();
            lines.join("\n")
        })
    }

    /// The text of the change is there.
    fn is_told(&self) -> bool {
        let left_out = self.collapsed.unwrap_or(false) || self.too_large.unwrap_or(false);
        let kept = self.new_path == self.old_path && !self.new_file && !self.deleted_file;
        // A file that was only renamed or whose mode changed has no text; one that was rewritten has.
        let silent = kept && self.diff.is_empty() && self.a_mode == self.b_mode;
        !left_out && !silent && count_lines(&self.diff).is_some()
    }

    /// Both paths and modes.
    pub(super) fn sides(&self) -> (String, String, Option<String>, Option<String>) {
        (
            self.old_path.clone(),
            self.new_path.clone(),
            self.a_mode.clone(),
            self.b_mode.clone(),
        )
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Commit {
    id: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    author_name: Option<String>,
    #[serde(default)]
    author_email: Option<String>,
    #[serde(default)]
    committer_name: Option<String>,
    #[serde(default)]
    committer_email: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Event {
    pub(super) author: Option<User>,
    pub(super) push_data: Option<PushData>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PushData {
    action: Option<String>,
    pub(super) ref_type: Option<String>,
    #[serde(rename = "ref")]
    pub(super) reference: Option<String>,
    /// The commit it left the branch on.
    pub(super) commit_to: Option<String>,
    /// How many refs one push of many touched; such an event names none of them.
    ref_count: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct Branch {
    #[serde(default)]
    pub(super) name: String,
    pub(super) commit: BranchTip,
}

#[derive(Deserialize)]
pub(super) struct BranchTip {
    pub(super) id: String,
}

#[derive(Deserialize)]
struct TokenInfo {
    #[serde(default)]
    scopes: Vec<String>,
    expires_at: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    version: String,
    enterprise: Option<bool>,
}

#[derive(Deserialize)]
struct Licence {
    plan: Option<String>,
}

#[derive(Deserialize)]
struct Project {
    id: u64,
    path_with_namespace: String,
    #[serde(default)]
    web_url: String,
    default_branch: Option<String>,
    #[serde(default)]
    archived: bool,
    permissions: Option<Permissions>,
    #[serde(default)]
    only_allow_merge_if_pipeline_succeeds: Option<bool>,
    #[serde(default)]
    allow_merge_on_skipped_pipeline: Option<bool>,
    /// Ultimate only.
    #[serde(default)]
    only_allow_merge_if_all_status_checks_passed: Option<bool>,
    #[serde(default)]
    ci_config_path: Option<String>,
}

#[derive(Deserialize)]
struct Permissions {
    project_access: Option<Access>,
    group_access: Option<Access>,
}

#[derive(Deserialize)]
struct Access {
    access_level: u32,
}

impl GitLab {
    /// Who the token is. Only the account is needed; what a GitLab does not tell is left unknown.
    pub(crate) async fn identify(&self) -> Result<Identity, Error> {
        let user: User = self.get(&["user"], &[]).await?;
        let token: Option<TokenInfo> = self.get(&["personal_access_tokens", "self"], &[]).await.ok();
        let metadata: Option<Metadata> = match self.get(&["metadata"], &[]).await {
            Ok(found) => Some(found),
            Err(_) => self.get(&["version"], &[]).await.ok(),
        };
        // Only an administrator's token may see the licence.
        let licence: Option<Licence> = self.get(&["license"], &[]).await.ok();
        let enterprise = metadata.as_ref().and_then(|it| it.enterprise);
        let tier = match (licence.and_then(|it| it.plan).as_deref(), enterprise) {
            (Some("premium"), _) => Tier::Premium,
            (Some("ultimate"), _) => Tier::Ultimate,
            (_, Some(false)) => Tier::Free,
            _ => Tier::Unknown,
        };
        let (scopes, token_expires_at) = token.map(|it| (it.scopes, it.expires_at)).unwrap_or_default();
        let version = metadata.map(|it| it.version).unwrap_or_default();
        Ok(Identity {
            account: user.into(),
            scopes,
            token_expires_at,
            version,
            tier,
        })
    }

    /// A project by number or path.
    pub(crate) async fn project(&self, forge_project_id: &str) -> Result<ForgeProject, Error> {
        let id = forge_project_id.trim();
        let sound = !id.is_empty() && id.len() <= 1024 && !id.chars().any(char::is_control);
        if !sound {
            return Err(Error::Refused(
                "a GitLab project is named by its number or its path".to_owned(),
            ));
        }
        let project: Project = self.get(&["projects", id], &[]).await?;
        let access = project.permissions.map(|it| {
            let levels = [it.project_access, it.group_access];
            levels
                .into_iter()
                .flatten()
                .map(|it| it.access_level)
                .max()
                .unwrap_or(0)
        });
        Ok(ForgeProject {
            id: project.id.to_string(),
            path: project.path_with_namespace,
            web_url: page_url(&project.web_url),
            default_branch: project.default_branch,
            archived: project.archived,
            access_level: access,
            merge_needs_pipeline: project.only_allow_merge_if_pipeline_succeeds.unwrap_or(false),
            merge_on_skipped_pipeline: project.allow_merge_on_skipped_pipeline.unwrap_or(false),
            merge_needs_checks: project
                .only_allow_merge_if_all_status_checks_passed
                .unwrap_or(false),
            ci_config: project.ci_config_path.filter(|it| !it.is_empty()),
        })
    }

    /// The licence, by which of the licensed parts of a project answer.
    pub(crate) async fn tier(&self, forge_project_id: &str) -> Tier {
        let Ok(project) = project_number(forge_project_id) else {
            return Tier::Unknown;
        };
        let answers = async |part: &str| -> Option<bool> {
            match self
                .get::<serde_json::Value>(&["projects", project, part], &[])
                .await
            {
                Ok(_) => Some(true),
                Err(error) if matches!(error.status(), Some(401..=404)) => Some(false),
                Err(_) => None,
            }
        };
        // Without this the refusals below may only mean that the token may not see the project.
        if self.project(project).await.is_err() {
            return Tier::Unknown;
        }
        match (
            answers("external_status_checks").await,
            answers("approval_rules").await,
        ) {
            (Some(true), _) => Tier::Ultimate,
            (Some(false), Some(true)) => Tier::Premium,
            (Some(false), Some(false)) => Tier::Free,
            _ => Tier::Unknown,
        }
    }

    pub(super) async fn merge_request(
        &self,
        forge_project_id: &str,
        number: u64,
    ) -> Result<MergeRequest, Error> {
        let project = project_number(forge_project_id)?;
        let text = number.to_string();
        let found: MergeRequest = self
            .get(&["projects", project, "merge_requests", &text], &[])
            .await?;
        let here = found.target_project_id.is_none_or(|it| it.to_string() == project);
        if found.iid != number || !here {
            return Err(Error::NotJson(
                "GitLab answered with another merge request".to_owned(),
            ));
        }
        Ok(found)
    }

    /// Open merge requests, oldest first, so that what is opened while the pages are read comes last.
    pub(crate) async fn open_changes(&self, forge_project_id: &str) -> Result<Vec<ChangeHead>, Error> {
        let project = project_number(forge_project_id)?;
        self.begin(1)?;
        let query = [
            ("state", "opened"),
            ("scope", "all"),
            ("order_by", "created_at"),
            ("sort", "asc"),
        ];
        let path = ["projects", project, "merge_requests"];
        let listed = self
            .pages::<MergeRequest>(&path, &query, CHANGE_LIMITS)
            .await
            .map_err(|it| it.error)?;
        if !listed.whole {
            return Err(Error::NotJson(
                "the project has more open merge requests than can be read".to_owned(),
            ));
        }
        let mut seen = HashSet::new();
        let mut heads = Vec::new();
        for item in listed.items {
            if item.state != "opened" || !seen.insert(item.iid) {
                continue;
            }
            let draft = item.is_draft();
            let head = item
                .sha
                .as_deref()
                .map(commit_id)
                .transpose()?
                .unwrap_or_default()
                .to_owned();
            heads.push(ChangeHead {
                number: item.iid,
                head,
                target: full_ref(&item.target_branch),
                source: full_ref(&item.source_branch),
                updated_at: item.updated_at,
                draft,
                title: item.title,
            });
        }
        Ok(heads)
    }

    /// The commit a branch stands on (`GET /projects/:id/repository/branches/:branch`).
    pub(crate) async fn branch_head(&self, forge_project_id: &str, branch: &str) -> Result<String, Error> {
        let project = project_number(forge_project_id)?;
        let name = branch.strip_prefix("refs/heads/").unwrap_or(branch);
        let found: Branch = self
            .get(&["projects", project, "repository", "branches", name], &[])
            .await?;
        Ok(commit_id(&found.commit.id)?.to_owned())
    }

    /// A change with everything the rules may ask.
    pub(crate) async fn change(
        &self,
        project: &ProjectId,
        forge_project_id: &str,
        number: u64,
    ) -> Result<ChangeFacts, Error> {
        self.begin(CHANGE_CALLS)?;
        match tokio::time::timeout(WHOLE_CHANGE, self.read_change(project, forge_project_id, number)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout {
                host: self.base.host_str().unwrap_or_default().to_owned(),
            }),
        }
    }

    async fn read_change(
        &self,
        project: &ProjectId,
        forge_project_id: &str,
        number: u64,
    ) -> Result<ChangeFacts, Error> {
        let text = number.to_string();
        let path = [
            "projects",
            project_number(forge_project_id)?,
            "merge_requests",
            &text,
        ];
        let (diffs, commits) = (
            [&path[..], &["diffs"]].concat(),
            [&path[..], &["commits"]].concat(),
        );
        let mut before = self.merge_request(forge_project_id, number).await?;
        let mut attempt = 1;
        loop {
            if before.is_preparing() && attempt < TRIES {
                pause(attempt + 1).await;
                attempt += 1;
                before = self.merge_request(forge_project_id, number).await?;
                continue;
            }
            let (listed_files, listed_commits) = tokio::join!(
                self.pages::<Diff>(&diffs, &[], FILE_LIMITS),
                self.pages::<Commit>(&commits, &[], COMMIT_LIMITS),
            );
            // A rate limit is nobody's fault and says when to come back; anything else leaves the list incomplete.
            for bad in [listed_files.as_ref().err(), listed_commits.as_ref().err()]
                .into_iter()
                .flatten()
            {
                if is_limit(&bad.error) || bad.error.status() == Some(401) {
                    return Err(bad.error.clone());
                }
            }
            let after = self.merge_request(forge_project_id, number).await?;
            let stood_still = before.still() == after.still();
            if !stood_still && attempt < TRIES {
                pause(attempt).await;
                attempt += 1;
                before = after;
                continue;
            }
            let mut files = match listed_files {
                Ok(listed) => file_list(&after, listed.items, listed.whole),
                Err(bad) => FileList {
                    files: Vec::new(),
                    incomplete: Some(unread("the file list", &bad)),
                },
            };
            if !stood_still {
                let moved = "the change moved each time it was being read";
                files.incomplete.get_or_insert_with(|| moved.to_owned());
            }
            let (pushers, pushers_unread) = self.pushers(&after).await?;
            return facts(project, after, files, listed_commits, pushers, pushers_unread);
        }
    }

    /// The accounts that pushed to the source branch, as far as GitLab's events tell, and why not all of them.
    async fn pushers(&self, change: &MergeRequest) -> Result<(Vec<User>, Option<String>), Error> {
        let Some(project) = change.source_project_id else {
            return Ok((
                Vec::new(),
                Some("the fork it comes from is gone, and with it who pushed to it".to_owned()),
            ));
        };
        let project = project.to_string();
        let path = ["projects", project.as_str(), "events"];
        match self
            .pages::<Event>(&path, &[("action", "pushed")], EVENT_LIMITS)
            .await
        {
            Ok(listed) => Ok(pushers(listed.items, &change.source_branch, listed.whole)),
            Err(bad) if is_limit(&bad.error) => Err(bad.error),
            Err(bad) => Ok((Vec::new(), Some(unread("the list of pushes", &bad)))),
        }
    }
}

/// Why a list is not whole: the same text for the same fault, since it becomes part of what is known about the change.
fn unread(what: &str, bad: &BadPage) -> String {
    let page = bad.page;
    match bad.error.status() {
        Some(code) => format!("page {page} of {what} could not be read: GitLab answered {code}"),
        None => format!("page {page} of {what} could not be read: {}", bad.error),
    }
}

fn facts(
    project: &ProjectId,
    change: MergeRequest,
    files: FileList,
    commits: Result<Listed<Commit>, BadPage>,
    pushers: Vec<User>,
    pushers_unread: Option<String>,
) -> Result<ChangeFacts, Error> {
    let head = change
        .head()
        .ok_or_else(|| Error::NotJson("the merge request has no head commit".to_owned()))?;
    let head = head.to_owned();
    let state = match change.state.as_str() {
        "opened" | "locked" => ChangeState::Open,
        "closed" => ChangeState::Closed,
        "merged" => ChangeState::Merged,
        _ => {
            return Err(Error::NotJson(
                "the merge request is in a state that is not known here".to_owned(),
            ));
        }
    };
    let base = change.diff_refs.as_ref().and_then(|it| it.base_sha.as_deref());
    let base = base.map(commit_id).transpose()?.unwrap_or_default().to_owned();
    let (commits, mut reasons) = match commits {
        Ok(listed) => {
            let doubt = commits_doubt(&listed.items, &head, listed.whole, files.files.is_empty());
            (listed.items, Vec::from_iter(doubt))
        }
        Err(bad) => (Vec::new(), vec![unread("the list of commits", &bad)]),
    };
    reasons.extend(pushers_unread);
    let merged = change.is_merged().then(|| Merged {
        by: change.merger().cloned().map(Into::into),
        commit: change.landed(),
    });
    Ok(ChangeFacts {
        project: project.clone(),
        number: change.iid,
        state,
        draft: change.is_draft(),
        web_url: page_url(&change.web_url),
        contributors: contributors(&change.author, &commits, pushers),
        contributors_incomplete: (!reasons.is_empty()).then(|| reasons.join("; ")),
        commits: u32::try_from(commits.len()).unwrap_or(u32::MAX),
        title: change.title,
        author: change.author.into(),
        source: full_ref(&change.source_branch),
        source_project_id: change
            .source_project_id
            .map(|it| it.to_string())
            .unwrap_or_default(),
        target: full_ref(&change.target_branch),
        head,
        base,
        target_sha: None,
        files,
        merged,
    })
}

/// Why the list of files cannot be trusted to be whole; `None` if GitLab's own count, its heads and every entry agree.
fn files_doubt(change: &MergeRequest, listed: &[Diff], whole: bool) -> Option<String> {
    let text = |reason: &str| Some(reason.to_owned());
    if !whole {
        return text("the change has more files than GitLab lists");
    }
    if change.is_preparing() {
        return text("GitLab is still preparing the change");
    }
    let head = change.diff_refs.as_ref().and_then(|it| it.head_sha.as_deref());
    if change.sha.as_deref() != head || head.is_none() {
        return text("GitLab has not compared the newest commit yet");
    }
    let Some(count) = &change.changes_count else {
        return text("GitLab does not tell how many files the change has");
    };
    let plain = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
    match count.parse::<usize>() {
        Ok(count) if plain && count == listed.len() => {}
        Ok(count) if plain => {
            return Some(format!("GitLab counts {count} files and lists {}", listed.len()));
        }
        _ => {
            let count = shortened(&visible(count), 20);
            return Some(format!(
                "the change has more files than GitLab lists (it counts {count:?})"
            ));
        }
    }
    for diff in listed {
        if diff.old_path.contains('\u{fffd}') || diff.new_path.contains('\u{fffd}') {
            return text("a path is not UTF-8, and GitLab does not tell it exactly");
        }
        if diff.new_path.is_empty() || diff.old_path.is_empty() {
            return text("GitLab lists a file without a path");
        }
        let kinds = [diff.new_file, diff.deleted_file, diff.renamed_file];
        if kinds.into_iter().filter(|it| *it).count() > 1 {
            return text("GitLab says contradictory things about a file");
        }
    }
    None
}

fn file_list(change: &MergeRequest, listed: Vec<Diff>, whole: bool) -> FileList {
    let incomplete = files_doubt(change, &listed, whole);
    FileList {
        files: joined(listed.iter().map(file).collect()),
        incomplete,
    }
}

fn mode(text: Option<&str>) -> FileMode {
    let octal =
        text.filter(|it| (1..=6).contains(&it.len()) && it.bytes().all(|b| (b'0'..=b'7').contains(&b)));
    octal
        .and_then(|it| u32::from_str_radix(it, 8).ok())
        .map_or(FileMode::UNKNOWN, FileMode::Known)
}

/// The mode of a file on a side where it exists: there, an absent mode is an unknown one.
fn present(text: Option<&str>) -> FileMode {
    match mode(text) {
        FileMode::ABSENT => FileMode::UNKNOWN,
        known => known,
    }
}

/// File, symlink or submodule: the type bits of a mode.
fn kind(mode: FileMode) -> Option<u32> {
    match mode {
        FileMode::Known(bits) if bits != 0 => Some(bits & 0o170_000),
        _ => None,
    }
}

fn type_changed(old: FileMode, new: FileMode) -> bool {
    matches!((kind(old), kind(new)), (Some(old), Some(new)) if old != new)
}

/// One entry as a fact. GitLab looks for renames and never for copies, so two paths in an entry are a rename, of which both
/// are judged, whatever its flag says.
fn file(diff: &Diff) -> FileChange {
    let old_path = Some(RepoPath::from(diff.old_path.as_str()));
    let new_path = Some(RepoPath::from(diff.new_path.as_str()));
    let (a, b) = (diff.a_mode.as_deref(), diff.b_mode.as_deref());
    let lines = lines(diff);
    let one_path = diff.old_path == diff.new_path;
    if diff.new_file && !diff.deleted_file && one_path {
        let (old_mode, new_mode) = (FileMode::ABSENT, present(b));
        return FileChange {
            status: FileStatus::Added,
            old_path: None,
            new_path,
            old_mode,
            new_mode,
            lines,
        };
    }
    if diff.deleted_file && !diff.new_file && one_path {
        let (old_mode, new_mode) = (present(a), FileMode::ABSENT);
        return FileChange {
            status: FileStatus::Deleted,
            old_path,
            new_path: None,
            old_mode,
            new_mode,
            lines,
        };
    }
    let (old_mode, new_mode) = (present(a), present(b));
    let status = if !one_path || diff.renamed_file {
        FileStatus::Renamed
    } else if type_changed(old_mode, new_mode) {
        FileStatus::TypeChanged
    } else {
        FileStatus::Modified
    };
    FileChange {
        status,
        old_path,
        new_path,
        old_mode,
        new_mode,
        lines,
    }
}

/// git writes a change of type as a deletion and an addition of the same path; here it is one change.
fn joined(files: Vec<FileChange>) -> Vec<FileChange> {
    let mut added: BTreeMap<RepoPath, usize> = BTreeMap::new();
    for (at, file) in files.iter().enumerate() {
        if let (FileStatus::Added, Some(path)) = (file.status, &file.new_path) {
            added.insert(path.clone(), at);
        }
    }
    let mut gone = HashSet::new();
    let mut out = files.clone();
    for (at, file) in files.iter().enumerate() {
        let (FileStatus::Deleted, Some(path)) = (file.status, &file.old_path) else {
            continue;
        };
        let Some(other) = added.get(path).copied() else {
            continue;
        };
        let addition = &files[other];
        if !type_changed(file.old_mode, addition.new_mode) || !gone.insert(other) {
            continue;
        }
        let lines = match (file.lines, addition.lines) {
            (Some((a, b)), Some((c, d))) => Some((a.saturating_add(c), b.saturating_add(d))),
            _ => None,
        };
        out[at] = FileChange {
            status: FileStatus::TypeChanged,
            old_path: file.old_path.clone(),
            new_path: addition.new_path.clone(),
            old_mode: file.old_mode,
            new_mode: addition.new_mode,
            lines,
        };
    }
    let mut at = 0;
    out.retain(|_| {
        at += 1;
        !gone.contains(&(at - 1))
    });
    out
}

/// Lines added and removed; `None` where the text is left out, binary or not a diff.
fn lines(diff: &Diff) -> Option<(u32, u32)> {
    if diff.collapsed.unwrap_or(false) || diff.too_large.unwrap_or(false) {
        return None;
    }
    count_lines(&diff.diff)
}

/// Counts by the numbers in the hunk headers, so that a removed line `-- x` is not taken for a file header.
fn count_lines(text: &str) -> Option<(u32, u32)> {
    let (mut added, mut removed) = (0u32, 0u32);
    let (mut old_left, mut new_left) = (0u32, 0u32);
    let mut hunks = 0;
    for line in text.split_terminator('\n') {
        if old_left == 0 && new_left == 0 {
            if line.starts_with("@@ ") {
                (old_left, new_left) = hunk(line)?;
                hunks += 1;
            }
            // Between hunks: the file header, or "\ No newline at end of file".
            continue;
        }
        match line.as_bytes().first() {
            Some(b'+') => {
                new_left = new_left.checked_sub(1)?;
                added += 1;
            }
            Some(b'-') => {
                old_left = old_left.checked_sub(1)?;
                removed += 1;
            }
            Some(b'\\') => {}
            // Some writers leave out the blank of an empty context line.
            Some(b' ') | None => {
                old_left = old_left.checked_sub(1)?;
                new_left = new_left.checked_sub(1)?;
            }
            _ => return None,
        }
    }
    let whole = old_left == 0 && new_left == 0;
    (whole && (hunks > 0 || text.is_empty())).then_some((added, removed))
}

/// The line counts of `@@ -a,b +c,d @@`; a count that is left out is 1.
fn hunk(line: &str) -> Option<(u32, u32)> {
    let mut parts = line.strip_prefix("@@ -")?.split(' ');
    let count = |range: &str| {
        range
            .split_once(',')
            .map_or(Some(1), |(_, count)| count.parse().ok())
    };
    let old = count(parts.next()?)?;
    let new = count(parts.next()?.strip_prefix('+')?)?;
    Some((old, new))
}

/// Why the list of commits cannot be trusted to be whole.
fn commits_doubt(commits: &[Commit], head: &str, whole: bool, no_files: bool) -> Option<String> {
    let reason = if !whole {
        "the change has more commits than can be read"
    } else if commits.iter().any(|it| !is_commit_id(&it.id)) {
        "GitLab lists a commit without a full id"
    } else if commits.is_empty() && no_files {
        return None;
    } else if !commits.iter().any(|it| it.id == head) {
        "GitLab's list of commits does not hold the newest one"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

/// Everyone, each once per part.
fn contributors(author: &User, commits: &[Commit], pushers: Vec<User>) -> Vec<Contributor> {
    let by_account = |part, user: &User| Contributor {
        part,
        account: Some(user.clone().into()),
        name: user.name.clone(),
        email: None,
    };
    let by_email = |part, name: Option<&str>, email: Option<&str>| {
        let name = name.unwrap_or_default().trim().to_owned();
        let email = email
            .map(|it| it.trim().to_lowercase())
            .filter(|it| !it.is_empty());
        Contributor {
            part,
            account: None,
            name,
            email,
        }
    };
    let mut all = vec![by_account(Part::Author, author)];
    for commit in commits {
        all.push(by_email(
            Part::CommitAuthor,
            commit.author_name.as_deref(),
            commit.author_email.as_deref(),
        ));
        all.push(by_email(
            Part::Committer,
            commit.committer_name.as_deref(),
            commit.committer_email.as_deref(),
        ));
        for (name, email) in co_authors(&commit.message) {
            all.push(by_email(Part::CoAuthor, Some(name), email));
        }
    }
    all.extend(pushers.iter().map(|it| by_account(Part::Pusher, it)));
    let mut seen = HashSet::new();
    all.retain(|it| seen.insert(it.clone()));
    all
}

/// `Co-authored-by: Name <e-mail>`, anywhere in the message: it only ever bans more people, so it is read generously.
fn co_authors(message: &str) -> Vec<(&str, Option<&str>)> {
    const KEY: &str = "co-authored-by:";
    let mut found = Vec::new();
    for line in message.lines() {
        let line = line.trim();
        let Some(key) = line.get(..KEY.len()) else {
            continue;
        };
        if !key.eq_ignore_ascii_case(KEY) {
            continue;
        }
        let rest = line[KEY.len()..].trim();
        match rest.split_once('<') {
            Some((name, email)) => {
                found.push((name.trim(), Some(email.split('>').next().unwrap_or(email).trim())));
            }
            None if rest.contains('@') => found.push(("", Some(rest))),
            None if !rest.is_empty() => found.push((rest, None)),
            None => {}
        }
    }
    found
}

/// Who pushed to the branch in its present life, by events from newest to oldest.
fn pushers(events: Vec<Event>, branch: &str, whole: bool) -> (Vec<User>, Option<String>) {
    let mut found: Vec<User> = Vec::new();
    let mut unread = None;
    for event in events {
        let Some(push) = event.push_data else { continue };
        if push.reference.is_none() && push.ref_count.is_some_and(|it| it > 0) {
            unread = Some("somebody pushed many branches at once, and GitLab does not tell which".to_owned());
            continue;
        }
        if push.ref_type.as_deref() == Some("tag") || push.reference.as_deref() != Some(branch) {
            continue;
        }
        if push.action.as_deref() == Some("removed") {
            continue;
        }
        match event.author {
            Some(user) if !found.iter().any(|it| it.id == user.id) => found.push(user),
            Some(_) => {}
            None => unread = Some("GitLab does not tell who made one of the pushes".to_owned()),
        }
        // What was pushed before the branch was made was pushed to another branch of that name.
        if push.action.as_deref() == Some("created") {
            return (found, unread);
        }
    }
    if !whole {
        unread.get_or_insert_with(|| "there are more pushes than can be read".to_owned());
    }
    (found, unread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use serde_json::json;

    const HEAD: &str = "0123456789abcdef0123456789abcdef01234567";
    const BASE: &str = "f123456789abcdef0123456789abcdef01234567";

    fn change(fields: Value) -> MergeRequest {
        let mut all = json!({
            "iid": 3, "project_id": 7, "target_project_id": 7, "source_project_id": 7, "state": "opened", "title": "t",
            "web_url": "https://h/x", "author": {"id": 1, "username": "a", "name": "A"}, "source_branch": "topic",
            "target_branch": "main", "sha": HEAD, "changes_count": "1", "prepared_at": "2026-01-01T00:00:00Z",
            "detailed_merge_status": "mergeable",
            "diff_refs": {"base_sha": BASE, "start_sha": BASE, "head_sha": HEAD},
        });
        for (name, value) in fields.as_object().expect("an object") {
            all[name] = value.clone();
        }
        serde_json::from_value(all).expect("a merge request")
    }

    fn diff(fields: Value) -> Diff {
        let mut all =
            json!({"old_path": "a", "new_path": "a", "a_mode": "100644", "b_mode": "100644", "diff": ""});
        for (name, value) in fields.as_object().expect("an object") {
            all[name] = value.clone();
        }
        serde_json::from_value(all).expect("a diff")
    }

    fn doubt(fields: Value, listed: usize) -> Option<String> {
        files_doubt(&change(fields), &vec![diff(json!({})); listed], true)
    }

    #[test]
    fn a_list_is_whole_only_if_everything_agrees() {
        assert_eq!(doubt(json!({}), 1), None);
        assert_eq!(doubt(json!({"changes_count": "0"}), 0), None);
        // A GitLab that knows no `prepared_at`.
        let mut older = serde_json::Map::new();
        older.insert("merge_status".to_owned(), json!("can_be_merged"));
        assert_eq!(doubt(Value::Object(older), 1), None);
        for (fields, listed) in [
            (json!({}), 0),
            (json!({}), 2),
            (json!({"changes_count": "1+"}), 1),
            (json!({"changes_count": "1000+"}), 1000),
            (json!({"changes_count": "+1"}), 1),
            (json!({"changes_count": " 1"}), 1),
            (json!({"changes_count": ""}), 1),
            (json!({"changes_count": "99999999999999999999999"}), 1),
            (json!({"changes_count": null}), 1),
            (json!({"prepared_at": null}), 1),
            (json!({"detailed_merge_status": "preparing"}), 1),
            (json!({"sha": BASE}), 1),
            (json!({"diff_refs": null}), 1),
            (
                json!({"diff_refs": {"base_sha": null, "head_sha": null}, "sha": null}),
                1,
            ),
        ] {
            assert!(
                doubt(fields.clone(), listed).is_some(),
                "{fields} with {listed} listed"
            );
        }
        assert!(files_doubt(&change(json!({})), &[diff(json!({}))], false).is_some());
        for odd in [
            json!({"new_path": "caf\u{fffd}"}),
            json!({"old_path": "caf\u{fffd}"}),
            json!({"new_path": ""}),
            json!({"new_file": true, "deleted_file": true}),
        ] {
            assert!(
                files_doubt(&change(json!({})), &[diff(odd.clone())], true).is_some(),
                "{odd}"
            );
        }
    }

    #[test]
    fn entries_become_facts() {
        let added = file(&diff(json!({"new_file": true, "a_mode": "0"})));
        assert_eq!(
            (added.status, added.old_path, added.old_mode),
            (FileStatus::Added, None, FileMode::ABSENT)
        );
        assert_eq!(added.new_mode, FileMode::Known(0o100_644));
        let deleted = file(&diff(json!({"deleted_file": true, "b_mode": "0"})));
        assert_eq!(
            (deleted.status, deleted.new_path, deleted.new_mode),
            (FileStatus::Deleted, None, FileMode::ABSENT)
        );
        let renamed = file(&diff(json!({"renamed_file": true, "new_path": "b"})));
        assert_eq!(
            (renamed.status, renamed.old_path),
            (FileStatus::Renamed, Some(RepoPath::from("a")))
        );
        // Two paths are both judged, even if no flag or the wrong one says so.
        for odd in [
            json!({"new_path": "b"}),
            json!({"new_path": "b", "new_file": true}),
        ] {
            let odd = file(&diff(odd));
            assert_eq!((odd.status, odd.old_path.is_some()), (FileStatus::Renamed, true));
        }
        let link = file(&diff(json!({"b_mode": "120000"})));
        assert_eq!(
            (link.status, link.new_mode),
            (FileStatus::TypeChanged, FileMode::Known(0o120_000))
        );
        let executable = file(&diff(json!({"b_mode": "100755"})));
        assert_eq!(executable.status, FileStatus::Modified);
        for bad in [
            json!(null),
            json!(""),
            json!("0"),
            json!("9"),
            json!("1006444"),
            json!("-1"),
        ] {
            assert_eq!(
                file(&diff(json!({"b_mode": bad}))).new_mode,
                FileMode::UNKNOWN,
                "{bad}"
            );
        }
    }

    #[test]
    fn a_deletion_and_an_addition_of_another_type_are_one_change() {
        let text = "@@ -1 +0,0 @@\n-x\n";
        let parts = [
            json!({"deleted_file": true, "b_mode": "0", "diff": text}),
            json!({"old_path": "z", "new_path": "z"}),
            json!({"new_file": true, "a_mode": "0", "b_mode": "120000", "diff": "@@ -0,0 +1 @@\n+y\n"}),
        ];
        let list = file_list(
            &change(json!({"changes_count": "3"})),
            parts.map(diff).to_vec(),
            true,
        );
        assert_eq!(list.incomplete, None);
        assert_eq!(list.files.len(), 2);
        assert_eq!(
            (list.files[0].status, list.files[0].lines),
            (FileStatus::TypeChanged, Some((1, 1)))
        );
        assert_eq!(list.files[0].new_mode, FileMode::Known(0o120_000));
        // The same type is no change of type: both entries stay.
        let same = [
            json!({"deleted_file": true, "b_mode": "0"}),
            json!({"new_file": true, "a_mode": "0", "b_mode": "100644"}),
        ];
        assert_eq!(
            file_list(
                &change(json!({"changes_count": "2"})),
                same.map(diff).to_vec(),
                true
            )
            .files
            .len(),
            2
        );
    }

    #[test]
    fn lines_are_counted_by_hunks() {
        assert_eq!(count_lines(""), Some((0, 0)));
        assert_eq!(count_lines("@@ -1,2 +1,3 @@ fn\n a\n-b\n+c\n+d\n"), Some((2, 1)));
        assert_eq!(
            count_lines("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n"),
            Some((1, 1))
        );
        // A removed line that looks like a header, an added one that looks like a hunk.
        assert_eq!(
            count_lines("@@ -1,2 +1,2 @@\n--- a\n-b\n+++ c\n+@@ -9,9 +9,9 @@\n"),
            Some((2, 2))
        );
        assert_eq!(
            count_lines("@@ -1 +0,0 @@\n-a\n@@ -9,0 +8 @@\n+b\n"),
            Some((1, 1))
        );
        assert_eq!(count_lines("Binary files a/x and b/x differ\n"), None);
        assert_eq!(count_lines("@@ -1,5 +1,5 @@\n-a\n"), None);
        assert_eq!(count_lines("@@ -1 +1,4294967295 @@\n"), None);
        assert_eq!(count_lines("@@ nonsense\n+a\n"), None);
        assert_eq!(lines(&diff(json!({"collapsed": true}))), None);
        assert_eq!(lines(&diff(json!({"too_large": true, "collapsed": null}))), None);
    }

    #[test]
    fn co_authors_are_read_generously() {
        let message = "Subject\n\nCo-authored-by: Ann Other <Ann@Example.org>\nco-AUTHORED-by:bob@example.org\n\
                       Co-authored-by: Nobody\nCo-authored-by:\n  Co-Authored-By: X <x@y\nCo-authored-bÿ";
        let expected = vec![
            ("Ann Other", Some("Ann@Example.org")),
            ("", Some("bob@example.org")),
            ("Nobody", None),
            ("X", Some("x@y")),
        ];
        assert_eq!(co_authors(message), expected);
    }

    #[test]
    fn everyone_counts_once_per_part() {
        let user = |id: u64| User {
            id,
            username: format!("u{id}"),
            name: format!("N{id}"),
        };
        let commit: Commit = serde_json::from_value(json!({
            "id": HEAD, "message": "x\n\nCo-authored-by: C <C@x.org>", "author_name": "A", "author_email": "A@x.org",
            "committer_name": "B", "committer_email": " B@X.org "}))
        .expect("a commit");
        let all = contributors(&user(1), &[commit.clone(), commit], vec![user(1), user(2)]);
        let short: Vec<_> = all
            .iter()
            .map(|it| {
                (
                    it.part,
                    it.account.as_ref().map(|a| a.id.as_str()),
                    it.email.as_deref(),
                )
            })
            .collect();
        let expected = vec![
            (Part::Author, Some("1"), None),
            (Part::CommitAuthor, None, Some("a@x.org")),
            (Part::Committer, None, Some("b@x.org")),
            (Part::CoAuthor, None, Some("c@x.org")),
            (Part::Pusher, Some("1"), None),
            (Part::Pusher, Some("2"), None),
        ];
        assert_eq!(short, expected);
    }

    #[test]
    fn commits_must_hold_the_head() {
        let commit = |id: &str| -> Commit { serde_json::from_value(json!({ "id": id })).expect("a commit") };
        assert_eq!(
            commits_doubt(&[commit(BASE), commit(HEAD)], HEAD, true, false),
            None
        );
        assert_eq!(commits_doubt(&[], HEAD, true, true), None);
        assert!(commits_doubt(&[], HEAD, true, false).is_some());
        assert!(commits_doubt(&[commit(BASE)], HEAD, true, false).is_some());
        assert!(commits_doubt(&[commit(HEAD)], HEAD, false, false).is_some());
        assert!(commits_doubt(&[commit(HEAD), commit("abc")], HEAD, true, false).is_some());
    }

    #[test]
    fn pushers_are_those_of_the_branch_now() {
        let event = |user: u64, action: &str, kind: &str, reference: Value| -> Event {
            serde_json::from_value(json!({"author": {"id": user, "username": "u", "name": "U"},
                "push_data": {"action": action, "ref_type": kind, "ref": reference,
                    "ref_count": if reference.is_null() { json!(5) } else { json!(null) }}}))
            .expect("an event")
        };
        let ids = |users: Vec<User>| users.iter().map(|it| it.id).collect::<Vec<_>>();
        let events = vec![
            event(8, "removed", "branch", json!("topic")),
            event(3, "pushed", "branch", json!("topic")),
            event(4, "pushed", "branch", json!("other")),
            event(5, "pushed", "tag", json!("topic")),
            event(3, "pushed", "branch", json!("topic")),
            event(6, "created", "branch", json!("topic")),
            event(7, "pushed", "branch", json!("topic")),
        ];
        let (found, unread) = pushers(events, "topic", false);
        assert_eq!((ids(found), unread), (vec![3, 6], None));
        let many = vec![
            event(3, "pushed", "branch", json!(null)),
            event(4, "created", "branch", json!("topic")),
        ];
        let (found, unread) = pushers(many, "topic", true);
        assert_eq!((ids(found), unread.is_some()), (vec![4], true));
        assert!(pushers(Vec::new(), "topic", false).1.is_some());
        assert!(pushers(Vec::new(), "topic", true).1.is_none());
    }

    #[test]
    fn drafts_are_known_by_field_or_title() {
        for fields in [
            json!({"draft": true}),
            json!({"work_in_progress": true}),
            json!({"title": "Draft: x"}),
        ] {
            assert!(change(fields.clone()).is_draft(), "{fields}");
        }
        assert!(!change(json!({"title": "Drafts: x"})).is_draft());
    }
}
