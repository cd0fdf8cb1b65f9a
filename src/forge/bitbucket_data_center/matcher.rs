//! Which branches a branch permission or a required build is about.

use serde::Deserialize;

/// What names branches.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Matcher {
    #[serde(default)]
    id: String,
    #[serde(rename = "type", default)]
    kind: Kind,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Kind {
    id: String,
}

/// Whether a branch is among those that are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fits {
    Yes,
    No,
    /// The branching model decides, which is not read here.
    Unknown,
}

impl Matcher {
    /// `branch`: full ref.
    pub(super) fn fits(&self, branch: &str) -> Fits {
        let yes = match self.kind.id.as_str() {
            "ANY_REF" => true,
            "BRANCH" => self.id == branch,
            "PATTERN" => ant(&self.id, branch),
            _ => return Fits::Unknown,
        };
        if yes { Fits::Yes } else { Fits::No }
    }
}

/// Bitbucket's patterns: `?` is one character and `*` any of them within a part of the name, `**` any parts. A pattern is
/// looked for in every namespace, and one that ends with a slash is about everything beneath it.
fn ant(pattern: &str, reference: &str) -> bool {
    let mut parts: Vec<&str> = pattern.trim_start_matches('/').split('/').collect();
    if pattern.ends_with('/') {
        parts.pop();
        parts.push("**");
    }
    if !pattern.starts_with("refs/") {
        parts.insert(0, "**");
    }
    let names: Vec<&str> = reference.split('/').collect();
    // Which beginnings of the name each beginning of the pattern can stand for.
    let mut fits = vec![false; names.len() + 1];
    fits[0] = true;
    for part in parts {
        let mut next = vec![false; names.len() + 1];
        for at in 0..=names.len() {
            if !fits[at] {
                continue;
            }
            if part == "**" {
                next[at..].fill(true);
            } else if at < names.len() && in_part(part, names[at]) {
                next[at + 1] = true;
            }
        }
        fits = next;
    }
    fits[names.len()]
}

/// The same within one part, in time linear in both.
fn in_part(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let mut fits = vec![false; name.len() + 1];
    fits[0] = true;
    for c in pattern {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            if !fits[at] {
                continue;
            }
            if c == '*' {
                next[at..].fill(true);
            } else if at < name.len() && (c == '?' || c == name[at]) {
                next[at + 1] = true;
            }
        }
        fits = next;
    }
    fits[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patterns_mean_what_bitbuckets_guide_says() {
        let fits = |pattern: &str, name: &str| ant(pattern, &format!("refs/{name}"));
        for (pattern, name) in [
            ("*", "heads/master"),
            ("PROJECT-*", "heads/PROJECT-1234"),
            ("PROJECT-*", "heads/stable/PROJECT-new"),
            ("?.?", "heads/1.1"),
            ("?.?", "heads/stable/2.X"),
            ("tags/", "tags/build/1"),
            ("tags/**", "tags/build/1"),
            ("heads/**/master", "heads/master"),
            ("heads/**/master", "heads/stable/master"),
            ("refs/heads/release/*", "heads/release/1"),
            ("main", "heads/main"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("?.?", "heads/10.1"),
            ("tags/", "heads/main"),
            ("heads/**/master", "heads/mastered"),
            ("refs/heads/release/*", "heads/release/1/2"),
            ("refs/heads/main", "heads/x/main"),
            ("main", "heads/maintenance"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_branching_model_is_not_guessed() {
        let of = |kind: &str, id: &str| -> Fits {
            let it: Matcher =
                serde_json::from_value(json!({"id": id, "type": {"id": kind, "name": "x"}})).expect("it");
            it.fits("refs/heads/main")
        };
        assert_eq!(of("BRANCH", "refs/heads/main"), Fits::Yes);
        assert_eq!(of("BRANCH", "refs/heads/dev"), Fits::No);
        assert_eq!(of("PATTERN", "m*"), Fits::Yes);
        assert_eq!(of("ANY_REF", "ANY_REF_MATCHER_ID"), Fits::Yes);
        for kind in ["MODEL_BRANCH", "MODEL_CATEGORY", ""] {
            assert_eq!(of(kind, "production"), Fits::Unknown);
        }
    }
}
