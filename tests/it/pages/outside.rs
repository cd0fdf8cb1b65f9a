//! What GitHub, Bitbucket Cloud, Bitbucket Data Center, mail servers and push services say about themselves and about others, as
//! attacks: names of owners, repositories, branches, accounts, rulesets, users and groups, titles, paths, and the words of their
//! errors. Each of these texts is shown with every payload that it has room for. Skipped, visibly, where chromium is not installed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signedapproval::domain::text::visible;

use crate::browser::can_run;
use crate::notices::settings;
use crate::pages::accessible::Axe;
use crate::pages::every_page::{Findings, joined};
use crate::pages::hostile::{as_branch, fit_for_names, packed, payloads};
use crate::pages::{Visit, press, texts};
use crate::support::browser::Browser;
use crate::support::forge::bitbucket_cloud::FakeBitbucketCloud;
use crate::support::forge::bitbucket_data_center::FakeBitbucketDataCenter;
use crate::support::forge::bitbucket_data_center::state::Access;
use crate::support::forge::github::state::APP;
use crate::support::forge::gitlab::repository::{Edit, NewCommit};
use crate::support::gated::SOON;
use crate::support::gated_bitbucket_cloud::SCOPES;
use crate::support::gated_github::GatedGitHub;
use crate::support::person::{items, text};
use crate::support::postman::Postman;
use crate::support::push::{Answering, PushService, Subscriber};

/// The repository's number on GitHub and on Data Center.
const REPOSITORY: u64 = 77;
const DIAGNOSTICS: &str = "/dashboard/settings/diagnostics";
/// Names of accounts and rulesets are cut to so many characters in what is found about a gate.
const NAME_CHARS_MAX: usize = 60;
/// So many names stand in one finding, and there are findings about two branches.
const AT_ONCE: usize = 3;
const POLL: Duration = Duration::from_millis(50);

/// One gated repository on a forge, and the request about its change.
struct Neighbour {
    integration: String,
    project: String,
    request: String,
}

struct Neighbours {
    it: GatedGitHub,
    cloud: FakeBitbucketCloud,
    data_center: FakeBitbucketDataCenter,
    /// GitHub, Cloud, Data Center.
    all: Vec<Neighbour>,
    postman: Postman,
    push: PushService,
}

/// Payloads whose mark is still there once a name is cut, as a page then shows them.
fn as_names() -> Vec<String> {
    let mut all = payloads();
    all.retain(|it| visible(it).chars().count() < NAME_CHARS_MAX);
    let some = all.into_iter().enumerate().filter(|(at, _)| at % 4 != 3);
    let all: Vec<String> = some.map(|(_, it)| it).collect();
    assert!(all.len() >= 30, "{}", all.len());
    all
}

fn marks_of<'a>(texts: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
    let all = texts.into_iter();
    all.flat_map(|it| {
        it.match_indices("pwned=")
            .map(|(at, _)| it[at..at + 8].to_owned())
            .collect::<Vec<_>>()
    })
    .collect()
}

/// The marks that a part of the page shows.
async fn shown_in(browser: &Browser, css: &str) -> BTreeSet<String> {
    let script = "return [...document.querySelectorAll(arguments[0])]\
        .flatMap((it) => [...it.textContent.matchAll(/pwned=\\d\\d/g)].map(([mark]) => mark))";
    texts(&browser.script(script, &[json!(css)]).await)
        .into_iter()
        .collect()
}

impl Neighbours {
    async fn start() -> Neighbours {
        let it = GatedGitHub::start().await;
        let names = packed(fit_for_names(), 90);
        let all = payloads();
        let branch = as_branch(&packed(fit_for_names(), 200)[1]);
        let title = packed(all.clone(), 250).swap_remove(2);
        let paths: Vec<Edit> = all
            .iter()
            .map(|path| Edit::write(&format!("src/{}", path.replace('/', "\u{2215}")), path))
            .collect();
        let commit = |name: &str| NewCommit::by(name, "mallory@example.test", &all.join("\n"), paths.clone());
        let gated = json!(["main", "production", as_branch(&names[3])]);
        let environments: Vec<String> = fit_for_names()
            .into_iter()
            .filter(|it| !it.contains(['*', '?', '[', ']', '{', '}', '!', '\\']))
            .take(20)
            .collect();

        let github = &it.github;
        github.add_repository(REPOSITORY, &names[0], &names[1]);
        github.install(&names[0], &[REPOSITORY], true);
        let mallory = github.add_user(&names[2], "mallory@example.test");
        let wanted = json!({"project_id": REPOSITORY.to_string(), "branch_patterns": gated, "environments": environments, "quorum": 2});
        let gate = text(&it.ada.gate_project(&it.integration, &wanted).await, "id");
        for branch in ["main", "production"] {
            if branch != "main" {
                github.branch(REPOSITORY, branch, "main");
            }
            for team in 1..=AT_ONCE {
                let bypass = json!({"actor_type": "Team", "actor_id": team, "bypass_mode": "always"});
                github.require_check(REPOSITORY, branch, Some(APP), vec![bypass]);
            }
        }
        github.branch(REPOSITORY, &branch, "main");
        github.commit(REPOSITORY, &branch, mallory, &commit(&names[4]));
        github.open(REPOSITORY, REPOSITORY, &branch, "main", &title, mallory);
        let of_github = Neighbour {
            integration: it.integration.id.clone(),
            project: gate,
            request: String::new(),
        };

        let cloud = FakeBitbucketCloud::start();
        let mallory = cloud.add_user(&names[5], "mallory@example.test");
        let bot = cloud.add_user(&names[6], "gate@example.test");
        let token = cloud.add_token(Some(&bot), &SCOPES);
        let repository = cloud.add_repository(&names[7], &names[8]);
        cloud.branch(&repository, "production", "main");
        for (kind, branch) in [
            ("push", "main"),
            ("restrict_merges", "main"),
            ("push", "production"),
        ] {
            cloud.restrict(&repository, kind, branch, &[&bot]);
        }
        let integration = it
            .ada
            .connect(&json!({"kind": "bitbucket", "name": packed(fit_for_names(), 190)[2], "base_url": cloud.base_url(),
                "email": "gate@example.test", "token": token}))
            .await;
        cloud.add_hook(&repository, &integration.webhook_url, &integration.webhook_secret);
        let wanted = json!({"project_id": repository, "branch_patterns": gated, "quorum": 2});
        let gate = text(&it.ada.gate_project(&integration, &wanted).await, "id");
        cloud.branch(&repository, &branch, "main");
        cloud.commit(&repository, &branch, &commit(&names[9]));
        // It is told of once it has its title.
        cloud.change(|it| it.silent = true);
        let number = cloud.open(&repository, &repository, &branch, "main", &mallory);
        cloud.change(|it| it.silent = false);
        cloud.edit(&repository, number, "updated", &mallory, |it| {
            it.title = title.clone()
        });
        let of_cloud = Neighbour {
            integration: integration.id,
            project: gate,
            request: String::new(),
        };

        let data_center = FakeBitbucketDataCenter::start();
        let mallory = data_center.add_user(&names[10], "mallory@example.test");
        let bot = data_center.add_user(&names[11], "gate@example.test");
        data_center.add_repository(REPOSITORY, &names[12], &names[0]);
        data_center.branch(REPOSITORY, "production", "main");
        data_center.let_in(REPOSITORY, mallory, Access::Write);
        data_center.let_in(REPOSITORY, bot, Access::Admin);
        for branch in ["main", "production"] {
            data_center.require_build(REPOSITORY, branch);
            data_center.restrict(REPOSITORY, branch, "pull-request-only", &[mallory], &[]);
        }
        data_center.change(|state| {
            for it in state.users.values_mut() {
                it.display = it.name.clone();
            }
        });
        let token = data_center.add_token(bot, Access::Admin);
        let integration = it
            .ada
            .connect(&json!({"kind": "bitbucket_dc", "name": packed(fit_for_names(), 190)[3], "base_url": data_center.base_url(),
                "token": token, "webhook_secret": "it is a secret to everybody"}))
            .await;
        data_center.add_hook(
            REPOSITORY,
            &integration.webhook_url,
            "it is a secret to everybody",
        );
        let wanted = json!({"project_id": REPOSITORY.to_string(), "branch_patterns": gated, "quorum": 2});
        let gate = text(&it.ada.gate_project(&integration, &wanted).await, "id");
        data_center.branch(REPOSITORY, &branch, "main");
        data_center.commit(REPOSITORY, &branch, mallory, &commit(&names[1]));
        data_center.open(REPOSITORY, REPOSITORY, &branch, "main", &title, mallory);
        let of_data_center = Neighbour {
            integration: integration.id,
            project: gate,
            request: String::new(),
        };

        let (postman, push) = (Postman::start().await, PushService::start().await);
        let told = settings(&push, &json!({"mail": postman.settings()}));
        it.ada
            .put("/api/v1/settings/notifications", &told)
            .await
            .expect(200);
        let mut neighbours = Neighbours {
            it,
            cloud,
            data_center,
            all: vec![of_github, of_cloud, of_data_center],
            postman,
            push,
        };
        for at in 0..3 {
            let request = neighbours.request_at(at).await;
            neighbours.all[at].request = request;
        }
        neighbours
    }

    /// The request about a neighbour's only change.
    async fn request_at(&self, at: usize) -> String {
        let started = Instant::now();
        let forge = match at {
            0 => self.it.github.base_url(),
            1 => self.cloud.base_url(),
            _ => self.data_center.base_url(),
        };
        let port = forge.split([':', '/']).nth(4).expect("a port").to_owned();
        loop {
            let all = items(
                &self
                    .it
                    .auditor
                    .get("/api/v1/approvals?kind=change&limit=100")
                    .await,
            );
            let of = |it: &&Value| {
                it["subject"]["instance"]
                    .as_str()
                    .is_some_and(|it| it.contains(&port))
            };
            if let Some(it) = all.iter().find(of) {
                return text(it, "id");
            }
            assert!(
                started.elapsed() < SOON,
                "nothing is asked of the neighbour {at}: {all:#?}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// From now on those whom the settings name are called so: three around each of two branches.
    fn rename(&self, names: &[String]) {
        let name = |at: usize| names[at % names.len()].clone();
        self.it.github.change(|state| {
            let rulesets = &mut state.repository_mut(REPOSITORY).rulesets;
            for (at, it) in rulesets.iter_mut().enumerate() {
                it.name = name(at);
            }
        });
        let called = |at: usize| {
            let uuid = format!("{{0000000{at}-0000-4000-8000-000000000000}}");
            json!({"type": "user", "uuid": uuid, "nickname": "x", "display_name": name(at)})
        };
        self.cloud.change(|state| {
            let repository = state.repositories.keys().next().cloned().expect("a repository");
            let all = &mut state.repository_mut(&repository).restrictions;
            all[0]["users"] = (0..AT_ONCE).map(called).collect();
            let groups = AT_ONCE..2 * AT_ONCE;
            all[1]["groups"] = groups.map(|at| json!({"name": name(at), "slug": "x"})).collect();
        });
        self.data_center.change(|state| {
            let all = &mut state.repository_mut(REPOSITORY).restrictions;
            let user = |at: usize| {
                json!({"id": 5000 + at, "name": name(at), "displayName": "x", "active": true, "slug": "x",
                "type": "NORMAL"})
            };
            all[0]["users"] = (0..AT_ONCE).map(user).collect();
            all[1]["groups"] = (AT_ONCE..2 * AT_ONCE).map(|at| json!(name(at))).collect();
        });
    }

    /// From now on each forge refuses to say who we are, with words of its own; without any it tells.
    fn refuse(&self, words: Option<[String; 3]>) {
        self.it.github.change(|state| state.faults.clear());
        self.cloud.change(|state| state.faults.clear());
        self.data_center.change(|state| state.faults.clear());
        let Some([github, cloud, data_center]) = words else {
            return;
        };
        let times = 10_000;
        let body = json!({"message": github});
        self.it.github.fail("GET", "/app", times, 400, &[], body);
        let body = json!({"type": "error", "error": {"message": cloud}});
        self.cloud.fail("GET", "/user", times, 400, &[], body);
        let body = json!({"errors": [{"message": data_center}]});
        self.data_center
            .fail("GET", "/application-properties", times, 400, &[], body);
    }

    async fn look_again(&self) {
        for it in &self.all {
            let path = format!(
                "/api/v1/integrations/{}/projects/{}/check",
                it.integration, it.project
            );
            self.it.ada.post(&path, &json!({})).await.expect(200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_forge_no_mail_server_and_no_push_service_lets_an_attack_through() {
    let name = "no_forge_no_mail_server_and_no_push_service_lets_an_attack_through";
    if !can_run(name) {
        return;
    }
    let started = Instant::now();
    let it = Neighbours::start().await;
    let made = started.elapsed();
    let base = it.it.appliance.base();
    let axe = Axe::installed(name);
    let url = text(
        &it.it.ada.invite("Olga", &["admin", "auditor", "approver"]).await,
        "invite_url",
    );
    let browser = joined(&url).await;
    let mut found = Findings::default();

    // Every page that tells of the three, once in full.
    it.rename(&as_names());
    it.look_again().await;
    let page = |word: &str| format!("/dashboard/integrations/{word}");
    let bitbucket = [Visit::of(
        "GET /dashboard/integrations/bitbucket",
        page("bitbucket"),
    )];
    found.visit(&browser, axe.as_ref(), &base, &bitbucket).await;
    let mut visits = vec![
        Visit::of("GET /dashboard/integrations/github", page("github")),
        Visit::of("GET /dashboard/integrations", "/dashboard/integrations"),
        Visit::of("GET /dashboard", "/dashboard"),
        Visit::of("GET /dashboard/requests", "/dashboard/requests"),
        Visit::of("GET /dashboard/audit", "/dashboard/audit"),
        Visit::of(
            "GET /dashboard/settings/retention",
            "/dashboard/settings/retention",
        ),
        Visit::of("GET /a/", "/a/"),
    ];
    for (at, what) in ["GitHub", "Bitbucket Cloud", "Bitbucket Data Center"]
        .iter()
        .enumerate()
    {
        let request = format!("/a/{}", it.all[at].request);
        visits.push(Visit::of("GET /a/{id}", request).called(what));
        let story = format!("/dashboard/audit?request={}", it.all[at].request);
        visits.push(Visit::of("", story).called(what));
    }
    found.visit(&browser, None, &base, &visits).await;
    println!("every page once after {:.1?}", started.elapsed());
    // A request's page shows titles, branches, authors and every changed path.
    for at in 0..3 {
        browser.goto(&format!("{base}/a/{}", it.all[at].request)).await;
        let shown = shown_in(&browser, "main").await;
        assert!(shown.len() >= 30, "{at}: {shown:?}");
    }

    // This browser's own messages go to a push service that answers as it likes.
    let subscriber = Subscriber::new(&it.push.endpoint("olga"));
    let body = json!({"platform": "webpush", "subscription": subscriber.json, "name": "Phone"}).to_string();
    let register = "window.done = 0; fetch('/api/v1/me/devices', {method: 'POST', body: arguments[0], \
        headers: {'Content-Type': 'application/json'}}).then((it) => (window.done = it.status))";
    browser.script(register, &[json!(body)]).await;
    browser.wait_until("window.done === 200").await;

    let (mut gates, mut errors, mut mails, mut pushes) = (
        vec![BTreeSet::new(); 2],
        BTreeSet::new(),
        BTreeSet::new(),
        BTreeSet::new(),
    );
    let all = as_names();
    for names in all.chunks(2 * AT_ONCE) {
        it.rename(names);
        it.look_again().await;
        for (at, word) in ["github", "bitbucket"].iter().enumerate() {
            browser.goto(&format!("{base}{}", page(word))).await;
            found.look(&browser, None, word, false).await;
            gates[at].extend(shown_in(&browser, ".gate").await);
        }
        // Two at a time, each by each forge in its turn: an answer's words are cut.
        let two: Vec<String> = names.chunks(2).map(|it| it.join(" ")).collect();
        let two = |at: usize| two[at % two.len()].clone();
        for at in 0..3 {
            it.refuse(Some([two(at), two(at + 1), two(at + 2)]));
            browser.goto(&format!("{base}{DIAGNOSTICS}")).await;
            press(
                &browser,
                "form[action='/dashboard/settings/diagnostics'] button:not([name])",
            )
            .await;
            found.look(&browser, None, "what forges refuse", false).await;
            errors.extend(shown_in(&browser, "main").await);
        }
        it.refuse(None);
        for words in names.chunks(AT_ONCE) {
            let words = words.join(" ");
            it.postman.refuse(&words.replace(['\r', '\n'], " "));
            // What begins like a page is called one, and no word of it is shown.
            let body = format!("No: {words}");
            it.push.answer(
                "olga",
                Answering {
                    status: 400,
                    retry_after: None,
                    body,
                },
            );
            for (button, seen) in [("mail", &mut mails), ("push", &mut pushes)] {
                press(&browser, &format!("button[value={button}]")).await;
                found.look(&browser, None, button, false).await;
                seen.extend(shown_in(&browser, "#tried").await);
            }
        }
    }
    let wanted = marks_of(&all);
    for (what, seen) in [
        ("what is found about gates on GitHub", &gates[0]),
        ("what is found about gates on Bitbucket", &gates[1]),
        ("what forges answer", &errors),
        ("what mail servers answer", &mails),
        ("what push services answer", &pushes),
    ] {
        let unseen: Vec<&String> = wanted.difference(seen).collect();
        assert!(unseen.is_empty(), "{what} never showed {unseen:?}");
    }
    found.blocked(&browser).await;
    println!(
        "{} looks, {:.1?}, of which {made:.1?} made the company",
        found.pages,
        started.elapsed()
    );
    found.assert_none();
}
