//! The pages of the single steps.

use crate::config::check_public_url;
use crate::domain::people::{Person, Role};
use crate::domain::project::{ForgeKind, Integration, PolicyRecord, Project};
use crate::domain::set_up::{APPROVERS_MIN, FINGERPRINT_END, SetUpFacts, SetUpStep, Standing, Transport};
use crate::domain::state::Read;
use crate::store::Snapshot;
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::keys::verifier_key;
use crate::web::pages::frame::Frame;
use crate::web::pages::gate::GateView;
use crate::web::pages::moment::Moment;
use crate::web::pages::set_up::{Head, addresses};
use crate::web::pages::settings::{CertificateView, KeyView, SettingView, Ways, keys, setting};
use crate::web::pages::{PageError, html, shown};
use actix_web::HttpResponse;
use askama::Template;

/// Longest text of others, in characters.
const TEXT_MAX: usize = 200;
/// Projects on the page; more have a page of their own.
const PROJECTS_MAX: usize = 20;

/// What came along with the call: typed before, or to be looked at.
#[derive(Default)]
pub struct Said {
    pub address: Option<String>,
    pub typed: String,
    /// Why it is refused; empty where nothing is.
    pub wrong: String,
}

/// The page of one step.
pub fn show(
    app: &App,
    state: &Snapshot,
    person: &Person,
    frame: Frame,
    head: Head,
    facts: &SetUpFacts,
    said: Said,
) -> Result<HttpResponse, PageError> {
    Ok(match head.step {
        SetUpStep::Passkey => html(&PasskeyPage::of(frame, head, person)),
        SetUpStep::PublicUrl => html(&PublicUrlPage::of(app, frame, head, facts, said)?),
        SetUpStep::Tls => html(&TlsPage {
            frame,
            head,
            transport: facts.transport,
            certificate: CertificateView::of(app),
            ways: Ways::of(app),
        }),
        SetUpStep::SigningKey => html(&SigningKeyPage::of(app, state, frame, head, facts, said)?),
        SetUpStep::Forge => html(&ForgePage::of(state, frame, head)?),
        SetUpStep::Policy => html(&PolicyPage::of(state, frame, head)?),
        SetUpStep::Approver => html(&ApproverPage::of(state, frame, head)?),
    })
}

#[derive(Template)]
#[template(path = "set_up/passkey.html")]
struct PasskeyPage {
    frame: Frame,
    head: Head,
    passkeys: Vec<(String, Moment)>,
}

impl PasskeyPage {
    fn of(frame: Frame, head: Head, person: &Person) -> Self {
        let passkeys = person.live_passkeys().map(|it| {
            let label = if it.label.is_empty() {
                t!("Passkey")
            } else {
                &it.label
            };
            (shown(label, TEXT_MAX), Moment::of(it.added_at))
        });
        PasskeyPage {
            frame,
            head,
            passkeys: passkeys.collect(),
        }
    }
}

#[derive(Template)]
#[template(path = "set_up/public_url.html")]
struct PublicUrlPage {
    frame: Frame,
    head: Head,
    address: String,
    /// Whom passkeys are bound to.
    host: String,
    /// What the journal was begun with, where that was another.
    first: Option<String>,
    origin: Option<SettingView>,
    evaluation: bool,
    /// People other than the one who claimed the server are enrolled.
    others: bool,
    /// When somebody said that it is right, and who.
    confirmed: Option<(String, Moment)>,
    /// An address that is to be looked at, and why it will not do.
    tried: Option<(String, Option<&'static str>)>,
}

impl PublicUrlPage {
    fn of(app: &App, frame: Frame, head: Head, facts: &SetUpFacts, said: Said) -> Result<Self, PageError> {
        let (address, first) = addresses(app)?;
        let host = url::Url::parse(&address).ok();
        let host = host.and_then(|it| it.host_str().map(str::to_owned));
        let state = app.snapshot()?;
        let people: Vec<Person> = state.all()?;
        let enrolled = people.iter().filter(|it| it.live_passkeys().next().is_some());
        let answer = facts.answer(SetUpStep::PublicUrl);
        Ok(PublicUrlPage {
            frame,
            confirmed: answer
                .filter(|_| head.standing == Standing::Done)
                .map(|it| (shown(&it.name, TEXT_MAX), Moment::of(it.at))),
            head,
            host: host.unwrap_or_default(),
            address,
            first: first.map(|it| shown(&it, TEXT_MAX)),
            origin: setting(app, "public_url"),
            evaluation: app.evaluation(),
            others: enrolled.count() > 1,
            tried: said.address.map(|it| {
                let it = it.trim().trim_end_matches('/').to_owned();
                let why = check_public_url(&it).err();
                (shown(&it, TEXT_MAX), why)
            }),
        })
    }
}

#[derive(Template)]
#[template(path = "set_up/tls.html")]
struct TlsPage {
    frame: Frame,
    head: Head,
    transport: Transport,
    certificate: Option<CertificateView>,
    ways: Ways,
}

#[derive(Template)]
#[template(path = "set_up/signing_key.html")]
struct SigningKeyPage {
    frame: Frame,
    head: Head,
    address: String,
    credential: Option<KeyView>,
    log: Option<KeyView>,
    log_vkey: String,
    log_origin: String,
    digits: usize,
    confirmed: Option<(String, Moment)>,
    typed: String,
    wrong: String,
}

impl SigningKeyPage {
    fn of(
        app: &App,
        state: &Snapshot,
        frame: Frame,
        head: Head,
        facts: &SetUpFacts,
        said: Said,
    ) -> Result<Self, PageError> {
        let mut signing = keys(app, state)?;
        signing.retain(|it| it.until.is_none());
        let log = verifier_key(state)?;
        let (credential, others): (Vec<_>, Vec<_>) = signing.into_iter().partition(|it| it.credential);
        let answer = facts.answer(SetUpStep::SigningKey);
        Ok(SigningKeyPage {
            frame,
            confirmed: answer
                .filter(|_| head.standing == Standing::Done)
                .map(|it| (shown(&it.name, TEXT_MAX), Moment::of(it.at))),
            head,
            address: app.public_url().to_owned(),
            credential: credential.into_iter().next(),
            log: others.into_iter().next(),
            log_vkey: log.vkey(),
            log_origin: log.name().to_owned(),
            digits: FINGERPRINT_END,
            typed: said.typed,
            wrong: said.wrong,
        })
    }
}

#[derive(Template)]
#[template(path = "set_up/forge.html")]
struct ForgePage {
    frame: Frame,
    head: Head,
    forges: Vec<ForgeLine>,
    projects: Vec<ProjectLine>,
    more: usize,
}

/// One connected forge.
struct ForgeLine {
    name: String,
    kind: &'static str,
    page: &'static str,
}

/// One gated repository, with what was found about its gate.
struct ProjectLine {
    path: String,
    /// Where the API has it.
    api: String,
    page: &'static str,
    /// Where its gate is set up from here, on forges where that can be.
    sets_up: Option<String>,
    gate: GateView,
}

fn page_of(kind: ForgeKind) -> &'static str {
    match kind {
        ForgeKind::Gitlab => "/dashboard/integrations/gitlab",
        ForgeKind::Github => "/dashboard/integrations/github",
        ForgeKind::BitbucketCloud | ForgeKind::BitbucketDataCenter => "/dashboard/integrations/bitbucket",
    }
}

impl ForgePage {
    fn of(state: &Snapshot, frame: Frame, head: Head) -> Result<Self, PageError> {
        let mut forges: Vec<Integration> = state.all()?;
        forges.retain(|it| !it.removed);
        forges.sort_by_key(|it| it.created_at);
        let mut projects: Vec<Project> = state.all()?;
        projects.retain(|it| !it.removed);
        projects.sort_by(|left, right| left.path.cmp(&right.path));
        let mut lines = Vec::new();
        for it in projects.iter().take(PROJECTS_MAX) {
            let Some(forge) = forges.iter().find(|forge| forge.id == it.integration) else {
                continue;
            };
            let gate = format!("/dashboard/integrations/gitlab/{}/gate", it.id);
            lines.push(ProjectLine {
                path: shown(&it.path, TEXT_MAX),
                api: format!("/api/v1/integrations/{}/projects/{}", it.integration, it.id),
                page: page_of(forge.kind),
                sets_up: (forge.kind == ForgeKind::Gitlab).then_some(gate),
                gate: GateView::of(it, state)?,
            });
        }
        Ok(ForgePage {
            frame,
            head,
            more: projects.len().saturating_sub(PROJECTS_MAX),
            projects: lines,
            forges: forges
                .iter()
                .map(|it| ForgeLine {
                    name: shown(&it.name, TEXT_MAX),
                    kind: it.kind.title(),
                    page: page_of(it.kind),
                })
                .collect(),
        })
    }
}

#[derive(Template)]
#[template(path = "set_up/policy.html")]
struct PolicyPage {
    frame: Frame,
    head: Head,
    policies: Vec<String>,
    has_default: bool,
}

impl PolicyPage {
    fn of(state: &Snapshot, frame: Frame, head: Head) -> Result<Self, PageError> {
        let policies: Vec<PolicyRecord> = state.all()?;
        Ok(PolicyPage {
            frame,
            head,
            has_default: policies.iter().any(|it| it.name == "default"),
            policies: policies.iter().map(|it| shown(&it.name, TEXT_MAX)).collect(),
        })
    }
}

#[derive(Template)]
#[template(path = "set_up/approver.html")]
struct ApproverPage {
    frame: Frame,
    head: Head,
    /// Approvers who hold a passkey.
    ready: Vec<String>,
    /// Approvers who have not used their invitation.
    invited: Vec<String>,
    needed: usize,
    /// Where the form's last button leads.
    invite_done: &'static str,
    /// Roles can be chosen.
    invite_roles: bool,
}

impl ApproverPage {
    fn of(state: &Snapshot, frame: Frame, head: Head) -> Result<Self, PageError> {
        let mut people: Vec<Person> = state.all()?;
        people.retain(|it| it.has(Role::Approver));
        people.sort_by_key(|it| it.name.to_lowercase());
        let (ready, invited): (Vec<Person>, Vec<Person>) = people
            .into_iter()
            .partition(|it| it.live_passkeys().next().is_some());
        let names = |list: Vec<Person>| list.iter().map(|it| shown(&it.name, TEXT_MAX)).collect();
        Ok(ApproverPage {
            frame,
            head,
            ready: names(ready),
            invited: names(invited),
            needed: APPROVERS_MIN,
            invite_done: "/dashboard/set-up/approver",
            invite_roles: false,
        })
    }
}
