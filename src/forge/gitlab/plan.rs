//! What setting a gate up would change on GitLab: reads the settings, changes nothing.

use crate::domain::policy::NamePattern;
use crate::domain::project::Enforcement;
use crate::domain::provision::{Alteration, PlannedChange, Settings};
use crate::domain::text::{shortened, visible};
use crate::forge::gitlab::inspect::{MAINTAINER, Maintainers, covers, listed, overlaps};
use crate::forge::gitlab::provision::{
    APPROVALS, CHECK, CHECK_NAME, PROJECT, PROTECTED, RULE, WEBHOOK, hook_settings, wanted_hook,
};
use crate::forge::gitlab::{GitLab, explained, project_number};
use crate::forge::{HookScope, Identity, PlannedStep, ProvisionPlan, Tier, Wanted};
use crate::outbound::Error;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Characters of a name in a sentence.
const NAME_MAX: usize = 80;

/// What a protected branch is, as far as it is planned with.
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) id: Option<u64>,
    /// It belongs to a group above the project and is changed there.
    pub(super) inherited: bool,
    /// Push, merge and the rest, in the form that is recorded.
    pub(super) settings: Settings,
    /// The same in words.
    words: String,
}

/// A project's own flags, as far as they are planned with.
#[derive(Deserialize)]
struct Flags {
    #[serde(default)]
    only_allow_merge_if_pipeline_succeeds: Option<bool>,
    #[serde(default)]
    allow_merge_on_skipped_pipeline: Option<bool>,
    #[serde(default)]
    only_allow_merge_if_all_status_checks_passed: Option<bool>,
}

#[derive(Deserialize)]
struct Me {
    #[serde(default)]
    is_admin: Option<bool>,
}

/// Everything a plan is made of while it is made.
pub(super) struct Draft<'a> {
    pub(super) of: &'a Wanted<'a>,
    me: &'a Identity,
    /// Why our token can change nothing there.
    no_right: Option<String>,
    tier: Tier,
    steps: Vec<PlannedStep>,
    pub(super) satisfied: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl GitLab {
    /// See [`crate::forge::Forge::provision_plan`].
    pub(crate) async fn provision_plan(&self, of: &Wanted<'_>) -> Result<ProvisionPlan, Error> {
        let id = project_number(of.forge_project_id)?;
        let (project, me) = (self.project(id).await?, self.identify().await?);
        let flags: Flags = self.get(&["projects", id], &[]).await?;
        let no_right = no_right(&me, project.access_level, project.archived);
        // Without the role, the refusals that tell a licence mean nothing.
        let tier = match (me.tier, &no_right) {
            (Tier::Unknown, None) => self.tier(id).await,
            (tier, _) => tier,
        };
        let mut draft = Draft {
            of,
            me: &me,
            no_right,
            tier,
            steps: Vec::new(),
            satisfied: Vec::new(),
            warnings: Vec::new(),
        };
        match of.hook {
            HookScope::Project => self.plan_webhook(id, &mut draft).await,
            HookScope::System => self.plan_system_hook(&mut draft).await,
        }
        let rules = match self.rules(id).await {
            Ok(rules) => rules,
            Err(error) => {
                draft.warnings.push(format!(
                    "The protected branches can't be read ({}), so they are planned as if there were none.",
                    explained(&error)
                ));
                draft
                    .no_right
                    .get_or_insert_with(|| "the protected branches can't be read".to_owned());
                Vec::new()
            }
        };
        let protecting = of.enforcement != Enforcement::CommitStatus;
        if protecting {
            draft.protections(&rules);
        }
        match of.enforcement {
            Enforcement::MergeBroker => self.warn_of_maintainers(id, &mut draft).await,
            Enforcement::BotApproval => self.plan_approval(id, &rules, &mut draft).await,
            Enforcement::ExternalStatusCheck => {
                self.plan_check(id, &rules, &mut draft).await;
                draft.flag(
                    "only_allow_merge_if_all_status_checks_passed",
                    flags.only_allow_merge_if_all_status_checks_passed,
                    true,
                    "Let GitLab merge only when all external status checks have passed.",
                    "Settings → Merge requests → Status checks must succeed",
                );
            }
            Enforcement::CommitStatus => draft.flag(
                "only_allow_merge_if_pipeline_succeeds",
                flags.only_allow_merge_if_pipeline_succeeds,
                true,
                "Let GitLab merge only after a successful pipeline, so that a pending status holds.",
                "Settings → Merge requests → Pipelines must succeed",
            ),
        }
        draft.flag(
            "allow_merge_on_skipped_pipeline",
            flags.allow_merge_on_skipped_pipeline,
            false,
            "Don't let a skipped pipeline count as a successful one.",
            "Settings → Merge requests → Skipped pipelines are considered successful (off)",
        );
        draft.general_warnings(self.get::<Me>(&["user"], &[]).await.ok());
        let about = [id, me.account.id.as_str(), of.hook_url];
        Ok(ProvisionPlan::new(
            of.enforcement,
            &about,
            draft.steps,
            draft.satisfied,
            draft.warnings,
        ))
    }

    /// All protected branches, in the form that is recorded.
    pub(super) async fn rules(&self, id: &str) -> Result<Vec<Rule>, Error> {
        let own = self.get::<crate::forge::gitlab::User>(&["user"], &[]).await?.id;
        let raw = self.whole(&["projects", id, "protected_branches"]).await?;
        Ok(raw.iter().map(|it| rule(it, own)).collect())
    }

    async fn plan_webhook(&self, id: &str, draft: &mut Draft<'_>) {
        let url = draft.of.hook_url;
        let click = format!(
            "Settings → Webhooks → Add new webhook: URL {url}, triggers Push, Merge request, Pipeline, Job and Deployment \
             events, the secret that was shown when this GitLab was connected"
        );
        let wanted = wanted_hook(url);
        let list = match &draft.no_right {
            Some(_) => Ok(Vec::new()),
            None => self.whole(&["projects", id, "hooks"]).await,
        };
        let (list, unread) = match list {
            Ok(list) => (list, None),
            Err(error) => (
                Vec::new(),
                Some(format!(
                    "the webhooks can't be read: {said_error}",
                    said_error = explained(&error)
                )),
            ),
        };
        let own: Vec<&Value> = list.iter().filter(|it| it["url"] == url).collect();
        let enabled = |it: &Value| it["alert_status"].as_str().is_none_or(|it| it == "executable");
        let right = |it: &Value| hook_settings(it, &wanted) == wanted;
        if own.iter().any(|it| right(it) && enabled(it)) {
            draft
                .satisfied
                .push("A webhook of the project leads here and tells of everything that is needed.".into());
            return;
        }
        let found = own.iter().find(|it| enabled(it)).or(own.first());
        let (what, before, number, was) = match found {
            None => (
                "Add a webhook, so that this server hears at once of pushes and merge requests.",
                "none leads here".to_owned(),
                None,
                None,
            ),
            Some(it) if right(it) => (
                "Enable the webhook again, by testing it.",
                "GitLab has disabled it after failures".to_owned(),
                it["id"].as_u64(),
                Some(hook_settings(it, &wanted)),
            ),
            Some(it) => {
                let now = hook_settings(it, &wanted);
                let lacks = wanted
                    .iter()
                    .filter(|(name, value)| now.get(*name) != Some(value));
                let lacks: Vec<&str> = lacks.map(|(name, _)| hook_word(name)).collect();
                let said_lacks = lacks.join(", ");
                let mut before = format!("it leads here and lacks: {said_lacks}");
                if !enabled(it) {
                    before.push_str("; GitLab has disabled it after failures");
                }
                (
                    "Mend the webhook: its events, and the secret by which this server knows it.",
                    before,
                    it["id"].as_u64(),
                    Some(now),
                )
            }
        };
        let after = match url.starts_with("https:") {
            true => format!(
                "tells {url} of pushes, merge requests, pipelines, jobs and deployments; the certificate is verified"
            ),
            false => format!("tells {url} of pushes, merge requests, pipelines, jobs and deployments"),
        };
        let change = planned("webhook", what, WEBHOOK, url, number, was, wanted);
        draft.step(change, before, after, unread, &click);
    }

    async fn warn_of_maintainers(&self, id: &str, draft: &mut Draft<'_>) {
        if draft.names_one() {
            return;
        }
        let mut unread = Vec::new();
        let sentence = match self.maintainers(id, draft.me, &mut unread).await {
            Maintainers::Known(names) => listed(&names).map(|said_who| {
                format!(
                    "{said_who} can still merge by hand: this edition of GitLab can't name one account, so every Maintainer may. \
                     Make them Developers under Manage → Members."
                )
            }),
            Maintainers::Unknown => Some(
                "Every Maintainer can still merge by hand, and the members can't be read. Make everybody but this server's \
                 account Developer under Manage → Members."
                    .to_owned(),
            ),
        };
        draft.warnings.extend(sentence);
    }

    async fn plan_approval(&self, id: &str, rules: &[Rule], draft: &mut Draft<'_>) {
        let missing = match draft.tier {
            Tier::Free => {
                Some("this edition of GitLab has no approval rules (they come with Premium)".to_owned())
            }
            _ => None,
        };
        let wanted: [(&str, bool, &str); 6] = [
            ("reset_approvals_on_push", true, "a push takes all approvals away"),
            (
                "disable_overriding_approvers_per_merge_request",
                true,
                "nobody edits the rule in a merge request",
            ),
            // GitLab calls a rule fulfilled that nobody may fill. With these two, nothing in a merge request can take the one
            // who may approve away; that people don't approve their own is this server's to see to.
            (
                "merge_requests_author_approval",
                true,
                "who opened it can't make the rule void",
            ),
            (
                "merge_requests_disable_committers_approval",
                false,
                "who is named as committer can't make the rule void",
            ),
            (
                "require_password_to_approve",
                false,
                "no password is asked, which a token can't give",
            ),
            (
                "require_reauthentication_to_approve",
                false,
                "nobody has to sign in again, which a token can't",
            ),
        ];
        let readable = draft.no_right.is_none() && missing.is_none();
        let (now, unread) = match readable {
            false => (Value::Null, None),
            true => match self.get::<Value>(&["projects", id, "approvals"], &[]).await {
                Ok(now) => (now, None),
                Err(error) => (
                    Value::Null,
                    Some(format!(
                        "the approval settings can't be read: {said_error}",
                        said_error = explained(&error)
                    )),
                ),
            },
        };
        let cannot = missing.clone().or(unread);
        let (mut was, mut will) = (Settings::new(), Settings::new());
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (name, value, words) in wanted {
            // What this GitLab does not tell of, it does not have.
            let told = now[name].as_bool();
            let unknown = !now.is_object() && !name.starts_with("require_");
            if told == Some(value) || (told.is_none() && !unknown) {
                continue;
            }
            was.insert(name.to_owned(), json!(told.unwrap_or(!value)));
            will.insert(name.to_owned(), json!(value));
            before.push(name);
            after.push(words);
        }
        if will.is_empty() {
            draft
                .satisfied
                .push("The approval settings keep approvals from being worn out or given away.".into());
        } else {
            let change = planned(
                "approvals",
                "Set the approval settings so that the approval can't be kept over a push or given by an author.",
                APPROVALS,
                "",
                None,
                Some(was),
                will,
            );
            let before = format!("otherwise: {}", before.join(", "));
            draft.step(
                change,
                before,
                after.join("; "),
                cannot.clone(),
                "Settings → Merge requests → Approval settings",
            );
        }

        let bot = own_id(draft.me);
        let branches = draft.protected_names(rules);
        let click = "Settings → Merge requests → Approval rules → Add: name SignedApproval, 1 approval required, approver this \
                     server's account alone, the gated protected branches";
        let (found, unread) = match readable {
            false => (Vec::new(), None),
            true => match self.whole(&["projects", id, "approval_rules"]).await {
                Ok(list) => (list, None),
                Err(error) => (
                    Vec::new(),
                    Some(format!(
                        "the approval rules can't be read: {said_error}",
                        said_error = explained(&error)
                    )),
                ),
            },
        };
        let own = found.iter().find(|it| it["name"] == CHECK_NAME);
        let will = settings([
            ("approvals_required", json!(1)),
            ("user_ids", json!([bot])),
            ("group_ids", json!([])),
            ("branches", json!(branches)),
            ("applies_to_all_protected_branches", json!(false)),
        ]);
        let was = own.map(approval_settings);
        let enough = was.as_ref().is_some_and(|was| {
            let all = was["applies_to_all_protected_branches"] == true;
            let has = |it: &String| {
                was["branches"]
                    .as_array()
                    .is_some_and(|list| list.contains(&json!(it)))
            };
            was["approvals_required"].as_u64().is_some_and(|it| it >= 1)
                && was["user_ids"] == json!([bot])
                && was["group_ids"] == json!([])
                && (all || branches.iter().all(has))
        });
        if enough {
            draft
                .satisfied
                .push("The approval rule SignedApproval asks for this server's approval.".into());
            return;
        }
        let what = "Ask for one approval that only this server's account can give, on the gated branches.";
        let before = match own {
            None => "no rule of that name".to_owned(),
            Some(_) => "the rule SignedApproval asks for something else".to_owned(),
        };
        let after = format!(
            "rule SignedApproval: 1 approval by this server's account, for {}",
            quoted(&branches)
        );
        let number = own.and_then(|it| it["id"].as_u64());
        let change = planned("approval_rule", what, RULE, CHECK_NAME, number, was, will);
        draft.step(change, before, after, missing.or(unread), click);
    }

    async fn plan_check(&self, id: &str, rules: &[Rule], draft: &mut Draft<'_>) {
        let url = draft.of.hook_url;
        let missing = match draft.tier {
            Tier::Free | Tier::Premium => Some(
                "this edition of GitLab has no external status checks (they come with Ultimate)".to_owned(),
            ),
            _ => None,
        };
        let (found, unread) = match draft.no_right.is_none() && missing.is_none() {
            false => (Vec::new(), None),
            true => match self.whole(&["projects", id, "external_status_checks"]).await {
                Ok(list) => (list, None),
                Err(error) => (
                    Vec::new(),
                    Some(format!(
                        "the status checks can't be read: {said_error}",
                        said_error = explained(&error)
                    )),
                ),
            },
        };
        let branches = draft.protected_names(rules);
        let own = found.iter().find(|it| it["external_url"] == url);
        // Another address under our name may hold somebody's secret: it is neither taken over nor recorded.
        let taken = own.is_none() && found.iter().any(|it| it["name"] == CHECK_NAME);
        let taken = taken.then(|| {
            format!("a status check named {CHECK_NAME} leads somewhere else; rename or remove it first")
        });
        let will = settings([("name", json!(CHECK_NAME)), ("branches", json!(branches))]);
        let was = own.map(check_settings);
        let enough = own.is_some_and(|it| it["hmac"].as_bool() != Some(false))
            && was.as_ref().is_some_and(|was| {
                let bound = was["branches"].as_array().cloned().unwrap_or_default();
                bound.is_empty() || branches.iter().all(|it| bound.contains(&json!(it)))
            });
        if enough {
            draft
                .satisfied
                .push("An external status check asks this server.".into());
            return;
        }
        let before = if own.is_some() {
            "it asks this server, without a secret or not for all gated branches"
        } else {
            "none asks this server"
        };
        let after = format!("check {CHECK_NAME} asks {url} about {}", quoted(&branches));
        let number = own.and_then(|it| it["id"].as_u64());
        let what = "Let GitLab ask this server before it merges into a gated branch.";
        let change = planned("status_check", what, CHECK, url, number, was, will);
        let click = format!(
            "Settings → Merge requests → Status checks → Add: name {CHECK_NAME}, URL {url}, HMAC shared secret: the \
             webhook's, the gated branches"
        );
        draft.step(change, before.into(), after, missing.or(unread).or(taken), &click);
    }
}

impl Draft<'_> {
    /// GitLab can name one account on a protected branch.
    fn names_one(&self) -> bool {
        matches!(self.tier, Tier::Premium | Tier::Ultimate)
    }

    pub(super) fn step(
        &mut self,
        change: PlannedChange,
        before: String,
        after: String,
        cannot: Option<String>,
        click: &str,
    ) {
        let why = cannot.or_else(|| self.no_right.clone());
        let by_hand = why.map(|why| {
            let mut why = why.chars();
            let first = why.next().map(|it| it.to_uppercase().to_string());
            let said_why = first.unwrap_or_default() + why.as_str();
            format!("{said_why}. In GitLab: {click}.")
        });
        self.steps.push(PlannedStep {
            change,
            before,
            after,
            by_hand,
        });
    }

    fn flag(&mut self, name: &str, now: Option<bool>, wanted: bool, what: &str, click: &str) {
        let now = now.unwrap_or(false);
        let word = |on| if on { "on" } else { "off" };
        if now == wanted {
            let title = title(click);
            self.satisfied.push(match wanted {
                true => format!("In GitLab “{title}” is on."),
                false => format!("In GitLab “{title}” is off."),
            });
            return;
        }
        let change = planned(
            name,
            what,
            PROJECT,
            "",
            None,
            Some(settings([(name, json!(now))])),
            settings([(name, json!(wanted))]),
        );
        let title = title(click);
        let before = match now {
            true => format!("“{title}” is on"),
            false => format!("“{title}” is off"),
        };
        self.step(change, before, word(wanted).to_owned(), None, click);
    }

    /// The protected branches that will take the gated ones in.
    fn protected_names(&self, rules: &[Rule]) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for pattern in self.of.branch_patterns {
            let exact = rules.iter().any(|it| it.name == *pattern);
            let wider = rules.iter().find(|it| covers(&it.name, pattern));
            let name = match wider {
                Some(rule) if !exact && !self.is_planned(pattern) => rule.name.clone(),
                _ => pattern.clone(),
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn is_planned(&self, pattern: &str) -> bool {
        let id = format!("protect:{pattern}");
        self.steps.iter().any(|it| it.change.id == id)
    }

    fn protections(&mut self, rules: &[Rule]) {
        for pattern in self.of.branch_patterns {
            let shown = name(pattern);
            if pattern.contains(['?', '[', '{']) {
                let will = self.wanted_rule(None);
                let change = self.protecting(pattern, None, None, will.clone());
                let why =
                    format!("GitLab's protected branches know `*` alone, so {shown} can't be said there");
                let after = words_of(&will);
                let click =
                    "Settings → Repository → Protected branches: one entry for each branch that it means";
                self.step(
                    change,
                    "not protected by one entry".into(),
                    after,
                    Some(why),
                    click,
                );
                continue;
            }
            let exact = rules.iter().find(|it| it.name == *pattern);
            let wider = rules
                .iter()
                .filter(|it| it.name != *pattern && covers(&it.name, pattern));
            let covered = wider.clone().any(|it| self.holds(it) && self.lets_us(it));
            match exact {
                Some(rule) if self.holds(rule) && self.lets_us(rule) => {
                    let said_words = &rule.words;
                    self.satisfied
                        .push(format!("{shown} is protected as it should be: {said_words}."));
                }
                Some(rule) => self.narrow(rule),
                None if covered => {
                    self.satisfied
                        .push(format!("{shown} is protected by a wider entry as it should be."));
                }
                None => {
                    let will = self.wanted_rule(None);
                    let change = self.protecting(pattern, None, None, will.clone());
                    let click = self.click(pattern);
                    self.step(change, "not protected".into(), words_of(&will), None, &click);
                }
            }
            let opening: Vec<&Rule> = rules
                .iter()
                .filter(|it| it.name != *pattern && overlaps(&it.name, pattern) && !self.holds(it))
                .collect();
            for rule in opening {
                let inside = NamePattern::new(pattern).is_ok() && covers(pattern, &rule.name);
                if self.is_planned(&rule.name) || self.of.branch_patterns.contains(&rule.name) {
                    continue;
                }
                if inside {
                    self.narrow(rule);
                } else {
                    self.by_hand(rule, &shown);
                }
            }
        }
    }

    /// A wider entry that lets somebody through: other branches hang on it, so a person decides.
    fn by_hand(&mut self, rule: &Rule, pattern: &str) {
        let will = self.wanted_rule(Some(rule));
        let change = self.protecting(&rule.name, rule.id, Some(rule.settings.clone()), will.clone());
        let why = format!(
            "the entry {} takes in other branches too, and of several entries GitLab goes by the one that lets through most, \
             so it opens {pattern} as well",
            name(&rule.name)
        );
        self.step(
            change,
            rule.words.clone(),
            words_of(&will),
            Some(why),
            "Settings → Repository → Protected branches: narrow this entry, or make it name other branches only",
        );
    }

    fn narrow(&mut self, rule: &Rule) {
        let will = self.wanted_rule(Some(rule));
        let change = self.protecting(&rule.name, rule.id, Some(rule.settings.clone()), will.clone());
        let cannot = rule
            .inherited
            .then(|| "the entry belongs to a group above the project and is changed there".to_owned());
        let click = self.click(&rule.name);
        self.step(change, rule.words.clone(), words_of(&will), cannot, &click);
    }

    fn click(&self, name: &str) -> String {
        let merge = match (self.of.enforcement, self.names_one()) {
            (Enforcement::MergeBroker, true) => "this server's account alone",
            _ => "Maintainers",
        };
        format!(
            "Settings → Repository → Protected branches → {}: Allowed to merge: {merge}; Allowed to push and merge: No one",
            shortened(&visible(name), NAME_MAX)
        )
    }

    fn protecting(
        &self,
        name: &str,
        number: Option<u64>,
        was: Option<Settings>,
        will: Settings,
    ) -> PlannedChange {
        let branch = self::name(name);
        let mut what = match (self.of.enforcement, self.names_one()) {
            (Enforcement::MergeBroker, true) => {
                format!("Protect {branch}: nobody pushes directly, and only this server's account merges.")
            }
            (Enforcement::MergeBroker, false) => {
                format!("Protect {branch}: nobody pushes directly, and only Maintainers merge.")
            }
            _ => format!("Protect {branch}: nobody pushes directly."),
        };
        let anew = was.as_ref().is_some_and(|was| {
            let lists = ["push", "merge"].iter().any(|it| was.get(*it) != will.get(*it));
            lists && !self.names_one()
        });
        if anew {
            what.push(' ');
            what.push_str(
                "This edition of GitLab can't change an entry, so it is taken away and made anew at once: for about a second \
                 the branch is unprotected. If that fails, the old entry is made again.",
            );
        }
        planned(
            &format!("protect:{name}"),
            &what,
            PROTECTED,
            name,
            number,
            was,
            will,
        )
    }

    /// How an entry is to be; what need not change stays.
    fn wanted_rule(&self, rule: Option<&Rule>) -> Settings {
        let mut will = rule.map(|it| it.settings.clone()).unwrap_or_default();
        if !rule.is_some_and(|it| self.push_holds(it)) {
            will.insert("push".into(), json!([{"access_level": 0}]));
        }
        let merges = rule.is_some_and(|it| self.merge_holds(it) && self.lets_us(it));
        if !merges {
            let one = self.of.enforcement == Enforcement::MergeBroker && self.names_one();
            let who = if one {
                json!([{"user_id": own_id(self.me)}])
            } else {
                json!([{"access_level": MAINTAINER}])
            };
            will.insert("merge".into(), who);
        }
        will.insert("allow_force_push".into(), json!(false));
        will
    }

    /// An entry lets nobody through who should not.
    fn holds(&self, rule: &Rule) -> bool {
        self.push_holds(rule) && self.merge_holds(rule)
    }

    fn push_holds(&self, rule: &Rule) -> bool {
        let own = json!({"user_id": own_id(self.me)});
        let nobody = json!({"access_level": 0});
        let list = rule.settings["push"].as_array();
        list.is_some_and(|it| it.iter().all(|it| *it == own || *it == nobody))
            && rule.settings["allow_force_push"] == false
    }

    fn merge_holds(&self, rule: &Rule) -> bool {
        if self.of.enforcement != Enforcement::MergeBroker {
            return true;
        }
        let own = json!({"user_id": own_id(self.me)});
        let nobody = json!({"access_level": 0});
        let maintainers = json!({"access_level": MAINTAINER});
        let list = rule.settings["merge"].as_array();
        list.is_some_and(|it| {
            it.iter()
                .all(|it| *it == own || *it == nobody || (!self.names_one() && *it == maintainers))
        })
    }

    /// Where this server merges, an entry lets it.
    fn lets_us(&self, rule: &Rule) -> bool {
        if self.of.enforcement != Enforcement::MergeBroker {
            return true;
        }
        let own = json!({"user_id": own_id(self.me)});
        let list = rule.settings["merge"].as_array();
        list.is_some_and(|it| {
            it.iter().any(|it| {
                *it == own
                    || it["access_level"]
                        .as_u64()
                        .is_some_and(|level| (1..=u64::from(MAINTAINER)).contains(&level))
            })
        })
    }

    fn general_warnings(&mut self, me: Option<Me>) {
        let text = match self.of.enforcement {
            Enforcement::MergeBroker => {
                "Whoever is Owner of the project or administrator of GitLab can change these settings again. That is found \
                 and reported within five minutes."
            }
            Enforcement::BotApproval => {
                "Whoever may change the project's settings can change or remove the rule. That is found and reported within \
                 five minutes."
            }
            Enforcement::ExternalStatusCheck => {
                "GitLab lets every Developer of the project answer a status check by its API, so this shows the gate and \
                 does not lock it. Such a merge is found and reported."
            }
            Enforcement::CommitStatus => {
                "A commit status is a display: every Developer can post one under the same name, and whoever may push to the \
                 branch needs no merge request. Such a change is found and reported, not prevented."
            }
        };
        self.warnings.push(text.to_owned());
        if self.tier == Tier::Unknown && self.of.enforcement != Enforcement::CommitStatus {
            self.warnings.push(
                "GitLab does not tell its edition to this token, so the plan uses what every edition has."
                    .to_owned(),
            );
        }
        if me.and_then(|it| it.is_admin) == Some(true) && self.of.hook == HookScope::Project {
            self.warnings.push(
                "The token is an administrator's, so one system hook could serve all projects of this GitLab instead of a \
                 webhook for each. It would tell of pushes and merge requests, not of pipelines."
                    .to_owned(),
            );
        }
    }
}

/// Why a token can change no settings of a project.
fn no_right(me: &Identity, level: Option<u32>, archived: bool) -> Option<String> {
    if archived {
        return Some("the project is archived".to_owned());
    }
    if !me.scopes.is_empty() && !me.scopes.iter().any(|it| it == "api") {
        return Some("the token has not the scope api".to_owned());
    }
    let said_role = match level? {
        MAINTAINER.. => return None,
        30.. => "Developer",
        20.. => "Reporter",
        _ => "less than Reporter",
    };
    Some(format!(
        "the token's account is {said_role} of the project, and this takes a Maintainer"
    ))
}

pub(super) fn planned(
    id: &str,
    what: &str,
    kind: &str,
    name: &str,
    number: Option<u64>,
    before: Option<Settings>,
    after: Settings,
) -> PlannedChange {
    PlannedChange {
        id: id.to_owned(),
        what: what.to_owned(),
        alteration: Alteration {
            kind: kind.to_owned(),
            name: name.to_owned(),
            number: number.map(|it| it.to_string()),
            before,
            after,
        },
    }
}

pub(super) fn settings<const N: usize>(members: [(&str, Value); N]) -> Settings {
    BTreeMap::from(members.map(|(name, value)| (name.to_owned(), value)))
}

fn own_id(me: &Identity) -> u64 {
    me.account.id.parse().unwrap_or_default()
}

/// A branch's name in a sentence.
fn name(name: &str) -> String {
    format!("`{}`", shortened(&visible(name), NAME_MAX).replace('`', "'"))
}

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|it| name(it)).collect();
    listed(&names).unwrap_or_default()
}

/// The setting's own title at the end of the way to it.
fn title(click: &str) -> &str {
    let title = click.rsplit('→').next().unwrap_or(click).trim();
    title.strip_suffix(" (off)").unwrap_or(title)
}

fn hook_word(name: &str) -> &str {
    match name {
        "push_events" => "pushes",
        "merge_requests_events" => "merge requests",
        "pipeline_events" => "pipelines",
        "job_events" => "jobs",
        "deployment_events" => "deployments",
        "enable_ssl_verification" => "SSL verification",
        _ => "pushes to all branches",
    }
}

/// Reads an entry; `own` is our account's number.
fn rule(raw: &Value, own: u64) -> Rule {
    let mut settings = Settings::new();
    let mut words = [String::new(), String::new()];
    for ((field, ours), words) in [("push_access_levels", "push"), ("merge_access_levels", "merge")]
        .into_iter()
        .zip(&mut words)
    {
        let raw = raw[field].as_array().map(Vec::as_slice).unwrap_or_default();
        settings.insert(ours.to_owned(), holders(raw));
        *words = holder_words(raw, own);
    }
    let force = raw["allow_force_push"].as_bool().unwrap_or(false);
    settings.insert("allow_force_push".to_owned(), json!(force));
    if let Some(owners) = raw["code_owner_approval_required"].as_bool() {
        settings.insert("code_owner_approval_required".to_owned(), json!(owners));
    }
    let [said_push, said_merge] = words;
    Rule {
        name: raw["name"].as_str().unwrap_or_default().to_owned(),
        id: raw["id"].as_u64(),
        inherited: raw["inherited"].as_bool().unwrap_or(false),
        settings,
        words: match force {
            true => format!("push: {said_push}; merge: {said_merge}; also by force"),
            false => format!("push: {said_push}; merge: {said_merge}"),
        },
    }
}

/// Whom a list of accesses names, each once and in order: what is compared and recorded.
pub(super) fn holders(raw: &[Value]) -> Value {
    let mut all: Vec<Value> = raw.iter().map(holder).collect();
    all.sort_by_key(Value::to_string);
    all.dedup();
    Value::Array(all)
}

/// Whom one access names.
pub(super) fn holder(raw: &Value) -> Value {
    for field in ["user_id", "group_id", "deploy_key_id"] {
        if let Some(id) = raw[field].as_u64() {
            return json!({ field: id });
        }
    }
    json!({"access_level": raw["access_level"].as_u64().unwrap_or(0)})
}

fn holder_words(raw: &[Value], own: u64) -> String {
    let names: Vec<String> = raw
        .iter()
        .map(|it| match (it["user_id"].as_u64(), it["access_level"].as_u64()) {
            (Some(user), _) if user == own => "this server's account".to_owned(),
            _ => {
                let words = it["access_level_description"].as_str().unwrap_or("somebody");
                shortened(&visible(words), NAME_MAX)
            }
        })
        .collect();
    listed(&names).unwrap_or_else(|| "No one".to_owned())
}

/// The words of what an entry is to be.
fn words_of(will: &Settings) -> String {
    let who = |list: &Value| match list.as_array().map(Vec::as_slice) {
        Some([one]) if one["access_level"] == 0 => "No one",
        Some([one]) if one["access_level"] == MAINTAINER => "Maintainers",
        Some([one]) if one["user_id"].is_u64() => "this server's account",
        _ => "as now",
    };
    let (said_push, said_merge) = (who(&will["push"]), who(&will["merge"]));
    format!("push: {said_push}; merge: {said_merge}")
}

fn numbers(list: &Value) -> Value {
    let mut ids: Vec<u64> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it["id"].as_u64())
        .collect();
    ids.sort_unstable();
    json!(ids)
}

fn branch_names(list: &Value) -> Value {
    let names = list.as_array().into_iter().flatten();
    let mut names: Vec<&str> = names.filter_map(|it| it["name"].as_str()).collect();
    names.sort_unstable();
    json!(names)
}

/// An approval rule in the form that is recorded.
pub(super) fn approval_settings(raw: &Value) -> Settings {
    let users = if raw["users"].is_array() {
        &raw["users"]
    } else {
        &raw["eligible_approvers"]
    };
    let all = raw["applies_to_all_protected_branches"]
        .as_bool()
        .unwrap_or(false);
    settings([
        (
            "approvals_required",
            json!(raw["approvals_required"].as_u64().unwrap_or(0)),
        ),
        ("user_ids", numbers(users)),
        ("group_ids", numbers(&raw["groups"])),
        (
            "branches",
            if all {
                json!([])
            } else {
                branch_names(&raw["protected_branches"])
            },
        ),
        ("applies_to_all_protected_branches", json!(all)),
    ])
}

/// A status check in the form that is recorded.
pub(super) fn check_settings(raw: &Value) -> Settings {
    settings([
        ("name", raw["name"].clone()),
        ("branches", branch_names(&raw["protected_branches"])),
    ])
}
