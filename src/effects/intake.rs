//! Reads every change that a webhook or the reconciler hints at, from the forge's API, and hands the facts to the
//! engine. A hint is worked off only by facts that were read after it.

use crate::domain::command::Command;
use crate::domain::event::Actor;
use crate::domain::facts::{ChangeFacts, ChangeState};
use crate::domain::ids::{Digest, ProjectId, RequestId};
use crate::domain::policy::BindBase;
use crate::domain::request::ChangeKey;
use crate::domain::state::{Read, Table};
use crate::effects::pace::Pace;
use crate::effects::{Connected, Surroundings, Trouble};
use crate::evidence::subject::{ChangeSubject, files_digest};
use crate::outbound;
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::JoinSet;

/// Changes of one project read at once: enough to keep a forge busy, few enough not to look like an attack.
const AT_ONCE: usize = 4;
/// Changes read at once over all projects.
const IN_FLIGHT_MAX: usize = 32;
/// Hints looked at in one round.
const ROUND_MAX: usize = 16_384;
/// Hints also grow due by time.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often an open change is read again because the forge has not finished preparing it, before it is judged by the
/// strictest rules as it is.
const UNFINISHED_TRIES: u32 = 4;

enum Look {
    Done,
    /// Not now; at the earliest after that.
    Later(Option<Duration>),
}

/// Works off hints, for ever. Every read is a task of its own, so that a forge that hangs holds up nobody else's changes.
pub async fn run_intake(at: Surroundings) -> Result<(), Trouble> {
    let mut grown = at.engine.watch_size();
    let mut pace: Pace<ChangeKey> = Pace::new();
    let mut on_the_way: JoinSet<(ChangeKey, Result<Look, Trouble>)> = JoinSet::new();
    let mut busy: HashMap<ChangeKey, ProjectId> = HashMap::new();
    loop {
        for (key, hint) in hints(&at)? {
            let of_its_project = busy.values().filter(|it| **it == key.project).count();
            let room = busy.len() < IN_FLIGHT_MAX && of_its_project < AT_ONCE;
            if !room || busy.contains_key(&key) || !pace.is_due(&key) {
                continue;
            }
            busy.insert(key.clone(), key.project.clone());
            let (tries, at) = (pace.failures(&key), at.clone());
            on_the_way.spawn(async move {
                let result = look(&at, &key, hint, tries).await;
                (key, result)
            });
        }
        tokio::select! {
            Some(finished) = on_the_way.join_next() => {
                let (key, result) = finished.map_err(|e| Trouble::Forge(e.to_string()))?;
                busy.remove(&key);
                match result {
                    Ok(Look::Done) => pace.done(&key),
                    Ok(Look::Later(wait)) => pace.failed(&key, wait),
                    Err(error) => {
                        tracing::warn!(%error, project = %key.project, change = key.number, "a change can't be read yet");
                        pace.failed(&key, None);
                    }
                }
            }
            changed = grown.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn hints(at: &Surroundings) -> Result<Vec<(ChangeKey, u64)>, Trouble> {
    let snapshot = at.store.read()?;
    let rows = snapshot.scan_raw(Table::Hints, b"", &[0xff], ROUND_MAX, false)?;
    Ok(rows
        .into_iter()
        .filter_map(|(row, value)| {
            let text = String::from_utf8(row).ok()?;
            let (project, number) = text.split_once('\0')?;
            let key = ChangeKey {
                project: ProjectId::parse(project)?,
                number: number.parse().ok()?,
            };
            Some((key, u64::from_be_bytes(value.try_into().ok()?)))
        })
        .collect())
}

async fn look(at: &Surroundings, key: &ChangeKey, hint: u64, tries: u32) -> Result<Look, Trouble> {
    let connected = {
        let snapshot = at.store.read()?;
        at.connected(&key.project, &snapshot)?
    };
    let Some(connected) = connected.map(Connected::in_background) else {
        forget(at, key, hint, "the project is no longer gated").await?;
        return Ok(Look::Done);
    };
    let facts = match read(&connected, key).await {
        Ok(facts) => facts,
        Err(outbound::Error::Status { code: 404, .. }) => {
            forget(at, key, hint, "the forge shows no such change").await?;
            return Ok(Look::Done);
        }
        Err(error) => {
            let wait = match &error {
                outbound::Error::Status { retry_after, .. } => *retry_after,
                _ => None,
            };
            tracing::warn!(
                reason = %connected.forge.explain(&error),
                project = %key.project,
                change = key.number,
                "a change can't be read now"
            );
            return Ok(Look::Later(wait));
        }
    };
    let unfinished =
        facts.state == ChangeState::Open && (facts.files.incomplete.is_some() || facts.base.is_empty());
    if unfinished && tries < UNFINISHED_TRIES {
        return Ok(Look::Later(None));
    }
    let files_sha256 = files_digest(&facts.files);
    let subject = subject(&connected, &facts, files_sha256)?;
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).expect("the system's random numbers never run out");
    let actor = Actor::Forge {
        integration: connected.integration.id.clone(),
    };
    let command = Command::ObserveChange {
        facts: Box::new(facts),
        subject,
        files_sha256,
        hint: Some(hint),
        fresh: RequestId::from_random(bits),
    };
    at.engine.submit(actor, command).await?;
    Ok(Look::Done)
}

/// The change as the forge shows it, with the head of its target branch where the project binds approvals to that.
async fn read(connected: &Connected, key: &ChangeKey) -> Result<ChangeFacts, outbound::Error> {
    let settings = &connected.project.settings;
    let forge_project = &settings.forge_project_id;
    let facts = connected
        .forge
        .change(&key.project, forge_project, key.number)
        .await?;
    let bound = settings.bind_base == BindBase::TargetSha && facts.state == ChangeState::Open;
    let target_sha = match bound {
        true => Some(connected.forge.branch_head(forge_project, &facts.target).await?),
        false => None,
    };
    Ok(ChangeFacts { target_sha, ..facts })
}

async fn forget(at: &Surroundings, key: &ChangeKey, hint: u64, reason: &str) -> Result<(), Trouble> {
    let command = Command::ForgetHint {
        change: key.clone(),
        hint,
        reason: reason.to_owned(),
    };
    at.engine.submit(Actor::System, command).await?;
    Ok(())
}

fn subject(connected: &Connected, facts: &ChangeFacts, files_sha256: Digest) -> Result<String, Trouble> {
    let change = connected.integration.kind.change_text(facts.number);
    let subject = ChangeSubject {
        forge: connected.integration.kind.name(),
        instance: &connected.integration.base_url,
        project_id: &connected.project.settings.forge_project_id,
        project: &connected.project.path,
        change: &change,
        source_project_id: &facts.source_project_id,
        source: &facts.source,
        target: &facts.target,
        head: &facts.head,
        base: &facts.base,
        files_sha256,
        files_count: facts.files.files.len() as u64,
        files_complete: facts.files.incomplete.is_none(),
        author: &facts.author.username,
        title_sha256: Digest::of(facts.title.as_bytes()),
        bind_base: match connected.project.settings.bind_base {
            BindBase::MergeBase => None,
            bound => Some(bound.name()),
        },
        target_sha: facts.target_sha.as_deref(),
    };
    String::from_utf8(subject.to_bytes()).map_err(|_| Trouble::Forge("the subject is not text".into()))
}
