//! Changes to the rules that may wait for further admins, and the ceremony by which one confirms such a change.

use crate::domain::command::{CeremonyProof, Command, ConfirmProposal, Govern, Reply};
use crate::domain::decide::{Stop, may_confirm};
use crate::domain::event::Actor;
use crate::domain::governance::{Governed, Proposal, ProposalState};
use crate::domain::ids::{CeremonyId, Digest, ProposalId};
use crate::domain::people::Passkey;
use crate::domain::state::Read;
use crate::evidence::intent::{CHANGE_INTENT_TYPE, ChangeIntent};
use crate::identity::{Purpose, random_id};
use crate::web::api::Empty;
use crate::web::api::decisions::deciding_passkeys;
use crate::web::app::App;
use crate::web::assertion;
use crate::web::body::read_json;
use crate::web::problem::Problem;
use crate::web::reason::Stated;
use crate::web::session::{Caller, SignedIn};
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

/// A change to the rules, as a handler asks for it.
pub struct Change {
    pub change: Governed,
    /// The bytes of a policy's document.
    pub document: Option<Vec<u8>>,
    /// What the caller started from.
    pub expected: Option<Digest>,
    pub reason: String,
}

impl Change {
    /// A change that carries no document.
    pub fn of(change: Governed, reason: String) -> Self {
        Change {
            change,
            document: None,
            expected: None,
            reason,
        }
    }
}

/// A change that waits for further admins.
pub struct Waits(pub ProposalId);

impl Waits {
    /// 202, with where the proposal is.
    pub fn answer(&self) -> HttpResponse {
        let id = &self.0;
        HttpResponse::Accepted()
            .insert_header(("Location", format!("/api/v1/proposals/{id}")))
            .json(json!({ "proposal": id, "status": "waits_for_admins", "url": format!("/dashboard/proposals/{id}") }))
    }
}

/// Asks for a change. `None`: it holds now.
pub async fn govern(app: &App, actor: Actor, change: Change) -> Result<Option<Waits>, Problem> {
    let command = Command::Govern(Box::new(Govern {
        change: change.change,
        document: change.document,
        expected: change.expected,
        reason: change.reason,
        fresh: ProposalId::from_random(random_id()),
    }));
    match app.submit(actor, command).await? {
        Reply::Proposed { id } => Ok(Some(Waits(id))),
        _ => Ok(None),
    }
}

fn find(state: &impl Read, id: &str) -> Result<Proposal, Problem> {
    let id = ProposalId::parse(id).ok_or_else(Problem::not_found)?;
    state.get(id.as_str())?.ok_or_else(Problem::not_found)
}

fn shown(it: &Proposal) -> Value {
    let confirmations: Vec<Value> = it
        .confirmations
        .iter()
        .map(|it| json!({ "person": { "id": it.person, "name": it.name }, "at": it.at, "evidence_sha256": it.evidence }))
        .collect();
    json!({
        "id": it.id,
        "state": it.state,
        "change": it.change,
        "base_sha256": it.base,
        "reason": it.reason,
        "quorum": it.quorum,
        "admins": it.admins(),
        "proposed_by": { "id": it.proposer, "name": it.proposer_name },
        "may_confirm": it.may_confirm,
        "confirmations": confirmations,
        "created_at": it.created_at,
        "closed_at": it.closed_at,
    })
}

/// `GET /api/v1/proposals`: admins and auditors. Newest first.
pub async fn list_proposals(app: Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    let mut all: Vec<Proposal> = app.snapshot()?.all()?;
    all.sort_by_key(|it| std::cmp::Reverse(it.seq));
    let items: Vec<Value> = all.iter().map(shown).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": null })))
}

/// `GET /api/v1/proposals/{id}`: admins and auditors.
pub async fn get_proposal(app: Data<App>, caller: Caller, id: Path<String>) -> Result<HttpResponse, Problem> {
    caller.audits()?;
    Ok(HttpResponse::Ok().json(shown(&find(&app.snapshot()?, &id)?)))
}

/// `DELETE /api/v1/proposals/{id}`: admins withdraw it.
pub async fn withdraw_proposal(
    app: Data<App>,
    caller: Caller,
    stated: Stated,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.administers()?;
    let reason = stated.required()?;
    let proposal = find(&app.snapshot()?, &id)?.id;
    app.submit(
        caller.actor(),
        Command::WithdrawProposal {
            proposal,
            reason: reason.text(),
        },
    )
    .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /api/v1/proposals/{id}/confirmation/options`: another admin than the proposer.
pub async fn start_confirmation(
    app: Data<App>,
    who: SignedIn,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    Caller::Person(who.0.clone()).administers()?;
    let (_, _) = read_json::<Empty>(&request, payload).await?;
    let snapshot = app.snapshot()?;
    let (proposal, person, now) = (find(&snapshot, &id)?, &who.0, app.now());
    may_confirm(&proposal, person, now, &snapshot).map_err(|stop| match stop {
        Stop::Refused(refusal) => Problem::from(refusal),
        Stop::Fault(fault) => Problem::from(fault),
    })?;
    let intent = ChangeIntent {
        v: 1,
        kind: CHANGE_INTENT_TYPE,
        proposal: proposal.id.as_str(),
        change: &proposal.change,
        change_sha256: ChangeIntent::change_sha256(&proposal.change),
        base_sha256: proposal.base,
        reason: &proposal.reason,
        proposed_by: &proposal.proposer_name,
        person: person.id.as_str(),
        person_name: &person.name,
        issued_at: &now.to_string(),
    }
    .to_bytes();
    let held = deciding_passkeys(&snapshot, person, now)?;
    let (bound, shown) = assertion::over(intent, |it| app.relying_party.start_assertion(&held, it))?;
    let purpose = Purpose::Confirm {
        person: person.id.clone(),
        proposal: proposal.id,
        intent: bound.intent,
        nonce: bound.nonce,
        challenge: bound.challenge,
        state: bound.state,
    };
    Ok(shown.begin(&app.ceremonies, purpose, now))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfirmationBody {
    ceremony: String,
    credential: Value,
}

/// `POST /api/v1/proposals/{id}/confirmation`: the admin whose ceremony it is.
pub async fn confirm_proposal(
    app: Data<App>,
    who: SignedIn,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    Caller::Person(who.0.clone()).administers()?;
    let (body, _) = read_json::<ConfirmationBody>(&request, payload).await?;
    let asked = find(&app.snapshot()?, &id)?.id;
    let ceremony = CeremonyId::parse(&body.ceremony).ok_or_else(Problem::ceremony_spent)?;
    let Some(Purpose::Confirm {
        person,
        proposal,
        intent,
        nonce,
        challenge,
        state,
    }) = app.ceremonies.take(&ceremony, app.now())
    else {
        return Err(Problem::ceremony_spent());
    };
    if person != who.0.id || proposal != asked {
        // Taken out all the same: a ceremony that turns up elsewhere is burnt.
        refused(&app, &who, "a ceremony of another person or proposal".into()).await?;
        return Err(Problem::ceremony_failed());
    }
    let held: Vec<Passkey> = who.0.live_passkeys().cloned().collect();
    let credential = &body.credential;
    let proof = match app
        .relying_party
        .finish_assertion(&state, credential, &challenge, nonce, &person, &held)
    {
        Ok(proof) => proof,
        Err(error) => {
            refused(&app, &who, error.to_string()).await?;
            return Err(Problem::ceremony_failed());
        }
    };
    let evidence = evidence(&intent, &nonce, &proof);
    let command = Command::ConfirmProposal(Box::new(ConfirmProposal {
        proposal: asked.clone(),
        person,
        proof,
        evidence,
    }));
    app.submit(who.actor(), command).await?;
    let record = find(&app.snapshot()?, asked.as_str())?;
    debug_assert!(record.state != ProposalState::Withdrawn);
    Ok(HttpResponse::Ok().json(shown(&record)))
}

/// What was signed and the signature, as the journal keeps it for whoever looks later.
pub fn evidence(intent: &[u8], nonce: &[u8; 32], proof: &CeremonyProof) -> Vec<u8> {
    let evidence = json!({
        "v": 1,
        "intent": STANDARD.encode(intent),
        "nonce": STANDARD.encode(nonce),
        "rpId": proof.rp_id,
        "origin": proof.origin,
        "credentialId": proof.credential_id,
        "authenticatorData": STANDARD.encode(&proof.authenticator_data),
        "clientDataJSON": STANDARD.encode(&proof.client_data_json),
        "signature": STANDARD.encode(&proof.signature),
    });
    evidence.to_string().into_bytes()
}

/// Records a ceremony of somebody known that did not verify.
pub async fn refused(app: &App, who: &SignedIn, reason: String) -> Result<(), Problem> {
    let command = Command::RefuseCeremony {
        person: Some(who.0.id.clone()),
        request: None,
        reason: crate::domain::text::shortened(&reason, 300),
    };
    app.submit(who.actor(), command).await?;
    Ok(())
}
