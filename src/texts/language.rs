//! One language: its texts by the English ones, read from a file of `assets/messages`.

use crate::texts::plurals::Rule;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{Display, Write};

/// Which way a language is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    LeftToRight,
    RightToLeft,
}

impl Direction {
    /// As `dir` says it in HTML.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::LeftToRight => "ltr",
            Direction::RightToLeft => "rtl",
        }
    }
}

/// A language with its texts.
#[derive(Debug)]
pub struct Language {
    /// BCP 47, as `<html lang>` has it: `de`, `pt-BR`.
    pub tag: String,
    /// What its speakers call it: `Deutsch`.
    pub name: String,
    pub direction: Direction,
    /// Not offered to people: the language of tests.
    pub hidden: bool,
    plural: Rule,
    messages: Vec<Message>,
    /// By the English text with its names (`{who} asked`), and by the same with places (`{1} asked`).
    by_text: HashMap<String, usize>,
    /// English texts with values as patterns, those that say most first.
    patterns: Vec<(Vec<Piece>, usize)>,
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// The value of this name.
    Value(String),
}

#[derive(Debug)]
struct Message {
    /// Names of the English text's values, in its order.
    names: Vec<String>,
    /// One form, or one for each of the language's numbers.
    forms: Vec<Form>,
}

#[derive(Debug)]
struct Form {
    /// As it stands in the file, for texts without values.
    text: String,
    /// The same as part of a page.
    html_text: String,
    /// For where the text is escaped later.
    plain: Vec<Piece>,
    /// For where it is part of a page: nothing but its own tags is markup.
    html: Vec<Piece>,
}

/// The pieces of a text: `{name}` is a value.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let (before, behind) = rest.split_at(at);
        literal.push_str(before);
        let name = behind[1..].split('}').next().unwrap_or_default();
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if is_name && behind.len() > name.len() + 1 {
            if !literal.is_empty() {
                found.push(Piece::Text(std::mem::take(&mut literal)));
            }
            found.push(Piece::Value(name.to_owned()));
            rest = &behind[name.len() + 2..];
        } else {
            literal.push('{');
            rest = &behind[1..];
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        found.push(Piece::Text(literal));
    }
    found
}

fn names(pieces: &[Piece]) -> Vec<String> {
    let of = |it: &Piece| match it {
        Piece::Value(it) => Some(it.clone()),
        Piece::Text(_) => None,
    };
    pieces.iter().filter_map(of).collect()
}

/// A text with its values by place: `{1} asked {2}`.
fn numbered(pieces: &[Piece]) -> String {
    let mut out = String::new();
    let mut place = 0;
    for it in pieces {
        match it {
            Piece::Text(it) => out.push_str(it),
            Piece::Value(_) => {
                place += 1;
                let _ = write!(out, "{{{place}}}");
            }
        }
    }
    out
}

/// The tags of a text, sorted. What begins like a tag and has no end counts as one.
fn tags(text: &str) -> Vec<&str> {
    let begins =
        |at: usize| text[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!');
    let mut found: Vec<&str> = text
        .match_indices('<')
        .filter(|(at, _)| begins(*at))
        .map(|(at, _)| &text[at..text[at..].find('>').map_or(text.len(), |end| at + end + 1)])
        .collect();
    found.sort_unstable();
    found
}

/// A text as part of a page: quotes outside of tags would end an attribute.
fn for_pages(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(tag) = tags_in_order(rest) {
        let (before, behind) = rest.split_at(tag.0);
        out.push_str(&before.replace('"', "&#34;"));
        out.push_str(&behind[..tag.1]);
        rest = &behind[tag.1..];
    }
    out.push_str(&rest.replace('"', "&#34;"));
    out
}

/// Where the next tag is and how long.
fn tags_in_order(text: &str) -> Option<(usize, usize)> {
    let at = text.find('<')?;
    let length = text[at..].find('>').map_or(text.len() - at, |end| end + 1);
    Some((at, length))
}

impl Language {
    /// Reads a file of `assets/messages`.
    ///
    /// # Errors
    /// Which text is wrong and why: values or tags that the English text does not have, forms that the language lacks.
    pub fn read(tag: &str, file: &str) -> Result<Language, String> {
        let table: toml::Table = file.parse().map_err(|error| format!("{tag}: {error}"))?;
        let head = table.get("language").and_then(toml::Value::as_table);
        let word = |name: &str| head.and_then(|it| it.get(name)).and_then(toml::Value::as_str);
        let rule = word("plural").unwrap_or("n != 1");
        let mut language = Language {
            tag: tag.to_owned(),
            name: word("name").unwrap_or(tag).to_owned(),
            direction: match word("direction") {
                None | Some("ltr") => Direction::LeftToRight,
                Some("rtl") => Direction::RightToLeft,
                Some(it) => return Err(format!("{tag}: direction is “ltr” or “rtl”, not “{it}”")),
            },
            hidden: false,
            plural: Rule::parse(rule).map_err(|error| format!("{tag}: {error}"))?,
            messages: Vec::new(),
            by_text: HashMap::new(),
            patterns: Vec::new(),
        };
        let texts = table.get("texts").and_then(toml::Value::as_table);
        for (english, translated) in texts.into_iter().flatten() {
            let forms: Vec<&str> = match translated {
                toml::Value::String(it) => vec![it],
                toml::Value::Array(all) => all.iter().filter_map(toml::Value::as_str).collect(),
                _ => {
                    return Err(format!(
                        "{tag}: “{english}” is neither a text nor a list of texts"
                    ));
                }
            };
            // An empty text is one that nobody has translated yet.
            if forms.is_empty() || forms.iter().any(|it| it.is_empty()) {
                continue;
            }
            language
                .add(english, &forms)
                .map_err(|error| format!("{tag}: “{english}”: {error}"))?;
        }
        language.sort_patterns();
        Ok(language)
    }

    /// A language whose texts are all made from the English ones.
    pub(super) fn made(
        tag: &str,
        name: &str,
        direction: Direction,
        texts: &BTreeMap<String, Vec<String>>,
        make: impl Fn(&str) -> String,
    ) -> Language {
        let mut language = Language {
            tag: tag.to_owned(),
            name: name.to_owned(),
            direction,
            hidden: true,
            plural: Rule::one_and_other(),
            messages: Vec::new(),
            by_text: HashMap::new(),
            patterns: Vec::new(),
        };
        for (english, forms) in texts {
            let forms: Vec<String> = forms.iter().map(|it| make(it)).collect();
            let forms: Vec<&str> = forms.iter().map(String::as_str).collect();
            if let Err(error) = language.add(english, &forms) {
                tracing::error!(text = %english, %error, "a text can't be shown in the language of tests");
            }
        }
        language.sort_patterns();
        language
    }

    fn add(&mut self, english: &str, forms: &[&str]) -> Result<(), String> {
        let own = pieces(english);
        let own_names = names(&own);
        let own_tags = tags(english);
        for it in forms {
            if let Some(odd) = names(&pieces(it))
                .into_iter()
                .find(|it| !own_names.contains(it) && it != "n")
            {
                return Err(format!("the English text has no value “{{{odd}}}”"));
            }
            let tags = tags(it);
            if tags != own_tags {
                return Err(format!(
                    "it has to have the same tags as the English text: {tags:?}, not {own_tags:?}"
                ));
            }
        }
        let forms = forms.iter().map(|it| Form {
            text: (*it).to_owned(),
            html_text: for_pages(it),
            plain: pieces(it),
            html: pieces(&for_pages(it)),
        });
        let place = self.messages.len();
        self.messages.push(Message {
            names: own_names,
            forms: forms.collect(),
        });
        self.by_text.insert(numbered(&own), place);
        self.by_text.insert(english.to_owned(), place);
        if own.iter().any(|it| matches!(it, Piece::Value(_))) {
            self.patterns.push((own, place));
        }
        Ok(())
    }

    fn sort_patterns(&mut self) {
        let says = |it: &(Vec<Piece>, usize)| -> usize {
            let length = |it: &Piece| match it {
                Piece::Text(it) => it.len(),
                Piece::Value(_) => 0,
            };
            it.0.iter().map(length).sum()
        };
        // A pattern of next to nothing would be found everywhere.
        self.patterns.retain(|it| says(it) >= PATTERN_MIN);
        self.patterns.sort_by_key(|it| std::cmp::Reverse(says(it)));
    }

    fn message(&self, english: &str) -> Option<&Message> {
        self.by_text.get(english).map(|it| &self.messages[*it])
    }

    /// A text without values.
    pub fn fixed(&self, english: &str) -> Option<&str> {
        Some(&self.message(english)?.forms.first()?.text)
    }

    /// A text with values, each by its name, for where it is escaped later.
    pub fn composed(&self, english: &str, values: &[(&str, &dyn Display)]) -> Option<String> {
        Some(put_in(&self.message(english)?.forms.first()?.plain, values))
    }

    /// A text with a number, for where it is escaped later.
    pub fn counted(&self, english: &str, count: u64, values: &[(&str, &dyn Display)]) -> Option<String> {
        Some(put_in(&self.form(english, count)?.plain, values))
    }

    /// The same as part of a page: the values are escaped already.
    pub(super) fn counted_on_a_page(
        &self,
        english: &str,
        count: u64,
        values: &[(&str, &dyn Display)],
    ) -> Option<String> {
        Some(put_in(&self.form(english, count)?.html, values))
    }

    fn form(&self, english: &str, count: u64) -> Option<&Form> {
        let forms = &self.message(english)?.forms;
        forms.get(self.plural.form(count)).or(forms.last())
    }

    /// A message as part of a page: its English text with places, and its values, which are escaped already.
    pub(super) fn message_on_a_page(&self, english: &str, values: &[String]) -> Option<String> {
        let message = self.message(english)?;
        let form = message.forms.first()?;
        let mut out = String::new();
        for it in &form.html {
            match it {
                Piece::Text(it) => out.push_str(it),
                Piece::Value(name) => {
                    let place = message.names.iter().position(|it| it == name);
                    out.push_str(place.and_then(|it| values.get(it)).map_or("", String::as_str));
                }
            }
        }
        Some(out)
    }

    /// A text without values as part of a page.
    pub(super) fn fixed_on_a_page(&self, english: &str) -> Option<&str> {
        Some(&self.message(english)?.forms.first()?.html_text)
    }

    /// A text of ours within another one, or a list of some; a first letter that stands at the beginning of a sentence is not the text's own.
    fn said_within(&self, text: &str) -> String {
        if let Some(it) = self.recognised(text) {
            return it;
        }
        let lowered = with_first(text, |it| it.to_lowercase().to_string());
        if let Some(it) = self.recognised(&lowered).filter(|_| lowered != text) {
            return with_first(&it, |it| it.to_uppercase().to_string());
        }
        for between in [". ", "; ", ", "] {
            if text.contains(between) {
                let all: Vec<String> = text.split(between).map(|it| self.said_within(it)).collect();
                return all.join(between);
            }
        }
        text.to_owned()
    }

    /// A text that was composed in English, if it is one of ours or has the form of one.
    pub(super) fn recognised(&self, text: &str) -> Option<String> {
        if let Some(it) = self.message(text) {
            return Some(it.forms.first()?.text.clone());
        }
        self.patterns.iter().find_map(|(pattern, place)| {
            let values = matched(pattern, text)?;
            let message = &self.messages[*place];
            let values: Vec<String> = message
                .names
                .iter()
                .zip(values)
                .map(|(name, value)| match name.starts_with(SAID) {
                    true => self.said_within(value),
                    false => value.to_owned(),
                })
                .collect();
            let pairs: Vec<(&str, &dyn Display)> = message
                .names
                .iter()
                .zip(&values)
                .map(|(name, value)| (name.as_str(), value as &dyn Display))
                .collect();
            // The English text says "n != 1" here, and the language knows what that number is.
            let count = pairs
                .iter()
                .find(|(name, _)| *name == "n")
                .and_then(|(_, it)| it.to_string().parse().ok());
            let form = match count {
                Some(count) => message
                    .forms
                    .get(self.plural.form(count))
                    .or(message.forms.last()),
                None => message.forms.first(),
            };
            Some(put_in(&form?.plain, &pairs))
        })
    }
}

/// How the name of a value begins that is a text of ours itself: `not JSON: {said_reason}`. Any other value stays as it is, also one
/// that reads like a text of ours: somebody may be called “Queue”.
const SAID: &str = "said_";

/// Least letters of a message by which a composed text is recognised.
const PATTERN_MIN: usize = 6;

fn with_first(text: &str, change: impl Fn(char) -> String) -> String {
    let mut rest = text.chars();
    match rest.next() {
        Some(first) => change(first) + rest.as_str(),
        None => String::new(),
    }
}

fn put_in(pieces: &[Piece], values: &[(&str, &dyn Display)]) -> String {
    let mut out = String::new();
    for it in pieces {
        match it {
            Piece::Text(it) => out.push_str(it),
            Piece::Value(name) => {
                if let Some((_, value)) = values.iter().find(|(it, _)| it == name) {
                    let _ = write!(out, "{value}");
                }
            }
        }
    }
    out
}

/// The values of a pattern in a text that has its form. A value takes as little as it can, and never nothing.
fn matched<'a>(pattern: &[Piece], text: &'a str) -> Option<Vec<&'a str>> {
    let mut values = Vec::new();
    let mut rest = text;
    let mut at = 0;
    while at < pattern.len() {
        match (&pattern[at], pattern.get(at + 1)) {
            (Piece::Text(it), _) => {
                rest = rest.strip_prefix(it.as_str())?;
                at += 1;
            }
            (Piece::Value(_), None) => {
                values.push(rest);
                rest = "";
                at += 1;
            }
            (Piece::Value(_), Some(Piece::Text(it))) => {
                let last = at + 2 == pattern.len();
                let end = match last {
                    true => rest.strip_suffix(it.as_str()).map(str::len)?,
                    false => rest.find(it.as_str())?,
                };
                values.push(&rest[..end]);
                rest = &rest[end + it.len()..];
                at += 2;
            }
            // Two values side by side can't be told apart.
            (Piece::Value(_), Some(Piece::Value(_))) => return None,
        }
    }
    let all = rest.is_empty() && values.iter().all(|it| !it.is_empty());
    all.then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &str) -> Result<Language, String> {
        Language::read("xx", &format!("[texts]\n{texts}"))
    }

    #[test]
    fn values_and_tags_have_to_be_those_of_the_english_text() {
        assert!(read("\"Asked by {who}\" = \"{who}?\"").is_ok());
        let error = read("\"Asked by {who}\" = \"{whom}?\"").unwrap_err();
        assert!(
            error.contains("{whom}") && error.contains("Asked by {who}"),
            "{error}"
        );
        assert!(read("\"<b>{who}</b> asked\" = \"Von <b>{who}</b>\"").is_ok());
        for it in [
            "<i>{who}</i>",
            "<b>{who}",
            "{who}",
            "<b>{who}</b><script>",
            "<b onclick=x>{who}</b>",
            "<b>{who}</b><!--",
        ] {
            assert!(
                read(&format!("\"<b>{{who}}</b> asked\" = \"{it}\"")).is_err(),
                "{it}"
            );
        }
        assert!(read("\"Queue\" = \"<svg\"").is_err());
        assert!(read("\"Queue\" = 3").is_err());
        assert!(Language::read("xx", "[language]\ndirection = \"up\"").is_err());
        assert!(Language::read("xx", "[language]\nplural = \"n <\"").is_err());
    }

    #[test]
    fn a_quote_in_a_text_does_not_end_an_attribute() {
        let it = read("'Queue' = 'a \" b'\n'<a href=\"{url}\">x</a>' = '\"<a href=\"{url}\">x</a>'").unwrap();
        assert_eq!(it.fixed_on_a_page("Queue"), Some("a &#34; b"));
        let link = it.message_on_a_page("<a href=\"{1}\">x</a>", &["/y".to_owned()]);
        assert_eq!(link.as_deref(), Some("&#34;<a href=\"/y\">x</a>"));
    }

    #[test]
    fn a_pattern_takes_only_what_has_its_form() {
        let pattern = pieces("{a} of {b} came");
        assert_eq!(matched(&pattern, "1 of 2 came"), Some(vec!["1", "2"]));
        assert_eq!(matched(&pattern, "of 2 came"), None);
        assert_eq!(matched(&pattern, "1 of 2 came back"), None);
        assert_eq!(matched(&pieces("Since {a}"), "Since "), None);
    }

    #[test]
    fn a_text_within_another_one_is_said_too_and_a_name_never_is() {
        let it = read(
            "'Queue' = 'Vico'\n'lacks `{key}`' = 'sen `{key}`'\n'not JSON: {said_reason}' = 'ne JSON: {said_reason}'\n\
             '{said_why}. Wait for {who}.' = '{said_why}. Atendu {who}.'\n'gone' = 'for'",
        )
        .unwrap();
        let said = |text: &str| it.recognised(text).unwrap_or_default();
        assert_eq!(said("not JSON: lacks `Queue`"), "ne JSON: sen `Queue`");
        assert_eq!(said("not JSON: elsewhere"), "ne JSON: elsewhere");
        assert_eq!(said("Gone. Wait for Queue."), "For. Atendu Queue.");
        assert_eq!(said("not JSON: gone, Queue; x"), "ne JSON: for, Vico; x");
    }

    #[test]
    fn braces_that_name_nothing_are_text() {
        assert_eq!(pieces("a {} {b c} {d"), [Piece::Text("a {} {b c} {d".to_owned())]);
        assert_eq!(numbered(&pieces("{a}{b} {a}")), "{1}{2} {3}");
    }
}
