//! Globs of branches and paths (policy rules 18 and 19), compiled once and matched in time linear in the path.
//! Nothing here backtracks, and nothing here normalises a path into something it is not.

use crate::domain::facts::RepoPath;
use crate::domain::policy::fold::nfkc_casefold;

/// The longest glob that is accepted, in bytes.
pub const GLOB_BYTES_MAX: usize = 1024;

/// A class whose ranges hold more code points than this is not folded member by member: in the folded form it
/// stands for any one character, which only ever widens a demand.
const CLASS_FOLDED_MAX: u32 = 128;

/// Invalid UTF-8 bytes are units above every code point, so that they equal nothing a glob can write.
const INVALID_BYTE: u32 = 0x11_0000;

const SLASH: u32 = '/' as u32;

/// Why a glob is refused. Each is a sentence part that follows the glob's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGlob {
    #[error("is empty")]
    Empty,
    #[error("is longer than {GLOB_BYTES_MAX} bytes")]
    TooLong,
    #[error("holds `!` outside `[!…]`: negation is written as exclude_paths, the character itself as `?`")]
    Negation,
    #[error("holds a backslash: there are no escapes; write `?` or `[…]` for a special character")]
    Backslash,
    #[error("holds `**` that is not a whole segment: write `**/` or `/**`")]
    PartialDoubleStar,
    #[error("holds an empty segment (`//`, or nothing but `/`)")]
    EmptySegment,
    #[error("holds `/` inside `{{…}}` or `[…]`")]
    SlashInside,
    #[error("has an unbalanced `{{`, `}}`, `[` or `]`")]
    Unbalanced,
    #[error("has `{{}}` or one `{{…}}` inside another")]
    BadBraces,
    #[error("has a bad `[…]`: a range that runs backwards, `[^`, or a named class")]
    BadClass,
}

/// A path, cut into characters once, in its exact and its folded form.
#[derive(Clone, Debug)]
pub struct PathView {
    exact: Form,
    /// `None` where folding changes nothing.
    folded: Option<Form>,
}

#[derive(Clone, Debug)]
struct Form {
    units: Vec<u32>,
    /// Start and end of each segment in `units`.
    segments: Vec<(usize, usize)>,
    /// Which ASCII characters end a segment: a bit each. A cheap way to say "no" to a suffix.
    ends: u128,
    /// Some segment ends in a character that is not ASCII, or is empty.
    ends_other: bool,
}

impl PathView {
    /// Looks at a path's raw bytes.
    pub fn new(path: &RepoPath) -> Self {
        if path.0.is_ascii() {
            let units = |fold: fn(&u8) -> u8| path.0.iter().map(|it| u32::from(fold(it))).collect();
            let upper = path.0.iter().any(u8::is_ascii_uppercase);
            return PathView {
                exact: Form::new(units(|it| *it)),
                folded: upper.then(|| Form::new(units(u8::to_ascii_lowercase))),
            };
        }
        let mut exact = Vec::with_capacity(path.0.len());
        let mut folded = Vec::with_capacity(path.0.len());
        for chunk in path.0.utf8_chunks() {
            exact.extend(chunk.valid().chars().map(u32::from));
            folded.extend(nfkc_casefold(chunk.valid()).chars().map(u32::from));
            for byte in chunk.invalid() {
                exact.push(INVALID_BYTE + u32::from(*byte));
                folded.push(INVALID_BYTE + u32::from(*byte));
            }
        }
        let folded = (folded != exact).then(|| Form::new(folded));
        PathView {
            exact: Form::new(exact),
            folded,
        }
    }

    fn folded(&self) -> &Form {
        self.folded.as_ref().unwrap_or(&self.exact)
    }
}

impl Form {
    fn new(units: Vec<u32>) -> Self {
        let mut segments = Vec::new();
        let mut start = 0;
        for (i, unit) in units.iter().enumerate() {
            if *unit == SLASH {
                segments.push((start, i));
                start = i + 1;
            }
        }
        segments.push((start, units.len()));
        let mut ends = 0u128;
        let mut ends_other = false;
        for (from, to) in &segments {
            match units[*from..*to].last() {
                Some(unit) if *unit < 128 => ends |= 1 << *unit,
                _ => ends_other = true,
            }
        }
        Form {
            units,
            segments,
            ends,
            ends_other,
        }
    }

    fn may_end_a_segment_with(&self, unit: u32) -> bool {
        if unit < 128 {
            self.ends & (1 << unit) != 0
        } else {
            self.ends_other
        }
    }
}

/// Memory that matching reuses, and a count of the steps it took.
#[derive(Clone, Debug, Default)]
pub struct Effort {
    /// Elementary steps so far: at most (units of the path) × (states of the glob) for each match.
    pub steps: u64,
    /// Steps after which matching ends, with an answer that means nothing.
    limit: Option<u64>,
    reached: Vec<bool>,
    now: Vec<usize>,
    next: Vec<usize>,
    seen: Vec<u64>,
    round: u64,
    stack: Vec<usize>,
}

impl Effort {
    /// Ends matching after so many steps, also in the middle of a path: whoever asks then looks at `is_spent` before
    /// believing an answer.
    pub fn limited(steps: u64) -> Self {
        Effort {
            limit: Some(steps),
            ..Effort::default()
        }
    }

    /// The limit is reached.
    pub fn is_spent(&self) -> bool {
        self.limit.is_some_and(|it| self.steps > it)
    }
}

/// A compiled glob over paths (policy rule 18).
#[derive(Clone, Debug)]
pub struct PathGlob {
    text: String,
    exact: Shape,
    /// `None` where folding changes nothing.
    folded: Option<Shape>,
    /// The one path it names, if it has no wildcard.
    names: Option<String>,
    slashless: bool,
}

impl PartialEq for PathGlob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PathGlob {}

impl PathGlob {
    /// Compiles a glob.
    pub fn new(text: &str) -> Result<Self, BadGlob> {
        let tokens = tokens(text, Flavour::Path)?;
        let exact = Shape::of_path(&tokens)?;
        let folded_tokens = folded(&tokens);
        let folded = if folded_tokens == tokens {
            None
        } else {
            Some(Shape::of_path(&folded_tokens)?)
        };
        let plain = tokens.iter().all(|t| matches!(t, Token::Unit(_))) && !text.ends_with('/');
        Ok(PathGlob {
            text: text.to_owned(),
            exact,
            folded,
            names: plain.then(|| text.strip_prefix('/').unwrap_or(text).to_owned()),
            slashless: !text.trim_end_matches('/').contains('/'),
        })
    }

    /// The glob as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// No `/` but perhaps a last one: it matches at any depth.
    pub fn is_slashless(&self) -> bool {
        self.slashless
    }

    /// What a rule demands: the path itself or a directory above it, by exact bytes or by the folded form.
    pub fn demands(&self, path: &PathView, effort: &mut Effort) -> bool {
        self.exact.matches(&path.exact, true, effort)
            || ((self.folded.is_some() || path.folded.is_some())
                && self
                    .folded
                    .as_ref()
                    .unwrap_or(&self.exact)
                    .matches(path.folded(), true, effort))
    }

    /// What a rule grants: this very file, by exact bytes.
    pub fn grants(&self, path: &PathView, effort: &mut Effort) -> bool {
        self.exact.matches(&path.exact, false, effort)
    }

    /// Whatever the other glob matches, as a grant or as a demand, this one demands. `false` where it can't be told.
    pub fn covers(&self, other: &PathGlob) -> bool {
        let folded = |it: &'_ PathGlob| it.folded.clone().unwrap_or_else(|| it.exact.clone());
        self.exact.covers(&other.exact)
            && ((self.folded.is_none() && other.folded.is_none()) || folded(self).covers(&folded(other)))
    }

    /// What the glob spells out, in its exact or its folded form.
    pub(crate) fn plain(&self, folded: bool) -> Plain {
        match (&self.folded, folded) {
            (Some(shape), true) => shape.plain(),
            _ => self.exact.plain(),
        }
    }

    /// The one path that a glob without wildcard names.
    pub fn named_path(&self) -> Option<RepoPath> {
        self.names.as_deref().map(RepoPath::from)
    }

    /// The glob has no wildcard and equals the whole path, byte for byte (a leading `/` aside).
    pub fn names(&self, path: &RepoPath) -> bool {
        self.names.as_ref().is_some_and(|name| name.as_bytes() == path.0)
    }
}

/// What a glob spells out, by which an index finds it. All in the bytes of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plain {
    /// It begins with these folders or is this path; `below`: whatever lies below it; `more`: the glob goes on.
    Path {
        literal: Vec<u8>,
        below: bool,
        more: bool,
    },
    /// A segment of this name at any depth; `below`: what lies below it.
    Name { literal: Vec<u8>, below: bool },
    /// A segment at any depth that ends so.
    Ending(Vec<u8>),
    /// A segment at any depth that begins so.
    Beginning(Vec<u8>),
    /// Nothing that helps.
    Other,
}

/// A compiled glob over branches, environments and projects (policy rule 19): case-sensitive, `*` crosses `/`.
#[derive(Clone, Debug)]
pub struct NamePattern {
    text: String,
    /// It is a plain name: no letter of it stands for another.
    plain: bool,
    name: Name,
}

impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for NamePattern {}

impl NamePattern {
    /// Compiles a pattern.
    pub fn new(text: &str) -> Result<Self, BadGlob> {
        let name = Name::new(&tokens(text, Flavour::Name)?);
        Ok(NamePattern {
            text: text.to_owned(),
            plain: name.literal().is_some(),
            name,
        })
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The pattern matches the whole name.
    pub fn matches(&self, name: &str) -> bool {
        if self.plain {
            return self.text == name;
        }
        let units: Vec<u32> = name.chars().map(u32::from).collect();
        self.name.matches(&units, &mut Effort::default())
    }

    /// The pattern matches a branch, given as a full ref: `main` means `refs/heads/main` and nothing else.
    /// A pattern that itself begins with `refs/heads/` is read as a full ref.
    pub fn matches_branch(&self, full_ref: &str) -> bool {
        let Some(branch) = full_ref.strip_prefix("refs/heads/") else {
            return false;
        };
        self.matches(if self.text.starts_with("refs/heads/") {
            full_ref
        } else {
            branch
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flavour {
    Path,
    Name,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// This character, `/` included.
    Unit(u32),
    /// `?`: one character, never `/`.
    One,
    /// `[…]`: one character, never `/`.
    Class(Class),
    /// `*`: anything. Segments of a path hold no `/`, so that there it stops at one.
    Star,
    /// `**` as a whole segment of a path.
    Deep,
    Either(Vec<Vec<Token>>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Class {
    negated: bool,
    ranges: Vec<(u32, u32)>,
    /// Matches any character (see `CLASS_FOLDED_MAX`).
    any: bool,
}

impl Class {
    fn holds(&self, unit: u32) -> bool {
        if unit == SLASH {
            return false;
        }
        self.any || (self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&unit)) != self.negated)
    }
}

/// Reads a glob's text.
fn tokens(text: &str, flavour: Flavour) -> Result<Vec<Token>, BadGlob> {
    if text.is_empty() {
        return Err(BadGlob::Empty);
    }
    if text.len() > GLOB_BYTES_MAX {
        return Err(BadGlob::TooLong);
    }
    if text.contains('\\') {
        return Err(BadGlob::Backslash);
    }
    let chars: Vec<char> = text.chars().collect();
    let mut reader = Reader {
        chars: &chars,
        at: 0,
        flavour,
    };
    let tokens = reader.sequence(false)?;
    if reader.at < chars.len() {
        return Err(BadGlob::Unbalanced);
    }
    Ok(tokens)
}

struct Reader<'a> {
    chars: &'a [char],
    at: usize,
    flavour: Flavour,
}

impl Reader<'_> {
    /// Reads up to the end, or inside braces up to `,` or `}`.
    fn sequence(&mut self, in_braces: bool) -> Result<Vec<Token>, BadGlob> {
        let mut out = Vec::new();
        while let Some(&c) = self.chars.get(self.at) {
            match c {
                ',' | '}' if in_braces => break,
                '}' | ']' => return Err(BadGlob::Unbalanced),
                '!' => return Err(BadGlob::Negation),
                '/' if in_braces => return Err(BadGlob::SlashInside),
                '{' if in_braces => return Err(BadGlob::BadBraces),
                '{' => out.push(self.braces()?),
                '[' => out.push(Token::Class(self.class()?)),
                '*' => out.push(self.stars(in_braces)?),
                '?' => {
                    self.at += 1;
                    out.push(Token::One);
                }
                _ => {
                    self.at += 1;
                    out.push(Token::Unit(c.into()));
                }
            }
        }
        Ok(out)
    }

    fn stars(&mut self, in_braces: bool) -> Result<Token, BadGlob> {
        let start = self.at;
        while self.chars.get(self.at) == Some(&'*') {
            self.at += 1;
        }
        let length = self.at - start;
        if self.flavour == Flavour::Name {
            return Ok(Token::Star);
        }
        if length == 1 {
            return Ok(Token::Star);
        }
        let opens = start == 0 || self.chars[start - 1] == '/';
        let closes = self.chars.get(self.at).is_none_or(|c| *c == '/');
        if length == 2 && opens && closes && !in_braces {
            Ok(Token::Deep)
        } else {
            Err(BadGlob::PartialDoubleStar)
        }
    }

    fn braces(&mut self) -> Result<Token, BadGlob> {
        self.at += 1;
        let mut alternatives = Vec::new();
        loop {
            alternatives.push(self.sequence(true)?);
            match self.chars.get(self.at) {
                Some(',') => self.at += 1,
                Some(_) => {
                    self.at += 1;
                    break;
                }
                None => return Err(BadGlob::Unbalanced),
            }
        }
        if alternatives.len() == 1 && alternatives[0].is_empty() {
            return Err(BadGlob::BadBraces);
        }
        Ok(Token::Either(alternatives))
    }

    fn class(&mut self) -> Result<Class, BadGlob> {
        self.at += 1;
        let negated = self.chars.get(self.at) == Some(&'!');
        if negated {
            self.at += 1;
        }
        if self.chars.get(self.at) == Some(&'^') {
            return Err(BadGlob::BadClass);
        }
        let mut ranges = Vec::new();
        let first = self.at;
        loop {
            let c = *self.chars.get(self.at).ok_or(BadGlob::Unbalanced)?;
            match c {
                ']' if self.at > first => break,
                '/' => return Err(BadGlob::SlashInside),
                '[' if matches!(self.chars.get(self.at + 1), Some(':' | '.' | '=')) => {
                    return Err(BadGlob::BadClass);
                }
                _ => {}
            }
            self.at += 1;
            let upper = match (self.chars.get(self.at), self.chars.get(self.at + 1)) {
                (Some('-'), Some(upper)) if *upper != ']' => {
                    if *upper == '/' {
                        return Err(BadGlob::SlashInside);
                    }
                    self.at += 2;
                    *upper
                }
                _ => c,
            };
            if upper < c {
                return Err(BadGlob::BadClass);
            }
            ranges.push((c.into(), upper.into()));
        }
        self.at += 1;
        Ok(Class {
            negated,
            ranges,
            any: false,
        })
    }
}

/// The tokens with every literal folded. Wildcards are read before folding, so that no letter becomes one.
fn folded(tokens: &[Token]) -> Vec<Token> {
    let mut out = Vec::with_capacity(tokens.len());
    let mut run = String::new();
    for token in tokens {
        if let Token::Unit(unit) = token {
            run.extend(char::from_u32(*unit));
            continue;
        }
        out.extend(nfkc_casefold(&run).chars().map(|c| Token::Unit(c.into())));
        run.clear();
        out.push(match token {
            Token::Class(class) => folded_class(class),
            Token::Either(alternatives) => Token::Either(alternatives.iter().map(|a| folded(a)).collect()),
            other => other.clone(),
        });
    }
    out.extend(nfkc_casefold(&run).chars().map(|c| Token::Unit(c.into())));
    out
}

fn folded_class(class: &Class) -> Token {
    let size: u32 = class.ranges.iter().map(|(from, to)| to - from + 1).sum();
    if size > CLASS_FOLDED_MAX {
        return Token::Class(Class {
            any: true,
            ..class.clone()
        });
    }
    let mut ranges = Vec::new();
    let mut longer = Vec::new();
    for c in class
        .ranges
        .iter()
        .flat_map(|(from, to)| *from..=*to)
        .filter_map(char::from_u32)
    {
        let text = c.to_string();
        let folded: Vec<u32> = nfkc_casefold(&text).chars().map(u32::from).collect();
        match folded[..] {
            [one] => ranges.push((one, one)),
            _ => longer.push(folded.into_iter().map(Token::Unit).collect()),
        }
    }
    if !class.negated && ranges == class.ranges && longer.is_empty() {
        return Token::Class(class.clone());
    }
    let single = Class {
        negated: class.negated,
        ranges,
        any: false,
    };
    if class.negated || longer.is_empty() {
        return Token::Class(single);
    }
    longer.push(vec![Token::Class(single)]);
    Token::Either(longer)
}

/// A path glob, segment by segment.
#[derive(Clone, Debug)]
struct Shape(Vec<Element>);

#[derive(Clone, Debug)]
enum Element {
    /// Directories, any number, none included.
    Dirs,
    /// One segment, whatever its name.
    Any,
    /// One or more segments; always the last element.
    Below,
    /// One segment of such a name.
    Named(Name),
}

impl Shape {
    fn of_path(tokens: &[Token]) -> Result<Self, BadGlob> {
        let mut segments: Vec<&[Token]> = tokens.split(|t| *t == Token::Unit(SLASH)).collect();
        let leading = segments.len() > 1 && segments[0].is_empty();
        if leading {
            segments.remove(0);
        }
        let directory = segments.len() > 1 && segments.last().is_some_and(|s| s.is_empty());
        if directory {
            segments.pop();
        }
        if segments.iter().any(|s| s.is_empty()) {
            return Err(BadGlob::EmptySegment);
        }
        let deep = |segment: &[Token]| segment == [Token::Deep];
        segments.dedup_by(|b, a| deep(a) && deep(b));
        let ends_deep = segments.last().is_some_and(|s| deep(s));
        let mut elements = Vec::new();
        if !leading && segments.len() == 1 && !ends_deep {
            elements.push(Element::Dirs);
        }
        for segment in segments {
            elements.push(if deep(segment) {
                Element::Dirs
            } else {
                Element::Named(Name::new(segment))
            });
        }
        if ends_deep {
            elements.pop();
            if directory {
                elements.extend([Element::Dirs, Element::Any]);
            }
        }
        if ends_deep || directory {
            elements.push(Element::Below);
        }
        Ok(Shape(elements))
    }

    fn plain(&self) -> Plain {
        let literals = |elements: &[Element]| -> Option<Vec<u8>> {
            let names: Option<Vec<Vec<u8>>> = elements
                .iter()
                .map(|it| match it {
                    Element::Named(name) => name.literal(),
                    _ => None,
                })
                .collect();
            names.map(|it| it.join(&b'/'))
        };
        match &self.0[..] {
            [Element::Dirs, Element::Named(name)] => {
                match (name.literal(), name.beginning(), name.ending()) {
                    (Some(literal), _, _) => Plain::Name {
                        literal,
                        below: false,
                    },
                    (_, Some(literal), _) => Plain::Beginning(literal),
                    (_, _, Some(literal)) => Plain::Ending(literal),
                    _ => Plain::Other,
                }
            }
            [Element::Dirs, Element::Named(name), Element::Below] => match name.literal() {
                Some(literal) => Plain::Name { literal, below: true },
                None => Plain::Other,
            },
            elements => {
                let spelled = elements
                    .iter()
                    .take_while(|it| matches!(it, Element::Named(name) if name.literal().is_some()))
                    .count();
                let Some(literal) = literals(&elements[..spelled]).filter(|_| spelled > 0) else {
                    return Plain::Other;
                };
                let rest = &elements[spelled..];
                let below = matches!(rest, [Element::Below]);
                Plain::Path {
                    literal,
                    below,
                    more: !rest.is_empty() && !below,
                }
            }
        }
    }

    /// Whether every path that the other shape matches is matched here, or lies below what is.
    ///
    /// Follows the elements of the other one, and keeps the positions here that are reached whatever stands in its place:
    /// so it may miss that one shape covers another, and never says so wrongly.
    fn covers(&self, other: &Shape) -> bool {
        let elements = &self.0;
        let accept = elements.len();
        let mut reached = vec![false; accept + 1];
        reached[0] = true;
        pass_dirs(elements, &mut reached);
        for inner in &other.0 {
            if reached[accept] {
                return true;
            }
            let mut next = vec![false; accept + 1];
            for at in (0..accept).filter(|at| reached[*at]) {
                let (goes_on, stays) = match (&elements[at], inner) {
                    // Any number of segments, none included: only what takes all of them is where it was.
                    (Element::Dirs | Element::Below, Element::Dirs) | (Element::Dirs, _) => (false, true),
                    (Element::Below, _) => (true, true),
                    (Element::Any, Element::Any | Element::Named(_)) => (true, false),
                    // One or more segments: the first is taken, and what is above the others counts.
                    (Element::Any, Element::Below) => (true, false),
                    (Element::Named(own), Element::Named(name)) => (own.covers(name), false),
                    (Element::Named(own), Element::Any | Element::Below) => (own.is_anything(), false),
                    (Element::Any | Element::Named(_), Element::Dirs) => (false, false),
                };
                next[at] |= stays;
                next[at + 1] |= goes_on;
            }
            reached = next;
            pass_dirs(elements, &mut reached);
        }
        reached[accept]
    }

    /// `cover`: a directory above the file counts too.
    fn matches(&self, path: &Form, cover: bool, effort: &mut Effort) -> bool {
        effort.steps += 1;
        if effort.is_spent() {
            return false;
        }
        let elements = &self.0;
        for element in elements {
            if let Element::Named(name) = element
                && name
                    .suffix
                    .last()
                    .is_some_and(|unit| !path.may_end_a_segment_with(*unit))
            {
                return false;
            }
        }
        if !cover
            && let (Some(Element::Named(name)), Some(file)) = (elements.last(), path.segments.last())
            && !name.matches(&path.units[file.0..file.1], effort)
        {
            return false;
        }
        // `reached[i]`: the segments so far can be spent on the elements before `i`.
        let accept = elements.len();
        let mut reached = std::mem::take(&mut effort.reached);
        reached.clear();
        reached.resize(accept + 1, false);
        reached[0] = true;
        pass_dirs(elements, &mut reached);
        let mut matched = false;
        for (from, to) in &path.segments {
            let segment = &path.units[*from..*to];
            // Each segment looks at every element twice, however few of them are reached.
            effort.steps += accept as u64 / 4;
            if effort.is_spent() {
                break;
            }
            let mut alive = false;
            reached[accept] = false;
            for i in (0..accept).rev() {
                if !reached[i] {
                    continue;
                }
                effort.steps += 1;
                let (goes_on, stays) = match &elements[i] {
                    Element::Dirs => (false, true),
                    Element::Any => (true, false),
                    Element::Below => (true, true),
                    Element::Named(name) => (name.matches(segment, effort), false),
                };
                reached[i] = stays;
                reached[i + 1] |= goes_on;
                alive |= goes_on || stays;
            }
            pass_dirs(elements, &mut reached);
            // An early end by `!alive` leaves `matched` false: nothing is reached any more.
            matched = reached[accept];
            if !alive || (cover && matched) {
                break;
            }
        }
        effort.reached = reached;
        matched
    }
}

/// Directories may be none: what comes after them is reached as soon as they are.
fn pass_dirs(elements: &[Element], reached: &mut [bool]) {
    for (i, element) in elements.iter().enumerate() {
        if matches!(element, Element::Dirs) && reached[i] {
            reached[i + 1] = true;
        }
    }
}

/// The glob of one segment, or of a whole branch name.
#[derive(Clone, Debug)]
struct Name {
    /// What every match begins with.
    prefix: Vec<u32>,
    /// What every match ends with.
    suffix: Vec<u32>,
    form: NameForm,
}

#[derive(Clone, Debug)]
enum NameForm {
    /// Without braces: stretches of single characters, with anything between one and the next.
    Stretches(Vec<Vec<Token>>),
    /// With braces.
    Automaton(Automaton),
}

impl Name {
    fn new(tokens: &[Token]) -> Self {
        let literal = |token: &Token| match token {
            Token::Unit(unit) => Some(*unit),
            _ => None,
        };
        let mut suffix: Vec<u32> = tokens.iter().rev().map_while(literal).collect();
        suffix.reverse();
        let form = if tokens.iter().any(|t| matches!(t, Token::Either(_))) {
            NameForm::Automaton(Automaton::new(tokens))
        } else {
            NameForm::Stretches(
                tokens
                    .split(|t| *t == Token::Star)
                    .map(<[Token]>::to_vec)
                    .collect(),
            )
        };
        Name {
            prefix: tokens.iter().map_while(literal).collect(),
            suffix,
            form,
        }
    }

    /// The stretches between stars, as text; `None` where something else than letters and stars is in it.
    fn spelled(&self) -> Option<Vec<Vec<u8>>> {
        let NameForm::Stretches(stretches) = &self.form else {
            return None;
        };
        let text = |stretch: &Vec<Token>| -> Option<Vec<u8>> {
            let chars: Option<String> = stretch
                .iter()
                .map(|it| match it {
                    Token::Unit(unit) => char::from_u32(*unit),
                    _ => None,
                })
                .collect();
            chars.map(String::into_bytes)
        };
        stretches.iter().map(text).collect()
    }

    /// `*`
    fn is_anything(&self) -> bool {
        matches!(&self.form, NameForm::Stretches(it) if it.len() > 1 && it.iter().all(Vec::is_empty))
    }

    /// Every name that the other one matches is matched here, as far as can be told.
    fn covers(&self, other: &Name) -> bool {
        let NameForm::Stretches(own) = &self.form else {
            return false;
        };
        if self.is_anything() || matches!(&other.form, NameForm::Stretches(it) if it == own) {
            return true;
        }
        let units = |it: &[Token]| it.iter().all(|it| matches!(it, Token::Unit(_)));
        match (own.as_slice(), &other.form) {
            (_, NameForm::Stretches(it)) if it.len() == 1 && units(&it[0]) => {
                self.matches(&other.prefix, &mut Effort::default())
            }
            // What stands at both ends of the other one does not overlap there, since something is between.
            ([first, last], _) if units(first) && units(last) => {
                other.prefix.starts_with(&self.prefix) && other.suffix.ends_with(&self.suffix)
            }
            _ => false,
        }
    }

    fn literal(&self) -> Option<Vec<u8>> {
        match self.spelled()?.as_slice() {
            [one] => Some(one.clone()),
            _ => None,
        }
    }

    /// `.env*`: how it begins, anything after it.
    fn beginning(&self) -> Option<Vec<u8>> {
        match self.spelled()?.as_slice() {
            [first, last] if last.is_empty() => Some(first.clone()),
            _ => None,
        }
    }

    /// `*.md`: how it ends, anything before it.
    fn ending(&self) -> Option<Vec<u8>> {
        match self.spelled()?.as_slice() {
            [first, last] if first.is_empty() => Some(last.clone()),
            _ => None,
        }
    }

    fn matches(&self, units: &[u32], effort: &mut Effort) -> bool {
        effort.steps += 1;
        if !units.starts_with(&self.prefix) || !units.ends_with(&self.suffix) {
            return false;
        }
        match &self.form {
            NameForm::Stretches(stretches) => in_order(stretches, units, effort),
            NameForm::Automaton(automaton) => automaton.run(units, effort),
        }
    }
}

/// The first stretch stands at the beginning, the last at the end, and the others in between, each as early as it can:
/// none has to be moved again, since any place that is left is as good for those after it.
fn in_order(stretches: &[Vec<Token>], units: &[u32], effort: &mut Effort) -> bool {
    let Some((first, others)) = stretches.split_first() else {
        return units.is_empty();
    };
    let Some((last, between)) = others.split_last() else {
        return units.len() == first.len() && fits(first, units, effort);
    };
    if units.len() < first.len() + last.len() {
        return false;
    }
    let (head, rest) = units.split_at(first.len());
    let (mut rest, tail) = rest.split_at(rest.len() - last.len());
    if !fits(first, head, effort) || !fits(last, tail, effort) {
        return false;
    }
    for stretch in between.iter().filter(|stretch| !stretch.is_empty()) {
        let Some(at) = rest
            .windows(stretch.len())
            .position(|window| effort.is_spent() || fits(stretch, window, effort))
        else {
            return false;
        };
        rest = &rest[at + stretch.len()..];
    }
    true
}

/// Both have the same length.
fn fits(stretch: &[Token], units: &[u32], effort: &mut Effort) -> bool {
    effort.steps += 1;
    stretch.iter().zip(units).all(|(token, unit)| {
        effort.steps += 1;
        match token {
            Token::Unit(wanted) => wanted == unit,
            Token::Class(class) => class.holds(*unit),
            _ => *unit != SLASH,
        }
    })
}

#[derive(Clone, Debug)]
enum Op {
    Unit(u32),
    NotSlash,
    Any,
    Class(Class),
    /// Goes on at the next operation and at this one.
    Split(usize),
    Jump(usize),
    Accept,
}

/// A Thompson automaton: all its states advance together, so no input makes it go back.
#[derive(Clone, Debug)]
struct Automaton(Vec<Op>);

impl Automaton {
    fn new(tokens: &[Token]) -> Self {
        let mut ops = Vec::new();
        emit(tokens, &mut ops);
        ops.push(Op::Accept);
        Automaton(ops)
    }

    fn run(&self, units: &[u32], effort: &mut Effort) -> bool {
        let Effort {
            steps,
            limit,
            now,
            next,
            seen,
            round,
            stack,
            ..
        } = effort;
        if seen.len() < self.0.len() {
            seen.resize(self.0.len(), 0);
        }
        now.clear();
        *round += 1;
        let mut accepts = self.add(0, now, seen, *round, stack, steps);
        for unit in units {
            if now.is_empty() || limit.is_some_and(|it| *steps > it) {
                return false;
            }
            next.clear();
            accepts = false;
            *round += 1;
            for state in now.iter() {
                *steps += 1;
                let goes_on = match &self.0[*state] {
                    Op::Unit(wanted) => wanted == unit,
                    Op::NotSlash => *unit != SLASH,
                    Op::Any => true,
                    Op::Class(class) => class.holds(*unit),
                    Op::Split(_) | Op::Jump(_) | Op::Accept => false,
                };
                if goes_on {
                    accepts |= self.add(state + 1, next, seen, *round, stack, steps);
                }
            }
            std::mem::swap(now, next);
        }
        accepts
    }

    /// Adds a state and all that it reaches without reading; true if that accepts.
    fn add(
        &self,
        state: usize,
        into: &mut Vec<usize>,
        seen: &mut [u64],
        round: u64,
        stack: &mut Vec<usize>,
        steps: &mut u64,
    ) -> bool {
        let mut accepts = false;
        stack.clear();
        stack.push(state);
        while let Some(state) = stack.pop() {
            *steps += 1;
            if seen[state] == round {
                continue;
            }
            seen[state] = round;
            match self.0[state] {
                Op::Split(other) => stack.extend([other, state + 1]),
                Op::Jump(to) => stack.push(to),
                Op::Accept => accepts = true,
                _ => into.push(state),
            }
        }
        accepts
    }
}

fn emit(tokens: &[Token], ops: &mut Vec<Op>) {
    for token in tokens {
        match token {
            Token::Unit(unit) => ops.push(Op::Unit(*unit)),
            Token::One => ops.push(Op::NotSlash),
            Token::Class(class) => ops.push(Op::Class(class.clone())),
            Token::Star | Token::Deep => repeat(ops),
            Token::Either(alternatives) => {
                let mut ends = Vec::new();
                for (i, alternative) in alternatives.iter().enumerate() {
                    let last = i + 1 == alternatives.len();
                    let split = ops.len();
                    if !last {
                        ops.push(Op::Split(0));
                    }
                    emit(alternative, ops);
                    if !last {
                        ends.push(ops.len());
                        ops.push(Op::Jump(0));
                        ops[split] = Op::Split(ops.len());
                    }
                }
                let end = ops.len();
                for jump in ends {
                    ops[jump] = Op::Jump(end);
                }
            }
        }
    }
}

fn repeat(ops: &mut Vec<Op>) {
    let start = ops.len();
    ops.push(Op::Split(start + 3));
    ops.push(Op::Any);
    ops.push(Op::Jump(start));
}
