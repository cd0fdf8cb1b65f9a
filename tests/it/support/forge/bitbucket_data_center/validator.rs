//! Holds every call against Atlassian's own OpenAPI document for Data Center (9.2), where it lies beside this repository.

use crate::support::forge::description::{Document, Reading};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// Where the document lies, if anywhere.
fn place() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/bitbucket/data-center.openapi.json")
}

/// The document, read once; `None` where it is not there.
pub fn present() -> Option<Arc<Document>> {
    static READ: OnceLock<Option<Arc<Document>>> = OnceLock::new();
    READ.get_or_init(|| {
        let Ok(text) = std::fs::read(place()) else {
            eprintln!(
                "skipped: Bitbucket Data Center's OpenAPI document is not at {}",
                place().display()
            );
            return None;
        };
        let how = Reading {
            is_used,
            // Its operations on people and webhooks answer pages, and leave these two out.
            everywhere: &["start", "limit"],
            deep: &["path"],
        };
        Some(Arc::new(Document::read(vec![("9.2", text)], &how)))
    })
    .clone()
}

fn is_used(path: &str) -> bool {
    const REPOSITORY: &str = "/api/latest/projects/{projectKey}/repos/{repositorySlug}";
    let whole = [
        "/api/latest/application-properties",
        "/api/latest/users",
        "/api/latest/repos",
        "/api/latest/projects/{projectKey}/webhooks",
        "/build-status/latest/commits/stats",
        REPOSITORY,
    ];
    whole.contains(&path)
        || path.starts_with("/required-builds/")
        || path.starts_with(
            "/branch-permissions/latest/projects/{projectKey}/repos/{repositorySlug}/restrictions",
        )
        || path.strip_prefix(REPOSITORY).is_some_and(|rest| {
            [
                "/branches",
                "/changes",
                "/commits",
                "/compare/changes",
                "/compare/commits",
                "/default-branch",
                "/pull-requests",
                "/ref-change-activities",
                "/settings/pull-requests",
                "/webhooks",
            ]
            .iter()
            .any(|it| rest.starts_with(it))
        })
}
