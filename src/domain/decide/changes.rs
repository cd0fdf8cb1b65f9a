//! Changes on forges: what a webhook hints at, what the API shows, and what the forge's status should say.

use crate::domain::apply::head_prefix;
use crate::domain::attention::match_code;
use crate::domain::branch::Way;
use crate::domain::decide::administration::live_project;
use crate::domain::decide::branches::is_told;
use crate::domain::decide::requests::{InForce, ended, opened, policy_in_force};
use crate::domain::decide::{Decided, Plan, Step, Stop};
use crate::domain::event::Event;
use crate::domain::facts::{ChangeFacts, ChangeState, Contributor, Part};
use crate::domain::ids::{Digest, IntegrationId, PersonId, RequestId};
use crate::domain::people::Person;
use crate::domain::policy::{
    Asked, BindBase, ControlFiles, Document, Evaluation, NamePattern, Outcome, ProjectDefaults, Question,
    evaluate,
};
use crate::domain::project::{Integration, Project, Stranger, forge_project_row, gated_project};
use crate::domain::refusal::Refusal;
use crate::domain::request::{
    Change, ChangeKey, ConfirmedStatus, GateState, Involvement, Kind, Opening, Request, Requester, Status,
    StatusKey, change_row,
};
use crate::domain::state::{Fault, Read, Table};
use crate::domain::text::visible;
use crate::domain::time::Time;
use std::collections::{BTreeMap, BTreeSet};

/// A webhook about a project that is not gated is recorded again after this long, in seconds.
const STRANGER_SECONDS: u64 = 24 * 3_600;

pub(super) fn receive_hook(
    integration: IntegrationId,
    delivery: String,
    event: String,
    forge_project_id: String,
    number: Option<u64>,
    now: Time,
    state: &impl Read,
) -> Decided {
    match state.get::<Integration>(integration.as_str())? {
        Some(it) if !it.removed => {}
        _ => return Err(Refusal::Unknown.into()),
    }
    // A delivery seen before changes nothing: replays and retries cost one look-up.
    if state
        .get_raw(Table::Deliveries, format!("{integration}\0{delivery}").as_bytes())?
        .is_some()
    {
        return Ok(Plan::nothing());
    }
    let project = gated_project(&integration, &forge_project_id, state)?;
    if project.is_none() {
        // That somebody's webhook leads here is worth an entry; that it goes on doing so is not.
        let row = forge_project_row(&integration, &forge_project_id);
        let known: Option<Stranger> = state.get(&row)?;
        if known.is_some_and(|it| now < it.at.plus_seconds(STRANGER_SECONDS)) {
            return Ok(Plan::nothing());
        }
    }
    let change = project
        .zip(number)
        .map(|(project, number)| ChangeKey { project, number });
    Ok(Plan::done(vec![Step::event(Event::HookReceived {
        integration,
        delivery,
        event,
        change,
        forge_project_id,
    })]))
}

pub(super) fn forget_hint(change: ChangeKey, hint: u64, _reason: String, _state: &impl Read) -> Decided {
    Ok(Plan::done(vec![Step::Unhint(change, hint)]))
}

pub(super) fn observe(
    facts: ChangeFacts,
    subject: String,
    files_sha256: Digest,
    hint: Option<u64>,
    fresh: RequestId,
    now: Time,
    state: &impl Read,
) -> Decided {
    let key = ChangeKey {
        project: facts.project.clone(),
        number: facts.number,
    };
    let mut steps: Vec<Step> = hint.map(|it| Step::Unhint(key.clone(), it)).into_iter().collect();
    let project = match live_project(&facts.project, state) {
        Ok(project) => project,
        Err(Stop::Refused(_)) => return Ok(Plan::done(steps)),
        Err(fault) => return Err(fault),
    };
    let before: Option<Change> = state.get(&change_row(&key))?;
    let gate = match &before {
        Some(Change {
            request: Some(id), ..
        }) => state.get::<Request>(id.as_str())?,
        _ => None,
    };
    let gated = is_gated(&project, &facts.target)?;
    match facts.state {
        ChangeState::Open => {
            let same = before
                .as_ref()
                .is_some_and(|it| same_subject(it, &facts, files_sha256, project.settings.bind_base));
            if same && gated == gate.is_some() {
                let seen = before.as_ref().map(|it| (it.title.as_str(), it.draft));
                if seen != Some((facts.title.as_str(), facts.draft)) {
                    let request = gate.map(|it| it.id);
                    steps.push(observed(&key, before.as_ref(), &facts, files_sha256, request));
                }
                return Ok(Plan::done(steps));
            }
            if let Some(gate) = &gate {
                steps.extend(void(gate, superseded_because(before.as_ref(), &facts)));
            }
            if !gated {
                // Remembered only if it was gated before: what was never ours is none of our business.
                if before.is_some() {
                    steps.push(observed(&key, before.as_ref(), &facts, files_sha256, None));
                }
                return Ok(Plan::done(steps));
            }
            steps.push(observed(
                &key,
                before.as_ref(),
                &facts,
                files_sha256,
                Some(fresh.clone()),
            ));
            let opening = opening(&project, &key, facts, subject, state)?;
            steps.extend(opened(&fresh, opening.0, opening.1, None, now));
        }
        ChangeState::Closed | ChangeState::Merged => {
            if before.is_none() && facts.state == ChangeState::Merged && gated {
                // Opened and merged between two looks: nobody was ever asked.
                steps.extend(unapproved(
                    &project,
                    &key,
                    &facts,
                    "Nobody was asked to approve it.",
                    state,
                )?);
                steps.push(observed(&key, before.as_ref(), &facts, files_sha256, None));
                return Ok(Plan::done(steps));
            }
            let Some(before) = before.filter(|it| it.open) else {
                return Ok(Plan::done(steps));
            };
            if facts.state == ChangeState::Closed {
                steps.extend(
                    gate.as_ref()
                        .and_then(|it| void_with(it, Status::Cancelled, "It was closed on the forge.")),
                );
            } else if gated || gate.is_some() {
                let covered = gate.as_ref().is_some_and(|it| {
                    matches!(it.status, Status::Approved | Status::Skipped)
                        && !it.lapsed
                        && it.head.as_deref() == Some(&facts.head)
                        && it.target.as_deref() == Some(&facts.target)
                });
                if !covered {
                    let because = "It was merged without this approval.";
                    steps.extend(
                        gate.as_ref()
                            .and_then(|it| void_with(it, Status::Cancelled, because)),
                    );
                    let why = "It was merged without an approval that holds.";
                    steps.extend(unapproved(&project, &key, &facts, why, state)?);
                }
            }
            steps.push(observed(
                &key,
                Some(&before),
                &facts,
                files_sha256,
                before.request.clone(),
            ));
        }
    }
    Ok(Plan::done(steps))
}

/// The exception of a change that was merged without an approval, unless the branch told of it first.
fn unapproved(
    project: &Project,
    key: &ChangeKey,
    facts: &ChangeFacts,
    reason: &str,
    state: &impl Read,
) -> Result<Option<Step>, Fault> {
    let merged = facts.merged.clone();
    let commit = merged.as_ref().and_then(|it| it.commit.clone());
    if is_told(key, commit.as_ref(), state)? {
        return Ok(None);
    }
    Ok(Some(Step::event(Event::ExceptionUnapprovedChange {
        project: project.id.clone(),
        way: Way::Merged,
        change: Some(key.clone()),
        head: facts.head.clone(),
        target: facts.target.clone(),
        by: merged.and_then(|it| it.by),
        commit,
        before: None,
        commits: Vec::new(),
        reason: reason.to_owned(),
    })))
}

/// Whether a branch is one of those a project gates.
fn is_gated(project: &Project, target: &str) -> Result<bool, Fault> {
    for text in &project.settings.branch_patterns {
        let pattern =
            NamePattern::new(text).map_err(|e| Fault(format!("branch pattern of {}: {e}", project.id)))?;
        if pattern.matches_branch(target) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether what is to be approved is still the same. A title is a claim, not content: changing it voids nothing.
fn same_subject(before: &Change, facts: &ChangeFacts, files_sha256: Digest, bound: BindBase) -> bool {
    let base_holds = match bound {
        BindBase::MergeBase => before.base == facts.base,
        BindBase::TargetSha => before.base == facts.base && before.target_sha == facts.target_sha,
        BindBase::None => true,
    };
    before.open
        && before.head == facts.head
        && before.target == facts.target
        && before.source == facts.source
        && before.source_project_id == facts.source_project_id
        && before.files_sha256 == files_sha256
        && base_holds
}

fn superseded_because(before: Option<&Change>, facts: &ChangeFacts) -> &'static str {
    match before {
        Some(it) if it.target != facts.target => "It was pointed at another branch.",
        Some(it) if it.head != facts.head => "New commits were pushed.",
        Some(it) if it.base != facts.base => "The merge base moved.",
        Some(it) if it.target_sha != facts.target_sha => "The target branch moved on.",
        _ => "The change is not what it was.",
    }
}

fn void(request: &Request, because: &str) -> Option<Step> {
    void_with(request, Status::Superseded, because)
}

/// Ends a request that still waits; takes a granted approval back.
pub(super) fn void_with(request: &Request, status: Status, because: &str) -> Option<Step> {
    match request.status {
        Status::Pending => Some(ended(request, status, because)),
        Status::Approved | Status::Skipped if !request.lapsed => Some(Step::event(Event::RequestLapsed {
            request: request.id.clone(),
            reason: because.to_owned(),
        })),
        _ => None,
    }
}

fn observed(
    key: &ChangeKey,
    before: Option<&Change>,
    facts: &ChangeFacts,
    files_sha256: Digest,
    request: Option<RequestId>,
) -> Step {
    let moved = |it: &&Change| it.head != facts.head || it.target != facts.target;
    let left = before.filter(moved).map(|it| StatusKey {
        project: key.project.clone(),
        head: it.head.clone(),
        target: it.target.clone(),
    });
    Step::event(Event::ChangeObserved {
        change: key.clone(),
        open: facts.state == ChangeState::Open,
        merged: facts.state == ChangeState::Merged,
        draft: facts.draft,
        title: facts.title.clone(),
        web_url: facts.web_url.clone(),
        author: facts.author.clone(),
        head: facts.head.clone(),
        base: facts.base.clone(),
        target_sha: facts.target_sha.clone(),
        source: facts.source.clone(),
        target: facts.target.clone(),
        source_project_id: facts.source_project_id.clone(),
        files_sha256,
        request,
        left,
    })
}

/// Everything a change's request is opened with, and the policy's bytes.
fn opening(
    project: &Project,
    key: &ChangeKey,
    facts: ChangeFacts,
    subject: String,
    state: &impl Read,
) -> Result<(Opening, Vec<u8>), Stop> {
    let Judgement {
        evaluation,
        policy,
        involved,
    } = judge_change(project, &facts, state)?;
    let opening = Opening {
        request: None,
        kind: Kind::Change,
        subject,
        title: facts.title.clone(),
        requester: Requester::ForgeAccount {
            id: facts.author.id.clone(),
            name: facts.author.name.clone(),
        },
        policy: policy.reference,
        obligations: evaluation.obligations,
        break_glass: evaluation.break_glass,
        trace: evaluation.trace,
        notes: evaluation.reasons,
        involved,
        ttl_seconds: evaluation.ttl,
        blocked: evaluation.outcome == Outcome::Block,
        environment: None,
        project_name: Some(project.path.clone()),
        claimed: None,
        digest: None,
        callback_url: None,
        commit_of: None,
        skipped_by: evaluation.skipped_by,
        change: Some(key.clone()),
        facts: Some(facts),
        deployment: None,
    };
    Ok((opening, policy.bytes))
}

/// What the rules in force make of a change.
pub(super) struct Judgement {
    pub evaluation: Evaluation,
    pub policy: InForce,
    pub involved: BTreeMap<PersonId, Involvement>,
}

/// Judges a change by the rules in force.
pub(super) fn judge_change(
    project: &Project,
    facts: &ChangeFacts,
    state: &impl Read,
) -> Result<Judgement, Stop> {
    let policy = policy_in_force(project.settings.policy.as_deref(), &defaults(project), state)?;
    let people = state.all::<Person>()?;
    let forge: Option<Integration> = state.get(project.integration.as_str())?;
    let (evaluation, involved) =
        judge_change_by(policy.document.as_ref(), project, forge.as_ref(), facts, &people)?;
    Ok(Judgement {
        evaluation,
        policy,
        involved,
    })
}

/// Judges a change by a document.
pub(super) fn judge_change_by(
    document: Option<&Document>,
    project: &Project,
    forge: Option<&Integration>,
    facts: &ChangeFacts,
    people: &[Person],
) -> Result<(Evaluation, BTreeMap<PersonId, Involvement>), Fault> {
    let settings = &project.settings;
    let control_files = control_files(project)?;
    let mut evaluation = evaluate(&Question {
        policy: document,
        defaults: &defaults(project),
        control_files: &control_files,
        asked: Asked::Change {
            branch: &facts.target,
            project: Some(&project.path),
            files: &facts.files,
            branch_patterns: None,
        },
    });
    let private_host = forge.and_then(|it| private_mail_host(&it.base_url));
    let attribution = attribute(&project.integration, private_host.as_deref(), facts, people);
    // An unlinked author or pusher could be anybody's second account. Where several people are asked, that costs one
    // more; a commit that belongs to nobody always does (policy rule 7).
    let several = evaluation.obligations.iter().any(|it| it.quorum > 1);
    if attribution.unattributed_commit || (attribution.unknown_account && several) {
        evaluation = evaluation.for_unattributed(settings.unattributed);
    }
    evaluation.reasons.extend(attribution.notes);
    Ok((evaluation, attribution.involved))
}

/// The files of a project that no rule skips.
pub(super) fn control_files(project: &Project) -> Result<ControlFiles, Fault> {
    ControlFiles::new(project.settings.control_files.iter().map(String::as_str))
        .map_err(|(glob, bad)| Fault(format!("control files of {}: {glob:?}: it {bad}", project.id)))
}

/// What a project asks where no rule says otherwise.
pub(super) fn defaults(project: &Project) -> ProjectDefaults {
    let settings = &project.settings;
    ProjectDefaults {
        methods: settings.methods.clone(),
        quorum: settings.quorum,
        approvers: settings.approvers.clone(),
    }
}

struct Attribution {
    involved: BTreeMap<PersonId, Involvement>,
    /// A commit maps to nobody, or not all commits could be read.
    unattributed_commit: bool,
    /// An author's or pusher's account is linked to nobody.
    unknown_account: bool,
    /// Sentences about both.
    notes: Vec<String>,
}

/// Maps everyone in a change to people: by linked account, or by an e-mail that is a person's own. Mapping only ever
/// widens the ban on self-approval (policy rule 7).
fn attribute(
    integration: &IntegrationId,
    private_host: Option<&str>,
    facts: &ChangeFacts,
    people: &[Person],
) -> Attribution {
    let mut it = Attribution {
        involved: BTreeMap::new(),
        unattributed_commit: facts.contributors_incomplete.is_some(),
        unknown_account: false,
        notes: Vec::new(),
    };
    if let Some(why) = &facts.contributors_incomplete {
        it.notes
            .push(format!("Not every contributor could be read: {}", visible(why)));
    }
    let author = Contributor {
        part: Part::Author,
        account: Some(facts.author.clone()),
        name: facts.author.name.clone(),
        email: None,
    };
    for contributor in std::iter::once(&author).chain(&facts.contributors) {
        let mut found = false;
        for person in people
            .iter()
            .filter(|it| is_person(it, integration, private_host, contributor))
        {
            found = true;
            let author = contributor.part == Part::Author;
            let why = match contributor.part {
                Part::Author => "You opened this change, so you can't approve it.",
                Part::CommitAuthor => "You wrote a commit in this change, so you can't approve it.",
                Part::Committer => "You committed to this change, so you can't approve it.",
                Part::CoAuthor => "You are named as a co-author in this change, so you can't approve it.",
                Part::Pusher => "You pushed to this change's branch, so you can't approve it.",
            };
            let entry = it
                .involved
                .entry(person.id.clone())
                .or_insert_with(|| Involvement {
                    author,
                    why: why.to_owned(),
                });
            entry.author |= author;
        }
        if found {
            continue;
        }
        match contributor.part {
            Part::Author | Part::Pusher => {
                if !it.unknown_account {
                    let name = contributor
                        .account
                        .as_ref()
                        .map_or(&contributor.name, |it| &it.username);
                    it.notes.push(format!(
                        "The account {} is linked to nobody here, so it could be anybody's. Link it to its person.",
                        visible(name)
                    ));
                }
                it.unknown_account = true;
            }
            Part::CommitAuthor | Part::Committer | Part::CoAuthor => {
                if !it.unattributed_commit {
                    let email = contributor.email.as_deref().unwrap_or("no e-mail");
                    it.notes.push(format!(
                        "A commit by {} <{}> belongs to nobody who is known here. Add that person (no passkey needed) \
                         or link the account, and push again.",
                        visible(&contributor.name),
                        visible(email)
                    ));
                }
                it.unattributed_commit = true;
            }
        }
    }
    it
}

/// The host of the private commit e-mails that a forge gives its accounts.
fn private_mail_host(base_url: &str) -> Option<String> {
    let (_, rest) = base_url.split_once("://")?;
    let host = rest
        .split(['/', ':', '?', '#'])
        .next()
        .filter(|it| !it.is_empty())?;
    Some(format!("users.noreply.{host}"))
}

/// The account's number in a private commit e-mail: `1001-carl@users.noreply.gitlab.com`, `1001+carl@users.noreply.github.com`.
fn private_account<'a>(email: &'a str, private_host: &str) -> Option<&'a str> {
    let (local, host) = email.trim().rsplit_once('@')?;
    let (number, _) = local.split_once(['-', '+'])?;
    let is_number = !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit());
    (is_number && host.eq_ignore_ascii_case(private_host)).then_some(number)
}

fn is_person(
    person: &Person,
    integration: &IntegrationId,
    private_host: Option<&str>,
    contributor: &Contributor,
) -> bool {
    let is_linked = |number: &str| {
        let mut accounts = person.accounts.iter();
        accounts.any(|it| it.integration == *integration && it.account_id == number)
    };
    let by_account = contributor.account.as_ref().is_some_and(|it| is_linked(&it.id));
    let email = contributor.email.as_deref();
    let by_email = email.is_some_and(|it| person.email.eq_ignore_ascii_case(it.trim()));
    // Anybody can write this address into a commit. It bars somebody the more, and lets nobody through.
    let by_number = email
        .zip(private_host)
        .and_then(|(email, host)| private_account(email, host))
        .is_some_and(is_linked);
    by_account || by_email || by_number
}

/// What a forge's status should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedStatus {
    pub state: GateState,
    /// One line, at most 255 characters.
    pub description: String,
    /// The request to link to.
    pub request: Option<RequestId>,
    /// The source branches of the changes that share it, for forges that keep a status for each.
    pub sources: Vec<String>,
}

/// What a forge's own lock of a change should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedLock {
    pub head: String,
    pub state: GateState,
    pub request: Option<RequestId>,
}

/// What the status of one commit and target should say now: the worst of all open changes that share it, so that one
/// approved change never turns another one green. `None`: leave it as it is.
///
/// `in_doubt`: something was sent whose arrival is not known, so the forge may show green whatever was last confirmed.
pub fn wanted_status(
    key: &StatusKey,
    in_doubt: bool,
    state: &impl Read,
) -> Result<Option<WantedStatus>, Fault> {
    let prefix = head_prefix(key.project.as_str(), &key.head, &key.target);
    let mut worst: Option<WantedStatus> = None;
    let mut sources: BTreeSet<String> = BTreeSet::new();
    for (row, _) in state.with_prefix(Table::Heads, prefix.as_bytes())? {
        let number = std::str::from_utf8(&row[prefix.len()..])
            .ok()
            .and_then(|it| it.parse().ok())
            .ok_or_else(|| Fault("odd row of an open change".into()))?;
        let change_key = ChangeKey {
            project: key.project.clone(),
            number,
        };
        let change: Change = state
            .get(&change_row(&change_key))?
            .ok_or_else(|| Fault(format!("open change {number} is not recorded")))?;
        let Some(id) = &change.request else { continue };
        let request: Request = state
            .get(id.as_str())?
            .ok_or_else(|| Fault(format!("request {id} is not recorded")))?;
        let description = words_of(&request);
        let wanted = WantedStatus {
            state: gate_of(&request),
            description: crate::domain::text::shortened(&description, 255),
            request: Some(request.id),
            sources: Vec::new(),
        };
        sources.insert(change.source);
        if worst
            .as_ref()
            .is_none_or(|it| severity(wanted.state) > severity(it.state))
        {
            worst = Some(wanted);
        }
    }
    if let Some(worst) = worst {
        let sources = sources.into_iter().collect();
        return Ok(Some(WantedStatus { sources, ..worst }));
    }
    // Nothing open asks for this commit any more. A merged change keeps its green; any other green is taken back, lest
    // the commit come back with it.
    let last = state.get::<ConfirmedStatus>(&key.row())?;
    let request = last.as_ref().and_then(|it| it.request.clone());
    let asked = match &request {
        Some(id) => state.get::<Request>(id.as_str())?.and_then(|it| it.change),
        None => None,
    };
    let change: Option<Change> = match asked {
        Some(key) => state.get(&change_row(&key))?,
        None => None,
    };
    // Merged with another head, it leaves this one as superseded as a push does.
    let merged = change.as_ref().is_some_and(|it| it.merged && it.head == key.head);
    let may_be_green = in_doubt || last.as_ref().is_some_and(|it| it.state == GateState::Success);
    let told = last.map(|it| it.sources).unwrap_or_default();
    let sources = match told.is_empty() {
        true => change.into_iter().map(|it| it.source).collect(),
        false => told,
    };
    Ok((may_be_green && !merged).then(|| superseded(request, sources)))
}

/// What the forge's own lock of a change should say of its head now. `None`: there is nothing to tell of it.
pub fn wanted_lock(key: &ChangeKey, state: &impl Read) -> Result<Option<WantedLock>, Fault> {
    // A closed one can be reopened as it was: what we opened is closed with it.
    let Some(change) = state.get::<Change>(&change_row(key))?.filter(|it| !it.merged) else {
        return Ok(None);
    };
    let request = match &change.request {
        Some(id) => state.get::<Request>(id.as_str())?,
        // It is not gated (any more): what we may have opened is closed again.
        None => None,
    };
    let gate = match &request {
        Some(it)
            if change.open
                && it.head.as_ref() == Some(&change.head)
                && it.target.as_ref() == Some(&change.target) =>
        {
            gate_of(it)
        }
        _ => GateState::Pending,
    };
    Ok(Some(WantedLock {
        head: change.head,
        state: gate,
        request: request.map(|it| it.id),
    }))
}

/// What a status says when nothing open asks for its commit any more.
fn superseded(request: Option<RequestId>, sources: Vec<String>) -> WantedStatus {
    WantedStatus {
        state: GateState::Pending,
        description: "Superseded: nothing open asks for this commit".into(),
        request,
        sources,
    }
}

fn severity(state: GateState) -> u8 {
    match state {
        GateState::Success => 0,
        GateState::Pending => 1,
        GateState::Failed => 2,
    }
}

pub(super) fn gate_of(request: &Request) -> GateState {
    match request.status {
        _ if request.lapsed => GateState::Failed,
        Status::Pending if request.blocked => GateState::Failed,
        Status::Pending | Status::Cancelled | Status::Superseded => GateState::Pending,
        Status::Approved | Status::Skipped => GateState::Success,
        Status::Rejected | Status::Expired => GateState::Failed,
    }
}

/// What a status says of a request, for people.
fn words_of(request: &Request) -> String {
    if request.lapsed {
        return "The approval was not used in time: ask again by pushing or reopening".into();
    }
    let by = || {
        let names: Vec<&str> = request.decisions.iter().map(|it| it.name.as_str()).collect();
        visible(&names.join(", "))
    };
    match request.status {
        Status::Pending if request.blocked => "Blocked by a rule of the policy".into(),
        Status::Pending => {
            // What is needed and not how far it is: GitLab refuses to go from pending to pending, and so keeps the first
            // text until the state changes.
            let needed = match request.obligations.as_slice() {
                [one] if one.quorum == 1 => "Waits for people: 1 approval needed".to_owned(),
                [one] => format!("Waits for people: {} approvals needed", one.quorum),
                several => format!("Waits for people: approvals needed for {} rules", several.len()),
            };
            match match_code(request) {
                Some(it) => format!("{needed}. Code {}", it.code),
                None => needed,
            }
        }
        Status::Approved => format!("Approved by {}", by()),
        Status::Skipped => {
            let why = request.ended_because.clone().unwrap_or_default();
            format!("No approval needed. {}", visible(&why))
        }
        Status::Rejected => format!("Rejected by {}", by()),
        Status::Expired => "Nobody decided in time: ask again by pushing or reopening".into(),
        Status::Cancelled | Status::Superseded => "No longer asked".into(),
    }
}
