//! The layers and where each value came from.

use crate::config::keys::{KEYS, Key, Kind};
use crate::config::{DEFAULT_FILE, Settings};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// File and 1-based line.
    File(PathBuf, usize),
    /// Name of the variable.
    Environment(String),
    /// Name of the flag.
    Flag(&'static str),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A value, before it is checked.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    List(Vec<String>),
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets travel as text too.
        f.write_str("[value]")
    }
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("{path}:{line}: unknown setting `{key}`")]
    Unknown { path: PathBuf, line: usize, key: String },
    #[error("{path}:{line}: `{key}` is a secret and never stands in the file; {hint}")]
    SecretInFile {
        path: PathBuf,
        line: usize,
        key: String,
        hint: String,
    },
    #[error("{path}:{line}: `{key}` should be {expected}")]
    Type {
        path: PathBuf,
        line: usize,
        key: String,
        expected: &'static str,
    },
    #[error("environment: unknown setting {0}")]
    UnknownVariable(String),
    #[error("{variable}: {reason}")]
    Variable { variable: String, reason: String },
    #[error("`{key}` (from {origin}): {reason}")]
    Value {
        key: &'static str,
        origin: Origin,
        reason: String,
    },
}

/// What the command line sets.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub data_dir: Option<PathBuf>,
    pub listen: Option<String>,
    pub public_url: Option<String>,
}

/// Every setting's winning value.
#[derive(Clone, Debug)]
pub struct Layers {
    pub values: BTreeMap<&'static str, (Value, Origin)>,
}

/// Reads all layers and checks them. `environment` are the process's variables.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn load(flags: &Flags, environment: impl Iterator<Item = (String, String)>) -> Result<Settings, Error> {
    let mut values = BTreeMap::new();
    for key in KEYS {
        let value = match key.kind {
            Kind::List => Value::List(Vec::new()),
            Kind::Text | Kind::Number | Kind::Secret => Value::Text(key.default.to_owned()),
        };
        values.insert(key.name, (value, Origin::Default));
    }
    match &flags.config {
        Some(path) => from_file(path, &mut values)?,
        // A file that can't be looked at is not a file that is absent: its settings must not be passed over.
        None => match Path::new(DEFAULT_FILE).try_exists() {
            Ok(true) => from_file(Path::new(DEFAULT_FILE), &mut values)?,
            Ok(false) => {}
            Err(e) => {
                return Err(Error::File {
                    path: DEFAULT_FILE.into(),
                    reason: e.to_string(),
                });
            }
        },
    }
    from_environment(environment, &mut values)?;
    let path = |it: &Option<PathBuf>| it.as_ref().map(|it| it.display().to_string());
    let given = [
        ("data_dir", "--data-dir", path(&flags.data_dir)),
        ("listen", "--listen", flags.listen.clone()),
        ("public_url", "--public-url", flags.public_url.clone()),
    ];
    for (key, flag, value) in given {
        if let Some(value) = value {
            values.insert(key, (Value::Text(value), Origin::Flag(flag)));
        }
    }
    Settings::from_layers(Layers { values })
}

type Values = BTreeMap<&'static str, (Value, Origin)>;

fn from_file(path: &Path, values: &mut Values) -> Result<(), Error> {
    let failed = |reason: String| Error::File {
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    let table = DeTable::parse(&text).map_err(|e| failed(e.to_string().trim().to_owned()))?;
    from_table(path, &text, "", table.get_ref(), values)
}

fn from_table(
    path: &Path,
    text: &str,
    prefix: &str,
    table: &DeTable<'_>,
    values: &mut Values,
) -> Result<(), Error> {
    for (key, value) in table {
        let line = text[..key.span().start].matches('\n').count() + 1;
        let name = if prefix.is_empty() {
            key.get_ref().to_string()
        } else {
            format!("{prefix}.{}", key.get_ref())
        };
        if let DeValue::Table(inner) = value.get_ref() {
            let section = format!("{name}.");
            if KEYS.iter().any(|it| it.name.starts_with(&section)) {
                from_table(path, text, &name, inner, values)?;
                continue;
            }
        }
        let known = KEYS
            .iter()
            .find(|it| it.name == name)
            .ok_or_else(|| Error::Unknown {
                path: path.to_owned(),
                line,
                key: name.clone(),
            })?;
        if known.kind == Kind::Secret {
            let variable = variable(known);
            let hint = format!("set {variable} or {variable}_FILE");
            return Err(Error::SecretInFile {
                path: path.to_owned(),
                line,
                key: name,
                hint,
            });
        }
        let wrong = |expected| Error::Type {
            path: path.to_owned(),
            line,
            key: name.clone(),
            expected,
        };
        let read = match (known.kind, value.get_ref()) {
            (Kind::Number, DeValue::Integer(number)) if number.radix() == 10 => {
                Value::Text(number.as_str().to_owned())
            }
            (Kind::Text | Kind::Number, DeValue::String(text)) => Value::Text(text.to_string()),
            (Kind::List, DeValue::Array(items)) => Value::List(
                items
                    .iter()
                    .map(|it| match it.get_ref() {
                        DeValue::String(text) => Ok(text.to_string()),
                        _ => Err(wrong("a list of texts")),
                    })
                    .collect::<Result<_, _>>()?,
            ),
            (Kind::List, _) => return Err(wrong("a list of texts")),
            (Kind::Number, _) => return Err(wrong("a whole number")),
            _ => return Err(wrong("a text in quotes")),
        };
        values.insert(known.name, (read, Origin::File(path.to_owned(), line)));
    }
    Ok(())
}

/// `SIGNEDAPPROVAL_SECTION__KEY`.
fn variable(key: &Key) -> String {
    format!(
        "SIGNEDAPPROVAL_{}",
        key.name.replace('.', "__").to_ascii_uppercase()
    )
}

/// Variables that other parts of the program read: a pipeline's own, and the tests'.
const OTHER_VARIABLES: &[&str] = &[
    "SIGNEDAPPROVAL_URL",
    "SIGNEDAPPROVAL_API_KEY",
    "SIGNEDAPPROVAL_TRUSTED_KEY",
    "SIGNEDAPPROVAL_CA",
    "SIGNEDAPPROVAL_LOG",
];

fn from_environment(
    environment: impl Iterator<Item = (String, String)>,
    values: &mut Values,
) -> Result<(), Error> {
    for (name, content) in environment {
        if !name.starts_with("SIGNEDAPPROVAL_")
            || OTHER_VARIABLES.contains(&name.as_str())
            || name.starts_with("SIGNEDAPPROVAL_TEST_")
        {
            continue;
        }
        let by_name = |wanted: &str| KEYS.iter().find(|it| variable(it) == wanted);
        let (key, content) = match (by_name(&name), name.strip_suffix("_FILE").and_then(by_name)) {
            (Some(key), _) => (key, content),
            (None, Some(key)) => {
                let read = std::fs::read_to_string(&content).map_err(|e| Error::Variable {
                    variable: name.clone(),
                    reason: format!("{content}: {e}"),
                })?;
                (key, read.trim_end_matches(['\r', '\n']).to_owned())
            }
            (None, None) => return Err(Error::UnknownVariable(name)),
        };
        let value = match key.kind {
            Kind::List => Value::List(
                content
                    .split(',')
                    .map(|it| it.trim().to_owned())
                    .filter(|it| !it.is_empty())
                    .collect(),
            ),
            Kind::Text | Kind::Number | Kind::Secret => Value::Text(content),
        };
        values.insert(key.name, (value, Origin::Environment(name)));
    }
    Ok(())
}
