//! Changes to the rules that wait for further admins: what exactly would change, and the passkey that confirms it.

use crate::audit::Erasable;
use crate::domain::decide::{Stop, may_confirm};
use crate::domain::governance::{Governed, Proposal, ProposalState};
use crate::domain::ids::{PersonId, ProjectId, ProposalId};
use crate::domain::people::{Group, Person, Role};
use crate::domain::policy::{BindBase, Document, Unattributed};
use crate::domain::project::{PolicyRecord, Project, ProjectSettings};
use crate::domain::retention::ErasureScope;
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::evidence::intent::ChangeIntent;
use crate::texts::{filters, said, t};
use crate::web::api::policy_versions::replayed;
use crate::web::api::retention::count;
use crate::web::app::App;
use crate::web::pages::diff::{Difference, difference};
use crate::web::pages::frame::{Frame, Place};
use crate::web::pages::impact::ImpactView;
use crate::web::pages::moment::Moment;
use crate::web::pages::retention::scope_words;
use crate::web::pages::standing::People;
use crate::web::pages::{PageError, html, only_dashboard, shown};
use crate::web::session::Reader;
use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use askama::Template;
use std::collections::BTreeSet;

/// Longest text of others, in characters.
const TEXT_MAX: usize = 500;

#[derive(Template)]
#[template(path = "admin/proposals.html")]
struct ProposalsPage {
    frame: Frame,
    open: Vec<Line>,
    closed: Vec<Line>,
}

/// One proposal in a list.
pub struct Line {
    pub id: String,
    pub what: String,
    pub by: String,
    pub at: Moment,
    /// `1 of 2 admins`.
    pub progress: String,
    pub state: &'static str,
}

#[derive(Template)]
#[template(path = "admin/proposal.html")]
struct ProposalPage {
    frame: Frame,
    line: Line,
    reason: String,
    open: bool,
    rows: Vec<Row>,
    diff: Option<Difference>,
    impact: Option<ImpactView>,
    confirmations: Vec<(String, Moment)>,
    /// Who may confirm it still, while it is open.
    may_confirm: Vec<String>,
    /// Even all of them are too few.
    hopeless: bool,
    change_sha256: String,
    /// Why this reader can't confirm it; `None`: they can.
    why_not: Option<String>,
    may_withdraw: bool,
}

/// One setting before and after.
struct Row {
    label: &'static str,
    before: String,
    after: String,
}

/// The proposals that wait, oldest first.
pub fn waiting(state: &impl Read, people: &People) -> Result<Vec<Line>, PageError> {
    let mut all: Vec<Proposal> = state.all()?;
    all.retain(|it| it.state == ProposalState::Open);
    all.sort_by_key(|it| it.seq);
    all.iter().map(|it| line(it, state, people)).collect()
}

fn line(it: &Proposal, state: &impl Read, people: &People) -> Result<Line, PageError> {
    Ok(Line {
        id: it.id.to_string(),
        what: what(&it.change, state, people)?,
        by: shown(&it.proposer_name, TEXT_MAX),
        at: Moment::of(it.created_at),
        progress: t!(
            "{admins} of {quorum} admins",
            admins = it.admins(),
            quorum = it.quorum
        ),
        state: match it.state {
            ProposalState::Open => t!("Waits"),
            ProposalState::CarriedOut => t!("Carried out"),
            ProposalState::Withdrawn => t!("Withdrawn"),
        },
    })
}

fn what(change: &Governed, state: &impl Read, people: &People) -> Result<String, PageError> {
    let project = |id: &ProjectId| -> Result<String, PageError> {
        let record: Option<Project> = state.get(id.as_str())?;
        Ok(record.map_or_else(|| id.to_string(), |it| shown(&it.path, TEXT_MAX)))
    };
    Ok(match change {
        Governed::Policy { name, .. } => t!(
            "A new version of the policy “{name}”",
            name = shown(name, TEXT_MAX)
        ),
        Governed::Project { project: id, .. } => t!("Other settings for {id}", id = project(id)?),
        Governed::ProjectRemoval { project: id } => t!("Take the gate of {id} away", id = project(id)?),
        Governed::Group { new: true, name, .. } => t!("A new group “{name}”", name = shown(name, TEXT_MAX)),
        Governed::Group { name, .. } => t!(
            "Other members for the group “{name}”",
            name = shown(name, TEXT_MAX)
        ),
        Governed::GroupRemoval { group } => {
            let record: Option<Group> = state.get(group.as_str())?;
            let name = record.map_or_else(|| group.to_string(), |it| shown(&it.name, TEXT_MAX));
            t!("Remove the group “{name}”", name = name)
        }
        Governed::Roles {
            new: Some((name, _)), ..
        } => t!("Invite {name}", name = shown(name, TEXT_MAX)),
        Governed::Roles { person, .. } => t!("Other roles for {person}", person = people.name(person)),
        Governed::Recovery { person } => {
            t!(
                "End the passkeys of {person} and let them enrol anew",
                person = people.name(person)
            )
        }
        Governed::Delegation { from, to, .. } => {
            t!(
                "{to} stands in for {from}",
                to = people.name(to),
                from = people.name(from)
            )
        }
        Governed::Erasure { scope, .. } => t!(
            "Erase the documents of {scope}",
            scope = scope_words(scope, state)?
        ),
    })
}

/// `GET /dashboard/proposals`: admins and auditors.
pub async fn show_proposals(app: Data<App>, Reader(person): Reader) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let state = app.snapshot()?;
    let people = People::load(&state)?;
    let mut closed: Vec<Proposal> = state.all()?;
    closed.retain(|it| it.state != ProposalState::Open);
    closed.sort_by_key(|it| std::cmp::Reverse(it.seq));
    closed.truncate(100);
    Ok(html(&ProposalsPage {
        frame: Frame::new(&app, Some(&person), Place::Policies, t!("Proposals")),
        open: waiting(&state, &people)?,
        closed: closed
            .iter()
            .map(|it| line(it, &state, &people))
            .collect::<Result<_, _>>()?,
    }))
}

/// `GET /dashboard/proposals/{id}`: admins and auditors; another admin than the proposer confirms it here.
pub async fn show_proposal(
    app: Data<App>,
    Reader(person): Reader,
    id: Path<String>,
) -> Result<HttpResponse, PageError> {
    only_dashboard(&person)?;
    let id = ProposalId::parse(&id).ok_or(PageError::Unknown)?;
    let state = app.snapshot()?;
    let proposal: Proposal = state.get(id.as_str())?.ok_or(PageError::Unknown)?;
    let people = People::load(&state)?;
    let open = proposal.state == ProposalState::Open;
    let (mut diff, mut impact) = (None, None);
    if let Governed::Policy { name, document } = &proposal.change {
        let new = state.blob(document)?.unwrap_or_default();
        let old = match &proposal.base {
            Some(base) => state.blob(base)?.unwrap_or_default(),
            None => Vec::new(),
        };
        diff = Some(difference(&old, &new));
        if let (true, Ok(document)) = (open, Document::parse(&new)) {
            impact = Some(ImpactView::of(&replayed(&app, name.clone(), document).await?));
        }
    }
    let erased = match &proposal.change {
        Governed::Erasure { scope, before } if open => Some(count(&app, scope.clone(), *before).await?),
        _ => None,
    };
    let line = line(&proposal, &state, &people)?;
    let mut may_confirm = Vec::new();
    for id in &proposal.may_confirm {
        if let Some(person) = state.get::<Person>(id.as_str())?
            && why_not(&proposal, &person, app.now(), &state)?.is_none()
        {
            may_confirm.push(people.name(id));
        }
    }
    let lacking = (proposal.quorum as usize).saturating_sub(proposal.admins());
    Ok(html(&ProposalPage {
        frame: Frame::new(&app, Some(&person), Place::Policies, &line.what),
        line,
        reason: shown(&proposal.reason, TEXT_MAX),
        open,
        rows: rows(&proposal, erased.as_ref(), &state, &people)?,
        diff,
        impact,
        confirmations: proposal
            .confirmations
            .iter()
            .map(|it| (shown(&it.name, TEXT_MAX), Moment::of(it.at)))
            .collect(),
        hopeless: open && may_confirm.len() < lacking,
        may_confirm,
        change_sha256: ChangeIntent::change_sha256(&proposal.change).to_string(),
        why_not: why_not(&proposal, &person, app.now(), &state)?,
        may_withdraw: open && person.has(Role::Admin),
    }))
}

fn why_not(
    proposal: &Proposal,
    person: &Person,
    now: Time,
    state: &impl Read,
) -> Result<Option<String>, PageError> {
    match may_confirm(proposal, person, now, state) {
        Ok(()) => Ok(None),
        Err(Stop::Refused(why)) => Ok(Some(said(&why.to_string()).into_owned())),
        Err(Stop::Fault(fault)) => Err(fault.into()),
    }
}

/// What differs, setting by setting.
fn rows(
    proposal: &Proposal,
    erased: Option<&Erasable>,
    state: &impl Read,
    people: &People,
) -> Result<Vec<Row>, PageError> {
    let mut rows = Vec::new();
    match &proposal.change {
        Governed::Policy { name, .. } => {
            let record: Option<PolicyRecord> = state.get(name)?;
            let version = record.filter(|it| Some(it.document) == proposal.base);
            rows.push(Row {
                label: t!("Version"),
                before: version
                    .as_ref()
                    .map_or_else(String::new, |it| it.version.to_string()),
                after: version.map_or_else(String::new, |it| (it.version + 1).to_string()),
            });
            rows.retain(|it| !it.after.is_empty());
        }
        Governed::Project { project, settings } => {
            if let Some(record) = state.get::<Project>(project.as_str())? {
                rows = settings_rows(&record.settings, settings);
            }
        }
        Governed::Group {
            group, name, members, ..
        } => {
            let record: Option<Group> = state.get(group.as_str())?;
            let names = |it: &BTreeSet<PersonId>| {
                let names: Vec<String> = it.iter().map(|it| people.name(it)).collect();
                names.join(", ")
            };
            rows.push(Row {
                label: t!("Name"),
                before: record
                    .as_ref()
                    .map_or_else(String::new, |it| shown(&it.name, TEXT_MAX)),
                after: shown(name, TEXT_MAX),
            });
            rows.push(Row {
                label: t!("Members"),
                before: record.map_or_else(String::new, |it| names(&it.members)),
                after: names(members),
            });
        }
        Governed::Delegation { starts, ends, .. } => {
            for (label, at) in [(t!("From"), starts), (t!("Until"), ends)] {
                rows.push(Row {
                    label,
                    before: String::new(),
                    after: at.to_the_second(),
                });
            }
        }
        Governed::Roles {
            person,
            new,
            roles,
            active,
        } => {
            let record: Option<crate::domain::people::Person> = state.get(person.as_str())?;
            let names = |roles: &BTreeSet<Role>, active: bool| {
                let names: Vec<&str> = roles.iter().map(|it| it.name()).collect();
                let inactive = match active {
                    true => String::new(),
                    false => format!(" ({})", t!("inactive")),
                };
                format!("{}{inactive}", names.join(", "))
            };
            if let Some((name, email)) = new {
                for (label, text) in [(t!("Name"), name), (t!("E-mail address"), email)] {
                    rows.push(Row {
                        label,
                        before: String::new(),
                        after: shown(text, TEXT_MAX),
                    });
                }
            }
            rows.push(Row {
                label: t!("Roles"),
                before: record.map_or_else(String::new, |it| names(&it.roles, it.active)),
                after: names(roles, *active),
            });
        }
        Governed::Recovery { person } => {
            let record: Option<crate::domain::people::Person> = state.get(person.as_str())?;
            let names = |it: &crate::domain::people::Person| {
                let labels: Vec<String> = it.live_passkeys().map(|it| shown(&it.label, TEXT_MAX)).collect();
                labels.join(", ")
            };
            rows.push(Row {
                label: t!("Passkeys"),
                before: record.as_ref().map_or_else(String::new, names),
                after: t!("none; a new one after an invitation, which decides after the hold").to_owned(),
            });
        }
        Governed::Erasure { scope, before } => {
            rows.push(Row {
                label: t!("Whose"),
                before: scope_words(scope, state)?,
                after: String::new(),
            });
            if !matches!(scope, ErasureScope::Request { .. }) {
                rows.push(Row {
                    label: t!("That ended before"),
                    before: before.to_the_second(),
                    after: String::new(),
                });
            }
            let Some(found) = erased else {
                return Ok(rows);
            };
            rows.push(Row {
                label: t!("Requests whose documents go"),
                before: found.requests.to_string(),
                after: t!("none").to_owned(),
            });
            rows.push(Row {
                label: t!("Documents"),
                before: t!(
                    "{documents}, {bytes} bytes",
                    documents = found.documents,
                    bytes = found.bytes
                ),
                after: t!("none; digests, names and times stay in the journal").to_owned(),
            });
        }
        Governed::ProjectRemoval { .. } | Governed::GroupRemoval { .. } => {}
    }
    Ok(rows)
}

fn settings_rows(old: &ProjectSettings, new: &ProjectSettings) -> Vec<Row> {
    type Words = fn(&ProjectSettings) -> String;
    let all: [(&'static str, Words); 12] = [
        (t!("Branches"), |it| it.branch_patterns.join(", ")),
        (t!("People who must approve"), |it| it.quorum.to_string()),
        (t!("Policy"), |it| {
            it.policy.clone().unwrap_or_else(|| "default".to_owned())
        }),
        (t!("Approvers"), |it| {
            let names: Vec<String> = it.approvers.iter().map(ToString::to_string).collect();
            names.join(", ")
        }),
        (t!("Methods"), |it| {
            let names = it.methods.iter().flatten().map(ToString::to_string);
            names.collect::<Vec<_>>().join(", ")
        }),
        (t!("Merge when approved"), |it| {
            if it.auto_merge { t!("yes") } else { t!("no") }.to_owned()
        }),
        (t!("Enforced by"), |it| {
            said(&it.enforcement.name().replace('_', " ")).into_owned()
        }),
        (t!("Bound to"), |it| {
            match it.bind_base {
                BindBase::MergeBase => t!("the merge base"),
                BindBase::TargetSha => t!("the target branch’s commit"),
                BindBase::None => t!("neither merge base nor target"),
            }
            .to_owned()
        }),
        (t!("Commits by nobody known"), |it| {
            match it.unattributed {
                Unattributed::OneMore => t!("need one person more"),
                Unattributed::Block => t!("are blocked"),
            }
            .to_owned()
        }),
        (t!("Control files"), |it| it.control_files.join(", ")),
        (t!("Environments"), |it| it.environments.join(", ")),
        (t!("Documents are kept"), |it| {
            t!("{retention_days} days", retention_days = it.retention_days)
        }),
    ];
    all.into_iter()
        .map(|(label, words)| Row {
            label,
            before: shown(&words(old), TEXT_MAX),
            after: shown(&words(new), TEXT_MAX),
        })
        .filter(|it| it.before != it.after)
        .collect()
}
