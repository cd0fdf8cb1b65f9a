//! A gated GitLab project: an appliance, a fake GitLab with one project, and the people around it. Everything is set up
//! through the public API, as an operator would; nothing here knows more than the contract tells.
#![allow(dead_code, reason = "the support offers more than any one test uses")]

use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::support::appliance::Api;
use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::appliance::http_client;
use crate::support::forge::gitlab::FakeGitLab;
use crate::support::forge::gitlab::repository::Edit;
use crate::support::forge::gitlab::repository::NewCommit;
use crate::support::forge::gitlab::repository::Sha;
use crate::support::forge::gitlab::state::Call;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::person::Integration;
use crate::support::person::Person;
use crate::support::person::items;
use crate::support::person::text;

/// The project's number on the fake GitLab.
pub const PROJECT: u64 = 42;
/// A webhook shows in the state within this (contract, section 3.4).
pub const WEBHOOK_MAX: Duration = Duration::from_secs(5);
/// For whatever has no time of its own in the contract.
pub const SOON: Duration = Duration::from_secs(30);
/// So long a call may be under way, on a busy machine. Times of requests are whole seconds.
const ON_THE_WAY_SECONDS: i64 = 1;
/// Between two questions.
const POLL: Duration = Duration::from_millis(50);

/// How the webhook proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// The secret as `X-Gitlab-Token`.
    Token,
    /// The secret as the key of a Standard Webhooks signature.
    Signing,
    /// Nobody registered a webhook.
    None,
}

/// An appliance that gates `main` and `production` of one project.
pub struct Gated {
    pub appliance: Appliance,
    pub gitlab: FakeGitLab,
    /// Admin and approver; not on the forge.
    pub ada: Person,
    /// Approver.
    pub bea: Person,
    /// Approver, and author of the changes; his account is linked.
    pub carl: Person,
    pub carl_account: u64,
    pub integration: Integration,
    /// The gated project's id at the appliance.
    pub project: String,
    /// A key with the scope `audit`, for looks from outside.
    pub auditor: Api,
    /// The token the appliance uses.
    pub token: String,
}

/// A merge request as its test knows it.
#[derive(Clone, Debug)]
pub struct Change {
    pub iid: u64,
    pub branch: String,
    pub head: Sha,
}

impl Gated {
    /// One approval, no merge by the appliance, webhooks with the token.
    pub async fn start() -> Gated {
        Gated::start_with(Hook::Token, json!({})).await
    }

    /// With another webhook and other members in the project's settings.
    pub async fn start_with(hook: Hook, settings: Value) -> Gated {
        Gated::start_in(Options::default(), hook, settings).await
    }

    /// On an appliance that is started so.
    pub async fn start_in(options: Options, hook: Hook, settings: Value) -> Gated {
        let gitlab = FakeGitLab::start();
        let carl_account = gitlab.add_user("carl", "Carl", "carl@example.test");
        let bot = gitlab.add_user("project_42_bot_a1", "Gate", "gate@example.test");
        gitlab.add_project(PROJECT, "group/app");
        gitlab.add_member(PROJECT, carl_account, DEVELOPER);
        gitlab.add_member(PROJECT, bot, MAINTAINER);
        gitlab.appliance_is(bot);
        gitlab.branch(PROJECT, "production", "main");
        gitlab.branch(PROJECT, "playground", "main");
        for branch in ["main", "production"] {
            gitlab.protect(PROJECT, branch, 0, MAINTAINER, &[]);
        }
        gitlab.set(PROJECT, |it| it.only_allow_merge_if_pipeline_succeeds = true);
        let token = gitlab.add_token(bot, &["api"]);

        let appliance = Appliance::start(options).await;
        let ada = Person::set_up(&appliance, "Ada").await;
        let bea = ada.bring_in(&appliance, "Bea", &["approver"]).await;
        let carl = ada.bring_in(&appliance, "Carl", &["approver"]).await;
        let integration = ada
            .connect(&json!({
                "kind": "gitlab", "name": "GitLab", "base_url": gitlab.base_url(), "token": token,
            }))
            .await;
        ada.link_account(&carl, &integration, &carl_account.to_string())
            .await;
        // The original product's own shape.
        let mut wanted = json!({
            "project_id": PROJECT, "branch_patterns": ["main", "production"],
            "required_approval_count": 1, "auto_merge": false,
        });
        for (name, value) in settings.as_object().expect("settings are an object") {
            wanted[name] = value.clone();
        }
        let project = text(&ada.gate_project(&integration, &wanted).await, "id");
        let (url, secret) = (&integration.webhook_url, &integration.webhook_secret);
        match hook {
            Hook::Token => drop(gitlab.register_hook(PROJECT, url, Some(secret), None)),
            Hook::Signing => drop(gitlab.register_hook(PROJECT, url, None, Some(secret))),
            Hook::None => {}
        }
        let key = ada.create_api_key("Looker", &["audit"], &[]).await;
        let auditor = appliance.api().with_key(&key.key);
        let gated = Gated {
            appliance,
            gitlab,
            ada,
            bea,
            carl,
            carl_account,
            integration,
            project,
            auditor,
            token,
        };
        gated.watch_successes(&key.key);
        gated
    }

    /// From now on every success on the forge is put to the appliance's own API: the newest request of every merge
    /// request with that head and target must be approved or skipped.
    fn watch_successes(&self, key: &str) {
        let (url, key) = (
            format!("{}/api/v1/approvals?kind=change&limit=100", self.appliance.base()),
            key.to_owned(),
        );
        let ask = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime for one question");
            runtime.block_on(async {
                let client = http_client(None);
                let started = Instant::now();
                // The appliance may be down just now; whoever posted was up, so it comes back.
                loop {
                    let asked = client.get(&url).bearer_auth(&key).send().await;
                    match asked {
                        Ok(answer) => return answer.json::<Value>().await.map_err(|e| e.to_string()),
                        Err(e) if started.elapsed() > SOON => return Err(e.to_string()),
                        Err(_) => tokio::time::sleep(POLL).await,
                    }
                }
            })
        };
        self.gitlab.on_success(Box::new(move |sha, name, open| {
            let target = name
                .strip_prefix("signedapproval/")
                .ok_or_else(|| format!("a status named {name}"))?
                .to_owned();
            // What the appliance came to know while its call was on the way is taken back by its next one.
            let on_the_way = jiff::Timestamp::now().as_second() - ON_THE_WAY_SECONDS;
            let page = ask()?;
            let all = page["items"]
                .as_array()
                .ok_or_else(|| format!("no list: {page}"))?;
            for iid in open {
                let change = json!(format!("!{iid}"));
                // Newest first. What the appliance has not seen yet (opened, retargeted or pushed to a moment ago) is not
                // its record's: that it ends right is looked at in the end.
                let newest = all.iter().find(|it| it["subject"]["change"] == change);
                if let Some(it) = newest.filter(|it| is_of(it, sha, &target))
                    && opened_at(it) < on_the_way
                    && it["status"] != "approved"
                    && it["status"] != "skipped"
                {
                    return Err(format!("{change} is {}", it["status"]));
                }
            }
            Ok(())
        }));
    }

    /// A commit by Carl that writes one file of its own.
    pub fn commit_of_carl(file: &str) -> NewCommit {
        NewCommit::by(
            "Carl",
            "carl@example.test",
            &format!("Write {file}"),
            vec![Edit::write(file, "1\n")],
        )
    }

    /// A branch off `main` with one commit by Carl, and his merge request into `target`.
    pub fn open(&self, branch: &str, target: &str) -> Change {
        self.open_with(
            branch,
            target,
            "A change",
            &Gated::commit_of_carl(&format!("{branch}.rs")),
        )
    }

    /// With another title and commit.
    pub fn open_with(&self, branch: &str, target: &str, title: &str, commit: &NewCommit) -> Change {
        self.gitlab.branch(PROJECT, branch, "main");
        let head = self.gitlab.commit(PROJECT, branch, commit);
        let iid = self
            .gitlab
            .open_merge_request(PROJECT, branch, target, title, self.carl_account);
        Change {
            iid,
            branch: branch.to_owned(),
            head,
        }
    }

    /// Carl pushes one more commit to the change's branch; gives the change as it is then.
    pub fn push(&self, change: &Change, file: &str) -> Change {
        let head = self.gitlab.push(
            PROJECT,
            &change.branch,
            self.carl_account,
            &Gated::commit_of_carl(file),
        );
        Change {
            head,
            ..change.clone()
        }
    }

    /// All requests of a merge request, newest first, as an auditor sees them.
    pub async fn requests(&self, iid: u64) -> Vec<Value> {
        let mut all = items(&self.auditor.get("/api/v1/approvals?kind=change&limit=100").await);
        all.retain(|it| it["subject"]["change"] == format!("!{iid}"));
        all
    }

    /// Waits for the newest request of a merge request to be about this head and target and to have this status.
    pub async fn request(&self, change: &Change, target: &str, status: &str) -> Value {
        let started = Instant::now();
        loop {
            let all = self.requests(change.iid).await;
            if let Some(newest) = all.first()
                && is_of(newest, &change.head, target)
                && newest["status"] == status
            {
                return newest.clone();
            }
            assert!(
                started.elapsed() < SOON,
                "no {status} request of !{} at {} into {target}: {all:#?}",
                change.iid,
                change.head
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// The id of the pending request of a change, once its status stands on the forge.
    pub async fn pending(&self, change: &Change, target: &str) -> String {
        self.expect_status(&change.head, target, "pending");
        text(&self.request(change, target, "pending").await, "id")
    }

    /// Waits until the appliance's status of a commit is this, within the contract's five seconds.
    pub fn expect_status(&self, sha: &str, target: &str, state: &str) {
        self.expect_status_within(sha, target, state, WEBHOOK_MAX);
    }

    /// As [`Self::expect_status`], where the forge makes trouble.
    pub fn expect_status_within(&self, sha: &str, target: &str, state: &str, max: Duration) {
        let name = format!("signedapproval/{target}");
        let what = format!("{name} is {state} on {sha}");
        self.gitlab.expect(&what, max, |it| {
            it.status(PROJECT, sha, &name).as_deref() == Some(state)
        });
    }

    /// The status calls for a commit that asked for this state and that the forge answered with a success.
    pub fn posts(&self, sha: &str, state: &str) -> Vec<Call> {
        let mut calls = self.gitlab.calls_to("POST", &format!("/statuses/{sha}"));
        calls.retain(|it| it.body["state"] == state && it.status == Some(201));
        calls
    }
}

/// When a request was opened, in seconds since 1970.
fn opened_at(request: &Value) -> i64 {
    let text = request["created_at"].as_str().unwrap_or_default();
    text.parse::<jiff::Timestamp>().expect("a time").as_second()
}

/// Whether a request is about this head and target.
fn is_of(request: &Value, head: &str, target: &str) -> bool {
    request["subject"]["head"] == head && request["subject"]["target"] == format!("refs/heads/{target}")
}
