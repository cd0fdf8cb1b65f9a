//! One commit of a project.

use crate::domain::follow_up::CommitFacts;
use crate::domain::text::shortened;
use crate::forge::gitlab::{GitLab, project_number};
use crate::outbound::Error;
use serde::Deserialize;

/// Longest text that is kept, in characters.
const TEXT_MAX: usize = 300;

/// `GET /projects/:id/repository/commits/:sha`, as far as it is read.
#[derive(Deserialize)]
struct Commit {
    id: String,
    title: String,
    author_name: String,
    committer_name: String,
    committed_date: String,
    web_url: Option<String>,
}

impl GitLab {
    /// See [`crate::forge::Forge::commit`].
    pub(crate) async fn commit(
        &self,
        forge_project_id: &str,
        sha: &str,
    ) -> Result<Option<CommitFacts>, Error> {
        let project = project_number(forge_project_id)?;
        let found: Result<Commit, Error> = self
            .get(&["projects", project, "repository", "commits", sha], &[])
            .await;
        match found {
            Ok(it) if it.id.eq_ignore_ascii_case(sha) => Ok(Some(CommitFacts {
                title: shortened(&it.title, TEXT_MAX),
                author: shortened(&it.author_name, TEXT_MAX),
                committer: shortened(&it.committer_name, TEXT_MAX),
                committed_at: shortened(&it.committed_date, TEXT_MAX),
                web_url: it
                    .web_url
                    .filter(|url| url.starts_with("http") && url.len() <= 2_000),
            })),
            Ok(_) => Err(Error::NotJson("another commit than the one asked for".to_owned())),
            Err(error) if error.status() == Some(404) => {
                // Without this the refusal may only mean that the token may not see the project now.
                self.project(project).await.map(|_| None)
            }
            Err(error) => Err(error),
        }
    }
}
