//! Which scripts a page loads follows from what stands on it: what no part of it asks for is not loaded. What a script says to people
//! stands as attributes on its element, in the language of the page, so that one script serves all languages.

use crate::texts::{fixed, marked};
use crate::web::assets;
use askama::filters::{Escaper, Html};
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

/// What the scripts say to people: each text by the name under which its script asks for it (`words` of `app.js`). A script may ask
/// for the texts of `app.js` too. No two scripts share a name.
const TEXTS: [(&str, &[(&str, &str)]); 10] = [
    (
        "app.js",
        &[
            ("silent", marked!("The server did not answer. Try again.")),
            ("answered", marked!("The server answered {status}.")),
        ],
    ),
    (
        "audit.js",
        &[
            ("holds", marked!("{name}: everything holds")),
            ("invalid", marked!("{name}: NOT VALID")),
            (
                "bundle",
                marked!("Sign in to have a bundle verified here, or use the verify.py that lies in it."),
            ),
        ],
    ),
    (
        "confirm.js",
        &[(
            "other-call",
            marked!("The server asks to sign something else than this page sends. Load it again."),
        )],
    ),
    (
        "copy.js",
        &[
            ("copied", marked!("Copied")),
            ("by-hand", marked!("Copy it by hand")),
        ],
    ),
    (
        "countdown.js",
        &[
            ("minutes", marked!("{n} min")),
            ("hours", marked!("{hours} h {minutes} min")),
            ("left", marked!("{time} left")),
            ("over", marked!("time is over")),
        ],
    ),
    (
        "decide.js",
        &[
            (
                "other-subject",
                marked!("The server asks to sign something else than this page shows. Load it again."),
            ),
            ("comment", marked!("Say why: this needs a comment.")),
        ],
    ),
    (
        "editor.js",
        &[
            ("kept", marked!("Your draft is kept in this browser.")),
            (
                "not-kept",
                marked!(
                    "This browser can’t keep so large a draft: stay on this page, or copy the text before you leave."
                ),
            ),
            (
                "excess",
                marked!(
                    "This text has {bytes} bytes and a policy may have {max}: {over} too many. Nothing is checked or sent."
                ),
            ),
            ("too-large", marked!("Too large to be checked.")),
            (
                "signed-out",
                marked!("You are signed out. Sign in in another tab, then go on."),
            ),
            (
                "document-max",
                marked!("The server takes no more than 1 MiB for document and paths together."),
            ),
            (
                "unchecked",
                marked!("The server could not check this just now ({status})."),
            ),
            ("unanswered", marked!("The server did not answer.")),
            ("line", marked!("Line {line}")),
        ],
    ),
    (
        "live.js",
        &[
            (
                "newer",
                marked!("Newer at {at}: shown once pointer and focus are elsewhere"),
            ),
            ("updated", marked!("Updated {at}")),
            ("not-updated", marked!("Not updated: no answer at {at}")),
            ("no-more", marked!("Not updated any more: load the page again")),
        ],
    ),
    (
        "passkey.js",
        &[
            (
                "insecure",
                marked!("No passkeys here: the address must be https, or localhost."),
            ),
            (
                "closed",
                marked!("The passkey prompt was closed or ran out of time. Nothing was changed."),
            ),
            (
                "already",
                marked!("This device has a passkey here already. Sign in with it instead."),
            ),
            ("nowhere", marked!("Passkeys do not work at {host}.")),
            ("failed", marked!("The passkey did not work ({name}).")),
        ],
    ),
    (
        "phone.js",
        &[
            (
                "home-screen",
                marked!(
                    "On this device messages come to the home screen app alone: see below how to add it."
                ),
            ),
            (
                "no-push",
                marked!("This browser has no push. Use another one, or mail."),
            ),
            (
                "blocked",
                marked!(
                    "Messages from here are blocked in the browser’s own settings. Allow them there, then load this page again."
                ),
            ),
            ("told", marked!("Messages come to this device.")),
            ("untold", marked!("This device is not told yet.")),
            ("no-subscription", marked!("This did not work: {message}")),
        ],
    ),
];

/// How the address of a form begins that may take a passkey besides (`domain::danger`).
const DANGEROUS: [&str; 8] = [
    "/api/v1/people",
    "/api/v1/integrations/",
    "/api/v1/groups",
    "/api/v1/delegations\"",
    "/api/v1/erasures\"",
    "/api/v1/api-keys\"",
    "/api/v1/keys/",
    "/api/v1/sinks/",
];

/// The page with the scripts that it asks for. Text from outside that reads like an attribute can only make it load more of
/// our own.
pub fn with_scripts(page: String) -> String {
    if !page.contains(PLACE) {
        return page;
    }
    // It does the forms of every page, and the others take their pieces from it.
    let mut names: Vec<&str> = vec!["app.js"];
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
    let tags: Vec<String> = names.iter().map(|it| tag(it)).collect();
    page.replacen(PLACE, &tags.join("\n"), 1)
}

/// The element of a script, with its texts.
fn tag(script: &str) -> String {
    let mut tag = format!("<script type=\"module\" src=\"{}\"", assets::url(script));
    let texts = TEXTS
        .iter()
        .filter(|(of, _)| *of == script)
        .flat_map(|(_, it)| *it);
    for (name, text) in texts {
        let mut escaped = String::new();
        let _ = Html.write_escaped_str(&mut escaped, fixed(text));
        let _ = write!(tag, " data-say-{name}=\"{escaped}\"");
    }
    tag.push_str("></script>");
    tag
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

    #[test]
    fn a_script_asks_for_texts_that_there_are() {
        let file = |name: &str| {
            let path = format!("{}/assets/static/{name}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).expect("a script")
        };
        let names: Vec<&str> = TEXTS
            .iter()
            .flat_map(|(_, it)| it.iter().map(|(name, _)| *name))
            .collect();
        for name in &names {
            assert_eq!(
                names.iter().filter(|it| *it == name).count(),
                1,
                "two are called {name}"
            );
        }
        let of = |script: &str| {
            let texts = TEXTS
                .iter()
                .filter(|(it, _)| *it == script)
                .flat_map(|(_, it)| *it);
            texts.map(|(name, _)| *name).collect::<Vec<_>>()
        };
        let scripts = SCRIPTS
            .iter()
            .flat_map(|(_, it)| *it)
            .chain(CONFIRM)
            .chain(&["app.js"]);
        let mut asked = 0;
        for script in scripts {
            let text = file(script);
            for name in of(script) {
                assert!(
                    text.contains(&format!("\"{name}\"")),
                    "{script} never says {name}"
                );
            }
            // The names in what a call is given first.
            for call in ["words(", "kindly("] {
                for (at, _) in text.match_indices(call) {
                    let given = text[at + call.len()..]
                        .split([',', ')'])
                        .next()
                        .unwrap_or_default();
                    for name in given.split('"').skip(1).step_by(2) {
                        asked += 1;
                        let there = of(script).contains(&name) || of("app.js").contains(&name);
                        assert!(there, "{script} asks for a text called {name}");
                    }
                }
            }
        }
        assert!(asked > 20, "{asked}");
    }

    #[test]
    fn a_text_stands_on_its_script() {
        let made = with_scripts("<head><!--scripts--></head><p data-copy=\"x\">".to_owned());
        assert!(made.contains(" data-say-copied=\"Copied\""), "{made}");
        assert!(
            made.contains("data-say-answered=\"The server answered {status}.\""),
            "{made}"
        );
    }
}
