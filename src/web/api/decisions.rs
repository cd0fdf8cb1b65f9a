//! A person's decision: the ceremony over exactly what was shown, then the answer.

use crate::domain::command::{Command, Decide, Proof, Reply};
use crate::domain::decide::{Roster, code_matches, eligibility, may_answer};
use crate::domain::event::Actor;
use crate::domain::ids::{CeremonyId, Digest, RequestId};
use crate::domain::people::{Passkey, Person};
use crate::domain::policy::Method;
use crate::domain::request::{Answer, Request};
use crate::domain::state::Read;
use crate::domain::time::Time;
use crate::evidence::intent::Intent;
use crate::identity::{Answered, Error as IdentityError, Purpose};
use crate::sink::Requirement;
use crate::store::Snapshot;
use crate::web::api::approvals::{opening_of, visible_request};
use crate::web::api::totp::step_of;
use crate::web::app::App;
use crate::web::assertion;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::session::{Caller, SignedIn};
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

/// Longest comment, in characters.
const COMMENT_CHARS_MAX: usize = 2_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OptionsBody {
    decision: String,
    comment: Option<String>,
    /// The emergency way through, by a break-glass rule.
    #[serde(default)]
    break_glass: bool,
    /// The code that the requester sees, where a rule asks for it: two digits.
    match_code: Option<String>,
}

/// `POST /api/v1/approvals/{id}/decision/options`: whoever may decide the request.
pub async fn start_decision(
    app: Data<App>,
    who: SignedIn,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, _) = read_json::<OptionsBody>(&request, payload).await?;
    let answer = Answer::parse(&body.decision)
        .ok_or_else(|| Problem::bad_field("decision", "\"approve\" or \"reject\""))?;
    let comment = checked_comment(body.comment)?;
    let person = &who.0;
    let now = app.now();
    let snapshot = app.snapshot()?;
    let record = visible_request(&snapshot, &Caller::Person(person.clone()), &id)?;
    let eligible = eligibility(&record, person, &Roster::load(&snapshot)?, now);
    if let Some(refusal) = eligible.why_not {
        return Err(refusal.into());
    }
    if let Some(refusal) = eligible.no_passkey {
        return Err(refusal.into());
    }
    may_answer(&record, &eligible, answer, body.break_glass, &comment)?;
    let match_code = read_match_code(body.match_code.as_deref())?;
    check_match_code(&app, &who, &record, answer, match_code).await?;
    // What is signed says that it is the emergency way.
    let emergency = match body.break_glass {
        true => eligible.emergency,
        false => Vec::new(),
    };
    let issued_at = now;
    let intent = intent_of(&snapshot, &record, person, answer, &comment, emergency, issued_at)?;
    let held = deciding_passkeys(&snapshot, person, now)?;
    let (bound, shown) = assertion::over(intent, |it| app.relying_party.start_assertion(&held, it))?;
    let purpose = Purpose::Decide {
        person: person.id.clone(),
        request: record.id,
        answer,
        comment,
        break_glass: body.break_glass,
        match_code,
        intent: bound.intent,
        nonce: bound.nonce,
        challenge: bound.challenge,
        subject_sha256: record.subject_sha256,
        policy_sha256: record.policy.sha256,
        issued_at,
        state: bound.state,
    };
    Ok(shown.begin(&app.ceremonies, purpose, now))
}

pub(super) fn deciding_passkeys(
    snapshot: &Snapshot,
    person: &Person,
    now: Time,
) -> Result<Vec<(Passkey, Vec<u8>)>, Problem> {
    let deciding = person.live_passkeys().filter(|it| it.decides_from <= now);
    passkeys_with_records(snapshot, deciding.cloned().collect())
}

/// Passkeys with the library's own record of each.
pub(super) fn passkeys_with_records(
    snapshot: &Snapshot,
    passkeys: Vec<Passkey>,
) -> Result<Vec<(Passkey, Vec<u8>)>, Problem> {
    passkeys
        .into_iter()
        .map(|it| {
            let record = snapshot.blob(&it.record)?;
            let record = record.ok_or_else(|| Problem::internal("a passkey's record is missing"))?;
            Ok((it, record))
        })
        .collect()
}

fn read_match_code(text: Option<&str>) -> Result<Option<u8>, Problem> {
    text.map(|it| {
        it.parse::<u8>()
            .map_err(|_| Problem::bad_field("match_code", "two digits"))
    })
    .transpose()
}

/// Lets through whoever picked the code that the requester sees, where a rule asks for one; another pick is recorded.
async fn check_match_code(
    app: &App,
    who: &SignedIn,
    record: &Request,
    answer: Answer,
    picked: Option<u8>,
) -> Result<(), Problem> {
    if code_matches(record, &who.0.id, answer, picked, &app.snapshot()?)?? {
        return Ok(());
    }
    let command = Command::MissCode {
        request: record.id.clone(),
        person: who.0.id.clone(),
    };
    app.submit(who.actor(), command).await?;
    Err(Problem::invalid(
        "match_code",
        "This is not the code that the requester sees. You can't approve this request any more; if you did not \
         expect it, report it.",
    ))
}

/// The bytes of what a person decides.
fn intent_of(
    snapshot: &Snapshot,
    record: &Request,
    person: &Person,
    answer: Answer,
    comment: &str,
    emergency: Vec<String>,
    issued_at: Time,
) -> Result<Vec<u8>, Problem> {
    let opening = opening_of(snapshot, record)?;
    let mut rules: Vec<String> = record.obligations.iter().map(|it| it.rule.clone()).collect();
    rules.extend(emergency);
    let issued = issued_at.to_string();
    let expires = record.expires_at.map(|it| it.to_string());
    let intent = Intent {
        request: &record.id,
        decision: answer,
        subject: opening.subject.as_bytes(),
        policy_sha256: record.policy.sha256,
        rules: &rules,
        person: &person.id,
        person_name: &person.name,
        comment,
        issued_at: &issued,
        expires_at: expires.as_deref(),
    };
    intent.to_bytes().map_err(Problem::internal)
}

fn checked_comment(comment: Option<String>) -> Result<String, Problem> {
    let comment = comment.unwrap_or_default();
    if comment.chars().count() > COMMENT_CHARS_MAX {
        let reason = format!("at most {COMMENT_CHARS_MAX} characters");
        return Err(Problem::bad_field("comment", reason));
    }
    Ok(comment)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DecisionBody {
    ceremony: Option<String>,
    credential: Option<Value>,
    totp: Option<String>,
    decision: Option<String>,
    comment: Option<String>,
    match_code: Option<String>,
}

/// `POST /api/v1/approvals/{id}/decision`: the person whose ceremony it is.
pub async fn give_decision(
    app: Data<App>,
    who: SignedIn,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let (body, bytes) = read_json::<DecisionBody>(&request, payload).await?;
    let id = RequestId::parse(&id).ok_or_else(Problem::not_found)?;
    if body.totp.is_some() || body.decision.is_some() {
        return decide_by_code(&app, &who, id, body).await;
    }
    let (Some(ceremony), Some(credential)) = (body.ceremony, body.credential) else {
        return Err(Problem::bad_request(
            "Both `ceremony` and `credential` are needed.",
        ));
    };
    let ceremony = CeremonyId::parse(&ceremony).ok_or_else(Problem::ceremony_spent)?;
    let body_digest = Digest::of(&bytes);
    if let Some(answered) = app.ceremonies.answered(&ceremony) {
        let same = answered.person == who.0.id && answered.request == id && answered.body == body_digest;
        return if same {
            Ok(decided(answered.status.name(), &answered.credential))
        } else {
            Err(Problem::ceremony_spent())
        };
    }
    let now = app.now();
    let Some(Purpose::Decide {
        person,
        request: asked,
        answer,
        comment,
        break_glass,
        match_code,
        intent,
        nonce,
        challenge,
        subject_sha256,
        policy_sha256,
        issued_at,
        state,
    }) = app.ceremonies.take(&ceremony, now)
    else {
        return Err(Problem::ceremony_spent());
    };
    if person != who.0.id || asked != id {
        // Taken out all the same: a ceremony that turns up elsewhere is burnt.
        refused(&app, &who, &id, "a ceremony of another person or request".into()).await?;
        return Err(Problem::ceremony_failed());
    }
    let held: Vec<Passkey> = who.0.live_passkeys().cloned().collect();
    let proof =
        match app
            .relying_party
            .finish_assertion(&state, &credential, &challenge, nonce, &person, &held)
        {
            Ok(proof) => proof,
            Err(IdentityError::Form(reason)) => {
                refused(&app, &who, &id, reason.clone()).await?;
                return Err(Problem::bad_field(
                    "credential",
                    "not a WebAuthn AuthenticationResponseJSON",
                ));
            }
            Err(error) => {
                refused(&app, &who, &id, error.to_string()).await?;
                return Err(Problem::ceremony_failed());
            }
        };
    let method = if held
        .iter()
        .any(|it| it.credential_id == proof.credential_id && it.platform)
    {
        Method::Biometric
    } else {
        Method::Passkey
    };
    announce(&app, &who, &id, answer, &intent).await?;
    let command = Command::Decide(Box::new(Decide {
        request: id.clone(),
        person,
        answer,
        method,
        comment,
        break_glass,
        match_code,
        intent,
        challenge_issued_at: issued_at,
        subject_sha256,
        policy_sha256,
        proof: Proof::Passkey(proof),
    }));
    match app.submit(who.actor(), command).await? {
        Reply::Decided { status, credential } => {
            let answered = Answered {
                person: who.0.id.clone(),
                request: id,
                body: body_digest,
                status,
                credential,
            };
            app.ceremonies.remember(ceremony, answered, now);
            Ok(decided(status.name(), &credential))
        }
        other => Err(Problem::internal(format!("{other:?}"))),
    }
}

/// Where the settings ask for it, a log sink must have stored that somebody is about to decide, before it is decided. The
/// waiting is bounded; without a sink nothing is decided, and the announcement is all that remains.
async fn announce(
    app: &App,
    who: &SignedIn,
    request: &RequestId,
    answer: Answer,
    intent: &[u8],
) -> Result<(), Problem> {
    let Requirement::Any(limit) = app.require_sink else {
        return Ok(());
    };
    let command = Command::AnnounceDecision {
        request: request.clone(),
        person: who.0.id.clone(),
        answer,
        intent_sha256: Digest::of(intent),
    };
    app.submit(who.actor(), command).await?;
    // Somebody else's entries may have come after it: then a little more is waited for than is needed.
    let size = app.snapshot()?.size()?;
    match app.sinks.board.stored(size, limit).await {
        true => Ok(()),
        false => Err(Problem::sink_required(limit.as_secs())),
    }
}

fn decided(status: &str, credential: &Digest) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": status, "credential": format!("crd_{credential}") }))
}

/// A decision by a one-time code. Which step it belongs to is found here; whether it is looked at, new, and accepted by the
/// rules is decided, and paid for, in the transaction that records it.
async fn decide_by_code(
    app: &App,
    who: &SignedIn,
    id: RequestId,
    body: DecisionBody,
) -> Result<HttpResponse, Problem> {
    if body.ceremony.is_some() || body.credential.is_some() {
        return Err(Problem::bad_request(
            "Either a passkey's `ceremony` and `credential`, or `decision` and `totp`.",
        ));
    }
    let Some(decision) = body.decision else {
        return Err(Problem::bad_request("Both `decision` and `totp` are needed."));
    };
    let Some(code) = body.totp else {
        return Err(Problem::bad_field(
            "totp",
            "Type the six digits that your app shows.",
        ));
    };
    let answer = Answer::parse(&decision)
        .ok_or_else(|| Problem::bad_field("decision", "\"approve\" or \"reject\""))?;
    let comment = checked_comment(body.comment)?;
    let match_code = read_match_code(body.match_code.as_deref())?;
    let (snapshot, now) = (app.snapshot()?, app.now());
    let record = visible_request(&snapshot, &Caller::Person(who.0.clone()), id.as_str())?;
    check_match_code(app, who, &record, answer, match_code).await?;
    let intent = intent_of(&snapshot, &record, &who.0, answer, &comment, Vec::new(), now)?;
    let step = step_of(app, &who.0, &code)?;
    if step.is_some() {
        announce(app, who, &id, answer, &intent).await?;
    }
    let command = Command::Decide(Box::new(Decide {
        request: id,
        person: who.0.id.clone(),
        answer,
        method: Method::Totp,
        comment,
        break_glass: false,
        match_code,
        intent,
        challenge_issued_at: now,
        subject_sha256: record.subject_sha256,
        policy_sha256: record.policy.sha256,
        proof: Proof::Code { step },
    }));
    match app.submit(who.actor(), command).await? {
        Reply::Decided { status, credential } => Ok(decided(status.name(), &credential)),
        other => Err(Problem::internal(format!("{other:?}"))),
    }
}

async fn refused(app: &App, who: &SignedIn, id: &RequestId, reason: String) -> Result<(), Problem> {
    let known = app.snapshot()?.get::<Request>(id.as_str())?.is_some();
    let command = Command::RefuseCeremony {
        person: Some(who.0.id.clone()),
        request: known.then(|| id.clone()),
        reason: crate::domain::text::shortened(&reason, 300),
    };
    app.submit(
        Actor::Person {
            id: who.0.id.clone(),
            name: who.0.name.clone(),
        },
        command,
    )
    .await?;
    Ok(())
}
