//! The page of one request: what is asked, what was checked and what is merely claimed, who may decide, the decision
//! itself, and afterwards its receipt.

use crate::domain::attention::{code_of, match_code};
use crate::domain::decide::{as_judged_now, may_ask_again};
use crate::domain::deployment::{Deployment, DeploymentFacts, DeploymentState};
use crate::domain::facts::{Account, ChangeFacts, Part};
use crate::domain::ids::{PersonId, RequestId};
use crate::domain::people::{Person, Role};
use crate::domain::policy::{Obligation, Story};
use crate::domain::project::{Enforcement, ForgeKind, Integration, Project};
use crate::domain::request::{
    Change, ConfirmedLock, ConfirmedStatus, GateState, Kind, MergeRecord, Opening, Request, Requester,
    Status, StatusKey, change_row,
};
use crate::domain::state::{Fault, Read, decode};
use crate::domain::time::Time;
use crate::texts::{filters, t};
use crate::web::app::App;
use crate::web::pages::card::{Badge, Band, Places, branch};
use crate::web::pages::files::{Area, Lines, areas, total};
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::gate::GateView;
use crate::web::pages::moment::Moment;
use crate::web::pages::reach::{Told, told};
use crate::web::pages::receipt::Receipt;
use crate::web::pages::since::{Since, since};
use crate::web::pages::standing::{Chance, People, methods_taken};
use crate::web::pages::{PageError, html, shown};
use crate::web::session::Reader;
use crate::web::words::{self, all_of, span};
use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use askama::Template;
use std::collections::BTreeSet;

/// Longest action or title, in characters: an action is what is signed, so it is never cut below what the API takes.
const ACTION_MAX: usize = 10_000;
/// Longest name of a person, branch or project, in characters.
const NAME_MAX: usize = 200;
/// Most entries of the metadata that are listed one by one; the exact text stands below them.
const CLAIMS_MAX: usize = 40;
/// Longest value of one entry, in characters.
const CLAIM_MAX: usize = 500;
/// Most lines of the policy's trace on the page.
const TRACE_MAX: usize = 200;
/// Most people that are named one by one as contributors.
const CONTRIBUTORS_MAX: usize = 50;
/// Digits of a commit id in running text, as git and the forges cut it.
const COMMIT_DIGITS: usize = 10;

#[derive(Template)]
#[template(path = "approve/request.html")]
struct RequestPage {
    frame: Frame,
    id: String,
    badge: Badge,
    band: Band,
    pending: bool,
    expires: Option<Moment>,
    effect: String,
    /// Text from outside: the change's title, or the action.
    said: String,
    asked: Asked,
    /// The product's name of the forge it is about.
    forge: Option<&'static str>,
    change: Option<ChangeView>,
    deployment: Option<DeploymentView>,
    commit: Option<CommitView>,
    ask_again: bool,
    notes: Vec<String>,
    rules: Vec<RuleView>,
    break_glass: Vec<RuleView>,
    policy: String,
    may_not: Vec<(String, &'static str)>,
    may: Vec<String>,
    /// Who can only break glass.
    may_break: Vec<String>,
    /// It waits, and nobody at all may decide it.
    nobody: bool,
    blocked: bool,
    claims: Vec<(String, String)>,
    claimed: Option<String>,
    trace: Vec<TraceLine>,
    trace_more: usize,
    turn: Turn,
    /// Why this reader is asked, in sentences.
    why_you: Vec<String>,
    /// The codes to pick from, where a rule asks for it.
    codes: Option<[u8; 3]>,
    /// What a one-time code of the reader's would count for, in a sentence; `None`: none is taken.
    by_code: Option<String>,
    /// Why the reader's passkey may not decide yet, where a code may.
    no_passkey: Option<String>,
    /// Why nobody may approve it for now.
    held: Option<String>,
    /// Whether the reader may say that they did not expect it.
    may_report: bool,
    since: Option<Since>,
    told: Vec<Told>,
    subject: String,
    subject_sha256: String,
    decisions: usize,
    receipts: Vec<Receipt>,
    /// Whether the outcome's statement can be downloaded.
    outcome: bool,
    ended: Option<Ended>,
    next: Vec<String>,
}

/// Who asked, as far as this server knows it.
struct Asked {
    by: String,
    /// `the author on GitLab`, `an API key`, `a person, to try the gate out`.
    how: String,
    /// The caller's commit or digest, which the signature covers.
    digest: Option<(String, String)>,
    environment: Option<String>,
    project: Option<String>,
    at: Moment,
    /// What the pipeline's log shows too.
    match_code: Option<String>,
}

/// A change's checked facts.
struct ChangeView {
    forge: &'static str,
    url: Option<String>,
    project: String,
    number: String,
    draft: bool,
    author: String,
    contributors: Vec<(String, &'static str)>,
    contributors_more: usize,
    contributors_incomplete: Option<String>,
    commits: u32,
    source: String,
    fork: bool,
    target: String,
    head: String,
    head_short: String,
    base: String,
    base_short: String,
    /// What the forge's settings enforce; `None` once the project is gated no more.
    gate: Option<GateView>,
    files: usize,
    lines: Option<Lines>,
    incomplete: Option<String>,
    areas: Vec<Area>,
}

/// A deployment's checked facts.
struct DeploymentView {
    forge: &'static str,
    url: Option<String>,
    job: String,
    job_number: u64,
    pipeline: u64,
    project: String,
    environment: String,
    tier: Option<String>,
    ref_name: String,
    sha: String,
    sha_short: String,
    triggered_by: String,
    /// The first line of the commit's message: its author's words.
    commit_title: String,
}

/// What a forge says of the commit that a pipeline named.
struct CommitView {
    forge: &'static str,
    project: String,
    sha_short: String,
    looked_up: bool,
    known: Option<KnownCommit>,
}

struct KnownCommit {
    url: Option<String>,
    /// Its author's words.
    title: String,
    author: String,
    committer: String,
    at: String,
}

/// What one rule asks and how far it is.
struct RuleView {
    name: String,
    methods: String,
    quorum: u32,
    approved: usize,
    approvers: String,
    limit: Option<String>,
    extras: Vec<&'static str>,
    met: bool,
    /// The names behind the count.
    by: Vec<String>,
    /// Whose approval does not count here, and why.
    not_counted: Vec<(String, String)>,
}

/// One line of the policy's trace.
struct TraceLine {
    path: String,
    rules: String,
    effect: String,
    reason: Option<String>,
}

/// What this reader may do now.
enum Turn {
    /// Decide: what an ordinary approval would do, in a sentence, and by which emergency ways it may go if chosen.
    Decide {
        counts: String,
        emergency: Option<String>,
    },
    /// Only break glass, by these rules.
    BreakGlass { rules: String },
    /// Nothing, for this reason.
    Cannot(String),
    /// Nothing more: it is over.
    Over,
}

/// How it ended.
struct Ended {
    sentence: &'static str,
    at: Option<Moment>,
    because: Option<String>,
    /// The request that took its place.
    newer: Option<String>,
}

/// `GET /a/{id}`: everybody who is signed in and has a role. An unknown id and one that is not yours look the same.
pub async fn show_request(
    app: Data<App>,
    Reader(person): Reader,
    id: Path<String>,
) -> Result<HttpResponse, PageError> {
    let id = RequestId::parse(&id).ok_or(PageError::Unknown)?;
    if ![Role::Admin, Role::Approver, Role::Auditor]
        .iter()
        .any(|it| person.has(*it))
    {
        return Err(PageError::Unknown);
    }
    let state = app.snapshot()?;
    let request: Request = state.get(id.as_str())?.ok_or(PageError::Unknown)?;
    let request = as_judged_now(request, &state)?;
    Ok(html(&page(&app, &state, &request, &person, app.now())?))
}

fn page(
    app: &App,
    state: &impl Read,
    request: &Request,
    person: &Person,
    now: Time,
) -> Result<RequestPage, PageError> {
    let (people, places) = (People::load(state)?, Places::load(state)?);
    let opening: Opening = {
        let blob = state.blob(&request.opening)?;
        decode(&blob.ok_or_else(|| Fault(t!("the opening of {id} is missing", id = request.id)))?)?
    };
    let what = places.called(request);
    let project = places.project(request);
    let change: Option<Change> = match &request.change {
        Some(key) => state.get(&change_row(key))?,
        None => None,
    };
    let chance = people.chance(request, person, now);
    let pending = request.status == Status::Pending;
    let turn = match chance.why_not {
        _ if !pending => Turn::Over,
        Some(ref why) => Turn::Cannot(why.clone()),
        None => {
            let words = |rules: &[String]| {
                let names: Vec<String> = rules.iter().map(|it| words::rule_name(it)).collect();
                all_of(&names)
            };
            match (chance.rules.is_empty(), chance.emergency.is_empty()) {
                (true, _) => Turn::BreakGlass {
                    rules: words(&chance.emergency),
                },
                (false, no_glass) => Turn::Decide {
                    counts: if chance.open.is_empty() {
                        t!(
                            "It would bring this no further: {rules} has all its approvals already. It would be recorded all \
                             the same.",
                            rules = words(&chance.rules)
                        )
                    } else {
                        t!("It counts for {open}.", open = words(&chance.open))
                    },
                    emergency: (!no_glass).then(|| words(&chance.emergency)),
                },
            }
        }
    };
    let (may, may_break) = if pending {
        people.who_may_decide(request, &person.id, now)
    } else {
        (Vec::new(), Vec::new())
    };
    let standing = people.standing(request, now);
    let kind = places.forge(request).map_or(ForgeKind::Gitlab, |it| it.kind);
    let claimed = opening.claimed.as_deref();
    let gate = project
        .filter(|it| !it.removed)
        .map(|it| GateView::of(it, state))
        .transpose()?;
    Ok(RequestPage {
        frame: Frame::new(app, Some(person), Place::Queue, &title(request, &what)),
        id: request.id.to_string(),
        badge: Badge::of(request),
        band: Band::of(request),
        pending,
        expires: request.expires_at.filter(|_| pending).map(Moment::of),
        effect: effect(request, project, &what),
        said: shown(&request.title, ACTION_MAX),
        asked: asked(request, &opening, kind),
        forge: places.forge(request).map(|it| it.kind.title()),
        change: opening
            .facts
            .as_ref()
            .map(|it| change_view(it, &opening, project, kind, &what, gate)),
        deployment: opening
            .deployment
            .as_deref()
            .map(|it| deployment_view(it, project, kind)),
        commit: commit_view(&opening, request, state)?,
        ask_again: (person.has(Role::Approver) || person.has(Role::Admin))
            && request.deployment.is_some()
            && may_ask_again(&request.id, now, state)?,
        notes: opening
            .notes
            .iter()
            .map(|it| shown(it, CLAIM_MAX))
            .chain(people.hopeless(request, now))
            .collect(),
        rules: rules(&request.obligations, &standing.stories, request, &people),
        break_glass: if request.status == Status::Skipped {
            // Nothing was asked, so there was nothing to go around.
            Vec::new()
        } else {
            rules(&request.break_glass, &standing.break_glass, request, &people)
        },
        policy: policy_words(request),
        may_not: if request.status == Status::Skipped {
            Vec::new()
        } else {
            may_not(request, &people)
        },
        nobody: pending && may.is_empty() && chance.open.is_empty(),
        blocked: request.blocked,
        may,
        may_break,
        claims: claimed.map(claims).unwrap_or_default(),
        claimed: claimed.map(|it| shown(it, ACTION_MAX)),
        trace: trace(&opening),
        trace_more: opening.trace.len().saturating_sub(TRACE_MAX),
        codes: match_code(request).map(|it| it.choices),
        by_code: by_code(&chance),
        no_passkey: chance.no_passkey.clone(),
        held: request.held.clone().filter(|_| pending),
        may_report: matches!(turn, Turn::Decide { .. } | Turn::BreakGlass { .. })
            && request.held.is_none()
            && !matches!(request.requester, Requester::Person { .. }),
        why_you: match turn {
            Turn::Decide { .. } => people.why_asked(request, person, &chance.open, now),
            Turn::BreakGlass { .. } | Turn::Cannot(_) | Turn::Over => Vec::new(),
        },
        told: told(request, &people, state)?,
        since: since(request, opening.facts.as_ref(), project, &person.id, state)?,
        turn,
        subject: shown(&opening.subject, ACTION_MAX),
        subject_sha256: request.subject_sha256.to_string(),
        decisions: request.decisions.len(),
        receipts: Receipt::all(state, request, &what, &person.id)?,
        outcome: request.outcome.is_some(),
        ended: ended(request, change.as_ref()),
        next: next(state, request, project, kind, now)?,
    })
}

/// What a one-time code would count for. One decides once, so it says what it would not count for too.
fn by_code(chance: &Chance) -> Option<String> {
    let words = |rules: Vec<&String>| {
        let names: Vec<String> = rules.iter().map(|it| words::rule_name(it)).collect();
        all_of(&names)
    };
    let counts = words(chance.by_code.iter().collect());
    let lacks: Vec<&String> = chance
        .rules
        .iter()
        .filter(|it| !chance.by_code.contains(it))
        .collect();
    match (chance.by_code.is_empty(), lacks.is_empty()) {
        (true, _) => None,
        (false, true) => Some(t!("It counts for {counts}.", counts = counts)),
        (false, false) => Some(t!(
            "It counts for {counts} alone, not for {lacks}, where your passkey would count.",
            counts = counts,
            lacks = words(lacks)
        )),
    }
}

fn title(request: &Request, what: &str) -> String {
    match request.kind {
        Kind::Change => format!("{what} {}", shown(&request.title, 60)),
        Kind::Deployment | Kind::Action => shown(&request.title, 60),
    }
}

/// One sentence of what an approval brings about. It names only what was checked; the caller's own words stand apart.
fn effect(request: &Request, project: Option<&Project>, what: &str) -> String {
    match (request.kind, &request.target) {
        (Kind::Change, Some(target)) => {
            let target = branch(target);
            match project {
                Some(it) => t!(
                    "Merge {what} into {target} of {project}",
                    what = what,
                    target = target,
                    project = shown(&it.path, NAME_MAX)
                ),
                None => t!("Merge {what} into {target}", what = what, target = target),
            }
        }
        (Kind::Change, None) => t!("Merge {what}", what = what),
        (Kind::Deployment, _) if request.deployment.is_some() => {
            let environment = request.environment.as_deref().unwrap_or(t!("an environment"));
            let environment = shown(environment, NAME_MAX);
            match project {
                Some(it) => t!(
                    "Deploy {project} to {environment}",
                    project = shown(&it.path, NAME_MAX),
                    environment = environment
                ),
                None => t!("Deploy to {environment}", environment = environment),
            }
        }
        (Kind::Deployment, _) => {
            let environment = request.environment.as_deref().unwrap_or(t!("an environment"));
            t!(
                "Let a pipeline go on with a deployment to {environment}",
                environment = shown(environment, NAME_MAX)
            )
        }
        (Kind::Action, _) => match &request.requester {
            Requester::Person { .. } => t!("Try the gate out: this changes nothing anywhere").to_owned(),
            Requester::Key { .. } | Requester::ForgeAccount { .. } => {
                t!("Let a pipeline go on with an action").to_owned()
            }
        },
    }
}

fn asked(request: &Request, opening: &Opening, kind: ForgeKind) -> Asked {
    let deploys = request.deployment.is_some();
    let how = match (&request.requester, kind) {
        (Requester::Person { .. }, _) => t!("a person, to try the gate out").to_owned(),
        (Requester::Key { .. }, _) => t!("an API key of this server").to_owned(),
        (Requester::ForgeAccount { .. }, ForgeKind::Gitlab) if deploys => {
            t!("who started the pipeline on GitLab").to_owned()
        }
        (Requester::ForgeAccount { .. }, _) if deploys => {
            t!("who started the workflow on {kind}", kind = kind.title())
        }
        (Requester::ForgeAccount { .. }, _) => t!("the author on {kind}", kind = kind.title()),
    };
    Asked {
        by: shown(request.requested_by(), NAME_MAX),
        how,
        // Of a deployment on a forge the commit stands among what was checked there.
        digest: opening
            .digest
            .as_ref()
            .filter(|_| request.deployment.is_none())
            .map(|(algorithm, hex)| {
                let label = if algorithm == "gitCommit" {
                    t!("Commit").to_owned()
                } else {
                    t!("Digest ({algorithm})", algorithm = shown(algorithm, 20))
                };
                (label, shown(hex, 128))
            }),
        environment: request.environment.as_deref().map(|it| shown(it, NAME_MAX)),
        project: request
            .project_name
            .as_deref()
            .filter(|_| request.change.is_none())
            .map(|it| shown(it, NAME_MAX)),
        at: Moment::of(request.created_at),
        // Where a rule asks for it, the approver has to find it elsewhere.
        match_code: (matches!(&request.requester, Requester::Key { .. }) && match_code(request).is_none())
            .then(|| code_of(&request.id).code.to_string()),
    }
}

fn commit_view(opening: &Opening, request: &Request, state: &impl Read) -> Result<Option<CommitView>, Fault> {
    let (Some(project), Some((_, sha))) = (&opening.commit_of, &opening.digest) else {
        return Ok(None);
    };
    let Some(project) = state.get::<Project>(project.as_str())? else {
        return Ok(None);
    };
    let integration: Option<Integration> = state.get(project.integration.as_str())?;
    let facts = request.commit.as_ref().and_then(|it| it.facts.as_ref());
    Ok(Some(CommitView {
        forge: integration.map_or(t!("the forge"), |it| it.kind.title()),
        project: shown(&project.path, NAME_MAX),
        sha_short: sha.chars().take(COMMIT_DIGITS).collect(),
        looked_up: request.commit.is_some(),
        known: facts.map(|it| KnownCommit {
            url: it.web_url.clone(),
            title: shown(&it.title, CLAIM_MAX),
            author: shown(&it.author, NAME_MAX),
            committer: shown(&it.committer, NAME_MAX),
            at: shown(&it.committed_at, 40),
        }),
    }))
}

fn change_view(
    facts: &ChangeFacts,
    opening: &Opening,
    project: Option<&Project>,
    kind: ForgeKind,
    number: &str,
    gate: Option<GateView>,
) -> ChangeView {
    let mut seen = BTreeSet::new();
    let contributors: Vec<(String, &'static str)> = facts
        .contributors
        .iter()
        .filter(|it| it.part != Part::Author)
        .map(|it| {
            let name = match &it.account {
                Some(account) => account_words(account),
                None => match &it.email {
                    Some(email) => format!("{} <{}>", shown(&it.name, NAME_MAX), shown(email, NAME_MAX)),
                    None => shown(&it.name, NAME_MAX),
                },
            };
            let part = match it.part {
                Part::Author => t!("author"),
                Part::CommitAuthor => t!("wrote commits"),
                Part::Committer => t!("committed"),
                Part::CoAuthor => t!("co-author"),
                Part::Pusher => t!("pushed"),
            };
            (name, part)
        })
        .filter(|it| seen.insert(it.clone()))
        .collect();
    let target_project = project.map(|it| it.settings.forge_project_id.as_str());
    let short = |commit: &str| commit.get(..COMMIT_DIGITS).unwrap_or(commit).to_owned();
    ChangeView {
        forge: kind.title(),
        // What is not plainly a web address is not made a link.
        url: Some(&facts.web_url)
            .filter(|it| it.starts_with("https://") || it.starts_with("http://"))
            .cloned(),
        project: project.map_or_else(String::new, |it| shown(&it.path, NAME_MAX)),
        number: number.to_owned(),
        draft: facts.draft,
        author: account_words(&facts.author),
        contributors_more: contributors.len().saturating_sub(CONTRIBUTORS_MAX),
        contributors: contributors.into_iter().take(CONTRIBUTORS_MAX).collect(),
        contributors_incomplete: facts
            .contributors_incomplete
            .as_deref()
            .map(|it| shown(it, CLAIM_MAX)),
        commits: facts.commits,
        source: branch(&facts.source),
        fork: target_project.is_some_and(|it| it != facts.source_project_id),
        target: branch(&facts.target),
        head_short: short(&facts.head),
        head: shown(&facts.head, NAME_MAX),
        base_short: short(&facts.base),
        base: shown(&facts.base, NAME_MAX),
        gate,
        files: facts.files.files.len(),
        lines: total(&facts.files.files),
        incomplete: facts.files.incomplete.as_deref().map(|it| shown(it, CLAIM_MAX)),
        areas: areas(&facts.files.files, &opening.trace),
    }
}

fn deployment_view(facts: &DeploymentFacts, project: Option<&Project>, kind: ForgeKind) -> DeploymentView {
    let tidy = |reference: &str| match reference.strip_prefix("refs/tags/") {
        Some(tag) => t!("tag {tag}", tag = shown(tag, NAME_MAX)),
        None => branch(reference),
    };
    DeploymentView {
        forge: kind.title(),
        url: Some(&facts.web_url)
            .filter(|it| it.starts_with("https://") || it.starts_with("http://"))
            .cloned(),
        job: shown(&facts.job_name, NAME_MAX),
        job_number: facts.key.job,
        pipeline: facts.pipeline,
        project: project.map_or_else(String::new, |it| shown(&it.path, NAME_MAX)),
        environment: shown(&facts.environment, NAME_MAX),
        tier: facts.tier.as_deref().map(|it| shown(it, NAME_MAX)),
        ref_name: tidy(&facts.ref_name),
        sha_short: facts.sha.get(..COMMIT_DIGITS).unwrap_or(&facts.sha).to_owned(),
        sha: shown(&facts.sha, NAME_MAX),
        triggered_by: account_words(&facts.triggered_by),
        commit_title: shown(&facts.commit_title, CLAIM_MAX),
    }
}

fn account_words(account: &Account) -> String {
    format!(
        "{} (@{})",
        shown(&account.name, NAME_MAX),
        shown(&account.username, NAME_MAX)
    )
}

fn rules(obligations: &[Obligation], stories: &[Story], request: &Request, people: &People) -> Vec<RuleView> {
    obligations
        .iter()
        .zip(stories)
        .map(|(it, story)| {
            let names: Vec<String> = story
                .counted
                .iter()
                .map(|id| approver_name(id, request, people))
                .collect();
            let not_counted = story.not_counted.iter();
            let not_counted = not_counted.map(|(id, why)| (people.name(id), shown(why, CLAIM_MAX)));
            let extras = [
                (it.independent, t!("by other people than the other rules")),
                (it.allow_author, t!("the author may approve")),
                (it.allow_contributor, t!("contributors may approve")),
                (it.match_code, t!("with the code that the requester sees")),
                (it.device_bound, t!("with a passkey that can’t leave its device")),
            ];
            RuleView {
                name: if it.rule == "default" {
                    t!("Default rule").to_owned()
                } else {
                    shown(&it.rule, NAME_MAX)
                },
                methods: methods_taken(it),
                quorum: it.quorum,
                approved: names.len(),
                approvers: it
                    .approvers
                    .iter()
                    .map(|it| people.approver(it))
                    .collect::<Vec<_>>()
                    .join(", "),
                limit: it.ttl_max.map(span),
                extras: extras
                    .into_iter()
                    .filter_map(|(holds, words)| holds.then_some(words))
                    .collect(),
                met: names.len() >= it.quorum as usize,
                by: names,
                not_counted: not_counted.collect(),
            }
        })
        .collect()
}

/// A person's name, with whom they stood in for when they decided.
fn approver_name(id: &PersonId, request: &Request, people: &People) -> String {
    let name = people.name(id);
    let at = request.decisions.iter().find(|it| it.person == *id);
    let absent = at.map_or_else(Vec::new, |it| people.stood_in_for(id, it.decided_at));
    if absent.is_empty() {
        name
    } else {
        t!(
            "{name} (standing in for {names})",
            name = name,
            names = all_of(&absent)
        )
    }
}

fn policy_words(request: &Request) -> String {
    match request.policy.version {
        0 => t!("No policy governs this, so the built-in default rule does.").to_owned(),
        version => t!(
            "Policy “{name}”, version {version}.",
            name = shown(&request.policy.name, NAME_MAX),
            version = version
        ),
    }
}

/// Who took part and therefore may not approve, unless a rule says they may.
fn may_not(request: &Request, people: &People) -> Vec<(String, &'static str)> {
    let allowed = |author: bool| {
        let mut rules = request.obligations.iter();
        rules.any(|it| {
            if author {
                it.allow_author
            } else {
                it.allow_contributor || it.allow_author
            }
        })
    };
    let barred = request.involved.iter().filter(|(_, how)| !allowed(how.author));
    barred
        .map(|(person, how)| {
            let why = match (how.author, request.kind) {
                (true, Kind::Change) => t!("made this change"),
                (true, Kind::Deployment) if request.deployment.is_some() => t!("started the pipeline"),
                (true, Kind::Deployment | Kind::Action) => t!("is answerable for the request"),
                (false, _) => t!("contributed to it"),
            };
            (people.name(person), why)
        })
        .collect()
}

/// The metadata entry by entry. Text that is no object is shown whole below instead.
fn claims(text: &str) -> Vec<(String, String)> {
    let Ok(serde_json::Value::Object(entries)) = serde_json::from_str(text) else {
        return Vec::new();
    };
    let entries = entries.into_iter().take(CLAIMS_MAX);
    entries
        .map(|(key, value)| {
            let value = match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            (shown(&key, NAME_MAX), shown(&value, CLAIM_MAX))
        })
        .collect()
}

fn trace(opening: &Opening) -> Vec<TraceLine> {
    let lines = opening.trace.iter().take(TRACE_MAX);
    lines
        .map(|it| TraceLine {
            path: if it.path.is_empty() {
                t!("the request as a whole").to_owned()
            } else {
                shown(&it.path, CLAIM_MAX)
            },
            rules: it
                .matched
                .iter()
                .map(|it| words::rule_name(it))
                .collect::<Vec<_>>()
                .join(", "),
            effect: words::effect(it.effect),
            reason: it.reason.as_deref().map(|it| shown(it, CLAIM_MAX)),
        })
        .collect()
}

fn ended(request: &Request, change: Option<&Change>) -> Option<Ended> {
    let sentence = match request.status {
        Status::Pending => return None,
        Status::Approved if request.lapsed && request.deployment.is_some() => {
            t!("It was approved, and the approval does not hold any more.")
        }
        Status::Approved if request.lapsed => t!("It was approved, and the approval was not used in time."),
        Status::Approved => t!("It is approved."),
        Status::Rejected => t!("It is rejected."),
        Status::Expired => t!("Nobody decided in time. Nothing was approved."),
        Status::Cancelled => t!("It was withdrawn before it was decided."),
        Status::Superseded if request.deployment.is_some() => t!("A newer deployment took its place."),
        Status::Superseded => t!("The change moved on. What was asked here can no longer be decided."),
        Status::Skipped => t!("No approval was needed: a rule of the policy skips it."),
    };
    let newer = change
        .and_then(|it| it.request.as_ref())
        .filter(|it| **it != request.id && request.status == Status::Superseded);
    Some(Ended {
        sentence,
        at: request.decided_at.map(Moment::of),
        because: request.ended_because.as_deref().map(|it| shown(it, CLAIM_MAX)),
        newer: newer.map(ToString::to_string),
    })
}

/// What happens next, or has happened since: sentences from what the forge confirmed, never from what we hope.
fn next(
    state: &impl Read,
    request: &Request,
    project: Option<&Project>,
    kind: ForgeKind,
    now: Time,
) -> Result<Vec<String>, Fault> {
    let forge = kind.title();
    let mut said = Vec::new();
    if let (Some(key), Some(head), Some(target)) = (&request.change, &request.head, &request.target) {
        let key = StatusKey {
            project: key.project.clone(),
            head: head.clone(),
            target: target.clone(),
        };
        let name = shown(&key.name(), NAME_MAX);
        let confirmed: Option<ConfirmedStatus> = state.get(&key.row())?;
        said.push(match confirmed {
            Some(ConfirmedStatus {
                refused: Some(why), ..
            }) => {
                t!(
                    "{forge} refused the status {name}: {why}",
                    forge = forge,
                    name = name,
                    why = shown(&why, CLAIM_MAX)
                )
            }
            Some(it) if it.request.as_ref() == Some(&request.id) => {
                let word = match it.state {
                    GateState::Pending => t!("pending"),
                    GateState::Success => t!("passed"),
                    GateState::Failed => t!("failed"),
                };
                match &it.not_in_force {
                    Some(why) => t!(
                        "It is approved, and not in force: {why}.",
                        why = shown(why, CLAIM_MAX)
                    ),
                    None => t!(
                        "{forge} shows the status {name} as {word}.",
                        forge = forge,
                        name = name,
                        word = word
                    ),
                }
            }
            _ => t!(
                "The status {name} is on its way to {forge}.",
                name = name,
                forge = forge
            ),
        });
        if let Some(change) = &request.change
            && let Some(lock) = state.get::<ConfirmedLock>(&change_row(change))?
        {
            said.extend(lock_words(&lock, request, project, forge));
        }
        if request.status == Status::Approved && !request.lapsed {
            said.push(merge_words(state, request, project, forge)?);
        }
        if request.status == Status::Rejected {
            said.push(t!("The rejection holds for this commit. A new push opens a new request.").to_owned());
        }
    }
    if let Some(key) = &request.deployment {
        let record: Option<Deployment> = state.get(&key.row())?;
        said.extend(deployment_words(request, record.as_ref(), forge));
        return Ok(said);
    }
    if request.change.is_none() && request.status == Status::Approved {
        said.push(match (request.consumed_at, request.expires_at) {
            (Some(at), _) => t!(
                "The pipeline used this approval at {at}. It can’t be used again.",
                at = at.to_the_second()
            ),
            (None, Some(until)) if until > now => {
                t!(
                    "Whoever asked may go on now; the approval can be used until {until}.",
                    until = until.to_the_second()
                )
            }
            (None, Some(_)) => t!("Its time to be used is over.").to_owned(),
            (None, None) => t!("Whoever asked may go on now.").to_owned(),
        });
    }
    if request.change.is_none() && request.status == Status::Rejected {
        said.push(t!("Whoever asked is told to stop.").to_owned());
    }
    Ok(said)
}

/// What the forge's own lock was told about this request; nothing where it was about another.
fn lock_words(
    lock: &ConfirmedLock,
    request: &Request,
    project: Option<&Project>,
    forge: &str,
) -> Option<String> {
    if lock.request.as_ref() != Some(&request.id) {
        return None;
    }
    let what = match project?.settings.enforcement {
        Enforcement::BotApproval => t!("this server’s approval"),
        Enforcement::ExternalStatusCheck => t!("the external status check"),
        Enforcement::MergeBroker | Enforcement::CommitStatus => return None,
    };
    Some(match (&lock.refused, lock.state) {
        (Some(why), _) => t!(
            "{forge} refused {what}: {why}",
            forge = forge,
            what = what,
            why = shown(why, CLAIM_MAX)
        ),
        (None, GateState::Success) => t!(
            "{forge} has {what} for exactly this commit.",
            forge = forge,
            what = what
        ),
        (None, GateState::Pending | GateState::Failed) => {
            t!("{forge} does not have {what}.", forge = forge, what = what)
        }
    })
}

/// How a deployment stands on its forge.
fn deployment_words(request: &Request, record: Option<&Deployment>, forge: &str) -> Vec<String> {
    let Some(it) = record.filter(|it| it.request.as_ref() == Some(&request.id)) else {
        return Vec::new();
    };
    let mut said = Vec::new();
    let approved = matches!(request.status, Status::Approved | Status::Skipped);
    match (it.state, request.status) {
        (DeploymentState::Started, _) if approved && !request.lapsed => said.push(match &it.started_by {
            Some(by) => t!("{forge} started the job, for {by}. The approval is used and can’t be used again.", forge = forge, by = account_words(by)),
            None => t!("{forge} started the job. The approval is used and can’t be used again.", forge = forge),
        }),
        (DeploymentState::Started, _) => said.push(t!("The job was started on {forge} all the same, without this approval. That is reported as an exception.", forge = forge)),
        (DeploymentState::Starting, _) => {
            said.push(t!("The approval is spent, and {forge} is told to start exactly this job.", forge = forge));
        }
        (DeploymentState::Waiting, Status::Approved | Status::Skipped) if !request.lapsed && request.consumed_at.is_none() => {
            said.push(t!("{forge} is told to start exactly this job, as soon as it answers.", forge = forge));
        }
        (DeploymentState::Waiting, Status::Rejected) if it.facts.blocked => said.push(match it.rejection_told {
            true => t!("{forge} was told of the rejection.", forge = forge),
            false => t!("{forge} is being told of the rejection.", forge = forge),
        }),
        (DeploymentState::Waiting, Status::Rejected) => said.push(t!("Nothing is started. The job still waits on {forge}; whoever starts it there is reported.", forge = forge)),
        (DeploymentState::Waiting, _) => {
            said.push(t!("Nothing was started. The job still waits on {forge}.", forge = forge));
        }
        (DeploymentState::Ended, _) => {}
    }
    if let Some(why) = &it.refused {
        said.push(t!(
            "{forge} did not do it yet: {why}",
            forge = forge,
            why = shown(why, CLAIM_MAX)
        ));
    }
    said
}

fn merge_words(
    state: &impl Read,
    request: &Request,
    project: Option<&Project>,
    forge: &str,
) -> Result<String, Fault> {
    let merge: Option<MergeRecord> = state.get(request.id.as_str())?;
    let automatic = project.is_some_and(|it| it.settings.auto_merge);
    Ok(match merge {
        Some(MergeRecord {
            merged: true,
            commit: Some(commit),
            ..
        }) => {
            t!(
                "{forge} merged it as {commit}.",
                forge = forge,
                commit = shown(&commit, NAME_MAX)
            )
        }
        Some(MergeRecord { merged: true, .. }) => t!("{forge} merged it.", forge = forge),
        Some(MergeRecord {
            refused: Some(why), ..
        }) => {
            t!(
                "{forge} did not merge it: {why}",
                forge = forge,
                why = shown(&why, CLAIM_MAX)
            )
        }
        Some(_) | None if automatic => t!(
            "This server asks {forge} to merge exactly this commit.",
            forge = forge
        ),
        Some(_) | None => t!("Merging is up to you, on {forge}.", forge = forge),
    })
}
