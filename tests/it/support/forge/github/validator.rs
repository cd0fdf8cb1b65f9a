//! GitHub's own OpenAPI documents (npm `@octokit/openapi`), where `tests/run` has installed them.

use crate::support::forge::description::{Document, Reading};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// The newest GitHub Enterprise Server, which the fake is in the manner of, and github.com.
const DOCUMENTS: [&str; 2] = ["ghes-3.19.json", "api.github.com.json"];

/// Where `tests/run` puts the documents.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/npm/octokit-openapi")
}

/// The documents, read once; `None` where they are not installed.
pub fn installed() -> Option<Arc<Document>> {
    static READ: OnceLock<Option<Arc<Document>>> = OnceLock::new();
    READ.get_or_init(|| {
        let texts: Option<Vec<_>> = DOCUMENTS
            .into_iter()
            .map(|name| Some((name, std::fs::read(folder().join(name)).ok()?)))
            .collect();
        let Some(texts) = texts else {
            eprintln!(
                "skipped: GitHub's OpenAPI documents are not in {}",
                folder().display()
            );
            return None;
        };
        let how = Reading {
            is_used,
            everywhere: &[],
            deep: &["ref"],
        };
        Some(Arc::new(Document::read(texts, &how)))
    })
    .clone()
}

/// The parts of GitHub's API this product calls: compiling all 800 paths would take seconds.
fn is_used(path: &str) -> bool {
    [
        "/app",
        "/meta",
        "/users/{username}",
        "/installation/repositories",
        "/repos/{owner}/{repo}",
    ]
    .contains(&path)
        || [
            "/app/",
            "/app-manifests/",
            "/repos/{owner}/{repo}/installation",
            "/repos/{owner}/{repo}/branches/{branch}",
            "/repos/{owner}/{repo}/git/",
            "/repos/{owner}/{repo}/commits",
            "/repos/{owner}/{repo}/statuses",
            "/repos/{owner}/{repo}/compare",
            "/repos/{owner}/{repo}/activity",
            "/repos/{owner}/{repo}/rules",
            "/repos/{owner}/{repo}/pulls",
            "/repos/{owner}/{repo}/deployments",
            "/repos/{owner}/{repo}/environments",
            "/repos/{owner}/{repo}/actions/runs",
        ]
        .iter()
        .any(|it| path.starts_with(it))
}
