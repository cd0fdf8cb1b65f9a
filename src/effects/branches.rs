//! Watches where the gated branches stand. What comes into one is matched to approvals; what none covers is reported,
//! however it got there.

use crate::domain::branch::{Moved, Tip, Watched};
use crate::domain::command::{Command, ObserveBranch};
use crate::domain::decide::uncovered;
use crate::domain::event::Actor;
use crate::domain::policy::NamePattern;
use crate::domain::project::Project;
use crate::domain::request::{Change, ChangeKey, MergeRecord, change_row};
use crate::domain::state::{Read, Table, decode};
use crate::domain::time::Time;
use crate::effects::rounds::{every, run_rounds};
use crate::effects::{Connected, Surroundings, Trouble};
use crate::forge::LandingAsked;
use std::collections::{BTreeMap, BTreeSet};

/// A merge may be recorded by the forge a little before the branch moves: so much earlier is looked for merged changes.
const MARGIN_SECONDS: i64 = 3600;

/// Watches all gated branches, for ever.
pub async fn run_branches(at: Surroundings) -> Result<(), Trouble> {
    let wakes = |event: &str| matches!(event, "push" | "change");
    run_rounds(&at, "branches", every(at.look_every), wakes, |project| {
        watch(&at, project)
    })
    .await
}

async fn watch(at: &Surroundings, project: Project) -> Result<(), Trouble> {
    let (connected, tips, watched) = {
        let snapshot = at.store.read()?;
        let Some(connected) = at
            .connected(&project.id, &snapshot)?
            .map(Connected::in_background)
        else {
            return Ok(());
        };
        let mut tips: BTreeMap<String, Tip> = BTreeMap::new();
        for (_, row) in snapshot.with_prefix(Table::Tips, Tip::prefix(&project.id).as_bytes())? {
            let tip: Tip = decode(&row)?;
            tips.insert(tip.branch.clone(), tip);
        }
        let watched: Option<Watched> = snapshot.get(project.id.as_str())?;
        (connected, tips, watched.map(|it| it.patterns).unwrap_or_default())
    };
    let patterns = &connected.project.settings.branch_patterns;
    let forge_project = &connected.project.settings.forge_project_id;
    let asked = |e| Trouble::Forge(connected.forge.explain(&e));
    let stand = connected
        .forge
        .branches(forge_project, patterns)
        .await
        .map_err(asked)?;
    for (branch, commit) in &stand {
        let known = tips.get(branch);
        if known.is_some_and(|it| !it.gone && it.commit == *commit) {
            continue;
        }
        let is_new = known.is_none() && !matches_any(&watched, branch);
        let (before, moved, since) = match known {
            _ if is_new => (None, Moved::FirstSeen, None),
            Some(tip) => (Some(tip.commit.clone()), Moved::Forward, Some(tip.observed_at)),
            // It appeared under a pattern that is watched: judged by what it has and its elder sister has not.
            None => (None, Moved::Created, None),
        };
        let against = match (&before, moved) {
            (Some(before), _) => Some(before.clone()),
            (None, Moved::Created) => sister(&stand, &tips, branch),
            (None, _) => None,
        };
        observe(
            at,
            &connected,
            branch,
            Some(commit),
            before,
            against,
            moved,
            since,
        )
        .await?;
    }
    for (branch, tip) in &tips {
        let gated = matches_any(&patterns.iter().cloned().collect(), branch);
        if !tip.gone && gated && !stand.contains_key(branch) {
            let before = Some(tip.commit.clone());
            observe(at, &connected, branch, None, before, None, Moved::Deleted, None).await?;
        }
    }
    let patterns: BTreeSet<String> = patterns.iter().cloned().collect();
    if watched != patterns {
        let command = Command::WatchBranches {
            project: project.id.clone(),
            patterns,
        };
        at.engine.submit(Actor::System, command).await?;
    }
    Ok(())
}

fn matches_any(patterns: &BTreeSet<String>, branch: &str) -> bool {
    patterns
        .iter()
        .filter_map(|it| NamePattern::new(it).ok())
        .any(|it| it.matches_branch(branch))
}

/// Another gated branch, the one seen first by name, that a new one is compared with.
fn sister(stand: &BTreeMap<String, String>, tips: &BTreeMap<String, Tip>, branch: &str) -> Option<String> {
    let others = stand.iter().filter(|(name, _)| *name != branch);
    others
        .filter(|(name, _)| tips.contains_key(*name))
        .map(|(_, commit)| commit.clone())
        .next()
}

#[expect(
    clippy::too_many_arguments,
    reason = "what is known of one move of one branch"
)]
async fn observe(
    at: &Surroundings,
    connected: &Connected,
    branch: &str,
    commit: Option<&String>,
    before: Option<String>,
    against: Option<String>,
    moved: Moved,
    since: Option<Time>,
) -> Result<(), Trouble> {
    let project = &connected.project;
    let forge_project = &project.settings.forge_project_id;
    let mut it = ObserveBranch {
        project: project.id.clone(),
        branch: branch.to_owned(),
        before,
        commit: commit.cloned(),
        moved,
        landing: None,
        by: None,
    };
    if let (Some(against), Some(commit)) = (&against, commit)
        && against != commit
    {
        let earliest = Time(since.unwrap_or(project.created_at).0 - MARGIN_SECONDS * 1000);
        let since = earliest.to_the_second();
        let ours = |number: u64| merged_by_us(at, project, number).ok().flatten();
        let asked = LandingAsked {
            forge_project_id: forge_project,
            branch,
            before: against,
            after: commit,
            since: &since,
            ours: &ours,
        };
        let (forward, landing) = connected
            .forge
            .landing(&asked)
            .await
            .map_err(|e| Trouble::Forge(connected.forge.explain(&e)))?;
        if !forward && moved == Moved::Forward {
            it.moved = Moved::Rewritten;
        }
        let around = {
            let snapshot = at.store.read()?;
            uncovered(&project.id, branch, it.moved, commit, &landing, &snapshot)?
        };
        if around.iter().any(|found| found.by.is_none()) {
            it.by = connected.forge.pusher(forge_project, branch, commit).await;
        }
        it.landing = Some(landing);
    }
    let actor = Actor::Forge {
        integration: connected.integration.id.clone(),
    };
    at.engine
        .submit(actor, Command::ObserveBranch(Box::new(it)))
        .await?;
    Ok(())
}

/// The commit as which our own account merged a change.
fn merged_by_us(at: &Surroundings, project: &Project, number: u64) -> Result<Option<String>, Trouble> {
    let snapshot = at.store.read()?;
    let key = ChangeKey {
        project: project.id.clone(),
        number,
    };
    let change: Option<Change> = snapshot.get(&change_row(&key))?;
    let Some(request) = change.and_then(|it| it.request) else {
        return Ok(None);
    };
    let record: Option<MergeRecord> = snapshot.get(request.as_str())?;
    Ok(record.filter(|it| it.merged).and_then(|it| it.commit))
}
