//! The policy document: its types, and the strict reader that refuses whatever is not exactly a policy (rule 17).
//! It never repairs a document, and never falls back to an older or a looser one.

use crate::domain::ids::Digest;
use crate::domain::policy::explain::Names;
use crate::domain::policy::glob::{NamePattern, PathGlob};
use crate::domain::policy::index::{Index, Place, Sense};
use crate::domain::policy::json::{self, Member, Node, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The largest document that is read, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// The most rules of a document.
pub const RULES_MAX: usize = 1000;
/// The most path globs of a rule (`paths` and `exclude_paths` together), and the most entries in any other list of it.
pub const GLOBS_MAX: usize = 200;
/// The longest `ttl_max`, in seconds: 30 days.
pub const TTL_MAX: u64 = 2_592_000;
/// The most admins that a change to a policy may need.
pub const CHANGE_QUORUM_MAX: u64 = 10;
/// The name of the obligation that comes from the default rule; no rule may bear it.
pub const DEFAULT_RULE: &str = "default";

/// The longest name of a rule, in bytes.
const NAME_BYTES_MAX: usize = 200;
/// The largest quorum: more people than any approval list that was seen.
pub const QUORUM_MAX: u64 = 100;
/// More errors than this help nobody.
const ERRORS_MAX: usize = 100;

/// How a person proved to be who they are, weakest first: the order is rule 8's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    Totp,
    Passkey,
    Biometric,
}

impl Method {
    /// All methods, weakest first.
    pub const ALL: [Method; 3] = [Method::Totp, Method::Passkey, Method::Biometric];

    /// The method's name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Method::Totp => "totp",
            Method::Passkey => "passkey",
            Method::Biometric => "biometric",
        }
    }

    /// What a decision by it rests on: the approver's own signature, or this server's word.
    pub fn grade(self) -> &'static str {
        match self {
            Method::Totp => crate::domain::totp::GRADE,
            Method::Passkey | Method::Biometric => "approver-signed",
        }
    }

    /// A decision made with this method counts where `listed` is asked for: a stronger one satisfies a weaker.
    pub fn satisfies(self, listed: Method) -> bool {
        self >= listed
    }

    /// Reads a name; `None` for anything but the closed set.
    pub fn parse(name: &str) -> Option<Self> {
        Method::ALL.into_iter().find(|m| m.name() == name)
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Who may fill an obligation: `group:<name>` or `person:<id or e-mail>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Approver {
    Group(String),
    Person(String),
}

impl Approver {
    /// Reads `group:<name>` or `person:<id or e-mail>`.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, who) = text.split_once(':')?;
        if who.is_empty() || who.trim() != who {
            return None;
        }
        match kind {
            "group" => Some(Approver::Group(who.to_owned())),
            "person" => Some(Approver::Person(who.to_owned())),
            _ => None,
        }
    }
}

impl std::fmt::Display for Approver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Approver::Group(name) => write!(f, "group:{name}"),
            Approver::Person(who) => write!(f, "person:{who}"),
        }
    }
}

impl From<Approver> for String {
    fn from(approver: Approver) -> Self {
        approver.to_string()
    }
}

impl TryFrom<String> for Approver {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Approver::parse(&text).ok_or("neither group:<name> nor person:<id or e-mail>")
    }
}

/// What is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
#[error("line {line}: {}{reason}", if key.is_empty() { String::new() } else { format!("{key}: ") })]
pub struct ParseError {
    /// The line of the key (or list entry) at fault, from 1.
    pub line: u32,
    /// Where in the document, as `rules[0].require.quorum`; empty for the document itself.
    pub key: String,
    /// A sentence part for people.
    pub reason: String,
}

impl ParseError {
    pub(crate) fn new(line: u32, key: impl Into<String>, reason: impl Into<String>) -> Self {
        ParseError {
            line,
            key: key.into(),
            reason: reason.into(),
        }
    }
}

/// A valid policy, with the exact bytes it was read from.
#[derive(Clone, Debug)]
pub struct Document {
    bytes: Vec<u8>,
    sha256: Digest,
    rules: Vec<Rule>,
    default: Option<DefaultRule>,
    change_quorum: u32,
    index: RuleIndex,
}

/// The globs of all rules, by what they spell out.
#[derive(Clone, Debug)]
pub(crate) struct RuleIndex {
    /// Of the rules that ask.
    pub demands: Index,
    /// Of the rules that skip, and of break-glass.
    pub grants: Index,
    /// Rules about all paths.
    pub everywhere: Vec<u32>,
    /// Some rule leaves paths out.
    pub leaves_out: bool,
    /// The name of each rule, as a list of one: what most paths match.
    pub alone: Vec<Names>,
    /// The same of the default rule.
    pub default_alone: Names,
}

impl RuleIndex {
    fn new(rules: &[Rule]) -> Self {
        let mut index = RuleIndex {
            demands: Index::new(Sense::Demand),
            grants: Index::new(Sense::Grant),
            everywhere: Vec::new(),
            leaves_out: rules.iter().any(|it| !it.match_.exclude_paths.is_empty()),
            alone: rules
                .iter()
                .map(|it| Names::from(vec![it.name.clone()]))
                .collect(),
            default_alone: Names::from(vec![DEFAULT_RULE.to_owned()]),
        };
        for (owner, rule) in rules.iter().enumerate() {
            let owner = u32::try_from(owner).expect("few rules");
            let Some(globs) = &rule.match_.paths else {
                index.everywhere.push(owner);
                continue;
            };
            let demand = matches!(&rule.effect, RuleEffect::Require(it) if !it.break_glass);
            let into = if demand {
                &mut index.demands
            } else {
                &mut index.grants
            };
            for (glob, it) in globs.iter().enumerate() {
                let glob = u32::try_from(glob).expect("few globs");
                into.add(Place { owner, glob }, it);
            }
        }
        index
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Unique in the document.
    pub name: String,
    /// The line the rule begins on.
    pub line: u32,
    pub match_: Match,
    pub effect: RuleEffect,
}

/// What a rule judges. An absent list stands for everything of its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Present: the rule judges changes only.
    pub branch: Option<Vec<NamePattern>>,
    /// Present: the rule judges deployments and actions only.
    pub environment: Option<Vec<NamePattern>>,
    pub project: Option<Vec<NamePattern>>,
    /// Present: never empty.
    pub paths: Option<Vec<PathGlob>>,
    pub exclude_paths: Vec<PathGlob>,
}

/// What a rule does to what it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleEffect {
    Require(Require),
    Skip,
}

/// What a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Require {
    /// Never empty, without duplicates, in the order of the document.
    pub methods: Vec<Method>,
    /// Persons, at least 1.
    pub quorum: u32,
    /// Seconds.
    pub ttl_max: Option<u64>,
    /// Empty: every person with the role.
    pub approvers: Vec<Approver>,
    /// Its approvers must be other people than those that fill the other obligations (rule 5).
    pub independent: bool,
    /// Another way through, never an obligation (rule 21).
    pub break_glass: bool,
    /// Whoever made or asked for the change may approve it (rule 7).
    pub allow_author: bool,
    /// Whoever else contributed to the change may approve it (rule 7).
    pub allow_contributor: bool,
    /// Whoever approves picks the two digits that the requester sees, so that nobody approves what they did not look for.
    pub match_code: bool,
    /// Only a passkey that can't be copied off its device counts (NIST SP 800-63B, AAL3).
    pub device_bound: bool,
}

/// The rule for what nothing matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultRule {
    /// Only `methods`, `quorum`, `ttl_max` and `approvers` can be written.
    Require(Require),
    /// What nothing matches is blocked.
    Block,
}

impl Document {
    /// Reads a document. All errors that can be told apart are told at once, in the order of their lines.
    pub fn parse(bytes: &[u8]) -> Result<Document, Vec<ParseError>> {
        if bytes.len() > DOCUMENT_BYTES_MAX {
            let reason = format!("the document is larger than {DOCUMENT_BYTES_MAX} bytes");
            return Err(vec![ParseError::new(1, "", reason)]);
        }
        let root = json::read(bytes).map_err(|e| vec![e])?;
        let mut check = Check { errors: Vec::new() };
        let parts = check.document(&root);
        let Check { mut errors } = check;
        match parts {
            Some(Parts {
                rules,
                default,
                change_quorum,
            }) if errors.is_empty() => Ok(Document {
                bytes: bytes.to_vec(),
                sha256: Digest::of(bytes),
                index: RuleIndex::new(&rules),
                rules,
                default,
                change_quorum,
            }),
            _ => {
                errors.sort();
                let more = errors.len().saturating_sub(ERRORS_MAX);
                errors.truncate(ERRORS_MAX);
                if let Some(last) = errors.last().filter(|_| more > 0) {
                    let reason = format!("{more} more errors follow and are not listed");
                    errors.push(ParseError::new(last.line, "", reason));
                }
                Err(errors)
            }
        }
    }

    /// The exact bytes the document was read from.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest of those bytes.
    pub fn sha256(&self) -> Digest {
        self.sha256
    }

    /// How the rules are found by path.
    pub(crate) fn index(&self) -> &RuleIndex {
        &self.index
    }

    /// The rules, in the order of the document.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The default rule, if the document has one.
    pub fn default_rule(&self) -> Option<&DefaultRule> {
        self.default.as_ref()
    }

    /// How many admins a change to this policy needs: 1 where the document does not say. Whoever proposes the change
    /// is one of them.
    pub fn change_quorum(&self) -> u32 {
        self.change_quorum
    }

    /// Every group or person that the document names, with the name of the rule (`default` for the default rule) and
    /// its line. Whoever saves a document refuses those that do not exist.
    pub fn approvers(&self) -> impl Iterator<Item = (&str, u32, &Approver)> {
        let of_rules = self.rules.iter().filter_map(|rule| match &rule.effect {
            RuleEffect::Require(require) => Some((rule.name.as_str(), rule.line, &require.approvers)),
            RuleEffect::Skip => None,
        });
        let of_default = self.default.iter().filter_map(|default| match default {
            DefaultRule::Require(require) => Some((DEFAULT_RULE, 1, &require.approvers)),
            DefaultRule::Block => None,
        });
        of_rules
            .chain(of_default)
            .flat_map(|(name, line, list)| list.iter().map(move |a| (name, line, a)))
    }
}

struct Check {
    errors: Vec<ParseError>,
}

/// What a document is made of.
struct Parts {
    rules: Vec<Rule>,
    default: Option<DefaultRule>,
    change_quorum: u32,
}

/// An object whose keys were checked, and where it stands.
struct Fields<'a> {
    members: &'a [Member],
    at: String,
    line: u32,
}

/// A value under a key, and where it stands.
#[derive(Clone)]
struct Field<'a> {
    node: &'a Node,
    at: String,
    line: u32,
}

impl<'a> Fields<'a> {
    fn get(&self, key: &str) -> Option<Field<'a>> {
        let member = self.members.iter().find(|m| m.key == key)?;
        Some(Field {
            node: &member.node,
            at: join(&self.at, key),
            line: member.line,
        })
    }
}

fn join(at: &str, key: &str) -> String {
    if at.is_empty() {
        key.to_owned()
    } else {
        format!("{at}.{key}")
    }
}

impl Check {
    fn error(&mut self, line: u32, at: &str, reason: impl Into<String>) {
        self.errors.push(ParseError::new(line, at, reason));
    }

    fn wrong_type(&mut self, field: &Field<'_>, wanted: &str) {
        let (said_wanted, said_found) = (wanted, field.node.value.kind());
        let reason = format!("must be {said_wanted}, not {said_found}");
        self.error(field.line, &field.at, reason);
    }

    fn document(&mut self, root: &Node) -> Option<Parts> {
        let whole = Field {
            node: root,
            at: String::new(),
            line: root.line,
        };
        let fields = self.object(&whole, &["rules", "default", "change_quorum"])?;
        let rules = self.required(&fields, "rules").and_then(|f| self.rules(&f));
        let default = fields.get("default").map(|f| self.default(&f));
        let change_quorum = fields
            .get("change_quorum")
            .map_or(Some(1), |f| self.integer(&f, 1, CHANGE_QUORUM_MAX));
        Some(Parts {
            rules: rules?,
            default: match default {
                Some(read) => Some(read?),
                None => None,
            },
            change_quorum: u32::try_from(change_quorum?).ok()?,
        })
    }

    fn rules(&mut self, field: &Field<'_>) -> Option<Vec<Rule>> {
        let items = self.list(field)?;
        if items.len() > RULES_MAX {
            self.error(
                field.line,
                &field.at,
                format!("holds more than {RULES_MAX} rules"),
            );
            return None;
        }
        let mut names = BTreeSet::new();
        let mut rules = Vec::new();
        for item in &items {
            rules.extend(self.rule(item, &mut names));
        }
        (rules.len() == items.len()).then_some(rules)
    }

    fn rule(&mut self, field: &Field<'_>, names: &mut BTreeSet<String>) -> Option<Rule> {
        let fields = self.object(field, &["name", "match", "require", "action"])?;
        let name = self.required(&fields, "name").and_then(|f| self.name(&f, names));
        let match_ = self.required(&fields, "match").and_then(|f| self.match_(&f));
        let effect = match (fields.get("require"), fields.get("action")) {
            (Some(require), None) => self.require(&require).map(RuleEffect::Require),
            (None, Some(action)) => match &action.node.value {
                Value::Text(word) if word == "skip" => Some(RuleEffect::Skip),
                Value::Text(_) => {
                    self.error(action.line, &action.at, "must be \"skip\"");
                    None
                }
                _ => {
                    self.wrong_type(&action, "the string \"skip\"");
                    None
                }
            },
            (Some(_), Some(action)) => {
                self.error(action.line, &field.at, "has both `require` and `action`");
                None
            }
            (None, None) => {
                self.error(fields.line, &field.at, "has neither `require` nor `action`");
                None
            }
        };
        Some(Rule {
            name: name?,
            line: field.node.line,
            match_: match_?,
            effect: effect?,
        })
    }

    fn name(&mut self, field: &Field<'_>, names: &mut BTreeSet<String>) -> Option<String> {
        let name = self.text(field)?;
        let reason = if name.trim().is_empty() {
            "is empty"
        } else if name.len() > NAME_BYTES_MAX {
            "is longer than 200 bytes"
        } else if name.chars().any(char::is_control) {
            "holds a control character"
        } else if name == DEFAULT_RULE {
            "is the name of the default rule"
        } else if !names.insert(name.clone()) {
            "is the name of an earlier rule"
        } else {
            return Some(name);
        };
        self.error(field.line, &field.at, reason);
        None
    }

    fn match_(&mut self, field: &Field<'_>) -> Option<Match> {
        let keys = ["branch", "environment", "project", "paths", "exclude_paths"];
        let fields = self.object(field, &keys)?;
        let before = self.errors.len();
        let branch = self.patterns(&fields, "branch");
        let environment = self.patterns(&fields, "environment");
        let project = self.patterns(&fields, "project");
        let paths = fields.get("paths").map(|f| self.globs(&f, false));
        let exclude_paths = fields
            .get("exclude_paths")
            .map(|f| self.globs(&f, true))
            .unwrap_or_default();
        if paths.iter().flatten().count() + exclude_paths.len() > GLOBS_MAX {
            self.error(
                fields.line,
                &fields.at,
                format!("holds more than {GLOBS_MAX} globs"),
            );
        }
        if let (Some(_), Some(environment)) = (fields.get("branch"), fields.get("environment")) {
            let reason = "stands beside `branch`: a rule judges changes or deployments, not both";
            self.error(environment.line, &environment.at, reason);
        }
        let fits = self.errors.len() == before;
        fits.then_some(Match {
            branch,
            environment,
            project,
            paths,
            exclude_paths,
        })
    }

    /// One pattern or a list of them.
    fn patterns(&mut self, fields: &Fields<'_>, key: &str) -> Option<Vec<NamePattern>> {
        let field = fields.get(key)?;
        let items = match &field.node.value {
            Value::Text(_) => vec![field],
            Value::List(_) => self.filled_list(&field)?,
            _ => {
                self.wrong_type(&field, "a string or a list of strings");
                return None;
            }
        };
        let mut out: Vec<NamePattern> = Vec::new();
        for item in items {
            if let Some(text) = self.text(&item) {
                match NamePattern::new(&text) {
                    Ok(pattern) if !out.contains(&pattern) => out.push(pattern),
                    Ok(_) => {}
                    Err(bad) => self.error(
                        item.line,
                        &item.at,
                        format!(
                            "bad glob `{glob}`: it {said_bad}",
                            glob = shown(&text),
                            said_bad = bad
                        ),
                    ),
                }
            }
        }
        Some(out)
    }

    fn globs(&mut self, field: &Field<'_>, may_be_empty: bool) -> Vec<PathGlob> {
        let items = if may_be_empty {
            self.list(field)
        } else {
            self.filled_list(field)
        };
        let items = items.unwrap_or_default();
        if items.len() > GLOBS_MAX {
            self.error(
                field.line,
                &field.at,
                format!("holds more than {GLOBS_MAX} globs"),
            );
            return Vec::new();
        }
        let mut out: Vec<PathGlob> = Vec::new();
        for item in items {
            if let Some(text) = self.text(&item) {
                match PathGlob::new(&text) {
                    Ok(glob) if !out.contains(&glob) => out.push(glob),
                    Ok(_) => {}
                    Err(bad) => self.error(
                        item.line,
                        &item.at,
                        format!(
                            "bad glob `{glob}`: it {said_bad}",
                            glob = shown(&text),
                            said_bad = bad
                        ),
                    ),
                }
            }
        }
        out
    }

    fn require(&mut self, field: &Field<'_>) -> Option<Require> {
        let keys = [
            "method",
            "quorum",
            "ttl_max",
            "approvers",
            "independent",
            "break_glass",
            "allow_author",
            "allow_contributor",
            "match_code",
            "device_bound",
        ];
        let fields = self.object(field, &keys)?;
        let mut require = self.demand(&fields)?;
        for (key, flag) in [
            ("independent", &mut require.independent),
            ("break_glass", &mut require.break_glass),
            ("allow_author", &mut require.allow_author),
            ("allow_contributor", &mut require.allow_contributor),
            ("match_code", &mut require.match_code),
            ("device_bound", &mut require.device_bound),
        ] {
            if let Some(field) = fields.get(key) {
                match field.node.value {
                    Value::Flag(value) => *flag = value,
                    _ => self.wrong_type(&field, "true or false"),
                }
            }
        }
        if let (true, Some(at)) = (require.break_glass, fields.get("break_glass")) {
            if require.quorum < 2 {
                self.error(at.line, &at.at, "needs a quorum of at least 2");
            }
            if require.methods.contains(&Method::Totp) {
                self.error(
                    at.line,
                    &at.at,
                    "can't be had with totp: passkey or biometric only",
                );
            }
        }
        if let (true, Some(at)) = (require.device_bound, fields.get("device_bound"))
            && require.methods.contains(&Method::Totp)
        {
            self.error(
                at.line,
                &at.at,
                "can't be had with totp: no code is bound to a device",
            );
        }
        Some(require)
    }

    fn default(&mut self, field: &Field<'_>) -> Option<DefaultRule> {
        match &field.node.value {
            Value::Text(word) if word == "block" => Some(DefaultRule::Block),
            Value::Object(_) => {
                let fields = self.object(field, &["method", "quorum", "ttl_max", "approvers"])?;
                self.demand(&fields).map(DefaultRule::Require)
            }
            Value::Text(_) => {
                self.error(field.line, &field.at, "must be an object or \"block\"");
                None
            }
            _ => {
                self.wrong_type(field, "an object or \"block\"");
                None
            }
        }
    }

    /// What a rule and the default rule have in common.
    fn demand(&mut self, fields: &Fields<'_>) -> Option<Require> {
        let before = self.errors.len();
        let methods = self
            .required(fields, "method")
            .map(|f| self.methods(&f))
            .unwrap_or_default();
        let quorum = fields
            .get("quorum")
            .map_or(Some(1), |f| self.integer(&f, 1, QUORUM_MAX));
        let ttl_max = fields.get("ttl_max").and_then(|f| self.integer(&f, 1, TTL_MAX));
        let approvers = fields
            .get("approvers")
            .map(|f| self.approvers(&f))
            .unwrap_or_default();
        if self.errors.len() > before {
            return None;
        }
        Some(Require {
            methods,
            quorum: u32::try_from(quorum?).ok()?,
            ttl_max,
            approvers,
            independent: false,
            break_glass: false,
            allow_author: false,
            allow_contributor: false,
            match_code: false,
            device_bound: false,
        })
    }

    fn methods(&mut self, field: &Field<'_>) -> Vec<Method> {
        let mut out = Vec::new();
        for item in self.filled_list(field).unwrap_or_default() {
            if let Some(name) = self.text(&item) {
                match Method::parse(&name) {
                    Some(method) if !out.contains(&method) => out.push(method),
                    Some(_) => {}
                    None => {
                        let reason = format!("`{}` is no method: totp, passkey or biometric", shown(&name));
                        self.error(item.line, &item.at, reason);
                    }
                }
            }
        }
        out
    }

    fn approvers(&mut self, field: &Field<'_>) -> Vec<Approver> {
        let mut out = Vec::new();
        for item in self.filled_list(field).unwrap_or_default() {
            if let Some(text) = self.text(&item) {
                match Approver::parse(&text) {
                    Some(approver) if !out.contains(&approver) => out.push(approver),
                    Some(_) => {}
                    None => {
                        let reason = format!(
                            "`{}` is neither group:<name> nor person:<id or e-mail>",
                            shown(&text)
                        );
                        self.error(item.line, &item.at, reason);
                    }
                }
            }
        }
        out
    }

    /// An object with none but the allowed keys, each at most once.
    fn object<'a>(&mut self, field: &Field<'a>, allowed: &[&str]) -> Option<Fields<'a>> {
        let Value::Object(members) = &field.node.value else {
            self.wrong_type(field, "an object");
            return None;
        };
        let mut seen = BTreeSet::new();
        for member in members {
            let at = join(&field.at, &shown(&member.key));
            if !allowed.contains(&member.key.as_str()) {
                self.error(
                    member.line,
                    &at,
                    format!("unknown key; known here: {}", allowed.join(", ")),
                );
            } else if !seen.insert(&member.key) {
                self.error(member.line, &at, "duplicate key");
            }
        }
        Some(Fields {
            members,
            at: field.at.clone(),
            line: field.line,
        })
    }

    fn required<'a>(&mut self, fields: &Fields<'a>, key: &str) -> Option<Field<'a>> {
        let field = fields.get(key);
        if field.is_none() {
            self.error(fields.line, &join(&fields.at, key), "is missing");
        }
        field
    }

    fn list<'a>(&mut self, field: &Field<'a>) -> Option<Vec<Field<'a>>> {
        let Value::List(items) = &field.node.value else {
            self.wrong_type(field, "a list");
            return None;
        };
        let entry = |(i, node): (usize, &'a Node)| Field {
            node,
            at: format!("{}[{i}]", field.at),
            line: node.line,
        };
        Some(items.iter().enumerate().map(entry).collect())
    }

    fn filled_list<'a>(&mut self, field: &Field<'a>) -> Option<Vec<Field<'a>>> {
        let items = self.list(field)?;
        if items.is_empty() {
            self.error(field.line, &field.at, "is an empty list");
            return None;
        }
        if items.len() > GLOBS_MAX {
            self.error(
                field.line,
                &field.at,
                format!("holds more than {GLOBS_MAX} entries"),
            );
            return None;
        }
        Some(items)
    }

    fn text(&mut self, field: &Field<'_>) -> Option<String> {
        match &field.node.value {
            Value::Text(text) => Some(text.clone()),
            _ => {
                self.wrong_type(field, "a string");
                None
            }
        }
    }

    fn integer(&mut self, field: &Field<'_>, min: u64, max: u64) -> Option<u64> {
        match field.node.value {
            Value::Integer(number) => {
                let fits = u64::try_from(number).ok().filter(|n| (min..=max).contains(n));
                if fits.is_none() {
                    let reason = match max {
                        QUORUM_MAX => format!("must be {min} or more"),
                        _ => format!("must be from {min} to {max}"),
                    };
                    self.error(field.line, &field.at, reason);
                }
                fits
            }
            _ => {
                self.wrong_type(field, "an integer");
                None
            }
        }
    }
}

/// Text of the document inside an error: short, and nothing in it deceives.
fn shown(text: &str) -> String {
    crate::domain::text::visible(&crate::domain::text::shortened(text, 80))
}
