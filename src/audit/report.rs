//! `report.html`: one file for people, with no outside reference. Exceptions first, then one card a request; its script
//! checks every signature in the browser and that each card says what was signed.

use crate::audit::Error;
use crate::audit::chart::{Bar, Stacked};
use crate::audit::gates::GateTold;
use crate::audit::remains::Remains;
use crate::audit::select::{Order, Range};
use crate::audit::story::{Act, Story, sentence};
use crate::audit::summary::{AccessChange, ENDINGS, Exceptional, Holding, SPANS, Summary, TOLD_MAX};
use crate::domain::gate::Strength;
use crate::domain::text::{English, shortened, visible};
use crate::domain::time::{Time, span};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest as _;
use sha2::Sha256;
use std::io::Write;

const SCRIPT: &str = include_str!("../../assets/bundle/report.js");
const STYLE: &str = include_str!("../../assets/bundle/report.css");

/// Requests that get a card. Browsers hold this many; all of them are in `approvals.csv` and the credentials.
pub(super) const CARDS_MAX: usize = 2_000;
/// Longest text of others, in characters.
const TEXT_MAX: usize = 2_000;
const DAY_MS: i64 = 86_400_000;
/// Most bars of the timeline; more weeks are put together.
const BARS_MAX: usize = 54;

/// Everything of a report but its cards.
pub(super) struct Head<'a> {
    pub order: &'a Order,
    pub range: &'a Range,
    pub summary: &'a Summary,
    pub exceptions: &'a [Exceptional],
    pub exceptions_left_out: usize,
    pub gates: &'a [GateTold],
    pub gates_left_out: usize,
    pub erased: &'a [Remains],
    pub access: &'a [AccessChange],
    pub access_left_out: usize,
    pub holdings: &'a [Holding],
    pub public_url: &'a str,
    pub history: &'a [u8],
    pub log_keys: &'a str,
    pub credential_keys: &'a [String],
}

/// Text from outside, safe in HTML.
pub(super) fn esc(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn cut(text: &str) -> String {
    esc(&shortened(text, TEXT_MAX))
}

fn source(content: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(content.as_bytes())))
}

/// Writes the report up to its cards.
pub(super) fn begin(head: &Head<'_>, out: &mut dyn Write) -> Result<(), Error> {
    let summary = head.summary;
    let (from, to) = (head.order.from.to_the_second(), head.order.to.to_the_second());
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src {}; style-src {}; base-uri 'none'; form-action 'none'\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"referrer\" content=\"no-referrer\">\
         <title>Approvals from {from} to {to}</title><style>{STYLE}</style></head><body><main>",
        source(SCRIPT),
        source(STYLE),
    )?;
    writeln!(
        out,
        "<h1>Audit report</h1><p class=\"lead\">Approvals recorded by {} from {from} to before {to} (UTC). \
         Entries {} to {} of the journal.</p>{}",
        esc(head.public_url),
        head.range.from_size(),
        head.range.to_size().saturating_sub(1),
        filter_words(head.order),
    )?;
    writeln!(
        out,
        "<div id=\"verification\" role=\"status\"><strong>Checking the signatures in this browser…</strong>\
         <p>Each signature is checked here, offline: the appliance’s under every decision and outcome, the person’s own \
         passkey under every decision, and the log’s checkpoint. Nothing is sent anywhere. This shows that nothing in the \
         cards was altered; that the keys are the right ones, compare with a source of your own: {}.</p>\
         <noscript><p class=\"alarm\">Scripts are off, so nothing was checked. Use verify.py.</p></noscript></div>",
        head.credential_keys
            .iter()
            .map(|it| format!("<span class=\"mono\">{}</span>", esc(it)))
            .collect::<Vec<_>>()
            .join(", "),
    )?;
    let around = head.exceptions.len() as u64 + head.exceptions_left_out as u64;
    figures(summary, around, out)?;
    charts(summary, out)?;
    out.write_all(b"<section>")?;
    told_exceptions(summary, head.exceptions, head.exceptions_left_out, out)?;
    out.write_all(b"</section>\n<section>")?;
    told_gates(head.gates, head.gates_left_out, out)?;
    out.write_all(b"</section>\n<section>")?;
    told_erased(head.erased, out)?;
    requests(summary, out)
}

/// The period in eight numbers.
pub(super) fn figures(summary: &Summary, around: u64, out: &mut dyn Write) -> Result<(), Error> {
    let alarming = |count: u64| if count > 0 { " class=\"alarming\"" } else { "" };
    let times = summary.times_to_decide();
    let figures = [
        ((summary.stories + summary.erased).to_string(), "requests", ""),
        (summary.ended("approved").to_string(), "approved", ""),
        (summary.ended("rejected").to_string(), "rejected", ""),
        (summary.decisions.to_string(), "decisions by people", ""),
        (
            times.map_or("–".into(), |it| span(it.0)),
            "median time to decide",
            "",
        ),
        (
            times.map_or("–".into(), |it| span(it.1)),
            "nine of ten within",
            "",
        ),
        (around.to_string(), "exceptions", alarming(around)),
        (
            summary.break_glass.to_string(),
            "by break-glass",
            alarming(summary.break_glass),
        ),
    ];
    out.write_all(b"<section class=\"figures\" aria-label=\"In numbers\">")?;
    for (value, label, class) in figures {
        write!(out, "<div{class}><b>{value}</b><span>{label}</span></div>")?;
    }
    out.write_all(b"</section>\n")?;
    Ok(())
}

fn filter_words(order: &Order) -> String {
    let filter = &order.filter;
    let mut words = Vec::new();
    if let Some(project) = &filter.project {
        words.push(format!("project {}", esc(project)));
    }
    if let Some(person) = &filter.person {
        words.push(format!("person {person}"));
    }
    if let Some(outcome) = filter.outcome {
        words.push(format!("outcome {}", outcome.name()));
    }
    match words.is_empty() {
        true => String::new(),
        false => format!(
            "<p><strong>Only {}.</strong> Everything else of the period stands in the bundle by its hash alone.</p>",
            words.join(", ")
        ),
    }
}

/// What was out of the ordinary.
pub(super) fn told_exceptions(
    summary: &Summary,
    exceptions: &[Exceptional],
    left_out: usize,
    out: &mut dyn Write,
) -> Result<(), Error> {
    out.write_all(b"<h2>Exceptions first</h2>\n")?;
    let notes = [
        (
            summary.codes_only,
            "approved by one-time codes alone: such a code binds nothing, so these are the appliance’s word",
        ),
        (
            summary.self_approved,
            "approved with the decision of somebody who took part in the change, as a rule allows",
        ),
        (
            summary.signatures_bad,
            "decisions whose signature did NOT verify when this report was made",
        ),
    ];
    for (count, words) in notes.into_iter().filter(|(count, _)| *count > 0) {
        writeln!(
            out,
            "<p class=\"exception open\"><strong>{count}</strong> {words}.</p>"
        )?;
    }
    if exceptions.is_empty() && summary.break_glass == 0 {
        out.write_all(b"<p>Nothing went around the gate, no gate became weaker, and no glass was broken in this period.</p>\n")?;
    }
    for it in exceptions {
        let open = if it.review.is_none() { " open" } else { "" };
        let review = match &it.review {
            Some(review) => format!("Looked over by {}", cut(review)),
            None => "Nobody has looked it over by the end of the period.".to_owned(),
        };
        writeln!(
            out,
            "<div class=\"exception{open}\"><p><strong>{}</strong> · <time>{}</time> · entry {}</p><p>{}</p><p class=\"dim\">{review}</p></div>",
            it.kind,
            esc(&to_the_second(&it.at)),
            it.seq,
            cut(&it.what),
        )?;
    }
    if left_out > 0 {
        writeln!(out, "<p>{left_out} more are in events.jsonl.</p>")?;
    }
    Ok(())
}

/// How strong the gates were: what held a change back that nobody approved.
pub(super) fn told_gates(gates: &[GateTold], left_out: usize, out: &mut dyn Write) -> Result<(), Error> {
    if gates.is_empty() {
        return Ok(());
    }
    out.write_all(
        "<h2>How strong the gates were</h2><p>What the forge’s own settings held back, as this server read them and wrote \
         it into the journal at the entry named. <strong>Hard</strong>: only this server’s account could merge and push. \
         <strong>Soft</strong>: the forge showed the gate, and some could go around it; whoever did stands under the \
         exceptions. <strong>None</strong>: nothing on the forge held an unapproved change.</p>\n"
            .as_bytes(),
    )?;
    let look = |strength: Strength| match strength {
        Strength::Hard => "approved",
        Strength::Soft => "pending",
        Strength::None => "rejected",
    };
    for it in gates {
        let weakest = it.found.as_ref().map_or(Strength::None, |it| it.weakest.0);
        let class = match weakest {
            Strength::Hard => "exception good",
            Strength::Soft => "exception",
            Strength::None => "exception open",
        };
        write!(
            out,
            "<div class=\"{class}\"><p><strong>{}</strong> · ",
            cut(&it.project)
        )?;
        let Some(found) = &it.found else {
            writeln!(
                out,
                "<span class=\"badge rejected\">not known</span></p>\
                 <p>The forge’s settings were not looked at in this period.</p></div>"
            )?;
            continue;
        };
        let (last, at, seq) = found.last;
        write!(
            out,
            "<span class=\"badge {}\">{}</span></p><p class=\"dim\">As found at {}, entry {seq}.",
            look(last),
            last.name(),
            at.to_the_second()
        )?;
        if weakest < last {
            let (_, at, seq) = found.weakest;
            write!(
                out,
                " Weaker within the period: <span class=\"badge {}\">{}</span> at {}, entry {seq}.",
                look(weakest),
                weakest.name(),
                at.to_the_second()
            )?;
        }
        writeln!(out, "</p><p>{}</p></div>", cut(&found.reasons.join(" ")))?;
    }
    if left_out > 0 {
        writeln!(
            out,
            "<p>{left_out} more are in events.jsonl, as gate.checked.</p>"
        )?;
    }
    Ok(())
}

/// Requests of which only the journal's entries are left.
pub(super) fn told_erased(erased: &[Remains], out: &mut dyn Write) -> Result<(), Error> {
    if erased.is_empty() {
        return Ok(());
    }
    out.write_all(
        "<h2>Documents that were erased</h2><p>After their time of retention, two administrators had the documents of \
         these requests erased. What is told here is what the journal’s entries say; nobody’s signature can be checked \
         for them any more. The entries of the erasures are in the folder erasures/, with their proofs.</p>\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Erased documents\"><table><thead><tr><th>Request</th><th>Outcome</th><th>Decisions</th><th>Erased</th></tr></thead><tbody>\n"
            .as_bytes(),
    )?;
    for it in erased.iter().take(TOLD_MAX) {
        let word = it.word();
        let decisions: Vec<String> = it.decisions.iter().map(|one| cut(&it.sentence(one))).collect();
        writeln!(
            out,
            "<tr><td>{}{}<br><span class=\"when\">{}</span></td><td><span class=\"badge {word}\">{word}</span></td><td>{}</td>\
             <td class=\"why\">{}, entry {}: {}</td></tr>",
            esc(&it.what),
            it.project
                .as_ref()
                .map_or_else(String::new, |of| format!(" of {}", cut(of))),
            it.request,
            decisions.join("<br>"),
            it.erased_at.to_the_second(),
            it.seq,
            cut(&it.reason),
        )?;
    }
    out.write_all(b"</tbody></table></div>\n")?;
    if erased.len() > TOLD_MAX {
        writeln!(
            out,
            "<p>{} more are in approvals.csv.</p>",
            erased.len() - TOLD_MAX
        )?;
    }
    Ok(())
}

/// Where the cards begin.
fn requests(summary: &Summary, out: &mut dyn Write) -> Result<(), Error> {
    out.write_all(b"</section>\n<section><h2>Requests</h2>\n")?;
    let shown = (summary.stories as usize).min(CARDS_MAX);
    if summary.stories as usize > shown {
        writeln!(
            out,
            "<p class=\"exception open\">{shown} of {} requests have a card here, those with exceptions first. The others are in approvals.csv; verify.py checks all of them.</p>",
            summary.stories
        )?;
    }
    if summary.stories + summary.erased == 0 {
        out.write_all(b"<p>No request was decided in this period.</p>\n")?;
    }
    Ok(())
}

fn to_the_second(time: &str) -> String {
    Time::parse(time).map_or_else(|| time.to_owned(), Time::to_the_second)
}

/// One request.
pub(super) fn card(story: &Story, out: &mut dyn Write) -> Result<(), Error> {
    let subject = &story.subject;
    let word = story.word();
    write!(
        out,
        "<article class=\"card\" id=\"{}\"><header><h3><span data-f=\"what\">{}</span> {}</h3><span class=\"badge {word}\" data-f=\"outcome\">{word}</span>",
        story.request,
        esc(&subject.name),
        match (&story.title, subject.kind.as_str()) {
            (Some(title), "change") => format!("<span class=\"dim\">{}</span>", cut(title)),
            (None, _) => "<span class=\"dim\">(title erased)</span>".to_owned(),
            _ => String::new(),
        },
    )?;
    for flag in story.flags() {
        write!(out, "<span class=\"badge flag\">{flag}</span>")?;
    }
    if story.trial {
        out.write_all(b"<span class=\"badge\">a trial, nothing changed</span>")?;
    }
    out.write_all(b"</header>\n")?;
    for act in &story.acts {
        decision(act, out)?;
    }
    if story.acts.is_empty() {
        let why = match word {
            "skipped" => "A rule let it pass: nobody approved this.",
            _ => "Nobody decided it.",
        };
        write!(out, "<p>{why}</p>")?;
    }
    out.write_all(b"<dl>")?;
    let ended = story.ended_at().map(Time::to_the_second);
    let target = subject.target.as_deref().unwrap_or_default();
    let (policy, version) = &story.policy;
    let rows = [
        ("Project", "project", subject.project.clone().unwrap_or_default()),
        (
            "Into",
            "target",
            target.strip_prefix("refs/heads/").unwrap_or(target).to_owned(),
        ),
        ("Environment", "", subject.environment.clone().unwrap_or_default()),
        (
            if subject.digest.0 == "gitCommit" {
                "Commit"
            } else {
                "Digest"
            },
            "digest",
            subject.digest.1.clone(),
        ),
        ("Asked by", "", story.requested_by.clone()),
        ("Asked", "", story.requested_at.to_the_second()),
        ("Ended", "ended", ended.unwrap_or_default()),
        ("Policy", "", format!("{policy}, version {version}")),
    ];
    for (label, field, value) in rows.iter().filter(|it| !it.2.is_empty()) {
        let mark = match field.is_empty() {
            true => String::new(),
            false => format!(" data-f=\"{field}\""),
        };
        let mono = if *field == "digest" { " class=\"mono\"" } else { "" };
        write!(out, "<dt>{label}</dt><dd{mono}{mark}>{}</dd>", esc(value))?;
    }
    write!(
        out,
        "<dt>Request</dt><dd class=\"mono\">{}</dd></dl>",
        story.request
    )?;
    if let Some((outcome, file)) = &story.outcome {
        for it in &outcome.obligations {
            write!(
                out,
                "<p class=\"dim\">Rule {}: {} of {} approvals{}</p>",
                cut(&it.rule),
                it.credentials.len(),
                it.quorum,
                if it.break_glass { ", break-glass" } else { "" }
            )?;
        }
        out.write_all(b"<script type=\"application/json\" data-outcome>")?;
        out.write_all(file)?;
        out.write_all(b"</script>")?;
    }
    out.write_all(b"</article>\n")?;
    Ok(())
}

fn decision(act: &Act, out: &mut dyn Write) -> Result<(), Error> {
    let it = &act.credential;
    let at = act
        .at()
        .map_or_else(|| it.decided_at.clone(), Time::to_the_second);
    write!(
        out,
        "<div class=\"decision\" data-credential=\"crd_{}\"><p class=\"sentence\" data-f=\"sentence\">{}</p>\
         <dl><dt>Name</dt><dd data-f=\"approver\">{}</dd><dt>Time</dt><dd data-f=\"at\">{at}</dd>\
         <dt>Meaning</dt><dd data-f=\"meaning\">{}</dd><dt>Grade</dt><dd data-f=\"grade\">{}</dd>",
        act.digest,
        esc(&sentence(act)),
        esc(&it.approver_name),
        esc(&it.meaning),
        esc(&it.grade),
    )?;
    if !it.comment.is_empty() {
        write!(
            out,
            "<dt>Comment</dt><dd data-f=\"comment\">{}</dd>",
            esc(&it.comment)
        )?;
    }
    write!(
        out,
        "<dt>Credential</dt><dd class=\"mono\">crd_{}</dd></dl><script type=\"application/json\">",
        act.digest
    )?;
    out.write_all(&act.file)?;
    out.write_all(b"</script></div>\n")?;
    Ok(())
}

/// Changes of access, of the rules and of keys.
pub(super) fn told_access(
    access: &[AccessChange],
    left_out: usize,
    out: &mut dyn Write,
) -> Result<(), Error> {
    out.write_all(b"<h2>Changes of access, rules and keys</h2>\n")?;
    if access.is_empty() {
        out.write_all(b"<p>There were none.</p>\n")?;
        return Ok(());
    }
    out.write_all(
        b"<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Changes\"><table><thead><tr><th>Entry</th><th>Time</th><th>What</th><th>About</th><th>By</th><th>Reason</th></tr></thead><tbody>\n",
    )?;
    for it in access {
        writeln!(
            out,
            "<tr><td class=\"mono\">{}</td><td class=\"when\">{}</td><td class=\"mono when\">{}</td><td class=\"long\">{}</td><td>{}</td><td class=\"long\">{}</td></tr>",
            it.seq,
            esc(&to_the_second(&it.at)),
            esc(&it.kind),
            cut(&it.about),
            cut(&it.who),
            cut(&it.reason),
        )?;
    }
    out.write_all(b"</tbody></table></div>\n")?;
    if left_out > 0 {
        writeln!(out, "<p>{left_out} more are in events.jsonl.</p>")?;
    }
    Ok(())
}

/// Who held which passkey when the period ended.
pub(super) fn told_holdings(holdings: &[Holding], out: &mut dyn Write) -> Result<(), Error> {
    if holdings.is_empty() {
        return Ok(());
    }
    out.write_all(
        b"<h2>Who held which credential at the end</h2><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Credentials\"><table><thead><tr><th>Person</th><th>Passkey</th><th>Kind</th><th>Since</th></tr></thead><tbody>\n",
    )?;
    for it in holdings {
        let kind = match (it.platform, it.synced) {
            (true, _) => "on their own device (biometric or device PIN)",
            (false, true) => "synced between devices",
            (false, false) => "bound to one device",
        };
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{kind}</td><td class=\"when\">{}</td></tr>",
            cut(&it.name),
            cut(&it.label),
            esc(&it.since),
        )?;
    }
    out.write_all(b"</tbody></table></div>\n")?;
    Ok(())
}

/// Writes what stands behind the cards.
pub(super) fn end(head: &Head<'_>, out: &mut dyn Write) -> Result<(), Error> {
    out.write_all(b"</section>\n<section>")?;
    told_access(head.access, head.access_left_out, out)?;
    out.write_all(b"</section>\n<section>")?;
    told_holdings(head.holdings, out)?;
    out.write_all(b"</section>\n")?;
    writeln!(
        out,
        "<footer><p>Verify the whole bundle, every event and the completeness of the period included: \
         <code>python3 verify.py --key credential.pem --log-key log.vkey</code> or \
         <code>signedapproval audit verify bundle.zip --key credential.pem --log-key log.vkey</code>. Take the keys from \
         somewhere else than this bundle.</p><p>Not proved by this page: times beyond the appliance’s word; titles and \
         who asked, which the appliance read from the forge; that everybody is shown the same log.</p></footer></main>\n\
         <script type=\"application/json\" id=\"history\">{}</script>\n\
         <script type=\"text/plain\" id=\"log-keys\">{}</script>\n\
         <script type=\"text/plain\" id=\"checkpoint\">{}</script>\n\
         <script>{SCRIPT}</script>\n</body></html>",
        String::from_utf8_lossy(head.history),
        head.log_keys,
        head.range.checkpoint_to.1,
    )?;
    Ok(())
}

/// The period in charts.
pub(super) fn charts(summary: &Summary, out: &mut dyn Write) -> Result<(), Error> {
    if summary.stories == 0 {
        return Ok(());
    }
    out.write_all(b"<section class=\"charts\" aria-label=\"Charts\">\n")?;
    timeline(summary, out)?;
    let spans: Vec<(String, u64)> = SPANS
        .iter()
        .zip(summary.spans)
        .map(|((_, word), count)| ((*word).to_owned(), count))
        .collect();
    bars("Time from request to decision", &spans, out)?;
    let methods: Vec<(String, u64)> = summary
        .methods
        .iter()
        .map(|(method, (approved, rejected))| {
            let word = match *method {
                "totp" => "totp (server-attested)",
                other => other,
            };
            (word.to_owned(), approved + rejected)
        })
        .collect();
    bars("Decisions by method", &methods, out)?;
    out.write_all(b"</section>\n")?;
    Ok(())
}

/// Weeks put together so that few enough bars remain: first day and numbers.
fn bundled(summary: &Summary) -> Vec<(i64, [u64; 4])> {
    let (Some((first, _)), Some((last, _))) =
        (summary.weeks.first_key_value(), summary.weeks.last_key_value())
    else {
        return Vec::new();
    };
    let weeks = (last - first) / 7 + 1;
    let step = 7 * ((weeks as usize).div_ceil(BARS_MAX) as i64).max(1);
    let mut all: Vec<(i64, [u64; 4])> = (*first..=*last)
        .step_by(step as usize)
        .map(|day| (day, [0; 4]))
        .collect();
    for (day, parts) in &summary.weeks {
        let bar = &mut all[((day - first) / step) as usize].1;
        for (sum, part) in bar.iter_mut().zip(parts) {
            *sum += part;
        }
    }
    all
}

fn date(day: i64) -> String {
    Time(day * DAY_MS).to_the_second()[..10].to_owned()
}

fn timeline(summary: &Summary, out: &mut dyn Write) -> Result<(), Error> {
    let bars: Vec<Bar> = bundled(summary)
        .into_iter()
        .map(|(day, counts)| Bar {
            name: date(day),
            label: date(day),
            counts: counts.to_vec(),
        })
        .collect();
    if bars.is_empty() {
        return Ok(());
    }
    let chart = Stacked {
        caption: "Requests that ended, by week",
        about: "Bars of the requests that ended in each week; the numbers are in the table below",
        first_column: "From",
        parts: &ENDINGS,
        bars: &bars,
        room: (720.0, 150.0),
        broad: true,
        labels: 8,
    };
    out.write_all(chart.draw(&English).as_bytes())?;
    Ok(())
}

fn bars(caption: &str, rows: &[(String, u64)], out: &mut dyn Write) -> Result<(), Error> {
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
    let tall = 24 * rows.len() + 8;
    write!(
        out,
        "<figure><figcaption>{caption}</figcaption><svg class=\"bar-svg\" viewBox=\"0 0 360 {tall}\" role=\"img\" aria-label=\"{caption}: {}\">",
        rows.iter()
            .map(|(word, count)| format!("{} {count}", esc(word)))
            .collect::<Vec<_>>()
            .join(", ")
    )?;
    for (at, (word, count)) in rows.iter().enumerate() {
        let y = 24 * at + 6;
        let wide = 190.0 * *count as f64 / most as f64;
        write!(
            out,
            "<text x=\"92\" y=\"{}\" text-anchor=\"end\">{}</text><rect class=\"plain-bar\" x=\"100\" y=\"{y}\" width=\"{wide:.1}\" height=\"15\"/><text x=\"{:.1}\" y=\"{}\">{count}</text>",
            y + 12,
            esc(word),
            106.0 + wide,
            y + 12,
        )?;
    }
    out.write_all(b"</svg></figure>\n")?;
    Ok(())
}
