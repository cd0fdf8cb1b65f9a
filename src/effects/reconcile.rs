//! Compares what the forges list with what is recorded, so that a lost webhook costs seconds, not a merge.
//!
//! An installation with many gated projects is read as a whole: all open changes once a minute, and between that what
//! was touched lately. Where that is not worth it, or can't be read whole, each project's own list is read. Either way
//! nothing follows from a list but hints; what a change is tells its own page.

use crate::domain::command::Command;
use crate::domain::event::Actor;
use crate::domain::gate::Gate;
use crate::domain::ids::{IntegrationId, ProjectId};
use crate::domain::policy::BindBase;
use crate::domain::project::{Integration, Project};
use crate::domain::request::ChangeKey;
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::effects::compare::Recorded;
use crate::effects::{Connected, Surroundings, Trouble};
use crate::evidence::leaf;
use crate::forge::{ChangeHead, ListedChange, Swept, hook_url};
use crate::outbound;
use futures_util::StreamExt;
use futures_util::stream;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How often new integrations and projects are looked for.
const GLANCE: Duration = Duration::from_secs(1);
/// Every project is compared with the whole list of its open changes this often.
const WHOLE_EVERY: Duration = Duration::from_secs(50);
/// Longest time one project's list may take.
const ONE_MAX: Duration = Duration::from_secs(20);
/// Longest time an installation's list may take.
const ALL_MAX: Duration = Duration::from_secs(50);
/// Lists of projects read at once.
const AT_ONCE: usize = 8;
/// Hints given at once: one transaction takes them all.
const HINTS_AT_ONCE: usize = 128;
/// With fewer projects than this their own lists cost less than anything else.
const TOGETHER_MIN: usize = 4;
/// Lists of projects read a second, where each has its own: 600 calls a minute, a good part of what GitLab.com allows.
const OWN_PER_SECOND: usize = 10;
/// More projects than this are asked for what was touched lately only this often.
const TOUCHED_OWN_MAX: usize = 50;
const TOUCHED_EVERY: Duration = Duration::from_secs(300);
/// An installation's list that was too long is not tried again before this.
const TOO_LONG_AGAIN: Duration = Duration::from_secs(3_600);
/// One that could not be read.
const UNREADABLE_AGAIN: Duration = Duration::from_secs(300);
/// In an installation that is read as a whole, each project's own list is read this often all the same: a list that
/// leaves a project out would not show it.
const OWN_EVERY: Duration = Duration::from_secs(1_800);
/// Calls that a list of what was touched lately may take.
const TOUCHED_CALLS_MAX: u32 = 50;
/// What was touched this long before the last look is listed again, in seconds: transactions end in another order than
/// they began, and replicas lag.
const OVERLAP_SECONDS: i64 = 60;
/// After a longer absence than this what happened meanwhile is no longer searched for, in seconds.
const ABSENCE_SECONDS_MAX: i64 = 7 * 24 * 3_600;
/// Projects a second whose lost webhooks are asked for, after a start.
const MISSED_PER_SECOND: u64 = 2;

/// Reconciles everything, for ever; at once after a start, since anything may have happened meanwhile. Each integration
/// has a task of its own: a forge that hangs costs the others nothing.
pub async fn run_reconciler(at: Surroundings) -> Result<(), Trouble> {
    let absent_since = last_entry(&at)?;
    let mut tasks: JoinSet<IntegrationId> = JoinSet::new();
    let mut watched: HashSet<IntegrationId> = HashSet::new();
    loop {
        match integrations(&at) {
            Ok(all) => {
                for id in all {
                    if watched.insert(id.clone()) {
                        tasks.spawn(watch(at.clone(), id, absent_since));
                    }
                }
            }
            Err(error) => tracing::error!(%error, "integrations can't be read"),
        }
        tokio::select! {
            Some(ended) = tasks.join_next() => {
                watched.remove(&ended.map_err(|e| Trouble::Forge(e.to_string()))?);
            }
            () = tokio::time::sleep(GLANCE) => {}
        }
    }
}

/// The time of the journal's last entry: since then, at the latest, nobody has looked.
fn last_entry(at: &Surroundings) -> Result<Time, Trouble> {
    let snapshot = at.store.read()?;
    let last = match snapshot.size()?.checked_sub(1) {
        Some(seq) => snapshot.leaf(seq)?,
        None => None,
    };
    let time = last.and_then(|it| Time::parse(&leaf::parse(&it).ok()?.time));
    Ok(time.unwrap_or_else(|| at.clock.now()))
}

fn integrations(at: &Surroundings) -> Result<Vec<IntegrationId>, Trouble> {
    let snapshot = at.store.read()?;
    let projects = snapshot.all::<Project>()?;
    let used: HashSet<IntegrationId> = projects
        .into_iter()
        .filter(|it| !it.removed)
        .map(|it| it.integration)
        .collect();
    let all = snapshot.all::<Integration>()?.into_iter();
    Ok(all
        .filter(|it| !it.removed && used.contains(&it.id))
        .map(|it| it.id)
        .collect())
}

fn projects(at: &Surroundings, integration: &IntegrationId) -> Result<Vec<Project>, Trouble> {
    let all = at.store.read()?.all::<Project>()?.into_iter();
    Ok(all
        .filter(|it| !it.removed && it.integration == *integration)
        .collect())
}

/// Reconciles one integration as long as it has projects.
async fn watch(at: Surroundings, integration: IntegrationId, absent_since: Time) -> IntegrationId {
    let mut watch = Watch {
        at,
        since: None,
        absent_since,
        known: HashMap::new(),
        whole: None,
        glanced: None,
        apart_until: None,
    };
    loop {
        let began = Instant::now();
        let projects = match projects(&watch.at, &integration) {
            Ok(projects) if projects.is_empty() => return integration,
            Ok(projects) => projects,
            Err(error) => {
                tracing::error!(%error, "projects can't be read");
                Vec::new()
            }
        };
        if let Err(error) = watch.look(&projects).await {
            tracing::warn!(%error, %integration, "the open changes of a forge can't be compared now");
        }
        let every = watch.at.look_every;
        let budget = (every.as_secs() * MISSED_PER_SECOND) as usize;
        watch.find_missed(&projects, budget).await;
        // A project that is new, or gates other branches, does not wait for its turn.
        while began.elapsed() < every {
            tokio::time::sleep(GLANCE.min(every.saturating_sub(began.elapsed()))).await;
            match self::projects(&watch.at, &integration) {
                Ok(now) if watch.knows_all(&now) => {}
                _ => break,
            }
        }
    }
}

/// What is known about one project's looks.
struct Known {
    /// Its branches, and since when they are looked after here; what was merged before that was none of our business.
    patterns: Vec<String>,
    from: Time,
    /// The last comparison with a whole list, and the last one with the project's own.
    compared: Option<Instant>,
    own: Option<Instant>,
    /// What was touched since then, by the forge's clock, is not looked at yet; and when that was asked last.
    since: Option<i64>,
    touched: Option<Instant>,
    /// The installation's list shows nothing of it, and its own list shows something.
    left_out: bool,
    /// It stood in the installation's last list.
    in_whole: bool,
    /// The forge's webhook was found disabled.
    hook_disabled: bool,
    /// The forge was asked which webhooks got lost.
    missed_found: bool,
}

/// The looks at one integration.
struct Watch {
    at: Surroundings,
    absent_since: Time,
    /// What was touched since then, by the forge's clock in unix seconds, is not looked at yet.
    since: Option<i64>,
    known: HashMap<ProjectId, Known>,
    /// The installation's last whole list, and its last list of any kind.
    whole: Option<Instant>,
    glanced: Option<Instant>,
    /// Until then every project's own list is read.
    apart_until: Option<Instant>,
}

/// Whether each project's own list has to be read instead of the installation's.
enum Apart {
    No,
    Yes,
}

impl Watch {
    fn knows_all(&self, projects: &[Project]) -> bool {
        projects.iter().all(|it| {
            let known = self.known.get(&it.id);
            known.is_some_and(|known| known.patterns == it.settings.branch_patterns)
        })
    }

    async fn look(&mut self, projects: &[Project]) -> Result<(), Trouble> {
        let Some(first) = projects.first() else {
            return Ok(());
        };
        let connected = {
            let snapshot = self.at.store.read()?;
            self.at.connected(&first.id, &snapshot)?
        };
        let Some(connected) = connected.map(Connected::in_background) else {
            return Ok(());
        };
        self.get_to_know(projects);
        let now = Instant::now();
        let together = projects.len() >= TOGETHER_MIN
            && connected.integration.kind.lists_everywhere()
            && self.apart_until.is_none_or(|it| it <= now);
        if together && let Apart::No = self.look_together(&connected, projects).await? {
            return self.look_apart(&connected, self.own_turns(projects)).await;
        }
        let due = self.due_apart(projects);
        self.look_apart(&connected, due).await
    }

    fn get_to_know(&mut self, projects: &[Project]) {
        let live: HashSet<&ProjectId> = projects.iter().map(|it| &it.id).collect();
        self.known.retain(|id, _| live.contains(id));
        for project in projects {
            let patterns = &project.settings.branch_patterns;
            match self.known.get_mut(&project.id) {
                Some(known) if known.patterns == *patterns => {}
                Some(known) => {
                    known.patterns.clone_from(patterns);
                    known.from = self.at.clock.now();
                    known.compared = None;
                }
                None => {
                    let known = Known {
                        patterns: patterns.clone(),
                        from: project.created_at,
                        compared: None,
                        own: None,
                        since: None,
                        touched: None,
                        left_out: false,
                        in_whole: false,
                        hook_disabled: false,
                        missed_found: false,
                    };
                    self.known.insert(project.id.clone(), known);
                }
            }
        }
    }

    /// Projects whose own list is read although the installation's is: those that are new, and each from time to time.
    fn own_turns<'a>(&self, projects: &'a [Project]) -> Vec<&'a Project> {
        let share = self.at.look_every.as_secs_f64() / OWN_EVERY.as_secs_f64();
        let most = (projects.len() as f64 * share).ceil() as usize;
        let known = |it: &Project| self.known.get(&it.id);
        let fresh = projects
            .iter()
            .filter(|it| known(it).is_some_and(|it| it.compared.is_none()));
        let mut turns: Vec<&Project> = projects
            .iter()
            .filter(|it| known(it).is_some_and(|it| it.own.is_none_or(|at| at.elapsed() >= OWN_EVERY)))
            .collect();
        turns.sort_by_key(|it| known(it).and_then(|it| it.own));
        turns.truncate(most);
        turns.extend(fresh);
        turns.extend(
            projects
                .iter()
                .filter(|it| known(it).is_some_and(|it| it.left_out)),
        );
        turns.sort_by(|a, b| a.id.cmp(&b.id));
        turns.dedup_by(|a, b| a.id == b.id);
        turns
    }

    /// Projects whose own list is to be read now, where there is no other.
    fn due_apart<'a>(&self, projects: &'a [Project]) -> Vec<&'a Project> {
        let spread = Duration::from_secs((projects.len() / OWN_PER_SECOND) as u64);
        let every = spread.max(self.at.look_every).min(WHOLE_EVERY);
        let soon = GLANCE.min(self.at.look_every / 2);
        let due = |it: &&Project| {
            let known = self.known.get(&it.id).and_then(|it| it.compared);
            known.is_none_or(|at| at.elapsed() + soon >= every)
        };
        projects.iter().filter(due).collect()
    }

    /// Reads the installation's lists, as far as they are due.
    async fn look_together(&mut self, connected: &Connected, projects: &[Project]) -> Result<Apart, Trouble> {
        let every = self.at.look_every;
        let soon = GLANCE.min(every / 2);
        let is_due =
            |last: Option<Instant>, every: Duration| last.is_none_or(|at| at.elapsed() + soon >= every);
        let fresh = projects
            .iter()
            .filter(|it| self.known.get(&it.id).is_some_and(|it| it.compared.is_none()));
        // The next look would be too late for it.
        let whole_due = is_due(self.whole, WHOLE_EVERY.saturating_sub(every / 2)) || fresh.count() > AT_ONCE;
        if !whole_due && !is_due(self.glanced, every) {
            return Ok(Apart::No);
        }
        if whole_due {
            let calls_max = self.worth(projects)?;
            match self.timed(connected.forge.open_everywhere(calls_max)).await {
                Ok(Swept::Whole { items, at }) => {
                    self.compare_all(connected, projects, &items).await?;
                    self.whole = Some(Instant::now());
                    self.since = self.since.or_else(|| self.first_since(at));
                }
                Ok(Swept::TooLong) => {
                    tracing::info!(
                        integration = %connected.integration.id,
                        "the forge lists far more than is gated here: each project's own list is read"
                    );
                    self.apart_until = Some(Instant::now() + TOO_LONG_AGAIN);
                    return Ok(Apart::Yes);
                }
                Err(error) => return self.apart(connected, error),
            }
        }
        self.glanced = Some(Instant::now());
        let Some(since) = self.since else {
            return Ok(Apart::No);
        };
        match self
            .timed(connected.forge.changed_since(None, since, TOUCHED_CALLS_MAX))
            .await
        {
            Ok(Swept::Whole { items, at }) => {
                self.compare_touched(projects.iter(), &items, at).await?;
                self.since = at.map(|it| it - OVERLAP_SECONDS).or(self.since);
            }
            // Too much happened: the next whole list is what counts, and from then on again what is touched.
            Ok(Swept::TooLong) => self.since = None,
            Err(error) => return self.apart(connected, error),
        }
        Ok(Apart::No)
    }

    async fn timed(
        &self,
        list: impl Future<Output = Result<Swept, outbound::Error>>,
    ) -> Result<Swept, outbound::Error> {
        let late = || outbound::Error::Timeout {
            host: "the forge".to_owned(),
        };
        tokio::time::timeout(ALL_MAX, list)
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    /// After a list that could not be read. A forge that can't be reached at all, or asks to be left alone, is not
    /// asked for hundreds of other lists instead.
    fn apart(&mut self, connected: &Connected, error: outbound::Error) -> Result<Apart, Trouble> {
        let reason = connected.forge.explain(&error);
        let no_answer = matches!(error, outbound::Error::Unreachable { .. });
        if no_answer || matches!(error.status(), Some(401 | 429 | 503)) {
            return Err(Trouble::Forge(reason));
        }
        tracing::warn!(
            %reason,
            integration = %connected.integration.id,
            "the list of all open changes can't be read: each project's own is"
        );
        self.apart_until = Some(Instant::now() + UNREADABLE_AGAIN);
        Ok(Apart::Yes)
    }

    /// Calls that an installation's list is worth: as many as the projects' own lists would take.
    fn worth(&self, projects: &[Project]) -> Result<u32, Trouble> {
        let snapshot = self.at.store.read()?;
        let mut open = 0;
        for project in projects {
            open += Recorded::read(project, &snapshot)?.open();
        }
        Ok(u32::try_from(projects.len() + open / 100 + 1).unwrap_or(u32::MAX))
    }

    /// From when on what was touched is to be looked at, when nothing is known yet: since somebody here was awake.
    fn first_since(&self, at: Option<i64>) -> Option<i64> {
        let at = at?;
        let absent = self.at.clock.now().0.saturating_sub(self.absent_since.0) / 1000;
        Some(at - absent.clamp(0, ABSENCE_SECONDS_MAX) - OVERLAP_SECONDS)
    }

    async fn compare_all(
        &mut self,
        connected: &Connected,
        projects: &[Project],
        items: &[ListedChange],
    ) -> Result<(), Trouble> {
        let mut by_project: HashMap<&str, Vec<ChangeHead>> = HashMap::new();
        for item in items {
            by_project
                .entry(item.forge_project_id.as_str())
                .or_default()
                .push(item.head.clone());
        }
        let none = Vec::new();
        let mut tips = HashMap::new();
        for project in projects.iter().filter(|it| is_bound(it)) {
            let targets = self.targets(project)?;
            tips.insert(&project.id, target_tips(connected, project, targets).await?);
        }
        let mut keys = Vec::new();
        {
            let (snapshot, no_tips) = (self.at.store.read()?, BTreeMap::new());
            for project in projects {
                // Only the number says which project it is: a path may be another's by now.
                let listed = by_project.get(project.settings.forge_project_id.as_str());
                if listed.is_none() && self.known.get(&project.id).is_some_and(|it| it.left_out) {
                    continue;
                }
                let recorded = Recorded::read(project, &snapshot)?;
                let tips = tips.get(&project.id).unwrap_or(&no_tips);
                let differ = recorded.beside_all(listed.unwrap_or(&none), tips);
                keys.extend(recorded.not_hinted(differ, &snapshot)?);
            }
        }
        hint(&self.at, keys).await?;
        let now = Instant::now();
        for project in projects {
            if let Some(known) = self.known.get_mut(&project.id) {
                let listed = by_project.contains_key(project.settings.forge_project_id.as_str());
                known.in_whole = listed;
                known.left_out &= !listed;
                if !known.left_out {
                    known.compared = Some(now);
                }
            }
        }
        Ok(())
    }

    fn targets(&self, project: &Project) -> Result<BTreeSet<String>, Trouble> {
        let snapshot = self.at.store.read()?;
        let recorded = Recorded::read(project, &snapshot)?;
        Ok(recorded.targets().map(str::to_owned).collect())
    }

    /// Compares what was touched lately; `forge_now` is the forge's clock, against which "since it is gated" is measured.
    async fn compare_touched<'a>(
        &self,
        projects: impl Iterator<Item = &'a Project>,
        items: &[ListedChange],
        forge_now: Option<i64>,
    ) -> Result<(), Trouble> {
        let mut by_project: HashMap<&str, Vec<&ListedChange>> = HashMap::new();
        for item in items {
            by_project
                .entry(item.forge_project_id.as_str())
                .or_default()
                .push(item);
        }
        let now = self.at.clock.now().0;
        let mut keys = Vec::new();
        {
            let snapshot = self.at.store.read()?;
            for project in projects {
                let Some(listed) = by_project.get(project.settings.forge_project_id.as_str()) else {
                    continue;
                };
                let Some(known) = self.known.get(&project.id) else {
                    continue;
                };
                let gated_for = now.saturating_sub(known.from.0) / 1000;
                let from = forge_now.map_or(i64::MAX, |it| it - gated_for);
                let recorded = Recorded::read(project, &snapshot)?;
                keys.extend(recorded.not_hinted(recorded.beside_some(listed, from), &snapshot)?);
            }
        }
        hint(&self.at, keys).await
    }

    /// Reads the own lists of projects, some at once, each within its time.
    async fn look_apart(&mut self, connected: &Connected, projects: Vec<&Project>) -> Result<(), Trouble> {
        let touched_every = match self.known.len() {
            few if few <= TOUCHED_OWN_MAX => Duration::ZERO,
            _ => TOUCHED_EVERY,
        };
        let watch: &Watch = self;
        let looks: Vec<_> = projects
            .into_iter()
            .map(|project| watch.look_in_time(connected, project, touched_every))
            .collect();
        let results: Vec<_> = stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
        let mut failed = Ok(());
        for (id, result, touched) in results {
            let Some(known) = self.known.get_mut(&id) else {
                continue;
            };
            match result {
                Ok((since, listed)) => {
                    let now = Instant::now();
                    known.left_out |= self.whole.is_some() && listed && !known.in_whole;
                    (known.compared, known.own) = (Some(now), Some(now));
                    if touched {
                        (known.touched, known.since) = (Some(now), since.or(known.since));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, project = %id, "a project can't be reconciled now");
                    failed = Err(error);
                }
            }
        }
        failed
    }

    async fn look_in_time(
        &self,
        connected: &Connected,
        project: &Project,
        touched_every: Duration,
    ) -> (ProjectId, Result<(Option<i64>, bool), Trouble>, bool) {
        let last = self.known.get(&project.id).and_then(|it| it.touched);
        let touched = last.is_none_or(|at| at.elapsed() >= touched_every);
        let looked = tokio::time::timeout(ONE_MAX, self.look_at_one(connected, project, touched)).await;
        let looked = looked.unwrap_or_else(|_| Err(Trouble::Forge("the forge takes too long".into())));
        (project.id.clone(), looked, touched)
    }

    /// One project's own lists; answers from when on the next look at what was touched goes, and whether anything is open.
    async fn look_at_one(
        &self,
        connected: &Connected,
        project: &Project,
        touched: bool,
    ) -> Result<(Option<i64>, bool), Trouble> {
        let explained = |e: outbound::Error| Trouble::Forge(connected.forge.explain(&e));
        let number = &project.settings.forge_project_id;
        let listed = connected.forge.open_changes(number).await.map_err(explained)?;
        let tips = match is_bound(project) {
            true => target_tips(connected, project, self.targets(project)?).await?,
            false => BTreeMap::new(),
        };
        let keys = {
            let snapshot = self.at.store.read()?;
            let recorded = Recorded::read(project, &snapshot)?;
            recorded.not_hinted(recorded.beside_all(&listed, &tips), &snapshot)?
        };
        hint(&self.at, keys).await?;
        let is_open = !listed.is_empty();
        if !touched {
            return Ok((None, is_open));
        }
        let known = self.known.get(&project.id).and_then(|it| it.since);
        let since = known.or_else(|| self.first_since(Some(self.at.clock.now().0 / 1000)));
        let Some(since) = since else {
            return Ok((None, is_open));
        };
        let list = connected
            .forge
            .changed_since(Some(number), since, TOUCHED_CALLS_MAX);
        let next = match list.await.map_err(explained)? {
            Swept::Whole { items, at } => {
                self.compare_touched(std::iter::once(project), &items, at).await?;
                at.map(|it| it - OVERLAP_SECONDS)
            }
            Swept::TooLong => Some(self.at.clock.now().0 / 1000 - OVERLAP_SECONDS),
        };
        Ok((next, is_open))
    }

    /// Asks for webhooks that got lost: of every project after a start, and of those whose webhook the forge has disabled
    /// or enabled again since. Best effort: the lists tell the same, only later.
    async fn find_missed(&mut self, projects: &[Project], most: usize) {
        let disabled = match self.disabled_hooks(projects) {
            Ok(disabled) => disabled,
            Err(error) => {
                tracing::error!(%error, "gates can't be read");
                return;
            }
        };
        let mut due = Vec::new();
        for project in projects {
            let Some(known) = self.known.get_mut(&project.id) else {
                continue;
            };
            let is = disabled.contains(&project.id);
            if std::mem::replace(&mut known.hook_disabled, is) != is {
                known.missed_found = false;
            }
            // Not before its lists could be read: a forge that is away has no history to tell either.
            if !known.missed_found && known.compared.is_some() && due.len() < most.max(1) {
                due.push(project);
            }
        }
        for project in due {
            match self.missed_of(project).await {
                Ok(()) => {
                    if let Some(known) = self.known.get_mut(&project.id) {
                        known.missed_found = true;
                    }
                }
                Err(error) => {
                    tracing::info!(%error, project = %project.id, "lost webhooks can't be asked for now");
                    return;
                }
            }
        }
    }

    fn disabled_hooks(&self, projects: &[Project]) -> Result<HashSet<ProjectId>, Trouble> {
        let snapshot = self.at.store.read()?;
        let mut disabled = HashSet::new();
        for project in projects {
            let gate = snapshot.get::<Gate>(project.id.as_str())?;
            if gate.is_some_and(|it| it.findings.iter().any(|it| it.code == "webhook_disabled")) {
                disabled.insert(project.id.clone());
            }
        }
        Ok(disabled)
    }

    async fn missed_of(&self, project: &Project) -> Result<(), Trouble> {
        let connected = {
            let snapshot = self.at.store.read()?;
            self.at.connected(&project.id, &snapshot)?
        };
        let Some(connected) = connected.map(Connected::in_background) else {
            return Ok(());
        };
        let hook_url = hook_url(&self.at.public_url, &connected.integration);
        let number = &project.settings.forge_project_id;
        let asked = tokio::time::timeout(ONE_MAX, connected.forge.missed_hooks(number, &hook_url)).await;
        let asked = asked.map_err(|_| Trouble::Forge("the forge takes too long".into()))?;
        let missed = asked.map_err(|e| Trouble::Forge(connected.forge.explain(&e)))?;
        let keys = missed.into_iter().map(|number| ChangeKey {
            project: project.id.clone(),
            number,
        });
        hint(&self.at, keys.collect()).await
    }
}

async fn hint(at: &Surroundings, keys: Vec<ChangeKey>) -> Result<(), Trouble> {
    let given: Vec<_> = keys
        .into_iter()
        .map(|change| at.engine.submit(Actor::System, Command::HintChange { change }))
        .collect();
    let mut given = stream::iter(given).buffer_unordered(HINTS_AT_ONCE);
    while let Some(result) = given.next().await {
        result?;
    }
    Ok(())
}

/// Whether decisions are bound to the head of the target branch (policy rule 11): one that moves on changes nothing in
/// the list of open changes.
fn is_bound(project: &Project) -> bool {
    project.settings.bind_base == BindBase::TargetSha
}

/// Where the branches that open changes aim at stand now.
async fn target_tips(
    connected: &Connected,
    project: &Project,
    targets: BTreeSet<String>,
) -> Result<BTreeMap<String, String>, Trouble> {
    let mut tips = BTreeMap::new();
    for target in targets {
        let tip = connected
            .forge
            .branch_head(&project.settings.forge_project_id, &target)
            .await
            .map_err(|e| Trouble::Forge(connected.forge.explain(&e)))?;
        tips.insert(target, tip);
    }
    Ok(tips)
}
