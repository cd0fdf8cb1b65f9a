//! A merge request as GitLab tells it.

use crate::domain::facts::ChangeState;
use crate::domain::text::visible;
use crate::forge::ChangeHead;
use crate::forge::ListedChange;
use crate::forge::gitlab::User;
use crate::forge::gitlab::full_ref;
use crate::forge::gitlab::is_commit_id;
use serde::Deserialize;

/// A merge request, of its own page or of a list.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct MergeRequest {
    pub(super) iid: u64,
    pub(super) state: String,
    #[serde(default)]
    pub(super) draft: bool,
    /// What `draft` was called before GitLab 14.
    #[serde(default)]
    pub(super) work_in_progress: bool,
    #[serde(default)]
    pub(super) title: String,
    #[serde(default)]
    pub(super) web_url: String,
    pub(super) author: User,
    pub(super) source_branch: String,
    pub(super) target_branch: String,
    /// Absent once a fork has been removed.
    pub(super) source_project_id: Option<u64>,
    pub(super) target_project_id: Option<u64>,
    pub(super) sha: Option<String>,
    pub(super) diff_refs: Option<DiffRefs>,
    /// A text, `"1000+"` where GitLab has given up counting; null before it has counted.
    pub(super) changes_count: Option<String>,
    /// `None`: an older GitLab, which does not tell. `Some(None)`: not prepared yet.
    #[serde(default, deserialize_with = "told")]
    pub(super) prepared_at: Option<Option<String>>,
    pub(super) detailed_merge_status: Option<String>,
    pub(super) merge_status: Option<String>,
    pub(super) merge_user: Option<User>,
    pub(super) merged_by: Option<User>,
    pub(super) merge_commit_sha: Option<String>,
    pub(super) squash_commit_sha: Option<String>,
    #[serde(default)]
    pub(super) updated_at: String,
    pub(super) merged_at: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct DiffRefs {
    pub(super) base_sha: Option<String>,
    pub(super) head_sha: Option<String>,
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

    pub(super) fn is_draft(&self) -> bool {
        let title = self.title.trim_start();
        let marked = ["draft:", "[draft]", "(draft)"];
        let lower = title.to_ascii_lowercase();
        self.draft || self.work_in_progress || marked.iter().any(|it| lower.starts_with(it))
    }

    /// What must stand still while its lists are read.
    pub(super) fn still(&self) -> (Option<&str>, &Option<DiffRefs>, &str, &Option<String>) {
        (
            self.sha.as_deref(),
            &self.diff_refs,
            &self.target_branch,
            &self.changes_count,
        )
    }

    /// GitLab has not finished making it. Closed and merged ones are finished whatever they say.
    pub(super) fn is_preparing(&self) -> bool {
        let open = matches!(self.state.as_str(), "opened" | "locked");
        let preparing = self.detailed_merge_status.as_deref() == Some("preparing")
            || self.merge_status.as_deref() == Some("preparing")
            || self.prepared_at == Some(None)
            || self.sha.is_none()
            || self.changes_count.is_none();
        open && preparing
    }
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
