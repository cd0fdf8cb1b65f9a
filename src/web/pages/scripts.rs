//! Which scripts a page loads follows from what stands on it: what no part of it asks for is not loaded.

use crate::web::assets;
use std::fmt::Write as _;

/// Where the frame has room for them.
const PLACE: &str = "<!--scripts-->";

/// What asks for a passkey where a call needs one.
const CONFIRM: &[&str] = &["passkey.js", "confirm.js"];

/// An attribute that is worth nothing without its script, and the scripts in the order in which they run.
const SCRIPTS: [(&str, &[&str]); 19] = [
    ("data-show", &["show.js"]),
    ("data-copy", &["copy.js"]),
    ("data-print", &["copy.js"]),
    ("data-until", &["countdown.js"]),
    ("data-answer", &["passkey.js", "decide.js"]),
    ("data-watch", &["passkey.js", "decide.js"]),
    ("data-enrol", &["passkey.js", "enter.js"]),
    ("data-login", &["passkey.js", "enter.js"]),
    ("data-add-passkey", &["passkey.js", "enter.js"]),
    ("data-set-up", &["passkey.js", "codes.js"]),
    ("data-push", &["phone.js"]),
    ("data-inbox", &["phone.js"]),
    ("data-live", &["live.js"]),
    ("data-zone", &["phone.js"]),
    ("data-export", &["audit.js"]),
    ("data-drop", &["audit.js"]),
    ("data-making", &["audit.js"]),
    ("data-editor", &["editor.js"]),
    (
        "data-save-policy",
        &["passkey.js", "confirm.js", "save-policy.js"],
    ),
];

/// How the address of a form begins that may take a passkey besides (`domain::danger`).
const DANGEROUS: [&str; 7] = [
    "/api/v1/people",
    "/api/v1/integrations/",
    "/api/v1/groups",
    "/api/v1/delegations\"",
    "/api/v1/erasures\"",
    "/api/v1/api-keys\"",
    "/api/v1/keys/",
];

/// The page with the scripts that it asks for. Text from outside that reads like an attribute can only make it load more of
/// our own.
pub fn with_scripts(page: String) -> String {
    if !page.contains(PLACE) {
        return page;
    }
    let mut names: Vec<&str> = Vec::new();
    let asked = SCRIPTS.iter().filter(|(name, _)| has(&page, name));
    let dangerous = DANGEROUS
        .iter()
        .any(|it| page.contains(&format!(" data-to=\"{it}")));
    for scripts in asked.map(|(_, it)| *it).chain(dangerous.then_some(CONFIRM)) {
        for it in scripts {
            if !names.contains(it) {
                names.push(it);
            }
        }
    }
    let mut tags = String::new();
    for it in names {
        let url = assets::url(it);
        let _ = write!(tags, "\n<script type=\"module\" src=\"{url}\"></script>");
    }
    page.replacen(PLACE, &tags, 1)
}

/// Whether some element has the attribute.
fn has(page: &str, name: &str) -> bool {
    page.match_indices(name).any(|(at, _)| {
        let (before, after) = (
            page[..at].chars().next_back(),
            page[at + name.len()..].chars().next(),
        );
        before.is_some_and(char::is_whitespace) && matches!(after, Some(' ' | '=' | '>' | '\n'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_loads_what_it_asks_for_once() {
        let page = "<head><!--scripts--></head><a data-print><p data-copy=\"x\"><b data-answer=\"\">";
        let made = with_scripts(page.to_owned());
        let at = |name: &str| made.find(&format!("/static/{name}?v="));
        assert!(at("passkey.js") < at("decide.js") && at("passkey.js").is_some());
        assert_eq!(made.matches("copy.js").count(), 1);
        let longer = with_scripts("<!--scripts--><b data-drop-draft>".to_owned());
        assert!(!longer.contains("audit.js"), "another attribute");
        assert!(at("phone.js").is_none() && !made.contains(PLACE));
    }
}
