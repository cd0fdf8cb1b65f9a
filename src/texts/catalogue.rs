//! All languages there are: the files of `assets/messages`, compiled in, those of a directory of the operator's, and two that are
//! made for tests.

use crate::texts::language::{Direction, Language};
use crate::texts::pseudo::accented;
use rust_embed::RustEmbed;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

/// A file a language, named by its tag.
#[derive(RustEmbed)]
#[folder = "assets/messages"]
struct Files;

/// The list of all texts, which is English.
const ENGLISH: &str = "en";
/// The languages of tests, by the names that browsers' makers use for them.
const ACCENTED: &str = "en-XA";
const MIRRORED: &str = "ar-XB";
/// Largest file of a language, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// The languages that pages can speak.
#[derive(Clone, Debug)]
pub struct Languages {
    /// Sorted by what they are called. English is none of them.
    all: Vec<&'static Language>,
}

impl Languages {
    /// Those that are compiled in.
    ///
    /// # Errors
    /// Which file is wrong and why.
    pub fn built_in() -> Result<Languages, String> {
        let mut all = Vec::new();
        for name in Files::iter() {
            let Some(tag) = name.strip_suffix(".toml").filter(|it| *it != ENGLISH) else {
                continue;
            };
            let file = Files::get(&name).expect("it is listed");
            let text = std::str::from_utf8(&file.data).map_err(|_| format!("{name} is not UTF-8"))?;
            all.push(Language::read(tag, text)?);
        }
        Ok(Languages::of(all))
    }

    /// These, and the files of a directory: a language of the operator's own. One that is there already is replaced.
    ///
    /// # Errors
    /// Which file can't be read or is wrong, and why.
    pub fn with_directory(self, directory: &Path) -> Result<Languages, String> {
        let at = directory.display();
        let entries = std::fs::read_dir(directory).map_err(|error| format!("{at}: {error}"))?;
        let mut all = self.all;
        for entry in entries {
            let path = entry.map_err(|error| format!("{at}: {error}"))?.path();
            let tag = path.file_stem().and_then(|it| it.to_str()).unwrap_or_default();
            if path.extension().is_none_or(|it| it != "toml") || tag == ENGLISH {
                continue;
            }
            let at = path.display();
            if !is_tag(tag) {
                return Err(format!(
                    "{at}: a language's file is named by its BCP 47 tag, such as pt-BR.toml"
                ));
            }
            let size = path.metadata().map_err(|error| format!("{at}: {error}"))?.len();
            if size > FILE_MAX {
                return Err(format!("{at}: a language has at most {FILE_MAX} bytes"));
            }
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{at}: {error}"))?;
            let language = Language::read(tag, &text).map_err(|error| format!("{at}: {error}"))?;
            all.retain(|it| it.tag != language.tag);
            all.push(leaked(language));
        }
        Ok(Languages::sorted(all))
    }

    fn of(all: Vec<Language>) -> Languages {
        Languages::sorted(all.into_iter().map(leaked).collect())
    }

    fn sorted(mut all: Vec<&'static Language>) -> Languages {
        all.sort_by(|a, b| (&a.name, &a.tag).cmp(&(&b.name, &b.tag)));
        Languages { all }
    }

    /// Those that people are offered beside English.
    pub fn offered(&self) -> impl Iterator<Item = &'static Language> {
        self.all.iter().copied().filter(|it| !it.hidden)
    }

    /// The language of a tag; `Some(None)` is English, `None` none of ours.
    pub fn tagged(&self, tag: &str) -> Option<Option<&'static Language>> {
        if tag.eq_ignore_ascii_case(ENGLISH) {
            return Some(None);
        }
        let is = |it: &&&'static Language| it.tag.eq_ignore_ascii_case(tag);
        if let Some(it) = self.all.iter().find(is) {
            return Some(Some(*it));
        }
        let of_tests = [ACCENTED, MIRRORED].iter().any(|it| it.eq_ignore_ascii_case(tag));
        of_tests.then(|| made().iter().find(is).copied())
    }

    /// The best of ours for an `Accept-Language` (RFC 9110, section 12.5.4; lookup of RFC 4647, section 3.4).
    pub fn accepted(&self, header: &str) -> Option<&'static Language> {
        let mut wanted: Vec<(&str, u32)> = header.split(',').take(ACCEPTED_MAX).filter_map(range).collect();
        // A stable sort: of two with the same weight the first one wins.
        wanted.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
        for (range, _) in wanted {
            let mut tag = range;
            loop {
                if let Some(found) = self.tagged(tag) {
                    return found;
                }
                match tag.rsplit_once('-') {
                    Some((shorter, _)) => tag = shorter,
                    None => break,
                }
            }
        }
        None
    }
}

/// Most ranges of an `Accept-Language` that are looked at.
const ACCEPTED_MAX: usize = 20;

/// A range and its weight in thousandths; `None` for what is unwanted or no range.
fn range(text: &str) -> Option<(&str, u32)> {
    let mut parts = text.split(';').map(str::trim);
    let tag = parts.next().filter(|it| !it.is_empty() && *it != "*")?;
    let weight = match parts.find_map(|it| it.strip_prefix("q=")) {
        Some(it) => (it.parse::<f32>().ok().filter(|it| (0.0..=1.0).contains(it))? * 1000.0) as u32,
        None => 1000,
    };
    (weight > 0).then_some((tag, weight))
}

/// Whether a name can be a language's tag (BCP 47).
fn is_tag(text: &str) -> bool {
    let part = |it: &str| (1..=8).contains(&it.len()) && it.chars().all(|c| c.is_ascii_alphanumeric());
    text.len() <= 35 && text.split('-').all(part) && text.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// A language lives as long as the process: its texts are handed out as `&'static str`, like the English ones.
fn leaked(language: Language) -> &'static Language {
    Box::leak(Box::new(language))
}

/// The languages of tests, which take some MiB: made when somebody asks for one.
fn made() -> &'static [&'static Language; 2] {
    static MADE: OnceLock<[&'static Language; 2]> = OnceLock::new();
    MADE.get_or_init(|| {
        let file = Files::get("en.toml").expect("it is compiled in");
        let text = std::str::from_utf8(&file.data).expect("a test reads it");
        let english = listed(text).expect("a test reads it");
        let one = |tag, name, direction| leaked(Language::made(tag, name, direction, &english, accented));
        [
            one(ACCENTED, "Accented English", Direction::LeftToRight),
            one(MIRRORED, "Mirrored English", Direction::RightToLeft),
        ]
    })
}

/// The English texts with their forms.
fn listed(file: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    let table: toml::Table = file.parse().map_err(|error| format!("{ENGLISH}: {error}"))?;
    let texts = table.get("texts").and_then(toml::Value::as_table);
    let forms = |english: &String, it: &toml::Value| match it {
        toml::Value::Array(all) => all
            .iter()
            .filter_map(|it| Some(it.as_str()?.to_owned()))
            .collect(),
        _ => vec![english.clone()],
    };
    Ok(texts
        .into_iter()
        .flatten()
        .map(|(english, it)| (english.clone(), forms(english, it)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(files: &[(&str, &str)]) -> Result<Languages, String> {
        let languages = files.iter().map(|(tag, text)| Language::read(tag, text));
        Ok(Languages::of(languages.collect::<Result<_, _>>()?))
    }

    #[test]
    fn the_files_that_are_compiled_in_are_right() {
        let languages = Languages::built_in().expect("all of them can be read");
        assert!(languages.tagged(ACCENTED).is_some_and(|it| it.is_some()));
        assert!(languages.offered().all(|it| !it.hidden));
    }

    #[test]
    fn the_reader_gets_the_best_language_there_is() {
        let all = with(&[("de", ""), ("pt-BR", ""), ("fr", "")]).unwrap();
        let tag = |header: &str| all.accepted(header).map_or("en", |it| it.tag.as_str());
        assert_eq!(tag("de-AT,de;q=0.9,en;q=0.8"), "de");
        assert_eq!(tag("en-GB,de;q=0.9"), "en");
        assert_eq!(tag("it, fr;q=0.4, de;q=0.6"), "de");
        assert_eq!(tag("PT-br"), "pt-BR");
        assert_eq!(tag("pt"), "en");
        assert_eq!(tag("de;q=0, fr;q=0.1"), "fr");
        for odd in ["", "*", ";;;,,", "de;q=x", "de;q=7", "\u{e9}"] {
            assert_eq!(tag(odd), "en", "{odd}");
        }
    }

    #[test]
    fn a_directory_adds_a_language_and_says_what_is_wrong_with_one() {
        let dir = std::env::temp_dir().join(format!("sa-languages-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("eo.toml"), "[language]\nname = \"Esperanto\"\n").unwrap();
        std::fs::write(dir.join("README.md"), "").unwrap();
        let added = with(&[]).unwrap().with_directory(&dir).unwrap();
        assert_eq!(
            added.offered().map(|it| it.name.as_str()).collect::<Vec<_>>(),
            ["Esperanto"]
        );
        std::fs::write(dir.join("not a tag.toml"), "").unwrap();
        assert!(
            with(&[])
                .unwrap()
                .with_directory(&dir)
                .unwrap_err()
                .contains("BCP 47")
        );
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(with(&[]).unwrap().with_directory(&dir).is_err());
    }
}
