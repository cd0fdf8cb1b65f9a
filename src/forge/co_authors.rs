//! The trailers of a commit's message that name further authors.

/// `Co-authored-by: Name <e-mail>`, anywhere in the message: it only ever bans more people, so it is read generously.
pub(super) fn co_authors(message: &str) -> Vec<(&str, Option<&str>)> {
    const KEY: &str = "co-authored-by:";
    let mut found = Vec::new();
    for line in message.lines() {
        let line = line.trim();
        let Some(key) = line.get(..KEY.len()) else {
            continue;
        };
        if !key.eq_ignore_ascii_case(KEY) {
            continue;
        }
        let rest = line[KEY.len()..].trim();
        match rest.split_once('<') {
            Some((name, email)) => {
                found.push((name.trim(), Some(email.split('>').next().unwrap_or(email).trim())));
            }
            None if rest.contains('@') => found.push(("", Some(rest))),
            None if !rest.is_empty() => found.push((rest, None)),
            None => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn co_authors_are_read_generously() {
        let message = "Subject\n\nCo-authored-by: Ann Other <Ann@Example.org>\nco-AUTHORED-by:bob@example.org\n\
                       Co-authored-by: Nobody\nCo-authored-by:\n  Co-Authored-By: X <x@y\nCo-authored-bÿ";
        let expected = vec![
            ("Ann Other", Some("Ann@Example.org")),
            ("", Some("bob@example.org")),
            ("Nobody", None),
            ("X", Some("x@y")),
        ];
        assert_eq!(co_authors(message), expected);
    }
}
