//! Checks the fake GitLab's settings: tiers, webhooks, protected branches, rate limits, and each of their refusals.
//! Nothing here starts the appliance.

use serde_json::Value;
use serde_json::json;

use crate::fake_gitlab::P;
use crate::fake_gitlab::Scene;
use crate::support::forge::gitlab::state::Tier;

#[test]
fn a_tier_opens_what_it_carries_and_nothing_else() {
    let s = Scene::new();
    let paths = [
        "approval_rules",
        "approvals",
        "protected_environments",
        "external_status_checks",
    ];
    let codes = |token: &str| {
        paths.map(|path| {
            s.call("GET", &format!("/projects/{P}/{path}"), token, None)
                .status
        })
    };
    assert_eq!(codes(&s.token), [404, 404, 404, 401], "free");
    assert_eq!(s.get("/license").status, 403, "administrators only");
    s.gitlab.community_edition();
    assert_eq!(codes(&s.token), [404; 4], "the routes do not exist");
    let told = s.get("/metadata").json();
    assert_eq!(
        (&told["enterprise"], &told["version"]),
        (&json!(false), &json!("19.5.0"))
    );
    s.gitlab.set_tier(Tier::Premium);
    let told = s.get("/metadata").json();
    assert_eq!(
        (&told["enterprise"], &told["version"]),
        (&json!(true), &json!("19.5.0-ee"))
    );
    assert_eq!(s.get("/projects/42").json()["id"], Value::from(P));
}
