//! What may be signed: by the key `credential` the statements of an appliance, by the key `log` the checkpoints of one
//! log, by either the introduction of the key that follows. A key that signs anything would be a key for anything.

/// Payload types that a statement may have.
const STATEMENT: &str = "application/vnd.in-toto+json";
const INTRODUCTION: &str = "application/vnd.signedapproval.key+json";

/// What may be signed.
pub struct Permitted {
    /// How the first line of a checkpoint begins.
    origin: String,
}

impl Permitted {
    /// # Errors
    /// When the prefix would permit the notes of other logs.
    pub fn new(origin: &str) -> Result<Permitted, String> {
        let host = origin.strip_suffix("/log/").unwrap_or_default();
        if host.is_empty() || host.contains('/') || host.chars().any(char::is_whitespace) {
            return Err(
                "--origin is the host of the appliance's public URL and `/log/`, such as \
                        approvals.example.com/log/"
                    .into(),
            );
        }
        Ok(Permitted {
            origin: origin.to_owned(),
        })
    }

    /// Whether the key of this label may sign `message`.
    pub fn allows(&self, label: &str, message: &[u8]) -> bool {
        match label {
            "credential" => is_pae(message, &[STATEMENT, INTRODUCTION]),
            "log" => self.is_checkpoint(message) || is_pae(message, &[INTRODUCTION]),
            _ => false,
        }
    }

    /// The signed text of a C2SP tlog-checkpoint without extensions: origin, size, root.
    fn is_checkpoint(&self, message: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(message) else {
            return false;
        };
        let Some(lines) = text.strip_suffix('\n') else {
            return false;
        };
        let lines: Vec<&str> = lines.split('\n').collect();
        let [origin, size, root] = lines.as_slice() else {
            return false;
        };
        let tail = origin.strip_prefix(&self.origin);
        let is_size = size.parse::<u64>().is_ok_and(|it| it.to_string() == **size);
        let is_root = root.len() == 44
            && root.ends_with('=')
            && root
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || matches!(it, b'+' | b'/' | b'='));
        let is_name = |it: &str| !it.is_empty() && it.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'/');
        tail.is_some_and(is_name) && is_size && is_root
    }
}

/// A DSSE pre-authentication encoding of one of these payload types, with both lengths right.
fn is_pae(message: &[u8], types: &[&str]) -> bool {
    types.iter().any(|kind| {
        let head = format!("DSSEv1 {} {kind} ", kind.len());
        let Some(rest) = message.strip_prefix(head.as_bytes()) else {
            return false;
        };
        let Some(at) = rest.iter().position(|it| *it == b' ') else {
            return false;
        };
        let payload = &rest[at + 1..];
        rest[..at] == *payload.len().to_string().as_bytes() && payload.first() == Some(&b'{')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pae(kind: &str, payload: &str) -> Vec<u8> {
        format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len()).into_bytes()
    }

    #[test]
    fn each_key_signs_its_own_kind_and_nothing_else() {
        let it = Permitted::new("sa.example/log/").expect("a prefix");
        let root = "A".repeat(43) + "=";
        let checkpoint = format!("sa.example/log/0123abcd/1\n42\n{root}\n").into_bytes();
        let statement = pae(STATEMENT, "{}");
        let introduction = pae(INTRODUCTION, "{}");
        assert!(it.allows("credential", &statement));
        assert!(it.allows("credential", &introduction));
        assert!(it.allows("log", &checkpoint));
        assert!(it.allows("log", &introduction));
        assert!(!it.allows("log", &statement));
        assert!(!it.allows("credential", &checkpoint));
        assert!(!it.allows("other", &statement));
    }

    #[test]
    fn other_logs_other_types_and_wrong_lengths_are_refused() {
        let it = Permitted::new("sa.example/log/").expect("a prefix");
        let root = "A".repeat(43) + "=";
        for note in [
            format!("other.example/log/0123abcd/1\n42\n{root}\n"),
            format!("sa.example/log/\n42\n{root}\n"),
            format!("sa.example/log/0123abcd/1\n042\n{root}\n"),
            format!("sa.example/log/0123abcd/1\n-1\n{root}\n"),
            format!("sa.example/log/0123abcd/1\n42\n{root}\nmore\n"),
            format!("sa.example/log/0123abcd/1\n42\n{root}"),
            "sa.example/log/0123abcd/1\n42\nAAAA\n".to_owned(),
            String::new(),
        ] {
            assert!(!it.allows("log", note.as_bytes()), "{note:?}");
        }
        for statement in [
            &b"DSSEv1 28 application/vnd.in-toto+json 3 {}"[..],
            b"DSSEv1 28 application/vnd.in-toto+json 02 {}",
            b"DSSEv1 28 application/vnd.in-toto+json 1 x",
            b"DSSEv1 10 text/plain 2 {}",
            b"DSSEv1 28 application/vnd.in-toto+json ",
            b"",
        ] {
            assert!(!it.allows("credential", statement), "{statement:?}");
        }
        assert!(Permitted::new("").is_err());
        assert!(Permitted::new("/log/").is_err());
        assert!(Permitted::new("sa.example").is_err());
    }
}
