//! Whether a version of a policy could ask for less than the one before. It has to be seen that it asks for as much: what
//! can't be compared counts as weaker, since the price of that is a passkey too many.

use crate::domain::policy::{Approver, DefaultRule, Document, Method, Require, RuleEffect};

/// What is asked where a document says nothing.
fn built_in() -> Require {
    Require {
        methods: vec![Method::Passkey, Method::Biometric],
        quorum: 1,
        ttl_max: None,
        approvers: Vec::new(),
        independent: false,
        break_glass: false,
        allow_author: false,
        allow_contributor: false,
        match_code: false,
        device_bound: false,
    }
}

/// The rule for what nothing matches; `None`: it is blocked.
fn default_of(document: Option<&Document>) -> Option<Require> {
    match document.and_then(Document::default_rule) {
        Some(DefaultRule::Block) => None,
        Some(DefaultRule::Require(it)) => Some(it.clone()),
        None => Some(built_in()),
    }
}

/// Whether everybody who may fill `new` could fill `old`, and there is no more of it to be had.
fn within(new: &[Approver], old: &[Approver]) -> bool {
    old.is_empty() || (!new.is_empty() && new.iter().all(|it| old.contains(it)))
}

/// Whether methods ask for as much: a stronger one satisfies a weaker, so the weakest of a list is what counts.
pub fn methods_hold(new: &[Method], old: &[Method]) -> bool {
    new.iter().min() >= old.iter().min()
}

/// Whether approvers are no others than before.
pub fn approvers_hold(new: &[Approver], old: &[Approver]) -> bool {
    within(new, old)
}

fn as_strict(new: &Require, old: &Require) -> bool {
    let time = match (new.ttl_max, old.ttl_max) {
        (_, None) => true,
        (Some(new), Some(old)) => new <= old,
        (None, Some(_)) => false,
    };
    time && new.quorum >= old.quorum
        && methods_hold(&new.methods, &old.methods)
        && within(&new.approvers, &old.approvers)
        && (new.independent || !old.independent)
        && (new.match_code || !old.match_code)
        && (new.device_bound || !old.device_bound)
        && (!new.allow_author || old.allow_author)
        && (!new.allow_contributor || old.allow_contributor)
}

/// Whether `after` could ask for less than what holds: `before`, or the built-in rule where there is no version yet.
pub fn weaker(before: Option<&Document>, after: &Document) -> bool {
    if after.change_quorum() < before.map_or(1, Document::change_quorum) {
        return true;
    }
    let fallback = default_of(before);
    match (&fallback, default_of(Some(after))) {
        (None, Some(_)) => return true,
        (Some(old), Some(new)) if !as_strict(&new, old) => return true,
        _ => {}
    }
    let old_rules = before.map_or(&[][..], Document::rules);
    let new_rules = after.rules();
    let same = |name: &str| old_rules.iter().find(|it| it.name == name);
    // What asked goes on to ask for as much, of the same things.
    let kept = old_rules.iter().all(|old| match &old.effect {
        RuleEffect::Require(require) if !require.break_glass => new_rules.iter().any(|new| {
            let RuleEffect::Require(it) = &new.effect else {
                return false;
            };
            new.name == old.name && new.match_ == old.match_ && !it.break_glass && as_strict(it, require)
        }),
        _ => true,
    });
    // What lets through was there before, and a rule that is new asks for no less than what held without it.
    let granted = new_rules.iter().all(|new| match (&new.effect, same(&new.name)) {
        (RuleEffect::Require(it), old) if !it.break_glass => {
            let known = old.is_some_and(|old| {
                old.match_ == new.match_ && matches!(&old.effect, RuleEffect::Require(it) if !it.break_glass)
            });
            known || fallback.as_ref().is_some_and(|fallback| as_strict(it, fallback))
        }
        (RuleEffect::Skip, Some(old)) => old.match_ == new.match_ && old.effect == RuleEffect::Skip,
        (RuleEffect::Require(it), Some(old)) => {
            let RuleEffect::Require(before) = &old.effect else {
                return false;
            };
            old.match_ == new.match_ && before.break_glass && as_strict(it, before)
        }
        (_, None) => false,
    });
    !(kept && granted)
}

#[cfg(test)]
mod tests {
    use crate::domain::policy::Document;
    use crate::domain::policy::weaker::weaker;
    use serde_json::{Value, json};

    fn document(value: &Value) -> Document {
        Document::parse(value.to_string().as_bytes()).expect("a policy")
    }

    fn base() -> Value {
        json!({
            "change_quorum": 2,
            "rules": [
                { "name": "Production", "match": { "environment": "production" },
                  "require": { "method": ["passkey"], "quorum": 2, "approvers": ["group:release"], "ttl_max": 900 } },
                { "name": "Docs", "match": { "paths": ["docs/**"] }, "action": "skip" },
            ],
            "default": { "method": ["passkey"], "quorum": 1 },
        })
    }

    #[test]
    fn what_asks_for_as_much_is_not_weaker() {
        let before = document(&base());
        assert!(!weaker(Some(&before), &before));
        let mut stricter = base();
        stricter["change_quorum"] = json!(3);
        stricter["rules"][0]["require"]["quorum"] = json!(3);
        stricter["rules"][0]["require"]["ttl_max"] = json!(60);
        stricter["rules"][0]["require"]["method"] = json!(["biometric"]);
        stricter["rules"][0]["require"]["match_code"] = json!(true);
        stricter["default"]["quorum"] = json!(2);
        assert!(!weaker(Some(&before), &document(&stricter)));
        // Nothing is skipped any more, and a rule asks for more than the default did.
        stricter["rules"][1] = json!({ "name": "Migrations", "match": { "paths": ["db/**"] },
            "require": { "method": ["passkey"], "quorum": 2 } });
        assert!(!weaker(Some(&before), &document(&stricter)));
        // A first version that asks for what the built-in rule asks.
        let first = json!({ "rules": [{ "name": "All", "match": {}, "require": { "method": ["passkey"], "quorum": 1 } }] });
        assert!(!weaker(None, &document(&first)));
    }

    #[test]
    fn anything_less_is_weaker() {
        let before = document(&base());
        let changes: [(&str, Value); 14] = [
            ("/change_quorum", json!(1)),
            ("/rules/0/require/quorum", json!(1)),
            ("/rules/0/require/method", json!(["totp"])),
            ("/rules/0/require/ttl_max", json!(901)),
            (
                "/rules/0/require/approvers",
                json!(["group:release", "group:others"]),
            ),
            ("/rules/0/require/approvers", json!(["group:others"])),
            ("/rules/0/match", json!({ "environment": "staging" })),
            ("/rules/0/name", json!("Renamed")),
            ("/rules/1/match", json!({ "paths": ["**"] })),
            ("/rules/0/require/break_glass", json!(true)),
            ("/default/method", json!(["totp"])),
            (
                "/rules/0/require",
                json!({ "method": ["passkey"], "quorum": 2, "approvers": ["group:release"] }),
            ),
            (
                "/rules/1",
                json!({ "name": "Docs", "match": { "paths": ["docs/**"], "branch": "main" }, "action": "skip" }),
            ),
            (
                "/rules/1",
                json!({ "name": "More", "match": { "paths": ["docs/**"] }, "action": "skip" }),
            ),
        ];
        for (at, value) in changes {
            let mut changed = base();
            *changed.pointer_mut(at).unwrap_or(&mut Value::Null) = value.clone();
            if at == "/rules/0/require/break_glass" {
                changed["rules"][0]["require"]["break_glass"] = value.clone();
            }
            assert!(weaker(Some(&before), &document(&changed)), "{at} {value}");
        }
        let mut fewer = base();
        fewer["rules"].as_array_mut().expect("rules").remove(0);
        assert!(weaker(Some(&before), &document(&fewer)));
        let blocked = document(&json!({ "rules": [], "default": "block" }));
        let opened = document(&json!({ "rules": [], "default": { "method": ["passkey"] } }));
        assert!(weaker(Some(&blocked), &opened));
        assert!(!weaker(Some(&opened), &blocked));
        let skip = document(&json!({ "rules": [{ "name": "All", "match": {}, "action": "skip" }] }));
        assert!(weaker(None, &skip));
        let codes = document(&json!({ "rules": [], "default": { "method": ["totp"] } }));
        assert!(weaker(None, &codes));
    }
}
