//! A system hook: one webhook for all projects of a self-managed GitLab. Only an administrator's token reads and makes one
//! (<https://docs.gitlab.com/api/system_hooks/>). It tells of pushes and merge requests, not of pipelines and jobs.

use crate::domain::provision::Settings;
use crate::forge::gitlab::GitLab;
use crate::forge::gitlab::plan::{Draft, planned, settings};
use crate::forge::gitlab::provision::{SYSTEM_HOOK, hook_settings};
use crate::outbound::Error;
use serde_json::{Value, json};

/// Where system hooks are.
pub(super) const HOOKS: [&str; 1] = ["hooks"];

/// The settings of a system hook that leads here.
pub(super) fn wanted(url: &str) -> Settings {
    settings([
        ("push_events", json!(true)),
        ("merge_requests_events", json!(true)),
        // Both are on by GitLab's default, and nobody here reads them.
        ("tag_push_events", json!(false)),
        ("repository_update_events", json!(false)),
        // Plain http has no certificate; such an address exists in evaluation alone.
        ("enable_ssl_verification", json!(url.starts_with("https:"))),
    ])
}

impl GitLab {
    /// Plans a system hook that leads here.
    pub(super) async fn plan_system_hook(&self, draft: &mut Draft<'_>) {
        let url = draft.of.hook_url;
        let click = format!(
            "Admin → System hooks → Add new webhook: URL {url}, triggers Push and Merge request events, the secret that was \
             shown when this GitLab was connected"
        );
        let wanted = wanted(url);
        let (list, unread) = match self.whole(&HOOKS).await {
            Ok(list) => (list, None),
            Err(error) => (Vec::new(), Some(unreadable(&error))),
        };
        let own: Vec<&Value> = list.iter().filter(|it| it["url"] == url).collect();
        if own.iter().any(|it| hook_settings(it, &wanted) == wanted) {
            draft.satisfied.push(
                "A system hook of this GitLab leads here and tells of every project's pushes and merge requests.".into(),
            );
            return;
        }
        let (what, before) = match own.first() {
            None => (
                "Add a system hook, so that this server hears at once of pushes and merge requests. It serves every project of \
                 this GitLab; putting it back takes it from all of them.",
                "none leads here",
            ),
            Some(_) => (
                "Mend the system hook: its events, and the secret by which this server knows it.",
                "it leads here, with other settings",
            ),
        };
        let after = format!("tells {url} of pushes and merge requests of all projects");
        let number = own.first().and_then(|it| it["id"].as_u64());
        let was = own.first().map(|it| hook_settings(it, &wanted));
        let change = planned("system_hook", what, SYSTEM_HOOK, url, number, was, wanted);
        draft.step(change, before.to_owned(), after, unread, &click);
        draft.warnings.push(
            "A system hook tells nothing of pipelines and jobs: deployments that wait are seen within 25 seconds instead of at \
             once. It tells of every project of this GitLab, also of those that are not gated; those are counted and left \
             alone."
                .to_owned(),
        );
    }

    /// A system hook leads to `url` and tells of what is needed; `false` too where our token may not see them.
    pub(super) async fn system_hook_leads(&self, url: &str) -> bool {
        let Ok(list) = self.whole(&HOOKS).await else {
            return false;
        };
        let tells = |it: &Value| it["push_events"] == true && it["merge_requests_events"] == true;
        list.iter().any(|it| it["url"] == url && tells(it))
    }
}

fn unreadable(error: &Error) -> String {
    match error {
        Error::Status { code: 403, .. } => {
            "only an administrator's token with the scope api may make a system hook, and this token is none"
                .to_owned()
        }
        other => format!(
            "the system hooks can't be read: {}",
            crate::forge::gitlab::explained(other)
        ),
    }
}
