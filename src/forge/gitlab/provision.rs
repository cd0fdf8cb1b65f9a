//! Changing GitLab's settings by a confirmed plan, and putting them back. Everything is read before it is changed and read
//! again after: an answer that sounds well and changed nothing counts as a failure.

use crate::domain::provision::{Alteration, Settings};
use crate::domain::text::{shortened, visible};
use crate::forge::gitlab::plan::{approval_settings, check_settings, holder, settings};
use crate::forge::gitlab::{GitLab, Limits, explained, pause, project_number, system_hook};
use crate::forge::{HookSecret, Restored, Tier};
use crate::outbound::{Call, Error, Method};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Kinds of things that are changed.
pub(super) const WEBHOOK: &str = "webhook";
pub(super) const SYSTEM_HOOK: &str = "system_hook";
pub(super) const PROTECTED: &str = "protected_branch";
pub(super) const PROJECT: &str = "project";
pub(super) const APPROVALS: &str = "approvals";
pub(super) const RULE: &str = "approval_rule";
pub(super) const CHECK: &str = "status_check";
/// Name of our approval rule and of our status check.
pub(super) const CHECK_NAME: &str = "SignedApproval";

/// How much of a list is read; more is an error.
const LIMITS: Limits = Limits {
    pages: 20,
    bytes: 4 * 1024 * 1024,
};
/// Attempts at a call that GitLab asks to be repeated, or at making an entry again that was taken away.
const TRIES: u32 = 3;
/// A longer wait than this is not waited for: the admin waits too.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Characters of a setting in a sentence.
const SHOWN_MAX: usize = 200;

/// What is there now: its number, where it has one, and its settings.
type Found = Option<(Option<u64>, Settings)>;

/// The settings of a webhook that leads here. Comments are not asked for: nobody reads them.
pub(super) fn wanted_hook(url: &str) -> Settings {
    settings([
        ("push_events", json!(true)),
        ("merge_requests_events", json!(true)),
        ("pipeline_events", json!(true)),
        ("job_events", json!(true)),
        ("deployment_events", json!(true)),
        ("push_events_branch_filter", json!("")),
        // Plain http has no certificate; such an address exists in evaluation alone.
        ("enable_ssl_verification", json!(url.starts_with("https:"))),
    ])
}

/// A webhook's settings, as far as `like` names them.
pub(super) fn hook_settings(raw: &Value, like: &Settings) -> Settings {
    let mut found = Settings::new();
    for name in like.keys() {
        let value = match name.as_str() {
            "push_events_branch_filter" => json!(raw[name].as_str().unwrap_or_default()),
            "enable_ssl_verification" => json!(raw[name].as_bool().unwrap_or(true)),
            _ => json!(raw[name].as_bool().unwrap_or(false)),
        };
        found.insert(name.clone(), value);
    }
    found
}

impl GitLab {
    /// See [`crate::forge::Forge::alter`].
    pub(crate) async fn alter(
        &self,
        forge_project_id: &str,
        change: &Alteration,
        secret: &HookSecret,
    ) -> Result<(Alteration, String), String> {
        let id = project_number(forge_project_id).map_err(|it| it.to_string())?;
        let now = self.found(id, change).await.map_err(told)?;
        let same = match (&now, &change.before) {
            (None, None) => true,
            (Some((_, now)), Some(before)) => now == before,
            _ => false,
        };
        if !same {
            return Err(
                "Somebody has changed it since the plan was made. Look at the plan again.".to_owned(),
            );
        }
        let made = self.make(id, change, now.as_ref(), &change.after, secret).await;
        // Whatever the answer was, what stands there counts.
        let after = self.found(id, change).await;
        match (made, after) {
            (Ok(note), Ok(Some((number, found)))) if found == change.after => {
                let number = number.map(|it| it.to_string());
                let mut change = change.clone();
                change.number = number.or(change.number);
                Ok((change, note))
            }
            (Err(_), Ok(Some((number, found))))
                if found == change.after && now.as_ref().is_none_or(|it| it.1 != found) =>
            {
                let mut change = change.clone();
                change.number = number.map(|it| it.to_string()).or(change.number);
                Ok((change, String::new()))
            }
            (Err(why), _) => Err(why),
            (Ok(_), Ok(_)) => Err("GitLab took it, and its settings are not what was asked for.".to_owned()),
            (Ok(_), Err(error)) => Err(format!(
                "It was asked for and can't be read back: {}.",
                explained(&error)
            )),
        }
    }

    /// See [`crate::forge::Forge::restore`].
    pub(crate) async fn restore(
        &self,
        forge_project_id: &str,
        change: &Alteration,
        certain: bool,
        secret: &HookSecret,
    ) -> Result<Restored, String> {
        let id = project_number(forge_project_id).map_err(|it| it.to_string())?;
        let now = self.found(id, change).await.map_err(told)?;
        let Some((number, found)) = &now else {
            return match &change.before {
                None => Ok(Restored::Unchanged),
                // Taken away and not made again: that was us.
                Some(before) if !certain => {
                    self.make(id, change, None, before, secret).await?;
                    self.is_back(id, change, String::new()).await
                }
                Some(_) => Ok(Restored::LeftAlone("It is no longer there.".to_owned())),
            };
        };
        let Some(before) = &change.before else {
            let ours = change
                .number
                .as_ref()
                .is_none_or(|it| number.map(|n| n.to_string()).as_ref() == Some(it));
            if *found != change.after || !ours {
                return Ok(Restored::LeftAlone(shown(found, &change.after)));
            }
            self.remove(id, change, *number).await?;
            return match self.found(id, change).await.map_err(told)? {
                None => Ok(Restored::Done(String::new())),
                Some(_) => Err("GitLab took it, and it is still there.".to_owned()),
            };
        };
        if found == before {
            return Ok(Restored::Unchanged);
        }
        // Flags of one form stand for themselves; an entry is one thing.
        let single = matches!(change.kind.as_str(), PROJECT | APPROVALS);
        if !single && *found != change.after {
            return Ok(Restored::LeftAlone(shown(found, &change.after)));
        }
        let back: Settings = before
            .iter()
            .filter(|(name, was)| {
                found.get(*name) == change.after.get(*name) && found.get(*name) != Some(was)
            })
            .map(|(name, was)| (name.clone(), was.clone()))
            .collect();
        if back.is_empty() {
            return Ok(Restored::LeftAlone(shown(found, &change.after)));
        }
        let target = if single { &back } else { before };
        self.make(id, change, now.as_ref(), target, secret).await?;
        let left: Vec<&str> = before
            .iter()
            .filter(|(name, was)| found.get(*name) != Some(was) && !back.contains_key(*name))
            .map(|(name, _)| name.as_str())
            .collect();
        let note = if single && !left.is_empty() {
            format!(
                "Somebody has changed {} since; that was left as it is.",
                left.join(", ")
            )
        } else {
            String::new()
        };
        let part = Alteration {
            before: Some(target.clone()),
            after: if single { back } else { change.after.clone() },
            ..change.clone()
        };
        self.is_back(id, &part, note).await
    }

    async fn is_back(&self, id: &str, change: &Alteration, note: String) -> Result<Restored, String> {
        let now = self.found(id, change).await.map_err(told)?;
        if now.map(|it| it.1) == change.before {
            Ok(Restored::Done(note))
        } else {
            Err("GitLab took it, and its settings are not what was asked for.".to_owned())
        }
    }

    /// What a change is about, as it stands now.
    async fn found(&self, id: &str, change: &Alteration) -> Result<Found, Error> {
        let picked = |raw: Value| -> Settings {
            let names = change.after.keys();
            names
                .map(|name| (name.clone(), json!(raw[name].as_bool().unwrap_or(false))))
                .collect()
        };
        Ok(match change.kind.as_str() {
            PROJECT => Some((None, picked(self.get(&["projects", id], &[]).await?))),
            APPROVALS => Some((None, picked(self.get(&["projects", id, "approvals"], &[]).await?))),
            PROTECTED => {
                let rules = self.rules(id).await?;
                let found = rules.into_iter().find(|it| it.name == change.name);
                // What was not planned with is not compared: a new entry has more settings than were asked for.
                found.map(|mut it| {
                    it.settings.retain(|name, _| change.after.contains_key(name));
                    (it.id, it.settings)
                })
            }
            WEBHOOK | SYSTEM_HOOK => {
                let all = self.whole(&hooks_of(id, &change.kind)).await?;
                let found = of_number(&all, "url", change);
                found.map(|it| (it["id"].as_u64(), hook_settings(it, &change.after)))
            }
            RULE => {
                let all = self.whole(&["projects", id, "approval_rules"]).await?;
                of_number(&all, "name", change).map(|it| (it["id"].as_u64(), approval_settings(it)))
            }
            CHECK => {
                let all = self.whole(&["projects", id, "external_status_checks"]).await?;
                of_number(&all, "external_url", change).map(|it| (it["id"].as_u64(), check_settings(it)))
            }
            _ => {
                return Err(Error::Refused(
                    "this version does not know that kind of change".to_owned(),
                ));
            }
        })
    }

    /// Makes it so. `now` is what stands there. The answer is what else there is to say.
    async fn make(
        &self,
        id: &str,
        change: &Alteration,
        now: Option<&(Option<u64>, Settings)>,
        target: &Settings,
        secret: &HookSecret,
    ) -> Result<String, String> {
        let number = now.and_then(|it| it.0).map(|it| it.to_string());
        match change.kind.as_str() {
            PROJECT => {
                self.send(Method::Put, &["projects", id], &json!(target), secret)
                    .await
                    .map_err(told)?;
            }
            APPROVALS => {
                self.send(
                    Method::Post,
                    &["projects", id, "approvals"],
                    &json!(target),
                    secret,
                )
                .await
                .map_err(told)?;
            }
            PROTECTED => {
                self.write_rule(id, &change.name, now.map(|it| &it.1), target, secret)
                    .await?;
            }
            WEBHOOK | SYSTEM_HOOK => return self.write_hook(id, change, now, target, secret).await,
            RULE => {
                let mut body = json!(target);
                body["name"] = json!(change.name);
                body["protected_branch_ids"] = self.branch_ids(id, target).await?;
                self.put_or_post(id, "approval_rules", number.as_deref(), body, secret)
                    .await?;
            }
            CHECK => {
                let mut body = json!({
                    "name": target["name"], "external_url": change.name, "shared_secret": secret.token.expose(),
                });
                body["protected_branch_ids"] = self.branch_ids(id, target).await?;
                self.put_or_post(id, "external_status_checks", number.as_deref(), body, secret)
                    .await?;
            }
            _ => return Err("This version does not know that kind of change.".to_owned()),
        }
        Ok(String::new())
    }

    async fn put_or_post(
        &self,
        id: &str,
        part: &str,
        number: Option<&str>,
        mut body: Value,
        secret: &HookSecret,
    ) -> Result<(), String> {
        if let Some(body) = body.as_object_mut() {
            body.remove("branches");
        }
        let answer = match number {
            Some(number) => {
                self.send(Method::Put, &["projects", id, part, number], &body, secret)
                    .await
            }
            None => {
                self.send(Method::Post, &["projects", id, part], &body, secret)
                    .await
            }
        };
        answer.map(drop).map_err(told)
    }

    /// The numbers of the protected branches that settings name.
    async fn branch_ids(&self, id: &str, target: &Settings) -> Result<Value, String> {
        let wanted = target
            .get("branches")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        if wanted.is_empty() {
            return Ok(json!([]));
        }
        let rules = self.rules(id).await.map_err(told)?;
        let mut ids = Vec::new();
        for name in wanted.iter().filter_map(Value::as_str) {
            let found = rules.iter().find(|it| it.name == name).and_then(|it| it.id);
            ids.push(found.ok_or_else(|| {
                format!(
                    "`{}` is not a protected branch, and only those can be named.",
                    visible(name)
                )
            })?);
        }
        Ok(json!(ids))
    }

    async fn write_hook(
        &self,
        id: &str,
        change: &Alteration,
        now: Option<&(Option<u64>, Settings)>,
        target: &Settings,
        secret: &HookSecret,
    ) -> Result<String, String> {
        let hooks = hooks_of(id, &change.kind);
        let mut body = json!(target);
        body["url"] = json!(change.name);
        if target.get("push_events_branch_filter").is_some_and(|it| it == "") {
            body["branch_filter_strategy"] = json!("all_branches");
        }
        // Putting back a webhook that was there never takes a secret away from it.
        body["token"] = json!(secret.token.expose());
        if secret.signing.is_some() {
            body["signing_token"] = json!(secret.token.expose());
        }
        let Some(number) = now.and_then(|it| it.0).map(|it| it.to_string()) else {
            if change.kind == WEBHOOK {
                body["note_events"] = json!(false);
            }
            let made = self
                .send(Method::Post, &hooks, &body, secret)
                .await
                .map_err(told)?;
            return Ok(proof(&made));
        };
        let path = [hooks.as_slice(), &[number.as_str()]].concat();
        let made = self.send(Method::Put, &path, &body, secret).await.map_err(told)?;
        let disabled = |it: &Value| it["alert_status"].as_str().is_some_and(|it| it != "executable");
        if !disabled(&made) {
            return Ok(proof(&made));
        }
        // GitLab enables a webhook again when a test of it is answered well.
        let test = [path.as_slice(), &["test", "push_events"]].concat();
        let tested = self.send(Method::Post, &test, &json!({}), secret).await;
        let now: Value = self.get(&path, &[]).await.map_err(told)?;
        match (disabled(&now), tested) {
            (false, _) => Ok(proof(&now)),
            (true, Ok(_)) => {
                Err("The webhook is right, and GitLab keeps it disabled although a test was sent.".to_owned())
            }
            (true, Err(error)) => Err(format!(
                "The webhook is right and still disabled, because its test failed: {}.",
                explained(&error)
            )),
        }
    }

    /// A protected branch. Where the edition can change an entry it is changed; else it is taken away and made anew, and the
    /// old one is made again if that fails.
    async fn write_rule(
        &self,
        id: &str,
        name: &str,
        now: Option<&Settings>,
        target: &Settings,
        secret: &HookSecret,
    ) -> Result<(), String> {
        let all = ["projects", id, "protected_branches"];
        let one = ["projects", id, "protected_branches", name];
        let Some(now) = now else {
            return self
                .send(Method::Post, &all, &new_rule(name, target), secret)
                .await
                .map(drop)
                .map_err(told);
        };
        let lists = ["push", "merge"].iter().any(|it| now.get(*it) != target.get(*it));
        if !lists {
            let body = json!({"allow_force_push": target["allow_force_push"]});
            return self
                .send(Method::Patch, &one, &body, secret)
                .await
                .map(drop)
                .map_err(told);
        }
        if matches!(self.tier(id).await, Tier::Premium | Tier::Ultimate) {
            let raw: Value = self.get(&one, &[]).await.map_err(told)?;
            let body = json!({
                "allow_force_push": target["allow_force_push"],
                "allowed_to_push": edits(&raw["push_access_levels"], &target["push"]),
                "allowed_to_merge": edits(&raw["merge_access_levels"], &target["merge"]),
            });
            return self
                .send(Method::Patch, &one, &body, secret)
                .await
                .map(drop)
                .map_err(told);
        }
        self.send(Method::Delete, &one, &Value::Null, secret)
            .await
            .map_err(told)?;
        let made = self
            .send(Method::Post, &all, &new_rule(name, target), secret)
            .await;
        let Err(error) = made else { return Ok(()) };
        let why = told(error);
        for attempt in 1..=TRIES {
            match self.send(Method::Post, &all, &new_rule(name, now), secret).await {
                Ok(_) => {
                    return Err(format!("{why} The entry is again as it was before."));
                }
                Err(_) if attempt < TRIES => pause(attempt).await,
                Err(_) => {}
            }
        }
        Err(format!(
            "{why} The old entry could not be made again either: `{}` is UNPROTECTED now. Protect it in GitLab, or undo.",
            visible(name)
        ))
    }

    async fn remove(&self, id: &str, change: &Alteration, number: Option<u64>) -> Result<(), String> {
        let number = number.map(|it| it.to_string()).unwrap_or_default();
        let number = number.as_str();
        let path = match change.kind.as_str() {
            PROTECTED => vec!["projects", id, "protected_branches", change.name.as_str()],
            WEBHOOK | SYSTEM_HOOK => [hooks_of(id, &change.kind).as_slice(), &[number]].concat(),
            RULE => vec!["projects", id, "approval_rules", number],
            CHECK => vec!["projects", id, "external_status_checks", number],
            _ => return Err("This version does not know that kind of change.".to_owned()),
        };
        // Nothing is sent but the number, so there is no secret to keep out.
        let call = self.call(Method::Delete, &path).map_err(told)?;
        self.repeated(call).await.map(drop).map_err(told)
    }

    /// A call that changes something, repeated only where GitLab itself asks for that. The secret never comes back in an error.
    async fn send(
        &self,
        method: Method,
        path: &[&str],
        body: &Value,
        secret: &HookSecret,
    ) -> Result<Value, Error> {
        let mut call = self.call(method, path)?.unseen(secret.token.clone());
        if !body.is_null() {
            call = call.json(body);
        }
        let reply = self.repeated(call).await?;
        if reply.body.is_empty() {
            return Ok(Value::Null);
        }
        reply.json()
    }

    pub(super) async fn repeated(&self, call: Call) -> Result<crate::outbound::Reply, Error> {
        let mut attempt = 1;
        loop {
            let answer = self.client.fetch(call.clone()).await;
            match &answer {
                Err(Error::Status {
                    code: 429 | 503,
                    retry_after,
                    ..
                }) if attempt < TRIES && retry_after.is_none_or(|it| it <= WAIT_MAX) => {
                    tokio::time::sleep(retry_after.unwrap_or(Duration::from_secs(1))).await;
                    attempt += 1;
                }
                _ => return answer,
            }
        }
    }

    /// A list, whole.
    pub(super) async fn whole(&self, path: &[&str]) -> Result<Vec<Value>, Error> {
        let listed = self
            .pages::<Value>(path, &[], LIMITS)
            .await
            .map_err(|it| it.error)?;
        if listed.whole {
            Ok(listed.items)
        } else {
            Err(Error::NotJson("the list is longer than can be read".to_owned()))
        }
    }
}

/// The one a change is about: by its number where that is known and there, else by its name.
fn of_number<'a>(all: &'a [Value], name: &str, change: &Alteration) -> Option<&'a Value> {
    let named = || all.iter().filter(|it| it[name] == change.name.as_str());
    let number = change.number.as_deref().and_then(|it| it.parse::<u64>().ok());
    let exact = number.and_then(|number| named().find(|it| it["id"].as_u64() == Some(number)));
    exact.or_else(|| named().next())
}

/// Where webhooks of a kind are.
fn hooks_of<'a>(id: &'a str, kind: &str) -> Vec<&'a str> {
    match kind {
        SYSTEM_HOOK => system_hook::HOOKS.to_vec(),
        _ => vec!["projects", id, "hooks"],
    }
}

/// How a webhook will prove where it comes from, as GitLab tells.
fn proof(made: &Value) -> String {
    match made["signing_token_present"].as_bool() {
        Some(true) => "GitLab signs its calls.",
        _ => "This GitLab signs no calls; they prove themselves by the secret token.",
    }
    .to_owned()
}

/// The body that makes an entry.
fn new_rule(name: &str, target: &Settings) -> Value {
    let mut body = json!({"name": name, "allow_force_push": target["allow_force_push"]});
    for (ours, level, list) in [
        ("push", "push_access_level", "allowed_to_push"),
        ("merge", "merge_access_level", "allowed_to_merge"),
    ] {
        match target[ours].as_array().map(Vec::as_slice) {
            // One role is what every edition takes.
            Some([one]) if one["access_level"].is_u64() => body[level] = one["access_level"].clone(),
            _ => body[list] = target[ours].clone(),
        }
    }
    if let Some(owners) = target.get("code_owner_approval_required") {
        body["code_owner_approval_required"] = owners.clone();
    }
    body
}

/// What makes one list of accesses into another: what is new, and the numbers of what goes.
fn edits(raw: &Value, wanted: &Value) -> Value {
    let raw = raw.as_array().map(Vec::as_slice).unwrap_or_default();
    let wanted = wanted.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut kept = BTreeSet::new();
    let mut out = Vec::new();
    for it in raw {
        let who = holder(it);
        if wanted.contains(&who) && kept.insert(who.to_string()) {
            continue;
        }
        out.push(json!({"id": it["id"], "_destroy": true}));
    }
    for it in wanted.iter().filter(|it| !kept.contains(&it.to_string())) {
        out.push(it.clone());
    }
    Value::Array(out)
}

/// How something is now, where it differs from what we made of it.
fn shown(found: &Settings, ours: &Settings) -> String {
    let other = found
        .iter()
        .filter(|(name, value)| ours.get(*name) != Some(value));
    let other: Vec<String> = other.map(|(name, value)| format!("{name} is {value}")).collect();
    if other.is_empty() {
        return "Somebody has made it anew since.".to_owned();
    }
    let words = shortened(&visible(&other.join(", ")), SHOWN_MAX);
    format!("Somebody has changed it since: {words}.")
}

/// A failed call as a sentence for the admin who waits for it.
fn told(error: Error) -> String {
    if let Error::Status {
        code: 422 | 400,
        excerpt,
        ..
    } = &error
    {
        let words = excerpt.to_ascii_lowercase();
        // Older GitLabs say only that the address is invalid.
        if words.contains("is blocked") || words.contains("local network") || words.contains("invalid url") {
            return format!(
                "{}. GitLab calls no private address until its administrator allows it: Admin → Settings → Network → Outbound \
                 requests: add this server's host to the allowlist, or tick “Allow requests to the local network from webhooks \
                 and integrations”. Then set the gate up again.",
                explained(&error)
            );
        }
    }
    format!("{}.", explained(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_are_exchanged_by_their_numbers() {
        let raw = json!([
            {"id": 7, "access_level": 40, "user_id": null, "group_id": null},
            {"id": 8, "access_level": 40, "user_id": 3, "group_id": null},
        ]);
        assert_eq!(
            edits(&raw, &json!([{"user_id": 3}])),
            json!([{"id": 7, "_destroy": true}])
        );
        assert_eq!(
            edits(&raw, &json!([{"access_level": 0}])),
            json!([{"id": 7, "_destroy": true}, {"id": 8, "_destroy": true}, {"access_level": 0}])
        );
        assert_eq!(
            edits(&raw, &json!([{"access_level": 40}, {"user_id": 3}])),
            json!([])
        );
    }

    #[test]
    fn one_role_is_said_as_every_edition_takes_it() {
        let target = settings([
            ("push", json!([{"access_level": 0}])),
            ("merge", json!([{"user_id": 3}])),
            ("allow_force_push", json!(false)),
        ]);
        assert_eq!(
            new_rule("main", &target),
            json!({"name": "main", "allow_force_push": false, "push_access_level": 0, "allowed_to_merge": [{"user_id": 3}]})
        );
    }

    #[test]
    fn a_blocked_address_is_explained() {
        let blocked = Error::Status {
            code: 422,
            retry_after: None,
            excerpt: json!({"error": "Invalid url given: URL is blocked: Requests to the local network are not allowed"})
                .to_string(),
        };
        let told = told(blocked);
        assert!(
            told.contains("Outbound requests") && told.contains("URL is blocked"),
            "{told}"
        );
    }
}
