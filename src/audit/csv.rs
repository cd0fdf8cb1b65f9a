//! `approvals.csv`: one row a decision, and one for a request that ended without any. RFC 4180, UTF-8 with a byte order
//! mark (without it Excel takes the text for another encoding), and no cell that a spreadsheet would run.

use crate::audit::remains::Remains;
use crate::audit::story::{Act, Story, sentence};
use crate::domain::request::Decision;
use crate::domain::retention::ERASED;
use crate::domain::text::visible;
use crate::domain::time::Time;
use std::io;
use std::io::Write;

/// Titles of the columns.
const COLUMNS: [&str; 27] = [
    "request",
    "kind",
    "project",
    "change",
    "title",
    "target",
    "environment",
    "digest",
    "requested_by",
    "requested_at",
    "outcome",
    "outcome_at",
    "exceptions",
    "decision",
    "meaning",
    "approver",
    "approver_id",
    "method",
    "grade",
    "decided_at",
    "comment",
    "rules",
    "policy",
    "credential",
    "key",
    "journal_entry",
    "sentence",
];

/// Longest text of a cell, in characters: spreadsheets cut at 32,767.
const CELL_CHARS_MAX: usize = 4_000;

/// A cell: hidden characters made visible, quoted where needed, and with a `'` in front of whatever a spreadsheet would
/// take for a formula.
pub fn cell(text: &str) -> String {
    let text = crate::domain::text::shortened(&visible(text), CELL_CHARS_MAX);
    let begins = text.trim_start().chars().next();
    let formula = begins.is_some_and(|it| "=+-@\u{ff1d}\u{ff0b}\u{ff0d}\u{ff20}|".contains(it));
    let text = if formula { format!("'{text}") } else { text };
    if text.contains(['"', ',', ';', '\n', '\r', '\t', '\'']) || text.trim() != text {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

pub(super) fn header(out: &mut dyn Write) -> io::Result<()> {
    out.write_all("\u{feff}".as_bytes())?;
    out.write_all(COLUMNS.join(",").as_bytes())?;
    out.write_all(b"\r\n")
}

/// The rows of one story.
pub(super) fn rows(story: &Story, out: &mut dyn Write) -> io::Result<()> {
    if story.acts.is_empty() {
        return row(story, None, out);
    }
    story.acts.iter().try_for_each(|act| row(story, Some(act), out))
}

fn row(story: &Story, act: Option<&Act>, out: &mut dyn Write) -> io::Result<()> {
    let subject = &story.subject;
    let (policy, version) = &story.policy;
    let it = act.map(|it| &it.credential);
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let second = |time: Option<Time>| time.map_or_else(String::new, Time::to_the_second);
    let cells = [
        story.request.to_string(),
        subject.kind.clone(),
        text(subject.project.as_deref()),
        subject.name.clone(),
        story.title.clone().unwrap_or_else(|| "(erased)".into()),
        text(subject.target.as_deref()),
        text(subject.environment.as_deref()),
        format!("{}:{}", subject.digest.0, subject.digest.1),
        story.requested_by.clone(),
        story.requested_at.to_the_second(),
        story.word().to_owned(),
        second(story.ended_at()),
        story.flags().join("; "),
        text(it.map(|it| it.decision.name())),
        text(it.map(|it| it.meaning.as_str())),
        text(it.map(|it| it.approver_name.as_str())),
        text(it.map(|it| it.approver_id.as_str())),
        text(it.map(|it| it.method.name())),
        text(it.map(|it| it.grade.as_str())),
        second(act.and_then(Act::at)),
        text(it.map(|it| it.comment.as_str())),
        it.map_or_else(String::new, |it| it.policy_rules.join("; ")),
        format!("{policy} version {version}"),
        act.map_or_else(String::new, |it| format!("crd_{}", it.digest)),
        text(act.map(|it| it.key_id.as_str())),
        act.map_or_else(String::new, |it| it.seq.to_string()),
        act.map_or_else(String::new, sentence),
    ];
    line(&cells, out)
}

fn line(cells: &[String; COLUMNS.len()], out: &mut dyn Write) -> io::Result<()> {
    let cells: Vec<String> = cells.iter().map(|it| cell(it)).collect();
    out.write_all(cells.join(",").as_bytes())?;
    out.write_all(b"\r\n")
}

/// The rows of a request whose documents were erased.
pub(super) fn remains(it: &Remains, out: &mut dyn Write) -> io::Result<()> {
    if it.decisions.is_empty() {
        return remaining(it, None, out);
    }
    it.decisions
        .iter()
        .try_for_each(|decision| remaining(it, Some(decision), out))
}

fn remaining(it: &Remains, decision: Option<&Decision>, out: &mut dyn Write) -> io::Result<()> {
    let (policy, version) = &it.policy;
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let of = |value: fn(&Decision) -> String| decision.map_or_else(String::new, value);
    line(
        &[
            it.request.to_string(),
            it.kind.to_owned(),
            text(it.project.as_deref()),
            it.what.clone(),
            ERASED.to_owned(),
            text(it.target.as_deref()),
            text(it.environment.as_deref()),
            ERASED.to_owned(),
            ERASED.to_owned(),
            it.requested_at.to_the_second(),
            it.word().to_owned(),
            it.ended.map_or_else(String::new, |(_, at)| at.to_the_second()),
            format!(
                "documents erased at {}: {}",
                it.erased_at.to_the_second(),
                it.reason
            ),
            of(|it| it.answer.name().to_owned()),
            of(|it| it.answer.meaning().to_owned()),
            of(|it| it.name.clone()),
            of(|it| it.person.to_string()),
            of(|it| it.method.name().to_owned()),
            of(|_| "erased".to_owned()),
            of(|it| it.decided_at.to_the_second()),
            of(|it| it.comment.clone()),
            String::new(),
            format!("{policy} version {version}"),
            of(|it| format!("crd_{}", it.credential)),
            String::new(),
            of(|it| it.seq.to_string()),
            decision.map_or_else(String::new, |decision| it.sentence(decision)),
        ],
        out,
    )
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn nothing_a_spreadsheet_would_run_stands_at_the_begin_of_a_cell() {
        for bad in ["=1+1", "+1", "-1", "@SUM(A1)", "\u{ff1d}1", "  =1", "|cmd"] {
            assert!(
                cell(bad).trim_start_matches('"').starts_with('\''),
                "{bad}: {}",
                cell(bad)
            );
        }
        for hidden in ["\t=1", "\r=1", "\n=1", "\u{200b}=1"] {
            assert!(
                cell(hidden).trim_matches('"').starts_with("\\u{"),
                "{hidden:?}: {}",
                cell(hidden)
            );
        }
    }

    #[test]
    fn cells_are_quoted_as_rfc_4180_says() {
        assert_eq!(cell("plain"), "plain");
        assert_eq!(cell("a,b"), "\"a,b\"");
        assert_eq!(cell("say \"so\""), "\"say \"\"so\"\"\"");
        assert_eq!(
            cell("=HYPERLINK(\"x\",\"y\")"),
            "\"'=HYPERLINK(\"\"x\"\",\"\"y\"\")\""
        );
    }
}
