//! Which scripts a page loads follows from what stands on it: what no part of it asks for is not loaded.

use crate::web::assets;
use std::fmt::Write as _;

/// Where the frame has room for them.
const PLACE: &str = "<!--scripts-->";

/// An attribute that is worth nothing without its script, and the scripts in the order in which they run.
const SCRIPTS: [(&str, &[&str]); 17] = [
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
    ("data-editor", &["editor.js"]),
];

/// The page with the scripts that it asks for. Text from outside that reads like an attribute can only make it load more of
/// our own.
pub fn with_scripts(page: String) -> String {
    if !page.contains(PLACE) {
        return page;
    }
    let mut names: Vec<&str> = Vec::new();
    for (_, scripts) in SCRIPTS.iter().filter(|(name, _)| has(&page, name)) {
        for it in *scripts {
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
        let (before, after) = (page[..at].chars().next_back(), page[at + name.len()..].chars().next());
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
