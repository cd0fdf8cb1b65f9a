//! The message catalogue: `assets/messages/en.toml` lists every text of the templates and of the code that people read, once, in
//! the order of the files. It is written from them by
//! `SIGNEDAPPROVAL_TEST_WRITE_MESSAGES=1 cargo test --test it messages::`, never by hand.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use signedapproval::texts::Language;

const CATALOGUE: &str = "assets/messages/en.toml";
const WRITE: &str = "SIGNEDAPPROVAL_TEST_WRITE_MESSAGES";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below a directory with this ending, sorted, each with its text.
fn files(below: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join(below)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("a directory").flatten() {
            let path: PathBuf = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|it| it == ending) {
                let text = fs::read_to_string(&path).expect("UTF-8");
                let name = path.strip_prefix(root()).expect("below the root");
                found.push((name.display().to_string(), text));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "nothing below {below}");
    found
}

/// A text as it stands in the code.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    /// With its values' names in braces.
    text: String,
    /// The form for one, where it has a number.
    one: Option<String>,
}

/// What a file's texts are, and what is wrong with how they are written.
#[derive(Default)]
struct Texts {
    found: Vec<Found>,
    wrong: Vec<String>,
}

impl Texts {
    fn add(&mut self, text: &str) {
        if text.trim() != text {
            self.wrong.push(format!(
                "“{text}” begins or ends with white space, and would not be found"
            ));
        }
        let found = Found {
            text: spaced(text),
            one: None,
        };
        self.found.push(found);
    }

    fn add_counted(&mut self, one: &str, other: &str) {
        let found = Found {
            text: spaced(other),
            one: Some(spaced(one)),
        };
        self.found.push(found);
    }
}

/// All white space as one space, none around.
fn spaced(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// A literal at the beginning of a text: what it says, and what stands behind it. `None` if there is none.
fn literal(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    if let Some(raw) = text.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let begun = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let (inner, rest) = begun.split_once(&end)?;
        return Some((inner.to_owned(), rest));
    }
    let begun = text.strip_prefix('"')?;
    let mut said = String::new();
    let mut chars = begun.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((said, &begun[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => said.push('\n'),
                't' => said.push('\t'),
                '\n' => {
                    let behind = chars.as_str();
                    let skipped = behind.len() - behind.trim_start().len();
                    for _ in behind[..skipped].chars() {
                        chars.next();
                    }
                }
                it => said.push(it),
            },
            it => said.push(it),
        }
    }
    None
}

/// The names of a text's values.
fn names(text: &str) -> Vec<String> {
    let mut names: Vec<String> = text
        .split('{')
        .skip(1)
        .filter_map(|it| Some(it.split_once('}')?.0.to_owned()))
        .filter(|it| !it.is_empty() && it.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// What stands up to the parenthesis that ends it, without what stands in strings.
fn arguments(text: &str) -> String {
    let mut depth = 1;
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some((_, behind)) = (c == '"').then(|| literal(rest)).flatten() {
            out.push_str("\"\"");
            rest = behind;
            continue;
        }
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => (),
        }
        if depth == 0 {
            break;
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// The names of `name = value`, at the level of the arguments.
fn named(arguments: &str) -> Vec<String> {
    let mut depth = 0;
    let mut names = Vec::new();
    let mut piece = String::new();
    for c in arguments.chars().chain([',']) {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                if let Some((name, value)) = piece.split_once('=')
                    && !value.starts_with(['=', '>'])
                {
                    names.push(name.trim().to_owned());
                }
                piece.clear();
                continue;
            }
            _ => (),
        }
        piece.push(c);
    }
    names.retain(|it| it.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    names.sort();
    names
}

/// The texts of Rust code: `t!`, `plural!`, `marked!`.
fn of_code(text: &str) -> Texts {
    let mut texts = Texts::default();
    // Tests stand at the end of a file.
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut calls: Vec<(usize, &str)> = ["t!(", "plural!(", "marked!(", "to.say(", "to.say_counted("]
        .iter()
        .flat_map(|call| code.match_indices(call).map(|(at, _)| (at, *call)))
        .collect();
    calls.sort_unstable();
    for (at, call) in calls {
        let before = code[..at].chars().next_back();
        let line = code[..at].rsplit('\n').next().unwrap_or_default();
        let is_macro = call.ends_with("!(");
        if (is_macro && before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '`'))
            || line.contains("//")
        {
            continue;
        }
        let behind = &code[at + call.len()..];
        let here = behind.lines().next().unwrap_or_default();
        if call == "plural!(" || call == "to.say_counted(" {
            let Some((_, forms)) = behind.split_once(',') else {
                continue;
            };
            let pair = literal(forms).and_then(|(one, rest)| {
                let (other, rest) = literal(rest.trim_start().strip_prefix(',')?)?;
                Some((one, other, rest))
            });
            match pair {
                Some((one, other, rest)) => {
                    let mut given = named(&arguments(rest));
                    given.push("n".to_owned());
                    given.sort();
                    let mut wanted = names(&other);
                    wanted.extend(names(&one));
                    wanted.push("n".to_owned());
                    wanted.sort();
                    wanted.dedup();
                    if is_macro && given != wanted {
                        texts
                            .wrong
                            .push(format!("{here}: it names {wanted:?} and is given {given:?}"));
                    }
                    texts.add_counted(&one, &other);
                }
                None => texts.wrong.push(format!(
                    "{call}{here}: the count is a name or a call without a comma, and its forms are literals"
                )),
            }
        } else {
            match literal(behind) {
                Some((said, rest)) => {
                    let (wanted, given) = (names(&said), named(&arguments(rest)));
                    if call == "t!(" && wanted != given {
                        texts
                            .wrong
                            .push(format!("{said}: it names {wanted:?} and is given {given:?}"));
                    }
                    texts.add(&said);
                }
                None if call == "marked!(" && behind.starts_with('$') => (),
                None => texts.wrong.push(format!("{call}{here}: a text is a literal")),
            }
        }
    }
    texts
}

/// Where people are told something by pages that did not compose it: these say it in whole sentences.
const BELOW: &[&str] = &[
    "src/audit/",
    "src/domain/",
    "src/effects/",
    "src/engine/",
    "src/forge/",
    "src/identity/",
    "src/listen/",
    "src/outbound/",
    "src/sink/",
    "src/signing/",
    "src/store/",
    "src/web/",
];
/// Where sentences are for programs, operators and mails.
const NOT_BELOW: &[&str] = &[
    "src/web/pages/",
    "src/web/openapi/",
    "src/effects/notify/",
    "src/web/metrics.rs",
];

/// Where also what is no sentence is shown to people: what is wrong with a policy, and what a gate's plan does.
const PHRASES: &[&str] = &[
    "src/domain/policy/document.rs",
    "src/domain/policy/explain.rs",
    "src/domain/policy/glob.rs",
    "src/domain/policy/json.rs",
    "src/domain/policy/question.rs",
    "src/forge/gitlab/plan.rs",
    "src/forge/gitlab/system_hook.rs",
    "src/outbound/outcome.rs",
];

/// The sentences of code below the pages, which say them by `said`: every literal that begins and ends like a sentence. Values
/// are named by what stands in their braces.
fn sentences(name: &str, text: &str) -> Vec<String> {
    let here = |list: &[&str]| list.iter().any(|it| name.starts_with(it));
    if !here(BELOW) || here(NOT_BELOW) || name.ends_with("tests.rs") || name.contains("/tests/") {
        return Vec::new();
    }
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = Vec::new();
    for (at, said) in literals(code) {
        let before = &code[..at];
        let for_people = ![
            "expect(",
            "error!(",
            "warn!(",
            "info!(",
            "debug!(",
            "error = %error, ",
            "panic!(",
            "b",
            "r",
            "#",
        ]
        .iter()
        .any(|it| before.trim_end().ends_with(it));
        // The titles of problems are no sentences, and are shown all the same.
        let title =
            name == "src/web/problem.rs" && said.starts_with(char::is_uppercase) && said.contains(' ');
        // And so are the words by which the domain calls its own things for people.
        let within = before.rfind("fn ").map_or("", |it| &before[it + 3..]);
        let within = within.split('(').next().unwrap_or_default();
        let arm = before.trim_end().trim_end_matches('{').trim_end().ends_with("=>");
        let word = ["word", "words"].iter().any(|it| within.ends_with(it)) && arm;
        let phrase = PHRASES.contains(&name) && is_phrase(&said);
        if for_people && !is_log(before) && (title || word || phrase || is_sentence(&said)) {
            found.push(named_values(&said));
        }
    }
    found
}

/// What is begun for the log, not for a person.
fn is_log(before: &str) -> bool {
    before.lines().last().is_some_and(|it| it.contains("tracing::"))
}

/// The literals of code, each with where it begins.
fn literals(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let here = &rest[at..];
        if here.starts_with("//") {
            rest = here.split_once('\n').map_or("", |it| it.1);
        } else if let Some(behind) = here.strip_prefix("'\"'") {
            rest = behind;
        } else if let Some((said, behind)) = here.starts_with('"').then(|| literal(here)).flatten() {
            found.push((code.len() - here.len(), said));
            rest = behind;
        } else {
            rest = &here[1..];
        }
    }
    found
}

fn is_sentence(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_uppercase() || c == '“' || c == '{');
    let plain: String = text
        .split('{')
        .enumerate()
        .map(|(at, it)| {
            if at == 0 {
                it
            } else {
                it.split_once('}').map_or("", |it| it.1)
            }
        })
        .collect();
    let words = plain
        .split_whitespace()
        .filter(|it| it.starts_with(char::is_alphabetic))
        .count();
    begins
        && words >= 3
        && text.ends_with(['.', '…', '?', ':'])
        && !text.contains("{{")
        && !text.contains("\n\n")
}

/// At least two words, and nothing but them, their marks and what stands in backticks or braces.
fn is_phrase(text: &str) -> bool {
    let mut bare = String::new();
    for (at, it) in text.split('`').enumerate() {
        bare.push_str(if at % 2 == 0 { it } else { "x" });
    }
    while let Some((before, behind)) = bare.split_once('{') {
        bare = format!("{before}x{}", behind.split_once('}').map_or("", |it| it.1));
    }
    let words = bare
        .split_whitespace()
        .filter(|it| *it != "x" && it.chars().any(char::is_alphabetic))
        .count();
    // What leads to a setting of a forge's is in that forge's own words.
    words >= 2 && !bare.starts_with([' ', ',', ';', '.']) && !bare.contains('→')
}

/// `{}` and `{it.name:?}` as values with names; doubled braces are those that are shown.
fn named_values(text: &str) -> String {
    let mut out = String::new();
    let mut number = 0;
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        if let Some(behind) = behind.strip_prefix('{') {
            let (inside, behind) = behind.split_once("}}").unwrap_or((behind, ""));
            out.push_str(&format!("{before}{{{inside}}}"));
            rest = behind;
            continue;
        }
        let Some((inside, behind)) = behind.split_once('}') else {
            break;
        };
        out.push_str(before);
        let name = inside.split(':').next().unwrap_or_default();
        let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if is_name {
            out.push_str(&format!("{{{name}}}"));
        } else {
            number += 1;
            out.push_str(&format!("{{value_{number}}}"));
        }
        rest = behind;
    }
    out.push_str(&rest.replace("}}", "}"));
    out
}

/// What a value of a template is called in its message.
fn name_of(expression: &str) -> String {
    let mut it = expression.trim();
    // `ui::time(it.at)` is called by what it shows.
    if let Some((call, argument)) = it.split_once('(')
        && call.contains("::")
    {
        let shown = argument.split([',', ')']).next().unwrap_or_default().trim();
        it = match shown.is_empty() || shown.starts_with('"') {
            true => call,
            false => shown,
        };
    }
    let it = it.split('|').next().unwrap_or_default();
    let first = it.split([' ', '+', '*', '/']).next().unwrap_or_default();
    let words: Vec<&str> = first
        .split(['.', ':', '(', ')', '&', '!'])
        .filter(|it| !it.is_empty() && !["len", "as_str", "to_string", "0", "1"].contains(it))
        .collect();
    let last = words.last().copied().unwrap_or("value");
    let name: String = last
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        "value".to_owned()
    } else {
        name
    }
}

/// A block of a template as its message.
fn message(block: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut given: Vec<(String, String)> = Vec::new();
    let mut rest = block;
    while let Some((before, behind)) = rest.split_once("{{") {
        // Values side by side are one.
        let adjacent = before.is_empty() && !out.is_empty() && out.ends_with('}');
        out.push_str(before);
        let (expression, behind) = behind.split_once("}}").ok_or("a value without an end")?;
        rest = behind;
        let expression = expression.trim();
        if expression.contains("|t") || expression.contains("|plural") {
            return Err(format!("a text inside of a message: {expression}"));
        }
        if adjacent {
            continue;
        }
        let base = name_of(expression);
        let mut name = base.clone();
        let mut number = 1;
        while given.iter().any(|(it, other)| *it == name && other != expression) {
            number += 1;
            name = format!("{base}_{number}");
        }
        given.push((name.clone(), expression.to_owned()));
        out.push_str(&format!("{{{name}}}"));
    }
    out.push_str(rest);
    match out.contains("{%") {
        true => Err("a condition or loop inside of a message".to_owned()),
        false => Ok(spaced(&out)),
    }
}

/// The texts of a template, in their order.
fn of_template(text: &str) -> Texts {
    let mut texts = Texts::default();
    let mut open: Vec<(String, usize)> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("{%") {
            let end = rest.find("%}").map_or(rest.len(), |it| it + 2);
            let words = rest[..end].trim_matches(['{', '}', '%', '-', ' ', '\n']);
            if let Some(name) = words.strip_prefix("filter ") {
                open.push((name.trim().to_owned(), at + end));
            } else if words == "endfilter" {
                match open.pop() {
                    Some((name, begun)) if name == "message" => match message(&text[begun..at]) {
                        Ok(it) => texts.add(&it),
                        Err(error) => texts.wrong.push(format!("{error}: {}", &text[begun..at])),
                    },
                    Some(_) => (),
                    None => texts.wrong.push("an endfilter without its filter".to_owned()),
                }
            }
            expressions(&rest[..end], &mut texts);
            at += end;
        } else if rest.starts_with("{{") {
            let end = rest.find("}}").map_or(rest.len(), |it| it + 2);
            expressions(&rest[..end], &mut texts);
            at += end;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    texts
}

/// `"…"|t` and `"…"|plural("…", n)`.
fn expressions(code: &str, texts: &mut Texts) {
    let mut rest = code;
    while let Some(at) = rest.find('"') {
        let Some((said, behind)) = literal(&rest[at..]) else {
            return;
        };
        rest = behind;
        if let Some(more) = behind.strip_prefix("|plural(") {
            match literal(more) {
                Some((other, behind)) => {
                    texts.add_counted(&said, &other);
                    rest = behind;
                }
                None => texts.wrong.push(format!("{said}: its other form is a literal")),
            }
        } else if behind
            .strip_prefix("|t")
            .is_some_and(|it| !it.starts_with(char::is_alphanumeric))
        {
            texts.add(&said);
        }
    }
}

/// A text as a TOML string.
fn quoted(text: &str) -> String {
    if text.contains('"') && !text.contains(['\'', '\n']) {
        return format!("'{text}'");
    }
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{escaped}\"")
}

const HEAD: &str = "\
# Every text of the pages, in English: what a translator works with (docs/translate.md). This file is written by a test from the
# templates and the code; a change here is lost. A language is this file by another name (de.toml), with what belongs between the
# empty quotes filled in, and with a form for each of the language's numbers where there is a list.

[language]
name = \"English\"
direction = \"ltr\"
plural = \"n != 1\"

[texts]
";

/// Everything there is, and what is wrong.
fn written() -> (String, Vec<String>) {
    let mut all: Vec<(String, Found)> = Vec::new();
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut sources: Vec<(String, Texts)> = Vec::new();
    for (name, text) in files("assets/templates", "html") {
        sources.push((name, of_template(&text)));
    }
    for (name, text) in files("src", "rs") {
        if !name.starts_with("src/texts/") {
            let mut texts = of_code(&text);
            let known: Vec<String> = texts.found.iter().map(|it| it.text.clone()).collect();
            for it in sentences(&name, &text) {
                if !known.contains(&spaced(&it)) {
                    texts.add(&it);
                }
            }
            sources.push((name, texts));
        }
    }
    for (name, texts) in sources {
        wrong.extend(texts.wrong.iter().map(|it| format!("{name}: {it}")));
        for it in texts.found {
            let at = places.entry(it.text.clone()).or_default();
            if at.is_empty() {
                all.push((name.clone(), it));
            } else if let Some((_, known)) = all
                .iter()
                .find(|(_, known)| known.text == it.text && known.one != it.one)
            {
                wrong.push(format!(
                    "{name}: “{}” is one for “{:?}” here and for “{:?}” elsewhere",
                    it.text, it.one, known.one
                ));
            }
            if !at.contains(&name) {
                at.push(name.clone());
            }
        }
    }
    let mut out = HEAD.to_owned();
    let mut file = String::new();
    for (name, it) in &all {
        if *name != file {
            out.push_str(&format!("\n# {name}\n"));
            file.clone_from(name);
        }
        let others = &places[&it.text][1..];
        if !others.is_empty() {
            let (first, more) = (&others[0], others.len() - 1);
            match more {
                0 => out.push_str(&format!("# Also in {first}:\n")),
                _ => out.push_str(&format!("# Also in {first} and {more} more:\n")),
            }
        }
        let value = match &it.one {
            Some(one) => format!("[{}, {}]", quoted(one), quoted(&it.text)),
            None => "\"\"".to_owned(),
        };
        out.push_str(&format!("{} = {value}\n", quoted(&it.text)));
    }
    (out, wrong)
}

fn keys(file: &str) -> Vec<String> {
    let table: toml::Table = file.parse().expect("TOML");
    let texts = table.get("texts").and_then(toml::Value::as_table);
    texts.into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

#[test]
fn the_catalogue_lists_every_text_once_and_nothing_else() {
    let (wanted, wrong) = written();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    let path = root().join(CATALOGUE);
    if env::var_os(WRITE).is_some() {
        fs::write(&path, &wanted).expect("it can be written");
    }
    let found = fs::read_to_string(&path).expect("the catalogue");
    if found == wanted {
        return;
    }
    let (known, there) = (keys(&found), keys(&wanted));
    let missing: Vec<&String> = there.iter().filter(|it| !known.contains(it)).collect();
    let stale: Vec<&String> = known.iter().filter(|it| !there.contains(it)).collect();
    panic!(
        "{CATALOGUE} is not what the code says.\nMissing: {missing:#?}\nNo longer there: {stale:#?}\n\
         Write it anew: {WRITE}=1 cargo test --test it messages::"
    );
}

#[test]
fn a_translation_has_no_text_that_is_not_there() {
    let english = fs::read_to_string(root().join(CATALOGUE)).expect("the catalogue");
    let known = keys(&english);
    for (name, text) in files("assets/messages", "toml") {
        let tag = Path::new(&name)
            .file_stem()
            .and_then(|it| it.to_str())
            .expect("a name");
        if name == CATALOGUE {
            continue;
        }
        Language::read(tag, &text).unwrap_or_else(|error| panic!("{error}"));
        let odd: Vec<String> = keys(&text).into_iter().filter(|it| !known.contains(it)).collect();
        assert!(
            odd.is_empty(),
            "{name} has texts that are in no page any more: {odd:#?}"
        );
    }
}

#[test]
fn texts_are_found_as_they_are_written() {
    let found = of_template(
        "<p title=\"{{ \"A \\\"b\\\"\"|t }}\">{% filter whole %}{% filter message %}\nOf <b>{{ it.who }}</b>  at {{ ui::time(when) }}, \
         {{ mine.len() }}{{ x }} {{ other.who }}{%- endfilter -%}{% endfilter %}{{ \"One\"|plural(\"{n} of\", mine.len()) }}\
         {{ ui::copy(\"id\", \"the key\"|t) }}</p>",
    );
    assert!(found.wrong.is_empty(), "{:?}", found.wrong);
    let said: Vec<&str> = found.found.iter().map(|it| it.text.as_str()).collect();
    assert_eq!(
        said,
        [
            "A \"b\"",
            "Of <b>{who}</b> at {when}, {mine} {who_2}",
            "{n} of",
            "the key"
        ]
    );
    let code = "Err(Stop::not(\"Only an admin may do this.\")); // \"Not a text of ours.\"\nformat!(\"The {} of {it:?} is \\\n        gone.\", x)";
    assert_eq!(
        sentences("src/domain/x.rs", code),
        ["Only an admin may do this.", "The {value_1} of {it} is gone."]
    );
    assert!(sentences("src/cli/x.rs", code).is_empty());
    let bad = of_template("{% filter message %}a {% if b %}c{% endif %}{% endfilter %}");
    assert_eq!(bad.wrong.len(), 1);

    let found = of_code(
        "let a = t!(\"A {x} b\", x = f(1, y == 2)); // t!(\"no\")\nplural!(a.len(), \"one\", \"{n} {who}\", who = z)\nassert!(\"no\");\
         marked!(\"a \\\n    b\"); t!(r#\"<a href=\"{url}\">\"#, url = 1);\n#[cfg(test)]\nmod tests { t!(\"no\") }",
    );
    assert!(found.wrong.is_empty(), "{:?}", found.wrong);
    let said: Vec<&str> = found.found.iter().map(|it| it.text.as_str()).collect();
    assert_eq!(said, ["A {x} b", "{n} {who}", "a b", "<a href=\"{url}\">"]);
    for odd in [
        "t!(name)",
        "t!(\"{x}\")",
        "t!(\"x\", x = 1)",
        "plural!(n, one, \"other\")",
    ] {
        assert_eq!(of_code(odd).wrong.len(), 1, "{odd}");
    }
}

/// Strings of a script that are nobody's to read: headers, names of the platform's things, classes, and what a device is called where
/// it is recorded.
const MACHINE: &[&str] = &[
    "Content-Type",
    "If-Match",
    "X-Confirmation",
    "X-Reason",
    "Notification",
    "PushManager",
    "MacIntel",
    "Macintosh",
    "Mac",
    "Browser",
    "Edg",
    "Edge",
    "on x",
    "Request",
    "Creation",
    "UTF-8''x",
    "draft x",
    "wrong x",
    "notice confirming",
];

/// The strings of a script, with `x` for each value.
fn strings_of_script(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let chars: Vec<char> = code.chars().collect();
    let mut at = 0;
    // The last character that was no space: behind some of them a slash begins a pattern, behind the others it divides.
    let mut last = '\n';
    // Depth of braces at which a template goes on.
    let mut templates: Vec<(usize, String)> = Vec::new();
    let mut depth = 0_usize;
    let mut in_template = false;
    while at < chars.len() {
        let c = chars[at];
        if in_template {
            let open = templates.last_mut().expect("one is open");
            match c {
                '\\' => at += 1,
                '`' => {
                    found.push(templates.pop().expect("one is open").1);
                    in_template = false;
                    last = '`';
                }
                '$' if chars.get(at + 1) == Some(&'{') => {
                    open.0 = depth;
                    open.1.push('x');
                    depth += 1;
                    at += 1;
                    in_template = false;
                    last = '{';
                }
                _ => open.1.push(c),
            }
            at += 1;
            continue;
        }
        match c {
            '/' if chars.get(at + 1) == Some(&'/') => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
                continue;
            }
            '/' if "(,=:[!&|?{};\n>".contains(last) => {
                let mut class = false;
                at += 1;
                while at < chars.len() && (chars[at] != '/' || class) {
                    match chars[at] {
                        '\\' => at += 1,
                        '[' => class = true,
                        ']' => class = false,
                        _ => (),
                    }
                    at += 1;
                }
            }
            '"' | '\'' => {
                let mut text = String::new();
                at += 1;
                while at < chars.len() && chars[at] != c {
                    if chars[at] == '\\' {
                        at += 1;
                    }
                    text.extend(chars.get(at));
                    at += 1;
                }
                found.push(text);
            }
            '`' => {
                templates.push((depth, String::new()));
                in_template = true;
            }
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                in_template = templates.last().is_some_and(|it| it.0 == depth);
            }
            _ => (),
        }
        if !c.is_whitespace() {
            last = c;
        }
        at += 1;
    }
    found
}

/// Whether somebody could read it: words with a space between them that are no selector, or a word that begins like a sentence.
fn reads_like_a_text(text: &str) -> bool {
    let selector =
        text.contains(['[', '#', '=', '>', '<', '{', '"', '*']) || text.starts_with([':', '(', '/']);
    let words = text.split_whitespace().filter(|it| {
        let word = it.trim_matches(|c: char| !c.is_alphabetic());
        word.chars().count() > 1 && word.chars().all(|c| c.is_alphabetic() || "’'-".contains(c))
    });
    let sentence = text.starts_with(char::is_uppercase) && text.contains(char::is_lowercase);
    let several = text.trim().contains(' ') && words.count() > 0;
    !selector && (several || sentence)
}

#[test]
fn no_script_holds_a_text_itself() {
    let mut found = Vec::new();
    let mut seen = 0;
    for (name, code) in files("assets/static", "js") {
        for it in strings_of_script(&code) {
            seen += 1;
            if reads_like_a_text(&it) && !MACHINE.contains(&it.as_str()) {
                found.push(format!("{name}: {it}"));
            }
        }
    }
    assert!(seen > 200, "{seen}");
    assert!(
        found.is_empty(),
        "Texts of scripts stand in src/web/pages/scripts.rs, and a script says them by `words`.\n{}",
        found.join("\n")
    );
}

#[test]
fn strings_of_scripts_are_found_as_they_are_written() {
    let code = "// \"No\" text\nconst a = \"Copied\", b = c / d; say(`${m < 1 ? `${m} min` : \"no\"} left`); x.replace(/[\"/]+/g, '\\'');";
    assert_eq!(strings_of_script(code), ["Copied", "x min", "no", "x left", "'"]);
    for it in [
        "Copied",
        "x min",
        "x left",
        "Updated x",
        "did not work: x",
        "It failed (x).",
    ] {
        assert!(reads_like_a_text(it), "{it}");
    }
    for it in [
        "no",
        "main *",
        "[data-error]:not(#wrong)",
        "/api/v1/me",
        "SHA-256",
        "datetime",
        "(a: b)",
        ":is(a, b) > c",
        "application/json",
    ] {
        assert!(!reads_like_a_text(it), "{it}");
    }
}

/// What of a template people see or hear, without what goes through the catalogue: markup, expressions and messages are taken out.
fn bare_texts(template: &str) -> Vec<String> {
    let mut rest = template.to_owned();
    // Comments, then messages with all that is in them, innermost first.
    for (open, close) in [
        ("{#", "#}"),
        ("<pre", "</pre>"),
        ("<code", "</code>"),
        ("<kbd", "</kbd>"),
    ] {
        while let Some(at) = rest.find(open) {
            let end = rest[at..]
                .find(close)
                .map_or(rest.len(), |it| at + it + close.len());
            rest.replace_range(at..end, " ");
        }
    }
    while let Some(end) = rest.find("endfilter") {
        let at = rest[..end]
            .rfind("filter ")
            .and_then(|it| rest[..it].rfind("{%"))
            .unwrap_or(end);
        let whole = rest[at..end].contains("filter whole");
        let close = rest[end..].find("%}").map_or(rest.len(), |it| end + it + 2);
        if whole {
            // Its body is part of the page.
            let tail = rest[end..close].replace("endfilter", "end");
            rest.replace_range(end..close, &tail);
            let head = rest[at..].find("filter whole").map_or(at, |it| at + it);
            rest.replace_range(head..head + "filter whole".len(), "");
        } else {
            rest.replace_range(at..close, " ");
        }
    }
    let mut plain = String::new();
    let mut left = rest.as_str();
    while let Some(at) = left.find('{') {
        plain.push_str(&left[..at]);
        left = &left[at..];
        let close = match left.as_bytes().get(1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            _ => "{",
        };
        let end = left.find(close).map_or(left.len(), |it| it + close.len());
        left = &left[end..];
    }
    plain.push_str(left);
    let mut found = Vec::new();
    let mut left = plain.as_str();
    while let Some(at) = left.find('<') {
        found.push(left[..at].to_owned());
        let end = left[at..].find('>').map_or(left.len(), |it| at + it + 1);
        for name in ["title", "placeholder", "alt", "aria-label", "aria-description"] {
            if let Some((_, value)) = left[at..end].split_once(&format!(" {name}=\"")) {
                found.extend(value.split_once('"').map(|it| it.0.to_owned()));
            }
        }
        left = &left[end..];
    }
    found.push(left.to_owned());
    found.retain(|it| {
        it.split(|c: char| !c.is_alphabetic())
            .any(|it| it.chars().count() > 1)
    });
    found.iter().map(|it| spaced(it)).collect()
}

/// What is the same in every language.
const NAMES: &[&str] = &[
    "Bitbucket",
    "GitHub",
    "GitLab",
    "Mattermost",
    "SignedApproval",
    "Slack",
    "TLS",
    "UTC",
];

#[test]
fn no_template_holds_a_text_beside_the_catalogue() {
    let mut found = Vec::new();
    for (name, text) in files("assets/templates", "html") {
        for it in bare_texts(&text) {
            let example = it.starts_with("https://");
            let left = NAMES.iter().fold(it.clone(), |text, name| text.replace(name, ""));
            if left.contains(char::is_alphabetic) && !example {
                found.push(format!("{name}: {it}"));
            }
        }
    }
    assert!(
        found.is_empty(),
        "Write {{{{ \"…\"|t }}}} or {{% filter message %}} (src/texts/mod.rs).\n{}",
        found.join("\n")
    );
    let bare = bare_texts(
        "<p title=\"Bare\" class=\"dim\">{{ \"a\"|t }} here {% filter message %}No <b>{{ ui::time(x) }}</b>{% endfilter %}\
         <code>serve it</code>{% if x == \"y\" %}<i>{{ it }}</i>{% endif %}{# no #}</p>{% filter whole %}<b>there</b>{% endfilter %}",
    );
    assert_eq!(bare, ["Bare", "here", "there"]);
}

/// Literals of the pages' code that are nobody's to read.
const OF_CODE: &[&str] = &["Location", "English"];

#[test]
fn no_page_holds_a_text_beside_the_catalogue() {
    let mut found = Vec::new();
    for (name, text) in files("src/web/pages", "rs") {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let known: Vec<String> = of_code(code)
            .found
            .into_iter()
            .flat_map(|it| [Some(it.text), it.one])
            .flatten()
            .collect();
        for (at, said) in literals(code) {
            let before = code[..at].trim_end();
            let line = before.lines().last().unwrap_or_default();
            let inner = [
                "expect(",
                "error!(",
                "warn!(",
                "unreachable!(",
                "source = r#",
                "path =",
                "write!(",
            ]
            .iter()
            .any(|it| {
                line.trim_end().ends_with(it)
                    || line.contains("tracing::")
                    || line.trim_start().starts_with("#[")
            });
            let several = said
                .split_whitespace()
                .filter(|it| it.chars().filter(|c| c.is_alphabetic()).count() > 1)
                .count()
                > 1;
            let sentence = said.starts_with(char::is_uppercase) && said.contains(char::is_lowercase);
            let names = NAMES.iter().chain(OF_CODE).any(|it| *it == said);
            // Files of settings, headers and markup.
            let data = said.contains(['\n', '<']) || said.contains("; charset=");
            if (several || sentence) && !inner && !names && !data && !known.contains(&spaced(&said)) {
                found.push(format!("{name}: {said}"));
            }
        }
    }
    assert!(
        found.is_empty(),
        "Write t!(\"…\"), plural!(…) or marked!(\"…\") (src/texts/mod.rs).\n{}",
        found.join("\n")
    );
}
