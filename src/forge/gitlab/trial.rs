//! Trying a gate out: a throw-away merge request, and whether GitLab would let it through. Nothing here can merge: the only
//! call to merge that is ever made names a commit that does not exist, and GitLab looks at the right to merge before it
//! looks at the commit.

use crate::domain::policy::NamePattern;
use crate::domain::provision::{Attempt, Seen};
use crate::domain::request::GateState;
use crate::domain::text::{shortened, visible};
use crate::forge::gitlab::{GitLab, Limits, User, explained, project_number, words};
use crate::forge::{TrialWanted, Tried};
use crate::outbound::{Error, Method, Secret};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// Title of a trial's merge request.
const TITLE: &str = "Trial by SignedApproval: do not merge";
const DESCRIPTION: &str = "SignedApproval tries out whether GitLab holds a change that nobody has approved. It closes this \
                           merge request and removes its branch by itself within a few minutes; there is nothing to do here.";
/// A commit that does not exist.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";
/// How long our own status is waited for: a lost webhook is made up for within half of it.
const STATUS_MAX: Duration = Duration::from_secs(60);
/// How long GitLab may take to work out whether it can merge.
const SETTLE_MAX: Duration = Duration::from_secs(15);
/// Time for everything but clearing up.
const WHOLE: Duration = Duration::from_secs(120);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);
const LIMITS: Limits = Limits {
    pages: 5,
    bytes: 4 * 1024 * 1024,
};

impl GitLab {
    /// See [`crate::forge::Forge::try_gate`].
    pub(crate) async fn try_gate(&self, wanted: &TrialWanted<'_>, other: Option<Secret>) -> Tried {
        let mut tried = Tried::default();
        let done = tokio::time::timeout(WHOLE, self.run_trial(wanted, other, &mut tried)).await;
        let broke = match done {
            Ok(Ok(())) => None,
            Ok(Err(stop)) => Some(stop),
            Err(_) => Some(attempt(
                "Go on with the trial",
                "GitLab takes too long",
                "The trial was ended early. What stands above counts.",
            )),
        };
        tried.attempts.extend(broke);
        match self.clear_trial(wanted.forge_project_id, wanted.branch).await {
            Ok(()) => tried.cleared = true,
            Err(error) => tried.attempts.push(attempt(
                "Close the merge request and remove its branch",
                &explained(&error),
                "It is still there. This server goes on trying to clear it away; you may do it by hand.",
            )),
        }
        tried
    }

    /// Closes what is open from a trial's branch, and removes the branch. Repeating it is harmless.
    pub(crate) async fn clear_trial(&self, forge_project_id: &str, branch: &str) -> Result<(), Error> {
        let id = project_number(forge_project_id)?;
        let query = [("source_branch", branch), ("state", "opened")];
        let open = self
            .pages::<Value>(&["projects", id, "merge_requests"], &query, LIMITS)
            .await
            .map_err(|it| it.error)?;
        for it in open.items.iter().filter(|it| it["source_branch"] == branch) {
            let iid = it["iid"].as_u64().unwrap_or_default().to_string();
            let path = ["projects", id, "merge_requests", iid.as_str()];
            let call = self
                .call(Method::Put, &path)?
                .json(&json!({"state_event": "close"}));
            self.repeated(call).await?;
        }
        let path = ["projects", id, "repository", "branches", branch];
        match self.repeated(self.call(Method::Delete, &path)?).await {
            Ok(_) | Err(Error::Status { code: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Does all of it, into `tried`.
    ///
    /// # Errors
    /// What made it end early.
    async fn run_trial(
        &self,
        wanted: &TrialWanted<'_>,
        other: Option<Secret>,
        tried: &mut Tried,
    ) -> Result<(), Attempt> {
        let stopped = |what: &str, error: &Error| {
            attempt(
                what,
                &explained(error),
                "The gate could not be tried out any further.",
            )
        };
        let id = project_number(wanted.forge_project_id).map_err(|e| stopped("Name the project", &e))?;
        let me = self
            .get::<User>(&["user"], &[])
            .await
            .map_err(|e| stopped("Ask who this server is", &e))?;
        let target = self
            .trial_target(id, wanted)
            .await
            .map_err(|e| stopped("Find a gated branch", &e))?
            .ok_or_else(|| {
                attempt(
                    "Find a gated branch",
                    "there is none that the project's patterns name",
                    "Nothing is gated yet, so nothing can be tried out.",
                )
            })?;
        let shown = shortened(&visible(&target), 80);
        let (iid, sha) = self
            .open_trial(id, wanted.branch, &target)
            .await
            .map_err(|e| stopped("Open a merge request from a throw-away branch", &e))?;
        tried.attempts.push(attempt(
            &format!("Open a merge request from `{}` into `{shown}`", wanted.branch),
            &format!("!{iid}"),
            "Closed and removed at the end.",
        ));

        let name = format!("signedapproval/{target}");
        let waits = self.own_status(id, wanted.branch, &sha, &name, me.id).await;
        let (answer, means, waiting) = match waits {
            Some(GateState::Pending) => (
                "pending",
                "The change waits for its approval, as it should.",
                true,
            ),
            Some(GateState::Failed) => ("failed", "The change is not approved, as it should be.", true),
            Some(GateState::Success) => (
                "success",
                "A rule of the policy asks nobody about such a change, so what GitLab does with a waiting one can't be seen.",
                false,
            ),
            None => (
                "none within a minute",
                "GitLab did not take the status, or this server did not hear of the change. The rest counts all the same.",
                true,
            ),
        };
        tried
            .attempts
            .push(attempt("Wait for this server's own status on it", answer, means));

        let merge = self
            .settled(id, &iid)
            .await
            .map_err(|e| stopped("Read the merge request", &e))?;
        let open = is_open(&merge);
        if waiting {
            tried.seen.open_while_waiting = open;
        }
        let means = match open {
            Some(true) => "Whoever may merge into the branch could merge it now, unapproved.",
            Some(false) => "GitLab holds it.",
            None => "GitLab does not say in time.",
        };
        tried.attempts.push(attempt(
            "Ask GitLab whether it could be merged as it is",
            &shortened(&visible(&merge), 80),
            means,
        ));
        self.look_at_pipeline(id, &iid, tried).await;
        self.look_at_approvals(id, &iid, tried).await;
        if let Some(token) = other {
            let other = GitLab {
                token,
                ..self.clone()
            };
            other
                .try_as_other(
                    id,
                    me.id,
                    &iid,
                    &sha,
                    wanted.branch,
                    &name,
                    &mut tried.attempts,
                    &mut tried.seen,
                )
                .await;
            if tried.seen.developer_posts == Some(true) && waiting {
                let merge = self
                    .settled(id, &iid)
                    .await
                    .map_err(|e| stopped("Read the merge request again", &e))?;
                tried.seen.open_by_forgery = is_open(&merge);
                let means = match tried.seen.open_by_forgery {
                    Some(true) => {
                        "The forged status is enough for GitLab: whoever may merge could merge it now."
                    }
                    Some(false) => "The forged status does not open it.",
                    None => "GitLab does not say in time.",
                };
                tried.attempts.push(attempt(
                    "Ask GitLab again, with that status on it",
                    &shortened(&visible(&merge), 80),
                    means,
                ));
            }
        }
        Ok(())
    }

    /// The gated branch to try: the one asked for, else the first there is.
    async fn trial_target(&self, id: &str, wanted: &TrialWanted<'_>) -> Result<Option<String>, Error> {
        for pattern in wanted.branch_patterns {
            let Ok(matcher) = NamePattern::new(pattern) else {
                continue;
            };
            if let Some(target) = wanted.target {
                if matcher.matches(target) {
                    self.branch_head(id, target).await?;
                    return Ok(Some(target.to_owned()));
                }
                continue;
            }
            if !pattern.contains(['*', '?', '[', '{']) {
                match self.branch_head(id, pattern).await {
                    Ok(_) => return Ok(Some(pattern.clone())),
                    Err(Error::Status { code: 404, .. }) => continue,
                    Err(error) => return Err(error),
                }
            }
            let lead = pattern.split(['*', '?', '[', '{']).next().unwrap_or_default();
            let search = format!("^{lead}");
            let query: &[(&str, &str)] = if lead.is_empty() {
                &[]
            } else {
                &[("search", search.as_str())]
            };
            let branches = self
                .pages::<Value>(&["projects", id, "repository", "branches"], query, LIMITS)
                .await
                .map_err(|it| it.error)?;
            let mut names = branches.items.iter().filter_map(|it| it["name"].as_str());
            if let Some(found) = names.find(|it| matcher.matches(it)) {
                return Ok(Some(found.to_owned()));
            }
        }
        Ok(None)
    }

    /// Makes branch, commit and merge request; its number and head.
    async fn open_trial(&self, id: &str, branch: &str, target: &str) -> Result<(String, String), Error> {
        let file = format!("{branch}.txt");
        let body = json!({
            "branch": branch, "start_branch": target, "commit_message": TITLE,
            "actions": [{"action": "create", "file_path": file, "content": format!("{DESCRIPTION}\n")}],
        });
        let call = self
            .call(Method::Post, &["projects", id, "repository", "commits"])?
            .json(&body);
        let commit: Value = self.client.fetch(call).await?.json()?;
        let sha = commit["id"].as_str().unwrap_or_default();
        let sha = crate::forge::gitlab::commit_id(sha)?.to_owned();
        let body = json!({
            "source_branch": branch, "target_branch": target, "title": TITLE, "description": DESCRIPTION,
            "remove_source_branch": true,
        });
        let call = self
            .call(Method::Post, &["projects", id, "merge_requests"])?
            .json(&body);
        let made: Value = self.client.fetch(call).await?.json()?;
        let iid = made["iid"]
            .as_u64()
            .ok_or_else(|| Error::NotJson("a merge request without a number".to_owned()))?;
        Ok((iid.to_string(), sha))
    }

    async fn own_status(&self, id: &str, branch: &str, sha: &str, name: &str, own: u64) -> Option<GateState> {
        let begun = Instant::now();
        while begun.elapsed() < STATUS_MAX {
            if let Ok(Some(status)) = self.read_status(id, sha, branch, name).await
                && status.author.as_ref().is_some_and(|it| it.id == own.to_string())
            {
                return status.state;
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    /// GitLab's word for whether it could be merged, once it has made up its mind.
    async fn settled(&self, id: &str, iid: &str) -> Result<String, Error> {
        let begun = Instant::now();
        loop {
            let found: Value = self.get(&["projects", id, "merge_requests", iid], &[]).await?;
            let word = found["detailed_merge_status"]
                .as_str()
                .or(found["merge_status"].as_str())
                .unwrap_or("unknown")
                .to_owned();
            let moving = matches!(
                word.as_str(),
                "preparing" | "checking" | "unchecked" | "approvals_syncing"
            );
            if !moving || begun.elapsed() > SETTLE_MAX {
                return Ok(word);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn look_at_pipeline(&self, id: &str, iid: &str, tried: &mut Tried) {
        let path = ["projects", id, "merge_requests", iid, "pipelines"];
        let Ok(list) = self.pages::<Value>(&path, &[], LIMITS).await else {
            return;
        };
        let Some(newest) = list.items.iter().max_by_key(|it| it["id"].as_u64()) else {
            tried.attempts.push(attempt(
                "Look at its pipelines",
                "there is none",
                "No pipeline, no status: only who may merge holds this change.",
            ));
            return;
        };
        let own = newest["ref"]
            .as_str()
            .is_some_and(|it| it.starts_with("refs/merge-requests/"));
        let means = if own {
            "It is a merge request's own pipeline: GitLab goes by this one, whatever stands in the branch's."
        } else {
            "The status stands in this one."
        };
        let word = |name: &str| visible(newest[name].as_str().unwrap_or("unknown"));
        let answer = format!("{}, source {}", word("status"), word("source"));
        tried.attempts.push(attempt(
            "Look at its newest pipeline",
            &shortened(&answer, 120),
            means,
        ));
    }

    async fn look_at_approvals(&self, id: &str, iid: &str, tried: &mut Tried) {
        let path = ["projects", id, "merge_requests", iid, "approvals"];
        let Ok(found) = self.get::<Value>(&path, &[]).await else {
            return;
        };
        let Some(left) = found["approvals_left"].as_u64() else {
            return;
        };
        let means = match left {
            0 => "GitLab itself waits for no approval.",
            _ => "GitLab waits for approvals of its own.",
        };
        tried.attempts.push(attempt(
            "Look at GitLab's own approvals",
            &format!("{left} missing"),
            means,
        ));
    }

    /// What another account may do. `self` bears its token.
    #[expect(
        clippy::too_many_arguments,
        reason = "one step of the trial above, with what it has found out so far"
    )]
    async fn try_as_other(
        &self,
        id: &str,
        own: u64,
        iid: &str,
        sha: &str,
        branch: &str,
        name: &str,
        attempts: &mut Vec<Attempt>,
        seen: &mut Seen,
    ) {
        let who = match self.get::<User>(&["user"], &[]).await {
            Ok(user) if user.id == own => {
                attempts.push(attempt(
                    "Use the other token",
                    "it is this server's own account",
                    "Not tried with it: what this server may says nothing about others.",
                ));
                return;
            }
            Ok(user) => shortened(&visible(&user.username), 60),
            Err(error) => {
                attempts.push(attempt(
                    "Use the other token",
                    &explained(&error),
                    "Not tried with it.",
                ));
                return;
            }
        };
        let path = ["projects", id, "merge_requests", iid, "merge"];
        let call = self
            .call(Method::Put, &path)
            .map(|it| it.json(&json!({"sha": NO_COMMIT})));
        let answer = match call {
            Ok(call) => self.client.fetch(call).await,
            Err(error) => Err(error),
        };
        let (word, may, means) = match &answer {
            Err(error) => match error.status() {
                Some(code @ (401 | 403)) => (said(code, error), Some(false), "It may not merge."),
                Some(code @ (405 | 406 | 409 | 422)) => (
                    said(code, error),
                    Some(true),
                    "It may merge: GitLab refuses the commit that does not exist, and not the person.",
                ),
                _ => (explained(error), None, "That says nothing about its rights."),
            },
            Ok(_) => (
                "accepted".to_owned(),
                Some(true),
                "It may merge, and GitLab took a commit that does not exist: look at the merge request in GitLab.",
            ),
        };
        seen.developer_merges = may;
        attempts.push(attempt(
            &format!("Ask to merge as @{who}, with a commit that does not exist"),
            &word,
            means,
        ));

        let body = json!({
            "state": "success", "name": name, "ref": branch,
            "description": "Trial: may another account post a status of this name?",
        });
        let call = self
            .call(Method::Post, &["projects", id, "statuses", sha])
            .map(|it| it.json(&body));
        let answer = match call {
            Ok(call) => self.client.fetch(call).await,
            Err(error) => Err(error),
        };
        let (word, took, means) = match &answer {
            Ok(_) => (
                "taken".to_owned(),
                Some(true),
                "GitLab shows a green status in this server's name: on GitLab a status is a display.",
            ),
            Err(error) => match error.status() {
                Some(code @ (401 | 403)) => (said(code, error), Some(false), "It may not post a status."),
                _ => (explained(error), None, "That says nothing about its rights."),
            },
        };
        seen.developer_posts = took;
        attempts.push(attempt(
            &format!("Post a green status named `{}` as @{who}", visible(name)),
            &word,
            means,
        ));
    }
}

fn attempt(what: &str, answer: &str, means: &str) -> Attempt {
    Attempt {
        what: what.to_owned(),
        answer: answer.to_owned(),
        means: means.to_owned(),
    }
}

/// A refusal with its number and GitLab's words.
fn said(code: u16, error: &Error) -> String {
    match error {
        Error::Status { excerpt, .. } => {
            let words = words(excerpt);
            // GitLab often begins with the number itself.
            let words = words.strip_prefix(&code.to_string()).unwrap_or(&words).trim();
            format!("{code} {words}").trim_end().to_owned()
        }
        _ => code.to_string(),
    }
}

/// GitLab calls it ready to be merged. `None`: it has not made up its mind, or is a GitLab that does not tell.
fn is_open(word: &str) -> Option<bool> {
    match word {
        "mergeable" => Some(true),
        "preparing" | "checking" | "unchecked" | "approvals_syncing" | "unknown" | "can_be_merged" => None,
        _ => Some(false),
    }
}
