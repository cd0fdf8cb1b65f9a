//! Campaign R7 of the threats, on GitLab: a day of a team, by a seed, on a forge that loses, repeats and reorders its
//! webhooks, limits, fails, lies, hangs and goes away, with an appliance that is killed in between. Whatever happens, no
//! status of ours is green without its approval at that instant, nothing is called before a forge's `Retry-After` is
//! over, and once all is well again every status on the forge is what the journal says.
//!
//! `SIGNEDAPPROVAL_CHAOS_SEEDS=1000` runs so many seeds instead of the few of each test run,
//! `SIGNEDAPPROVAL_CHAOS_FROM=17` begins with that one, `SIGNEDAPPROVAL_CHAOS_AT_ONCE=8` runs so many side by side.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::support::appliance::Options;
use crate::support::forge::gitlab::faults::Trouble;
use crate::support::forge::gitlab::repository::Sha;
use crate::support::forge::gitlab::state::DEVELOPER;
use crate::support::forge::gitlab::state::MAINTAINER;
use crate::support::gated::Change;
use crate::support::gated::Gated;
use crate::support::gated::Hook;
use crate::support::gated::PROJECT;

/// Seeds of a usual test run.
const SEEDS: u64 = 6;
/// Things that happen in one seed's day.
const HAPPENINGS: usize = 30;
/// Once the forge is well, everything is right within this.
const HEALED_MAX: Duration = Duration::from_secs(60);

/// What the forge asks for in a 429, in seconds.
const RETRY_AFTER: u64 = 2;
/// A call may have been on its way when the forge asked for a pause.
const ON_THE_WAY: Duration = Duration::from_millis(700);

/// Random numbers of a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, sides: usize) -> usize {
        (self.next() % sides as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        match all.is_empty() {
            true => None,
            false => Some(&all[self.below(all.len())]),
        }
    }
}

/// One seed's day.
struct Day {
    it: Gated,
    dice: Dice,
    eve: u64,
    root: u64,
    changes: Vec<Change>,
    /// Heads every change has had.
    heads: BTreeMap<u64, Vec<Sha>>,
    away: bool,
    /// GitLab waits for the appliance's approval.
    locked: bool,
    /// When the appliance was started again.
    starts: Vec<Instant>,
    done: Vec<String>,
}

impl Day {
    async fn begin(seed: u64) -> Day {
        let mut dice = Dice(seed);
        let hook = *dice.of(&[Hook::Token, Hook::Signing, Hook::None]).expect("three");
        let mode = *dice
            .of(&["commit_status", "commit_status", "merge_broker", "bot_approval"])
            .expect("four");
        let options = Options::default().env("SIGNEDAPPROVAL_FORGE__LOOK_EVERY", "1s");
        let it = Gated::start_in(
            options,
            hook,
            json!({"enforcement": mode, "auto_merge": mode == "merge_broker"}),
        )
        .await;
        // What stands in the branches at the first look is taken as it is: the day begins after it.
        for branch in ["main", "production"] {
            it.seen(branch, &it.gitlab.head(PROJECT, branch)).await;
        }
        let locked = mode == "bot_approval";
        if locked {
            it.ask_for_our_approval().await;
        }
        let eve = it.gitlab.add_user("eve", "Eve", "eve@example.test");
        it.gitlab.add_member(PROJECT, eve, DEVELOPER);
        let root = it.gitlab.add_user("root", "Root", "root@example.test");
        it.gitlab.add_member(PROJECT, root, MAINTAINER);
        Day {
            it,
            dice,
            eve,
            root,
            changes: Vec::new(),
            heads: BTreeMap::new(),
            away: false,
            starts: Vec::new(),
            locked,
            done: vec![format!("hook {hook:?}, {mode}")],
        }
    }

    /// A merge request that is open on the forge.
    fn open_change(&mut self) -> Option<usize> {
        let gitlab = &self.it.gitlab;
        let open: Vec<usize> = (0..self.changes.len())
            .filter(|at| gitlab.merge_request(PROJECT, self.changes[*at].iid).state == "opened")
            .collect();
        self.dice.of(&open).copied()
    }

    async fn happen(&mut self, number: usize) {
        let carl = self.it.carl_account;
        let what = self.dice.below(26);
        let (gitlab, at) = (self.it.gitlab.clone(), self.open_change());
        let (what, at) = match (what, at) {
            (0..=3, _) | (_, None) => {
                let target = *self.dice.of(&["main", "main", "production"]).expect("three");
                let change = self.it.open(&format!("topic-{number}"), target);
                self.heads
                    .entry(change.iid)
                    .or_default()
                    .push(change.head.clone());
                self.done.push(format!("!{} opened into {target}", change.iid));
                self.changes.push(change);
                return;
            }
            (what, Some(at)) => (what, at),
        };
        let change = self.changes[at].clone();
        let iid = change.iid;
        let said = match what {
            4 | 5 => {
                let next = self.it.push(&change, &format!("more-{number}.rs"));
                self.heads.entry(iid).or_default().push(next.head.clone());
                self.changes[at] = next;
                "pushed to"
            }
            6 => {
                let all = self.heads[&iid].clone();
                let head = self.dice.of(&all).expect("it has a head").clone();
                gitlab.force_push(PROJECT, &change.branch, carl, &head);
                self.changes[at].head = head;
                "pushed to by force"
            }
            7 => {
                let target = *self
                    .dice
                    .of(&["main", "production", "playground"])
                    .expect("three");
                gitlab.retarget(PROJECT, iid, target, carl);
                "retargeted"
            }
            8 => {
                gitlab.close(PROJECT, iid, carl);
                if self.dice.below(2) == 0 {
                    gitlab.reopen(PROJECT, iid, carl);
                }
                "closed, perhaps reopened"
            }
            9 => {
                gitlab.retitle(PROJECT, iid, &format!("Title {number}"), carl);
                "retitled"
            }
            10 => {
                let name = if self.dice.below(2) == 0 {
                    "main"
                } else {
                    "production"
                };
                let sha = change.head.clone();
                let state = if self.dice.below(4) == 0 {
                    "failed"
                } else {
                    "success"
                };
                gitlab.post_status(
                    PROJECT,
                    &sha,
                    self.eve,
                    &format!("signedapproval/{name}"),
                    &change.branch,
                    state,
                );
                "given a status by Eve"
            }
            11 => {
                gitlab.merge_past_all_checks(PROJECT, iid, self.root);
                "merged past all checks"
            }
            12..=17 => {
                self.decide(iid).await;
                "decided"
            }
            18 => {
                // The same commit in a second merge request.
                let target = *self.dice.of(&["main", "production"]).expect("two");
                let other = gitlab.open_merge_request(PROJECT, &change.branch, target, "Another", carl);
                self.heads.insert(other, self.heads[&iid].clone());
                self.changes.push(Change { iid: other, ..change });
                "shared with another"
            }
            19 => {
                match self.dice.below(3) {
                    0 => gitlab.hooks_off(),
                    1 => gitlab.hold_hooks(),
                    _ => gitlab.hooks_on(),
                }
                "there when webhooks changed their way"
            }
            20 => {
                let mut held = gitlab.held();
                while !held.is_empty() {
                    let one = held.remove(self.dice.below(held.len()));
                    gitlab.release(one.id);
                    if self.dice.below(2) == 0 {
                        gitlab.deliver_twice(one.id);
                    }
                }
                "there when held webhooks came in another order"
            }
            21..=23 => {
                self.trouble();
                "there when trouble came"
            }
            24 => {
                if self.away {
                    gitlab.come_back();
                } else {
                    gitlab.go_away();
                }
                self.away = !self.away;
                "there when the forge went or came"
            }
            _ => {
                if self.dice.below(2) == 0 {
                    self.it.appliance.kill9();
                } else {
                    self.it.appliance.stop().await;
                }
                self.starts.push(Instant::now());
                self.it.appliance.restart().await;
                "there when the appliance started again"
            }
        };
        self.done.push(format!("!{iid} {said}"));
    }

    /// Somebody who may decides the newest request, or is refused.
    async fn decide(&mut self, iid: u64) {
        let pending = self
            .it
            .requests(iid)
            .await
            .into_iter()
            .find(|it| it["status"] == "pending");
        let Some(id) = pending.and_then(|it| it["id"].as_str().map(str::to_owned)) else {
            return;
        };
        let answer = if self.dice.below(5) == 0 {
            "reject"
        } else {
            "approve"
        };
        let who = if self.dice.below(2) == 0 {
            &self.it.ada
        } else {
            &self.it.bea
        };
        let got = who.decide(&id, answer, None).await;
        assert!(
            matches!(got.status, 200 | 403 | 404 | 409),
            "a decision answers {got:?}"
        );
    }

    fn trouble(&mut self) {
        let trouble = match self.dice.below(9) {
            0 => Trouble::RetryLater(RETRY_AFTER),
            1 => Trouble::Code(500),
            2 => Trouble::Code(502),
            3 => Trouble::LostAnswer(504),
            4 => Trouble::CutBody,
            5 => Trouble::Html,
            6 => Trouble::NotStored,
            7 => Trouble::StatusLocked,
            _ => Trouble::Hang(Duration::from_millis(700)),
        };
        let statuses =
            matches!(trouble, Trouble::NotStored | Trouble::StatusLocked) || self.dice.below(2) == 0;
        let (method, path) = if statuses {
            ("POST", "/statuses/")
        } else {
            ("GET", "/merge_requests")
        };
        let (after, times) = (self.dice.below(3), 1 + self.dice.below(3));
        self.it.gitlab.fail_after(after, method, path, times, trouble);
    }

    /// Everything is well again, and stays so.
    fn heal(&mut self) {
        if self.away {
            self.it.gitlab.come_back();
            self.away = false;
        }
        self.it.gitlab.heal();
        self.it.gitlab.hooks_on();
    }

    /// What is not yet right.
    async fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let statuses = self.wanted().await;
        for ((head, target), wanted) in &statuses {
            let name = format!("signedapproval/{target}");
            let shown = self.it.gitlab.shown_status(PROJECT, head, &name);
            let (state, by) = match &shown {
                Some(it) => (it.status.as_str(), it.author),
                None => ("none", 0),
            };
            if by == self.eve || wanted != state {
                wrong.push(format!("{name} on {head} is {state} by {by}, wanted {wanted}"));
            }
        }
        // Nothing else of ours is green, but what was merged.
        let merged: Vec<Sha> = self.heads_in("merged");
        for head in self.heads.values().flatten() {
            for target in ["main", "production"] {
                let name = format!("signedapproval/{target}");
                let shown = self.it.gitlab.shown_status(PROJECT, head, &name);
                let green = shown.is_some_and(|it| it.status == "success" && it.author != self.eve);
                if green
                    && !merged.contains(head)
                    && !statuses.contains_key(&(head.clone(), target.to_owned()))
                {
                    wrong.push(format!("{name} on {head} is green and nothing asks for it"));
                }
            }
        }
        if self.locked {
            wrong.extend(self.wrong_locks().await);
        }
        wrong
    }

    /// Merge requests that have the appliance's approval on GitLab and should not, or the other way round.
    async fn wrong_locks(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for change in &self.changes {
            let forge = self.it.gitlab.merge_request(PROJECT, change.iid);
            if forge.state != "opened" {
                continue;
            }
            let newest = self
                .it
                .requests(change.iid)
                .await
                .into_iter()
                .next()
                .unwrap_or_default();
            let approved = newest["subject"]["head"] == forge.head
                && newest["subject"]["target"] == format!("refs/heads/{}", forge.target_branch)
                && matches!(newest["status"].as_str(), Some("approved" | "skipped"));
            if approved == forge.approvals.is_empty() {
                wrong.push(format!(
                    "!{}: approved {approved}, on GitLab {:?}",
                    change.iid, forge.approvals
                ));
            }
        }
        wrong
    }

    /// The heads of all merge requests in a state.
    fn heads_in(&self, state: &str) -> Vec<Sha> {
        let all = self
            .changes
            .iter()
            .map(|it| self.it.gitlab.merge_request(PROJECT, it.iid));
        all.filter(|it| it.state == state).map(|it| it.head).collect()
    }

    /// What every status has to be, by the appliance's own record: the worst of all open merge requests that share it.
    async fn wanted(&self) -> BTreeMap<(Sha, String), String> {
        let mut wanted: BTreeMap<(Sha, String), String> = BTreeMap::new();
        let rank = |it: &str| match it {
            "success" => 0,
            "pending" => 1,
            _ => 2,
        };
        for change in &self.changes {
            let forge = self.it.gitlab.merge_request(PROJECT, change.iid);
            if forge.state != "opened" || forge.target_branch == "playground" {
                continue;
            }
            let newest = self
                .it
                .requests(change.iid)
                .await
                .into_iter()
                .next()
                .unwrap_or_default();
            let is_current = newest["subject"]["head"] == forge.head
                && newest["subject"]["target"] == format!("refs/heads/{}", forge.target_branch);
            let state = match newest["status"].as_str() {
                _ if !is_current => "not asked yet",
                Some("approved" | "skipped") => "success",
                Some("pending") => "pending",
                Some("rejected" | "expired") => "failed",
                _ => "not asked yet",
            };
            let key = (forge.head, forge.target_branch);
            let before = wanted.get(&key).map(|it| rank(it));
            if before.is_none_or(|it| it < rank(state)) {
                wanted.insert(key, state.to_owned());
            }
        }
        wanted
    }

    /// Calls that came before the forge's `Retry-After` was over, those on their way at that moment aside. A start in
    /// between forgets what was asked for before it.
    fn hasty(&self) -> Vec<String> {
        let mut hasty = Vec::new();
        let mut until: Option<(Instant, Instant)> = None;
        for call in self.it.gitlab.calls() {
            let started_since = |from: Instant| self.starts.iter().any(|it| *it > from && *it < call.at);
            if let Some((from, until)) = until
                && call.at > from + ON_THE_WAY
                && call.at < until
                && !started_since(from)
            {
                hasty.push(format!(
                    "{} {} {:?} after the 429",
                    call.method,
                    call.path,
                    call.at - from
                ));
            }
            if call.status == Some(429) {
                until = Some((call.at, call.at + Duration::from_secs(RETRY_AFTER)));
            }
        }
        hasty
    }

    /// Every commit in the gated branches is an approved one, or reported.
    async fn bypasses_missed(&self) -> Vec<String> {
        let reported: Vec<Value> = self.it.ada.journal("exception.unapproved_change").await;
        let approved: Vec<Value> = self.it.ada.journal("merge.answered").await;
        let told = |commit: &str| {
            let by = |it: &Value| {
                it["data"]["commit"] == commit || it["data"]["commits"].to_string().contains(commit)
            };
            reported.iter().any(by) || approved.iter().any(|it| it["data"]["commit"] == commit)
        };
        let mut missed = Vec::new();
        for change in &self.changes {
            let forge = self.it.gitlab.merge_request(PROJECT, change.iid);
            if forge.state != "merged" || forge.target_branch == "playground" {
                continue;
            }
            let covered = self.it.requests(change.iid).await.into_iter().any(|it| {
                matches!(it["status"].as_str(), Some("approved" | "skipped"))
                    && it["subject"]["head"] == forge.head
                    && it["subject"]["target"] == format!("refs/heads/{}", forge.target_branch)
            });
            let landed = forge
                .merge_commit_sha
                .clone()
                .unwrap_or_else(|| forge.head.clone());
            if !covered && !told(&landed) && !told(&forge.head) {
                missed.push(format!("!{} landed as {landed} and nobody was told", change.iid));
            }
        }
        missed
    }
}

async fn live(seed: u64) -> Result<usize, String> {
    let mut day = Day::begin(seed).await;
    for number in 0..HAPPENINGS {
        day.happen(number).await;
        let pause = Duration::from_millis(day.dice.below(250) as u64);
        tokio::time::sleep(pause).await;
    }
    day.heal();
    let healed = Instant::now();
    loop {
        let mut wrong = day.wrong().await;
        if wrong.is_empty() {
            wrong = day.bypasses_missed().await;
        }
        if wrong.is_empty() {
            break;
        }
        if healed.elapsed() > HEALED_MAX {
            return Err(format!(
                "seed {seed}: wrong after {HEALED_MAX:?}:\n  {}\nwhat happened:\n  {}\nlog:\n{}",
                wrong.join("\n  "),
                day.done.join("\n  "),
                day.it.appliance.log(),
            ));
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    // The fake knows nothing of starts, which forget what was asked for before them: `hasty` looks at those calls.
    let mut violations = day.it.gitlab.violations();
    violations.retain(|it| !it.ends_with("before the end of a Retry-After"));
    if !violations.is_empty() {
        let done = day.done.join("\n  ");
        return Err(format!("seed {seed}: {violations:#?}\nwhat happened:\n  {done}"));
    }
    let hasty = day.hasty();
    if !hasty.is_empty() {
        let done = day.done.join("\n  ");
        return Err(format!(
            "seed {seed}: inside Retry-After:\n  {}\nwhat happened:\n  {done}",
            hasty.join("\n  ")
        ));
    }
    Ok(day.it.gitlab.calls().len())
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|it| it.parse().ok())
}

#[test]
fn whatever_happens_every_status_ends_right_and_none_is_green_too_early() {
    let seeds = setting("SIGNEDAPPROVAL_CHAOS_SEEDS").unwrap_or(SEEDS);
    let from = setting("SIGNEDAPPROVAL_CHAOS_FROM").unwrap_or(1);
    let at_once = setting("SIGNEDAPPROVAL_CHAOS_AT_ONCE").unwrap_or(3).max(1);
    let started = Instant::now();
    let next = std::sync::atomic::AtomicU64::new(from);
    let failures = std::sync::Mutex::new(Vec::new());
    let calls = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    // Each on a thread of its own: a seed that panics fails alone.
                    let lived = std::thread::spawn(move || {
                        let runtime = tokio::runtime::Builder::new_multi_thread()
                            .worker_threads(2)
                            .enable_all()
                            .build();
                        runtime.expect("a runtime").block_on(live(seed))
                    });
                    match lived.join() {
                        Ok(Ok(made)) => {
                            calls.fetch_add(made, std::sync::atomic::Ordering::Relaxed);
                        }
                        Ok(Err(why)) => failures.lock().expect("not poisoned").push(why),
                        Err(_) => failures
                            .lock()
                            .expect("not poisoned")
                            .push(format!("seed {seed}: it panicked")),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("not poisoned");
    let good = seeds - failures.len() as u64;
    println!(
        "chaos: seeds {from} to {}: {good} of {seeds} ended exactly right, 0 wrong successes among them, {} calls to the \
         forge, {:.0} s",
        from + seeds - 1,
        calls.into_inner(),
        started.elapsed().as_secs_f64(),
    );
    assert!(
        failures.is_empty(),
        "{} of {seeds}:\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}
