//! A JSON reader that accepts one reading only: no duplicate names, no floats, no integers beyond 2^53-1, no lone
//! surrogates, and, for the bytes this product makes itself, no white space. It never repairs and never guesses.
//!
//! Every value keeps its own span of the input, because hashes are over the bytes as they stand.

use crate::domain::ids::Digest;
use crate::domain::time::Time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;
use std::collections::HashSet;

/// Largest integer that every JSON reader agrees on (RFC 8259 section 6, RFC 7493 section 2.2).
pub const INTEGER_MAX: i64 = (1 << 53) - 1;

/// Deepest nesting that is read. Nothing here nests deeper than eight.
const DEPTH_MAX: usize = 32;

/// Members of an object up to which a name is looked for one by one; with more, a set is kept.
const FEW: usize = 16;

/// Whether white space may stand between tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Compact JSON, as this product writes it.
    Refused,
    /// JSON that somebody else wrote, such as a browser's client data.
    Allowed,
}

/// Why a document was refused. Offsets are bytes from the start of the document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrictError {
    #[error("not valid JSON at byte {0}")]
    Syntax(usize),
    #[error("white space at byte {0}, where the compact form has none")]
    Space(usize),
    #[error("the name `{name}` stands twice in one object")]
    Duplicate { name: String },
    #[error("a number at byte {0} is not an integer of at most 2^53-1")]
    Number(usize),
    #[error("nested deeper than {DEPTH_MAX} levels")]
    Depth,
    #[error("{0}")]
    Shape(String),
}

/// One value, with the bytes it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Value<'a> {
    /// The value's own bytes, verbatim.
    pub bytes: &'a [u8],
    kind: Kind<'a>,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Text(Cow<'a, str>),
    List(Vec<Value<'a>>),
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// Reads a whole document.
pub fn parse(bytes: &[u8], space: Space) -> Result<Value<'_>, StrictError> {
    let source = std::str::from_utf8(bytes).map_err(|e| StrictError::Syntax(e.valid_up_to()))?;
    let mut reader = Reader {
        source,
        bytes,
        at: 0,
        space,
    };
    reader.skip_space()?;
    let value = reader.value(0)?;
    reader.skip_space()?;
    if reader.at == bytes.len() {
        Ok(value)
    } else {
        Err(StrictError::Syntax(reader.at))
    }
}

/// Reads canonical base64: standard alphabet, padded, no stray bits.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Reads an RFC 3339 time that ends in `Z`, in upper case, fraction of up to nine digits allowed.
pub fn time(text: &str) -> Option<Time> {
    let (whole, fraction) = match text.strip_suffix('Z')?.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text.strip_suffix('Z')?, None),
    };
    let formed = whole.len() == 19
        && whole.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            10 => byte == b'T',
            13 | 16 => byte == b':',
            _ => byte.is_ascii_digit(),
        })
        && fraction.is_none_or(|it| (1..=9).contains(&it.len()) && it.bytes().all(|b| b.is_ascii_digit()));
    if formed { Time::parse(text) } else { None }
}

impl<'a> Value<'a> {
    /// The object behind this value; `what` names it in the error.
    pub fn object(&self, what: &str) -> Result<Object<'_, 'a>, StrictError> {
        match &self.kind {
            Kind::Object(members) => Ok(Object {
                what: what.to_owned(),
                members,
            }),
            _ => Err(StrictError::Shape(format!("{what} is not an object"))),
        }
    }

    /// The text behind this value.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer behind this value.
    pub fn integer(&self) -> Option<i64> {
        match self.kind {
            Kind::Integer(number) => Some(number),
            _ => None,
        }
    }

    /// The boolean behind this value.
    pub fn boolean(&self) -> Option<bool> {
        match self.kind {
            Kind::Bool(truth) => Some(truth),
            _ => None,
        }
    }

    /// The elements of this list.
    pub fn list(&self) -> Option<&[Value<'a>]> {
        match &self.kind {
            Kind::List(items) => Some(items),
            _ => None,
        }
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }
}

/// An object whose members are read by name, with errors that say where.
#[derive(Clone, Debug)]
pub struct Object<'v, 'a> {
    what: String,
    members: &'v [(Cow<'a, str>, Value<'a>)],
}

impl<'v, 'a> Object<'v, 'a> {
    /// Demands exactly these members in exactly this order.
    pub fn exactly(&self, names: &[&str]) -> Result<(), StrictError> {
        self.exactly_with(names, &[])
    }

    /// Demands these members in this order, of which those in `optional` may be absent, and no others.
    pub fn exactly_with(&self, names: &[&str], optional: &[&str]) -> Result<(), StrictError> {
        let mut present = self.members.iter().map(|(name, _)| name.as_ref()).peekable();
        for name in names {
            if present.peek() == Some(name) {
                present.next();
            } else if !optional.contains(name) {
                let where_ = &self.what;
                return Err(StrictError::Shape(format!(
                    "{where_} has no member `{name}`, or has it in another place"
                )));
            }
        }
        match present.next() {
            None => Ok(()),
            Some(name) => Err(StrictError::Shape(format!(
                "{} has a member `{name}` that is not known, or has it in another place",
                self.what
            ))),
        }
    }

    /// The names of all members, in their order.
    pub fn names(&self) -> impl Iterator<Item = &'v str> {
        self.members.iter().map(|(name, _)| name.as_ref())
    }

    /// A member that may be absent.
    pub fn optional(&self, name: &str) -> Option<&'v Value<'a>> {
        self.members
            .iter()
            .find(|(it, _)| it.as_ref() == name)
            .map(|(_, value)| value)
    }

    /// A member that must be there.
    pub fn member(&self, name: &str) -> Result<&'v Value<'a>, StrictError> {
        self.optional(name)
            .ok_or_else(|| StrictError::Shape(format!("{} has no member `{name}`", self.what)))
    }

    /// A member that is an object.
    pub fn object(&self, name: &str) -> Result<Object<'v, 'a>, StrictError> {
        self.member(name)?.object(&self.path(name))
    }

    /// A member that is text.
    pub fn text(&self, name: &str) -> Result<&'v str, StrictError> {
        self.member(name)?.text().ok_or_else(|| self.wrong(name, "text"))
    }

    /// A member that is text or absent.
    pub fn optional_text(&self, name: &str) -> Result<Option<&'v str>, StrictError> {
        match self.optional(name) {
            None => Ok(None),
            Some(value) => value.text().map(Some).ok_or_else(|| self.wrong(name, "text")),
        }
    }

    /// A member that is text or `null`.
    pub fn text_or_null(&self, name: &str) -> Result<Option<&'v str>, StrictError> {
        let value = self.member(name)?;
        if value.is_null() {
            return Ok(None);
        }
        value
            .text()
            .map(Some)
            .ok_or_else(|| self.wrong(name, "text or null"))
    }

    /// A member that is an integer, sign allowed.
    pub fn integer(&self, name: &str) -> Result<i64, StrictError> {
        self.member(name)?
            .integer()
            .ok_or_else(|| self.wrong(name, "an integer"))
    }

    /// A member that is an integer of at least 0.
    pub fn count(&self, name: &str) -> Result<u64, StrictError> {
        u64::try_from(self.integer(name)?).map_err(|_| self.wrong(name, "an integer of at least 0"))
    }

    /// A member that is `true` or `false`.
    pub fn boolean(&self, name: &str) -> Result<bool, StrictError> {
        self.member(name)?
            .boolean()
            .ok_or_else(|| self.wrong(name, "true or false"))
    }

    /// A member that is a list.
    pub fn list(&self, name: &str) -> Result<&'v [Value<'a>], StrictError> {
        self.member(name)?
            .list()
            .ok_or_else(|| self.wrong(name, "a list"))
    }

    /// A member that is a list of texts.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, StrictError> {
        self.list(name)?
            .iter()
            .map(|it| {
                it.text()
                    .map(str::to_owned)
                    .ok_or_else(|| self.wrong(name, "a list of texts"))
            })
            .collect()
    }

    /// A member that is canonical base64.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>, StrictError> {
        base64(self.text(name)?).ok_or_else(|| self.wrong(name, "base64"))
    }

    /// A member that is a SHA-256 digest in 64 lowercase hex digits.
    pub fn digest(&self, name: &str) -> Result<Digest, StrictError> {
        Digest::parse(self.text(name)?).ok_or_else(|| self.wrong(name, "64 lowercase hex digits"))
    }

    /// A member that is a time in the one form used here: `2026-03-15T14:23:07Z`, with or without a fraction.
    pub fn time(&self, name: &str) -> Result<(&'v str, Time), StrictError> {
        let text = self.text(name)?;
        time(text)
            .map(|it| (text, it))
            .ok_or_else(|| self.wrong(name, "an RFC 3339 time in UTC"))
    }

    /// Where a member stands, for errors.
    pub fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.what)
    }

    fn wrong(&self, name: &str, wanted: &str) -> StrictError {
        StrictError::Shape(format!("{} is not {wanted}", self.path(name)))
    }
}

struct Reader<'a> {
    /// The same as `bytes`, known to be UTF-8.
    source: &'a str,
    bytes: &'a [u8],
    at: usize,
    space: Space,
}

impl<'a> Reader<'a> {
    fn skip_space(&mut self) -> Result<(), StrictError> {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            if self.space == Space::Refused {
                return Err(StrictError::Space(self.at));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, StrictError> {
        if depth > DEPTH_MAX {
            return Err(StrictError::Depth);
        }
        let start = self.at;
        let kind = match self.bytes.get(self.at) {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Kind::Text(self.text()?),
            Some(b'-' | b'0'..=b'9') => Kind::Integer(self.integer()?),
            Some(b't') => self.word("true", Kind::Bool(true))?,
            Some(b'f') => self.word("false", Kind::Bool(false))?,
            Some(b'n') => self.word("null", Kind::Null)?,
            _ => return Err(StrictError::Syntax(self.at)),
        };
        Ok(Value {
            bytes: &self.bytes[start..self.at],
            kind,
        })
    }

    fn word(&mut self, word: &str, kind: Kind<'a>) -> Result<Kind<'a>, StrictError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(StrictError::Syntax(self.at));
        }
        self.at += word.len();
        Ok(kind)
    }

    fn take(&mut self, byte: u8) -> bool {
        let here = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(here);
        here
    }

    fn object(&mut self, depth: usize) -> Result<Kind<'a>, StrictError> {
        self.at += 1;
        let mut members: Vec<(Cow<'a, str>, Value<'a>)> = Vec::new();
        let mut names = HashSet::new();
        self.skip_space()?;
        if self.take(b'}') {
            return Ok(Kind::Object(members));
        }
        loop {
            self.skip_space()?;
            if self.bytes.get(self.at) != Some(&b'"') {
                return Err(StrictError::Syntax(self.at));
            }
            let name = self.text()?;
            if members.len() == FEW {
                names.extend(members.iter().map(|it| it.0.clone()));
            }
            let twice = match members.len() {
                ..FEW => members.iter().any(|it| it.0 == name),
                _ => !names.insert(name.clone()),
            };
            if twice {
                let name = name.into_owned();
                return Err(StrictError::Duplicate { name });
            }
            self.skip_space()?;
            if !self.take(b':') {
                return Err(StrictError::Syntax(self.at));
            }
            self.skip_space()?;
            let value = self.value(depth + 1)?;
            members.push((name, value));
            self.skip_space()?;
            if self.take(b'}') {
                return Ok(Kind::Object(members));
            }
            if !self.take(b',') {
                return Err(StrictError::Syntax(self.at));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Kind<'a>, StrictError> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space()?;
        if self.take(b']') {
            return Ok(Kind::List(items));
        }
        loop {
            self.skip_space()?;
            items.push(self.value(depth + 1)?);
            self.skip_space()?;
            if self.take(b']') {
                return Ok(Kind::List(items));
            }
            if !self.take(b',') {
                return Err(StrictError::Syntax(self.at));
            }
        }
    }

    fn integer(&mut self) -> Result<i64, StrictError> {
        let start = self.at;
        let negative = self.take(b'-');
        let digits_at = self.at;
        let mut number: i64 = 0;
        while let Some(digit @ b'0'..=b'9') = self.bytes.get(self.at) {
            number = number * 10 + i64::from(digit - b'0');
            if number > INTEGER_MAX {
                return Err(StrictError::Number(start));
            }
            self.at += 1;
        }
        let leading_zero = self.bytes.get(digits_at) == Some(&b'0') && (self.at > digits_at + 1 || negative);
        if self.at == digits_at || leading_zero || matches!(self.bytes.get(self.at), Some(b'.' | b'e' | b'E'))
        {
            return Err(StrictError::Number(start));
        }
        Ok(if negative { -number } else { number })
    }

    /// A text, borrowed where no escape stands in it.
    fn text(&mut self) -> Result<Cow<'a, str>, StrictError> {
        self.at += 1;
        let mut text = Cow::Borrowed("");
        loop {
            let run = self.at;
            let Some(length) = memchr::memchr2(b'"', b'\\', &self.bytes[run..]) else {
                let control = self.bytes[run..].iter().position(|it| *it < 0x20);
                return Err(StrictError::Syntax(
                    control.map_or(self.bytes.len(), |it| run + it),
                ));
            };
            self.at += length;
            if let Some(control) = self.bytes[run..self.at].iter().position(|it| *it < 0x20) {
                return Err(StrictError::Syntax(run + control));
            }
            // Quote and backslash are characters by themselves in UTF-8, so the piece between them is whole.
            let piece = self.source.get(run..self.at).ok_or(StrictError::Syntax(run))?;
            match &mut text {
                Cow::Borrowed("") => text = Cow::Borrowed(piece),
                text => text.to_mut().push_str(piece),
            }
            if self.take(b'"') {
                return Ok(text);
            }
            let escaped = self.escape()?;
            text.to_mut().push(escaped);
        }
    }

    fn escape(&mut self) -> Result<char, StrictError> {
        let start = self.at;
        let letter = self.bytes.get(start + 1).copied();
        self.at += 2;
        Ok(match letter {
            Some(same @ (b'"' | b'\\' | b'/')) => char::from(same),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.four_hex(start)?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first).ok_or(StrictError::Syntax(start));
                }
                if !(self.take(b'\\') && self.take(b'u')) {
                    return Err(StrictError::Syntax(start));
                }
                let second = self.four_hex(start)?;
                if !(0xdc00..0xe000).contains(&second) {
                    return Err(StrictError::Syntax(start));
                }
                let joined = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                char::from_u32(joined).ok_or(StrictError::Syntax(start))?
            }
            _ => return Err(StrictError::Syntax(start)),
        })
    }

    fn four_hex(&mut self, start: usize) -> Result<u32, StrictError> {
        let digits = self
            .bytes
            .get(self.at..self.at + 4)
            .ok_or(StrictError::Syntax(start))?;
        self.at += 4;
        digits.iter().try_fold(0, |sum, it| {
            char::from(*it)
                .to_digit(16)
                .map(|digit| sum * 16 + digit)
                .ok_or(StrictError::Syntax(start))
        })
    }
}
