//! Tests of what each CI system's variables become.

use crate::cli::gate::ci::Ci;
use std::collections::BTreeMap;

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

fn detect(variables: &[(&str, &str)]) -> Ci {
    let map: BTreeMap<&str, &str> = variables.iter().copied().collect();
    Ci::detect(&|name| map.get(name).map(|it| (*it).to_owned()))
}

fn told<'a>(ci: &'a Ci, name: &str) -> Option<&'a str> {
    ci.told
        .iter()
        .find(|(it, _)| *it == name)
        .map(|(_, value)| value.as_str())
}

#[test]
fn gitlab_tells_commit_project_and_environment() {
    let ci = detect(&[
        ("GITLAB_CI", "true"),
        ("CI_COMMIT_SHA", SHA),
        ("CI_PROJECT_PATH", "pay/api"),
        ("CI_ENVIRONMENT_NAME", "production"),
        ("GITLAB_USER_LOGIN", "alex"),
        ("CI_JOB_URL", "https://git.corp/pay/api/-/jobs/7"),
    ]);
    assert_eq!(ci.name, "gitlab");
    assert_eq!(ci.commit.as_deref(), Some(SHA));
    assert_eq!(ci.project.as_deref(), Some("pay/api"));
    assert_eq!(ci.environment.as_deref(), Some("production"));
    assert_eq!(told(&ci, "actor"), Some("alex"));
    assert_eq!(told(&ci, "run"), Some("https://git.corp/pay/api/-/jobs/7"));
}

#[test]
fn github_tells_commit_project_and_the_run() {
    let ci = detect(&[
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_SHA", SHA),
        ("GITHUB_REPOSITORY", "team/app"),
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_RUN_ID", "99"),
        ("GITHUB_TRIGGERING_ACTOR", "carl"),
        ("CI", "true"),
    ]);
    assert_eq!((ci.name, ci.environment.as_deref()), ("github", None));
    assert_eq!(ci.project.as_deref(), Some("team/app"));
    assert_eq!(
        told(&ci, "run"),
        Some("https://github.com/team/app/actions/runs/99")
    );
}

#[test]
fn bitbucket_tells_the_environment_of_the_step() {
    let ci = detect(&[
        ("BITBUCKET_BUILD_NUMBER", "12"),
        ("BITBUCKET_COMMIT", SHA),
        ("BITBUCKET_REPO_FULL_NAME", "team/app"),
        ("BITBUCKET_DEPLOYMENT_ENVIRONMENT", "staging"),
        ("BITBUCKET_TAG", ""),
    ]);
    assert_eq!(
        (ci.name, ci.environment.as_deref()),
        ("bitbucket", Some("staging"))
    );
    assert_eq!(told(&ci, "tag"), None, "an empty variable says nothing");
}

#[test]
fn jenkins_has_its_project_from_the_clone_url() {
    for url in [
        "https://git.corp/pay/api.git",
        "ssh://git@git.corp:2222/pay/api",
        "git@git.corp:pay/api.git",
    ] {
        let ci = detect(&[
            ("JENKINS_URL", "https://ci.corp/"),
            ("GIT_COMMIT", SHA),
            ("GIT_URL", url),
        ]);
        assert_eq!(
            (ci.name, ci.project.as_deref()),
            ("jenkins", Some("pay/api")),
            "{url}"
        );
    }
}

#[test]
fn elsewhere_nothing_is_known_and_the_metadata_are_still_one_of_a_kind() {
    let ci = detect(&[("HOME", "/root")]);
    assert_eq!(ci, Ci::default());
    assert_eq!(ci.metadata(None, None, "00ff"), r#"{"nonce":"00ff"}"#);
    let full = ci.metadata(Some(SHA), Some("pay/api"), "00ff");
    assert_eq!(
        full,
        format!(r#"{{"commit":"{SHA}","nonce":"00ff","repo":"pay/api"}}"#)
    );
}
