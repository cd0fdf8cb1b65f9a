//! A gated repository on Bitbucket Data Center: an appliance, a fake Bitbucket, and the people around it. Everything is set
//! up through the public API, as an operator would.
#![allow(dead_code, reason = "the support offers more than any one test uses")]

use crate::support::appliance::{Api, Appliance, Options, http_client};
use crate::support::forge::bitbucket_data_center::FakeBitbucketDataCenter;
use crate::support::forge::bitbucket_data_center::state::Access;
use crate::support::forge::gitlab::repository::{Edit, NewCommit, Sha};
use crate::support::gated::{Change, SOON};
use crate::support::person::{Integration, Person, items, text};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The repository's number on the fake Bitbucket.
pub const REPOSITORY: u64 = 42;
/// The webhook's secret.
pub const SECRET: &str = "it is a secret to everybody";
const POLL: Duration = Duration::from_millis(50);

/// An appliance that gates `main` and `production` of one repository, by required builds.
pub struct GatedBitbucketDataCenter {
    pub appliance: Appliance,
    pub bitbucket: FakeBitbucketDataCenter,
    /// Admin and approver; not on the forge.
    pub ada: Person,
    /// Approver.
    pub bea: Person,
    /// Approver, and author of the changes; his account is linked.
    pub carl: Person,
    pub carl_account: u64,
    /// The account of the appliance, and its token.
    pub bot: u64,
    pub token: String,
    pub integration: Integration,
    pub project: String,
    pub auditor: Api,
}

impl GatedBitbucketDataCenter {
    pub async fn start() -> Self {
        Self::start_with(json!({})).await
    }

    /// With other members in the repository's settings.
    pub async fn start_with(settings: Value) -> Self {
        Self::start_in(Options::default(), settings).await
    }

    pub async fn start_in(options: Options, settings: Value) -> Self {
        let bitbucket = FakeBitbucketDataCenter::start();
        let carl_account = bitbucket.add_user("carl", "carl@example.test");
        let bot = bitbucket.add_user("gate", "gate@example.test");
        bitbucket.add_repository(REPOSITORY, "PRJ", "app");
        bitbucket.branch(REPOSITORY, "production", "main");
        bitbucket.branch(REPOSITORY, "playground", "main");
        for branch in ["main", "production"] {
            bitbucket.require_build(REPOSITORY, branch);
            bitbucket.restrict(REPOSITORY, branch, "pull-request-only", &[], &[]);
        }
        bitbucket.let_in(REPOSITORY, carl_account, Access::Write);
        bitbucket.let_in(REPOSITORY, bot, Access::Admin);
        let token = bitbucket.add_token(bot, Access::Admin);

        let appliance = Appliance::start(options).await;
        let ada = Person::set_up(&appliance, "Ada").await;
        let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
        let carl = ada.bring_in(&appliance, "Carl", &["approver"]).await;
        let integration = ada
            .connect(&json!({
                "kind": "bitbucket_dc", "name": "Bitbucket", "base_url": bitbucket.base_url(), "token": token,
                "webhook_secret": SECRET,
            }))
            .await;
        ada.link_account(&carl, &integration, &carl_account.to_string())
            .await;
        let mut wanted = json!({
            "project_key": "PRJ", "repository": "app", "branch_patterns": ["main", "production"], "quorum": 1,
        });
        for (name, value) in settings.as_object().expect("settings are an object") {
            wanted[name] = value.clone();
        }
        bitbucket.add_hook(REPOSITORY, &integration.webhook_url, SECRET);
        let project = text(&ada.gate_project(&integration, &wanted).await, "id");
        let key = ada.create_api_key("Looker", &["audit"], &[]).await;
        let auditor = appliance.api().with_key(&key.key);
        GatedBitbucketDataCenter {
            appliance,
            bitbucket,
            ada,
            bea,
            carl,
            carl_account,
            bot,
            token,
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
        self.open_with(branch, target, &Self::commit_of_carl(&format!("{branch}.rs")))
    }

    pub fn open_with(&self, branch: &str, target: &str, commit: &NewCommit) -> Change {
        self.bitbucket.branch(REPOSITORY, branch, "main");
        let head = self
            .bitbucket
            .commit(REPOSITORY, branch, self.carl_account, commit);
        let iid = self.bitbucket.open(
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
            .bitbucket
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

    /// The id of the pending request of a change, once its status stands on Bitbucket.
    pub async fn pending(&self, change: &Change, target: &str) -> String {
        self.expect_status(&change.head, target, "pending");
        text(&self.request(change, target, "pending").await, "id")
    }

    /// The status on Bitbucket, in the words of all forges.
    pub fn status(&self, sha: &str, target: &str) -> Option<String> {
        let name = format!("signedapproval/{target}");
        let word = self.bitbucket.status(REPOSITORY, sha, &name)?;
        Some(
            match word.as_str() {
                "INPROGRESS" => "pending",
                "SUCCESSFUL" => "success",
                "FAILED" => "failed",
                _ => return Some(word),
            }
            .to_owned(),
        )
    }

    pub fn expect_status(&self, sha: &str, target: &str, state: &str) {
        self.expect_status_within(sha, target, state, SOON);
    }

    pub fn expect_status_within(&self, sha: &str, target: &str, state: &str, max: Duration) {
        self.bitbucket.expect(
            &format!("the status of {target} is {state} on {sha}"),
            max,
            |_| self.status(sha, target).as_deref() == Some(state),
        );
    }

    /// What was found last about the gate, after a look now: its strength, and its findings' codes.
    pub async fn gate(&self) -> (String, Vec<String>) {
        let (integration, project) = (&self.integration.id, &self.project);
        let path = format!("/api/v1/integrations/{integration}/projects/{project}/check");
        let shown = self.ada.post(&path, &json!({})).await.expect(200);
        let gate = &shown["gate"];
        let found = gate["findings"].as_array().expect("findings").iter();
        let codes = found.map(|it| text(it, "code")).collect();
        (text(gate, "strength"), codes)
    }

    /// Changes the repository's settings here.
    pub async fn set(&self, more: Value) {
        let mut settings = json!({"branch_patterns": ["main", "production"], "quorum": 1});
        for (name, value) in more.as_object().expect("an object") {
            settings[name] = value.clone();
        }
        let (integration, project) = (&self.integration.id, &self.project);
        let path = format!("/api/v1/integrations/{integration}/projects/{project}");
        self.ada.put(&path, &settings).await.expect(200);
    }

    /// Sends a webhook with these headers, as anybody could.
    pub async fn send_hook(&self, body: &[u8], headers: &[(&str, &str)]) -> (u16, Value) {
        let mut call = http_client(None)
            .post(&self.integration.webhook_url)
            .body(body.to_vec());
        for (name, value) in headers {
            call = call.header(*name, *value);
        }
        let answer = call.send().await.expect("it answers");
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    /// Somebody who may only read says that our build is green.
    pub async fn forge_status(&self, sha: &str, target: &str) {
        let reader = self
            .bitbucket
            .add_user(&format!("reader-{}", &sha[..8]), "reader@example.test");
        self.bitbucket.let_in(REPOSITORY, reader, Access::Read);
        let token = self.bitbucket.add_token(reader, Access::Read);
        let url = format!(
            "{}/rest/api/latest/projects/PRJ/repos/app/commits/{sha}/builds",
            self.bitbucket.base_url()
        );
        let key = format!("signedapproval/{target}");
        let body =
            json!({"key": key, "parent": key, "state": "SUCCESSFUL", "url": "https://ci.example.test"});
        let call = http_client(None).post(url).bearer_auth(token).json(&body);
        assert_eq!(call.send().await.expect("it answers").status(), 204);
    }

    /// Waits for the first exception of a kind.
    pub async fn exception(&self, kind: &str) -> Value {
        let started = Instant::now();
        loop {
            let all = items(&self.auditor.get("/api/v1/exceptions").await);
            let wanted = format!("exception.{kind}");
            if let Some(it) = all.iter().find(|it| it["type"] == wanted) {
                return it["data"].clone();
            }
            assert!(started.elapsed() < Duration::from_secs(60), "no {kind}: {all:#?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until a gated branch was seen at a commit.
    pub async fn seen(&self, tip: &str) {
        let started = Instant::now();
        loop {
            let all = self.ada.journal("branch.observed").await;
            if all.iter().any(|it| it["data"]["commit"] == tip) {
                return;
            }
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{tip} was never seen"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    pub fn tip(&self, branch: &str) -> Sha {
        self.bitbucket
            .read(|it| it.repository(REPOSITORY).branches[branch].clone())
    }
}
