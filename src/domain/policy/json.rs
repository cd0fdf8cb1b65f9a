//! A small strict JSON reader (RFC 8259) that knows the line of every key and keeps duplicate keys for its caller to refuse.
//! It reads policy documents, never anything else, and never guesses: what is doubtful is an error.

use crate::domain::policy::document::ParseError;

/// Lists and objects inside one another, at most.
const DEPTH_MAX: usize = 32;

/// The largest integer that every JSON reader reads alike (RFC 8259, section 6).
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// A value and the line it begins on, from 1.
#[derive(Debug)]
pub struct Node {
    pub line: u32,
    pub value: Value,
}

#[derive(Debug)]
pub enum Value {
    Null,
    Flag(bool),
    Integer(i64),
    /// A fraction, an exponent, or beyond ±(2^53 − 1).
    OtherNumber,
    Text(String),
    List(Vec<Node>),
    /// In the order of the text, duplicates included.
    Object(Vec<Member>),
}

#[derive(Debug)]
pub struct Member {
    pub key: String,
    /// The line of the key.
    pub line: u32,
    pub node: Node,
}

impl Value {
    /// What it is, for a sentence.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Flag(_) => "true or false",
            Value::Integer(_) => "an integer",
            Value::OtherNumber => "a number that is no integer within ±(2^53 − 1)",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}

/// Reads one value and nothing after it.
pub fn read(bytes: &[u8]) -> Result<Node, ParseError> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let before = &bytes[..e.valid_up_to()];
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        ParseError::new(
            u32::try_from(line).unwrap_or(u32::MAX),
            "",
            "the document is not UTF-8",
        )
    })?;
    let mut reader = Reader {
        text,
        at: 0,
        line: 1,
        depth: 0,
    };
    let node = reader.value()?;
    reader.space();
    if reader.at < text.len() {
        return Err(reader.error("there is something after the end of the document"));
    }
    Ok(node)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    depth: usize,
}

impl Reader<'_> {
    fn error(&self, said_reason: &str) -> ParseError {
        ParseError::new(self.line, "", format!("not JSON: {said_reason}"))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b @ (b' ' | b'\t' | b'\r' | b'\n')) = self.peek() {
            self.line += u32::from(b == b'\n');
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), ParseError> {
        self.space();
        if self.peek() != Some(byte) {
            return Err(self.error(&format!("`{}` is missing", char::from(byte))));
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self) -> Result<Node, ParseError> {
        self.space();
        let line = self.line;
        let value = match self.peek() {
            None => return Err(self.error("the document ends too early")),
            Some(b'{') => self.nested(Self::object)?,
            Some(b'[') => self.nested(Self::list)?,
            Some(b'"') => Value::Text(self.text_value()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(_) => self.word()?,
        };
        Ok(Node { line, value })
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value, ParseError>) -> Result<Value, ParseError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error("too many lists and objects inside one another"));
        }
        self.at += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Result<Value, ParseError> {
        let mut members = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            let line = self.line;
            if self.peek() != Some(b'"') {
                return Err(self.error("a key in double quotes is missing"));
            }
            let key = self.text_value()?;
            self.expect(b':')?;
            members.push(Member {
                key,
                line,
                node: self.value()?,
            });
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.error("`,` or `}` is missing")),
            }
        }
        self.at += 1;
        Ok(Value::Object(members))
    }

    fn list(&mut self) -> Result<Value, ParseError> {
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value()?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.error("`,` or `]` is missing")),
            }
        }
        self.at += 1;
        Ok(Value::List(items))
    }

    fn word(&mut self) -> Result<Value, ParseError> {
        let rest = &self.text[self.at..];
        let words = [
            ("true", Value::Flag(true)),
            ("false", Value::Flag(false)),
            ("null", Value::Null),
        ];
        for (word, value) in words {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.error("a value is missing or misspelt"))
    }

    fn number(&mut self) -> Result<Value, ParseError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let digits = self.at;
        self.digits()?;
        if self.text.as_bytes()[digits] == b'0' && self.at > digits + 1 {
            return Err(self.error("a number begins with a needless 0"));
        }
        let integer = self.at;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        if self.at > integer {
            return Ok(Value::OtherNumber);
        }
        Ok(match self.text[start..integer].parse::<i64>() {
            Ok(number) if number.unsigned_abs() <= INTEGER_MAX => Value::Integer(number),
            _ => Value::OtherNumber,
        })
    }

    fn digits(&mut self) -> Result<(), ParseError> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.error("a number lacks a digit"));
        }
        Ok(())
    }

    fn text_value(&mut self) -> Result<String, ParseError> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let stop = rest
                .bytes()
                .position(|b| b < 0x20 || b == b'"' || b == b'\\')
                .ok_or_else(|| self.error("a string does not end"))?;
            out.push_str(&rest[..stop]);
            self.at += stop;
            match rest.as_bytes()[stop] {
                b'"' => {
                    self.at += 1;
                    return Ok(out);
                }
                b'\\' => out.push(self.escape()?),
                _ => return Err(self.error("a string holds a raw control character")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, ParseError> {
        let kind = self.text.as_bytes().get(self.at + 1).copied();
        self.at += 2;
        Ok(match kind {
            Some(b @ (b'"' | b'\\' | b'/')) => char::from(b),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex4()?;
                let code = match first {
                    0xd800..=0xdbff => {
                        if !self.text.as_bytes()[self.at..].starts_with(b"\\u") {
                            return Err(self.error("half a surrogate pair"));
                        }
                        self.at += 2;
                        let second = self.hex4()?;
                        if !(0xdc00..=0xdfff).contains(&second) {
                            return Err(self.error("half a surrogate pair"));
                        }
                        0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    other => other,
                };
                char::from_u32(code).ok_or_else(|| self.error("half a surrogate pair"))?
            }
            _ => return Err(self.error("an unknown escape in a string")),
        })
    }

    fn hex4(&mut self) -> Result<u32, ParseError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).unwrap_or_default();
        if digits.len() != 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(self.error("`\\u` lacks four hex digits"));
        }
        self.at += 4;
        Ok(digits
            .iter()
            .fold(0, |n, d| n * 16 + char::from(*d).to_digit(16).unwrap_or(0)))
    }
}
