//! The filters of a list of requests, as the parameters of an address: the same for the page, the API and saved views.

use crate::domain::ids::PersonId;
use crate::domain::request::{Kind, Status};
use crate::domain::search::Query;
use crate::domain::time::Time;
use crate::texts::marked;
use std::collections::BTreeMap;
use url::form_urlencoded;

/// The parameters, in the order an address has them.
pub const NAMES: [&str; 11] = [
    "q",
    "status",
    "kind",
    "project",
    "environment",
    "requester",
    "decided_by",
    "policy",
    "rule",
    "since",
    "until",
];
/// Longest value, in characters.
const VALUE_CHARS_MAX: usize = 300;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// What a list is filtered by. Empty values are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<&'static str, String>);

/// A filter that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub field: &'static str,
    pub reason: String,
}

impl Filters {
    /// Reads an address's parameters; answers those that are no filters too. Of two of the same name the last counts.
    pub fn read(query: &str) -> (Filters, Vec<(String, String)>) {
        let (mut filters, mut others) = (Filters::default(), Vec::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match NAMES.iter().find(|it| **it == name) {
                Some(name) if value.trim().is_empty() => drop(filters.0.remove(name)),
                Some(name) => drop(filters.0.insert(name, value.trim().to_owned())),
                None => others.push((name.into_owned(), value.into_owned())),
            }
        }
        (filters, others)
    }

    /// The value of a filter, as it was typed; empty where it is not set.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Whether nothing is filtered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that are set.
    pub fn set(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let named = |it: &&'static str| Some((*it, self.0.get(*it)?.as_str()));
        NAMES.iter().filter_map(named)
    }

    /// The same with one filter set otherwise; an empty value takes it away.
    pub fn with(&self, name: &'static str, value: &str) -> Filters {
        let mut other = self.clone();
        match value.is_empty() {
            true => other.0.remove(name),
            false => other.0.insert(name, value.to_owned()),
        };
        other
    }

    /// The parameters of an address, always in the same order: `status=pending&environment=production`.
    pub fn address(&self) -> String {
        let mut out = form_urlencoded::Serializer::new(String::new());
        for (name, value) in self.set() {
            out.append_pair(name, value);
        }
        out.finish()
    }

    /// What is asked of the index.
    ///
    /// # Errors
    /// The first filter that makes no sense.
    pub fn query(&self) -> Result<Query, Wrong> {
        let mut query = Query::default();
        for (field, value) in self.set() {
            let wrong = |reason: &str| Wrong {
                field,
                reason: reason.to_owned(),
            };
            if value.chars().count() > VALUE_CHARS_MAX {
                return Err(wrong(marked!("longer than 300 characters")));
            }
            match field {
                "q" => query.search(value),
                "status" => query.status(Status::parse(value).ok_or_else(|| wrong(marked!("not a status")))?),
                "kind" => {
                    query.kind(Kind::parse(value).ok_or_else(|| wrong(marked!("not a kind of request")))?)
                }
                "project" => query.project(value),
                "environment" => query.environment(value),
                "requester" => query.requester(value),
                "decided_by" => {
                    let person = PersonId::parse(value).ok_or_else(|| wrong(marked!("not a person’s id")))?;
                    query.decided_by(&person);
                }
                "policy" => query.policy(value),
                "rule" => query.rule(value),
                "since" | "until" => {
                    let (begin, end) = span_of(value).ok_or_else(|| {
                        wrong(marked!("not a day such as 2026-03-15, nor a time of RFC 3339"))
                    })?;
                    match field {
                        "since" => query.since = Some(begin),
                        _ => query.until = Some(end),
                    }
                }
                other => unreachable!("{other} is a filter without a meaning"),
            }
            if query.is_too_long() {
                return Err(wrong(marked!("more words than are looked at")));
            }
        }
        if let (Some(since), Some(until)) = (query.since, query.until)
            && until <= since
        {
            return Err(Wrong {
                field: "until",
                reason: marked!("not after the beginning").to_owned(),
            });
        }
        Ok(query)
    }
}

/// Where a day begins and ends, in UTC; a time does both at once.
fn span_of(text: &str) -> Option<(Time, Time)> {
    match Time::parse(&format!("{text}T00:00:00Z")) {
        Some(day) if text.len() == 10 => Some((day, Time(day.0.saturating_add(DAY_MS)))),
        _ => Time::parse(text).map(|it| (it, it)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_was_written() {
        let (filters, others) =
            Filters::read("status=pending&q=a%26b+c&before=7&kind=&environment=%E6%97%A5");
        assert_eq!(
            filters.address(),
            "q=a%26b+c&status=pending&environment=%E6%97%A5"
        );
        assert_eq!(others, [("before".to_owned(), "7".to_owned())]);
        assert_eq!(Filters::read(&filters.address()).0, filters);
        assert_eq!(filters.get("q"), "a&b c");
        assert_eq!(
            filters.with("q", "").with("status", "").address(),
            "environment=%E6%97%A5"
        );
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let wrong = |query: &str| Filters::read(query).0.query().expect_err(query).field;
        assert_eq!(wrong("status=done"), "status");
        assert_eq!(wrong("kind=x"), "kind");
        assert_eq!(wrong("decided_by=Ada"), "decided_by");
        assert_eq!(wrong("since=yesterday"), "since");
        assert_eq!(wrong("since=2026-03-02&until=2026-03-01"), "until");
        assert_eq!(wrong(&format!("project={}", "x".repeat(301))), "project");
        assert_eq!(wrong("q=a+b+c+d+e+f+g+h+i+j+k+l+m"), "q");
    }

    #[test]
    fn a_day_is_a_whole_day() {
        let query = Filters::read("since=2026-03-01&until=2026-03-01")
            .0
            .query()
            .expect("a day");
        let (since, until) = (query.since.expect("set"), query.until.expect("set"));
        assert_eq!(until.0 - since.0, DAY_MS);
        assert_eq!(since.to_string(), "2026-03-01T00:00:00.000Z");
        let query = Filters::read("until=2026-03-01T12:00:00%2B02:00")
            .0
            .query()
            .expect("a time");
        assert_eq!(query.until.expect("set").to_string(), "2026-03-01T10:00:00.000Z");
    }
}
