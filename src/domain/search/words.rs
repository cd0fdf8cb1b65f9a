//! Words of a text as they are searched: without case, width and invisible characters, cut at all that is no letter or digit.

use crate::domain::policy::fold::nfkc_casefold;

/// Characters of a word that count; what follows them tells no two words apart.
pub const WORD_CHARS_MAX: usize = 32;

/// The words of a text, in order. Scripts that put no space between words give each character as a word of its own.
pub fn words(text: &str) -> Vec<String> {
    let folded = nfkc_casefold(text);
    let mut words = Vec::new();
    let mut word = String::new();
    let mut length = 0;
    for c in folded.chars() {
        let joins = c.is_alphanumeric() && !stands_alone(c);
        if !joins && !word.is_empty() {
            words.push(std::mem::take(&mut word));
            length = 0;
        }
        if joins && length < WORD_CHARS_MAX {
            word.push(c);
            length += 1;
        } else if stands_alone(c) {
            words.push(c.to_string());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Han, Hiragana, Katakana and Hangul syllables.
fn stands_alone(c: char) -> bool {
    matches!(c, '\u{3041}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{20000}'..='\u{3ffff}')
        && c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_where_no_letter_or_digit_stands() {
        assert_eq!(
            words("Fix: LOGIN-form (v2), feature/ada_1"),
            ["fix", "login", "form", "v2", "feature", "ada", "1"]
        );
        assert_eq!(
            words("Straße ＦＵＬＬ l\u{200b}ogin"),
            ["strasse", "full", "login"]
        );
        assert_eq!(words("部署 prod"), ["部", "署", "prod"]);
        assert_eq!(words(" !? "), Vec::<String>::new());
        assert_eq!(words(&"a".repeat(99)), ["a".repeat(WORD_CHARS_MAX)]);
    }
}
