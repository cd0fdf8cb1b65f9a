//! Deployments on GitLab: a job that waits is asked for, an approval starts exactly that job once, and what is started
//! without one is found. Cases B5, D13 and E19 of the threats.

use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;
use signedapproval::evidence::dsse::PublicKey;
use signedapproval::evidence::verify;
use signedapproval::evidence::verify::Expect;
use signedapproval::evidence::verify::Trust;

use crate::browser::assert_clean;
use crate::browser::can_run;
use crate::browser::shoot;
use crate::support::browser::Browser;
use crate::support::forge::gitlab::deployments::DeploymentApproval;
use crate::support::forge::gitlab::faults::Trouble;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::forge::gitlab::state::Tier;
use crate::support::gated::Gated;
use crate::support::gated::Hook;
use crate::support::gated::PROJECT;
use crate::support::gated::SOON;
use crate::support::gated::WEBHOOK_MAX;
use crate::support::person::items;
use crate::support::person::text;
use crate::support::problem::assert_problem;

/// A lost webhook shows in the state within this (contract, section 3.4).
const LOST_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

impl Gated {
    async fn deploying() -> Gated {
        Gated::deploying_with(Hook::Token).await
    }

    async fn deploying_with(hook: Hook) -> Gated {
        Gated::start_with(hook, json!({"environments": ["production", "staging/*"]})).await
    }

    /// The appliance's own account on the forge.
    fn bot(&self) -> u64 {
        self.gitlab
            .read(|it| it.appliance)
            .expect("the appliance's account")
    }

    /// A pipeline of Carl's on `main`.
    fn pipeline(&self) -> u64 {
        let head = self.gitlab.head(PROJECT, "main");
        self.gitlab
            .add_pipeline(PROJECT, &head, "main", "push", "manual", self.carl_account)
    }

    /// A job in a pipeline of its own that waits to deploy to an environment.
    fn waits(&self, environment: &str) -> u64 {
        self.gitlab
            .add_deploy_job(PROJECT, self.pipeline(), "deploy", environment, true)
    }

    /// All requests of deployments, newest first.
    async fn deployments(&self) -> Vec<Value> {
        items(
            &self
                .auditor
                .get("/api/v1/approvals?kind=deployment&limit=100")
                .await,
        )
    }

    /// Waits for the newest request of a job to have this status.
    async fn asked_within(&self, job: u64, status: &str, max: Duration) -> Value {
        let (started, number) = (Instant::now(), job.to_string());
        loop {
            let all = self.deployments().await;
            let newest = all.iter().find(|it| it["subject"]["job"]["job"] == number);
            if let Some(it) = newest.filter(|it| it["status"] == status) {
                return it.clone();
            }
            assert!(
                started.elapsed() < max,
                "no {status} request of job {job}: {all:#?}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    async fn asked(&self, job: u64, status: &str) -> Value {
        self.asked_within(job, status, SOON).await
    }

    /// Waits until what the appliance knows of a job's deployment has this state.
    async fn deployment_is(&self, job: u64, status: &str, state: &str) -> Value {
        let started = Instant::now();
        loop {
            let it = self.asked(job, status).await;
            if it["deployment"]["state"] == state {
                return it;
            }
            assert!(
                started.elapsed() < SOON,
                "the deployment never was {state}: {it:#}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    fn expect_played(&self, job: u64) {
        self.gitlab.expect("the job is started", SOON, |it| {
            it.job(PROJECT, job).status != "manual"
        });
        assert_eq!(
            self.gitlab.plays(PROJECT, job),
            [self.bot()],
            "started once, by the appliance"
        );
    }

    /// The exceptions of jobs that were started without an approval, once there are so many.
    async fn unapproved(&self, count: usize) -> Vec<Value> {
        let started = Instant::now();
        loop {
            let mut all = items(&self.auditor.get("/api/v1/exceptions").await);
            all.retain(|it| it["type"] == "exception.unapproved_deployment");
            if all.len() == count {
                return all;
            }
            assert!(started.elapsed() < LOST_MAX, "not {count} exceptions: {all:#?}");
            tokio::time::sleep(POLL).await;
        }
    }

    async fn page(&self, id: &str) -> String {
        self.ada.get(&format!("/a/{id}")).await.text()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manual_job_is_started_by_its_approval_and_only_once() {
    let it = Gated::deploying().await;
    let job = it.waits("production");
    let request = it.asked_within(job, "pending", WEBHOOK_MAX).await;
    let id = text(&request, "id");
    let head = it.gitlab.head(PROJECT, "main");
    let facts = it.gitlab.job(PROJECT, job);

    // Everything that was checked is in what is signed.
    assert_eq!(request["kind"], "deployment");
    assert_eq!(request["environment"], "production");
    assert_eq!(request["project"], "group/app");
    let subject = &request["subject"];
    assert_eq!(subject["digest"]["gitCommit"], head);
    assert_eq!(subject["requester"], format!("forge_account:{}", it.carl_account));
    assert_eq!(subject["job"]["pipeline"], facts.pipeline.to_string());
    assert_eq!(subject["job"]["ref"], "refs/heads/main");
    assert_eq!(subject["job"]["tier"], "production");
    assert_eq!(subject["job"]["project_id"], PROJECT.to_string());
    let page = it.page(&id).await;
    for words in [
        "Deploy group/app to production",
        "Checked by this server on GitLab",
        "Carl (@carl)",
        "tier",
    ] {
        assert!(page.contains(words), "{words:?} is not in {page}");
    }
    assert!(
        page.contains("Claimed by the commit"),
        "the commit's title is fenced: {page}"
    );

    // Whoever started the pipeline can't approve it.
    assert_problem!(it.carl.decide(&id, "approve", None).await, 403, "self-approval");
    assert!(!it.carl.has_in_inbox(&id).await);
    assert!(
        it.gitlab.plays(PROJECT, job).is_empty(),
        "nothing runs before the approval"
    );

    it.bea.approve(&id).await;
    it.expect_played(job);
    let done = it.deployment_is(job, "approved", "started").await;
    assert_eq!(done["deployment"]["started_by"]["id"], it.bot().to_string());
    let spent = format!("/api/v1/approvals/{id}/consume");
    assert_problem!(it.ada.post(&spent, &json!({})).await, 409, "not-usable");

    // Another deployment goes its whole way, and the first is not started again, not even once it could be.
    it.gitlab.set_job(PROJECT, job, "running");
    it.gitlab.set_job(PROJECT, job, "success");
    let other = it.waits("staging/eu");
    it.bea
        .approve(&text(&it.asked(other, "pending").await, "id"))
        .await;
    it.expect_played(other);
    it.expect_played(job);
    assert_eq!(it.gitlab.calls_to("POST", "/play").len(), 2);
    assert_eq!(it.unapproved(0).await, [] as [Value; 0]);
    let page = it.page(&id).await;
    assert!(page.contains("GitLab started the job"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_environment_is_told_of_the_approval_and_the_job_started() {
    let it = Gated::deploying().await;
    it.gitlab.set_tier(Tier::Premium);
    it.gitlab
        .protect_environment(PROJECT, "production", (MAINTAINER, &[]), &[it.bot()]);
    let job = it.waits("production");
    assert_eq!(it.gitlab.deployment(PROJECT, job).unwrap().status, "blocked");
    let id = text(&it.asked_within(job, "pending", WEBHOOK_MAX).await, "id");
    it.bea.approve(&id).await;
    it.expect_played(job);
    let approvals = it.gitlab.deployment(PROJECT, job).unwrap().approvals;
    let [said] = approvals.as_slice() else {
        panic!("one approval: {approvals:?}");
    };
    assert_eq!((said.user, said.status.as_str()), (it.bot(), "approved"));
    let comment = said.comment.clone().unwrap_or_default();
    assert!(
        comment.contains("Bea") && comment.contains(&format!("/a/{id}")),
        "{comment}"
    );
    it.deployment_is(job, "approved", "started").await;

    // Told once: what GitLab was told already is not told again.
    assert_eq!(it.gitlab.calls_to("POST", "/approval").len(), 1);

    // An answer that got lost: the approval arrived all the same.
    it.gitlab.fail("POST", "/approval", 1, Trouble::LostAnswer(502));
    let lost = it.waits("production");
    it.bea
        .approve(&text(&it.asked(lost, "pending").await, "id"))
        .await;
    it.expect_played(lost);
    it.deployment_is(lost, "approved", "started").await;

    // The rejection of another one is told as well, and nothing is started.
    let job = it.waits("production");
    let id = text(&it.asked(job, "pending").await, "id");
    it.bea.reject(&id, "not today").await;
    it.gitlab.expect("the rejection", SOON, |gitlab| {
        let told = gitlab.deployment(PROJECT, job).unwrap().approvals;
        told.iter()
            .any(|it| it.status == "rejected" && it.comment.as_ref().is_some_and(|it| it.contains("Bea")))
    });
    it.deployment_is(job, "rejected", "ended").await;
    assert!(it.gitlab.plays(PROJECT, job).is_empty());
    assert_eq!(it.unapproved(0).await, [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_environment_that_does_not_know_the_account_is_told_in_words() {
    let it = Gated::deploying().await;
    it.gitlab.set_tier(Tier::Premium);
    it.gitlab
        .protect_environment(PROJECT, "production", (MAINTAINER, &[]), &[it.carl_account]);
    let job = it.waits("production");
    let id = text(&it.asked(job, "pending").await, "id");
    it.bea.approve(&id).await;
    let started = Instant::now();
    loop {
        let request = it.auditor.request(&id).await;
        if let Some(why) = request["deployment"]["refused"].as_str() {
            assert!(
                why.contains("approval rules of the protected environment"),
                "{why}"
            );
            assert!(
                why.contains("You don't have permission"),
                "GitLab's own words: {why}"
            );
            break;
        }
        assert!(started.elapsed() < SOON, "{request:#}");
        tokio::time::sleep(POLL).await;
    }
    assert!(it.page(&id).await.contains("GitLab did not do it yet"));
    assert!(it.gitlab.plays(PROJECT, job).is_empty());

    // An admin mends it, and the approval that still holds is used.
    it.gitlab
        .protect_environment(PROJECT, "production", (MAINTAINER, &[]), &[it.bot()]);
    it.expect_played(job);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_job_is_not_started_and_whoever_starts_it_is_reported() {
    let it = Gated::deploying().await;
    let job = it.waits("production");
    let id = text(&it.asked(job, "pending").await, "id");
    it.bea.reject(&id, "the numbers are wrong").await;
    let page = it.page(&id).await;
    assert!(page.contains("Nothing is started"), "{page}");
    let again = format!("/api/v1/approvals/{id}/ask-again");
    assert_problem!(it.ada.post(&again, &json!({})).await, 403, "not-allowed");

    it.gitlab.play_as(PROJECT, job, it.bot());
    let exceptions = it.unapproved(1).await;
    let data = &exceptions[0]["data"];
    assert_eq!(data["environment"], "production");
    assert_eq!(data["sha"], it.gitlab.head(PROJECT, "main"));
    assert_eq!(data["request"], id);
    it.gitlab.clear_calls();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_request_starts_nothing_and_can_be_asked_again() {
    let it = Gated::deploying().await;
    it.ada
        .put_policy(
            "default",
            &json!({"rules": [{
                "name": "Quick", "match": {"environment": "production"},
                "require": {"method": ["passkey"], "quorum": 1, "ttl_max": 3},
            }]}),
        )
        .await;
    let job = it.waits("production");
    let id = text(&it.asked(job, "pending").await, "id");
    it.asked(job, "expired").await;
    assert!(it.gitlab.plays(PROJECT, job).is_empty());
    let page = it.page(&id).await;
    assert!(
        page.contains("Nothing was started") && page.contains("Ask again"),
        "{page}"
    );

    // The same rule with more time, and the same job is asked for anew.
    it.ada
        .put_policy(
            "default",
            &json!({"rules": [{
                "name": "Quick", "match": {"environment": "production"},
                "require": {"method": ["passkey"], "quorum": 1, "ttl_max": 300},
            }]}),
        )
        .await;
    let again = format!("/api/v1/approvals/{id}/ask-again");
    it.bea.post(&again, &json!({})).await.expect(202);
    let fresh = text(&it.asked(job, "pending").await, "id");
    assert_ne!(fresh, id);
    assert_problem!(it.bea.post(&again, &json!({})).await, 403, "not-allowed");
    it.bea.approve(&fresh).await;
    it.expect_played(job);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_somebody_else_starts_is_an_exception() {
    let it = Gated::deploying().await;
    let dora = it.gitlab.add_user("dora", "Dora", "dora@example.test");
    it.gitlab.add_member(PROJECT, dora, MAINTAINER);
    let job = it.waits("production");
    let id = text(&it.asked(job, "pending").await, "id");
    it.gitlab.play_as(PROJECT, job, dora);
    let ended = it.asked(job, "cancelled").await;
    assert_eq!(ended["id"], id);
    let exceptions = it.unapproved(1).await;
    let data = &exceptions[0]["data"];
    assert_eq!(data["by"]["username"], "dora");
    assert_eq!(data["job_name"], "deploy");
    assert_eq!(data["environment"], "production");
    assert_eq!(data["sha"], it.gitlab.head(PROJECT, "main"));
    let page = it.ada.get("/dashboard/exceptions").await.text();
    assert!(page.contains("Dora started deploy to production"), "{page}");

    // So is a job that never waited, and one that is run once more in the browser.
    let at_once = it
        .gitlab
        .add_deploy_job(PROJECT, it.pipeline(), "hasty", "staging/eu", false);
    it.gitlab.set_job(PROJECT, at_once, "running");
    it.unapproved(2).await;
    it.gitlab.set_job(PROJECT, job, "running");
    it.gitlab.set_job(PROJECT, job, "success");
    let rerun = it.gitlab.retry_as(PROJECT, job, dora);
    it.gitlab.set_job(PROJECT, rerun, "running");
    it.unapproved(3).await;

    // What is not gated is nobody's business.
    let free = it
        .gitlab
        .add_deploy_job(PROJECT, it.pipeline(), "review", "review/1", false);
    it.gitlab.set_job(PROJECT, free, "running");
    let job = it.waits("staging/us");
    it.bea.approve(&text(&it.asked(job, "pending").await, "id")).await;
    it.expect_played(job);
    it.unapproved(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ends_ends_its_request_and_another_one_is_asked_anew() {
    let it = Gated::deploying().await;
    let job = it.waits("production");
    let first = text(&it.asked(job, "pending").await, "id");
    it.gitlab.set_job(PROJECT, job, "canceled");
    assert_eq!(it.asked(job, "cancelled").await["id"], first);

    // A job that is retried is another one: the same commit needs an approval of its own.
    it.gitlab.set_job(PROJECT, job, "canceled");
    let pipeline = it.gitlab.job(PROJECT, job).pipeline;
    let retried = it
        .gitlab
        .add_deploy_job(PROJECT, pipeline, "deploy", "production", true);
    let second = text(&it.asked(retried, "pending").await, "id");
    assert_ne!(first, second);

    // A newer pipeline of the same ref takes its place.
    let newer = it.waits("production");
    it.asked(newer, "pending").await;
    it.asked(retried, "superseded").await;
    assert!(it.gitlab.plays(PROJECT, retried).is_empty());

    // And one that is removed leaves nothing to approve.
    let pipeline = it.gitlab.job(PROJECT, newer).pipeline;
    it.gitlab.delete_pipeline(PROJECT, pipeline);
    let _poke = it.waits("staging/eu");
    it.asked(newer, "cancelled").await;
    assert_eq!(it.unapproved(0).await, [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_gets_lost_never_starts_a_job_twice() {
    let it = Gated::deploying().await;
    it.gitlab.fail("POST", "/play", 1, Trouble::LostAnswer(502));
    let job = it.waits("production");
    it.bea.approve(&text(&it.asked(job, "pending").await, "id")).await;
    it.expect_played(job);
    // Even if the job is done, and could be started once more, before anybody looks.
    it.gitlab.set_job(PROJECT, job, "running");
    it.gitlab.set_job(PROJECT, job, "success");
    let done = it.deployment_is(job, "approved", "started").await;
    assert_eq!(done["deployment"]["started_by"]["id"], it.bot().to_string());
    it.expect_played(job);
    assert_eq!(it.gitlab.calls_to("POST", "/play").len(), 1);
    assert_eq!(it.unapproved(0).await, [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forge_in_trouble_is_asked_again_in_its_time() {
    let it = Gated::deploying().await;
    it.gitlab.fail("GET", "/deployments/", 2, Trouble::Code(500));
    it.gitlab.fail("POST", "/play", 1, Trouble::RetryLater(3));
    let job = it.waits("production");
    it.bea.approve(&text(&it.asked(job, "pending").await, "id")).await;
    it.expect_played(job);
    it.deployment_is(job, "approved", "started").await;
    let plays = it.gitlab.calls_to("POST", "/play");
    assert_eq!(plays.len(), 2, "{plays:#?}");
    assert!(!plays[1].too_early, "{plays:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_found_and_started_without_any_webhook() {
    let it = Gated::deploying_with(Hook::None).await;
    let job = it.waits("production");
    let id = text(&it.asked_within(job, "pending", LOST_MAX).await, "id");
    it.bea.approve(&id).await;
    it.expect_played(job);
    let dora = it.gitlab.add_user("dora", "Dora", "dora@example.test");
    it.gitlab.add_member(PROJECT, dora, MAINTAINER);
    let other = it.waits("production");
    it.gitlab.play_as(PROJECT, other, dora);
    it.gitlab.set_job(PROJECT, other, "running");
    it.unapproved(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_leave_a_waiting_deployment_created_are_understood() {
    let it = Gated::deploying_with(Hook::None).await;
    it.gitlab
        .change_state(|state| state.project_mut(PROJECT).deploying.waits_as_created = true);
    // Its job's turn came long after its deployment was made: no list of changes has it.
    let job = it.waits("production");
    it.gitlab.change_state(|state| {
        let all = &mut state.project_mut(PROJECT).deployments;
        let old = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(48);
        all.iter_mut().for_each(|it| it.updated_at = old);
    });
    let id = text(&it.asked_within(job, "pending", LOST_MAX).await, "id");
    it.bea.approve(&id).await;
    it.expect_played(job);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_skips_starts_the_job_and_other_peoples_approvals_are_waited_for() {
    let it = Gated::deploying().await;
    it.ada
        .put_policy(
            "default",
            &json!({"rules": [{"name": "Staging is free", "match": {"environment": "staging/*"}, "action": "skip"}]}),
        )
        .await;
    let job = it.waits("staging/eu");
    it.deployment_is(job, "skipped", "started").await;
    it.expect_played(job);
    assert_eq!(it.unapproved(0).await, [] as [Value; 0]);

    // On Premium somebody else has to approve on GitLab too.
    it.gitlab.set_tier(Tier::Premium);
    let approvers = [it.bot(), it.carl_account];
    it.gitlab
        .protect_environment(PROJECT, "production", (MAINTAINER, &[]), &approvers);
    let job = it.waits("production");
    let id = text(&it.asked(job, "pending").await, "id");
    it.bea.approve(&id).await;
    let started = Instant::now();
    while !it
        .page(&id)
        .await
        .contains("still waits for the approvals of others")
    {
        assert!(started.elapsed() < SOON, "no words");
        tokio::time::sleep(POLL).await;
    }
    assert!(it.gitlab.plays(PROJECT, job).is_empty());
    it.gitlab.change_state(|state| {
        let rules = &state.project(PROJECT).protected_environments[0].rules;
        let rule = rules[1].access.id;
        let all = &mut state.project_mut(PROJECT).deployments;
        let of = all.iter_mut().find(|it| it.job == job).expect("the deployment");
        of.approvals.push(DeploymentApproval {
            user: approvers[1],
            status: "approved".to_owned(),
            comment: None,
            rule,
            at: jiff::Timestamp::now(),
        });
    });
    it.expect_played(job);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_survives_a_crash_and_is_used_once() {
    let mut it = Gated::deploying().await;
    // Approved, and killed before the forge could be told.
    let job = it.waits("production");
    let id = text(&it.asked(job, "pending").await, "id");
    it.gitlab.go_away();
    it.bea.approve(&id).await;
    it.appliance.kill9();
    it.gitlab.come_back();
    it.appliance.restart().await;
    it.expect_played(job);
    it.deployment_is(job, "approved", "started").await;

    // The approval spent, and killed before the job was started.
    it.gitlab.fail("POST", "/play", 1, Trouble::Code(503));
    let job = it.waits("staging/eu");
    it.bea.approve(&text(&it.asked(job, "pending").await, "id")).await;
    it.deployment_is(job, "approved", "starting").await;
    it.appliance.kill9();
    it.appliance.restart().await;
    it.expect_played(job);

    // Started, and killed before the answer was recorded.
    it.gitlab.fail("POST", "/play", 1, Trouble::LostAnswer(504));
    let job = it.waits("staging/us");
    it.bea.approve(&text(&it.asked(job, "pending").await, "id")).await;
    it.expect_played(job);
    it.appliance.kill9();
    it.gitlab.set_job(PROJECT, job, "running");
    it.gitlab.set_job(PROJECT, job, "success");
    it.appliance.restart().await;
    it.deployment_is(job, "approved", "started").await;
    it.expect_played(job);
    assert_eq!(it.unapproved(0).await, [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_for_one_environment_is_useless_for_another() {
    let it = Gated::deploying().await;
    let pipeline = it.pipeline();
    let add = |name: &str, environment: &str| {
        it.gitlab
            .add_deploy_job(PROJECT, pipeline, name, environment, true)
    };
    let (staging, production) = (
        add("to-staging", "staging/eu"),
        add("to-production", "production"),
    );
    let head = it.gitlab.head(PROJECT, "main");
    let first = text(&it.asked(staging, "pending").await, "id");
    let second = text(&it.asked(production, "pending").await, "id");
    let credential = it.bea.approve(&first).await;
    it.expect_played(staging);
    it.deployment_is(staging, "approved", "started").await;
    assert_eq!(it.auditor.request(&second).await["status"], "pending");
    assert!(it.gitlab.plays(PROJECT, production).is_empty());

    let file = it.auditor.get(&format!("/api/v1/credentials/{credential}")).await;
    let key = it
        .appliance
        .api()
        .get("/.well-known/signedapproval/credential.pem")
        .await;
    let key = PublicKey::from_pem(&key.text()).expect("a key");
    let trust = Trust {
        keys: &[key],
        log_keys: &[],
    };
    let right = Expect {
        commit: Some(&head),
        environment: Some("staging/eu"),
        project: Some("group/app"),
        ..Expect::default()
    };
    let valid = |expect: &Expect<'_>| verify::document(&file.body, &trust, expect, None).0.valid;
    assert!(valid(&right));
    let other = "0".repeat(40);
    for wrong in [
        Expect {
            commit: Some(&other),
            ..right
        },
        Expect {
            environment: Some("production"),
            ..right
        },
        Expect {
            project: Some("group/other"),
            ..right
        },
        Expect {
            request: Some(&second),
            ..right
        },
    ] {
        assert!(!valid(&wrong), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_may_not_start_the_job_is_told_in_words() {
    let it = Gated::deploying().await;
    it.gitlab.add_member(PROJECT, it.bot(), DEVELOPER);
    let job = it.waits("production");
    let id = text(&it.asked(job, "pending").await, "id");
    it.bea.approve(&id).await;
    let started = Instant::now();
    loop {
        let why = it.auditor.request(&id).await["deployment"]["refused"].clone();
        if let Some(why) = why.as_str() {
            assert!(why.contains("allowed to merge or push"), "{why}");
            let page = it.ada.get("/dashboard").await.text();
            assert!(page.contains("Deployments that are not started"), "{page}");
            assert!(page.contains("allowed to merge or push"), "{page}");
            break;
        }
        assert!(started.elapsed() < SOON, "no words");
        tokio::time::sleep(POLL).await;
    }
    it.gitlab.add_member(PROJECT, it.bot(), MAINTAINER);
    it.expect_played(job);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_tells_who_can_start_a_deployment_without_it() {
    let it = Gated::start_with(
        Hook::Token,
        json!({"environments": ["production"], "auto_merge": true}),
    )
    .await;
    let path = format!(
        "/api/v1/integrations/{}/projects/{}",
        it.integration.id, it.project
    );
    let look = || async {
        let gate = it
            .ada
            .post(&format!("{path}/check"), &json!({}))
            .await
            .expect(200)["gate"]
            .clone();
        let found = gate["findings"].as_array().expect("findings").clone();
        let codes: Vec<String> = found.iter().map(|it| text(it, "code")).collect();
        (text(&gate, "strength"), codes, gate["reasons"].to_string())
    };
    let (strength, codes, reasons) = look().await;
    assert_eq!(
        (strength.as_str(), codes),
        ("soft", vec!["environment_unprotected".to_owned()])
    );
    assert!(reasons.contains("every Developer can start a job"), "{reasons}");

    it.gitlab.set_tier(Tier::Premium);
    it.gitlab
        .protect_environment(PROJECT, "production", (DEVELOPER, &[]), &[]);
    let (_, codes, reasons) = look().await;
    assert_eq!(codes, ["others_deploy"], "{reasons}");
    it.gitlab
        .protect_environment(PROJECT, "production", (DEVELOPER, &[]), &[it.bot()]);
    let (strength, codes, _) = look().await;
    assert_eq!((strength.as_str(), codes), ("hard", Vec::<String>::new()));

    let elsewhere = Some("ci.yml@group/pipelines".to_owned());
    it.gitlab
        .change_state(|state| state.project_mut(PROJECT).deploying.ci_config_path = elsewhere);
    let (strength, codes, _) = look().await;
    assert_eq!(
        (strength.as_str(), codes),
        ("soft", vec!["pipeline_elsewhere".to_owned()])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_costs_two_calls_a_look_and_nothing_where_nothing_is_gated() {
    let it = Gated::deploying_with(Hook::None).await;
    let listed = |it: &Gated| it.gitlab.calls_to("GET", "/deployments").len();
    it.gitlab.expect("a first look", SOON, |gitlab| {
        gitlab.calls_to("GET", "/deployments").len() >= 3
    });
    it.gitlab.clear_calls();
    it.gitlab.expect("a second look", LOST_MAX, |gitlab| {
        gitlab.calls_to("GET", "/deployments").len() >= 2
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(listed(&it), 2);

    let plain = Gated::start().await;
    let change = plain.open("feature", "main");
    plain.pending(&change, "main").await;
    assert_eq!(listed(&plain), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn environments_are_checked_when_a_project_is_added() {
    let it = Gated::start().await;
    let path = format!(
        "/api/v1/integrations/{}/projects/{}",
        it.integration.id, it.project
    );
    let settings = |environments: Value| {
        json!({
            "branch_patterns": ["main"], "required_approval_count": 1, "environments": environments,
        })
    };
    let bad = it.ada.put(&path, &settings(json!(["prod["]))).await;
    assert_problem!(bad, 422, "invalid");
    let many: Vec<String> = (0..51).map(|n| format!("env{n}")).collect();
    assert_problem!(it.ada.put(&path, &settings(json!(many))).await, 422, "invalid");
    let set = it
        .ada
        .put(&path, &settings(json!(["production"])))
        .await
        .expect(200);
    assert_eq!(set["environments"], json!(["production"]));
    let job = it.waits("production");
    let request = it.asked(job, "pending").await;

    // Once it is gated no more, nothing is asked, and nothing is started.
    it.ada.put(&path, &settings(json!([]))).await.expect(200);
    assert_eq!(it.asked(job, "cancelled").await["id"], request["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_approved_in_the_browser_and_starts() {
    if !can_run("a_deployment_is_approved_in_the_browser_and_starts") {
        return;
    }
    let it = Gated::deploying().await;
    let browser = Browser::start().await;
    browser.device(390, 844, 1, true).await;
    browser.add_authenticator().await;
    let invited = it.ada.invite("Dora", &["approver"]).await;
    browser.goto(&text(&invited, "invite_url")).await;
    browser.click("[data-enrol] button").await;
    browser
        .wait_until("!location.pathname.startsWith('/enrol')")
        .await;
    let job = it.waits("production");
    let id = text(&it.asked(job, "pending").await, "id");
    browser
        .goto(&format!("{}/a/{id}", it.appliance.public_url()))
        .await;
    browser.wait_for_text("Deploy group/app to production").await;
    shoot(&browser, "deployment").await;
    browser.click("[data-answer=approve]").await;
    it.expect_played(job);
    it.deployment_is(job, "approved", "started").await;
    browser
        .goto(&format!("{}/a/{id}", it.appliance.public_url()))
        .await;
    browser.wait_for_text("started the job").await;
    shoot(&browser, "deployment-receipt").await;
    assert_clean(&browser, &it.appliance).await;
}
