//! What the CI system says of the run. It is told to the approver as a claim; only commit, project and environment are
//! asked for, and then proven.

use serde_json::{Map, Value};
use std::ffi::OsString;

/// Longest value that is passed on, in characters: enough for any URL a CI system makes.
const VALUE_CHARS_MAX: usize = 500;

/// A run of a pipeline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ci {
    /// `gitlab`, `github`, `bitbucket`, `jenkins`; empty elsewhere.
    pub name: &'static str,
    pub commit: Option<String>,
    pub project: Option<String>,
    pub environment: Option<String>,
    /// Name and value of what the approver may like to know, in the words of the API's metadata.
    pub told: Vec<(&'static str, String)>,
    /// Where a later step of the job reads outputs from (GitHub).
    pub report_to: Option<OsString>,
}

/// The variables of one CI system: what marks it, and which of its variables says what.
struct System {
    name: &'static str,
    marked_by: &'static str,
    commit: &'static str,
    project: &'static str,
    environment: &'static str,
    told: &'static [(&'static str, &'static str)],
}

/// GitLab: "Predefined CI/CD variables reference". GitHub: "Variables reference", default environment variables. Bitbucket:
/// "Variables and secrets", default variables. Jenkins: "Using environment variables", and those of its Git plugin.
const SYSTEMS: &[System] = &[
    System {
        name: "gitlab",
        marked_by: "GITLAB_CI",
        commit: "CI_COMMIT_SHA",
        project: "CI_PROJECT_PATH",
        environment: "CI_ENVIRONMENT_NAME",
        told: &[
            ("actor", "GITLAB_USER_LOGIN"),
            ("ref", "CI_COMMIT_REF_NAME"),
            ("pipeline", "CI_PIPELINE_URL"),
            ("run", "CI_JOB_URL"),
            ("job", "CI_JOB_NAME"),
            ("server", "CI_SERVER_URL"),
        ],
    },
    System {
        name: "github",
        marked_by: "GITHUB_ACTIONS",
        commit: "GITHUB_SHA",
        project: "GITHUB_REPOSITORY",
        environment: "",
        told: &[
            ("actor", "GITHUB_TRIGGERING_ACTOR"),
            ("ref", "GITHUB_REF"),
            ("workflow", "GITHUB_WORKFLOW"),
            ("job", "GITHUB_JOB"),
            ("run_id", "GITHUB_RUN_ID"),
            ("attempt", "GITHUB_RUN_ATTEMPT"),
            ("server", "GITHUB_SERVER_URL"),
        ],
    },
    System {
        name: "bitbucket",
        marked_by: "BITBUCKET_BUILD_NUMBER",
        commit: "BITBUCKET_COMMIT",
        project: "BITBUCKET_REPO_FULL_NAME",
        environment: "BITBUCKET_DEPLOYMENT_ENVIRONMENT",
        told: &[
            ("actor", "BITBUCKET_STEP_TRIGGERER_UUID"),
            ("ref", "BITBUCKET_BRANCH"),
            ("tag", "BITBUCKET_TAG"),
            ("build", "BITBUCKET_BUILD_NUMBER"),
            ("server", "BITBUCKET_GIT_HTTP_ORIGIN"),
        ],
    },
    System {
        name: "jenkins",
        marked_by: "JENKINS_URL",
        commit: "GIT_COMMIT",
        // Jenkins knows no project; it follows from the clone URL.
        project: "",
        environment: "",
        told: &[
            ("actor", "BUILD_USER_ID"),
            ("ref", "GIT_BRANCH"),
            ("job", "JOB_NAME"),
            ("run", "BUILD_URL"),
            ("build", "BUILD_NUMBER"),
        ],
    },
];

impl Ci {
    /// Finds out which CI system this runs in, by its own variables.
    pub fn detect(environment: &dyn Fn(&str) -> Option<String>) -> Ci {
        let value = |name: &str| environment(name).filter(|it| !it.is_empty());
        let Some(system) = SYSTEMS.iter().find(|it| value(it.marked_by).is_some()) else {
            return Ci::default();
        };
        let mut told: Vec<(&'static str, String)> = system
            .told
            .iter()
            .filter_map(|(name, variable)| {
                Some((*name, value(variable)?.chars().take(VALUE_CHARS_MAX).collect()))
            })
            .collect();
        if system.name == "github"
            && let (Some(server), Some(project), Some(run)) = (
                value("GITHUB_SERVER_URL"),
                value("GITHUB_REPOSITORY"),
                value("GITHUB_RUN_ID"),
            )
        {
            told.push(("run", format!("{server}/{project}/actions/runs/{run}")));
        }
        let project = value(system.project).or_else(|| {
            let url = value("GIT_URL").filter(|_| system.name == "jenkins")?;
            project_in(&url)
        });
        Ci {
            name: system.name,
            commit: value(system.commit),
            project,
            environment: value(system.environment),
            told,
            report_to: None,
        }
    }

    /// The metadata of the request: what the CI system says, and a random number that makes this request one of a kind.
    pub fn metadata(&self, commit: Option<&str>, project: Option<&str>, nonce: &str) -> String {
        let mut members = Map::new();
        let mut set = |name: &str, value: &str| {
            members.insert(name.to_owned(), Value::String(value.to_owned()));
        };
        if !self.name.is_empty() {
            set("ci", self.name);
        }
        if let Some(commit) = commit {
            set("commit", commit);
        }
        if let Some(project) = project {
            set("repo", project);
        }
        for (name, value) in &self.told {
            set(name, value);
        }
        set("nonce", nonce);
        Value::Object(members).to_string()
    }
}

/// The project's path in a clone URL: `https://host/pay/api.git`, `ssh://git@host:22/pay/api`, `git@host:pay/api.git`.
fn project_in(url: &str) -> Option<String> {
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1,
        None => url.split_once(':')?.1,
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    (!path.is_empty()).then(|| path.to_owned())
}
