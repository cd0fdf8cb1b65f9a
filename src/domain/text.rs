//! Making text from outside safe to look at.

use std::fmt::Display;

/// The text with control, bidi and invisible characters escaped as `\u{…}`, so that what a person sees is what is there.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_deceptive(c) {
            out.push_str(&format!("\\u{{{:x}}}", c as u32));
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that change how their neighbours look, or that cannot be seen at all.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// The first `max` characters, with `…` where something was left out.
pub fn shortened(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(max.saturating_sub(1)).collect();
    out.push('…');
    out
}

/// A text that is said elsewhere, by a [`Speaker`] or where a page shows it: where it stands it stays English.
macro_rules! marked {
    ($text:literal $(,)?) => {
        $text
    };
}

pub(crate) use marked;

/// Says a text in somebody's language. The text is English and names its values in braces: `Needs {rules}.`
pub trait Speaker {
    /// A text with its values, each by its name.
    fn say(&self, text: &'static str, values: &[(&str, &dyn Display)]) -> String;

    /// A text with a number, `{n}`, of which each language has its own forms.
    fn say_counted(
        &self,
        count: u64,
        one: &'static str,
        other: &'static str,
        values: &[(&str, &dyn Display)],
    ) -> String;
}

/// What is recorded, signed, logged and told to programs.
#[derive(Clone, Copy, Debug, Default)]
pub struct English;

impl Speaker for English {
    fn say(&self, text: &'static str, values: &[(&str, &dyn Display)]) -> String {
        filled(text, values)
    }

    fn say_counted(
        &self,
        count: u64,
        one: &'static str,
        other: &'static str,
        values: &[(&str, &dyn Display)],
    ) -> String {
        let mut all: Vec<(&str, &dyn Display)> = vec![("n", &count)];
        all.extend_from_slice(values);
        filled(if count == 1 { one } else { other }, &all)
    }
}

/// A text with its values put in. What stands in a value stays as it is; a name that has none stays too.
pub fn filled(text: &str, values: &[(&str, &dyn Display)]) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        out.push_str(before);
        let found = values
            .iter()
            .find_map(|(name, value)| Some((value, behind.strip_prefix(*name)?.strip_prefix('}')?)));
        match found {
            Some((value, behind)) => {
                out.push_str(&value.to_string());
                rest = behind;
            }
            None => {
                out.push('{');
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}
