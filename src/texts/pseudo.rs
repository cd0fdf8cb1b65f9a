//! Languages for tests, made from the English texts at run time: every letter gets a foreign look, every text is a third longer and
//! stands in brackets. What such a page shows without them has not gone through the catalogue.

/// A text of the catalogue in the language of tests. Tags, values and entities stay as they are.
pub fn accented(text: &str) -> String {
    let mut out = String::from("[!!");
    let mut rest = text;
    let mut letters = 0;
    while let Some(c) = rest.chars().next() {
        let end = match c {
            '<' => rest.find('>'),
            '{' => rest.find('}'),
            '&' => rest.find(';').filter(|it| *it < 10 && !rest[..*it].contains(' ')),
            _ => None,
        };
        let kept = end.map_or(0, |it| it + 1);
        if kept > 0 {
            out.push_str(&rest[..kept]);
            rest = &rest[kept..];
        } else {
            letters += 1;
            out.push(foreign(c));
            rest = &rest[c.len_utf8()..];
        }
    }
    // The brackets are six of the third that it is longer.
    let mut missing = (letters / 3_usize).saturating_sub(6);
    while missing > 0 {
        let word = ["éïñš", "żŵéì", "ðŕèí"][missing % 3];
        out.push(' ');
        out.push_str(word);
        missing = missing.saturating_sub(5);
    }
    out.push_str("!!]");
    out
}

fn foreign(c: char) -> char {
    const PLAIN: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const FOREIGN: &str = "ÀƁÇÐÉƑĜĤÎĴĶĹḾÑÖÞǪŔŠŢÛṼŴẊÝŽàƀçðéƒĝĥîĵķļɱñöþǫŕšţûṽŵẋýž";
    let found = PLAIN.chars().zip(FOREIGN.chars()).find(|(it, _)| *it == c);
    found.map_or(c, |(_, it)| it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_plain_letter_is_left_and_nothing_else_is_touched() {
        assert_eq!(accented("Queue"), "[!!Ǫûéûé!!]");
        assert_eq!(
            accented("<b class=\"x\">{who}</b> &amp; R&D"),
            "[!!<b class=\"x\">{who}</b> &amp; Ŕ&Ð!!]"
        );
        let all: String = ('a'..='z').chain('A'..='Z').collect();
        assert!(!accented(&all).contains(|c: char| c.is_ascii_alphabetic()));
        let long = "Nothing waits for you, and nothing will before tomorrow.";
        let length = accented(long).chars().count();
        assert!(length * 3 >= long.len() * 4, "{length}");
    }
}
