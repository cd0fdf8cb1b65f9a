//! A company in which every text that comes from outside is an attack on whoever looks at it: names of people, groups, keys,
//! rooms, sinks and rules, titles, branches, paths, commits, jobs, environments, metadata, reasons, comments and notes.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;

use crate::bundles::EVER;
use crate::bundles::unpack;
use crate::bypass::commit;
use crate::pages::Visit;
use crate::support::appliance::Api;
use crate::support::appliance::Options;
use crate::support::forge::gitlab::repository::Edit;
use crate::support::forge::gitlab::repository::NewCommit;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::gated::Gated;
use crate::support::gated::Hook;
use crate::support::gated::PROJECT;
use crate::support::gated::SOON;
use crate::support::person::text;

/// `§` stands for the payload's mark, which a script that runs sets, and which a page that shows the payload has as text.
const TEMPLATES: &[&str] = &[
    // Scripts, and ways out of where a text may stand.
    "<script pwn>§</script>",
    "\"><script pwn>§</script>",
    "'><img pwn src=x onerror=§>",
    "</title><script pwn>§</script>",
    "</textarea><script pwn>§</script>",
    "</style><script pwn>§</script>",
    "</script><script pwn>§</script>",
    "</noscript><img pwn src=x onerror=§>",
    "</option></select><img pwn src=x onerror=§>",
    "]]>--><script pwn>§</script><!--",
    // Handlers, on elements and in attributes.
    "<img/pwn/src=x/onerror=§>",
    "<svg pwn onload=§>",
    "<svg pwn><animate onbegin=§ attributeName=x dur=1s>",
    "<svg pwn><a xlink:href=\"javascript:§\"><text y=9>x",
    "<details pwn open ontoggle=§>",
    "<video pwn><source onerror=§>",
    "<body pwn onload=§>",
    "\" onmouseover=\"§\" pwn=\"",
    "' autofocus onfocus=§ pwn='",
    "` onclick=§ pwn=`",
    // Elements that load, lead or send elsewhere.
    "<iframe pwn srcdoc=\"<script>parent.§</script>\">",
    "<object pwn data=//evil.example/§>",
    "<base pwn href=//evil.example/§/>",
    "<meta pwn http-equiv=refresh content=0;url=//evil.example/§>",
    "<link pwn rel=stylesheet href=//evil.example/§>",
    "<form pwn action=//evil.example/§><button formaction=javascript:§>",
    "<a pwn href=\"jav&#x09;ascript:§\">x</a>",
    "<math pwn><mtext><table><mglyph><style><img src=x onerror=§>",
    "<template pwn><script>§</script></template>",
    // Schemes.
    "javascript:§//",
    "data:text/html,<script pwn>§</script>",
    "vbscript:§",
    // Templates of other makers, and our own.
    "{{constructor.constructor('§')()}}",
    "${§}`${§}`",
    "<%= § %>#{§}",
    "{% raw %}{{ § }}{% endraw %}",
    // What is harmless until somebody decodes it once more.
    "&lt;img pwn src=x onerror=§&gt;",
    "&#60;script pwn&#62;§&#60;/script&#62;",
    "\\u003cscript pwn\\u003e§\\u003c/script\\u003e",
    "%3Cscript pwn%3E§%3C/script%3E",
    "\u{ff1c}script pwn\u{ff1e}§\u{ff1c}/script\u{ff1e}",
    // Out of JSON, CSS and CSV.
    "\"};§;//",
    "*/}body{background:url(//evil.example/§)}/*",
    "=HYPERLINK(\"http://evil.example\",\"§\")",
    // What looks like something else. Names refuse these.
    "\u{202e}<b pwn>§</b>\u{2066}",
    "\u{200b}\u{feff}<b pwn>§</b>\u{e0041}",
];

thread_local! {
    /// Whether the company of this test is one of harmless people, whose every text is Greek.
    static HARMLESS: Cell<bool> = const { Cell::new(false) };
}

/// The payloads, each with its mark.
pub fn payloads() -> Vec<String> {
    let marked = |(at, it): (usize, &&str)| match HARMLESS.get() {
        true => format!("λόγος{at} σοφία καὶ φύσις {}", mark(at)),
        false => it.replace('§', &mark(at)),
    };
    TEMPLATES.iter().enumerate().map(marked).collect()
}

/// What a payload sets: the window's `pwned`.
pub fn mark(at: usize) -> String {
    format!("pwned={}", at + 10)
}

/// Payloads that a name takes: all but those that hide something.
pub fn fit_for_names() -> Vec<String> {
    let mut all = payloads();
    all.retain(|it| signedapproval::domain::text::visible(it) == *it);
    let hidden = if HARMLESS.get() { 0 } else { 2 };
    assert!(all.len() + hidden == TEMPLATES.len(), "two hide something");
    all
}

/// The beginning, in so many bytes.
pub fn cut(text: &str, bytes_max: usize) -> String {
    let end = (0..=bytes_max.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or_default();
    text[..end].trim().to_owned()
}

/// As many texts as it takes to hold all payloads, each with at most so many bytes.
pub fn packed(payloads: Vec<String>, bytes_max: usize) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for it in payloads {
        assert!(it.len() <= bytes_max, "{it}");
        match texts.last_mut() {
            Some(last) if last.len() + 1 + it.len() <= bytes_max => {
                last.push(' ');
                last.push_str(&it);
            }
            _ => texts.push(it),
        }
    }
    texts
}

/// As git takes it: no space and none of the signs that a ref may not have.
pub fn as_branch(text: &str) -> String {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    let mut name: String = text.chars().map(|c| if odd(c) { '/' } else { c }).collect();
    while name.contains("//") || name.contains("..") || name.contains("@{") {
        name = name.replace("//", "/").replace("..", ".").replace("@{", "@");
    }
    name.trim_matches(['/', '.']).to_owned()
}

/// The company, and what of it the visits have to know.
pub struct Hostile {
    pub it: Gated,
    ci: Api,
    /// Requests by what became of them.
    requests: Vec<(&'static str, String)>,
    proposal: String,
    /// Somebody who sees everything and may do everything: their id, and the link to become them.
    overseer: (String, String),
}

/// As `X-Reason` carries any text (RFC 8187).
fn reason(text: &str) -> String {
    let mut out = "UTF-8''".to_owned();
    for byte in text.bytes() {
        out.push_str(&format!("%{byte:02X}"));
    }
    out
}

impl Hostile {
    /// The same company with nothing hostile in it: what people and forges give is Greek, and so is told from our own texts.
    pub async fn harmless() -> Hostile {
        HARMLESS.set(true);
        Hostile::start().await
    }

    pub async fn start() -> Hostile {
        let options = Options::default().config("[sinks]\ndirectory = \"{dir}\"\n");
        let mut it = Gated::start_in(options, Hook::Token, json!({"environments": ["*"]})).await;
        let names = packed(fit_for_names(), 190);
        let ci_key = it.ada.create_api_key(&names[0], &["request"], &[]).await.key;
        let ci = it.appliance.api().with_key(&ci_key);

        // Those who are there already are called otherwise now.
        for (at, person) in [(1, &mut it.bea), (2, &mut it.carl)] {
            it.ada
                .patch(
                    &format!("/api/v1/people/{}", person.id()),
                    &json!({"name": names[at]}),
                )
                .await
                .expect(200);
            person.name = names[at].clone();
        }
        let mut company = Hostile {
            it,
            ci,
            requests: Vec::new(),
            proposal: String::new(),
            overseer: (String::new(), String::new()),
        };
        company.people_and_settings(&names).await;
        company.rules(&names).await;
        company.changes(&names).await;
        company.pipelines().await;
        company
    }

    async fn because(&self, method: &str, path: &str, why: &str, body: Value) -> Value {
        let (origin, why) = (self.it.appliance.origin(), reason(why));
        let headers = [("origin", origin.as_str()), ("x-reason", why.as_str())];
        let answer = self.it.ada.send_with(method, path, &headers, Some(&body)).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
        answer.json()
    }

    /// Refused at most for what it hides.
    async fn if_taken(&self, path: &str, name: &str, body: &Value) {
        let answer = self.it.ada.post(path, body).await;
        let hides = signedapproval::domain::text::visible(name) != name;
        assert!(
            answer.status == 201 || (hides && answer.status == 422),
            "{path} {body}: {answer:?}"
        );
    }

    async fn people_and_settings(&mut self, names: &[String]) {
        let why = packed(fit_for_names(), 490);
        for (at, name) in names.iter().enumerate() {
            let why = &why[at % why.len()];
            let email = format!("\"><script/pwn>{}</script>@h{at}", mark(0));
            let body = json!({"name": name, "email": email, "roles": ["approver"]});
            let person = self.because("POST", "/api/v1/people", why, body).await;
            let body = json!({"name": name, "members": [text(&person, "id")]});
            self.because("POST", "/api/v1/groups", why, body).await;
            let body = json!({"name": name, "scopes": ["audit"], "projects": [name]});
            self.because("POST", "/api/v1/api-keys", why, body).await;
            let body = json!({"name": name, "kind": "file", "file": format!("f{at}")});
            self.because("POST", "/api/v1/sinks", why, body).await;
        }
        // These take what hides something, or say that they do not.
        for it in packed(payloads(), 100) {
            let body = json!({"name": it, "kind": "slack", "audience": self.it.bea.id(), "url": "https://chat.invalid/"});
            self.if_taken("/api/v1/chats", &it, &body).await;
            let body = json!({"name": it, "scopes": ["audit"]});
            self.if_taken("/api/v1/api-keys", &it, &body).await;
        }
        let body = json!({"name": names[names.len() - 1], "email": "otto@example.test",
            "roles": ["approver", "admin", "auditor"]});
        let invited = self.it.ada.post("/api/v1/people", &body).await.expect(201);
        self.overseer = (text(&invited, "id"), text(&invited, "invite_url"));
        let mail = json!({"mail": {"host": "mail.example", "port": 587, "tls": "starttls", "from": "gate@example.com"}});
        let put = self.it.ada.put("/api/v1/settings/notifications", &mail).await;
        put.expect(200);
        let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(240);
        let body = json!({"from": self.it.carl.id(), "to": self.it.ada.id(), "ends": ends.to_string(), "reason": why[0]});
        let answer = self.it.carl.post("/api/v1/delegations", &body).await;
        answer.expect(201);
        let everything = payloads().join(" ");
        let everything = cut(&everything, 1_900);
        let body = json!({"from": "2026-01-01", "to": "2026-04-01", "note": everything});
        self.it.ada.post("/api/v1/audit/reviews", &body).await.expect(201);
    }

    async fn rules(&mut self, names: &[String]) {
        let methods = json!(["passkey", "biometric"]);
        let mut rules: Vec<Value> = fit_for_names()
            .iter()
            .map(|it| {
                // Not every text is a pattern.
                let place = if it.contains(['{', '}', '[', ']', '*', '?', '!', '\\']) { "nowhere" } else { it };
                json!({"name": it, "match": {"environment": place, "project": place}, "require": {"method": methods}})
            })
            .collect();
        rules.push(json!({"name": names[3], "match": {"branch": "*"}, "require": {"method": methods}}));
        rules.push(json!({"name": names[4], "match": {"environment": "*"},
            "require": {"method": methods, "match_code": true, "approvers": [format!("person:{}", self.it.bea.id()),
                format!("person:{}", self.overseer.0), format!("group:{}", names[0])]}}));
        let policy = json!({"rules": rules});
        self.it.ada.put_policy("default", &policy).await;
        let mut looser = policy.clone();
        looser["change_quorum"] = json!(2);
        self.it.ada.bring_in(&self.it.appliance, "Dora", &["admin"]).await;
        self.it.ada.put_policy("default", &looser).await;
        let why = packed(fit_for_names(), 490);
        let waits = self
            .because("PUT", "/api/v1/policies/default", &why[1], policy)
            .await;
        self.proposal = text(&waits, "proposal");
    }

    async fn changes(&mut self, names: &[String]) {
        let it = &self.it;
        let all = payloads();
        let mallory = it.gitlab.add_user(&names[0], &names[5], "mallory@example.test");
        it.gitlab.add_member(PROJECT, mallory, DEVELOPER);
        let signed = |name: &str, message: &str, edits: Vec<Edit>| {
            let mut commit = NewCommit::by(name, &format!("{}@e", mark(1)), message, edits);
            commit.committer.name = names[6].clone();
            commit
        };
        let mut titles = Vec::new();
        for (at, branch) in packed(fit_for_names(), 230).iter().take(4).enumerate() {
            let branch = format!("{at}{}", as_branch(branch));
            it.gitlab.branch(PROJECT, &branch, "main");
            let share = all.iter().skip(at).step_by(4);
            let edits = share
                .map(|path| Edit::write(&format!("src/{}", path.replace('/', "\u{2215}")), path))
                .collect();
            it.gitlab
                .commit(PROJECT, &branch, &signed(&names[at], &all.join("\n"), edits));
            for name in &names[..3] {
                let own = vec![Edit::write(&format!("by/{}", name.len()), name)];
                it.gitlab.commit(PROJECT, &branch, &signed(name, name, own));
            }
            let title = packed(all.clone(), 250).swap_remove(at);
            let iid = it
                .gitlab
                .open_merge_request(PROJECT, &branch, "main", &title, mallory);
            it.gitlab.change_state(|state| {
                state.change_mut(PROJECT, iid).description = all.join("\n");
            });
            titles.push(iid);
        }
        let mut ids = Vec::new();
        for iid in titles {
            let started = std::time::Instant::now();
            let id = loop {
                let found = it.requests(iid).await;
                if let Some(it) = found.first().filter(|it| it["status"] == "pending") {
                    break text(it, "id");
                }
                assert!(started.elapsed() < SOON, "!{iid} is not asked about: {found:#?}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            };
            ids.push(id);
        }
        let comment = cut(&all.join(" "), 1_900);
        it.bea.reject(&ids[0], &comment).await;
        // Nobody knows the commits' authors, so it takes one more.
        it.bea.approve(&ids[1]).await;
        it.ada.approve(&ids[1]).await;
        // Past the gate.
        it.gitlab.add_member(PROJECT, mallory, MAINTAINER);
        let main = it.gitlab.head(PROJECT, "main");
        it.seen("main", &main).await;
        let around = signed(
            &names[7],
            &all[0],
            vec![Edit::write(&format!("{} x", all[3].replace('/', "")), "x")],
        );
        it.gitlab.push_anyway(PROJECT, "main", mallory, &around);
        let plain = it
            .gitlab
            .push_anyway(PROJECT, "main", mallory, &commit(&names[2], "b.rs"));
        it.seen("main", &plain).await;
        // A job that waits to deploy.
        let pipeline = it
            .gitlab
            .add_pipeline(PROJECT, &plain, "main", "push", "manual", mallory);
        let place = packed(all.clone(), 250);
        it.gitlab
            .add_deploy_job(PROJECT, pipeline, &place[5], &place[6], true);
        let started = std::time::Instant::now();
        let path = "/api/v1/approvals?kind=deployment&limit=100";
        let waits = loop {
            let found = it.auditor.get(path).await.json();
            if let Some(it) = found["items"].as_array().and_then(|it| it.first()) {
                break text(it, "id");
            }
            assert!(started.elapsed() < SOON, "the job is not asked about");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        let mut ids = ids.into_iter();
        for what in ["rejected", "approved", "change"] {
            self.requests.push((what, ids.next().expect("four changes")));
        }
        self.requests.push(("deployment", waits));
    }

    async fn pipelines(&mut self) {
        let all = payloads();
        let mut last = String::new();
        for it in packed(all.clone(), 250) {
            let metadata: serde_json::Map<String, Value> =
                all.iter().map(|it| (it.clone(), json!(it))).collect();
            last = self
                .ci
                .open_request(&json!({"action": it, "environment": it, "project": it,
                    "ttl_seconds": 3600, "metadata": metadata}))
                .await;
        }
        self.requests.push(("pipeline", last));
        // Another key's: what a held one asks can't be decided.
        let other = packed(fit_for_names(), 190).swap_remove(1);
        let other = self.it.ada.create_api_key(&other, &["request"], &[]).await.key;
        let other = self.it.appliance.api().with_key(&other);
        let action = cut(&all.join("\n"), 1_900);
        let held = other
            .open_request(&json!({"action": action, "ttl_seconds": 3600}))
            .await;
        let note = cut(&all.join(" "), 990);
        let path = format!("/api/v1/approvals/{held}/not-me");
        self.it.bea.post(&path, &json!({"note": note})).await.expect(204);
        self.requests.push(("held", held));
    }

    /// A page each, and more than one where it has more than one face.
    pub fn visits(&self) -> Vec<Visit> {
        let mut visits = Vec::new();
        for (what, id) in &self.requests {
            visits.push(Visit::of("GET /a/{id}", format!("/a/{id}")).called(what));
        }
        let evil: String = url::form_urlencoded::byte_serialize(payloads()[1].as_bytes()).collect();
        let project = &self.it.project;
        let editor = "/dashboard/policies/default/edit";
        let broken = json!(payloads().join("\n")).to_string();
        let typed = format!(
            "const it = document.querySelector('#document'); it.value = {broken}; \
             for (const name of ['branch', 'environment', 'project']) document.getElementById(name).value = {}; \
             document.querySelector('#paths').value = {broken}; document.querySelector('#reason').value = {};",
            json!(packed(payloads(), 200)[2]),
            json!(packed(fit_for_names(), 400)[0]),
        );
        let gate = format!("/dashboard/integrations/gitlab/{project}/gate");
        visits.extend([
            Visit::of("GET /dashboard/policies/{name}", "/dashboard/policies/default"),
            Visit::of("GET /dashboard/policies/{name}/edit", editor),
            Visit::of("POST /dashboard/policies/{name}/edit", editor)
                .called("an invalid policy, sent")
                .then(
                    &format!("{typed} document.querySelector('button[value=save]').click()"),
                    "document.body.innerText.includes('not a valid policy')",
                ),
            Visit::of("POST /dashboard/explain-policy", editor)
                .called("an invalid policy, explained")
                .then(
                    &format!(
                        "{typed} document.querySelector('#found').replaceChildren(); \
                         it.dispatchEvent(new Event('input', {{ bubbles: true }}))"
                    ),
                    "document.querySelector('#found').textContent.length > 20",
                ),
            Visit::of("GET /dashboard/new-policy", format!("/dashboard/new-policy?name={evil}")),
            Visit::of(
                "GET /dashboard/proposals/{id}",
                format!("/dashboard/proposals/{}", self.proposal),
            ),
            Visit::of("GET /dashboard/integrations/gitlab/{pid}/gate", gate.clone()).called("the gate"),
            Visit::of(
                "GET /dashboard/integrations/gitlab/{pid}/gate",
                format!("{gate}?enforcement=merge_broker"),
            )
            .called("the gate's plan"),
            Visit::of(
                "GET /dashboard/integrations/github/made",
                format!("/dashboard/integrations/github/made?code={evil}&state={evil}"),
            ),
            Visit::of("POST /dashboard/integrations/github/app", "/dashboard/integrations/github")
                .called("a GitHub App to be made")
                .then(
                    &format!(
                        "const form = document.querySelector('#connect > form'); \
                         form.elements.name.value = {}; form.elements.base_url.value = 'https://github.example'; \
                         form.querySelector('button').click()",
                        json!(payloads()[0])
                    ),
                    "location.pathname.endsWith('/app')",
                ),
            Visit::of("GET /dashboard/set-up/{step}", "/dashboard/set-up/passkey"),
            Visit::of("GET /dashboard/set-up/{step}", format!("/dashboard/set-up/public-url?address={evil}"))
                .called("an address that will not do"),
            Visit::of("GET /dashboard/set-up/{step}", "/dashboard/set-up/tls"),
            Visit::of("GET /dashboard/set-up/{step}", "/dashboard/set-up/signing-key"),
            Visit::of("GET /dashboard/set-up/{step}", "/dashboard/set-up/forge"),
            Visit::of("GET /dashboard/set-up/{step}", "/dashboard/set-up/policy"),
            Visit::of("GET /dashboard/set-up/{step}", "/dashboard/set-up/approver"),
            Visit::of("POST /dashboard/set-up/{step}", "/dashboard/set-up/signing-key")
                .called("a fingerprint that was not written down")
                .then(
                    &format!(
                        "document.querySelector('#typed').value = {}; document.querySelector('#typed').form.submit()",
                        json!(cut(&payloads().join(" "), 90))
                    ),
                    "document.querySelector('#typed[aria-invalid]')",
                ),
            Visit::of("GET /problems/{type}", "/problems/self-approval"),
            Visit::of("GET /problems/{type}", format!("/problems/{evil}")).called("a problem that is none"),
            Visit::of("GET /dashboard/requests", "/dashboard/requests"),
            Visit::of("GET /dashboard/requests", format!("/dashboard/requests?status={evil}&before={evil}"))
                .called("requests, asked oddly"),
            Visit::of(
                "GET /dashboard/requests",
                format!(
                    "/dashboard/requests?q={evil}&project={evil}&environment={evil}&requester={evil}&policy={evil}&rule={evil}"
                ),
            )
            .called("requests, filtered by an attack"),
            Visit::of("POST /dashboard/requests/views", format!("/dashboard/requests?environment={evil}"))
                .called("a view that is saved")
                .then(
                    &format!(
                        "document.querySelector('#view-name').value = {}; document.querySelector('button[value=save]').click()",
                        json!(payloads()[0])
                    ),
                    "document.querySelector('.view-list') || document.querySelector('#wrong-view')",
                ),
            Visit::of("GET /dashboard/audit", "/dashboard/audit"),
            Visit::of(
                "GET /dashboard/audit",
                format!("/dashboard/audit?request={}&kind={evil}&since={evil}", self.requests[0].1),
            )
            .called("audit, asked oddly"),
            Visit::of(
                "GET /dashboard/audit",
                format!("/dashboard/audit?request={}", self.requests[0].1),
            )
            .called("the story of a request"),
            Visit::of("GET /dashboard/audit/report", "/dashboard/audit/report"),
            Visit::of("GET /dashboard/audit/report", format!("/dashboard/audit/report?from={evil}&to={evil}"))
                .called("report, asked oddly"),
            Visit::of("GET /dashboard/settings/retention", "/dashboard/settings/retention"),
            Visit::of(
                "GET /dashboard/settings/retention",
                format!("/dashboard/settings/retention?project={project}&pipelines=&request=&before=#preview"),
            )
            .called("retention, with a preview"),
            Visit::of("POST /dashboard/settings/diagnostics", "/dashboard/settings/diagnostics")
                .called("diagnostics, after a look at each forge")
                .then(
                    "document.querySelector(\"form[action='/dashboard/settings/diagnostics'] button\").click()",
                    "document.body.innerText.includes('Check again')",
                ),
            Visit::of("GET /verify", "/verify").called("a file that proves nothing").then(
                &format!(
                    "const list = new DataTransfer(); list.items.add(new File([{0}], {0} + '.dsse.json')); \
                     const input = document.querySelector('[data-drop] input'); input.files = list.files; \
                     input.dispatchEvent(new Event('change'))",
                    json!(payloads()[3])
                ),
                "document.querySelector('[data-drop] [data-error]').textContent \
                 || !document.querySelector('[data-verdict]').hidden",
            ),
            Visit::of("", format!("/{evil}/{evil}?{evil}")).called("nothing here"),
            Visit::of("", format!("/a/{evil}")).called("no such request"),
            Visit::of("", format!("/dashboard/policies/{evil}")).called("no such policy"),
            Visit::of("", format!("/static/{evil}")).called("no such file"),
        ]);
        visits
    }

    /// What nobody who is signed in sees.
    pub async fn for_strangers(&self) -> Vec<Visit> {
        let invited = text(&self.it.ada.invite("Eve", &["approver"]).await, "invite_url");
        let invited = invited.split_once("/enrol").expect("a link").1;
        let evil: String = url::form_urlencoded::byte_serialize(payloads()[1].as_bytes()).collect();
        vec![
            Visit::of("GET /login", "/login"),
            Visit::of("GET /login", format!("/login?next=javascript:{}", mark(0)))
                .called("login, sent by an attacker"),
            Visit::of("GET /login", format!("/login?next={evil}#{evil}")).called("login, sent by another"),
            Visit::of("GET /enrol", format!("/enrol{invited}")).called("an invitation"),
            Visit::of("GET /enrol", format!("/enrol#{evil}")).called("a false invitation"),
            Visit::of("GET /setup", format!("/setup#{evil}")).called("set up already"),
            Visit::of("GET /offline", "/offline"),
            Visit::of("GET /help", "/help").called("help for strangers"),
            Visit::of("GET /verify", "/verify").called("verify for strangers"),
        ]
    }

    /// `report.html` of an audit bundle over everything, in a file of its own.
    pub async fn report(&self) -> PathBuf {
        let bundle = self.it.appliance.dir().join("all.zip");
        let out = bundle.to_str().expect("text");
        let period = ["--from", EVER[0], "--to", EVER[1], "--out", out];
        let (code, said, err) = self
            .it
            .appliance
            .cli(&[&["audit", "export"][..], &period].concat())
            .await;
        assert_eq!(code, 0, "{said}{err}");
        let mut files = unpack(&fs::read(&bundle).expect("the bundle"));
        files.retain(|it| it.0 == "report.html");
        let report = self.it.appliance.dir().join("report.html");
        fs::write(&report, &files[0].1).expect("a writable directory");
        report
    }

    /// The link by which somebody who sees everything and may do everything comes in.
    pub fn overseer(&self) -> &str {
        &self.overseer.1
    }
}

/// The marks of all payloads.
pub fn marks() -> BTreeSet<String> {
    (0..TEMPLATES.len()).map(mark).collect()
}

/// Nothing here is used twice by mistake.
#[test]
fn every_payload_has_a_mark_of_its_own() {
    let all = payloads();
    assert!(all.len() >= 30, "{}", all.len());
    for (at, it) in all.iter().enumerate() {
        let own = mark(at);
        assert!(it.contains(&own), "{it} lacks {own}");
        let others = all.iter().filter(|it| it.contains(&own)).count();
        assert_eq!(others, 1, "{own}");
    }
}
