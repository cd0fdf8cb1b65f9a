//! Watches the jobs that deploy to gated environments, and starts what was approved: exactly that job, once.
//!
//! What is open stands in a projection, so that a restart goes on where it was. An approval is spent in the journal before
//! the forge is told; after that only reading the job tells whether it has to be told again.

use crate::domain::command::Command;
use crate::domain::decide::{NextStep, action_text, gates_environment, next_step};
use crate::domain::deployment::{
    Deployment, DeploymentAnswer, DeploymentFacts, DeploymentKey, DeploymentState, Phase,
};
use crate::domain::event::{Actor, Event};
use crate::domain::ids::{Digest, ProjectId, RequestId};
use crate::domain::project::Project;
use crate::domain::request::{Answer, Request};
use crate::domain::state::{Read, Table};
use crate::domain::text::{shortened, visible};
use crate::domain::time::Time;
use crate::effects::pace::Pace;
use crate::effects::{Connected, Surroundings, Trouble};
use crate::evidence::subject::{ActionDigest, ActionKind, ActionSubject, JobSubject};
use crate::forge::{DeploymentHead, StartOutcome};
use crate::outbound::{Error, Outcome};
use crate::store::Snapshot;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A lost webhook is made good within a minute; less than half of that leaves room for a slow forge.
const EVERY: Duration = Duration::from_secs(25);
/// Webhooks of jobs come in bursts: two looks at one project are at least this far apart.
const APART: Duration = Duration::from_millis(800);
/// Longest time one look at a project may take.
const LOOK_MAX: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Under load the journal grows all the time: two passes over it are at least this far apart.
const PASS_APART: Duration = Duration::from_millis(100);
const ENTRIES_MAX: usize = 1024;
/// Looks at projects and calls about jobs, at once.
const IN_FLIGHT_MAX: usize = 16;
/// Jobs that no list shows any more are read one by one, so many in one look.
const MISSING_MAX: usize = 10;
/// All that waits is listed at the first look and every so many looks; between, the list of changes and the newest hundred
/// are enough.
const ALL_EVERY: u32 = 12;
/// How far back the list of changes goes behind the newest change seen: what was committed late.
const OVERLAP_MS: i64 = 60_000;
/// How far back it goes at a first look.
const FIRST_MS: i64 = 7 * 24 * 3_600_000;
/// After an answer that got lost: time for the forge to finish what it may have begun.
const UNCLEAR: Duration = Duration::from_secs(5);
/// What the forge refuses is offered again after this long: somebody may have mended the account's rights.
const REFUSED_AGAIN: Duration = Duration::from_secs(15);
/// Others have to approve on the forge as well.
const OTHERS_AGAIN: Duration = Duration::from_secs(15);
/// Longest comment on the forge, in characters.
const COMMENT_MAX: usize = 900;

/// How the watching of one project stands.
#[derive(Clone)]
struct Watch {
    /// The next look by time.
    next: Instant,
    /// When the last one began.
    last: Option<Instant>,
    /// Something says to look now.
    asked: bool,
    looks: u32,
    /// The newest change seen, by the forge's clock.
    seen: Option<Time>,
    /// This forge leaves the deployment of a job that waits among those that are only created. Until that is known, those
    /// are listed: where it does not, the list of changes has the others.
    only_created: Option<bool>,
}

/// What a look found out for the next one.
struct Seen {
    newest: Option<Time>,
    /// Jobs that wait are among those only created; among those that wait.
    only_created: (bool, bool),
}

enum Finished {
    Look(ProjectId, Result<Option<Seen>, Trouble>),
    Act(DeploymentKey, Result<Acted, Trouble>),
}

/// How an attempt to do what was decided ended.
enum Acted {
    /// Nothing is left to do for now.
    Done,
    Later {
        after: Duration,
        reason: String,
    },
    /// The job is not what is recorded: its project is looked at again.
    Changed,
}

/// Watches and starts, for ever. Every look and every call is a task of its own, so that a forge that hangs holds up nobody
/// else's deployments.
pub async fn run_deployments(at: Surroundings) -> Result<(), Trouble> {
    let mut grown = at.engine.watch_size();
    let mut watches: HashMap<ProjectId, Watch> = HashMap::new();
    let mut looking: HashSet<ProjectId> = HashSet::new();
    let mut acting: HashSet<DeploymentKey> = HashSet::new();
    let mut pace: Pace<DeploymentKey> = Pace::new();
    let mut slow: Pace<ProjectId> = Pace::new();
    let mut tasks: JoinSet<Finished> = JoinSet::new();
    // Hints that came before this start are no loss: everything is looked at anyway.
    let mut next = at.store.read()?.size()?;
    loop {
        let pass = Instant::now();
        for project in hinted(&at, &mut next)? {
            watches.entry(project).or_insert_with(Watch::fresh).asked = true;
        }
        for project in watched(&at)? {
            let watch = watches.entry(project.id.clone()).or_insert_with(Watch::fresh);
            let room = looking.len() < IN_FLIGHT_MAX && slow.is_due(&project.id);
            if !room || looking.contains(&project.id) || !watch.is_due() {
                continue;
            }
            let before = watch.clone();
            watch.begin();
            looking.insert(project.id.clone());
            let at = at.clone();
            tasks.spawn(async move {
                let look = tokio::time::timeout(LOOK_MAX, look(&at, &project, &before)).await;
                let look = look.unwrap_or_else(|_| Err(Trouble::Forge("the forge takes too long".into())));
                Finished::Look(project.id, look)
            });
        }
        for key in to_do(&at)? {
            let room = acting.len() < IN_FLIGHT_MAX && pace.is_due(&key);
            if !room || acting.contains(&key) {
                continue;
            }
            acting.insert(key.clone());
            let at = at.clone();
            tasks.spawn(async move {
                let result = act(&at, &key).await;
                Finished::Act(key, result)
            });
        }
        tokio::select! {
            Some(finished) = tasks.join_next() => match finished.map_err(|e| Trouble::Forge(e.to_string()))? {
                Finished::Look(project, result) => {
                    looking.remove(&project);
                    let watch = watches.entry(project.clone()).or_insert_with(Watch::fresh);
                    match result {
                        Ok(seen) => {
                            if let Some(seen) = seen {
                                watch.seen = seen.newest.max(watch.seen);
                                watch.only_created = match seen.only_created {
                                    (true, _) => Some(true),
                                    (false, true) => watch.only_created.or(Some(false)),
                                    (false, false) => watch.only_created,
                                };
                            }
                            slow.done(&project);
                        }
                        Err(error) => {
                            tracing::warn!(%error, %project, "the deployments of a project can't be looked at now");
                            // Nothing was missed: the next look goes back as far as this one would have.
                            watch.looks = 0;
                            watch.asked = true;
                            slow.failed(&project, None);
                        }
                    }
                }
                Finished::Act(key, result) => {
                    acting.remove(&key);
                    match result {
                        Ok(Acted::Done) => pace.done(&key),
                        Ok(Acted::Changed) => {
                            watches.entry(key.project.clone()).or_insert_with(Watch::fresh).asked = true;
                            pace.failed(&key, None);
                        }
                        Ok(Acted::Later { after, reason }) => {
                            tracing::warn!(%reason, project = %key.project, job = key.job, "a deployment is not started yet");
                            pace.failed(&key, Some(after));
                        }
                        Err(error) => {
                            tracing::warn!(%error, project = %key.project, job = key.job, "a deployment can't be started yet");
                            pace.failed(&key, None);
                        }
                    }
                }
            },
            changed = grown.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        tokio::time::sleep_until(pass + PASS_APART).await;
    }
}

impl Watch {
    fn fresh() -> Watch {
        Watch {
            next: Instant::now(),
            last: None,
            asked: true,
            looks: 0,
            seen: None,
            only_created: None,
        }
    }

    fn is_due(&self) -> bool {
        let now = Instant::now();
        let apart = self.last.is_none_or(|it| it + APART <= now);
        apart && (self.asked || self.next <= now)
    }

    fn begin(&mut self) {
        let now = Instant::now();
        self.last = Some(now);
        self.next = now + EVERY;
        self.asked = false;
        self.looks = self.looks.wrapping_add(1);
    }
}

/// Projects that something new in the journal says to look at.
fn hinted(at: &Surroundings, next: &mut u64) -> Result<HashSet<ProjectId>, Trouble> {
    let snapshot = at.store.read()?;
    let mut found = HashSet::new();
    let mut told = HashSet::new();
    loop {
        let entries = snapshot.leaves(*next, ENTRIES_MAX)?;
        if entries.is_empty() {
            break;
        }
        for (seq, leaf) in entries {
            *next = seq + 1;
            match Snapshot::event(&leaf)? {
                Event::HookReceived {
                    integration,
                    event,
                    forge_project_id,
                    ..
                } if matches!(event.as_str(), "pipeline" | "job" | "deployment") => {
                    told.insert((integration, forge_project_id));
                }
                Event::DeploymentAskedAgain { deployment, .. } => {
                    found.insert(deployment.project);
                }
                Event::ProjectAdded { project, .. } | Event::ProjectChanged { project, .. } => {
                    found.insert(project);
                }
                _ => {}
            }
        }
    }
    if !told.is_empty() {
        let projects = snapshot.all::<Project>()?.into_iter();
        let meant = projects.filter(|it| {
            let forge_project = it.settings.forge_project_id.clone();
            told.contains(&(it.integration.clone(), forge_project))
        });
        found.extend(meant.map(|it| it.id));
    }
    Ok(found)
}

/// Projects that gate environments, or did and have something open.
fn watched(at: &Surroundings) -> Result<Vec<Project>, Trouble> {
    let snapshot = at.store.read()?;
    let mut found = Vec::new();
    for project in snapshot.all::<Project>()? {
        if project.removed {
            continue;
        }
        if !project.settings.environments.is_empty() || !open_of(&snapshot, &project.id)?.is_empty() {
            found.push(project);
        }
    }
    Ok(found)
}

fn open_of(snapshot: &Snapshot, project: &ProjectId) -> Result<Vec<DeploymentKey>, Trouble> {
    let rows = snapshot.with_prefix(Table::OpenDeployments, format!("{project}\0").as_bytes())?;
    Ok(rows
        .iter()
        .filter_map(|(row, _)| DeploymentKey::of_row(row))
        .collect())
}

/// Deployments of which something is to be done.
fn to_do(at: &Surroundings) -> Result<Vec<DeploymentKey>, Trouble> {
    let snapshot = at.store.read()?;
    let now = at.clock.now();
    let rows = snapshot.scan_raw(Table::OpenDeployments, b"", &[0xff], usize::MAX, false)?;
    let mut found = Vec::new();
    for key in rows.iter().filter_map(|(row, _)| DeploymentKey::of_row(row)) {
        if step_of(&snapshot, &key, now)?.is_some_and(|(_, _, step)| step != NextStep::Nothing) {
            found.push(key);
        }
    }
    Ok(found)
}

/// A deployment with its request, and what is to be done about it.
fn step_of(
    snapshot: &Snapshot,
    key: &DeploymentKey,
    now: Time,
) -> Result<Option<(Deployment, Request, NextStep)>, Trouble> {
    let Some(record) = snapshot.get::<Deployment>(&key.row())? else {
        return Ok(None);
    };
    let Some(id) = &record.request else {
        return Ok(None);
    };
    let Some(request) = snapshot.get::<Request>(id.as_str())? else {
        return Ok(None);
    };
    let step = next_step(&record, Some(&request), now);
    Ok(Some((record, request, step)))
}

/// Compares what the forge lists with what is recorded; answers the newest change seen.
async fn look(at: &Surroundings, project: &Project, watch: &Watch) -> Result<Option<Seen>, Trouble> {
    let connected = {
        let snapshot = at.store.read()?;
        at.connected(&project.id, &snapshot)?
    };
    let Some(connected) = connected else {
        return Ok(None);
    };
    let told = |e: Error| Trouble::Forge(connected.forge.explain(&e));
    let (forge, forge_project) = (&connected.forge, &connected.project.settings.forge_project_id);
    let project = &connected.project;
    let since = match (watch.seen, project.environments_since) {
        (Some(seen), _) => Time(seen.0 - OVERLAP_MS),
        (None, Some(since)) => Time(since.0.max(at.clock.now().0 - FIRST_MS) - OVERLAP_MS),
        (None, None) => Time(at.clock.now().0 - OVERLAP_MS),
    };
    let mut heads: BTreeMap<u64, DeploymentHead> = BTreeMap::new();
    if !project.settings.environments.is_empty() {
        let changed = forge.changed_deployments(forge_project, since).await;
        let mut lists = vec![changed.map_err(told)?];
        let all = watch.looks.is_multiple_of(ALL_EVERY);
        for only_created in [false, true] {
            if all || only_created == watch.only_created.unwrap_or(true) {
                let list = forge
                    .waiting_deployments(forge_project, None, only_created, !all)
                    .await;
                lists.push(list.map_err(told)?);
            }
        }
        heads.extend(lists.into_iter().flatten().map(|it| (it.job, it)));
    }
    let waiting = heads.values().filter(|it| it.phase == Some(Phase::Waiting));
    let seen = Seen {
        newest: heads.values().map(|it| it.updated_at).max(),
        only_created: (
            waiting.clone().any(|it| it.only_created),
            waiting.clone().any(|it| !it.only_created),
        ),
    };
    let mut missing = 0;
    for key in open_of(&at.store.read()?, &project.id)? {
        if heads.contains_key(&key.job) || missing == MISSING_MAX {
            continue;
        }
        missing += 1;
        let record: Option<Deployment> = at.store.read()?.get(&key.row())?;
        let Some(record) = record else { continue };
        match forge
            .deployment(forge_project, record.facts.deployment)
            .await
            .map_err(told)?
        {
            Some(head) => drop(heads.insert(head.job, head)),
            None => {
                let reason = "The job is gone on the forge.".to_owned();
                let command = Command::ForgetDeployment {
                    deployment: key,
                    reason,
                };
                at.engine.submit(Actor::System, command).await?;
            }
        }
    }
    for head in heads.values() {
        notice(at, &connected, head, superseded_by(head, heads.values())).await?;
    }
    Ok(Some(seen))
}

/// The job of a newer pipeline that does the same for the same environment and ref.
fn superseded_by<'a>(head: &DeploymentHead, all: impl Iterator<Item = &'a DeploymentHead>) -> Option<u64> {
    let newest = all
        .filter(|it| {
            it.environment == head.environment
                && it.job_name == head.job_name
                && it.ref_name == head.ref_name
                && it.pipeline > head.pipeline
                && it.deployment > head.deployment
                && matches!(it.phase, Some(Phase::Waiting | Phase::Started))
        })
        .max_by_key(|it| it.deployment);
    newest.map(|it| it.job)
}

/// Tells the engine of a job that is not as it is recorded.
async fn notice(
    at: &Surroundings,
    connected: &Connected,
    head: &DeploymentHead,
    superseded_by: Option<u64>,
) -> Result<(), Trouble> {
    let Some(phase) = head.phase else { return Ok(()) };
    let project = &connected.project;
    let key = DeploymentKey {
        project: project.id.clone(),
        job: head.job,
    };
    let record: Option<Deployment> = at.store.read()?.get(&key.row())?;
    if record.is_none() && !gates_environment(project, &head.environment)? {
        return Ok(());
    }
    // A look that began before a start was recorded may still show the job as it was: nothing that matters changed then.
    let known = record
        .as_ref()
        .map(|it| seen_now(&it.facts, head, phase, superseded_by));
    let facts = match (&record, phase) {
        (Some(it), Phase::Waiting) if it.state.is_open() && it.request.is_some() => {
            let facts = known.clone().expect("there is a record");
            let gated = gates_environment(project, &head.environment)?;
            let same = facts.same_subject(&it.facts) && facts.superseded_by.is_none();
            if same && gated {
                return Ok(());
            }
            facts
        }
        (_, Phase::Waiting) if superseded_by.is_some() => return Ok(()),
        (Some(it), Phase::Waiting) if it.state == DeploymentState::Started => {
            return Ok(());
        }
        (_, Phase::Waiting) => match read(connected, head, superseded_by).await? {
            Some(facts) => facts,
            None => return Ok(()),
        },
        (None, Phase::Started) => {
            let since = project.environments_since.unwrap_or(Time(i64::MAX));
            if !head.ran || head.created_at < since {
                return Ok(());
            }
            match read(connected, head, superseded_by).await? {
                Some(facts) => facts,
                None => return Ok(()),
            }
        }
        (Some(it), Phase::Started) => match it.state {
            DeploymentState::Started => return Ok(()),
            _ => known.clone().expect("there is a record"),
        },
        (Some(it), Phase::Ended) if it.state.is_open() => known.clone().expect("there is a record"),
        (_, Phase::Ended) => return Ok(()),
    };
    observe(at, connected, facts).await
}

/// What is recorded of a job, as a list shows it now.
fn seen_now(
    before: &DeploymentFacts,
    head: &DeploymentHead,
    phase: Phase,
    superseded_by: Option<u64>,
) -> DeploymentFacts {
    DeploymentFacts {
        deployment: head.deployment,
        phase,
        blocked: head.held.unwrap_or(before.blocked),
        environment: head.environment.clone(),
        job_name: head.job_name.clone(),
        ref_name: head.ref_name.clone(),
        sha: head.sha.clone(),
        pipeline: head.pipeline,
        job_account: head.account.clone(),
        superseded_by,
        ..before.clone()
    }
}

/// Everything about a job, read anew; `None` once it is gone or its turn has not come.
async fn read(
    connected: &Connected,
    head: &DeploymentHead,
    superseded_by: Option<u64>,
) -> Result<Option<DeploymentFacts>, Trouble> {
    let told = |e: Error| Trouble::Forge(connected.forge.explain(&e));
    let forge_project = &connected.project.settings.forge_project_id;
    let head = connected.forge.deployment(forge_project, head.deployment).await;
    let Some(head) = head.map_err(told)? else {
        return Ok(None);
    };
    let Some(phase) = head.phase else { return Ok(None) };
    let account = connected.forge.pipeline_account(forge_project, &head).await;
    let tier = connected
        .forge
        .environment_tier(forge_project, head.environment_id)
        .await;
    Ok(Some(DeploymentFacts {
        key: DeploymentKey {
            project: connected.project.id.clone(),
            job: head.job,
        },
        deployment: head.deployment,
        phase,
        blocked: head.held.unwrap_or(false),
        environment: head.environment.clone(),
        tier: tier.map_err(told)?,
        job_name: head.job_name.clone(),
        ref_name: head.ref_name.clone(),
        sha: head.sha.clone(),
        pipeline: head.pipeline,
        triggered_by: account.map_err(told)?,
        job_account: head.account.clone(),
        web_url: head.web_url.clone(),
        commit_title: head.commit_title.clone(),
        superseded_by,
    }))
}

async fn observe(at: &Surroundings, connected: &Connected, facts: DeploymentFacts) -> Result<(), Trouble> {
    let subject = subject(connected, &facts)?;
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).expect("the system's random numbers never run out");
    let actor = Actor::Forge {
        integration: connected.integration.id.clone(),
    };
    let command = Command::ObserveDeployment {
        facts: Box::new(facts),
        subject,
        fresh: RequestId::from_random(bits),
    };
    at.engine.submit(actor, command).await?;
    Ok(())
}

fn subject(connected: &Connected, facts: &DeploymentFacts) -> Result<String, Trouble> {
    let project = &connected.project;
    let action = action_text(&project.path, facts);
    let requester = format!("forge_account:{}", facts.triggered_by.id);
    let (job, pipeline, deployment) = (
        facts.key.job.to_string(),
        facts.pipeline.to_string(),
        facts.deployment.to_string(),
    );
    let subject = ActionSubject {
        kind: ActionKind::Deployment,
        action: &action,
        environment: Some(&facts.environment),
        project: Some(&project.path),
        digest: Some(ActionDigest::GitCommit(&facts.sha)),
        requester: &requester,
        claimed_sha256: Digest::of(b""),
        job: Some(JobSubject {
            forge: connected.integration.kind.name(),
            instance: &connected.integration.base_url,
            project_id: &project.settings.forge_project_id,
            job: &job,
            name: &facts.job_name,
            pipeline: &pipeline,
            deployment: &deployment,
            ref_name: &facts.ref_name,
            tier: facts.tier.as_deref(),
            triggered_by: &facts.triggered_by.username,
        }),
    };
    String::from_utf8(subject.to_bytes()).map_err(|_| Trouble::Forge("the subject is not text".into()))
}

/// Does what was decided about a deployment.
async fn act(at: &Surroundings, key: &DeploymentKey) -> Result<Acted, Trouble> {
    let (step, connected) = {
        let snapshot = at.store.read()?;
        let step = step_of(&snapshot, key, at.clock.now())?;
        (step, at.connected(&key.project, &snapshot)?)
    };
    let (Some((record, request, step)), Some(connected)) = (step, connected) else {
        return Ok(Acted::Done);
    };
    if step == NextStep::TellRejection {
        return tell_rejection(at, &connected, &record, &request).await;
    }
    let forge_project = &connected.project.settings.forge_project_id;
    let told = |e: Error| Trouble::Forge(connected.forge.explain(&e));
    // Read once more, whatever was known: only what still waits and is still the same is started.
    let head = connected
        .forge
        .deployment(forge_project, record.facts.deployment)
        .await;
    let Some(head) = head.map_err(told)? else {
        return Ok(Acted::Changed);
    };
    let (Some(phase), true) = (head.phase, head.job == key.job) else {
        return Ok(Acted::Changed);
    };
    let facts = seen_now(&record.facts, &head, phase, None);
    if phase != Phase::Waiting {
        observe(at, &connected, facts).await?;
        return Ok(Acted::Done);
    }
    if !facts.same_subject(&record.facts) || !gates_environment(&connected.project, &head.environment)? {
        return Ok(Acted::Changed);
    }
    match step {
        NextStep::Nothing | NextStep::TellRejection => return Ok(Acted::Done),
        NextStep::Resume { in_time: false } => {
            let reason = record
                .refused
                .unwrap_or_else(|| "The forge did not start the job while its approval held.".to_owned());
            answer(at, key, DeploymentAnswer::OutOfTime { reason }).await?;
            return Ok(Acted::Done);
        }
        NextStep::Start | NextStep::Resume { in_time: true } => {}
    }
    let environment = Some(head.environment.as_str());
    let mut others = Vec::new();
    for only_created in [false, true] {
        let list = connected
            .forge
            .waiting_deployments(forge_project, environment, only_created, true)
            .await;
        others.extend(list.map_err(told)?);
    }
    if let Some(newer) = superseded_by(&head, others.iter()) {
        let superseded_by = Some(newer);
        observe(
            at,
            &connected,
            DeploymentFacts {
                superseded_by,
                ..facts
            },
        )
        .await?;
        return Ok(Acted::Done);
    }
    if step == NextStep::Start {
        let facts = Box::new(facts.clone());
        match at
            .engine
            .submit(Actor::System, Command::StartDeployment { facts })
            .await
        {
            Ok(_) => {}
            Err(crate::engine::Error::Refused(refusal)) => {
                tracing::info!(%refusal, project = %key.project, job = key.job, "an approval can't be used");
                return Ok(Acted::Done);
            }
            Err(error) => return Err(error.into()),
        }
    }
    start(at, &connected, &facts, &request).await
}

/// Tells the forge to start a job whose approval is spent and still holds.
async fn start(
    at: &Surroundings,
    connected: &Connected,
    facts: &DeploymentFacts,
    request: &Request,
) -> Result<Acted, Trouble> {
    let (forge, forge_project) = (&connected.forge, &connected.project.settings.forge_project_id);
    let key = &facts.key;
    if facts.blocked {
        let comment = comment(at, request, "Approved");
        match forge
            .answer_deployment(forge_project, facts.deployment, true, &comment)
            .await
        {
            Outcome::Delivered(()) => {}
            Outcome::Retry { after, reason } => return Ok(later(after, reason)),
            Outcome::Rejected { reason } => return refused(at, key, reason, REFUSED_AGAIN).await,
        }
        let now = forge.deployment(forge_project, facts.deployment).await;
        let now = now.map_err(|e| Trouble::Forge(forge.explain(&e)))?;
        if now.is_none_or(|it| it.held != Some(false)) {
            let reason =
                "Approved on the forge as well, which still waits for the approvals of others there.";
            return refused(at, key, reason.to_owned(), OTHERS_AGAIN).await;
        }
    }
    // The clock once more: the calls above take their time.
    let snapshot = at.store.read()?;
    let due = step_of(&snapshot, key, at.clock.now())?.map(|(_, _, step)| step);
    drop(snapshot);
    if due != Some(NextStep::Resume { in_time: true }) {
        return Ok(Acted::Changed);
    }
    match forge.start_job(forge_project, key.job).await {
        StartOutcome::Started => {
            let by = connected.integration.account.clone();
            answer(at, key, DeploymentAnswer::Started { by }).await?;
            Ok(Acted::Done)
        }
        StartOutcome::Denied { reason } => refused(at, key, reason, REFUSED_AGAIN).await,
        // What it is now tells whether to go on.
        StartOutcome::NotStartable { reason } => refused(at, key, reason, UNCLEAR).await,
        StartOutcome::Retry { after, reason } => Ok(later(after, reason)),
        StartOutcome::Unclear { reason } => Ok(Acted::Later {
            after: UNCLEAR,
            reason,
        }),
    }
}

async fn tell_rejection(
    at: &Surroundings,
    connected: &Connected,
    record: &Deployment,
    request: &Request,
) -> Result<Acted, Trouble> {
    let forge_project = &connected.project.settings.forge_project_id;
    let comment = comment(at, request, "Rejected");
    let outcome = connected
        .forge
        .answer_deployment(forge_project, record.facts.deployment, false, &comment)
        .await;
    match outcome {
        Outcome::Delivered(()) => {
            answer(at, &record.key, DeploymentAnswer::RejectionTold).await?;
            Ok(Acted::Done)
        }
        Outcome::Retry { after, reason } => Ok(later(after, reason)),
        Outcome::Rejected { reason } => refused(at, &record.key, reason, REFUSED_AGAIN).await,
    }
}

fn later(after: Option<Duration>, reason: String) -> Acted {
    Acted::Later {
        after: after.unwrap_or_default(),
        reason,
    }
}

async fn refused(
    at: &Surroundings,
    key: &DeploymentKey,
    reason: String,
    after: Duration,
) -> Result<Acted, Trouble> {
    let told = DeploymentAnswer::Refused {
        reason: reason.clone(),
    };
    answer(at, key, told).await?;
    Ok(Acted::Later { after, reason })
}

async fn answer(at: &Surroundings, key: &DeploymentKey, answer: DeploymentAnswer) -> Result<(), Trouble> {
    let command = Command::RecordDeployment {
        deployment: key.clone(),
        answer,
    };
    at.engine.submit(Actor::System, command).await?;
    Ok(())
}

/// What stands beside the approval on the forge: who decided, and where it is.
fn comment(at: &Surroundings, request: &Request, word: &str) -> String {
    let wanted = match word {
        "Rejected" => Answer::Reject,
        _ => Answer::Approve,
    };
    let decisions = request.decisions.iter().filter(|it| it.answer == wanted);
    let names: Vec<&str> = decisions.map(|it| it.name.as_str()).collect();
    let by = match names.is_empty() {
        true => "by a rule of the policy".to_owned(),
        false => format!("by {}", shortened(&visible(&names.join(", ")), COMMENT_MAX / 2)),
    };
    format!("{word} {by}: {}/a/{}", at.public_url, request.id)
}
