//! A gated repository on Bitbucket Cloud: an appliance, a fake Bitbucket, a user of the appliance's own there, and the people
//! around it. Everything is set up through the public API, as an operator would.
#![allow(dead_code, reason = "the support offers more than any one test uses")]

use crate::support::appliance::{Api, Appliance, Options, http_client};
use crate::support::forge::bitbucket_cloud::FakeBitbucketCloud;
use crate::support::forge::gitlab::repository::{Edit, NewCommit, Sha};
use crate::support::gated::{Change, SOON};
use crate::support::person::{Integration, Person, items, text};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);
/// What a user's API token is made with.
pub const SCOPES: [&str; 5] = [
    "account",
    "pullrequest:write",
    "repository:write",
    "repository:admin",
    "webhook",
];

/// An appliance that gates `main` and `production` of one repository, hard.
pub struct GatedBitbucketCloud {
    pub appliance: Appliance,
    pub bitbucket: FakeBitbucketCloud,
    /// Admin and approver; not on the forge.
    pub ada: Person,
    /// Approver.
    pub bea: Person,
    /// Approver, and author of the changes; his account is linked.
    pub carl: Person,
    pub carl_account: String,
    /// The appliance's own account, and its token.
    pub gate_account: String,
    pub token: String,
    /// The repository's UUID.
    pub repository: String,
    pub integration: Integration,
    pub project: String,
    pub auditor: Api,
}

impl GatedBitbucketCloud {
    pub async fn start() -> Self {
        Self::start_with(json!({})).await
    }

    /// With other members in the repository's settings.
    pub async fn start_with(settings: Value) -> Self {
        Self::start_in(Options::default(), settings).await
    }

    pub async fn start_in(options: Options, settings: Value) -> Self {
        let bitbucket = FakeBitbucketCloud::start();
        let carl_account = bitbucket.add_user("carl", "carl@example.test");
        let gate_account = bitbucket.add_user("gate", "gate@example.test");
        let token = bitbucket.add_token(Some(&gate_account), &SCOPES);
        let repository = bitbucket.add_repository("team", "app");
        bitbucket.branch(&repository, "production", "main");
        bitbucket.branch(&repository, "playground", "main");
        for branch in ["main", "production"] {
            bitbucket.restrict(&repository, "push", branch, &[]);
            bitbucket.restrict(&repository, "restrict_merges", branch, &[&gate_account]);
        }

        let appliance = Appliance::start(options).await;
        let ada = Person::set_up(&appliance, "Ada").await;
        let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
        let carl = ada.bring_in(&appliance, "Carl", &["approver"]).await;
        let integration = ada
            .connect(&json!({
                "kind": "bitbucket", "name": "Bitbucket", "base_url": bitbucket.base_url(),
                "email": "gate@example.test", "token": token,
            }))
            .await;
        ada.link_account(&carl, &integration, &carl_account).await;
        let mut wanted = json!({
            "workspace": "team", "repository": "app", "branch_patterns": ["main", "production"], "auto_merge": false,
            "quorum": 1,
        });
        for (name, value) in settings.as_object().expect("settings are an object") {
            wanted[name] = value.clone();
        }
        bitbucket.add_hook(&repository, &integration.webhook_url, &integration.webhook_secret);
        let project = text(&ada.gate_project(&integration, &wanted).await, "id");
        let key = ada.create_api_key("Looker", &["audit"], &[]).await;
        let auditor = appliance.api().with_key(&key.key);
        GatedBitbucketCloud {
            appliance,
            bitbucket,
            ada,
            bea,
            carl,
            carl_account,
            gate_account,
            token,
            repository,
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
        self.bitbucket.branch(&self.repository, branch, "main");
        let commit = Self::commit_of_carl(&format!("{branch}.rs"));
        self.open_with(branch, target, &commit)
    }

    /// The same with another commit.
    pub fn open_with(&self, branch: &str, target: &str, commit: &NewCommit) -> Change {
        let (repository, carl) = (&self.repository, &self.carl_account);
        self.bitbucket.branch(repository, branch, "main");
        let head = self.bitbucket.commit(repository, branch, commit);
        let iid = self.bitbucket.open(repository, repository, branch, target, carl);
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
            .push(&self.repository, &change.branch, &self.carl_account, &commit);
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
        self.expect_status(&change.head, target, "INPROGRESS").await;
        text(&self.request(change, target, "pending").await, "id")
    }

    pub async fn expect_status(&self, sha: &str, target: &str, state: &str) {
        self.expect_status_within(sha, target, state, SOON).await;
    }

    pub async fn expect_status_within(&self, sha: &str, target: &str, state: &str, max: Duration) {
        let key = format!("signedapproval/{target}");
        self.until(&format!("{key} is {state} on {sha}"), max, || {
            self.bitbucket.status(&self.repository, sha, &key).as_deref() == Some(state)
        })
        .await;
    }

    /// Waits for something to become true on Bitbucket.
    pub async fn until(&self, what: &str, max: Duration, mut holds: impl FnMut() -> bool) {
        let started = Instant::now();
        while !holds() {
            if started.elapsed() > max {
                self.bitbucket.give_up(what);
            }
            tokio::time::sleep(POLL).await;
        }
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
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What was found last about the gate, after a look now.
    pub async fn gate(&self) -> Value {
        let (integration, project) = (&self.integration.id, &self.project);
        let path = format!("/api/v1/integrations/{integration}/projects/{project}/check");
        let shown = self.ada.post(&path, &json!({})).await.expect(200);
        shown["gate"].clone()
    }

    /// Its strength and the codes of what was found.
    pub async fn codes(&self) -> (String, Vec<String>) {
        let gate = self.gate().await;
        let found = gate["findings"].as_array().expect("findings").iter();
        let codes = found.map(|it| text(it, "code")).collect();
        (text(&gate, "strength"), codes)
    }

    pub fn tip(&self, branch: &str) -> Sha {
        self.bitbucket
            .read(|it| it.repository(&self.repository).branches[branch].clone())
    }

    /// Somebody who may only read writes our status, as Bitbucket lets them.
    pub async fn forge_status(&self, sha: &str) {
        let token = self
            .bitbucket
            .add_token(Some(&self.carl_account), &["repository"]);
        let url = format!(
            "{}/2.0/repositories/team/app/commit/{sha}/statuses/build",
            self.bitbucket.base_url()
        );
        let body = json!({"key": "signedapproval/main", "state": "SUCCESSFUL", "url": "https://x.test/"});
        let call = http_client(None)
            .post(url)
            .basic_auth("carl@example.test", Some(token));
        assert_eq!(call.json(&body).send().await.expect("it answers").status(), 201);
    }
}
