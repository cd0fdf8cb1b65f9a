//! What a refusal must look like (RFC 9457). It checks the form and the type of the problem, never its wording.
#![allow(dead_code, reason = "the support offers more than any one test uses")]

use serde_json::Value;

use crate::support::appliance::Answer;

/// Asserts that an [`Answer`] is the problem document of this name and status, and gives the document.
///
/// `assert_problem!(answer, 403, "self-approval")`
macro_rules! assert_problem {
    ($answer:expr, $status:expr, $name:expr $(,)?) => {
        $crate::support::problem::check_problem(&$answer, $status, $name)
    };
}
pub(crate) use assert_problem;

/// The check behind [`assert_problem!`]: content type, and the members `type`, `title`, `status`, `detail`, `instance`.
#[track_caller]
pub fn check_problem(answer: &Answer, status: u16, name: &str) -> Value {
    assert_eq!(
        answer.status, status,
        "expected the problem {name:?}, got {answer:?}"
    );
    let document = check_form(answer);
    assert_eq!(document["type"], format!("/problems/{name}"), "{answer:?}");
    document
}

/// Asserts that an [`Answer`] is a well-formed problem document of any type with its own status.
#[track_caller]
pub fn check_form(answer: &Answer) -> Value {
    let content_type = answer.header("content-type").unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    assert_eq!(essence, "application/problem+json", "{answer:?}");
    let document: Value = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|e| panic!("a problem that is no JSON: {e}: {answer:?}"));
    let kind = document["type"]
        .as_str()
        .unwrap_or_else(|| panic!("`type` is not text: {answer:?}"));
    let name = kind
        .strip_prefix("/problems/")
        .unwrap_or_else(|| panic!("`type` is not a path of ours: {answer:?}"));
    assert!(
        !name.is_empty()
            && name
                .bytes()
                .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-'),
        "`type` is not in kebab case: {answer:?}"
    );
    assert_eq!(
        document["status"], answer.status,
        "`status` differs from the HTTP status: {answer:?}"
    );
    for member in ["title", "detail", "instance"] {
        let text = document[member]
            .as_str()
            .unwrap_or_else(|| panic!("`{member}` is not text: {answer:?}"));
        assert!(!text.trim().is_empty(), "`{member}` is empty: {answer:?}");
    }
    document
}
