//! Why somebody changes the configuration. Every such call says it, in one way: the header `X-Reason`; where the body has a
//! member `reason`, that may say it instead. The journal's entry holds it as `data.reason`.

use crate::domain::command::Command;
use crate::domain::decide::REASON_CHARS_MAX;
use crate::web::problem::Problem;
use actix_web::dev::Payload;
use actix_web::http::header::HeaderMap;
use actix_web::{FromRequest, HttpRequest};
use std::future::{Ready, ready};

/// The header's name.
pub const HEADER: &str = "x-reason";

/// What a call says of its reason. Taking it makes sure that there is one.
#[derive(Clone, Debug)]
pub struct Stated(Option<String>);

impl FromRequest for Stated {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(read(request.headers()).map(Stated))
    }
}

/// A reason that is to be recorded with a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(String);

impl Stated {
    /// The reason.
    ///
    /// # Errors
    /// 422 when there is none.
    pub fn required(self) -> Result<Reason, Problem> {
        self.or(String::new())
    }

    /// The reason, or that of the body.
    ///
    /// # Errors
    /// 422 when there is none, or it is too long.
    pub fn or(self, body: String) -> Result<Reason, Problem> {
        let text = self.or_none(body)?;
        if text.is_empty() {
            let detail = "Say why: each change of the configuration is recorded with its reason. Send the header X-Reason.";
            return Err(Problem::invalid("X-Reason", detail));
        }
        Ok(Reason(text))
    }

    /// The reason, or that of the body, where nobody has to give one: empty.
    ///
    /// # Errors
    /// 422 when it is too long.
    pub fn or_none(self, body: String) -> Result<String, Problem> {
        let body = body.trim();
        let text = if body.is_empty() {
            self.0.unwrap_or_default()
        } else {
            body.to_owned()
        };
        if text.chars().count() > REASON_CHARS_MAX {
            let detail = format!("At most {REASON_CHARS_MAX} characters.");
            return Err(Problem::invalid("X-Reason", detail));
        }
        Ok(text)
    }
}

impl Reason {
    /// A command with its reason.
    pub fn of(self, command: Command) -> Command {
        Command::Because {
            reason: self.0,
            command: Box::new(command),
        }
    }

    /// The text.
    pub fn text(self) -> String {
        self.0
    }
}

/// The header: text in UTF-8, or as RFC 8187 writes it for clients that can only send ASCII: `UTF-8''Gr%C3%BCnde`.
pub fn read(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(None);
    };
    let odd = || {
        Problem::bad_field(
            "X-Reason",
            "text in UTF-8, or as RFC 8187 writes it: UTF-8''Gr%C3%BCnde",
        )
    };
    let bytes = match value.as_bytes() {
        it if it.len() > 7 && it[..7].eq_ignore_ascii_case(b"utf-8''") => {
            decoded(&it[7..]).ok_or_else(odd)?
        }
        it => it.to_vec(),
    };
    let text = String::from_utf8(bytes).map_err(|_| odd())?;
    if text.chars().any(char::is_control) {
        return Err(Problem::bad_field("X-Reason", "no control characters"));
    }
    Ok(Some(text.trim().to_owned()).filter(|it| !it.is_empty()))
}

/// Percent-encoded bytes; `None` where a sign of percent is not followed by two digits.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, more)) = rest.split_first() {
        if *first == b'%' {
            let (digits, behind) = more.split_at_checked(2)?;
            out.extend(hex::decode(digits).ok()?);
            rest = behind;
        } else {
            out.push(*first);
            rest = more;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    fn read_of(value: &[u8]) -> Result<Option<String>, Problem> {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_bytes(value).expect("a header's value");
        headers.insert(HeaderName::from_static(HEADER), value);
        read(&headers)
    }

    #[test]
    fn a_reason_is_utf_8_or_rfc_8187() {
        assert_eq!(read(&HeaderMap::new()).ok(), Some(None));
        for (value, text) in [
            ("four eyes", Some("four eyes")),
            ("100% sure", Some("100% sure")),
            ("für alle", Some("für alle")),
            ("UTF-8''f%C3%BCr%20alle", Some("für alle")),
            ("utf-8''%E2%9C%93", Some("✓")),
            ("  ", None),
        ] {
            assert_eq!(
                read_of(value.as_bytes()).ok(),
                Some(text.map(str::to_owned)),
                "{value}"
            );
        }
        for bad in [
            &b"\xff"[..],
            b"UTF-8''%",
            b"UTF-8''%zz",
            b"UTF-8''%ff",
            b"UTF-8''a%0ab",
        ] {
            assert!(read_of(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn there_is_one_and_it_is_short() {
        assert!(Stated(None).required().is_err());
        assert!(Stated(None).or("  ".into()).is_err());
        assert_eq!(
            Stated(None).or(" why ".into()).ok().map(Reason::text),
            Some("why".into())
        );
        assert!(Stated(Some("x".repeat(501))).required().is_err());
        assert!(Stated(Some("x".repeat(500))).required().is_ok());
    }
}
