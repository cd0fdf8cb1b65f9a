//! GitLab's own locks of a merge request: our account's approval (Premium), and the external status check (Ultimate).
//! Both are bound to the head: GitLab refuses another one with 409.

use crate::domain::request::GateState;
use crate::domain::text::visible;
use crate::forge::gitlab::{GitLab, Limits, User, commit_id, project_number, with_words};
use crate::forge::{LockKind, LockWrite, StatusRead};
use crate::outbound::{Error, Method, Outcome};
use serde::Deserialize;
use serde_json::json;

const LIMITS: Limits = Limits {
    pages: 5,
    bytes: 1024 * 1024,
};

#[derive(Deserialize)]
struct Approvals {
    #[serde(default)]
    approved_by: Vec<ApprovedBy>,
}

#[derive(Deserialize)]
struct ApprovedBy {
    user: User,
}

#[derive(Deserialize)]
struct Check {
    id: u64,
    #[serde(default)]
    external_url: String,
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
struct Pipelined {
    head_pipeline: Option<HeadPipeline>,
}

#[derive(Deserialize)]
struct HeadPipeline {
    id: u64,
    #[serde(default, rename = "ref")]
    reference: String,
}

impl GitLab {
    /// See [`crate::forge::Forge::set_lock`].
    pub(crate) async fn set_lock(&self, write: &LockWrite) -> Outcome<()> {
        let told = match write.kind {
            LockKind::Approval => self.approve(write).await,
            LockKind::ExternalCheck => self.answer_check(write).await,
        };
        match told {
            Ok(()) => Outcome::Delivered(()),
            Err(error) => judged(error, write.kind),
        }
    }

    /// Gives or takes back our account's approval.
    async fn approve(&self, write: &LockWrite) -> Result<(), Error> {
        let project = project_number(&write.forge_project_id)?;
        let number = write.number.to_string();
        let change = ["projects", project, "merge_requests", number.as_str()];
        let path = |verb| [&change[..], &[verb]].concat();
        if write.state != GateState::Success {
            let call = self.call(Method::Post, &path("unapprove"))?;
            return match self.client.fetch(call).await {
                // There was none to take back.
                Err(error) if error.status() == Some(404) => Ok(()),
                answer => answer.map(drop),
            };
        }
        let sha = commit_id(&write.sha).map_err(|_| Error::Refused("not a full commit id".to_owned()))?;
        let call = self
            .call(Method::Post, &path("approve"))?
            .json(&json!({ "sha": sha }));
        match self.client.fetch(call).await {
            // GitLab says the same to an account that may not approve and to one that has: only the list tells. An
            // approval by us that stands was given for this head, since GitLab takes it away at a push or we did.
            Err(error) if error.status() == Some(401) => match self.has_approved(&path("approvals")).await {
                Ok(true) => Ok(()),
                Ok(false) | Err(_) => Err(error),
            },
            answer => answer.map(drop),
        }
    }

    async fn has_approved(&self, path: &[&str]) -> Result<bool, Error> {
        let me: User = self.get(&["user"], &[]).await?;
        let approvals: Approvals = self.get(path, &[]).await?;
        Ok(approvals.approved_by.iter().any(|it| it.user.id == me.id))
    }

    /// See [`crate::forge::Forge::lock_is_open`].
    pub(crate) async fn lock_is_open(&self, write: &LockWrite) -> Result<bool, Error> {
        let project = project_number(&write.forge_project_id)?;
        let number = write.number.to_string();
        let change = ["projects", project, "merge_requests", number.as_str()];
        match write.kind {
            LockKind::Approval => self.has_approved(&[&change[..], &["approvals"]].concat()).await,
            LockKind::ExternalCheck => {
                let path = [&change[..], &["status_checks"]].concat();
                let checks = self
                    .pages::<Check>(&path, &[], LIMITS)
                    .await
                    .map_err(|it| it.error)?;
                let own = checks.items.iter().find(|it| it.external_url == write.hook_url);
                Ok(own.is_some_and(|it| it.status == "passed"))
            }
        }
    }

    /// Answers our external status check.
    async fn answer_check(&self, write: &LockWrite) -> Result<(), Error> {
        let project = project_number(&write.forge_project_id)?;
        let sha = commit_id(&write.sha).map_err(|_| Error::Refused("not a full commit id".to_owned()))?;
        let number = write.number.to_string();
        let change = ["projects", project, "merge_requests", number.as_str()];
        let path = |last| [&change[..], &[last]].concat();
        let checks = self
            .pages::<Check>(&path("status_checks"), &[], LIMITS)
            .await
            .map_err(|it| it.error)?;
        let own = checks
            .items
            .into_iter()
            .find(|it| it.external_url == write.hook_url);
        let Some(own) = own else {
            return Err(Error::Refused(
                "no external status check of the project leads to this server: set up the gate".to_owned(),
            ));
        };
        // GitLab turns a pending answer into a failed one after two minutes by itself, so what is not approved is failed.
        let status = if write.state == GateState::Success {
            "passed"
        } else {
            "failed"
        };
        let body = json!({ "sha": sha, "external_status_check_id": own.id, "status": status });
        let call = self
            .call(Method::Post, &path("status_check_responses"))?
            .json(&body);
        self.client.fetch(call).await.map(drop)
    }

    /// See [`crate::forge::Forge::not_in_force`].
    pub(crate) async fn not_in_force(
        &self,
        forge_project_id: &str,
        number: u64,
        status: &StatusRead,
    ) -> Result<Option<String>, Error> {
        let project = project_number(forge_project_id)?;
        let number = number.to_string();
        let change: Pipelined = self
            .get(&["projects", project, "merge_requests", &number], &[])
            .await?;
        let (Some(head), Some(own)) = (change.head_pipeline, status.pipeline) else {
            return Ok(None);
        };
        Ok((head.id != own).then(|| {
            format!(
                "GitLab goes by another pipeline of this merge request (on {}), so the status decides nothing there",
                visible(&head.reference)
            )
        }))
    }
}

/// What a refusal of a lock means.
fn judged(error: Error, kind: LockKind) -> Outcome<()> {
    let Error::Status { code, excerpt, .. } = &error else {
        return error.into_outcome();
    };
    let rejected = |sentence: &str| Outcome::Rejected {
        reason: with_words(sentence, excerpt),
    };
    match (code, kind) {
        (409, _) => Outcome::Retry {
            after: None,
            reason: format!("the head moved before {} was told", word_of(kind)),
        },
        (401, LockKind::Approval) => rejected(
            "GitLab does not let the token's account approve: it must be an approver of the project, and neither the \
             merge request's author nor one of its committers",
        ),
        (401, LockKind::ExternalCheck) => rejected("GitLab has no external status checks in this edition"),
        (403, _) => rejected(
            "the token may not do this: its account needs the role Developer, and the token the scope api",
        ),
        (404, _) => {
            rejected("GitLab knows no such merge request, or does not show it to the token's account")
        }
        (400 | 422, _) => rejected("GitLab does not take it as it is"),
        _ => error.into_outcome(),
    }
}

fn word_of(kind: LockKind) -> &'static str {
    match kind {
        LockKind::Approval => "the approval",
        LockKind::ExternalCheck => "the external status check",
    }
}
