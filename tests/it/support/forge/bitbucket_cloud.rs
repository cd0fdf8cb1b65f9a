//! A stateful, strict Bitbucket Cloud on loopback: real HTTP, real refusals, real webhooks. It checks every token and its
//! scopes, abbreviates commits where the real one does, and tells nobody who wrote a status.

pub mod acts;
mod api;
mod pulls;
mod settings;
mod shapes;
pub mod state;

use crate::support::forge::bitbucket_cloud::state::{Call, Fault, State};
use crate::support::forge::description::{Document, Reading};
use crate::support::forge::host::{Host, Served};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// A running fake Bitbucket Cloud.
#[derive(Clone)]
pub struct FakeBitbucketCloud {
    host: Host<State>,
}

impl FakeBitbucketCloud {
    pub fn start() -> Self {
        FakeBitbucketCloud {
            host: Host::start(State::new),
        }
    }

    pub fn base_url(&self) -> String {
        self.read(|it| it.base_url.clone())
    }

    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.host.read(look)
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.host.change(change)
    }

    /// Something did not happen in time.
    pub fn give_up(&self, what: &str) -> ! {
        let lines = self.read(Served::last_calls);
        panic!(
            "it did not happen in time: {what}\nlast calls:\n{}",
            lines.join("\n")
        );
    }

    /// The next `times` calls of that method whose path holds `path` are answered so.
    pub fn fail(
        &self,
        method: &str,
        path: &str,
        times: usize,
        status: u16,
        headers: &[(&str, &str)],
        body: Value,
    ) {
        let fault = Fault {
            method: method.to_owned(),
            path: path.to_owned(),
            left: times,
            status,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body,
        };
        self.change(|state| state.faults.push(fault));
    }

    /// The calls of that method whose path holds `path`.
    pub fn calls_to(&self, method: &str, path: &str) -> Vec<Call> {
        self.read(|state| {
            let all = state.calls.iter();
            all.filter(|it| it.method == method && it.path.contains(path))
                .cloned()
                .collect()
        })
    }

    /// Nothing that Bitbucket's own document does not describe was called.
    pub fn assert_no_violations(&self) {
        let found = self.read(|state| state.violations.clone());
        assert!(found.is_empty(), "the fake Bitbucket saw:\n{}", found.join("\n"));
    }
}

/// Atlassian's own OpenAPI document, read once; `None` where it does not lie beside the project.
pub fn installed() -> Option<Arc<Document>> {
    static READ: OnceLock<Option<Arc<Document>>> = OnceLock::new();
    READ.get_or_init(|| {
        let path =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/bitbucket/cloud.openapi.json");
        let Ok(text) = std::fs::read(&path) else {
            eprintln!(
                "skipped: Bitbucket's OpenAPI document is not at {}",
                path.display()
            );
            return None;
        };
        let how = Reading {
            is_used,
            // "Pagination", "Filter and sort API objects" and "Partial responses" of Bitbucket's documentation.
            everywhere: &["page", "pagelen", "q", "sort", "fields", "exclude", "include"],
            deep: &["path"],
        };
        Some(Arc::new(Document::read(vec![("cloud", text)], &how)))
    })
    .clone()
}

/// The parts of Bitbucket's API this product calls.
fn is_used(path: &str) -> bool {
    const REPOSITORY: &str = "/repositories/{workspace}/{repo_slug}";
    let exact = [
        "",
        "/branch-restrictions",
        "/commit/{commit}",
        "/commit/{commit}/statuses",
        "/commit/{commit}/statuses/build",
        "/commits/{revision}",
        "/diff/{spec}",
        "/diffstat/{spec}",
        "/effective-branching-model",
        "/hooks",
        "/merge-base/{revspec}",
        "/pullrequests",
        "/pullrequests/{pull_request_id}",
        "/pullrequests/{pull_request_id}/activity",
        "/pullrequests/{pull_request_id}/merge",
        "/pullrequests/{pull_request_id}/merge/task-status/{task_id}",
        "/refs/branches",
        "/refs/branches/{name}",
        "/src/{commit}/{path}",
    ];
    path == "/user"
        || path
            .strip_prefix(REPOSITORY)
            .is_some_and(|it| exact.contains(&it))
}
