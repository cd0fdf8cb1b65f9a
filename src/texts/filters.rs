//! How templates name their texts. Askama looks for filters in a module of this name where the template is.
//!
//! A text without values is found by one lookup, and in English by none. In English a message is written as it stands. In any other language it is first written with marks around every value, so that
//! message and values can be told apart, and then the way the language says it. Values are escaped before they are marked.

use crate::domain::text::filled;
use crate::texts::spoken;
use askama::filters::Escaper;
use askama::filters::Safe;
use std::borrow::Borrow;
use std::cell::Cell;
use std::fmt::{self, Display, Write};

/// Around a value while a message is taken apart. Neither can stand in a page (HTML, section 13.2.3.5), so values lose them.
const OPEN: char = '\u{1}';
const CLOSE: char = '\u{2}';

thread_local! {
    /// Whether values are marked just now.
    static MARKING: Cell<bool> = const { Cell::new(false) };
}

/// Marks values, or does not, for as long as it lives.
struct Marking {
    before: bool,
}

impl Marking {
    fn set(now: bool) -> Marking {
        Marking {
            before: MARKING.replace(now),
        }
    }
}

impl Drop for Marking {
    fn drop(&mut self) {
        MARKING.set(self.before);
    }
}

/// The escaper of all templates (`askama.toml`): HTML, with marks where a message is being taken apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Html;

impl Escaper for Html {
    fn write_escaped_str<W: Write>(&self, mut dest: W, text: &str) -> fmt::Result {
        if !MARKING.get() {
            return askama::filters::Html.write_escaped_str(dest, text);
        }
        dest.write_char(OPEN)?;
        match text.contains([OPEN, CLOSE]) {
            true => askama::filters::Html.write_escaped_str(&mut dest, &text.replace([OPEN, CLOSE], "")),
            false => askama::filters::Html.write_escaped_str(&mut dest, text),
        }?;
        dest.write_char(CLOSE)
    }
}

/// A text without values: `{{ "Queue"|t }}`.
#[askama::filter_fn]
pub fn t(text: &'static str, _: &dyn askama::Values) -> askama::Result<Safe<&'static str>> {
    let found = spoken().and_then(|it| it.fixed_on_a_page(text));
    Ok(Safe(found.unwrap_or(text)))
}

/// A sentence with values or inline markup, which is one message: `{% filter message %}…{% endfilter %}`.
#[askama::filter_fn]
pub fn message(sentence: impl Display, _: &dyn askama::Values) -> askama::Result<Safe<String>> {
    // A message inside of another one is a value of it.
    let inner = MARKING.get();
    let Some(language) = spoken() else {
        return Ok(Safe(written(&sentence, false)?));
    };
    let text = written(&sentence, true)?;
    let taken = Taken::apart(&text);
    let mut out = String::with_capacity(text.len() + text.len() / 2);
    if inner {
        out.push(OPEN);
    }
    out.push_str(taken.before);
    match language.message_on_a_page(&taken.message, &taken.values) {
        Some(it) => out.push_str(&it),
        None => out.push_str(&text.trim().replace([OPEN, CLOSE], "")),
    }
    out.push_str(taken.after);
    if inner {
        out.push(CLOSE);
    }
    Ok(Safe(out))
}

/// Several elements that are one value of a message: a time, a sign with its word.
#[askama::filter_fn]
pub fn whole(value: impl Display, _: &dyn askama::Values) -> askama::Result<Safe<String>> {
    let inner = MARKING.get();
    let text = written(&value, false)?;
    Ok(Safe(if inner {
        format!("{OPEN}{text}{CLOSE}")
    } else {
        text
    }))
}

/// A text that was composed below the pages, in English: `{{ why|said }}`.
#[askama::filter_fn]
pub fn said(text: impl Display, _: &dyn askama::Values) -> askama::Result<String> {
    let text = text.to_string();
    let found = spoken().and_then(|it| it.recognised(&text));
    Ok(found.unwrap_or(text))
}

/// What a block writes, with marks around its values or without.
fn written(block: &impl Display, marking: bool) -> askama::Result<String> {
    let _marking = Marking::set(marking);
    let mut text = String::new();
    write!(text, "{block}").map_err(|_| askama::Error::Fmt)?;
    Ok(text)
}

/// What can be counted, also behind the references that templates make.
pub trait Count {
    fn count(&self) -> u64;
}

impl<T: Count + ?Sized> Count for &T {
    fn count(&self) -> u64 {
        (**self).count()
    }
}

macro_rules! counts {
    ($($number:ty),*) => {
        $(impl Count for $number {
            fn count(&self) -> u64 {
                u64::try_from(*self).unwrap_or(u64::MAX)
            }
        })*
    };
}

counts!(usize, u64, u32, u16, u8, i64, i32);

/// A message with a number, `{n}`: `"One waits"|plural("{n} wait", mine.len())`.
#[askama::filter_fn]
pub fn plural<C: Count>(
    one: &str,
    _: &dyn askama::Values,
    other: &str,
    count: C,
) -> askama::Result<Safe<Counted>> {
    Ok(Safe(Counted {
        one: one.to_owned(),
        other: other.to_owned(),
        count: count.count(),
        values: Vec::new(),
    }))
}

/// Another value of a message with a number.
#[askama::filter_fn]
pub fn with<V: Display>(
    message: impl Borrow<Safe<Counted>>,
    _: &dyn askama::Values,
    name: &str,
    value: V,
) -> askama::Result<Safe<Counted>> {
    let mut message = message.borrow().0.clone();
    let mut escaped = String::new();
    askama::filters::Html
        .write_escaped_str(&mut escaped, &value.to_string().replace([OPEN, CLOSE], ""))
        .map_err(|_| askama::Error::Fmt)?;
    message.values.push((name.to_owned(), escaped));
    Ok(Safe(message))
}

/// A message as it was written, taken apart.
struct Taken<'a> {
    /// White space around it is not the message's.
    before: &'a str,
    after: &'a str,
    /// The English text with places for its values, all white space as one space.
    message: String,
    values: Vec<String>,
}

impl<'a> Taken<'a> {
    fn apart(text: &'a str) -> Taken<'a> {
        let inner = text.trim();
        let start = text.len() - text.trim_start().len();
        let mut taken = Taken {
            before: &text[..start],
            after: &text[start + inner.len()..],
            message: String::with_capacity(inner.len()),
            values: Vec::new(),
        };
        let mut rest = inner;
        while let Some(at) = rest.find(OPEN) {
            taken.literal(&rest[..at]);
            rest = &rest[at + OPEN.len_utf8()..];
            // A value may have been written in several pieces.
            let mut value = String::new();
            loop {
                let end = rest.find(CLOSE).unwrap_or(rest.len());
                value.push_str(&rest[..end]);
                rest = rest.get(end + CLOSE.len_utf8()..).unwrap_or_default();
                match rest.strip_prefix(OPEN) {
                    Some(more) => rest = more,
                    None => break,
                }
            }
            taken.values.push(value);
            let _ = write!(taken.message, "{{{}}}", taken.values.len());
        }
        taken.literal(rest);
        taken
    }

    fn literal(&mut self, text: &str) {
        for c in text.chars() {
            match c.is_ascii_whitespace() {
                true if self.message.ends_with(' ') => (),
                true => self.message.push(' '),
                false => self.message.push(c),
            }
        }
    }
}

/// See [`plural`].
#[derive(Clone)]
pub struct Counted {
    one: String,
    other: String,
    count: u64,
    values: Vec<(String, String)>,
}

impl Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values: Vec<(&str, &dyn Display)> = vec![("n", &self.count)];
        values.extend(
            self.values
                .iter()
                .map(|(name, it)| (name.as_str(), it as &dyn Display)),
        );
        let found = spoken().and_then(|it| it.counted_on_a_page(&self.other, self.count, &values));
        let text = found.unwrap_or_else(|| {
            let english = if self.count == 1 { &self.one } else { &self.other };
            filled(english, &values)
        });
        match MARKING.get() {
            true => write!(f, "{OPEN}{text}{CLOSE}"),
            false => f.write_str(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::texts::{Language, filters, speaking_now};
    use askama::Template;

    #[derive(Template)]
    #[template(
        source = r#"{% macro at(it) %}{% filter whole %}<time title="{{ it }}">{{ it }}</time>{% endfilter %}{% endmacro -%}
<p title="{{ "Queue"|t }}"> {% filter message %}
Waits for <b>{{ who }}</b>   since {{ at(when) }}, {{ count }}{{ who }}.
{% endfilter %} {{ "One waits for {who}"|plural("{n} wait for {who}", count)|with("who", who) }}</p>"#,
        ext = "html"
    )]
    struct Page {
        who: &'static str,
        when: &'static str,
        count: usize,
    }

    fn page(language: &str, who: &'static str, count: usize) -> String {
        let language = Language::read("xx", language).expect("a language");
        let language: &'static Language = Box::leak(Box::new(language));
        let page = Page {
            who,
            when: "<9>",
            count,
        };
        speaking_now(Some(language), || page.render().expect("a page"))
    }

    const OTHER: &str = r#"
[texts]
"Queue" = "Vico"
"Waits for <b>{who}</b> since {at}, {count}." = "De {at} atendas <b>{who}</b>: {count}!"
"{n} wait for {who}" = ["Unu atendas {who}", "{n} atendas {who}"]
"#;

    #[test]
    fn english_is_byte_for_byte_what_stands_there() {
        let english = Page {
            who: "<Ada>",
            when: "<9>",
            count: 2,
        }
        .render()
        .unwrap();
        assert_eq!(
            english,
            "<p title=\"Queue\"> \nWaits for <b>&#60;Ada&#62;</b>   since <time title=\"&#60;9&#62;\">&#60;9&#62;</time>, 2&#60;Ada&#62;.\n 2 wait for &#60;Ada&#62;</p>"
        );
        assert_eq!(page("", "<Ada>", 2), english);
    }

    #[test]
    fn another_language_gets_every_value_escaped_and_in_its_place() {
        assert_eq!(
            page(OTHER, "<Ada>", 1),
            "<p title=\"Vico\"> \nDe <time title=\"&#60;9&#62;\">&#60;9&#62;</time> atendas <b>&#60;Ada&#62;</b>: 1&#60;Ada&#62;!\n Unu atendas &#60;Ada&#62;</p>"
        );
    }

    #[test]
    fn a_value_can_not_pass_for_a_message() {
        let odd = "a\u{2}b\u{1}{1}<b>{who}</b>";
        let shown = page(OTHER, odd, 2);
        assert!(!shown.contains(['\u{1}', '\u{2}']), "{shown}");
        assert!(
            shown.contains("atendas <b>ab{1}&#60;b&#62;{who}&#60;/b&#62;</b>:"),
            "{shown}"
        );
    }
}
