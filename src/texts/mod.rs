//! The texts people read, in the language they read. The English text is a message's name and stands where it is used:
//!
//! - in a template `{{ "Nothing waits"|t }}`, and a sentence with values or inline markup as one message:
//!   `{% filter message %}Waits for <b>{{ who }}</b> since {{ ui::time(at) }}.{% endfilter %}`. The markup is ours, every value is
//!   escaped, and a value of several elements comes from a macro whose body is `{% filter whole %}`;
//! - with a number `{{ "One waits"|plural("{n} wait", mine.len()) }}`, and other values behind it, `|with("who", it.who)`;
//! - in the domain, which knows no languages, by the `Speaker` that is handed to it: `to.say("Needs {rules}.", &[("rules", &rules)])`;
//! - in Rust `t!("Queue")`, `t!("Since {name} approved", name = it.name)`, `plural!(n, "One day", "{n} days")`; what a const
//!   or the domain holds is `marked!("…")` there and goes through [`said`] where a page shows it.
//!
//! `assets/messages/en.toml` lists all of them (`tests/it/messages.rs` holds it against the code), and each other file
//! beside it is a language. Which one is spoken belongs to the task that answers ([`speaking`]); a thread that serves nobody, the
//! engine's writer above all, speaks English, so that nothing translated is ever recorded or signed.

mod catalogue;
pub mod filters;
mod language;
mod plurals;
mod pseudo;

pub use catalogue::Languages;
pub use language::{Direction, Language};
pub use pseudo::accented;

use crate::domain::text::{Speaker, filled};
use std::borrow::Cow;
use std::fmt::Display;
use std::future::Future;

tokio::task_local! {
    /// The language of the answer that is being made; `None` is English, which needs no catalogue.
    static SPOKEN: Option<&'static Language>;
}

/// Makes an answer in a language; `None` is English.
pub async fn speaking<F: Future>(language: Option<&'static Language>, answer: F) -> F::Output {
    SPOKEN.scope(language, answer).await
}

/// The same for what is no future.
pub fn speaking_now<T>(language: Option<&'static Language>, answer: impl FnOnce() -> T) -> T {
    SPOKEN.sync_scope(language, answer)
}

/// The language this task speaks; `None` is English.
pub fn spoken() -> Option<&'static Language> {
    SPOKEN.try_with(|it| *it).ok().flatten()
}

/// What works on another thread for this task, in its language.
pub fn in_this_language<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let language = spoken();
    move || speaking_now(language, work)
}

/// A text without values, in the language spoken. Use [`t!`](crate::texts::t), which the catalogue's test finds.
pub fn fixed(text: &'static str) -> &'static str {
    match spoken() {
        None => text,
        Some(language) => language.fixed(text).unwrap_or(text),
    }
}

/// A text that was composed in English elsewhere, in the language spoken: one of the catalogue's, or one that has the form of a
/// message with values. Anything else stays as it is.
pub fn said(text: &str) -> Cow<'_, str> {
    match spoken() {
        None => Cow::Borrowed(text),
        Some(language) => match language.recognised(text) {
            Some(it) => Cow::Owned(it),
            None => Cow::Borrowed(text),
        },
    }
}

/// A text with a number, in the language spoken. Use [`plural!`](crate::texts::plural), which the catalogue's test finds.
pub fn counted(count: u64, one: &str, other: &str, values: &[(&str, &dyn Display)]) -> String {
    let mut all: Vec<(&str, &dyn Display)> = vec![("n", &count)];
    all.extend_from_slice(values);
    let found = spoken().and_then(|it| it.counted(other, count, &all));
    found.unwrap_or_else(|| filled(if count == 1 { one } else { other }, &all))
}

/// Says what the domain says in the language of this task.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spoken;

impl Speaker for Spoken {
    fn say(&self, text: &'static str, values: &[(&str, &dyn Display)]) -> String {
        let found = spoken().and_then(|it| it.composed(text, values));
        found.unwrap_or_else(|| filled(text, values))
    }

    fn say_counted(
        &self,
        count: u64,
        one: &'static str,
        other: &'static str,
        values: &[(&str, &dyn Display)],
    ) -> String {
        counted(count, one, other, values)
    }
}

/// A text in the language spoken: `&'static str` without values, `String` with them.
macro_rules! t {
    ($text:literal $(,)?) => {
        $crate::texts::fixed($text)
    };
    ($text:literal, $($name:ident = $value:expr),+ $(,)?) => {
        match ($(&$value,)+) {
            ($($name,)+) => match $crate::texts::spoken() {
                None => format!($text, $($name = $name),+),
                Some(language) => {
                    let values: &[(&str, &dyn std::fmt::Display)] = &[$((stringify!($name), $name)),+];
                    match language.composed($text, values) {
                        Some(it) => it,
                        None => format!($text, $($name = $name),+),
                    }
                }
            },
        }
    };
}

/// A text with a number, `{n}`, in the language spoken: `plural!(days, "One day", "{n} days")`. Which form a number takes is the
/// language's own to say.
#[allow(unused_macros)]
macro_rules! plural {
    ($count:expr, $one:literal, $other:literal $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::texts::counted(
            u64::try_from($count).unwrap_or(u64::MAX),
            $one,
            $other,
            &[$((stringify!($name), &$value as &dyn std::fmt::Display)),*],
        )
    };
}

pub(crate) use crate::domain::text::marked;
#[allow(unused_imports)]
pub(crate) use {plural, t};

#[cfg(test)]
mod tests {
    use crate::texts::{Language, said, speaking_now};

    const GERMAN: &str = r#"
[language]
name = "Deutsch"
plural = "n != 1"

[texts]
"Queue" = "Warteschlange"
"Asked by {who} at {when}" = "Um {when} von {who} gefragt"
"{n} waits" = ""
"{n} wait for {who}" = ["{n} wartet auf {who}", "{n} warten auf {who}"]
"#;

    fn german() -> Option<&'static Language> {
        Some(Box::leak(Box::new(
            Language::read("de", GERMAN).expect("a language"),
        )))
    }

    #[test]
    fn english_is_what_stands_there() {
        assert_eq!(t!("Queue"), "Queue");
        assert_eq!(
            t!("Asked by {who} at {when}", who = "Ada", when = 3),
            "Asked by Ada at 3"
        );
        assert_eq!(
            plural!(1usize, "{n} waits for {who}", "{n} wait for {who}", who = "Ada"),
            "1 waits for Ada"
        );
        assert_eq!(
            plural!(0usize, "{n} waits for {who}", "{n} wait for {who}", who = "Ada"),
            "0 wait for Ada"
        );
        assert_eq!(said("Queue"), "Queue");
    }

    #[test]
    fn another_language_has_its_own_order_and_forms() {
        speaking_now(german(), || {
            assert_eq!(t!("Queue"), "Warteschlange");
            assert_eq!(
                t!("Asked by {who} at {when}", who = "Ada", when = 3),
                "Um 3 von Ada gefragt"
            );
            assert_eq!(
                plural!(1usize, "{n} waits for {who}", "{n} wait for {who}", who = "Ada"),
                "1 wartet auf Ada"
            );
            assert_eq!(
                plural!(2usize, "{n} waits for {who}", "{n} wait for {who}", who = "Ada"),
                "2 warten auf Ada"
            );
        });
        assert_eq!(t!("Queue"), "Queue");
    }

    #[test]
    fn what_is_not_translated_stays_english() {
        speaking_now(german(), || {
            assert_eq!(t!("Elsewhere"), "Elsewhere");
            assert_eq!(t!("Elsewhere {x}", x = 1), "Elsewhere 1");
            assert_eq!(plural!(2usize, "One day", "{n} days"), "2 days");
        });
    }

    #[test]
    fn a_recorded_sentence_is_recognised() {
        speaking_now(german(), || {
            assert_eq!(said("Queue"), "Warteschlange");
            assert_eq!(said("Asked by Ada at noon"), "Um noon von Ada gefragt");
            assert_eq!(said("Asked by Ada"), "Asked by Ada");
        });
    }
}
