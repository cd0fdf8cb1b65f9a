//! The description against the routes, and against itself.

use crate::web::openapi::{Content, areas, document, operation_id};
use crate::web::routes;
use std::collections::BTreeSet;

/// Method and path of everything below `/api/v1` that is served.
fn served() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (path, methods) in routes::listed() {
        if !path.starts_with("/api/v1/") {
            continue;
        }
        for names in methods {
            // `GET, HEAD` is one route.
            let name = names.split(',').next().unwrap_or_default();
            found.insert((name.to_ascii_lowercase(), path.to_owned()));
        }
    }
    found
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let described: BTreeSet<(String, String)> = areas()
        .iter()
        .flat_map(|it| &it.operations)
        .map(|it| (it.method.to_owned(), it.path.to_owned()))
        .collect();
    let served = served();
    assert!(served.len() > 60, "{}", served.len());
    let missing: Vec<_> = served.difference(&described).collect();
    assert!(
        missing.is_empty(),
        "served and not described: {missing:?}\nAdd an `Operation` for each to the file of its area in src/web/openapi/ \
         (pipelines, people, administration, forges, rules): `Operation::post(path, title).who(…).body(…).answers(…)`, \
         with the same path as in src/web/routes.rs. Every status it may refuse with besides those that follow from who \
         calls, its parameters and its body goes into `.refuses(&[…])`."
    );
    let gone: Vec<_> = described.difference(&served).collect();
    assert!(
        gone.is_empty(),
        "described in src/web/openapi/ and not served: {gone:?}"
    );
}

/// Beginnings of paths that are about one request, or about the caller's own things.
const NOBODY_ELSES: &[&str] = &[
    "/api/v1/approvals/",
    "/api/v1/enrolment",
    "/api/v1/me/",
    "/api/v1/session",
    "/api/v1/verify",
];
/// What else is no change of the configuration: it asks, tries, looks over, confirms or makes a copy.
const NOT_CONFIGURATION: &[&str] = &[
    "post /api/v1/audit/exports",
    "post /api/v1/audit/reviews",
    "delete /api/v1/audit/exports/{id}",
    "post /api/v1/backups",
    "post /api/v1/erasures/preview",
    "post /api/v1/exceptions/{id}/review",
    "post /api/v1/integrations/{id}/projects/{pid}/check",
    "post /api/v1/policies/simulate",
    "post /api/v1/policies/validate",
    "post /api/v1/policies/{name}/what-would-change",
    "post /api/v1/proposals/{id}/confirmation",
    "post /api/v1/proposals/{id}/confirmation/options",
    "post /api/v1/sinks/{id}/test",
];

#[test]
fn every_change_of_the_configuration_takes_a_reason() {
    for area in areas() {
        for it in &area.operations {
            let name = format!("{} {}", it.method, it.path);
            let takes = it.parameters.iter().any(|it| it.name == "X-Reason");
            let outside = NOBODY_ELSES.iter().any(|begin| it.path.starts_with(begin));
            let wanted = it.method != "get" && !outside && !NOT_CONFIGURATION.contains(&name.as_str());
            assert_eq!(
                takes, wanted,
                "{name}: a change of the configuration takes `Stated` (src/web/reason.rs) in its handler, wraps its command \
                 with the reason and is described with `.reason()`; anything else stands in NOT_CONFIGURATION"
            );
        }
    }
}

#[test]
fn operations_have_names_of_their_own_and_a_good_answer() {
    let mut names = BTreeSet::new();
    for area in areas() {
        for it in &area.operations {
            assert!(names.insert(operation_id(it)), "{} twice", operation_id(it));
            assert!(
                !it.answers.is_empty(),
                "{} {} has no good answer",
                it.method,
                it.path
            );
            assert!(
                !it.title.is_empty() && !it.title.ends_with('.'),
                "{} {}",
                it.method,
                it.path
            );
            let reads = it.method == "get";
            assert!(
                !reads || matches!(it.body, Content::Nothing),
                "{} has a body",
                it.path
            );
        }
    }
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    let document = document("https://approvals.example", "0.0.0", "session");
    let text = document.to_string();
    for reference in text.split("\"#/").skip(1).filter_map(|it| it.split('"').next()) {
        let found = reference.split('/').try_fold(&document, |at, name| at.get(name));
        assert!(found.is_some(), "#/{reference}");
    }
}
