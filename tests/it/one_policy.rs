//! One policy over all forges: the same scenario on each of them, step by step, with one table of how it went.

use crate::support::appliance::{Api, Options, http_client};
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::gated::{Change, Gated, Hook, PROJECT, SOON};
use crate::support::gated_bitbucket_cloud::GatedBitbucketCloud;
use crate::support::gated_bitbucket_data_center::GatedBitbucketDataCenter;
use crate::support::gated_github::{GatedGitHub, REPOSITORY};
use crate::support::person::{Person, items, text};
use crate::support::problem::assert_problem;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What came around the gate is found within this (contract, section 3.4).
const FOUND_MAX: Duration = Duration::from_secs(60);

/// A gated project on one of the forges, and what people do there.
enum World {
    GitLab(Box<Gated>),
    GitHub(Box<GatedGitHub>),
    BitbucketCloud(Box<GatedBitbucketCloud>),
    BitbucketDataCenter(Box<GatedBitbucketDataCenter>),
}

impl World {
    fn name(&self) -> &'static str {
        match self {
            World::GitLab(_) => "GitLab",
            World::GitHub(_) => "GitHub",
            World::BitbucketCloud(_) => "Bitbucket Cloud",
            World::BitbucketDataCenter(_) => "Bitbucket Data Center",
        }
    }

    /// Admin, approver, author.
    fn people(&self) -> (&Person, &Person, &Person) {
        match self {
            World::GitLab(it) => (&it.ada, &it.bea, &it.carl),
            World::GitHub(it) => (&it.ada, &it.bea, &it.carl),
            World::BitbucketCloud(it) => (&it.ada, &it.bea, &it.carl),
            World::BitbucketDataCenter(it) => (&it.ada, &it.bea, &it.carl),
        }
    }

    fn auditor(&self) -> &Api {
        match self {
            World::GitLab(it) => &it.auditor,
            World::GitHub(it) => &it.auditor,
            World::BitbucketCloud(it) => &it.auditor,
            World::BitbucketDataCenter(it) => &it.auditor,
        }
    }

    /// Path of the project in the API.
    fn project(&self) -> String {
        let (integration, project) = match self {
            World::GitLab(it) => (&it.integration.id, &it.project),
            World::GitHub(it) => (&it.integration.id, &it.project),
            World::BitbucketCloud(it) => (&it.integration.id, &it.project),
            World::BitbucketDataCenter(it) => (&it.integration.id, &it.project),
        };
        format!("/api/v1/integrations/{integration}/projects/{project}")
    }

    fn open(&self, branch: &str) -> Change {
        match self {
            World::GitLab(it) => it.open(branch, "main"),
            World::GitHub(it) => it.open(branch, "main"),
            World::BitbucketCloud(it) => it.open(branch, "main"),
            World::BitbucketDataCenter(it) => it.open(branch, "main"),
        }
    }

    fn push(&self, change: &Change, file: &str) -> Change {
        match self {
            World::GitLab(it) => it.push(change, file),
            World::GitHub(it) => it.push(change, file),
            World::BitbucketCloud(it) => it.push(change, file),
            World::BitbucketDataCenter(it) => it.push(change, file),
        }
    }

    fn retarget(&self, change: &Change, target: &str) {
        match self {
            World::GitLab(it) => it.gitlab.retarget(PROJECT, change.iid, target, it.carl_account),
            World::GitHub(it) => it
                .github
                .retarget(REPOSITORY, change.iid, target, it.carl_account),
            World::BitbucketCloud(it) => {
                it.bitbucket
                    .retarget(&it.repository, change.iid, target, &it.carl_account);
            }
            World::BitbucketDataCenter(it) => {
                it.bitbucket
                    .retarget(REPOSITORY, change.iid, target, it.carl_account);
            }
        }
    }

    /// The id of the pending request, once the forge shows it so.
    async fn pending(&self, change: &Change, target: &str) -> String {
        match self {
            World::GitLab(it) => it.pending(change, target).await,
            World::GitHub(it) => it.pending(change, target).await,
            World::BitbucketCloud(it) => it.pending(change, target).await,
            World::BitbucketDataCenter(it) => it.pending(change, target).await,
        }
    }

    /// The forge's status, in one word for all of them.
    fn status(&self, sha: &str, target: &str) -> Option<String> {
        let name = format!("signedapproval/{target}");
        let word = match self {
            World::GitLab(it) => it.gitlab.status(PROJECT, sha, &name)?,
            World::GitHub(it) => it.github.status(REPOSITORY, sha, &name)?,
            World::BitbucketCloud(it) => it.bitbucket.status(&it.repository, sha, &name)?,
            World::BitbucketDataCenter(it) => it.bitbucket.status(REPOSITORY, sha, &name)?,
        };
        let same = match word.as_str() {
            "failure" | "FAILED" => "failed",
            "INPROGRESS" => "pending",
            "SUCCESSFUL" => "success",
            other => other,
        };
        Some(same.to_owned())
    }

    async fn shows(&self, change: &Change, target: &str, wanted: &str) {
        let started = Instant::now();
        while self.status(&change.head, target).as_deref() != Some(wanted) {
            let (forge, found) = (self.name(), self.status(&change.head, target));
            assert!(started.elapsed() < SOON, "{forge}: {found:?} instead of {wanted}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn never_green(&self, change: &Change, target: &str) {
        let started = Instant::now();
        while self.status(&change.head, target).as_deref() == Some("success") {
            assert!(started.elapsed() < SOON, "{}: it stays green", self.name());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn is_merged(&self, change: &Change) -> bool {
        match self {
            World::GitLab(it) => it.gitlab.merge_request(PROJECT, change.iid).state == "merged",
            World::GitHub(it) => it.github.pull(REPOSITORY, change.iid).merged.is_some(),
            World::BitbucketCloud(it) => it.bitbucket.pull(&it.repository, change.iid).state == "MERGED",
            World::BitbucketDataCenter(it) => it.bitbucket.pull(REPOSITORY, change.iid).state == "MERGED",
        }
    }

    /// The heads that merges were asked for with; where a forge takes none, those that were merged.
    fn merges_asked(&self) -> Vec<Value> {
        match self {
            World::GitLab(it) => {
                let calls = it.gitlab.calls_to("PUT", "/merge");
                calls.into_iter().map(|it| it.body["sha"].clone()).collect()
            }
            World::GitHub(it) => {
                let calls = it.github.calls_to("PUT", "/merge");
                calls.into_iter().map(|it| it.body["sha"].clone()).collect()
            }
            World::BitbucketCloud(it) => it.bitbucket.read(|state| {
                let pulls = state.repository(&it.repository).pulls.values();
                pulls
                    .filter(|it| it.state == "MERGED")
                    .map(|it| json!(it.head))
                    .collect()
            }),
            World::BitbucketDataCenter(it) => it.bitbucket.read(|state| {
                let pulls = state.repository(REPOSITORY).pulls.values();
                let merged = pulls.filter(|it| it.state == "MERGED");
                merged.map(|it| json!(it.head)).collect()
            }),
        }
    }

    /// Somebody who may write, and is not us, sets our status to green.
    async fn forge_status(&self, change: &Change) {
        let name = "signedapproval/main";
        match self {
            World::GitLab(it) => {
                let (sha, branch) = (&change.head, &change.branch);
                it.gitlab
                    .post_status(PROJECT, sha, it.carl_account, name, branch, "success");
            }
            World::GitHub(it) => {
                let token = it.github.add_token(it.carl_account);
                let url = format!(
                    "{}/api/v3/repos/org/app/statuses/{}",
                    it.github.base_url(),
                    change.head
                );
                let call = http_client(None).post(url).bearer_auth(token);
                let call = call.header("user-agent", "curl");
                let posted = call.json(&json!({"state": "success", "context": name}));
                assert_eq!(posted.send().await.expect("it answers").status(), 201);
            }
            World::BitbucketCloud(it) => it.forge_status(&change.head).await,
            World::BitbucketDataCenter(it) => it.forge_status(&change.head, "main").await,
        }
    }

    /// Whoever rules the forge merges it, whatever the rules say.
    fn merge_past_the_rules(&self, change: &Change) {
        match self {
            World::GitLab(it) => {
                let mia = it.gitlab.add_user("mia", "Mia", "mia@example.test");
                it.gitlab.add_member(PROJECT, mia, MAINTAINER);
                it.gitlab.merge_past_all_checks(PROJECT, change.iid, mia);
            }
            World::GitHub(it) => {
                let mia = it.github.add_user("mia", "mia@example.test");
                it.github
                    .merge_past_the_rules(REPOSITORY, change.iid, "merge", mia);
            }
            World::BitbucketCloud(it) => {
                let mia = it.bitbucket.add_user("mia", "mia@example.test");
                it.bitbucket
                    .merge_past_the_rules(&it.repository, change.iid, "merge_commit", &mia);
            }
            World::BitbucketDataCenter(it) => {
                let mia = it.bitbucket.add_user("mia", "mia@example.test");
                it.bitbucket
                    .merge_past_the_rules(REPOSITORY, change.iid, "no-ff", mia);
            }
        }
    }

    /// Waits for the first exception of a kind.
    async fn exception(&self, kind: &str) -> Value {
        let started = Instant::now();
        loop {
            let all = items(&self.auditor().get("/api/v1/exceptions").await);
            let wanted = format!("exception.{kind}");
            if let Some(it) = all.iter().find(|it| it["type"] == wanted) {
                return it["data"].clone();
            }
            let forge = self.name();
            assert!(started.elapsed() < FOUND_MAX, "{forge}: no {kind}: {all:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn assert_no_violations(&self) {
        match self {
            World::GitLab(it) => it.gitlab.assert_no_violations(),
            World::GitHub(it) => it.github.assert_no_violations(),
            World::BitbucketCloud(it) => it.bitbucket.assert_no_violations(),
            World::BitbucketDataCenter(it) => it.bitbucket.assert_no_violations(),
        }
    }
}

/// The scenario; the steps it took.
async fn scenario(world: &World) -> Vec<&'static str> {
    let mut done = Vec::new();
    let (ada, bea, carl) = world.people();

    let first = world.open("first");
    let id = world.pending(&first, "main").await;
    assert_problem!(carl.decide(&id, "approve", None).await, 403, "self-approval");
    done.push("open");

    bea.approve(&id).await;
    world.shows(&first, "main", "success").await;
    done.push("approve by passkey");

    let pushed = world.push(&first, "more.rs");
    let again = world.pending(&pushed, "main").await;
    assert_ne!(id, again);
    world.never_green(&first, "main").await;
    done.push("push");

    bea.approve(&again).await;
    world.shows(&pushed, "main", "success").await;
    world.retarget(&pushed, "production");
    let elsewhere = world.pending(&pushed, "production").await;
    assert_ne!(again, elsewhere);
    world.never_green(&pushed, "main").await;
    done.push("retarget");

    bea.reject(&elsewhere, "Not like this").await;
    world.shows(&pushed, "production", "failed").await;
    done.push("reject");

    let slow = world.open("slow");
    let waits = world.pending(&slow, "main").await;
    let limit = |seconds: u32| {
        json!({ "rules": [{ "name": "All", "match": { "branch": "*" },
            "require": { "method": ["passkey"], "ttl_max": seconds } }] })
    };
    ada.put_policy("default", &limit(1)).await;
    world.auditor().wait_for_status(&waits, "expired", SOON).await;
    world.shows(&slow, "main", "failed").await;
    ada.put_policy("default", &limit(86_400)).await;
    done.push("expire");

    let forged = world.open("forged");
    world.pending(&forged, "main").await;
    world.forge_status(&forged).await;
    let told = world.exception("status_forged").await;
    let green = told["shown"].as_str().unwrap_or_default().to_ascii_lowercase();
    assert!(green.starts_with("success"), "{told}");
    world.shows(&forged, "main", "pending").await;
    done.push("forged status set back");

    let settings = json!({"branch_patterns": ["main", "production"], "quorum": 1, "auto_merge": true});
    let changed = ada.put(&world.project(), &settings).await;
    changed.expect(200);
    let merged = world.open("merged");
    let id = world.pending(&merged, "main").await;
    bea.approve(&id).await;
    let started = Instant::now();
    while !world.is_merged(&merged) {
        assert!(started.elapsed() < SOON, "{}: it is not merged", world.name());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let asked = world.merges_asked();
    assert!(
        !asked.is_empty() && asked.iter().all(|it| *it == merged.head),
        "{asked:?}"
    );
    done.push("merge pinned");

    let bypass = world.open("bypass");
    let unapproved = world.pending(&bypass, "main").await;
    world.merge_past_the_rules(&bypass);
    let told = world.exception("unapproved_change").await;
    assert_eq!(told["change"]["number"].as_u64(), Some(bypass.iid), "{told}");
    let request = world.auditor().request(&unapproved).await;
    assert_ne!(request["status"], "approved");
    done.push("bypass found");

    world.assert_no_violations();
    let verified = ada.journal("exception.unapproved_change").await;
    assert_eq!(verified.len(), 1, "only the bypass is told of: {verified:#?}");
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_scenario_holds_on_every_forge() {
    let worlds = [
        World::GitLab(Box::new(Gated::start_with(Hook::Token, json!({})).await)),
        World::GitHub(Box::new(GatedGitHub::start().await)),
        World::BitbucketCloud(Box::new(GatedBitbucketCloud::start().await)),
        World::BitbucketDataCenter(Box::new(
            // It tells of no build that somebody else writes: that is found by looking.
            GatedBitbucketDataCenter::start_in(
                Options::default().env("SIGNEDAPPROVAL_FORGE__LOOK_EVERY", "2s"),
                json!({}),
            )
            .await,
        )),
    ];
    let done = futures_util::future::join_all(worlds.iter().map(scenario)).await;
    let names: Vec<&str> = worlds.iter().map(World::name).collect();
    println!("| step | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for step in &done[0] {
        let yes = |it: &Vec<&str>| if it.contains(step) { "yes" } else { "no" };
        let row: Vec<&str> = done.iter().map(yes).collect();
        println!("| {step} | {} |", row.join(" | "));
    }
    assert!(done.iter().all(|it| *it == done[0]), "{done:#?}");
    for world in &worlds {
        // The text of the last request's id shows that each forge had requests of its own.
        let all = items(
            &world
                .auditor()
                .get("/api/v1/approvals?kind=change&limit=100")
                .await,
        );
        assert!(
            all.iter().all(|it| !text(it, "id").is_empty()) && all.len() >= 7,
            "{}",
            all.len()
        );
    }
}
