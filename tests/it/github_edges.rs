//! GitHub where it is large or far away: changes of many pages of files, and an Enterprise Server behind a private authority.

use crate::support::authority::Authority;
use crate::support::forge::front::Front;
use crate::support::forge::github::state::APP;
use crate::support::forge::gitlab::repository::{Edit, NewCommit};
use crate::support::gated::{Change, SOON};
use crate::support::gated_github::{GatedGitHub, REPOSITORY};
use crate::support::person::text;
use serde_json::json;

impl GatedGitHub {
    /// A pull request by Carl that writes so many pages of documentation and one more file.
    fn open_pages(&self, branch: &str, count: usize, last: &str) -> Change {
        let mut edits: Vec<Edit> = (0..count)
            .map(|n| Edit::write(&format!("docs/{n:04}.md"), "1\n"))
            .collect();
        edits.push(Edit::write(last, "1\n"));
        let commit = NewCommit::by("Carl", "carl@example.test", "Write pages", edits);
        self.github.branch(REPOSITORY, branch, "main");
        let head = self.github.commit(REPOSITORY, branch, self.carl_account, &commit);
        let iid = self
            .github
            .open(REPOSITORY, REPOSITORY, branch, "main", "Pages", self.carl_account);
        Change {
            iid,
            branch: branch.to_owned(),
            head,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_of_changed_files_is_read_and_more_than_github_lists_waits() {
    let it = GatedGitHub::start().await;
    let policy = json!({ "rules": [
        { "name": "Docs", "match": { "branch": "*", "paths": ["docs/**"] }, "action": "skip" },
        { "name": "Code", "match": { "branch": "*", "paths": ["src/**"] }, "require": { "method": ["passkey"] } },
    ] });
    it.ada.put_policy("default", &policy).await;
    let docs = it.open_pages("docs", 149, "docs/z.md");
    it.expect_status_within(&docs.head, "main", "success", SOON);
    // The file that asks for somebody stands on the second page.
    let mixed = it.open_pages("mixed", 149, "src/main.rs");
    let id = it.pending(&mixed, "main").await;
    let page = it.ada.get(&format!("/a/{id}")).await.text();
    assert!(page.contains("src/main.rs"), "the second page was read");
    let asked = it.github.calls_to("GET", &format!("/pulls/{}/files", mixed.iid));
    let pages: Vec<&str> = asked
        .iter()
        .filter_map(|it| it.query.split("page=").last())
        .collect();
    assert_eq!(&pages[..2], ["1", "2"], "{asked:?}");

    // GitHub lists 3,000 files and counts all of them.
    let huge = it.open_pages("huge", 3_000, "docs/zz.md");
    let id = it.pending(&huge, "main").await;
    let page = it.ada.get(&format!("/a/{id}")).await.text();
    assert!(page.contains("3001 files, more than GitHub lists"), "{page}");
    let asked = it.github.calls_to("GET", &format!("/pulls/{}/files", huge.iid));
    assert!(
        asked.iter().any(|it| it.query.ends_with("page=30")),
        "{}",
        asked.len()
    );
    assert!(
        asked.iter().all(|it| !it.query.ends_with("page=31")),
        "{}",
        asked.len()
    );
    it.github.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enterprise_server_behind_a_private_authority_is_reached_with_its_certificate_alone() {
    let it = GatedGitHub::start().await;
    let authority = Authority::new("company");
    let base = it.github.base_url();
    let port = base
        .rsplit(':')
        .next()
        .and_then(|it| it.parse().ok())
        .expect("a port");
    let front = Front::before(port, &authority.localhost());
    let key = it.github.read(|it| it.private_key());
    let connect = async |ca: Option<&str>| {
        let mut body = json!({"kind": "github", "name": "Enterprise", "app_id": APP, "private_key": key,
            "base_url": format!("https://localhost:{}", front.port)});
        if let Some(ca) = ca {
            body["ca_pem"] = json!(ca);
        }
        it.ada.post("/api/v1/integrations", &body).await
    };
    let refused = connect(None).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(
        refused.text().to_lowercase().contains("certificate"),
        "{refused:?}"
    );
    let other = Authority::new("other");
    assert_eq!(connect(Some(&other.pem)).await.status, 422, "another authority");
    let made = connect(Some(&authority.pem)).await.expect(201);
    let path = format!("/api/v1/integrations/{}/projects", text(&made, "id"));
    let wanted = json!({"owner": "org", "repository": "app", "branch_patterns": ["main"]});
    let gated = it.ada.post(&path, &wanted).await.expect(201);
    assert_eq!(gated["project_id"], REPOSITORY, "{gated}");
    it.github.assert_no_violations();
}
