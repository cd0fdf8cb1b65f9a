//! A gated GitHub repository: an appliance, a fake GitHub with an App that is installed on it, and the people around it.
//! Everything is set up through the public API, as an operator would.
#![allow(dead_code, reason = "the support offers more than any one test uses")]

use crate::support::appliance::{Api, Appliance, Options};
use crate::support::forge::github::FakeGitHub;
use crate::support::forge::github::state::APP;
use crate::support::forge::gitlab::repository::{Edit, NewCommit, Sha};
use crate::support::gated::{Change, SOON};
use crate::support::person::{Integration, Person, items, text};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The repository's number on the fake GitHub.
pub const REPOSITORY: u64 = 42;
const POLL: Duration = Duration::from_millis(50);

/// An appliance that gates `main` and `production` of one repository.
pub struct GatedGitHub {
    pub appliance: Appliance,
    pub github: FakeGitHub,
    /// Admin and approver; not on the forge.
    pub ada: Person,
    /// Approver.
    pub bea: Person,
    /// Approver, and author of the changes; his account is linked.
    pub carl: Person,
    pub carl_account: u64,
    pub installation: u64,
    pub integration: Integration,
    pub project: String,
    pub auditor: Api,
}

impl GatedGitHub {
    pub async fn start() -> Self {
        Self::start_with(json!({})).await
    }

    /// With other members in the repository's settings.
    pub async fn start_with(settings: Value) -> Self {
        Self::start_in(Options::default(), settings).await
    }

    pub async fn start_in(options: Options, settings: Value) -> Self {
        let github = FakeGitHub::start();
        let carl_account = github.add_user("carl", "carl@example.test");
        github.add_repository(REPOSITORY, "org", "app");
        github.branch(REPOSITORY, "production", "main");
        github.branch(REPOSITORY, "playground", "main");
        for branch in ["main", "production"] {
            github.gate(REPOSITORY, branch);
        }
        let installation = github.install("org", &[REPOSITORY], true);

        let appliance = Appliance::start(options).await;
        let ada = Person::set_up(&appliance, "Ada").await;
        let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
        let carl = ada.bring_in(&appliance, "Carl", &["approver"]).await;
        let key = github.read(|it| it.private_key());
        let integration = ada
            .connect(&json!({
                "kind": "github", "name": "GitHub", "base_url": github.base_url(), "app_id": APP, "private_key": key,
                "webhook_secret": "it is a secret to everybody",
            }))
            .await;
        ada.link_account(&carl, &integration, &carl_account.to_string())
            .await;
        let mut wanted = json!({
            "owner": "org", "repository": "app", "branch_patterns": ["main", "production"], "auto_merge": false, "quorum": 1,
        });
        for (name, value) in settings.as_object().expect("settings are an object") {
            wanted[name] = value.clone();
        }
        github.change(|state| {
            state.hook_url = Some(integration.webhook_url.clone());
            state.hook_secret = "it is a secret to everybody".to_owned();
        });
        let project = text(&ada.gate_project(&integration, &wanted).await, "id");
        let key = ada.create_api_key("Looker", &["audit"], &[]).await;
        let auditor = appliance.api().with_key(&key.key);
        GatedGitHub {
            appliance,
            github,
            ada,
            bea,
            carl,
            carl_account,
            installation,
            integration,
            project,
            auditor,
        }
    }

    pub fn commit_of_carl(file: &str) -> NewCommit {
        let edits = vec![Edit::write(file, "1\n")];
        NewCommit::by("Carl", "carl@example.test", &format!("Write {file}"), edits)
    }

    /// A branch off `main` with one commit by Carl, and his pull request into `target`.
    pub fn open(&self, branch: &str, target: &str) -> Change {
        self.github.branch(REPOSITORY, branch, "main");
        let commit = Self::commit_of_carl(&format!("{branch}.rs"));
        let head = self.github.commit(REPOSITORY, branch, self.carl_account, &commit);
        let iid = self.github.open(
            REPOSITORY,
            REPOSITORY,
            branch,
            target,
            "A change",
            self.carl_account,
        );
        Change {
            iid,
            branch: branch.to_owned(),
            head,
        }
    }

    pub fn push(&self, change: &Change, file: &str) -> Change {
        let commit = Self::commit_of_carl(file);
        let head = self
            .github
            .push(REPOSITORY, &change.branch, self.carl_account, &commit);
        Change {
            head,
            ..change.clone()
        }
    }

    /// All requests of a pull request, newest first, as an auditor sees them.
    pub async fn requests(&self, number: u64) -> Vec<Value> {
        let mut all = items(&self.auditor.get("/api/v1/approvals?kind=change&limit=100").await);
        all.retain(|it| it["subject"]["change"] == format!("#{number}"));
        all
    }

    /// Waits for the newest request of a pull request to be about this head and target and to have this status.
    pub async fn request(&self, change: &Change, target: &str, status: &str) -> Value {
        let started = Instant::now();
        loop {
            let all = self.requests(change.iid).await;
            if let Some(newest) = all.first()
                && newest["subject"]["head"] == change.head
                && newest["subject"]["target"] == format!("refs/heads/{target}")
                && newest["status"] == status
            {
                return newest.clone();
            }
            let (number, head) = (change.iid, &change.head);
            assert!(
                started.elapsed() < SOON,
                "no {status} request of #{number} at {head} into {target}: {all:#?}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// The id of the pending request of a change, once its status stands on GitHub.
    pub async fn pending(&self, change: &Change, target: &str) -> String {
        self.expect_status(&change.head, target, "pending");
        text(&self.request(change, target, "pending").await, "id")
    }

    pub fn expect_status(&self, sha: &str, target: &str, state: &str) {
        self.expect_status_within(sha, target, state, SOON);
    }

    pub fn expect_status_within(&self, sha: &str, target: &str, state: &str, max: Duration) {
        let name = format!("signedapproval/{target}");
        self.github
            .expect(&format!("{name} is {state} on {sha}"), max, |it| {
                it.status(REPOSITORY, sha, &name).as_deref() == Some(state)
            });
    }

    /// What was found last about the gate, after a look now.
    pub async fn gate(&self) -> Value {
        let (integration, project) = (&self.integration.id, &self.project);
        let path = format!("/api/v1/integrations/{integration}/projects/{project}/check");
        let shown = self.ada.post(&path, &json!({})).await.expect(200);
        shown["gate"].clone()
    }

    pub fn tip(&self, branch: &str) -> Sha {
        self.github
            .read(|it| it.repository(REPOSITORY).branches[branch].clone())
    }
}
