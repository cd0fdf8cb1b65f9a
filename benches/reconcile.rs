//! Counts the calls and the time that reconciling a large GitLab takes: the real binary, over loopback, against a small
//! GitLab that is made for this: many projects, one file a merge request, no rules of its own. It judges nothing but
//! that everything was found.

#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the support offers more than the measurements use"
)]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use actix_web::App;
use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::HttpServer;
use actix_web::web;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::support::appliance::Appliance;
use crate::support::appliance::Options;
use crate::support::person::Person;

const USAGE: &str = "\
Counts the calls of reconciling a large GitLab: cargo bench --bench reconcile -- [--projects N] [--each N] [--quick]

SIGNEDAPPROVAL_TEST_BINARY names another binary than cargo's own.
";

/// The first look at everything may take so long.
const INTAKE_MAX: Duration = Duration::from_secs(40 * 60);
/// How long the steady state is watched.
const STEADY: Duration = Duration::from_secs(120);
/// Changes whose webhooks get lost, and the time until all of them must be seen.
const LOST: usize = 200;
const LOST_MAX: Duration = Duration::from_secs(60);
const BRANCH: &str = "main";

/// One merge request.
#[derive(Clone)]
struct Change {
    version: u32,
    updated_at: Timestamp,
    /// The version whose status was posted last.
    shown: Option<u32>,
    /// The state posted last, as the forge lists it.
    status: String,
}

/// The whole forge.
struct Forge {
    projects: usize,
    each: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    changes: Vec<Change>,
    /// Merge requests are in the lists.
    open: bool,
    calls: BTreeMap<&'static str, usize>,
}

impl Forge {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sha(project: usize, iid: usize, version: u32) -> String {
        format!("{project:08x}{iid:08x}{version:024x}")
    }

    fn change(&self, at: usize, change: &Change) -> Value {
        let (project, iid) = (at / self.each + 1, at % self.each + 1);
        let sha = Self::sha(project, iid, change.version);
        let time = change.updated_at.to_string();
        json!({
            "id": at + 1, "iid": iid, "project_id": project, "state": "opened", "draft": false,
            "title": format!("Change {iid} of project {project}"),
            "web_url": format!("http://localhost/g/p{project}/-/merge_requests/{iid}"),
            "author": {"id": 7, "username": "carl", "name": "Carl"}, "source_branch": format!("topic-{iid}"),
            "target_branch": BRANCH, "source_project_id": project, "target_project_id": project, "sha": sha,
            "diff_refs": {"base_sha": "b".repeat(40), "head_sha": sha, "start_sha": "b".repeat(40)},
            "changes_count": "1", "prepared_at": time, "detailed_merge_status": "mergeable",
            "merge_status": "can_be_merged", "updated_at": time, "created_at": time,
            "description": "x".repeat(500),
        })
    }

    fn answer(
        &self,
        method: &str,
        path: &str,
        query: &BTreeMap<String, String>,
        body: &[u8],
    ) -> HttpResponse {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let mut inner = self.lock();
        let ok = |value: Value| HttpResponse::Ok().json(value);
        let class = match parts.as_slice() {
            ["merge_requests"] => "lists, whole installation",
            ["projects", _, "merge_requests"] => "lists, one project",
            ["projects", _, "merge_requests", ..] | ["projects", _, "events"] => "reading changes",
            ["projects", _, "statuses", _] | ["projects", _, "repository", "commits", ..] => "statuses",
            ["projects", _, "hooks", ..] => "webhooks and their history",
            ["projects", _, "repository", "branches", ..] | ["projects", _, "pipelines"] => {
                "branches, pipelines"
            }
            _ => "settings",
        };

        *inner.calls.entry(class).or_default() += 1;
        let number = |text: &str| text.parse::<usize>().unwrap_or(0);
        let place = |project: &str, iid: usize| (number(project) - 1) * self.each + iid - 1;
        match (method, parts.as_slice()) {
            (_, ["user"]) => ok(json!({"id": 5, "username": "gate", "name": "Gate"})),
            (_, ["personal_access_tokens", "self"]) => {
                ok(json!({"scopes": ["api"], "expires_at": "2099-12-31"}))
            }
            (_, ["metadata"]) => ok(json!({"version": "18.6.0", "enterprise": true})),
            ("GET", ["merge_requests"]) => {
                let after = query
                    .get("updated_after")
                    .and_then(|it| it.parse::<Timestamp>().ok());
                let all = inner.changes.iter().enumerate();
                let listed = all.filter(|(_, it)| inner.open && after.is_none_or(|at| it.updated_at > at));
                self.page(query, listed.collect())
            }
            ("GET", ["projects", project, "merge_requests"]) => {
                let from = (number(project) - 1) * self.each;
                let after = query
                    .get("updated_after")
                    .and_then(|it| it.parse::<Timestamp>().ok());
                let own = inner.changes.iter().enumerate().skip(from).take(self.each);
                let listed = own.filter(|(_, it)| inner.open && after.is_none_or(|at| it.updated_at > at));
                self.page(query, listed.collect())
            }
            ("GET", ["projects", project, "merge_requests", iid]) => {
                let at = place(project, number(iid));
                ok(self.change(at, &inner.changes[at]))
            }
            ("GET", ["projects", _, "merge_requests", _, "diffs"]) => ok(json!([{
                "old_path": "src/a.rs", "new_path": "src/a.rs", "a_mode": "100644", "b_mode": "100644",
                "new_file": false, "renamed_file": false, "deleted_file": false, "diff": "@@ -1 +1 @@\n-a\n+b\n",
            }])),
            ("GET", ["projects", project, "merge_requests", iid, "commits"]) => {
                let at = place(project, number(iid));
                let sha = Self::sha(number(project), number(iid), inner.changes[at].version);
                ok(json!([{
                    "id": sha, "message": "A commit", "author_name": "Carl", "author_email": "carl@example.test",
                    "committer_name": "Carl", "committer_email": "carl@example.test",
                }]))
            }
            ("GET", ["projects", project, "repository", "branches", name]) => {
                ok(json!({"name": name, "commit": {"id": Self::sha(number(project), 0, 0)}}))
            }
            (
                "GET",
                [
                    "projects",
                    _,
                    "events" | "hooks" | "protected_branches" | "pipelines",
                ],
            )
            | ("GET", ["projects", _, "members", "all"]) => ok(json!([])),
            // Read back once after it was written.
            ("GET", ["projects", project, "repository", "commits", sha, "statuses"]) => {
                let iid = usize::from_str_radix(&sha[8..16], 16).unwrap_or(0);
                let at = place(project, iid);
                let name = query.get("name");
                ok(json!([{
                    "id": at + 1, "sha": sha, "ref": format!("topic-{iid}"), "status": inner.changes[at].status,
                    "name": name, "description": "", "author": {"id": 5, "username": "gate"},
                }]))
            }
            ("GET", ["projects", project, "repository", "commits", sha]) => {
                let iid = usize::from_str_radix(&sha[8..16], 16).unwrap_or(0);
                let _ = project;
                ok(json!({"last_pipeline": {"id": 1, "sha": sha, "ref": format!("topic-{iid}")}}))
            }
            ("POST", ["projects", project, "statuses", sha]) => {
                let body: Value = serde_json::from_slice(body).unwrap_or_default();
                let iid = usize::from_str_radix(&sha[8..16], 16).unwrap_or(0);
                let version = u32::from_str_radix(&sha[32..], 16).unwrap_or(0);
                let at = place(project, iid);
                inner.changes[at].shown = Some(version);
                inner.changes[at].status = body["state"].as_str().unwrap_or_default().to_owned();
                HttpResponse::Created().json(json!({
                    "id": at + 1, "sha": sha, "ref": body["ref"], "status": body["state"], "name": body["name"],
                    "description": body["description"], "author": {"id": 5, "username": "gate"},
                }))
            }
            ("GET", ["projects", project]) => ok(json!({
                "id": number(project), "path_with_namespace": format!("g/p{project}"), "default_branch": BRANCH,
                "web_url": format!("http://localhost/g/p{project}"), "archived": false,
                "permissions": {"project_access": {"access_level": 40}, "group_access": null},
                "only_allow_merge_if_pipeline_succeeds": true, "allow_merge_on_skipped_pipeline": false,
            })),
            _ => HttpResponse::NotFound().json(json!({"message": "404 Not Found"})),
        }
    }

    fn page(&self, query: &BTreeMap<String, String>, mut listed: Vec<(usize, &Change)>) -> HttpResponse {
        let number =
            |name: &str, default: usize| query.get(name).and_then(|it| it.parse().ok()).unwrap_or(default);
        let (page, size) = (number("page", 1), number("per_page", 20).min(100));
        if query.get("order_by").is_some_and(|it| it == "updated_at") {
            listed.sort_by_key(|(_, it)| it.updated_at);
        }
        let pages = listed.len().div_ceil(size).max(1);
        let items: Vec<Value> = listed
            .iter()
            .skip((page - 1) * size)
            .take(size)
            .map(|(at, it)| self.change(*at, it))
            .collect();
        let next = if page < pages {
            (page + 1).to_string()
        } else {
            String::new()
        };
        let mut answer = HttpResponse::Ok();
        answer.insert_header(("X-Next-Page", next));
        // As GitLab does, no total above 10,000.
        if listed.len() <= 10_000 {
            answer.insert_header(("X-Total-Pages", pages.to_string()));
        }
        answer.json(items)
    }

    /// The calls since the last time this was asked.
    fn take_calls(&self) -> BTreeMap<&'static str, usize> {
        std::mem::take(&mut self.lock().calls)
    }

    fn shown(&self) -> usize {
        let inner = self.lock();
        inner
            .changes
            .iter()
            .filter(|it| it.shown == Some(it.version))
            .count()
    }
}

async fn serve(request: HttpRequest, body: web::Bytes, forge: web::Data<Forge>) -> HttpResponse {
    let path = request.path().trim_start_matches("/api/v4").to_owned();
    let query = url::form_urlencoded::parse(request.query_string().as_bytes())
        .into_owned()
        .collect();
    forge.answer(request.method().as_str(), &path, &query, &body)
}

fn main() -> ExitCode {
    let (mut projects, mut each, mut by_cargo_bench, mut quick) = (500_usize, 20_usize, false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            arguments
                .next()
                .and_then(|it| it.parse().ok())
                .filter(|it| *it > 0)
        };
        match argument.as_str() {
            "--projects" | "--each" => match (number(), argument == "--each") {
                (Some(it), true) => each = it,
                (Some(it), false) => projects = it,
                _ => {
                    eprint!("{USAGE}");
                    return ExitCode::from(2);
                }
            },
            "--quick" => quick = true,
            "--bench" => by_cargo_bench = true,
            _ => {
                eprint!("unknown argument {argument}\n\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    if quick || !by_cargo_bench && projects == 500 {
        (projects, each) = (20, 10);
    }
    let now = Timestamp::now();
    let change = Change {
        version: 1,
        updated_at: now,
        shown: None,
        status: String::new(),
    };
    let forge = web::Data::from(Arc::new(Forge {
        projects,
        each,
        inner: Mutex::new(Inner {
            changes: vec![change; projects * each],
            ..Inner::default()
        }),
    }));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let data = forge.clone();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let app = move || App::new().app_data(data.clone()).default_service(web::to(serve));
            let server = HttpServer::new(app).workers(1).disable_signals();
            server.listen(listener).expect("it listens").run().await
        })
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime for the measurements").block_on(measure(
        &forge,
        &base,
        quick || !by_cargo_bench,
    ))
}

async fn measure(forge: &Forge, base: &str, quick: bool) -> ExitCode {
    let all = forge.projects * forge.each;
    let appliance = Appliance::start(Options::default()).await;
    let ada = Person::set_up(&appliance, "Ada").await;
    let integration = ada
        .connect(
            &json!({"kind": "gitlab", "name": "GitLab", "base_url": base, "token": "glpat-0123456789abcdef"}),
        )
        .await;
    for id in 1..=forge.projects {
        ada.gate_project(
            &integration,
            &json!({"project_id": id, "branch_patterns": [BRANCH]}),
        )
        .await;
    }
    println!("{all} open merge requests in {} projects", forge.projects);
    forge.take_calls();
    forge.lock().open = true;
    let started = Instant::now();
    while forge.shown() < all {
        if started.elapsed() > INTAKE_MAX {
            eprintln!(
                "failed: {} of {all} have a status after {INTAKE_MAX:?}",
                forge.shown()
            );
            return ExitCode::FAILURE;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    report(
        "first intake, until every one has its status",
        started.elapsed(),
        forge.take_calls(),
    );

    // What is still on its way belongs to the intake.
    tokio::time::sleep(Duration::from_secs(30)).await;
    forge.take_calls();
    let (started, steady) = (Instant::now(), if quick { STEADY / 2 } else { STEADY });
    tokio::time::sleep(steady).await;
    report(
        "steady state, nothing changes",
        started.elapsed(),
        forge.take_calls(),
    );

    let lost = LOST.min(all);
    let step = all / lost;
    {
        let (mut inner, now) = (forge.lock(), Timestamp::now());
        for n in 0..lost {
            let change = &mut inner.changes[n * step];
            (change.version, change.updated_at) = (2, now);
        }
    }
    let started = Instant::now();
    while forge.shown() < all {
        if started.elapsed() > 2 * LOST_MAX {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = started.elapsed();
    tokio::time::sleep(Duration::from_secs(60).saturating_sub(took)).await;
    report(
        &format!("the minute in which {lost} changed and every webhook was lost"),
        started.elapsed(),
        forge.take_calls(),
    );
    println!(
        "all {lost} seen and their status set after {:.1} s",
        took.as_secs_f64()
    );
    if took > LOST_MAX {
        eprintln!("failed: it took more than {LOST_MAX:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn report(what: &str, took: Duration, calls: BTreeMap<&'static str, usize>) {
    let (seconds, total) = (took.as_secs_f64(), calls.values().sum::<usize>());
    let per_minute = total as f64 * 60.0 / seconds;
    println!("\n{what}: {seconds:.1} s");
    println!("| calls | | a minute |\n|---|---:|---:|");
    for (class, count) in &calls {
        println!("| {class} | {count} | {:.0} |", *count as f64 * 60.0 / seconds);
    }
    println!("| all | {total} | {per_minute:.0} |");
    println!(
        "GitLab.com allows 2000 a minute; a GitLab whose limit is switched on, by default 7200 an hour (120 a minute)"
    );
}
